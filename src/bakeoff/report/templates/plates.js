// The images worth a look can be flipped through, in the order chosen; without this they stand one below the other.
for (const flip of document.querySelectorAll(".flip")) {
  const list = flip.parentElement.querySelector(".plates"), cards = [...list.children];
  const order = flip.querySelector("select"), all = flip.querySelector("input"), said = flip.querySelector("output");
  let at = 0;
  const strength = (card) => (order.value === "gap" ? -Number(card.dataset.gap) : order.value === "mean" ? Number(card.dataset.mean) : Number(card.dataset.scores.split(" ")[Number(order.value)]));
  const show = () => {
    cards.forEach((card, place) => { card.hidden = !all.checked && place !== at; });
    list.classList.toggle("one", !all.checked);
    said.textContent = all.checked ? `${cards.length} images` : `image ${at + 1} of ${cards.length}`;
    flip.querySelectorAll("button").forEach((button) => { button.disabled = all.checked; });
  };
  const sort = () => { cards.sort((a, b) => strength(a) - strength(b)); list.append(...cards); at = 0; show(); };
  const step = (by) => { at = (at + by + cards.length) % cards.length; show(); };
  flip.addEventListener("click", (event) => { if (event.target.dataset.step) step(Number(event.target.dataset.step)); });
  order.addEventListener("change", sort);
  all.addEventListener("change", show);
  flip.addEventListener("keydown", (event) => {
    if (event.target.matches("select") || all.checked || !["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    event.preventDefault();
    step(event.key === "ArrowLeft" ? -1 : 1);
  });
  flip.hidden = cards.length === 0;
  sort();
}
