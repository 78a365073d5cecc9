// Make heads look elsewhere: the picture with the cursor as gaze, and the model's answer. All logits were
// measured; only the likeliest word is computed here.

import { $, made, options, unpacked } from "./elements.js";
import { data, state } from "./state.js";
import { numberOf, roleOf } from "./heads.js";
import { choose } from "./address.js";
import { decimals, signed } from "./numbers.js";

const FACTORS = ["off", "double"];
// The current picture's data, unpacked; and the place under the cursor.
let ready = null, hovered = null;

// The part of the state about steering, with its trial.
export function gazeOf() {
  const trial = data.steering.trials[state.steer.trial], who = state.steer.who === "head" ? state.head : state.steer.who;
  return { ...state.steer, ...trial, name: who, places: trial.rows * trial.columns };
}

// Logits of the words if the named heads look at a place with a bias, or are off or doubled; null if that
// was not measured.
function asked(at, name, bias, place, edit) {
  const n = at.words.length, steps = ready.steps;
  const set = (edit === "look" ? at.turned : at.scaled).findIndex((one) => one.name === name);
  if (set < 0) return null;
  const looks = at.turned.length * at.biases.length * at.places * n;
  const from = edit === "look" ? ((set * at.biases.length + bias) * at.places + place) * n
    : looks + (set * FACTORS.length + FACTORS.indexOf(edit)) * n;
  return Array.from(steps.subarray(from, from + n), (step) => (step / 32767) * at.largest);
}

const likeliest = (values) => values.reduce((best, value, at) => (value > values[best] ? at : best), 0);

async function prepared(number) {
  if (prepared[number]) return prepared[number];
  const at = data.steering.trials[number], steps = new Int16Array(await unpacked(`explore-steer-${number}`));
  const ends = steps.reduce(([least, most], step) => [Math.min(least, step), Math.max(most, step)], [0, 1]);
  const [least, most] = ends.map((step) => (step / 32767) * at.largest);
  return (prepared[number] = { number, at, steps, least, most });
}

// The most telling place to start: of the places that change the answer, the one nearest the middle.
function begun(at) {
  const own = likeliest(at.unedited), [down, across] = [(at.rows - 1) / 2, (at.columns - 1) / 2];
  const far = (place) => Math.hypot(Math.floor(place / at.columns) - down, (place % at.columns) - across);
  const changed = [...Array(at.places).keys()].filter((place) =>
    likeliest(asked(at, "found", at.biases.length - 1, place, "look")) !== own);
  return changed.sort((a, b) => far(a) - far(b))[0] ?? 0;
}

const called = (at, name) => {
  const set = [...at.turned, ...at.scaled].find((one) => one.name === name);
  if (name === "found" || name === "random") {
    const count = set.members.length, many = count > 1 ? `${count} ` : "", heads = count > 1 ? "heads" : "head";
    if (name === "random") return `${many || "a "}random ${heads}`;
    // If no head has a role, the run takes the nearest heads, or the strongest.
    if (!data.roles) return `the ${many}strongest ${heads}`;
    return set.members.some((one) => roleOf(numberOf(one)) !== "none") ? `the ${many}${heads} found` : `the ${many}nearest ${heads}`;
  }
  return `head ${name}`;
};

function buttons(id, choices) {
  $(id).replaceChildren(...choices.map(({ text, pressed, disabled, title, change }) => {
    const button = made("button", text);
    button.setAttribute("aria-pressed", String(pressed));
    button.disabled = Boolean(disabled);
    button.title = title ?? "";
    button.onclick = () => turned(change);
    return button;
  }));
}

const biasText = (bias) => (bias === null ? "looks only there" : `+${bias} there, −${bias} elsewhere`);

export async function tellSteer() {
  const { why_not: why, trials } = data.steering;
  if (why) return;
  ready = await prepared(state.steer.trial);
  const gaze = gazeOf(), { at } = ready;
  if (state.steer.place === null) state.steer.place = begun(gaze);
  hovered = null;
  const own = (list) => list.some((one) => one.name === state.head), look = gaze.edit === "look";
  const members = (name) => (at.turned.find((one) => one.name === name)?.members ?? []).join(", ");
  buttons("steer-who", [
    { text: called(at, "found"), pressed: gaze.who === "found", title: members("found"), change: { who: "found" } },
    { text: `head ${state.head}`, pressed: gaze.who === "head", change: { who: "head" },
      disabled: !own(look ? at.turned : at.scaled), title: own(at.turned) ? "" : "not redirected alone in this run; rgb-circuit run --steer redirects eight heads" },
    ...(at.turned.some((one) => one.name === "random")
      ? [{ text: called(at, "random"), pressed: gaze.who === "random", title: members("random"), change: { who: "random" } }] : []),
  ]);
  buttons("steer-edit", [["look", "look"], ["off", "switched off"], ["double", "doubled"]].map(([edit, text]) =>
    ({ text, pressed: gaze.edit === edit, change: { edit } })));
  options($("steer-trial"), trials.map((_, number) => number), state.steer.trial, (number) => trials[number].trial);
  $("steer-pull").hidden = !look;
  $("steer-how").textContent = look ? "Move over the picture; click or tap to stay there." : "Click or tap the picture to make them look there.";
  Object.assign($("steer-bias"), { max: at.biases.length - 1, value: gaze.bias });
  $("steer-bias").setAttribute("aria-valuetext", biasText(at.biases[gaze.bias]));
  $("steer-bias-says").textContent = biasText(at.biases[gaze.bias]);
  const image = $("steer-image"), { uri } = at;
  if (image.src !== uri) image.src = uri;
  image.classList.toggle("smooth", !at.crisp);
  $("steer-picture").style.aspectRatio = `${at.columns} / ${at.rows}`;
  veil(gaze);
  words(at);
  answer();
}

// Veil the places that leave the answer unchanged, so that the deciding ones stand out; and count the
// places that change it, for the turned heads and for random ones.
function veil(gaze) {
  const own = likeliest(gaze.unedited), canvas = $("steer-veil"), { rows, columns } = gaze;
  const other = (name) => Array.from({ length: gaze.places }, (_, place) => {
    const values = asked(gaze, name, gaze.bias, place, "look");
    return values && likeliest(values) !== own;
  });
  const changed = other(gaze.name), count = (name) => other(name).filter(Boolean).length;
  const many = (name) => gaze.turned.find((one) => one.name === name).members.length > 1;
  Object.assign(canvas, { width: columns, height: rows, hidden: gaze.edit !== "look" });
  const context = canvas.getContext("2d");
  context.fillStyle = "#5959598c";
  changed.forEach((one, place) => one || context.fillRect(place % columns, Math.floor(place / columns), 1, 1));
  const random = gaze.turned.some((one) => one.name === "random") && gaze.name !== "random";
  $("steer-says").textContent = gaze.edit !== "look" ? ""
    : gaze.turned.some((one) => one.name === gaze.name)
      ? `Redirected to each of the ${gaze.places} places, ${called(gaze, gaze.name)} change${many(gaze.name) ? "" : "s"} the answer at ${changed.some(Boolean) ? `${count(gaze.name)} (clear here)` : "none"}` +
        `${random ? `; ${called(gaze, "random")} of the same layer${many("random") ? "s" : ""} at ${count("random") || "none"}` : ""}.` : "";
}

// The rows of bars, made once per picture.
function words(at) {
  if ($("steer-words").dataset.shows === String(ready.number)) return;
  $("steer-words").dataset.shows = ready.number;
  $("steer-words").replaceChildren(...at.words.map((word, number) => {
    const row = made("div", "", "bar"), track = made("span", "", "track"), tick = made("i");
    const role = at.roles[number], name = made("span", word, "word");
    if (role) name.append(made("span", ` ${role}`, "quiet"));
    tick.style.left = `${along(at.unedited[number])}%`;
    tick.title = "without an edit";
    track.append(made("b"), tick);
    row.append(name, track, made("span", "", "n"));
    return row;
  }));
}

const along = (value) => 100 * Math.min(1, Math.max(0, (value - ready.least) / (ready.most - ready.least)));

// Show the answer for the current gaze; synchronous, since it follows the cursor.
export function answer() {
  const gaze = gazeOf(), look = gaze.edit === "look", place = hovered ?? gaze.place, { at } = ready;
  const values = asked(gaze, gaze.name, gaze.bias, place, gaze.edit), own = at.words[likeliest(at.unedited)];
  const [row, column] = [Math.floor(place / at.columns), place % at.columns];
  const spot = $("steer-gaze");
  spot.hidden = !look;
  Object.assign(spot.style, { left: `${(100 * column) / at.columns}%`, top: `${(100 * row) / at.rows}%`, width: `${100 / at.columns}%`, height: `${100 / at.rows}%` });
  const doing = look ? `looking at row ${row}, column ${column}` : gaze.edit === "off" ? "switched off" : "doubled";
  const says = $("steer-answer"), who = `With ${called(at, gaze.name)} ${doing}: `;
  if (!values) {
    says.replaceChildren(made("span", `Head ${state.head} was not ${look ? "redirected" : "changed"} alone in this run; rgb-circuit run --steer does this for eight heads.`));
    return;
  }
  const best = at.words[likeliest(values)], aside = [`without an edit: ${own}`];
  const random = gaze.name === "random" ? null : asked(gaze, "random", gaze.bias, place, gaze.edit);
  if (random) aside.push(`${called(at, "random")}: ${at.words[likeliest(random)]}`);
  says.replaceChildren(made("span", who), made("strong", best, best === own ? "" : "other"), made("span", ` (${aside.join("; ")})`, "quiet"));
  const places = decimals(values);
  [...$("steer-words").children].forEach((line, number) => {
    line.classList.toggle("best", at.words[number] === best);
    const [from, to] = [Math.min(0, values[number]), Math.max(0, values[number])].map(along);
    Object.assign(line.querySelector("b").style, { left: `${from}%`, width: `${to - from}%` });
    line.lastChild.textContent = signed(values[number], places).replace("+", "");
  });
}

// The place under a pointer.
function placeAt(event) {
  const box = $("steer-picture").getBoundingClientRect(), { rows, columns } = ready.at;
  const at = (value, from, size, count) => Math.min(count - 1, Math.max(0, Math.floor(((value - from) / size) * count)));
  return at(event.clientY, box.top, box.height, rows) * columns + at(event.clientX, box.left, box.width, columns);
}

// Keep the user's choices in the address.
const turned = (change) => choose({ steer: { ...state.steer, ...change, pinned: true } });

export function connectSteer() {
  const { why_not: why } = data.steering;
  $("steer-none").textContent = why ?? "";
  // Hide it before anything is drawn, since its neighbour's width depends on it.
  $("steer-all").hidden = Boolean(why);
  if (why) return;
  const picture = $("steer-picture");
  picture.onpointermove = (event) => {
    if (!ready || state.steer.edit !== "look") return;
    hovered = placeAt(event);
    answer();
  };
  picture.onpointerleave = () => {
    hovered = null;
    if (ready) answer();
  };
  picture.onclick = (event) => ready && turned({ place: placeAt(event), edit: "look" });
  picture.onkeydown = (event) => {
    const { rows, columns } = ready.at, place = state.steer.place;
    const [down, across] = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key] ?? [0, 0];
    const row = Math.floor(place / columns) + down, column = (place % columns) + across;
    if ((!down && !across) || row < 0 || row >= rows || column < 0 || column >= columns) return;
    event.preventDefault();
    turned({ place: row * columns + column, edit: "look" });
  };
  $("steer-bias").oninput = (event) => turned({ bias: Number(event.target.value) });
  $("steer-trial").onchange = (event) => turned({ trial: Number(event.target.value), place: null });
}
