// Heads and maps: their names, and which cells of a map are shown to be an effect.

import { measured } from "./numbers.js";
import { data, state } from "./state.js";

export const nameOf = (number) => `${Math.floor(number / data.heads)}.${number % data.heads}`;
export const numberOf = (name) => {
  const [layer, head] = String(name).split(".").map(Number);
  return layer < data.layers && head < data.heads ? layer * data.heads + head : NaN;
};
export const sweepOf = (map) => [map.component, map.source, map.target, map.positions];
export const keyOf = (map) => [...sweepOf(map).slice(0, 3), map.role].join(",");
export const valueOf = (map, effect) =>
  effect === null || (data.fraction && map.gap === null) ? null : data.fraction ? effect / map.gap : effect;
// The least size of an effect that counts, in logits; as rgb_circuit.calls.panels.least_effect.
export const leastOf = (map) => data.least * Math.max(map.gap ?? 0, data.least_gap);
export const sizeOf = (map, number) => Math.abs(map.effect[number] ?? 0);
export const shownOf = (map, number) => map.told[number] === "1" && sizeOf(map, number) >= leastOf(map);
// Whether the map shows a head unfaded.
export const strong = (map, number) =>
  (!state.fade || shownOf(map, number)) && Math.abs(valueOf(map, map.effect[number]) ?? 0) >= leastDrawn();
export const leastDrawn = () => (state.least / 100) * data.limit;
export const bySize = (map) => [...map.effect.keys()].sort((a, b) => sizeOf(map, b) - sizeOf(map, a));
export const roleOf = (number) => (data.roles ? data.roles[number] : "not tested");

export const ends = (map, number) => [map.effect[number], map.ci_low[number], map.ci_high[number]];

export function said(map, number) {
  const three = ends(map, number);
  return {
    says: data.fraction && map.gap !== null ? measured(...three.map((one) => valueOf(map, one)), " %") : "no gap",
    logits: measured(...three),
  };
}

export const route = ([, source, target]) => `${source === "zero" ? "nothing" : source} → ${target}`;
export const restored = (sweep) => `${sweep[0]}: ${route(sweep)}`;
