"""How much of an effect is rounding: the noise floor of a model in its number format.

An edit sets off other rounding in every layer after it, and what that does to a logit has nothing to do with
the head. To measure it, every number that the heads of a layer put out is moved to its neighbour in the
number format, which is no edit at all but for rounding. Where an effect is not larger than what that does,
rounding may be all of it.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .edits import Edit
from .panels import mean_floor
from .patching import Patched, patch_edits, patched_edits
from .statistics import ROUNDING
from .trial import Trial
from .vlm import Vlm


def noise_floor(
    model: Vlm,
    trials: Sequence[Trial] | Trial,
    *,
    target: str | Sequence[str],
    positions: str | Sequence[int] = "end",
    progress: bool = True,
) -> float:
    """The effect of rounding alone, in logits: 95 % of such effects are smaller.

    A run per trial × target × layer; each moves the z of all heads of one layer by rounding. A mean over n
    trials has a floor of about this over √n, since rounding is as likely up as down.

    Args:
        target, positions, progress: as in `patch_heads`.

    Raises:
        InputError: as `patch_heads`.
    """
    frame = patch_edits(model, trials, _variants(model, positions), target=target, progress=progress)
    return floor_of([frame])


def nudged_layers(
    model: Vlm, trials: Sequence[Trial], target: str, positions: str | Sequence[int] = "end"
) -> Patched:
    """What `noise_floor` is taken from, of one target, as what is to be measured."""
    return patched_edits(trials, _variants(model, positions), target)


def floor_of(frames: Sequence[pd.DataFrame]) -> float:
    """The noise floor from the frames of `nudged_layers`."""
    return float(np.quantile(np.concatenate([frame["effect"].abs() for frame in frames]), 0.95))


def least_mean(frame: pd.DataFrame, logits: str) -> float:
    """Below what a mean over the trials of a frame may be rounding alone, in logits.

    Args:
        frame: with its `noise_floor` in ``attrs``, if it has one.
        logits: the column that says how large logits are.
    """
    n = frame["trial"].nunique()
    return max(
        mean_floor(frame.attrs.get("noise_floor", 0.0), n), ROUNDING * float(frame[logits].abs().max())
    )


def _variants(model, positions):
    return {
        f"layer {layer}": [
            Edit(layer, head, "rounding", positions=positions) for head in range(model.n_heads)
        ]
        for layer in range(model.n_layers)
    }
