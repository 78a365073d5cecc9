"""How few heads are enough, and whether the found ones are."""

from rgb_circuit.heads import Head
from rgb_circuit.plots import faithfulness_curve

from ... import circuit
from ..embedded import svg
from ..run import Needs, Run
from ..section import Section, beside
from ..writing import listed

# The share that a circuit must restore to be called enough.
ENOUGH = 0.9


def _values(run: Run):
    return _tests(run) | _curve(run)


def _tests(run):
    if "circuit" not in run.frames:
        return dict(tests=[], why_no_tests=run.why_not("circuit"))
    members = [hypothesis.plural for hypothesis in run.task.hypotheses if hypothesis.in_circuit]
    frame = run.frames["circuit"]
    without = "without " + frame["layer"].astype(str) + "." + frame["head"].astype(str)
    named = frame.assign(name=frame["test"].where(frame["layer"].isna(), without))
    return dict(tests=named.to_dict("records"), why_no_tests=None, members=listed(members))


def _curve(run):
    if "curve" not in run.frames:
        return dict(why_no_curve=run.why_not("curve"))
    frame = run.frames["curve"]
    reaching = frame[frame["faithfulness"] >= ENOUGH]
    enough = reaching.iloc[0] if len(reaching) else None
    within = frame[
        (frame["size"] > 0) & (frame["size"] <= (0 if enough is None else enough["size"]))
    ]
    figure = faithfulness_curve(frame, run.model).figure
    return dict(
        why_no_curve=None,
        curve=svg(figure, "Faithfulness against the number of heads in the circuit"),
        areas=circuit.areas(frame).iloc[0],
        enough=enough,
        names=[str(Head(*head)) for head in within[["layer", "head"]].itertuples(index=False)],
        whole=frame.iloc[-1],
        every=int(frame["size"].max()),
        source=frame["source"].iloc[0],
        target=frame["target"].iloc[0],
    )


FAITHFUL = "layer head size faithfulness ci_low ci_high random_mean random_low random_high"

SECTION = Section(
    order=80,
    link="Circuit",
    title="How many heads are enough",
    needs=Needs(
        optional=[
            {"circuit": f"test p_value random_sets decidable {FAITHFUL}"},
            {"curve": f"share source target n {FAITHFUL}"},
        ]
    ),
    values=_values,
    fragment=beside(__file__),
    open=True,
)
