"""Pictures that several trials show, such as plain canvases, go through the model once.

The capture of such a picture stays in memory for the next trial that shows it, if memory allows.
The same picture with the same prompt gives the same capture to the last bit, so no number depends
on what is in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING

from ..pictures import picture_hash
from ..prompts.asking import read
from ..trial import Trial

if TYPE_CHECKING:
    from ..vlm import Vlm


@dataclass(frozen=True)
class Recurring:
    """The pictures that recur, and their captures.

    Attributes:
        pictures: hashes of the pictures that more than one trial shows.
        held: name → capture (`rgb_circuit.programs.capture`), the most recently used last.
    """

    pictures: frozenset[str] = frozenset()
    held: dict[str, SimpleNamespace] = field(default_factory=dict)

    @classmethod
    def of(cls, trials: Sequence[Mapping]) -> Recurring:
        """For some trials, as `rgb_circuit.trial.described` gives them; nothing is held yet."""
        shown = Counter(one for trial in trials for one in set(trial["pictures"].values()))
        return cls(frozenset(one for one, times in shown.items() if times > 1))

    def name(self, model: Vlm, trial: Trial, condition: str) -> str | None:
        """The name in ``held`` of a condition's picture with its prompt; None if the picture does
        not recur."""
        picture = picture_hash(trial.sources[condition]) if self.pictures else ""
        if picture not in self.pictures:
            return None
        return f"{picture} {read(model, trial.asked(condition), trial.words).prompt}"

    def keep(self, most: int) -> None:
        """Drop all but the ``most`` captures that were used last."""
        for key in list(self.held)[: max(0, len(self.held) - most)]:
            del self.held[key]
