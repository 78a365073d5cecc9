"""Whether any head has a role, and the words for it.

| state | means | is said as |
|---|---|---|
| shown | a head meets every prediction of the role | its heads |
| refuted | every head has a prediction that is refuted | there is no … |
| undecided | neither: some heads are open | no … is shown, how many are open, and what these lack |
| untested | no prediction can be tested | whether there is one cannot be tested |

A head is *open* for a role if nothing that the role asks for is refuted, but not everything is
shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rgb_circuit.heads import Head, rows_of
from rgb_circuit.hypothesis import Hypothesis, Prediction, groups
from rgb_circuit.plots.canvas import percent
from rgb_circuit.stimuli.replicates import FEWEST, observations
from rgb_circuit.task import Task

from .. import evidence as _evidence
from ..evidence.verdict import UNEQUAL
from . import GAME, scores_by_role

# What is needed if there are too few trials or answers; see `rgb_circuit.stimuli.replicates`.
FEW = {
    "few clusters": f"{FEWEST} clusters of trials or more",
    "few of an answer": f"{FEWEST} clusters or more for each answer",
    "no two answers": "two to four answers that are right in some trials each",
    UNEQUAL: "prompts with equal numbers of tokens",
}
# How many open heads a sentence names.
NAMED = 2


@dataclass(frozen=True)
class Standing:
    """The state of one role among all heads.

    Attributes:
        hypothesis: the hypothesis of the role.
        state: "shown", "refuted", "undecided" or "untested".
        heads: the (layer, head) pairs that have the role.
        open: a row per open head, the highest score first: ``layer, head, score`` (as in
            `roles.table`, for this role).
        lacks: what each of the first `NAMED` open heads lacks, in words.
    """

    hypothesis: Hypothesis
    state: str
    heads: list[Head]
    open: pd.DataFrame
    lacks: list[str]


def standings(evidence: pd.DataFrame, task: Task = GAME) -> dict[str, Standing]:
    """Role → its state, for every hypothesis of a task.

    Args:
        evidence: from `roles.evidence`, of the same task.
    """
    scores = scores_by_role(evidence, task)
    return {
        hypothesis.name: _standing(evidence, hypothesis, task, scores[hypothesis.name])
        for hypothesis in task.hypotheses
    }


def open_heads(evidence: pd.DataFrame, hypothesis: Hypothesis) -> list[tuple[int, int]]:
    """The heads for which nothing that a role asks for is refuted, including those that have the
    role."""
    state = _evidence.by_prediction(evidence, "state")
    left = [(state[slot] != "refuted").any(axis=1) for slot in hypothesis.slots]
    left += [state[name] != "holds" for name in hypothesis.refutes]
    return [tuple(head) for head in state.index[np.logical_and.reduce(left)]]


def lacking(
    evidence: pd.DataFrame, head: tuple[int, int], wanted: Sequence[Hypothesis]
) -> pd.DataFrame:
    """The predictions of some roles that are undecided for a head or cannot be tested.

    Returns:
        A row per prediction: ``prediction, void, trials_to_decide, outside, stray, n``, as in the
        evidence.
    """
    rows = rows_of(evidence, head).set_index("prediction")
    unmet = [
        name
        for hypothesis in wanted
        for slot in hypothesis.slots
        if not rows.loc[slot, "holds"].any()
        for name in slot
    ]
    unmet += [name for hypothesis in wanted for name in hypothesis.refutes]
    rows = rows.loc[list(dict.fromkeys(unmet))].reset_index()
    left = (rows["state"] == "undecided") | (rows["void"] != "")
    return rows.loc[left, ["prediction", "void", "trials_to_decide", "outside", "stray", "n"]]


def strays(evidence: pd.DataFrame, head: tuple[int, int], hypothesis: Hypothesis) -> pd.DataFrame:
    """The predictions of a role that include an absence which fails in only a few of a head's
    trials.

    Returns:
        A row per prediction: ``prediction, state, outside`` (in how many trials), ``stray`` (the
        trial in which it fails by most), ``n``.
    """
    rows = rows_of(evidence, head)
    names = [name for slot in hypothesis.slots for name in slot]
    rows = rows[rows["prediction"].isin(names) & (rows["stray"] != "") & (rows["void"] == "")]
    return rows[["prediction", "state", "outside", "stray", "n"]]


def to_test(void: str, prediction: Prediction, task: Task) -> str:
    """What it takes to test a prediction, in words.

    Args:
        void: the reason why it cannot be tested, as in evidence frames.
    """
    if void == "no gap":
        return f"a model whose answer depends on {task.place or 'the picture'}"
    if void == "one word":
        return f"other {prediction.varied}s"
    if void == "no word":
        # These trials lack the word of a role whose word never varies.
        return " and ".join(f"answers[{role!r}]" for role in task.fixed(prediction))
    if void in FEW:
        return FEW[void]
    named = groups([prediction])
    frozen = [hypothesis for hypothesis in task.hypotheses if hypothesis.short in named]
    return " and ".join(f"{hypothesis.plural} to freeze" for hypothesis in frozen)


def _lacks(evidence, head, hypothesis, task):
    """The frame of `lacking` in words."""
    lacks = []
    for row in lacking(evidence, head, [hypothesis]).to_dict("records"):
        wanted = task.prediction(row["prediction"])
        why = (
            f"needs {to_test(row['void'], wanted, task)}"
            if row["void"]
            else f"undecided: {_to_decide(row, observations(evidence))}"
        )
        lacks.append(f"{row['prediction']} ({why})")
    return ", ".join(lacks)


def _to_decide(row, of):
    outside = f"outside the margin in {row['outside']:.0f} of {row['n']} {of}, "
    n = row["trials_to_decide"]
    return outside * bool(row["stray"]) + (
        "exactly at its threshold" if n == float("inf") else f"{n:,.0f} {of} would decide"
    )


def open_rivals(evidence: pd.DataFrame, hypothesis: Hypothesis, head: tuple[int, int]) -> list[str]:
    """The names of a hypothesis' rivals that are not refuted for a head."""
    return [rival.name for rival in hypothesis.rivals if tuple(head) in open_heads(evidence, rival)]


def a(hypothesis: Hypothesis, count: int = 1) -> str:
    """The name for one or several heads with a role."""
    return hypothesis.plural if count > 1 else hypothesis.plural.removesuffix("s")


def an(name: str) -> str:
    """A name with its article."""
    return f"{'an' if name[:1] in 'aeiou' else 'a'} {name}"


def one_of(hypotheses: Iterable[Hypothesis]) -> str:
    """The names of several roles' heads, with articles: "a color extractor or a POI head"."""
    return " or ".join(an(a(hypothesis)) for hypothesis in hypotheses)


def none_is(standing: Standing) -> str:
    """The sentence for a role that no head has, without capital and full stop."""
    name = a(standing.hypothesis)
    if standing.state == "refuted":
        return f"there is no {name}"
    if standing.state == "untested":
        return f"whether there is {an(name)} cannot be tested"
    count = len(standing.open)
    return f"no {name} is shown ({count} head{'s are' if count > 1 else ' is'} still open)"


def nearly(standing: Standing) -> str:
    """The open heads of a role and what they lack, without a full stop; empty if there are none."""
    named = {one.name: one for one in standing.hypothesis.predictions}
    of_attention = all(named[name].about_attention for name in standing.hypothesis.score)
    does = "reaches" if of_attention else "restores"
    heads = [
        f"{Head(layer, head)} {does} {percent(score)} and lacks {lacks}"
        for (layer, head, score), lacks in zip(
            standing.open.itertuples(index=False), standing.lacks
        )
    ]
    more = len(standing.open) - len(heads)
    return "; ".join(heads) + (_more(more) if more > 0 else "")


def _more(number):
    return f"; {number} more head{'s are' if number > 1 else ' is'} open"


def _standing(evidence, hypothesis, task, scores):
    heads = _evidence.heads(evidence, hypothesis)
    names = [prediction.name for prediction in hypothesis.predictions]
    of_role = evidence[evidence["prediction"].isin(names)]
    left = [head for head in open_heads(evidence, hypothesis) if head not in heads]
    table = pd.DataFrame(
        [(*head, scores[head]) for head in left], columns=["layer", "head", "score"]
    ).sort_values("score", ascending=False, kind="stable", ignore_index=True)
    # A large model may have hundreds of open heads, of which a page names two.
    named = table[["layer", "head"]].head(NAMED).itertuples(index=False)
    lacks = [_lacks(evidence, Head(*head), hypothesis, task) for head in named]
    if heads:
        state = "shown"
    elif (of_role["void"] != "").all():
        state = "untested"
    else:
        state = "undecided" if left else "refuted"
    return Standing(hypothesis, state, heads, table, lacks)
