"""Does the model play the game at all?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import pandas as pd

from ..conversation.answers import FORMS
from ..measuring.measure import measure
from ..measuring.measurement import OfPictures, Request
from ..prompts import answer_ids, check_trials, prompt_ids
from ..prompts.asking import read
from ..remote.jobs import Jobs
from ..trial import Trial, as_conditions, asked_of
from ..vlm import Vlm
from ..warning import warn


def play(
    model: Vlm,
    trials: Sequence[Trial] | Trial,
    conditions: Sequence[str] | None = None,
    *,
    progress: bool = True,
) -> pd.DataFrame:
    """The model's answer to every picture.

    Args:
        conditions: which pictures to show; by default all that every trial has.
        progress: show a bar if the run takes longer than two seconds.

    Returns:
        A row per trial × condition: ``trial, condition, expected`` (word, missing if the trial
        expects nothing there), ``answer`` (the likeliest token of the whole vocabulary, as text:
        for a word of several tokens, the first piece), ``correct`` (whether that is the token at
        which an expected word is read, or such a word itself, however written; missing with
        ``expected``), ``behind`` (only if some trials' answers begin alike: the text appended to
        the prompt, before ``answer``), ``accepted`` (only if some answer has several accepted
        words: those of the expected answer, any of which is correct, such as "grey / gray";
        ``expected`` is the first of them), and ``logit_ROLE`` for each role, at [end], over all of
        its words.

    Raises:
        InputError: a condition that a trial lacks, or trials that cannot be shown to this model,
            before any forward.

    Warns:
        UserWarning: the model writes a right answer in letters in which it cannot be read
            (`written_otherwise`).

    Examples:
        >>> played = rgb.play(model, trials)
        >>> sorted(set(played.loc[played["condition"] == "erased", "answer"]))
        ['white']
        >>> played.loc[~played["correct"], "trial"].tolist()
        []
    """
    measurement = Played.of(asked_of(model, trials), conditions)
    [frame] = measure(model, [measurement], progress=progress, stage="playing")
    if sentence := written_otherwise(measurement.trials, frame):
        warn(sentence)
    return frame


@dataclass(frozen=True)
class Played(OfPictures):
    """The model's answers to the pictures of some ``conditions``."""

    conditions: tuple[str, ...]

    function: ClassVar[str] = "play"

    @classmethod
    def of(cls, trials: Sequence[Trial], conditions: Sequence[str] | None = None) -> Played:
        """The measurement for some ``conditions``; by default all that every trial has."""
        if conditions is None:
            first = trials[0].images if trials else ()
            conditions = [name for name in first if all(name in trial.images for trial in trials)]
        return cls(tuple(trials), as_conditions(conditions))

    def prepare(self, model: Vlm, jobs: Jobs | None) -> Callable[[Trial], Request]:
        check_trials(model, self.trials, self.conditions)
        ids = {
            condition: prompt_ids(model, self.trials, condition) for condition in self.conditions
        }

        def request(trial: Trial) -> Request:
            tokens = {
                condition: answer_ids(model, trial, condition) for condition in self.conditions
            }
            return Request(
                trial=trial,
                lengths={
                    condition: len(ids[condition][trial.name]) for condition in self.conditions
                },
                ids=tuple(dict.fromkeys(ids for own in tokens.values() for ids in own.values())),
                part=partial(_part, model, trial, tokens),
            )

        return request

    def frame(self, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """See `play`."""
        frame = super().frame(parts).astype({"trial": "category", "condition": "category"})
        if not frame["behind"].str.strip().any():
            frame = frame.drop(columns="behind")
        if not any(trial.also for trial in self.trials):
            frame = frame.drop(columns="accepted")
        return frame


def answered_right(trials: Sequence[Trial], played: pd.DataFrame) -> list[Trial]:
    """The trials without a wrong answer; a picture without an expected answer is never wrong.

    Args:
        played: from `play`, of these trials.
    """
    right = (
        played["correct"].fillna(True).astype(bool).groupby(played["trial"], observed=True).all()
    )
    return [trial for trial in trials if right[trial.name]]


def written_otherwise(trials: Sequence[Trial], played: pd.DataFrame) -> str:
    """Where the model writes a right answer in letters in which no form has it, such as "yes" for
    the given "Yes": a sentence, without a full stop; empty if it does so nowhere.

    Args:
        played: from `play`, of these trials.
    """
    named = {trial.name: trial for trial in trials}
    right = played[played["correct"].fillna(False).astype(bool)]
    found = []
    for row in right.itertuples():
        words = named[row.trial].words[named[row.trial].expected[row.condition]]
        written = {form(word).strip() for word in words for form in FORMS.values()}
        if row.answer.casefold() in map(str.casefold, words) and row.answer not in written:
            found.append((row.answer, words[0]))
    if not found:
        return ""
    answer, given = found[0]
    return (
        f"the model writes {answer!r} where the given answer is {given!r}, in {len(found)} of "
        f"{len(right)} pictures that it answers correctly: effects there are on a word that it "
        "does not write; give the answers in the letters in which the model writes them"
    )


def right_words(played: pd.DataFrame) -> pd.Series:
    """The right answer of each row of `play`, as people read it: all accepted words."""
    return played["accepted"] if "accepted" in played else played["expected"]


def _part(model, trial, tokens, seen):
    """One trial's rows; ``tokens``: condition → role → the ids at which its answer is read."""
    column = {
        ids: number
        for number, ids in enumerate(
            dict.fromkeys(one for own in tokens.values() for one in own.values())
        )
    }
    rows = []
    for condition, own in tokens.items():
        logits = [float(seen.logits[condition][column[ids]]) for ids in own.values()]
        rows.append(_record(model, trial, condition, own, seen.likeliest[condition], logits))
    # Explicit types, since a trial without expectations has no values to infer them from.
    texts = dict.fromkeys(("expected", "answer", "behind", "accepted"), "str")
    types = texts | {"correct": "boolean"}
    return pd.DataFrame(rows).astype(types)


def _record(model, trial, condition, tokens, likeliest, logits):
    """One row of `play`, from the answers' token ids by role, the likeliest token and the answers'
    logits at [end]."""
    role = trial.expected.get(condition)
    answer = model.processor.tokenizer.decode([likeliest]).strip()
    behind = read(model, trial.asked(condition), trial.words).behind.strip()
    words = () if role is None else trial.words[role]
    # A model may write this word in another form than most of its answers.
    alike = not behind and answer.casefold() in map(str.casefold, words)
    right = None if role is None else likeliest in tokens[role] or alike
    return {
        "trial": trial.name,
        "condition": condition,
        "expected": None if role is None else trial.answers[role],
        "answer": answer,
        "correct": right,
        "behind": behind,
        "accepted": None if role is None else trial.accepted[role],
        **{f"logit_{role}": logit for role, logit in zip(tokens, logits)},
    }
