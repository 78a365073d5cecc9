"""The residual stream at [end], split into what each head, MLP and the embedding add; see
`rgb_circuit.direct_effects`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .capture import language_model

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel


def split(wrapped: TransformersModel, head_shape, inputs, answers):
    """``shares`` (pictures, components, answers) and ``logits`` (pictures, answers) of the ids ``answers``;
    ``finite``."""
    text, lm_head = language_model(wrapped), wrapped.lm_head
    with wrapped.trace(**inputs, logits_to_keep=1):
        parts = []
        for index, layer in enumerate(text.layers):
            if index == 0:
                parts.append(layer.input[:, -1:])
            z = layer.self_attn.o_proj.input[:, -1].unflatten(-1, head_shape)
            alone = torch.zeros_like(z)[:, :, None].repeat(1, 1, head_shape[0], 1)
            each = torch.arange(head_shape[0])
            alone[:, each, each] = z
            bias = layer.self_attn.o_proj(torch.zeros_like(alone[:, :1].flatten(-2)))
            parts.append(layer.self_attn.o_proj(alone.flatten(-2)) - bias)
            parts.append(bias)
            parts.append(layer.mlp.output[:, -1:].clone())
        whole = text.norm.input[:, -1:].float()
        size = whole.square().mean(-1, keepdim=True).sqrt()
        shares = []
        for part in parts:
            part = part.to(whole)
            # At the whole's own size a part meets the same divisor, epsilon included, as the whole did.
            scale = size / part.square().mean(-1, keepdim=True).sqrt()
            scale = torch.where(scale.isfinite(), scale, torch.ones_like(scale))
            normed = text.norm((part * scale).to(parts[-1].dtype))
            read = lm_head(normed).float() / scale
            places = answers[:, None].expand(-1, part.shape[1], -1).to(read.device)
            shares.append(read.gather(-1, places))
        shares = torch.cat(shares, 1).cpu().save()
        logits = wrapped.output.logits[:, -1].float()
        finite = bool(torch.isfinite(logits).all())
        logits = logits.gather(-1, answers.to(logits.device)).cpu().save()
        finite.save()
    return {"shares": shares, "logits": logits, "finite": finite}
