// The map of layers and heads, and the strongest heads in it.

import { $, room, made } from "./elements.js";
import { data, state } from "./state.js";
import { nameOf, valueOf, sizeOf, shownOf, strong, leastDrawn, bySize, roleOf, said } from "./heads.js";
import { choose } from "./address.js";
import { chooseHead } from "./panel.js";
import { views, keyFor, draw } from "./charts.js";

export async function drawMap() {
  const map = data.maps[state.map], rows = [];
  const cell = Math.min(92, Math.max(8, (room("explore-map") - 52) / data.heads));
  const size = { width: Math.floor(cell * data.heads), height: Math.floor(Math.min(cell, 48) * data.layers) };
  const signals = { chosen: state.head, kept: state.kept ?? "", fade: state.fade, least: leastDrawn(), roomy: cell >= 34 };
  rank(map);
  // A click changes only the outline.
  if (views.map?.shows === state.map && views.map.key === keyFor(size)) return draw("map", {}, signals, size);
  for (let number = 0; number < map.effect.length; number++) {
    const role = roleOf(number);
    rows.push({
      layer: Math.floor(number / data.heads), head: number % data.heads, name: nameOf(number), role,
      value: valueOf(map, map.effect[number]), shown: shownOf(map, number),
      has_role: data.roles !== null && role !== "none", ...said(map, number),
    });
  }
  await draw("map", { heads: rows }, signals, size);
  views.map.shows = state.map;
}

// The names of a map's strongest unfaded heads, so that readers need not count cells.
function rank(map) {
  const numbers = bySize(map).filter((number) => sizeOf(map, number) > 0 && strong(map, number)).slice(0, 12);
  $("explore-rank").replaceChildren(...numbers.map((number) => {
    const item = made("li"), name = nameOf(number), about = said(map, number), shown = shownOf(map, number);
    const mean = (data.fraction && map.gap !== null ? about.says : about.logits).split(" [")[0];
    const button = item.appendChild(made("button", `${name} `, "link"));
    button.append(made("span", shown ? mean : `${mean} ?`, "quiet"));
    button.setAttribute("aria-pressed", String(name === state.head));
    button.onclick = () => chooseHead(name);
    return item;
  }));
  const that = state.least ? " of that size" : "";
  $("explore-rank-says").textContent = numbers.length
    ? numbers.every((number) => shownOf(map, number)) ? "" : "?: not shown."
    : state.fade ? `No head is shown to have an effect${that} here.` : `No head has an effect${that} here.`;
}

// Keep the lower end of a column in sight if it is taller than the window, without a scroll bar of its own.
export function keepInSight() {
  const column = $("explore-map").parentElement;
  column.style.top = `${Math.min(16, innerHeight - column.offsetHeight - 16)}px`;
}

export function chooseMap(part) {
  const map = data.maps[state.map], wanted = { ...map, ...part };
  const same = (one, names) => names.every((name) => one[name] === wanted[name]);
  const all = ["component", "source", "target", "positions", "role"];
  const orders = part.role ? [all] : part.target ? [all, all.slice(0, 4)] : [all, ["component", "target", "role"], ["component", "role"], ["component"]];
  for (const names of orders) {
    const number = data.maps.findIndex((one) => same(one, names));
    if (number >= 0) return choose({ map: number });
  }
}
