"""What the model says of some pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .capture import capture

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel


def answered(wrapped: TransformersModel, heads, inputs, answers):
    """At [end], the ``likeliest`` token of each picture and the ``logits`` of its ``answers``, (pictures,
    answers)."""
    logits = capture(wrapped, heads, inputs, inputs["input_ids"].shape[1] - 1, False, False).logits
    return {
        "likeliest": logits.argmax(-1).cpu(),
        "logits": logits.gather(-1, answers.to(logits.device)).cpu(),
        "finite": bool(torch.isfinite(logits).all()),
    }
