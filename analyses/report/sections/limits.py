"""What a reader might think the report says, but it does not."""

from ... import roles
from ..run import Needs, Run
from ..section import Section, beside


def _values(run: Run):
    tested = "roles" in run.frames
    tested = tested and (
        run.found or not roles.closest(run.frames["evidence"], task=run.task).empty
    )
    return dict(
        n=run.frames["evidence"]["n"].iloc[0] if tested else None,
        positions=run.manifest["options"].get("positions", "end"),
        uncalibrated=tested and "calibration_summary" not in run.frames,
    )


SECTION = Section(
    order=130,
    link="Limits",
    title="What these results do not show",
    needs=Needs(
        optional=[
            {"evidence": "layer head prediction restored_fraction n", "roles": "role"},
            {"calibration_summary": "reading"},
        ]
    ),
    values=_values,
    fragment=beside(__file__),
    half=True,
)
