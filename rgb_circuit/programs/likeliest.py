"""The model's likeliest next tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from nnsight.modeling.transformers import TransformersModel


def likeliest_tokens(wrapped: TransformersModel, inputs, most) -> list[torch.Tensor]:
    """Ids and probabilities of the ``most`` likeliest tokens at [end] of each picture, (pictures,
    ``most`` or fewer)."""
    with wrapped.trace(**inputs, logits_to_keep=1):
        probabilities = wrapped.output.logits[:, -1].float().softmax(-1)
        likeliest = probabilities.topk(min(most, probabilities.shape[-1]))
        probabilities, ids = likeliest.values.cpu().save(), likeliest.indices.cpu().save()
    return [ids, probabilities]
