"""The stimuli are what the experiment says they are."""

from collections import Counter

import numpy as np
import pytest

import rgb_circuit as rgb
from rgb_circuit.boards import Canvas, moved_tile
from rgb_circuit.conversation import TEMPLATE
from rgb_circuit.models.small import COLORS
from rgb_circuit.stimuli.drawing import words_for
from rgb_circuit.stimuli.tasks import find
from rgb_circuit.stimuli.tasks.rgb import PALETTE, draw

WORDS = list(COLORS)


def board(grid):
    return Canvas(grid, 4, 0, TEMPLATE)


def tiles(image, grid):
    """Colour of each tile, checked to be uniform: (grid, grid, 3)."""
    pixels = np.asarray(image)
    side = pixels.shape[0] // grid
    blocks = pixels.reshape(grid, side, grid, side, 3).swapaxes(1, 2)
    assert (blocks == blocks[:, :, :1, :1]).all()
    return blocks[:, :, 0, 0]


def test_the_default_trial_is_the_seeds():
    trial = rgb.rgb_trial()
    assert (
        trial.prompt
        == "USER: <image>\nWhich color is the odd color out? Respond in one word\nASSISTANT:"
    )
    assert trial.answers == {
        "odd": "red",
        "other": "green",
        "background": "blue",
        "other_background": "yellow",
        "none": "white",
    }
    assert set(trial.images) == {"clean", "recolored", "erased", "swapped", "moved"}
    assert all(image.size == (336, 336) for image in trial.images.values())


def test_each_condition_differs_from_its_canvas_in_the_named_tile_only():
    trial = rgb.rgb_trial(tile=(3, 17))
    wanted = {
        "clean": ((3, 17), "red"),
        "recolored": ((3, 17), "green"),
        "moved": (moved_tile((3, 17), 24), "red"),
    }
    for condition, image in trial.images.items():
        canvas = "yellow" if condition == "swapped" else "blue"
        expected = np.broadcast_to(PALETTE[canvas], (24, 24, 3)).copy()
        if condition in wanted:
            place, word = wanted[condition]
            expected[place] = PALETTE[word]
        np.testing.assert_array_equal(tiles(image, 24), expected)


def test_the_published_stimulus_has_the_measured_colours():
    trial = rgb.published_trial()
    assert trial.tile == (10, 9)
    clean, recolored = tiles(trial.images["clean"], 24), tiles(trial.images["recolored"], 24)
    assert tuple(clean[0, 0]) == (0, 176, 240) and tuple(clean[10, 9]) == (255, 0, 0)
    assert tuple(recolored[10, 9]) == (0, 176, 80)


def test_moved_is_another_place_and_never_the_first():
    for grid in (6, 7, 24):
        for row in range(grid):
            for column in range(grid):
                assert moved_tile((row, column), grid) not in {(row, column), (0, 0)}


def test_samples_are_balanced_over_colours_and_tiles_and_repeatable():
    trials = draw(board(8), WORDS, 64, 5, {})
    for role in ("odd", "other", "background", "other_background"):
        assert set(Counter(trial.answers[role] for trial in trials).values()) == {8}
    places = [trial.tile for trial in trials]
    assert (0, 0) not in places and len(set(places)) == 63
    again = draw(board(8), WORDS, 64, 5, {})
    assert [trial.name for trial in again] == [trial.name for trial in trials]
    assert [trial.name for trial in draw(board(8), WORDS, 64, 6, {})] != [
        trial.name for trial in trials
    ]
    assert len({trial.name for trial in trials}) == 64


def test_the_palette_has_the_words_of_real_tokenizers_and_the_small_models_lack_them():
    """LLaVA-1.5 has one token for Red, Green, Blue, Orange, Black, Brown and Gray only."""
    assert rgb.PALETTE["brown"] == (139, 69, 19) and rgb.PALETTE["gray"] == (128, 128, 128)
    assert set(PALETTE) == {*WORDS, "brown", "gray"}
    trial = rgb.rgb_trial(odd="brown", other="gray")
    assert tuple(tiles(trial.images["clean"], 24)[10, 9]) == (139, 69, 19)
    assert tuple(tiles(trial.images["recolored"], 24)[10, 9]) == (128, 128, 128)
    for name in ("toy", "planted"):
        model = rgb.load(name)
        assert words_for(model, find("rgb")) == COLORS


def test_what_is_fixed_stays_fixed():
    trials = draw(board(6), WORDS, 9, 0, dict(odd="red", tile=(2, 3)))
    assert {trial.answers["odd"] for trial in trials} == {"red"} and {
        trial.tile for trial in trials
    } == {(2, 3)}
    assert all(
        "red" not in (trial.answers["other"], trial.answers["background"]) for trial in trials
    )


FIXED = dict(odd=WORDS[0], other=WORDS[1], background=WORDS[2], other_background=WORDS[3])


@pytest.mark.parametrize("words", [WORDS, WORDS[:4]])
def test_trials_with_everything_fixed_are_said_to_be_all_alike(words):
    with pytest.warns(
        UserWarning, match="these 5 trials are all alike.*leave some of tile, odd, .* ask for 1"
    ):
        trials = draw(board(6), words, 5, 0, {**FIXED, "tile": (2, 3)})
    assert len({tuple(image.tobytes() for image in trial.images.values()) for trial in trials}) == 1


def test_more_trials_than_there_are_pictures_are_said_to_be_fewer():
    with pytest.warns(
        UserWarning, match="these 40 trials are of only 35 kinds.*leave some of odd.* ask for 35"
    ):
        draw(board(6), WORDS, 40, 0, FIXED)


def test_trials_that_differ_are_no_reason_to_warn(recwarn):
    draw(board(6), WORDS, 35, 0, FIXED)
    draw(board(6), WORDS, 1, 0, {**FIXED, "tile": (2, 3)})
    assert not recwarn.list


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (dict(odd="mauve"), ["mauve", "palette"]),
        (dict(odd="blue"), ["blue", "differ"]),
        (dict(tile=(24, 0)), ["(24, 0)", "24 × 24", "23"]),
        (dict(tile=(-1, 0)), ["(-1, 0)"]),
        (dict(grid=1, tile=(0, 0)), ["grid is 1"]),
        (dict(palette={**PALETTE, "red": (300, 0, 0)}), ["(300, 0, 0)", "'red'", "255"]),
        (dict(palette={**PALETTE, "red": "#ff0000"}), ["#ff0000", "'red'"]),
    ],
)
def test_bad_trials_are_refused_in_a_sentence(arguments, parts):
    with pytest.raises(rgb.InputError) as error:
        rgb.rgb_trial(**arguments)
    assert all(part in str(error.value) for part in parts)


def test_own_colours_can_be_given():
    trial = rgb.rgb_trial(odd="mauve", palette={**PALETTE, "mauve": (224, 176, 255)})
    assert tuple(tiles(trial.images["clean"], 24)[10, 9]) == (224, 176, 255)


@pytest.mark.parametrize(
    "changes, parts",
    [
        (dict(images={"corrupted": rgb.rgb_trial().images["clean"]}), ["corrupted", "clean"]),
        (
            dict(
                images={
                    "clean": rgb.rgb_trial().images["clean"],
                    "small": rgb.rgb_trial(grid=8, tile=(1, 1)).images["clean"],
                }
            ),
            ["small", "112 × 112", "336"],
        ),
        (dict(answers={}), ["answers"]),
        (dict(prompt="Which color?"), ["<image>"]),
        (dict(tile=(30, 1), grid=24), ["(30, 1)", "24"]),
        (dict(tile=(3, 1), grid=None), ["(3, 1)", "grid"]),
        (dict(expected={"clean": "purple"}), ["purple", "odd"]),
    ],
)
def test_a_hand_made_trial_is_checked(changes, parts):
    game = rgb.rgb_trial()
    arguments = dict(
        name="mine",
        prompt=game.prompt,
        images=game.images,
        answers=game.answers,
        tile=game.tile,
        grid=game.grid,
    )
    with pytest.raises(rgb.InputError) as error:
        rgb.Trial(**{**arguments, **changes})
    assert all(part in str(error.value) for part in parts)
