"""What the game shows a model is what its rules say, told here again in plain loops: words that the
model can say, each as often in each role, on its own grid, in its own conversation."""

import families
import numpy as np
import pytest
import torch
from families import FAMILIES, NAMES
from PIL import Image

import rgb_circuit as rgb
from rgb_circuit.conversation.answers import preferred, written
from rgb_circuit.keeping.manifest import manifest
from rgb_circuit.models import small
from rgb_circuit.models.random import random_llava
from rgb_circuit.prompts.inputs import inputs_of
from rgb_circuit.stimuli.drawing import form_at, words_at, words_for
from rgb_circuit.stimuli.tasks import find

QUESTION = "Which color is the odd color out? Respond in one word"
COLORS = {
    "red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0),
    "cyan": (0, 255, 255), "purple": (160, 32, 240), "orange": (255, 165, 0), "black": (0, 0, 0),
    "brown": (139, 69, 19), "gray": (128, 128, 128),
}  # fmt: skip
ROLES = ("odd", "other", "background", "other_background")


@pytest.fixture(scope="module", params=["toy", "planted", *NAMES])
def model(request):
    if request.param in FAMILIES:
        parts = families.built(request.param)
        return rgb.wrap(*parts, name=request.param, tiles=FAMILIES[request.param].tiles)
    return rgb.load(request.param)


def picture(model, canvas, tiles):
    """A canvas of one colour with tiles of other colours, as numbers."""
    side, px = model.layout.picture_px, model.layout.tile_px
    pixels = np.full((side, side, 3), canvas, np.uint8)
    for (row, column), color in tiles.items():
        pixels[row * px : (row + 1) * px, column * px : (column + 1) * px] = color
    return pixels


@torch.no_grad()
def words_of(model):
    """The palette's words that are one token, written as the model writes on a board with a red
    tile."""
    asked = model.template.replace("{question}", QUESTION)
    middle = model.grid[0] // 2, model.grid[1] // 2
    board = Image.fromarray(picture(model, COLORS["blue"], {middle: COLORS["red"]}))
    inputs = inputs_of(model.processor, model.layout, [asked], [board])
    chances = model.nnsight._module(**inputs).logits[0, -1].float().softmax(-1)
    likeliest, tokenizer = chances.topk(min(64, len(chances))), model.processor.tokenizer
    last = int(inputs["input_ids"][0, -1])
    for form in preferred(tokenizer, last, likeliest.indices.tolist(), likeliest.values.tolist()):
        ids = {word: written(tokenizer, asked, word, form) for word in COLORS}
        if any(ids.values()):
            return [word for word, some in ids.items() if some and len(some) == 1]


def told(model, words, n, seed, fixed):
    """What each trial is: (name, prompt, answers, tile, condition → pixels)."""
    random, grid = np.random.default_rng(seed), model.grid[0]
    palette = fixed.get("palette", COLORS)
    free = [word for word in words if word not in fixed.values()]
    order, places = [], []
    for number in range(n):
        turn = number % len(free)
        if turn == 0:
            order = [str(word) for word in random.permutation(free)]
        if not places:
            places = [divmod(place + 1, grid) for place in random.permutation(grid * grid - 1)]
        place, given = places.pop(), iter(order[turn:] + order[:turn])
        said = {role: fixed[role] if role in fixed else next(given) for role in ROLES}
        row, column = fixed.get("tile", place)
        away = (row + grid // 2) % grid, (column + grid // 2) % grid
        away = (grid - 1, grid - 1) if away == (0, 0) else away
        odd, other, ground, other_ground = (palette[said[role]] for role in ROLES)
        yield (
            f"{number:03d} {said['odd']}/{said['other']} on {said['background']}/"
            f"{said['other_background']} at {row},{column}",
            model.template.replace("{question}", QUESTION),
            {**said, "none": "white"},
            (row, column),
            {
                "clean": picture(model, ground, {(row, column): odd}),
                "recolored": picture(model, ground, {(row, column): other}),
                "erased": picture(model, ground, {}),
                "swapped": picture(model, other_ground, {}),
                "moved": picture(model, ground, {away: odd}),
            },
        )


@pytest.mark.parametrize(
    "n, seed, fixed",
    [
        (20, 0, {}),
        (9, 3, {"odd": "red", "background": "blue"}),
        (5, 4, {"other": "green", "tile": (1, 2)}),
        (5, 5, {"palette": COLORS | {"blue": (0, 176, 240)}}),
    ],
)
def test_trials_are_what_the_rules_of_the_game_say(model, n, seed, fixed):
    words = words_of(model)
    assert list(words_for(model, find("rgb"))) == words and len(words) >= 4
    trials = rgb.rgb_trials(model, n, seed, **fixed)
    for trial, (name, prompt, answers, tile, pictures) in zip(
        trials, told(model, words, n, seed, fixed), strict=True
    ):
        assert (trial.name, trial.prompt, dict(trial.answers)) == (name, prompt, answers)
        assert (trial.tile, trial.grid, dict(trial.prompts)) == (tile, model.grid[0], {})
        assert dict(trial.expected) == {
            "clean": "odd", "recolored": "other", "erased": "none", "swapped": "none", "moved": "odd"
        }  # fmt: skip
        assert list(trial.images) == list(pictures)
        for condition, pixels in pictures.items():
            np.testing.assert_array_equal(np.asarray(trial.images[condition]), pixels)


def test_the_words_of_the_game_take_no_forward_beyond_those_of_loading(random_folder, monkeypatch):
    model = rgb.load(random_folder["grouped"])
    monkeypatch.setattr(type(model.nnsight), "trace", lambda *_, **__: pytest.fail("a forward"))
    assert len(words_for(model, find("rgb"))) == 8 and len(rgb.rgb_trials(model, 2)) == 2


@pytest.fixture
def animals(monkeypatch):
    """A model that knows animals, and not one colour of the palette."""
    monkeypatch.setattr(small, "COLORS", ("cat", "dog", "owl", "fox"))
    return rgb.wrap(*random_llava(layers=2), name="animals")


def asking(model):
    images = {name: Image.new("RGB", (24, 24), name) for name in ("red", "blue")}
    images = {"clean": images["red"], "other": images["blue"]}
    return rgb.Trial("t", model.prompt("Which is it?"), images, {"one": "cat", "two": "owl"})


def test_a_model_without_colour_words_answers_in_its_own(animals):
    played = rgb.play(animals, [asking(animals)], progress=False)
    assert {"logit_one", "logit_two"} <= set(played.columns) and len(played) == 2
    swept = rgb.patch_heads(animals, [asking(animals)], target="other", progress=False)
    assert len(swept) == len(animals.heads()) * 2 and (swept["effect"] != 0).any()


def test_a_model_without_colour_words_cannot_play_the_game_and_is_told_before_any_forward(
    animals, no_forward
):
    assert (
        words_for(animals, find("rgb")) == ()
        and form_at(animals, animals.prompt("Anything?"), COLORS) is None
    )
    with pytest.raises(
        rgb.InputError,
        match="no word of the task .* is in the vocabulary of .animals., so it cannot play the RGB "
        "game",
    ):
        rgb.rgb_trials(animals, 4)


def test_the_manifest_of_a_model_without_colour_words_says_so(animals):
    recorded = manifest(animals, [asking(animals)], {})
    assert recorded["words"] == [] and recorded["answer_form"] is None


def test_words_of_another_task_are_found_in_the_same_way(animals):
    prompt = animals.prompt("Which is it?")
    found = words_at(animals, prompt, ("owl", "horse", "cat"), least=2, taken=["white"])
    assert found == ("owl", "cat")


def test_own_words_for_colours_are_drawn_where_the_palettes_are_unknown(animals):
    palette = {"cat": (1, 2, 3), "dog": (4, 5, 6), "owl": (7, 8, 9), "fox": (10, 11, 12)}
    (trial,) = rgb.rgb_trials(animals, 1, palette=palette)
    assert {trial.answers[role] for role in ROLES} == set(palette)
