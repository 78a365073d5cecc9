"""From patching every head to a verdict per head and prediction.

1. A hypothesis consists of predictions, and each prediction of claims about a word's logit when one
   head is patched (`rgb_circuit.hypothesis`).
2. Each sweep runs once for every head, however many predictions share it.
3. Every claim is tested with the trials as replicates; a prediction's p is that of its weakest
   claim.

`.effects` explains the control that a word's logit is read against, the gap, and similar words.

**A missing gap.** A model whose answer does not depend on the picture has no gap, and a fraction of
what chance leaves can be anything. So the gap must first be shown to be positive on the same trials
that test the heads (`rgb_circuit.statistics.shown_to_fall`), and be `.verdict.LEAST_GAP` logits or
more: among many models without a gap, some show a small one by chance. Without a gap a prediction
is void (p = 1, does not hold), and the restored fraction is missing. The effect and its interval
are reported all the same.

| claim | shown by rejecting that the mean effect is | or that so few trials lie inside that |
|---|---|---|
| up, down | at most ``least`` · gap in that direction | |
| not up, not down | at least ``margin`` · gap in that direction | 65 % or fewer |
| none | ``margin`` · gap or more away from zero, either way (equivalence) | 65 % or fewer |
| mostly (of a part) | no larger in this part than in the other | |
| below half (without attention to some tokens) | half as large as with it, or more | |
| above others | at most ``least`` · gap above the word that rises most beside it | |
| attention above even, below median | zero or less on its side (`.looks`) | |

"Up" asks for more than zero because with enough trials the smallest leak of a head is significant.
Its threshold is half the margin of "none": of the order of what "none" excludes, yet within reach
of a single head in a large model.

**Absences** are shown by the mean or by a count of trials (`rgb_circuit.statistics.absence`); p is
twice the smaller p of the two. A stray trial in which the picture confused the model moves the mean
and its error, but is only one trial in 32 to a count. For each word of the claim and of the
clean picture, at most one trial in four may lie outside the margin. The count is ignored if the
mean is shown to lie beyond the margin. Absences are refuted by the mean, or if in most trials the
effect lies beyond the margin, on one side.

**Above others.** A head that raises many words also raises a claim's word above the mean of the
controls. Under this claim the word must rise above each control, for each word that the head is
shown to serve: in trials of such a word, the test is against the control word that rises most. The
claim fails if another word rises as well for such a word (by the mean over its trials), or if for
any word another is shown to rise more, by ``margin`` of the gap.

**Tests** of means are one-sided t tests within strata (`rgb_circuit.statistics.t_p`), and intervals
are those of the same t. The strata of a claim are the words that it is about: in the RGB game odd
colours for "odd up", backgrounds for "background up". The words are not drawn at random but all
used equally often, so a difference between a head's effects on them is not noise.

**Three states.** A prediction's p is the largest of its claims' (the intersection–union test,
Berger 1982). It *holds* if q ≤ level, where q is Benjamini–Hochberg over heads, prediction by
prediction. It is *refuted* if the opposite of one of its claims is shown; that p is the smallest
over the claims, times their number, and is corrected over heads as well. Otherwise it is
*undecided*, and ``trials_to_decide`` says how many trials would decide if effects stay the same.
``holds`` is False in both cases.

**A role** is shown if all its predictions are. Its p is the largest of theirs, its q
Benjamini–Hochberg over heads. If every prediction of a role holds, the weakest gets the role's q,
if that is larger, so that `heads` keeps the false discovery rate of roles. A prediction that may
stand in for another (``instead_of``) is another way of meeting it: the smaller p of the two counts,
doubled.

With ``split``, the first half of the trials *finds* rows (p ≤ level, uncorrected) and the second
half *tests* those: effect, interval, p and q come from the second half, corrected over the rows
that were found. Only claims of effects take part in finding, which picks the few heads that do
something. Nearly every head shows an absence, so absences pick none; they are tested on the second
half like any other claim. Put your own trials into random order first.

**Positions.** Heads are restored and frozen at [end] unless other ``positions`` are given. Every
prediction means the same there as at [end], since logits are read at [end] either way. If a circuit
works at the question's words, "all" and "text" find it; [end] shows only the head that brings its
answer there. A head that works at only some positions is found with these. A head that only
prepares what others read, as heads over the picture do, has no role at any positions.

**Frozen heads.** Predictions about a route freeze the heads of another hypothesis: `.frozen`.

In a trial that the model answers wrongly, the circuit was not at work; ``only_correct`` leaves such
trials out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

import rgb_circuit as rgb
from rgb_circuit.calls.play import answered_right
from rgb_circuit.edits import check_heads
from rgb_circuit.errors import InputError, NotApplicable
from rgb_circuit.files.table_text import shortened
from rgb_circuit.heads import Head
from rgb_circuit.hypothesis import (
    Hypothesis,
    Prediction,
    about_attention,
    about_words,
    merged,
)
from rgb_circuit.measuring.measure import follow
from rgb_circuit.measuring.measurement import Measurement, Steps
from rgb_circuit.statistics import fewest_trials
from rgb_circuit.stimuli.replicates import of_one_source, with_trials
from rgb_circuit.stimuli.tasks import task_of
from rgb_circuit.task import Task
from rgb_circuit.task import pictures as shown
from rgb_circuit.trial import as_trials, asked_of
from rgb_circuit.warning import warn

from .asked import asked, with_controls
from .effects import Measured, measured, played_logits
from .frozen import frozen_heads, through_and_past
from .looks import check_looks, looked_at
from .rules import Rules
from .verdict import judge_hypotheses

Frozen = Mapping[str, Iterable[tuple[int, int]]]


def examine(
    model: rgb.Vlm,
    trials: Sequence[rgb.Trial],
    hypotheses: Sequence[Hypothesis],
    *,
    progress: bool = True,
    **options,
) -> pd.DataFrame:
    """Test every prediction of several hypotheses on every head.

    Args:
        hypotheses: those that the task ships with are corrected for separately, others together.
        progress: show bars.
        options: ``task, checks, frozen, margin, least, level, split, only_correct, positions``, as
            `steps` takes them.

    Returns:
        A row per head × prediction: ``layer, head, prediction, expected, effect, ci_low, ci_high``
        (logits; mean over trials and its 95 % t interval within strata), ``p_value, q_value, n``
        (trials tested on), ``holds``; then ``state`` ("holds", "refuted", "undecided"),
        ``trials_to_decide`` (trials needed to decide, 4 times out of 5; infinite if the effect lies
        on the threshold, missing if the prediction is decided or void), ``void`` (why nothing can
        be tested, else empty: "no gap", "no extractor" to freeze, "one word" in all trials, "no
        word" to read, "not lined up" if prompts differ in length), ``restored_fraction`` (missing
        without a gap), ``share, share_low, share_high`` (the share of the head's effect that takes
        the claimed route; missing if none is claimed), ``answer`` (role that the effect is on),
        ``words`` (the words for which the effect is shown separately, if not for all), ``weakest``
        (the claim with the largest p), ``outside`` (trials in which an effect that should be absent
        is not, the most of any claim), ``stray`` (of these, the trial that lies furthest outside,
        if they are few enough to be strays; else empty), ``found`` (the claimed effects have p ≤
        level on the trials that find heads; without a split, on all of them), ``frozen`` (whether
        the head is among those frozen for predictions about routes), ``wrong`` (number of given
        trials that the model answered wrongly).

    Raises:
        InputError: too few trials, a picture or word that a prediction needs and a trial lacks, or
            a role or condition that the task lacks; all before any forward.

    Examples:
        >>> from analyses.evidence import examine, heads
        >>> from rgb_circuit.hypothesis import Hypothesis, Prediction
        >>> raises = Hypothesis("raises", (Prediction.parse("A", "odd up: z clean -> recolored"),))
        >>> frame = examine(model, rgb.rgb_trials(model, 16), [raises])
        >>> [str(head) for head in heads(frame, raises)]
        ['3.1', '3.2', '3.3']
    """
    trials = asked_of(model, trials)
    alone = isinstance(hypotheses, Hypothesis | str) or not isinstance(hypotheses, Iterable)
    listed: list[Any] = [hypotheses] if alone else list(hypotheses)
    if not listed:
        raise InputError("there are no hypotheses; give at least one")
    if other := [one for one in listed if not isinstance(one, Hypothesis)]:
        raise InputError(
            f"among the hypotheses is {shortened(other[0])}; give Hypothesis values, such as "
            "rgb.read_hypotheses('reader.toml') returns"
        )
    if shared := of_one_source(trials):
        warn(shared)
    frame = follow(
        model, steps(model, trials, listed, **options), progress=progress, stage="patching"
    )
    wrong = frame["wrong"].iloc[0]
    if wrong and not options.get("only_correct"):
        given = len(trials)
        # If no trial is right, leaving out the wrong ones leaves nothing.
        leave_out = " Leave them out with only_correct=True" if wrong < given else ""
        warn(
            f"{model.name} answers {wrong} of {given} trials wrongly on at least one picture; they "
            "count like all "
            f"others, so effects may be diluted.{leave_out}"
        )
    return frame


def steps(
    model: rgb.Vlm,
    trials: Sequence[rgb.Trial],
    hypotheses: Sequence[Hypothesis],
    *,
    task: Task | None = None,
    checks: Sequence[Prediction] = (),
    frozen: Frozen | None = None,
    margin: float = 0.1,
    least: float = 0.05,
    level: float = 0.05,
    split: bool = False,
    only_correct: bool = False,
    positions: str | Sequence[int] = "end",
) -> Steps[pd.DataFrame]:
    """`examine` as steps: every sweep with nothing frozen; stand-ins, if heads are frozen; then the
    sweeps with frozen heads.

    Args:
        task: of the trials; by default the task from `rgb_circuit.stimuli.tasks.task_of`.
        checks: predictions that are corrected for separately.
        frozen: group (the name in ``through the …``) → (layer, head) pairs to freeze in the sweeps
            that ask for it, and no others; by default those that the hypothesis of that name finds
            on the same trials. Without any, predictions about what goes through or past them are
            void: their effect is NaN and their p is 1.
        margin: fraction of the gap up to which an effect counts as none.
        least: fraction of the gap that an effect must exceed to count as up or down; at most
            ``margin``.
        level: false discovery rate over heads, for each prediction and each role.
        split: find on the first half of the trials, test on the second.
        only_correct: leave out trials with any picture that the model answers wrongly; they are
            counted in any case.
        positions: where heads are restored and frozen, as in `rgb_circuit.patch_heads`.
    """
    rules = Rules(margin, least, level, split)
    results, trials, held, wrong = yield from measuring(
        model,
        trials,
        hypotheses,
        rules,
        task=task,
        checks=checks,
        frozen=frozen,
        only_correct=only_correct,
        positions=positions,
    )
    frame = judge_hypotheses(results, hypotheses, checks, rules)
    named = ["", *(trial.name for trial in trials)]
    frame["stray"] = [named[1 + number] for number in frame["stray"]]
    frame["frozen"] = [head in held for head in zip(frame["layer"], frame["head"])]
    frame["wrong"] = wrong
    tested = results.replicates.halves()[1] if split else results.replicates.all
    apart = [
        results.replicates.by_answer(results.words_of(prediction.claims[0]), tested)
        for hypothesis in hypotheses
        for prediction in hypothesis.predictions
    ]
    parts = max(apart, key=len, default=[tested])
    frame.attrs["answers"] = len(parts), min(map(results.replicates.n, parts))
    return with_trials(frame, len(tested))


def measuring(
    model: rgb.Vlm,
    trials: Sequence[rgb.Trial],
    hypotheses: Sequence[Hypothesis],
    rules: Rules,
    *,
    task: Task | None = None,
    checks: Sequence[Prediction] = (),
    frozen: Frozen | None = None,
    only_correct: bool = False,
    positions: str | Sequence[int] = "end",
) -> Steps[tuple[Measured, list[rgb.Trial], set[Head], int]]:
    """`steps` up to the verdicts: the measured effects, their trials, the frozen heads, and the
    number of trials answered wrongly."""
    trials, positions = (
        as_trials(trials),
        positions if isinstance(positions, str) else tuple(positions),
    )
    task = task or task_of(trials)
    groups = list(dict.fromkeys(group for hypothesis in hypotheses for group in hypothesis.groups))
    frozen_by_group = {
        name: check_heads(model, list(heads)) for name, heads in (frozen or {}).items()
    }
    finders = {
        name: _finders(task, hypotheses, name) for name in groups if name not in frozen_by_group
    }
    needed = _needed(hypotheses, checks, finders)
    _check_number(task, len(trials), rules)
    _check(task, trials, needed)

    played, sweeps, gaps, looks = asked(task, model, trials, needed, positions)
    if only_correct:
        [answers] = yield [played]
        right = answered_right(trials, answers)
        wrong = len(trials) - len(right)
        trials = right
        _check_number(task, len(trials), rules, left_out=wrong)
        _, sweeps, gaps, looks = asked(task, model, trials, needed, positions)
        frames = yield [*sweeps.values(), *gaps, *looks.values()]
    else:
        answers, *frames = yield [played, *sweeps.values(), *gaps, *looks.values()]
        wrong = len(trials) - len(answered_right(trials, answers))

    trials = with_controls(task, model, trials)
    shares = dict(zip(looks, frames[len(sweeps) + len(gaps) :]))
    results = measured(task, model, trials, dict(zip(sweeps, frames)))
    results = replace(results, looks=looked_at(about_attention(needed), shares, trials))
    for frame in frames[len(sweeps) : len(sweeps) + len(gaps)]:
        for condition, logits in played_logits(task, frame, trials).items():
            results.logits.setdefault(condition, logits)
    held = {head for heads in frozen_by_group.values() for head in heads}
    tested = _needed(hypotheses, checks, {})
    for group in groups:
        heads = (
            frozen_by_group[group]
            if group in frozen_by_group
            else (yield from frozen_heads(trials, results, finders[group], rules, positions))
        )
        held.update(heads)
        results.effects.update(
            (yield from through_and_past(trials, results, tested, group, heads, positions))
        )
    return results, trials, held, wrong


def needs(
    model: rgb.Vlm,
    trials: Sequence[rgb.Trial],
    hypotheses: Sequence[Hypothesis],
    *,
    task: Task | None = None,
    checks: Sequence[Prediction] = (),
    positions: str | Sequence[int] = "end",
) -> list[Measurement]:
    """The measurements of `steps` that need one trial at a time: all but the sweeps with frozen
    heads, since choosing those heads takes all trials.

    Raises:
        InputError: a picture or word that a trial lacks.
    """
    trials = list(trials)
    task = task or task_of(trials)
    groups = dict.fromkeys(group for hypothesis in hypotheses for group in hypothesis.groups)
    needed = _needed(
        hypotheses, checks, {name: _finders(task, hypotheses, name) for name in groups}
    )
    _check(task, trials, needed)
    played, sweeps, gaps, looks = asked(task, model, trials, needed, positions)
    return [played, *sweeps.values(), *gaps, *looks.values()]


def missing(task: Task, trial: rgb.Trial, prediction: Prediction) -> tuple[list[str], list[str]]:
    """The pictures and answers that a prediction needs and a trial lacks."""
    pictures, answers = dict.fromkeys(["clean", *shown([prediction])]), {}
    for claim in about_words([prediction]):
        # Without a word for "nothing is odd" a prediction about it is void.
        named = [claim.role] if task.roles[claim.role].word is None else []
        answers |= dict.fromkeys((task.right, *named))
        controls = task.controls(claim.sweep.target)
        if not any(role in trial.answers for role in controls):
            answers |= dict.fromkeys(controls[-1:])
    return [name for name in pictures if name not in trial.images], [
        role for role in answers if role not in trial.answers
    ]


def heads(evidence: pd.DataFrame, hypothesis: Hypothesis) -> list[Head]:
    """The (layer, head) pairs that meet a hypothesis: every prediction holds, or one that may stand
    in for it, and every prediction under ``not`` is refuted."""
    names = [prediction.name for prediction in hypothesis.predictions]
    if missing := sorted(set(names) - set(evidence["prediction"])):
        raise rgb.InputError(
            f"the evidence has no prediction {', '.join(missing)}; give the frame that evidence() "
            "of the same analysis returned"
        )
    holds = by_prediction(evidence, "holds")
    met = np.logical_and.reduce([holds[slot].any(axis=1) for slot in hypothesis.slots])
    if hypothesis.refutes:
        state = by_prediction(evidence, "state")
        met &= (state[list(hypothesis.refutes)] == "refuted").all(axis=1).to_numpy()
    return [Head(int(layer), int(head)) for layer, head in holds.index[met]]


def by_prediction(evidence: pd.DataFrame, column: str) -> pd.DataFrame:
    """A row per (layer, head), a column per prediction."""
    return evidence.pivot(index=["layer", "head"], columns="prediction", values=column)


def _finders(task, hypotheses, group):
    """The predictions that find a group of heads: from the given hypotheses, else from the
    task's."""
    for hypothesis in (*hypotheses, *task.hypotheses):
        if hypothesis.short == group:
            return hypothesis.finders
    raise rgb.InputError(
        f"a prediction goes through or past the {group}, but no hypothesis has that for its short; "
        f"add short = {group!r} to one, or give the heads: frozen={{{group!r}: [(layer, head), …]}}"
    )


def _needed(hypotheses, checks, finders):
    """Every prediction that is tested or finds heads, once."""
    families = [*(hypothesis.predictions for hypothesis in hypotheses), checks]
    return merged([*families, *(one.tested for one in hypotheses), *finders.values()])


def _check(task, trials, predictions):
    """Raise InputError if the task or a trial lacks what the predictions need."""
    for prediction in predictions:
        task.check(prediction)
        for trial in trials:
            pictures, answers = missing(task, trial, prediction)
            if pictures:
                raise NotApplicable(
                    f"trial {trial.name!r} has no picture {pictures[0]!r}, so {prediction.name} "
                    "cannot be tested; "
                    f"add images[{pictures[0]!r}] (it has {', '.join(trial.images)})"
                )
            if answers:
                raise NotApplicable(
                    f"trial {trial.name!r} has no answer {answers[0]!r}, so {prediction.name} "
                    "cannot be tested; "
                    f"add answers[{answers[0]!r}] (it has {', '.join(trial.answers)})"
                )
    check_looks(trials, predictions)


def _check_number(task, n, rules, left_out=0):
    fewest = fewest_trials(rules.level) * (2 if rules.split else 1)
    if n < fewest:
        halves = ", half of them to find heads and half to test them" if rules.split else ""
        remaining = (
            f"{left_out} answered wrongly are left out and {n} remain"
            if left_out
            else f"there are {n}"
        )
        more = f"make more with rgb_trials(model, n={max(16, fewest)})"
        if not task.is_game:
            more = "add trials of other pictures"
        raise NotApplicable(
            f"too few trials: {remaining}, and no test can reach {rules.level} with fewer than "
            f"{fewest}{halves}; {more}"
        )
