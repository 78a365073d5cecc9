"""Parts as in life, planted: each does what its name says, and the model still plays."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import rgb_circuit as rgb
from rgb_circuit.models.planted import UNKIND, Part, _uneven, planted


def only(name, *place, **others):
    return dict(more=[(replace(UNKIND[name], **others), place)])


def test_without_further_parts_nothing_changes_in_the_weights():
    plain, with_none = (
        planted(noise=0.02)[0],
        planted(noise=0.02, without=(), more=(), likeness=0.0)[0],
    )
    assert all(
        torch.equal(one, other)
        for one, other in zip(plain.parameters(), with_none.parameters(), strict=True)
    )


@pytest.mark.parametrize(
    "made",
    [
        dict(likeness=0.5),
        dict(decoys=(), **only("backup", 4, 0)),
        dict(decoys=(), **only("resting_extractor", 4, 0)),
        dict(decoys=(), **only("canvas_suppressor", 5, 1)),
        dict(decoys=(), **only("oddness", 4, 2)),
        dict(decoys=(), **only("fixed_word", 2, 2)),
        dict(decoys=(), **only("second_reader", 4, 3)),
        dict(
            decoys=(),
            without=("poi",),
            more=[(UNKIND["finder"], (1, 1)), (UNKIND["relay"], (2, 1))],
        ),
    ],
    ids=[
        "alike",
        "backup",
        "resting",
        "suppressor",
        "oddness",
        "fixed word",
        "second reader",
        "relay",
    ],
)
def test_models_with_unkind_parts_still_play_the_game(made):
    model, processor, _ = planted(**made)
    wrapped = rgb.wrap(model, processor, name="unkind")
    played = rgb.play(wrapped, rgb.rgb_trials(wrapped, 16), progress=False)
    assert played["correct"].all()


def z_effect(made, place, source, target, role):
    """Per trial, the effect of restoring one head on a word's logit."""
    model, processor, _ = planted(**made)
    wrapped = rgb.wrap(model, processor, name="unkind")
    trials = rgb.rgb_trials(wrapped, 16)
    frame = rgb.patch_heads(
        wrapped, trials, source=source, target=target, heads=[place], progress=False
    )
    return frame[frame["role"] == role]["effect"].to_numpy()


def test_a_reader_of_some_colours_serves_these_only():
    made = dict(
        decoys=(),
        **only("resting_extractor", 4, 0, looks_for="found", gain=6.0, colors=("red", "blue")),
    )
    effect = z_effect(made, (4, 0), "clean", "erased", "odd")
    assert set(np.round(effect, 2)) == {0, 6} and (effect > 5).sum() == 4


@pytest.mark.parametrize("variation", [0.5, 1.4])
def test_an_uneven_head_has_its_gain_and_variation_over_all_tiles(variation):
    part = Part("uneven", "color extractor", "found", "color", "answer", 4.0, variation=variation)
    weights, mean = _uneven(part, 6, 0)
    attention = torch.sigmoid(weights[:6, None] + weights[6:])
    assert float(attention.mean()) == pytest.approx(mean, rel=1e-4)
    assert float(attention.std() / attention.mean()) == pytest.approx(variation, rel=1e-3)
    # What a tile restores is the attention that it gets: gain · attention / mean.
    model, processor, _ = planted(decoys=(), more=[(part, (4, 0))])
    wrapped = rgb.wrap(model, processor, name="uneven")
    trials = rgb.rgb_trials(wrapped, 16)
    frame = rgb.patch_heads(wrapped, trials, target="erased", heads=[(4, 0)], progress=False)
    effect = frame[frame["role"] == "odd"]["effect"].to_numpy()
    wanted = [4 * float(attention[trial.tile]) / mean for trial in trials]
    np.testing.assert_allclose(effect, wanted, atol=0.02)


def test_a_backup_reads_only_when_the_extractor_is_silent():
    model, processor, _ = planted(decoys=(), **only("backup", 4, 0))
    wrapped = rgb.wrap(model, processor, name="backup")
    trials = rgb.rgb_trials(wrapped, 8)
    variants = {
        "extractor": [rgb.Edit(3, 0, source="erased")],
        "backup": [rgb.Edit(4, 0, source="erased")],
        "both": [rgb.Edit(3, 0, source="erased"), rgb.Edit(4, 0, source="erased")],
    }
    frame = rgb.patch_edits(wrapped, trials, variants, target="clean", progress=False)
    effect = frame[frame["role"] == "odd"].groupby("variant", observed=True)["effect"].mean()
    assert effect[["extractor", "backup", "both"]].tolist() == pytest.approx([-2, 0, -10], abs=0.02)


def test_each_unkind_part_does_what_its_name_says():
    wanted = {
        # Taken from the clean picture it does not hold the canvas's colour down.
        "canvas_suppressor": ((5, 1), "clean", "erased", "background", 3),
        "oddness": ((4, 2), "clean", "erased", "none", -4),
        "second_reader": ((4, 3), "clean", "erased", "background", 2),
        # At rest on the canvas it raises the background there.
        "resting_extractor": ((4, 0), "zero", "erased", "background", -4),
    }
    for name, (place, source, target, role, effect) in wanted.items():
        found = z_effect(dict(decoys=(), **only(name, *place)), place, source, target, role)
        np.testing.assert_allclose(found, effect, atol=0.02, err_msg=name)


def test_words_that_are_alike_rise_together():
    model, processor, _ = planted(decoys=(), likeness=0.5)
    wrapped = rgb.wrap(model, processor, name="alike")
    trial = rgb.rgb_trial("blue", "red", "green", "purple", (2, 3), 6, 4)
    frame = rgb.patch_heads(wrapped, [trial], target="erased", heads=[(3, 0)], progress=False)
    effect = frame.set_index("role")["effect"]
    # Blue is (−1, −1, 1) around grey and purple (0.25, −0.75, 0.88), so their cosine is 0.68.
    assert effect["odd"] == pytest.approx(10, abs=0.02) and effect[
        "other_background"
    ] == pytest.approx(3.4, abs=0.1)


@pytest.mark.parametrize(
    "made, message",
    [
        (dict(without=("mean",)), "the circuit cannot be without mean; leave out poi or extractor"),
        (
            dict(kv_heads=1, **only("oddness", 4, 0)),
            "need keys and values of their own; use kv_heads=heads",
        ),
        (dict(more=[(UNKIND["backup"], (3, 0))]), "backup and extractor are both placed at 3.0"),
    ],
)
def test_parts_that_cannot_be_are_refused(made, message):
    with pytest.raises(rgb.InputError, match=message):
        planted(**made)
