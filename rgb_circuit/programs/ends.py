"""The z of heads at [end]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .capture import capture

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel


def ends(wrapped: TransformersModel, head_shape, inputs, end) -> dict[str, Any]:
    """``z`` of every head at [end], float32, (pictures, layer, head, d_head)."""
    captured = capture(wrapped, head_shape, inputs, end, ("z",))
    return {
        "z": torch.stack([z[:, -1].float().cpu() for z in captured.z], 1),
        "finite": bool(torch.isfinite(captured.logits).all()),
    }
