// What the page shows: the run's numbers, and one state (head, map, picture, what is faded).

export let data, state, theme;

// The data comes packed from explorer.py, once; the state changes with every choice.
export function hold(content) {
  data = content;
}

export function begin(chosen) {
  state = chosen;
}

export function color(name) {
  theme = name;
}
