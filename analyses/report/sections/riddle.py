"""What the heads that pass P3 do: find the place, hand it on, or write or suppress the colour
there."""

import pandas as pd

from rgb_circuit.plots import effect_forest

from ... import roles
from ...rgb import riddle
from ..embedded import svg
from ..run import Needs, Run
from ..section import Section, beside
from ..writing import name


def _values(run: Run):
    if not riddle.explains(run.task):
        return None
    if "evidence" not in run.frames:
        return dict(why_not="roles were not tested, so no head is known to pass P3")
    frame = riddle.table(run.frames["evidence"])
    if frame.empty:
        lacking = roles.no_gap(run.frames["evidence"], run.task)
        return dict(
            why_not="no head passes P3a and P3b here, so there is nothing to "
            f"explain{lacking and f' ({lacking})'}"
        )
    heads = frame.drop_duplicates(["layer", "head"]).to_dict("records")
    ax = effect_forest(frame, run.model, group="verdict", most=len(heads))
    return dict(
        heads=[head | dict(name=name(head), where=_where(head["late"])) for head in heads],
        figure=svg(ax.figure, "What the heads that pass P3 do, and by which route"),
    )


def _where(late):
    if pd.isna(late):
        return "no head is shown to be an extractor"
    return "no extractor in a later layer" if late else "there is a later extractor"


SECTION = Section(
    order=60,
    link="Riddle",
    title="Heads that raise the background: place or word?",
    needs=Needs(
        optional=[
            {
                "evidence": "layer head prediction expected effect ci_low ci_high "
                "restored_fraction n holds state trials_to_decide void outside stray"
            }
        ]
    ),
    values=_values,
    fragment=beside(__file__),
)
