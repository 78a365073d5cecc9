"""How the report writes numbers, heads and lists, and how much it lists."""

from collections.abc import Mapping, Sequence

import pandas as pd

from rgb_circuit.heads import Head
from rgb_circuit.plots import canvas
from rgb_circuit.plots.predictions import in_words
from rgb_circuit.task import Task

from ..roles.standing import an
from . import digits

# Rows of a table, and the share of an effect or of attention from which something is listed.
STRONGEST, LEAST_SHARE = 8, 0.05

# A fraction below this is nothing that anybody would act on; its digits are in the frames.
LEAST_WRITTEN = 1e-4

# Component → what of a head is restored.
COMPONENTS = {
    "z": "its output (z)",
    "pattern": "where it looks (pattern)",
    "value": "what it reads there (value)",
}


def signed(value: float | None, places: int = 2) -> str:
    """A number with its sign, nothing where it rounds to zero; a dash where there is none."""
    text = digits.written(value, places)
    if value is not None and value == 0:
        return "0"
    positive = text[0].isdigit() and float(text) > 0
    return f"+{text}" if positive else text.replace("-", "−")


def places(row: Mapping, value: str = "effect") -> int:
    """How many decimals a row's mean and its interval are written with."""
    return digits.three([row[value], row["ci_low"], row["ci_high"]])


def interval(row: Mapping, places: int) -> str:
    """A 95 % interval in brackets; empty where it has no width to be seen, a dash where there is
    none."""
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
    """Whether a mean and its interval are all nearer to zero than counts."""
    sizes = [abs(row[name]) for name in (value, "ci_low", "ci_high") if pd.notna(row[name])]
    return bool(sizes) and max(sizes) <= least


def percent(value: float | None) -> str:
    """A fraction as per cent, to two digits where it is below ten, "≈ 0 %" where it is next to
    nothing; a dash where there is none."""
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
    """Words as a sentence, with its capital and its full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def name(row: Mapping | pd.Series) -> str:
    """A row's head, ``layer.head``."""
    return str(Head(row["layer"], row["head"]))


def receiver(task: Task) -> str:
    """What a head is called that others go through, in short."""
    return " or ".join(hypothesis.short.removesuffix("s") for hypothesis in task.receivers)


def listed(parts: Sequence[str]) -> str:
    """One, two and three."""
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
