"""The tests of one claim, on trials that are tested together.

`analyses.evidence` explains how claims are tested, and why.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np

from rgb_circuit.hypothesis import ABOVE_EVEN, BELOW_MEDIAN, Claim, Look
from rgb_circuit.statistics import t_p, trials_needed, within_strata
from rgb_circuit.statistics.absence import HALF, mostly_p, trials_for_mostly

from .above_others import above_others
from .effects import Measured
from .rules import Rules


def tests_of(
    measured: Measured, claim: Claim | Look, rules: Rules, used: np.ndarray
) -> list[Tests | Untested | OneWord]:
    """The tests of a claim on the trials ``used``: one, or one for each answer, all of which must
    show the claim."""
    if measured.replicates.too_few(measured.words_of(claim), used):
        return [Untested(len(measured.heads))]
    gap = abs(measured.mean_gap(claim, used))
    least, margin = rules.least * gap, rules.margin * gap
    parts = measured.replicates.by_answer(measured.words_of(claim), used)
    if claim.expected == "biased":
        return [
            OneWord([measured.observed(measured.tested(claim), claim, own) for own in parts], least)
        ]
    return [
        Tests(measured, claim, least, margin, rules.level, own, len(used) / len(own))
        for own in parts
    ]


class Tests:
    """The tests of a claim on trials that are tested together.

    Attributes:
        shown, refuted: p values of the claim and of its opposite, (heads,).
        over: for an absence, how far each cluster lies outside the margin, negative inside,
            (clusters, heads); else None.
        first: the number of each cluster's first trial, (clusters,).
        share: the ratio of all trials to those tested here.
    """

    def __init__(self, measured, claim, some, none, level, used, share):
        self.first, self.share = (
            np.array([own[0] for own in measured.replicates.groups(used)]),
            share,
        )
        effects, strata = measured.observed(measured.tested(claim), claim, used)
        blocked, against = np.zeros(effects.shape[1], dtype=bool), np.ones(effects.shape[1])
        if claim.expected == "above others":
            on_word, others, words, relative, strata = measured.beside_others(claim, used)
            effects, blocked, against = above_others(
                on_word, others, words, relative, strata, some, none, level
            )
        self.sides = {
            "up": [(some, 1)],
            "down": [(-some, -1)],
            "not up": [(none, -1)],
            "not down": [(-none, 1)],
            "none": [(none, -1), (-none, 1)],
            "mostly": [(0, 1)],
            "below half": [(0, 1)],
            "above others": [(some, 1)],
            ABOVE_EVEN: [(0, 1)],
            BELOW_MEDIAN: [(0, 1)],
        }[claim.expected]
        if np.isnan(effects).any():
            # If nothing could be frozen or read, nothing is shown.
            effects = np.zeros_like(effects)
        self.n = len(effects)
        mean, self.error, _ = within_strata(effects, strata)
        # How far the mean is on the claim's side in each test, (tests, heads).
        self.margins = np.stack([side * (mean - value) for value, side in self.sides])
        toward = [t_p(side * (effects - value), "greater", strata) for value, side in self.sides]
        away = [t_p(side * (effects - value), "less", strata) for value, side in self.sides]
        self.shown = np.max(toward, axis=0)
        self.refuted = np.minimum(1, len(self.sides) * np.min(away, axis=0))
        self.over, self.blocked = None, blocked
        if claim.expected == "above others":
            self.shown = np.where(blocked, 1, self.shown)
            self.refuted = np.minimum(1, 2 * np.minimum(self.refuted, against))
        if not claim.is_effect:
            self._count(effects, measured.factors(claim, used), level)

    def _count(self, effects, factors, level):
        """Combine the test of the mean with a count of the trials."""
        outside = [side * (value - effects) for value, side in self.sides]
        self.over, self.factors = np.max(outside, axis=0), factors
        self.beyond = [over > 0 for over in outside]
        # If the mean is shown to lie beyond the margin, the trials outside are no mere strays.
        self.vetoed = self.refuted <= level
        counted = np.where(self.vetoed, 1, mostly_p(self.over < 0, factors))
        median = len(self.sides) * np.min(
            [mostly_p(one, share=HALF) for one in self.beyond], axis=0
        )
        self.shown = np.minimum(1, 2 * np.minimum(self.shown, counted))
        self.refuted = np.minimum(1, 2 * np.minimum(self.refuted, median))

    def trials_to_show(self, level) -> np.ndarray:
        """The number of trials with which ``shown`` would reach a level if effects stay as they
        are, (heads,); infinite if they are not on the claim's side."""
        by_mean = trials_needed(
            self.margins, self.error, self.n, level / (1 if self.over is None else 2)
        )
        by_mean = np.where((self.margins > 0).all(0) & ~self.blocked, by_mean.max(0), np.inf)
        if self.over is None:
            return self.share * by_mean
        by_count = trials_for_mostly(self.over < 0, level / 2, self.factors)
        return self.share * np.minimum(by_mean, np.where(self.vetoed, np.inf, by_count))

    def trials_to_refute(self, level) -> np.ndarray:
        """The same for ``refuted``, (heads,)."""
        level = level / len(self.sides) / (1 if self.over is None else 2)
        by_mean = trials_needed(self.margins, self.error, self.n, level)
        by_mean = np.where(self.margins < 0, by_mean, np.inf).min(0)
        if self.over is None:
            return self.share * by_mean
        counted = [trials_for_mostly(one, level, share=HALF) for one in self.beyond]
        return self.share * np.min([by_mean, *counted], axis=0)


class Untested:
    """Stands in for `Tests` if there are too few trials: nothing is shown, nothing refuted."""

    over = None

    def __init__(self, heads):
        self.shown = self.refuted = np.ones(heads)

    def trials_to_show(self, level) -> np.ndarray:
        """Unknown, so infinite."""
        return np.full(len(self.shown), np.inf)

    trials_to_refute = trials_to_show


class OneWord:
    """The test that a word moves by the same word whatever is right: up in one answer and down in
    another.

    Args:
        parts: for each answer, effects (clusters, heads) and strata.
        some: the least move that counts.

    Attributes:
        shown, refuted: as in `Tests`; refuted means that no answer goes up, or none goes down.
    """

    over = None

    def __init__(self, parts, some):
        self.parts, self.some = parts, some
        self.n = sum(len(effects) for effects, _ in parts)
        up, down = self._p("greater", some), self._p("less", -some)
        pairs = list(permutations(range(len(parts)), 2))
        either = [np.maximum(up[one], down[other]) for one, other in pairs]
        ones = np.ones(up.shape[1])
        self.shown = np.minimum(1, len(pairs) * np.min(either, axis=0)) if pairs else ones
        neither = np.minimum(self._p("less", some).max(0), self._p("greater", -some).max(0))
        self.refuted = np.minimum(1, 2 * neither) if pairs else ones

    def _p(self, alternative, value):
        """p values for a mean of ``value``, (answers, heads)."""
        known = [(np.nan_to_num(effects), strata) for effects, strata in self.parts]
        return np.stack([t_p(effects - value, alternative, strata) for effects, strata in known])

    def _needed(self, side, value, level):
        """The trials with which the mean would be shown on a side of ``value``, (answers,
        heads)."""
        numbers = []
        for effects, strata in self.parts:
            mean, error, _ = within_strata(np.nan_to_num(effects), strata)
            needed = trials_needed(mean - value, error, len(effects), level) * self.n / len(effects)
            numbers.append(np.where(side * (mean - value) > 0, needed, np.inf))
        return np.stack(numbers)

    def trials_to_show(self, level) -> np.ndarray:
        """See `Tests`."""
        pairs = list(permutations(range(len(self.parts)), 2))
        if not pairs:
            return np.full(len(self.shown), np.inf)
        up, down = (self._needed(side, side * self.some, level / len(pairs)) for side in (1, -1))
        return np.min([np.maximum(up[one], down[other]) for one, other in pairs], axis=0)

    def trials_to_refute(self, level) -> np.ndarray:
        """See `Tests`."""
        if len(self.parts) < 2:
            return np.full(len(self.shown), np.inf)
        still = [self._needed(-side, side * self.some, level / 2).max(0) for side in (1, -1)]
        return np.min(still, axis=0)
