"""How often the verdicts were right on models whose heads are known."""

from rgb_circuit.plots import precision_recall_panels

from ... import calibrate
from ..embedded import svg
from ..run import Needs, Run
from ..section import Section, beside


def _values(run: Run):
    table = run.frames["calibration_summary"]
    figure = svg(
        precision_recall_panels(table),
        "Precision and recall of each reading and role against noise",
    )
    # The reading that this report uses; the figures also show the others.
    reading = calibrate.reading_of(run.manifest["options"].get("only_correct", False))
    rows, false = table[table["reading"] == reading], run.frames["calibration_false"]
    return dict(
        figure=figure,
        rows=rows.to_dict("records"),
        having=rows["true"].sum(),
        testable=rows["testable"].sum(),
        nothing_true=false.assign(kind=false["kind"].replace(calibrate.NULLS)).to_dict("records"),
        models=int(table["models"].max()),
    )


SECTION = Section(
    order=100,
    link="Calibration",
    title="How often are such verdicts right?",
    needs=Needs(
        added={
            "calibration_summary": "reading role noise models true given right precision "
            "precision_low precision_high recall recall_low recall_high testable",
            "calibration_false": "kind reading heads heads_with_a_role testable informative",
        }
    ),
    values=_values,
    fragment=beside(__file__),
)
