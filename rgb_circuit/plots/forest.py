"""Effects with their intervals, one below the other."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ..errors import InputError
from ..heads import Head, rows_of
from ..stimuli.replicates import counted
from ..stimuli.tasks import find
from .canvas import BLUE, PAPER, QUIET, VERMILION, literal, model_title, new_axes
from .predictions import in_words, legend

NEEDED = (
    "layer", "head", "prediction", "expected", "effect", "ci_low", "ci_high", "restored_fraction",
    "n",
    "holds",
)  # fmt: skip
# State → colour, marker, and whether it is filled: three ways to tell states apart.
LOOKS = {
    "holds": (BLUE, "o", True),
    "refuted": (VERMILION, "s", False),
    "undecided": ("0.45", "D", False),
}


@literal
def effect_forest(
    evidence: pd.DataFrame,
    model: str,
    *,
    group: str | None = None,
    roles: pd.DataFrame | None = None,
    most: int = 8,
    says: Mapping[str, str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The effect of restoring each head, one line per prediction: effect and 95 % interval, filled
    if the prediction holds. Below the axes, each prediction is given in plain words
    (`predictions`).

    Effects are drawn as fractions of the gap, so that words and pictures can be compared. A
    prediction of several claims shows the effect of its first claim, and so does its line, but is
    filled only if all of them hold. A prediction without an effect could not be tested; one without
    a restored fraction has no gap.

    Args:
        evidence: a row per head × prediction: ``layer, head, prediction, expected, effect, ci_low,
            ci_high, restored_fraction, n, holds``, as `analyses.roles.evidence` or
            `analyses.rgb.riddle.table` return it; leave out rows that should not be drawn. A
            column ``state`` tells refuted and undecided predictions apart.
        model: its name, for the title.
        group: a column that says what each head is, such as ``"verdict"``; written next to its
            name.
        roles: ``layer, head, role``, as `analyses.roles.roles` or `analyses.roles.table` return
            it: heads are drawn role by role, with their roles next to their names, and heads
            without a role only if no head has one.
        most: the largest number of heads to draw: those with the largest effect on anything.
        says: prediction → plain words; by default those of the RGB game.
        ax: the axes to draw on; by default those of a new figure.

    Raises:
        InputError: a missing column.
    """
    if roles is not None:
        evidence, group = _by_role(evidence, roles), "role"
    _check(evidence, group)
    names = ["layer", "head"]
    every = evidence[names].drop_duplicates()
    size = (
        evidence["restored_fraction"]
        .abs()
        .groupby([evidence[name] for name in names])
        .max()
        .fillna(0)
    )
    largest = size.nlargest(most).index
    drawn = [head for head in every.itertuples(index=False, name=None) if head in largest]
    lines = _lines(evidence, drawn, group)
    says = find("rgb").says_of_predictions if says is None else says
    said = legend((row.prediction for _, row in lines if row is not None), says)
    ax = ax or new_axes(
        5.8, 1.5 + 0.21 * max(1, len(lines)) + 0.14 * (said.count("\n") + bool(said))
    )
    ax.axvline(0, color=QUIET, linewidth=1, zorder=0)
    states = {}
    for height, (_, row) in enumerate(lines):
        if row is None:
            continue
        if pd.isna(row.restored_fraction):
            why = "could not be tested" if pd.isna(row.effect) else "no gap"
            ax.annotate(
                why, (0, height), (4, 0), textcoords="offset points", va="center", fontsize=7
            )
            continue
        # Effect and interval are in the same unit; the gap is their common factor.
        scale = row.restored_fraction / row.effect if row.effect else 0
        state = "holds" if row.holds else getattr(row, "state", "refuted")
        color, marker, filled = LOOKS[state]
        ax.hlines(height, row.ci_low * scale, row.ci_high * scale, color=color, linewidth=2)
        ax.scatter(
            row.restored_fraction, height, s=30, c=color if filled else PAPER, marker=marker,
            edgecolors=color, zorder=3,
        )  # fmt: skip
        states[state if "state" in evidence or row.holds else "does not hold"] = LOOKS[state]
    ax.set_yticks(range(len(lines)), [text for text, _ in lines])
    ax.tick_params(axis="y", length=0)
    for tick, (_, row) in zip(ax.get_yticklabels(), lines):
        tick.set(fontsize=8) if row else tick.set(fontsize=9, fontweight="bold")
    if lines:
        ax.set_ylim(len(lines) - 0.4, -0.6)
    else:
        ax.text(0.5, 0.5, "no head", transform=ax.transAxes, ha="center", va="center")
    ax.grid(axis="x", alpha=0.3)
    ax.spines[["top", "left", "right"]].set_visible(False)
    parts = [model_title(model)]
    parts += [f"{len(drawn)} of {len(every):,} heads"] if len(drawn) < len(every) else []
    parts += [f"n = {counted(evidence)}"] if len(evidence) else []
    ax.set_title(" · ".join(parts), fontsize=9, pad=20 if states else None)
    if states:
        _legend(ax, states)
    ax.set_xlabel("effect (fraction of the gap), 95 % interval", fontsize=9)
    if said:
        # The text ends where the axes do, and begins below their labels.
        ax.annotate(
            said, (1, 0), (0, -40), xycoords="axes "
                                             "fraction", textcoords="offset points", fontsize=7.5,
            ha="right", va="top", multialignment="left",
        )  # fmt: skip
    return ax


def _lines(evidence, drawn, group):
    """Text and row of evidence for each line: each head, with None, and below it its
    predictions."""
    lines: list = []
    for layer, head in drawn:
        rows = rows_of(evidence, (layer, head))
        what = rows[group].iloc[0] if group else "none"
        lines.append((str(Head(layer, head)) + (f"  {what}" if what != "none" else ""), None))
        lines += [
            (f"{row.prediction}  {in_words(row.expected.split(', ')[0])}", row)
            for row in rows.itertuples()
        ]
    return lines


def _by_role(evidence, roles):
    """The rows of heads with a role, role by role; all rows if no head has one."""
    if lacking := [name for name in ("layer", "head", "role") if name not in roles]:
        raise InputError(
            f"the roles have no {', '.join(lacking)}; give the frame of analyses.roles.roles, or "
            "of analyses.roles.table"
        )
    named = roles[roles["role"] != "none"]
    named = (roles if named.empty else named)[["layer", "head", "role"]]
    order = {role: number for number, role in enumerate(named["role"].unique())}
    own = evidence.drop(columns="role", errors="ignore").merge(named, on=["layer", "head"])
    return own.sort_values(
        "role", key=lambda role: role.map(order), kind="stable", ignore_index=True
    )


def _check(evidence, group):
    if lacking := [name for name in NEEDED if name not in evidence]:
        raise InputError(
            f"the evidence has no {', '.join(lacking)}; give a row per head and prediction, as "
            "analyses.roles.evidence returns it"
        )
    if group is not None and group not in evidence:
        how = (
            "give roles=, the frame of analyses.roles.roles"
            if group == "role"
            else "add it, or leave out group"
        )
        raise InputError(f"the evidence has no column {group!r}; {how}")


def _legend(ax, states):
    """The meaning of the markers, above the axes."""
    order = list(LOOKS.values())
    shown = [
        Line2D([], [], color=color, marker=marker, markersize=5,
        markerfacecolor=color if filled else PAPER,
               label=state)
        for state, (color, marker, filled) in sorted(states.items(),
        key=lambda pair: order.index(pair[1]))
    ]  # fmt: skip
    ax.legend(
        handles=shown, frameon=False, fontsize=8, ncols=len(shown), loc="lower center",
        bbox_to_anchor=(0.5, 1), borderaxespad=0.2,
    )  # fmt: skip
