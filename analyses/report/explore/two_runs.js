// Two runs: the card of one head in both, side by side, and how much its effects differ. This is the
// script of the page over two runs, which has no charts.

import { $, css, made, options, unpacked } from "./elements.js";
import { begin, data, hold, state } from "./state.js";
import { nameOf, numberOf, said, shownOf, bySize } from "./heads.js";
import { measured, brief } from "./numbers.js";
import { verdictOf } from "./predictions.js";
import { cardOf } from "./compare.js";
import { copyLink, csvOf, download, escaped, numberIn, pngOf, rowsOf } from "./card.js";

// Numbers and state of each run; the head and the picture shown of both.
let sides = [], differences = [], seen = { head: null, trial: null, condition: null };

// Make a run current: all functions about heads use the run that was taken last.
function take(side) {
  hold(side.data);
  begin(side.state);
}

const addressOf = () => `#${new URLSearchParams(Object.entries(seen).filter(([, value]) => value))}`;

function seenFrom(hash) {
  const asked = new URLSearchParams(hash.slice(1)), { data } = sides[0];
  take(sides[0]);
  const head = numberOf(asked.get("head")), most = differences.find((one) => one.differs)?.head ?? nameOf(bySize(data.maps[data.panels[0]])[0]);
  const picture = data.pictures.find((one) => one.trial === asked.get("trial") && one.condition === asked.get("condition")) ?? data.pictures[0];
  return { head: Number.isNaN(head) ? most : asked.get("head"), trial: picture?.trial, condition: picture?.condition };
}

// A run's picture closest to the shown one: of the same trial, if the run has it.
function pictureOf({ pictures }) {
  const alike = pictures.map((one, number) => [one, number]).filter(([one]) => one.condition === seen.condition);
  const same = alike.find(([one]) => one.trial === seen.trial) ?? alike[0];
  return same ? same[1] : 0;
}

function effectsOf(number) {
  const table = made("table"), body = table.appendChild(made("tbody"));
  for (const panel of data.panels) {
    const map = data.maps[panel], row = body.appendChild(made("tr")), about = said(map, number);
    const has = data.fraction && map.gap !== null;
    row.append(made("th", `${brief(map.role)}, when ${brief(map.target)}`), made("td", has ? about.says : `${about.logits} logits`, shownOf(map, number) ? "n" : "n quiet"));
  }
  return table;
}

function tellDifferences() {
  const own = differences.filter((one) => one.head === seen.head), table = made("table");
  const body = table.appendChild(made("tbody"));
  for (const one of own) {
    const row = body.appendChild(made("tr")), unit = one.share ? " %" : "", says = measured(one.difference, one.low, one.high, unit);
    row.append(made("th", one.panel), made("td", unit ? says : `${says} logits`, one.differs ? "n" : "n quiet"),
      made("td", one.differs ? `shown to differ (q ${one.q.toPrecision(2)})` : one.void ? `not tested: ${one.void}` : "not shown to differ", one.differs ? "no" : "quiet"));
  }
  $("two-differences").replaceChildren(made("h4", "B − A, with 95 % intervals"), table);
}

function tellPictures() {
  const { pictures } = sides[0].data;
  $("two-pictures").hidden = !pictures.length;
  options($("two-trial"), [...new Set(pictures.map((one) => one.trial))], seen.trial);
  $("two-conditions").replaceChildren(...pictures.filter((one) => one.trial === seen.trial).map(({ condition }) => {
    const button = made("button", condition);
    button.setAttribute("aria-pressed", String(condition === seen.condition));
    button.onclick = () => look({ condition });
    return button;
  }));
}

let drawing = Promise.resolve();

const tellBoth = () => (drawing = drawing.then(async () => {
  const number = numberOf(seen.head), cards = [], open = new Set();
  for (const side of sides) {
    take(side);
    for (const role of verdictOf(number).open) open.add(role);
  }
  for (const side of sides) {
    take(side);
    state.picture = pictureOf(data);
    const claims = new Set([...open].filter((role) => role in data.asked).flatMap((role) => data.asked[role].flat()));
    const card = await cardOf(number, claims, made("span", side.name)), picture = data.pictures[state.picture];
    if (picture) card.append(made("p", `The picture: ${picture.condition} of ${picture.trial}; grey where the head does not look.`, "quiet small"));
    card.append(made("h4", data.fraction ? "What restoring it does, of the gap" : "What restoring it does"), effectsOf(number));
    cards.push(card);
  }
  $("two-head").textContent = `Head ${seen.head} in both runs`;
  $("explore-compare").replaceChildren(...cards);
  tellDifferences();
  tellPictures();
  for (const one of document.querySelectorAll(".scatter a, .pick")) one.classList.toggle("chosen", one.getAttribute("href") === `#head=${seen.head}`);
  $("two-cards").dataset.shows = addressOf();
}));

function look(change) {
  Object.assign(seen, change);
  // Do not add an entry to the history for every click.
  location.replace(addressOf());
  return tellBoth();
}

// Text in lines of at most `most` letters.
function wrapped(text, most) {
  return text.trim().split(/\s+/).reduce((lines, word) => {
    const longer = `${lines.at(-1)} ${word}`.trim();
    return longer.length <= most ? [...lines.slice(0, -1), longer] : [...lines, word];
  }, [""]);
}

// Both cards and the differences as one drawing.
function cardsAsSvg() {
  const width = 460, gap = 24, high = 170, parts = [], ends = [0, 0];
  const write = (text, x, y, weight = 400, size = 12) => parts.push(`<text x="${x}" y="${y}" font-size="${size}" font-weight="${weight}" fill="${css("ink")}">${escaped(text)}</text>`);
  const rows = (box) => [...box.querySelectorAll("tr")].map((row) => [...row.cells].map((cell) => cell.textContent).join("   "));
  write($("two-head").textContent, gap, 32, 600, 20);
  for (const [column, card] of [...$("explore-compare").children].entries()) {
    const x = gap + column * (width + gap), image = card.querySelector("img"), veil = card.querySelector("canvas");
    let y = 62;
    write(card.querySelector("h4").textContent, x, y, 600, 14);
    if (image) {
      const across = Math.min(width, (high * veil.width) / veil.height);
      for (const [uri, crisp] of [[image.src, image.className], [veil.toDataURL(), true]]) {
        parts.push(`<image href="${uri}" x="${x}" y="${y + 12}" width="${across}" height="${high}" preserveAspectRatio="none"${crisp ? ' style="image-rendering: pixelated"' : ""}/>`);
      }
      y += high + 20;
    }
    const facts = [...card.querySelectorAll("dl div")].map((pair) => `${pair.lastChild.textContent} ${pair.firstChild.textContent}`);
    const chips = [...card.querySelectorAll(".chip")].map((chip) => chip.textContent).join("   ");
    for (const text of [card.querySelector("p.small").textContent, ...facts, chips, ...rows(card)]) {
      for (const line of wrapped(text, 72)) write(line, x, (y += 17));
    }
    ends[column] = y;
  }
  let y = Math.max(...ends) + 20;
  write($("two-differences").querySelector("h4").textContent, gap, (y += 10), 600);
  for (const text of rows($("two-differences"))) write(text, gap, (y += 17));
  const size = [2 * width + 3 * gap, y + gap];
  return {
    size,
    text: `<svg xmlns="http://www.w3.org/2000/svg" width="${size[0]}" height="${size[1]}" font-family="system-ui, sans-serif"><rect width="100%" height="100%" fill="${css("page")}"/>${parts.join("")}</svg>`,
  };
}

const fileName = (kind) => `head-${seen.head}-in-two-runs.${kind}`;

function cardsAsCsv() {
  const rows = [];
  for (const side of sides) {
    take(side);
    const [header, ...own] = rowsOf(numberOf(seen.head));
    if (!rows.length) rows.push(["run", ...header]);
    rows.push(...own.map((row) => [side.name, ...row]));
  }
  for (const one of differences.filter(({ head }) => head === seen.head)) {
    rows.push(["B less A", `${one.panel} (${one.share ? "share of the gap" : "logits"})`, one.role, one.difference, one.low, one.high, one.differs ? "shown to differ" : "not shown to differ"]);
  }
  return csvOf(rows);
}

function connect() {
  $("two-csv").onclick = () => download(fileName("csv"), cardsAsCsv(), "text/csv");
  $("two-svg").onclick = () => download(fileName("svg"), cardsAsSvg().text, "image/svg+xml");
  $("two-png").onclick = async () => download(fileName("png"), await pngOf(cardsAsSvg()));
  $("two-copy").onclick = () => copyLink(addressOf(), $("two-copied"));
  $("two-trial").onchange = (event) => look({ trial: event.target.value });
  $("two-go").onchange = (event) => {
    take(sides[0]);
    const number = numberIn(event.target, $("two-go-says"));
    if (!Number.isNaN(number)) look({ head: nameOf(number) });
  };
  addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#head="]');
    if (!link) return;
    event.preventDefault();
    look({ head: link.getAttribute("href").slice(6) }).then(() => $("two-cards").scrollIntoView({ block: "nearest" }));
  });
  addEventListener("hashchange", () => {
    if (!location.hash.startsWith("#head=") || location.hash === addressOf()) return;
    seen = seenFrom(location.hash);
    tellBoth();
  });
  return tellBoth();
}

async function start() {
  if (!("DecompressionStream" in window)) return;
  const content = JSON.parse(new TextDecoder().decode(await unpacked("two-data")));
  const first = ({ maps, panels }) => panels.find((number) => maps[number].target === content.target && maps[number].role === content.role);
  sides = content.runs.map((run) => ({ ...run, state: { map: first(run.data), picture: 0 } }));
  differences = content.differences;
  seen = seenFrom(location.hash.startsWith("#head=") ? location.hash : "#");
  document.querySelectorAll(".scripted").forEach((element) => (element.hidden = false));
  await connect();
}

start();
