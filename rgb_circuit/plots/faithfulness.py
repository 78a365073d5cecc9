"""The share of the model's behaviour that a growing circuit gives."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ..heads import Head
from ..stimuli.replicates import counted
from .canvas import BLUE, QUIET, VERMILION, brief, literal, model_title, new_axes, write_names

# Wider curves squeeze their first heads, so their axis is logarithmic from here on.
LINEAR_UP_TO = 16


@literal
def faithfulness_curve(frame: pd.DataFrame, model: str, *, ax: Axes | None = None) -> Axes:
    """Faithfulness over circuit size with its interval, and that of random sets; the first heads
    are named if their names fit.

    Args:
        frame: from `analyses.circuit.curve`.
        model: its name, for the title.
        ax: the axes to draw on; by default those of a new figure.
    """
    ax = ax or new_axes(6, 3.8)
    for level in (0, 1):
        ax.axhline(level, color=QUIET, linewidth=1)
    size = frame["size"]
    ax.fill_between(
        size, frame["random_low"], frame["random_high"], color=VERMILION, alpha=0.2, linewidth=0
    )
    ax.plot(
        size,
        frame["random_mean"],
        color=VERMILION,
        linestyle="--",
        label="random heads, mean and central 95 %",
    )
    ax.fill_between(size, frame["ci_low"], frame["ci_high"], color=BLUE, alpha=0.25, linewidth=0)
    ax.plot(
        size,
        frame["faithfulness"],
        color=BLUE,
        marker="o",
        markersize=3,
        label="heads by importance, 95 % interval",
    )
    if size.max() > 4 * LINEAR_UP_TO:
        ax.set_xscale("symlog", linthresh=LINEAR_UP_TO, base=2)
        ticks = [0, 4, 8, *(2**power for power in range(4, int(np.log2(size.max())) + 1))]
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    first = frame.iloc[0]
    against = f"{brief(first['source'])} against {brief(first['target'])}"
    ax.set_title(f"{against} · {model_title(model)} · n = {counted(frame)}", fontsize=10)
    ax.set(xlabel="heads in the circuit", ylabel="faithfulness (restored fraction)")
    ax.spines[["top", "right"]].set_visible(False)
    # Below the axes, since bands and curve may be anywhere within.
    ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    first = frame.iloc[1:7].itertuples()
    write_names(
        ax,
        [
            (str(Head(row.layer, row.head)), (row.size, row.faithfulness), "black", [(4, -10)])
            for row in first
        ],
    )
    return ax
