"""One number per head, as a map of layers and heads."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..panels import PANELS, panels
from .canvas import DIVERGING, INK, head_name, new_axes, write_names

# Maps with more cells than this have no room to write in a cell.
ROOMY = 256


def head_heatmap(table: pd.DataFrame, column: str, *, label: int = 3, ax: Axes | None = None) -> Axes:
    """A layer × head map of one number per head, diverging and centred on zero.

    Args:
        table: ``layer, head`` and ``column`` (logits), a row per head.
        label: how many of the largest cells are labelled ``layer.head``, as far as they are a twentieth of
            the largest.
        ax: where to draw; a new figure's by default.
    """
    ax = ax or new_axes(5, 4.5)
    cells = table.pivot(index="layer", columns="head", values=column)
    limit = float(np.abs(cells.to_numpy()).max()) or 1.0
    roomy = cells.size <= ROOMY
    ticks = 1 if roomy else 4
    sns.heatmap(
        cells, cmap=DIVERGING, vmin=-limit, vmax=limit, ax=ax, square=True,
        xticklabels=ticks, yticklabels=ticks,
        cbar_kws={"label": "effect (logits)", "shrink": 0.8},
    )  # fmt: skip
    size = table[column].abs()
    largest = table.loc[size[size >= limit / 20].nlargest(label).index]
    ax.set(xlabel="head", ylabel="layer", title=column)
    ax.tick_params(rotation=0)
    names = []
    for layer, head, value in largest[["layer", "head", column]].itertuples(index=False):
        place = cells.columns.get_loc(head) + 0.5, cells.index.get_loc(layer) + 0.5
        if roomy:
            color = "white" if abs(value) > 0.6 * limit else INK
            ax.text(*place, head_name(layer, head), ha="center", va="center", fontsize=7, color=color)
        else:
            # Upwards and towards the middle, but so that no label leaves the map.
            x = 5 if place[0] < cells.shape[1] / 2 else -5
            ys = (5, 14, 23, 32) if place[1] > cells.shape[0] / 8 else (-10, -19, -28, -37)
            names.append((head_name(layer, head), place, INK, [(x, y) for y in ys]))
    write_names(ax, names)
    return ax


def panel_heatmaps(frame: pd.DataFrame, model: str, which: Mapping[str, tuple[str, str]] = PANELS) -> Figure:
    """A `head_heatmap` per panel, three in a row, from a `patch_heads` frame; by default the seed's three.

    Args:
        which: panel → (target condition, role whose logit is read).
    """
    table = panels(frame, which)
    columns = min(3, len(which))
    rows = -(-len(which) // columns)
    figure = Figure(figsize=(5 * columns, 4.8 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for (panel, (target, role)), ax in zip(which.items(), axes.flat):
        head_heatmap(table, panel, ax=ax)
        ax.set_title(f"{role} logit, {target} picture")
    for ax in axes.flat[len(which) :]:
        ax.remove()
    n, source, positions = frame["trial"].nunique(), frame["source"].iloc[0], frame["positions"].iloc[0]
    parts = [
        f"One head restored from {source}, positions: {positions}{_estimated(frame)}",
        model,
        f"mean of {n} trial{'s' * (n > 1)}",
    ]
    # A single column is too narrow for the title on one line.
    figure.suptitle(("\n" if columns == 1 else " · ").join(parts))
    return figure


def _estimated(frame):
    return f" (estimated, {frame['method'].iloc[0]})" if "method" in frame else ""
