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
    return digits.decimals([row[value], row["ci_low"], row["ci_high"]])


def percent(value: float | None) -> str:
    """A fraction as per cent, to two digits where it is below ten; a dash where there is none."""
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
    percent=percent,
    small=small,
    area=area,
    sentence=sentence,
)
