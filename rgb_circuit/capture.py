"""What some pictures did inside the model: one forward, from which every edit takes what it restores."""

from dataclasses import dataclass

import torch
from torch.nn.functional import scaled_dot_product_attention

from .errors import InputError
from .llava import Llava


@dataclass(frozen=True)
class Capture:
    """The inside of one forward over a batch of pictures, from position ``start`` on.

    Lists hold one tensor per layer; ``kept`` counts the positions from ``start`` to the last.

    Attributes:
        start: first kept position.
        length: number of positions.
        logits: at [end], float32, (batch, vocabulary).
        entries: residual stream entering each layer, (batch, kept, width).
        z: heads' outputs before ``o_proj``, (batch, kept, head, d_head).
        keys, values: after position encoding, at every position, (batch, kv_head, length, d_head); empty if not asked for.
        queries: after position encoding, (batch, head, kept, d_head); empty if not asked for.
        scaling: what queries · keys is multiplied by, per layer; empty without queries.
    """

    start: int
    length: int
    logits: torch.Tensor
    entries: list[torch.Tensor]
    z: list[torch.Tensor]
    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    queries: list[torch.Tensor]
    scaling: list[float]


@torch.no_grad()
def capture(model: Llava, inputs: dict[str, torch.Tensor], start: int, *, keys: bool, queries: bool) -> Capture:
    """Run ``inputs`` once and keep what is asked for.

    Args:
        inputs: as `prompts.encode` makes them.
        start: first position whose z, queries and residual stream are kept.
        keys: keep keys and values (all positions).
        queries: keep queries too, and check that softmax(queries · keys) @ values gives back z.

    Raises:
        InputError: attention in this model is something else than softmax(queries · keys) @ values, so that its pattern
            and values cannot be patched apart; or its logits are not finite.
    """
    layers, language_model = model.layers, model.language_model
    heads = (model.n_heads, model.d_head)
    with model.nnsight.trace(**inputs, use_cache=keys, logits_to_keep=1):
        entries, z, found_queries, scaling, found_keys, found_values = [], [], [], [], [], []
        for layer in layers:
            if queries:
                # nnsight wants a layer's source reached before anything else of that layer.
                attention = layer.self_attn.source.attention_interface_1
            entries.append(layer.input[:, start:])
            if queries:
                arguments, options = attention.inputs
                found_queries.append(arguments[1][:, :, start:])
                scaling.append(options["scaling"])
            z.append(layer.self_attn.o_proj.input[:, start:].unflatten(-1, heads))
        if keys:
            cache = language_model.output.past_key_values
            found_keys = [layer.keys for layer in cache.layers]
            found_values = [layer.values for layer in cache.layers]
        logits = model.nnsight.output.logits[:, -1].float().save()
        entries.save(), z.save(), found_queries.save(), scaling.save(), found_keys.save(), found_values.save()

    check_finite(logits, model)
    captured = Capture(
        start=start,
        length=inputs["input_ids"].shape[1],
        logits=logits,
        entries=entries,
        z=z,
        keys=found_keys,
        values=found_values,
        queries=found_queries,
        scaling=scaling,
    )
    if queries:
        _check_attention(model, captured)
    return captured


def recombined(captured: Capture, layer: int, pattern_of: torch.Tensor, values_of: torch.Tensor) -> torch.Tensor:
    """z from one picture's attention pattern and another's values, (pairs, kept, head, d_head).

    Args:
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


def pattern(captured: Capture, layer: int) -> torch.Tensor:
    """Attention probabilities of the kept positions, float32, (batch, head, kept, length)."""
    queries, keys = captured.queries[layer].float(), captured.keys[layer].float()
    keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)
    seen = torch.arange(captured.length, device=queries.device)
    scores = queries @ keys.transpose(-1, -2) * captured.scaling[layer]
    return scores.masked_fill(seen > seen[captured.start :, None], -torch.inf).softmax(-1)


def check_finite(logits: torch.Tensor, model: Llava) -> None:
    """Raise InputError if a logit is infinite or not a number."""
    if not torch.isfinite(logits).all():
        raise InputError(
            f"{model.name} gives logits that are not finite in {model.dtype}; load it with dtype='float32' or 'bfloat16'"
        )


def _check_attention(model, captured):
    everything = torch.arange(len(captured.logits))
    for layer, z in enumerate(captured.z):
        again = recombined(captured, layer, everything, everything)
        # Half precision rounds the pattern before it meets the values; other kinds of attention miss by far more.
        if (again - z).abs().max() > 0.02 * z.abs().max():
            raise InputError(
                f"attention in layer {layer} of {model.name} is not softmax(queries · keys) @ values (a sliding window or capped scores?), "
                "so its pattern and values cannot be patched apart; use component='z'"
            )
