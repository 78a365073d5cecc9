"""The run against the published heatmaps, if it has their heads and panels."""

from rgb_circuit.errors import InputError
from rgb_circuit.plots.canvas import new_axes

from ...rgb import published as compare
from .. import digits
from ..embedded import svg
from ..run import Needs, Run
from ..section import Section, beside


def _values(run: Run):
    frame = run.frames["patch_heads"]
    try:
        table, misread = compare.compare(frame), compare.misreadings(frame)
    except InputError:
        # The published effects are for other heads or panels.
        return None
    figures = []
    for panel in table["panel"]:
        ax = compare.scatter(frame, panel, ax=new_axes(4.2, 4))
        figures.append(svg(ax.figure, f"This run's effects against the published effects, {panel}"))
    return dict(
        rows=table.to_dict("records"),
        figures=figures,
        misread=misread.to_dict("records"),
        places=digits.decimals(misread["run"]),
        settings=compare.differences(frame, run.manifest).to_dict("records"),
    )


SECTION = Section(
    order=110,
    link="Published",
    title="Comparison with the published heatmaps of LLaVA-1.5-7B",
    needs=Needs({"patch_heads": "trial source target component positions layer head role effect"}),
    values=_values,
    fragment=beside(__file__),
)
