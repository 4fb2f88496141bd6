// On a narrow screen a table that is wider than its box becomes cards: a row each, every figure beside its heading.
const NARROW = matchMedia("(max-width: 640px)");
const ROLES = { TABLE: "table", THEAD: "rowgroup", TBODY: "rowgroup", TR: "row", TD: "cell" };

const role = (one) => ROLES[one.tagName] ?? (one.scope === "col" ? "columnheader" : "rowheader");
const label = (table) => {
  const heads = [...table.tHead.rows[0].cells].map((head) => head.textContent.trim());
  for (const one of [table, ...table.querySelectorAll("thead, tbody, tr, th, td")]) one.setAttribute("role", role(one));
  for (const row of table.querySelectorAll("tbody tr")) {
    [...row.cells].forEach((cell, i) => (cell.dataset.label = heads[i] ?? ""));
  }
};
const fit = () => {
  for (const table of document.querySelectorAll(".scroll > table:not(.matrix, .runs)")) {
    if (!NARROW.matches) table.classList.remove("cards");
    else if (table.tHead?.rows.length === 1 && table.scrollWidth > table.parentElement.clientWidth + 1) {
      label(table);
      table.classList.add("cards");
    }
  }
};
NARROW.addEventListener("change", fit);
document.addEventListener("htmx:afterSwap", fit);
document.addEventListener("toggle", fit, { capture: true }); // what was folded has no width until it is opened
fit();
