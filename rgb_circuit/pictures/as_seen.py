"""What a model is shown of a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from ..errors import FOREIGN, InputError
from .picture import as_rgb

if TYPE_CHECKING:
    from ..vlm import Vlm


def as_seen(model: Vlm, image: Image.Image) -> Image.Image:
    """What the model's image tokens tile: the picture after the model's own resizing, cropping or
    padding.

    The margin that no token covers is left out. Tokens laid over the whole of a picture that the
    model crops or pads would lie in the wrong places.

    Raises:
        InputError: a picture that this model is not shown as one square of the layout's size, so
            that nobody knows where its tokens lie.
    """
    rows, columns = model.grid
    right, below = columns * model.tile_px, rows * model.tile_px
    image, side = as_rgb(image), model.picture_px
    if image.size == (side, side):
        # Shown as it is.
        return image.crop((0, 0, right, below))
    otherwise = (
        f"{model.name} does not make one picture of {side} × {side} px of one of {image.width} × "
        f"{image.height} px, so its "
        f"tokens cannot be laid over it; give pictures of {side} × {side} px"
    )
    options = {**model.layout.options, "do_rescale": False, "do_normalize": False}
    try:
        pixels = model.processor.image_processor(image, return_tensors="pt", **options)[
            "pixel_values"
        ]
    except FOREIGN as error:
        raise InputError(otherwise) from error
    # Some processors count the pictures of a prompt too.
    if (
        not isinstance(pixels, torch.Tensor)
        or pixels.shape[-3:] != (3, side, side)
        or pixels.numel() != 3 * side * side
    ):
        raise InputError(otherwise)
    tiled = pixels.reshape(3, side, side)[:, :below, :right]
    return Image.fromarray(tiled.permute(1, 2, 0).numpy().round().clip(0, 255).astype(np.uint8))


@dataclass(frozen=True)
class Fit:
    """How pictures of one size are made to fit a model.

    Attributes:
        lost: side ("left", "right", "top", "bottom") → share of the picture's width or height that
            is cut off there; only sides that lose about a pixel or more.
        padding: share of what the model sees that is none of the picture.
        proportion: how wide a square in the picture becomes, over how high; 1 unless that makes a
            pixel's difference.
    """

    lost: Mapping[str, float]
    padding: float
    proportion: float


# Below this side, in pixels, resampling blurs a picture too much to tell where its edges went.
MEASURABLE = 8


def fit(model: Vlm, size: tuple[int, int]) -> Fit:
    """How the model's processor makes a picture of (width, height) fit, measured on pictures of
    that size.

    1. Show it a picture whose red grows with the column, whose green grows with the row, and whose
       blue is full; and the negative of that picture.
    2. Pixels that are the same in both are padding.
    3. In the middle of the rest, red and green tell the column and row that each pixel shows.
       Followed to the edges, they tell what was cut off, and how much each direction was scaled.
    """
    (across, down), (by_column, by_row) = map(_ramp, size), map(_dither, size)
    picture = np.full((size[1], size[0], 3), 255, dtype=np.uint8)
    picture[..., 0] = across + by_row[:, None]
    picture[..., 1] = down[:, None] + by_column
    seen, negative = (
        np.asarray(as_seen(model, Image.fromarray(one)), dtype=float)
        for one in (picture, 255 - picture)
    )
    own = np.abs(seen[..., 2] - negative[..., 2]) > 127
    rows, columns = np.flatnonzero(own.any(axis=1)), np.flatnonzero(own.any(axis=0))
    padding = float(1 - own.mean())
    if min(*size, len(rows), len(columns)) < MEASURABLE:
        return Fit({}, padding, 1.0)

    shown = seen[np.ix_(rows, columns)]
    left, right, wide = _extent(columns, shown[..., 0].mean(axis=0) / across[1], size[0])
    top, bottom, high = _extent(rows, shown[..., 1].mean(axis=1) / down[1], size[1])
    lost = {"left": left, "right": right, "top": top, "bottom": bottom}
    changed = abs(wide / high - 1) > 1 / min(*size, len(rows), len(columns))
    return Fit(
        {side: share for side, share in lost.items() if share},
        padding,
        wide / high if changed else 1.0,
    )


def _ramp(length):
    """Numbers from 0 to at most 255 that grow evenly, by whole steps where there are enough."""
    steps = max(length - 1, 1)
    return np.arange(length) * (255 // steps if steps <= 255 else 255 / steps)


def _dither(length):
    """Fractions that spread evenly over any stretch of ``length``: added before rounding down, they
    undo it on average."""
    return np.arange(length) * 0.618034 % 1


def _extent(pixels, shows, length):
    """What is lost before and behind, as shares of ``length`` pixels, and how many pixels one of
    them became.

    Args:
        pixels: those that show the picture, along one direction.
        shows: which of the picture's pixels each of them shows, counted from 0.
    """
    middle = slice(len(pixels) // 4, -(len(pixels) // 4))
    step, start = np.polyfit(pixels[middle], shows[middle], 1)
    # Edges lie half a pixel beyond the first and the last one.
    before = start + step * (pixels[0] - 0.5) + 0.5
    behind = length - (start + step * (pixels[-1] + 0.5) + 0.5)
    # Edges are blurred by resampling and rounded to a pixel, of the picture or of what is seen.
    least = max(0.75 * step, 0.5)
    return *(float(end) / length if end > least else 0.0 for end in (before, behind)), float(
        1 / step
    )
