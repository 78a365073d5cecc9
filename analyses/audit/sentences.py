"""A sentence on the result for each list of an audit."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from rgb_circuit.heads import Head

from ..report.digits import written
from .verdicts import CAUSAL, LOOKS, NEITHER, UNDECIDED, heads

# The fewest random lists with which the rank can reach 0.05.
ENOUGH = 19


def sentences(frame: pd.DataFrame) -> dict[str, str]:
    """List → a sentence on its result.

    Args:
        frame: from `analyses.audit.audit`.
    """
    of_heads = heads(frame)
    return {
        str(name): _sentence(rows.set_index("measure"), of_heads[of_heads["list"] == name])
        for name, rows in frame[frame["layer"].isna()].groupby("list", sort=False)
    }


def _sentence(rows, of_heads):
    size, where = len(of_heads), f"at [{of_heads['positions'].iloc[0]}]"
    restored, lost = rows.loc["restored"], rows.loc["lost (mean)"]
    number = int(restored["random_lists"])
    beside = [_rank(row) if row["decidable"] else "" for row in (restored, lost)]
    said = (
        f"Restoring its {size} head{'s' * (size > 1)} {where} restores {_share(restored)} of the "
        f"difference{beside[0]}, and silencing {'them' if size > 1 else 'it'} loses "
        f"{_share(lost)}{beside[1]}"
    )
    if not restored["decidable"]:
        others = f"only {number} other list{'s' * (number > 1)}" if number else "no other list"
        said += (
            f". Its layers have {others} of that size, too few to rank it among them ({ENOUGH} "
            "are needed)"
        )
    return f"{said}. {_counts(of_heads, where)}"


def _share(row: Mapping) -> str:
    value, low, high = (f"{100 * row[name] + 0.0:.0f}" for name in ("value", "ci_low", "ci_high"))
    return (
        f"{value} % ({low} to {high})".replace("-0 ", "0 ").replace("-0)", "0)").replace("-", "−")
    )


def _rank(row: Mapping) -> str:
    """How many of the random lists do as much."""
    number = int(row["random_lists"])
    reaching = round(row["p_value"] * (1 + number)) - 1
    among = "none" if reaching == 0 else str(reaching)
    return (
        f" ({among} of {number} random lists of its layers {'does' if reaching == 1 else 'do'} as "
        f"much, p = {row['p_value']:.2g})"
    )


def _counts(of_heads, where):
    """The number of heads with each verdict, and their names."""
    said = {
        CAUSAL: "causal",
        LOOKS: f"looks only, with no effect when restored or silenced {where}",
        NEITHER: f"neither looks nor has an effect {where}",
        UNDECIDED: "undecided",
    }
    parts = []
    for verdict, words in said.items():
        found = of_heads[of_heads["verdict"] == verdict]
        if len(found):
            names = ", ".join(str(Head(*pair)) for pair in zip(found["layer"], found["head"]))
            parts.append(f"{len(found)} of {len(of_heads)} {words} ({names})")
    return "; ".join(parts) + "."


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """Lists side by side as text: a row per list, its measures next to the random lists' mean."""
    rows = frame[frame["layer"].isna()]
    cells = {
        (row["list"], row["measure"]): _cell(row)
        for _, row in rows.iterrows()
        if not np.isnan(row["value"])
    }
    wide = (
        pd.Series(cells).unstack(sort=False).reindex(columns=list(dict.fromkeys(rows["measure"])))
    )
    return wide.reindex(list(dict.fromkeys(rows["list"]))).fillna("–").rename_axis("list")


def _cell(row):
    scale, unit, places = (1, "", 2) if row["unit"] == "nats" else (100, " %", 0)
    value, random = (written(scale * row[name], places) for name in ("value", "random_mean"))
    beside = "" if np.isnan(row["random_mean"]) else f" (random {random})"
    return f"{value}{unit}{beside}".replace("-", "−")
