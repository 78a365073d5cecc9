// The controls beside map and picture, set from the state.

import { $, made, options } from "./elements.js";
import { decimals, signed, share, brief } from "./numbers.js";
import { data, state } from "./state.js";
import { sweepOf, leastOf, leastDrawn, route } from "./heads.js";
import { choose } from "./address.js";

export function tellControls() {
  const map = data.maps[state.map], unique = (values) => [...new Set(values)];
  const within = (test) => data.maps.filter(test);
  options($("explore-component"), unique(data.maps.map((one) => one.component)), map.component, (one) => data.components[one] ?? one);
  const sweeps = within((one) => one.component === map.component);
  // Use JSON: a user's name of a picture may contain any separator.
  const keyed = (one) => JSON.stringify(sweepOf(one));
  options($("explore-sweep"), unique(sweeps.map(keyed)), keyed(map), (one) => route(JSON.parse(one)));
  options($("explore-word"), unique(within((one) => keyed(one) === keyed(map)).map((one) => one.role)), map.role,
    (one) => (data.words[one] ? `${one}: ${data.words[one]}` : one));
  $("explore-panels").replaceChildren(...data.panels.map((number) => {
    const one = data.maps[number], button = made("button", `${brief(one.role)}, when ${brief(one.target)}`);
    button.title = `${one.role}, when ${one.target}`;
    button.setAttribute("aria-pressed", String(number === state.map));
    button.onclick = () => choose({ map: number });
    return button;
  }));
  const gap = map.gap === null ? "There is no gap here, so there are no fractions of it; the tooltips show effects in logits." : `The gap here is ${signed(map.gap, decimals([map.gap])).replace("+", "")} logits.`;
  const unit = data.fraction ? gap : "Some pictures are not shown to change the model's answer and so have no gap; colours show logits.";
  const least = `${signed(leastOf(map), decimals([leastOf(map)])).replace("+", "")} logits`;
  const enough = map.gap >= data.least_gap ? `${100 * data.least}\u00a0% of the gap (${least})` : least;
  $("explore-map-says").textContent = `${unit} Shown: ${data.n > 1 ? "significantly different from zero (q ≤ 5\u00a0% over all heads)" : "more than rounding"}, and ${enough} or more.`;
  $("explore-fade").checked = state.fade;
  $("explore-least").value = state.least;
  $("explore-least-says").textContent = data.fraction ? share(leastDrawn()) : leastDrawn().toPrecision(2);
  const picture = data.pictures[state.picture];
  if (picture) {
    options($("explore-trial"), unique(data.pictures.map((one) => one.trial)), picture.trial);
    $("explore-conditions").replaceChildren(...data.pictures.map((one, number) => [one, number]).filter(([one]) => one.trial === picture.trial).map(([one, number]) => {
      const button = made("button", one.condition + (one.expected ? ` (${one.expected})` : ""));
      button.setAttribute("aria-pressed", String(number === state.picture));
      button.onclick = () => choose({ picture: number });
      return button;
    }));
  }
}
