"""How much the answer loses when attention is knocked out, layer by layer."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ..statistics import mean_over_trials
from .canvas import QUIET, brief, literal, model_title, new_axes

# Okabe and Ito's, ordered so that neighbours differ in lightness too; further lines are dashed.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
DASHES = ("-", "--", ":")


@literal
def knockout_lines(
    frame: pd.DataFrame, model: str, *, role: str | None = None, ax: Axes | None = None
) -> Axes:
    """Effect on one answer's logit over the window's first layer, one line with its 95 % interval
    per knocked-out flow.

    Args:
        frame: from `rgb_circuit.knockout`.
        model: its name, for the title.
        role: whose logit; the first of the frame by default.
        ax: the axes to draw on; by default those of a new figure.
    """
    role = frame["role"].iloc[0] if role is None else role
    table = mean_over_trials(frame[frame["role"] == role], ["queries", "keys", "layer"])
    # The legend goes below the axes, two flows per line.
    flows = len(table[["queries", "keys"]].drop_duplicates())
    ax = ax or new_axes(6.4, 3.4 + 0.2 * max(3, flows // 2))
    ax.axhline(0, color=QUIET, linewidth=1)
    for number, ((queries, keys), line) in enumerate(
        table.groupby(["queries", "keys"], sort=False)
    ):
        color, dash = COLORS[number % len(COLORS)], DASHES[number // len(COLORS) % len(DASHES)]
        ax.fill_between(
            line["layer"], line["ci_low"], line["ci_high"], color=color, alpha=0.2, linewidth=0
        )
        ax.plot(
            line["layer"],
            line["effect"],
            dash,
            color=color,
            marker="o",
            markersize=3,
            label=f"{queries} does not see {keys}",
        )
    window, n = frame["window"].iloc[0], frame["trial"].nunique()
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(
        xlabel="layer" if window == 1 else f"first of {window} layers",
        ylabel=f"effect on the {brief(role)} logit",
    )
    condition = brief(frame["condition"].iloc[0])
    ax.set_title(
        f"Attention knocked out, {condition} picture · {model_title(model)} · n = {n}", size=10
    )
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    return ax
