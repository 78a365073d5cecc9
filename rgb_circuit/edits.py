"""Edits: which head's output is replaced, where, and by what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    from .vlm import Vlm

# Words for positions; see `rgb_circuit.prompts.locate`.
POSITIONS = ("end", "all", "image", "text", "tile")
COMPONENTS = ("z", "pattern", "value")

# Sources that are no picture: all zeros, the mean over the trials' target runs, and the target's own z, off
# by rounding.
ARTIFICIAL = ("zero", "mean", "rounding")


@dataclass(frozen=True)
class Edit:
    """Replace one head's z at some positions by what the ``source`` run gives there.

    Attributes:
        layer, head: which head, from 0.
        source: a condition, the target itself (which freezes the head), ``"zero"``, ``"mean"`` (over the
            trials' target runs), or ``"rounding"`` (the target's own z, each number moved to a neighbour in
            the model's number format).
        component: ``"z"`` takes the source's z; ``"pattern"`` the source run's attention pattern over the
            target run's values; ``"value"`` the target run's pattern over the source run's values. All are
            taken from unpatched runs.
        positions: ``"end"``, ``"all"``, ``"image"``, ``"text"``, ``"tile"``, or ints.
    """

    layer: int
    head: int
    source: str = "clean"
    component: str = "z"
    positions: str | tuple[int, ...] = "end"

    def __post_init__(self):
        if not isinstance(self.positions, str):
            try:
                # operator.index takes whole numbers of any kind, and nothing that would have to be rounded.
                object.__setattr__(self, "positions", tuple(index(place) for place in self.positions))
            except TypeError:
                raise InputError(
                    f"positions is {self.positions!r}; use {', '.join(map(repr, POSITIONS))}, or a list of "
                    "ints"
                ) from None


def check_edits(model: Vlm, variants: Mapping[Any, Sequence[Edit]]) -> None:
    """Raise InputError for a head, component or position word that does not exist."""
    if not isinstance(variants, Mapping):
        raise InputError(
            f"variants is a {type(variants).__name__}; give a dictionary, name → list of Edit(layer, head)"
        )
    if not variants:
        raise InputError("there is nothing to patch; name at least one head or variant")
    if len({str(name) for name in variants}) < len(variants):
        raise InputError(
            f"two variants have the same name as text ({', '.join(map(repr, variants))}); rename one"
        )
    for name, edits in variants.items():
        if not isinstance(edits, Sequence) or not edits or not all(isinstance(edit, Edit) for edit in edits):
            raise InputError(
                f"variant {name!r} holds {edits!r}; give it a list with at least one Edit(layer, head)"
            )
        for edit in edits:
            check_head(model, edit.layer, edit.head)
            if not isinstance(edit.source, str):
                raise InputError(
                    f"source is {edit.source!r}; name one condition, 'zero', 'mean' or 'rounding'"
                )
            if edit.component not in COMPONENTS:
                raise InputError(f"component is {edit.component!r}; use {', '.join(map(repr, COMPONENTS))}")
            if edit.component != "z" and edit.source in ARTIFICIAL:
                raise InputError(
                    f"source {edit.source!r} has no attention, so component must be 'z', not "
                    f"{edit.component!r}"
                )
            if isinstance(edit.positions, str) and edit.positions not in POSITIONS:
                raise InputError(
                    f"positions is {edit.positions!r}; use {', '.join(map(repr, POSITIONS))}, or a list of "
                    "ints"
                )


def check_heads(model: Vlm, heads: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The (layer, head) pairs as ints, each once; InputError for anything else and for heads that do not
    exist."""
    try:
        pairs = [(index(layer), index(head)) for layer, head in heads]
    except (TypeError, ValueError):
        raise InputError(f"heads is {heads!r}; give a list of (layer, head) pairs such as [(3, 2)]") from None
    for pair in pairs:
        check_head(model, *pair)
    return list(dict.fromkeys(pairs))


def check_head(model: Vlm, layer: int, head: int) -> None:
    """Raise InputError unless the model has this head."""
    if not (0 <= layer < model.n_layers and 0 <= head < model.n_heads):
        raise InputError(
            f"head {layer}.{head} does not exist in {model.name}; it has layers 0 to {model.n_layers - 1} "
            f"with heads 0 to {model.n_heads - 1}"
        )
