"""The three panels of the published figure, or panels for other trials: each head's restored
effect, averaged over trials.

For pictures that no task drew (``trials``), an effect is read as evidence reads it: the word's
logit relative to the mean of the control words, or to the best other word if there are no controls;
trials that share a source are averaged first, answers get equal weight, and an effect is told from
zero only if it is for each answer (`rgb_circuit.stimuli.replicates`). A picture that keeps the
answer is compared with the gap to one that does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..heads import Head
from ..statistics import benjamini_hochberg, shown_to_fall, t_interval, t_p, words_read
from ..stimuli.replicates import Replicates
from ..stimuli.tasks import find, task_of
from ..task import Task
from ..trial import Trial

# Panel → (target condition, role whose logit is read), in the order of the published figure.
PANELS: Mapping[str, tuple[str, str]] = find("rgb").panels
# The least size of an effect, as for roles (`analyses.evidence`): the first number times the gap,
# or times the second number (logits) if the gap is missing or smaller than that.
LEAST, LEAST_GAP = 0.05, 0.5
# The least gap between own pictures, in noise floors.
FLOORS = 5
LEAST_SAID = f"{100 * LEAST:g}\N{NO-BREAK SPACE}% of the gap or {LEAST * LEAST_GAP:g} logits"


def panels_for(trials: Sequence[Trial]) -> Mapping[str, tuple[str, str]]:
    """The panels for trials of any kind: their task's, if the trials have its pictures and answers.

    Otherwise every picture but clean is a target, and the logit is read of the word expected for
    clean, or of every word if none is expected.

    Args:
        trials: all with the same conditions and roles.

    Raises:
        InputError: no picture to patch, or trials that expect different roles for clean.
    """
    first, own = trials[0], task_of(trials).panels
    if own and all(
        target in first.images and role in first.answers for target, role in own.values()
    ):
        return own
    targets = [condition for condition in first.images if condition != "clean"]
    if not targets:
        raise InputError(
            f"trial {first.name!r} has only a clean picture, so there is nothing to patch; add "
            "another picture"
        )
    expected = sorted({trial.expected["clean"] for trial in trials if "clean" in trial.expected})
    if len(expected) > 1:
        raise InputError(
            f"the trials expect different roles for 'clean' ({', '.join(expected)}), so their "
            "effects cannot be averaged; "
            "name a role for what its word is, such as 'right', and use the same role in every "
            "trial"
        )
    return {
        f"{role}, when {target}": (target, role)
        for role in expected or first.answers
        for target in targets
    }


def panels(
    frame: pd.DataFrame,
    which: Mapping[str, tuple[str, str]] = PANELS,
    *,
    trials: Sequence[Trial] | None = None,
) -> pd.DataFrame:
    """Mean effect of each head in each panel.

    Args:
        frame: from `patch_heads` with the panels' targets. If it has a `noise_floor`
            (``frame.attrs["noise_floor"]``, logits), a mean that rounding alone could make counts
            as no effect.
        which: panel → (target condition, role whose logit is read).
        trials: those of the frame; needed if no task drew them.

    Returns:
        A row per head: ``layer, head``, and a column per panel with the mean effect over trials
        (logits), or 0 if that may be rounding alone.

    Raises:
        InputError: the frame does not have the target or the role of a panel.
    """
    _check(frame, which)
    columns = {}
    rounding = mean_floor(frame.attrs.get("noise_floor", 0.0), frame["trial"].nunique())
    own_pictures = _own(frame, trials)
    for panel, (target, role) in which.items():
        if own_pictures is not None:
            with_role = own_pictures.with_role(role)
            cells, words = with_role.cells(target, role)
            mean = pd.Series(with_role.means(cells, words)[0].mean(0), cells.columns)
            columns[panel] = mean.where(mean.abs() > rounding, 0.0)
            continue
        rows = frame[(frame["target"] == target) & (frame["role"] == role)]
        mean = rows.groupby(["layer", "head"])["effect"].mean()
        columns[panel] = mean.where(mean.abs() > rounding, 0.0)
    return pd.DataFrame(columns).reset_index()


def gaps(frame: pd.DataFrame, *, trials: Sequence[Trial] | None = None) -> dict[str, float]:
    """The gap that each target picture leaves to restore: the fall of the answer from the source to
    it.

    Args:
        frame: from `patch_heads`.
        trials: those of the frame; needed if no task drew them.

    Returns:
        Target → mean fall over trials (logits) of the answer whose logit falls most; in the game
        this is the odd colour's word. For pictures that no task drew: the fall of the right answer
        relative to the best other answer or the controls, to that picture or, if it keeps the
        answer, to the task's corrupted one. NaN if no answer is shown to fall
        (`rgb_circuit.statistics.shown_to_fall`); for own pictures also if the fall is less than
        `LEAST_GAP`, or than `FLOORS` times the noise floor.
    """
    if (own_pictures := _own(frame, trials)) is not None:
        return own_pictures.gaps()
    gap_of = {}
    for target, rows in frame.groupby("target", observed=True):
        once = rows.drop_duplicates(["trial", "role"])
        before, after = (
            once.pivot(index="trial", columns="role", values=name).dropna(axis=1)
            for name in ("source_logit", "target_logit")
        )
        after = after[before.columns]
        falls = (before - after).mean()
        shown = len(falls) and bool(
            shown_to_fall(*(side[[falls.idxmax()]] for side in (before, after)))[0]
        )
        gap_of[str(target)] = float(falls.max()) if shown else np.nan
    return gap_of


def tested(
    frame: pd.DataFrame,
    which: Mapping[str, tuple[str, str]] = PANELS,
    level: float = 0.05,
    *,
    trials: Sequence[Trial] | None = None,
) -> pd.DataFrame:
    """Each head's effect in each panel with its interval, and whether it is told from zero.

    Args:
        frame: from `patch_heads` with the panels' targets. If it has a `noise_floor`, a mean that
            rounding alone could make is not told from zero.
        which: panel → (target condition, role whose logit is read).
        level: false discovery rate over the heads of a panel.
        trials: those of the frame; needed if no task drew them.

    Returns:
        A row per panel × head: ``panel, target, role, layer, head, effect, ci_low, ci_high``
        (logits; mean over trials and its 95 % t interval within the role's words), ``gap`` (logits,
        see `gaps`), ``told`` (Benjamini–Hochberg q of the same t, two-sided, ≤ level, and more than
        rounding; with a single trial, which allows no test, only the latter), ``n`` (trials; for
        pictures that no task drew, clusters, and with fewer than
        `rgb_circuit.stimuli.replicates.FEWEST` of these nothing is told).

    Raises:
        InputError: the frame does not have the target or the role of a panel.
    """
    _check(frame, which)
    gap, blocks = gaps(frame, trials=trials), []
    own_pictures = _own(frame, trials)
    rounding = mean_floor(frame.attrs.get("noise_floor", 0.0), frame["trial"].nunique())
    for panel, (target, role) in which.items():
        if own_pictures is not None:
            block, found = own_pictures.with_role(role).tested(target, role, level)
        else:
            block, found = _tested(
                frame[(frame["target"] == target) & (frame["role"] == role)], level
            )
        about = dict(panel=panel, target=target, role=role)
        block = block.assign(
            ci_low=found["ci_low"],
            ci_high=found["ci_high"],
            gap=gap[target],
            told=found["told"] & (block["effect"].abs() > rounding),
            n=found["n"],
        )
        blocks.append(pd.DataFrame(about, index=block.index).join(block))
    return pd.concat(blocks, ignore_index=True)


def _check(frame, which):
    known = {column: list(map(str, frame[column].unique())) for column in ("target", "role")}
    for panel, target_and_role in which.items():
        for (column, names), name in zip(known.items(), target_and_role):
            if name not in names:
                raise InputError(
                    f"panel {panel!r} is of the {column} {name!r}, and the frame has "
                    f"{', '.join(names)}; give panels of these, or those of panels_for(trials)"
                )


def _tested(rows, level):
    """The effect of each head in one panel; and its interval, test and n."""
    cells = rows.pivot(index="trial", columns=["layer", "head"], values="effect").sort_index(axis=1)
    block = cells.mean().rename("effect").reset_index()
    told = np.full(len(block), True)
    low = high = np.full(len(block), np.nan)
    if len(cells) > 1:
        strata = words_read(rows, cells.index)
        low, high = t_interval(cells, strata)
        p = 2 * np.minimum(t_p(cells, "greater", strata), t_p(cells, "less", strata))
        told = benjamini_hochberg(np.minimum(p, 1)) <= level
    return block, dict(ci_low=low, ci_high=high, told=told, n=len(cells))


def _own(frame, trials):
    """The frame with its trials, if no task drew their pictures; None if one did, or without
    trials."""
    if trials is None or (task := task_of(trials)).is_game:
        return None
    kept = set(frame["trial"].unique())
    return _OwnPictures(frame, task, [trial for trial in trials if trial.name in kept])


@dataclass(frozen=True)
class _OwnPictures:
    """A frame of `patch_heads`, with its trials and their task.

    Attributes:
        pivoted: the cache of `_words`.
    """

    frame: pd.DataFrame
    task: Task
    trials: Sequence[Trial]
    pivoted: dict[tuple, dict[str, Any]] = field(default_factory=dict)

    @cached_property
    def replicates(self) -> Replicates:
        return Replicates.of(self.trials, self.task)

    def with_role(self, role):
        """The same with only the trials that have an answer of this role."""
        return replace(self, trials=[trial for trial in self.trials if role in trial.answers])

    def means(self, cells, words):
        return self.replicates.means(cells.to_numpy(), words, alike=True)

    def cells(self, target, role):
        """Effects on the role's word relative to the words it is read against, a row per trial and
        a column per (layer, head); and the word in each trial."""
        patched, before = (
            self._relative(target, column, ("layer", "head"), role)
            for column in ("patched_logit", "target_logit")
        )
        return patched - before, np.array([trial.answers.get(role, "") for trial in self.trials])

    def tested(self, target, role, level):
        """As `_tested`."""
        cells, words = self.cells(target, role)
        effects, strata = self.means(cells, words)
        block = pd.Series(effects.mean(0), cells.columns, name="effect").reset_index()
        found: dict[str, Any] = dict(ci_low=np.nan, ci_high=np.nan, n=len(effects))
        found["told"] = np.full(len(block), len(effects) == 1)
        if len(effects) > 1:
            found["ci_low"], found["ci_high"] = t_interval(effects, strata)
        if not self.replicates.too_few(words, self.replicates.all):
            parts = self.replicates.by_answer(words, self.replicates.all)
            observed = [self.replicates.means(cells.to_numpy(), words, part) for part in parts]
            sides = [
                np.max([t_p(values, side, strata) for values, strata in observed], axis=0)
                for side in ("greater", "less")
            ]
            found["told"] = benjamini_hochberg(np.minimum(1, 2 * np.min(sides, axis=0))) <= level
        return block, found

    def gaps(self):
        """See `rgb_circuit.calls.panels.gaps`."""
        right, targets = self.task.conditions["clean"].right, self.frame["target"].unique()
        if not (answered := self.with_role(right)).trials:
            return {str(target): np.nan for target in targets}
        return {str(target): answered._gap(str(target), right) for target in targets}

    def _gap(self, target, right):
        """The gap of a target; all trials have the role ``right``."""
        other = self.task.with_gap(target)
        if not (self.frame["target"] == other).any():
            return np.nan
        words = np.array([trial.answers[right] for trial in self.trials])
        before, after = (
            self._relative(other, column, (), right).to_numpy()
            for column in ("source_logit", "target_logit")
        )
        high, low = (self.replicates.means(run, words, alike=True)[0] for run in (before, after))
        if not shown_to_fall(high, low):
            return np.nan
        gap = float(self.replicates.means(before - after, words, alike=True)[0].mean())
        return (
            gap
            if gap >= max(LEAST_GAP, FLOORS * self.frame.attrs.get("noise_floor", 0.0))
            else np.nan
        )

    def _relative(self, target, column, by, role):
        """A word's logits relative to the words it is read against: a row per trial, a column per
        ``by``."""
        said = {
            name: own.reindex([trial.name for trial in self.trials])
            for name, own in self._words(target, column, by).items()
        }
        value = said.pop(role)
        if not said:
            return value
        controls = {name: said[name] for name in self.task.controls(target) if name in said}
        for trial in self.trials if controls else ():
            if controls.keys().isdisjoint(trial.answers):
                name = next(iter(controls))
                raise InputError(
                    f"trial {trial.name!r} has no answer {name!r}, which effects are read against; "
                    f"add answers[{name!r}], or leave the trial out"
                )
        others = np.stack([own.to_numpy(dtype=float) for own in (controls or said).values()])
        return value - (np.nanmean(others, axis=0) if controls else np.fmax.reduce(others, axis=0))

    def _words(self, target, column, by):
        """Role → the logits of its word; cached, since several roles are read against it."""
        if (target, column, by) not in self.pivoted:
            rows = self.frame[self.frame["target"] == target]
            rows = rows.drop_duplicates(["trial", "role", *by])
            self.pivoted[target, column, by] = {
                str(name): own.pivot(index="trial", columns=list(by), values=column).sort_index(
                    axis=1
                )
                if by
                else own.set_index("trial")[column]
                for name, own in rows.groupby("role", observed=True)
            }
        return self.pivoted[target, column, by]


def least_effect(gap: float | pd.Series) -> np.ndarray:
    """The least size of a mean effect that counts, in logits: `LEAST` times the gap, or times
    `LEAST_GAP` if the gap is smaller or missing."""
    # fmax, unlike maximum, ignores a missing gap.
    return LEAST * np.fmax(np.asarray(gap, dtype=float), LEAST_GAP)


def shown(table: pd.DataFrame) -> pd.Series:
    """Whether each effect is shown: told from zero, and as large as `least_effect`.

    Args:
        table: ``effect, gap`` (logits) and ``told``, as from `tested`.
    """
    return table["told"].eq(True) & (table["effect"].abs() >= least_effect(table["gap"]))


def mean_floor(floor: float, n: int) -> float:
    """The size below which a mean of ``n`` effects may be rounding alone, given the floor of one
    effect: rounding is as likely up as down."""
    return floor / max(n, 1) ** 0.5


def strongest(table: pd.DataFrame, k: int = 8) -> pd.DataFrame:
    """The ``k`` heads of `panels` with the largest effect in any panel, by size, labelled
    ``layer.head``."""
    effects = table.drop(columns=["layer", "head"])
    order = effects.abs().max(axis=1).sort_values(ascending=False, kind="stable").index[:k]
    labels = [
        str(Head(*head)) for head in table.loc[order, ["layer", "head"]].itertuples(index=False)
    ]
    return effects.loc[order].set_axis(pd.Index(labels, name="head"))
