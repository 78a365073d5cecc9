"""The same heads in several tasks: their effects, how far these agree, and which task's circuit is
enough for which."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..heads import Head
from .canvas import DIVERGING, FADED, brief, limit_of, literal, model_title, new_figure, percent

# The largest number of heads drawn, and the smallest share of the gap written.
MOST, LEAST_SAID = 16, 1e-4


@literal
def transfer_maps(
    heads: pd.DataFrame, pairs: pd.DataFrame, sets: pd.DataFrame, model: str, *, most: int = MOST
) -> Figure:
    """Three maps: head × sample, with effects; sample × sample, with correlations over heads; and
    found on × tested on, with the share of the gap that a set of heads alone restores.

    Grey are heads that are not shown to raise the answer, and values that cannot be told. Next to a
    correlation without the noise of single trials is its ceiling, the largest correlation that such
    noise leaves.

    Args:
        heads, pairs, sets: of `analyses.transfer.Transfer`.
        model: its name, for the title.
        most: the largest number of heads to draw: those with the largest effects in any sample.
    """
    samples = list(heads["sample"].unique())
    figure = new_figure(5.2 + 2.1 * len(samples), max(3.4, 1.6 + 0.3 * min(most, _n_heads(heads))))
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1.15, 1])
    _effects(heads, samples, most, left)
    _correlations(pairs, samples, middle)
    _sufficiency(sets, samples, right)
    trials = sorted({int(n) for n in heads["n"]})
    figure.suptitle(
        f"{model_title(model)} · n = {' or '.join(map(str, trials))} trials a sample", fontsize=10
    )
    return figure


def _n_heads(heads):
    return len(heads[["layer", "head"]].drop_duplicates())


def _effects(heads, samples, most, ax):
    named = heads.assign(name=[str(Head(*head)) for head in zip(heads["layer"], heads["head"])])
    cells = named.pivot(index="name", columns="sample", values="effect")[samples]
    largest = cells.abs().max(axis=1).nlargest(most).index
    order = [name for name in dict.fromkeys(named["name"]) if name in largest]
    shown = (
        named.pivot(index="name", columns="sample", values="shown")[samples].loc[order].astype(bool)
    )
    cells = cells.loc[order]
    _map(cells, cells.map(_share), ax, limit_of(cells), ~shown.to_numpy())
    ax.set_title(
        "one head restored alone, share of the gap\n(grey: not shown to raise the answer)",
        fontsize=9,
    )


def _correlations(pairs, samples, ax):
    cells = pd.DataFrame(np.nan, index=samples, columns=samples)
    words = pd.DataFrame("", index=samples, columns=samples)
    for row in pairs.itertuples():
        text = (
            row.void or f"{row.corrected:.2f}"
            if np.isfinite(row.corrected) or row.void
            else "noise"
        )
        for name, other_name in ((row.one, row.other), (row.other, row.one)):
            cells.loc[name, other_name] = row.corrected
            words.loc[name, other_name] = (
                text if row.void else f"{text}\nr {row.correlation:.2f} ≤ {row.ceiling:.2f}"
            ).replace("-", "−")
    _map(cells, words, ax, 1.0, cells.isna().to_numpy())
    _square(ax)
    ax.set_title("correlation over heads, without noise\n(r as measured ≤ its ceiling)", fontsize=9)


def _sufficiency(sets, samples, ax):
    rows = sets[sets["test"] == "sufficiency"]
    cells = rows.pivot(index="found_on", columns="tested_on", values="faithfulness").loc[
        samples, samples
    ]
    voids = rows.pivot(index="found_on", columns="tested_on", values="void").loc[samples, samples]
    beyond = (
        rows.pivot(index="found_on", columns="tested_on", values="q_value").loc[samples, samples]
        <= 0.05
    )
    words = cells.map(_share).where(voids == "", voids) + beyond.map(
        lambda more: " •" if more else ""
    )
    _map(cells, words, ax, max(1.0, limit_of(cells)), cells.isna().to_numpy())
    sizes = rows.drop_duplicates("found_on").set_index("found_on")["size"]
    ax.set_yticklabels([f"{brief(name, 16)} ({sizes[name]})" for name in samples], rotation=0)
    ax.set_ylabel("found on (heads)", fontsize=8)
    ax.set_xlabel("tested on", fontsize=8)
    _square(ax)
    ax.set_title(
        "share of the gap that the set alone restores\n(dot: more than random sets)", fontsize=9
    )


def _share(value):
    """A share of the gap as text; less than a ten-thousandth is written as none."""
    return "≈ 0" if 0 < abs(value) < LEAST_SAID else percent(value)


def _square(ax):
    """Keep a map of few cells at the top of its place, however many heads the map next to it
    has."""
    ax.set_box_aspect(1)
    ax.set_anchor("N")


def _map(
    cells: pd.DataFrame, words: pd.DataFrame, ax: Axes, limit: float, faded: np.ndarray
) -> None:
    sns.heatmap(
        cells, annot=words.to_numpy(), fmt="", annot_kws={"fontsize": 7}, cmap=DIVERGING,
        vmin=-limit, vmax=limit, cbar=False, mask=faded, ax=ax, xticklabels=True, yticklabels=True,
    )  # fmt: skip
    # seaborn gives masked cells neither colour nor annotation.
    for row, column in zip(*faded.nonzero()):
        ax.add_patch(Rectangle((column, row), 1, 1, facecolor=FADED))
        ax.text(
            column + 0.5, row + 0.5, words.iat[row, column], ha="center", va="center", fontsize=7
        )
    ax.set_xticklabels([brief(name, 16) for name in cells.columns], rotation=30, ha="right")
    ax.set_yticklabels([brief(name, 16) for name in cells.index], rotation=0)
    ax.set_xlabel("")
    ax.set_ylabel("")
    ax.tick_params(length=0, labelsize=8)
