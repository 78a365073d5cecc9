"""Logits of parts of the residual stream, through the final norm and ``lm_head``.

Modules are called and parameters never read, so each function takes the modules.
"""

from __future__ import annotations

import torch


def shares_of(norm, lm_head, parts, whole, ids) -> torch.Tensor:
    """The shares of parts of residual streams in the logits, (pictures, parts, ids), float32.

    The norm divides by the size of the whole, which is held fixed, so that parts that add up to the
    whole have shares that add up to its logits.

    Args:
        norm: the final norm, a root-mean-square norm.
        parts: (pictures, parts, width).
        whole: the stream that each part belongs to, (pictures, parts or 1, width).
        ids: tokens, (pictures, ids).
    """
    size, number = sized(whole), parts.dtype
    parts = parts.to(size)
    # Scaled to the size of the whole, a part gets the same divisor, epsilon included.
    scale = size / sized(parts)
    scale = torch.where(scale.isfinite(), scale, torch.ones_like(scale))
    read = logits_of(norm, lm_head, (parts * scale).to(number), ids)
    return read / scale.to(read)


def logits_of(norm, lm_head, states, ids) -> torch.Tensor:
    """The logits of residual streams, each normed at its own size, (pictures, states, ids),
    float32.

    Args:
        states: (pictures, states, width).
        ids: tokens, (pictures, ids).
    """
    read = lm_head(norm(states)).float()
    return read.gather(-1, ids[:, None].expand(-1, states.shape[1], -1).to(read.device))


def sized(states) -> torch.Tensor:
    """Root mean square over the width, float32, (…, 1)."""
    return states.float().square().mean(-1, keepdim=True).sqrt()


def by_head(o_proj, z) -> tuple[torch.Tensor, torch.Tensor]:
    """The vector that each head's z writes, without ``o_proj``'s bias, (…, heads, width); and the
    bias, (…, 1, width).

    Args:
        z: (…, heads, d_head).
    """
    each = torch.arange(z.shape[-2])
    alone = torch.zeros_like(z)[..., None, :, :].repeat(*[1] * (z.ndim - 2), len(each), 1, 1)
    alone[..., each, each, :] = z
    bias = o_proj(torch.zeros_like(alone[..., :1, :, :].flatten(-2)))
    return o_proj(alone.flatten(-2)) - bias, bias
