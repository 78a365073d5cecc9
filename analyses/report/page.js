// Unfold the section that a link leads to, and all of them on paper; give strips a slider. The page works without.

// A link to a head leads to the section on all heads.
const sectionOf = (hash) => document.getElementById(hash.startsWith("#head=") ? "heads" : hash.slice(1));

function unfold(hash) {
  const section = hash && sectionOf(hash), folded = section && section.querySelector(":scope > details");
  if (folded) folded.open = true;
  return section;
}

addEventListener("click", (event) => {
  const link = event.target.closest("header a");
  const hash = link && link.getAttribute("href");
  if (hash && hash.startsWith("#")) {
    const section = unfold(hash);
    if (section && hash.startsWith("#head=")) section.scrollIntoView();
  }
});
addEventListener("hashchange", () => unfold(location.hash));
unfold(location.hash);

let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const one of folded) one.open = true;
});
addEventListener("afterprint", () => {
  for (const one of folded) one.open = false;
});

for (const strip of document.querySelectorAll(".strip")) {
  const slider = document.createElement("input");
  Object.assign(slider, { type: "range", className: "slide", min: 0, max: 1000, value: 0 });
  slider.setAttribute("aria-label", strip.getAttribute("aria-label"));
  const room = () => strip.scrollWidth - strip.clientWidth;
  slider.addEventListener("input", () => {
    strip.style.scrollSnapType = "none";
    strip.scrollLeft = (room() * slider.value) / 1000;
  });
  strip.addEventListener("scroll", () => {
    if (document.activeElement !== slider) slider.value = (1000 * strip.scrollLeft) / Math.max(1, room());
  });
  strip.before(slider);
  new ResizeObserver(() => { slider.hidden = room() < 2; }).observe(strip);
}
