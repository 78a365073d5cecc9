"""The layers and positions that hold the information for the answer."""

from rgb_circuit.plots import layer_heatmaps

from ..embedded import svg
from ..on_dark import on_dark
from ..run import Needs, Run
from ..section import Section, beside


def _values(run: Run):
    frame = run.observed("layers")
    role = run.role_of(frame)
    figure = layer_heatmaps(frame, run.model, role=role)
    figure = on_dark(svg(figure, "What each layer restores, by position"))
    return dict(figure=figure, component=frame["component"].iloc[0], role=role)


SECTION = Section(
    order=91,
    link="Layers",
    title="Where the answer can be restored, layer by layer",
    needs=Needs(
        added={
            "layers": "trial source target component positions layer role answer effect "
            "source_logit target_logit"
        }
    ),
    values=_values,
    fragment=beside(__file__),
)
