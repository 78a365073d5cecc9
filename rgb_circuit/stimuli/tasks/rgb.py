"""The RGB game: one odd tile on a plain grid, and "Which color is the odd color out?"

Source of the game: the experiment of the seed note (LLaVA-1.5, 24 × 24 tiles, one red tile on
blue).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from PIL.Image import Image

from ...arguments import as_whole, whole_number
from ...boards import RGB, Canvas, check_tile, moved_tile
from ...boards.balanced import balanced
from ...conversation import TEMPLATE, prompt
from ...errors import InputError
from ...trial import Trial
from ..task_file import read_task

# A tile's look: its colour, its shape, ….
T = TypeVar("T")

PALETTE: Mapping[str, RGB] = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "cyan": (0, 255, 255),
    "purple": (160, 32, 240),
    "orange": (255, 165, 0),
    "black": (0, 0, 0),
    "brown": (139, 69, 19),
    "gray": (128, 128, 128),
}

# The game's words and its hypotheses; the pictures are drawn below.
SAID = read_task(Path(__file__).with_suffix(".toml"))

ODD_QUESTION = SAID.question
BACKGROUND_QUESTION: str = SAID.second_question[0]  # type: ignore[index]

# LLaVA-1.5's answer to a plain canvas of any colour; the small models are made to give it too.
NOTHING_ODD: str = SAID.roles["none"].word  # type: ignore[assignment]

EXPECTED = {name: condition.right for name, condition in SAID.conditions.items() if condition.right}

COLOR_ROLES = tuple(SAID.drawn)

# The tile of the published experiment, and its number of tiles per side.
PUBLISHED_TILE, PUBLISHED_GRID = (10, 9), 24
PUBLISHED_CANVAS = Canvas(PUBLISHED_GRID, 14, 0, TEMPLATE)


def rgb_trial(
    odd: str = "red",
    other: str = "green",
    background: str = "blue",
    other_background: str = "yellow",
    tile: tuple[int, int] = PUBLISHED_TILE,
    grid: int = PUBLISHED_GRID,
    tile_px: int = 14,
    *,
    margin: int = 0,
    palette: Mapping[str, RGB] = PALETTE,
    name: str | None = None,
    template: str = TEMPLATE,
) -> Trial:
    """One trial of the game in its five conditions.

    ``clean`` has the odd tile, ``recolored`` shows it in the other colour, ``erased`` not at all,
    ``swapped`` is a plain canvas in the other background, and ``moved`` has the odd tile half a
    grid away in both directions.

    Args:
        odd, other, background, other_background: four different words of ``palette``.
        tile: (row, column) from 0.
        grid: tiles per side.
        tile_px: side of a tile in pixels; 14 makes a tile one image token of LLaVA-1.5.
        margin: pixels left over at the right and at the bottom; 6 for SigLIP's pictures of 384 px,
            of which 27 × 27 tiles of 14 px cover 378.
        palette: word → (red, green, blue), each 0 to 255; pass your own triple for a word here.
        name: defaults to one made of the colours and the place.
        template: of the conversation in which the question is asked, with ``<image>`` and
            ``{question}``; a model's own is ``model.template``.

    Raises:
        InputError: an unknown or repeated colour, or a tile off the grid.

    Examples:
        >>> trial = rgb.rgb_trial("red", "green", "blue", "yellow", tile=(1, 2), grid=6, tile_px=4)
        >>> rgb.play(model, trial, ["clean", "recolored", "erased"])["answer"].tolist()
        ['red', 'green', 'white']
    """
    words = {
        "odd": odd,
        "other": other,
        "background": background,
        "other_background": other_background,
    }
    for role, word in words.items():
        if not isinstance(word, str) or word not in palette:
            raise InputError(
                f"{role}={word!r} is not in the palette; use one of {', '.join(palette)}, or pass "
                "palette= with its RGB triple"
            )
        shades = [as_whole(value) for value in palette[word]]
        if len(shades) != 3 or not all(value is not None and 0 <= value <= 255 for value in shades):
            raise InputError(
                f"the palette has {palette[word]!r} for {word!r}; give (red, green, blue), whole "
                "numbers from 0 to 255"
            )
    if len(set(words.values())) < len(words):
        raise InputError(
            f"the four colours must differ, but they are {', '.join(words.values())}; change the "
            "repeated one"
        )
    sides = as_whole(grid), as_whole(tile_px)
    if None in sides or grid < 2 or tile_px < 1:
        raise InputError(
            f"grid is {grid} and tile_px is {tile_px}; use 2 tiles per side or more, of a pixel or "
            "more"
        )
    grid, tile_px = sides  # type: ignore[assignment]
    margin = whole_number("margin", margin, 0, "give a whole number of pixels, 0 or more")
    tile, _ = check_tile(tile, grid)

    color: Any = {role: tuple(map(int, palette[word])) for role, word in words.items()}
    board = Canvas(grid, tile_px, margin, template).board
    return Trial(
        name=name or f"{odd}/{other} on {background}/{other_background} at {tile[0]},{tile[1]}",
        prompt=prompt(ODD_QUESTION, template),
        images=odd_one_out(board, color, tile, grid),
        answers={**words, "none": NOTHING_ODD},
        tile=tile,
        grid=grid,
        expected=EXPECTED,
    )


def odd_one_out(
    board: Callable[[T, Mapping[tuple[int, int], T]], Image],
    looks: Mapping[str, T],
    tile: tuple[int, int],
    grid: int,
) -> dict[str, Image]:
    """Condition → its picture: clean, recolored, erased, swapped and moved.

    Args:
        board: draws a picture, from the look of its tiles, and a mapping with the looks of
            exceptions.
        looks: role → the look of a tile that shows its word.
        tile: (row, column) of the odd tile.
        grid: tiles per side.
    """
    background = looks["background"]
    return {
        "clean": board(background, {tile: looks["odd"]}),
        "recolored": board(background, {tile: looks["other"]}),
        "erased": board(background, {}),
        "swapped": board(looks["other_background"], {}),
        "moved": board(background, {moved_tile(tile, grid): looks["odd"]}),
    }


def published_trial(canvas: Canvas = PUBLISHED_CANVAS) -> Trial:
    """The stimulus of the published LLaVA-1.5 experiment: its own blue and green, measured from the
    published picture, and the tile at row 10, column 9.

    Args:
        canvas: for a model other than LLaVA-1.5, with 24 × 24 places (`Vlm.canvas`).
    """
    palette = {**PALETTE, "blue": (0, 176, 240), "green": (0, 176, 80)}
    if not isinstance(canvas, Canvas):
        raise InputError(f"canvas is a {type(canvas).__name__}; give a model's, model.canvas")
    return rgb_trial(palette=palette, name="published", **asdict(canvas))


def draw(
    canvas: Canvas, words: Sequence[str], n: int, seed: int, fixed: Mapping[str, Any]
) -> list[Trial]:
    """``n`` trials balanced over colours and tiles; `rgb_circuit.rgb_trials` draws them for a
    model.

    Every run of ``len(words)`` trials uses each word once per role, and no tile repeats before all
    were used.

    Args:
        words: the colours to draw from.
        seed: the same seed gives the same trials.
        fixed: any of ``odd, other, background, other_background, tile, palette`` of `rgb_trial`,
            held fixed.

    Raises:
        InputError: as `rgb_trial`; or too few words left to draw from.

    Warns:
        UserWarning: some trials have the same pictures, since too much is fixed.

    Examples:
        >>> words = ["red", "green", "blue", "cyan"]
        >>> trials = draw(PUBLISHED_CANVAS, words, n=4, seed=0, fixed={"odd": "red"})
        >>> {trial.answers["odd"] for trial in trials}
        {'red'}
    """
    draws = balanced(
        COLOR_ROLES, words, canvas.grid, n, seed, fixed, called="colours", also=("palette",)
    )
    trials = [rgb_trial(**drawn, **asdict(canvas)) for drawn in draws]
    return [replace(trial, name=f"{index:03d} {trial.name}") for index, trial in enumerate(trials)]


TASK = replace(SAID, vocabulary=dict(PALETTE), draw=draw)
