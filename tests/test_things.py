"""Counting, relation and binding: their pictures are exact minimal pairs, their answers balanced,
and each is asked in three ways that mean the same."""

import math
import re
from collections import Counter

import numpy as np
import pytest
from vocabularies import llama_like

import rgb_circuit as rgb
from analyses.command import main
from analyses.evidence import lint, rivals
from rgb_circuit.boards import Canvas
from rgb_circuit.conversation import TEMPLATE
from rgb_circuit.conversation.answers import FORMS, drawable, in_likeliest
from rgb_circuit.models import small
from rgb_circuit.models.random import random_llava
from rgb_circuit.models.small import save
from rgb_circuit.stimuli.tasks import find, task_of
from rgb_circuit.stimuli.tasks.relation import OPPOSITE
from rgb_circuit.stimuli.tasks.rgb import PALETTE
from rgb_circuit.stimuli.tasks.shape import SHAPES, glyph

NAMES = ("counting", "relation", "binding")
# Of small models, and of two families: tiles of other sizes, and pixels that no tile covers.
BOARDS = [
    Canvas(6, 4, 0, TEMPLATE),
    Canvas(24, 14, 0, TEMPLATE),
    Canvas(5, 7, 3, "Q: <image> {question} A:"),
]
WAYS = ("plain", "short", "yes or no")


def drawn(name, n=24, seed=0, board=BOARDS[0], **fixed):
    task = find(name)
    return task.draw(board, list(task.vocabulary), n, seed, fixed)


def seen(image, board):
    """(row, column) → (shape, colour) of what stands on a white board, told from its pixels
    alone."""
    pixels, px = np.asarray(image), board.tile_px
    assert pixels.shape == (board.grid * px + board.margin,) * 2 + (3,)
    there, rest = {}, pixels.copy()
    for row, column in np.ndindex(board.grid, board.grid):
        where = slice(row * px, (row + 1) * px), slice(column * px, (column + 1) * px)
        ink = (pixels[where] != 255).any(axis=2)
        if ink.any():
            shape = next(shape for shape in SHAPES if (glyph(shape, px) == ink).all())
            (color,) = {tuple(pixel) for pixel in pixels[where][ink].tolist()}
            there[row, column] = shape, next(word for word in PALETTE if PALETTE[word] == color)
            rest[where] = 255
    assert (rest == 255).all()
    return there


def cell(trial, condition, name, board):
    left, top, right, bottom = trial.boxes[condition][name]
    assert right - left == bottom - top == board.tile_px
    return int(top) // board.tile_px, int(left) // board.tile_px


# Pictures


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: f"{board.grid} of {board.tile_px} px")
def test_a_dot_more_is_all_that_differs_and_controls_keep_the_number(board):
    for trial in drawn("counting", 12, board=board):
        there = {name: seen(image, board) for name, image in trial.images.items()}
        clean, n = there["clean"], int(trial.answers["number"])
        assert len(clean) == n and {shape for shape, _ in clean.values()} == {"circle"}
        added = cell(trial, "one_more", "dot", board)
        assert added == trial.tile and added not in clean
        assert {place: dot for place, dot in there["one_more"].items() if place != added} == clean
        assert len(there["one_more"]) == int(trial.answers["more"]) == n + 1
        assert not there["moved"].keys() & clean.keys()
        assert sorted(there["moved"].values()) == sorted(clean.values())
        assert there["recolored"].keys() == clean.keys()
        colors = {name: {color for _, color in things.values()} for name, things in there.items()}
        assert len(colors["clean"]) == n and len(colors["one_more"]) == n + 1
        assert len(colors["recolored"]) == 1 and not colors["recolored"] & colors["one_more"]


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: f"{board.grid} of {board.tile_px} px")
def test_relations_hold_in_pixels_and_only_the_order_of_the_shapes_differs(board):
    directions = {(0, -1): "left", (0, 1): "right", (-1, 0): "above", (1, 0): "below"}
    for trial in drawn("relation", 12, board=board):
        there = {name: seen(image, board) for name, image in trial.images.items()}
        for name in trial.images:
            shape, other = (cell(trial, name, one, board) for one in ("shape", "other shape"))
            between = tuple(int(np.sign(one - another)) for one, another in zip(shape, other))
            right = "relation" if name == "asked" else trial.expected[name]
            assert directions[between] == trial.answers[right]
            assert f"the {there[name][shape][0]}: left" in trial.prompt
            assert f"below the {there[name][other][0]}?" in trial.prompt
        clean = there["clean"]
        assert dict(zip(clean, [*clean.values()][::-1])) == there["exchanged"]
        assert not there["moved"].keys() & clean.keys()
        assert sorted(there["moved"].values()) == sorted(clean.values())
        assert there["recolored"].keys() == clean.keys()
        colors = [color for name in ("clean", "recolored") for _, color in there[name].values()]
        assert len(set(colors)) == 4


def test_where_a_shape_stands_on_the_board_does_not_tell_the_relation():
    halves = Counter()
    for trial in drawn("relation", 64):
        row, column = cell(trial, "clean", "shape", BOARDS[0])
        word = trial.answers["relation"]
        halves[word, (column if word in ("left", "right") else row) < 3] += 1
        moved = cell(trial, "moved", "shape", BOARDS[0])
        axis = 1 if word in ("left", "right") else 0
        assert ((row, column)[axis] < 3) != (moved[axis] < 3)
    assert min(halves[word, half] for word in OPPOSITE for half in (True, False)) >= 4


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: f"{board.grid} of {board.tile_px} px")
def test_colors_or_shapes_are_exchanged_in_place(board):
    for trial in drawn("binding", 12, board=board):
        there = {name: seen(image, board) for name, image in trial.images.items()}
        clean = there["clean"]
        for name in trial.images:
            shape, color = there[name][cell(trial, name, "shape", board)]
            role = "color" if name == "asked" else trial.expected[name]
            assert f"the {shape}?" in trial.prompt and color == trial.answers[role]
        assert [*there["exchanged"]] == [*clean]
        assert [shape for shape, _ in there["exchanged"].values()] == [
            shape for shape, _ in clean.values()
        ]
        assert sorted(there["exchanged"].values()) != sorted(clean.values())
        assert dict(zip(clean, [*clean.values()][::-1])) == there["places"]
        assert not there["moved"].keys() & clean.keys()
        assert sorted(there["moved"].values()) == sorted(clean.values())


# Questions and answers


@pytest.mark.parametrize("name", ["relation", "binding"])
@pytest.mark.parametrize("way", WAYS)
def test_the_other_question_is_about_the_clean_picture_and_the_other_shape(name, way):
    for trial in drawn(name, 8, template=way):
        assert trial.sources["asked"] is trial.sources["clean"]
        assert trial.asked("asked") != trial.prompt and trial.asked("moved") == trial.prompt
        assert trial.expected["asked"] != trial.expected["clean"]
        shape, other = (
            seen(trial.images["clean"], BOARDS[0])[cell(trial, "clean", one, BOARDS[0])][0]
            for one in ("shape", "other shape")
        )
        exchanged = {shape: other, other: shape}
        said = re.sub("|".join(exchanged), lambda word: exchanged[word[0]], trial.prompt)
        assert said == trial.asked("asked")


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_balanced_and_draws_repeatable(name):
    task = find(name)
    sample = drawn(name, 60, seed=3)
    for role in task.drawn:
        counts = Counter(trial.answers[role] for trial in sample)
        assert len(counts) == {"counting": 5, "relation": 4, "binding": 10}[name]
        assert len(set(counts.values())) == 1
    again, other = drawn(name, 60, seed=3), drawn(name, 60, seed=4)
    assert [trial.content for trial in again] == [trial.content for trial in sample]
    assert not {trial.content for trial in other} & {trial.content for trial in sample}
    assert [trial.content for trial in drawn(name, 8, seed=3)] == [
        trial.content for trial in sample[:8]
    ]


@pytest.mark.parametrize("name", NAMES)
def test_yes_is_right_as_often_as_no_whatever_is_shown(name):
    task = find(name)
    first = task.right
    sample = drawn(name, 80, template="yes or no")
    assert Counter(trial.answers[first] for trial in sample) == {"yes": 40, "no": 40}
    assert all(sorted(trial.answers.values()) == ["no", "yes"] for trial in sample)
    shown = drawn(name, 72, template="yes or no", **{first: drawn(name, 1)[0].answers[first]})
    assert Counter(trial.answers[first] for trial in shown) == {"yes": 36, "no": 36}


def test_yes_means_that_the_picture_is_as_the_question_says():
    for trial in drawn("counting", template="yes or no"):
        number = trial.prompt.split("dots ")[1].split("?")[0]
        for condition, role in trial.expected.items():
            holds = len(seen(trial.images[condition], BOARDS[0])) == int(number)
            assert trial.answers[role] == ("yes" if holds else "no")
    for trial in drawn("binding", template="yes or no"):
        for condition, role in trial.expected.items():
            shape, color = trial.asked(condition).split("Is the ")[1].split("?")[0].split()
            holds = (shape, color) in seen(trial.images[condition], BOARDS[0]).values()
            assert trial.answers[role] == ("yes" if holds else "no")


@pytest.mark.parametrize("name", NAMES)
def test_trials_say_how_they_were_asked_and_that_they_share_no_scene(name):
    for way in WAYS:
        sample = drawn(name, 8, template=way)
        assert {trial.strata["template"] for trial in sample} == {way}
        assert len({trial.cluster for trial in sample}) == 8
        asked = find(name).asked_by(way)
        assert way == "yes or no" or {trial.prompt for trial in sample} <= {
            TEMPLATE.replace("{question}", question) for question in asked.questions
        }


def test_numbers_behind_a_space_of_their_own_are_drawn_and_read_behind_it():
    counting, vocabulary = find("counting"), llama_like()
    asked = TEMPLATE.replace("{question}", counting.question)
    for form in FORMS:
        found = drawable(vocabulary, asked, counting.vocabulary, form, 2, [], math.inf)
        assert found == list(counting.vocabulary)
    read = in_likeliest(
        vocabulary, asked, {"number": ("3",), "more": ("4",)}, ["space, as given"], "m", math.inf
    )
    assert read.prompt == asked + " "
    assert all(piece.whole for own in read.pieces.values() for piece in own)


@pytest.mark.parametrize(
    "name, fixed, said",
    [
        (
            "counting",
            {"number": "6"},
            "number cannot be 6; the words that it can be are 1, 2, 3, 4, 5",
        ),
        ("counting", {"more": "3"}, "cannot fix more; what can be fixed is number, template"),
        (
            "relation",
            {"relation": "over"},
            "relation cannot be over; the words that it can be are left",
        ),
        ("binding", {"color": "pink"}, "color cannot be pink; the words that it can be are red"),
        ("binding", {"color": "red", "other_color": "red"}, "two shapes are to have two colours"),
        (
            "binding",
            {"template": "rude"},
            "template names 'rude', which it does not have; use one of plain",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_a_sentence(name, fixed, said):
    with pytest.raises(rgb.InputError, match=said):
        drawn(name, 2, **fixed)


@pytest.mark.parametrize("name", NAMES)
def test_small_boards_and_small_vocabularies_are_refused_in_a_sentence(name):
    with pytest.raises(rgb.InputError, match="a board of 3 × 3 cells is too small"):
        drawn(name, 2, board=Canvas(3, 4, 0, TEMPLATE))
    task = find(name)
    with pytest.raises(rgb.InputError, match="none|there are not two"):
        task.draw(BOARDS[0], list(task.vocabulary)[:1], 2, 0, {})


def test_a_vocabulary_without_words_above_and_below_asks_for_left_and_right():
    task = find("relation")
    sample = task.draw(BOARDS[0], ["left", "right", "below"], 8, 0, {})
    assert Counter(trial.answers["relation"] for trial in sample) == {"left": 4, "right": 4}


@pytest.mark.parametrize("name", NAMES)
def test_each_hypothesis_can_fail_and_is_told_from_every_other(name):
    hypotheses = find(name).hypotheses
    assert len(hypotheses) >= 3 and rivals.covered(hypotheses) == []
    assert all(hypothesis.cites for hypothesis in hypotheses if hypothesis.in_circuit)
    assert not any(lint.vague(hypothesis) for hypothesis in hypotheses)


def test_a_template_is_held_fixed_as_a_word_is(tmp_path, capsys):
    asked = [text for way in WAYS for text in find("binding").asked_by(way).questions]
    known = small.tokenizer((*asked, "yes no"))
    folder = save(*random_llava(0, layers=2, vocabulary=known), tmp_path / "random")
    command = ["play", "--task", "binding", "--fix", "template=yes or no", "--model", str(folder)]
    assert main([*command, "--trials", "4", "--quiet"]) == 0
    assert re.search("expected '(yes|no)', answered", capsys.readouterr().out)
    trials = rgb.trials(rgb.load(str(folder)), "binding", 4, template="yes or no")
    assert trials[0].task == find("binding").asked_by("yes or no") and "asked" in trials[0].prompts
    assert task_of(trials).question == "Is the {shape} {answer}? Answer yes or no"
    with pytest.raises(rgb.InputError, match="cannot fix template; what can be fixed is odd"):
        rgb.trials(rgb.load(str(folder)), "rgb", 4, template="short")


def test_pictures_of_ones_own_in_common_names_are_of_no_task_that_ships():
    shown = drawn("binding", 1)[0]
    for task in rgb.tasks().values():
        conditions = [
            name for name in task.conditions if name in ("clean", "exchanged", "moved", "recolored")
        ]
        own = rgb.Trial(
            "a",
            shown.prompt,
            {
                name: shown.images[name if name in shown.images else "clean"]
                for name in conditions[:2]
            },
            {"right": "red", "other": "blue"},
            expected={"clean": "right"},
        )
        assert task_of([own]).name == "own pictures"
