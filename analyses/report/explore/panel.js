// The panel of one head: it comes into view when a head is chosen, on a phone as a sheet.

import { $ } from "./elements.js";
import { state } from "./state.js";
import { choose } from "./address.js";

const phone = matchMedia("(max-width: 40rem)");

export function chooseHead(name) {
  choose({ head: name });
  reveal();
}

// Bring the panel into view if the head was chosen far from it.
function reveal() {
  const panel = $("explore-panel"), box = panel.getBoundingClientRect();
  if (phone.matches) {
    // Keep the panel's room on the page, so that the page does not move below the sheet.
    if (!panel.classList.contains("sheet")) panel.parentElement.style.paddingBottom = `${box.height}px`;
    panel.classList.add("sheet");
    panel.scrollTop = 0;
    return $("explore-close").focus({ preventScroll: true });
  }
  if (box.top < 0 || box.top > 0.6 * innerHeight) panel.scrollIntoView({ block: "start" });
}

export function closeSheet() {
  $("explore-panel").classList.remove("sheet");
  $("explore-panel").parentElement.style.paddingBottom = "";
}

export function connectPanel() {
  $("explore-close").onclick = closeSheet;
  $("explore-more").onclick = () => chooseHead(state.head);
  phone.addEventListener("change", closeSheet);
  addEventListener("keydown", (event) => event.key === "Escape" && closeSheet());
}
