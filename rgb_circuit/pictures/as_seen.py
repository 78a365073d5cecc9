"""A picture as the model sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .views import views_of

if TYPE_CHECKING:
    from ..vlm import Vlm


def as_seen(model: Vlm, image: Image.Image) -> Image.Image:
    """The part of a picture that the model's image tokens tile, after the model's own resizing,
    cropping or padding.

    If the model sees several views, the first. The margin that no token covers is left out. On the
    whole of a picture that the model crops or pads, the tokens would lie in the wrong places.

    Raises:
        InputError: a picture whose tokens' places are unknown.
    """
    pixels = views_of(model, image)[0].pixels
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


@dataclass(frozen=True)
class Fit:
    """How a model's processor fits pictures of one size.

    Attributes:
        lost: side ("left", "right", "top", "bottom") → share of the picture's width or height that
            is cut off there; only sides that lose about a pixel or more.
        padding: share of what the model sees that is not part of the picture.
        proportion: width over height of a square in the picture, after fitting; 1 unless that makes
            a pixel's difference.
        views: the number of views; the other attributes are those of the first, of the whole
            picture.
    """

    lost: Mapping[str, float]
    padding: float
    proportion: float
    views: int = 1


# Below this side, in pixels, resampling blurs a picture too much to tell where its edges went.
MEASURABLE = 8


def fit(model: Vlm, size: tuple[int, int]) -> Fit:
    """How the model's processor fits a picture of (width, height), measured on pictures of that
    size.

    1. Give it a picture whose red grows with the column, whose green grows with the row, and whose
       blue is full; and the negative of that picture.
    2. Pixels that are the same in both are padding.
    3. In the middle of the rest, red and green tell the column and row that each pixel shows.
       Extrapolated to the edges, they tell what was cut off, and how much each direction was
       scaled.
    """
    (across, down), (by_column, by_row) = map(_ramp, size), map(_dither, size)
    picture = np.full((size[1], size[0], 3), 255, dtype=np.uint8)
    picture[..., 0] = across + by_row[:, None]
    picture[..., 1] = down[:, None] + by_column
    views, of_negative = (views_of(model, Image.fromarray(one)) for one in (picture, 255 - picture))
    seen, negative = (some[0].pixels.round().clip(0, 255) for some in (views, of_negative))
    own = np.abs(seen[..., 2] - negative[..., 2]) > 127
    rows, columns = np.flatnonzero(own.any(axis=1)), np.flatnonzero(own.any(axis=0))
    padding = float(1 - own.mean())
    if min(*size, len(rows), len(columns)) < MEASURABLE:
        return Fit({}, padding, 1.0, len(views))

    shown = seen[np.ix_(rows, columns)]
    left, right, wide = _extent(columns, shown[..., 0].mean(axis=0) / across[1], size[0])
    top, bottom, high = _extent(rows, shown[..., 1].mean(axis=1) / down[1], size[1])
    lost = {"left": left, "right": right, "top": top, "bottom": bottom}
    changed = abs(wide / high - 1) > 1 / min(*size, len(rows), len(columns))
    return Fit(
        {side: share for side, share in lost.items() if share},
        padding,
        wide / high if changed else 1.0,
        len(views),
    )


def _ramp(length):
    """Numbers from 0 to at most 255 that grow evenly, in whole steps if there are enough."""
    steps = max(length - 1, 1)
    return np.arange(length) * (255 // steps if steps <= 255 else 255 / steps)


def _dither(length):
    """Fractions that spread evenly over any stretch of ``length``. Added before rounding down, they
    cancel the rounding on average."""
    return np.arange(length) * 0.618034 % 1


def _extent(pixels, shows, length):
    """The loss before and after, as shares of ``length`` pixels, and the number of pixels that one
    of them became.

    Args:
        pixels: those that show the picture, along one direction.
        shows: the picture's pixel that each of them shows, from 0.
    """
    middle = slice(len(pixels) // 4, -(len(pixels) // 4))
    step, start = np.polyfit(pixels[middle], shows[middle], 1)
    # Edges lie half a pixel beyond the first and the last pixel.
    before = start + step * (pixels[0] - 0.5) + 0.5
    behind = length - (start + step * (pixels[-1] + 0.5) + 0.5)
    # Resampling blurs edges and rounds them to a pixel, of the picture or of what the model sees.
    least = max(0.75 * step, 0.5)
    return *(float(end) / length if end > least else 0.0 for end in (before, behind)), float(
        1 / step
    )
