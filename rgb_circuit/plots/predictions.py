"""What each prediction of `analyses.roles` says of a head, in plain words; figures that draw predictions have
them as a legend.

"Its output" is the head's z at [end], taken from the clean picture's run and put into the run of the picture
that is named; "where it looks" is its attention alone, over that picture's own values.
"""

from collections.abc import Iterable, Mapping

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


def legend(predictions: Iterable[str]) -> str:
    """A line for each of some predictions that has plain words, in the order of `PREDICTIONS`."""
    drawn = set(predictions)
    return "\n".join(f"{name}: {words}" for name, words in PREDICTIONS.items() if name in drawn)
