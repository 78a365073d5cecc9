// The page to click. One state (head, map, picture, what is faded) is shown by Vega's charts, by tables and by
// the page's address. What there is to show comes packed from explorer.py; this file is bundled with Vega, so
// that `vegaEmbed` is in scope.

const STATES = { h: ["holds", "yes", "✓"], r: ["refuted", "no", "✗"], u: ["undecided", "quiet", "?"] };
const STEPS = 3, EVEN = 4;
const $ = (id) => document.getElementById(id);

let data, state, theme;
const views = {}, attention = {};

async function unpacked(id) {
  const bytes = Uint8Array.from(atob($(id).textContent.trim()), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

// Numbers as text

function decimals(values) {
  const largest = Math.max(0, ...values.filter(Number.isFinite).map(Math.abs));
  if (largest < 1e-12) return 0;
  const exponent = Math.floor(Math.log10(largest));
  return exponent < 0 ? Math.min(8, 1 - exponent) : Math.min(2, Math.max(0, 2 - exponent));
}

function signed(value, places) {
  if (value === null || !Number.isFinite(value)) return "–";
  const text = value.toFixed(places);
  if (Number(text) === 0) return "0";
  return value > 0 ? `+${text}` : text.replace("-", "−");
}

// A mean with its interval; `unit` is "" or " %".
function measured(value, low, high, unit = "") {
  if (value === null) return "–";
  const scale = unit ? 100 : 1;
  const [a, b, c] = [value, low, high].map((one) => (one === null ? NaN : one * scale));
  const places = decimals([a, b, c]);
  const mean = signed(a, places) + unit;
  if (!Number.isFinite(b)) return mean;
  return a === 0 && b === 0 && c === 0 ? "0" : `${mean} [${signed(b, places)}, ${signed(c, places)}]`;
}

function share(value) {
  if (value === null) return "–";
  const percent = 100 * value;
  return `${percent >= 10 ? percent.toFixed(0) : percent >= 0.95 ? percent.toFixed(1) : percent.toPrecision(1)} %`;
}

// A user's name as a button has room for it: of a long one the beginning and the end.
const brief = (name) => (name.length <= 28 ? name : `${name.slice(0, 18).trimEnd()}…${name.slice(-9).trimStart()}`);

const times = (value) => (value >= 9.95 ? Math.round(value).toLocaleString("en") : value.toPrecision(2));

// Heads and maps

const nameOf = (number) => `${Math.floor(number / data.heads)}.${number % data.heads}`;
const numberOf = (name) => {
  const [layer, head] = String(name).split(".").map(Number);
  return layer < data.layers && head < data.heads ? layer * data.heads + head : NaN;
};
const sweepOf = (map) => [map.component, map.source, map.target, map.positions];
const keyOf = (map) => [...sweepOf(map).slice(0, 3), map.role].join(",");
const valueOf = (map, effect) =>
  effect === null || (data.fraction && map.gap === null) ? null : data.fraction ? effect / map.gap : effect;
// From which size on an effect counts as one, in logits: as rgb_circuit.calls.panels.least_effect.
const leastOf = (map) => data.least * Math.max(map.gap ?? 0, data.least_gap);
const sizeOf = (map, number) => Math.abs(map.effect[number] ?? 0);
const shownOf = (map, number) => map.told[number] === "1" && sizeOf(map, number) >= leastOf(map);
// What the map does not fade.
const strong = (map, number) =>
  (!state.fade || shownOf(map, number)) && Math.abs(valueOf(map, map.effect[number]) ?? 0) >= leastDrawn();
const leastDrawn = () => (state.least / 100) * data.limit;
const bySize = (map) => [...map.effect.keys()].sort((a, b) => sizeOf(map, b) - sizeOf(map, a));
const roleOf = (number) => (data.roles ? data.roles[number] : "not tested");

const ends = (map, number) => [map.effect[number], map.ci_low[number], map.ci_high[number]];

function said(map, number) {
  const three = ends(map, number);
  return {
    says: data.fraction && map.gap !== null ? measured(...three.map((one) => valueOf(map, one)), " %") : "no gap",
    logits: measured(...three),
  };
}

const route = ([, source, target]) => `${source === "zero" ? "nothing" : source} → ${target}`;
const restored = (sweep) => `${sweep[0]}: ${route(sweep)}`;

// Charts

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

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

const keyFor = (size) => JSON.stringify([size, theme]);

// Draws a chart, or gives it new data where it stands already in that size and those colours.
async function draw(name, datasets, signals = {}, size = {}, chart = name) {
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
  if (name === "map") view.addEventListener("click", (_, item) => item?.datum?.name && choose({ head: item.datum.name }));
  return view;
}

const room = (id) => Math.max(140, Math.floor($(id).clientWidth));

async function drawMap() {
  const map = data.maps[state.map], rows = [];
  const cell = Math.min(92, Math.max(8, (room("explore-map") - 52) / data.heads));
  const size = { width: Math.floor(cell * data.heads), height: Math.floor(Math.min(cell, 48) * data.layers) };
  const signals = { chosen: state.head, fade: state.fade, least: leastDrawn(), roomy: cell >= 34 };
  rank(map);
  // A click changes the outline only.
  if (views.map?.shows === state.map && views.map.key === keyFor(size)) return draw("map", {}, signals, size);
  for (let number = 0; number < map.effect.length; number++) {
    const role = roleOf(number);
    rows.push({
      layer: Math.floor(number / data.heads), head: number % data.heads, name: nameOf(number), role,
      value: valueOf(map, map.effect[number]), shown: shownOf(map, number),
      has_role: data.roles !== null && role !== "none", ...said(map, number),
    });
  }
  await draw("map", { heads: rows }, signals, size);
  views.map.shows = state.map;
}

// The strongest heads of a map that it does not fade, by name: whoever reads the map need not count cells.
function rank(map) {
  const numbers = bySize(map).filter((number) => sizeOf(map, number) > 0 && strong(map, number)).slice(0, 12);
  $("explore-rank").replaceChildren(...numbers.map((number) => {
    const item = made("li"), name = nameOf(number), about = said(map, number), shown = shownOf(map, number);
    const mean = (data.fraction && map.gap !== null ? about.says : about.logits).split(" [")[0];
    const button = item.appendChild(made("button", `${name} `, "link"));
    button.append(made("span", shown ? mean : `${mean} ?`, "quiet"));
    button.setAttribute("aria-pressed", String(name === state.head));
    button.onclick = () => choose({ head: name });
    return item;
  }));
  const that = state.least ? " of that size" : "";
  $("explore-rank-says").textContent = numbers.length
    ? numbers.every((number) => shownOf(map, number)) ? "" : "?: not shown."
    : state.fade ? `No head is shown to do anything${that} here.` : `No head does anything${that} here.`;
}

// Where an axis ends that shows these: `least` or further on both sides of zero, or rounding would fill it.
const reaching = (rows, least) => ({
  from: 1.05 * Math.min(-least, ...rows.map((row) => row.low)), to: 1.05 * Math.max(least, ...rows.map((row) => row.high)),
});

function drawEffects(number) {
  const words = new Set(data.maps.map((map) => map.role));
  const rows = data.maps.map((map) => {
    const [value, low, high] = ends(map, number).map((one) => valueOf(map, one));
    return {
      sweep: restored(sweepOf(map)), role: map.role, value, low: low ?? value, high: high ?? value,
      shown: shownOf(map, number), ...said(map, number),
    };
  }).filter((row) => row.value !== null);
  $("explore-effects-none").hidden = rows.length > 0;
  const size = { width: room("explore-effects") - 185, height: { step: Math.max(6, 34 / words.size) } };
  // As many names side by side as there is room for, about six pixels a letter; the longest may be cut.
  const name = Math.min(160, 6.2 * Math.max(...[...words].map((word) => word.length))), mark = 24;
  const columns = Math.max(1, Math.min(words.size, Math.floor(size.width / (name + mark))));
  const axis = reaching(rows, data.fraction ? data.least : data.least * data.least_gap);
  return draw("effects", { effects: rows }, { columns, room: Math.min(160, size.width - mark), ...axis }, size);
}

function drawWrites(number) {
  const why = data.writes.why_not;
  $("explore-writes-none").textContent = why ? `Not measured: ${why}.` : "";
  if (why) return;
  const rows = data.writes.words.map((word) => {
    const [value, low, high] = ends(word, number);
    return { role: word.role, value, low: low ?? value, high: high ?? value, says: measured(value, low, high) };
  });
  return draw("writes", { writes: rows }, reaching(rows, data.least * data.least_gap), { width: room("explore-writes") - 130, height: { step: 22 } });
}

function drawPaths() {
  const rows = (data.paths.rows ?? []).filter((row) => row.sender === state.head || row.receiver === state.head);
  const shown = rows.map((row) => ({
    share: row.share,
    other: row.sender !== state.head ? `from ${row.sender}` : row.receiver ? `through ${row.receiver}` : "through them all",
    says: `${share(row.share)}: ${measured(row.mediated_effect, row.ci_low, row.ci_high)} of ${signed(row.total_effect, 2)} logits`,
  }));
  $("explore-paths").hidden = !rows.length;
  $("explore-paths-none").textContent = rows.length ? "" : data.paths.why_not ? `Not measured: ${data.paths.why_not}.`
    : `Not measured for this head: only from ${data.senders} to ${data.receivers}.`;
  return rows.length ? draw("paths", { paths: shown }, {}, { width: room("explore-paths") - 130, height: { step: 20 } }) : null;
}

async function drawLooks(number) {
  const picture = data.pictures[state.picture];
  $("explore-looks").hidden = !picture;
  if (!picture) return;
  const per = picture.tiles + picture.tokens.length;
  const bytes = (attention[state.picture] ??= new Uint8Array(await unpacked(`explore-look-${state.picture}`)));
  const own = bytes.subarray(number * per, (number + 1) * per);
  const tiles = Array.from(own.subarray(0, picture.tiles), (step) => (step ? picture.chance * 2 ** ((step - EVEN) / STEPS) : 0));
  const lifted = Math.max(...tiles, 4 / picture.tiles);
  const { columns } = picture, rowCount = picture.tiles / columns;
  const cells = tiles.map((value, index) => ({
    row: Math.floor(index / columns), column: index % columns, veil: 0.85 * (1 - value / lifted),
    place: `${Math.floor(index / columns)}, ${index % columns}`,
    attention: value ? `about ${share(value)}` : `less than ${share(picture.chance / 2)}`,
    chance: value ? `× ${times(value / picture.chance)}` : "less than half",
  }));
  const boxes = picture.tile ? [{ row: picture.tile[0], column: picture.tile[1] }] : [];
  const sets = { shown: [{ uri: picture.uri }], tiles: cells, boxes };
  const side = Math.max(1, Math.floor(Math.min(340, room("explore-picture")) / columns)) * columns;
  const whole = { rows: rowCount, columns, left: 0, top: 0, right: columns, bottom: rowCount };
  await draw("picture", sets, whole, { width: side, height: Math.round((side * rowCount) / columns) });
  // Where a tile is too small to be seen, it is enlarged beside the picture.
  const zoom = picture.place && rowCount > 10;
  $("explore-lens").hidden = !zoom;
  if (zoom) {
    const [left, top] = [Math.min(Math.max(picture.place[1] - 2, 0), columns - 5), Math.min(Math.max(picture.place[0] - 2, 0), rowCount - 5)];
    const near = cells.filter(({ row, column }) => row >= top && row < top + 5 && column >= left && column < left + 5);
    await draw("zoom", { ...sets, tiles: near }, { rows: rowCount, columns, left, top, right: left + 5, bottom: top + 5 }, { width: 110, height: 110 }, "picture");
  }
  const words = picture.tokens.map((token, at) => ({ at, token, attention: own[picture.tiles + at] / 255 }));
  await draw("words", { words }, { tokens: picture.tokens.map((token) => token.trim() || "↵"), chance: picture.chance,
      most: Math.max(0.1, ...words.map((word) => word.attention)) },
    { width: room("explore-words") - 96, height: { step: 15 } });
  const even = share(picture.chance), on = picture.on_tile?.[number];
  const most = cells.reduce((best, cell, index) => (tiles[index] > tiles[best] ? index : best), 0);
  $("explore-looks-says").textContent =
    `${share(picture.on_picture[number])} of this head's attention is on the picture, where an even spread over all ${per} tokens would put ` +
    `${share(picture.tiles * picture.chance)}. ` +
    (on === undefined || on === null ? `Most is on row ${cells[most].row}, column ${cells[most].column}.`
      : `${share(on)} is on ${picture.tile ? data.place : `the place where the clean picture has ${data.place}`}: ` +
        `${on < picture.chance ? "less than" : `${times(on / picture.chance)} times`} an even spread (${even} a token).`);
}

// Words and tables

function made(tag, text = "", kind = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

function tellHead(number) {
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
    says.append(made("span", ` · ${one.expected}${decide ? `; would be decided by ${decide < 10000 ? Math.round(decide).toLocaleString("en") : "more than 10,000"} ${data.observations}` : ""}`, "quiet"));
    row.append(effect, says);
    return row;
  }));
}

// Controls and state

function options(select, values, chosen, words = (value) => value) {
  select.replaceChildren(...values.map((value) => {
    const option = made("option", words(value));
    option.value = value;
    option.selected = value === chosen;
    return option;
  }));
  select.disabled = values.length < 2;
}

function tellControls() {
  const map = data.maps[state.map], unique = (values) => [...new Set(values)];
  const within = (test) => data.maps.filter(test);
  options($("explore-component"), unique(data.maps.map((one) => one.component)), map.component, (one) => data.components[one] ?? one);
  const sweeps = within((one) => one.component === map.component);
  // A user's name of a picture may hold anything, also what would separate names.
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
  const gap = map.gap === null ? "There is no gap here, so fractions of it mean nothing; effects are in the tooltips." : `The gap here is ${signed(map.gap, decimals([map.gap])).replace("+", "")} logits.`;
  const unit = data.fraction ? gap : "Not every picture is shown to change the model's answer, so some have no gap to be a fraction of, and colours are logits.";
  const least = `${signed(leastOf(map), decimals([leastOf(map)])).replace("+", "")} logits`;
  const enough = map.gap >= data.least_gap ? `${100 * data.least}\u00a0% of the gap (${least})` : least;
  $("explore-map-says").textContent = `${unit} Shown: ${data.n > 1 ? "told from zero (q ≤ 5\u00a0% over all heads)" : "more than rounding"}, and ${enough} or more.`;
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

function address() {
  const picture = data.pictures[state.picture], parts = new URLSearchParams({ head: state.head, map: keyOf(data.maps[state.map]) });
  if (picture) parts.set("picture", `${picture.condition} of ${picture.trial}`);
  if (!state.fade) parts.set("fade", "no");
  if (state.least) parts.set("least", state.least);
  return `#${parts}`;
}

// What an address asks for, as far as this run has it.
function stateFrom(hash) {
  const asked = new URLSearchParams(hash.slice(1));
  const head = asked.has("head") ? numberOf(asked.get("head")) : NaN;
  const found = data.maps.findIndex((one) => keyOf(one) === asked.get("map")), map = found < 0 ? data.panels[0] : found;
  const order = bySize(data.maps[map]), most = order.find((number) => shownOf(data.maps[map], number)) ?? order[0];
  const picture = data.pictures.findIndex((one) => `${one.condition} of ${one.trial}` === asked.get("picture"));
  const least = Number(asked.get("least"));
  return {
    head: nameOf(Number.isNaN(head) ? most : head),
    map,
    picture: Math.max(0, picture),
    fade: asked.get("fade") !== "no",
    least: least >= 0 && least <= 100 ? least : 0,
  };
}

let drawing = Promise.resolve(), waiting = false;

// Shows the state as it is when the last drawing is done, however many changes came meanwhile.
function show() {
  if (waiting) return drawing;
  waiting = true;
  drawing = drawing.then(async () => {
    waiting = false;
    const number = numberOf(state.head);
    tellControls();
    tellHead(number);
    markRow();
    await drawMap();
    await drawLooks(number);
    await drawEffects(number);
    await drawWrites(number);
    await drawPaths();
    $("explore-link").href = address();
    $("explore").dataset.shows = address();
  });
  return drawing;
}

function choose(change) {
  Object.assign(state, change);
  // Not an entry in the history for every click.
  location.replace(address());
  return show();
}

function chooseMap(part) {
  const map = data.maps[state.map], wanted = { ...map, ...part };
  const same = (one, names) => names.every((name) => one[name] === wanted[name]);
  const all = ["component", "source", "target", "positions", "role"];
  const orders = part.role ? [all] : part.target ? [all, all.slice(0, 4)] : [all, ["component", "target", "role"], ["component", "role"], ["component"]];
  for (const names of orders) {
    const number = data.maps.findIndex((one) => same(one, names));
    if (number >= 0) return choose({ map: number });
  }
}

// The table of all heads

function markRow() {
  $("explore-all").querySelector("[aria-current]")?.removeAttribute("aria-current");
  $("explore-all").querySelector(`[data-head="${state.head}"]`)?.setAttribute("aria-current", "true");
}

function filterTable() {
  const words = $("explore-filter").value.toLowerCase().split(/\s+/).filter(Boolean), role = $("explore-filter-role").value;
  // What looks like a head's name is that head, or with the layer alone all of its heads, and no number.
  const named = (word, row) => (word.endsWith(".") ? row.dataset.head.startsWith(word) : row.dataset.head === word);
  let left = 0;
  for (const row of $("explore-all").tBodies[0].rows) {
    const text = row.textContent.toLowerCase().replace(/\s+/g, " ");
    const has = (word) => (/^\d+\.\d*$/.test(word) ? named(word, row) : text.includes(word));
    row.hidden = !(words.every(has) && (!role || row.dataset.role.split(" + ").includes(role)));
    left += !row.hidden;
  }
  $("explore-filter-says").textContent = `${left.toLocaleString("en")} of ${(data.layers * data.heads).toLocaleString("en")} heads`;
}

function sortTable(header) {
  const table = $("explore-all"), column = header.cellIndex, down = header.getAttribute("aria-sort") !== "descending";
  const value = (row) => {
    const cell = row.cells[column];
    return "v" in cell.dataset ? (cell.dataset.v === "" ? -Infinity : Number(cell.dataset.v)) : cell.textContent;
  };
  const rows = [...table.tBodies[0].rows].map((row) => [value(row), row]);
  rows.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1));
  table.tBodies[0].append(...rows.map(([, row]) => row));
  for (const one of table.tHead.rows[0].cells) one.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
}

function connect() {
  $("explore-component").onchange = (event) => chooseMap({ component: event.target.value });
  $("explore-sweep").onchange = (event) => {
    const [component, source, target, positions] = JSON.parse(event.target.value);
    chooseMap({ component, source, target, positions });
  };
  $("explore-word").onchange = (event) => chooseMap({ role: event.target.value });
  $("explore-fade").onchange = (event) => choose({ fade: event.target.checked });
  $("explore-least").oninput = (event) => choose({ least: Number(event.target.value) });
  $("explore-trial").onchange = (event) => {
    const { condition } = data.pictures[state.picture], own = (one) => one.trial === event.target.value;
    const same = data.pictures.findIndex((one) => own(one) && one.condition === condition);
    choose({ picture: same < 0 ? data.pictures.findIndex(own) : same });
  };
  $("explore-map").onkeydown = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -data.heads, ArrowDown: data.heads }[event.key];
    const number = numberOf(state.head) + step;
    if (!(number >= 0 && number < data.layers * data.heads)) return;
    event.preventDefault();
    choose({ head: nameOf(number) });
  };
  $("explore-filter").oninput = filterTable;
  $("explore-filter-role").onchange = filterTable;
  for (const header of $("explore-all").tHead.rows[0].cells) {
    const button = made("button", header.textContent, "link");
    button.onclick = () => sortTable(header);
    header.replaceChildren(button);
  }
  $("explore-all").tBodies[0].onclick = (event) => {
    const row = event.target.closest("tr");
    if (row) choose({ head: row.dataset.head });
  };
  addEventListener("hashchange", () => {
    if (location.hash.startsWith("#head=") && location.hash !== address()) {
      state = stateFrom(location.hash);
      show();
    }
  });
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const recolor = () => {
    theme = dark.matches ? "dark" : "light";
    return show();
  };
  dark.onchange = recolor;
  let width = innerWidth, soon;
  addEventListener("resize", () => {
    // A phone's address bar comes and goes, which is no other width.
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(soon);
    soon = setTimeout(show, 150);
  });
  return recolor();
}

async function start() {
  if (!("DecompressionStream" in window)) return;
  data = JSON.parse(new TextDecoder().decode(await unpacked("explore-data")));
  state = stateFrom(location.hash.startsWith("#head=") ? location.hash : "#");
  $("explore").hidden = false;
  $("explore-none").hidden = true;
  document.querySelectorAll(".scripted").forEach((element) => (element.hidden = false));
  $("explore-predictions").closest(".card").hidden = !data.predictions.length;
  $("explore-all").closest("details").open = data.layers * data.heads <= 64;
  filterTable();
  await connect();
}

start();
