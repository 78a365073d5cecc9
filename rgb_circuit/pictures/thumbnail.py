"""Small versions of pictures on which the tile in question is easy to see."""

import base64
import io
from collections.abc import Sequence

from PIL import Image, ImageDraw

# Tiles on each side of the enlarged tile.
AROUND = 2
# With more tiles per side than this, a tile is too small to be seen in a figure.
SMALL_FROM = 12
# Pictures with fewer pixels than this are magnified before lines are drawn into them.
LEAST_SIDE = 320


def outlined(image: Image.Image, tile: Sequence[int], grid: Sequence[int]) -> Image.Image:
    """A copy with a frame around a tile, white within black, so that it shows on any colour. A
    picture of few pixels is magnified first, or the frame would hide the tile.

    Args:
        image: in RGB.
        tile: (row, column) from 0.
        grid: (rows, columns) that tile the picture.
    """
    times = -(-LEAST_SIDE // max(image.size))
    image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    left, top, right, bottom = _box(image, tile, grid)
    # Thick enough to show when the whole picture is made small.
    thick = max(1, round(max(image.size) / 160))
    draw = ImageDraw.Draw(image)
    for grown, color in ((2 * thick, "black"), (thick, "white")):
        draw.rectangle(
            (left - grown, top - grown, right - 1 + grown, bottom - 1 + grown),
            outline=color,
            width=thick,
        )
    return image


def enlarged(image: Image.Image, tile: Sequence[int], grid: Sequence[int]) -> Image.Image:
    """The part of a picture with a tile and up to two tiles on each side of it.

    Args:
        image, tile, grid: as in `outlined`.
    """
    first, last = (
        [max(0, min(side - 1, place + to)) for place, side in zip(tile, grid)]
        for to in (-AROUND, AROUND)
    )
    left, top, *_ = _box(image, first, grid)
    *_, right, bottom = _box(image, last, grid)
    return image.crop((left, top, right, bottom))


def data_uri(image: Image.Image, most: int | None = None, *, quality: int = 85) -> str:
    """A picture as a data URI: exact if it has few colours, as a JPEG if it is a photograph.

    Args:
        most: longest side in pixels, if the picture should be made smaller.
        quality: for JPEG.
    """
    few = image.getcolors(256) is not None
    if most is not None and max(image.size) > most:
        image = image.copy()
        image.thumbnail((most, most), Image.Resampling.BOX if few else Image.Resampling.LANCZOS)
    file, kind = io.BytesIO(), "png" if few else "jpeg"
    image.convert("RGB").save(file, kind, **(dict(optimize=True) if few else dict(quality=quality)))
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def small_file(image: Image.Image, most: int, *, quality: int = 80) -> bytes:
    """A picture as a file, at most ``most`` pixels on its longer side: an exact PNG if it has few
    colours, else WebP.

    Args:
        quality: for WebP, 0 to 100.
    """
    few = image.getcolors(256) is not None
    image = image.convert("RGB")
    if max(image.size) > most:
        image.thumbnail((most, most), Image.Resampling.BOX if few else Image.Resampling.LANCZOS)
        few = few and image.getcolors(256) is not None
    file = io.BytesIO()
    if few:
        image.save(file, "png", optimize=True)
    else:
        image.save(file, "webp", quality=quality)
    return file.getvalue()


def _box(image, tile, grid):
    """Left, top, right and bottom of a tile, in pixels."""
    height, width = image.height / grid[0], image.width / grid[1]
    return tuple(
        round(edge)
        for edge in (
            tile[1] * width,
            tile[0] * height,
            (tile[1] + 1) * width,
            (tile[0] + 1) * height,
        )
    )
