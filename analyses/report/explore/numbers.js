// Numbers as text: three digits, and no more than are meaningful.

import { data } from "./state.js";

// Negligible values: a hundredth of a per cent, and logits far below any effect that counts.
const NO_SHARE = 0.01, NO_EFFECT = 0.001;

export function decimals(values) {
  const largest = Math.max(0, ...values.filter(Number.isFinite).map(Math.abs));
  if (largest < 1e-12) return 0;
  return Math.min(6, Math.max(0, 2 - Math.floor(Math.log10(largest))));
}

export function signed(value, places) {
  if (value === null || !Number.isFinite(value)) return "–";
  const text = value.toFixed(places);
  if (Number(text) === 0) return "0";
  return value > 0 ? `+${text}` : text.replace("-", "−");
}

// A mean with its interval, if that has a width; `unit` is "" (logits) or " %".
export function measured(value, low, high, unit = "") {
  if (value === null) return "–";
  const [a, b, c] = [value, low, high].map((one) => (one === null ? NaN : one * (unit ? 100 : 1)));
  const size = Math.max(...[a, b, c].filter(Number.isFinite).map(Math.abs));
  if (size === 0) return "0";
  if (size < (unit ? NO_SHARE : Math.max(NO_EFFECT, data.floor ?? 0))) return "≈ 0";
  const places = decimals([a, b, c]), [mean, from, to] = [a, b, c].map((one) => signed(one, places));
  return from === to ? mean + unit : `${mean}${unit} [${from}, ${to}]`;
}

export function share(value) {
  if (value === null) return "–";
  const percent = 100 * value;
  if (percent > 0 && percent < NO_SHARE) return "≈ 0";
  return `${percent >= 10 ? percent.toFixed(0) : percent >= 0.95 ? percent.toFixed(1) : percent.toPrecision(1)} %`;
}

// A user's name, short enough for a button: a long one keeps its beginning and its end.
export const brief = (name) => (name.length <= 28 ? name : `${name.slice(0, 18).trimEnd()}…${name.slice(-9).trimStart()}`);

export const times = (value) => (value >= 9.95 ? Math.round(value).toLocaleString("en") : value.toPrecision(2));
