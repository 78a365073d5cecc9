"""The small models of all families have what tests on them rely on."""

from inspect import signature

import families
import pytest
import torch
from families import FAMILIES, NAMES, inputs
from transformers import AutoModelForImageTextToText

from rgb_circuit.boards import draw


@pytest.fixture(scope="module", params=NAMES)
def small(request):
    """(name, model, inputs of a picture with a red tile, of one with a green tile)"""
    family = FAMILIES[request.param]
    model, processor = families.built(request.param)
    px = family.side // family.grid
    margin = family.side - family.grid * px
    pictures = [
        draw((0, 0, 255), {(2, 1): color}, family.grid, px, margin=margin)
        for color in ((255, 0, 0), (0, 255, 0))
    ]
    return (
        request.param,
        model,
        *(inputs(request.param, processor, [picture]) for picture in pictures),
    )


def decoder(model):
    return next(
        module
        for module in model.model.children()
        if hasattr(module, "layers") and hasattr(module, "embed_tokens")
    )


@torch.no_grad()
def logits(model, shown, silent=None):
    """Logits at [end]; ``silent`` is (layer, head) whose z there is zero."""
    handles = []
    if silent is not None:
        layer, head = silent

        def silence(module, arguments):
            z = arguments[0].clone()
            z[:, -1, head * families.D_HEAD : (head + 1) * families.D_HEAD] = 0
            return (z,)

        handles.append(
            decoder(model).layers[layer].self_attn.o_proj.register_forward_pre_hook(silence)
        )
    try:
        return model(**shown).logits[0, -1]
    finally:
        for handle in handles:
            handle.remove()


def test_every_head_reaches_the_logits(small):
    _, model, red, _ = small
    plain = logits(model, red)
    for layer in range(families.LAYERS):
        for head in range(families.HEADS):
            assert (logits(model, red, (layer, head)) - plain).abs().max() > 1e-2


def test_one_tile_reaches_the_answer(small):
    _, model, red, green = small
    assert (logits(model, red) - logits(model, green)).abs().max() > 1e-2


@torch.no_grad()
def moved(model, shown, at):
    """Which positions' last residuals change when the first residual at one position does,
    (positions,)."""
    seen = []

    def disturb(module, arguments):
        hidden = arguments[0].clone()
        hidden[:, at] += 1
        return (hidden, *arguments[1:])

    keep = (
        decoder(model)
        .layers[-1]
        .register_forward_hook(lambda module, given, made: seen.append(made[0]))
    )
    model(**shown)
    handle = decoder(model).layers[0].register_forward_pre_hook(disturb)
    model(**shown)
    keep.remove(), handle.remove()
    before, after = seen
    return (before - after).abs().amax(-1) > 1e-6


def test_positions_see_later_ones_as_the_family_says(small):
    name, model, red, _ = small
    image = (red["input_ids"][0] == model.config.image_token_id).nonzero().flatten().tolist()
    length = red["input_ids"].shape[1]
    first, last = image[0], image[-1]
    by_end, by_tile = moved(model, red, length - 1), moved(model, red, last)
    assert by_end[-1] and by_tile[last]
    sees = FAMILIES[name].attends
    assert by_end[:-1].any() == (sees == "all")
    assert by_tile[first:last].any() == (sees in ("image", "all"))
    assert by_tile[:first].any() == (sees == "all" and first > 0)


def test_the_picture_is_as_many_tokens_as_the_family_says(small):
    name, model, red, _ = small
    assert int((red["input_ids"] == model.config.image_token_id).sum()) == FAMILIES[name].tokens


def test_a_forward_takes_what_the_family_names(small):
    name, model, red, _ = small
    assert set(red) <= set(signature(model.forward).parameters)
    assert set(FAMILIES[name].takes) <= set(red)


def test_no_word_of_a_prompt_is_unknown(small):
    _, model, red, _ = small
    unknown = 3 if model.config.text_config.bos_token_id is not None else 2
    assert not (red["input_ids"] == unknown).any()


def test_a_saved_model_is_small_and_the_same(small, tmp_path):
    name, model, red, _ = small
    folder = families.saved(name, tmp_path / name)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 5e6
    read = AutoModelForImageTextToText.from_pretrained(folder).eval()
    assert type(read) is type(model)
    torch.testing.assert_close(logits(read, red), logits(model, red), atol=1e-5, rtol=1e-5)
