"""Edits: which head's output is replaced, where, and by what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .errors import InputError
from .llava import Llava
from .prompts import POSITIONS

COMPONENTS = ("z", "pattern", "value")

# Sources that are no picture: all zeros, and the mean over the trials' target runs.
ARTIFICIAL = ("zero", "mean")


@dataclass(frozen=True)
class Edit:
    """Replace one head's z at some positions by what the ``source`` run gives there.

    Attributes:
        layer, head: which head, from 0.
        source: a condition, the target itself (which freezes the head), ``"zero"``, or ``"mean"`` (over the trials'
            target runs).
        component: ``"z"`` takes the source's z; ``"pattern"`` the source run's attention pattern over the target run's
            values; ``"value"`` the target run's pattern over the source run's values. All are taken from unpatched runs.
        positions: ``"end"``, ``"all"``, ``"image"``, ``"text"``, ``"tile"``, or ints.
    """

    layer: int
    head: int
    source: str = "clean"
    component: str = "z"
    positions: str | tuple[int, ...] = "end"

    def __post_init__(self):
        if isinstance(self.positions, int):
            raise InputError(f"positions is {self.positions}; write a list of ints, [{self.positions}]")
        if not isinstance(self.positions, str):
            object.__setattr__(self, "positions", tuple(int(index) for index in self.positions))


def check_edits(model: Llava, variants: Mapping[object, Sequence[Edit]]) -> None:
    """Raise InputError for a head, component or position word that does not exist."""
    if not variants:
        raise InputError("there is nothing to patch; name at least one head or variant")
    for name, edits in variants.items():
        if not edits:
            raise InputError(f"variant {name!r} holds no edit; give it at least one Edit(layer, head)")
        for edit in edits:
            check_head(model, edit.layer, edit.head)
            if edit.component not in COMPONENTS:
                raise InputError(f"component is {edit.component!r}; use {', '.join(map(repr, COMPONENTS))}")
            if edit.component != "z" and edit.source in ARTIFICIAL:
                raise InputError(f"source {edit.source!r} has no attention, so component must be 'z', not {edit.component!r}")
            if isinstance(edit.positions, str) and edit.positions not in POSITIONS:
                raise InputError(f"positions is {edit.positions!r}; use {', '.join(map(repr, POSITIONS))}, or a list of ints")


def check_head(model: Llava, layer: int, head: int) -> None:
    """Raise InputError unless the model has this head."""
    if not (0 <= layer < model.n_layers and 0 <= head < model.n_heads):
        raise InputError(
            f"head {layer}.{head} does not exist in {model.name}; it has layers 0 to {model.n_layers - 1} with heads 0 to {model.n_heads - 1}"
        )
