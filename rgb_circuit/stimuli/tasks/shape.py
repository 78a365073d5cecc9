"""Odd one out by shape as a task: `shape.toml`, and the code that draws its pictures.

All tiles hold one shape, black on white, and one tile holds another. Shapes are cut at pixel
centres, without grey levels: from 4 pixels per side on, no two look alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...boards import Canvas, check_tile
from ...boards.balanced import balanced
from ...conversation import prompt
from ...errors import InputError
from ...trial import Trial
from ..task_file import read_task
from .rgb import odd_one_out


def draw(
    canvas: Canvas, words: Sequence[str], n: int, seed: int, fixed: Mapping[str, Any]
) -> list[Trial]:
    """``n`` trials balanced over shapes and tiles; `rgb_circuit.stimuli.drawing.trials` draws them
    for a model.

    Args:
        words: the shapes to draw from.
        seed: the same seed gives the same trials.
        fixed: any of ``odd, other, background, other_background, tile``, held fixed.

    Raises:
        InputError: a word that is no shape, or that two roles share, too few words left to draw
            from, a tile off the grid, or tiles too small to tell shapes apart.

    Warns:
        UserWarning: some trials have the same pictures, since too much is fixed.
    """
    roles = tuple(TASK.drawn)
    for role, word in fixed.items():
        if role in roles and word not in SHAPES:
            raise InputError(
                f"{role}={word!r} is no shape that can be drawn; use one of {', '.join(SHAPES)}"
            )
    trials = []
    for index, drawn in enumerate(
        balanced(roles, words, canvas.grid, n, seed, fixed, called="shapes")
    ):
        tile, answers = (
            check_tile(drawn["tile"], canvas.grid)[0],
            {role: drawn[role] for role in roles},
        )
        odd, other, background, other_background = answers.values()
        trials.append(
            Trial(
                name=f"{index:03d} {odd}/{other} on {background}/{other_background} at "
                f"{tile[0]},{tile[1]}",
                prompt=prompt(TASK.question, canvas.template),
                images=odd_one_out(partial(board, canvas), answers, tile, canvas.grid),
                answers=answers
                | {role: same.word for role, same in TASK.roles.items() if same.word},
                tile=tile,
                grid=canvas.grid,
                expected={
                    name: condition.right
                    for name, condition in TASK.conditions.items()
                    if condition.right
                },
            )
        )
    return trials


def board(canvas: Canvas, background: str, tiles: Mapping[tuple[int, int], str]) -> Image.Image:
    """A picture of tiles that all hold the shape ``background``, except those in ``tiles`` (row,
    column)."""
    px, grid = canvas.tile_px, canvas.grid
    black = np.tile(glyph(background, px), (grid, grid))
    for (row, column), word in tiles.items():
        black[row * px : (row + 1) * px, column * px : (column + 1) * px] = glyph(word, px)
    black = np.pad(black, (0, canvas.margin))
    return Image.fromarray(np.where(black, 0, 255).astype(np.uint8)).convert("RGB")


def glyph(word: str, px: int) -> np.ndarray:
    """Which pixels of a tile are black, Booleans, (px, px).

    Raises:
        InputError: too few pixels to tell the shapes apart.

    Examples:
        >>> rows = glyph("ring", 6).astype(int)
        >>> print(*("".join(".#"[black] for black in row) for row in rows), sep="\\n")
        ..##..
        .####.
        ##..##
        ##..##
        .####.
        ..##..
    """
    if px < LEAST_PX:
        raise InputError(
            f"tiles of {px} px are too small to tell shapes apart; use a model whose image tokens "
            f"show {LEAST_PX} px or more"
        )
    # Pixel centres, from -1 to 1, exactly symmetric about the middle.
    centres = (2 * np.arange(px) + 1 - px) / px
    x, y = np.meshgrid(centres, centres)
    return SHAPES[word](x, y)


def _square(x, y):
    return np.maximum(abs(x), abs(y)) < 0.9


def _circle(x, y):
    return x**2 + y**2 < 0.85


def _ring(x, y):
    return _circle(x, y) & (x**2 + y**2 > 0.26)


def _cross(x, y):
    return _square(x, y) & (abs(abs(x) - abs(y)) < 0.26)


def _star(x, y):
    """Five tips of 36 degrees each, one of them at the top."""
    apart = 2 * np.pi / 5
    from_tip = abs((np.arctan2(x, -y) + apart / 2) % apart - apart / 2)
    along, across = np.hypot(x, y) * np.cos(from_tip), np.hypot(x, y) * np.sin(from_tip)
    return across < (1 - along) * np.tan(np.pi / 10)


def _heart(x, y):
    """The heart curve of sixth degree."""
    x, y = x / 0.8, (y - 0.1) / 0.8
    return (x**2 + y**2 - 1) ** 3 + x**2 * y**3 < 0


def _moon(x, y):
    return _circle(x, y) & ((x - 0.45) ** 2 + y**2 > 0.5)


def _bar(x, y):
    return _square(x, y) & (abs(y) < 0.31)


# Word → whether (x, y) is black; x and y run from -1 to 1, left to right and top to bottom of a
# tile.
SHAPES = {
    "square": _square,
    "circle": _circle,
    "ring": _ring,
    "cross": _cross,
    "star": _star,
    "heart": _heart,
    "moon": _moon,
    "bar": _bar,
}
LEAST_PX = 4

TASK = replace(read_task(Path(__file__).with_suffix(".toml")), draw=draw)
