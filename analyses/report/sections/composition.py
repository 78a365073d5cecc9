"""What the heads that localize or write the background do through the color extractors."""

from rgb_circuit.heads import Head
from rgb_circuit.plots import composition_diagram

from ... import digits
from ..embedded import svg
from ..run import Needs, Run
from ..section import Section, beside
from ..writing import LEAST_SHARE


def _values(run: Run):
    if "composition" not in run.frames:
        return dict(why_not=run.why_not("composition"))
    pairs, together = run.frames["composition"], run.frames["mediation"]
    diagram = composition_diagram(pairs, together, run.model)
    figure = svg(diagram.figure, "Which share of each head's effect runs through which extractor")
    on_background = together[together["role"] == "background"]
    pairs = pairs[(pairs["role"] == "background") & (pairs["share"].abs() >= LEAST_SHARE)]
    rows = []
    for sender, alone in on_background.groupby(["sender_layer", "sender_head"]):
        own = pairs[(pairs["sender_layer"] == sender[0]) & (pairs["sender_head"] == sender[1])]
        lines = [
            row | dict(receiver=str(Head(row["receiver_layer"], row["receiver_head"])))
            for row in own.to_dict("records")
        ]
        lines += [row | dict(receiver="all together") for row in alone.to_dict("records")]
        rows.append(dict(sender=str(Head(*sender)), total=alone["total_effect"].iloc[0], lines=lines))
        rows[-1]["places"] = digits.decimals([rows[-1]["total"]])
    return dict(figure=figure, rows=rows, n=together["n"].iloc[0], least=LEAST_SHARE)


EFFECTS = "total_effect mediated_effect ci_low ci_high share share_low share_high"
MEDIATED = f"sender_layer sender_head role {EFFECTS}"

SECTION = Section(
    order=70,
    link="Composition",
    title="Who works through whom",
    needs=Needs(
        optional=[
            {
                "composition": f"{MEDIATED} receiver_layer receiver_head",
                "mediation": f"{MEDIATED} source target n",
            }
        ]
    ),
    values=_values,
    fragment=beside(__file__),
    applies=lambda run: run.asks_for_roles,
)
