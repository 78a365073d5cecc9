"""What each head does when it is restored alone: a map for each panel, and the strongest heads."""

from rgb_circuit.plots import head_heatmap
from rgb_circuit.plots.canvas import head_name, new_axes

from ... import digits
from ..embedded import svg
from ..run import Needs, Run
from ..section import Section, beside
from ..writing import STRONGEST


def _values(run: Run):
    frame, effects = run.frames["panels"], run.frames["patch_heads"]
    size = frame["effect"].abs().groupby([frame["layer"], frame["head"]]).max()
    heads = size.sort_values(ascending=False, kind="stable").index[:STRONGEST]
    by_head, names = frame.set_index(["layer", "head", "panel"]), list(frame["panel"].unique())
    ends = frame[frame.set_index(["layer", "head"]).index.isin(heads)]
    strongest = [
        dict(head=head_name(*head), cells=[by_head.loc[(*head, panel)].to_dict() for panel in names])
        for head in heads
    ]
    return dict(
        floor=run.floor,
        dtype=run.manifest["dtype"],
        figures=_figures(frame),
        names=names,
        strongest=strongest,
        places=digits.decimals(ends[["effect", "ci_low", "ci_high"]].to_numpy().ravel()),
        n=frame["n"].iloc[0],
        every=len(size),
        source=effects["source"].iloc[0],
        positions=effects["positions"].iloc[0],
    )


def _figures(frame):
    table = frame.pivot(index=["layer", "head"], columns="panel", values="effect").reset_index()
    figures = []
    for panel, rows in frame.groupby("panel", sort=False):
        ax = head_heatmap(table, panel, label=5, ax=new_axes(3.9, 3.5))
        role, target = rows[["role", "target"]].iloc[0]
        ax.set_title(f"{role} logit, {target} picture", fontsize=10)
        says = f"Effect of restoring each head on the {role} logit in the {target} picture"
        figures.append(svg(ax.figure, says))
    return figures


SECTION = Section(
    order=30,
    link="Effects",
    title="What each head restores",
    needs=Needs(
        {
            "panels": "panel target role layer head effect ci_low ci_high n",
            "patch_heads": "trial source positions",
        }
    ),
    values=_values,
    fragment=beside(__file__),
)
