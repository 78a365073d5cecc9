// Where a head looks.

import { $, unpacked, room } from "./elements.js";
import { share, times } from "./numbers.js";
import { data, state } from "./state.js";
import { draw } from "./charts.js";

const STEPS = 3, EVEN = 4;
const attention = {};

// The stored bytes of a head's attention on the current picture: steps of its tiles, then words.
async function ofHead(number) {
  const { tiles, tokens } = data.pictures[state.picture], per = tiles + tokens.length;
  const id = `${data.looks ?? "explore"}-look-${state.picture}`, bytes = (attention[id] ??= new Uint8Array(await unpacked(id)));
  return bytes.subarray(number * per, (number + 1) * per);
}

export async function tilesOf(number) {
  const picture = data.pictures[state.picture], own = await ofHead(number);
  return Array.from(own.subarray(0, picture.tiles), (step) => (step ? picture.chance * 2 ** ((step - EVEN) / STEPS) : 0));
}

// How grey each tile is: the tile with the most attention is clear, unless that is negligible.
export function veilOf(tiles) {
  const lifted = Math.max(...tiles, 4 / tiles.length);
  return tiles.map((value) => 0.85 * (1 - value / lifted));
}

export async function drawLooks(number) {
  const picture = data.pictures[state.picture];
  $("explore-looks").hidden = !picture;
  if (!picture) return;
  const per = picture.image + picture.tokens.length;
  const own = await ofHead(number), tiles = await tilesOf(number), veil = veilOf(tiles);
  const { columns } = picture, rowCount = picture.tiles / columns;
  const cells = tiles.map((value, index) => ({
    row: Math.floor(index / columns), column: index % columns, veil: veil[index],
    place: `${Math.floor(index / columns)}, ${index % columns}`,
    attention: value ? `about ${share(value)}` : `less than ${share(picture.chance / 2)}`,
    chance: value ? `× ${times(value / picture.chance)}` : "less than half",
  }));
  const boxes = picture.tile ? [{ row: picture.tile[0], column: picture.tile[1] }] : [];
  const sets = { shown: [{ uri: picture.uri }], tiles: cells, boxes };
  const side = Math.max(1, Math.floor(Math.min(340, room("explore-picture")) / columns)) * columns;
  const smooth = !picture.crisp, whole = { smooth, rows: rowCount, columns, left: 0, top: 0, right: columns, bottom: rowCount };
  await draw("picture", sets, whole, { width: side, height: Math.round((side * rowCount) / columns) });
  // Enlarge a tile beside the picture if it is too small to see.
  const zoom = picture.place && rowCount > 10;
  $("explore-lens").hidden = !zoom;
  if (zoom) {
    const [left, top] = [Math.min(Math.max(picture.place[1] - 2, 0), columns - 5), Math.min(Math.max(picture.place[0] - 2, 0), rowCount - 5)];
    const near = cells.filter(({ row, column }) => row >= top && row < top + 5 && column >= left && column < left + 5);
    await draw("zoom", { ...sets, tiles: near }, { smooth, rows: rowCount, columns, left, top, right: left + 5, bottom: top + 5 }, { width: 110, height: 110 }, "picture");
  }
  const words = picture.tokens.map((token, at) => ({ at, token, attention: own[picture.tiles + at] / 255 }));
  await draw("words", { words }, { tokens: picture.tokens.map((token) => token.trim() || (token.includes("\n") ? "↵" : "␣")), chance: picture.chance,
      most: Math.max(0.1, ...words.map((word) => word.attention)) },
    { width: room("explore-words") - 96, height: { step: 15 } });
  const even = share(picture.chance), on = picture.on_tile?.[number];
  const most = cells.reduce((best, cell, index) => (tiles[index] > tiles[best] ? index : best), 0);
  $("explore-looks-says").textContent =
    `${share(picture.on_picture[number])} of this head's attention is on the picture, where uniform attention to all ${per} tokens would put ` +
    `${share(picture.image * picture.chance)}. ` +
    (picture.on_view ? `The model sees several views of the picture; the first is drawn here, with ${share(picture.on_view[number])} of the attention. ` : "") +
    (on === undefined || on === null ? `The largest share is on row ${cells[most].row}, column ${cells[most].column}.`
      : `${share(on)} is on ${picture.tile ? data.place : `the place where the clean picture has ${data.place}`}: ` +
        `${on < picture.chance ? "less than" : `${times(on / picture.chance)} times`} uniform attention (${even} per token).`);
}
