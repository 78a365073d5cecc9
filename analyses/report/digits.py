"""Numbers of a table as text: as many decimals as the largest needs, whatever the scale, and a dash
for a missing number."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

MISSING = "–"
# Numbers too small for this many decimals are rounding errors.
MOST_DECIMALS = 8


def decimals(values: Iterable[float]) -> int:
    """How many decimals the numbers of a table share.

    Two for numbers like 0.4, 3.3 and 24.0; more if even the largest would not have two digits,
    fewer if it has more than four.

    Args:
        values: of the table; may be missing or empty.
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
    """As `decimals`, but with at most three digits if the largest is 1 or more: 3.30, 24.0, 177."""
    sizes = np.abs(np.asarray(list(values), dtype=float))
    # Round first: 9.999 is written 10.0.
    largest = float(f"{sizes[np.isfinite(sizes)].max(initial=0):.3g}")
    most = max(0, 2 - int(np.floor(np.log10(largest)))) if largest >= 1 else MOST_DECIMALS
    return min(decimals(sizes), most)


def written(value: float | None, decimals: int) -> str:
    """One number, without a sign if it rounds to zero."""
    if value is None or pd.isna(value):
        return MISSING
    # Adding zero takes the sign off −0.
    return f"{round(float(value), decimals) + 0.0:.{decimals}f}"


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame of numbers as text, all columns to the same decimals."""
    places = decimals(frame.to_numpy(dtype=float).ravel())
    return frame.map(lambda value: written(value, places))
