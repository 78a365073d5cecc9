"""Which token each answer of some trials is read at, as a frame."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd

from .asking import read
from .keeping import by_trial
from .prompts import check_trials
from .trial import Trial
from .vlm import Vlm


def answer_pieces(model: Vlm, trials: Sequence[Trial], *, progress: bool = True) -> pd.DataFrame:
    """Which token each answer is read at.

    Args:
        progress: show a bar when it takes longer than two seconds.

    Returns:
        A row per trial × role: ``trial, role, answer, form`` (a key of ``FORMS``), ``piece`` (the token, as
        the tokenizer spells it), ``token`` (its id), ``whole`` (is it the whole word?).

    Raises:
        InputError: trials that cannot be shown to this model.
    """
    trials = list(trials)

    def prepare():
        check_trials(model, trials, ["clean"])
        return partial(_pieces, model)

    parts = by_trial(model, "answers", {}, trials, prepare, progress=progress, what="how it answers")
    return pd.concat([parts[trial.name] for trial in trials], ignore_index=True)


def _pieces(model, trials):
    """Trial name → its part of the frame."""
    for trial in trials:
        reading = read(model, trial.prompt, trial.answers)
        rows = []
        for role, token in reading.tokens.items():
            (piece,) = model.processor.tokenizer.convert_ids_to_tokens([token])
            about = {"trial": trial.name, "role": role, "answer": trial.answers[role], "form": reading.form}
            rows.append(about | {"piece": piece, "token": token, "whole": reading.whole[role]})
        yield {trial.name: pd.DataFrame(rows)}
