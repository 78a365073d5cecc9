"""Attention from [end] is the model's own, lies on the right tiles, and is divided without rest."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from brute_force import BruteForce

import rgb_circuit as rgb
from analyses.attention_statistics import MASSES, attention_statistics, attention_vs_effect
from analyses.study import closer_look
from rgb_circuit.boards import moved_tile
from rgb_circuit.calls.attention import attention_from_end, over_picture
from rgb_circuit.measuring.measure import measure
from rgb_circuit.models.planted import Placement
from rgb_circuit.running.execute import execute

CONDITIONS = ("clean", "erased")


@pytest.fixture(scope="module")
def trials(model):
    return rgb.rgb_trials(model, 2, seed=3)


def test_attention_from_end_is_that_of_the_bare_model_and_sums_to_one(model, trials):
    bare, seen = BruteForce(model.name), []
    for trial, condition, pattern in attention_from_end(model, trials, CONDITIONS, progress=False):
        wanted = np.stack([layer[:, -1].numpy() for layer in bare.run(trial, condition)[2]])
        np.testing.assert_allclose(pattern, wanted, atol=1e-6)
        np.testing.assert_allclose(pattern.sum(-1), 1, atol=1e-5)
        seen.append((trial.name, condition))
    assert seen == [(trial.name, condition) for trial in trials for condition in CONDITIONS]


def test_only_the_heads_that_are_asked_for_are_sent(model, trials, monkeypatch):
    sent = []

    def counted(*given, **options):
        found = execute(*given, **options)
        sent.append(found["patterns"].shape)
        return found

    monkeypatch.setattr("rgb_circuit.calls.attention.execute", counted)
    asked = [(1, 2), (0, 1)]
    everything = attention_from_end(model, trials, progress=False)
    some = attention_from_end(model, trials, heads=asked, progress=False)
    for (_, _, whole), (_, _, part) in zip(everything, some):
        for head in model.heads():
            np.testing.assert_array_equal(part[head], whole[head] if head in asked else np.nan)
    sent.clear()
    [frame] = measure(model, [closer_look.Looked(tuple(trials), tuple(asked))], progress=False)
    assert len(frame.groupby(["layer", "head"])) == len(asked)
    assert {shape[1] for shape in sent} == {len(asked)}
    with pytest.raises(rgb.InputError, match="head 9.0 does not exist"):
        next(attention_from_end(model, trials, heads=[(9, 0)]))


def test_over_picture_puts_each_image_token_at_its_tile(model, trials):
    # The second text token comes before the picture; the picture is one run of tokens, row by row.
    rows, columns = model.grid
    length = len(next(attention_from_end(model, trials, progress=False))[2][0, 0])
    first = model.processor.tokenizer("USER: <image>")["input_ids"].index(
        model.config.image_token_id
    )
    place = np.arange(length, dtype=float)[None]
    laid_out = over_picture(model, trials[0], place)
    assert laid_out.shape == (1, rows, columns)
    np.testing.assert_array_equal(
        laid_out[0], first + np.arange(rows * columns).reshape(rows, columns)
    )
    # Of a condition whose prompt has two words more before its picture.
    prompt = trials[0].prompt.replace("USER:", "USER: odd color", 1)
    later = replace(trials[0], prompts={"erased": prompt})
    place = np.arange(length + 2, dtype=float)
    assert over_picture(model, later, place, "erased").min() == first + 2
    assert over_picture(model, later, place).min() == first


def test_the_planted_localizer_looks_at_the_odd_tile_wherever_it_is(planted):
    layer, head = Placement().poi
    for trial, condition, pattern in attention_from_end(
        planted, rgb.rgb_trials(planted, 3), ("clean", "moved"), progress=False
    ):
        where = trial.tile if condition == "clean" else moved_tile(trial.tile, trial.grid)
        assert over_picture(planted, trial, pattern)[layer, head][where] > 0.99


def test_shares_add_up_to_one_and_entropy_is_that_of_the_picture(model, trials):
    frame = attention_statistics(model, trials, CONDITIONS, progress=False)
    assert list(frame.columns) == ["trial", "condition", "layer", "head", *MASSES, "entropy"]
    assert len(frame) == 2 * 2 * model.n_layers * model.n_heads
    np.testing.assert_allclose(frame[list(MASSES)].sum(axis=1), 1, atol=1e-5)
    for trial, condition, pattern in attention_from_end(model, trials, CONDITIONS, progress=False):
        rows = frame.query("trial == @trial.name and condition == @condition")
        picture = over_picture(model, trial, pattern).reshape(model.n_layers * model.n_heads, -1)
        share = picture / picture.sum(-1, keepdims=True)
        np.testing.assert_allclose(rows["entropy"], -(share * np.log(share)).sum(-1), atol=1e-5)
        tile = over_picture(model, trial, pattern)[..., trial.tile[0], trial.tile[1]].ravel()
        np.testing.assert_allclose(rows["tile"], tile, atol=1e-6)
        np.testing.assert_allclose(rows["tile"] + rows["picture"], picture.sum(-1), atol=1e-5)
        np.testing.assert_allclose(rows["first"], pattern[..., 0].ravel(), atol=1e-6)


def test_entropy_runs_from_zero_on_one_tile_to_log_of_the_tiles(planted):
    trials = rgb.rgb_trials(planted, 2)
    mean = (
        attention_statistics(planted, trials, progress=False)
        .groupby(["layer", "head"])[["tile", "entropy"]]
        .mean()
    )
    assert mean.loc[Placement().poi, "entropy"] == pytest.approx(0, abs=0.01)
    # A head without a part looks at everything alike.
    assert mean.loc[(0, 0), "entropy"] == pytest.approx(
        np.log(planted.grid[0] * planted.grid[1]), abs=1e-4
    )


def test_a_head_may_look_at_the_odd_tile_and_do_nothing(planted):
    trials = rgb.rgb_trials(planted, 3)
    looks = (
        attention_statistics(planted, trials, progress=False)
        .groupby(["layer", "head"])["tile"]
        .mean()
    )
    does = (
        rgb.patch_heads(planted, trials, progress=False)
        .groupby(["layer", "head"])["effect"]
        .agg(["min", "max"])
    )
    assert looks[Placement().idle_watcher] > 0.99
    assert does.loc[Placement().idle_watcher].tolist() == pytest.approx([0, 0], abs=1e-3)


def frames(attention, effect):
    """Frames of one trial with a number per head."""
    heads = pd.DataFrame({"layer": 0, "head": range(len(effect))})
    looks = heads.assign(
        trial="t", condition="clean", **dict.fromkeys((*MASSES, "entropy"), 0.5)
    ).assign(tile=attention)
    return looks, heads.assign(trial="t", target="erased", role="odd", effect=effect)


def test_correlation_is_of_attention_with_the_size_of_the_effect():
    attention, effect = [0.1, 0.2, 0.4, 0.8], [1.0, -2.0, 4.0, -8.0]
    row = attention_vs_effect(*frames(attention, effect)).set_index("statistic").loc["tile"]
    assert (row["spearman"], row["pearson"], row["heads"]) == pytest.approx((1, 1, 4))
    bent = (
        attention_vs_effect(*frames(attention, [1.0, 2.0, 4.0, 1000.0]))
        .set_index("statistic")
        .loc["tile"]
    )
    assert bent["spearman"] == pytest.approx(1)
    assert bent["pearson"] == pytest.approx(np.corrcoef(attention, [1, 2, 4, 1000])[0, 1])


def test_no_correlation_is_given_where_attention_is_constant():
    table = attention_vs_effect(*frames([0.1, 0.2, 0.4], [1.0, 2.0, 3.0])).set_index("statistic")
    assert np.isnan(table.loc["first", "spearman"]) and np.isnan(table.loc["first", "pearson"])


def test_bad_input_is_refused(grouped):
    (trial,) = rgb.rgb_trials(grouped, 1)
    with pytest.raises(rgb.InputError, match="has no tile"):
        attention_statistics(
            grouped,
            [rgb.Trial("no tile", trial.prompt, trial.images, trial.answers)],
            progress=False,
        )
    with pytest.raises(rgb.InputError, match="no condition 'gone'"):
        attention_statistics(grouped, [trial], ["gone"], progress=False)
    with pytest.raises(rgb.InputError, match="2 heads are in both frames"):
        attention_vs_effect(*frames([0.1, 0.2], [1.0, 2.0]))
