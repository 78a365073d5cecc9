"""What is asked of a model, as a value: a function, its arguments, and its trials.

An analysis declares what it needs as measurements and turns their frames into findings;
`rgb_circuit.measuring.measure` runs them, all that is asked of a trial together, and keeps what
they give under `Measurement.key`.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np
import pandas as pd
import torch

from ..errors import InputError
from ..trial import Trial

if TYPE_CHECKING:
    from ..edits import AnyEdit
    from ..remote.jobs import Jobs
    from ..vlm import Vlm

T = TypeVar("T")
# What `Measurement.prepare` returns of one that shares nothing: a few trials at a time, trial name
# → part.
Parts = Callable[[Sequence[Trial], "Jobs | None"], Iterator[dict[str, pd.DataFrame]]]
# An analysis as steps: it yields what it needs measured, is sent the frames, and returns what it
# found. The first yield needs no frame, so shards can measure it, each of its own trials
# (`Measurement.only`).
Steps = Generator[Sequence["Measurement"], list[pd.DataFrame], T]


@dataclass(frozen=True)
class Measurement(ABC):
    """What is asked of some trials; each trial's part of the frame comes from that trial alone.

    Attributes:
        trials: in the order of the frame.
        function: a name for files.
        whole: there is one part, of all trials together.
        unlike_others: fields that shape no number.
        excused: refusals that give an empty frame; any other ends the analysis that asks.
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

    @property
    def key(self) -> str:
        """The function and a hash of the arguments that shape a part, besides model and trial."""
        left_out = {"trials", *self.unlike_others}
        arguments = {
            one.name: getattr(self, one.name) for one in fields(self) if one.name not in left_out
        }
        if self.together:
            arguments["among"] = [trial.content for trial in self.trials]
        return f"{self.function}-{content_hash(arguments)}"

    def only(self, trials: Sequence[Trial]) -> Self:
        """The same, asked of those of its trials that are among these, by name."""
        names = {trial.name for trial in trials}
        return replace(self, trials=tuple(trial for trial in self.trials if trial.name in names))

    @abstractmethod
    def prepare(self, model: Vlm, jobs: Jobs | None) -> Any:
        """Check what is asked, before any forward.

        Args:
            jobs: where a server is not waited for, what it was asked for so far.

        Returns:
            A function of some trials and, where a server is not waited for, of what it was asked
            for them: it yields trial name → part, for a few trials at a time. Of a ``whole``
            measurement a function of that alone, which returns the part. See `OfPictures` for those
            that share their pictures.
        """

    def frame(self, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """The frame from every trial's part, in order."""
        return pd.concat(parts, ignore_index=True)


class OfPictures(Measurement):
    """A measurement of what pictures did inside the model, so that others may share its captures.

    Its `prepare` returns a function, trial → `Request`.
    """

    @abstractmethod
    def prepare(self, model: Vlm, jobs: Jobs | None) -> Callable[[Trial], Request]: ...


@dataclass(frozen=True)
class Request:
    """What one measurement asks of one trial.

    Attributes:
        trial: as the measurement has it.
        lengths: condition → tokens of its prompt, of all that is shown, the sources of edits among
            them.
        ids: of each answer, the tokens that its words are read at at [end].
        part: makes the trial's part of what was `Seen`.
        target: the condition that is patched, if any is.
        edits: of each variant, made together in one run.
        kept: how many positions change: those from the first edited one on to [end].
        looked_at: how many positions of every picture what is written is made of, if more than
            change.
        front: how many positions are taken from as far from the first one of a source's prompt that
            has another length; all others from as far from its end.
        spots: positions as in an edit → token positions of the target's prompt.
        means: component → a tensor per layer, (1, kept, …), where an edit takes a mean.
        rows: the most variants in one forward, or None for as many as fit.
        nudge: whether the model is to round otherwise, as in `programs.capture`.
        masks: condition → which tokens belong to each share of the attention from [end], where
            these are asked for, as in `programs.patterns.shares`, (shares + 1, positions).
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
        """All that is shown."""
        return tuple(self.lengths)

    @property
    def held(self) -> int:
        """How many positions of every picture are kept."""
        return max(self.kept, self.looked_at)


@dataclass(frozen=True)
class Seen:
    """What was measured of one trial.

    Attributes:
        logits: condition → logits of the answers that were asked for, (answers,), pooled over their
            words.
        likeliest: condition → the likeliest token id.
        effects: on the logits of these answers, (variants, answers); none without a target.
        shares: condition → the shares of attention that were asked for, and the entropy over the
            picture, (layer, head, shares + 1).
    """

    logits: Mapping[str, np.ndarray]
    likeliest: Mapping[str, int]
    effects: np.ndarray
    shares: Mapping[str, np.ndarray] = field(default_factory=dict)


def content_hash(value: object) -> str:
    """A short hash of what JSON, dataclasses and whole numbers can say."""
    return hashlib.sha256(json.dumps(value, default=_plain).encode()).hexdigest()[:16]


def _plain(value):
    if isinstance(value, Integral):
        return int(value)
    # What is none of these is refused when the measurement is checked.
    return vars(value) if is_dataclass(value) else repr(value)
