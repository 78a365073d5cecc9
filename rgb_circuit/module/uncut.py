"""Calling a processor so that every text is read whole: neither cut nor padded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from transformers import BatchFeature, ProcessorMixin

# Arguments of a call are stronger than what a tokenizer's files, its backend or a processor's class
# say, all of which transformers would else take over from training.
WHOLE = {
    "padding": False,
    "truncation": False,
    "max_length": None,
    "pad_to_multiple_of": None,
    "is_split_into_words": False,
}


def uncut(
    processor: ProcessorMixin, texts: Sequence[str], images: Sequence[Image.Image], **options: Any
) -> BatchFeature:
    """What a processor makes of texts of equally many tokens, each with one picture, as tensors.

    Args:
        texts: as the processor reads them, with its own image token.
        options: how it shows the pictures.
    """
    return processor(
        text=list(texts),
        images=[[image] for image in images],
        return_tensors="pt",
        text_kwargs=WHOLE,
        **options,
    )
