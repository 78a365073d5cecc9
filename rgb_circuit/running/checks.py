"""Checks of a program's results: one sentence if its numbers would mean nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..errors import InputError, ModelError, NotFinite

if TYPE_CHECKING:
    from ..vlm import Vlm

# How far the logits of a resumed forward may be from those of the captured one, as fractions of the
# largest, plus `Vlm.rounding`. In half precision the two round differently.
RESUMED, RESUMED_HALF = 1e-4, 5e-2

# How far softmax(queries · keys) @ values may be from z, as a fraction of the largest, plus
# `Vlm.rounding`. Half precision rounds the pattern before it meets the values.
ATTENDED, ATTENDED_HALF = 1e-4, 2e-2


def resumed(dtype: torch.dtype, rounding: float) -> float:
    """How far a resumed forward may be from the captured one; ``rounding`` as in `Vlm`."""
    return _allowed(RESUMED, RESUMED_HALF, dtype, rounding)


def _allowed(exact, half, dtype, rounding):
    return min(exact + rounding, half) if dtype == torch.float32 else half


def check_unedited(model: Vlm, drift: float, length: int) -> None:
    """Raise ModelError if an unedited run does not end where the model's own run does, given
    `sweep`'s ``drift``."""
    if drift <= resumed(model.dtype, model.rounding):
        return
    raise ModelError(
        f"a run of {model.name} that edits nothing moves its logits by {drift:.2g} of the largest "
        f"on a prompt of {length} tokens, "
        "so effects there would mean nothing: it attends in another way than patching goes on from"
    )


def check_paths(model: Vlm, gap: float) -> None:
    """Raise ModelError if the residual stream is not a sum in which a path can be told apart, given
    the ``gap`` of `programs.paths`."""
    if gap > resumed(model.dtype, model.rounding):
        raise ModelError(
            f"in {model.name} the residual stream does not pass a layer unchanged, or the layer "
            f"makes other queries, keys or values of it than in its own run (by {gap:.2g} of the "
            "largest), so direct paths mean nothing there; use patch_edits"
        )


def check_seeing(model: Vlm, blind: bool) -> None:
    """Raise InputError if attention was knocked out wherever a position attends, given `sweep`'s
    ``blind``."""
    if blind:
        raise InputError(
            f"in a layer of {model.name} that sees no more than a window or its picture, an "
            "attention edit leaves a position nothing to look at; knock out fewer keys"
        )


def check_finite(model: Vlm, finite: bool) -> None:
    """Raise NotFinite if a logit was infinite or not a number."""
    if not finite:
        raise NotFinite(
            f"{model.name} gives logits that are not finite in {model.dtype}; load it with "
            "dtype='float32' or 'bfloat16'"
        )


def check_attention(model: Vlm, gaps: list[float]) -> None:
    """Raise ModelError if attention is not softmax(queries · keys) @ values, given
    `attention_gaps`."""
    limit = _allowed(ATTENDED, ATTENDED_HALF, model.dtype, model.rounding)
    for layer, gap in enumerate(gaps):
        # Not `gap > limit`, which NaN would pass.
        if not gap <= limit:
            raise ModelError(
                f"attention in layer {layer} of {model.name} is not softmax(queries · keys) @ "
                f"values: that misses its z by {gap:.2g} of the largest, as where heads have "
                "sinks; of its heads z alone can be patched (patch_heads, patch_edits)"
            )
