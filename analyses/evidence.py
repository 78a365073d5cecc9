"""From patching every head to a verdict per head and prediction.

1. A hypothesis is a tuple of `Prediction`, each made of claims about a word's logit when one head is patched.
2. Each sweep that they need is run once, for every head, however many predictions share it.
3. Every claim is tested with the trials as replicates; a prediction's p is its weakest claim's.

**A word's logit** is read relative to a *control*: the mean over the colour words that neither the source nor the target picture
shows. What moves all colour words alike is therefore no effect on any of them. In the game as `rgb_trials` draws it these are all such
words of the palette, since a mean of six words wanders less than one word does; in other trials they are among the answers.

**The gap** is what there is to restore: by how much the odd word's logit falls from the clean to the target picture. Margins
are fractions of its size, and the restored fraction is effect / gap.

**A gap that is not there.** A model that does not answer by the odd tile has no gap, and a fraction of what chance leaves can be
anything. So the gap must first be shown to be positive on the very trials that test the heads: a one-sided sign-flip test at ``level``
(`rgb_circuit.statistics.shown_to_fall`). Where it is not, what a prediction asks for means nothing: it is void (p = 1, does not
hold), and the restored fraction is missing. The effect and its interval are measured all the same, and shown.

| claim | shown by rejecting that the mean effect is |
|---|---|
| up, down | at most ``least`` · gap in that direction |
| not up, not down | at least ``margin`` · gap in that direction |
| none | ``margin`` · gap or more away from zero, either way (equivalence) |

"Up" asks for more than zero because with enough trials the smallest leak of a head is significant. Its threshold is half the
margin of "none": of the order of what "none" excludes, yet within reach of a single head in a large model.

p values are sign-flip p values. A prediction holds only if all its claims do, so its p is the largest of theirs (the
intersection–union test, Berger 1982). q values are Benjamini–Hochberg over all heads and predictions of a hypothesis, those that
claim an effect apart from those that claim none at all (P2a, P3b): nearly every head shows an absence, and among so many true ones a
false effect would pass nearly uncorrected.

With ``split``, the first half of the trials *finds* rows (p ≤ level, uncorrected) and the second half *tests* those: effect, interval,
p and q are the second half's, and the correction is over the rows that were found. Only claims of "up" and "down" have to be found:
finding is choosing among many heads the few that do something, and an absence, which nearly every head shows, chooses none. It is
tested on the second half like any other claim. Put trials of your own into random order first. Samples of `rgb_trials` are balanced
in each half when that holds a multiple of the number of colours. The color extractors that are frozen where none are named are those
whose predictions hold, so P5 and P5w freeze heads that were confirmed on the same second half.

Sign flips take effects to be spread evenly around their mean. One trial of eight that breaks ranks can undo "none"; it cannot
make a role. Such a trial is often one that the model answers wrongly, where the circuit was not at work; ``only_correct`` leaves it out.
"""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

import rgb_circuit as rgb
from rgb_circuit.edits import check_heads
from rgb_circuit.jobs import gathering
from rgb_circuit.play import answered_right
from rgb_circuit.statistics import (
    benjamini_hochberg,
    bootstrap_interval,
    equivalence_p,
    fewest_trials,
    shown_to_fall,
    sign_flip_p,
)

ROLES = ("odd", "other", "background", "other_background")
# Target picture → roles of the colours that neither it nor a picture with the odd tile on the background shows.
UNSHOWN = {"recolored": ("other_background",), "erased": ("other", "other_background"), "swapped": ("other",)}

# What a claim may expect that is an effect; the rest is the absence of one.
EFFECTS = ("up", "down")


@dataclass(frozen=True)
class Sweep:
    """Every head alone, restored at [end] from ``source`` in the ``target`` run.

    Attributes:
        component: ``"z"`` or ``"pattern"``.
        part: of the effect. ``"past"`` is what is left with the color extractors frozen at their target run, ``"through"`` what that
            takes away.
    """

    target: str
    source: str = "clean"
    component: str = "z"
    part: str = "whole"

    @property
    def whole(self) -> "Sweep":
        """The same sweep with nothing frozen."""
        return Sweep(self.target, self.source, self.component)


@dataclass(frozen=True)
class Claim:
    """What is ``expected`` of the mean effect on the logit of ``role``: "up", "down", "not up", "not down" or "none"."""

    role: str
    expected: str
    sweep: Sweep

    def __str__(self):
        part = {"whole": "", "past": " past the extractors", "through": " through the extractors"}[self.sweep.part]
        return f"{self.role} {self.expected}{part}"


@dataclass(frozen=True)
class Prediction:
    """Claims that must all hold; the effect that the evidence shows is that of the first."""

    name: str
    claims: tuple[Claim, ...]


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
    progress: bool = True,
) -> pd.DataFrame:
    """Test every prediction on every head.

    Args:
        hypotheses: each a family of predictions that is corrected for together.
        finders: the predictions that find the heads to freeze where ``extractors`` is None.
        extractors: (layer, head) pairs to freeze in the sweeps that ask for it. Without any, predictions about what goes through
            or past them are void: their effect is NaN and their p is 1.
        margin: fraction of the gap up to which an effect counts as none.
        least: fraction of the gap that an effect must exceed to count as up or down; at most ``margin``.
        level: false discovery rate.
        split: find on the first half of the trials, test on the second.
        only_correct: leave out trials with any picture that the model answers wrongly; they are counted either way.
        progress: show bars.

    Returns:
        A row per head × prediction: ``layer, head, prediction, expected, effect, ci_low, ci_high`` (logits; mean over trials and its
        95 % bootstrap interval), ``p_value, q_value, n`` (trials tested on), ``holds``; then ``restored_fraction`` (missing where no
        gap is shown, and p is 1), ``answer`` (role that the effect is on), ``weakest`` (the claim with the largest p), ``found`` ("up"
        and "down" have p ≤ level on the trials that find; without a split that is all of them), ``wrong`` (trials given that the model
        answered wrongly).

    Raises:
        InputError: too few trials, or a picture or word that a prediction needs and a trial lacks, before any forward.
    """
    rules = Rules(margin, least, level, split)
    trials = list(trials)
    if extractors is not None:
        extractors = check_heads(model, extractors)
    tested = [prediction for predictions in hypotheses for prediction in predictions]
    freezing = any(claim.sweep.part != "whole" for prediction in tested for claim in prediction.claims)
    finders = finders if freezing and extractors is None else ()
    needed = _needed(hypotheses, finders)
    _check_number(len(trials), rules)
    _check(trials, needed)

    right = answered_right(trials, _play(model, trials, needed, progress))
    wrong = len(trials) - len(right)
    if wrong and not only_correct:
        # With none right there is nothing to leave out.
        leave_out = " Leave them out with only_correct=True" if right else ""
        warnings.warn(
            f"{model.name} answers {wrong} of {len(trials)} trials wrongly on at least one picture; "
            f"they count as any other, so effects may be diluted.{leave_out}",
            stacklevel=3,
        )
    if only_correct:
        trials = right
        _check_number(len(trials), rules, left_out=wrong)

    trials = _with_palette(model, trials)
    measured = _measure(model, trials, needed, progress)
    if freezing:
        frozen = heads(_judge(measured, finders, rules), finders) if extractors is None else extractors
        measured.effects.update(_past_and_through(model, trials, measured, tested, frozen, progress))
    frame = pd.concat([_judge(measured, predictions, rules) for predictions in hypotheses], ignore_index=True)
    frame["wrong"] = wrong
    return frame


def measure(
    model: rgb.Vlm,
    trials: Sequence[rgb.Trial],
    hypotheses: Sequence[Sequence[Prediction]],
    *,
    finders: Sequence[Prediction] = (),
    progress: bool = True,
) -> None:
    """Run what `examine` needs of each trial by itself: all but the sweeps with frozen heads, which all trials choose.

    For processes that share the trials of a run; `rgb_circuit.keeping` keeps what they find.

    Args:
        hypotheses, finders, progress: as `examine` will be called.

    Raises:
        InputError: a picture or word that a trial lacks, before any forward.
    """
    trials, needed = list(trials), _needed(hypotheses, finders)
    _check(trials, needed)
    with gathering() as each:
        with each():
            _play(model, trials, needed, progress)
        with each():
            _measure(model, _with_palette(model, trials), needed, progress)


def missing(trial: rgb.Trial, prediction: Prediction) -> tuple[list[str], list[str]]:
    """The pictures and the answers that a prediction needs and a trial lacks."""
    pictures, answers = {}, {}
    for claim in prediction.claims:
        pictures |= dict.fromkeys(("clean", claim.sweep.source, claim.sweep.target))
        answers |= dict.fromkeys(("odd", claim.role))
        unshown = UNSHOWN[claim.sweep.target]
        if not any(role in trial.answers for role in unshown):
            answers |= dict.fromkeys(unshown[-1:])
    return [name for name in pictures if name not in trial.images], [role for role in answers if role not in trial.answers]


def heads(evidence: pd.DataFrame, predictions: Sequence[Prediction]) -> list[tuple[int, int]]:
    """The (layer, head) pairs for which every one of ``predictions`` holds."""
    names = [prediction.name for prediction in predictions]
    if missing := sorted(set(names) - set(evidence["prediction"])):
        raise rgb.InputError(
            f"the evidence has no prediction {', '.join(missing)}; give the frame that evidence() of the same analysis returned"
        )
    rows = evidence[evidence["prediction"].isin(names)]
    every = rows.groupby(["layer", "head"])["holds"].all()
    return [(int(layer), int(head)) for layer, head in every.index[every]]


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
            raise rgb.InputError(f"least is {self.least}; use a fraction of the gap from 0 to the margin, {self.margin}")


@dataclass(frozen=True)
class Measured:
    """What the sweeps gave.

    Attributes:
        heads: (layer, head) pairs.
        effects: sweep → (trials, heads, words), words in the order of `_words`; NaN for one that a trial lacks.
        logits: condition → (trials, words), of the unpatched runs.
    """

    heads: list[tuple[int, int]]
    effects: dict[Sweep, np.ndarray]
    logits: dict[str, np.ndarray]

    def effect(self, claim: Claim) -> np.ndarray:
        """Effects on the claim's word relative to the control's, (trials, heads)."""
        return _relative(self.effects[claim.sweep], claim.role, claim.sweep.target)

    def odd(self, condition: str, claim: Claim) -> np.ndarray:
        """The odd word's logit in an unpatched run relative to the claim's control, (trials,)."""
        return _relative(self.logits[condition], "odd", claim.sweep.target)

    def gap(self, claim: Claim) -> np.ndarray:
        """By how much the odd word's logit falls from the clean to the target picture, (trials,)."""
        target = claim.sweep.target
        return _relative(self.logits["clean"] - self.logits[target], "odd", target)


def _relative(values, role, target):
    """A role's values relative to the control's; ``values`` (…, words)."""
    control = values[..., [*map(ROLES.index, UNSHOWN[target]), *range(len(ROLES), values.shape[-1])]]
    with np.errstate(invalid="ignore"):
        # Of those words that the trial has.
        mean = np.nansum(control, axis=-1) / (~np.isnan(control)).sum(axis=-1)
    return values[..., ROLES.index(role)] - mean


def _with_palette(model, trials):
    """The trials, those of the game with the palette's other words as further answers, called "unshown 0", …"""
    extended = []
    for trial in trials:
        own = [trial.answers.get(role) for role in ROLES]
        if trial.prompt == model.prompt() and set(own) <= set(model.words):
            others = [word for word in model.words if word not in own]
            trial = replace(trial, answers={**trial.answers, **{f"unshown {i}": word for i, word in enumerate(others)}})
        extended.append(trial)
    return extended


def _words(trials):
    """The roles whose logits are kept: ``ROLES``, then what `_with_palette` added."""
    added = dict.fromkeys(role for trial in trials for role in trial.answers if role.startswith("unshown "))
    return [*ROLES, *added]


def _needed(hypotheses, finders):
    return list(dict.fromkeys([*(prediction for predictions in hypotheses for prediction in predictions), *finders]))


def _check(trials, predictions):
    """Raise InputError unless the trials have what the predictions need."""
    for prediction in predictions:
        for trial in trials:
            pictures, answers = missing(trial, prediction)
            if pictures:
                raise rgb.InputError(
                    f"trial {trial.name!r} has no picture {pictures[0]!r}, so {prediction.name} cannot be tested; "
                    f"add images[{pictures[0]!r}] (it has {', '.join(trial.images)})"
                )
            if answers:
                raise rgb.InputError(
                    f"trial {trial.name!r} has no answer {answers[0]!r}, so {prediction.name} cannot be tested; "
                    f"add answers[{answers[0]!r}] (it has {', '.join(trial.answers)})"
                )


def _check_number(n, rules, left_out=0):
    fewest = fewest_trials(rules.level) * (2 if rules.split else 1)
    if n < fewest:
        halves = ", half of them to find heads and half to test them" if rules.split else ""
        some = f"{left_out} answered wrongly are left out and {n} remain" if left_out else f"there are {n}"
        raise rgb.InputError(
            f"too few trials: {some}, and no test can reach {rules.level} with fewer than {fewest}{halves}; "
            f"make more with rgb_trials(model, n={max(16, fewest)})"
        )


def _play(model, trials, predictions, progress):
    """What the model answers to the pictures that the predictions use."""
    sweeps = [claim.sweep for prediction in predictions for claim in prediction.claims]
    conditions = dict.fromkeys(["clean", *(condition for sweep in sweeps for condition in (sweep.source, sweep.target))])
    return rgb.play(model, trials, list(conditions), progress=progress)


def _measure(model, trials, predictions, progress):
    """Run every sweep with nothing frozen."""
    every = model.heads()
    wanted = dict.fromkeys(claim.sweep.whole for prediction in predictions for claim in prediction.claims)
    # Sweeps from the same source share its captured run.
    grouped = {}
    for sweep in wanted:
        grouped.setdefault((sweep.source, sweep.component), []).append(sweep)
    measured = Measured(every, {}, {})
    with gathering() as each:
        for (source, component), sweeps in grouped.items():
            targets = [sweep.target for sweep in sweeps]
            with each():
                frame = rgb.patch_heads(model, trials, source=source, target=targets, component=component, progress=progress)
                for sweep, effects, before, after in _arrays(frame, trials, sweeps, len(every)):
                    measured.effects[sweep] = effects
                    measured.logits.setdefault(source, before)
                    measured.logits.setdefault(sweep.target, after)
    return measured


def _past_and_through(model, trials, measured, predictions, frozen, progress):
    """Sweep → effects, for the parts of a sweep that go past and through the ``frozen`` heads; NaN without any."""
    effects = {}
    parts = [claim.sweep for prediction in predictions for claim in prediction.claims if claim.sweep.part != "whole"]
    for whole in dict.fromkeys(sweep.whole for sweep in parts):
        past = measured.effects[whole].copy() if frozen else np.full_like(measured.effects[whole], np.nan)
        # A head acts on later layers only, so that freezing others would show rounding and nothing else.
        later = {head: [other for other in frozen if other[0] > head[0]] for head in measured.heads}
        variants = {
            f"{layer}.{head}": [
                rgb.Edit(layer, head, whole.source, whole.component),
                *(rgb.Edit(*other, source=whole.target) for other in later[layer, head]),
            ]
            for layer, head in measured.heads
            if later[layer, head]
        }
        if variants:
            frame = rgb.patch_edits(model, trials, variants, target=whole.target, progress=progress)
            [(_, held, _, _)] = _arrays(frame, trials, [whole], len(variants))
            past[:, [bool(later[head]) for head in measured.heads]] = held
        effects[Sweep(whole.target, whole.source, whole.component, "past")] = past
        effects[Sweep(whole.target, whole.source, whole.component, "through")] = measured.effects[whole] - past
    return effects


def _arrays(frame, trials, sweeps, n_heads):
    """Per sweep: effects (trials, heads, words), and the source's and target's logits (trials, words)."""
    words = _words(trials)
    index = {role: number for number, role in enumerate(words)}
    frame = frame[frame["role"].isin(words)]
    trial = frame["trial"].astype(str).map({trial.name: number for number, trial in enumerate(trials)}).to_numpy()
    role = frame["role"].astype(str).map(index).to_numpy()
    for sweep in sweeps:
        here = (frame["target"] == sweep.target).to_numpy()
        filled = np.full((3, len(trials), n_heads, len(words)), np.nan)
        for number, column in enumerate(("effect", "source_logit", "target_logit")):
            # Within a trial and role the rows come in the order of the heads.
            order = np.lexsort((np.arange(here.sum()), role[here], trial[here]))
            rows = frame[column].to_numpy()[here][order]
            present = np.unique(trial[here] * len(words) + role[here])
            filled[number, present // len(words), :, present % len(words)] = rows.reshape(len(present), n_heads)
        effects, before, after = filled
        yield sweep, effects, before[:, 0], after[:, 0]


def _judge(measured, predictions, rules):
    """The evidence frame of one family of predictions."""
    n = len(next(iter(measured.effects.values())))
    finding, testing = (slice(0, n // 2), slice(n // 2, n)) if rules.split else (slice(0, n), slice(0, n))
    found = np.stack([_found(measured, prediction, rules, finding) for prediction in predictions])
    claims_p = [_claim_p(measured, prediction, rules, testing) for prediction in predictions]
    p = np.stack([values.max(0) for values in claims_p])
    shown = [_gap_is_shown(measured, prediction, rules, testing) for prediction in predictions]
    p[~np.array(shown)] = 1
    q = np.ones_like(p)
    corrected = found if rules.split else np.ones_like(found)
    effects = np.array([_claims_an_effect(prediction) for prediction in predictions])
    for family in (effects, ~effects):
        together = corrected & family[:, None]
        q[together] = benjamini_hochberg(p[together])

    lead = np.stack([measured.effect(prediction.claims[0])[testing] for prediction in predictions], axis=1)
    effect = lead.mean(0)
    low, high = (np.where(np.isnan(effect), np.nan, end) for end in bootstrap_interval(np.nan_to_num(lead)))
    layer, head = np.array(measured.heads).T
    blocks = []
    for number, prediction in enumerate(predictions):
        gap = measured.gap(prediction.claims[0])[testing].mean()
        names = np.array([str(claim) for claim in prediction.claims])
        columns = dict(layer=layer, head=head, prediction=prediction.name, expected=", ".join(names))
        columns |= dict(effect=effect[number], ci_low=low[number], ci_high=high[number], p_value=p[number], q_value=q[number])
        columns |= dict(n=testing.stop - testing.start, holds=q[number] <= rules.level)
        restored = effect[number] / gap if shown[number] else np.nan
        columns |= dict(restored_fraction=restored, answer=prediction.claims[0].role)
        columns |= dict(weakest=names[claims_p[number].argmax(0)], found=found[number])
        blocks.append(pd.DataFrame(columns))
    return pd.concat(blocks, ignore_index=True)


def _found(measured, prediction, rules, used):
    """(heads,): whether the effects that a prediction claims, if any, show on some of the trials."""
    claimed = [claim.expected in EFFECTS for claim in prediction.claims]
    return (_claim_p(measured, prediction, rules, used)[claimed] <= rules.level).all(0)


def _gap_is_shown(measured, prediction, rules, used):
    """Whether there is something to restore in each picture that a prediction is about, on some of the trials."""
    runs = [(measured.odd("clean", claim), measured.odd(claim.sweep.target, claim)) for claim in prediction.claims]
    return all(shown_to_fall(clean[used], target[used], rules.level) for clean, target in runs)


def _claims_an_effect(prediction):
    return any(claim.expected in EFFECTS for claim in prediction.claims)


def _claim_p(measured, prediction, rules, used):
    """p values of a prediction's claims on some of the trials, (claims, heads)."""
    claims = prediction.claims
    return np.stack(
        [_p(measured.effect(claim)[used], claim.expected, measured.gap(claim)[used].mean(), rules) for claim in claims]
    )


def _p(effects, expected, gap, rules):
    if np.isnan(effects).all():
        # Nothing could be frozen, so nothing is shown.
        return np.ones(effects.shape[1])
    none, some = rules.margin * abs(gap), rules.least * abs(gap)
    if expected == "up":
        return sign_flip_p(effects - some, "greater")
    if expected == "down":
        return sign_flip_p(effects + some, "less")
    if expected == "not up":
        return sign_flip_p(effects - none, "less")
    if expected == "not down":
        return sign_flip_p(effects + none, "greater")
    return equivalence_p(effects, none)
