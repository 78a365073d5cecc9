"""Numbers of a table as text: as many decimals as the largest of them needs, whatever their scale,
and a dash for one that is missing."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

MISSING = "–"
# Numbers that are all smaller than what this many decimals show are rounding.
MOST_DECIMALS = 8


def decimals(values: Iterable[float]) -> int:
    """How many decimals the numbers of a table share.

    Two for numbers like 0.4, 3.3 and 24.0; more where even the largest would not have two digits,
    fewer where it has more than four.

    Args:
        values: the table's, missing ones among them or none at all.
    """
    sizes = np.abs(np.asarray(list(values), dtype=float))
    largest = sizes[np.isfinite(sizes)].max(initial=0)
    if largest < 0.5 * 10.0**-MOST_DECIMALS:
        return 2
    exponent = int(np.floor(np.log10(largest)))
    if exponent < 0:
        return min(MOST_DECIMALS, max(2, 1 - exponent))
    return min(2, max(0, 3 - exponent))


def three(values: Iterable[float]) -> int:
    """As `decimals`, but of no more than three digits where the largest is 1 or more: 3.30, 24.0,
    177."""
    sizes = np.abs(np.asarray(list(values), dtype=float))
    # As it is written: 9.999 is 10.0.
    largest = float(f"{sizes[np.isfinite(sizes)].max(initial=0):.3g}")
    most = max(0, 2 - int(np.floor(np.log10(largest)))) if largest >= 1 else MOST_DECIMALS
    return min(decimals(sizes), most)


def written(value: float | None, decimals: int) -> str:
    """One number, without a sign where it rounds to zero."""
    if value is None or pd.isna(value):
        return MISSING
    # Adding zero takes the sign off −0.
    return f"{round(float(value), decimals) + 0.0:.{decimals}f}"


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame of numbers as text, all columns to the same decimals."""
    places = decimals(frame.to_numpy(dtype=float).ravel())
    return frame.map(lambda value: written(value, places))
