"""The trials that two runs share, which decide whether effects are compared trial by trial."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

# Fields that do not make another trial: the words of the question, and the names of positions.
ASIDE = ("prompt", "prompts", "boxes", "strata")


class Measured(Protocol):
    """The parts of a finished run that its trials need."""

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The manifest of its folder."""

    @property
    def frames(self) -> Mapping[str, pd.DataFrame]:
        """Name → frame."""


@dataclass(frozen=True)
class Shared:
    """The overlap of the trials that two runs measured.

    Attributes:
        n_a, n_b: how many trials each run has.
        names: the trials that are in both, with the same name, pictures (pixel for pixel), answers
            and cluster.
        asked_alike: whether these are asked in the same words.
    """

    n_a: int
    n_b: int
    names: tuple[str, ...]
    asked_alike: bool

    @property
    def n(self) -> int:
        """How many trials are in both."""
        return len(self.names)

    @property
    def same(self) -> bool:
        """Whether both measured the same trials."""
        return self.n == self.n_a == self.n_b

    @property
    def paired(self) -> bool:
        """Whether those in both are compared trial by trial, and all others are left out: where
        they are at least half of the smaller run. A pair says more than two trials apart where
        trials vary more than runs do; of fewer trials, all are better compared by their means."""
        return self.n >= 2 and 2 * self.n >= min(self.n_a, self.n_b) or self.same

    def compares(self, trials: pd.Series | pd.Index) -> np.ndarray:
        """Whether each of a run's trials, by name, is compared."""
        if not self.paired:
            return np.ones(len(trials), dtype=bool)
        return np.asarray(trials.astype(str).isin(self.names))

    @property
    def says(self) -> str:
        """In a sentence."""
        if self.same:
            also = "" if self.asked_alike else ", asked in other words"
            same = "trial" if self.n == 1 else f"{self.n} trials"
            return f"The same {same} in both{also}: they are compared trial by trial."
        are = "trial is" if self.n == 1 else "trials are"
        if self.paired:
            also = "" if self.asked_alike else "asked in other words, "
            return (
                f"{self.n} {are} in both, of {self.n_a} and {self.n_b}: {also}these are compared "
                "trial by trial, and the others are left out."
            )
        if self.n:
            return (
                f"{self.n} {are} in both, of {self.n_a} and {self.n_b}; they are not compared "
                "trial by trial: the runs are compared as if all trials differed, which makes the "
                "intervals somewhat too wide."
            )
        return f"Different trials: {self.n_a} and {self.n_b}, compared by their means."


def shared_trials(a: Measured, b: Measured) -> Shared:
    """The overlap of the measured trials of two runs."""
    one, other = _measured(a), _measured(b)
    both = [name for name in one if name in other and _content(one[name]) == _content(other[name])]
    alike = all(
        one[name].get(part) == other[name].get(part)
        for name in both
        for part in ("prompt", "prompts")
    )
    return Shared(len(one), len(other), tuple(both), alike)


def _measured(run) -> dict[str, Mapping]:
    names = set(run.frames["patch_heads"]["trial"].astype(str).unique())
    return {trial["name"]: trial for trial in run.manifest["trials"] if trial["name"] in names}


def _content(trial):
    return json.dumps({name: value for name, value in trial.items() if name not in ASIDE})
