// The effects of restoring a head, what it writes, and the heads it works through.

import { $, isSeen, room } from "./elements.js";
import { signed, measured, share } from "./numbers.js";
import { data, state } from "./state.js";
import { sweepOf, valueOf, shownOf, ends, said, restored } from "./heads.js";
import { draw, reaching } from "./charts.js";

export function drawEffects(number) {
  if (!isSeen("explore-effects")) return;
  const words = new Set(data.maps.map((map) => map.role));
  const rows = data.maps.map((map) => {
    const [value, low, high] = ends(map, number).map((one) => valueOf(map, one));
    return {
      sweep: restored(sweepOf(map)), role: map.role, value, low: low ?? value, high: high ?? value,
      shown: shownOf(map, number), ...said(map, number),
    };
  }).filter((row) => row.value !== null);
  $("explore-effects-none").hidden = rows.length > 0;
  const size = { width: room("explore-effects") - 185, height: { step: Math.max(3.6, 18 / words.size) } };
  // Put as many names in a row as fit, at about six pixels a letter; the longest may be cut. The legend
  // also spans the names of the sweeps.
  const name = Math.min(160, 6.2 * Math.max(...[...words].map((word) => word.length))), mark = 24;
  const columns = Math.max(1, Math.min(words.size, Math.floor((size.width + 165) / (name + mark))));
  const above = 8 + 16 * Math.ceil(words.size / columns);
  const axis = reaching(rows, data.fraction ? data.least : data.least * data.least_gap);
  return draw("effects", { effects: rows }, { columns, above, room: Math.min(160, size.width - mark), ...axis }, size);
}

export function drawWrites(number) {
  const why = data.writes.why_not;
  $("explore-writes-none").textContent = why ? `Not measured: ${why}.` : "";
  if (why || !isSeen("explore-writes")) return;
  const rows = data.writes.words.map((word) => {
    const [value, low, high] = ends(word, number);
    return { role: word.role, value, low: low ?? value, high: high ?? value, says: measured(value, low, high) };
  });
  return draw("writes", { writes: rows }, reaching(rows, data.least * data.least_gap), { width: room("explore-writes") - 130, height: { step: 22 } });
}

export function drawPaths() {
  const rows = (data.paths.rows ?? []).filter((row) => row.sender === state.head || row.receiver === state.head);
  const shown = rows.map((row) => ({
    share: row.share,
    other: row.sender !== state.head ? `from ${row.sender}` : row.receiver ? `through ${row.receiver}` : "through all of them",
    says: `${share(row.share)}: ${measured(row.mediated_effect, row.ci_low, row.ci_high)} of ${signed(row.total_effect, 2)} logits`,
  }));
  $("explore-paths").hidden = !rows.length;
  $("explore-paths-none").textContent = rows.length ? "" : data.paths.why_not ? `Not measured: ${data.paths.why_not}.`
    : `Not measured for this head; measured only from ${data.senders} to ${data.receivers}.`;
  return rows.length && isSeen("explore-paths") ? draw("paths", { paths: shown }, {}, { width: room("explore-paths") - 130, height: { step: 20 } }) : null;
}
