"""What some pictures did inside the model: one forward, from which every edit takes what it restores.

This may run on the server that holds the weights (`execute`).
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import scaled_dot_product_attention

from .errors import InputError

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

    from .llava import Llava

# How far the logits of a forward that goes on from another's keys and values may be from that one's, as fractions of the largest. In
# half precision the two round otherwise.
RESUMED, RESUMED_HALF = 1e-3, 5e-2


def capture(
    wrapped: TransformersModel,
    heads: tuple[int, int],
    inputs: dict[str, torch.Tensor],
    start: int,
    keys: bool,
    queries: bool,
) -> SimpleNamespace:
    """The inside of one forward over a batch of pictures, from position ``start`` on.

    Args:
        heads: (number of heads, d_head).
        inputs: as `prompts.encode` makes them.
        start: first position whose z, queries and residual stream are kept.
        keys: keep keys and values (all positions).
        queries: keep them and queries, so that patterns can be made.

    Returns:
        A namespace. Lists hold one tensor per layer; ``kept`` counts the positions from ``start`` to the last.
        ``start``; ``length``, the number of positions; ``logits`` at [end], float32, (batch, vocabulary); ``normed``, what ``lm_head``
        makes them of, (batch, width); ``entries``, the residual stream entering each layer, (batch, kept, width); ``z``, heads' outputs before ``o_proj``, (batch, kept, head, d_head); ``keys``
        and ``values`` after position encoding, at every position, (batch, kv_head, length, d_head), empty if not asked for;
        ``queries`` after position encoding, (batch, head, kept, d_head), and ``scaling``, what queries · keys is multiplied by, a
        number per layer, both empty if not asked for.
    """
    with wrapped.trace(**inputs, use_cache=False, logits_to_keep=1):
        entries, z, found_queries, scaling, found_keys, found_values = [], [], [], [], [], []
        for layer in wrapped.model.language_model.layers:
            if keys or queries:
                # nnsight wants a layer's source reached before anything else of that layer.
                attention = layer.self_attn.source.attention_interface_1
            entries.append(layer.input[:, start:])
            if keys or queries:
                arguments, options = attention.inputs
                found_keys.append(arguments[2])
                found_values.append(arguments[3])
            if queries:
                found_queries.append(arguments[1][:, :, start:])
                scaling.append(options["scaling"])
            z.append(layer.self_attn.o_proj.input[:, start:].unflatten(-1, heads))
        normed = wrapped.model.language_model.norm.output[:, -1].save()
        logits = wrapped.output.logits[:, -1].float().save()
        entries.save(), z.save(), found_queries.save(), scaling.save(), found_keys.save(), found_values.save()
    return SimpleNamespace(
        start=start,
        length=inputs["input_ids"].shape[1],
        logits=logits,
        normed=normed,
        entries=entries,
        z=z,
        keys=found_keys,
        values=found_values,
        queries=found_queries,
        scaling=scaling,
    )


def nudged(z: torch.Tensor) -> torch.Tensor:
    """``z`` with every other number moved up and the rest down, each to about its neighbour in the number format."""
    up_or_down = torch.ones(z.shape[-1], device=z.device)
    up_or_down[::2] = -1
    return (z.float() * (1 + torch.finfo(z.dtype).eps * up_or_down)).to(z)


def recombined(captured: SimpleNamespace, layer: int, pattern_of: torch.Tensor, values_of: torch.Tensor) -> torch.Tensor:
    """z from one picture's attention pattern and another's values, (pairs, kept, head, d_head).

    Args:
        captured: with queries.
        layer: from 0.
        pattern_of, values_of: indices into the captured batch, (pairs,).
    """
    queries = captured.queries[layer][pattern_of]
    seen = torch.arange(captured.length, device=queries.device)
    causal = seen <= seen[captured.start :, None]
    z = scaled_dot_product_attention(
        queries,
        captured.keys[layer][pattern_of],
        captured.values[layer][values_of],
        attn_mask=causal,
        scale=captured.scaling[layer],
        enable_gqa=True,
    )
    return z.transpose(1, 2)


def pattern(captured: SimpleNamespace, layer: int) -> torch.Tensor:
    """Attention probabilities of the kept positions, float32, (batch, head, kept, length)."""
    queries, keys = captured.queries[layer].float(), captured.keys[layer].float()
    keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)
    seen = torch.arange(captured.length, device=queries.device)
    # A server may run requests under autocast, which would round the scores to half precision.
    with torch.autocast(queries.device.type, enabled=False):
        scores = queries @ keys.transpose(-1, -2) * captured.scaling[layer]
    return scores.masked_fill(seen > seen[captured.start :, None], -torch.inf).softmax(-1)


def attention_gaps(captured: SimpleNamespace) -> list[float]:
    """Per layer, how far softmax(queries · keys) @ values is from z, as a fraction of the largest z."""
    everything = torch.arange(len(captured.logits))
    gaps = []
    for layer, z in enumerate(captured.z):
        again = recombined(captured, layer, everything, everything)
        gaps.append(float((again - z).abs().max() / z.abs().max()))
    return gaps


def check_unedited(model: Llava, drift: float, length: int) -> None:
    """Raise InputError if a run that edits nothing does not end where the model's own run does; given `sweep`'s ``drift``."""
    if drift <= (RESUMED if model.dtype == torch.float32 else RESUMED_HALF):
        return
    window = getattr(model.config.text_config, "sliding_window", None)
    reason = (
        f"its attention has a sliding window of {window} tokens, so ask a shorter question"
        if window and window < length
        else "its attention is of another kind than patching goes on from, or it is not in eval mode"
    )
    raise InputError(
        f"a run of {model.name} that edits nothing moves its logits by {drift:.2g} of the largest on a prompt of {length} tokens, "
        f"so effects there would mean nothing: {reason}"
    )


def check_finite(model: Llava, finite: bool) -> None:
    """Raise InputError if a logit was infinite or not a number."""
    if not finite:
        raise InputError(
            f"{model.name} gives logits that are not finite in {model.dtype}; load it with dtype='float32' or 'bfloat16'"
        )


def check_attention(model: Llava, gaps: list[float]) -> None:
    """Raise InputError if attention is something else than softmax(queries · keys) @ values, given `attention_gaps`."""
    for layer, gap in enumerate(gaps):
        # Half precision rounds the pattern before it meets the values; other kinds of attention miss by far more.
        if gap > 0.02:
            raise InputError(
                f"attention in layer {layer} of {model.name} is not softmax(queries · keys) @ values (a sliding window or capped scores?), "
                "so its pattern and values cannot be patched apart; use component='z'"
            )
