// Two heads side by side: a kept one, and the one chosen after it.

import { $, made } from "./elements.js";
import { data, state } from "./state.js";
import { numberOf } from "./heads.js";
import { tilesOf, veilOf } from "./looks.js";
import { verdictOf, STATES } from "./predictions.js";
import { tellFacts } from "./card.js";
import { choose } from "./address.js";
import { chooseHead } from "./panel.js";

export async function tellCompare() {
  const { kept, head } = state, box = $("explore-compare");
  $("explore-keep").textContent = kept ? "stop comparing" : "compare";
  $("explore-keep").title = kept ? "" : "keep this head and choose another one to compare it with";
  box.hidden = !kept;
  if (!kept) return box.replaceChildren();
  if (kept === head) return box.replaceChildren(made("p", `Head ${kept} is kept. Choose another head in the map, the list or the table to see both side by side.`, "quiet small"));
  const both = [kept, head], roles = both.flatMap((name) => verdictOf(numberOf(name)).open);
  // Show the same claims for both, so that they can be compared.
  const claims = new Set([...new Set(roles)].flatMap((role) => data.asked[role].flat()));
  box.replaceChildren(...(await Promise.all(both.map((name) => cardOf(numberOf(name), claims, linkTo(name))))));
}

function linkTo(name) {
  const link = made("button", `Head ${name}`, "link");
  link.onclick = () => name === state.head || chooseHead(name);
  return link;
}

// A head's card under a title, with those of its predictions that are compared.
export async function cardOf(number, claims, called) {
  const card = made("div", "", "card"), { role, kind, says, spared } = verdictOf(number);
  const title = made("h4"), facts = made("dl", "", "facts");
  title.append(called, " ", made("span", role, kind));
  tellFacts(facts, number);
  const chips = made("p");
  chips.append(...data.predictions.filter((one) => claims.has(one.name)).map((one) => {
    const [word, color, sign] = one.void ? ["not tested", "quiet", "–"] : STATES[one.states[number]];
    const instead = spared(one.name), chip = made("span", `${one.name} ${sign}`, `chip ${instead ? "quiet" : color}`);
    chip.title = `${word}: ${one.says}${instead ? `; ${instead} holds instead` : ""}`;
    return chip;
  }));
  const picture = await seenBy(number);
  card.append(title, ...(picture ? [picture] : []), made("p", says, "small"), facts, chips);
  return card;
}

// The current picture, veiled where a head does not look.
async function seenBy(number) {
  const picture = data.pictures[state.picture];
  if (!picture) return null;
  const seen = made("div", "", "kept-picture"), image = made("img", "", picture.crisp ? "crisp" : ""), veil = made("canvas");
  const tiles = await tilesOf(number), shades = veilOf(tiles), { columns } = picture, rows = picture.tiles / columns;
  image.src = picture.uri;
  image.alt = `${picture.condition} picture of ${picture.trial}, grey where the head does not look`;
  seen.style.aspectRatio = `${columns} / ${rows}`;
  Object.assign(veil, { width: columns, height: rows });
  const context = veil.getContext("2d");
  shades.forEach((shade, place) => {
    context.fillStyle = `rgb(89 89 89 / ${shade})`;
    context.fillRect(place % columns, Math.floor(place / columns), 1, 1);
  });
  seen.append(image, veil);
  return seen;
}

export function connectCompare() {
  $("explore-keep").onclick = () => choose({ kept: state.kept ? null : state.head });
}
