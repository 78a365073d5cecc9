"""Frames that the report's page shows for every head, beyond the sweep and the role table.

1. `sweep_effects`: the mean effect of each head in every sweep behind the roles, for each restored
   condition and each answer, also as a fraction of the gap. No forward: the roles need these sweeps
   anyway.
2. `Attended`: where each head looks from [end], on all pictures of the first trials, over the
   picture and over the other tokens of the prompt. One forward per picture.
3. `direct_effects`: what each head by itself adds to the logit of each answer
   (`rgb_circuit.direct_effects`), on the clean pictures of the first trials. One forward per trial.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import pandas as pd

import rgb_circuit as rgb
from rgb_circuit.calls.attention import attention_from_end
from rgb_circuit.calls.direct_effects import Decomposed
from rgb_circuit.calls.panels import gaps, tested
from rgb_circuit.calls.patching import PatchedHeads
from rgb_circuit.measuring.measurement import Measurement, Parts, Steps
from rgb_circuit.pictures.views import laid_out
from rgb_circuit.prompts import prompt_ids
from rgb_circuit.remote.jobs import Jobs
from rgb_circuit.statistics import t_interval, words_read
from rgb_circuit.stimuli.replicates import averaged, named_clusters
from rgb_circuit.task import Task

from .. import roles

# The trials with attention, the pictures of each, and the trials that direct effects are averaged
# over.
TRIALS, PICTURES, DIRECT = 3, 5, 8

SWEEP = ["component", "source", "target", "positions"]


def of_trials(trials: Sequence[rgb.Trial]) -> dict[str, Steps[pd.DataFrame]]:
    """Those of `steps` that need only trials: ``looks`` (`Attended`) and ``direct_effects``
    (`direct_effects`)."""
    return {"looks": _looks(trials), "direct_effects": _direct(trials)}


def steps(
    model: rgb.Vlm,
    trials: Sequence[rgb.Trial],
    effects: pd.DataFrame,
    positions: str | Sequence[int],
    task: Task | None,
) -> dict[str, Steps[pd.DataFrame]]:
    """Name of a frame → steps to it.

    Args:
        effects: the run's `rgb_circuit.patch_heads`.
        positions: where the run restores heads.
        task: the task whose roles' sweeps were measured; None if none were.

    Returns:
        ``sweeps`` (`sweep_effects`), and those of `of_trials`.
    """
    return {
        "sweeps": _sweeps(model, list(trials), effects, positions, task),
        **of_trials(trials),
    }


def forwards(measurements: Sequence[Measurement]) -> int:
    """The number of plain forwards for those ``measurements`` that only the page needs, one per
    picture."""
    return sum(
        len(list(trial.images)[:PICTURES]) if isinstance(measurement, Attended) else 1
        for measurement in measurements
        if isinstance(measurement, (Attended, Decomposed))
        for trial in measurement.trials
    )


def _sweeps(model, trials, effects, positions, task):
    answers = set(trials[0].answers)
    blocks = [effects]
    needs = [] if task is None else roles.needs(model, trials, positions, task)
    sweeps = [measurement for measurement in needs if isinstance(measurement, PatchedHeads)]
    # One at a time: the effects of all sweeps together take gigabytes in a large model.
    for measurement in sweeps:
        [frame] = yield [measurement]
        # A sweep whose pictures do not line up has no rows.
        if len(frame):
            blocks.append(frame[frame["role"].isin(answers)])
    by_sweep: dict[tuple, pd.DataFrame] = {}
    for block in blocks:
        for sweep, rows in block.groupby(SWEEP, observed=True, sort=False):
            rows.attrs = dict(effects.attrs)
            by_sweep.setdefault(sweep, rows)
    return sweep_effects(list(by_sweep.values()), trials)


def sweep_effects(
    frames: Sequence[pd.DataFrame], trials: Sequence[rgb.Trial] | None = None
) -> pd.DataFrame:
    """The mean effect of each head in each sweep on each answer.

    Args:
        frames: from `rgb_circuit.patch_heads`, one per sweep; if a frame has a ``noise_floor``, a
            mean that rounding alone could cause counts as zero.
        trials: of the frames; they matter if the user brought them
            (`rgb_circuit.calls.panels.tested`).

    Returns:
        A row per sweep × role × head: ``component, source, target, positions, role, layer, head,
        effect, ci_low, ci_high, told, n`` as `rgb_circuit.calls.panels.tested` has them, ``gap``
        (logits, from the clean picture to the other: the target, or the source where clean is the
        target; see `rgb_circuit.calls.panels.gaps`), ``restored_fraction`` (effect / gap).
    """
    known: dict[str, float] = {}
    for frame in frames:
        if frame["source"].iloc[0] == "clean":
            known = gaps(frame, trials=trials) | known
    blocks = []
    for frame in frames:
        sweep = frame[SWEEP].iloc[0].astype(str).to_dict()
        which = {role: (sweep["target"], role) for role in frame["role"].unique()}
        gap = known.get(sweep["source"] if sweep["target"] == "clean" else sweep["target"], np.nan)
        block = (
            tested(frame, which, trials=trials)
            .drop(columns=["panel", "target"])
            .assign(**sweep, gap=gap)
        )
        blocks.append(block.assign(restored_fraction=block["effect"] / gap))
    front = [*SWEEP, "role", "layer", "head"]
    table = pd.concat(blocks, ignore_index=True)
    table = table[[*front, *(name for name in table if name not in front)]]
    return table.astype(dict.fromkeys([*SWEEP, "role"], "category"))


def _looks(trials):
    [frame] = yield [Attended(tuple(trials[:TRIALS]))]
    return frame


@dataclass(frozen=True)
class Attended(Measurement):
    """Where every head looks from [end] on the first `PICTURES` pictures of each trial.

    A row per trial × condition × head: ``trial, condition, layer, head``; ``picture``, an array of
    attention probabilities in half precision, (rows · columns,) of image tokens, row by row, empty
    if their places are unknown; ``columns``, the number of image tokens in a row; ``text``, the
    probabilities of all other tokens, in order; ``tokens``, their texts. An image token without a
    place counts as one of the other tokens.
    """

    function: ClassVar[str] = "looks"

    def prepare(self, model: rgb.Vlm, jobs: Jobs | None) -> Parts:
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
                places = laid_out(model, trial.images[condition], ids)
            except rgb.InputError:
                places = np.zeros((0, 0), dtype=int)
            columns, places = places.shape[1], places.ravel()
            others = np.setdiff1d(np.arange(len(ids)), places)
            seen = pattern.reshape(-1, len(ids)).astype(np.float16)
            layer, head = np.array(model.heads()).T
            labels = dict(
                trial=trial.name, condition=condition, layer=layer, head=head, columns=columns
            )
            tokens = [model.processor.tokenizer.decode([token]) for token in ids[others].tolist()]
            rows = dict(picture=list(seen[:, places]), text=list(seen[:, others]))
            blocks.append(pd.DataFrame(labels | rows | dict(tokens=[tokens] * len(seen))))
        yield {trial.name: pd.concat(blocks, ignore_index=True)}


def _direct(trials):
    [frame] = yield [Decomposed(tuple(trials[:DIRECT]), ("clean",))]
    return direct_effects(averaged(frame, named_clusters(trials)))


def direct_effects(frame: pd.DataFrame) -> pd.DataFrame:
    """The mean direct effect of each head on each answer.

    Args:
        frame: from `rgb_circuit.direct_effects`, of one condition.

    Returns:
        A row per role × head: ``role, layer, head, direct_effect, ci_low, ci_high`` (logits; mean
        over trials and its 95 % t interval within words, missing with one trial), ``n`` (trials).
    """
    of_heads = frame[frame["component"] == "head"]
    blocks = []
    for role, rows in of_heads.groupby("role", observed=True, sort=False):
        cells = rows.pivot(index="trial", columns=["layer", "head"], values="direct_effect")
        layer, head = np.array(cells.columns.tolist(), dtype=int).T
        block = dict(
            role=role, layer=layer, head=head, direct_effect=cells.mean().to_numpy(), n=len(cells)
        )
        low, high = np.full((2, len(head)), np.nan)
        if len(cells) > 1:
            low, high = t_interval(cells.to_numpy(), words_read(rows, cells.index))
        blocks.append(pd.DataFrame(block | dict(ci_low=low, ci_high=high)))
    return pd.concat(blocks, ignore_index=True).astype({"role": "category"})
