"""Attention patterns of heads."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from .capture import attention_gaps, capture, pattern

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel


def patterns(wrapped: TransformersModel, head_shape, inputs, end, asked) -> dict[str, Any]:
    """``patterns`` at [end] of the heads ``asked``, [layers, heads], as (pictures, asked,
    position)."""
    captured = capture(wrapped, head_shape, inputs, end, ("attention",))
    layers = torch.stack(
        [pattern(captured, layer)[:, :, 0].cpu() for layer in range(len(captured.z))], dim=1
    )
    return {
        "patterns": layers[:, asked[0], asked[1]],
        "finite": bool(torch.isfinite(captured.logits).all()),
        "gaps": attention_gaps(captured),
    }


def summed_patterns(wrapped: TransformersModel, head_shape, inputs, start) -> dict[str, Any]:
    """``patterns`` from ``start`` on among themselves, summed over pictures, (layer, head, kept,
    kept)."""
    captured = capture(wrapped, head_shape, inputs, start, ("attention",))
    layers = [
        pattern(captured, layer)[..., start:].sum(0, dtype=torch.float64).cpu()
        for layer in range(len(captured.z))
    ]
    return {
        "patterns": torch.stack(layers),
        "finite": bool(torch.isfinite(captured.logits).all()),
        "gaps": attention_gaps(captured),
    }


def shares(wrapped: TransformersModel, head_shape, inputs, end, masks) -> dict[str, Any]:
    """``statistics`` of attention from [end], float32, (pictures, layer, head, statistic).

    Args:
        masks: 1 where a token belongs to a share, and last where it belongs to the picture,
            float64, (pictures, shares + 1, positions).
    """
    captured = capture(wrapped, head_shape, inputs, end, ("attention",))
    return {
        "statistics": shares_of(captured, masks),
        "finite": bool(torch.isfinite(captured.logits).all()),
        "gaps": attention_gaps(captured),
    }


def shares_of(captured: SimpleNamespace, masks: torch.Tensor) -> torch.Tensor:
    """The statistics of `shares`, from captured pictures that are kept from [end] on."""
    layers = []
    for layer in range(len(captured.z)):
        # In double precision, which no server's autocast touches.
        seen = pattern(captured, layer)[:, :, 0].double()
        masks = masks.to(seen.device)
        summed = seen @ masks.transpose(1, 2)
        inside = summed[..., -1:]
        logs = torch.xlogy(seen, seen) @ masks[:, -1:].transpose(1, 2)
        layers.append(
            torch.cat([summed[..., :-1], torch.log(inside) - logs / inside], -1).float().cpu()
        )
    return torch.stack(layers, 1)
