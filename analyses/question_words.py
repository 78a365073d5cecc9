"""From which tokens heads attend to the words after the picture, including the question's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import pandas as pd
import torch

from rgb_circuit import InputError, Trial, Vlm
from rgb_circuit.measuring.measure import measure
from rgb_circuit.measuring.measurement import Measurement
from rgb_circuit.programs.patterns import summed_patterns
from rgb_circuit.prompts import check_trials, encode, locate, prompt_ids
from rgb_circuit.remote.jobs import Jobs, gathering
from rgb_circuit.running.checks import check_attention, check_finite
from rgb_circuit.running.execute import execute
from rgb_circuit.trial import as_trials


def reading(model: Vlm, trials: Sequence[Trial], *, progress: bool = True) -> pd.DataFrame:
    """From which tokens every head attends to the words after the picture, on the clean picture.

    Args:
        trials: all with the same prompt.

    Returns:
        A row per head × pair of tokens after the picture, ``to`` not after ``from``: ``layer, head,
        from_position, from_word, to_position, to_word`` (positions from 0 in the prompt),
        ``attention`` (probability, mean over trials), ``n``.

    Raises:
        InputError: trials with different prompts, or a prompt without words after the picture,
            before any forward.
    """
    [frame] = measure(
        model, [Reading(tuple(as_trials(trials)))], progress=progress, stage="reading"
    )
    return frame


@dataclass(frozen=True)
class Reading(Measurement):
    """From which tokens every head attends to the words after the picture; see `reading`."""

    function: ClassVar[str] = "reading"
    whole: ClassVar[bool] = True

    def prepare(self, model: Vlm, jobs: Jobs | None) -> Callable[[Jobs | None], pd.DataFrame]:
        check_trials(model, self.trials, ["clean"])
        every = {tuple(ids.tolist()): ids for ids in prompt_ids(model, self.trials).values()}
        if len(every) > 1:
            raise InputError(
                f"the trials have {len(every)} different prompts, whose words do not line up; give "
                "those of one at a time"
            )
        (tokens,) = every.values()
        start = locate(model, self.trials[0], "image", tokens)[-1] + 1
        if start == len(tokens):
            raise InputError(
                "the prompt ends with the picture, so no word can be read after it; put the "
                "question after '<image>'"
            )

        return partial(_read, model, self.trials, tokens, start)


def _read(model, trials, tokens, start, jobs):
    """The frame of `reading`."""
    total = torch.zeros(())
    with gathering() as each:
        # One trial at a time, so that a mean is the same to the last bit however much memory is
        # free.
        for trial in trials:
            with each():
                inputs = encode(model, [(trial, "clean")])
                read = execute(
                    model, summed_patterns, (model.n_heads, model.d_head), inputs, start, jobs=jobs
                )
                check_finite(model, read["finite"])
                check_attention(model, read["gaps"])
                total = total + read["patterns"]
    attention = (total / len(trials)).numpy()

    pieces = model.processor.tokenizer.convert_ids_to_tokens(tokens[start:].tolist())
    words = np.array([piece.lstrip("▁") for piece in pieces])
    reader, read = np.tril_indices(len(words))
    attention = attention[..., reader, read]
    layer, head, pair = np.indices(attention.shape).reshape(3, -1)
    reader, read = reader[pair], read[pair]
    return pd.DataFrame(
        {
            "layer": layer,
            "head": head,
            "from_position": start + reader,
            "from_word": pd.Categorical(words[reader]),
            "to_position": start + read,
            "to_word": pd.Categorical(words[read]),
            "attention": attention.ravel(),
            "n": len(trials),
        }
    )
