"""Which heads act through which: a map of all pairs of heads, and a diagram of a few."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path

from ..errors import InputError
from ..heads import Head
from ..stimuli.replicates import counted
from .canvas import (
    BLUE,
    DIVERGING,
    INK,
    PAPER,
    QUIET,
    VERMILION,
    brief,
    limit_of,
    literal,
    model_title,
    new_axes,
)

SENDER, RECEIVER = ["sender_layer", "sender_head"], ["receiver_layer", "receiver_head"]
SHARES = ["share", "share_low", "share_high"]


@literal
def composition_map(frame: pd.DataFrame, model: str, role: str, *, ax: Axes | None = None) -> Axes:
    """Sender × receiver map of the mediated effect on one role's logit.

    A dot marks an interval that excludes zero, if the effect is at least a hundredth of the
    largest.

    Args:
        frame: from `analyses.composition.composition`.
        model: its name, for the title.
        role: whose logit.
        ax: the axes to draw on; by default those of a new figure.

    Raises:
        InputError: a role that the frame lacks.
    """
    rows = of_role(frame, role)
    cells = _cells(rows, rows["mediated_effect"])
    ax = ax or new_axes(max(4.8, 2.4 + 0.45 * cells.shape[1]), max(3, 1.8 + 0.45 * cells.shape[0]))
    limit = limit_of(cells)
    # Rounding alone can differ from zero, in the same direction in every trial.
    clear = ((rows["ci_low"] > 0) | (rows["ci_high"] < 0)) & (
        rows["mediated_effect"].abs() >= limit / 100
    )
    sns.heatmap(
        cells, cmap=DIVERGING, vmin=-limit, vmax=limit, ax=ax, square=True,
        xticklabels=True, yticklabels=True,
        cbar_kws={"label": f"mediated effect on {brief(role)} (logits)", "shrink": 0.8},
    )  # fmt: skip
    for row, column in zip(*(_cells(rows, clear.astype(float)) == 1).to_numpy().nonzero()):
        dark = abs(cells.iat[row, column]) > 0.6 * limit
        ax.plot(column + 0.5, row + 0.5, "o", markersize=3, color="white" if dark else INK)
    first = rows.iloc[0]
    title = f"{route(first)} · {model_title(model)} · n = {first['n']}"
    ax.set(xlabel="receiver (frozen)", ylabel="sender")
    ax.set_title(title, fontsize=10)
    ax.tick_params(axis="y", rotation=0)
    return ax


@literal
def composition_diagram(
    pairs: pd.DataFrame,
    together: pd.DataFrame,
    model: str,
    role: str,
    *,
    least: float = 0.05,
    ax: Axes | None = None,
) -> Axes:
    """Senders → receivers → answer: the share of each sender's effect that runs through each
    receiver, and the share that runs past all of them, with 95 % intervals.

    Shares through several receivers need not add up to one.

    Args:
        pairs: from `analyses.composition.composition`.
        together: from `analyses.composition.mediation`, of the same senders and receivers.
        model: its name, for the title.
        role: whose logit.
        least: the smallest share that gets an arrow; its interval must exclude zero too.
        ax: the axes to draw on; by default those of a new figure.

    Raises:
        InputError: a role that a frame lacks.
    """
    pairs, together = (
        of_role(frame, role).sort_values(SENDER).reset_index(drop=True)
        for frame in (pairs, together)
    )
    receivers = list(pairs.groupby(RECEIVER).groups)
    middle, bottom = (len(receivers) - 1) / 2, len(receivers) - 1
    # Senders that act past the receivers are drawn below them, so that their arrows cross none.
    past = together["share"] < 0.5
    levels = pd.Series(0.0, index=together.index)
    levels[~past] = middle + 1.1 * (np.arange((~past).sum()) - ((~past).sum() - 1) / 2)
    levels[past] = max(bottom, levels[~past].max() if not past.all() else 0) + 1.1 * np.arange(
        1, past.sum() + 1
    )
    top, lowest = min(0, levels.min()), max(bottom, levels.max())
    ax = ax or new_axes(5.4, 1.2 + 0.65 * (lowest - top + 1))

    for level, (_, sender) in zip(levels, together.iterrows()):
        for _, row in pairs[(pairs[SENDER] == sender[SENDER]).all(axis=1)].iterrows():
            if row["share"] >= least and row["share_low"] > 0:
                number = receivers.index(tuple(row[RECEIVER]))
                _arrow(ax, [(0.13, level), (0.87, number)], row["share"], BLUE)
                _note(ax, (0.53, level + 0.54 * (number - level)), *row[SHARES])
        share, high, low = 1 - sender[SHARES]
        if share >= least and low > 0:
            below = level if level > bottom else bottom + 0.6
            _arrow(ax, [(0.13, level), (1.7, below), (1.97, middle + 0.35)], share, VERMILION)
            _note(ax, (0.85, level + 0.49 * (below - level) - 0.05), share, low, high)
        _node(ax, (0, level), str(Head(*sender[SENDER])))
    for number, receiver in enumerate(receivers):
        _arrow(ax, [(1.13, number), (1.72, middle)], 0, QUIET)
        _node(ax, (1, number), str(Head(*receiver)))
    _node(ax, (2, middle), f"{brief(role)}\nlogit")

    ax.set(xlim=(-0.3, 2.35), ylim=(lowest + 0.5, top - 0.9))
    for place, text in enumerate(("restored", "frozen", "answer")):
        ax.text(place, top - 0.75, text, ha="center", fontsize=9, color=QUIET)
    first = together.iloc[0]
    about = f"{route(first)} · {model_title(model)} · n = {counted(together)}"
    ax.set_title(
        f"Share of the effect on the {brief(role)} logit: blue through a head, orange past all "
        f"of them\n{about}",
        fontsize=9,
    )
    ax.set_axis_off()
    return ax


def of_role(frame: pd.DataFrame, role: str) -> pd.DataFrame:
    """The rows of one role; InputError if there are none."""
    rows = frame[frame["role"] == role]
    if rows.empty:
        raise InputError(
            f"the frame has no role {role!r}; use one of {', '.join(frame['role'].unique())}"
        )
    return rows


def route(row: pd.Series) -> str:
    """The ``source`` and ``target`` pictures of a row, as text."""
    return f"{brief(row['source'])} into {brief(row['target'])}"


def _cells(rows, values):
    """Sender × receiver table of ``values``, both in order of layer and head."""
    table = rows[[*SENDER, *RECEIVER]].assign(value=values)
    table = table.pivot(index=SENDER, columns=RECEIVER, values="value")
    table = table.sort_index().sort_index(axis=1)
    return table.set_axis([str(Head(*head)) for head in table.index]).set_axis(
        [str(Head(*head)) for head in table.columns], axis=1
    )


def _arrow(ax, points, share, color):
    path = Path(points, [Path.MOVETO, *[Path.CURVE3] * 2] if len(points) == 3 else None)
    width = 0.8 + 3.2 * min(1, share)
    ax.add_patch(
        FancyArrowPatch(
            path=path, arrowstyle="-|>", mutation_scale=10, linewidth=width, color=color, zorder=1
        )
    )


def _note(ax, place, share, low, high):
    # An interval without width is not written.
    said, low_said, high_said = (f"{value:.0%}" for value in (share, low, high))
    box = dict(facecolor=PAPER, edgecolor="none", pad=1)
    ax.text(
        *place,
        said if low_said == high_said else f"{said} [{low_said}, {high_said}]",
        ha="center",
        va="center",
        fontsize=8,
        bbox=box,
        zorder=2,
    )


def _node(ax, place, text):
    box = dict(boxstyle="round,pad=0.45", facecolor="0.92", edgecolor=QUIET)
    ax.text(*place, text, ha="center", va="center", fontsize=10, color=INK, bbox=box, zorder=3)
