"""Absences, trial by trial: in most trials a head does less than a margin.

A mean cannot tell a head that does a little in every trial from a head that does nothing in 31 of
32 and much in one, where the picture confused the model. A count can: that stray trial is one of
32.

1. *Shown*: more than ``SHARE`` of all trials like these lie inside the margin (binomial, over all
   trials). In addition, at most one in four trials of each colour lies outside; otherwise a head
   that serves one colour of eight would pass with enough trials. Four trials of a colour are too
   few for a test, so that condition is a mere count.
2. *Refuted*: more than half of all trials lie beyond the margin, on one side (binomial).

Anything between is neither. ``benchmarks/absences.py`` has the simulations behind the rule.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from . import POWER

# Chosen on simulated effects: with one stray trial of 32, a head among 1,024 still gets its role.
SHARE = 0.65
HALF = 0.5
# One in so many trials of a colour may lie outside; one, if there are fewer.
ONE_OF = 4
# Tried numbers of trials grow by a tenth each, up to so many times the present number.
STEP, FURTHEST = 1.1, 1000


def mostly_p(
    inside: np.ndarray, factors: Sequence[Sequence] = (), share: float = SHARE
) -> np.ndarray:
    """p value for at most ``share`` of all trials lying inside; 1 if more than one trial in four of
    a factor's label lies outside.

    Args:
        inside: Booleans, (trials, …).
        factors: each gives a label per trial, such as the odd colour; none by default.
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
    """The number of trials at which `mostly_p` would reach ``level`` if the share of trials outside
    stays the same.

    Args:
        inside, factors, share: as in `mostly_p`. A label with too many trials outside keeps its own
            rate; all others share one rate.
        level: that p must reach.
        power: probability that p reaches it.

    Returns:
        (…), at most a tenth too large; infinite if no number is enough.
    """
    inside = np.asarray(inside, dtype=bool)
    n, shape = len(inside), inside.shape[1:]
    inside = inside.reshape(n, -1)
    labels = _by_label(~inside, factors)
    sizes = np.array([size for _, size in labels])
    counts = np.array([(~inside).sum(0), *(outside for outside, _ in labels)])
    # Many heads have the same counts, so each is computed once.
    columns, which = np.unique(counts, axis=1, return_inverse=True)
    needed = np.array([_trials(n, column, sizes, level, share, power) for column in columns.T])
    return needed[which.ravel()].reshape(shape)


def chance_of_mostly(
    n: int, stray: float, labels: int, level: float, share: float = SHARE
) -> float:
    """The probability that `mostly_p` reaches ``level`` with ``n`` trials, each outside with
    probability ``stray``, and one factor with so many ``labels``."""
    parts, rates = np.full(labels, 1 / labels), np.full(labels, stray)
    return float(_reached(np.array([n]), stray, parts, rates, level, share)[0])


def _trials(n, counts, sizes, level, share, power):
    """The number of trials for one column; ``counts``: the trials outside, in all and by label."""
    stray, outside = counts[0] / n, counts[1:]
    if stray >= 1 - share:
        return np.inf
    rates = np.where(outside > _allowed(sizes), outside / sizes, stray)
    steps = np.unique(np.ceil(n * STEP ** np.arange(np.log(FURTHEST) / np.log(STEP))).astype(int))
    enough = _reached(steps, stray, sizes / n, rates, level, share) >= power
    return float(steps[enough.argmax()]) if enough.any() else np.inf


def _reached(n, stray, parts, rates, level, share):
    """The probability, (sizes,), that enough of all trials, and of every label's, lie inside.

    Args:
        n: numbers of trials, (sizes,).
        stray: the share of all trials that lies outside.
        parts, rates: for each label, its share of the trials and its rate of trials outside,
            (labels,).
    """
    # The fewest trials inside with which p reaches the level.
    fewest = stats.binom.isf(level, n, share) + 1
    # A quarter of a label's trials jumps with their number; take the worse of the two whole
    # numbers.
    each = [np.maximum(1, np.floor(n[:, None] * parts + more)) for more in (0, 0.999)]
    labels = np.min([stats.binom.cdf(_allowed(some), some, rates) for some in each], axis=0).prod(1)
    return np.where(fewest <= n, stats.binom.sf(fewest - 1, n, 1 - stray) * labels, 0.0)


def _allowed(size):
    """How many of a label's trials may lie outside."""
    return np.maximum(1, np.asarray(size) // ONE_OF)


def _by_label(outside, factors):
    """For each label of each factor: its number of trials outside, (…), and in all."""
    counted = []
    for factor in factors:
        names, numbers = np.unique(np.asarray(factor, dtype=str), return_inverse=True)
        for number in range(len(names)):
            of_label = outside[numbers == number]
            counted.append((of_label.sum(0), len(of_label)))
    return counted
