"""Spatial relation as a task: `relation.toml`, and the code that draws its pictures.

Two shapes share a row or a column, in one half of it; the moved picture has them in the other half.
So where a shape is on the board says little about where it is relative to the other.
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

OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}


def draw(
    canvas: Canvas, words: Sequence[str], n: int, seed: int, fixed: Mapping[str, Any]
) -> list[Trial]:
    """``n`` trials, balanced over relations and over the shape in question;
    `rgb_circuit.stimuli.drawing.trials` draws them for a model.

    Args:
        words: relations that the model can say; a relation is used only if its opposite is among
            them.
        seed: the same seed gives the same trials.
        fixed: ``relation`` or ``template``, held fixed.

    Raises:
        InputError: a relation that cannot be asked for, an unknown template, or a board or tiles
            that are too small.
    """
    template, roles = things.ways(TASK, canvas, n, seed, fixed, ("relation",))
    relations = [word for word in words if OPPOSITE[word] in words]
    things.check_word("relation", fixed, relations)
    chosen = [fixed["relation"]] if "relation" in fixed else relations
    options = [(relation, about) for relation in chosen for about in roles]
    turns = in_turn(options, n, np.random.default_rng(seed))
    shapes = things.pairs_of_shapes(TASK, n, seed)
    return [
        _trial(canvas, index, relation, about, pair, template, things.rng_of(seed, index))
        for index, ((relation, about), pair) in enumerate(zip(turns, shapes))
    ]


def _trial(canvas, index, relation, about, shapes, template, rng):
    cells, moved = _cells(canvas.grid, relation, rng)
    colors = [str(color) for color in rng.permutation(COLORS)[:4]]
    pair, repainted = (
        [Thing(shape, color) for shape, color in zip(shapes, some)]
        for some in (colors[:2], colors[2:])
    )
    pictures = {
        "clean": dict(zip(cells, pair)),
        "exchanged": dict(zip(cells[::-1], pair)),
        "moved": dict(zip(moved, pair)),
        "recolored": dict(zip(cells, repainted)),
    }
    names = ("shape", "other shape")
    return things.trial(
        TASK,
        canvas,
        f"{index:03d} {shapes[0]} {TASK.vocabulary[relation]} {shapes[1]}",
        pictures,
        {"relation": relation, "opposite": OPPOSITE[relation]},
        {condition: dict(zip(names, picture)) for condition, picture in pictures.items()},
        template=template,
        about=about,
        slots=dict(zip(("shape", "other_shape"), shapes)),
    )


def _cells(grid, relation, rng):
    """The cells of the shape in question and of the other, and the cells that both move to: first
    in one half of a line, then in the other half of another line."""
    half = grid // 2
    starts = rng.permutation([0, grid - half])
    lines = rng.permutation(grid)[:2]
    pairs = []
    for start, line in zip(starts, lines):
        first, second = sorted(int(start + step) for step in rng.permutation(half)[:2])
        if relation in ("right", "below"):
            first, second = second, first
        cells = [(int(line), first), (int(line), second)]
        pairs.append(cells if relation in ("left", "right") else [cell[::-1] for cell in cells])
    return pairs


TASK = replace(read_task(Path(__file__).with_suffix(".toml")), draw=draw)
