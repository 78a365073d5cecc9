// The page's address, which keeps the state.

import { data, state } from "./state.js";
import { nameOf, numberOf, keyOf, shownOf, bySize } from "./heads.js";

export function address() {
  const picture = data.pictures[state.picture], parts = new URLSearchParams({ head: state.head, map: keyOf(data.maps[state.map]) });
  if (picture) parts.set("picture", `${picture.condition} of ${picture.trial}`);
  if (state.kept) parts.set("with", state.kept);
  if (!state.fade) parts.set("fade", "no");
  if (state.least) parts.set("least", state.least);
  const { trial, who, bias, place, edit, pinned } = state.steer;
  if (pinned) parts.set("gaze", [trial, who, bias, edit === "look" ? place : edit].join(","));
  return `#${parts}`;
}

// The state of an address, as far as this run has it.
export function stateFrom(hash) {
  const asked = new URLSearchParams(hash.slice(1));
  const head = asked.has("head") ? numberOf(asked.get("head")) : NaN;
  const found = data.maps.findIndex((one) => keyOf(one) === asked.get("map")), map = found < 0 ? data.panels[0] : found;
  const order = bySize(data.maps[map]), most = order.find((number) => shownOf(data.maps[map], number)) ?? order[0];
  const picture = data.pictures.findIndex((one) => `${one.condition} of ${one.trial}` === asked.get("picture"));
  const least = Number(asked.get("least"));
  return {
    head: nameOf(Number.isNaN(head) ? most : head),
    map,
    picture: Math.max(0, picture),
    kept: Number.isNaN(numberOf(asked.get("with"))) ? null : asked.get("with"),
    fade: asked.get("fade") !== "no",
    least: least >= 0 && least <= 100 ? least : 0,
    steer: gazeFrom(asked.get("gaze")),
  };
}

// Which heads look where, with which bias, in which trial; by default the found heads with the strongest
// bias at the most telling place (null).
function gazeFrom(text) {
  const trials = data.steering.trials ?? [], most = (trials[0]?.biases.length ?? 1) - 1;
  const first = { trial: 0, who: "found", bias: most, place: null, edit: "look", pinned: false };
  const [trial, who, bias, where] = (text ?? "").split(","), at = trials[trial];
  if (!at || !["found", "random", "head"].includes(who) || !(bias in at.biases)) return first;
  const scaled = ["off", "double"].includes(where), place = Number(where);
  if (!scaled && !(Number.isInteger(place) && place >= 0 && place < at.rows * at.columns)) return first;
  return { trial: Number(trial), who, bias: Number(bias), place: scaled ? null : place, edit: scaled ? where : "look", pinned: true };
}

let shown = () => Promise.resolve();

// Register the function that shows a state; called once, at the start of the page.
export function showWith(how) {
  shown = how;
}

export function choose(change) {
  Object.assign(state, change);
  // Do not add an entry to the history for every click.
  location.replace(address());
  return shown();
}
