"""The token at which each answer of some trials is read, as a frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import pandas as pd

from ..measuring.measure import measure
from ..measuring.measurement import Measurement, Parts
from ..prompts import check_trials
from ..prompts.asking import read
from ..remote.jobs import Jobs
from ..trial import Trial, asked_of
from ..vlm import Vlm


def answer_pieces(
    model: Vlm, trials: Sequence[Trial] | Trial, *, progress: bool = True
) -> pd.DataFrame:
    """The token at which each accepted word of each answer is read.

    Args:
        progress: show a bar if the run takes longer than two seconds.

    Returns:
        A row per trial × role × accepted word: ``trial, role, answer`` (the word), ``form`` (a key
        of ``FORMS``), ``behind`` (the text that all answers begin with, which is appended to the
        prompt and not read; often empty), ``piece`` (the token, as the tokenizer spells it),
        ``token`` (its id), ``whole`` (whether it is the whole word).

    Raises:
        InputError: trials that cannot be shown to this model.

    Examples:
        >>> pieces = rgb.answer_pieces(model, trials)
        >>> sorted(set(pieces.loc[pieces["role"] == "odd", "piece"]))
        ['blue', 'cyan', 'orange', 'yellow']
        >>> pieces.loc[~pieces["whole"], "answer"].tolist()
        []
    """
    pieces = Pieces(tuple(asked_of(model, trials)))
    [frame] = measure(model, [pieces], progress=progress, stage="reading answer tokens")
    return frame


@dataclass(frozen=True)
class Pieces(Measurement):
    """The token at which each accepted word of each answer is read."""

    function: ClassVar[str] = "answers"

    def prepare(self, model: Vlm, jobs: Jobs | None) -> Parts:
        check_trials(model, self.trials, ["clean"])
        return partial(_pieces, model)


def _pieces(model, trials, jobs):
    """Trial name → its part of the frame."""
    for trial in trials:
        reading = read(model, trial.prompt, trial.words)
        rows = []
        for role, word in ((role, word) for role, own in reading.pieces.items() for word in own):
            (piece,) = model.processor.tokenizer.convert_ids_to_tokens([word.token])
            about = {"trial": trial.name, "role": role, "answer": word.word, "form": reading.form}
            about["behind"] = reading.behind
            rows.append(about | {"piece": piece, "token": word.token, "whole": word.whole})
        yield {trial.name: pd.DataFrame(rows)}
