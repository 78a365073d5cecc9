"""Heads that do something like a role and do not have it, planted: no head of theirs is given
one."""

import warnings

import numpy as np
import pytest
import torch

import rgb_circuit as rgb
from analyses import roles
from rgb_circuit.models.planted import (
    FAST,
    MODERATE_NOISE,
    PER_LOGIT,
    SHARP,
    WORDS,
    layout,
    planted,
)
from rgb_circuit.models.random import random_llava

GRID, HEADS, PLACE = 6, 4, (5, 1)
CHANNELS, _ = layout(GRID, HEADS)
ONE_EACH = torch.eye(len(WORDS))


def head_weights(model, layer, head):
    """Query, key, value (d_head, width) and output (width, d_head) of a head with keys of its own,
    all zero."""
    attention = model.model.language_model.layers[layer].self_attn
    own = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
    weights = [
        projection.weight[own]
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    ]
    weights.append(attention.o_proj.weight[:, own])
    for weight in weights:
        weight.zero_()
    return (*weights, attention.head_dim)


def writes(model, written, tile=None):
    """Plant a head at `PLACE` that looks at everything before [end] alike, or at one tile, and adds
    ``written`` (word, colour; in logits) of the colours that it finds."""
    query, key, value, output, d_head = head_weights(model, *PLACE)
    colors = slice(0, len(WORDS))
    value[colors, CHANNELS["color"]] = ONE_EACH
    output[CHANNELS["answer"], colors] = PER_LOGIT * written
    if tile is not None:
        slow = [*range(FAST, d_head // 2), *range(d_head // 2 + FAST, d_head)][: 2 * GRID]
        key[slow, CHANNELS["place"]] = torch.eye(2 * GRID)
        for one in (slow[tile[0]], slow[GRID + tile[1]]):
            query[one, CHANNELS["text"]] = 2 * SHARP * d_head**0.5


def permuted(model):
    """The extractor of the circuit, with every colour's word exchanged for another."""
    attention = model.model.language_model.layers[3].self_attn
    carried = attention.o_proj.weight[CHANNELS["answer"], : attention.head_dim]
    carried.copy_(carried.roll(3, 0))


def brightness():
    """(word, colour): what is bright raises yellow and lowers black."""
    light = torch.tensor([sum(rgb.PALETTE[word]) / 765 for word in WORDS])
    return 60 * (ONE_EACH[WORDS.index("yellow")] - ONE_EACH[WORDS.index("black")])[:, None] * light


# name → arguments of `planted`, what is changed in it, and the heads that have a role all the same.
NOT_A_ROLE = {
    "an extractor with permuted colours": (dict(decoys=()), permuted, {}),
    "a POI head that nobody reads": (
        dict(decoys=("content_extractor",), without=("extractor",)),
        lambda model: None,
        {(3, 2): "color extractor"},
    ),
    "a head for a fixed tile": (
        dict(decoys=()),
        lambda model: writes(model, 6 * ONE_EACH, tile=(2, 3)),
        {(2, 1): "POI localization", (3, 0): "color extractor"},
    ),
    "the mean colour": (
        dict(decoys=()),
        lambda model: writes(model, 6 * ONE_EACH),
        {(2, 1): "POI localization", (3, 0): "color extractor"},
    ),
    "brightness": (
        dict(decoys=()),
        lambda model: writes(model, brightness()),
        {(2, 1): "POI localization", (3, 0): "color extractor"},
    ),
}


@pytest.mark.parametrize("name", NOT_A_ROLE)
def test_what_is_only_like_a_role_is_given_none(name):
    made, change, wanted = NOT_A_ROLE[name]
    model, processor, _ = planted(noise=MODERATE_NOISE, **made)
    with torch.no_grad():
        change(model)
    wrapped = rgb.wrap(model, processor, name=name)
    # Some of these answer otherwise than the pictures ask for.
    with warnings.catch_warnings(action="ignore"):
        table = roles.roles(wrapped, rgb.rgb_trials(wrapped, 12), progress=False)
    named = table[table["role"] != "none"].set_index(["layer", "head"])["role"].to_dict()
    assert named == wanted


def test_the_controls_act_on_the_answer():
    """Or it would be no wonder that they have no role."""
    plain = planted(decoys=())[0].state_dict()
    for _, change, _ in (control for name, control in NOT_A_ROLE.items() if "nobody" not in name):
        model, processor, _ = planted(decoys=())
        with torch.no_grad():
            change(model)
        wrapped = rgb.wrap(model, processor, name="control")
        trials = rgb.rgb_trials(wrapped, 2)
        changed = rgb.play(wrapped, trials, progress=False).filter(like="logit").to_numpy()
        model.load_state_dict(plain)
        unchanged = rgb.play(wrapped, trials, progress=False).filter(like="logit").to_numpy()
        assert np.nanmax(abs(changed - unchanged)) > 2


@pytest.mark.filterwarnings("ignore:.*answers")
@pytest.mark.parametrize("seed", range(3))
def test_random_weights_have_no_role_whatever_positions_are_restored(seed):
    model, processor = random_llava(seed, layers=2, heads=4, kv_heads=4)
    wrapped = rgb.wrap(model, processor, name="random")
    for positions in ("end", "text"):
        trials = rgb.rgb_trials(wrapped, 10, seed=seed)
        table = roles.roles(wrapped, trials, positions=positions, progress=False)
        assert (table["role"] == "none").all()
