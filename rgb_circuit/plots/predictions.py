"""Predictions in plain words, which figures that draw predictions use as a legend."""

import re
from collections.abc import Iterable, Mapping
from itertools import groupby

from ..hypothesis import WORD


def in_words(claims: str) -> str:
    """The expectations of a prediction, from ``expected`` of a frame, in English. There “none” is
    the role of a word, and also the claim that a logit does not move.

    Examples:
        >>> in_words("none down, odd none, none none")
        '“none” down, no effect on odd or “none”'
    """
    parsed = [WORD.fullmatch(claim) or claim for claim in claims.split(", ")]
    words: list[str] = []
    for unmoved, some in groupby(
        parsed, lambda one: not isinstance(one, str) and one["expected"] == "none"
    ):
        each = [one if isinstance(one, str) else _word(one, unmoved) for one in some]
        words += [f"no effect on {_either(each)}"] if unmoved else each
    return ", ".join(words)


def _word(claim: re.Match, unmoved: bool) -> str:
    role = "“none”" if claim["role"] == "none" else claim["role"]
    route = f" {claim['part']} the {claim['of']}" if claim["of"] else ""
    return role + route if unmoved else f"{role} {claim['expected']}{route}"


def _either(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def legend(predictions: Iterable[str], says: Mapping[str, str]) -> str:
    """A line for each of the predictions that has plain words, in order.

    Examples:
        >>> legend(["B1", "B2", "B1"], {"B1": "its output raises the right word"})
        'B1: its output raises the right word'
    """
    return "\n".join(
        f"{name}: {says[name]}" for name in dict.fromkeys(predictions) if says.get(name)
    )
