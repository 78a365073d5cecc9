"""The same picture with another question: the tokens that two prompts share are not run again.

Attention is causal, so the first prompt's keys and values of these tokens serve the second prompt.
Every layer is handed them, with its rotary angles and mask rows of the first run, as in `sweep`. As
a check, the rest of the first prompt is run on in the same way, and must end where it did.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch

from .capture import as_captured, kept_from, language_model, later

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel


def continued(
    wrapped: TransformersModel,
    head_shape: tuple[int, int],
    captured: SimpleNamespace,
    own: torch.Tensor,
    other: torch.Tensor,
    start: int,
) -> SimpleNamespace:
    """`capture` with ``"z"``, for prompts that begin like captured ones.

    Args:
        head_shape: (number of heads, d_head).
        captured: the same pictures with the first prompts, resumable from where the prompts part,
            or earlier.
        own: token ids of the first prompts from there on, (batch, positions).
        other: those of the second prompts, not longer.
        start: the first position whose z is kept.

    Returns:
        As `capture`, with ``drift``: the distance between the first prompt's logits and those of
        its end run again, as a fraction of the largest.
    """
    common = captured.length - own.shape[1]
    here = kept_from(captured, common)
    again, _, _ = _run_on(wrapped, head_shape, here, own, common)
    logits, normed, z = _run_on(wrapped, head_shape, here, other, start)
    gap = (again - captured.logits.to(again)).abs().max() / captured.logits.abs().max().to(again)
    return SimpleNamespace(
        **{name: [] for name, value in vars(captured).items() if isinstance(value, list)}
        | {"keep": ["z"], "z": z},
        start=start,
        length=common + other.shape[1],
        normed=normed,
        logits=logits,
        drift=float(gap),
    )


def _run_on(wrapped, head_shape, captured, ids, start):
    """Run on with tokens from ``captured.start`` on; returns logits and final state at [end], and
    every layer's z from ``start`` on."""
    prefix, count = captured.start, ids.shape[1]
    run = _first(captured, count)
    positions = torch.arange(prefix, prefix + count, device=ids.device).expand(len(ids), -1)
    with wrapped.trace(input_ids=ids, position_ids=positions, use_cache=False, logits_to_keep=1):
        z = []
        for index, layer in enumerate(language_model(wrapped).layers):
            as_captured(layer, run, index, None)
            z.append(later(layer.self_attn.o_proj.input, start - prefix).unflatten(-1, head_shape))
        normed = language_model(wrapped).norm.output[:, -1].save()
        logits = wrapped.output.logits[:, -1].float().save()
        z.save()
    return logits, normed, z


def _first(captured, count):
    """A captured run whose layers' inputs are cut to the first ``count`` kept positions."""
    length = captured.start + count
    masks = [mask if mask is None else mask[..., :count, :length] for mask in captured.masks]
    angles = [given if given is None else first_rows(given, count) for given in captured.angles]
    told = [{name: value[:, :count] for name, value in own.items()} for own in captured.told]
    own = {"length": length, "masks": masks, "angles": angles, "told": told}
    return SimpleNamespace(**{**vars(captured), **own})


def first_rows(angles, count) -> torch.Tensor | tuple:
    """Angles (…, positions, width), or a tuple of them, at the first ``count`` positions."""
    if isinstance(angles, tuple):
        return tuple(first_rows(part, count) for part in angles)
    return angles[..., :count, :]
