// What the page shows: the run's numbers, and one state (head, map, picture, what is faded).

export let data, state, theme;

// What there is to show comes packed from explorer.py, once; a state is chosen anew.
export function hold(content) {
  data = content;
}

export function begin(chosen) {
  state = chosen;
}

export function color(name) {
  theme = name;
}
