"""Where heads look from [end].

Attention alone misleads: a head may look at the odd tile and write nothing that matters. Hold it against `patch_heads`.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from tqdm.auto import tqdm

from .capture import capture, pattern
from .llava import Llava
from .memory import pictures_at_once
from .prompts import by_length, check_trials, chunks, encode, locate, prompt_ids
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
    ids = prompt_ids(model, trials)
    with tqdm(total=len(trials), desc="attention", unit="trial", delay=2, disable=not progress) as bar:
        for alike in by_length(trials, ids):
            last = len(ids[alike[0].prompt]) - 1
            for group in chunks(alike, pictures_at_once(model, last + 1, last) // len(conditions)):
                shown = [(trial, condition) for trial in group for condition in conditions]
                captured = capture(model, encode(model, shown), last, keys=True, queries=True)
                patterns = torch.stack([pattern(captured, layer)[:, :, 0].cpu() for layer in range(model.n_layers)], dim=1)
                for (trial, condition), probabilities in zip(shown, patterns.numpy()):
                    yield trial, condition, probabilities
                bar.update(len(group))


def over_picture(model: Llava, trial: Trial, pattern: np.ndarray) -> np.ndarray:
    """The part of ``pattern`` (…, position) that lies on the picture, as (…, row, column) of image tokens."""
    image = locate(model, trial, "image", prompt_ids(model, [trial])[trial.prompt])
    rows, columns = model.grid
    # A vision tower that keeps its class token puts it first.
    return pattern[..., image[-rows * columns :]].reshape(*pattern.shape[:-1], rows, columns)
