"""Which of query, key and value heads act on other heads by."""

import pandas as pd
from matplotlib.axes import Axes

from ..heads import Head
from ..stimuli.replicates import counted
from .canvas import BLUE, GREEN, QUIET, VERMILION, brief, literal, model_title, new_axes
from .composition import RECEIVER, SENDER, of_role, route

# In drawing order, from the top.
COLORS = {"query": BLUE, "key": VERMILION, "value": GREEN}


@literal
def path_parts(
    frame: pd.DataFrame, model: str, role: str, *, most: int = 10, ax: Axes | None = None
) -> Axes:
    """One line per pair of heads: the effect of the sender's direct path into the receiver's query,
    key and value, each with its 95 % interval.

    Args:
        frame: from `analyses.composition.paths`.
        model: its name, for the title.
        role: whose logit.
        most: the largest number of pairs to draw, in order of layer and head: those with the
            largest effect.
        ax: the axes to draw on; by default those of a new figure.

    Raises:
        InputError: a role that the frame lacks.
    """
    rows = of_role(frame, role)
    largest = rows["effect"].abs().groupby([rows[name] for name in (*SENDER, *RECEIVER)]).max()
    drawn = sorted(largest.nlargest(most).index)
    ax = ax or new_axes(5.4, 1.3 + 0.42 * len(drawn))
    ax.axvline(0, color=QUIET, linewidth=1, zorder=0)
    for number, (part, color) in enumerate(COLORS.items()):
        here = rows[rows["into"] == part].set_index([*SENDER, *RECEIVER]).loc[drawn]
        heights = [line + 0.22 * (number - 1) for line in range(len(drawn))]
        ax.hlines(heights, here["ci_low"], here["ci_high"], color=color, linewidth=2)
        ax.scatter(here["effect"], heights, s=26, c=color, zorder=3, label=part)
    names = [f"{Head(*pair[:2])} → {Head(*pair[2:])}" for pair in drawn]
    ax.set_yticks(range(len(drawn)), names)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(drawn) - 0.4, -0.6)
    ax.grid(axis="x", alpha=0.3)
    ax.spines[["top", "left", "right"]].set_visible(False)
    ax.legend(title="into the", frameon=False, fontsize=8, title_fontsize=8, loc="best")
    first = rows.iloc[0]
    about = [route(first), model_title(model), f"n = {counted(rows)}"]
    about += [f"{len(drawn)} of {len(largest)} pairs"] if len(drawn) < len(largest) else []
    ax.set_title(" · ".join(about), fontsize=9)
    ax.set_xlabel(f"effect of the direct path on the {brief(role)} logit, 95 % interval")
    return ax
