"""What the report's page shows of every head, beyond the sweep and the role table.

1. `sweep_effects`: the mean effect of each head in every sweep that the roles are told from, whatever is
   restored and whichever word is read, also as a fraction of the gap. No forward: these sweeps are the roles'
   own.
2. `Attended`: where each head looks from [end], on all pictures of the first trials, over the picture and
   over the other tokens of the prompt. One forward a picture.
3. `direct_effects`: what each head adds to the logit of each answer by itself (`rgb_circuit.direct_effects`),
   on the clean pictures of the first trials. One forward a trial.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import pandas as pd

import rgb_circuit as rgb
from rgb_circuit.attention import attention_from_end
from rgb_circuit.direct_effects import Decomposed
from rgb_circuit.errors import NotApplicable
from rgb_circuit.jobs import Jobs
from rgb_circuit.measurement import Measurement, Steps
from rgb_circuit.panels import mean_floor
from rgb_circuit.prompts import prompt_ids, tile_positions
from rgb_circuit.statistics import benjamini_hochberg, shown_to_fall, t_interval, t_p

from . import roles
from .evidence import LEAST_GAP

# How many trials are looked at, how many pictures of each, and how many trials direct effects are a mean of.
TRIALS, PICTURES, DIRECT = 3, 5, 8

SWEEP = ["component", "source", "target", "positions"]


def needs(trials: Sequence[rgb.Trial], every: Sequence[rgb.Trial]) -> list[Measurement]:
    """What is asked of each of some ``trials`` by itself, whatever was found, of those of the run's first
    among ``every`` trial."""
    names = [trial.name for trial in every]
    looked, split = (
        tuple(trial for trial in trials if trial.name in names[:most]) for most in (TRIALS, DIRECT)
    )
    asked: list[Measurement] = [Attended(looked)] if looked else []
    return [*asked, Decomposed(split, ("clean",))] if split else asked


def steps(
    model: rgb.Vlm, trials: Sequence[rgb.Trial], effects: pd.DataFrame
) -> dict[str, Steps[pd.DataFrame]]:
    """Name of a frame → steps to it.

    Args:
        effects: the run's `rgb_circuit.patch_heads`.

    Returns:
        ``sweeps`` (`sweep_effects`), ``looks`` (`Attended`), ``direct_effects`` (`direct_effects`).
    """
    return {
        "sweeps": _sweeps(model, list(trials), effects),
        "looks": _looks(trials),
        "direct_effects": _direct(trials),
    }


def _sweeps(model, trials, effects):
    answers = set(trials[0].answers)
    blocks = [effects]
    try:
        # The first is the game itself.
        asked = roles.needs(model, trials)[1:]
    except NotApplicable:
        asked = []
    summed = {}
    # One after the other: all effects of all sweeps at once are gigabytes in a large model.
    for one in asked:
        [frame] = yield [one]
        blocks.append(frame[frame["role"].isin(answers)])
    for block in blocks:
        for sweep, rows in block.groupby(SWEEP, observed=True, sort=False):
            summed.setdefault(sweep, rows)
    return sweep_effects(list(summed.values()), trials, effects.attrs.get("noise_floor", 0.0))


def sweep_effects(
    frames: Sequence[pd.DataFrame], trials: Sequence[rgb.Trial], noise_floor: float = 0.0
) -> pd.DataFrame:
    """The mean effect of each head in each sweep on each answer.

    The *gap* of a picture is by how much the logit of the word that is right for clean falls from there to
    that picture, mean over trials; where it is not shown to fall, or by less than `evidence.LEAST_GAP`, it is
    missing.

    Args:
        frames: from `rgb_circuit.patch_heads`, one for each sweep.
        noise_floor: how large a single effect may be by rounding alone, in logits; a mean that could be is
            not shown to be an effect.

    Returns:
        A row per sweep × role × head: ``component, source, target, positions, role, layer, head, effect,
        ci_low, ci_high`` (logits; mean over trials and its 95 % t interval, missing with one trial),
        ``p_value`` (two-sided, of a mean of zero), ``q_value`` (Benjamini–Hochberg over heads), ``gap``
        (logits), ``restored_fraction`` (effect / gap), ``n`` (trials).
    """
    read = trials[0].expected.get("clean")
    gaps = {}
    for frame in frames:
        if frame["source"].iloc[0] == "clean":
            gaps.setdefault(frame["target"].iloc[0], _gaps(frame))
    blocks = []
    for frame in frames:
        about = dict(frame[SWEEP].iloc[0])
        picture = about["source"] if about["target"] == "clean" else about["target"]
        for role, rows in frame.groupby("role", observed=True, sort=False):
            cells = rows.pivot(index="trial", columns=["layer", "head"], values="effect")
            gap = gaps.get(picture, {}).get(role if read is None else read, np.nan)
            layer, head = np.array(cells.columns.tolist()).T
            block = dict(about, role=role, layer=layer, head=head) | _tested(cells.to_numpy(), noise_floor)
            block |= dict(gap=gap, restored_fraction=block["effect"] / gap, n=len(cells))
            blocks.append(pd.DataFrame(block))
    return pd.concat(blocks, ignore_index=True).astype(dict.fromkeys([*SWEEP, "role"], "category"))


def _gaps(frame):
    """Role → the gap of a frame's target, NaN where there is none."""
    first = frame[(frame["layer"] == frame["layer"].iloc[0]) & (frame["head"] == frame["head"].iloc[0])]
    found = {}
    for role, rows in first.groupby("role", observed=True):
        before, after = rows["source_logit"].to_numpy(), rows["target_logit"].to_numpy()
        gap = float((before - after).mean())
        found[role] = gap if gap >= LEAST_GAP and shown_to_fall(before, after) else np.nan
    return found


def _tested(cells, noise_floor):
    """Column → (heads,), of effects (trials, heads)."""
    mean = cells.mean(0)
    unknown = np.full_like(mean, np.nan)
    if len(cells) < 2:
        return dict(effect=mean, ci_low=unknown, ci_high=unknown, p_value=unknown, q_value=unknown)
    low, high = t_interval(cells)
    p = np.minimum(1, 2 * np.minimum(t_p(cells, "greater"), t_p(cells, "less")))
    p = np.where(np.abs(mean) > mean_floor(noise_floor, len(cells)), p, 1.0)
    return dict(effect=mean, ci_low=low, ci_high=high, p_value=p, q_value=benjamini_hochberg(p))


def _looks(trials):
    [frame] = yield [Attended(tuple(trials[:TRIALS]))]
    return frame


@dataclass(frozen=True)
class Attended(Measurement):
    """Where every head looks from [end] on the first `PICTURES` pictures of each trial.

    A row per trial × condition × head: ``trial, condition, layer, head``; ``picture``, an array of attention
    probabilities in half precision, (rows · columns,) of image tokens, row by row, empty where nobody knows
    where they lie; ``text``, those of all other tokens, in order; ``tokens``, what these say. An image token
    without a place counts as one of these.
    """

    function: ClassVar[str] = "looks"

    def prepare(self, model: rgb.Vlm, jobs: Jobs | None):
        return partial(_attended, model)


def _attended(model, trials, jobs):
    for trial in trials:
        blocks = []
        conditions = list(trial.images)[:PICTURES]
        for _, condition, pattern in attention_from_end(
            model, [trial], conditions, jobs=jobs, progress=False
        ):
            ids = prompt_ids(model, [trial], condition)[trial.name]
            try:
                places = tile_positions(model, ids)
            except rgb.InputError:
                places = []
            others = np.setdiff1d(np.arange(len(ids)), places)
            seen = pattern.reshape(-1, len(ids)).astype(np.float16)
            layer, head = np.array(model.heads()).T
            about = dict(trial=trial.name, condition=condition, layer=layer, head=head)
            tokens = [model.processor.tokenizer.decode([token]) for token in ids[others].tolist()]
            rows = dict(picture=list(seen[:, places]), text=list(seen[:, others]))
            blocks.append(pd.DataFrame(about | rows | dict(tokens=[tokens] * len(seen))))
        yield {trial.name: pd.concat(blocks, ignore_index=True)}


def _direct(trials):
    [frame] = yield [Decomposed(tuple(trials[:DIRECT]), ("clean",))]
    return direct_effects(frame)


def direct_effects(frame: pd.DataFrame) -> pd.DataFrame:
    """The mean direct effect of each head on each answer.

    Args:
        frame: from `rgb_circuit.direct_effects`, of one condition.

    Returns:
        A row per role × head: ``role, layer, head, direct_effect, ci_low, ci_high`` (logits; mean over trials
        and its 95 % t interval, missing with one trial), ``n`` (trials).
    """
    own = frame[frame["component"] == "head"]
    blocks = []
    for role, rows in own.groupby("role", observed=True, sort=False):
        cells = rows.pivot(index="trial", columns=["layer", "head"], values="direct_effect")
        layer, head = np.array(cells.columns.tolist(), dtype=int).T
        found = _tested(cells.to_numpy(dtype=float), 0.0)
        block = dict(role=role, layer=layer, head=head, direct_effect=found["effect"])
        block |= dict(ci_low=found["ci_low"], ci_high=found["ci_high"], n=len(cells))
        blocks.append(pd.DataFrame(block))
    return pd.concat(blocks, ignore_index=True).astype({"role": "category"})
