"""How often verdicts are right, over noise and over the number of trials."""

from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .canvas import BLUE, GREEN, PURPLE, VERMILION, new_axes, new_figure

LOOKS = ((BLUE, "o"), (PURPLE, "D"), (VERMILION, "s"), (GREEN, "^"))


def precision_recall(
    table: pd.DataFrame, role: str, measure: str, *, ax: Axes | None = None
) -> Axes:
    """Precision or recall of one role over noise, one line per reading, with 95 % intervals.

    Args:
        table: from `analyses.calibrate.summary`.
        role: one of the table's.
        measure: ``"precision"`` or ``"recall"``.
        ax: the axes to draw on; by default those of a new figure.
    """
    ax = ax or new_axes(4.5, 3.4)
    readings = table["reading"].unique()
    step = 0.016 * table["noise"].max()
    for number, (reading, (color, marker)) in enumerate(zip(readings, cycle(LOOKS))):
        part = table[(table["reading"] == reading) & (table["role"] == role)].sort_values("noise")
        errors = [part[measure] - part[f"{measure}_low"], part[f"{measure}_high"] - part[measure]]
        # Shift the readings sideways, so that their intervals do not cover each other.
        place = part["noise"] + step * (number - (len(readings) - 1) / 2)
        ax.errorbar(
            place,
            part[measure],
            np.clip(errors, 0, None),
            color=color,
            marker=marker,
            capsize=2,
            label=reading,
        )
    ax.set(ylim=(-0.05, 1.05), xlabel="noise (fraction of the gap)", ylabel=measure, title=role)
    ax.grid(alpha=0.3)
    return ax


def precision_recall_panels(table: pd.DataFrame) -> Figure:
    """`precision_recall` of every role, precision above recall."""
    # A role that no head in these models has, has no recall.
    names = table.loc[table["recall"].notna(), "role"].unique()
    figure = new_figure(4 * len(names), 6)
    axes = figure.subplots(2, len(names), sharex=True, sharey=True, squeeze=False)
    for column, role in enumerate(names):
        for row, measure in enumerate(("precision", "recall")):
            precision_recall(table, role, measure, ax=axes[row, column])
            axes[row, column].label_outer()
        axes[1, column].set_title("")
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=len(handles[1]), frameon=False)
    figure.suptitle(
        f"Verdicts on planted circuits, {table['models'].max()} models per level of noise, 95 % "
        f"intervals over heads ({_testable(table[table['reading'] == table['reading'].iloc[0]])})"
    )
    return figure


def _testable(table):
    return f"of {table['true'].sum()}, {table['testable'].sum()} testable"


def recall_over_trials(table: pd.DataFrame) -> Figure:
    """Recall of every role over the number of trials, one line per kind of model, with 95 %
    intervals.

    Args:
        table: from `analyses.calibrate.by_trials` or `analyses.calibrate.by_evenness`.
    """
    names = table.loc[table["recall"].notna(), "role"].unique()
    # Wide enough for the title over one panel.
    figure = new_figure(max(7.5, 4 * len(names)), 3.6)
    axes = figure.subplots(1, len(names), sharex=True, sharey=True, squeeze=False)[0]
    sizes = sorted(table["trials"].unique())
    kinds = [kind for kind in table["like"].unique() if kind != "all"]
    looks = {
        kind: (color, marker) for kind, (color, _), marker in zip(kinds, cycle(LOOKS), "oDs^vP*X<>")
    }
    for ax, role in zip(axes, names):
        for number, kind in enumerate(kinds):
            part = table[
                (table["role"] == role) & (table["like"] == kind) & table["recall"].notna()
            ]
            if part.empty:
                continue
            color, marker = looks[kind]
            errors = [part["recall"] - part["recall_low"], part["recall_high"] - part["recall"]]
            place = part["trials"].map(sizes.index) + 0.06 * (number - (len(kinds) - 1) / 2)
            ax.errorbar(
                place,
                part["recall"],
                np.clip(errors, 0, None),
                color=color,
                marker=marker,
                capsize=2,
                label=kind,
            )
        ax.set(ylim=(-0.05, 1.05), xlabel="trials", title=role)
        ax.set_xticks(range(len(sizes)), sizes)
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("recall")
    shown = {label: line for ax in axes for line, label in zip(*ax.get_legend_handles_labels())}
    figure.legend(
        shown.values(), shown.keys(), loc="outside lower center", ncols=len(shown), frameon=False
    )
    figure.suptitle(
        f"Recall of roles, {table.loc[table['like'] != 'all', 'models'].max()} models of each "
        f"kind, 95 % intervals over heads ({_testable(table[table['like'] != 'all'])})"
    )
    return figure
