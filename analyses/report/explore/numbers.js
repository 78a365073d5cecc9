// Numbers as text.

export function decimals(values) {
  const largest = Math.max(0, ...values.filter(Number.isFinite).map(Math.abs));
  if (largest < 1e-12) return 0;
  const exponent = Math.floor(Math.log10(largest));
  return exponent < 0 ? Math.min(8, 1 - exponent) : Math.min(2, Math.max(0, 2 - exponent));
}

export function signed(value, places) {
  if (value === null || !Number.isFinite(value)) return "–";
  const text = value.toFixed(places);
  if (Number(text) === 0) return "0";
  return value > 0 ? `+${text}` : text.replace("-", "−");
}

// A mean with its interval; `unit` is "" or " %".
export function measured(value, low, high, unit = "") {
  if (value === null) return "–";
  const scale = unit ? 100 : 1;
  const [a, b, c] = [value, low, high].map((one) => (one === null ? NaN : one * scale));
  const places = decimals([a, b, c]);
  const mean = signed(a, places) + unit;
  if (!Number.isFinite(b)) return mean;
  return a === 0 && b === 0 && c === 0 ? "0" : `${mean} [${signed(b, places)}, ${signed(c, places)}]`;
}

export function share(value) {
  if (value === null) return "–";
  const percent = 100 * value;
  return `${percent >= 10 ? percent.toFixed(0) : percent >= 0.95 ? percent.toFixed(1) : percent.toPrecision(1)} %`;
}

// A user's name as a button has room for it: of a long one the beginning and the end.
export const brief = (name) => (name.length <= 28 ? name : `${name.slice(0, 18).trimEnd()}…${name.slice(-9).trimStart()}`);

export const times = (value) => (value >= 9.95 ? Math.round(value).toLocaleString("en") : value.toPrecision(2));
