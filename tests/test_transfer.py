"""What heads do in several samples: effects, agreement without noise, and sets found on one, tested
on another."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import rgb_circuit as rgb
from analyses import circuit
from analyses.transfer import _pair, _Sample, _sets, transfer
from rgb_circuit.heads import Head
from rgb_circuit.models.planted_counting import planted_counting
from rgb_circuit.plots import transfer_maps
from rgb_circuit.statistics import benjamini_hochberg
from rgb_circuit.statistics.agreement import ceiling

CARRIERS, DOT_COUNTER = [(2, 0), (5, 1)], (3, 1)


@pytest.fixture(scope="module")
def counts():
    model, processor, _ = planted_counting()
    return rgb.wrap(model, processor, name="planted counting")


@pytest.fixture(scope="module")
def samples(counts):
    """One task in two ways, and the game, which the model does not play."""
    ways = {way: rgb.trials(counts, "counting", 20, template=way) for way in ("plain", "short")}
    return ways | {"game": rgb.rgb_trials(counts, 10)}


@pytest.fixture(scope="module")
def found(counts, samples):
    return transfer(counts, samples, random_sets=4, progress=False)


def test_an_effect_is_the_logit_differences_of_a_head_restored_alone(counts, samples, found):
    trials = samples["plain"]
    frame = rgb.patch_heads(counts, trials, target="one_more", progress=False)
    by_role = frame.pivot_table(
        index=["layer", "head"], columns="role", values="effect", observed=True
    )
    played = rgb.play(counts, trials, ["clean", "one_more"], progress=False)
    right = (
        (played["logit_number"] - played["logit_more"])
        .groupby(played["condition"], observed=True)
        .mean()
    )
    expected = (by_role["number"] - by_role["more"]) / (right["clean"] - right["one_more"])
    rows = found.heads[found.heads["sample"] == "plain"].set_index(["layer", "head"])
    np.testing.assert_allclose(rows["effect"], expected[rows.index], atol=1e-5)
    assert set(rows.index[rows["shown"]]) == {*CARRIERS, DOT_COUNTER, (4, 3)}
    assert set(rows["role"]) == {"none", "count carrier", "dot counter", "color counter"}


def test_samples_of_one_circuit_agree_up_to_their_ceiling(found):
    pair = found.pairs.set_index(["one", "other"]).loc[("plain", "short")]
    assert pair["correlation"] == pytest.approx(1, abs=1e-3) and pair["corrected"] == pytest.approx(
        1, abs=1e-3
    )
    assert pair["heads"] == 24 and pair["void"] == "" and 0.99 < pair["ceiling"] <= 1


def test_of_a_task_that_is_not_played_nothing_is_said(found):
    game = found.heads[found.heads["sample"] == "game"]
    assert (
        set(game["void"]) == {"no gap"} and game["effect"].isna().all() and not game["shown"].any()
    )
    pairs = found.pairs[found.pairs["other"] == "game"]
    assert set(pairs["void"]) == {"no gap"} and pairs["corrected"].isna().all()
    sets = found.sets
    assert set(sets.loc[sets["tested_on"] == "game", "void"]) == {"no gap"}
    assert set(sets.loc[(sets["found_on"] == "game") & (sets["tested_on"] != "game"), "void"]) == {
        "no head"
    }
    assert sets.loc[sets["void"] != "", "q_value"].isna().all()


def test_a_set_is_tested_on_the_second_half_as_a_circuit_is(counts, samples, found):
    rows = found.sets.set_index(["found_on", "tested_on", "test"])
    heads = [Head.parse(name) for name in rows.loc[("plain", "short", "necessity"), "set"].split()]
    assert set(heads) == {*CARRIERS, DOT_COUNTER, (4, 3)}
    alone = circuit.circuit(counts, samples["short"][10:], heads, random_sets=1, progress=False)
    for test in ("sufficiency", "necessity"):
        row, same = rows.loc[("plain", "short", test)], alone[alone["test"] == test].iloc[0]
        for column in ("faithfulness", "ci_low", "ci_high"):
            assert row[column] == pytest.approx(same[column], abs=1e-4)
        assert row["n"] == 10 and row["random_sets"] == 4 and not row["decidable"]
        assert row["p_value"] == pytest.approx(1 / 5)


def test_trials_of_one_cluster_are_one_observation(counts, samples):
    """Each scene asked twice: of 20 trials 10 observations, that say what they say once."""
    once = {way: samples[way][:20] for way in ("plain", "short")}
    twice = {
        way: [
            replace(trial, name=f"{trial.name} {time}", cluster=trial.name)
            for trial in trials
            for time in ("first", "again")
        ]
        for way, trials in once.items()
    }
    one, other = (transfer(counts, some, random_sets=1, progress=False) for some in (once, twice))
    assert set(other.heads["n"]) == {20} and set(other.sets["n"]) == {10}
    for frame in ("heads", "pairs", "sets"):
        pd.testing.assert_frame_equal(getattr(one, frame), getattr(other, frame), atol=1e-5)


def test_a_set_is_found_on_the_first_half_and_tested_on_the_second(counts, monkeypatch):
    trials = rgb.trials(counts, "counting", 20)
    # Of a gap of 10 logits, one head restores a tenth in the first half and another too little.
    values = np.zeros((20, 24))
    values[:10, 3], values[:, 5] = 1, 0.3
    samples = [_Sample(name, trials, "one_more", values, np.full(20, 10.0), "") for name in "ab"]
    p_values = iter(np.linspace(0.01, 0.9, 8))
    monkeypatch.setattr("analyses.transfer._tested", lambda *_: {"p_value": next(p_values)})
    steps = _sets(counts, samples, 0.05, 0.05, 1, 0)
    restored, silent = next(steps)
    assert restored.trials == silent.trials == tuple(trials[10:])
    for edits, source in ((restored.edits[0], "clean"), (silent.edits[0], "mean")):
        assert [edit.head for edit in edits if edit.source == source] == [3]
    steps.send([None, None])
    with pytest.raises(StopIteration) as end:
        steps.send([None, None])
    for _, rows in end.value.value.groupby("test"):
        q = benjamini_hochberg(rows["p_value"].to_numpy())
        assert rows["q_value"].to_numpy() == pytest.approx(q)


def test_noise_lowers_the_correlation_to_the_ceiling_and_is_taken_out_again():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=64)
    one, other = (truth + rng.normal(scale=2.5, size=(24, 64)) for _ in range(2))
    trials = rgb.rgb_trials(rgb.load("toy"), 24), rgb.rgb_trials(rgb.load("toy"), 24, seed=1)
    sides = [
        _Sample(name, some, "erased", values, np.ones(24), "")
        for name, some, values in zip("ab", trials, (one, other))
    ]
    pair = _pair(*sides)
    assert pair["correlation"] < 0.9 and pair["ceiling"] == ceiling(one, other) < 0.9
    assert pair["corrected_low"] < 1 < pair["corrected_high"]


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda samples: samples["plain"], "samples are two or more by name"),
        (lambda samples: {"plain": samples["plain"]}, "samples are two or more by name"),
        (
            lambda samples: samples | {"few": samples["plain"][:9]},
            "sample 'few' has 9 trials, and to find",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_before_any_forward(
    counts, samples, change, said, monkeypatch
):
    monkeypatch.setattr(type(counts.nnsight), "trace", lambda *_, **__: pytest.fail("a forward"))
    with pytest.raises(rgb.InputError, match=said):
        transfer(counts, change(samples))


def test_the_figure_says_what_is_shared_and_what_cannot_be_said(found):
    figure = transfer_maps(found.heads, found.pairs, found.sets, "planted counting")
    left, middle, right = figure.axes
    texts = [[text.get_text() for text in ax.texts] for ax in (left, middle, right)]
    assert (
        texts[1].count("no gap") == 4
        and texts[2].count("no gap") == 3
        and texts[2].count("no head") == 2
    )
    assert ("1.00\nr 1.00 ≤ "
            "1.00") in texts[1] and [label.get_text() for label in right.get_yticklabels()] == [
        "plain (4)", "short (4)", "game (0)",
    ]  # fmt: skip
    assert len(left.get_yticklabels()) == 16
    # What is grey is drawn so: a page leaves out what lies behind a figure.
    grey = {(patch.get_x(), patch.get_y()) for patch in right.patches}
    assert len(grey) == 5 and {patch.get_facecolor()[:3] for patch in right.patches} == {
        (0.9, 0.9, 0.9)
    }
