// What a head is, and the predictions that it meets.

import { $, made } from "./elements.js";
import { measured } from "./numbers.js";
import { data, state } from "./state.js";
import { roleOf } from "./heads.js";

export const STATES = { h: ["holds", "yes", "✓"], r: ["refuted", "no", "✗"], u: ["undecided", "quiet", "?"] };

// The prediction that holds instead of this one, if another in the same slot of a role does.
function sparedBy(number, name) {
  const holds = (other) => data.predictions.some((one) => one.name === other && one.states[number] === "h");
  const slot = Object.values(data.asked).flat().find((some) => some.includes(name) && some.some(holds));
  return holds(name) ? null : slot?.find(holds) ?? null;
}

// What a head is, in words, from the predictions it meets; and its roles, or the closest one.
export function verdictOf(number) {
  const role = roleOf(number);
  const holds = new Set(data.predictions.filter((one) => one.states[number] === "h").map((one) => one.name));
  // Predictions in a slot can replace each other.
  const met = (name) => data.asked[name].filter((slot) => slot.some((one) => holds.has(one))).length;
  const all = (name) => met(name) === data.asked[name].length;
  const held = (name) => `${all(name) ? "every prediction" : `${met(name)} of the ${data.asked[name].length} predictions`} of the role “${name}”`;
  const own = role.split(" + ").filter((name) => name in data.asked);
  const score = data.scores?.[number] ?? null;
  let says = "Its role was not tested.";
  // A head with several roles has a score for each; the frame holds only one.
  if (own.length > 1) says = own.every(all) ? `It meets every prediction of these ${own.length} roles.` : `It meets ${own.map(held).join(" and ")}.`;
  else if (own.length) says = `It meets ${held(own[0])}, and restores ${measured(score, null, null, " %").replace("+", "")} of the gap (its score).`;
  else if (data.roles && data.predictions.every((one) => one.void)) says = "None of its predictions could be tested.";
  else if (data.roles) {
    const best = Object.keys(data.asked).map((name) => [met(name) / data.asked[name].length, name]).sort((a, b) => b[0] - a[0])[0];
    const left = data.predictions.filter((one) => !one.void && one.states[number] === "u").length;
    says = best[0] ? `It meets ${held(best[1])}, and no larger share of any other role’s.`
      : `It is shown to meet no prediction of a role${left ? `; ${left} ${left > 1 ? "are" : "is"} undecided` : ""}.`;
  }
  return {
    role: role === "none" ? "no role shown" : role, kind: role === "none" || role === "not tested" ? "pill quiet" : "pill",
    says, met, spared: (name) => sparedBy(number, name), open: own.length ? own : Object.keys(data.asked).slice(0, 1),
  };
}

export function tellHead(number) {
  const { role, kind, says, met, spared, open } = verdictOf(number);
  $("explore-head").textContent = `Head ${state.head}`;
  Object.assign($("explore-role"), { textContent: role, className: kind });
  $("explore-head-says").textContent = says;
  tellPredictions(number, open, met, spared);
}

// Show the predictions of the head's own role open and those of other roles folded, each once.
function tellPredictions(number, open, met, spared) {
  const told = new Set(), all = data.predictions.map((one) => one.name);
  const names = [...open, ...Object.keys(data.asked).filter((name) => !open.includes(name))];
  const groups = names.map((name) => [name, data.asked[name].flat().filter((one) => all.includes(one) && !told.has(one) && told.add(one))]);
  const groupless = all.filter((name) => !told.has(name));
  if (groupless.length) groups.push(["", groupless]);
  $("explore-predictions").replaceChildren(...groups.filter(([, some]) => some.length).map(([name, some]) => {
    const details = made("details"), summary = made("summary", name || "of no role"), table = made("table");
    if (name) summary.append(made("span", ` ${met(name)} of ${data.asked[name].length} hold`, "quiet"));
    details.open = open.includes(name);
    const body = table.appendChild(made("tbody"));
    const others = (one) => data.asked[name]?.find((slot) => slot.includes(one))?.filter((other) => other !== one) ?? [];
    body.append(...data.predictions.filter((one) => some.includes(one.name)).map((one) => rowOf(one, number, details.open, spared(one.name), others(one.name))));
    details.append(summary, table);
    return details;
  }));
}

function rowOf(one, number, own, instead, others) {
  const row = made("tr"), [word, kind, sign] = one.void ? ["not tested", "quiet", "–"] : STATES[one.states[number]];
  if (own) row.className = "asked";
  row.append(made("th", one.name), made("td", `${sign} ${word}`, (own && !instead) || kind !== "no" ? kind : "quiet"));
  const three = [one.effect[number], one.ci_low[number], one.ci_high[number]], fraction = one.restored_fraction[number];
  const effect = made("td", one.void && three[0] === null ? one.void : measured(...three), "n"), part = measured(fraction, null, null, " %");
  if (fraction !== null && !["0", "≈ 0"].includes(part)) effect.append(made("span", ` (${part})`, "quiet"));
  const says = made("td", one.says, "wrap"), decide = one.trials_to_decide[number];
  says.append(made("span", ` · ${one.expected}${decide ? `; ${decide < 10000 ? Math.round(decide).toLocaleString("en") : "more than 10,000"} ${data.observations} would decide it` : ""}`, "quiet"));
  if (instead) says.append(made("span", ` · ${instead} holds instead`, "quiet"));
  // Without this, seven that hold would be counted as six.
  else if (others.length) says.append(made("span", ` · this or ${others.join(" or ")} is enough`, "quiet"));
  row.append(effect, says);
  return row;
}
