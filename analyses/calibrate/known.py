"""A model's earlier measurements, for judging it again."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

import rgb_circuit as rgb
from rgb_circuit.measuring.measure import measure
from rgb_circuit.measuring.measurement import Measurement, Steps


@dataclass(frozen=True)
class Known:
    """A model's earlier measurements, so that fewer of the same trials are judged without a
    forward.

    Attributes:
        frames: a measurement's key → the contents of its trials, and its frame.
    """

    frames: dict[str, tuple[set[str], pd.DataFrame]] = field(default_factory=dict)

    def measure(self, model: rgb.Vlm, asked: Sequence[Measurement]) -> list[pd.DataFrame]:
        """Like `rgb_circuit.measuring.measure.measure`."""
        lacking = [one for one in asked if not self._has(one)]
        for one, frame in zip(lacking, measure(model, lacking, progress=False) if lacking else []):
            self.frames[one.key] = {trial.content for trial in one.trials}, frame
        return [self._of(one) for one in asked]

    def follow(self, model: rgb.Vlm, steps: Steps[pd.DataFrame]) -> pd.DataFrame:
        """Like `rgb_circuit.measuring.measure.follow`."""
        try:
            asked = next(steps)
            while True:
                asked = steps.send(self.measure(model, asked))
        except StopIteration as end:
            return end.value

    def _has(self, one):
        contents, _ = self.frames.get(one.key, (set(), None))
        return contents >= {trial.content for trial in one.trials}

    def _of(self, one):
        _, frame = self.frames[one.key]
        return frame[frame["trial"].isin([trial.name for trial in one.trials])].reset_index(
            drop=True
        )
