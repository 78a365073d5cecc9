"""States inside a forward, read as if they were the final state; see `rgb_circuit.lens`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .capture import first_of, language_model
from .unembedded import by_head, logits_of, shares_of

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel


def read_states(
    wrapped: TransformersModel,
    head_shape: tuple[int, int],
    inputs: dict[str, torch.Tensor],
    component: str,
    layers: list[int],
    places: torch.Tensor,
    asked: torch.Tensor,
    at_once: int,
    softcap: float | None,
) -> dict:
    """The answers' logits, or shares of these, that some layers' states give at some positions.

    Args:
        head_shape: (number of heads, d_head).
        inputs: as `prompts.encode` makes them.
        component: ``"resid_pre"`` or ``"resid_post"``, each state normed at its own size; or
            ``"z"``, ``"attn_out"`` or ``"mlp_out"``, at the size of the final residual stream.
        layers: in order.
        places: (pictures, positions).
        asked: token ids, (pictures, ids).
        at_once: the most states whose logits are computed at once.
        softcap: the cap of a residual stream's logits, or None.

    Returns:
        ``values``, float32 on the CPU, (pictures, layers, positions, heads or 1, ids); ``finite``.
        Except for residual streams, also ``wholes``, (pictures, positions, ids): the logits of the
        final residual stream, before any cap; ``sums``, (pictures, ids): the summed shares of
        everything added at the last of the positions; and ``sizes``, (pictures, ids): the sum of
        these shares' absolute values.
    """
    rows = torch.arange(len(places))[:, None]
    part_of = component in ("z", "attn_out", "mlp_out")
    text, lm_head = language_model(wrapped), wrapped.lm_head
    with wrapped.trace(**inputs, use_cache=False, logits_to_keep=1):
        states, summands, left = {}, [], None
        for index, layer in enumerate(text.layers):
            seen = {}
            if part_of or component == "resid_pre":
                seen["resid_pre"] = layer.input
            if component == "z":
                seen["z"] = layer.self_attn.o_proj.input
            if part_of:
                seen["attn_out"] = layer.self_attn.output[0]
                seen["mlp_out"] = first_of(layer.mlp.output)
            if part_of or component == "resid_post":
                seen["resid_post"] = layer.output
            if index in layers:
                states[index] = seen[component][rows, places].clone()
            if part_of:
                ends = {name: one[rows, places[:, -1:]] for name, one in seen.items()}
                # Some families add to the stream between two layers.
                entry = ends["resid_pre"]
                summands += [
                    entry if left is None else entry - left.to(entry),
                    ends["attn_out"],
                    ends["mlp_out"],
                ]
                left = ends["resid_post"]
        whole = text.norm.input[rows, places]
        each = []
        for index in layers:
            state, heads = states[index], 1
            if component == "z":
                heads = head_shape[0]
            read = []
            size = max(1, at_once // (len(places) * heads))
            for begin in range(0, places.shape[1], size):
                part, stream = state[:, begin : begin + size], whole[:, begin : begin + size]
                if component == "z":
                    part, _ = by_head(
                        text.layers[index].self_attn.o_proj, part.unflatten(-1, head_shape)
                    )
                    part, stream = part.flatten(1, 2), stream.repeat_interleave(heads, 1)
                if part_of:
                    logits = shares_of(text.norm, lm_head, part.to(stream), stream, asked)
                else:
                    logits = logits_of(text.norm, lm_head, part, asked)
                read.append(logits.unflatten(1, (-1, heads)).cpu())
            each.append(torch.cat(read, 1))
        values = torch.stack(each, 1)
        checks = {}
        if part_of:
            last, size = whole[:, -1:], max(1, at_once // len(places))
            final_logits = [
                logits_of(text.norm, lm_head, whole[:, begin : begin + size], asked).cpu()
                for begin in range(0, places.shape[1], size)
            ]
            added = [
                shares_of(text.norm, lm_head, one.to(last), last, asked).cpu() for one in summands
            ]
            shares = torch.cat(added, 1)
            checks = {
                "sums": shares.sum(1),
                "sizes": shares.abs().sum(1),
                "wholes": torch.cat(final_logits, 1),
            }
        elif softcap is not None:
            values = softcap * (values / softcap).tanh()
        values.save()
        checks.save()
    return {"values": values, "finite": bool(torch.isfinite(values).all()), **checks}
