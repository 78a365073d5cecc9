"""The processor's inputs for prompts and pictures, in the form that a model's forward takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from PIL import Image

from ..conversation.answers import ends, once_begun, picture_mark
from ..module.layout import Layout
from ..module.uncut import uncut
from ..running.execute import one_at_a_time

if TYPE_CHECKING:
    from transformers import ProcessorMixin


def inputs_of(
    processor: ProcessorMixin, layout: Layout, prompts: Sequence[str], images: Sequence[Image.Image]
) -> dict[str, torch.Tensor]:
    """Model inputs for prompts with ``<image>`` and one picture each, with equal numbers of tokens:
    at most one beginning token, no end token.

    Returns:
        ``input_ids`` and ``attention_mask`` (prompts, positions), ``pixel_values``, and the further
        keys in ``layout.takes``.
    """
    tokenizer = processor.tokenizer
    texts = [
        once_begun(tokenizer, prompt.replace("<image>", picture_mark(processor)))
        for prompt in prompts
    ]
    # Two threads cannot use a fast tokenizer at once.
    with one_at_a_time:
        made = uncut(processor, texts, images, **layout.options)
        length = made["input_ids"].shape[1]
        # A processor may write no special tokens even if its tokenizer alone does.
        ended = ends(tokenizer) and bool((made["input_ids"][:, -1] == tokenizer.eos_token_id).all())
        kept = length - ended
    made = {
        name: value
        for name, value in made.items()
        if name in layout.takes and isinstance(value, torch.Tensor)
    }
    # Per-token values are cut with the tokens.
    return {
        name: value[:, :kept]
        if value.ndim == 2 and value.shape == (len(prompts), length)
        else value
        for name, value in made.items()
    }
