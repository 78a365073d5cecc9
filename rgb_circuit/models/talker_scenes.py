"""What the talker is trained on: scenes of cells, and questions about them with their answers.

A scene is three tables of numbers, of which `pixels` makes the picture that the tasks draw and the
processor shows. Every scene is asked four questions, so that one picture teaches several things.
Some pairs never occur in training; what a model answers about these it has not learnt by heart
(``kept_out`` of `Scenes`):

- an odd colour and a background, an odd shape and the others, two shapes beside one another, a
  shape and its colour: those that stand four apart in their lists;
- a number of dots and a number of their colours: those that add up to seven.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from transformers import LlavaProcessor

from ..stimuli.tasks import tasks
from ..stimuli.tasks.rgb import NOTHING_ODD, PALETTE
from ..stimuli.tasks.shape import SHAPES, glyph

# What cells hold: nothing, a shape, or a colour from edge to edge.
FORMS = ("nothing", *SHAPES, "tile")
EMPTY, DOT, TILE = FORMS.index("nothing"), FORMS.index("circle"), FORMS.index("tile")
SHAPE_WORDS, COLOR_WORDS = tuple(SHAPES), tuple(PALETTE)
INKS = {**PALETTE, "white": (255, 255, 255)}
BLACK, WHITE = tuple(INKS).index("black"), tuple(INKS).index("white")
NUMBERS = ("1", "2", "3", "4", "5", "6")
# Of both axes, the word for the lesser and the greater coordinate.
SIDES = (("above", "below"), ("left", "right"))
SIDE_OF = tasks()["relation"].vocabulary


def _ways(name: str, checks: bool = False) -> tuple[str, ...]:
    """A task's ways of asking: those answered by its words, or by yes or no."""
    task = tasks()[name]
    templates = [way.question for way in task.templates.values() if bool(way.words) == checks]
    return tuple(templates) if checks else (task.question, *templates)


def _second_question(name: str) -> str:
    second = tasks()[name].second_question
    assert second is not None
    return second[0]


ODD_COLOR = (*_ways("rgb"), "What color is the odd one out?")
BACKGROUND = (_second_question("rgb"), "What color is the background?")
COLOR_THERE = ("Is there a {color} tile? Answer yes or no",)
ODD_SHAPE = (*_ways("shape"), "What shape is the odd one out?")
COMMON_SHAPE = (_second_question("shape"), "What shape are the others?")
SHAPE_THERE = ("Is there a {shape}? Answer yes or no",)
COUNT, COUNT_CHECK = _ways("counting"), _ways("counting", checks=True)
RELATION, RELATION_CHECK = _ways("relation"), _ways("relation", checks=True)
BINDING, BINDING_CHECK = _ways("binding"), _ways("binding", checks=True)


@dataclass(frozen=True)
class Asked:
    """A question about a scene.

    Attributes:
        skill: what it asks for.
        text: the question.
        answer: the word that is right.
    """

    skill: str
    text: str
    answer: str


@dataclass(frozen=True)
class Scenes:
    """Some scenes, as tables of numbers.

    Attributes:
        forms: (scene, place) what a cell holds, an index into ``FORMS``; places count row
            by row.
        inks: (scene, place) its colour, an index into ``INKS``.
        grounds: (scene,) the colour of the canvas.
        asked: of each scene, its questions, equally many.
        kept_out: (scene,) whether it shows a pair that training never shows.
    """

    forms: np.ndarray
    inks: np.ndarray
    grounds: np.ndarray
    asked: list[list[Asked]]
    kept_out: np.ndarray


def four_apart(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Whether two words stand four apart in their lists, by their numbers there.

    Examples:
        >>> import numpy as np
        >>> four_apart(np.array([0, 1]), np.array([4, 4])).tolist()
        [True, False]
    """
    return abs(first - second) == 4


def pixels(scenes: Scenes, tools: LlavaProcessor) -> torch.Tensor:
    """The (scene, 3, height, width) pixels that the processor makes of the scenes' pictures."""
    look, px = tools.image_processor, tools.patch_size
    colors = np.array(list(INKS.values())) / 255
    colors = ((colors - look.image_mean) / look.image_std).astype(np.float32)
    drawn = [
        np.zeros((px, px), bool),
        *(glyph(word, px) for word in SHAPES),
        np.ones((px, px), bool),
    ]
    inside = np.array(drawn)[scenes.forms][..., None]
    ink, ground = colors[scenes.inks][:, :, None, None], colors[scenes.grounds][:, None, None, None]
    cells = np.where(inside, ink, ground)
    scene, places = scenes.forms.shape
    grid = round(places**0.5)
    board = cells.reshape(scene, grid, grid, px, px, 3).transpose(0, 5, 1, 3, 2, 4)
    return torch.from_numpy(np.ascontiguousarray(board.reshape(scene, 3, grid * px, grid * px)))


def draw(family: str, rng: np.random.Generator, n: int, grid: int, held: bool = False) -> Scenes:
    """``n`` scenes of a family with their questions.

    Args:
        family: a key of ``FAMILIES``.
        grid: cells per side.
        held: show pairs that are kept out of training and nothing else, instead of all others.
    """
    return FAMILIES[family](rng, n, grid, held)


def together(scenes: list[Scenes]) -> Scenes:
    """Several batches of scenes as one."""
    return Scenes(
        np.concatenate([some.forms for some in scenes]),
        np.concatenate([some.inks for some in scenes]),
        np.concatenate([some.grounds for some in scenes]),
        [about for some in scenes for about in some.asked],
        np.concatenate([some.kept_out for some in scenes]),
    )


def texts() -> tuple[str, ...]:
    """All words that questions and answers are made of: the questions, and what they can be filled
    with."""
    about_one_that_is_odd = (
        ODD_COLOR + BACKGROUND + COLOR_THERE + ODD_SHAPE + COMMON_SHAPE + SHAPE_THERE
    )
    about_things = COUNT + COUNT_CHECK + RELATION + RELATION_CHECK + BINDING + BINDING_CHECK
    questions = about_one_that_is_odd + about_things
    return (
        *questions,
        *COLOR_WORDS,
        *SHAPE_WORDS,
        "none",
        *NUMBERS,
        *SIDE_OF.values(),
        "yes",
        "no",
    )


def _odd_color(rng, n, grid, held):
    odd, ground = _pairs(rng, n, held, COLOR_WORDS, COLOR_WORDS)
    solid = (rng.random(n) < 0.15) & (not held)
    forms, inks = _canvas(n, grid)
    _put(forms, inks, rng.integers(0, grid**2, n), np.where(solid, EMPTY, TILE), odd)
    asked = []
    for scene in range(n):
        tile, canvas = COLOR_WORDS[odd[scene]], COLOR_WORDS[ground[scene]]
        absent = [word for word in COLOR_WORDS if word not in (tile, canvas)]
        asked.append(
            [
                Asked("odd color", _one(rng, ODD_COLOR), NOTHING_ODD if solid[scene] else tile),
                Asked("background", _one(rng, BACKGROUND), canvas),
                _check(rng, "color there", COLOR_THERE, not solid[scene], color=tile),
                _check(rng, "color there", COLOR_THERE, False, color=_one(rng, absent)),
            ]
        )
    return Scenes(forms, inks, ground, asked, four_apart(odd, ground) & ~solid)


def _odd_shape(rng, n, grid, held):
    odd, common = _pairs(rng, n, held, SHAPE_WORDS, SHAPE_WORDS)
    solid = (rng.random(n) < 0.15) & (not held)
    forms = np.repeat(common[:, None] + 1, grid**2, 1)
    inks = np.full(forms.shape, BLACK)
    _put(forms, inks, rng.integers(0, grid**2, n), np.where(solid, common, odd) + 1, BLACK)
    asked = []
    for scene in range(n):
        tile, others = SHAPE_WORDS[odd[scene]], SHAPE_WORDS[common[scene]]
        absent = [word for word in SHAPE_WORDS if word not in (tile, others)]
        asked.append(
            [
                Asked("odd shape", _one(rng, ODD_SHAPE), "none" if solid[scene] else tile),
                Asked("common shape", _one(rng, COMMON_SHAPE), others),
                _check(rng, "shape there", SHAPE_THERE, not solid[scene], shape=tile),
                _check(rng, "shape there", SHAPE_THERE, False, shape=_one(rng, absent)),
            ]
        )
    return Scenes(forms, inks, np.full(n, WHITE), asked, four_apart(odd, common) & ~solid)


def _counting(rng, n, grid, held):
    forms, inks = _canvas(n, grid)
    asked, apart = [], np.zeros(n, bool)
    for scene in range(n):
        dots = int(rng.integers(4 if held else 1, len(NUMBERS) + 1))
        kinds = (
            7 - dots
            if held
            else _one(rng, [kinds for kinds in range(1, dots + 1) if dots + kinds != 7])
        )
        colors = rng.permutation(len(COLOR_WORDS))[:kinds]
        cells = rng.permutation(grid**2)[:dots]
        forms[scene, cells] = DOT
        inks[scene, cells] = [*colors, *rng.choice(colors, dots - kinds)]
        apart[scene] = dots + kinds == 7
        right = NUMBERS[dots - 1]
        wrong = _one(rng, [word for word in NUMBERS if word != right])
        asked.append(
            [
                *(Asked("counting", text, right) for text in COUNT),
                _check(rng, "counting, yes or no", COUNT_CHECK, True, answer=right),
                _check(rng, "counting, yes or no", COUNT_CHECK, False, answer=wrong),
            ]
        )
    return Scenes(forms, inks, np.full(n, WHITE), asked, apart)


def _relation(rng, n, grid, held):
    first, second = _pairs(rng, n, held, SHAPE_WORDS, SHAPE_WORDS)
    forms, inks = _canvas(n, grid)
    colors = _different(rng, n, len(COLOR_WORDS))
    # Both in one row or in one column.
    axis, line = rng.integers(0, 2, n), rng.integers(0, grid, n)
    here, there = _different(rng, n, grid)[:2]
    for shape, along, color in ((first, here, colors[0]), (second, there, colors[1])):
        place = np.where(axis == 0, along * grid + line, line * grid + along)
        _put(forms, inks, place, shape + 1, color)
    asked = []
    for scene in range(n):
        sides = SIDES[axis[scene]]
        right, opposite = sides if here[scene] < there[scene] else sides[::-1]
        pair = {"shape": SHAPE_WORDS[first[scene]], "other_shape": SHAPE_WORDS[second[scene]]}
        turned = dict(zip(pair, reversed(pair.values())))
        asked.append(
            [
                Asked("relation", _one(rng, RELATION).format(**pair), right),
                Asked("relation", _one(rng, RELATION).format(**turned), opposite),
                *(_side_check(rng, right, word, pair, turned) for word in (right, opposite)),
            ]
        )
    return Scenes(forms, inks, np.full(n, WHITE), asked, four_apart(first, second))


def _side_check(rng, right, word, pair, turned):
    """Whether what is at the ``right`` side is at that which the ``word`` says, asked of a pair or
    turned."""
    as_is = rng.random() < 0.5
    return _check(
        rng,
        "relation, yes or no",
        RELATION_CHECK,
        (word == right) == as_is,
        **(pair if as_is else turned),
        answer=SIDE_OF[word],
    )


def _binding(rng, n, grid, held):
    # Both shapes and both colours differ, and both pairs are of the kind asked for.
    shape, color = np.zeros((2, n), int), np.zeros((2, n), int)
    again = np.ones(n, bool)
    while again.any():
        for which in (0, 1):
            pair = _pairs(rng, n, held, SHAPE_WORDS, COLOR_WORDS)
            shape[which], color[which] = np.where(again, pair, (shape[which], color[which]))
        again = (shape[0] == shape[1]) | (color[0] == color[1])
    forms, inks = _canvas(n, grid)
    for which, place in enumerate(_different(rng, n, grid**2)[:2]):
        _put(forms, inks, place, shape[which] + 1, color[which])
    asked = []
    for scene in range(n):
        shapes = [SHAPE_WORDS[number] for number in shape[:, scene]]
        colors = [COLOR_WORDS[number] for number in color[:, scene]]
        which, whose = rng.integers(0, 2, 2)
        named = {"shape": shapes[which], "answer": colors[whose]}
        absent = [word for word in SHAPE_WORDS if word not in shapes]
        asked.append(
            [
                Asked("binding", _one(rng, BINDING).format(shape=shapes[0]), colors[0]),
                Asked("binding", _one(rng, BINDING).format(shape=shapes[1]), colors[1]),
                _check(rng, "binding, yes or no", BINDING_CHECK, which == whose, **named),
                _check_there(rng, shapes[which], absent),
            ]
        )
    apart = four_apart(shape[0], color[0]) | four_apart(shape[1], color[1])
    return Scenes(forms, inks, np.full(n, WHITE), asked, apart)


def _check_there(rng, present, absent):
    is_there = rng.random() < 0.5
    shape = present if is_there else _one(rng, absent)
    return _check(rng, "shape there", SHAPE_THERE, is_there, shape=shape)


FAMILIES: dict[str, Callable[..., Scenes]] = {
    "odd color": _odd_color,
    "odd shape": _odd_shape,
    "counting": _counting,
    "relation": _relation,
    "binding": _binding,
}


def _pairs(rng, n, held, firsts, seconds):
    """Numbers of ``n`` pairs of words, which are never the same word twice."""
    first, second = np.divmod(np.arange(len(firsts) * len(seconds)), len(seconds))
    fits = four_apart(first, second) == held
    if firsts == seconds:
        fits &= first != second
    chosen = rng.choice(np.flatnonzero(fits), n)
    return first[chosen], second[chosen]


def _different(rng, n, high):
    """(number, scene): for each of ``n`` scenes all numbers below ``high``, in an order of its
    own."""
    return np.argsort(rng.random((n, high)), 1).T


def _canvas(n, grid):
    """Forms and inks of ``n`` empty scenes."""
    return np.full((n, grid**2), EMPTY), np.zeros((n, grid**2), int)


def _put(forms, inks, place, form, ink):
    scenes = np.arange(len(forms))
    forms[scenes, place] = form
    inks[scenes, place] = ink


def _one(rng, among):
    return among[rng.integers(len(among))]


def _check(rng, skill, questions, truth, **slots):
    """A question that is answered by yes or no."""
    return Asked(skill, _one(rng, questions).format(**slots), "yes" if truth else "no")
