"""Whether senders reach their receivers by the query, the key or the value."""

from rgb_circuit.heads import Head
from rgb_circuit.plots import path_parts

from ...roles.standing import an
from .. import digits
from ..embedded import svg
from ..run import Needs, Run
from ..section import Section, beside
from ..writing import receiver

PAIR = ["sender_layer", "sender_head", "receiver_layer", "receiver_head"]


def _values(run: Run):
    frame = run.frames["paths"]
    return dict(
        parts=[_part(run, frame, role) for role in run.task.mediated],
        n=frame["n"].iloc[0],
        receiver=receiver(run.task),
    )


def _part(run, frame, role):
    """The figure and the rows for one role's word."""
    drawn = path_parts(frame, run.model, role).figure
    figure = svg(
        drawn,
        f"What each head does to the {role} logit through {an(receiver(run.task))}'s query, keys "
        "and values",
    )
    here = frame[frame["role"] == role]
    rows = []
    for pair, parts in here.groupby(PAIR):
        of = {row["into"]: row for row in parts.to_dict("records")}
        rows.append(dict(sender=str(Head(*pair[:2])), receiver=str(Head(*pair[2:])), parts=of))
    places = digits.three(here[["effect", "ci_low", "ci_high"]].to_numpy().ravel())
    return dict(role=role, figure=figure, rows=rows, places=places)


SECTION = Section(
    order=71,
    link="Paths",
    title="Direct paths: query, key or value",
    needs=Needs(
        added={"paths": f"into {' '.join(PAIR)} source target role effect ci_low ci_high n"},
        task=("mediated",),
    ),
    values=_values,
    fragment=beside(__file__),
)
