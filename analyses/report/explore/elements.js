// Elements of the page, and the data packed in them.

export const $ = (id) => document.getElementById(id);

export async function unpacked(id) {
  const bytes = Uint8Array.from(atob($(id).textContent.trim()), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

export const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// On a phone, some of a head's cards are only in its sheet.
export const isSeen = (id) => $(id).closest(".card").offsetParent !== null;

export const room = (id) => Math.max(140, Math.floor($(id).clientWidth));

export function made(tag, text = "", kind = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

export function options(select, values, chosen, words = (value) => value) {
  select.replaceChildren(...values.map((value) => {
    const option = made("option", words(value));
    option.value = value;
    option.selected = value === chosen;
    return option;
  }));
  select.disabled = values.length < 2;
}
