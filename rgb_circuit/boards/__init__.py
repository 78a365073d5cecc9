"""Boards of tiles; each tile is one image token of the model that they are drawn for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
from PIL import Image

from ..arguments import whole_number
from ..errors import InputError
from ..files.table_text import shortened

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Canvas:
    """What a drawn task must know about a model: its board, and the conversation of its prompts.

    Attributes:
        grid: tiles per side.
        tile_px: side of a tile in pixels.
        margin: pixels that no tile covers, at the right and at the bottom.
        template: of the conversation, with ``<image>`` and ``{question}``.

    Examples:
        >>> Canvas(24, 14, 0, "USER: <image>\\n{question}\\nASSISTANT:").board((0, 0, 255), {}).size
        (336, 336)
    """

    grid: int
    tile_px: int
    margin: int
    template: str

    def board(self, background: RGB, tiles: Mapping[tuple[int, int], RGB]) -> Image.Image:
        """`draw` on this canvas."""
        return draw(background, tiles, self.grid, self.tile_px, margin=self.margin)


def draw(
    background: RGB,
    tiles: Mapping[tuple[int, int], RGB],
    grid: int,
    tile_px: int,
    *,
    margin: int = 0,
) -> Image.Image:
    """A ``grid`` × ``grid`` board of ``tile_px`` pixel tiles, all ``background`` except those in
    ``tiles`` (row, column).

    The background continues for ``margin`` pixels at the right and at the bottom, where no tile
    fits.

    Examples:
        >>> board = draw((0, 0, 255), {(0, 1): (255, 0, 0)}, grid=2, tile_px=4)
        >>> board.getpixel((3, 0)), board.getpixel((4, 0))
        ((0, 0, 255), (255, 0, 0))
    """
    grid, tile_px = whole_number("grid", grid), whole_number("tile_px", tile_px)
    side = grid * tile_px + whole_number("margin", margin, least=0)
    image = Image.new("RGB", (side, side), tuple(background))
    for (row, column), color in tiles.items():
        check_tile((row, column), grid)
        left, top = column * tile_px, row * tile_px
        image.paste(tuple(color), (left, top, left + tile_px, top + tile_px))
    return image


def moved_tile(tile: tuple[int, int], grid: int) -> tuple[int, int]:
    """Another place for a tile: half a grid away in both directions, wrapping round.

    The first tile is avoided: under causal attention its token has seen no other tile to differ
    from.

    Examples:
        >>> moved_tile((10, 9), 24), moved_tile((3, 3), 6)
        ((22, 21), (5, 5))
    """
    place = ((tile[0] + grid // 2) % grid, (tile[1] + grid // 2) % grid)
    return place if place != (0, 0) else (grid - 1, grid - 1)


def check_tile(tile, grid) -> tuple[tuple[int, int], int]:
    """``tile`` (row, column) and ``grid`` as whole numbers; InputError unless the tile lies on a
    ``grid`` × ``grid`` board."""
    if grid is None:
        raise InputError(
            f"tile {tile} was given without a grid; give grid, the number of tiles per side"
        )
    if not _whole(grid) or grid < 1:
        raise InputError(f"grid is {shortened(grid)}; give a whole number of tiles per side")
    if not isinstance(tile, (Sequence, np.ndarray)) or len(tile) != 2 or not all(map(_whole, tile)):
        raise InputError(
            f"tile is {shortened(tile)}; give its row and column, whole numbers from 0"
        )
    if not all(0 <= index < grid for index in tile):
        raise InputError(
            f"tile {tuple(tile)} is off the {grid} × {grid} grid; rows and columns go from 0 to "
            f"{grid - 1}"
        )
    row, column = tile
    return (int(row), int(column)), int(grid)


def _whole(value):
    """Whether a value is a whole number, even as 3.0: a column with missing cells holds floats."""
    return isinstance(value, Real) and value % 1 == 0
