"""What each prediction of `analyses.roles` says of a head, in plain words; figures that draw predictions have
them as a legend.

"Its output" is the head's z at [end], taken from the clean picture's run and put into the run of the picture
that is named; "where it looks" is its attention alone, over that picture's own values.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import groupby

PREDICTIONS: Mapping[str, str] = {
    "P1a": "its output raises the odd colour where the tile is recolored",
    "P1b": "its output raises the odd colour where the tile is erased",
    "P1c": "its output raises the odd colour above every other word where the tile is erased",
    "P2a": "where it looks brings no odd colour where the tile is recolored",
    "P2b": "where it looks raises the background, not the odd colour, where the tile is erased",
    "P2c": "what it reads there raises the odd colour where the tile is recolored",
    "P2d": "what its output brings, it has from its own look at the picture",
    "P3a": "its output raises the background, not the odd colour, where the tile is erased",
    "P3b": "its output changes nothing where the tile is recolored",
    "P3c": "its output raises the background and the odd colour: it reads besides",
    "P3d": "its output raises the odd colour and not the background where the tile is recolored",
    "P3n": "its output alone changes nothing where the tile is erased",
    "P4": "on a canvas of another colour, its output raises that canvas's colour",
    "P4w": "on a canvas of another colour, its output raises the colour that it saw",
    "P5": "it raises the background through the color extractors",
    "P5b": "it raises the background both through the color extractors and past them",
    "P5w": "it raises the background past the color extractors",
    "P6": "its output of the picture with the tile elsewhere moves the reading there",
    "P6p": "where it looks with the tile elsewhere moves the reading there",
    "P7": "where it looks on the picture makes the extractors read there: it finds the place itself",
    "P7r": "where it looks does nothing: it hands on a place that another head found",
    "P8": "without its output on the plain canvas nothing changes: it rests there",
    "P8s": "without its output on the plain canvas the background rises: it held it down",
    "P9a": "its output lowers only the word for “nothing is odd” where the tile is erased",
    "P9b": "its output leaves the word for “nothing is odd” where the tile is recolored",
    "P10": "the clean answer falls with its output of the erased picture: it is needed",
}


# A claim as frames have it: the role of an answer, what happens to its logit, and by which route.
CLAIM = re.compile(
    r"(?P<role>.+) (?P<what>not up|not down|up|down|none|mostly)(?P<route> (?:past|through) the extractors|)"
)


def in_words(claims: str) -> str:
    """What a prediction expects, as ``expected`` of a frame has it, in English: “none” is the role of a word
    there, and also says that a logit does not move.

    >>> in_words("none down, odd none, none none")
    '“none” down, no effect on odd or “none”'
    """
    parsed = [CLAIM.fullmatch(claim) or claim for claim in claims.split(", ")]
    words: list[str] = []
    for unmoved, some in groupby(parsed, lambda one: not isinstance(one, str) and one["what"] == "none"):
        each = [one if isinstance(one, str) else _word(one, unmoved) for one in some]
        words += [f"no effect on {_either(each)}"] if unmoved else each
    return ", ".join(words)


def _word(claim: re.Match, unmoved: bool) -> str:
    role = "“none”" if claim["role"] == "none" else claim["role"]
    return role + claim["route"] if unmoved else f"{role} {claim['what']}{claim['route']}"


def _either(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def legend(predictions: Iterable[str]) -> str:
    """A line for each of some predictions that has plain words, in the order of `PREDICTIONS`."""
    drawn = set(predictions)
    return "\n".join(f"{name}: {words}" for name, words in PREDICTIONS.items() if name in drawn)
