"""Does a run agree with the published heatmaps of LLaVA-1.5-7B?

1. The published table has the seed's three panels as numbers (`rgb_circuit/data`).
2. Head by head, a run's mean effects are compared with it: correlation, rank correlation, and the
   top heads that both share.

The published setting is one picture, z restored from clean at **all** positions, float16. A run at
[end] measures less of what a head does: only what the head writes where the answer is read.
`differences` lists the settings in which a run differs.

Nearly all of the 1,024 heads do nothing, and the published values come in steps of 0.006 to 0.010
logits. Rank correlation is mostly about those heads: even a run that agreed exactly would reach
only about 0.9 (0.91, 0.93 and 0.95 in the three panels, with the steps filled in evenly). Read it
together with Pearson's, which is mostly about the few heads that do something.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import rgb_circuit as rgb
from rgb_circuit.arguments import whole_number
from rgb_circuit.calls.panels import PANELS, panels
from rgb_circuit.heads import Head
from rgb_circuit.plots.canvas import BLUE, VERMILION, new_axes, new_figure, write_names
from rgb_circuit.statistics.agreement import agreement

# Panel → (corruption, answer) in the published table.
PUBLISHED_PANELS = {
    "odd, when recolored": ("green", "red"),
    "odd, when erased": ("blue", "red"),
    "background, when erased": ("blue", "blue"),
}
PUBLISHED_SETTING: Mapping[str, str] = {
    "model": "llava-hf/llava-1.5-7b-hf",
    "dtype": "float16",
    "source": "clean",
    "component": "z",
    "positions": "all",
    "trials": "the published picture",
}
# (head in the published text, head in its figures, panels that the text speaks of).
MISREADINGS = (
    (Head(18, 6), Head(19, 6), ("odd, when recolored", "odd, when erased")),
    (Head(14, 8), Head(15, 8), ("background, when erased",)),
)
# Heads that stand out in the published figures.
NAMED = (
    Head(19, 6),
    Head(24, 17),
    Head(20, 0),
    Head(22, 8),
    Head(28, 7),
    Head(26, 14),
    Head(18, 30),
    Head(15, 8),
    Head(18, 9),
    Head(26, 16),
)
# Offsets of a label from its head, in points: near the line of equal effects, on either side, or
# further off. Labels of heads that do nothing must get out of the crowd.
LABELS = (
    (12, -11), (-12, 7), (22, -20), (-22, 16), (14, 7), (-14, -14),
    (34, -32), (-34, 28), (10, 24), (-10, -32), (46, 2), (-46, 2),
)  # fmt: skip
FAR_LABELS = ((38, -34), (38, -48), (52, -22), (-38, 40))


def published() -> pd.DataFrame:
    """The published effects, in the form of `rgb_circuit.calls.panels.panels`.

    Returns:
        A row per head (32 layers × 32 heads): ``layer, head``, and a column per panel with the
        effect (logits).
    """
    with (files("rgb_circuit") / "data" / "llava_1_5_7b_published.csv").open() as file:
        rows = pd.read_csv(file)
    cells = rows.pivot(index=["layer", "head"], columns=["corruption", "answer"], values="effect")
    return pd.DataFrame(
        {panel: cells[names] for panel, names in PUBLISHED_PANELS.items()}
    ).reset_index()


def compare(
    frame: pd.DataFrame, reference: pd.DataFrame | None = None, *, k: int = 10
) -> pd.DataFrame:
    """Agreement of a run with the published table, panel by panel.

    Args:
        frame: from `patch_heads` with the targets ``recolored`` and ``erased``, or its `panels`.
        reference: the table to compare with, in the form of `published`, which is the default.
        k: the number of top heads: those that raise the word's logit most.

    Returns:
        A row per panel: ``panel, target, role, heads, pearson, spearman`` (over all heads; NaN if
        all effects are equal), ``k, shared`` (how many of the run's top k are among the
        reference's; heads tied with its k-th are in), ``overlap`` (shared / k), ``shared_heads``
        (their names, strongest in the run first).

    Raises:
        InputError: other heads than the reference's, a panel without effects, missing columns, or a
            k out of range.
    """
    both = _side_by_side(frame, reference)
    if whole_number("k", k, advice=f"use 1 to {len(both)}, the number of heads") > len(both):
        raise rgb.InputError(f"k is {k}; use 1 to {len(both)}, the number of heads")
    rows = []
    for panel, (target, role) in PANELS.items():
        run, known = both[panel, "run"], both[panel, "reference"]
        found = agreement(run, known, k)
        rows.append(
            dict(
                panel=panel,
                target=target,
                role=role,
                heads=len(both),
                pearson=found.pearson,
                spearman=found.spearman,
                k=k,
                shared=len(found.shared),
                overlap=len(found.shared) / k,
                shared_heads=" ".join(str(Head(*head)) for head in found.shared),
            )
        )
    return pd.DataFrame(rows)


def misreadings(frame: pd.DataFrame, reference: pd.DataFrame | None = None) -> pd.DataFrame:
    """The two places where the published text misreads its figures, with a run's effects of both
    heads.

    Args:
        frame, reference: as in `compare`.

    Returns:
        A row per place × panel × head: ``panel, head`` (``layer.head``), ``named_by`` ("text" or
        "figure"), ``published`` and ``run`` (effects, logits).

    Raises:
        InputError: as `compare`.
    """
    both = _side_by_side(frame, reference)
    rows = []
    for text, figure, where in MISREADINGS:
        for panel in where:
            for named_by, head in (("text", text), ("figure", figure)):
                effects = dict(
                    published=both.loc[head, (panel, "reference")],
                    run=both.loc[head, (panel, "run")],
                )
                rows.append(dict(panel=panel, head=str(head), named_by=named_by, **effects))
    return pd.DataFrame(rows)


def differences(frame: pd.DataFrame, manifest: Mapping[str, object]) -> pd.DataFrame:
    """The settings in which a run differs from the published one.

    Args:
        frame: from `patch_heads`.
        manifest: the run's, with ``model`` and ``dtype``.

    Returns:
        A row per setting that differs: ``setting, published, run``. Empty if the run repeats the
        published one.
    """
    names = frame["trial"].unique()
    run = {
        name: ", ".join(map(str, frame[name].unique()))
        for name in ("source", "component", "positions")
    }
    run |= {name: str(manifest[name]) for name in ("model", "dtype")}
    same = list(names) == [rgb.published_trial().name]
    run["trials"] = (
        PUBLISHED_SETTING["trials"] if same else f"{len(names)} other{'s' * (len(names) > 1)}"
    )
    rows = [
        dict(setting=name, published=value, run=run[name])
        for name, value in PUBLISHED_SETTING.items()
        if run[name] != value
    ]
    return pd.DataFrame(rows, columns=["setting", "published", "run"])


def scatter(
    frame: pd.DataFrame,
    panel: str,
    *,
    reference: pd.DataFrame | None = None,
    label: float = 0.25,
    ax: Axes | None = None,
) -> Axes:
    """One panel's heads: the run's effect against the published one, with the line of equal
    effects.

    Labels mark the heads that stand out in the published figures, in the panels where they do, and
    those that the text names instead.

    Args:
        frame, reference: as in `compare`.
        panel: a name of `rgb_circuit.calls.panels.PANELS`.
        label: the smallest published effect, in either direction, that is labelled (logits).
        ax: the axes to draw on; by default those of a new figure.

    Raises:
        InputError: as `compare`.
    """
    cells = _side_by_side(frame, reference)[panel]
    ax = ax or new_axes(5, 4.8)
    ax.axline((0, 0), slope=1, color="0.6", linewidth=1, linestyle="--", zorder=0)
    ax.scatter(cells["reference"], cells["run"], s=9, color="0.45", alpha=0.5, linewidths=0)
    standing_out = [head for head in NAMED if abs(cells.loc[head, "reference"]) >= label]
    by_text = [text for text, _, where in MISREADINGS if panel in where]
    for heads, color, marker in ((standing_out, BLUE, "o"), (by_text, VERMILION, "s")):
        ax.scatter(
            *cells.loc[heads, ["reference", "run"]].to_numpy().T,
            s=26,
            color=color,
            marker=marker,
            linewidths=0,
        )
    target, role = PANELS[panel]
    ax.set(
        xlabel="published effect (logits)",
        ylabel="effect in this run (logits)",
        title=f"{role} logit, {target} picture",
    )
    ax.margins(x=0.2, y=0.1)
    ax.grid(alpha=0.3)
    ordered = sorted(standing_out, key=lambda head: -cells.loc[head, "reference"])
    # Heads left of zero get labels on the left: the crowd is at zero.
    mirrored = [(-dx, dy) for dx, dy in LABELS]
    names: list[tuple[str, tuple[int, int], str, Sequence[tuple[int, int]]]] = [
        (str(Head(*head)), head, BLUE, LABELS if cells.loc[head, "reference"] > 0 else mirrored)
        for head in ordered
    ]
    names += [(f"{Head(*head)} in the text", head, VERMILION, FAR_LABELS) for head in by_text]
    places = cells[["reference", "run"]]
    write_names(
        ax,
        [(name, tuple(places.loc[head]), color, where) for name, head, color, where in names],
        lines=True,
    )
    return ax


def scatters(
    frame: pd.DataFrame, model: str, *, reference: pd.DataFrame | None = None, k: int = 10
) -> Figure:
    """`scatter` of all three panels side by side, each with its row of `compare`, from a
    `patch_heads` frame."""
    agreement = compare(frame, reference, k=k).set_index("panel")
    figure = new_figure(15, 5)
    axes = figure.subplots(1, len(PANELS))
    for panel, ax in zip(PANELS, axes):
        scatter(frame, panel, reference=reference, ax=ax)
        row = agreement.loc[panel]
        found = f"Pearson {row['pearson']:.2f}, Spearman {row['spearman']:.2f}"
        found += f", {row['shared']} of the top {row['k']} shared"
        ax.set_title(f"{ax.get_title()}\n{found}", fontsize=10)
    n, source, positions = (
        frame["trial"].nunique(),
        frame["source"].iloc[0],
        frame["positions"].iloc[0],
    )
    run = (
        f"one head restored from {source}, positions: {positions}, mean of {n} trial{'s' * (n > 1)}"
    )
    figure.suptitle(f"{model}, {run} · against the published effects of LLaVA-1.5-7B")
    return figure


def _side_by_side(frame, reference):
    """(layer, head) → the columns (panel, "run") and (panel, "reference")."""
    tables = _table(frame), published() if reference is None else reference
    run, known = (table.set_index(["layer", "head"])[list(PANELS)].sort_index() for table in tables)
    if not run.index.equals(known.index):
        raise rgb.InputError(
            f"the run has {_geometry(run)}, the reference {_geometry(known)}; heads of different "
            "models are not the same heads, "
            f"so compare a run of all heads of {PUBLISHED_SETTING['model']}"
        )
    return pd.concat({"run": run, "reference": known}, axis=1).swaplevel(axis=1).sort_index(axis=1)


def _table(frame):
    """The panels of a run's frame."""
    if set(PANELS) <= set(frame):
        return frame
    if missing := [
        column for column in ("layer", "head", "target", "role", "effect") if column not in frame
    ]:
        raise rgb.InputError(
            f"the frame lacks the columns {', '.join(missing)}; give one from patch_heads"
        )
    for target, role in PANELS.values():
        if not ((frame["target"] == target) & (frame["role"] == role)).any():
            lacking = f"the answer {role!r} in the picture {target!r}"
            raise rgb.InputError(
                f"the run has no effects on {lacking}; compare a run of the RGB game"
            )
    return panels(frame)


def _geometry(table):
    layers = table.index.get_level_values("layer").nunique()
    return f"{len(table)} heads in {layers} layer{'s' * (layers > 1)}"
