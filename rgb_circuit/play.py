"""Does the model play the game at all?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd

from .batches import batches
from .checks import check_finite
from .execute import execute
from .keeping import by_trial
from .programs.answered import answered
from .prompts import answer_table, answer_tokens, check_trials, encode
from .trial import Trial
from .vlm import Vlm


def play(
    model: Vlm, trials: Sequence[Trial], conditions: Sequence[str] | None = None, *, progress: bool = True
) -> pd.DataFrame:
    """What the model answers to every picture.

    Args:
        conditions: which pictures to show; by default all that every trial has.
        progress: show a bar when it takes longer than two seconds.

    Returns:
        A row per trial × condition: ``trial, condition, expected`` (word, missing where the trial expects
        nothing there), ``answer`` (the likeliest token of the whole vocabulary, as text: of a word of several
        tokens the first piece), ``correct`` (is that the token that the expected word is read at, or the word
        itself, however written? missing with ``expected``), and ``logit_ROLE`` for each role, at [end].

    Raises:
        InputError: a condition that a trial lacks, or trials that cannot be shown to this model, before any
            forward.
    """
    trials = list(trials)
    if conditions is None:
        conditions = [
            condition
            for condition in (trials[0].images if trials else ())
            if all(condition in trial.images for trial in trials)
        ]

    def prepare():
        check_trials(model, trials, conditions)
        return partial(_played, model, conditions)

    parts = by_trial(
        model, "play", {"conditions": conditions}, trials, prepare, progress=progress, what="playing"
    )
    frame = pd.concat([parts[trial.name] for trial in trials], ignore_index=True)
    return frame.astype({"trial": "category", "condition": "category"})


def answered_right(trials: Sequence[Trial], played: pd.DataFrame) -> list[Trial]:
    """The trials of which no picture was answered wrongly; one without an expected answer is not wrong.

    Args:
        played: from `play`, of these trials.
    """
    right = played["correct"].fillna(True).astype(bool).groupby(played["trial"], observed=True).all()
    return [trial for trial in trials if right[trial.name]]


def _played(model, conditions, trials):
    """Trial name → its part of the frame, for some trials at a time."""
    for shown, _ in batches(model, trials, conditions):
        tokens = [answer_tokens(model, trial) for trial, _ in shown]
        end = execute(
            model, answered, (model.n_heads, model.d_head), encode(model, shown), answer_table(tokens)
        )
        check_finite(model, end["finite"])
        records = {}
        for (trial, condition), ids, likeliest, logits in zip(
            shown, tokens, end["likeliest"].tolist(), end["logits"].tolist()
        ):
            records.setdefault(trial.name, []).append(
                _record(model, trial, condition, ids, likeliest, logits)
            )
        # Named types, since a trial without expectations has nothing to tell them from.
        types = {"expected": "str", "answer": "str", "correct": "boolean"}
        yield {name: pd.DataFrame(rows).astype(types) for name, rows in records.items()}


def _record(model, trial, condition, tokens, likeliest, logits):
    """One row of `play`, from the answers' token ids by role, the likeliest token and the answers' logits at
    [end]."""
    role = trial.expected.get(condition)
    answer = model.processor.tokenizer.decode([likeliest]).strip()
    # A model may write a word in another way than most of its answers.
    right = role and (likeliest == tokens[role] or answer.casefold() == trial.answers[role].casefold())
    return {
        "trial": trial.name,
        "condition": condition,
        "expected": None if role is None else trial.answers[role],
        "answer": answer,
        "correct": right,
        **{f"logit_{role}": logit for role, logit in zip(tokens, logits)},
    }
