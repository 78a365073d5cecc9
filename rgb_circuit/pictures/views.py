"""The places of a picture's image tokens on it.

A model sees a picture once or several times, as its own processor makes it: resized, cropped,
padded, at its own size, or whole and then again in pieces. Each such view consists of places, and
each place has an image token. The output of the processor tells which views there are:

| output | views |
|---|---|
| one square picture of the layout's size | that picture |
| patches and their number per side (``image_grid_thw``) | the picture at about its own size |
| one picture and its size (``image_sizes``) | the same |
| several squares and the picture's size | the whole picture, and one put together from the others |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from ..errors import FOREIGN, InputError
from .picture import as_rgb

if TYPE_CHECKING:
    from ..vlm import Vlm


@dataclass(frozen=True)
class View:
    """One view of a picture as the model sees it.

    Attributes:
        pixels: tiled by its places, (height, width, 3), from 0 to 255.
        tokens: for each place, the number of its image token among all of the picture's, from 0, or
            −1 if it has none, (rows, columns).
            where it has none, (rows, columns).
    """

    pixels: np.ndarray
    tokens: np.ndarray


def views_of(model: Vlm, image: Image.Image) -> list[View]:
    """All views that the model sees of a picture, in the order of their tokens.

    Raises:
        InputError: a picture whose tokens' places are unknown.
    """
    image, layout = as_rgb(image), model.layout
    options = {**layout.options, "do_rescale": False, "do_normalize": False}
    try:
        made = model.processor.image_processor(image, return_tensors="pt", **options)
    except FOREIGN as error:
        raise InputError(_unknown(model, image)) from error
    pixels = made["pixel_values"]
    if not isinstance(pixels, torch.Tensor):
        raise InputError(_unknown(model, image))
    if "image_grid_thw" in made:
        return [_of_patches(model, pixels, made["image_grid_thw"][0].tolist())]
    if pixels.ndim == 5 and "image_sizes" in made:
        return _of_pieces(model, pixels[0], made["image_sizes"][0].tolist())
    # Some processors add a dimension for the pictures of a prompt.
    pixels = pixels.reshape(-1, *pixels.shape[-3:])
    if len(pixels) == 1 and (
        "image_sizes" in made or pixels.shape[-2:] == (layout.picture_px,) * 2
    ):
        return [_of_one(model, pixels[0])]
    raise InputError(_unknown(model, image))


def _unknown(model, image):
    side = model.picture_px
    return (
        f"{model.name} does not make one picture of {side} × {side} px of one of {image.width} × "
        f"{image.height} px, nor pieces that are known, so its tokens cannot be laid over it; give "
        f"pictures of {side} × {side} px"
    )


def _of_one(model, pixels):
    """The view of a single picture (3, height, width), whose places have tokens row by row."""
    tiled = _tiled(model, pixels)
    rows, columns = (side // model.tile_px for side in tiled.shape[:2])
    return View(tiled, model.layout.first + np.arange(rows * columns).reshape(rows, columns))


def _tiled(model, pixels):
    """A picture (3, height, width) without the margin that no place covers, (height, width, 3)."""
    below, right = (side // model.tile_px * model.tile_px for side in pixels.shape[-2:])
    return pixels[:, :below, :right].permute(1, 2, 0).float().numpy()


def _of_patches(model, pixels, grid):
    """The view of patches (number, pixels of a patch) in which the patches of a place are
    adjacent."""
    _, rows, columns = grid
    side = model.config.vision_config.patch_size
    merged = model.tile_px // side
    # Patches hold the frames of a film; those of a picture are all the same.
    patches = pixels.reshape(rows // merged, columns // merged, merged, merged, 3, -1, side, side)[
        ..., 0, :, :
    ]
    whole = patches.permute(4, 0, 2, 5, 1, 3, 6).reshape(3, rows * side, columns * side)
    return _of_one(model, whole)


def _of_pieces(model, pixels, size):
    """The views of a picture that the model sees whole and again in pieces, as in LLaVA-NeXT: after
    each row of the second view there is a token without a place.

    Args:
        pixels: (1 + pieces, 3, side, side).
        size: of the picture, (height, width).
    """
    # A model of such pictures has loaded these; what has none would load all of torch for them.
    from transformers.models.llava_next.modeling_llava_next import (
        get_anyres_image_grid_shape,
        unpad_image,
    )

    whole = _of_one(model, pixels[0])
    down, across = get_anyres_image_grid_shape(
        size, model.config.image_grid_pinpoints, pixels.shape[-1]
    )
    pieces = np.stack([_tiled(model, piece) for piece in pixels[1:]])
    pieces = pieces.reshape(down, across, *pieces.shape[1:])
    rows, columns = down * whole.tokens.shape[0], across * whole.tokens.shape[1]
    together = pieces.transpose(0, 2, 1, 3, 4).reshape(
        rows * model.tile_px, columns * model.tile_px, 3
    )
    # The model drops the places that pad the picture.
    left = unpad_image(torch.arange(rows * columns).reshape(1, rows, columns), size)[0].numpy()
    tokens = np.full(rows * columns, -1)
    tokens[left] = (
        whole.tokens.size
        + np.arange(len(left))[:, None] * (left.shape[1] + 1)
        + np.arange(left.shape[1])
    )
    return [whole, View(together, tokens.reshape(rows, columns))]


def laid_out(model: Vlm, image: Image.Image, input_ids: torch.Tensor) -> np.ndarray:
    """The token positions of the places in a picture's first view, (rows, columns).

    Args:
        input_ids: of a prompt with the picture, (positions,).

    Raises:
        InputError: as in `views_of`, or a different number of tokens.
    """
    places = (input_ids == model.config.image_token_id).nonzero().flatten().numpy()
    views = views_of(model, image)
    if tokens_of(views) != len(places):
        raise InputError(
            f"{model.name} makes {len(places)} image tokens of a picture of {image.width} × "
            f"{image.height} px, and its views have {tokens_of(views)}, so they cannot be laid "
            "over it"
        )
    return places[views[0].tokens]


def tokens_of(views: Sequence[View]) -> int:
    """The number of image tokens of a picture with these views."""
    # The last row of a second view ends with a token without a place.
    return max(int(view.tokens.max()) for view in views) + len(views)


def covering(
    model: Vlm, size: tuple[int, int], box: tuple[float, ...], count: int
) -> tuple[int, ...]:
    """The image tokens that cover a box, in every view, as numbers among all of the picture's
    tokens, from 0.

    A token covers the box if at least one pixel that the model sees at the token's place shows the
    box rather than its surroundings. To find these pixels, the processor, which depends on a
    picture's size alone, gets a black picture of that size and the same picture with the box in
    white.

    Args:
        size: (width, height) of the picture in pixels.
        box: (left, top, right, bottom) in the picture's pixels.
        count: the number of image tokens in the picture's prompt.

    Returns:
        The numbers in order; none if the box is cropped away, or smaller than a pixel that the
        model sees.

    Raises:
        InputError: as in `views_of`, or a different number of tokens.
    """
    if (size, box) not in model.covering:
        model.covering[size, box] = _covering(model, size, box, count)
    return model.covering[size, box]


def _covering(model, size, box, count):
    left, top, right, bottom = box
    across, down = (
        np.clip(np.minimum(np.arange(length) + 1, end) - np.maximum(np.arange(length), begin), 0, 1)
        for length, begin, end in ((size[0], left, right), (size[1], top, bottom))
    )
    # A pixel that the box covers only in part is grey.
    white = np.repeat(
        (255 * np.outer(down, across)).round().astype(np.uint8)[..., None], 3, axis=-1
    )
    seen, around = (views_of(model, Image.fromarray(one)) for one in (white, np.zeros_like(white)))
    if tokens_of(seen) != count:
        raise InputError(
            f"{model.name} makes {count} image tokens of a picture of {size[0]} × {size[1]} px, "
            f"and its views have {tokens_of(seen)}, so nobody knows which cover a box; name token "
            "positions as ints"
        )
    tokens = set()
    for view, other in zip(seen, around):
        inside = np.abs(view.pixels - other.pixels)[..., 0] > 127
        rows, columns = np.nonzero(inside)
        tokens |= set(view.tokens[rows // model.tile_px, columns // model.tile_px].tolist())
    return tuple(sorted(tokens - {-1}))
