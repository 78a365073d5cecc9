"""By which of query, key and value the extractors are told."""

from rgb_circuit.heads import Head
from rgb_circuit.plots import path_parts

from ... import digits
from ..embedded import svg
from ..run import Needs, Run
from ..section import Section, beside

PAIR = ["sender_layer", "sender_head", "receiver_layer", "receiver_head"]


def _values(run: Run):
    frame = run.frames["paths"]
    drawn = path_parts(frame, run.model).figure
    figure = svg(drawn, "What each head does to the answer through an extractor's query, keys and values")
    here = frame[frame["role"] == "background"]
    rows = []
    for pair, parts in here.groupby(PAIR):
        of = {row["into"]: row for row in parts.to_dict("records")}
        rows.append(dict(sender=str(Head(*pair[:2])), receiver=str(Head(*pair[2:])), parts=of))
    places = digits.decimals(here[["effect", "ci_low", "ci_high"]].to_numpy().ravel())
    return dict(figure=figure, rows=rows, places=places, n=here["n"].iloc[0])


SECTION = Section(
    order=71,
    link="Paths",
    title="By what a head is told",
    needs=Needs(optional=[{"paths": f"into {' '.join(PAIR)} source target role effect ci_low ci_high n"}]),
    values=_values,
    fragment=beside(__file__),
    applies=lambda run: "paths" in run.frames,
)
