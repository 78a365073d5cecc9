// A head's card: its three numbers, its link, and its download as a file.

import { $, css, made } from "./elements.js";
import { data, state } from "./state.js";
import { nameOf, numberOf, ends, restored, said, sweepOf } from "./heads.js";
import { measured, share } from "./numbers.js";
import { address } from "./address.js";
import { views } from "./charts.js";
import { chooseHead } from "./panel.js";

// The head's effect in the current map, where it looks in the picture, and the word it writes most.
export const tellCard = (number) => tellFacts($("explore-facts"), number);

export function tellFacts(list, number) {
  const map = data.maps[state.map], picture = data.pictures[state.picture], about = said(map, number);
  const mean = (text) => text.split(" [")[0];
  const facts = [[`${data.fraction && map.gap !== null ? "of the gap: " : ""}${map.role}, when ${map.target}`, map.gap !== null && data.fraction ? mean(about.says) : `${mean(about.logits)} logits`]];
  if (picture) {
    const on = picture.on_tile?.[number] ?? null;
    facts.push(on === null ? ["of its attention on the picture", share(picture.on_picture[number])] : [`of its attention on ${data.place}`, share(on)]);
  }
  const words = data.writes.words ?? [];
  const most = words.reduce((best, one) => (Math.abs(one.effect[number]) > Math.abs(best.effect[number] ?? 0) ? one : best), words[0]);
  if (most) facts.push([`logits, direct effect on “${most.role}”`, mean(measured(...ends(most, number)))]);
  list.replaceChildren(...facts.map(([name, value]) => {
    const pair = made("div");
    pair.append(made("dt", name), made("dd", value));
    return pair;
  }));
}

export function download(name, content, type) {
  const link = made("a"), url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  Object.assign(link, { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

export const escaped = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

// The title of a chart; for the map, what the map shows.
function titleOf(name) {
  const { role, target } = data.maps[state.map], picture = data.pictures[state.picture];
  if (name === "map") return `${role}, when ${target}`;
  const title = $(`explore-${name}`).closest(".card").querySelector("h4").textContent;
  return name === "picture" ? `${title}: ${picture.condition}` : title;
}

// The visible charts, as one drawing in two columns.
async function asSvg() {
  const top = 74, gap = 24, head = 20, heights = [top, top], widths = [0, 0], parts = [], heads = [];
  for (const [name, column] of [["map", 0], ["picture", 0], ["effects", 1], ["writes", 1]]) {
    if (!views[name] || !$(`explore-${name}`).offsetParent) continue;
    const text = await views[name].view.toSVG();
    const [width, height] = ["width", "height"].map((side) => Number(text.match(new RegExp(`<svg[^>]* ${side}="([\\d.]+)"`))[1]));
    heads.push([titleOf(name), column, heights[column] + 12]);
    heights[column] += head;
    // Make ids unique across the joined drawings.
    parts.push([text.replace(/\b(clip|gradient_)(\d+)\b/g, `${name}-$1$2`), column, heights[column]]);
    heights[column] += height + gap;
    widths[column] = Math.max(widths[column], width);
  }
  const size = [Math.max(520, widths[0] + gap + widths[1] + 2 * gap), Math.max(...heights)];
  const left = (column) => gap + column * (widths[0] + gap);
  const placed = parts.map(([text, column, y]) => text.replace("<svg ", `<svg x="${left(column)}" y="${y}" `));
  const line = (text, x, y, size, weight) => `<text x="${x}" y="${y}" font-size="${size}" font-weight="${weight}" fill="${css("ink")}">${escaped(text)}</text>`;
  const [title, says] = ["title", "head-says"].map((id) => $(`explore-${id}`).textContent);
  return {
    size,
    text: `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="${size[0]}" height="${size[1]}" font-family="system-ui, sans-serif">` +
      `<rect width="100%" height="100%" fill="${css("page")}"/>${line(title, gap, 32, 20, 600)}${line(says, gap, 54, 12, 400)}` +
      `${heads.map(([text, column, y]) => line(text, left(column), y, 12, 600)).join("")}${placed.join("")}</svg>`,
  };
}

// A drawing as a PNG at double size.
export async function pngOf({ text, size }) {
  const image = new Image(), canvas = made("canvas");
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  Object.assign(canvas, { width: 2 * size[0], height: 2 * size[1] });
  const context = canvas.getContext("2d");
  context.scale(2, 2);
  context.drawImage(image, 0, 0);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

// Every number of a head: its effects, what it writes, and its predictions.
export function rowsOf(number) {
  const rows = [["what", "word", "effect", "ci_low", "ci_high", "shown"]];
  for (const map of data.maps) rows.push([restored(sweepOf(map)), map.role, ...ends(map, number), map.told[number] === "1" ? "differs from zero" : ""]);
  for (const word of data.writes.words ?? []) rows.push(["writes", word.role, ...ends(word, number), ""]);
  for (const one of data.predictions) rows.push([one.name, "", ...ends(one, number), { h: "holds", r: "refuted", u: "undecided" }[one.states[number]]]);
  return rows;
}

export function csvOf(rows) {
  const cell = (value) => (/[",\n]/.test(String(value ?? "")) ? `"${String(value).replace(/"/g, '""')}"` : String(value ?? ""));
  return rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

// In a notebook's frame the page has no address to link to.
const FRAMED = location.protocol === "about:";

export async function copyLink(address, says) {
  const link = (FRAMED ? "" : location.href.split("#")[0]) + address;
  const copied = await navigator.clipboard?.writeText(link).then(() => true, () => false);
  says.textContent = copied ? "copied" : link;
  setTimeout(() => (says.textContent = ""), copied ? 2000 : 20000);
}

// The index of the head typed into a box; NaN if there is no such head, with a notice beside the box.
export function numberIn(box, says) {
  const text = box.value.trim(), number = numberOf(text), unknown = Number.isNaN(number) && text !== "";
  box.setAttribute("aria-invalid", String(unknown));
  says.textContent = unknown ? `There is no head ${text}: heads go from 0.0 to ${nameOf(data.layers * data.heads - 1)}.` : "";
  return number;
}

function goTo(event) {
  const number = numberIn(event.target, $("explore-go-says"));
  if (!Number.isNaN(number)) chooseHead(nameOf(number));
}

export function connectCard() {
  $("explore-copy").onclick = () => copyLink(address(), $("explore-copied"));
  if (FRAMED) Object.assign($("explore-copy"), { textContent: "copy view", title: "append this to the address of report.html" });
  $("explore-svg").onclick = async () => download(`head-${state.head}.svg`, (await asSvg()).text, "image/svg+xml");
  $("explore-png").onclick = async () => download(`head-${state.head}.png`, await pngOf(await asSvg()));
  $("explore-csv").onclick = () => download(`head-${state.head}.csv`, csvOf(rowsOf(numberOf(state.head))), "text/csv");
  $("explore-go").onchange = goTo;
}
