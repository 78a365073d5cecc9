// Vega's charts: drawn once, then updated in place with new data.

import { $, css } from "./elements.js";
import { data, theme } from "./state.js";
import { chooseHead } from "./panel.js";

export const views = {};

function themed(chart) {
  return JSON.parse(JSON.stringify(chart).replace(/"@(\w+)"/g, (_, name) => JSON.stringify(css(name))));
}

function config() {
  const font = getComputedStyle(document.body).fontFamily, quiet = css("quiet"), line = css("line");
  const text = { labelColor: css("ink"), titleColor: quiet, labelFont: font, titleFont: font };
  return {
    background: null, font, view: { stroke: null },
    axis: { ...text, labelFontSize: 11, titleFontSize: 11, titleFontWeight: "normal", gridColor: line,
            domainColor: line, tickColor: line },
    legend: { ...text, labelFontSize: 11, titleFontSize: 11, titleFontWeight: "normal", symbolOpacity: 1 },
  };
}

export const keyFor = (size) => JSON.stringify([size, theme]);

// Draw a chart, or update it if it is already drawn in that size and those colours.
export async function draw(name, datasets, signals = {}, size = {}, chart = name) {
  const key = keyFor(size), drawn = views[name];
  if (drawn && drawn.key === key) {
    for (const [set, rows] of Object.entries(datasets)) drawn.view.data(set, rows);
    for (const [signal, value] of Object.entries(signals)) drawn.view.signal(signal, value);
    return drawn.view.runAsync();
  }
  const spec = { ...themed(data.charts[chart]), ...size, datasets };
  for (const one of spec.params ?? []) if (one.name in signals) one.value = signals[one.name];
  drawn?.finalize();
  const options = { actions: false, renderer: "svg", config: config(), tooltip: { theme }, logLevel: 1 };
  const { view, finalize } = await vegaEmbed($(`explore-${name}`), spec, options);
  views[name] = { key, view, finalize };
  if (name === "map") view.addEventListener("click", (_, item) => item?.datum?.name && chooseHead(item.datum.name));
  return view;
}

// The ends of an axis for these rows: at least `least` on both sides of zero, or rounding would fill it.
export const reaching = (rows, least) => ({
  from: 1.05 * Math.min(-least, ...rows.map((row) => row.low)), to: 1.05 * Math.max(least, ...rows.map((row) => row.high)),
});
