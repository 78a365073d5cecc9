"""What the talker is trained on: scenes of cells, and questions about them with their answers.

A scene is three tables of numbers, of which `pixels` makes the picture that the tasks draw and the
processor shows. Every scene is asked four questions, so that one picture teaches several things.
Some pairs never occur in training in the scenes of a family; what a model answers about these it
has not learnt by heart (``kept_out`` of `Scenes`):

- an odd colour and a background, an odd shape and the others, two shapes beside one another, a
  shape and its colour: those that stand four apart in their lists;
- a number of dots and a number of their colours: those that add up to seven.

``CROWDED`` are families of scenes with many things. None shows an odd tile on a ground, or a shape
in a colour that is asked for, that make a pair that is kept out; an odd shape may have its partner
among two or three others.
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
        color: where it is asked whether a shape has a colour, the one that it has.
    """

    skill: str
    text: str
    answer: str
    color: str = ""


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


def draw(
    family: str,
    rng: np.random.Generator,
    n: int,
    grid: int,
    held: bool = False,
    fair: bool = True,
) -> Scenes:
    """``n`` scenes of a family with their questions.

    Args:
        family: a key of ``FAMILIES`` or ``CROWDED``.
        grid: cells per side.
        held: show pairs that are kept out of training and nothing else, instead of all others;
            of ``CROWDED``, nothing changes.
        fair: no question of a scene of training names a pair that is kept out. Unless they are
            fair, the answer to these is always no, and is learnt by heart.
    """
    if family in CROWDED:
        return CROWDED[family](rng, n, grid)
    return FAMILIES[family](rng, n, grid, held, fair)


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


def _odd_color(rng, n, grid, held, fair):
    odd, ground = _pairs(rng, n, held, COLOR_WORDS, COLOR_WORDS)
    solid = (rng.random(n) < 0.15) & (not held)
    forms, inks = _canvas(n, grid)
    _put(forms, inks, rng.integers(0, grid**2, n), np.where(solid, EMPTY, TILE), odd)
    asked = []
    for scene in range(n):
        tile, canvas = COLOR_WORDS[odd[scene]], COLOR_WORDS[ground[scene]]
        absent = _absent(COLOR_WORDS, odd[scene], ground[scene], fair and not held)
        asked.append(
            [
                Asked("odd color", _one(rng, ODD_COLOR), NOTHING_ODD if solid[scene] else tile),
                Asked("background", _one(rng, BACKGROUND), canvas),
                _check(rng, "color there", COLOR_THERE, not solid[scene], color=tile),
                _check(rng, "color there", COLOR_THERE, False, color=_one(rng, absent)),
            ]
        )
    return Scenes(forms, inks, ground, asked, four_apart(odd, ground) & ~solid)


def _odd_shape(rng, n, grid, held, fair):
    odd, common = _pairs(rng, n, held, SHAPE_WORDS, SHAPE_WORDS)
    solid = (rng.random(n) < 0.15) & (not held)
    forms = np.repeat(common[:, None] + 1, grid**2, 1)
    inks = np.full(forms.shape, BLACK)
    _put(forms, inks, rng.integers(0, grid**2, n), np.where(solid, common, odd) + 1, BLACK)
    asked = []
    for scene in range(n):
        tile, others = SHAPE_WORDS[odd[scene]], SHAPE_WORDS[common[scene]]
        absent = _absent(SHAPE_WORDS, odd[scene], common[scene], fair and not held)
        asked.append(
            [
                Asked("odd shape", _one(rng, ODD_SHAPE), "none" if solid[scene] else tile),
                Asked("common shape", _one(rng, COMMON_SHAPE), others),
                _check(rng, "shape there", SHAPE_THERE, not solid[scene], shape=tile),
                _check(rng, "shape there", SHAPE_THERE, False, shape=_one(rng, absent)),
            ]
        )
    return Scenes(forms, inks, np.full(n, WHITE), asked, four_apart(odd, common) & ~solid)


def _counting(rng, n, grid, held, fair):
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


def _relation(rng, n, grid, held, fair):
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


def _binding(rng, n, grid, held, fair):
    # Both shapes and both colours differ, and both pairs are of the kind asked for.
    shape, color = np.zeros((2, n), int), np.zeros((2, n), int)
    again = np.ones(n, bool)
    while again.any():
        for which in (0, 1):
            pair = _pairs(rng, n, held, SHAPE_WORDS, COLOR_WORDS)
            shape[which], color[which] = np.where(again, pair, (shape[which], color[which]))
        again = (shape[0] == shape[1]) | (color[0] == color[1])
        if fair:
            again |= four_apart(shape[0], color[1]) | four_apart(shape[1], color[0])
    forms, inks = _canvas(n, grid)
    for which, place in enumerate(_different(rng, n, grid**2)[:2]):
        _put(forms, inks, place, shape[which] + 1, color[which])
    asked = []
    for scene in range(n):
        shapes = [SHAPE_WORDS[number] for number in shape[:, scene]]
        colors = [COLOR_WORDS[number] for number in color[:, scene]]
        which, *whose = rng.integers(0, 2, 3 if fair else 2)
        told, checked = ((which,), (0, 1)) if fair else ((0, 1), (which,))
        absent = [word for word in SHAPE_WORDS if word not in shapes]
        asked.append(
            [
                *(
                    Asked("binding", _one(rng, BINDING).format(shape=shapes[one]), colors[one])
                    for one in told
                ),
                *(
                    _check_color(
                        rng, "binding, yes or no", shape[one, scene], *color[[other, one], scene]
                    )
                    for one, other in zip(checked, whose)
                ),
                _check_there(rng, shapes[which], absent),
            ]
        )
    apart = four_apart(shape[0], color[0]) | four_apart(shape[1], color[1])
    return Scenes(forms, inks, np.full(n, WHITE), asked, apart)


def _check_there(rng, present, absent):
    is_there = rng.random() < 0.5
    shape = present if is_there else _one(rng, absent)
    return _check(rng, "shape there", SHAPE_THERE, is_there, shape=shape)


def _odd_among_tiles(rng, n, grid):
    """Beside the odd tile there are others of one or two colours, two or three of each."""
    odd, ground = _pairs(rng, n, False, COLOR_WORDS, COLOR_WORDS)
    solid = rng.random(n) < 0.15
    forms, inks = _canvas(n, grid)
    asked = []
    for scene in range(n):
        tile, canvas = odd[scene], ground[scene]
        others = np.setdiff1d(np.arange(len(COLOR_WORDS)), [tile, canvas])
        kinds = rng.permutation(others)[: rng.integers(1, 3)]
        shown = [*np.repeat(kinds, rng.integers(2, 4, len(kinds))), *([tile] * (not solid[scene]))]
        cells = rng.permutation(grid**2)[: len(shown)]
        forms[scene, cells], inks[scene, cells] = TILE, shown
        absent = np.setdiff1d(others, kinds)
        right = NOTHING_ODD if solid[scene] else COLOR_WORDS[tile]
        there, not_there = (COLOR_WORDS[_one(rng, some)] for some in (shown, absent))
        asked.append(
            [
                Asked("odd color among tiles", _one(rng, ODD_COLOR), right),
                Asked("background behind tiles", _one(rng, BACKGROUND), COLOR_WORDS[canvas]),
                _check(rng, "color among tiles", COLOR_THERE, True, color=there),
                _check(rng, "color among tiles", COLOR_THERE, False, color=not_there),
            ]
        )
    return Scenes(forms, inks, ground, asked, np.zeros(n, bool))


def _odd_among_shapes(rng, n, grid):
    """Beside the odd shape there are two or three others, any share of each; in half of the scenes
    all are coloured. No pair is kept out: a shape that is never odd among one other alone is so
    among that and more."""
    places, numbers = grid**2, np.arange(len(SHAPE_WORDS))
    forms, inks = np.zeros((2, n, places), int)
    asked = []
    for scene in range(n):
        solid = rng.random() < 0.15
        tile, *kinds = rng.permutation(numbers)[: rng.integers(3, 5)]
        share = rng.dirichlet(np.ones(len(kinds)))
        shown = np.array([*kinds, *kinds, *rng.choice(kinds, places - 2 * len(kinds), p=share)])
        if not solid:
            shown[-1] = tile
        forms[scene] = rng.permutation(shown) + 1
        inks[scene] = rng.integers(0, len(COLOR_WORDS), places) if rng.random() < 0.5 else BLACK
        some = _one(rng, kinds) if solid or rng.random() < 0.5 else tile
        none = _one(rng, np.setdiff1d(numbers, [tile, *kinds]))
        right = "none" if solid else SHAPE_WORDS[tile]
        asked.append(
            [
                *(Asked("odd shape among shapes", text, right) for text in ODD_SHAPE),
                _check(rng, "shape among shapes", SHAPE_THERE, True, shape=SHAPE_WORDS[some]),
                _check(rng, "shape among shapes", SHAPE_THERE, False, shape=SHAPE_WORDS[none]),
            ]
        )
    return Scenes(forms, inks, np.full(n, WHITE), asked, np.zeros(n, bool))


def _binding_among_many(rng, n, grid):
    """Four shapes up to all, each in a colour of its own, none a pair that is kept out. What two
    shapes let a model guess half of the time must be looked up here."""
    forms, inks = _canvas(n, grid)
    shapes = np.arange(len(SHAPE_WORDS))
    asked = []
    for scene in range(n):
        bound = rng.permutation(len(COLOR_WORDS))[: len(shapes)]
        while four_apart(shapes, bound).any():
            bound = rng.permutation(len(COLOR_WORDS))[: len(shapes)]
        shown = rng.permutation(shapes)[: rng.integers(4, len(shapes) + 1)]
        cells = rng.permutation(grid**2)[: len(shown)]
        forms[scene, cells], inks[scene, cells] = shown + 1, bound[shown]
        told, *checked = shown[:4]
        text = _one(rng, BINDING).format(shape=SHAPE_WORDS[told])
        asked.append(
            [
                Asked("binding among many", text, COLOR_WORDS[bound[told]]),
                *(_check_among(rng, shape, bound, shown) for shape in checked),
            ]
        )
    return Scenes(forms, inks, np.full(n, WHITE), asked, np.zeros(n, bool))


def _check_among(rng, shape, bound, shown):
    """Whether a shape has its colour, or one that another shape has."""
    is_so = rng.random() < 0.5
    others = [bound[other] for other in shown if other != shape]
    other = _one(rng, [color for color in others if not four_apart(shape, color)])
    said = bound[shape] if is_so else other
    return _check_color(rng, "binding among many, yes or no", shape, said, bound[shape])


def _check_color(rng, skill, shape, said, has):
    """Whether a shape has the colour that is said, by their numbers."""
    text = _one(rng, BINDING_CHECK).format(shape=SHAPE_WORDS[shape], answer=COLOR_WORDS[said])
    return Asked(skill, text, "yes" if said == has else "no", COLOR_WORDS[has])


FAMILIES: dict[str, Callable[..., Scenes]] = {
    "odd color": _odd_color,
    "odd shape": _odd_shape,
    "counting": _counting,
    "relation": _relation,
    "binding": _binding,
}
CROWDED: dict[str, Callable[..., Scenes]] = {
    "odd among tiles": _odd_among_tiles,
    "odd among shapes": _odd_among_shapes,
    "binding among many": _binding_among_many,
}


def _pairs(rng, n, held, firsts, seconds):
    """Numbers of ``n`` pairs of words, which are never the same word twice."""
    first, second = np.divmod(np.arange(len(firsts) * len(seconds)), len(seconds))
    fits = four_apart(first, second) == held
    if firsts == seconds:
        fits &= first != second
    chosen = rng.choice(np.flatnonzero(fits), n)
    return first[chosen], second[chosen]


def _absent(words, odd, other, fair):
    """Words of neither; if ``fair``, of none that the other makes a pair with that is kept out."""
    numbers = np.arange(len(words))
    fits = (numbers != odd) & (numbers != other)
    if fair:
        fits &= ~four_apart(numbers, other)
    return [words[number] for number in numbers[fits]]


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
