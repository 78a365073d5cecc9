"""Edits: what a patched run replaces or adds to attention scores, where, and from which source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from .arguments import as_number, as_whole
from .errors import InputError
from .files.table_text import shortened
from .heads import Head

if TYPE_CHECKING:
    from .vlm import Vlm

Positions = str | tuple[int, ...]
# One group of positions or several.
Groups = str | Sequence[int] | Sequence[Positions]

# Words for positions, besides the names of a trial's boxes; see `rgb_circuit.prompts.locate`.
POSITIONS = ("end", "all", "image", "text", "tile", "rest", "question", "first")

# Components of one head: each replaces its z.
OF_A_HEAD = ("z", "pattern", "value", "query", "key")
# Components that combine queries, keys and values of two runs.
OF_ATTENTION = OF_A_HEAD[1:]
# Components of a whole layer.
OF_A_LAYER = ("attn_out", "mlp_out", "resid_pre")
COMPONENTS = OF_A_HEAD + OF_A_LAYER
# The inputs of a head that a path may end in.
INTO = ("query", "key", "value")

# Sources that are not pictures: zeros; the mean over the trials' target runs; the target's own
# value, moved by rounding; and the patched run's own value.
ARTIFICIAL = ("zero", "mean", "rounding", "own")


@dataclass(frozen=True)
class Edit:
    """Replace the output of one head or layer at some positions by that of the ``source`` run.

    Attributes:
        layer: from 0.
        head: from 0; None with a component of the layer.
        source: a condition, the target itself (which freezes the head), ``"zero"``, ``"mean"``
            (over the trials' target runs), ``"rounding"`` (the target's own value, each number
            moved to a neighbour in the model's number format), or ``"own"`` (the patched run's own
            value, for use with ``scale``).
        component: of a head ``"z"``, or z recomputed with one part of its attention from the
            source's run and the others from the target's: ``"pattern"`` (queries and keys),
            ``"query"``, ``"key"`` or ``"value"``. Of a layer ``"attn_out"`` (the output of its
            attention block), ``"mlp_out"`` (the output of its MLP), or ``"resid_pre"`` (the
            residual stream that enters it). All are taken from unpatched runs.
        positions: ``"end"``, ``"all"``, ``"image"``, ``"text"``, ``"tile"``, ``"rest"`` (image
            tokens but the tile's), ``"question"`` (its words), ``"first"``, the name of a box of
            the target's picture, or ints.
        scale: a factor for the value that is written.
        over: with ``"pattern"``, the positions that are attended to as in the source's run; all
            others share the remaining attention in the proportions of the target's run. All
            positions by default.
        without: with ``"z"``, positions that this head's attention, and no other's, is knocked out
            of in the source's run. None by default.

    Examples:
        >>> zeroed = rgb.Edit(3, 1, "zero"), rgb.Edit(0, 1, "zero")
        >>> without = {f"without {edit.layer}.{edit.head}": [edit] for edit in zeroed}
        >>> frame = rgb.patch_edits(model, trials, without, target="clean")
        >>> odd = frame[frame["role"] == "odd"].groupby("variant", observed=True)["effect"].mean()
        >>> odd.round().to_dict()
        {'without 3.1': -2.0, 'without 0.1': 0.0}
    """

    layer: int
    head: int | None
    source: str = "clean"
    component: str = "z"
    positions: Positions = "end"
    scale: float = 1.0
    over: Positions | None = None
    without: Positions | None = None

    def __post_init__(self):
        _plain_numbers(self, "scale")
        for name in ("positions", "over", "without"):
            words = getattr(self, name)
            if words is not None or name == "positions":
                object.__setattr__(self, name, _places(name, words))

    @property
    def places(self) -> dict[str, Positions]:
        """Attribute → its positions, for those that are set."""
        named = {"positions": self.positions, "over": self.over, "without": self.without}
        return {name: words for name, words in named.items() if words is not None}

    @property
    def remade(self) -> bool:
        """Whether the value is recomputed from queries, keys and values."""
        return self.component in OF_ATTENTION or self.without is not None


@dataclass(frozen=True)
class AttentionEdit:
    """Add a number to attention scores, before the softmax; -inf knocks the attention out.

    Attributes:
        layer: from 0.
        head: from 0; None for all heads of the layer.
        queries: positions that attend, as in `Edit`.
        keys: positions that are attended to; a key that the mask hides stays hidden.
        bias: the number, the natural logarithm of a factor for a probability's weight.

    Source: attention knockout is Geva et al. 2023 (arXiv 2304.14767).

    Examples:
        >>> blind = rgb.AttentionEdit(3, keys="image")
        >>> rgb.generate(model, trials[0], edits=[blind], max_new_tokens=1)
        unedited: blue
        edited:   white
    """

    layer: int
    head: int | None = None
    queries: Positions = "end"
    keys: Positions = "image"
    bias: float = -inf

    # As in an `Edit`.
    source: ClassVar[str] = "own"
    component: ClassVar[str] = "attention"
    remade: ClassVar[bool] = False

    def __post_init__(self):
        _plain_numbers(self, "bias")
        for name in ("queries", "keys"):
            object.__setattr__(self, name, _places(name, getattr(self, name)))

    @property
    def positions(self) -> Positions:
        """The positions that change first."""
        return self.queries

    @property
    def places(self) -> dict[str, Positions]:
        """As in an `Edit`."""
        return {"queries": self.queries, "keys": self.keys}


Sender = tuple[int, int] | tuple[str, int] | str


@dataclass(frozen=True)
class PathEdit:
    """Replace a head's z at [end] by the z that it has if some senders' outputs of the ``source``
    run reach it by their direct paths, with everything between them and the head held.

    Attributes:
        layer, head: of the receiver, from 0.
        senders: heads (layer, head), MLPs ``("mlp", layer)``, or ``"embedding"`` (tokens and
            picture as they enter the language model), all below the receiver's layer.
        into: the receiver's input that they reach: its ``"query"`` at [end], or its ``"key"`` or
            ``"value"`` at all positions.
        source: a condition.

    Source: Wang et al. 2022 (arXiv 2211.00593), Goldowsky-Dill et al. 2023 (arXiv 2304.05969).

    Examples:
        >>> below = ["embedding", *(("mlp", layer) for layer in range(3))]
        >>> below += [head for head in model.heads() if head.layer < 3]
        >>> query = [rgb.Edit(3, 1, component="query")]
        >>> ways = {"paths": [rgb.PathEdit(3, 1, below)], "query": query}
        >>> frame = rgb.patch_edits(model, trials, ways, target="recolored")
        >>> by_way = frame.pivot(index=["trial", "role"], columns="variant", values="effect")
        >>> np.allclose(by_way["paths"], by_way["query"], atol=1e-4)
        True
    """

    layer: int
    head: int
    senders: tuple[Sender, ...]
    into: str = "query"
    source: str = "clean"

    # As in an `Edit`.
    component: ClassVar[str] = "path"
    positions: ClassVar[str] = "end"
    places: ClassVar[Mapping[str, Positions]] = {"positions": "end"}
    remade: ClassVar[bool] = False

    def __post_init__(self):
        _plain_numbers(self)
        if not isinstance(self.senders, str):
            object.__setattr__(self, "senders", tuple(map(_sender, self.senders)))


AnyEdit = Edit | AttentionEdit | PathEdit


def _plain_numbers(edit, real=None):
    """Turn an edit's layer and head into ints, and the number ``real`` into a float, of whatever
    kind they are. What is no such number is left for `check_edits` to refuse."""
    for name in ("layer", "head"):
        if (number := as_whole(getattr(edit, name))) is not None:
            object.__setattr__(edit, name, number)
    if real is not None and (value := as_number(getattr(edit, real))) is not None:
        object.__setattr__(edit, real, value)


def _sender(one):
    """A sender as a tuple, whatever its sequence type, with its whole numbers as ints."""
    try:
        kind, number = one
    except (TypeError, ValueError):
        kind = number = None
    plain = (kind if kind == "mlp" else as_whole(kind)), as_whole(number)
    if None in plain:
        # Left for `check_senders` to refuse.
        return one if isinstance(one, str) else repr(one)
    return plain


def below(sender: Sender, layer: int) -> bool:
    """Whether a sender's output is part of the residual stream that enters a layer."""
    return starts_in(sender) < layer


def starts_in(sender: Sender) -> int:
    """The layer of a sender; -1 for the embedding, which enters layer 0."""
    if isinstance(sender, str):
        return -1
    kind, number = sender
    return number if isinstance(kind, str) else kind


def _places(name, positions):
    """A position word as it is; positions as a tuple of ints."""
    if isinstance(positions, str):
        return positions
    places = tuple(map(as_whole, positions)) if isinstance(positions, Iterable) else (None,)
    if None in places:
        raise InputError(f"{name} is {positions!r}; {_WORDS}")
    return places


def groups_of(name: str, positions: Groups) -> list[Positions]:
    """One or several groups of positions, each once: a group is a word or a list of ints.

    Args:
        name: of the argument, for the message.

    Raises:
        InputError: there is no group, or one of them is neither a word nor ints.
    """
    single = isinstance(positions, str) or not isinstance(positions, Sequence)
    single = single or not any(isinstance(place, str | Sequence) for place in positions)
    groups = list(
        dict.fromkeys(_places(name, group) for group in ([positions] if single else positions))
    )
    if not groups or not all(groups):
        raise InputError(f"{name} is {positions!r}; name at least one group of positions")
    return groups


def component_of(edit: AnyEdit) -> str:
    """An edit's component in the words of frames: such as "z", or "z without image"."""
    extras = [(name, getattr(edit, name, None)) for name in ("over", "without")]
    return " ".join(
        [
            edit.component,
            *(f"{name} {label_of(words)}" for name, words in extras if words is not None),
        ]
    )


def label_of(positions: Positions) -> str:
    """Positions in the words of frames."""
    return positions if isinstance(positions, str) else str(list(positions))


_WORDS = f"use {', '.join(map(repr, POSITIONS))}, or a list of ints"


def check_edits(model: Vlm, variants: Mapping[Any, Sequence[AnyEdit]]) -> None:
    """Raise InputError for variants that are not lists of edits by name, and for an edit that the
    model does not allow, such as of a head that does not exist."""
    if not isinstance(variants, Mapping):
        raise InputError(
            f"variants is a {type(variants).__name__}; give a dictionary, name → list of "
            "Edit(layer, head)"
        )
    if not variants:
        raise InputError("there is nothing to patch; name at least one head or variant")
    if len({str(name) for name in variants}) < len(variants):
        raise InputError(
            f"two variants have the same name as text ({', '.join(map(repr, variants))}); rename "
            "one"
        )
    for name, edits in variants.items():
        kinds = (Edit, AttentionEdit, PathEdit)
        if (
            not isinstance(edits, Sequence)
            or not edits
            or not all(isinstance(edit, kinds) for edit in edits)
        ):
            raise InputError(
                f"variant {name!r} holds {edits!r}; give it a list with at least one Edit(layer, "
                "head)"
            )
        for edit in edits:
            check = {Edit: _check_edit, AttentionEdit: _check_attention_edit, PathEdit: _check_path}
            check[type(edit)](model, edit)


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
                f"component {edit.component!r} is the whole layer's; give head=None, not "
                f"{edit.head!r}"
            )
        check_layer(model, edit.layer)
        if edit.component == "mlp_out":
            check_mlp(model, edit.layer)
    if not isinstance(edit.source, str):
        raise InputError(
            f"source is {edit.source!r}; name one condition, {', '.join(map(repr, ARTIFICIAL))}"
        )
    if edit.component in OF_ATTENTION and edit.source in ARTIFICIAL:
        raise InputError(
            f"source {edit.source!r} has no attention, so component must be 'z', not "
            f"{edit.component!r}"
        )
    if edit.source == "rounding" and edit.component != "z":
        raise InputError(
            f"source 'rounding' is made for component 'z', not {edit.component!r}; use 'z'"
        )
    if not (isinstance(edit.scale, int | float) and isfinite(edit.scale)):
        raise InputError(f"scale is {edit.scale!r}; give a finite number")
    if edit.source == "own" and edit.scale == 1:
        raise InputError(
            "source 'own' with scale 1 changes nothing; give scale, such as Edit(layer, head, "
            "'own', scale=0)"
        )
    for name, component in (("over", "pattern"), ("without", "z")):
        if getattr(edit, name) is None:
            continue
        if edit.component != component:
            raise InputError(
                f"{name} is for component {component!r}, not {edit.component!r}; leave it out, or "
                f"use {component!r}"
            )
        if edit.source in ARTIFICIAL:
            raise InputError(
                f"source {edit.source!r} has no attention, so {name} means nothing; leave it out"
            )


def _check_attention_edit(model, edit):
    if edit.head is None:
        check_layer(model, edit.layer)
    else:
        check_head(model, edit.layer, edit.head)
    if not isinstance(edit.bias, int | float) or not (isfinite(edit.bias) or edit.bias == -inf):
        raise InputError(f"bias is {edit.bias!r}; give a finite number, or -inf to knock out")


def _check_path(model, edit):
    check_head(model, edit.layer, edit.head)
    check_into(edit.into, edit.source)
    for sender in check_senders(model, edit.senders):
        if not below(sender, edit.layer):
            raise InputError(
                f"nothing of sender {sender!r} is in what layer {edit.layer} reads; name senders "
                "of earlier layers"
            )


def check_into(into: str, source: str) -> None:
    """Raise InputError unless a path can end in ``into`` and begin in the ``source`` run."""
    if into not in INTO:
        raise InputError(f"into is {into!r}; use {', '.join(map(repr, INTO))}")
    if not isinstance(source, str) or source in ARTIFICIAL:
        raise InputError(
            f"source is {source!r}, and paths bring what a picture gives; name one condition"
        )


def check_senders(model: Vlm, senders: Sequence[Sender]) -> list[Sender]:
    """The senders, each once, with numbers as ints; InputError for anything that is no sender or
    does not exist."""
    if isinstance(senders, str) or not isinstance(senders, Iterable):
        raise InputError(
            f"senders is {senders!r}; give a list such as [(3, 2), ('mlp', 1), 'embedding']"
        )
    checked = list(map(_sender, senders))
    for sender in checked:
        if sender == "embedding":
            continue
        if isinstance(sender, str):
            raise InputError(
                f"{sender} is no sender; use a (layer, head) pair, ('mlp', layer) or 'embedding'"
            )
        if sender[0] == "mlp":
            check_layer(model, sender[1])
        else:
            check_head(model, *sender)
    check_mlps(model)
    return list(dict.fromkeys(checked))


def check_mlp(model: Vlm, layer: int, instead: str = "'attn_out' or 'resid_pre'") -> None:
    """Raise InputError unless the layer has a module called ``mlp``."""
    if not hasattr(model.layers[layer], "mlp"):
        raise InputError(f"layer {layer} of {model.name} has no part called mlp; use {instead}")


def check_mlps(model: Vlm) -> None:
    """Raise InputError unless every layer's output can be split into attention and MLP."""
    for layer in range(model.n_layers):
        check_mlp(model, layer, "patch_heads, patch_edits or patch_layers")


class Headed(Protocol):
    """A model as far as its heads are counted."""

    @property
    def name(self) -> str: ...

    @property
    def n_layers(self) -> int: ...

    @property
    def n_heads(self) -> int: ...


def check_heads(model: Headed, heads: Sequence[tuple[int, int]], what: str = "heads") -> list[Head]:
    """The (layer, head) pairs as heads, each once; InputError for anything else and for heads that
    do not exist. ``what`` names the pairs in the message."""
    try:
        pairs = [Head(as_whole(layer), as_whole(head)) for layer, head in heads]  # type: ignore[arg-type]
    except (TypeError, ValueError):
        pairs = [Head(None, None)]  # type: ignore[arg-type]
    if any(None in pair for pair in pairs):
        raise InputError(
            f"{what} is {shortened(heads)}; give a list of (layer, head) pairs such as [(3, 2)]"
        )
    for pair in pairs:
        check_head(model, *pair)
    return list(dict.fromkeys(pairs))


def check_head(model: Headed, layer: int, head: int) -> None:
    """Raise InputError unless the model has this head."""
    if as_whole(layer) is None or as_whole(head) is None:
        raise InputError(
            f"layer and head are {layer!r} and {head!r}; give whole numbers, such as 3 and 2"
        )
    if not (0 <= layer < model.n_layers and 0 <= head < model.n_heads):
        raise InputError(
            f"head {Head(layer, head)} does not exist in {model.name}; it has layers 0 to "
            f"{model.n_layers - 1} with heads 0 to {model.n_heads - 1}"
        )


def check_layer(model: Vlm, layer: int) -> None:
    """Raise InputError unless the model has this layer."""
    if as_whole(layer) is None:
        raise InputError(f"layer is {layer!r}; give a whole number, such as 3")
    if not 0 <= layer < model.n_layers:
        raise InputError(
            f"layer {layer} does not exist in {model.name}; it has layers 0 to {model.n_layers - 1}"
        )
