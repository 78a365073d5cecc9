"""Hypotheses for a user's own pictures with two right answers: those of `tasks/pairs.toml`, under
the names that the user gave the answers and pictures."""

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from . import Claim, Hypothesis
from .plain_tables import hypotheses_of

FILE = Path(__file__).parents[1] / "stimuli" / "tasks" / "pairs.toml"


def hypotheses(right: str | None, other: str | None, changed: str) -> tuple[Hypothesis, ...]:
    """The hypotheses about a pair of pictures; none if the pair lacks two right answers.

    Args:
        right, other: the roles of the right answers to the clean and to the changed picture.
        changed: the condition of the changed picture.

    Examples:
        >>> from rgb_circuit.hypothesis.pairs import hypotheses
        >>> carrier = hypotheses("color", "wrong color", "recolored")[0]
        >>> carrier.name, carrier.predictions[0].text
        ('answer carrier', 'color up, wrong color down: z clean -> recolored')
    """
    if right is None or other in (None, right):
        return ()
    return tuple(
        _renamed(one, {"right": right, "other": str(other)}, {"changed": changed})
        for one in _of_file()
    )


@cache
def _of_file():
    table = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return hypotheses_of(table, FILE.name)[0]


def _renamed(
    hypothesis: Hypothesis, roles: Mapping[str, str], conditions: Mapping[str, str]
) -> Hypothesis:
    """A hypothesis with some roles of answers and some conditions renamed."""

    def renamed(claim):
        sweep = claim.sweep
        names = {
            name: conditions.get(old, old)
            for name, old in vars(sweep).items()
            if name in ("source", "target")
        }
        return Claim(roles.get(claim.role, claim.role), claim.expected, replace(sweep, **names))

    def all_renamed(prediction):
        varied = prediction.varied and roles.get(prediction.varied, prediction.varied)
        return replace(prediction, claims=tuple(map(renamed, prediction.claims)), varied=varied)

    return replace(hypothesis, predictions=tuple(map(all_renamed, hypothesis.predictions)))
