"""Effects with their intervals, one under the other."""

import pandas as pd
from matplotlib.axes import Axes

from .canvas import BLUE, QUIET, VERMILION, head_name, new_axes


def effect_forest(
    evidence: pd.DataFrame, model: str, *, group: str | None = None, most: int = 8, ax: Axes | None = None
) -> Axes:
    """What restoring each head does, a line per prediction: effect and 95 % interval; filled where the
    prediction holds.

    Effects are drawn as fractions of the gap, so that words and pictures can be compared. A prediction of
    several claims shows the effect of its first, which is also what its line says, and is filled only if all
    of them hold. One whose effect is missing could not be tested, and one whose restored fraction is missing
    has no gap to be a fraction of.

    Args:
        evidence: a row per head × prediction: ``layer, head, prediction, expected, effect, ci_low, ci_high,
            restored_fraction, n, holds``, as `analyses.roles.evidence` or `analyses.riddle.table` return it;
            leave out rows that should not be drawn.
        model: its name, for the title.
        group: a column that says what each head is, such as ``"role"`` or ``"verdict"``; written beside its
            name.
        most: heads that are drawn. Of more, those with the largest effect on anything.
        ax: where to draw; a new figure's by default.
    """
    names = ["layer", "head"]
    every = evidence[names].drop_duplicates()
    size = evidence["restored_fraction"].abs().groupby([evidence[name] for name in names]).max().fillna(0)
    largest = size.nlargest(most).index
    drawn = [head for head in every.itertuples(index=False, name=None) if head in largest]
    lines = []
    for layer, head in drawn:
        rows = evidence[(evidence["layer"] == layer) & (evidence["head"] == head)]
        lines.append((head_name(layer, head) + (f"  {rows[group].iloc[0]}" if group else ""), None))
        lines += [(f"{row.prediction}  {row.expected.split(', ')[0]}", row) for row in rows.itertuples()]
    ax = ax or new_axes(5.4, 1.2 + 0.21 * max(1, len(lines)))
    ax.axvline(0, color=QUIET, linewidth=1, zorder=0)
    for height, (_, row) in enumerate(lines):
        if row is None:
            continue
        if pd.isna(row.restored_fraction):
            why = "could not be tested" if pd.isna(row.effect) else "no gap"
            ax.annotate(why, (0, height), (4, 0), textcoords="offset points", va="center", fontsize=7)
            continue
        # Effect and interval in the same unit; the gap is their common factor.
        scale = row.restored_fraction / row.effect if row.effect else 0
        color = BLUE if row.holds else VERMILION
        ax.hlines(height, row.ci_low * scale, row.ci_high * scale, color=color, linewidth=2)
        ax.scatter(
            row.restored_fraction, height, s=30, c=color if row.holds else "none", edgecolors=color, zorder=3
        )
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
    parts = [model]
    parts += [f"{len(drawn)} of {len(every):,} heads"] if len(drawn) < len(every) else []
    parts += [f"n = {evidence['n'].iloc[0]} trials"] if len(evidence) else []
    ax.set_title(" · ".join([*parts, "filled: holds"]), fontsize=9)
    ax.set_xlabel("effect (fraction of the gap), 95 % interval")
    return ax
