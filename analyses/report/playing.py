"""Whether a model plays at all: where it does not, a report says nothing about its heads' part in
it."""

import pandas as pd
from scipy.stats import binomtest

from rgb_circuit.task import Task

# Share of right answers below which nothing is said about the heads' part in the game: one word for
# all pictures gets two of five.
PLAYS = 0.5


def cannot_play(model: str, correct: pd.Series, task: Task) -> str:
    """That a model does not play, in words without a full stop; empty where it does, or nobody
    knows.

    Args:
        model: its name.
        correct: that of `rgb_circuit.play`, for some pictures; missing where no answer is right.
        task: whose pictures they are.
    """
    correct = correct.dropna()
    if correct.empty or correct.mean() >= PLAYS:
        return ""
    what = "play the game" if task.is_game else "answer these questions"
    return (
        f"{model} does not {what}: it answers {correct.sum():.0f} of {len(correct)} pictures right"
    )


def shown_not_to_play(correct: pd.Series) -> bool:
    """Whether answers show that a model does not play: fewer are right than chance would leave of
    one that does (p < 0.05).

    Args:
        correct: as in `cannot_play`.
    """
    correct = correct.dropna()
    return (
        len(correct) > 0
        and binomtest(int(correct.sum()), len(correct), PLAYS, "less").pvalue < 0.05
    )
