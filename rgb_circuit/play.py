"""Does the model play the game at all?"""

from collections.abc import Sequence

import pandas as pd
from tqdm.auto import tqdm

from .capture import capture
from .llava import Llava
from .memory import pictures_at_once
from .prompts import answer_tokens, by_length, check_trials, chunks, encode, prompt_ids
from .trial import Trial


def play(
    model: Llava, trials: Sequence[Trial], conditions: Sequence[str] | None = None, *, progress: bool = True
) -> pd.DataFrame:
    """What the model answers to every picture.

    Args:
        conditions: which pictures to show; by default all that every trial has.
        progress: show a bar when it takes longer than two seconds.

    Returns:
        A row per trial × condition: ``trial, condition, expected`` (word, missing where the trial expects nothing there),
        ``answer`` (the likeliest token of the whole vocabulary, as text), ``correct`` (missing with ``expected``), and
        ``logit_ROLE`` for each role, at [end].

    Raises:
        InputError: a condition that a trial lacks, or trials that cannot be shown to this model, before any forward.
    """
    trials = list(trials)
    if conditions is None:
        conditions = [
            condition for condition in (trials[0].images if trials else ()) if all(condition in trial.images for trial in trials)
        ]
    check_trials(model, trials, conditions)
    ids = prompt_ids(model, trials)
    records = {}
    with tqdm(total=len(trials), desc="playing", unit="trial", delay=2, disable=not progress) as bar:
        for alike in by_length(trials, ids):
            last = len(ids[alike[0].prompt]) - 1
            for group in chunks(alike, pictures_at_once(model, last + 1, last) // len(conditions)):
                shown = [(trial, condition) for trial in group for condition in conditions]
                logits = capture(model, encode(model, shown), last, keys=False, queries=False).logits.cpu()
                for (trial, condition), row in zip(shown, logits):
                    records[trial.name, condition] = _record(model, trial, condition, row)
                bar.update(len(group))
    frame = pd.DataFrame([records[trial.name, condition] for trial in trials for condition in conditions])
    return frame.astype({"trial": "category", "condition": "category", "correct": "boolean"})


def _record(model, trial, condition, logits):
    """One row of `play` from the logits at [end], (vocabulary,)."""
    tokens = answer_tokens(model, trial)
    role = trial.expected.get(condition)
    likeliest = int(logits.argmax())
    return {
        "trial": trial.name,
        "condition": condition,
        "expected": None if role is None else trial.answers[role],
        "answer": model.processor.tokenizer.decode([likeliest]).strip(),
        "correct": None if role is None else likeliest == tokens[role],
        **{f"logit_{role}": float(logits[token]) for role, token in tokens.items()},
    }
