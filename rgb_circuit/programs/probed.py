"""Checks of a model on pictures of the game; see `rgb_circuit.loading.probe`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .capture import (
    added_between,
    apart,
    capture,
    first_of,
    kept_from,
    language_model,
    last_seen,
)
from .sweep import sweep

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

    from .sweep import Plain


def moved(wrapped: TransformersModel, inputs, views) -> tuple[list[list[int]], bool]:
    """Per changed picture, the place in each view whose token, where it enters layer 0, differs
    most from the first picture's; and whether all pictures have the same rotary angles there."""
    with wrapped.trace(**inputs, use_cache=False, logits_to_keep=1) as tracer:
        arguments, options = language_model(wrapped).layers[0].inputs
        entries = arguments[0].float().save()
        alike = same_angles(options.get("position_embeddings")).save()
        tracer.stop()
    moved = (entries[1:] - entries[:1]).norm(dim=-1)
    return [[int(one[view].argmax()) for view in views] for one in moved], bool(alike)


def same_angles(angles) -> torch.Tensor:
    """Whether all pictures have the same angles (…, pictures or 1, positions, width), a tuple of
    them, a mapping, or None."""
    if isinstance(angles, torch.Tensor):
        return (angles == angles[..., :1, :, :]).all()
    parts = angles.values() if isinstance(angles, dict) else angles or ()
    return torch.tensor(all(bool(same_angles(part)) for part in parts))


def handed_on(mask, given) -> bool:
    """Whether a mask is None, or is or views one of the tensors that a layer was given."""
    if mask is None:
        return True
    if isinstance(given, torch.Tensor):
        if given.device == mask.device:
            return given.untyped_storage().data_ptr() == mask.untyped_storage().data_ptr()
        # A layer on another device gets a copy.
        return given.shape == mask.shape and torch.equal(given.to(mask.device), mask)
    if isinstance(given, dict):
        given = given.values()
    elif not isinstance(given, list | tuple):
        return False
    return any(handed_on(mask, part) for part in given)


def probed(
    wrapped: TransformersModel, head_shape, inputs, most, softcap, differing, views, bare
) -> dict[str, Any]:
    """Test whether heads are slices of ``o_proj``'s input, and whether a forward can go on from a
    captured one.

    Args:
        head_shape: (number of heads, d_head).
        most: how many of the likeliest tokens to return.
        softcap: a cap that the logits may have (`modules.softcap_of`), or None.
        differing, views: as `moved` takes them.
        bare: logits of the forward outside of any trace, (vocabulary,), or None.

    Returns:
        ``furthest``, the last position that each position attends to; ``likeliest`` tokens at [end]
        as `answers.preferred` takes them; ``finite``; ``dtype``; ``widths`` of each ``o_proj``'s
        input. Then changes of the logits, as fractions of the largest: ``traced`` inside a trace;
        ``unembedded`` as ``lm_head`` of the final norm's output, capped by ``softcap`` (the given
        one or None, whichever fits); ``rewritten`` with each z written back; ``zeroed`` with z
        zeroed; and ``swept``, the difference between a sweep and whole forwards for zeroed heads.
        ``moved``, ``alike``: see `moved`. ``remade``: the layers whose attention takes a mask that
        the layer was not handed; ``by_name``: those that hand attention its mask by name.
        ``added``: by how much zeroed z changes what the model adds between layers, as a fraction of
        the stream. ``o_proj``: the difference between ``o_proj`` of z and the attention block's
        output, as a fraction of the latter. ``rounding``: see `rounding`; 0 in half precision.
    """
    layers = language_model(wrapped).layers
    with wrapped.trace(**inputs, logits_to_keep=1):
        kept, widths, gaps, remade, by_name, between, left = [], [], [], [], [], [], None
        for layer in layers:
            # nnsight wants a layer's source accessed before anything else of that layer.
            attention = layer.self_attn.source.attention_interface_1
            arguments, options = layer.inputs
            between.append(None if left is None else added_between(left, arguments[0]))
            given, named = attention.inputs
            by_name.append(len(given) < 5)
            mask = named.get("attention_mask") if by_name[-1] else given[4]
            remade.append(not handed_on(mask, [arguments, options]))
            z = layer.self_attn.o_proj.input
            kept.append(z.clone())
            widths.append(z.shape[-1])
            returned = layer.self_attn.output[0]
            gaps.append(
                (layer.self_attn.o_proj(z) - returned).abs().max()
                / returned.abs().max().clamp_min(1e-6)
            )
            left = first_of(layer.output)
        kept.save(), widths.save(), gaps.save(), between.save()
        remade.save(), by_name.save()
        unembedded = (
            wrapped.lm_head(language_model(wrapped).norm.output[:, -1:])[0, -1].float().save()
        )
        plain = wrapped.output.logits[0, -1].float().save()
    unembedded = unembedded.to(plain.device)
    off = (unembedded - plain).abs().max()
    if softcap is not None:
        capped = (softcap * (unembedded / softcap).tanh() - plain).abs().max()
        # A model may inherit a configuration with a cap without applying it.
        softcap, off = (softcap, capped) if capped < off else (None, off)
    with wrapped.trace(**inputs, logits_to_keep=1):
        for layer, z in zip(layers, kept):
            layer.self_attn.o_proj.input = z
        rewritten = wrapped.output.logits[0, -1].float().save()
    with wrapped.trace(**inputs, logits_to_keep=1):
        changes, left = [], None
        for layer, z, before in zip(layers, kept, between):
            stream = layer.inputs[0][0]
            if left is not None:
                changes.append(apart(left if before is None else left + before, stream))
            layer.self_attn.o_proj.input = torch.zeros_like(z)
            left = first_of(layer.output)
        changes.save()
        zeroed = wrapped.output.logits[0, -1].float().save()
    largest = plain.abs().max()
    places, alike = moved(wrapped, differing, views)
    likeliest = plain.softmax(-1).topk(min(most, len(plain)))
    ids = likeliest.indices.tolist()
    fits = set(widths) == {head_shape[0] * head_shape[1]} and not any(remade + by_name)
    swept, furthest = swept_heads(wrapped, head_shape, inputs, ids, softcap) if fits else (0.0, [])
    exact = kept[0].dtype == torch.float32
    return {
        "likeliest": [int(inputs["input_ids"][0, -1]), ids, likeliest.values.tolist()],
        "finite": bool(torch.isfinite(plain).all()),
        "dtype": str(kept[0].dtype).removeprefix("torch."),
        "widths": widths,
        "traced": 0.0 if bare is None else float((plain - bare).abs().max() / largest),
        "unembedded": float(off / largest),
        "softcap": softcap,
        "rewritten": float((rewritten - plain).abs().max() / largest),
        "zeroed": float((zeroed - plain).abs().max() / largest),
        "added": max(changes, default=0.0),
        "moved": places,
        "alike": alike,
        "swept": swept,
        "furthest": furthest,
        "o_proj": max(float(gap) for gap in gaps),
        "remade": [index for index, own in enumerate(remade) if own],
        "by_name": [index for index, named in enumerate(by_name) if named],
        "rounding": rounding(wrapped, inputs) if fits and exact else 0.0,
    }


def rounding(wrapped: TransformersModel, inputs) -> float:
    """The share by which float32 rounding may change an attention probability that is recomputed:
    the largest possible score times the distance from 1 to the next number.

    Scores of ten thousand, which biases of keys make in Qwen 2, are known to a thousandth.
    """
    with wrapped.trace(**inputs, use_cache=False, logits_to_keep=1):
        largest_scores = []
        for layer in language_model(wrapped).layers:
            arguments, options = layer.self_attn.source.attention_interface_1.inputs
            queries, keys = (part.norm(dim=-1).max() for part in arguments[1:3])
            scaling = options.get("scaling") or arguments[1].shape[-1] ** -0.5
            largest_scores.append(queries * keys * scaling)
        largest_scores.save()
    return torch.finfo(torch.float32).eps * max(float(most) for most in largest_scores)


def swept_heads(
    wrapped: TransformersModel, head_shape, inputs, ids, softcap
) -> tuple[float, list[int]]:
    """Zero one head of three layers at [end], by `sweep` and by a whole forward each.

    Returns:
        The largest difference of an effect on the logits of ``ids``, or the drift if it is larger,
        as a fraction of the largest logit; and the last position that each position attends to.
    """
    length = inputs["input_ids"].shape[1]
    captured = capture(wrapped, head_shape, inputs, 0, ("resume",))
    furthest = last_seen(captured)
    chosen = sorted({0, len(captured.z) // 2, len(captured.z) - 1})
    variants: list[list[Plain]] = [[(layer, 0, ("own", "z", 0.0), "end")] for layer in chosen]
    whole = []
    for zeroed in chosen:
        with wrapped.trace(**inputs, logits_to_keep=1):
            for index, layer in enumerate(language_model(wrapped).layers):
                if index == zeroed:
                    z = layer.self_attn.o_proj.input.unflatten(-1, head_shape).clone()
                    z[:, -1, 0] = 0
                    layer.self_attn.o_proj.input = z.flatten(-2)
            whole.append(wrapped.output.logits[0, -1].float()[ids].cpu().save())
    expected = torch.stack(whole) - captured.logits[0, ids].cpu()
    # From the last token on and from the last but one; from the first if some tokens attend to
    # later ones.
    looks_ahead = any(far > place for place, far in enumerate(furthest))
    gaps = []
    for start in (0,) if looks_ahead else (length - 2, length - 1):
        resumed = kept_from(captured, start)
        spots: list[dict] = [{"end": [length - 1]}]
        swept = sweep(
            wrapped,
            head_shape,
            resumed,
            [0],
            variants,
            {},
            spots,
            torch.tensor([ids]),
            len(chosen) + 1,
            softcap,
        )
        gaps += [
            swept["drift"],
            float((swept["effects"][0] - expected).abs().max() / resumed.logits.abs().max().cpu()),
        ]
    return max(gaps), furthest
