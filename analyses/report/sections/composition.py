"""What some heads do through others, and past them."""

from rgb_circuit.heads import Head
from rgb_circuit.plots import composition_diagram

from .. import digits
from ..embedded import svg
from ..run import Needs, Run
from ..section import Section, beside
from ..writing import LEAST_SHARE, listed, receiver


def _values(run: Run):
    if "composition" not in run.frames:
        return dict(why_not=run.why_not("composition"))
    together = run.frames["mediation"]
    return dict(
        parts=[_part(run, role) for role in run.task.mediated],
        n=together["n"].iloc[0],
        target=together["target"].iloc[0],
        receivers=listed([hypothesis.short for hypothesis in run.task.receivers]),
        least=LEAST_SHARE,
    )


def _part(run, role):
    """The figure and the rows for one role's word."""
    pairs, together = run.frames["composition"], run.frames["mediation"]
    diagram = composition_diagram(pairs, together, run.model, role)
    figure = svg(
        diagram.figure,
        f"The share of each head's effect on the {role} logit that is mediated by each "
        f"{receiver(run.task)}",
    )
    pairs = pairs[(pairs["role"] == role) & (pairs["share"].abs() >= LEAST_SHARE)]
    rows = []
    for sender, alone in together[together["role"] == role].groupby(
        ["sender_layer", "sender_head"]
    ):
        paths = pairs[(pairs["sender_layer"] == sender[0]) & (pairs["sender_head"] == sender[1])]
        lines = [
            row | dict(receiver=str(Head(row["receiver_layer"], row["receiver_head"])))
            for row in paths.to_dict("records")
        ]
        lines += [row | dict(receiver="all together") for row in alone.to_dict("records")]
        rows.append(
            dict(sender=str(Head(*sender)), total=alone["total_effect"].iloc[0], lines=lines)
        )
        rows[-1]["places"] = digits.three([rows[-1]["total"]])
    return dict(role=role, figure=figure, rows=rows)


EFFECTS = "total_effect mediated_effect ci_low ci_high share share_low share_high"
MEDIATED = f"sender_layer sender_head role {EFFECTS}"

SECTION = Section(
    order=70,
    link="Composition",
    title="Which heads act through which",
    needs=Needs(
        optional=[
            {
                "composition": f"{MEDIATED} receiver_layer receiver_head",
                "mediation": f"{MEDIATED} source target n",
            }
        ],
        task=("mediated",),
    ),
    values=_values,
    fragment=beside(__file__),
)
