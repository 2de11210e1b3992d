// The image browser: filters, pages of test images, and what every candidate says of each.
import { ask, chip, complain, find, make, options, percent } from "./elements.js";

let page = 1;
let running = null;

export function browse(study, tryImage) {
  const form = find("filter");
  options(form.show, study.shows.map((show) => [show.name, show.title]), "wrong");
  options(form.candidate, [["", "any"], ...study.candidates.filter((one) => one.runs).map((one) => [one.name, `${one.letter}: ${one.name}`])]);
  options(form.truth, [["", "all"], ...study.classes.map((name, place) => [String(place), name])]);
  const show = () => list(study, form, tryImage);
  form.addEventListener("change", () => { page = 1; show(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  find("turn").addEventListener("click", (event) => {
    const by = Number(event.target.dataset.by);
    if (!by) return;
    page += by;
    show().then(() => find("images-title").scrollIntoView());
  });
  return show();
}

async function list(study, form, tryImage) {
  running?.abort();
  running = new AbortController();
  const shown = study.dense ? " Numbers are means over a candidate's runs, pictures those of its first one." : "";
  find("meaning").textContent = study.shows.find((show) => show.name === form.show.value).words + shown;
  try {
    const wanted = { show: form.show.value, candidate: form.candidate.value, truth: form.truth.value, page };
    const answer = await ask("/api/images", wanted, undefined, running.signal);
    complain(find("trouble"), null);
    find("found").textContent = `${answer.found.toLocaleString("en")} of ${study.images.toLocaleString("en")} test images`;
    find("gallery").className = study.dense ? "gallery dense" : "gallery";
    find("gallery").replaceChildren(...answer.images.map((image) => card(study, image, tryImage)));
    find("turn").hidden = answer.pages < 2;
    find("page").textContent = `page ${answer.page} of ${answer.pages}`;
    const [back, on] = find("turn").querySelectorAll("button");
    back.disabled = answer.page <= 1;
    on.disabled = answer.page >= answer.pages;
  } catch (error) {
    if (error.name !== "AbortError") complain(find("trouble"), error);
  }
}

function card(study, image, tryImage) {
  const button = make("button", { type: "button", class: "explain", "aria-label": `Explain ${image.name}` }, "Explain");
  button.addEventListener("click", () => tryImage(image));
  const flags = image.flags.map((flag) => make("span", { class: "tagged warning" }, flag));
  const name = make("p", { class: "id" }, make("bdi", {}, image.name), " ", ...flags);
  const truth = make("p", { class: "truth" }, make("small", {}, "truth "), make("bdi", {}, image.truth.join(", ") || "nothing"));
  if (study.dense) return make("li", {}, make("div", {}, make("div", { class: "top" }, truth, name, button), tiles(image)));
  const said = make("ul", { class: "bare" }, ...image.candidates.map(guess));
  return make("li", {}, thumbnail(image, "image", image.name), make("div", {}, truth, said, name, button));
}

function guess(one) {
  const others = one.spread > 0 ? make("span", { class: "spread" }, `${Math.round(100 * one.spread)} % of its runs differ`) : null;
  return make("li", { class: one.wrong ? "wrong" : "right" }, chip(one),
    make("span", { class: "visually-hidden" }, `${one.candidate}: ${one.wrong ? "wrong" : "right"}, `),
    make("span", { class: "guess" }, make("bdi", {}, one.label)),
    make("span", { class: "sign", "aria-hidden": "true" }, one.wrong ? "✗" : "✓"), make("span", { class: "ci" }, `${Math.round(100 * one.confidence)} %`), others);
}

function tiles(image) {
  const own = image.candidates.map((one, place) => figure(one.picture ? thumbnail(image, String(place), `prediction of ${one.candidate}`) : null,
    make("figcaption", {}, chip(one), make("span", { class: "visually-hidden" }, one.candidate), percent(one.score),
      one.spread > 0 ? make("span", { class: "spread" }, `runs ± ${percent(one.spread / 2)}`) : null)));
  return make("div", { class: "tiles" }, figure(thumbnail(image, "image", image.name), make("figcaption", {}, "image")),
    figure(thumbnail(image, "truth", `truth of ${image.name}`), make("figcaption", {}, "truth")), ...own);
}

const figure = (picture, caption) => make("figure", {}, picture ?? make("span", { class: "blank" }, "not kept"), caption);

const thumbnail = (image, of, alt) => make("img", { src: `/api/images/${image.image}/picture?of=${of}`, alt, loading: "lazy", decoding: "async", width: 240, height: 240 });
