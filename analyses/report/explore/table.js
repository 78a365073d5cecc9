// The table of all heads.

import { $ } from "./elements.js";
import { data, state } from "./state.js";

export function markRow() {
  $("explore-all").querySelector("[aria-current]")?.removeAttribute("aria-current");
  $("explore-all").querySelector(`[data-head="${state.head}"]`)?.setAttribute("aria-current", "true");
}

export function filterTable() {
  const words = $("explore-filter").value.toLowerCase().split(/\s+/).filter(Boolean), role = $("explore-filter-role").value;
  // A word like a head's name finds that head; a layer with a dot finds all its heads. Neither is a number.
  const named = (word, row) => (word.endsWith(".") ? row.dataset.head.startsWith(word) : row.dataset.head === word);
  let left = 0;
  for (const row of $("explore-all").tBodies[0].rows) {
    const text = row.textContent.toLowerCase().replace(/\s+/g, " ");
    const has = (word) => (/^\d+\.\d*$/.test(word) ? named(word, row) : text.includes(word));
    row.hidden = !(words.every(has) && (!role || row.dataset.role.split(" + ").includes(role)));
    left += !row.hidden;
  }
  $("explore-filter-says").textContent = `${left.toLocaleString("en")} of ${(data.layers * data.heads).toLocaleString("en")} heads`;
}

export function sortTable(header) {
  const table = $("explore-all"), column = header.cellIndex, down = header.getAttribute("aria-sort") !== "descending";
  const value = (row) => {
    const cell = row.cells[column];
    return "v" in cell.dataset ? (cell.dataset.v === "" ? -Infinity : Number(cell.dataset.v)) : cell.textContent;
  };
  const rows = [...table.tBodies[0].rows].map((row) => [value(row), row]);
  rows.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1));
  table.tBodies[0].append(...rows.map(([, row]) => row));
  for (const one of table.tHead.rows[0].cells) one.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
}
