"""The effects of every head on every word as arrays, relative to the control of a claim.

**A word's logit** is read relative to a *control*: the mean over the words that neither the clean
nor the target picture shows (`rgb_circuit.task.Task.controls`). A change that moves all words alike
is therefore no effect on any of them. For a task's own trials the control has all such words of the
task's vocabulary, since a mean of six words wanders less than one word does; for other trials these
words are among the answers. If the pictures leave no such word, as with two answers, a word is read
against the best of the others.

**The gap** is what there is to restore: how far the right answer's logit falls from the clean to
the other picture (`rgb_circuit.task.Task.changed`). Margins are fractions of its size, and the
restored fraction is effect / gap.

**Word similarity.** A head that writes "blue" raises "purple" too, if the model's words are alike.
Averaged over trials that is no effect on the odd word. But in each trial it is one, up or down, so
an absence cannot be shown. Absences on words that a picture does not show are therefore tested
without the lift from the only word that it does show: `Measured.without_similarity`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

import rgb_circuit as rgb
from rgb_circuit.edits import ARTIFICIAL
from rgb_circuit.heads import Head
from rgb_circuit.hypothesis import Claim, Look, Sweep
from rgb_circuit.statistics import t_p
from rgb_circuit.stimuli.replicates import Replicates
from rgb_circuit.task import Task


@dataclass(frozen=True)
class Measured:
    """What the sweeps measured.

    Attributes:
        task: its roles are those of the first words.
        heads: in the order of the effects.
        effects: sweep → (trials, heads, words), words in the order of `columns`; NaN for a word
            that the trial lacks.
        logits: condition → (trials, words), of the unpatched runs.
        words: (trials, words): the words themselves, empty where the trial lacks one; None if
            unknown.
        replicates: which trials are one observation; by default each is one.
        looks: claim about attention → how far each head is on its side, (trials, heads), and how
            far it could be, (trials,); see `.looks`.
    """

    task: Task
    heads: Sequence[Head]
    effects: dict[Sweep, np.ndarray]
    logits: dict[str, np.ndarray]
    words: np.ndarray | None = None
    replicates: Replicates = field(default=None)  # type: ignore[assignment]
    looks: Mapping[Look, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def __post_init__(self):
        if self.replicates is None:
            n = len(next(iter(self.logits.values())))
            object.__setattr__(self, "replicates", Replicates.each(n))

    @property
    def n_words(self) -> int:
        """The number of words whose logits are kept."""
        return next(iter(self.logits.values())).shape[1]

    @property
    def n(self) -> int:
        """The number of trials."""
        sides = [side for side, _ in self.looks.values()]
        return len(next(iter([*self.effects.values(), *sides])))

    def effect(self, claim: Claim | Look) -> np.ndarray:
        """Effects on the claim's word relative to its control, or how far attention is on the
        claim's side, (trials, heads)."""
        if isinstance(claim, Look):
            return self.looks[claim][0]
        return self.on(claim.role, claim.sweep)

    def on(self, role: str, sweep: Sweep) -> np.ndarray:
        """A sweep's effects on a role's word relative to its control, (trials, heads)."""
        effects = self.effects[sweep]
        if self._controls(role, sweep.target, effects):
            return self._relative(effects, role, sweep.target)
        if sweep.part == "through":
            # The best other word need not be the same in both runs.
            return self.on(role, sweep.whole) - self.on(role, sweep.other_part)
        before = self.logits[sweep.target][:, None]
        after = self._relative(before + effects, role, sweep.target)
        return after - self._relative(before, role, sweep.target)

    def shown(self, claim: Claim | Look) -> np.ndarray:
        """The effects to report for a claim, (trials, heads): `effect`. For a word that is claimed
        to move by the same word whatever is right, they are signed such that the mean is half the
        distance between the answer that it rises in most and the one that it falls in most."""
        effects = self.effect(claim)
        if claim.expected != "biased":
            return effects
        parts = self.replicates.by_answer(self.words_of(claim), self.replicates.all)
        means = np.stack([self.observed(effects, claim, part)[0].mean(0) for part in parts])
        sides = np.zeros_like(effects)
        for number, part in enumerate(parts):
            sides[part] = (means.argmax(0) == number).astype(float) - (means.argmin(0) == number)
        return effects * sides * len(parts) / 2

    def tested(self, claim: Claim | Look) -> np.ndarray:
        """The values that a claim's tests are about, (trials, heads)."""
        if isinstance(claim, Look):
            return self.effect(claim)
        if claim.expected == "mostly":
            return self.effect(claim) - self.on(claim.role, claim.sweep.other_part)
        if claim.expected == "below half":
            return self.on(claim.role, replace(claim.sweep, without="")) / 2 - self.effect(claim)
        return self.without_similarity(claim)

    def without_similarity(self, claim: Claim) -> np.ndarray:
        """`effect` without what similar words share, (trials, heads), for the absence of an effect
        on a word that the target does not show while it shows exactly one; otherwise `effect`
        itself.

        S[w, b], how much a word w rises per logit of the shown word b, is a property of the model's
        words. It is fitted by least squares over all trials whose pictures do not show w and over
        all heads, in trials where they move the shown word at least twice as much as the claim's.
        In a trial with the claim's word o and the shown word b, for a head that writes g of b,
        (S[o, b] − mean over the control's words of S[·, b]) · g is subtracted. Nothing is
        subtracted if no trial with the shown word b has o among its controls.
        """
        effect, shown = self.effect(claim), self.task.written_alone(claim)
        controls = self._controls(claim.role, claim.sweep.target, self.effects[claim.sweep])
        if self.words is None or shown is None or not controls:
            return effect
        values = self.effects[claim.sweep]
        relative = values - _mean(values[..., controls])[..., None]
        writes = relative[..., self._index(shown)]
        writes = np.where(np.abs(writes) >= 2 * np.abs(effect), writes, 0)
        claimed, ground = (self.words[:, self._index(role)] for role in (claim.role, shown))
        together, alone = {}, {}
        for trial, word in enumerate(ground):
            for column in controls:
                pair = self.words[trial, column], word
                if all(pair):
                    together[pair] = (
                        together.get(pair, 0) + (relative[trial, :, column] * writes[trial]).sum()
                    )
                    alone[pair] = alone.get(pair, 0) + (writes[trial] ** 2).sum()
        similarity = {pair: together[pair] / alone[pair] for pair in together if alone[pair] > 0}
        result = effect.copy()
        for trial, word in enumerate(ground):
            control = [
                similarity.get((self.words[trial, column], word))
                for column in controls
                if self.words[trial, column]
            ]
            if (claimed[trial], word) in similarity and None not in control:
                lift = similarity[claimed[trial], word] - np.mean(np.array(control, dtype=float))
                result[trial] -= lift * relative[trial, :, self._index(shown)]
        return result

    def beside_others(self, claim: Claim, used: np.ndarray) -> tuple[Any, ...]:
        """The arguments of `above_others`, for the trials ``used``, averaged by cluster and by the
        controls' words: effects on the claim's word, (clusters, heads), and on those that neither
        picture shows or, without any, on all other words, (clusters, heads, columns); these words,
        (clusters, columns); `effect`, (clusters, heads); and the strata, (clusters,) or None."""
        values, strata = self.effects[claim.sweep], self.strata(claim)
        columns = self._controls(claim.role, claim.sweep.target, values)
        columns = columns or self._others(claim.role, values)
        words = np.tile(columns, (len(values), 1)) if self.words is None else self.words[:, columns]
        words = words.astype(str)
        groups = self.replicates.groups(used, apart=np.array(["\t".join(said) for said in words]))

        def mean(of):
            return np.stack([of[own].mean(0) for own in groups])

        first = [own[0] for own in groups]
        on_word, others = values[..., self._index(claim.role)], values[..., columns]
        strata = None if strata is None else strata[first]
        return mean(on_word), mean(others), words[first], mean(self.effect(claim)), strata

    def words_of(self, claim: Claim | Look) -> np.ndarray | None:
        """The claim's word in every trial, (trials,); None for a claim about attention."""
        if self.words is None or isinstance(claim, Look):
            return None
        return self.words[:, self._index(claim.role)]

    def strata(self, claim: Claim | Look) -> np.ndarray | None:
        """The claim's word in every trial, with the strata that the trials declare, (trials,)."""
        return self.replicates.strata(self.words_of(claim))

    def observed(
        self, values: np.ndarray, claim: Claim | Look, used: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The values, (trials, …), of the trials ``used`` as (clusters, …), with equal weight for
        each answer; and the clusters' strata for a claim."""
        return self.replicates.means(values, self.words_of(claim), used, alike=True)

    def p(self, values: np.ndarray, alternative: str, claim: Claim | Look) -> np.ndarray:
        """`t_p` of the values, (trials, heads), of all trials: the largest of a claim's answers,
        (heads,)."""
        parts = self.replicates.by_answer(self.words_of(claim), self.replicates.all)
        observed = [self.observed(values, claim, own) for own in parts]
        return np.max([t_p(effects, alternative, strata) for effects, strata in observed], axis=0)

    def factors(self, claim: Claim, used: np.ndarray) -> list[np.ndarray]:
        """The factors for whose every label an absence must hold, by cluster of the trials
        ``used``, each (clusters,): the words of the claim and of the roles that the clean picture
        shows, and the strata that the trials declare."""
        factors = [self.replicates.levels] if self.replicates.levels.any() else []
        if self.words is not None:
            shown_roles = [
                role for role in self.task.roles if role in self.task.conditions["clean"].shows
            ]
            factors += [
                self.words[:, self._index(role)]
                for role in dict.fromkeys((claim.role, *shown_roles))
            ]
        groups = self.replicates.groups(used)
        return [
            np.array([" + ".join(sorted(set(factor[own]))) for own in groups]) for factor in factors
        ]

    def varies(self, role: str, used: np.ndarray) -> bool:
        """Whether a role has several words in the trials ``used``; True if the words are
        unknown."""
        return self.words is None or len(set(self.words[used, self._index(role)])) > 1

    def right(self, condition: str, claim: Claim) -> np.ndarray:
        """The right answer's logit in an unpatched run, read against the claim's control,
        (trials,)."""
        return self._relative(self.logits[condition], self.task.right, claim.sweep.target)

    def fall(self, claim: Claim) -> tuple[np.ndarray, np.ndarray]:
        """`right` in the clean run, and in the run that the claim's gap falls to."""
        return self.right("clean", claim), self.right(self.task.changed(claim.sweep), claim)

    def gap(self, claim: Claim | Look) -> np.ndarray:
        """How far the right answer's logit falls, or the furthest that attention could be on the
        claim's side, (trials,)."""
        if isinstance(claim, Look):
            return self.looks[claim][1]
        before, after = self.fall(claim)
        return before - after

    def mean_gap(self, claim: Claim | Look, used: np.ndarray) -> float:
        """`gap`, averaged over clusters of the trials ``used`` with equal weight for each
        answer."""
        return self.observed(self.gap(claim), claim, used)[0].mean()

    def _index(self, role):
        return list(self.task.roles).index(role)

    def _relative(self, values, role, target):
        """A role's values, (…,), relative to the control's mean or, without a control, to the best
        of the others; ``values`` (…, words)."""
        if controls := self._controls(role, target, values):
            return values[..., self._index(role)] - _mean(values[..., controls])
        return values[..., self._index(role)] - np.fmax.reduce(
            values[..., self._others(role, values)], axis=-1
        )

    def _controls(self, role, target, values):
        """The columns of the words in a role's control in a target."""
        roles = [name for name in self.task.controls(target) if name != role]
        return [*map(self._index, roles), *range(len(self.task.roles), values.shape[-1])]

    def _others(self, role, values):
        return [column for column in range(values.shape[-1]) if column != self._index(role)]


def _mean(values):
    """Mean over the last axis, ignoring NaN."""
    with np.errstate(invalid="ignore"):
        return np.nansum(values, axis=-1) / (~np.isnan(values)).sum(axis=-1)


def columns(task: Task, trials: Sequence[rgb.Trial]) -> list[str]:
    """The roles whose words' logits are kept: the task's, then those that `Task.with_controls`
    added."""
    added = dict.fromkeys(
        role for trial in trials for role in trial.answers if role.startswith("unshown ")
    )
    return [*task.roles, *added]


def measured(
    task: Task, model: rgb.Vlm, trials: Sequence[rgb.Trial], frames: Mapping[Sweep, pd.DataFrame]
) -> Measured:
    """The arrays from the sweeps; a sweep's frame is empty if its runs have no positions in
    common."""
    names = columns(task, trials)
    words = np.array(
        [[trial.answers.get(role, "") for role in names] for trial in trials], dtype=str
    )
    result = Measured(task, model.heads(), {}, {}, words, replicates=Replicates.of(trials, task))
    for sweep, frame in frames.items():
        if frame.empty:
            result.effects[sweep] = np.full((len(trials), len(result.heads), len(names)), np.nan)
            continue
        effects, before, after = arrays(task, frame, trials, len(result.heads))
        result.effects[sweep] = effects
        if sweep.source not in ARTIFICIAL:
            result.logits.setdefault(sweep.source, before)
        result.logits.setdefault(sweep.target, after)
    return result


def played_logits(
    task: Task, played: pd.DataFrame, trials: Sequence[rgb.Trial]
) -> dict[str, np.ndarray]:
    """Condition → (trials, words), from `rgb_circuit.play` of these trials."""
    names, order = columns(task, trials), [trial.name for trial in trials]
    logits = {}
    for condition, rows in played.groupby("condition", observed=True):
        rows = rows.assign(trial=rows["trial"].astype(str)).set_index("trial").loc[order]
        logits[str(condition)] = rows.reindex(columns=[f"logit_{name}" for name in names]).to_numpy(
            float
        )
    return logits


def arrays(
    task: Task, frame: pd.DataFrame, trials: Sequence[rgb.Trial], n_variants: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Effects (trials, variants, words), and the source's and target's logits (trials, words), from
    the frame of one target; NaN for a word that the trial lacks."""
    words = columns(task, trials)
    index = {role: number for number, role in enumerate(words)}
    frame = frame[frame["role"].isin(words)]
    trial = (
        frame["trial"]
        .astype(str)
        .map({trial.name: number for number, trial in enumerate(trials)})
        .to_numpy()
    )
    role = frame["role"].astype(str).map(index).to_numpy()
    # Rows of one trial and role are in the order of the variants.
    order = np.lexsort((np.arange(len(frame)), role, trial))
    present = np.unique(trial * len(words) + role)
    filled = np.full((3, len(trials), n_variants, len(words)), np.nan)
    for number, column in enumerate(("effect", "source_logit", "target_logit")):
        rows = frame[column].to_numpy()[order].reshape(len(present), n_variants)
        filled[number, present // len(words), :, present % len(words)] = rows
    effects, before, after = filled
    return effects, before[:, 0], after[:, 0]
