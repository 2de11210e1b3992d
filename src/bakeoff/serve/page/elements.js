// Small helpers of the page: elements from plain text (never from markup), requests, numbers.
export const find = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const chip = (one) => make("span", { class: `chip ${one.colour}`, "aria-hidden": "true" }, one.letter);

export function options(select, entries, chosen = "") {
  select.replaceChildren(...entries.map(([value, text]) => make("option", { value, selected: value === chosen }, text)));
}

export const percent = (value) => (value === null || value === undefined ? "–" : (100 * value).toFixed(1));

// Returns the answer as JSON; throws an Error whose message is what the server says.
export async function ask(address, parameters = {}, body = undefined, signal = undefined) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const query = given.length ? `?${new URLSearchParams(given)}` : "";
  const sent = body === undefined ? {} : { method: "POST", body, headers: { "Content-Type": "application/octet-stream" } };
  let answer;
  try {
    answer = await fetch(address + query, { ...sent, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the server does not answer; is `bakeoff serve` still running?");
  }
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error ?? answer.statusText);
  return content;
}

export function complain(place, error) {
  place.textContent = error === null ? "" : error.message;
  place.hidden = error === null;
}
