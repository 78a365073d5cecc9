"""Whether a model plays at all; if it does not, a report says nothing about its heads."""

import pandas as pd
from scipy.stats import binomtest

from rgb_circuit.task import Task

from .accuracy import chance, constant

# Share of right answers from which on a model plays the game: one word for all pictures gets two of
# five.
PLAYS = 0.5
# The same for pictures that were not drawn: a share of the way from chance to all answers right.
ABOVE_CHANCE = 0.7


def cannot_play(model: str, played: pd.DataFrame, task: Task) -> str:
    """A sentence without a full stop that the model does not play; empty if it does, or if no
    answer is scored.

    Args:
        model: its name.
        played: from `rgb_circuit.play`, some pictures; ``correct`` is missing where no answer is
            right.
        task: of the pictures.
    """
    correct = played["correct"].dropna()
    if correct.empty or _evenly(played, task) >= _needed(played, task):
        return ""
    what = "play the game" if task.is_game else "answer these questions"
    sentence = (
        f"{model} does not {what}: it answers {correct.sum():.0f} of {len(correct)} pictures right"
    )
    if not task.is_game and (word := constant(played)):
        sentence += f", and {word!r} to all of them"
    return sentence


def shown_not_to_play(played: pd.DataFrame, task: Task) -> bool:
    """Whether answers show that a model does not play: fewer are right than for a model that just
    plays (p < 0.05), or all pictures, if not drawn, get one answer.

    Args:
        played, task: as in `cannot_play`.
    """
    correct = played["correct"].dropna()
    if correct.empty:
        return False
    few = binomtest(int(correct.sum()), len(correct), _needed(played, task), "less").pvalue < 0.05
    return bool(few) or (not task.is_game and bool(constant(played)))


def _needed(played, task):
    """The share of right answers from which on a model plays."""
    if task.is_game:
        return PLAYS
    guessed = chance(played, task)
    return guessed + ABOVE_CHANCE * (1 - guessed)


def _evenly(played, task):
    """The share of right answers; for pictures that are not drawn, the mean over right words: else
    a model could score by always saying the most common one."""
    scored = played[played["correct"].notna()]
    correct = scored["correct"].astype(float)
    if task.is_game:
        return correct.mean()
    return correct.groupby(scored["expected"].str.casefold()).mean().mean()
