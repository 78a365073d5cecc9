"""Attention patterns of heads from [end].

Attention alone misleads: a head may look at the odd tile and write nothing that matters. Compare it
with `patch_heads`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from ..bars import tqdm
from ..edits import check_heads
from ..measuring.batches import batches
from ..pictures.views import laid_out
from ..programs.patterns import patterns
from ..prompts import check_trials, encode, prompt_ids
from ..remote.jobs import Jobs
from ..running.checks import check_attention, check_finite
from ..running.execute import execute
from ..trial import Trial, asked_of
from ..vlm import Vlm


def attention_from_end(
    model: Vlm,
    trials: Sequence[Trial] | Trial,
    conditions: Sequence[str] = ("clean",),
    *,
    heads: Sequence[tuple[int, int]] | None = None,
    jobs: Jobs | None = None,
    progress: bool = True,
) -> Iterator[tuple[Trial, str, np.ndarray]]:
    """Heads' attention probabilities at [end], picture by picture.

    Args:
        heads: (layer, head) pairs; all by default. For all heads of a 13B model, a server sends 4
            MB per picture.
        jobs: see `rgb_circuit.running.execute.execute`.
        progress: show a bar if the run takes longer than two seconds.

    Yields:
        (trial, condition, pattern); the pattern is float32, (layer, head, position), sums to one
        over positions, and is NaN for heads that are left out.

    Raises:
        InputError: a head that does not exist, a condition that a trial lacks, or trials that
            cannot be shown to this model, before any forward.
    """
    trials = asked_of(model, trials)
    heads = model.heads() if heads is None else check_heads(model, heads)
    indices = np.array(heads, dtype=int).reshape(-1, 2).T.tolist()
    check_trials(model, trials, conditions)
    n_pictures = len(trials) * len(conditions)
    with tqdm(
        total=n_pictures, desc="attention", unit="picture", delay=2, disable=not progress
    ) as bar:
        for shown, end in chain.from_iterable(batches(model, trials, conditions)):
            result = execute(
                model,
                patterns,
                (model.n_heads, model.d_head),
                encode(model, shown),
                end,
                indices,
                jobs=jobs,
            )
            check_finite(model, result["finite"])
            check_attention(model, result["gaps"])
            for (trial, condition), probabilities in zip(shown, result["patterns"].numpy()):
                every_head = np.full(
                    (model.n_layers, model.n_heads, end + 1), np.nan, dtype=np.float32
                )
                every_head[*indices] = probabilities
                yield trial, condition, every_head
            bar.update(len(shown))


def over_picture(
    model: Vlm, trial: Trial, pattern: np.ndarray, condition: str = "clean"
) -> np.ndarray:
    """The part of ``pattern`` (…, position) that lies on a condition's picture, as (…, row, column)
    of image tokens; if the picture is shown twice, on its first view.

    Raises:
        InputError: the model's tokens cannot be laid over the picture.
    """
    ids = prompt_ids(model, [trial], condition)[trial.name]
    return pattern[..., laid_out(model, trial.images[condition], ids)]
