"""Counting as a task: `counting.toml`, and the code that draws its pictures.

Each dot has its own colour, so a model that counts colours answers correctly, until the recolored
picture shows the same dots in one colour.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...boards import Canvas
from ...boards.balanced import in_turn
from ...trial import Trial
from ..task_file import read_task
from . import things
from .things import COLORS, Thing


def draw(
    canvas: Canvas, words: Sequence[str], n: int, seed: int, fixed: Mapping[str, Any]
) -> list[Trial]:
    """``n`` trials, balanced over numbers; `rgb_circuit.stimuli.drawing.trials` draws them for a
    model.

    Args:
        words: numbers that the model can say; a number is used only if the next one is among them.
        seed: the same seed gives the same trials.
        fixed: ``number`` or ``template``, held fixed.

    Raises:
        InputError: a number that cannot be asked for, an unknown template, or a board or tiles that
            are too small.
    """
    template, roles = things.ways(TASK, canvas, n, seed, fixed, ("number",))
    numbers = [word for word in words if str(int(word) + 1) in words]
    things.check_word("number", fixed, numbers)
    chosen = [fixed["number"]] if "number" in fixed else numbers
    options = [(number, about) for number in chosen for about in roles]
    turns = in_turn(options, n, np.random.default_rng(seed))
    return [
        _trial(canvas, index, number, about, template, things.rng_of(seed, index))
        for index, (number, about) in enumerate(turns)
    ]


def _trial(canvas, index, number, about, template, rng):
    n, grid = int(number), canvas.grid
    cells = [divmod(int(cell), grid) for cell in rng.permutation(grid * grid)[: 2 * n + 1]]
    here, elsewhere, added = cells[:n], cells[n:-1], cells[-1]
    *colors, other = (str(color) for color in rng.permutation(COLORS)[: n + 2])
    clean = _dots(here, colors)
    pictures = {
        "clean": clean,
        "one_more": clean | _dots([added], colors[n:]),
        "moved": _dots(elsewhere, colors),
        "recolored": _dots(here, [other] * n),
    }
    return things.trial(
        TASK,
        canvas,
        f"{index:03d} {number} dots",
        pictures,
        {"number": number, "more": str(n + 1)},
        dict.fromkeys(pictures, {"dot": added}),
        template=template,
        about=about,
        tile=added,
    )


def _dots(cells, colors):
    return {cell: Thing("circle", color) for cell, color in zip(cells, colors)}


TASK = replace(read_task(Path(__file__).with_suffix(".toml")), draw=draw)
