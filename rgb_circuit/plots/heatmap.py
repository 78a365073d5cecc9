"""One number per head, as a map of layers and heads."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter

from ..calls.panels import LEAST_SAID, PANELS, shown, tested
from ..errors import InputError
from ..heads import Head
from ..statistics import fewest_trials
from ..stimuli.replicates import said
from ..trial import Trial
from .canvas import (
    DIVERGING,
    FADED,
    FADING,
    INK,
    brief,
    limit_of,
    literal,
    model_title,
    new_axes,
    new_figure,
    percent,
    percent_between,
    write_names,
)

# Sides with more cells than this have no room for a name in each cell, or for each number on an
# axis.
ROOMY = 16
# The scale for fractions of the gap reaches at least this far: smaller effects count as none, and
# must not stand out.
LEAST_LIMIT = 0.1
# The largest number of named cells in a panel, and the smallest named share of the scale.
NAMED, LEAST_NAMED = 5, 0.05
# Letters of a title that fit a panel.
LONGEST_TITLE = 40
# Columns that must be constant over the rows that are averaged.
SETTING = ("source", "target", "component", "positions", "role")
# Offsets of a name from its cell, in points, the nearest first.
AROUND = [
    (x, y)
    for far in (9, 16, 24, 34, 46)
    for x, y in (
        (far, far - 4),
        (-far, far - 4),
        (far, -far - 4),
        (-far, -far - 4),
        (far, -4),
        (-far, -4),
    )
]


@literal
def head_heatmap(
    table: pd.DataFrame,
    column: str = "effect",
    model: str = "",
    *,
    label: int = 3,
    told: str | None = None,
    limit: float | None = None,
    bar: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """A layer × head map of one number per head, diverging and centred on zero.

    The largest cells are named ``layer.head``. On a map without room for that in the cells, the
    names are next to them, joined by a line to the outlined cell.

    Args:
        table: ``layer, head`` and ``column``, a row per head; or a frame from `patch_heads` with
            one target and one role. Of such a frame the mean over trials is drawn, as a fraction of
            the gap if there is one (`rgb_circuit.calls.panels.tested`), and effects that are not
            shown (`rgb_circuit.calls.panels.shown`) are faded.
        column: the number to draw.
        model: its name, for the title.
        label: the number of the largest cells to name, if they are a twentieth of the largest or
            more and not faded.
        told: a column of Booleans; cells where it is False are faded.
        limit: the end of the scale, in both directions; by default the largest cell.
        bar: draw the scale next to the map.
        ax: the axes to draw on; by default those of a new figure.

    Raises:
        InputError: a missing column, or several numbers for a head from different settings, whose
            mean would mean nothing.
    """
    _check(table, column)
    title, unit = [column], "effect (logits)"
    if column == "effect" and {"trial", *SETTING} <= set(table):
        table, title, unit, limit = _of_sweep(table, limit)
        told = "shown"
    cells = table.pivot(index="layer", columns="head", values=column)
    limit = limit or limit_of(table[column])
    roomy = max(cells.shape) <= ROOMY
    ax = ax or new_axes(5 if roomy else 6.2, 4.5 if roomy else 5.6)
    ticks = 1 if roomy else 4
    sns.heatmap(
        cells, cmap=DIVERGING, vmin=-limit, vmax=limit, ax=ax, square=True, cbar=bar,
        xticklabels=False, yticklabels=False, cbar_kws={"label": unit,
        "shrink": 0.8} if bar else None,
    )  # fmt: skip
    # Ticks are set here because seaborn renders the whole figure for each number, to turn those
    # that overlap.
    rows, columns = (np.arange(0, size, ticks) for size in cells.shape)
    ax.set_xticks(columns + 0.5, cells.columns[columns])
    ax.set_yticks(rows + 0.5, cells.index[rows], va="center")
    if bar and unit != "effect (logits)":
        ax.collections[0].colorbar.ax.yaxis.set_major_formatter(
            FuncFormatter(lambda share, _: percent(share))
        )
    seen = pd.Series(True, index=table.index) if told is None else table[told]
    if not seen.all():
        veil = table.assign(veil=1.0 - seen).pivot(index="layer", columns="head", values="veil")
        veil = np.ma.masked_where(veil != 1, veil)
        ax.pcolormesh(veil, cmap=ListedColormap([FADED]), alpha=FADING)
    ax.set(xlabel="head", ylabel="layer", title=_title(title[0], model_title(model), *title[1:]))
    ax.tick_params(rotation=0)
    largest = table.loc[_large(table[column][seen], limit, label)]
    names = []
    for layer, head, value in largest[["layer", "head", column]].itertuples(index=False):
        column_, row = cells.columns.get_loc(head), cells.index.get_loc(layer)
        place = column_ + 0.5, row + 0.5
        if roomy:
            color = "white" if abs(value) > 0.6 * limit else INK
            ax.text(
                *place, str(Head(layer, head)), ha="center", va="center", fontsize=7, color=color
            )
            continue
        ax.add_patch(Rectangle((column_, row), 1, 1, fill=False, edgecolor=INK, linewidth=0.9))
        # Towards the middle, which has room.
        left, below = column_ > cells.shape[1] / 2, row < cells.shape[0] / 2
        near = sorted(
            AROUND, key=lambda to: abs(to[0]) + 2 * ((to[0] < 0) != left) + ((to[1] < -4) != below)
        )
        names.append((str(Head(layer, head)), place, INK, near))
    write_names(ax, names, lines=True, cell=1)
    return ax


@literal
def panel_heatmaps(
    frame: pd.DataFrame,
    model: str,
    which: Mapping[str, tuple[str, str]] = PANELS,
    *,
    trials: Sequence[Trial] | None = None,
) -> Figure:
    """A `head_heatmap` per panel, three in a row, from a `patch_heads` frame; by default the seed's
    three panels.

    All panels share one scale, in fractions of the gap, or in logits if a target has no gap. Below
    each panel are its largest effects with 95 % intervals.

    Args:
        which: panel → (target condition, role whose logit is read).
        trials: the frame's trials; needed if no task drew them (`rgb_circuit.calls.panels.tested`).
    """
    table = tested(frame, which, trials=trials)
    n, shares = int(table["n"].iloc[0]), bool(table["gap"].notna().all())
    table["shown"] = shown(table)
    numbers = ["effect", "ci_low", "ci_high"]
    if shares:
        table[numbers] = table[numbers].div(table["gap"], axis=0)
    limit = limit_of(table["effect"], LEAST_LIMIT if shares else 0)
    columns = min(3, len(which))
    rows = -(-len(which) // columns)
    layers, heads = (frame[name].nunique() for name in ("layer", "head"))
    wide = 4.6 if max(layers, heads) <= ROOMY else 5.6
    high = wide * min(1.25, max(0.3, layers / heads))
    figure = new_figure(wide * columns + 0.9, (high + 1.2) * rows + 0.6)
    # The layout ignores part of the text below square maps.
    figure.get_layout_engine().set(rect=(0, 0.03, 1, 0.97))
    axes = figure.subplots(rows, columns, squeeze=False)
    drawn, empty = axes.flat[: len(which)], axes.flat[len(which) :]
    for (panel, (target, role)), ax in zip(which.items(), drawn):
        of_panel = table[table["panel"] == panel]
        head_heatmap(of_panel, label=NAMED, told="shown", limit=limit, bar=False, ax=ax)
        ax.set_title(panel_title(role, target))
        ax.set_xlabel(f"head\n\n{_ranked(of_panel, shares, limit)}")
        ax.set_anchor("N")
    for ax in empty:
        ax.remove()
    unit = "fraction of the gap" if shares else "logits: not every target has a gap"
    bar = figure.colorbar(
        ScalarMappable(Normalize(-limit, limit), DIVERGING),
        ax=list(drawn),
        label=f"effect ({unit})",
        shrink=0.7,
    )
    if shares:
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
    source, positions = frame["source"].iloc[0], frame["positions"].iloc[0]
    parts = [
        f"One head restored from {source}, positions: {positions}{_estimated(frame)}",
        model_title(model),
        f"mean of {said(frame['trial'].nunique(), n)}",
    ]
    # In a single column the title does not fit on one line.
    about = ("\n" if columns == 1 else " · ").join(parts)
    faded = f"grey: not significant (t test, q > 5 % over heads), or below {LEAST_SAID}"
    if n == 1:
        faded = f"one trial, so nothing is tested; grey: below {LEAST_SAID}"
    elif n < fewest_trials(0.025, heads := len(table[["layer", "head"]].drop_duplicates())):
        faded += f"; {n} trials have little power among {heads:,} heads"
    figure.suptitle(f"{about}\n{faded}")
    return figure


def panel_title(role: str, target: str) -> str:
    """The title of a panel, on two lines if it would run into its neighbour's."""
    title = f"{brief(role)} logit, {brief(target)} picture"
    return title if len(title) <= LONGEST_TITLE else title.replace(" logit, ", " logit,\n", 1)


def _check(table, column):
    """Raise InputError unless each head has one number, or several that may be averaged."""
    if lacking := [name for name in ("layer", "head", column) if name not in table]:
        raise InputError(
            f"the table has no {', '.join(lacking)}; give a row per head with layer, head and the "
            "column to draw, or a frame from patch_heads"
        )
    if table.empty:
        raise InputError("the table has no rows, so there is nothing to draw; give a row per head")
    several = {
        name: table[name].unique()
        for name in SETTING
        if name in table and table[name].nunique() > 1
    }
    if several and table.duplicated(["layer", "head"]).any():
        what = ", ".join(
            f"{len(values)} of {name} ({', '.join(map(str, values))})"
            for name, values in several.items()
        )
        keep = " & ".join(
            f"(frame[{name!r}] == {str(values[0])!r})" for name, values in several.items()
        )
        raise InputError(
            f"each head has effects of several settings, whose mean would mean nothing: {what}; "
            f"keep one of each, such as frame[{keep}]"
        )
    if "trial" not in table and table.duplicated(["layer", "head"]).any():
        raise InputError(
            "some heads have several rows, so nobody can say which to draw; keep one row per head"
        )


def _of_sweep(frame, limit):
    """For a frame of one setting: its `tested` heads with those `shown` marked, title, unit and
    limit."""
    target, role, source, component = (
        frame[name].iloc[0] for name in ("target", "role", "source", "component")
    )
    table = tested(frame, {"effect": (target, role)})
    table["shown"] = shown(table)
    n, unit = int(table["n"].iloc[0]), "effect (logits)"
    if table["gap"].notna().all():
        unit = "effect (fraction of the gap)"
        table["effect"] /= table["gap"]
        limit = limit or limit_of(table["effect"], LEAST_LIMIT)
    about = f"{brief(role)} logit, {component} of {brief(source)} into {brief(target)}"
    return table, [about, f"n = {n} trial{'s' * (n > 1)}"], unit, limit


def _title(about, *parts):
    """The subject, and below it the parts that are known."""
    return "\n".join(filter(None, [about, " · ".join(filter(None, parts))]))


def _large(values, limit, most):
    """The indices of the largest values that are large enough to be named."""
    size = values.abs()
    return size[size >= LEAST_NAMED * limit].nlargest(most).index


def _ranked(table, shares, limit):
    """The effects of the named heads, one per line."""
    large = table.loc[_large(table["effect"][table["shown"]], limit, NAMED)]
    lines = []
    for row in large.itertuples():
        if shares:
            written = percent_between(row.effect, row.ci_low, row.ci_high)
        else:
            ends = f" [{row.ci_low:.2g}, {row.ci_high:.2g}]" if np.isfinite(row.ci_low) else ""
            written = f"{row.effect:+.2g}{ends} logits"
        lines.append(f"{Head(row.layer, row.head)}: {written}")
    # The same number of lines below every map, so that all maps have the same height.
    return "\n".join(
        [*(lines or ["no large effect is shown"]), *[""] * (NAMED - max(1, len(lines)))]
    )


def _estimated(frame):
    return f" (estimated, {frame['method'].iloc[0]})" if "method" in frame else ""
