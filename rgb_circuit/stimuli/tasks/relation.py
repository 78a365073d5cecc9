"""Spatial relation as a task: `relation.toml`, and what draws its pictures.

Two shapes stand in one row or one column, in one half of it, and in the moved picture in the other
half: where a shape stands on the board says little about where it stands beside the other.
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
    """``n`` trials, balanced over relations and over what is asked about;
    `rgb_circuit.stimuli.drawing.trials` draws them for a model.

    Args:
        words: relations that the model can say; one is asked for where its opposite is among them
            too.
        seed: the same seed gives the same trials.
        fixed: ``relation`` or ``template``, held fixed.

    Raises:
        InputError: a relation that cannot be asked for, a template that there is not, or a board or
            tiles that are too small.
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
    """The cells of the shape that is asked about and of the other, and where both are moved to:
    each time in one half of a line, which is another line and the other half."""
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
