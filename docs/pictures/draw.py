"""Draw the pictures of README.md and of these pages: python docs/pictures/draw.py

Half a minute on one core. `photograph.py` makes the photographs of pages.
"""

from pathlib import Path

from matplotlib.figure import Figure

import rgb_circuit as rgb
from analyses.rgb import riddle
from rgb_circuit.plots import effect_forest, knockout_lines, layer_heatmaps, panel_heatmaps
from rgb_circuit.stimuli.tasks.rgb import EXPECTED, ODD_QUESTION

HERE = Path(__file__).parent
TILES = 6
SHOWS = {
    "clean": "one odd tile",
    "recolored": "the tile in another colour",
    "erased": "no odd tile",
    "swapped": "another plain canvas",
    "moved": "the odd tile elsewhere",
}


def conditions() -> Figure:
    """One trial's five pictures, what each shows, the right answer to it, and the role that this
    word has."""
    trial = rgb.rgb_trial(tile=(1, 2), grid=TILES, tile_px=40)
    figure = Figure(figsize=(11, 3.9))
    figure.subplots_adjust(left=0.01, right=0.99, top=0.8, bottom=0.25, wspace=0.12)
    for ax, (condition, shows) in zip(figure.subplots(1, len(SHOWS)), SHOWS.items()):
        ax.imshow(trial.images[condition], extent=(0, TILES, TILES, 0))
        ax.set_xticks(range(TILES + 1), [])
        ax.set_yticks(range(TILES + 1), [])
        ax.grid(color="gray", alpha=0.6, linewidth=0.6)
        ax.tick_params(length=0)
        ax.set_title(condition, fontsize=13, fontweight="bold")
        role = EXPECTED[condition]
        ax.set_xlabel(f"{shows}\nright: “{trial.answers[role]}” ({role})", fontsize=11, labelpad=6)
    figure.text(0.5, 0.93, f"“{ODD_QUESTION}”", ha="center", fontsize=13)
    figure.text(
        0.5,
        0.02,
        "Run a changed picture, put in what one head did on the clean one, and read which word "
        "rises.",
        ha="center",
        fontsize=11,
        color="0.3",
    )
    return figure


def panels_of(name: str) -> Figure:
    """What each head of a shipped model restores, in the three panels of the original note."""
    model = rgb.load(name)
    frame = rgb.patch_heads(model, rgb.rgb_trials(model, n=32), progress=False)
    return panel_heatmaps(frame, model.name)


def riddle_of(name: str) -> Figure:
    """What tells apart the heads that raise the background."""
    model = rgb.load(name)
    frame = riddle.riddle(model, rgb.rgb_trials(model, n=32), progress=False)
    return effect_forest(frame, model.name, group="verdict").figure


def knockout_of(name: str) -> Figure:
    """What the odd word loses where the last token is kept from looking."""
    model = rgb.load(name)
    trials = rgb.rgb_trials(model, n=16)
    frame = rgb.knockout(
        model, trials, queries="end", keys=["tile", "rest", "question", "first"], progress=False
    )
    return knockout_lines(frame, model.name).figure


def layers_of(name: str) -> Figure:
    """Where in the prompt, and at which layer, lies what the odd word needs."""
    model = rgb.load(name)
    return layer_heatmaps(
        rgb.patch_layers(model, rgb.rgb_trials(model, n=16), progress=False), model.name
    )


if __name__ == "__main__":
    for file, figure in {
        "conditions": conditions(),
        "planted_panels": panels_of("planted"),
        "toy_panels": panels_of("toy"),
        "riddle": riddle_of("planted"),
        "knockout": knockout_of("planted"),
        "layers": layers_of("planted"),
    }.items():
        figure.savefig(HERE / f"{file}.png", dpi=120)
