// The page is complete without this: tables become sortable, and the pictures can be filtered.
"use strict";
const value = (row, column) => {
  const cell = row.cells[column];
  const number = cell.dataset.v === "" ? NaN : Number(cell.dataset.v ?? NaN);
  return Number.isNaN(number) ? (cell.dataset.v === "" || cell.textContent.trim() === "–" ? null : cell.textContent.trim()) : number;
};
const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true }));
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].map((row) => [value(row, column), row]);
      rows.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : (down ? -1 : 1) * compare(a, b)));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  });
}
const bar = document.querySelector(".filter");
if (bar) {
  const cards = [...document.querySelectorAll(".gallery > li")];
  const [truth, wrong] = bar.querySelectorAll("select");
  const show = () => {
    let shown = 0;
    for (const card of cards) {
      card.hidden = (truth.value && card.dataset.truth !== truth.value) || (wrong.value && !card.dataset.wrong.split(/\s+/).includes(wrong.value));
      shown += card.hidden ? 0 : 1;
    }
    bar.querySelector("output").textContent = truth.value || wrong.value ? `${shown} of ${cards.length} pictures` : "";
  };
  bar.hidden = cards.length === 0;
  bar.addEventListener("change", show);
}
window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((details) => { details.open = true; }));
