"""Odd one out by shape: its pictures are exact minimal pairs, and a planted circuit that plays it
is found with the RGB game's hypotheses, in words of shapes."""

import re
from collections import Counter
from functools import cache

import numpy as np
import pytest

import rgb_circuit as rgb
from analyses import roles
from analyses.command import main
from rgb_circuit.boards import Canvas, moved_tile
from rgb_circuit.conversation import TEMPLATE
from rgb_circuit.models.planted import MODERATE_NOISE, SHAPES, planted
from rgb_circuit.models.small import save
from rgb_circuit.stimuli.drawing import trials
from rgb_circuit.stimuli.tasks import find
from rgb_circuit.stimuli.tasks.shape import LEAST_PX, glyph

TASK, GAME = find("shape"), find("rgb")
WORDS = list(TASK.vocabulary)
# Of the planted model, and of two families: tiles of other sizes, and pixels that no tile covers.
BOARDS = [
    Canvas(6, 4, 0, TEMPLATE),
    Canvas(24, 14, 0, TEMPLATE),
    Canvas(5, 7, 3, "Q: <image> {question} A:"),
]


def tiles(image, board):
    """(row, column) → the pixels of a tile, and those that no tile covers."""
    pixels, px = np.asarray(image), board.tile_px
    assert pixels.shape == (board.grid * px + board.margin,) * 2 + (3,)
    side = board.grid * px
    shown = {
        (row, column): pixels[row * px : (row + 1) * px, column * px : (column + 1) * px]
        for row in range(board.grid)
        for column in range(board.grid)
    }
    return shown, [pixels[side:], pixels[:, side:]]


@cache
def drawn(word, px):
    return np.where(glyph(word, px), 0, 255)[..., None].repeat(3, axis=2)


# Pictures


@pytest.mark.parametrize("px", range(LEAST_PX, 33))
def test_no_two_shapes_look_alike_and_none_is_made_of_others(px):
    shown = np.stack([glyph(word, px).ravel() for word in WORDS])
    apart = [(one != other).sum() for number, one in enumerate(shown) for other in shown[:number]]
    assert min(apart) >= 2
    assert np.linalg.matrix_rank(np.c_[shown, np.ones(len(shown))]) == len(WORDS)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: f"{board.grid} of {board.tile_px} px")
def test_conditions_differ_in_what_they_should_and_in_no_other_pixel(board):
    for trial in TASK.draw(board, WORDS, 8, 0, {}):
        word = trial.answers
        for condition, image in trial.images.items():
            ground = word["other_background" if condition == "swapped" else "background"]
            place, odd = {
                "clean": (trial.tile, word["odd"]),
                "recolored": (trial.tile, word["other"]),
                "moved": (moved_tile(trial.tile, board.grid), word["odd"]),
            }.get(condition, (None, None))
            shown, margins = tiles(image, board)
            for where, pixels in shown.items():
                wanted = drawn(odd if where == place else ground, board.tile_px)
                assert np.array_equal(pixels, wanted)
            assert all((margin == 255).all() for margin in margins)


def test_samples_are_balanced_over_shapes_and_tiles_and_repeatable():
    sample = TASK.draw(BOARDS[0], WORDS, 64, 5, {})
    for role in TASK.drawn:
        assert Counter(trial.answers[role] for trial in sample) == dict.fromkeys(WORDS, 8)
    places = Counter(trial.tile for trial in sample)
    assert (0, 0) not in places and len(places) == 35 and max(places.values()) == 2
    again = TASK.draw(BOARDS[0], WORDS, 64, 5, {})
    assert [trial.content for trial in again] == [trial.content for trial in sample]


@pytest.mark.parametrize(
    "board, fixed, said",
    [
        (BOARDS[0], {"odd": "red"}, "odd='red' is no shape that can be drawn; use one of square"),
        (BOARDS[0], {"odd": "star", "background": "star"}, "one word for two roles"),
        (BOARDS[0], {"tile": (6, 0)}, "6 × 6"),
        (
            BOARDS[0],
            {"palette": {}},
            "cannot fix palette; what can be fixed is odd, other, background",
        ),
        (Canvas(6, 3, 0, TEMPLATE), {}, "tiles of 3 px are too small to tell shapes apart"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_a_sentence(board, fixed, said):
    with pytest.raises(rgb.InputError, match=said):
        TASK.draw(board, WORDS, 2, 0, fixed)


# Words


def test_it_is_the_game_in_words_of_shapes():
    assert TASK.question == "Which shape is the odd shape out? Respond in one word"
    assert [one.text for one in TASK.predictions] == [one.text for one in GAME.predictions]
    assert [one.name.replace("shape", "color") for one in TASK.hypotheses] == [
        one.name for one in GAME.hypotheses
    ]
    said = str(TASK.plain())
    assert (
        "color" not in said.replace("recolored", "")
        and "colour" not in said
        and "white" not in said
    )


def test_a_model_without_words_for_shapes_is_told_before_any_forward(monkeypatch):
    toy = rgb.load("toy")
    monkeypatch.setattr(type(toy.nnsight), "trace", lambda *_, **__: pytest.fail("a forward"))
    with pytest.raises(
        rgb.InputError, match="no word of the task .square, circle, ring, …. is in the voc"
    ):
        trials(toy, TASK, 2)


# A circuit that is known


@pytest.fixture(scope="module", params=[0.0, MODERATE_NOISE], ids=["no noise", "moderate noise"])
def known(request):
    """A model that plays, and head → the role that it was given."""
    model, processor, truth = planted(game=SHAPES, noise=request.param)
    named = truth[truth["role"] != "none"].set_index(["layer", "head"])["role"].to_dict()
    return rgb.wrap(model, processor, name="planted shapes"), named


def test_every_answer_is_one_token(known):
    model, _ = known
    pieces = rgb.answer_pieces(model, trials(model, TASK, 8), progress=False)
    assert pieces["whole"].all() and set(pieces["answer"]) == {*WORDS, "none"}


@pytest.mark.parametrize("n", [16, 32])
def test_every_planted_head_has_its_role_and_no_other_has_one(known, n):
    model, named = known
    sample = trials(model, TASK, n)
    assert rgb.play(model, sample, progress=False)["correct"].mean() == 1
    table = roles.roles(model, sample, task=TASK, progress=False)
    found = table[table["role"] != "none"].set_index(["layer", "head"])["role"].to_dict()
    assert found == named and set(named.values()) == {
        "shape extractor", "POI localization", "background writer",
    }  # fmt: skip


def test_a_run_from_the_command_speaks_of_shapes_to_the_end_of_its_page(tmp_path):
    folder = str(save(*planted(game=SHAPES)[:2], tmp_path / "planted_shapes"))
    out = tmp_path / "out"
    command = [
        "run",
        "--task",
        "shape",
        "--model",
        folder,
        "--trials",
        "12",
        "--quiet",
        "--out",
        str(out),
    ]
    assert main(command) == 0
    page = (out / "report.html").read_text()
    assert (
        "4 shape extractors (3.0, 3.2, 4.1, 4.3), 1 POI head (2.1) and 2 background writers" in page
    )
    text = re.sub(r"(?s)<(script|style|svg)\b.*?</\1>|<[^>]*>", " ", page)
    said = set(re.findall(r"(?i)[^.]*\bcolou?rs?\b[^.]*", text))
    # Of the maps, not of the tiles.
    assert {sentence.strip() for sentence in said} <= {"All maps have the same colour scale"}
    assert rgb.read_run(out).trials[0].answers.keys() == TASK.roles.keys()
