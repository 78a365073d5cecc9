"""Edits: what is replaced inside a run, or what is added to its attention; where, and by what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from operator import index
from typing import TYPE_CHECKING, Any, ClassVar

from .errors import InputError

if TYPE_CHECKING:
    from .vlm import Vlm

Positions = str | tuple[int, ...]

# Words for positions; see `rgb_circuit.prompts.locate`.
POSITIONS = ("end", "all", "image", "text", "tile", "rest", "question", "first")

# Of one head: all of them are replacements of its z.
OF_A_HEAD = ("z", "pattern", "value", "query", "key")
# Made of queries, keys and values, so that there must be two runs to take them from.
OF_ATTENTION = OF_A_HEAD[1:]
# Of a layer as a whole.
OF_A_LAYER = ("attn_out", "mlp_out", "resid_pre")
COMPONENTS = OF_A_HEAD + OF_A_LAYER

# Sources that are no picture: all zeros, the mean over the trials' target runs, the target's own, off by
# rounding, and what the patched run itself has there.
ARTIFICIAL = ("zero", "mean", "rounding", "own")


@dataclass(frozen=True)
class Edit:
    """Replace what one head or layer puts out at some positions by what the ``source`` run gives there.

    Attributes:
        layer: from 0.
        head: from 0; None with a component of the layer.
        source: a condition, the target itself (which freezes the head), ``"zero"``, ``"mean"`` (over the
            trials' target runs), ``"rounding"`` (the target's own, each number moved to a neighbour in the
            model's number format), or ``"own"`` (what the patched run itself has there, for ``scale``).
        component: of a head ``"z"``, or z as its attention would make it with one part from the source's run
            and the others from the target's: ``"pattern"`` (queries and keys), ``"query"``, ``"key"`` or
            ``"value"``. Of a layer ``"attn_out"`` (what its attention block returns), ``"mlp_out"`` (what
            its MLP returns), or ``"resid_pre"`` (the residual stream that enters it). All are taken from
            unpatched runs.
        positions: ``"end"``, ``"all"``, ``"image"``, ``"text"``, ``"tile"``, ``"rest"`` (image tokens but the
            tile's), ``"question"`` (its words), ``"first"``, or ints.
        scale: what is written is multiplied by it.
    """

    layer: int
    head: int | None
    source: str = "clean"
    component: str = "z"
    positions: Positions = "end"
    scale: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "positions", _places("positions", self.positions))


@dataclass(frozen=True)
class AttentionEdit:
    """Add a number to attention scores, before the softmax; -inf knocks the attention out.

    Attributes:
        layer: from 0.
        head: from 0; None for all heads of the layer.
        queries: positions that look, as in `Edit`.
        keys: positions that are looked at. What a query does not see anyway stays unseen.
        bias: what is added, in the natural logarithm of a probability's weight.

    Source: attention knockout is Geva et al. 2023 (arXiv 2304.14767).
    """

    layer: int
    head: int | None = None
    queries: Positions = "end"
    keys: Positions = "image"
    bias: float = -inf

    # As in an `Edit`.
    source: ClassVar[str] = "own"
    component: ClassVar[str] = "attention"

    def __post_init__(self):
        for name in ("queries", "keys"):
            object.__setattr__(self, name, _places(name, getattr(self, name)))

    @property
    def positions(self) -> Positions:
        """Where the run changes first."""
        return self.queries


def _places(name, positions):
    """Position words as they are, whole numbers of any kind as a tuple."""
    if isinstance(positions, str):
        return positions
    try:
        # operator.index takes nothing that would have to be rounded.
        return tuple(index(place) for place in positions)
    except TypeError:
        raise InputError(f"{name} is {positions!r}; {_WORDS}") from None


_WORDS = f"use {', '.join(map(repr, POSITIONS))}, or a list of ints"


def check_edits(model: Vlm, variants: Mapping[Any, Sequence[Edit | AttentionEdit]]) -> None:
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
        kinds = (Edit, AttentionEdit)
        if not isinstance(edits, Sequence) or not edits or not all(isinstance(edit, kinds) for edit in edits):
            raise InputError(
                f"variant {name!r} holds {edits!r}; give it a list with at least one Edit(layer, head)"
            )
        for edit in edits:
            if isinstance(edit, Edit):
                _check_edit(model, edit)
            else:
                _check_attention_edit(model, edit)


def _check_edit(model, edit):
    if edit.component not in COMPONENTS:
        raise InputError(f"component is {edit.component!r}; use {', '.join(map(repr, COMPONENTS))}")
    if edit.component in OF_A_HEAD:
        if edit.head is None:
            raise InputError(
                f"component {edit.component!r} is a head's, and no head is named; name one, or use "
                f"{', '.join(map(repr, OF_A_LAYER))}"
            )
        check_head(model, edit.layer, edit.head)
    else:
        if edit.head is not None:
            raise InputError(
                f"component {edit.component!r} is the whole layer's; give head=None, not {edit.head!r}"
            )
        check_layer(model, edit.layer)
        if edit.component == "mlp_out" and not hasattr(model.layers[edit.layer], "mlp"):
            raise InputError(
                f"layer {edit.layer} of {model.name} has no part called mlp; use 'attn_out' or 'resid_pre'"
            )
    if not isinstance(edit.source, str):
        raise InputError(f"source is {edit.source!r}; name one condition, {', '.join(map(repr, ARTIFICIAL))}")
    if edit.component in OF_ATTENTION and edit.source in ARTIFICIAL:
        raise InputError(
            f"source {edit.source!r} has no attention, so component must be 'z', not {edit.component!r}"
        )
    if edit.source == "rounding" and edit.component != "z":
        raise InputError(f"source 'rounding' is made for component 'z', not {edit.component!r}; use 'z'")
    if not (isinstance(edit.scale, int | float) and isfinite(edit.scale)):
        raise InputError(f"scale is {edit.scale!r}; give a finite number")
    if edit.source == "own" and edit.scale == 1:
        raise InputError(
            "source 'own' with scale 1 changes nothing; give scale, such as Edit(layer, head, 'own', scale=0)"
        )
    _check_words("positions", edit.positions)


def _check_attention_edit(model, edit):
    if edit.head is None:
        check_layer(model, edit.layer)
    else:
        check_head(model, edit.layer, edit.head)
    if not isinstance(edit.bias, int | float) or not (isfinite(edit.bias) or edit.bias == -inf):
        raise InputError(f"bias is {edit.bias!r}; give a finite number, or -inf to knock out")
    _check_words("queries", edit.queries)
    _check_words("keys", edit.keys)


def _check_words(name, positions):
    if isinstance(positions, str) and positions not in POSITIONS:
        raise InputError(f"{name} is {positions!r}; {_WORDS}")


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


def check_layer(model: Vlm, layer: int) -> None:
    """Raise InputError unless the model has this layer."""
    if not 0 <= layer < model.n_layers:
        raise InputError(
            f"layer {layer} does not exist in {model.name}; it has layers 0 to {model.n_layers - 1}"
        )
