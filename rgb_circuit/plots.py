"""Figures: frame in, Axes out."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from .panels import PANELS, panels

# Red to blue through white: told apart with every common kind of colour blindness.
DIVERGING = "RdBu_r"


def head_heatmap(table: pd.DataFrame, column: str, *, label: int = 3, ax: Axes | None = None) -> Axes:
    """A layer × head map of one number per head, diverging and centred on zero.

    Args:
        table: ``layer, head`` and ``column``, a row per head.
        label: how many of the largest cells are labelled ``layer.head``.
        ax: where to draw; a new figure's by default.
    """
    ax = ax or _axes(5, 4.5)
    cells = table.pivot(index="layer", columns="head", values=column)
    limit = float(np.abs(cells.to_numpy()).max()) or 1.0
    ticks = 1 if cells.size <= 256 else 4
    sns.heatmap(
        cells, cmap=DIVERGING, vmin=-limit, vmax=limit, ax=ax, square=True, xticklabels=ticks, yticklabels=ticks,
        cbar_kws={"label": "effect (logits)", "shrink": 0.8},
    )  # fmt: skip
    largest = table.loc[table[column].abs().nlargest(label).index]
    for layer, head, value in largest[["layer", "head", column]].itertuples(index=False):
        _label_cell(ax, layer, head, inside=cells.size <= 256, dark=abs(value) > 0.6 * limit)
    ax.set(xlabel="head", ylabel="layer", title=column)
    ax.tick_params(rotation=0)
    return ax


def panel_heatmaps(frame: pd.DataFrame, model: str, which: Mapping[str, tuple[str, str]] = PANELS) -> Figure:
    """A `head_heatmap` per panel, three in a row, from a `patch_heads` frame; by default the seed's three.

    Args:
        which: panel → (target condition, role whose logit is read).
    """
    table = panels(frame, which)
    columns = min(3, len(which))
    rows = -(-len(which) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(5 * columns, 4.8 * rows), layout="constrained", squeeze=False)
    for (panel, (target, role)), ax in zip(which.items(), axes.flat):
        head_heatmap(table, panel, ax=ax)
        ax.set_title(f"{role} logit, {target} picture")
    for ax in axes.flat[len(which) :]:
        ax.remove()
    n, source, positions = frame["trial"].nunique(), frame["source"].iloc[0], frame["positions"].iloc[0]
    parts = [f"One head restored from {source}, positions: {positions}", model, f"mean of {n} trial{'s' * (n > 1)}"]
    # A single column is too narrow for the title on one line.
    figure.suptitle(("\n" if columns == 1 else " · ").join(parts))
    return figure


def attention_over_picture(pattern: np.ndarray, image: Image.Image, *, ax: Axes | None = None) -> Axes:
    """A picture veiled in grey where a head does not look.

    The veil is fully lifted at four times the attention that an even spread would give a tile, or at the most looked-at
    tile if that is more: a head that hardly looks at the picture leaves it grey.

    Args:
        pattern: attention probabilities of the image tokens, (rows, columns).
        image: the picture that was shown.
    """
    ax = ax or _axes(3.2, 3.2)
    width, height = image.size
    ax.imshow(image, extent=(0, width, height, 0), interpolation="nearest")
    veil = np.full((*pattern.shape, 4), 0.35)
    veil[..., 3] = 0.85 * (1 - pattern / max(float(pattern.max()), 4 / pattern.size))
    ax.imshow(veil, extent=(0, width, height, 0), interpolation="nearest")
    row, column = np.unravel_index(int(pattern.argmax()), pattern.shape)
    ax.set_xticks([]), ax.set_yticks([])
    ax.set_xlabel(f"{pattern.sum():.0%} on the picture,\nmost at {row},{column} ({pattern.max():.0%})")
    return ax


def _label_cell(ax, layer, head, inside, dark):
    text = f"{layer}.{head}"
    if inside:
        ax.text(head + 0.5, layer + 0.5, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    else:
        ax.annotate(text, (head + 0.5, layer + 0.5), (5, 5), textcoords="offset points", fontsize=8)


def _axes(width, height):
    return plt.figure(figsize=(width, height), layout="constrained").add_subplot()
