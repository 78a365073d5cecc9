"""Where heads look from [end].

Attention alone misleads: a head may look at the odd tile and write nothing that matters. Hold it against `patch_heads`.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from tqdm.auto import tqdm

from .batches import batches
from .capture import capture, pattern
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
            captured = capture(model, encode(model, shown), end, keys=True, queries=True)
            patterns = torch.stack([pattern(captured, layer)[:, :, 0].cpu() for layer in range(model.n_layers)], dim=1)
            for (trial, condition), probabilities in zip(shown, patterns.numpy()):
                yield trial, condition, probabilities
            bar.update(len(shown) // len(conditions))


def over_picture(model: Llava, trial: Trial, pattern: np.ndarray) -> np.ndarray:
    """The part of ``pattern`` (…, position) that lies on the picture, as (…, row, column) of image tokens."""
    tiles = tile_positions(model, prompt_ids(model, [trial])[trial.prompt])
    return pattern[..., tiles].reshape(*pattern.shape[:-1], *model.grid)
