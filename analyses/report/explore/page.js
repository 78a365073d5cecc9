// The interactive page: charts, tables and the page's address show the state. This file is bundled with
// Vega, so `vegaEmbed` is in scope.

import { $, unpacked, made } from "./elements.js";
import { begin, color, data, hold, state } from "./state.js";
import { nameOf, numberOf } from "./heads.js";
import { address, choose, showWith, stateFrom } from "./address.js";
import { drawMap, chooseMap, keepInSight } from "./map.js";
import { drawEffects, drawWrites, drawPaths } from "./effects.js";
import { drawLooks } from "./looks.js";
import { tellHead } from "./predictions.js";
import { tellCard, connectCard } from "./card.js";
import { tellCompare, connectCompare } from "./compare.js";
import { chooseHead, connectPanel } from "./panel.js";
import { tellSteer, connectSteer } from "./steer.js";
import { tellControls } from "./controls.js";
import { markRow, filterTable, sortTable } from "./table.js";

let drawing = Promise.resolve(), waiting = false;

// Show the state as it is when the last drawing is done, skipping the changes in between.
export function show() {
  if (waiting) return drawing;
  waiting = true;
  drawing = drawing.then(async () => {
    waiting = false;
    const number = numberOf(state.head);
    tellControls();
    tellHead(number);
    tellCard(number);
    await tellCompare();
    markRow();
    await drawMap();
    keepInSight();
    await drawLooks(number);
    await tellSteer();
    await drawEffects(number);
    await drawWrites(number);
    await drawPaths();
    $("explore-link").href = address();
    $("explore").dataset.shows = address();
  });
  return drawing;
}

function connect() {
  connectCard();
  connectCompare();
  connectPanel();
  connectSteer();
  $("explore-component").onchange = (event) => chooseMap({ component: event.target.value });
  $("explore-sweep").onchange = (event) => {
    const [component, source, target, positions] = JSON.parse(event.target.value);
    chooseMap({ component, source, target, positions });
  };
  $("explore-word").onchange = (event) => chooseMap({ role: event.target.value });
  $("explore-fade").onchange = (event) => choose({ fade: event.target.checked });
  $("explore-least").oninput = (event) => choose({ least: Number(event.target.value) });
  $("explore-trial").onchange = (event) => {
    const { condition } = data.pictures[state.picture], own = (one) => one.trial === event.target.value;
    const same = data.pictures.findIndex((one) => own(one) && one.condition === condition);
    choose({ picture: same < 0 ? data.pictures.findIndex(own) : same });
  };
  $("explore-map").onkeydown = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -data.heads, ArrowDown: data.heads }[event.key];
    const number = numberOf(state.head) + step;
    if (!(number >= 0 && number < data.layers * data.heads)) return;
    event.preventDefault();
    choose({ head: nameOf(number) });
  };
  $("explore-filter").oninput = filterTable;
  $("explore-filter-role").onchange = filterTable;
  for (const header of $("explore-all").tHead.rows[0].cells) {
    const button = made("button", header.textContent, "link");
    button.onclick = () => sortTable(header);
    header.replaceChildren(button);
  }
  $("explore-all").tBodies[0].onclick = (event) => {
    const row = event.target.closest("tr");
    if (row) chooseHead(row.dataset.head);
  };
  addEventListener("hashchange", () => {
    if (location.hash.startsWith("#head=") && location.hash !== address()) {
      begin(stateFrom(location.hash));
      show();
    }
  });
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const recolor = () => {
    color(dark.matches ? "dark" : "light");
    return show();
  };
  dark.onchange = recolor;
  let width = innerWidth, soon;
  addEventListener("resize", () => {
    // A phone's address bar comes and goes, which does not change the width.
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(soon);
    soon = setTimeout(show, 150);
  });
  return recolor();
}

async function start() {
  if (!("DecompressionStream" in window)) return;
  hold(JSON.parse(new TextDecoder().decode(await unpacked("explore-data"))));
  begin(stateFrom(location.hash.startsWith("#head=") ? location.hash : "#"));
  showWith(show);
  $("explore").hidden = false;
  $("explore-none").hidden = true;
  document.querySelectorAll(".scripted").forEach((element) => (element.hidden = false));
  $("explore-predictions").closest(".card").hidden = !data.predictions.length;
  $("explore-all").closest("details").open = data.layers * data.heads <= 64;
  filterTable();
  await connect();
}

start();
