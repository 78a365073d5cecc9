"""Code shared by the tasks about things on a white board: a thing is a shape in a colour, in a cell
of the board.

Each picture of a trial is drawn from a map of its things, so two pictures differ only in the cells
whose things differ.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from PIL import Image

from ...boards import Canvas
from ...boards.balanced import check_request, in_turn
from ...conversation import prompt
from ...errors import InputError
from ...task import PLAIN, Task, fill
from ...trial import Trial
from .rgb import PALETTE
from .shape import glyph

Cell = tuple[int, int]
COLORS = tuple(PALETTE)
# So that pairs side by side have two halves of a board to move between.
LEAST_GRID = 4


@dataclass(frozen=True)
class Thing:
    """A shape of `rgb_circuit.stimuli.tasks.shape.SHAPES` in a colour of the palette."""

    shape: str
    color: str


def board(canvas: Canvas, things: Mapping[Cell, Thing]) -> Image.Image:
    """A white picture with things in some cells (row, column).

    Examples:
        >>> canvas = Canvas(4, 6, 0, "<image> {question}")
        >>> board(canvas, {(0, 1): Thing("square", "red")}).getpixel((9, 3))
        (255, 0, 0)
    """
    px = canvas.tile_px
    side = canvas.grid * px + canvas.margin
    pixels = np.full((side, side, 3), 255, dtype=np.uint8)
    for (row, column), thing in things.items():
        cell = pixels[row * px : (row + 1) * px, column * px : (column + 1) * px]
        cell[glyph(thing.shape, px)] = PALETTE[thing.color]
    return Image.fromarray(pixels)


def trial(
    task: Task,
    canvas: Canvas,
    name: str,
    pictures: Mapping[str, Mapping[Cell, Thing]],
    words: Mapping[str, str],
    places: Mapping[str, Mapping[str, Cell]],
    *,
    template: str = PLAIN,
    about: str = "",
    slots: Mapping[str, str] | None = None,
    tile: Cell | None = None,
) -> Trial:
    """A trial of a task, asked with one of its templates.

    Args:
        pictures: condition → cell → thing, for the conditions with a picture of their own.
        words: role → its word.
        places: condition → name → the cell that it names.
        about: the role whose word a yes-or-no question is about.
        slots: slot of the question → its text, in addition to "answer".
        tile: the marked cell.
    """
    asked, chosen = task.asked_by(template), task.templates.get(template)
    answers, filled = dict(words), dict(slots or {})
    if chosen is not None and chosen.words:
        is_right, is_not = chosen.words
        answers = {role: is_right if role == about else is_not for role in words}
        # The question's wording for a word, such as "left of" for "left".
        filled["answer"] = task.vocabulary.get(words[about]) or words[about]
    shown = {condition: about.picture or condition for condition, about in task.conditions.items()}
    drawn = {condition: board(canvas, things) for condition, things in pictures.items()}
    return Trial(
        name=name,
        prompt=prompt(fill(asked.question, filled), canvas.template),
        images={condition: drawn[picture] for condition, picture in shown.items()},
        answers=answers,
        tile=tile,
        grid=canvas.grid,
        expected={name: about.right for name, about in task.conditions.items() if about.right},
        prompts={
            condition: prompt(fill(about.question, filled), canvas.template)
            for condition, about in asked.conditions.items()
            if about.question
        },
        # No two trials share a scene.
        cluster=name,
        strata={"template": template},
        boxes={
            condition: {named: box(canvas, cell) for named, cell in places[picture].items()}
            for condition, picture in shown.items()
        },
    )


def box(canvas: Canvas, cell: Cell) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a cell in pixels."""
    (row, column), px = cell, canvas.tile_px
    return column * px, row * px, (column + 1) * px, (row + 1) * px


def ways(
    task: Task,
    canvas: Canvas,
    n: int,
    seed: int,
    fixed: Mapping[str, Any],
    held: Iterable[str],
) -> tuple[str, tuple[str, ...]]:
    """The template of the trials, and the roles whose word the questions may name: those of the
    right and of a wrong answer, if the template is answered by yes or no; else none.

    Args:
        held: roles that may be held fixed, in addition to the template.

    Raises:
        InputError: an invalid request, a board that is too small, or an unknown template.
    """
    check_request(n, seed, fixed, (*held, "template"))
    if canvas.grid < LEAST_GRID:
        raise InputError(
            f"a board of {canvas.grid} × {canvas.grid} cells is too small for things side by side; "
            f"use a model that sees {LEAST_GRID} × {LEAST_GRID} image tokens or more"
        )
    template = fixed.get("template", PLAIN)
    task.asked_by(template)
    asks_yes_or_no = template != PLAIN and task.templates[template].words
    return template, tuple(task.drawn) if asks_yes_or_no else ("",)


def pairs_of_shapes(task: Task, n: int, seed: int) -> list[tuple[str, str]]:
    """The shape in question and the other one, for ``n`` trials; every pair in turn."""
    return in_turn(list(permutations(task.slots["shape"], 2)), n, np.random.default_rng([seed, 0]))


def rng_of(seed: int, index: int) -> np.random.Generator:
    """The generator for a trial's places and colours, whatever the number of trials."""
    return np.random.default_rng([seed, 1, index])


def check_word(role: str, fixed: Mapping[str, Any], words: Sequence[str]) -> None:
    """Raise InputError if a role is held at a word outside ``words``, or ``words`` is empty."""
    if role in fixed and fixed[role] not in words or not words:
        raise InputError(
            f"{role} cannot be {fixed.get(role, 'drawn')}; the words that it can be are "
            f"{', '.join(words) or 'none'}"
        )
