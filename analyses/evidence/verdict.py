"""From the effects of every head to a verdict per head and prediction: tests, states, and q values.

How claims are tested, and why so: `analyses.evidence`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rgb_circuit.hypothesis import (
    Hypothesis,
    Look,
    Prediction,
    about_words,
    merged,
)
from rgb_circuit.statistics import (
    benjamini_hochberg,
    ratio_interval,
    shown_to_fall,
    t_interval,
)
from rgb_circuit.statistics.absence import ONE_OF
from rgb_circuit.stimuli.tasks import shipped_hypotheses

from .above_others import serves
from .claim_tests import tests_of
from .effects import Measured
from .families import Role, corrected
from .rules import Rules

# In logits. A smaller gap leaves the right word less than 1.7 times as likely.
LEAST_GAP = 0.5
# Why a prediction is void if its runs have no positions in common.
UNEQUAL = "not lined up"
STATES = ("holds", "refuted", "undecided")
# The first columns of a frame, after those that identify the row.
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
class Judged:
    """A prediction's verdicts.

    Attributes:
        columns: of the evidence frame, each (heads,) or one value.
        p, q: p values of all claims together, and corrected over heads, (heads,).
        against, refuted_q: the same for the opposite of any claim, (heads,).
        together: the heads that ``q`` is corrected over, Booleans, (heads,).
    """

    columns: dict[str, Any]
    p: np.ndarray
    q: np.ndarray
    against: np.ndarray
    refuted_q: np.ndarray
    together: np.ndarray


def judge(
    measured: Measured,
    families: Sequence[Sequence[Prediction]],
    rules: Rules,
    *,
    refutes: Sequence[Sequence[str]] = (),
    several: Collection[int] = (),
    beside: Sequence[Prediction] = (),
) -> pd.DataFrame:
    """The evidence frame.

    Args:
        families: each the predictions that make up a role, or a single check.
        refutes: for each family, or none, the names of the predictions that must be refuted.
        several: the numbers of the families that are corrected for together (`.families`).
        beside: predictions that make up no role.
    """
    predictions = merged([*families, beside])
    all_trials = measured.replicates.all
    finding, testing = measured.replicates.halves() if rules.split else (all_trials, all_trials)
    judged = {
        prediction.name: _judge_one(measured, prediction, rules, finding, testing)
        for prediction in predictions
    }
    q_values = {name: verdict.q for name, verdict in judged.items()}
    refuted_q = {name: verdict.refuted_q for name, verdict in judged.items()}
    roles = [
        Role.of(family, out, judged)
        for family, out in zip(families, refutes or [()] * len(families))
    ]
    for role, q in zip(roles, corrected(roles, several, rules.level)):
        role.raise_weakest(q, q_values, refuted_q, rules.level)
    layer, head = np.array(measured.heads).T
    blocks = []
    for prediction in predictions:
        verdict, q = judged[prediction.name], q_values[prediction.name]
        holds = q <= rules.level
        refuted = (refuted_q[prediction.name] <= rules.level) & (verdict.q > rules.level)
        labels = dict(
            layer=layer, head=head, prediction=prediction.name, expected=prediction.expected
        )
        blocks.append(
            pd.DataFrame(
                labels
                | dict.fromkeys(FRONT)
                | verdict.columns
                | dict(
                    q_value=q,
                    holds=holds,
                    state=np.where(holds, "holds", np.where(refuted, "refuted", "undecided")),
                )
            )
        )
    frame = pd.concat(blocks, ignore_index=True)
    undecided = (frame["state"] == "undecided") & (frame["void"] == "")
    frame["trials_to_decide"] = frame["trials_to_decide"].where(undecided)
    return frame


def judge_hypotheses(
    found: Measured, hypotheses: Sequence[Hypothesis], checks: Sequence[Prediction], rules: Rules
) -> pd.DataFrame:
    """The verdicts on the measured effects. Hypotheses that the task ships with are corrected for
    separately, all others together."""
    ships = shipped_hypotheses(found.task)
    return judge(
        found,
        [*(hypothesis.predictions for hypothesis in hypotheses), *((check,) for check in checks)],
        rules,
        refutes=[*(hypothesis.refutes for hypothesis in hypotheses), *(() for _ in checks)],
        several=[number for number, hypothesis in enumerate(hypotheses) if hypothesis not in ships],
        beside=merged(hypothesis.tested for hypothesis in hypotheses),
    )


def _judge_one(measured, prediction, rules, finding, testing):
    """The `Judged` of a single prediction."""
    lead = prediction.claims[0]
    of_claims = [tests_of(measured, claim, rules, testing) for claim in prediction.claims]
    tests = [test for some in of_claims for test in some]
    void = _void(measured, prediction, rules, testing)
    p = np.ones(len(measured.heads)) if void else np.stack([test.shown for test in tests]).max(0)
    against = np.stack([test.refuted for test in tests])
    refuted_p = np.ones(len(p)) if void else np.minimum(1, len(tests) * against.min(0))
    found = np.array(_found(measured, prediction, rules, finding))
    together = found if rules.split else np.ones_like(found)
    q, refuted_q = np.ones_like(p), benjamini_hochberg(refuted_p)
    q[together] = benjamini_hochberg(p[together])

    effects, strata = measured.observed(measured.shown(lead), lead, testing)
    alone = len(effects) < 2
    low, high = (np.nan, np.nan) if alone else t_interval(np.nan_to_num(effects), strata)
    unknown = np.isnan(effects).any(0)
    gap = measured.mean_gap(lead, testing)
    # With too few trials, `_void` does not look at the gap.
    has_gap = not void or (
        void not in ("no gap", UNEQUAL) and _has_gap(measured, prediction, rules, testing)
    )
    names = np.array(
        [str(claim) for claim, some in zip(prediction.claims, of_claims) for _ in some]
    )
    size = len(effects)
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
        restored_fraction=effects.mean(0) / gap if has_gap else np.nan,
        **_share(measured, prediction, testing),
        answer="" if isinstance(lead, Look) else lead.role,
        words=_shown_words(measured, lead, testing, rules.least * abs(gap), rules.level)
        if lead.expected == "up" and not void
        else "",
        weakest=names[np.stack([test.shown for test in tests]).argmax(0)],
        **_strays(tests),
        found=found,
    )
    return Judged(columns, p, q, refuted_p, refuted_q, together)


def _strays(tests):
    """``outside``: the clusters in which an absence fails, the most of any test, NaN without an
    absence. ``stray``: the number of the first trial in the cluster where it fails by most, or -1
    if these clusters are too many to be strays."""
    absent = [test for test in tests if test.over is not None]
    if not absent:
        return dict(outside=np.nan, stray=-1)
    outside = np.max([(test.over > 0).sum(0) for test in absent], axis=0)
    largest = np.stack([test.over.max(0) for test in absent])
    furthest = np.stack([test.first[test.over.argmax(0)] for test in absent])
    furthest = np.take_along_axis(furthest, largest.argmax(0)[None], 0)[0]
    few = (outside > 0) & (outside <= min(test.n for test in absent) / ONE_OF)
    return dict(outside=outside.astype(float), stray=np.where(few, furthest, -1))


def _cutoff(p, q, level):
    """The largest p that holds at present, or the p that a single head would need."""
    return max(level / max(1, len(p)), p[q <= level].max(initial=0))


def _to_decide(tests, cutoffs, n):
    """The number of trials with which a prediction would hold or be refuted if effects stay as they
    are, (heads,)."""
    held, refuted = cutoffs
    toward = np.max([test.trials_to_show(held) for test in tests], axis=0)
    away = np.min([test.trials_to_refute(refuted) for test in tests], axis=0)
    return np.maximum(np.where(np.isfinite(toward), toward, away), n + 1)


def _share(measured, prediction, used):
    """The share of the whole effect that takes the route of a prediction's "mostly" claim, with the
    interval of a ratio of means."""
    claims = [claim for claim in about_words([prediction]) if claim.expected == "mostly"]
    if not claims:
        return dict.fromkeys(("share", "share_low", "share_high"), np.nan)
    (part, strata), (whole, _) = (
        measured.observed(effects, claims[0], used)
        for effects in (
            measured.effect(claims[0]),
            measured.on(claims[0].role, claims[0].sweep.whole),
        )
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        share = part.mean(0) / whole.mean(0)
    known = np.isfinite(share)
    alone = len(part) < 2
    low, high = (np.nan, np.nan) if alone else ratio_interval(np.nan_to_num(part), whole, strata)
    return {
        name: np.where(known, end, np.nan)
        for name, end in zip(("share", "share_low", "share_high"), (share, low, high))
    }


def _shown_words(measured, claim, used, some, level):
    """The words for which more than ``some`` is shown, (heads,); empty if these are all."""
    strata = measured.words_of(claim)
    if strata is None:
        return ""
    groups = measured.replicates.groups(used, apart=strata)
    effects, strata = measured.effect(claim), np.array([strata[own[0]] for own in groups])
    effects = np.stack([effects[own].mean(0) for own in groups])
    words, counts = np.unique(strata, return_counts=True)
    if len(words) < 2 or counts.min() < 2:
        return ""
    shown = serves(effects, strata, some, level)
    return np.array(["" if own.all() else ", ".join(words[own]) for own in shown.T], dtype=object)


def _found(measured, prediction, rules, used):
    """Whether the trials ``used`` show the effects that a prediction claims, if any, (heads,)."""
    claimed = [claim for claim in prediction.claims if claim.is_effect]
    shown = [
        test.shown <= rules.level
        for claim in claimed
        for test in tests_of(measured, claim, rules, used)
    ]
    return np.logical_and.reduce([np.ones(len(measured.heads), dtype=bool), *shown])


def _void(measured, prediction, rules, used):
    """Why a prediction cannot be tested on the trials ``used``; empty if it can."""
    for claim in prediction.claims:
        if reason := measured.replicates.too_few(measured.words_of(claim), used):
            return reason
    words = about_words([prediction])
    # A sweep of runs without positions in common measured nothing.
    if any(np.isnan(measured.effects[claim.sweep.whole]).all() for claim in words):
        return UNEQUAL
    if not _has_gap(measured, prediction, rules, used):
        return "no gap"
    for claim in words:
        if np.isnan(measured.effect(claim)).any():
            return f"no {claim.sweep.of.removesuffix('s')}" if claim.sweep.of else "no word"
    if prediction.varied and not measured.varies(prediction.varied, used):
        return "one word"
    for claim in prediction.claims:
        parts = measured.replicates.by_answer(measured.words_of(claim), used)
        if claim.expected == "biased" and len(parts) < 2:
            return "no two answers"
    return ""


def _has_gap(measured, prediction, rules, used):
    """Whether the right answer is shown to fall far enough for each of a prediction's claims."""
    for claim in about_words([prediction]):
        before, after = (measured.observed(run, claim, used)[0] for run in measured.fall(claim))
        if not shown_to_fall(before, after, rules.level) or (before - after).mean() < LEAST_GAP:
            return False
    return True
