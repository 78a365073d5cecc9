"""The effects of an audit's patched runs on the logits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rgb_circuit import Trial
from rgb_circuit.stimuli.replicates import observed

from ..circuit.faithfulness import logit_difference, shown_gap, source_words
from .design import Design, Variant


@dataclass(frozen=True)
class Effects:
    """The gains of restoring and the losses of silencing, by variant.

    Attributes:
        difference: effects on the logit difference (logits), a row per trial, or per cluster of
            trials of one source (`rgb_circuit.stimuli.replicates`), a column per variant.
        words: role → the same for the logit of its word, for the roles that all trials have.
        right: whether the source picture's right answer has the largest logit of its trial's words.
        gap: how far the logit difference falls from the source to the target, (rows,).
        fall: how far the source's right word falls, on average.
        labels: the source picture's right word, per row.
    """

    difference: pd.DataFrame
    words: Mapping[str, pd.DataFrame]
    right: pd.DataFrame
    gap: np.ndarray
    fall: float
    labels: Sequence[str]

    @classmethod
    def of(
        cls,
        trials: Sequence[Trial],
        plan: Design,
        restored: tuple[pd.DataFrame, Sequence[Variant]],
        silenced: tuple[pd.DataFrame, Sequence[Variant]],
    ) -> "Effects":
        """Build from both frames, each with its variants in the order of their names, which are
        numbers.

        Raises:
            InputError: a model whose logit difference is not shown to fall from source to target.
        """
        source, target = plan.source, plan.target
        names = [trial.name for trial in trials]
        before, after = (
            logit_difference(frame, trials, source, target, "target_logit").iloc[:, 0].loc[names]
            for frame, _ in (silenced, restored)
        )
        gap = shown_gap(before, after, source, target)
        differences, rights, words = [], [], {}
        for (frame, variants), unpatched, sign in ((restored, after, 1), (silenced, before, -1)):
            patched = _by_variant(logit_difference(frame, trials, source, target), variants, names)
            differences.append(sign * patched.sub(unpatched, axis=0))
            rights.append(_by_variant(_right(frame, trials, source), variants, names))
            for role, rows in frame.groupby("role", observed=True):
                wide = rows.pivot(index="trial", columns="variant", values="effect").astype(float)
                words.setdefault(str(role), []).append(sign * _by_variant(wide, variants, names))
        right = source_words(trials, source)

        def by_cluster(sides):
            return observed(pd.concat(sides, axis=1), trials, right)[0]

        table, labels = observed(pd.concat(differences, axis=1), trials, right)
        falls, _ = observed(pd.DataFrame({"gap": gap}, index=before.index), trials, right)
        both = {role: by_cluster(sides) for role, sides in words.items()}
        return cls(
            table,
            {role: wide for role, wide in both.items() if wide.notna().all(axis=None)},
            by_cluster(rights),
            falls["gap"].to_numpy(),
            _fall(restored[0], trials, source),
            labels,
        )

    def part(self, rows: slice) -> "Effects":
        """The effects of some rows."""
        return Effects(
            self.difference.iloc[rows],
            {role: wide.iloc[rows] for role, wide in self.words.items()},
            self.right.iloc[rows],
            self.gap[rows],
            self.fall,
            self.labels[rows],
        )


def _by_variant(wide, variants, names):
    """The frame with columns named by variant instead of number, and rows in the trials' order."""
    numbers = wide.columns.astype(str).astype(int)
    return wide.set_axis(
        pd.Index([variants[number] for number in numbers], tupleize_cols=False), axis=1
    ).reindex(names)


def _right(frame, trials, source):
    """Whether the source picture's right answer has the largest logit of the trial's words,
    (trials, variants)."""
    right = {trial.name: trial.expected[source] for trial in trials}
    # A tie is a guess, not an answer.
    own = frame["role"].astype(str) == frame["trial"].astype(str).map(right)
    logits = frame.assign(
        own=frame["patched_logit"].where(own), other=frame["patched_logit"].mask(own)
    )
    best = logits.groupby(["trial", "variant"], observed=True)[["own", "other"]].max()
    return (best["own"] > best["other"]).unstack("variant")


def _fall(frame, trials, source):
    """How far the source's right word falls from the source to the target, on average."""
    right = {trial.name: trial.expected[source] for trial in trials}
    rows = frame[frame["role"].astype(str) == frame["trial"].astype(str).map(right)]
    return float(
        (rows["source_logit"] - rows["target_logit"])
        .groupby(rows["trial"], observed=True)
        .first()
        .mean()
    )
