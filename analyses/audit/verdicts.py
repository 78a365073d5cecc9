"""The verdict on each head of a list, in a word."""

import numpy as np
import pandas as pd

from rgb_circuit.heads import rows_of
from rgb_circuit.statistics import benjamini_hochberg

LEVEL = 0.05
# Zero is a state that the model is never in, so it decides nothing about a head.
DECIDE = ("restored", "lost (mean)", "lost (resampling)")
CAUSAL, LOOKS, NEITHER, UNDECIDED = "causal", "looks only", "neither", "undecided"


def heads(frame: pd.DataFrame) -> pd.DataFrame:
    """A verdict on every head of every list, at the audit's positions.

    A head is *causal* if restoring it, or silencing it by its mean or by another trial's picture,
    is shown to move the logit difference or any answer's word by more than the least size of an
    effect, with false discoveries among all heads of the audit held at 5 %. A head that is shown,
    in most trials, to move none of them that far *looks only* if it gives the picture more
    attention than the model's heads do on average, or a marked place more than an even spread over
    prompt and picture would; otherwise it does *neither*. All other heads are *undecided*.

    Args:
        frame: from `analyses.audit.audit`.

    Returns:
        A row per list × head: ``list, layer, head, verdict; restored, lost`` (fractions of the gap
        of the difference; lost by the mean), ``word, effect`` (of the largest move: the role of its
        word, missing for the difference, and the effect in ``unit``), ``picture, place`` (shares of
        attention; for ``place`` the tile or box with the most, missing without any), ``q_value``
        (of being causal), ``q_absent``, ``q_looks``, ``n, positions``.
    """
    rows = frame[frame["layer"].notna()]
    pairs = rows[["layer", "head"]].drop_duplicates()
    about = pd.DataFrame(
        [
            _summary(rows_of(rows, (layer, head)), layer, head)
            for layer, head in pairs.itertuples(index=False)
        ]
    )
    for q, p in (("q_value", "p_value"), ("q_absent", "p_absent"), ("q_looks", "p_looks")):
        about[q] = benjamini_hochberg(about.pop(p).to_numpy(dtype=float))
    about["verdict"] = np.select(
        [
            about["q_value"] <= LEVEL,
            (about["q_absent"] <= LEVEL) & (about["q_looks"] <= LEVEL),
            about["q_absent"] <= LEVEL,
        ],
        [CAUSAL, LOOKS, NEITHER],
        UNDECIDED,
    )
    listed = rows[["list", "layer", "head"]].drop_duplicates()
    table = listed.merge(about, on=["layer", "head"], how="left", sort=False)
    table["positions"] = rows["positions"].iloc[0]
    first = ["list", "layer", "head", "verdict"]
    return table[[*first, *(name for name in table if name not in first)]]


def _summary(rows, layer, head):
    """One head's row, with uncorrected p values."""
    rows = rows[rows["list"] == rows["list"].iloc[0]]
    effects = rows[rows["measure"].isin(DECIDE)]
    looks = rows[rows["unit"].eq("share")].set_index("measure")
    largest = effects.loc[(effects["value"].abs() / effects["least"]).idxmax()]
    difference = effects[effects["word"].isna()].set_index("measure")["value"]
    looking = looks["p_value"].dropna()
    return {
        "layer": layer,
        "head": head,
        "restored": difference["restored"],
        "lost": difference["lost (mean)"],
        "word": largest["word"],
        "effect": largest["value"],
        "unit": largest["unit"],
        "picture": looks["value"]["picture"],
        "place": looks["value"].drop("picture").max(),
        "n": int(effects["n"].iloc[0]),
        # Any one effect is enough, so their p values are corrected for their number (Bonferroni);
        # an absence needs all, so the largest counts.
        "p_value": min(1.0, effects["p_value"].min() * len(effects)),
        "p_absent": effects["p_absent"].max(),
        "p_looks": min(1.0, looking.min() * len(looking)) if len(looking) else 1.0,
    }
