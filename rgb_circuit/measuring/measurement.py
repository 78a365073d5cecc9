"""A measurement as a value: a function, its arguments, and its trials.

An analysis declares the measurements that it needs and turns their frames into findings.
`rgb_circuit.measuring.measure` runs them, all requests for a trial together, and keeps the results
under `Measurement.key`.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np
import pandas as pd
import torch

from ..edits import OF_ATTENTION, Edit, PathEdit
from ..errors import InputError
from ..trial import Trial

if TYPE_CHECKING:
    from ..edits import AnyEdit
    from ..remote.jobs import Jobs
    from ..vlm import Vlm

T = TypeVar("T")
# `Measurement.prepare` of a measurement that shares no pictures returns this: it yields trial name
# → part, for a few trials at a time.
Parts = Callable[[Sequence[Trial], "Jobs | None"], Iterator[dict[str, pd.DataFrame]]]
# An analysis as steps: it yields measurements, is sent their frames, and returns its result. The
# first yield needs no frame, so that shards can measure it, each for its own trials
# (`Measurement.only`).
Steps = Generator[Sequence["Measurement"], list[pd.DataFrame], T]


@dataclass(frozen=True)
class Measurement(ABC):
    """A function and its arguments, for some trials; unless `together`, each trial's part of the
    frame depends on that trial alone.

    Attributes:
        trials: in the order of the frame.
        function: a name for files.
        whole: True if there is one part, for all trials together.
        unlike_others: fields that change no number.
        excused: errors that give an empty frame; any other error ends the analysis.
    """

    trials: tuple[Trial, ...]

    function: ClassVar[str]
    whole: ClassVar[bool] = False
    unlike_others: ClassVar[tuple[str, ...]] = ()
    excused: ClassVar[tuple[type[InputError], ...]] = ()

    @property
    def together(self) -> bool:
        """Whether a trial's part depends on all of the trials."""
        return self.whole

    @cached_property
    def key(self) -> str:
        """The function, and a hash of the arguments that change a part, besides model and trial."""
        left_out = {"trials", *self.unlike_others}
        arguments = {
            one.name: getattr(self, one.name) for one in fields(self) if one.name not in left_out
        }
        if self.together:
            arguments["among"] = [trial.content for trial in self.trials]
        return f"{self.function}-{content_hash(arguments)}"

    def only(self, trials: Sequence[Trial]) -> Self:
        """The same measurement of those of its trials that are among these, by name."""
        names = {trial.name for trial in trials}
        return replace(self, trials=tuple(trial for trial in self.trials if trial.name in names))

    @abstractmethod
    def prepare(self, model: Vlm, jobs: Jobs | None) -> Any:
        """Check the measurement, before any forward.

        Args:
            jobs: the jobs that a detached store has handed in so far; else None.

        Returns:
            A function of some trials and their jobs (or None), which yields trial name → part, for
            a few trials at a time. For a ``whole`` measurement, a function of the jobs alone, which
            returns the part. See `OfPictures` for measurements that share their pictures.
        """

    def frame(self, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """The frame from every trial's part, in order."""
        return pd.concat(parts, ignore_index=True)


class OfPictures(Measurement):
    """A measurement of what pictures do inside the model, whose captures others can share.

    Its `prepare` returns a function, trial → `Request`.
    """

    @abstractmethod
    def prepare(self, model: Vlm, jobs: Jobs | None) -> Callable[[Trial], Request]: ...


@dataclass(frozen=True)
class Request:
    """One measurement of one trial.

    Attributes:
        trial: as the measurement has it.
        lengths: condition → number of prompt tokens, for every picture that is shown, the sources
            of edits among them.
        ids: per answer, the token ids at which its words are read at [end].
        part: turns what was `Seen` into the trial's part.
        target: the condition that is patched, or None.
        edits: per variant, the edits made together in one run.
        kept: how many positions change, counted from the first edited one to [end].
        looked_at: how many positions of every picture the written values depend on, if more than
            ``kept``.
        front: if a source's prompt has another length, how many positions line up with it from its
            first position; all others line up from its end.
        spots: positions as in an edit → token positions of the target's prompt.
        means: component → a tensor per layer, (1, kept, …), if an edit takes a mean.
        rows: the most variants in one forward, or None for as many as fit.
        nudge: whether the model should round differently, as in `programs.capture`.
        masks: condition → which tokens belong to each share of the attention from [end], as in
            `programs.patterns.shares`, (shares + 1, positions); empty if none is needed.
    """

    trial: Trial
    lengths: Mapping[str, int]
    ids: tuple[tuple[int, ...], ...]
    part: Callable[[Seen], pd.DataFrame]
    target: str | None = None
    edits: tuple[tuple[AnyEdit, ...], ...] = ()
    kept: int = 1
    looked_at: int = 1
    front: int = 0
    spots: Mapping[str | tuple[int, ...], list[int]] | None = None
    means: Mapping[str, list[torch.Tensor]] | None = None
    rows: int | None = None
    nudge: bool = False
    masks: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @property
    def conditions(self) -> tuple[str, ...]:
        """Every condition that is shown."""
        return tuple(self.lengths)

    @property
    def held(self) -> int:
        """How many positions of every picture are kept."""
        return max(self.kept, self.looked_at)

    def keep(self, condition: str) -> set[str]:
        """The parts of a condition's picture that are kept, as words of `programs.capture`."""
        for_masks = {"attention"} if condition in self.masks else set()
        return for_masks | self._for_edits.get(condition, set())

    @cached_property
    def _for_edits(self) -> dict[str, set[str]]:
        """Condition → what the edits need of its picture, as words of `programs.capture`."""
        if self.target is None:
            return {}
        keep: dict[str, set[str]] = {condition: set() for condition in self.lengths}
        keep[self.target].add("resume")
        for edit in (edit for edits in self.edits for edit in edits):
            if isinstance(edit, PathEdit):
                keep[self.target].add("attention")
                for condition in (edit.source, self.target):
                    keep[condition].add("z")
                    if any(sender[0] == "mlp" for sender in edit.senders):
                        keep[condition].add("mlp_out")
                    if "embedding" in edit.senders:
                        keep[condition].add("resume")
            elif edit.component in OF_ATTENTION:
                for condition in {edit.source, self.target}:
                    keep[condition].add("attention")
            elif isinstance(edit, Edit) and edit.source in keep:
                keep[edit.source].add("attention" if edit.remade else edit.component)
        return keep


@dataclass(frozen=True)
class Seen:
    """The results of a `Request`.

    Attributes:
        logits: condition → logits of the request's answers, (answers,), pooled over their words.
        likeliest: condition → the likeliest token id.
        effects: on the logits of these answers, (variants, answers); none without a target.
        shares: condition → the request's shares of attention, and the entropy over the picture,
            (layer, head, shares + 1).
    """

    logits: Mapping[str, np.ndarray]
    likeliest: Mapping[str, int]
    effects: np.ndarray
    shares: Mapping[str, np.ndarray] = field(default_factory=dict)


def content_hash(value: object) -> str:
    """A short hash of a value made of JSON types, dataclasses and whole numbers."""
    return hashlib.sha256(json.dumps(value, default=_plain).encode()).hexdigest()[:16]


def _plain(value):
    if isinstance(value, Integral):
        return int(value)
    # Any other type is refused when the measurement is checked.
    return vars(value) if is_dataclass(value) else repr(value)
