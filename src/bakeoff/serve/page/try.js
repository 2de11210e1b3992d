// Try a picture: sent to one candidate or two, answers side by side with what explains them, to be saved.
import { camera } from "./camera.js";
import { ask, chip, complain, find, make, options, percent } from "./elements.js";

const MOST_ROWS = 50;
let picture = null; // { name, file } or { name, image }
let links = []; // addresses of what may be saved
let turn = 0; // answers to earlier questions are not shown

export function trying(study) {
  const form = find("question"), trained = study.candidates.filter((one) => one.trained);
  const names = trained.map((one) => [one.name, `${one.letter}: ${one.name}`]);
  options(form.first, names);
  options(form.second, [["", "none"], ...names], trained[1]?.name ?? "");
  options(form.class, [["", study.task === "classification" ? "the surest class" : "the surest"], ["-", "nothing"], ...study.classes.map((name) => [`=${name}`, name])]);
  find("least").hidden = !["detection", "instance"].includes(study.task);
  find("limit").textContent = `Up to ${Math.round(study.limits.bytes / 1e6)} MB and ${Math.round(study.limits.pixels / 1e6)} million pixels. It stays on this machine.`;
  const choose = (file) => {
    if (!file) return;
    picture = { name: file.name || "pasted", file };
    question(study);
  };
  form.addEventListener("change", () => question(study));
  form.addEventListener("submit", (event) => event.preventDefault());
  find("file").addEventListener("change", (event) => { choose(event.target.files[0]); event.target.value = ""; });
  dropping(choose);
  const stop = camera(choose);
  const tryImage = (image) => {
    picture = { name: image.name, image: image.image, truth: image.truth };
    location.hash = "#try";
    question(study);
  };
  return { tryImage, stop };
}

function dropping(choose) {
  const area = find("drop"), open = () => !find("try").hidden;
  document.addEventListener("dragover", (event) => { event.preventDefault(); area.classList.toggle("over", open()); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) area.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault(); // else the browser would leave the page for the picture
    area.classList.remove("over");
    if (event.dataTransfer.files.length) {
      location.hash = "#try";
      choose(event.dataTransfer.files[0]);
    }
  });
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (file) { location.hash = "#try"; choose(file); }
  });
}

async function question(study) {
  if (!picture) return;
  const form = find("question"), own = ++turn, told = [];
  complain(find("refused"), null);
  links.forEach((address) => URL.revokeObjectURL(address));
  links = [];
  if (picture.file && picture.file.size > study.limits.bytes) {
    find("answers").replaceChildren();
    return complain(find("refused"), new Error(`${picture.name} has ${(picture.file.size / 1e6).toFixed(1)} MB, more than ${Math.round(study.limits.bytes / 1e6)}: make it smaller`));
  }
  const asked = [...new Set([form.first.value, form.second.value].filter(Boolean))];
  const places = asked.map(() => make("article", { class: "answer busy" }));
  find("answers").replaceChildren(...places);
  find("answers").setAttribute("aria-busy", "true");
  find("told").textContent = `asking ${asked.join(" and ")} about ${picture.name} …`;
  for (const [number, name] of asked.entries()) {
    const one = study.candidates.find((candidate) => candidate.name === name);
    try {
      const answer = await send(form, name);
      if (own !== turn) return;
      places[number].replaceChildren(...shown(study, one, answer));
      told.push(`${name}: ${sentence(answer)}`);
    } catch (error) {
      if (own !== turn) return;
      places[number].replaceChildren(heading(one), make("p", { class: "failure" }, error.message));
      complain(find("refused"), error);
    }
    places[number].classList.remove("busy");
  }
  find("answers").removeAttribute("aria-busy");
  const truth = picture.truth ? ` Truth: ${picture.truth.join(", ") || "nothing"}.` : "";
  find("told").textContent = told.length ? `${picture.name}. ${told.join(". ")}.${truth}` : "";
}

function send(form, candidate) {
  const wanted = form.class.value, choice = { candidate, threshold: form.threshold.value };
  const how = { ...choice, class: wanted.startsWith("=") ? wanted.slice(1) : "", explain: wanted !== "-" };
  if (picture.file) return ask("/api/try", { ...how, name: picture.name.slice(0, 200) }, picture.file);
  return ask(`/api/images/${picture.image}/try`, how, "");
}

function sentence(answer) {
  if (answer.label) return `${answer.label}, ${percent(answer.probability)} %`;
  if (answer.classes) return answer.classes.map((one) => `${one.label} ${percent(one.share)} %`).slice(0, 5).join(", ") || "nothing";
  return answer.objects.length ? `${answer.objects.length} object${answer.objects.length > 1 ? "s" : ""}` : "no object";
}

const heading = (one) => make("h3", {}, make("span", { class: "who" }, chip(one), make("bdi", {}, one.name)));

function shown(study, one, answer) {
  const summary = make("p", {}, make("strong", {}, sentence(answer)), " ", make("span", { class: "ci" }, `${answer.seconds.toFixed(2)} s, run ${answer.run}`));
  const drawn = make("img", { src: answer.picture, alt: `${picture.name} with what ${one.name} says: ${sentence(answer)}` });
  return [heading(one), drawn, summary, table(answer), downloads(one, answer), ...why(answer.explanation)].filter(Boolean);
}

function table(answer) {
  if (answer.scores) {
    const rows = Object.entries(answer.scores).sort(([, a], [, b]) => b - a).slice(0, 5);
    return grid(["class", "probability", ""], rows.map(([name, value]) => [name, `${percent(value)} %`, make("meter", { min: 0, max: 1, value, "aria-label": name })]));
  }
  if (answer.classes) return grid(["class", "share", "pixels"], answer.classes.map((found) => [found.label, `${percent(found.share)} %`, found.pixels.toLocaleString("en")]));
  if (!answer.objects.length) return null;
  const rows = answer.objects.slice(0, MOST_ROWS).map((found) => [found.label, found.score.toFixed(2), found.box.map((side) => Math.round(side)).join(", ")]);
  return grid(["class", "score", "x1, y1, x2, y2"], rows);
}

function grid(titles, rows) {
  const cells = rows.map((row) => make("tr", {}, ...row.map((cell, place) => make("td", { class: place && typeof cell === "string" ? "n" : "" }, typeof cell === "string" ? make("bdi", {}, cell) : cell))));
  const head = make("thead", {}, make("tr", {}, ...titles.map((title, place) => make("th", { scope: "col", class: place && title ? "n" : "" }, title))));
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "What was found" }, make("table", {}, head, make("tbody", {}, ...cells)));
}

function downloads(one, answer) {
  const { csv, picture: drawn, explanation, ...content } = answer;
  const stem = `${picture.name.replace(/[^\w.-]+/g, "_").replace(/\.\w{2,5}$/, "")}-${one.letter}`;
  const saved = [
    [`${stem}.json`, "JSON", link(JSON.stringify(content, null, 1), "application/json")],
    [`${stem}.csv`, "CSV", link(csv, "text/csv")],
    [`${stem}.png`, "picture", drawn],
    ...(explanation?.tiles ?? []).slice(1).map((tile) => [`${stem}-why.png`, "explanation", tile.picture]),
  ];
  return make("div", { class: "downloads", role: "group", "aria-label": `Save the answer of ${one.name}` },
    ...saved.map(([download, text, href]) => make("a", { class: "button", download, href }, `Save ${text}`)));
}

function link(text, type) {
  links.push(URL.createObjectURL(new Blob([text], { type })));
  return links.at(-1);
}

function why(explanation) {
  if (!explanation) return [];
  const found = explanation.tiles.map((tile) => make("figure", {}, make("img", { src: tile.picture, alt: `${tile.title}: ${tile.words}` }),
    make("figcaption", { class: tile.warning ? "warning" : "" }, make("strong", {}, tile.title), ` ${tile.words}`)));
  const refused = explanation.error ? make("p", { class: "note" }, explanation.error) : null;
  return [make("h3", {}, "Why"), refused, make("div", { class: "why" }, ...found)].filter(Boolean);
}
