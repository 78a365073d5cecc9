"""Whether the model answers the question at all, by answer and stratum, against guessing; only for
pictures that were not drawn."""

from .. import accuracy
from ..run import Needs, Run
from ..section import Section, beside

COUNTED = {
    "flips": "trials that flip: right on the clean picture and on those with another answer",
    "group": "clusters that are right in all their trials",
}


def _values(run: Run):
    table, each = run.frames["accuracy"], run.frames["accuracy_by_trial"]
    # The section on answers shows accuracy by picture.
    shown = table[table["by"] != "picture"]
    if run.task.is_game or shown.empty:
        return None
    # If there are many answers, keep those with the most pictures.
    order = shown.groupby("by")["n"].rank(method="first", ascending=False)
    rows = shown[order <= accuracy.MOST_PRINTED].to_dict("records")
    gaps = each.dropna(subset="has_gap")
    without = gaps.loc[~gaps["has_gap"].astype(bool), "trial"].astype(str).tolist()
    return dict(
        rows=[row | dict(what=COUNTED.get(row["by"], row["by"])) for row in rows],
        fewer=len(shown) - len(rows),
        guessed=table["chance"].iloc[0],
        constant=accuracy.constants(table),
        gaps=len(gaps),
        without=without,
        least=accuracy.LEAST_GAP,
        most=accuracy.MOST_PRINTED,
    )


SECTION = Section(
    order=21,
    link="Accuracy",
    title="Does the model use the picture?",
    needs=Needs(
        added={
            "accuracy": "by level right n share ci_low ci_high chance constant",
            "accuracy_by_trial": "trial has_gap",
        }
    ),
    values=_values,
    fragment=beside(__file__),
    half=True,
)
