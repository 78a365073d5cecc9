"""Where heads look from [end].

Attention alone misleads: a head may look at the odd tile and write nothing that matters. Hold it against `patch_heads`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from tqdm.auto import tqdm

from .batches import batches
from .capture import attention_gaps, capture, check_attention, check_finite, pattern
from .execute import execute
from .llava import Llava
from .prompts import check_trials, encode, prompt_ids, tile_positions
from .trial import Trial


def attention_from_end(
    model: Llava, trials: Sequence[Trial], conditions: Sequence[str] = ("clean",), *, progress: bool = True
) -> Iterator[tuple[Trial, str, np.ndarray]]:
    """Every head's attention probabilities at [end], picture by picture.

    Yields:
        (trial, condition, pattern), pattern being float32 of shape (layer, head, position) that sums to one over positions.

    Raises:
        InputError: a condition that a trial lacks, or trials that cannot be shown to this model, before any forward.
    """
    trials = list(trials)
    check_trials(model, trials, conditions)
    with tqdm(total=len(trials), desc="attention", unit="trial", delay=2, disable=not progress) as bar:
        for shown, end in batches(model, trials, conditions):
            found = execute(model, _patterns, (model.n_heads, model.d_head), encode(model, shown), end)
            check_finite(model, found["finite"])
            check_attention(model, found["gaps"])
            for (trial, condition), probabilities in zip(shown, found["patterns"].numpy()):
                yield trial, condition, probabilities
            bar.update(len(shown) // len(conditions))


def _patterns(wrapped, heads, inputs, end):
    """Program: ``patterns`` at [end], (pictures, layer, head, position)."""
    captured = capture(wrapped, heads, inputs, end, True, True)
    return {
        "patterns": torch.stack([pattern(captured, layer)[:, :, 0].cpu() for layer in range(len(captured.z))], dim=1),
        "finite": bool(torch.isfinite(captured.logits).all()),
        "gaps": attention_gaps(captured),
    }


def over_picture(model: Llava, trial: Trial, pattern: np.ndarray) -> np.ndarray:
    """The part of ``pattern`` (…, position) that lies on the picture, as (…, row, column) of image tokens."""
    tiles = tile_positions(model, prompt_ids(model, [trial])[trial.prompt])
    return pattern[..., tiles].reshape(*pattern.shape[:-1], *model.grid)
