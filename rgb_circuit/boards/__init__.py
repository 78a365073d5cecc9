"""Boards of tiles; each tile is one image token of the model that they are drawn for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image

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
    side = grid * tile_px + margin
    image = Image.new("RGB", (side, side), tuple(background))
    for (row, column), color in tiles.items():
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
