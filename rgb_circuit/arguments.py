"""Arguments as scripts hold them: NumPy's numbers, tensors of one element, paths, models."""

from __future__ import annotations

import os
from operator import index
from pathlib import Path

from .errors import InputError
from .files.table_text import shortened


def as_whole(value: object) -> int | None:
    """A whole number of any kind as an int; None for anything else. True and False are no numbers:
    a mask is no list of places."""
    if "bool" in str(getattr(value, "dtype", type(value))):
        return None
    try:
        return index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def as_number(value: object) -> float | None:
    """A real number of any kind as a float; None for anything else, text among it."""
    if isinstance(value, str | bytes) or "bool" in str(getattr(value, "dtype", type(value))):
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def whole_number(name: str, value: object, least: int = 1, advice: str = "") -> int:
    """An argument that must be a whole number, as an int.

    Args:
        name: of the argument, for the message.
        advice: what to do instead, if there is more to say.

    Raises:
        InputError: anything else, or a number below ``least``.
    """
    number = as_whole(value)
    if number is None or number < least:
        advice = advice or f"use a whole number from {least} on"
        raise InputError(f"{name} is {shortened(value)}; {advice}")
    return number


def as_path(value: object, what: str) -> Path:
    """The path of a file or a folder.

    Args:
        what: the path is of, for the message, such as "a TOML file".

    Raises:
        InputError: no path.
    """
    if isinstance(value, bytes) or not isinstance(value, str | os.PathLike):
        raise InputError(f"{shortened(value)} is no path; give the path of {what}")
    return Path(value)


def check_wrapped(model: object) -> None:
    """Raise InputError unless a model is one that `rgb_circuit.load` or `rgb_circuit.wrap` gave."""
    if not hasattr(model, "as_wrapped"):
        raise InputError(
            f"model is a {type(model).__name__}; give what rgb.load or rgb.wrap returns, such as "
            "rgb.load('toy')"
        )
