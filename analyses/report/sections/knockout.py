"""What the answer loses if some positions cannot look at others."""

from rgb_circuit.calls.noise import least_mean
from rgb_circuit.plots import knockout_lines
from rgb_circuit.statistics import mean_over_trials

from ..embedded import svg
from ..run import Needs, Run
from ..section import Section, beside


def _values(run: Run):
    frame = run.observed("knockout")
    role = run.role_of(frame)
    table = mean_over_trials(frame[frame["role"] == role], ["queries", "keys", "layer"])
    least = least_mean(frame, "logit")
    largest = table.loc[
        table.assign(size=table["effect"].abs())
        .groupby(["queries", "keys"], sort=False)["size"]
        .idxmax()
    ]
    return dict(
        figure=svg(
            knockout_lines(frame, run.model, role=role).figure,
            "Effect of knocking out attention, by layer",
        ),
        rows=largest.assign(rounding=largest["effect"].abs() <= least).to_dict("records"),
        role=role,
        window=int(frame["window"].iloc[0]),
        n=int(table["n"].iloc[0]),
    )


SECTION = Section(
    order=92,
    link="Knockout",
    title="Which positions must attend to which, by layer",
    needs=Needs(
        added={"knockout": "trial condition layer window queries keys role answer logit effect"}
    ),
    values=_values,
    fragment=beside(__file__),
    half=True,
)
