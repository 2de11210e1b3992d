// The page: what the study is, and which of its parts is shown.
import { browse } from "./browse.js";
import { ask, chip, complain, find, make } from "./elements.js";
import { trying } from "./try.js";

const PARTS = ["images", "try", "report", "programs"];
let leave = () => {};

function show(focus) {
  const wanted = PARTS.includes(location.hash.slice(1)) ? location.hash.slice(1) : PARTS[0];
  for (const part of PARTS) find(part).hidden = part !== wanted;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${wanted}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (wanted !== "try") leave();
  if (wanted === "report" && !find("frame").src) find("frame").src = "/report";
  if (focus) {
    find(`${wanted}-title`).focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

function introduce(study) {
  document.title = `bakeoff: ${study.name}`;
  find("study").textContent = study.name;
  find("task").textContent = study.task;
  find("size").textContent = `${study.images.toLocaleString("en")} test images`;
  find("verdict").textContent = study.verdict;
  find("key").replaceChildren(...study.candidates.map((one) => make("li", {}, chip(one), make("bdi", {}, one.name),
    make("span", { class: "ci" }, one.value === null ? "no finished run" : `${study.metric} ${one.value.toFixed(1)}`))));
  const name = study.candidates.find((one) => one.trained)?.name ?? "";
  const query = new URLSearchParams({ candidate: name });
  find("example").textContent = `curl --header 'Authorization: Bearer TOKEN' \\\n  --data-binary @photo.jpg --header 'Content-Type: image/jpeg' \\\n  '${location.origin}/predict?${query}'`;
}

window.addEventListener("hashchange", () => show(true));
show(false);
try {
  const study = await ask("/api/study");
  introduce(study);
  const { tryImage, stop } = trying(study);
  leave = stop;
  await browse(study, tryImage);
} catch (error) {
  complain(find("trouble"), error);
}
