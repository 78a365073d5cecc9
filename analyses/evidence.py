"""From patching every head to a verdict per head and prediction.

1. A hypothesis is a tuple of `Prediction`, each made of claims about a word's logit when one head is patched.
2. Each sweep that they need is run once, for every head, however many predictions share it.
3. Every claim is tested with the trials as replicates; a prediction's p is its weakest claim's.

**A word's logit** is read relative to a *control*: the mean over the colour words that neither the source nor
the target picture shows. What moves all colour words alike is therefore no effect on any of them. In the game
as `rgb_trials` draws it these are all such words of the palette, since a mean of six words wanders less than
one word does; in other trials they are among the answers.

**The gap** is what there is to restore: by how much the odd word's logit falls from the clean to the other
picture. Margins are fractions of its size, and the restored fraction is effect / gap.

**A gap that is not there.** A model that does not answer by the odd tile has no gap, and a fraction of what
chance leaves can be anything. So the gap must first be shown to be positive on the very trials that test the
heads (`rgb_circuit.statistics.shown_to_fall`), and be `LEAST_GAP` logits or more: of many models without one,
some show a small gap by chance. Where it is not, what a prediction asks for means nothing: it is void (p = 1,
does not hold), and the restored fraction is missing. The effect and its interval are measured all the same,
and shown.

| claim | shown by rejecting that the mean effect is | or that so few trials lie inside that |
|---|---|---|
| up, down | at most ``least`` · gap in that direction | |
| not up, not down | at least ``margin`` · gap in that direction | 65 % or fewer |
| none | ``margin`` · gap or more away from zero, either way (equivalence) | 65 % or fewer |
| mostly (of a part) | no larger in this part than in the other | |
| below half (without attention to some tokens) | half as large as with it, or more | |
| above others | at most ``least`` · gap above the word that rises most beside it | |

"Up" asks for more than zero because with enough trials the smallest leak of a head is significant. Its
threshold is half the margin of "none": of the order of what "none" excludes, yet within reach of a single
head in a large model.

**Absences** are shown by the mean or by a count of trials (`rgb_circuit.absence`), p being twice the
smaller: a stray trial in which the picture confused the model moves the mean and its error, and is one of 32
to a count. No more than one trial of four of any odd colour, background or word of the claim may lie outside,
and the count does not speak where the mean is shown to lie beyond the margin. Absences are refuted by the
mean, or where in most trials the effect lies beyond the margin, on one side.

**Above others.** Who raises many words raises the odd one above the mean of the controls. Here it must rise
above each of them, for each odd colour that the head is shown to serve: there it is held against the control
word that rises most in trials of that colour. It is not shown either where another word does as well for such
a colour (by the mean over its trials), or is shown to do better, by ``margin`` of the gap, for any colour.

**Tests** of means are one-sided t tests within strata (`rgb_circuit.statistics.t_p`), and intervals are those
of the same t. The strata of a claim are the words that it is about: odd colours for "odd up", backgrounds for
"background up". These are not drawn at random but all used equally often, so that what a head does for one of
them and not for another is no noise.

**Word similarity.** Who writes "blue" raises "purple" too, if a model's words are alike. Averaged over trials
that is no effect on the odd word, but in each trial it is one, up or down, and an absence cannot be shown. So
what the background's word brings along is taken out of "not" and "none" on the odd word in ``erased``: see
`Measured.without_similarity`.

**Three states.** A prediction's p is the largest of its claims' (the intersection–union test, Berger 1982).
It *holds* where q ≤ level, with q Benjamini–Hochberg over heads, prediction by prediction. It is *refuted*
where the opposite of one of its claims is shown, with the smallest p of these times the number of claims,
corrected over heads as well; and *undecided* else: then ``trials_to_decide`` says how many trials would do,
if effects go on as on these. ``holds`` is False for both.

**A role** is shown where all its predictions are. Its p is the largest of theirs, its q Benjamini–Hochberg
over heads: where every prediction of a role holds, the weakest has the role's q, if that is larger, so that
`heads` keeps the false discovery rate of roles. A prediction that may stand in for another (``instead_of``)
is another way of meeting it: the smaller p of the two counts, twice.

With ``split``, the first half of the trials *finds* rows (p ≤ level, uncorrected) and the second half *tests*
those: effect, interval, p and q are the second half's, and the correction is over the rows that were found.
Only claims of effects have to be found: finding is choosing among many heads the few that do something, and
an absence, which nearly every head shows, chooses none. It is tested on the second half like any other claim.
Put trials of your own into random order first.

**Positions.** Heads are restored at [end] unless other ``positions`` are asked for, and then heads are frozen
at the same ones. Every prediction means there what it means at [end], since logits are read at [end] either
way: a circuit whose work is done at the question's words is found at "all" and "text", and of it [end] shows
only the head that brings the answer there. A head that works at some of the positions alone is found with
these; one that only makes ready what others read, as heads over the picture do, has no role anywhere.

**Frozen heads.** Predictions about a route freeze the heads that read the odd colour: those that raise it
(``finders``' claims of "up" hold) and of which nothing that makes a color extractor is refuted; and the heads
that do so only when these are silent, which are looked for (`_stand_ins`).

A trial that the model answers wrongly is one where the circuit was not at work; ``only_correct`` leaves it
out.
"""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

import rgb_circuit as rgb
from rgb_circuit.absence import HALF, ONE_OF, mostly_p, trials_for_mostly
from rgb_circuit.drawing import rgb_words
from rgb_circuit.edits import ARTIFICIAL, check_heads
from rgb_circuit.errors import NotApplicable
from rgb_circuit.measure import follow
from rgb_circuit.measurement import Measurement, Steps
from rgb_circuit.patching import patched_edits, patched_heads
from rgb_circuit.play import Played, answered_right
from rgb_circuit.rgb_game import ODD_QUESTION
from rgb_circuit.statistics import (
    benjamini_hochberg,
    fewest_trials,
    ratio_interval,
    shown_to_fall,
    t_interval,
    t_p,
    trials_needed,
    within_strata,
)
from rgb_circuit.trial import as_trials

from .above_others import above_others, serves

COLORS = ("odd", "other", "background", "other_background")
ROLES = (*COLORS, "none")
# Target picture → roles of the colours that neither it nor a picture with the odd tile on the background
# shows.
UNSHOWN = {
    "recolored": ("other_background",),
    "erased": ("other", "other_background"),
    "swapped": ("other",),
    "clean": ("other", "other_background"),
}
# Logits. A smaller gap leaves the odd word less than 1.7 times as likely.
LEAST_GAP = 0.5
STATES = ("holds", "refuted", "undecided")

# What a claim may expect that is an effect; the rest is the absence of one.
EFFECTS = ("up", "down", "mostly", "below half", "above others")


@dataclass(frozen=True)
class Sweep:
    """Every head alone, restored from ``source`` in the ``target`` run.

    Attributes:
        component: ``"z"``, ``"pattern"`` or ``"value"``.
        source: a condition, or ``"zero"``.
        part: of the effect. ``"past"`` is what is left with the color extractors frozen at their target run,
            ``"through"`` what that takes away.
        over, without: position words, as in `rgb_circuit.Edit`; all positions, and none, where empty.
    """

    target: str
    source: str = "clean"
    component: str = "z"
    part: str = "whole"
    over: str = ""
    without: str = ""

    @property
    def whole(self) -> "Sweep":
        """The same sweep with nothing frozen."""
        return replace(self, part="whole")

    @property
    def restores(self) -> str:
        """What is put into the target, in words: such as "z", "pattern over image" or "z without image"."""
        some = [f"{name} {words}" for name in ("over", "without") if (words := getattr(self, name))]
        return " ".join([self.component, *some])

    def edit(self, head: tuple[int, int], positions: str | Sequence[int]) -> rgb.Edit:
        """A head's edit that does it."""
        some = {name: words for name in ("over", "without") if (words := getattr(self, name))}
        return replace(rgb.Edit(*head, self.source, self.component, positions), **some)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Claim:
    """What is ``expected`` of the mean effect on the logit of ``role``: "up", "down", "not up", "not down",
    "none", "mostly", "below half" or "above others"."""

    role: str
    expected: str
    sweep: Sweep

    def __str__(self):
        part = {"whole": "", "past": " past the extractors", "through": " through the extractors"}[
            self.sweep.part
        ]
        return f"{self.role} {self.expected}{part}"


@dataclass(frozen=True)
class Prediction:
    """Claims that must all hold; the effect that the evidence shows is that of the first.

    Attributes:
        instead_of: the prediction of the same role that this one may stand in for; of several, that which the
            role has.
        varied: the role of an answer that must not be the same word in all trials, or a head that always says
            that word would pass.
    """

    name: str
    claims: tuple[Claim, ...]
    instead_of: str | tuple[str, ...] | None = None
    varied: str | None = None


def examine(
    model: rgb.Vlm,
    trials: Sequence[rgb.Trial],
    hypotheses: Sequence[Sequence[Prediction]],
    *,
    finders: Sequence[Prediction] = (),
    extractors: Iterable[tuple[int, int]] | None = None,
    margin: float = 0.1,
    least: float = 0.05,
    level: float = 0.05,
    split: bool = False,
    only_correct: bool = False,
    positions: str | Sequence[int] = "end",
    progress: bool = True,
) -> pd.DataFrame:
    """Test every prediction on every head.

    Args:
        hypotheses: each a family of predictions that is corrected for together.
        finders: the predictions that find the heads to freeze where ``extractors`` is None.
        extractors: (layer, head) pairs to freeze in the sweeps that ask for it, and no others. Without any,
            predictions about what goes through or past them are void: their effect is NaN and their p is 1.
        margin: fraction of the gap up to which an effect counts as none.
        least: fraction of the gap that an effect must exceed to count as up or down; at most ``margin``.
        level: false discovery rate, of a prediction's heads and of a role's.
        split: find on the first half of the trials, test on the second.
        only_correct: leave out trials with any picture that the model answers wrongly; they are counted
            either way.
        positions: where heads are restored and frozen, as in `rgb_circuit.patch_heads`.
        progress: show bars.

    Returns:
        A row per head × prediction: ``layer, head, prediction, expected, effect, ci_low, ci_high`` (logits;
        mean over trials and its 95 % t interval within strata), ``p_value, q_value, n`` (trials tested on),
        ``holds``; then ``state`` ("holds", "refuted", "undecided"), ``trials_to_decide`` (trials to give for
        an answer, 4 times of 5; infinite where the effect lies on the threshold, missing where there is an
        answer or nothing to answer), ``void`` (why nothing can be tested, else empty: "no gap", "no
        extractor" to freeze, "one word" in all trials, "no word" to read), ``restored_fraction`` (missing
        without a gap), ``share, share_low, share_high`` (of the head's effect that goes the way that is asked
        for; missing where none is), ``answer`` (role that the effect is on), ``words`` (for which of its
        words the effect is shown by itself, where not for all), ``weakest`` (the claim with the largest p),
        ``outside`` (trials in which an effect that should be absent is not, the most of any claim), ``stray``
        (the trial of them that lies furthest outside, where they are few enough to be strays; else empty),
        ``found`` (the claimed effects have p ≤ level on the trials that find; without a split that is all of
        them), ``frozen`` (the head is one of those that routes are told by), ``wrong`` (trials given that the
        model answered wrongly).

    Raises:
        InputError: too few trials, or a picture or word that a prediction needs and a trial lacks, before any
            forward.
    """
    frame = follow(
        model,
        steps(
            model,
            trials,
            hypotheses,
            finders=finders,
            extractors=extractors,
            margin=margin,
            least=least,
            level=level,
            split=split,
            only_correct=only_correct,
            positions=positions,
        ),
        progress=progress,
        stage="patching",
    )
    wrong = frame["wrong"].iloc[0]
    if wrong and not only_correct:
        given = frame["n"].iloc[0] * (2 if split else 1)
        # With none right there is nothing to leave out.
        leave_out = " Leave them out with only_correct=True" if wrong < given else ""
        warnings.warn(
            f"{model.name} answers {wrong} of {given} trials wrongly on at least one picture; they count as "
            "any "
            f"other, so effects may be diluted.{leave_out}",
            stacklevel=3,
        )
    return frame


def steps(
    model: rgb.Vlm,
    trials: Sequence[rgb.Trial],
    hypotheses: Sequence[Sequence[Prediction]],
    *,
    finders: Sequence[Prediction] = (),
    extractors: Iterable[tuple[int, int]] | None = None,
    margin: float = 0.1,
    least: float = 0.05,
    level: float = 0.05,
    split: bool = False,
    only_correct: bool = False,
    positions: str | Sequence[int] = "end",
) -> Steps[pd.DataFrame]:
    """`examine` as steps: every sweep with nothing frozen; stand-ins, where heads read the odd colour; then
    the sweeps with frozen heads."""
    rules = Rules(margin, least, level, split)
    trials, positions = as_trials(trials), positions if isinstance(positions, str) else tuple(positions)
    if extractors is not None:
        extractors = check_heads(model, list(extractors))
    tested = [prediction for predictions in hypotheses for prediction in predictions]
    freezing = any(claim.sweep.part != "whole" for prediction in tested for claim in prediction.claims)
    finders = finders if freezing and extractors is None else ()
    needed = _needed(hypotheses, finders)
    _check_number(len(trials), rules)
    _check(trials, needed)

    asked, frames = sweeps(model, trials, needed, positions), []
    played = _played(trials, needed)
    if only_correct:
        [answers] = yield [played]
        right = answered_right(trials, answers)
        wrong = len(trials) - len(right)
        trials = right
        _check_number(len(trials), rules, left_out=wrong)
        asked = sweeps(model, trials, needed, positions)
        frames = yield list(asked.values())
    else:
        answers, *frames = yield [played, *asked.values()]
        wrong = len(trials) - len(answered_right(trials, answers))

    trials = with_palette(model, trials)
    measured = _measured(model, trials, dict(zip(asked, frames)))
    frozen = list(extractors or [])
    if freezing:
        if extractors is None:
            frozen = _readers(_judge(measured, [finders], rules), finders)
            frozen += yield from _stand_ins(trials, measured, frozen, rules, positions)
        measured.effects.update((yield from _past_and_through(trials, measured, tested, frozen, positions)))
    frame = _judge(measured, hypotheses, rules)
    named = ["", *(trial.name for trial in trials)]
    frame["stray"] = [named[1 + number] for number in frame["stray"]]
    frame["frozen"] = [head in set(frozen) for head in zip(frame["layer"], frame["head"])]
    frame["wrong"] = wrong
    return frame


def needs(
    model: rgb.Vlm,
    trials: Sequence[rgb.Trial],
    hypotheses: Sequence[Sequence[Prediction]],
    finders: Sequence[Prediction] = (),
    positions: str | Sequence[int] = "end",
) -> list[Measurement]:
    """What `steps` asks of each trial by itself: all but the sweeps with frozen heads, which all trials
    choose.

    Raises:
        InputError: a picture or word that a trial lacks.
    """
    trials, needed = list(trials), _needed(hypotheses, finders)
    _check(trials, needed)
    return [_played(trials, needed), *sweeps(model, trials, needed, positions).values()]


def sweeps(
    model: rgb.Vlm,
    trials: Sequence[rgb.Trial],
    predictions: Sequence[Prediction],
    positions: str | Sequence[int] = "end",
) -> dict[Sweep, Measurement]:
    """Every sweep that some predictions need, with nothing frozen, as what is to be measured."""
    trials = with_palette(model, list(trials))
    claims = [claim for prediction in predictions for claim in prediction.claims]
    wanted = dict.fromkeys(sweep for claim in claims for sweep in _sweeps_of(claim))
    return {
        sweep: patched_heads(
            model,
            trials,
            sweep.source,
            sweep.target,
            sweep.component,
            positions,
            over=sweep.over or None,
            without=sweep.without or None,
        )
        for sweep in wanted
    }


def _sweeps_of(claim):
    """What is measured for a claim, with nothing frozen."""
    whole = claim.sweep.whole
    return [whole, replace(whole, without="")] if claim.expected == "below half" else [whole]


def missing(trial: rgb.Trial, prediction: Prediction) -> tuple[list[str], list[str]]:
    """The pictures and the answers that a prediction needs and a trial lacks."""
    pictures, answers = {}, {}
    for claim in prediction.claims:
        pictures |= dict.fromkeys(("clean", *_pictures(claim.sweep)))
        # Without a word for "nothing is odd" a prediction about it is void.
        answers |= dict.fromkeys(("odd", *({claim.role} - {"none"})))
        unshown = UNSHOWN[claim.sweep.target]
        if not any(role in trial.answers for role in unshown):
            answers |= dict.fromkeys(unshown[-1:])
    return [name for name in pictures if name not in trial.images], [
        role for role in answers if role not in trial.answers
    ]


def heads(evidence: pd.DataFrame, predictions: Sequence[Prediction]) -> list[tuple[int, int]]:
    """The (layer, head) pairs for which every one of ``predictions`` holds, or one that may stand in for
    it."""
    names = [prediction.name for prediction in predictions]
    if missing := sorted(set(names) - set(evidence["prediction"])):
        raise rgb.InputError(
            f"the evidence has no prediction {', '.join(missing)}; give the frame that evidence() of the "
            "same analysis returned"
        )
    holds = by_prediction(evidence, "holds")
    met = [holds[slot].any(axis=1) for slot in slots(predictions)]
    every = np.logical_and.reduce(met) if met else np.zeros(len(holds), dtype=bool)
    return [(int(layer), int(head)) for layer, head in holds.index[every]]


def slots(predictions: Sequence[Prediction]) -> list[list[str]]:
    """The names of what a role asks for: each with those that may stand in for it."""
    own = {prediction.name: [prediction.name] for prediction in predictions if prediction.instead_of is None}
    for prediction in predictions:
        stands_in = prediction.instead_of or ()
        for name in (stands_in,) if isinstance(stands_in, str) else stands_in:
            if name in own:
                own[name].append(prediction.name)
    return list(own.values())


def by_prediction(evidence: pd.DataFrame, column: str) -> pd.DataFrame:
    """A row per (layer, head), a column per prediction."""
    return evidence.pivot(index=["layer", "head"], columns="prediction", values=column)


@dataclass(frozen=True)
class Rules:
    """How claims are judged; see `examine`."""

    margin: float
    least: float
    level: float
    split: bool

    def __post_init__(self):
        if not self.margin > 0:
            raise rgb.InputError(f"margin is {self.margin}; use a fraction of the gap above 0, such as 0.1")
        if not 0 <= self.least <= self.margin:
            raise rgb.InputError(
                f"least is {self.least}; use a fraction of the gap from 0 to the margin, {self.margin}"
            )


@dataclass(frozen=True)
class Measured:
    """What the sweeps gave.

    Attributes:
        heads: (layer, head) pairs.
        effects: sweep → (trials, heads, words), words in the order of `_words`; NaN for one that a trial
            lacks.
        logits: condition → (trials, words), of the unpatched runs.
        words: (trials, words): the words themselves, empty for one that a trial lacks; None if they are not
            known.
    """

    heads: list[tuple[int, int]]
    effects: dict[Sweep, np.ndarray]
    logits: dict[str, np.ndarray]
    words: np.ndarray | None = None

    def effect(self, claim: Claim) -> np.ndarray:
        """Effects on the claim's word relative to the control's, (trials, heads)."""
        return _relative(self.effects[claim.sweep], claim.role, claim.sweep.target)

    def tested(self, claim: Claim) -> np.ndarray:
        """What a claim's tests are about, (trials, heads)."""
        if claim.expected == "mostly":
            other = {"past": "through", "through": "past"}[claim.sweep.part]
            return self.effect(claim) - self.effect(replace(claim, sweep=replace(claim.sweep, part=other)))
        if claim.expected == "below half":
            whole = replace(claim, sweep=replace(claim.sweep, without=""))
            return self.effect(whole) / 2 - self.effect(claim)
        absence = claim.expected not in EFFECTS
        return self.without_similarity(claim) if absence and claim.role == "odd" else self.effect(claim)

    def without_similarity(self, claim: Claim) -> np.ndarray:
        """`effect` on the odd word, without what it shares with the background's word that the head writes,
        (trials, heads).

        How much a word w rises per logit of background b, S[w, b], is a property of the model's words: it is
        fitted by least squares over all trials whose pictures do not show w, and over all heads, in trials
        where they move the background's word at least twice as much as the odd one. In a trial with odd word
        o and background b of which a head writes g, (S[o, b] − mean over the control's words of S[·, b]) · g
        is taken out; where o is never unshown on b, nothing is.
        """
        effect = self.effect(claim)
        if self.words is None or claim.sweep.target != "erased":
            return effect
        columns = _control_columns("erased", self.words.shape[1])
        relative = self.effects[claim.sweep] - _control(self.effects[claim.sweep], "erased")[..., None]
        writes = relative[..., ROLES.index("background")]
        writes = np.where(np.abs(writes) >= 2 * np.abs(effect), writes, 0)
        odd, background = (self.words[:, ROLES.index(role)] for role in ("odd", "background"))
        together, alone = {}, {}
        for trial, ground in enumerate(background):
            for column in columns:
                pair = self.words[trial, column], ground
                if all(pair):
                    together[pair] = (
                        together.get(pair, 0) + (relative[trial, :, column] * writes[trial]).sum()
                    )
                    alone[pair] = alone.get(pair, 0) + (writes[trial] ** 2).sum()
        similarity = {pair: together[pair] / alone[pair] for pair in together if alone[pair] > 0}
        taken = effect.copy()
        for trial, ground in enumerate(background):
            control = [
                similarity.get((self.words[trial, column], ground))
                for column in columns
                if self.words[trial, column]
            ]
            if (odd[trial], ground) in similarity and None not in control:
                lift = similarity[odd[trial], ground] - np.mean(np.array(control, dtype=float))
                taken[trial] -= lift * relative[trial, :, ROLES.index("background")]
        return taken

    def beside_others(self, claim: Claim) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Effects on the claim's word, (trials, heads), and on those that neither picture shows, (trials,
        heads, columns); and what these words are, (trials, columns)."""
        values = self.effects[claim.sweep]
        columns = _control_columns(claim.sweep.target, values.shape[-1])
        words = np.tile(columns, (len(values), 1)) if self.words is None else self.words[:, columns]
        return values[..., ROLES.index(claim.role)], values[..., columns], words.astype(str)

    def strata(self, claim: Claim) -> np.ndarray | None:
        """The claim's word in every trial, (trials,)."""
        return None if self.words is None else self.words[:, ROLES.index(claim.role)]

    def factors(self, claim: Claim) -> list[np.ndarray]:
        """The words for each of which an absence must hold, the claim's, the odd one, the background, each
        (trials,)."""
        if self.words is None:
            return []
        return [self.words[:, ROLES.index(role)] for role in dict.fromkeys((claim.role, "odd", "background"))]

    def odd(self, condition: str, claim: Claim) -> np.ndarray:
        """The odd word's logit in an unpatched run relative to the claim's control, (trials,)."""
        return _relative(self.logits[condition], "odd", claim.sweep.target)

    def changed(self, claim: Claim) -> str:
        """The picture that is not the clean one: a claim's gap is from there."""
        return claim.sweep.source if claim.sweep.target == "clean" else claim.sweep.target

    def gap(self, claim: Claim) -> np.ndarray:
        """By how much the odd word's logit falls from the clean to the other picture, (trials,)."""
        return self.odd("clean", claim) - self.odd(self.changed(claim), claim)


def _relative(values, role, target):
    """A role's values relative to the control's; ``values`` (…, words)."""
    return values[..., ROLES.index(role)] - _control(values, target)


def _control(values, target):
    """The mean over the control's words, of those that the trial has."""
    control = values[..., _control_columns(target, values.shape[-1])]
    with np.errstate(invalid="ignore"):
        return np.nansum(control, axis=-1) / (~np.isnan(control)).sum(axis=-1)


def _control_columns(target, columns):
    return [*map(ROLES.index, UNSHOWN[target]), *range(len(ROLES), columns)]


def _pictures(sweep):
    """The conditions that a sweep shows."""
    return [condition for condition in (sweep.source, sweep.target) if condition not in ARTIFICIAL]


def with_palette(model: rgb.Vlm, trials: Sequence[rgb.Trial]) -> list[rgb.Trial]:
    """The trials, those of the game with the palette's other words as further answers, called "unshown 0",
    …"""
    extended, words = [], rgb_words(model)
    for trial in trials:
        own = [trial.answers.get(role) for role in COLORS]
        if trial.prompt == model.prompt(ODD_QUESTION) and set(own) <= set(words):
            others = [word for word in words if word not in own]
            trial = replace(
                trial, answers={**trial.answers, **{f"unshown {i}": word for i, word in enumerate(others)}}
            )
        extended.append(trial)
    return extended


def _words(trials):
    """The roles whose logits are kept: ``ROLES``, then what `with_palette` added."""
    added = dict.fromkeys(role for trial in trials for role in trial.answers if role.startswith("unshown "))
    return [*ROLES, *added]


def _said(trials):
    """(trials, words): the words in the order of `_words`, empty for one that a trial lacks."""
    return np.array([[trial.answers.get(role, "") for role in _words(trials)] for trial in trials], dtype=str)


def _needed(hypotheses, finders):
    return list(
        dict.fromkeys([*(prediction for predictions in hypotheses for prediction in predictions), *finders])
    )


def _check(trials, predictions):
    """Raise InputError unless the trials have what the predictions need."""
    for prediction in predictions:
        for trial in trials:
            pictures, answers = missing(trial, prediction)
            if pictures:
                raise NotApplicable(
                    f"trial {trial.name!r} has no picture {pictures[0]!r}, so {prediction.name} cannot be "
                    "tested; "
                    f"add images[{pictures[0]!r}] (it has {', '.join(trial.images)})"
                )
            if answers:
                raise NotApplicable(
                    f"trial {trial.name!r} has no answer {answers[0]!r}, so {prediction.name} cannot be "
                    "tested; "
                    f"add answers[{answers[0]!r}] (it has {', '.join(trial.answers)})"
                )


def _check_number(n, rules, left_out=0):
    fewest = fewest_trials(rules.level) * (2 if rules.split else 1)
    if n < fewest:
        halves = ", half of them to find heads and half to test them" if rules.split else ""
        some = f"{left_out} answered wrongly are left out and {n} remain" if left_out else f"there are {n}"
        raise NotApplicable(
            f"too few trials: {some}, and no test can reach {rules.level} with fewer than {fewest}{halves}; "
            f"make more with rgb_trials(model, n={max(16, fewest)})"
        )


def _played(trials, predictions):
    """What the model answers to the pictures that the predictions use."""
    wanted = {"clean"}
    for prediction in predictions:
        wanted.update(*(_pictures(claim.sweep) for claim in prediction.claims))
    return Played(tuple(trials), tuple(name for name in trials[0].images if name in wanted))


def _measured(model, trials, frames):
    """What the sweeps gave; ``frames``: of each."""
    measured = Measured(model.heads(), {}, {}, _said(trials))
    for sweep, frame in frames.items():
        effects, before, after = _arrays(frame, trials, len(measured.heads))
        measured.effects[sweep] = effects
        if sweep.source not in ARTIFICIAL:
            measured.logits.setdefault(sweep.source, before)
        measured.logits.setdefault(sweep.target, after)
    return measured


def _readers(evidence, finders):
    """The heads that read the odd colour: z raises it, and no way of being a color extractor is left
    unrefuted."""
    holds, state = by_prediction(evidence, "holds"), by_prediction(evidence, "state")
    restoring = [prediction.name for prediction in finders if prediction.claims[0].sweep.component == "z"]
    kept = holds[restoring].all(axis=1)
    for slot in slots(finders):
        kept &= (state[slot] != "refuted").any(axis=1)
    return [(int(layer), int(head)) for layer, head in kept.index[kept]]


def _stand_ins(trials, measured, readers, rules, positions):
    """The heads that read the odd colour only when all ``readers`` are silent (self-repair).

    In the clean run, the readers are set to what they do in the erased picture, then each later head as well.
    The odd word must fall further by that, by more than ``least`` of the gap, and by more than it falls for
    that head alone.
    """
    later = [head for head in measured.heads if readers and head not in readers and head[0] > min(readers)[0]]
    if not later:
        return []
    silent = [_silenced(head, positions) for head in readers]
    variants = {"silent": silent}
    variants |= {
        f"too {layer}.{head}": [*silent, _silenced((layer, head), positions)] for layer, head in later
    }
    sweep = Sweep("clean", source="erased")
    if sweep not in measured.effects:
        variants |= {f"alone {layer}.{head}": [_silenced((layer, head), positions)] for layer, head in later}
    [frame] = yield [patched_edits(trials, variants, "clean")]
    effects, _, _ = _arrays(frame, trials, len(variants))
    claim = Claim("odd", "down", sweep)
    odd = _relative(effects, "odd", "clean")
    too, alone = odd[:, 1 : 1 + len(later)] - odd[:, :1], odd[:, 1 + len(later) :]
    if sweep in measured.effects:
        alone = measured.effect(claim)[:, [measured.heads.index(head) for head in later]]
    some = rules.least * abs((measured.odd("clean", claim) - measured.odd("erased", claim)).mean())
    p = np.maximum(
        t_p(too + some, "less", measured.strata(claim)), t_p(too - alone, "less", measured.strata(claim))
    )
    return [head for head, q in zip(later, benjamini_hochberg(p)) if q <= rules.level]


def _silenced(head, positions):
    """A head set to what it does in the erased picture."""
    layer, index = head
    return rgb.Edit(layer, index, source="erased", positions=positions)


def _past_and_through(trials, measured, predictions, frozen, positions):
    """Sweep → effects, for the parts of a sweep that go past and through the ``frozen`` heads; NaN without
    any."""
    parts = [
        claim.sweep
        for prediction in predictions
        for claim in prediction.claims
        if claim.sweep.part != "whole"
    ]
    wholes = list(dict.fromkeys(sweep.whole for sweep in parts))
    # A head acts on later layers only, so that freezing others would show rounding and nothing else.
    later = {head: [other for other in frozen if other[0] > head[0]] for head in measured.heads}
    asked = {}
    for whole in wholes:
        held = {other: rgb.Edit(other[0], other[1], whole.target, positions=positions) for other in frozen}
        variants = {
            f"{layer}.{head}": [
                whole.edit((layer, head), positions),
                *(held[other] for other in later[layer, head]),
            ]
            for layer, head in measured.heads
            if later[layer, head]
        }
        if variants:
            asked[whole] = patched_edits(trials, variants, whole.target)
    frames = dict(zip(asked, (yield list(asked.values())))) if asked else {}
    effects = {}
    for whole in wholes:
        past = measured.effects[whole].copy() if frozen else np.full_like(measured.effects[whole], np.nan)
        if whole in frames:
            held, _, _ = _arrays(frames[whole], trials, len(asked[whole].edits))
            past[:, [bool(later[head]) for head in measured.heads]] = held
        effects[replace(whole, part="past")] = past
        effects[replace(whole, part="through")] = measured.effects[whole] - past
    return effects


def _arrays(frame, trials, n_variants):
    """Effects (trials, variants, words), and the source's and target's logits (trials, words), from the frame
    of one target; NaN for a word that a trial lacks."""
    words = _words(trials)
    index = {role: number for number, role in enumerate(words)}
    frame = frame[frame["role"].isin(words)]
    trial = (
        frame["trial"].astype(str).map({trial.name: number for number, trial in enumerate(trials)}).to_numpy()
    )
    role = frame["role"].astype(str).map(index).to_numpy()
    # Within a trial and role the rows come in the order of the variants.
    order = np.lexsort((np.arange(len(frame)), role, trial))
    present = np.unique(trial * len(words) + role)
    filled = np.full((3, len(trials), n_variants, len(words)), np.nan)
    for number, column in enumerate(("effect", "source_logit", "target_logit")):
        rows = frame[column].to_numpy()[order].reshape(len(present), n_variants)
        filled[number, present // len(words), :, present % len(words)] = rows
    effects, before, after = filled
    return effects, before[:, 0], after[:, 0]


def _judge(measured, hypotheses, rules):
    """The evidence frame."""
    predictions = _needed(hypotheses, ())
    n = len(next(iter(measured.effects.values())))
    finding, testing = (slice(0, n // 2), slice(n // 2, n)) if rules.split else (slice(0, n), slice(0, n))
    judged = {
        prediction.name: _judge_one(measured, prediction, rules, finding, testing)
        for prediction in predictions
    }
    for hypothesis in hypotheses:
        _hold_to_the_role(hypothesis, judged, rules)
    layer, head = np.array(measured.heads).T
    blocks = []
    for prediction in predictions:
        columns = dict(layer=layer, head=head, prediction=prediction.name)
        columns |= dict(expected=", ".join(map(str, prediction.claims))) | judged[prediction.name]
        blocks.append(pd.DataFrame(columns).drop(columns=["cutoff", "together"]))
    frame = pd.concat(blocks, ignore_index=True)
    frame["state"] = np.where(frame["holds"], "holds", np.where(frame.pop("refuted"), "refuted", "undecided"))
    undecided = (frame["state"] == "undecided") & (frame["void"] == "")
    frame["trials_to_decide"] = frame["trials_to_decide"].where(undecided)
    first = "layer head prediction expected effect ci_low ci_high p_value q_value n holds state"
    front = [*first.split(), "trials_to_decide"]
    return frame[[*front, *(name for name in frame if name not in front)]]


def _judge_one(measured, prediction, rules, finding, testing):
    """Column → (heads,) or one value, of one prediction."""
    lead, tests = (
        prediction.claims[0],
        [_Tests(measured, claim, rules, testing) for claim in prediction.claims],
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
    return dict(
        effect=effects.mean(0),
        ci_low=np.where(unknown, np.nan, low),
        ci_high=np.where(unknown, np.nan, high),
        p_value=p,
        q_value=q,
        n=size,
        holds=q <= rules.level,
        refuted=(refuted_q <= rules.level) & (q > rules.level),
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
        cutoff=cutoffs[0],
        together=together,
    )


class _Tests:
    """The tests of a claim on some of the trials.

    Attributes:
        shown, refuted: p values of the claim and of its opposite, (heads,).
        over: of an absence, by how much each trial lies outside the margin, negative inside, (trials, heads);
            else None.
    """

    def __init__(self, measured, claim, rules, used):
        strata = _some(measured.strata(claim), used)
        gap = abs(measured.gap(claim)[used].mean())
        some, none = rules.least * gap, rules.margin * gap
        effects = measured.tested(claim)[used]
        blocked, against = np.zeros(effects.shape[1], dtype=bool), np.ones(effects.shape[1])
        if claim.expected == "above others":
            own, others, words = (part[used] for part in measured.beside_others(claim))
            effects, blocked, against = above_others(
                own, others, words, effects, strata, some, none, rules.level
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
        if claim.expected not in EFFECTS:
            self._count(effects, [factor[used] for factor in measured.factors(claim)], rules.level)

    def _count(self, effects, factors, level):
        """Let the trials speak beside their mean."""
        outside = [side * (value - effects) for value, side in self.sides]
        self.over, self.factors = np.max(outside, axis=0), factors
        self.beyond = [over > 0 for over in outside]
        # A mean that is shown to lie beyond is more than a few strays.
        self.vetoed = self.refuted <= level
        counted = np.where(self.vetoed, 1, mostly_p(self.over < 0, factors))
        median = len(self.sides) * np.min([mostly_p(one, share=HALF) for one in self.beyond], axis=0)
        self.shown = np.minimum(1, 2 * np.minimum(self.shown, counted))
        self.refuted = np.minimum(1, 2 * np.minimum(self.refuted, median))

    def trials_to_show(self, level):
        """(heads,): with how many trials ``shown`` would reach a level, if effects stay as they are; infinite
        where they are not on the claim's side."""
        by_mean = trials_needed(self.margins, self.error, self.n, level / (1 if self.over is None else 2))
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
        return np.min([by_mean, *(trials_for_mostly(one, level, share=HALF) for one in self.beyond)], axis=0)


def _strays(tests, first):
    """How many trials lie outside the margin of an absence, the most of any claim, missing without one; and
    the number of the one that lies furthest, where they are few, else -1.

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


def _hold_to_the_role(hypothesis, judged, rules):
    """Where all predictions of a role hold, let the weakest have the role's q."""
    asked = slots(hypothesis)
    p = np.stack(
        [
            np.minimum(1, len(slot) * np.min([judged[name]["p_value"] for name in slot], axis=0))
            for slot in asked
        ]
    )
    together = np.logical_and.reduce(
        [np.logical_or.reduce([judged[name]["together"] for name in slot]) for slot in asked]
    )
    q = np.ones(p.shape[1])
    q[together] = benjamini_hochberg(p.max(0)[together])
    every = np.logical_and.reduce(
        [np.logical_or.reduce([judged[name]["holds"] for name in slot]) for slot in asked]
    )
    for number, slot in enumerate(asked):
        weakest = every & (p.argmax(0) == number)
        for name in slot:
            own = judged[name]
            own["q_value"] = np.where(weakest, np.maximum(own["q_value"], q), own["q_value"])
            own["holds"] = own["q_value"] <= rules.level


def _cutoff(p, q, level):
    """The p that holds at present, or that one head alone would need."""
    return max(level / max(1, len(p)), p[q <= level].max(initial=0))


def _to_decide(tests, cutoffs, n):
    """(heads,): the trials with which a prediction would be held or refuted, if effects stay as they are."""
    held, refuted = cutoffs
    toward = np.max([test.trials_to_show(held) for test in tests], axis=0)
    away = np.min([test.trials_to_refute(refuted) for test in tests], axis=0)
    return np.maximum(np.where(np.isfinite(toward), toward, away), n + 1)


def _share(measured, prediction, used):
    """The part of the whole effect that goes the way that a prediction asks for, with the interval of a ratio
    of means."""
    claims = [claim for claim in prediction.claims if claim.expected == "mostly"]
    if not claims:
        return dict.fromkeys(("share", "share_low", "share_high"), np.nan)
    part, whole = (
        measured.effect(claims[0])[used],
        measured.effect(replace(claims[0], sweep=claims[0].sweep.whole))[used],
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
    """(heads,): whether the effects that a prediction claims, if any, show on some of the trials."""
    claimed = [claim for claim in prediction.claims if claim.expected in EFFECTS]
    shown = [_Tests(measured, claim, rules, used).shown <= rules.level for claim in claimed]
    return np.logical_and.reduce([np.ones(len(measured.heads), dtype=bool), *shown])


def _void(measured, prediction, rules, used):
    """Why a prediction cannot be tested on some of the trials; empty where it can."""
    runs = [
        (measured.odd("clean", claim)[used], measured.odd(measured.changed(claim), claim)[used])
        for claim in prediction.claims
    ]
    if not all(shown_to_fall(*run, rules.level) and (run[0] - run[1]).mean() >= LEAST_GAP for run in runs):
        return "no gap"
    for claim in prediction.claims:
        if np.isnan(measured.effect(claim)).any():
            return "no word" if claim.sweep.part == "whole" else "no extractor"
    if (
        prediction.varied
        and measured.words is not None
        and len(set(measured.words[used, ROLES.index(prediction.varied)])) < 2
    ):
        return "one word"
    return ""
