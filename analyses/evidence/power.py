"""The smallest effect of one head among many that a number of trials confirms."""

from collections.abc import Sequence

import numpy as np

from rgb_circuit.statistics import POWER, smallest_mean
from rgb_circuit.statistics.absence import chance_of_mostly
from rgb_circuit.stimuli.replicates import Replicates, said
from rgb_circuit.task import Task
from rgb_circuit.trial import Trial

# Standard deviations of a head's effect over trials, as fractions of the effect: little, and much.
EVEN, UNEVEN = 0.25, 1.0
# More trials than any number of heads takes.
MOST = 1000


def smallest_share(
    n: int,
    heads: int,
    variation: float = 1.0,
    words: int = 8,
    level: float = 0.05,
    least: float = 0.05,
    stray: float = 0.0,
    answers: int = 1,
) -> float:
    """The smallest share of the gap that one head among all must restore to be confirmed, four
    times out of five: both its effects and the absence of others must be shown.

    Args:
        n: number of trials, or of clusters of trials; with several ``answers``, of the rarest
            answer.
        heads: the number of heads tested.
        variation: standard deviation of the head's effect over trials of one word, as a fraction of
            the effect; 0.9 to 1.4 on a trained model.
        words: the number of answers that trials draw from.
        level, least: as in `analyses.evidence.steps`.
        stray: the share of trials in which an effect that should be absent is not.
        answers: the number of answers in each of which the effect must be shown.

    Returns:
        Infinite if no head could be confirmed.

    Examples:
        >>> from analyses.evidence.power import smallest_share
        >>> [float(round(smallest_share(n, 1024), 2)) for n in (32, 64, 128)]
        [1.87, 0.14, 0.09]
    """
    needed = level / heads
    # Without strays the mean shows an absence as well as a count does.
    absent = (
        float(2 * 0.5**n <= needed) if stray == 0 else chance_of_mostly(n, stray, words, needed / 2)
    )
    if absent**answers <= POWER:
        return float("inf")
    in_each = POWER ** (1 / answers) / absent
    return smallest_mean(n, variation, least, needed, words, in_each)


def in_words(tested_on: str, even: float, uneven: float) -> str:
    """What a number of trials confirms, as a sentence.

    Args:
        tested_on: the trials, such as "32 trials in 8 clusters".
        even, uneven: `smallest_share` with a variation of 0.25 and of 1; infinite or missing for
            none. Above 1 it is more than there is to restore.
    """
    if not even <= 1:
        return (
            f"{tested_on} confirm no head, even one that restores the whole gap (with a power of "
            "80 %, among all heads)."
        )
    steady = f"{100 * even:.0f} % of the gap if its effect varies little over trials"
    varying = (
        f"{100 * uneven:.0f} % if it varies as much as its mean"
        if uneven <= 1
        else "but none whose effect varies as much as its mean, even if it restores the whole gap"
    )
    return (
        f"{tested_on} confirm a head that restores {steady}, {varying} (with a power of 80 %, "
        "among all heads)."
    )


def beforehand(trials: Sequence[Trial], task: Task, heads: int) -> tuple[str, str]:
    """What trials can confirm before anything is measured: at best, if all are answered correctly.

    Args:
        heads: the number of heads tested.

    Returns:
        The sentence of `in_words`; and, if no head can be confirmed, a sentence that says how many
        trials it takes, else an empty text.

    Examples:
        >>> from analyses.evidence.power import beforehand
        >>> beforehand(trials, trials[0].task, 1024)[1]
        '4 trials are too few to confirm one head alone among 1,024: it takes 16 or more.'
    """
    replicates = Replicates.of(trials, task)
    words = np.array([trial.answers.get(task.right, "") for trial in trials])
    parts = replicates.by_answer(words, replicates.all)
    answers, n = len(parts), min(map(replicates.n, parts))

    def share(n, variation):
        # Each of two to four answers is tested separately.
        several = dict(words=1, answers=answers) if answers > 1 else {}
        return smallest_share(n, heads, variation, **several)

    tested_on = said(len(trials), replicates.n())
    sentence = in_words(tested_on, share(n, EVEN), share(n, UNEVEN))
    if share(n, EVEN) <= 1:
        return sentence, ""
    fewest = next(more for more in range(n + 1, MOST) if share(more, EVEN) <= 1)
    of = " clusters" * (replicates.n() < len(trials)) + " for each answer" * (answers > 1)
    return sentence, (
        f"{tested_on} are too few to confirm one head alone among {heads:,}: it takes {fewest} or "
        f"more{of}."
    )
