// What a head is, and the predictions that it meets.

import { $, made } from "./elements.js";
import { measured } from "./numbers.js";
import { data, state } from "./state.js";
import { roleOf } from "./heads.js";

const STATES = { h: ["holds", "yes", "✓"], r: ["refuted", "no", "✗"], u: ["undecided", "quiet", "?"] };

export function tellHead(number) {
  const role = roleOf(number);
  $("explore-head").textContent = `Head ${state.head}`;
  const holds = new Set(data.predictions.filter((one) => one.states[number] === "h").map((one) => one.name));
  // One that stands in for another is as good.
  const met = (name) => data.asked[name].filter((slot) => slot.some((one) => holds.has(one))).length;
  const held = (name) => `${met(name)} of the ${data.asked[name].length} predictions of the role “${name}”`;
  const own = role.split(" + ").filter((name) => name in data.asked);
  const score = data.scores?.[number] ?? null;
  $("explore-role").textContent = role === "none" ? "no role shown" : role;
  $("explore-role").className = role === "none" || role === "not tested" ? "pill quiet" : "pill";
  let says = "Which role it has was not tested.";
  if (own.length) says = `It meets ${own.map(held).join(" and ")}, and restores ${measured(score, null, null, " %").replace("+", "")} of the gap (its score).`;
  else if (data.roles) {
    const best = Object.keys(data.asked).map((name) => [met(name) / data.asked[name].length, name]).sort((a, b) => b[0] - a[0])[0];
    says = `It meets ${held(best[1])}, more of no other role.`;
  }
  $("explore-head-says").textContent = says;
  const needed = (slot) => (slot.some((one) => holds.has(one)) ? slot.filter((one) => holds.has(one)) : slot);
  const wanted = new Set(own.flatMap((name) => data.asked[name].flatMap(needed)));
  const asked = (one) => wanted.has(one.name);
  const ordered = [...data.predictions.filter(asked), ...data.predictions.filter((one) => !asked(one))];
  $("explore-predictions").replaceChildren(...ordered.map((one) => {
    const row = made("tr"), [word, kind, sign] = one.void ? ["void", "quiet", "–"] : STATES[one.states[number]];
    if (asked(one)) row.className = "asked";
    row.append(made("th", one.name), made("td", `${sign} ${word}`, kind));
    const three = [one.effect[number], one.ci_low[number], one.ci_high[number]], fraction = one.restored_fraction[number];
    const effect = made("td", one.void && three[0] === null ? one.void : measured(...three), "n");
    if (fraction !== null) effect.append(made("br"), made("span", `${measured(fraction, null, null, " %")} of the gap`, "quiet"));
    const says = made("td", one.says, "wrap"), decide = one.trials_to_decide[number];
    says.append(made("span", ` · ${one.expected}${decide ? `; would be decided by ${decide < 10000 ? Math.round(decide).toLocaleString("en") : "more than 10,000"} trials` : ""}`, "quiet"));
    row.append(effect, says);
    return row;
  }));
}
