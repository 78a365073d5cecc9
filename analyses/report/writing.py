"""How the report writes numbers, heads and lists, and how much it lists."""

from collections.abc import Mapping, Sequence

import pandas as pd

from rgb_circuit.heads import Head
from rgb_circuit.plots import canvas
from rgb_circuit.plots.predictions import in_words
from rgb_circuit.task import Task

from ..roles.standing import an
from . import digits

# Rows of a table, and the least share of an effect or of attention to list.
STRONGEST, LEAST_SHARE = 8, 0.05

# A smaller fraction is negligible and not written out; its digits are in the frames.
LEAST_WRITTEN = 1e-4

# Component → its name in words.
COMPONENTS = {
    "z": "its output (z)",
    "pattern": "where it looks (pattern)",
    "value": "what it reads there (value)",
}


def signed(value: float | None, places: int = 2) -> str:
    """A number with its sign, without one if it rounds to zero; a dash if it is missing."""
    text = digits.written(value, places)
    if value is not None and value == 0:
        return "0"
    positive = text[0].isdigit() and float(text) > 0
    return f"+{text}" if positive else text.replace("-", "−")


def places(row: Mapping, value: str = "effect") -> int:
    """The number of decimals for a row's mean and its interval."""
    return digits.three([row[value], row["ci_low"], row["ci_high"]])


def interval(row: Mapping, places: int) -> str:
    """A 95 % interval in brackets; empty if its width is not visible, a dash if it is missing."""
    if pd.isna(row["ci_low"]):
        return digits.MISSING
    low, high = signed(row["ci_low"], places), signed(row["ci_high"], places)
    return "" if low == high else f"[{low}, {high}]"


def shares_between(row: Mapping, low: str, high: str) -> str:
    """An interval of fractions, as `interval`."""
    if pd.isna(row[low]):
        return digits.MISSING
    ends = percent(row[low]), percent(row[high])
    return "" if ends[0] == ends[1] else f"[{ends[0]}, {ends[1]}]"


def is_nothing(row: Mapping, least: float, value: str = "effect") -> bool:
    """Whether a mean and its interval are all closer to zero than ``least``."""
    sizes = [abs(row[name]) for name in (value, "ci_low", "ci_high") if pd.notna(row[name])]
    return bool(sizes) and max(sizes) <= least


def percent(value: float | None) -> str:
    """A fraction as per cent, with two digits below ten, "≈ 0 %" if it is negligible, a dash if it
    is missing."""
    if value is not None and 0 < abs(value) < LEAST_WRITTEN:
        return "≈\N{NO-BREAK SPACE}0\N{NO-BREAK SPACE}%"
    return digits.MISSING if value is None else canvas.percent(value)


def small(value: float) -> str:
    """A probability, to two digits."""
    return digits.MISSING if pd.isna(value) else f"{value:.2g}"


def area(value: float) -> str:
    """An area under a curve of fractions."""
    return digits.written(value, 2)


def sentence(text: str) -> str:
    """Words as a sentence, with a capital and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def name(row: Mapping | pd.Series) -> str:
    """A row's head, ``layer.head``."""
    return str(Head(row["layer"], row["head"]))


def receiver(task: Task) -> str:
    """A short name for heads that others work through."""
    return " or ".join(hypothesis.short.removesuffix("s") for hypothesis in task.receivers)


def listed(parts: Sequence[str]) -> str:
    """A list in words: one, two and three."""
    return "".join(parts) if len(parts) < 2 else f"{', '.join(parts[:-1])} and {parts[-1]}"


FILTERS = dict(
    an=an,
    in_words=in_words,
    signed=signed,
    places=places,
    interval=interval,
    shares_between=shares_between,
    is_nothing=is_nothing,
    percent=percent,
    small=small,
    area=area,
    sentence=sentence,
)
