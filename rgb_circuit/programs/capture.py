"""Capture what pictures do inside the model: one forward, whose activations edits restore.

This may run on the server that holds the weights (`execute`).
"""

from __future__ import annotations

from collections.abc import Collection
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel


def language_model(wrapped: TransformersModel) -> Any:
    """The envoy of the decoder whose layers hold the heads, wherever its family keeps it."""
    inner = wrapped.model
    return inner.text_model if hasattr(inner, "text_model") else inner.language_model


def capture(
    wrapped: TransformersModel,
    head_shape: tuple[int, int],
    inputs: dict[str, torch.Tensor],
    start: int,
    keep: Collection[str],
    nudge: bool = False,
) -> SimpleNamespace:
    """Run one forward over a batch of pictures, and keep its inside from position ``start`` on.

    Args:
        head_shape: (number of heads, d_head).
        inputs: as `prompts.encode` makes them.
        start: the first position that is kept.
        keep: any of the words below.
        nudge: make the model round differently: every number of the residual stream that enters a
            layer moves to a neighbour in the number format, up or down at random, alike in all
            pictures.

    Returns:
        A namespace. Lists hold one entry per layer; ``kept`` counts the positions from ``start`` to
        the last.

        Always: ``start``; ``keep``; ``length``, the number of positions; ``logits`` at [end],
        float32, (batch, vocabulary); ``normed``, the input of ``lm_head`` there, (batch, width).

        With ``"z"``: ``z``, heads' outputs before ``o_proj``, (batch, kept, head, d_head). With
        ``"attn_out"``, ``"mlp_out"``, ``"resid_pre"``: the output of the attention block and of the
        MLP, and the residual stream that enters the layer, each (batch, kept, width).

        With ``"resume"`` or ``"attention"``: ``keys`` and ``values`` after position encoding, at
        every position, (batch, kv_head, length, d_head); ``masks``, numbers to add to the scores or
        Booleans, (batch or 1, 1, kept, length), or None if ``causal``, True or False, says it all.

        With ``"resume"``, all that a forward needs to go on from here (`sweep`): ``z`` and
        ``resid_pre``; ``angles``, the rotary angles as the layer got them; ``told``, name → any
        other argument of the layer with an entry per position, (batch or 1, kept, …), such as
        position ids; ``added``, what the model adds to the residual stream after the layer, (batch,
        kept, width), or None.

        With ``"attention"``, all that patterns are made of: ``z``; ``queries`` after position
        encoding, (batch, head, kept, d_head); ``scaling``, the factor of queries · keys, a number
        per layer; and ``softcaps``, the caps of these products, or None.
    """
    names = (
        "z",
        "attn_out",
        "mlp_out",
        "resid_pre",
        "angles",
        "told",
        "added",
        "masks",
        "causal",
        "keys",
        "values",
        "queries",
        "scaling",
        "softcaps",
    )
    resume, apart = "resume" in keep, "attention" in keep
    with wrapped.trace(**inputs, use_cache=False, logits_to_keep=1):
        by_layer = {name: [] for name in names}
        shared, left = {}, None
        for index, layer in enumerate(language_model(wrapped).layers if keep or nudge else ()):
            if resume or apart:
                # nnsight wants a layer's source accessed before anything else of that layer.
                attention = layer.self_attn.source.attention_interface_1
            if nudge or resume or "resid_pre" in keep:
                arguments, options = layer.inputs
                stream = arguments[0]
            if nudge:
                stream = nudged(stream, by_chance(stream, index))
                layer.inputs = (stream, *arguments[1:]), options
            if resume or "resid_pre" in keep:
                entry = later(stream, start)
                by_layer["resid_pre"].append(entry)
            if resume:
                if left is not None:
                    by_layer["added"].append(added_between(left, entry))
                by_layer["angles"].append(
                    kept_once(shared, options.get("position_embeddings"), start)
                )
                by_layer["told"].append(told(options, stream.shape[1], start))
            if resume or apart:
                arguments, options = attention.inputs
                by_layer["keys"].append(arguments[2])
                by_layer["values"].append(arguments[3])
                by_layer["masks"].append(kept_once(shared, arguments[4], start))
                by_layer["causal"].append(bool(getattr(arguments[0], "is_causal", True)))
            if apart:
                by_layer["queries"].append(
                    later(arguments[1].transpose(1, 2), start).transpose(1, 2)
                )
                by_layer["scaling"].append(options["scaling"])
                # Only the eager kernel applies it.
                eager = getattr(arguments[0].config, "_attn_implementation", None) == "eager"
                by_layer["softcaps"].append(options.get("softcap") if eager else None)
            if resume or apart or "z" in keep:
                by_layer["z"].append(
                    later(layer.self_attn.o_proj.input, start).unflatten(-1, head_shape)
                )
            if "attn_out" in keep:
                by_layer["attn_out"].append(later(layer.self_attn.output[0], start))
            if "mlp_out" in keep:
                by_layer["mlp_out"].append(later(first_of(layer.mlp.output), start))
            if resume:
                left = layer.output[:, start:]
        by_layer["added"].append(None)
        normed = language_model(wrapped).norm.output[:, -1].save()
        logits = wrapped.output.logits[:, -1].float().save()
        by_layer.save()
    return SimpleNamespace(
        start=start,
        keep=list(keep),
        length=inputs["input_ids"].shape[1],
        logits=logits,
        normed=normed,
        **by_layer,
    )


def added_between(left, entry) -> torch.Tensor | None:
    """What a model adds to the residual stream between two layers; None if it adds nothing."""
    between = entry - left
    return between if bool((between != 0).any()) else None


def told(options, length, start) -> dict[str, torch.Tensor]:
    """A layer's keyword arguments with an entry per position, from ``start`` on, except angles and
    mask."""
    return {
        name: value[:, start:]
        for name, value in options.items()
        if name not in ("position_embeddings", "attention_mask")
        and isinstance(value, torch.Tensor)
        and value.ndim > 1
        and value.shape[1] == length
    }


def first_of(output) -> torch.Tensor:
    """A module's output, or the first of several (a mixture of experts also returns scores)."""
    return output[0] if isinstance(output, tuple) else output


def with_first(output, first) -> torch.Tensor | tuple:
    """A module's output with its `first_of` replaced."""
    return (first, *output[1:]) if isinstance(output, tuple) else first


def later(tensor, start) -> torch.Tensor:
    """A tensor (batch, positions, …) from a position on; a copy, since a view would keep the whole
    tensor alive."""
    return tensor[:, start:].clone() if start else tensor


def last_seen(captured: SimpleNamespace) -> list[int]:
    """The last position that each position attends to in any layer. The capture holds one picture,
    kept from the first position on."""
    lowest = torch.finfo(captured.z[0].dtype).min / 2
    furthest = torch.arange(captured.length)
    for mask in {
        (id(mask), causal): layer
        for layer, (mask, causal) in enumerate(zip(captured.masks, captured.causal))
    }.values():
        seen = (allowed(captured, mask, torch.tensor([0]))[0, 0] > lowest).cpu()
        furthest = torch.maximum(furthest, (seen * torch.arange(captured.length)).amax(-1))
    return furthest.tolist()


def kept_from(captured: SimpleNamespace, start: int) -> SimpleNamespace:
    """The same capture, kept from a later position on."""
    skipped = start - captured.start
    if skipped == 0:
        return captured
    shared = {}
    kept = {
        name: [_after(shared, part, skipped) for part in getattr(captured, name)]
        for name in ("resid_pre", "angles", "added", "masks")
    }
    kept["told"] = [
        {name: value[:, skipped:] for name, value in layer.items()} for layer in captured.told
    ]
    kept |= {
        name: [later(layer, skipped) for layer in getattr(captured, name)]
        for name in ("z", "attn_out", "mlp_out")
    }
    kept["queries"] = [
        later(layer.transpose(1, 2), skipped).transpose(1, 2) for layer in captured.queries
    ]
    return SimpleNamespace(**{**vars(captured), **kept, "start": start})


def _after(shared, value, skipped):
    """A value of `kept_once`, or a tensor, without its first positions; layers still share it."""
    if value is None or isinstance(value, tuple):
        return value and tuple(_after(shared, part, skipped) for part in value)
    if id(value) not in shared:
        # A copy, since computing with a view may round differently.
        shared[id(value)] = value[..., skipped:, :].clone()
    return shared[id(value)]


def kept_once(shared, value, start) -> Any:
    """A layer's input from position ``start`` on: a tensor (…, positions, width), a tuple of them,
    or None.

    Args:
        shared: the inputs kept so far, since layers share them.
    """
    if value is None or isinstance(value, tuple):
        return value and tuple(kept_once(shared, part, start) for part in value)
    if id(value) not in shared:
        # Hold the value too: once it is freed, another tensor could get its id.
        shared[id(value)] = value, value[..., start:, :]
    return shared[id(value)][1]


def allowed(captured: SimpleNamespace, layer: int, pictures: torch.Tensor) -> torch.Tensor:
    """The mask of the kept positions, as numbers to add to the scores, (pictures or 1, 1, kept,
    length).

    Args:
        captured: with ``masks``.
        pictures: indices into the captured batch.
    """
    mask, z = captured.masks[layer], captured.z[layer]
    if mask is None:
        mask = unmasked(captured.start, captured.length, captured.causal[layer], z.device)
    elif len(mask) > 1:
        mask = mask[pictures.to(mask.device)]
    return as_numbers(mask, z.dtype)


def unmasked(start, length, causal, device) -> torch.Tensor:
    """Whether each position from ``start`` on sees each position, for a layer without a mask, (1,
    1, positions, length)."""
    seen = torch.arange(length, device=device)
    return (seen <= seen[start:, None])[None, None] | (not causal)


def as_numbers(mask, dtype) -> torch.Tensor:
    """A mask as numbers to add to the scores; Booleans are converted."""
    if mask.dtype != torch.bool:
        return mask
    lowest = torch.finfo(dtype).min
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, lowest)


def as_captured(layer, captured, index, entry) -> torch.Tensor:
    """Hand a layer its inputs of a captured run, and ``entry`` as its residual stream if there is
    one; returns the residual stream that enters the layer."""
    attention = layer.self_attn.source.attention_interface_1
    arguments, options = layer.inputs
    stream = arguments[0] if entry is None else entry
    layer.inputs = (stream, *arguments[1:]), {**options, **handed(captured, index)}
    arguments, options = attention.inputs
    module, queries, keys, values, _, *others = arguments
    mask = captured.masks[index]
    if captured.start:
        keys, values = behind(captured, index, keys, values)
        mask = allowed(captured, index, torch.arange(len(keys))).to(keys)
    attention.inputs = (module, queries, keys, values, mask, *others), options
    return stream


def handed(captured, index, picked=None, copies=None) -> dict[str, Any]:
    """A layer's captured keyword arguments at the kept positions.

    Args:
        picked: per row, the captured picture; all of them in order by default.
        copies: how many copies of [end] each row has; those of [end] are repeated as often.
    """
    angles, told = captured.angles[index], captured.told[index]
    if picked is not None:
        angles = of_rows(angles, picked, copies)
        told = {name: _of_rows(value, picked, copies) for name, value in told.items()}
    return told if angles is None else {**told, "position_embeddings": angles}


def of_rows(angles, picked, copies) -> Any:
    """Angles (…, pictures or 1, positions, width), a tuple of them or None, for the picked
    pictures; with ``copies``, those of [end], repeated."""
    if angles is None or isinstance(angles, tuple):
        return angles and tuple(of_rows(part, picked, copies) for part in angles)
    pictures = angles.ndim - 3
    if angles.shape[pictures] > 1:
        angles = angles.index_select(pictures, picked.to(angles.device))
    return angles if copies is None else angles[..., -1:, :].expand(*angles.shape[:-2], copies, -1)


def _of_rows(value, picked, copies):
    """`of_rows` for a tensor (pictures or 1, positions, …)."""
    shape = value.shape[1:]
    value = value[picked.to(value.device)] if len(value) > 1 else value.expand(len(picked), *shape)
    return value if copies is None else value[:, -1:].expand(-1, copies, *shape[1:])


def behind(captured, index, keys, values, picked=None) -> list[torch.Tensor]:
    """A layer's keys and values, after those of the captured positions before ``captured.start``.

    Args:
        picked: per row, the captured picture; all of them in order by default.
    """
    joined = []
    for held, own in ((captured.keys[index], keys), (captured.values[index], values)):
        held = held[:, :, : captured.start]
        joined.append(torch.cat([(held if picked is None else held[picked]).to(own), own], 2))
    return joined


def counted(entry) -> torch.Tensor:
    """Explicit position ids: without them, some families would add an offset that they stored with
    the last picture."""
    return torch.arange(entry.shape[1], device=entry.device).expand(len(entry), -1)


def nudged(numbers: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Each number moved to about its neighbour in the number format; away from 0 where ``up`` is
    True, else towards it."""
    up_or_down = 2 * up.to(numbers.device) - 1.0
    return (numbers.float() * (1 + torch.finfo(numbers.dtype).eps * up_or_down)).to(numbers)


def by_place(z: torch.Tensor, bit: int = 0) -> torch.Tensor:
    """True for the places in a head, (d_head,), whose index has this bit set: half of them."""
    return (torch.arange(z.shape[-1]) >> bit & 1).bool()


def by_chance(stream: torch.Tensor, seed: int) -> torch.Tensor:
    """True for about half of the places of a stream (batch, positions, width), at random; the same
    places in every picture, whatever the batch."""
    drawn = torch.rand(stream.shape[1:], generator=torch.Generator().manual_seed(seed))
    return drawn < 0.5


def recombined(
    captured: SimpleNamespace,
    layer: int,
    queries: SimpleNamespace | None = None,
    keys: SimpleNamespace | None = None,
    values: SimpleNamespace | None = None,
    unseen: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute z from queries, keys and values of captured pictures, (pictures, kept, head, d_head).

    Args:
        captured: with ``"attention"``.
        layer: from 0.
        queries, keys, values: where each is taken from, if not from ``captured``: as many pictures
            of equally many positions. The mask goes with the queries.
        unseen: positions that are hidden from all, Booleans, (pictures, length); none by default.
    """
    looking = queries or captured
    mixed = SimpleNamespace(**{**vars(looking), "keys": (keys or captured).keys})
    seen = (values or captured).values[layer]
    if mixed.softcaps[layer] is not None:
        return looking_at(pattern(mixed, layer, unseen), seen).to(mixed.z[layer])
    z = scaled_dot_product_attention(
        mixed.queries[layer],
        mixed.keys[layer],
        seen,
        attn_mask=_allowed_but(mixed, layer, unseen),
        scale=mixed.scaling[layer],
        enable_gqa=True,
    )
    return z.transpose(1, 2)


def over_some(
    captured: SimpleNamespace, layer: int, other: SimpleNamespace, some: torch.Tensor
) -> torch.Tensor:
    """Z if some positions are attended to as in the other run, (pictures, kept, head, d_head).

    These positions get their probabilities of the other run. All further positions share the rest
    in the proportions of this run.

    Args:
        captured, other: with ``"attention"``, as many pictures of equally many positions.
        some: Booleans, (pictures, length).
    """
    restored = pattern(other, layer).to(captured.z[layer].device)
    restored = restored * some.to(restored.device)[:, None, None]
    left = 1 - restored.sum(-1, keepdim=True)
    z = looking_at(restored + left * pattern(captured, layer, some), captured.values[layer])
    return z.to(captured.z[layer])


def looking_at(probabilities: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Z of a pattern (pictures, head, kept, length) over values (pictures, kv_head, length,
    d_head), float32, (pictures, kept, head, d_head)."""
    values = values.float().repeat_interleave(probabilities.shape[1] // values.shape[1], dim=1)
    return (probabilities @ values).transpose(1, 2)


def left_blind(captured: SimpleNamespace, layer: int, unseen: torch.Tensor) -> torch.Tensor:
    """Whether a kept position sees only positions that are ``unseen``, (pictures, kept)."""
    seen = _allowed_but(captured, layer, unseen)
    return (seen.amax(-1) <= torch.finfo(seen.dtype).min / 2)[:, 0]


def _allowed_but(captured, layer, unseen):
    """`allowed` for all captured pictures, with the positions that are ``unseen`` masked out."""
    seen = allowed(captured, layer, torch.arange(len(captured.z[layer])))
    if unseen is None:
        return seen
    return seen.masked_fill(unseen.to(seen.device)[:, None, None], torch.finfo(seen.dtype).min)


def pattern(
    captured: SimpleNamespace, layer: int, unseen: torch.Tensor | None = None
) -> torch.Tensor:
    """Attention probabilities of the kept positions, float32, (batch, head, kept, length);
    ``unseen`` as in `recombined`."""
    queries, keys = captured.queries[layer].float(), captured.keys[layer].float()
    keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)
    # A server may run requests under autocast, which would round the scores to half precision.
    with torch.autocast(queries.device.type, enabled=False):
        scores = queries @ keys.transpose(-1, -2) * captured.scaling[layer]
    if (cap := captured.softcaps[layer]) is not None:
        scores = cap * (scores / cap).tanh()
    return (scores + _allowed_but(captured, layer, unseen).float()).softmax(-1)


def attention_gaps(captured: SimpleNamespace) -> list[float]:
    """Per layer, how far softmax(queries · keys) @ values is from z, as a fraction of the largest
    z."""
    return [apart(recombined(captured, layer), z) for layer, z in enumerate(captured.z)]


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference of two tensors, as a fraction of the largest number of the second."""
    other = other.to(one)
    # All numbers may be 0: a layer may read nothing at all.
    largest = other.abs().max().clamp_min(torch.finfo(other.dtype).tiny)
    return float((one - other).abs().max() / largest)
