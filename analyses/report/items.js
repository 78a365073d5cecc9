// Item by item: marks of a head's effect in each trial, and the pictures of the chosen trial. A module, so that
// its names are not global; the packed data comes from items.py.

const $ = (id) => document.getElementById(`items-${id}`);
const NONE = -32768;
const BLANK = [200, 200, 200];

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

function made(tag, text = "", style = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  element.className = style;
  return element;
}

function signed(value, places = 2) {
  const text = value.toFixed(places);
  return Number(text) === 0 ? "0" : value > 0 ? `+${text}` : text.replace("-", "−");
}

const places = (...values) => {
  const largest = Math.max(...values.map(Math.abs), 1e-8);
  const exponent = Math.floor(Math.log10(largest));
  return exponent < 0 ? Math.min(8, Math.max(2, 1 - exponent)) : Math.min(2, Math.max(0, 3 - exponent));
};

const percent = (value) => {
  const size = Math.abs(100 * value);
  if (size < 0.01) return size ? "≈ 0 %" : "0 %";
  return `${(100 * value).toFixed(size >= 9.95 ? 0 : size >= 0.95 ? 1 : 2).replace("-", "−")} %`;
};

async function start() {
  const data = JSON.parse(new TextDecoder().decode(await unpacked($("data").textContent)));
  const steps = new Int16Array(await unpacked($("effects").textContent));
  const uris = JSON.parse($("uris").textContent), looks = JSON.parse($("looks").textContent);
  const rows = [...$("strip").querySelectorAll("[data-item]")], count = data.items.length;
  const state = { head: 0, panel: 0, item: 0, over: null };
  let order = [], turn = 0;

  const effect = (item) => {
    const step = steps[(state.panel * data.heads.length + state.head) * count + item];
    return step === NONE ? null : step * data.steps[state.panel][state.head];
  };

  function drawStrip() {
    const values = data.items.map((_, item) => effect(item));
    order = [...values.keys()].filter((item) => values[item] !== null).sort((a, b) => values[b] - values[a] || a - b);
    const some = order.map((item) => values[item]), low = Math.min(-data.reach, ...some), high = Math.max(data.reach, ...some);
    const left = (value) => (100 * (value - low)) / (high - low), digits = places(low, high);
    for (const row of rows) row.hidden = values[row.dataset.item] === null;
    order.forEach((item, rank) => {
      const row = rows[item], at = left(values[item]), zero = left(0);
      row.style.top = `${(rank + 0.5) * data.row}px`;
      row.title = `${data.items[item].name}: ${signed(values[item], digits)}`;
      row.querySelector("i").style.left = `${at}%`;
      const stem = row.querySelector("s");
      if (stem) Object.assign(stem.style, { left: `${Math.min(at, zero)}%`, width: `${Math.abs(at - zero)}%` });
    });
    $("zero").style.left = `${left(0)}%`;
    const [from, zero, to] = $("axis").children;
    from.textContent = left(0) > data.room ? signed(low, digits) : "";
    to.textContent = left(0) < 100 - data.room ? signed(high, digits) : "";
    zero.style.left = `${left(0)}%`;
    const panel = data.panels[state.panel], role = data.roles[state.head];
    $("about").replaceChildren("Head ", made("strong", data.heads[state.head]), `${role ? ` (${role})` : ""}: ${panel.name}`);
  }

  // A data URI of the veil over a picture where the head does not look, a pixel per token.
  async function veilOf(picture) {
    const head = data.seen.indexOf(data.heads[state.head]);
    if (picture.look == null || head < 0) return null;
    if (typeof looks[picture.look] === "string") looks[picture.look] = new Uint8Array(await unpacked(looks[picture.look]));
    const bytes = looks[picture.look], tokens = bytes.length / data.seen.length, most = picture.most[head];
    const lifted = Math.max(most, 4 / tokens);
    const canvas = Object.assign(made("canvas"), { width: picture.columns, height: tokens / picture.columns });
    const pen = canvas.getContext("2d"), cells = pen.createImageData(canvas.width, canvas.height);
    for (let token = 0; token < tokens; token++) {
      const attention = (bytes[head * tokens + token] / 255) ** 2 * most;
      cells.data.set([...BLANK, Math.round(255 * 0.85 * (1 - attention / lifted))], 4 * token);
    }
    pen.putImageData(cells, 0, 0);
    return { uri: canvas.toDataURL(), on: picture.on[head] };
  }

  async function figure(item, picture) {
    const whole = made("figure"), seen = whole.appendChild(made("div", "", "items-seen")), veil = await veilOf(picture);
    if (picture.width) seen.style.aspectRatio = `${picture.width} / ${picture.height}`;
    if (picture.uri != null) {
      seen.append(Object.assign(made("img", "", picture.crisp ? "crisp" : ""), { src: uris[picture.uri], alt: `${picture.condition} picture of ${item.name}` }));
    }
    if (veil && $("veil").checked) {
      seen.append(Object.assign(made("img", "", "veil"), { src: veil.uri, alt: `what head ${data.heads[state.head]} does not look at` }));
    }
    seen.hidden = picture.uri == null && !veil;
    const right = picture.expected === null ? "" : ": right is ";
    const said = made("strong", picture.answer, picture.correct === null ? "" : picture.correct ? "yes" : "no");
    const caption = whole.appendChild(made("figcaption", `${picture.condition}${right}`));
    if (right) caption.append(made("strong", picture.expected));
    caption.append("; answered ", said, veil ? `; ${percent(veil.on)} of its attention is on ${data.drawn}` : "");
    return { whole, veil };
  }

  async function drawItem() {
    const item = data.items[state.item], value = effect(state.item), gap = item.gaps[state.panel], own = ++turn;
    for (const row of rows) {
      const number = Number(row.dataset.item), other = data.items[number];
      row.classList.toggle("chosen", number === state.item);
      row.classList.toggle("kin", number !== state.item && item.cluster !== null && other.cluster === item.cluster);
    }
    const target = data.panels[state.panel].target, first = (one) => (one.condition === "clean" ? 0 : one.condition === target ? 1 : 2);
    const shown = [...item.pictures].sort((a, b) => first(a) - first(b));
    const figures = await Promise.all(shown.map((picture) => figure(item, picture)));
    // Another item was chosen in the meantime.
    if (own !== turn) return;
    $("name").textContent = item.name;
    const size = gap === null ? "" : signed(gap, places(gap)).replace("+", "");
    const ofGap = gap === null || value === null ? ""
      : gap < data.least ? `; there is almost nothing to restore, with a gap of ${size}` : `, ${percent(value / gap)} of a gap of ${size}`;
    const moved = value === null ? [`${data.heads[state.head]} was not restored here`]
      : [`Restoring ${data.heads[state.head]} has an effect of `, made("strong", signed(value, places(value))), ` logits${ofGap}`];
    const rank = order.indexOf(state.item) + 1;
    $("effect").replaceChildren(...moved, `${rank ? `; rank ${rank} of ${order.length}` : ""}.${item.cluster === null ? "" : ` Its cluster, “${item.cluster}”, is ringed.`}`);
    $("pictures").replaceChildren(...figures.map((one) => one.whole));
    const looked = figures.some((one) => one.veil), here = data.seen.join(", ");
    $("veils").hidden = !looked;
    $("unlooked").hidden = looked || !here;
    $("unlooked").textContent = data.seen.includes(data.heads[state.head]) ? "This page does not have its attention for this item."
      : `This page has attention for ${here} only; for the first trials, the map of heads has that of every head.`;
    $("item").value = state.item;
    $("view").dataset.shows = `${data.heads[state.head]} ${state.panel} ${state.item}`;
  }

  const choose = (item) => {
    state.item = item;
    return drawItem();
  };
  const step = (by) => {
    const rank = order.indexOf(state.item);
    return choose(order[Math.min(order.length - 1, Math.max(0, rank + by))] ?? 0);
  };
  const redraw = () => {
    drawStrip();
    return drawItem();
  };
  function follow() {
    const named = /^#head=(\d+\.\d+)/.exec(location.hash), head = named ? data.heads.indexOf(named[1]) : -1;
    if (head < 0 || head === state.head) return;
    state.head = head;
    if ([...$("head").options].every((option) => option.value !== named[1])) $("head").add(new Option(named[1]));
    $("head").value = named[1];
    return redraw();
  }

  const under = (event) => {
    const rank = Math.floor((event.clientY - $("strip").getBoundingClientRect().top) / data.row);
    return order[Math.min(order.length - 1, Math.max(0, rank))];
  };
  $("strip").onclick = (event) => choose(under(event));
  $("strip").onmousemove = (event) => {
    rows[state.over]?.classList.remove("over");
    state.over = under(event);
    rows[state.over].classList.add("over");
    $("strip").title = rows[state.over].title;
  };
  $("strip").onmouseleave = () => rows[state.over]?.classList.remove("over");
  $("strip").tabIndex = 0;
  $("strip").onkeydown = (event) => {
    const by = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, PageDown: 10, PageUp: -10, Home: -count, End: count }[event.key];
    if (!by) return;
    event.preventDefault();
    step(by);
  };
  $("before").onclick = () => step(-1);
  $("next").onclick = () => step(1);
  $("item").onchange = (event) => choose(Number(event.target.value));
  $("veil").onchange = drawItem;
  $("panel").onchange = (event) => {
    state.panel = Number(event.target.value);
    redraw();
  };
  $("head").onchange = (event) => {
    state.head = data.heads.indexOf(event.target.value);
    redraw();
  };
  addEventListener("hashchange", follow);
  document.querySelectorAll(".items-scripted").forEach((element) => (element.hidden = false));
  await redraw();
  await follow();
}

if ("DecompressionStream" in window) start();
