"""Scores are what they say: the exact ones those of plain runs, the others by hand on small
numbers."""

from dataclasses import replace

import families
import numpy as np
import pytest
from PIL import Image

import rgb_circuit as rgb
from rgb_circuit.calls.attention import attention_from_end, over_picture
from rgb_circuit.calls.scores import _told, spatial_entropy


@pytest.fixture(scope="module")
def trials(planted):
    return rgb.rgb_trials(planted, 16)


@pytest.fixture(scope="module")
def table(planted, trials):
    frame = rgb.scores(planted, trials, progress=False)
    assert frame["n"].eq(16).all()
    return frame.pivot(index=["layer", "head"], columns="score", values="value")


def test_exact_scores_equal_plain_runs(planted, trials, table):
    restored = rgb.patch_edits(
        planted, trials, {"a": [rgb.Edit(3, 0)]}, target="erased", progress=False
    )
    silenced = rgb.patch_edits(
        planted, trials, {"a": [rgb.Edit(3, 0, "mean")]}, target="clean", progress=False
    )
    for score, frame, sign in (("effect", restored, 1), ("silenced", silenced, -1)):
        mean = frame.groupby("role", observed=True)["effect"].mean()
        assert table.loc[(3, 0), score] == pytest.approx(
            sign * (mean["odd"] - mean["none"]), abs=1e-4
        )


def test_a_watcher_that_writes_nothing_scores_by_looks_and_probe_alone(table):
    watcher, reader = table.loc[(3, 3)], table.loc[(3, 0)]
    assert watcher[["picture", "tile", "largest on tile", "probe"]].tolist() == pytest.approx(
        [1, 1, 1, 1]
    )
    assert watcher[["effect", "silenced", "direct", "atp"]].abs().max() < 1e-3
    assert reader["effect"] == pytest.approx(reader["direct"], rel=1e-3) and reader["lens"] == 1


def test_an_idle_head_is_told_nothing(table):
    idle = table.loc[(0, 0)]
    assert idle["lens"] == 0 and idle["effect"] == pytest.approx(0, abs=1e-5)
    assert np.isnan(idle["spatial entropy"])


@pytest.mark.parametrize(
    "attention, nats",
    [
        ([[1, 0, 0], [0, 0, 0], [0, 0, 0]], 0),
        ([[1, 0, 0], [0, 1, 0], [0, 0, 0]], 0),  # across a corner
        ([[1, 0, 1], [0, 0, 0], [0, 0, 0]], np.log(2)),
        ([[3, 0, 1], [0, 0, 0], [0, 0, 0]], -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))),
        ([[1, 0, 1], [0, 0, 0], [1, 0, 1]], np.log(4)),
    ],
)
def test_spatial_entropy_by_hand(attention, nats):
    assert spatial_entropy(np.array(attention, dtype=float)) == pytest.approx(nats)


def test_an_even_map_has_no_spatial_entropy():
    assert np.isnan(spatial_entropy(np.full((4, 4), 1 / 16)))


def test_the_probe_reads_what_is_there_and_nothing_from_noise():
    rng = np.random.default_rng(0)
    labels, each = np.eye(4)[np.arange(64) % 4], np.arange(64)[:, None]
    written = labels @ rng.normal(size=(4, 8))
    assert (_told(written, labels, each) == labels.argmax(1)).all()
    # A reader that had seen its own trial would tell noise of more dimensions than trials.
    noise = rng.normal(size=(64, 128))
    assert np.mean(_told(noise, labels, each) == labels.argmax(1)) < 0.45
    # Nor does it see another trial of the same source.
    twice, said = noise.repeat(2, axis=0), labels.repeat(2, axis=0)
    pairs = np.arange(128).reshape(64, 2)
    assert np.mean(_told(twice, said, pairs) == said.argmax(1)) < 0.45
    assert (_told(twice, said, np.arange(128)[:, None]) == said.argmax(1)).all()


def test_scores_need_right_answers(grouped, no_forward):
    trial = rgb.rgb_trials(grouped, 1)[0]
    bare = rgb.Trial("bare", trial.prompt, trial.images, trial.answers)
    with pytest.raises(rgb.InputError, match="does not say which answer is right for 'clean'"):
        rgb.scores(grouped, [bare], target="erased")


def test_pictures_of_another_shape_have_maps_of_their_own(tmp_path):
    model = rgb.load(str(families.saved("qwen2_5_vl", tmp_path)), tiles=6)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    wide, high = Image.fromarray(pixels[0]), Image.fromarray(pixels[1].swapaxes(0, 1))
    trial = rgb.Trial(
        "wide",
        model.prompt("Which color?"),
        {"clean": wide, "changed": high},
        {"right": "red", "other": "green"},
        expected={"clean": "right", "changed": "other"},
    )
    table = rgb.scores(model, [trial], progress=False).set_index(["score", "layer", "head"])
    [(_, _, pattern)] = attention_from_end(model, [trial], progress=False)
    for layer, head in model.heads():
        own = over_picture(model, trial, pattern)[layer, head]
        assert own.shape[0] < own.shape[1]
        assert table.loc[("spatial entropy", layer, head), "value"] == spatial_entropy(own)


def test_trials_of_one_source_count_once(planted, trials):
    own = [
        replace(trial, task=None, cluster=str(number)) for number, trial in enumerate(trials[:4])
    ]
    twice = [*own, *(replace(trial, name=f"{trial.name} again") for trial in own[:2])]
    once, more = (rgb.scores(planted, some, progress=False) for some in (own, twice))
    assert set(more["n"]) == {4} and more.attrs["trials"] == 6
    for score in ("effect", "direct", "lens", "picture", "tile"):
        one, other = (frame.loc[frame["score"] == score, "value"] for frame in (once, more))
        np.testing.assert_allclose(one, other, atol=1e-4, err_msg=score)
