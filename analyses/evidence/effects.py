"""What the sweeps gave, as arrays: effects of every head on every word, relative to what a claim
reads them against.

**A word's logit** is read relative to a *control*: the mean over the words that neither the clean
nor the target picture shows (`rgb_circuit.task.Task.controls`). What moves all words alike is
therefore no effect on any of them. Of a task's own trials these are all such words of its
vocabulary, since a mean of six words wanders less than one word does; in other trials they are
among the answers. Where pictures leave no such word, as where there are two answers, a word is read
against the best of the others.

**The gap** is what there is to restore: by how much the right answer's logit falls from the clean
to the other picture (`rgb_circuit.task.Task.changed`). Margins are fractions of its size, and the
restored fraction is effect / gap.

**Word similarity.** Who writes "blue" raises "purple" too, if a model's words are alike. Averaged
over trials that is no effect on the odd word, but in each trial it is one, up or down, and an
absence cannot be shown. So what the only word that a picture shows brings along is taken out of
absences on words that it does not show: `Measured.without_similarity`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

import rgb_circuit as rgb
from rgb_circuit.edits import ARTIFICIAL
from rgb_circuit.heads import Head
from rgb_circuit.hypothesis import Claim, Sweep
from rgb_circuit.task import Task


@dataclass(frozen=True)
class Measured:
    """What the sweeps gave.

    Attributes:
        task: whose roles the first words are.
        heads: in the order of the effects.
        effects: sweep → (trials, heads, words), words in the order of `columns`; NaN for one that a
            trial lacks.
        logits: condition → (trials, words), of the unpatched runs.
        words: (trials, words): the words themselves, empty for one that a trial lacks; None if they
            are not known.
    """

    task: Task
    heads: Sequence[Head]
    effects: dict[Sweep, np.ndarray]
    logits: dict[str, np.ndarray]
    words: np.ndarray | None = None

    def effect(self, claim: Claim) -> np.ndarray:
        """Effects on the claim's word relative to what it is read against, (trials, heads)."""
        return self.on(claim.role, claim.sweep)

    def on(self, role: str, sweep: Sweep) -> np.ndarray:
        """A sweep's effects on a role's word relative to what it is read against, (trials,
        heads)."""
        effects = self.effects[sweep]
        if self._controls(sweep.target, effects):
            return self._relative(effects, role, sweep.target)
        if sweep.part == "through":
            # The best of the others need not be the same word in both.
            return self.on(role, sweep.whole) - self.on(role, sweep.other_part)
        before = self.logits[sweep.target][:, None]
        after = self._relative(before + effects, role, sweep.target)
        return after - self._relative(before, role, sweep.target)

    def tested(self, claim: Claim) -> np.ndarray:
        """What a claim's tests are about, (trials, heads)."""
        if claim.expected == "mostly":
            return self.effect(claim) - self.on(claim.role, claim.sweep.other_part)
        if claim.expected == "below half":
            return self.on(claim.role, replace(claim.sweep, without="")) / 2 - self.effect(claim)
        return self.without_similarity(claim)

    def without_similarity(self, claim: Claim) -> np.ndarray:
        """`effect`, where the claim is the absence of one on a word that the target does not show,
        while it shows a single word: without what the two words share, (trials, heads).

        How much a word w rises per logit of the shown word b, S[w, b], is a property of the model's
        words: it is fitted by least squares over all trials whose pictures do not show w, and over
        all heads, in trials where they move the shown word at least twice as much as the claim's.
        In a trial with the claim's word o and the shown word b of which a head writes g, (S[o, b] −
        mean over the control's words of S[·, b]) · g is taken out; where o is never unshown on b,
        nothing is.
        """
        effect, shown = self.effect(claim), self.task.written_alone(claim)
        controls = self._controls(claim.sweep.target, self.effects[claim.sweep])
        if self.words is None or shown is None or not controls:
            return effect
        values = self.effects[claim.sweep]
        relative = values - _mean(values[..., controls])[..., None]
        writes = relative[..., self._index(shown)]
        writes = np.where(np.abs(writes) >= 2 * np.abs(effect), writes, 0)
        said, ground = (self.words[:, self._index(role)] for role in (claim.role, shown))
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
        taken = effect.copy()
        for trial, word in enumerate(ground):
            control = [
                similarity.get((self.words[trial, column], word))
                for column in controls
                if self.words[trial, column]
            ]
            if (said[trial], word) in similarity and None not in control:
                lift = similarity[said[trial], word] - np.mean(np.array(control, dtype=float))
                taken[trial] -= lift * relative[trial, :, self._index(shown)]
        return taken

    def beside_others(self, claim: Claim) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Effects on the claim's word, (trials, heads), and on those that neither picture shows,
        (trials, heads, columns); and what these words are, (trials, columns). Without any, all
        other words."""
        values = self.effects[claim.sweep]
        columns = self._controls(claim.sweep.target, values) or self._others(claim.role, values)
        words = np.tile(columns, (len(values), 1)) if self.words is None else self.words[:, columns]
        return values[..., self._index(claim.role)], values[..., columns], words.astype(str)

    def strata(self, claim: Claim) -> np.ndarray | None:
        """The claim's word in every trial, (trials,)."""
        return None if self.words is None else self.words[:, self._index(claim.role)]

    def factors(self, claim: Claim) -> list[np.ndarray]:
        """The words for each of which an absence must hold, the claim's and those that the clean
        picture shows, each (trials,)."""
        if self.words is None:
            return []
        shown = [role for role in self.task.roles if role in self.task.conditions["clean"].shows]
        return [self.words[:, self._index(role)] for role in dict.fromkeys((claim.role, *shown))]

    def varies(self, role: str, used: slice) -> bool:
        """Whether a role has several words in some trials, as far as they are known."""
        return self.words is None or len(set(self.words[used, self._index(role)])) > 1

    def right(self, condition: str, claim: Claim) -> np.ndarray:
        """The right answer's logit in an unpatched run, read as the claim's word is, (trials,)."""
        return self._relative(self.logits[condition], self.task.right, claim.sweep.target)

    def fall(self, claim: Claim) -> tuple[np.ndarray, np.ndarray]:
        """`right` in the clean run, and in that which the claim's gap falls to."""
        return self.right("clean", claim), self.right(self.task.changed(claim.sweep), claim)

    def gap(self, claim: Claim) -> np.ndarray:
        """By how much the right answer's logit falls, (trials,)."""
        before, after = self.fall(claim)
        return before - after

    def _index(self, role):
        return list(self.task.roles).index(role)

    def _relative(self, values, role, target):
        """A role's values, (…,), relative to the control's mean or, without any, to the best of the
        others; ``values`` (…, words)."""
        if controls := self._controls(target, values):
            return values[..., self._index(role)] - _mean(values[..., controls])
        return values[..., self._index(role)] - np.nanmax(
            values[..., self._others(role, values)], axis=-1
        )

    def _controls(self, target, values):
        """The columns of the words that a target's control is the mean of."""
        own = list(self.task.controls(target))
        return [*map(self._index, own), *range(len(self.task.roles), values.shape[-1])]

    def _others(self, role, values):
        return [column for column in range(values.shape[-1]) if column != self._index(role)]


def _mean(values):
    """Over the last axis, of what there is."""
    with np.errstate(invalid="ignore"):
        return np.nansum(values, axis=-1) / (~np.isnan(values)).sum(axis=-1)


def columns(task: Task, trials: Sequence[rgb.Trial]) -> list[str]:
    """The roles whose words' logits are kept: the task's, then what `Task.with_controls` added."""
    added = dict.fromkeys(
        role for trial in trials for role in trial.answers if role.startswith("unshown ")
    )
    return [*task.roles, *added]


def measured(
    task: Task, model: rgb.Vlm, trials: Sequence[rgb.Trial], frames: Mapping[Sweep, pd.DataFrame]
) -> Measured:
    """What the sweeps gave; ``frames``: of each."""
    names = columns(task, trials)
    words = np.array(
        [[trial.answers.get(role, "") for role in names] for trial in trials], dtype=str
    )
    found = Measured(task, model.heads(), {}, {}, words)
    for sweep, frame in frames.items():
        effects, before, after = arrays(task, frame, trials, len(found.heads))
        found.effects[sweep] = effects
        if sweep.source not in ARTIFICIAL:
            found.logits.setdefault(sweep.source, before)
        found.logits.setdefault(sweep.target, after)
    return found


def played_logits(
    task: Task, played: pd.DataFrame, trials: Sequence[rgb.Trial]
) -> dict[str, np.ndarray]:
    """Condition → (trials, words), from `rgb_circuit.play` of these trials."""
    names, order = columns(task, trials), [trial.name for trial in trials]
    found = {}
    for condition, rows in played.groupby("condition", observed=True):
        rows = rows.assign(trial=rows["trial"].astype(str)).set_index("trial").loc[order]
        found[str(condition)] = rows.reindex(columns=[f"logit_{name}" for name in names]).to_numpy(
            float
        )
    return found


def arrays(
    task: Task, frame: pd.DataFrame, trials: Sequence[rgb.Trial], n_variants: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Effects (trials, variants, words), and the source's and target's logits (trials, words), from
    the frame of one target; NaN for a word that a trial lacks."""
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
    # Within a trial and role the rows come in the order of the variants.
    order = np.lexsort((np.arange(len(frame)), role, trial))
    present = np.unique(trial * len(words) + role)
    filled = np.full((3, len(trials), n_variants, len(words)), np.nan)
    for number, column in enumerate(("effect", "source_logit", "target_logit")):
        rows = frame[column].to_numpy()[order].reshape(len(present), n_variants)
        filled[number, present // len(words), :, present % len(words)] = rows
    effects, before, after = filled
    return effects, before[:, 0], after[:, 0]
