"""The effect of each head restored alone: a map for each panel, and the strongest heads."""

import re

import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import FuncFormatter

from rgb_circuit.calls.panels import LEAST_SAID, shown
from rgb_circuit.heads import Head
from rgb_circuit.plots import head_heatmap
from rgb_circuit.plots.canvas import DIVERGING, limit_of, new_axes, percent, percent_between
from rgb_circuit.plots.heatmap import LEAST_LIMIT, ROOMY, panel_title

from ..embedded import svg
from ..on_dark import on_dark
from ..run import Needs, Run
from ..section import Section, beside
from ..writing import STRONGEST

# The smallest font size, in points, of an easily readable title.
SMALLEST = 7


def _values(run: Run):
    frame, effects = run.frames["panels"], run.frames["patch_heads"]
    size = frame["effect"].abs().groupby([frame["layer"], frame["head"]]).max()
    heads = size.sort_values(ascending=False, kind="stable").index[:STRONGEST]
    by_head, names = frame.set_index(["layer", "head", "panel"]), list(frame["panel"].unique())
    strongest = [
        dict(head=str(Head(*head)), cells=[_cell(by_head.loc[(*head, panel)]) for panel in names])
        for head in heads
    ]
    # All panels share a unit, so that they can be compared.
    shares = bool(frame["gap"].notna().all())
    figures, bar = _figures(frame, shares)
    return dict(
        floor=run.floor,
        dtype=run.manifest["dtype"],
        figures=figures,
        bar=bar,
        gist=f"largest: {strongest[0]['head']}" if shown(frame).any() else "none shown",
        shares=shares,
        least=LEAST_SAID,
        names=names,
        strongest=strongest,
        n=frame["n"].iloc[0],
        every=len(size),
        source=effects["source"].iloc[0],
        positions=effects["positions"].iloc[0],
    )


def _cell(row):
    share = ""
    if pd.notna(row["gap"]):
        share = percent_between(
            *(row[name] / row["gap"] for name in ("effect", "ci_low", "ci_high"))
        )
    # Drop an interval without width.
    share = re.sub(r" \[(.*), \1\]", "", share)
    return row.to_dict() | dict(share=share)


def _figures(frame, shares):
    frame = frame.assign(
        value=frame["effect"] / frame["gap"] if shares else frame["effect"], shown=shown(frame)
    )
    limit = limit_of(frame["value"], LEAST_LIMIT if shares else 0)
    titles = {
        panel: panel_title(*rows[["role", "target"]].iloc[0])
        for panel, rows in frame.groupby("panel", sort=False)
    }
    # A title wider than its map would shrink the map; titles that fit get the same size.
    sizes = {panel: min(10, 260 / len(title)) for panel, title in titles.items()}
    alike = min((size for size in sizes.values() if size >= SMALLEST), default=SMALLEST)
    figures = []
    for panel, rows in frame.groupby("panel", sort=False):
        large = max(rows["layer"].nunique(), rows["head"].nunique()) > ROOMY
        ax = new_axes(5.2, 4.6) if large else new_axes(3.9, 3.5)
        head_heatmap(rows, "value", label=5, told="shown", limit=limit, bar=False, ax=ax)
        if large:
            # A thousand cells as vector shapes would fill most of the page.
            for cells in ax.collections:
                cells.set_rasterized(True)
        role, target = rows[["role", "target"]].iloc[0]
        ax.set_title(titles[panel], fontsize=min(alike, sizes[panel]))
        says = f"Effect of restoring each head on the {role} logit in the {target} picture"
        figures.append(on_dark(svg(ax.figure, says)))
    return figures, _bar(limit, shares)


def _bar(limit, shares):
    """The scale that all maps share."""
    ax = new_axes(3.4, 0.75)
    ax.set_axis_off()
    bar = ax.figure.colorbar(
        ScalarMappable(Normalize(-limit, limit), DIVERGING),
        ax=ax,
        orientation="horizontal",
        fraction=0.3,
        aspect=34,
        label="fraction of the gap" if shares else "effect (logits)",
    )
    if shares:
        bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
    for cells in bar.ax.collections:
        cells.set_rasterized(True)
    return on_dark(svg(ax.figure, f"Scale of the maps, from −{limit:.2g} to {limit:.2g}"))


SECTION = Section(
    order=30,
    link="Effects",
    title="What each head restores",
    needs=Needs(
        {
            "panels": "panel target role layer head effect ci_low ci_high gap told n",
            "patch_heads": "trial source positions",
        }
    ),
    values=_values,
    fragment=beside(__file__),
)
