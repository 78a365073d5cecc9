"""Binding as a task: `binding.toml`, and the code that draws its pictures: two shapes in two
colours, one of which the question is about."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...boards import Canvas
from ...boards.balanced import in_turn
from ...errors import InputError
from ...trial import Trial
from ..task_file import read_task
from . import things
from .things import Thing


def draw(
    canvas: Canvas, words: Sequence[str], n: int, seed: int, fixed: Mapping[str, Any]
) -> list[Trial]:
    """``n`` trials, balanced over colours and over the shape in question;
    `rgb_circuit.stimuli.drawing.trials` draws them for a model.

    Args:
        words: colours that the model can say.
        seed: the same seed gives the same trials.
        fixed: any of ``color, other_color, template``, held fixed.

    Raises:
        InputError: a colour that cannot be drawn, one colour for both shapes, an unknown template,
            or a board or tiles that are too small.
    """
    template, roles = things.ways(TASK, canvas, n, seed, fixed, TASK.drawn)
    for role in TASK.drawn:
        things.check_word(role, fixed, words)
    rng = np.random.default_rng(seed)
    # Each colour in turn; the other shape gets the next one.
    free = [word for word in words if word not in fixed.values()]
    if len(free) + len(fixed.keys() & TASK.drawn.keys()) < 2 or fixed.get("color", 0) == fixed.get(
        "other_color", 1
    ):
        raise InputError(
            "two shapes are to have two colours, and there are not two; hold fewer of them fixed, "
            "or use a model that says more of the words"
        )
    order = in_turn([*rng.permutation(free)], len(free), rng) if free else [None]
    turns = in_turn([(at, about) for at in range(len(order)) for about in roles], n, rng)
    trials = []
    for index, ((at, about), shapes) in enumerate(
        zip(turns, things.pairs_of_shapes(TASK, n, seed))
    ):
        drawn = {"color": order[at], "other_color": order[(at + 1) % len(order)]}
        colors = {role: str(fixed.get(role, color)) for role, color in drawn.items()}
        trials.append(
            _trial(canvas, index, colors, about, shapes, template, things.rng_of(seed, index))
        )
    return trials


def _trial(canvas, index, colors, about, shapes, template, rng):
    grid = canvas.grid
    cells = [divmod(int(cell), grid) for cell in rng.permutation(grid * grid)[:4]]
    here, elsewhere = cells[:2], cells[2:]
    right, other = colors.values()
    pair = [Thing(shapes[0], right), Thing(shapes[1], other)]
    recolored = [Thing(shapes[0], other), Thing(shapes[1], right)]
    pictures = {
        "clean": dict(zip(here, pair)),
        "exchanged": dict(zip(here, recolored)),
        "places": dict(zip(here[::-1], pair)),
        "moved": dict(zip(elsewhere, pair)),
    }
    names = ("shape", "other shape")
    return things.trial(
        TASK,
        canvas,
        f"{index:03d} {right} {shapes[0]}, {other} {shapes[1]}",
        pictures,
        colors,
        {condition: dict(zip(names, picture)) for condition, picture in pictures.items()},
        template=template,
        about=about,
        slots=dict(zip(("shape", "other_shape"), shapes)),
    )


TASK = replace(read_task(Path(__file__).with_suffix(".toml")), draw=draw)
