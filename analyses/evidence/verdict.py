"""From the effects of every head to a verdict per head and prediction: tests, states, and q values.

How claims are tested, and why so: `analyses.evidence`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rgb_circuit.errors import InputError
from rgb_circuit.hypothesis import Prediction, merged, slots
from rgb_circuit.statistics import (
    benjamini_hochberg,
    ratio_interval,
    shown_to_fall,
    t_interval,
    t_p,
    trials_needed,
    within_strata,
)
from rgb_circuit.statistics.absence import HALF, ONE_OF, mostly_p, trials_for_mostly

from .above_others import above_others, serves
from .effects import Measured

# Logits. A smaller gap leaves the right word less than 1.7 times as likely.
LEAST_GAP = 0.5
STATES = ("holds", "refuted", "undecided")
# The columns of a frame that come first, behind those that say what the row is of.
FRONT = (
    "effect",
    "ci_low",
    "ci_high",
    "p_value",
    "q_value",
    "n",
    "holds",
    "state",
    "trials_to_decide",
)


@dataclass(frozen=True)
class Rules:
    """How claims are judged; see `examine`."""

    margin: float
    least: float
    level: float
    split: bool

    def __post_init__(self):
        if not self.margin > 0:
            raise InputError(
                f"margin is {self.margin}; use a fraction of the gap above 0, such as 0.1"
            )
        if not 0 <= self.least <= self.margin:
            raise InputError(
                f"least is {self.least}; use a fraction of the gap from 0 to the margin, "
                f"{self.margin}"
            )


@dataclass(frozen=True)
class Judged:
    """A prediction's verdicts.

    Attributes:
        columns: of the evidence frame, each (heads,) or one value.
        p, holds, refuted, together: (heads,): p of the claims together; what is shown and what the
            opposite is; the heads that the correction is over.
    """

    columns: dict[str, Any]
    p: np.ndarray
    q: np.ndarray
    refuted: np.ndarray
    together: np.ndarray


def judge(
    measured: Measured, families: Sequence[Sequence[Prediction]], rules: Rules
) -> pd.DataFrame:
    """The evidence frame; ``families``: predictions that make up a role each, or a check by
    itself."""
    predictions = merged(families)
    n = len(next(iter(measured.effects.values())))
    finding, testing = (
        (slice(0, n // 2), slice(n // 2, n)) if rules.split else (slice(0, n), slice(0, n))
    )
    judged = {
        prediction.name: _judge_one(measured, prediction, rules, finding, testing)
        for prediction in predictions
    }
    q_values = {name: verdict.q for name, verdict in judged.items()}
    for family in families:
        q_values |= _of_the_role(family, judged, q_values, rules.level)
    layer, head = np.array(measured.heads).T
    blocks = []
    for prediction in predictions:
        verdict, q = judged[prediction.name], q_values[prediction.name]
        holds = q <= rules.level
        about = dict(
            layer=layer, head=head, prediction=prediction.name, expected=prediction.expected
        )
        blocks.append(
            pd.DataFrame(
                about
                | dict.fromkeys(FRONT)
                | verdict.columns
                | dict(
                    q_value=q,
                    holds=holds,
                    state=np.where(
                        holds, "holds", np.where(verdict.refuted, "refuted", "undecided")
                    ),
                )
            )
        )
    frame = pd.concat(blocks, ignore_index=True)
    undecided = (frame["state"] == "undecided") & (frame["void"] == "")
    frame["trials_to_decide"] = frame["trials_to_decide"].where(undecided)
    return frame


def _judge_one(measured, prediction, rules, finding, testing):
    """A prediction's `Judged`, by itself."""
    lead, tests = (
        prediction.claims[0],
        [Tests(measured, claim, rules, testing) for claim in prediction.claims],
    )
    void = _void(measured, prediction, rules, testing)
    p = np.ones(len(measured.heads)) if void else np.stack([test.shown for test in tests]).max(0)
    against = np.stack([test.refuted for test in tests])
    refuted_p = np.ones(len(p)) if void else np.minimum(1, len(tests) * against.min(0))
    found = np.array(_found(measured, prediction, rules, finding))
    together = found if rules.split else np.ones_like(found)
    q, refuted_q = np.ones_like(p), benjamini_hochberg(refuted_p)
    q[together] = benjamini_hochberg(p[together])

    effects, strata = measured.effect(lead)[testing], _some(measured.strata(lead), testing)
    low, high = t_interval(np.nan_to_num(effects), strata)
    unknown = np.isnan(effects).any(0)
    gap = measured.gap(lead)[testing].mean()
    names = np.array([str(claim) for claim in prediction.claims])
    size = testing.stop - testing.start
    cutoffs = (
        _cutoff(p[together], q[together], rules.level),
        _cutoff(refuted_p, refuted_q, rules.level) / len(tests),
    )
    columns = dict(
        effect=effects.mean(0),
        ci_low=np.where(unknown, np.nan, low),
        ci_high=np.where(unknown, np.nan, high),
        p_value=p,
        n=size,
        trials_to_decide=_to_decide(tests, cutoffs, size) * (2 if rules.split else 1),
        void=void,
        restored_fraction=np.nan if void == "no gap" else effects.mean(0) / gap,
        **_share(measured, prediction, testing),
        answer=lead.role,
        words=_shown_words(effects, strata, rules.least * abs(gap), rules.level)
        if lead.expected == "up" and not void
        else "",
        weakest=names[np.stack([test.shown for test in tests]).argmax(0)],
        **_strays(tests, testing.start),
        found=found,
    )
    return Judged(columns, p, q, (refuted_q <= rules.level) & (q > rules.level), together)


class Tests:
    """The tests of a claim on some of the trials.

    Attributes:
        shown, refuted: p values of the claim and of its opposite, (heads,).
        over: of an absence, by how much each trial lies outside the margin, negative inside,
            (trials, heads); else None.
    """

    def __init__(self, measured, claim, rules, used):
        strata = _some(measured.strata(claim), used)
        gap = abs(measured.gap(claim)[used].mean())
        some, none = rules.least * gap, rules.margin * gap
        effects = measured.tested(claim)[used]
        blocked, against = np.zeros(effects.shape[1], dtype=bool), np.ones(effects.shape[1])
        if claim.expected == "above others":
            on_word, others, words = (part[used] for part in measured.beside_others(claim))
            effects, blocked, against = above_others(
                on_word, others, words, effects, strata, some, none, rules.level
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
        }[claim.expected]
        if np.isnan(effects).any():
            # Nothing could be frozen or read, so nothing is shown.
            effects = np.zeros_like(effects)
        self.n = len(effects)
        mean, self.error, _ = within_strata(effects, strata)
        # By how much the mean is on the claim's side in each test, (tests, heads).
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
            self._count(effects, [factor[used] for factor in measured.factors(claim)], rules.level)

    def _count(self, effects, factors, level):
        """Let the trials speak beside their mean."""
        outside = [side * (value - effects) for value, side in self.sides]
        self.over, self.factors = np.max(outside, axis=0), factors
        self.beyond = [over > 0 for over in outside]
        # A mean that is shown to lie beyond is more than a few strays.
        self.vetoed = self.refuted <= level
        counted = np.where(self.vetoed, 1, mostly_p(self.over < 0, factors))
        median = len(self.sides) * np.min(
            [mostly_p(one, share=HALF) for one in self.beyond], axis=0
        )
        self.shown = np.minimum(1, 2 * np.minimum(self.shown, counted))
        self.refuted = np.minimum(1, 2 * np.minimum(self.refuted, median))

    def trials_to_show(self, level):
        """(heads,): with how many trials ``shown`` would reach a level, if effects stay as they
        are; infinite where they are not on the claim's side."""
        by_mean = trials_needed(
            self.margins, self.error, self.n, level / (1 if self.over is None else 2)
        )
        by_mean = np.where((self.margins > 0).all(0) & ~self.blocked, by_mean.max(0), np.inf)
        if self.over is None:
            return by_mean
        by_count = trials_for_mostly(self.over < 0, level / 2, self.factors)
        return np.minimum(by_mean, np.where(self.vetoed, np.inf, by_count))

    def trials_to_refute(self, level):
        """(heads,): the same of ``refuted``."""
        level = level / len(self.sides) / (1 if self.over is None else 2)
        by_mean = trials_needed(self.margins, self.error, self.n, level)
        by_mean = np.where(self.margins < 0, by_mean, np.inf).min(0)
        if self.over is None:
            return by_mean
        return np.min(
            [by_mean, *(trials_for_mostly(one, level, share=HALF) for one in self.beyond)], axis=0
        )


def _strays(tests, first):
    """How many trials lie outside the margin of an absence, the most of any claim, missing without
    one; and the number of the one that lies furthest, where they are few, else -1.

    Args:
        first: number of the first trial that the tests are of.
    """
    over = [test.over for test in tests if test.over is not None]
    if not over:
        return dict(outside=np.nan, stray=-1)
    outside = np.max([(one > 0).sum(0) for one in over], axis=0)
    furthest = first + np.max(over, axis=0).argmax(0)
    few = (outside > 0) & (outside <= len(over[0]) / ONE_OF)
    return dict(outside=outside.astype(float), stray=np.where(few, furthest, -1))


def _of_the_role(family, judged, q_values, level):
    """Name → q: where all predictions of a role hold, the weakest has the role's q, if that is
    larger."""
    asked = slots(family)
    p = np.stack(
        [
            np.minimum(1, len(slot) * np.min([judged[name].p for name in slot], axis=0))
            for slot in asked
        ]
    )
    together = np.logical_and.reduce(
        [np.logical_or.reduce([judged[name].together for name in slot]) for slot in asked]
    )
    q = np.ones(p.shape[1])
    q[together] = benjamini_hochberg(p.max(0)[together])
    every = np.logical_and.reduce(
        [np.logical_or.reduce([q_values[name] <= level for name in slot]) for slot in asked]
    )
    raised = dict(q_values)
    for number, slot in enumerate(asked):
        weakest = every & (p.argmax(0) == number)
        for name in slot:
            raised[name] = np.where(weakest, np.maximum(raised[name], q), raised[name])
    return raised


def _cutoff(p, q, level):
    """The p that holds at present, or that one head alone would need."""
    return max(level / max(1, len(p)), p[q <= level].max(initial=0))


def _to_decide(tests, cutoffs, n):
    """(heads,): the trials with which a prediction would be held or refuted, if effects stay as
    they are."""
    held, refuted = cutoffs
    toward = np.max([test.trials_to_show(held) for test in tests], axis=0)
    away = np.min([test.trials_to_refute(refuted) for test in tests], axis=0)
    return np.maximum(np.where(np.isfinite(toward), toward, away), n + 1)


def _share(measured, prediction, used):
    """The part of the whole effect that goes the way that a prediction asks for, with the interval
    of a ratio of means."""
    claims = [claim for claim in prediction.claims if claim.expected == "mostly"]
    if not claims:
        return dict.fromkeys(("share", "share_low", "share_high"), np.nan)
    part, whole = (
        measured.effect(claims[0])[used],
        measured.on(claims[0].role, claims[0].sweep.whole)[used],
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        share = part.mean(0) / whole.mean(0)
    known = np.isfinite(share)
    low, high = ratio_interval(np.nan_to_num(part), whole, _some(measured.strata(claims[0]), used))
    return {
        name: np.where(known, end, np.nan)
        for name, end in zip(("share", "share_low", "share_high"), (share, low, high))
    }


def _shown_words(effects, strata, some, level):
    """(heads,): the words for which more than ``some`` is shown, where not for all."""
    if strata is None:
        return ""
    words, counts = np.unique(strata, return_counts=True)
    if len(words) < 2 or counts.min() < 2:
        return ""
    shown = serves(effects, strata, some, level)
    return np.array(["" if own.all() else ", ".join(words[own]) for own in shown.T], dtype=object)


def _some(strata, used):
    return None if strata is None else strata[used]


def _found(measured, prediction, rules, used):
    """(heads,): whether the effects that a prediction claims, if any, show on some of the
    trials."""
    claimed = [claim for claim in prediction.claims if claim.is_effect]
    shown = [Tests(measured, claim, rules, used).shown <= rules.level for claim in claimed]
    return np.logical_and.reduce([np.ones(len(measured.heads), dtype=bool), *shown])


def _void(measured, prediction, rules, used):
    """Why a prediction cannot be tested on some of the trials; empty where it can."""
    for claim in prediction.claims:
        before, after = (run[used] for run in measured.fall(claim))
        if not shown_to_fall(before, after, rules.level) or (before - after).mean() < LEAST_GAP:
            return "no gap"
    for claim in prediction.claims:
        if np.isnan(measured.effect(claim)).any():
            return f"no {claim.sweep.of.removesuffix('s')}" if claim.sweep.of else "no word"
    if prediction.varied and not measured.varies(prediction.varied, used):
        return "one word"
    return ""
