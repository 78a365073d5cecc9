"""Call a processor so that every text is read whole: neither cut nor padded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from transformers import BatchFeature, ProcessorMixin

# Arguments of a call override the settings of a tokenizer's files, of its backend and of a
# processor's class, which transformers would otherwise take over from training.
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
    """A processor's outputs, as tensors, for texts of equally many tokens, each with one picture.

    Args:
        texts: as the processor reads them, with its own image token.
        options: of the processor, for showing the pictures.
    """
    return processor(
        text=list(texts),
        images=[[image] for image in images],
        return_tensors="pt",
        text_kwargs=WHOLE,
        **options,
    )
