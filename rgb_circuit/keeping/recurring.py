"""Pictures that more than one trial shows, such as plain canvases, go through the model once.

What such a picture did inside the model stays in memory for the next trial that shows it, as far as
memory goes. The same picture under the same prompt gives the same to the last bit, so no number
depends on what is there.
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
    """What is known of pictures that recur.

    Attributes:
        pictures: hashes of those that more than one trial shows.
        held: name → what `rgb_circuit.programs.capture` gives; what was needed last at the end.
    """

    pictures: frozenset[str] = frozenset()
    held: dict[str, SimpleNamespace] = field(default_factory=dict)

    @classmethod
    def of(cls, trials: Sequence[Mapping]) -> Recurring:
        """Those of some trials, as `rgb_circuit.trial.described` has them; nothing is held yet."""
        shown = Counter(one for trial in trials for one in set(trial["pictures"].values()))
        return cls(frozenset(one for one, times in shown.items() if times > 1))

    def name(self, model: Vlm, trial: Trial, condition: str) -> str | None:
        """What a condition's picture under its prompt is called in ``held``; None where it does not
        recur."""
        picture = picture_hash(trial.sources[condition]) if self.pictures else ""
        if picture not in self.pictures:
            return None
        return f"{picture} {read(model, trial.asked(condition), trial.words).prompt}"

    def keep(self, most: int) -> None:
        """Let go of all but the ``most`` that were needed last."""
        for key in list(self.held)[: max(0, len(self.held) - most)]:
            del self.held[key]
