"""Absences, trial by trial: in most trials a head does less than a margin.

A mean cannot tell a head that does a little in every trial from one that does nothing in 31 of 32
and much in one, where the picture confused the model. A count can: that stray trial is one of 32.

1. *Shown*: more than ``SHARE`` of all trials like these lie inside the margin (binomial, over all
   trials), and of every colour no more than one of four trials lies outside, or a head that serves
   one colour of eight would pass with enough trials. Four trials of a colour are too few for a
   test, so that is a mere count.
2. *Refuted*: more than half of all trials lie beyond the margin, on one side (binomial).

Between the two lies what is neither. What was simulated to choose the rule:
``benchmarks/absences.py``.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from . import POWER

# Chosen on simulated effects: with one stray trial of 32, a head is still named among 1,024.
SHARE = 0.65
HALF = 0.5
# Of a colour's trials, one of so many may lie outside; of fewer, one.
ONE_OF = 4
# Numbers of trials are tried in steps of a tenth, up to so many times those at hand.
STEP, FURTHEST = 1.1, 1000


def mostly_p(
    inside: np.ndarray, factors: Sequence[Sequence] = (), share: float = SHARE
) -> np.ndarray:
    """p value of no more than ``share`` of all trials lying inside; 1 where of a factor's label
    more than one trial of four lies outside.

    Args:
        inside: Booleans, (trials, …).
        factors: each a label per trial, such as the odd colour; none by default.
        share: between 0 and 1.

    Returns:
        p values, (…).
    """
    inside = np.asarray(inside, dtype=bool)
    p = stats.binom.sf(inside.sum(0) - 1, len(inside), share)
    for outside, size in _by_label(~inside, factors):
        p = np.where(outside <= _allowed(size), p, 1.0)
    return p


def trials_for_mostly(
    inside: np.ndarray,
    level: float,
    factors: Sequence[Sequence] = (),
    share: float = SHARE,
    power: float = POWER,
) -> np.ndarray:
    """With how many trials `mostly_p` would reach ``level``, if as many of them go on lying
    outside.

    Args:
        inside, factors, share: as in `mostly_p`. A label of which too many trials lie outside keeps
            its share of these; all others have one together.
        level: that p must reach.
        power: probability that it does.

    Returns:
        (…), by a tenth too large at most; infinite where no number would do.
    """
    inside = np.asarray(inside, dtype=bool)
    n, shape = len(inside), inside.shape[1:]
    inside = inside.reshape(n, -1)
    labels = _by_label(~inside, factors)
    sizes = np.array([size for _, size in labels])
    counts = np.array([(~inside).sum(0), *(outside for outside, _ in labels)])
    # Many heads have the same counts.
    columns, which = np.unique(counts, axis=1, return_inverse=True)
    needed = np.array([_trials(n, column, sizes, level, share, power) for column in columns.T])
    return needed[which.ravel()].reshape(shape)


def chance_of_mostly(
    n: int, stray: float, labels: int, level: float, share: float = SHARE
) -> float:
    """The probability that `mostly_p` reaches ``level`` with ``n`` trials of which each is outside
    with probability ``stray``, and one factor of so many ``labels``."""
    parts, rates = np.full(labels, 1 / labels), np.full(labels, stray)
    return float(_reached(np.array([n]), stray, parts, rates, level, share)[0])


def _trials(n, counts, sizes, level, share, power):
    """One column's number of trials; ``counts``: of those outside, over all and by label."""
    stray, outside = counts[0] / n, counts[1:]
    if stray >= 1 - share:
        return np.inf
    rates = np.where(outside > _allowed(sizes), outside / sizes, stray)
    steps = np.unique(np.ceil(n * STEP ** np.arange(np.log(FURTHEST) / np.log(STEP))).astype(int))
    enough = _reached(steps, stray, sizes / n, rates, level, share) >= power
    return float(steps[enough.argmax()]) if enough.any() else np.inf


def _reached(n, stray, parts, rates, level, share):
    """(sizes,): the probability that enough of all trials, and of every label's, lie inside.

    Args:
        n: numbers of trials, (sizes,).
        stray: the share of all trials that lies outside.
        parts, rates: of each label, the share of the trials that has it, and of these that lies
            outside, (labels,).
    """
    # The fewest inside whose p reaches the level.
    fewest = stats.binom.isf(level, n, share) + 1
    # A quarter of a label's trials jumps, so the worse of the two whole numbers counts.
    each = [np.maximum(1, np.floor(n[:, None] * parts + more)) for more in (0, 0.999)]
    labels = np.min([stats.binom.cdf(_allowed(some), some, rates) for some in each], axis=0).prod(1)
    return np.where(fewest <= n, stats.binom.sf(fewest - 1, n, 1 - stray) * labels, 0.0)


def _allowed(size):
    """How many trials of a label's may lie outside."""
    return np.maximum(1, np.asarray(size) // ONE_OF)


def _by_label(outside, factors):
    """Of each label of each factor: how many trials lie outside, (…), and how many there are."""
    counted = []
    for factor in factors:
        names, numbers = np.unique(np.asarray(factor, dtype=str), return_inverse=True)
        for number in range(len(names)):
            own = outside[numbers == number]
            counted.append((own.sum(0), len(own)))
    return counted
