"""The shipped toy plays the game, and its training draws the pictures that the processor makes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, LlavaForConditionalGeneration

import rgb_circuit.models
from rgb_circuit.boards import Canvas, draw
from rgb_circuit.conversation import TEMPLATE, prompt
from rgb_circuit.models import train_toy
from rgb_circuit.models.train_toy import COLORS, Recipe
from rgb_circuit.stimuli.tasks.rgb import (
    BACKGROUND_QUESTION,
    EXPECTED,
    NOTHING_ODD,
    ODD_QUESTION,
    PALETTE,
)
from rgb_circuit.stimuli.tasks.rgb import draw as draw_game

FOLDER = Path(rgb_circuit.models.__file__).parent / "toy"
RECIPE = Recipe()
HELD_OUT = train_toy.held_out_triples(RECIPE)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def toy():
    return LlavaForConditionalGeneration.from_pretrained(
        FOLDER
    ).eval(), AutoProcessor.from_pretrained(FOLDER)


@torch.no_grad()
def answers(toy, images, question=ODD_QUESTION):
    """The words that the toy answers, by way of the real processor."""
    model, processor = toy
    words = []
    for start in range(0, len(images), 128):
        some = images[start : start + 128]
        inputs = processor(text=[prompt(question)] * len(some), images=some, return_tensors="pt")
        words += processor.tokenizer.convert_ids_to_tokens(
            model(**inputs, logits_to_keep=1).logits[:, -1].argmax(-1)
        )
    return words


def picture(background, odd=None, place=None):
    tiles = {} if odd is None else {divmod(place, RECIPE.grid): PALETTE[odd]}
    return draw(PALETTE[background], tiles, RECIPE.grid, RECIPE.tile_px)


def held_out_sample(n):
    """``n`` of the (place, background, odd) triples that training never showed."""
    triples = [(place, b, o) for place, b, o in HELD_OUT.nonzero().tolist() if b != o]
    chosen = np.random.default_rng(0).permutation(len(triples))[:n]
    return [(place, COLORS[b], COLORS[o]) for place, b, o in (triples[index] for index in chosen)]


def share_right(given, expected):
    return np.mean([answer == word for answer, word in zip(given, expected, strict=True)])


def test_held_out_triples_are_answered_with_the_odd_colour(toy):
    triples = held_out_sample(256)
    given = answers(toy, [picture(background, odd, place) for place, background, odd in triples])
    assert share_right(given, [odd for _, _, odd in triples]) >= 0.98


@pytest.mark.parametrize("condition", EXPECTED)
def test_every_condition_of_sampled_trials_is_answered(toy, condition):
    trials = draw_game(Canvas(RECIPE.grid, RECIPE.tile_px, 0, TEMPLATE), COLORS, 64, 0, {})
    given = answers(toy, [trial.images[condition] for trial in trials])
    assert share_right(given, [trial.answers[EXPECTED[condition]] for trial in trials]) >= 0.98


def test_solid_canvases_have_nothing_odd(toy):
    assert answers(toy, [picture(color) for color in COLORS]) == [NOTHING_ODD] * len(COLORS)


def test_background_question_is_answered_with_the_background(toy):
    triples = held_out_sample(128)
    images = [picture(background, odd, place) for place, background, odd in triples] + [
        picture(color) for color in COLORS
    ]
    given = answers(toy, images, BACKGROUND_QUESTION)
    assert share_right(given[: len(triples)], [background for _, background, _ in triples]) >= 0.98
    assert given[len(triples) :] == list(COLORS)


def test_shipped_folder_is_small_and_holds_the_recipes_shape(toy):
    model, _ = toy
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 2_000_000
    assert type(model) is LlavaForConditionalGeneration
    built, _ = train_toy.build(RECIPE)
    assert {name: w.shape for name, w in model.state_dict().items()} == {
        name: w.shape for name, w in built.state_dict().items()
    }


def test_tensor_scenes_equal_the_processors_pictures(toy):
    _, processor = toy
    generator = torch.Generator().manual_seed(0)
    scenes = train_toy.draw_scenes(replace(RECIPE, batch=32), HELD_OUT, ODD_QUESTION, generator)
    names = np.array(COLORS)[scenes.tiles]
    drawn = [
        draw(
            PALETTE["black"],
            {place: PALETTE[str(name)] for place, name in np.ndenumerate(board)},
            RECIPE.grid,
            RECIPE.tile_px,
        )
        for board in names
    ]
    real = processor.image_processor(drawn, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(train_toy.pixels(scenes.tiles, processor), real, rtol=0, atol=1e-6)


@pytest.mark.parametrize("question", [ODD_QUESTION, BACKGROUND_QUESTION])
def test_training_never_shows_a_held_out_triple(question):
    generator = torch.Generator().manual_seed(0)
    scenes = train_toy.draw_scenes(replace(RECIPE, batch=4096), HELD_OUT, question, generator)
    shown = scenes.odd < len(COLORS)
    assert (
        shown.any()
        and not HELD_OUT[scenes.place[shown], scenes.background[shown], scenes.odd[shown]].any()
    )


def test_same_seed_gives_the_same_weights_and_training_lowers_the_loss():
    recipe = replace(RECIPE, steps=30, batch=16, warmup=5)
    (one, _, losses), (two, _, again) = (train_toy.train(recipe, progress=False) for _ in range(2))
    assert losses == again
    assert all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    )
    assert np.mean(losses[-10:]) < np.mean(losses[:5])
