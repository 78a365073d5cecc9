"""The residual stream at [end], split into the additions of each head, each MLP and the embedding;
see `rgb_circuit.direct_effects`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .capture import first_of, language_model
from .unembedded import by_head, shares_of

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel


def split(wrapped: TransformersModel, head_shape, inputs, answers) -> dict[str, Any]:
    """``shares`` (pictures, components, answers) and ``logits`` (pictures, answers) of the token
    ids ``answers``; ``finite``."""
    text, lm_head = language_model(wrapped), wrapped.lm_head
    with wrapped.trace(**inputs, logits_to_keep=1):
        parts = []
        for index, layer in enumerate(text.layers):
            if index == 0:
                parts.append(layer.input[:, -1:])
            z = layer.self_attn.o_proj.input[:, -1].unflatten(-1, head_shape)
            parts += by_head(layer.self_attn.o_proj, z)
            parts.append(first_of(layer.mlp.output)[:, -1:].clone())
        whole = text.norm.input[:, -1:]
        parts_shares = [
            shares_of(text.norm, lm_head, part.to(whole), whole, answers) for part in parts
        ]
        shares = torch.cat(parts_shares, 1).cpu().save()
        logits = wrapped.output.logits[:, -1].float()
        finite = bool(torch.isfinite(logits).all())
        logits = logits.gather(-1, answers.to(logits.device)).cpu().save()
        finite.save()
    return {"shares": shares, "logits": logits, "finite": finite}
