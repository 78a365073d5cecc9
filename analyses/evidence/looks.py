"""Claims about where heads look: their measurements, and how far each head is on their side."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

import rgb_circuit as rgb
from rgb_circuit.edits import POSITIONS
from rgb_circuit.hypothesis import BELOW_MEDIAN, Look, Prediction, about_attention
from rgb_circuit.measuring.attention_shares import AttentionShares

# In shares of attention, or nats: smaller differences may be rounding of even attention.
ROUNDING = 1e-5


def shares_asked(
    trials: Sequence[rgb.Trial], predictions: Iterable[Prediction]
) -> dict[str, AttentionShares]:
    """Condition → the measurement there for the predictions' claims about attention."""
    tokens: dict[str, dict[str, None]] = {}
    for look in about_attention(predictions):
        tokens.setdefault(look.condition, {}).update(
            {} if look.at == "entropy" else {look.at: None}
        )
    return {
        name: AttentionShares(tuple(trials), name, tuple(sorted(at))) for name, at in tokens.items()
    }


def check_looks(trials: Sequence[rgb.Trial], predictions: Iterable[Prediction]) -> None:
    """Raise InputError if claims about attention name tokens that a trial lacks."""
    for prediction in predictions:
        for look in about_attention([prediction]):
            for trial in trials:
                boxes = trial.boxes.get(look.condition, {})
                if look.at not in (*POSITIONS, "entropy", *boxes):
                    raise rgb.InputError(
                        f"{prediction.name} asks for attention to {look.at!r}, and trial "
                        f"{trial.name!r} has no such box in {look.condition!r}; use "
                        f"{', '.join([*POSITIONS, *boxes])}, or give trials that box"
                    )


def looked_at(
    looks: Iterable[Look], shares: Mapping[str, pd.DataFrame], trials: Sequence[rgb.Trial]
) -> dict[Look, tuple[np.ndarray, np.ndarray]]:
    """Claim → how far each head is on its side, and how far it could be.

    The share of attention on some tokens is compared with that of attention spread evenly over the
    prompt. The entropy over the picture is compared with the median of all heads, trial by trial; a
    head that does not look at the picture counts as the median.

    Args:
        shares: condition → the frame of `rgb_circuit.measuring.attention_shares.AttentionShares`.
    """
    order, sides = [trial.name for trial in trials], {}
    for look in looks:
        frame = shares[look.condition]
        rows = frame[frame["at"] == look.at]
        rows = rows.assign(trial=rows["trial"].astype(str))
        value = (
            rows.pivot(index="trial", columns=["layer", "head"], values="value")
            .loc[order]
            .to_numpy()
        )
        even = rows.groupby("trial")["even"].first().loc[order].to_numpy()
        if look.expected == BELOW_MEDIAN:
            most = np.nanmedian(value, axis=1)
            side = np.nan_to_num(most[:, None] - value)
        else:
            side, most = value - even[:, None], 1 - even
        sides[look] = np.where(np.abs(side) > ROUNDING, side, 0), most
    return sides
