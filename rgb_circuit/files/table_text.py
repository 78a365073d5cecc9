"""Names and words as tables give them: text and whole numbers are taken, the rest is refused."""

import re
from collections.abc import Sequence
from numbers import Integral
from typing import Any

from ..errors import InputError

SEPARATORS = (",", ";", "\t", "|")
# A line above the header from which Excel takes the separator, quoted or not.
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)


def separator_of(first_line: str, usual: str = ",") -> tuple[str, int]:
    """What stands between the cells of a table: Excel writes semicolons where the comma is the
    decimal mark.

    Args:
        first_line: the header, or a line ``sep=;`` above it.

    Returns:
        The separator; and the number of lines above the header: 0, or 1.
    """
    if said := _SEPARATOR_LINE.fullmatch(first_line):
        return said[1], 1
    return (usual if usual in first_line else max(SEPARATORS, key=first_line.count)), 0


def as_text(value: object, what: str, example: str) -> str:
    """A cell as text: text as it is, a whole number in digits.

    Args:
        what: the cell, for the message, such as ``"answer 'right' of trial 'a'"``.
        example: of what would do.

    Raises:
        InputError: anything else, such as a missing value, a decimal number, a list or blank text.
    """
    if isinstance(value, Integral) and not isinstance(value, bool):
        return str(int(value))
    if not isinstance(value, str):
        raise InputError(
            f"{what} is {shortened(value)} ({type(value).__name__}); give text such as "
            f"{example!r}, or a whole number"
        )
    if not value.strip():
        raise InputError(f"{what} is blank ({shortened(value)}); give text such as {example!r}")
    return str(value)


def shortened(value: object, most: int = 40) -> str:
    """A value as Python writes it, in one line, or the beginning of that."""
    text = " ".join(repr(value).splitlines())
    return text if len(text) <= most else text[: most - 1] + "…"


def in_one_order(words: Sequence[Any], known: dict[frozenset[str], Sequence[Any]]) -> Sequence[Any]:
    """Words that are accepted for an answer, in the order of the first that accepts the same:
    the first of them names the answer.

    Args:
        known: what was met before, which this adds to.
    """
    return known.setdefault(frozenset(str(word).strip() for word in words), words)
