"""Do heads do the same in several tasks, or however a task is asked?

Samples are trials of tasks, or of templates of one task, for one model. For each sample:

1. Every head alone is restored at [end] from the clean picture in the task's corrupted one. Its
   effect is on the logit difference, right answer of the clean − of the corrupted picture, as a
   fraction of the gap, so that tasks with large and with small logits can be compared.
2. Every head gets its role by the task's own hypotheses.

**Pairs.** For each two samples, how far effects agree over heads: their correlation, the ceiling
(the largest correlation that such noisy effects can have, from split halves), and the correlation
without that noise. If the interval of the last is wide, nothing is known.

**Sets.** The first half of a sample's trials finds the heads whose effect is shown to be more than
``least`` of the gap. On the second half of each sample, including its own, the set is restored
alone in the corrupted picture, with everything else held there (sufficiency), and set to its mean
over trials in the clean one (necessity), and compared with random sets of the same layers. A set
that is enough for another task is a circuit that the two share; a set that is not enough may still
contain heads that they share.

Replicates are trials, or clusters of them (`rgb_circuit.stimuli.replicates`); pictures that samples
share stay together (`rgb_circuit.stimuli.shared_sources`). Results hold for these tasks and
templates; with fewer than five, nothing is known about others like them.

`transfer` measures all of this. `compared` takes earlier measurements of every head, as a run has
them, and measures only the sets.

Source: Spearman, The proof and measurement of association between two things, Am. J. Psychol. 15
(1904), for the correlation without noise; sets as in `analyses.circuit`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, product

import numpy as np
import pandas as pd

from rgb_circuit import Edit, InputError, Trial, Vlm
from rgb_circuit.calls.patching import PatchedEdits, PatchedHeads
from rgb_circuit.heads import Head
from rgb_circuit.measuring.measure import stepwise
from rgb_circuit.measuring.measurement import Steps
from rgb_circuit.statistics import (
    ROUNDING,
    benjamini_hochberg,
    decidable,
    fewest_trials,
    rank_p,
    shown_to_fall,
    t_p,
)
from rgb_circuit.statistics.agreement import ceiling, correlation_interval, disattenuated
from rgb_circuit.stimuli.replicates import Replicates, observed
from rgb_circuit.stimuli.shared_sources import halves_of, lined_up, sources_of
from rgb_circuit.stimuli.tasks import task_of
from rgb_circuit.trial import as_trials

from . import roles
from .circuit.faithfulness import (
    as_draws,
    check_trials,
    logit_difference,
    restored_fraction,
)
from .circuit.one_set import restored_alone, sets_like

SOURCE = "clean"
TESTS = ("sufficiency", "necessity")


@dataclass(frozen=True)
class Transfer:
    """The results of `transfer`.

    Attributes:
        heads: a row per sample × head: ``sample, layer, head, role, effect, ci_low, ci_high``
            (fraction of the gap, 95 % interval over trials; missing without a gap), ``shown``
            (whether it is shown to be more than ``least``, with a false discovery rate over heads),
            ``n`` (trials, or clusters of them), ``void`` ("no gap", "few clusters", "few of an
            answer" or empty).
        pairs: a row per two samples: ``one, other, heads, correlation, ci_low, ci_high``
            (Pearson's, over heads), ``ceiling``, ``corrected, corrected_low, corrected_high``
            (without the noise of single trials; missing if a sample is not shown to be more than
            noise), ``void``.
        sets: a row per sample that a set was found on × sample that it is tested on × test:
            ``found_on, tested_on, test`` ("sufficiency", "necessity"), ``set`` (its heads), ``size,
            faithfulness, ci_low, ci_high`` (restored fraction; for necessity what is left of it),
            ``random_mean, random_low, random_high, random_sets`` (mean and central 95 % of random
            sets), ``p_value`` (the set's rank among them), ``q_value`` (over the rows of a test),
            ``decidable`` (whether p could be 0.05 with that many sets), ``n``, ``void`` ("no head",
            or as in ``heads``).
    """

    heads: pd.DataFrame
    pairs: pd.DataFrame
    sets: pd.DataFrame


@dataclass(frozen=True)
class Measured:
    """The earlier measurements of a sample.

    Attributes:
        trials: of one task.
        effects: the frame of `rgb_circuit.patch_heads` of the trials, with every head's z restored
            at [end] from the clean picture, among others in the task's corrupted one.
        parts: (layer, head) → its role by the task's hypotheses.
    """

    trials: Sequence[Trial]
    effects: pd.DataFrame
    parts: Mapping[tuple[int, int], str]


@dataclass(frozen=True)
class _Sample:
    """Trials of one task, and what every head alone restores in its corrupted picture: ``values``
    (trials, heads) and ``gap`` (trials,) in logits; why there is nothing to restore, else empty."""

    name: str
    trials: list[Trial]
    target: str
    values: np.ndarray
    gap: np.ndarray
    void: str

    @cached_property
    def seen(self):
        """The sample by observation: ``values`` (clusters, heads), ``gap`` (clusters,), and their
        strata."""
        return self.by_cluster(self.values)

    def by_cluster(self, values):
        """`seen`, for other values (trials, …)."""
        means, strata = self._observed(np.column_stack([values, self.gap]))
        return means.to_numpy()[:, :-1], means.to_numpy()[:, -1], strata

    def _observed(self, values):
        words = {trial.name: trial.answers[trial.expected[SOURCE]] for trial in self.trials}
        return observed(pd.DataFrame(values, pd.Index(words, name="trial")), self.trials, words)

    def of_observations(self, labels):
        """Labels of trials as labels of observations."""
        first = self._observed(np.zeros((len(self.trials), 1)))[0].index
        return pd.Series(labels, [trial.name for trial in self.trials])[first].tolist()

    def part(self, numbers, level):
        """The sample with some of its trials, for tests at a level."""
        trials = [self.trials[index] for index in numbers]
        few = "few clusters" if len(trials) < fewest_trials(level) else ""
        return replace(
            self,
            trials=trials,
            values=self.values[numbers],
            gap=self.gap[numbers],
            void=self.void or few or _too_few(trials),
        )

    def shown(self, least, level):
        """Whether each head's effect is shown to be more than ``least`` of the gap, (heads,)."""
        if self.void:
            return np.zeros(self.values.shape[1], dtype=bool)
        values, gap, strata = self.seen
        p = t_p(values - least * gap.mean(), "greater", strata)
        return benjamini_hochberg(p) <= level


def _too_few(trials):
    replicates = Replicates.of(trials)
    words = np.array([trial.answers[trial.expected[SOURCE]] for trial in trials])
    return replicates.too_few(words, replicates.all)


@stepwise(stage="patching")
def transfer(
    model: Vlm,
    samples: Mapping[str, Sequence[Trial]],
    *,
    least: float = 0.05,
    level: float = 0.05,
    random_sets: int = 20,
    seed: int = 0,
    progress: bool = True,
) -> Steps[Transfer]:
    """Roles, effects and circuits of the same heads over several samples of trials.

    Args:
        samples: name → trials of one task and one way of asking, such as ``{"rgb": …, "counting":
            …}``.
        least: fraction of the gap that a head's effect must exceed to be found.
        level: false discovery rate, over heads.
        random_sets: the largest number of random sets that each set is compared with.
        seed: of the random sets.
        progress: show a bar when it takes longer than two seconds.

    Raises:
        InputError: fewer than two samples, too few trials in one, or trials that do not say which
            answers they expect, before any forward.

    Examples:
        >>> from analyses.transfer import transfer
        >>> samples = {f"seed {seed}": rgb.trials(model, "rgb", 12, seed=seed) for seed in (0, 1)}
        >>> found = transfer(model, samples, random_sets=3)
        >>> bool(found.pairs["correlation"][0] > 0.9)
        True
    """
    checked = _checked(samples, level)
    random_sets, seed = as_draws(random_sets, seed)
    tasks = {name: task_of(trials) for name, trials in checked.items()}
    frames = yield [
        PatchedHeads.of(model, trials, SOURCE, tasks[name].corrupted)
        for name, trials in checked.items()
    ]
    measured = {
        name: _sample(name, trials, tasks[name].corrupted, frame)
        for (name, trials), frame in zip(checked.items(), frames)
    }
    parts = {}
    for name, sample in measured.items():
        parts[name] = yield from _roles(model, sample, tasks[name])
    return (yield from _found(model, measured, parts, least, level, random_sets, seed))


def compared(
    model: Vlm,
    measured: Mapping[str, Measured],
    *,
    least: float = 0.05,
    level: float = 0.05,
    random_sets: int = 20,
    seed: int = 0,
) -> Steps[Transfer]:
    """`transfer` for samples with earlier measurements of every head; only sets are measured.

    Args:
        measured: name of a sample → its earlier measurements.
        least, level, random_sets, seed: as in `transfer`.

    Raises:
        InputError: as `transfer`.
    """
    checked = _checked({name: sample.trials for name, sample in measured.items()}, level)
    random_sets, seed = as_draws(random_sets, seed)
    samples = {}
    for name, trials in checked.items():
        target = task_of(trials).corrupted
        frame = measured[name].effects
        samples[name] = _sample(name, trials, target, frame[frame["target"] == target])
    parts = {name: sample.parts for name, sample in measured.items()}
    return (yield from _found(model, samples, parts, least, level, random_sets, seed))


def _found(model, samples, parts, least, level, random_sets, seed):
    """Measure the sets, and make the frames of `Transfer`."""
    sets = yield from _sets(model, [*samples.values()], least, level, random_sets, seed)
    heads = [
        _heads(model, sample, parts[name], sample.shown(least, level))
        for name, sample in samples.items()
    ]
    pairs = [_pair(one, other) for one, other in combinations(samples.values(), 2)]
    return Transfer(pd.concat(heads, ignore_index=True), pd.DataFrame(pairs), sets)


def _checked(samples, level):
    """The samples as lists."""
    if not isinstance(samples, Mapping) or len(samples) < 2:
        raise InputError(
            "samples are two or more by name; give a mapping such as {'rgb': rgb.trials(model, "
            "'rgb', 32), 'counting': rgb.trials(model, 'counting', 32)}"
        )
    given = {str(name): as_trials(trials) for name, trials in samples.items()}
    for name, trials in given.items():
        check_sample(name, trials, level)
    return given


def check_sample(name: str, trials: Sequence[Trial], level: float = 0.05) -> None:
    """Raise InputError for trials that cannot be compared with others: too few, or without the
    answers that they expect."""
    if len(trials) < (fewest := 2 * fewest_trials(level)):
        raise InputError(
            f"sample {name!r} has {len(trials)} trials, and to find heads on one half and test "
            f"them on the other takes {fewest}; give more"
        )
    check_trials(trials, SOURCE, task_of(trials).corrupted)


def _sample(name, trials, target, frame) -> _Sample:
    """A sample from a sweep of every head."""
    heads = [str(Head(*head)) for head in zip(frame["layer"], frame["head"])]
    frame = frame.assign(variant=pd.Categorical(heads, list(dict.fromkeys(heads))))
    order = [trial.name for trial in trials]
    patched, before, after = (
        logit_difference(frame, trials, SOURCE, target, column).loc[order].to_numpy()
        for column in ("patched_logit", "target_logit", "source_logit")
    )
    sample = _Sample(name, trials, target, patched - before, after[:, 0] - before[:, 0], "")
    ends, _, _ = sample.by_cluster(np.column_stack([after[:, 0], before[:, 0]]))
    return replace(
        sample,
        void=_too_few(trials) or ("" if shown_to_fall(ends[:, 0], ends[:, 1]) else "no gap"),
    )


def _roles(model, sample, task):
    """(layer, head) → its role by the task's hypotheses; empty if there is nothing to restore."""
    if sample.void or not task.hypotheses:
        return {}
    evidence = yield from roles.steps(model, sample.trials, task=task)
    table = roles.table(evidence, task)
    return dict(zip(zip(table["layer"], table["head"]), table["role"]))


def _heads(model, sample, parts, shown):
    """A sample's rows of `Transfer.heads`."""
    effect = low = high = np.full(len(shown), np.nan)
    if not sample.void:
        values, gap, strata = sample.seen
        effect, low, high = restored_fraction(pd.DataFrame(values), gap, strata)
    layer, head = np.array(model.heads()).T
    return pd.DataFrame(
        dict(
            sample=sample.name,
            layer=layer,
            head=head,
            role=[parts.get(tuple(one), "none") for one in model.heads()],
            effect=effect,
            ci_low=low,
            ci_high=high,
            shown=shown,
            n=len(sample.seen[1]),
            void=sample.void,
        )
    )


def _pair(one, other):
    """A row of `Transfer.pairs`."""
    names = (
        "correlation",
        "ci_low",
        "ci_high",
        "ceiling",
        "corrected",
        "corrected_low",
        "corrected_high",
    )
    numbers = (np.nan,) * len(names)
    if not (one.void or other.void):
        samples = one, other
        sources = sources_of([sample.trials for sample in samples])
        labels = [sample.of_observations(own) for sample, own in zip(samples, sources)]
        *numbered, same_trials = lined_up(*labels)
        values = [sample.seen[0][own] for sample, own in zip(samples, numbered)]
        means = [side.mean(0) for side in values]
        numbers = (
            float(np.corrcoef(*means)[0, 1]) if min(map(np.ptp, means)) > 0 else np.nan,
            *correlation_interval(*values, same_trials=same_trials),
            ceiling(*values),
            *disattenuated(*values, same_trials=same_trials),
        )
    about = dict(one=one.name, other=other.name, heads=one.values.shape[1])
    return about | dict(zip(names, numbers)) | dict(void=one.void or other.void)


def _sets(model, samples, least, level, random_sets, seed):
    """`Transfer.sets`: each set is found on the first half of a sample and tested on the second
    half of each."""
    rng = np.random.default_rng(seed)
    found_on, variants = {}, {}
    halves = halves_of([sample.trials for sample in samples])
    for sample, (first, _) in zip(samples, halves):
        shown = sample.part(first, level).shown(least, level)
        found_on[sample.name] = [head for head, is_shown in zip(model.heads(), shown) if is_shown]
        if chosen := found_on[sample.name]:
            sets = [chosen, *sets_like(model, chosen, random_sets, rng)]
            variants |= {f"{sample.name}: {number}": heads for number, heads in enumerate(sets)}
    silent = {
        name: [Edit(layer, head, "mean") for layer, head in some] for name, some in variants.items()
    }
    rows = []
    for sample, (_, second) in zip(samples, halves):
        half = sample.part(second, level)
        if half.void or not variants:
            frames = [None, None]
        else:
            restored = {
                name: restored_alone(model, some, SOURCE, half.target)
                for name, some in variants.items()
            }
            frames = yield [
                PatchedEdits.of(half.trials, restored, half.target),
                PatchedEdits.of(half.trials, silent, SOURCE),
            ]
        for (name, chosen), (test, frame) in product(found_on.items(), zip(TESTS, frames)):
            void = half.void or ("" if chosen else "no head")
            about = dict(
                found_on=name, tested_on=sample.name, test=test, size=len(chosen), void=void
            )
            about["set"] = " ".join(str(Head(*head)) for head in chosen)
            rows.append(
                about
                | dict(n=len(half.seen[1]))
                | ({} if void else _tested(frame, name, test, half))
            )
    columns = [
        "found_on", "tested_on", "test", "set", "size", "faithfulness", "ci_low", "ci_high",
        "random_mean", "random_low", "random_high", "random_sets", "p_value", "decidable", "n",
        "void",
    ]  # fmt: skip
    frame = pd.DataFrame(rows).reindex(columns=columns)
    frame.insert(columns.index("p_value") + 1, "q_value", np.nan)
    for test in TESTS:
        ranked = (frame["test"] == test) & frame["p_value"].notna()
        frame.loc[ranked, "q_value"] = benjamini_hochberg(
            frame.loc[ranked, "p_value"].to_numpy(float)
        )
    return frame


def _tested(frame, name, test, sample):
    """The numbers of the set that was found on the sample ``name``, next to those of its random
    sets."""
    order = [trial.name for trial in sample.trials]
    patched, unpatched = (
        logit_difference(frame, sample.trials, SOURCE, sample.target, column).loc[order]
        for column in ("patched_logit", "target_logit")
    )
    # Necessity is measured in the clean run, which is a gap above the corrupted one.
    corrupted = unpatched.iloc[:, 0] - (sample.gap if test == "necessity" else 0)
    names = [
        f"{name}: {number}" for number in range(patched.shape[1]) if f"{name}: {number}" in patched
    ]
    gained, gap, strata = sample.by_cluster(patched[names].sub(corrupted, axis=0))
    share, low, high = restored_fraction(pd.DataFrame(gained), gap, strata)
    random, sign = share[1:], 1 if test == "sufficiency" else -1
    spread = np.quantile(random, [0.025, 0.975]) if len(random) else (np.nan, np.nan)
    return dict(
        faithfulness=share[0],
        ci_low=low[0],
        ci_high=high[0],
        random_mean=random.mean() if len(random) else np.nan,
        random_low=spread[0],
        random_high=spread[1],
        random_sets=len(random),
        p_value=rank_p(sign * share[0], list(sign * random), ROUNDING * float(np.abs(share).max())),
        decidable=decidable(len(random)),
    )
