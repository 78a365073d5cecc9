"""A finished run's results about one head, short enough for a cell of a notebook.

1. The verdict: the role that the head is shown to have, or that no role is shown.
2. Three numbers: the largest of its effects in the panels, that effect as a share of the gap, and
   the head's direct effect on the right answer's logit.
3. Its claims: those of its role, or, if it has none, of the hypothesis that it meets best.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

import pandas as pd

from ..errors import InputError
from ..heads import Head
from ..task import Task

# State of a claim → its word on the card.
STATES = {"holds": "shown", "refuted": "refuted", "undecided": "undecided", "void": "untestable"}


@dataclass(frozen=True, repr=False)
class HeadCard:
    """One head of a run; shows itself as text and in a notebook.

    Attributes:
        model: the model's name.
        head: which one.
        verdict: in a sentence, without its full stop.
        numbers: name → value with its interval, as text.
        claims: a row per claim: ``claim, expected, says, effect`` (logits), ``ci_low, ci_high,
            state``; no rows if no role was tested.
        about: the heading of the claims: whose they are.
    """

    model: str
    head: Head
    verdict: str
    numbers: Mapping[str, str]
    claims: pd.DataFrame
    about: str

    def __str__(self) -> str:
        lines = [f"Head {self.head} of {self.model}: {self.verdict}"]
        width = max(map(len, self.numbers), default=0)
        lines += [f"  {name:<{width}}  {value}" for name, value in self.numbers.items()]
        if len(self.claims):
            lines += [f"{self.about}:", *self._rows()]
        return "\n".join(lines)

    __repr__ = __str__

    def _rows(self):
        names = [f"{row.claim}  {row.expected}" for row in self.claims.itertuples()]
        width = max(map(len, names))
        for name, row in zip(names, self.claims.itertuples()):
            yield f"  {name:<{width}}  {row.state:<10}  {_with_interval(row)}".rstrip()

    def _repr_html_(self) -> str:
        numbers = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th>"
            f"<td style='text-align:left'>{escape(value)}</td></tr>"
            for name, value in self.numbers.items()
        )
        claims = "".join(
            f"<tr><th>{escape(row.claim)}</th><td style='text-align:left'>{escape(row.says)}</td>"
            f"<td>{escape(row.state)}</td><td>{escape(_with_interval(row))}</td></tr>"
            for row in self.claims.itertuples()
        )
        if claims:
            claims = (
                f"<p>{escape(self.about)}:</p><table><thead><tr><th>claim</th>"
                "<th style='text-align:left'>says</th><th>state</th><th>effect, logits</th></tr>"
                f"</thead><tbody>{claims}</tbody></table>"
            )
        return (
            f"<div><p><strong>Head {self.head} of {escape(self.model)}</strong>: "
            f"{escape(self.verdict)}</p><table><tbody>{numbers}</tbody></table>{claims}</div>"
        )


def head_card(
    model: str, task: Task, frames: Mapping[str, pd.DataFrame], layer: int, head: int
) -> HeadCard:
    """The card of a head.

    Args:
        model: the model's name.
        task: of the run.
        frames: of a finished run's folder.

    Raises:
        InputError: a head that the run did not restore.
    """
    panels = _own(frames["panels"], layer, head)
    if not len(panels):
        restored = frames["panels"][["layer", "head"]].drop_duplicates()
        raise InputError(
            f"there is no head {layer}.{head} in this run; give one of its {len(restored)} heads, "
            f"such as {Head(*restored.iloc[0])}"
        )
    verdict, hypothesis, about = _verdict(task, frames, layer, head)
    return HeadCard(
        model,
        Head(layer, head),
        verdict,
        _numbers(task, frames, panels, layer, head),
        _claims(task, frames, hypothesis, layer, head),
        about,
    )


def _own(frame, layer, head):
    return frame[(frame["layer"] == layer) & (frame["head"] == head)]


def _verdict(task, frames, layer, head):
    """The verdict in words, the hypothesis whose claims to show (or None), and their heading."""
    if "roles" not in frames:
        reasons = frames["left_out"].set_index("frame")["reason"]
        return f"no role was tested: {reasons.get('roles', 'roles were not tested')}", None, ""
    row = _own(frames["roles"], layer, head).iloc[0]
    if row["role"] != "none":
        colors = f" ({row['colors']})" if row["colors"] else ""
        named = [one for one in task.hypotheses if one.name in row["role"].split(" + ")]
        return f"{row['role']}{colors}", named[0] if named else None, "The claims of that role"
    nearest = max(
        task.hypotheses,
        key=lambda one: (
            sum(bool(row[claim.name]) for claim in one.predictions) / len(one.predictions)
        ),
    )
    return (
        "not shown to meet every prediction of a role",
        nearest,
        f"The claims of “{nearest.name}”, of which it meets the largest share",
    )


def _numbers(task, frames, panels, layer, head):
    top = panels.loc[panels["effect"].abs().idxmax()]
    numbers = {f"effect when {top['target']}, on “{top['role']}”": _logits(top)}
    if pd.notna(top["gap"]) and top["gap"]:
        numbers["of the gap"] = f"{_signed(100 * top['effect'] / top['gap'])} %"
    right = task.conditions["clean"].right
    if "direct_effects" in frames:
        direct = _own(frames["direct_effects"], layer, head)
        own = direct[direct["role"] == right]
        for _, row in own.iterrows():
            numbers[f"direct effect on “{right}”"] = _logits(
                row.rename({"direct_effect": "effect"})
            )
    return numbers


def _claims(task, frames, hypothesis, layer, head):
    columns = ["claim", "expected", "says", "effect", "ci_low", "ci_high", "state"]
    if hypothesis is None:
        return pd.DataFrame(columns=columns)
    own = _own(frames["evidence"], layer, head).drop_duplicates("prediction")
    own = own.set_index("prediction")
    # Among claims that can replace each other, the one that holds.
    names = [
        next((name for name in slot if own.loc[name, "holds"]), slot[0])
        for slot in hypothesis.slots
    ]
    names += [name for name in hypothesis.refutes if name not in names]
    own = own.loc[names]
    state = own["state"].where(own["void"] == "", "void").map(STATES)
    meant = [
        f"{said}, as claimed" if name in hypothesis.refutes and said == "refuted" else said
        for name, said in state.items()
    ]
    says = [task.says_of_predictions.get(name, "") for name in names]
    return own.assign(claim=names, says=says, state=meant)[columns].reset_index(drop=True)


def _logits(row):
    return f"{_with_interval(row)} logits"


def _with_interval(row):
    """A mean with its interval, to three digits."""
    effect, low, high = (getattr(row, name) for name in ("effect", "ci_low", "ci_high"))
    if pd.isna(effect):
        return ""
    ends = "" if pd.isna(low) else f" [{_signed(low)}, {_signed(high)}]"
    # An interval without width says nothing.
    return _signed(effect) + ends * (ends != f" [{_signed(effect)}, {_signed(effect)}]")


def _signed(value):
    return "0" if abs(value) < 5e-4 else f"{value:+.3g}".replace("-", "−")
