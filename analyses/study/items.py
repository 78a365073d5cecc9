"""What the page shows of every item that a user brought: its pictures, and where a few heads look
on them.

1. `Pictured`: each trial's pictures as the model sees them, small. No forward.
2. `LookedAt`: where the shown heads look from [end], on the clean picture and on those that heads
   are restored in, for the first `TRIALS` trials. One forward per picture.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import pandas as pd
from PIL import Image

import rgb_circuit as rgb
from rgb_circuit.calls.attention import attention_from_end, over_picture
from rgb_circuit.calls.panels import panels, strongest
from rgb_circuit.heads import Head
from rgb_circuit.measuring.measurement import Measurement, Parts, Steps
from rgb_circuit.pictures.as_seen import as_seen
from rgb_circuit.pictures.thumbnail import small_file
from rgb_circuit.remote.jobs import Jobs
from rgb_circuit.task import Task

# Pixels of a picture's longer side; the number of trials with attention, and of heads.
SIDE, TRIALS, HEADS = 336, 100, 8


def of_trials(trials: Sequence[rgb.Trial], task: Task) -> dict[str, Steps[pd.DataFrame]]:
    """Those of `steps` that need only trials: ``items``; empty if the task draws its trials."""
    return {} if task.is_game else {"items": _pictures(trials)}


def steps(
    trials: Sequence[rgb.Trial],
    task: Task,
    effects: pd.DataFrame,
    which: Mapping[str, tuple[str, str]],
    named: Sequence[Head],
) -> dict[str, Steps[pd.DataFrame]]:
    """Name of a frame → steps to it: ``items`` (`Pictured`) and ``item_looks`` (`LookedAt`);
    empty if the task draws its trials.

    Args:
        effects: the run's `rgb_circuit.patch_heads`.
        which: panel → (target condition, role whose logit is read).
        named: heads that come first; the strongest of the panels follow, up to `HEADS`.
    """
    if task.is_game:
        return {}
    strong = strongest(panels(effects, which, trials=trials), HEADS).index
    heads = tuple(dict.fromkeys([*named, *map(Head.parse, strong)]))[:HEADS]
    return {**of_trials(trials, task), "item_looks": _looks(trials, heads, _looked_at(which))}


def forwards(trials: Sequence[rgb.Trial], task: Task, which: Mapping[str, tuple[str, str]]) -> int:
    """The number of plain forwards for `steps`, one per picture; ``which`` as in `steps`."""
    return 0 if task.is_game else len(trials[:TRIALS]) * len(_looked_at(which))


def _looked_at(which):
    """The conditions with attention: clean, and those that heads are restored in."""
    return tuple(dict.fromkeys(["clean", *(target for target, _ in which.values())]))


def _pictures(trials):
    [frame] = yield [Pictured(tuple(trials))]
    return frame


def _looks(trials, heads, conditions):
    [frame] = yield [LookedAt(tuple(trials[:TRIALS]), heads, conditions)]
    return frame


@dataclass(frozen=True)
class Pictured(Measurement):
    """The pictures of each trial as the model sees them, no larger than `SIDE`.

    A row per trial × condition: ``trial, condition``; ``width, height`` (pixels of that picture);
    ``picture`` (bytes, see `rgb_circuit.pictures.thumbnail.small_file`); ``unseen``, as
    `analyses.study.closer_look.Shown` has it.
    """

    function: ClassVar[str] = "items"

    def prepare(self, model: rgb.Vlm, jobs: Jobs | None) -> Parts:
        return lambda trials, jobs: ({trial.name: _small(model, trial)} for trial in trials)


def _small(model, trial):
    rows = []
    for condition, image in trial.images.items():
        seen, unseen = seen_or_given(model, image)
        labels = dict(trial=trial.name, condition=condition, width=seen.width, height=seen.height)
        rows.append(labels | dict(picture=small_file(seen, SIDE), unseen=unseen))
    return pd.DataFrame(rows)


def seen_or_given(model: rgb.Vlm, image: Image.Image) -> tuple[Image.Image, str | None]:
    """The picture as the model sees it, and None; or as given, and why the model's view is
    unknown."""
    try:
        return as_seen(model, image), None
    except rgb.InputError as error:
        return image, str(error)


@dataclass(frozen=True)
class LookedAt(Measurement):
    """Where some heads look from [end] on some pictures of each trial.

    A row per trial × condition × head: ``trial, condition, layer, head``; ``columns`` and
    ``picture``, as `analyses.study.every_head.Attended` has them.
    """

    heads: tuple[Head, ...]
    conditions: tuple[str, ...]

    function: ClassVar[str] = "item_looks"

    def prepare(self, model: rgb.Vlm, jobs: Jobs | None) -> Parts:
        return partial(_looked, model, self.heads, self.conditions)


def _looked(model, heads, conditions, trials, jobs) -> Iterator[dict[str, pd.DataFrame]]:
    patterns = attention_from_end(model, trials, conditions, heads=heads, jobs=jobs, progress=False)
    found: dict[str, list[pd.DataFrame]] = {trial.name: [] for trial in trials}
    for trial, condition, pattern in patterns:
        try:
            maps = over_picture(model, trial, pattern, condition)
        except rgb.InputError:
            maps = np.zeros((*pattern.shape[:2], 0, 0))
        layer, head = np.array(heads).T
        about = dict(trial=trial.name, condition=condition, layer=layer, head=head)
        flat = maps[layer, head].reshape(len(heads), -1).astype(np.float16)
        found[trial.name].append(
            pd.DataFrame(about | dict(columns=maps.shape[-1], picture=list(flat)))
        )
    yield {name: pd.concat(blocks, ignore_index=True) for name, blocks in found.items()}
