"""How much of an effect is rounding: the noise floor of a model in its number format.

Rounding shifts every effect by an amount that has nothing to do with the head: in the captured runs
that it is restored from, in attention computed from them (above all where it is nearly one-hot),
and in the patched run.

1. Measure some effects as they are, and again while the model rounds differently: every number of
   the residual stream that enters a layer of a captured run moves to a neighbour in the number
   format, up or down at random. Rounding aside, this edits nothing.
2. Both values differ from those of a model without rounding by random errors of about one size, so
   their difference has an error √2 times as large.
3. The floor is the 95 % quantile of these differences, divided by √2. An effect that is not larger
   may be rounding alone.

Source: random rounding, and the spread of results under it, is Monte Carlo arithmetic (Parker 1997,
UCLA CSD-970002) and before it CESTAC (Vignes 1993, Mathematics and Computers in Simulation 35).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from ..measuring.measure import measure
from ..statistics import ROUNDING
from ..trial import Trial, asked_of
from ..vlm import Vlm
from .panels import mean_floor
from .patching import Patched, PatchedHeads, targets_of

# How many heads are enough to estimate the rounding of all; a model with fewer uses them all.
HEADS = 64


def noise_floor(
    model: Vlm,
    trials: Sequence[Trial] | Trial,
    *,
    target: str | Sequence[str],
    positions: str | Sequence[int] = "end",
    progress: bool = True,
) -> float:
    """How far rounding alone moves the effect of a head, in logits: in 95 % of effects, by less.

    Every trial × target is measured twice, with z restored from ``clean`` (in ``clean`` itself:
    zeroed), for at most 64 heads that are spread over the model. A mean over n trials has a floor
    of about this over √n, since rounding is as likely up as down.

    Args:
        target, positions, progress: as in `patch_heads`.

    Raises:
        InputError: as `patch_heads`.

    Examples:
        >>> rgb.noise_floor(model, trials, target="recolored") < 0.001
        True
    """
    trials, heads = asked_of(model, trials), spread(model.heads())
    plain = [
        PatchedHeads.of(
            model, trials, "zero" if one == "clean" else "clean", one, "z", positions, heads
        )
        for one in targets_of(target, trials)
    ]
    again = [rounded_otherwise(one, trials) for one in plain]
    frames = measure(model, [*plain, *again], progress=progress, stage="measuring rounding")
    return floor_of(frames[: len(plain)], frames[len(plain) :])


def spread(heads: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
    """At most `HEADS` of these heads, evenly spread."""
    if len(heads) <= HEADS:
        return heads
    return [heads[place] for place in np.linspace(0, len(heads) - 1, HEADS).round().astype(int)]


def rounded_otherwise(measurement: Patched, trials: Sequence[Trial]) -> Patched:
    """The same measurement of some trials, while the model rounds differently."""
    return replace(measurement, trials=tuple(trials), nudge=True)


def floor_of(frames: Sequence[pd.DataFrame], again: Sequence[pd.DataFrame]) -> float:
    """The noise floor, from effects and from the same ones, or some of them, measured
    `rounded_otherwise`."""
    first, second = (pd.concat(each, ignore_index=True) for each in (frames, again))
    labels = [name for name in second if name != "effect" and not name.endswith("logit")]
    both = second.merge(first, on=labels, suffixes=("_again", ""))
    return float(np.quantile((both["effect_again"] - both["effect"]).abs(), 0.95) / 2**0.5)


def least_mean(frame: pd.DataFrame, logits: str) -> float:
    """The size below which a mean over a frame's trials may be rounding alone, in logits.

    Args:
        frame: with its `noise_floor` in ``attrs``, if it has one.
        logits: a column of logits, whose size gives the rounding of float32.
    """
    n = frame["trial"].nunique()
    return max(
        mean_floor(frame.attrs.get("noise_floor", 0.0), n),
        ROUNDING * float(frame[logits].abs().max()),
    )
