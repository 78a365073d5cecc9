"""Two runs agree where their heads do, and as far as their trials can tell."""

import json
import shutil
import sys
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr

import rgb_circuit as rgb
from rgb_circuit.statistics.agreement import (
    agreement,
    ceiling,
    correlation_interval,
    disattenuated,
    reliability,
)
from rgb_circuit.trial import described


@pytest.fixture(scope="module")
def runs(planted_run, tmp_path_factory):
    """Folders of one model on two samples of trials; the second has the frames of the first but for
    its effects."""
    home = tmp_path_factory.mktemp("runs")
    model = rgb.load("planted")
    trials = rgb.rgb_trials(model, 12, seed=1)
    other = changed(
        planted_run, home / "other", patch_heads=rgb.patch_heads(model, trials, progress=False)
    )
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["trials"] = [described(trial) for trial in trials]
    (other / "manifest.json").write_text(json.dumps(manifest))
    return planted_run, other


def changed(folder, to, **frames):
    """A copy of a run with other frames."""
    shutil.copytree(folder, to)
    for name, frame in frames.items():
        frame.to_parquet(to / f"{name}.parquet", index=False)
    return to


def test_a_run_agrees_with_itself(runs):
    table = rgb.compare_runs(runs[0], runs[0])
    effects = table[table["compared"] == "effects"]
    assert len(effects) == 3
    assert (effects[["pearson", "pearson_low", "pearson_high", "spearman"]].round(9) == 1).all(
        axis=None
    )
    noiseless = effects[["disattenuated", "disattenuated_low", "disattenuated_high"]]
    assert (noiseless.round(9) == 1).all(axis=None)
    assert (effects["ceiling"] <= 1).all() and (
        effects["reliability_a"] == effects["reliability_b"]
    ).all()
    assert (table["shared"] == table["in_a"]).all() and (table["shared"] == table["in_b"]).all()
    assert not table["only_a"].any() and not table["only_b"].any()


def test_correlations_are_those_of_mean_effects_over_heads(runs):
    table = rgb.compare_runs(*runs).set_index("name")
    frames = [pd.read_parquet(folder / "patch_heads.parquet") for folder in runs]
    for target in ("recolored", "erased"):
        one, other = (
            frame[(frame["target"] == target) & (frame["role"] == "odd")]
            .groupby(["layer", "head"])["effect"]
            .mean()
            for frame in frames
        )
        row = table.loc[f"odd, when {target}"]
        assert row["pearson"] == pytest.approx(pearsonr(one, other).statistic, abs=1e-5)
        assert row["pearson_low"] - 1e-9 <= row["pearson"] <= row["pearson_high"] + 1e-9
        assert row["heads"] == len(one)


def test_the_planted_models_roles_agree_and_are_named(runs):
    table = rgb.compare_runs(rgb.read_run(runs[0]), runs[1])
    roles = table[table["compared"] == "role"].set_index("name")
    known = pd.read_parquet(runs[0] / "roles.parquet")
    extractors = known.loc[known["role"] == "color extractor", ["layer", "head"]]
    row = roles.loc["color extractor"]
    assert row["both"].split() == [
        f"{layer}.{head}" for layer, head in extractors.itertuples(index=False)
    ]
    assert row["by_chance"] == pytest.approx(row["in_a"] * row["in_b"] / row["heads"])
    assert row["by_chance"] < row["shared"]
    assert roles[["pearson", "ceiling", "disattenuated"]].isna().all(axis=None)


def test_roles_that_differ_are_named_on_their_side(runs, tmp_path):
    table = pd.read_parquet(runs[0] / "roles.parquet")
    loses = table.index[table["role"] == "color extractor"][0]
    gains = table.index[table["role"] == "none"][0]
    other = table.copy()
    other.loc[loses, "role"], other.loc[gains, "role"] = "none", "oddness + color extractor"
    folder = changed(runs[0], tmp_path / "other", roles=other)
    rows = rgb.compare_runs(runs[0], folder).set_index("name")
    name = {place: f"{table['layer'][place]}.{table['head'][place]}" for place in (loses, gains)}
    assert rows.loc["color extractor", ["only_a", "only_b"]].tolist() == [name[loses], name[gains]]
    assert rows.loc["oddness", ["in_a", "in_b", "only_b"]].tolist() == [0, 1, name[gains]]


def test_top_heads_raise_the_word_and_come_in_order():
    heads = pd.MultiIndex.from_product([range(2), range(4)])
    one = pd.Series([5.0, 4, 3, 2, 0, 0, -9, 0], heads)
    other = pd.Series([4.0, 5, 0, 2, 2, 0, -9, 0], heads)
    found = agreement(one, other, 3)
    assert found.top == [(0, 0), (0, 1), (0, 2)] and found.shared == [(0, 0), (0, 1)]
    # As few as there are, and those tied with the other's last.
    assert agreement(one, other, 8).top == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert agreement(one, other, 4).shared == [(0, 0), (0, 1), (0, 3)]
    assert found.pearson == pytest.approx(pearsonr(one, other).statistic)
    assert found.spearman == pytest.approx(spearmanr(one, other).statistic)


def test_what_is_next_to_nothing_is_on_no_top():
    """However large it is beside all else: each side has its own least size."""
    heads = pd.MultiIndex.from_product([range(1), range(4)])
    one = pd.Series([1.0, 0.3, 1e-6, 0], heads)
    other = pd.Series([0.1, 3e-6, 2e-6, 1e-6], heads)
    assert agreement(one, other, 3).top == [(0, 0), (0, 1), (0, 2)]
    found, back = agreement(one, other, 3, (0.2, 0.025)), agreement(other, one, 3, (0.025, 0.2))
    assert found.top == [(0, 0), (0, 1)] and found.shared == back.top == back.shared == [(0, 0)]


def test_runs_whose_heads_do_nothing_share_none(runs, tmp_path):
    frame = pd.read_parquet(runs[0] / "patch_heads.parquet")
    faint = changed(
        runs[0], tmp_path / "faint", patch_heads=frame.assign(effect=1e-6 * frame["effect"])
    )
    table = rgb.compare_runs(faint, runs[1]).query("compared == 'effects'")
    assert (table["in_a"] == 0).all() and (table["in_b"] > 0).all() and (table["shared"] == 0).all()


@pytest.mark.parametrize("same", [True, False])
def test_the_interval_covers_what_as_many_trials_give_in_the_middle(same):
    """Of 100 pairs of runs of one model, whose effects wander over trials."""
    rng = np.random.default_rng(0)
    truth = rng.standard_t(3, 64)
    found, intervals = [], []
    for _ in range(100):
        gains = [1 + 0.3 * rng.normal(size=(16, 1)) for _ in range(2)]
        gains[1] = gains[0] if same else gains[1]
        one, other = (truth * gain + 1.5 * rng.normal(size=(16, 64)) for gain in gains)
        found.append(np.corrcoef(one.mean(0), other.mean(0))[0, 1])
        intervals.append(correlation_interval(one, other, same_trials=same))
    (low, high), middle = np.array(intervals).T, np.median(found)
    assert 0.85 <= ((low <= middle) & (middle <= high)).mean() <= 1
    # And no more than it must: it is about as wide as the correlations spread.
    spread = np.subtract(*np.quantile(found, [0.975, 0.025]))
    assert 0.5 < np.median(high - low) / spread < 2


def test_what_the_same_trials_share_makes_no_interval_wider():
    rng = np.random.default_rng(1)
    one = rng.normal(size=64) + 2 * rng.normal(size=(16, 64))
    other = one + 0.2 * rng.normal(size=(16, 64))
    paired, apart = (
        np.ptp(correlation_interval(one, other, same_trials=same)) for same in (True, False)
    )
    assert paired < 0.7 * apart


def test_reliability_is_the_mean_over_all_ways_of_halving_the_trials():
    rng = np.random.default_rng(0)
    effects = rng.normal(size=40) + rng.normal(size=(6, 40))
    halves = [
        (effects[list(half)].sum(0), np.delete(effects, half, axis=0).sum(0))
        for half in combinations(range(6), 3)
    ]
    # Split-half reliability after Flanagan and Rulon: 4 cov / var of the sum.
    wanted = np.mean([4 * np.cov(*pair)[0, 1] / np.var(np.add(*pair), ddof=1) for pair in halves])
    assert reliability(effects) == pytest.approx(wanted)
    assert np.isnan(reliability(effects[:1])) and np.isnan(reliability(np.zeros((4, 8))))


@pytest.mark.parametrize("same", [True, False])
def test_noise_is_taken_out_of_a_correlation_and_the_ceiling_is_what_it_leaves(same):
    rng = np.random.default_rng(5)
    truth = rng.normal(size=300)
    wanted = 0.8 * truth + 0.6 * rng.normal(size=300)
    found = []
    for _ in range(60):
        noise = rng.normal(size=(16, 300))
        # What both share of the noise of a trial is none of their agreement.
        shared = noise if same else rng.normal(size=(16, 300))
        one = truth + 4 * noise
        other = wanted + 4 * (0.6 * shared + 0.8 * rng.normal(size=(16, 300)))
        raw = np.corrcoef(one.mean(0), other.mean(0))[0, 1]
        found.append((raw, ceiling(one, other), *disattenuated(one, other, same_trials=same)))
    raw, most, corrected, low, high = np.array(found).T
    true = np.corrcoef(truth, wanted)[0, 1]
    if same:
        assert raw.mean() > true * most.mean() + 0.1
    else:
        assert raw.mean() == pytest.approx(true * most.mean(), abs=0.02)
    # The noise of a mean of 16 trials has variance 1.
    alone = [effects.var() / (effects.var() + 1) for effects in (truth, wanted)]
    assert most.mean() == pytest.approx(np.sqrt(np.prod(alone)), abs=0.02)
    assert corrected.mean() == pytest.approx(true, abs=0.03)
    assert ((low <= true) & (true <= high)).mean() >= 0.9


def test_where_all_is_noise_nothing_is_left_to_correlate():
    rng = np.random.default_rng(1)
    most = [ceiling(*rng.normal(size=(2, 16, 200))) for _ in range(40)]
    assert np.mean(most) < 0.2
    pairs = [rng.normal(size=(2, 16, 200)) for _ in range(40)]
    assert (
        np.mean([np.isnan(disattenuated(*pair, same_trials=False)).all() for pair in pairs]) > 0.9
    )


def test_one_trial_leaves_no_interval():
    assert np.isnan(correlation_interval(np.ones((1, 4)), np.ones((8, 4)), same_trials=False)).all()


def test_of_fewer_heads_than_are_looked_for_all_are(runs):
    pd.testing.assert_frame_equal(*(rgb.compare_runs(*runs, k=k) for k in (24, 1000)))


def test_runs_of_other_heads_or_panels_are_refused(runs, tmp_path):
    frame, panels = (
        pd.read_parquet(runs[0] / f"{name}.parquet") for name in ("patch_heads", "panels")
    )
    fewer = changed(runs[0], tmp_path / "fewer", patch_heads=frame[frame["layer"] > 0])
    with pytest.raises(rgb.InputError, match="24 heads in 6 layers and .* 20 heads in 5 layers"):
        rgb.compare_runs(runs[0], fewer)
    own = changed(runs[0], tmp_path / "own", panels=panels.assign(panel="right, when other"))
    with pytest.raises(rgb.InputError, match="with a panel in common"):
        rgb.compare_runs(runs[0], own)
    with pytest.raises(rgb.InputError, match="k is 0; use 1 or more"):
        rgb.compare_runs(*runs, k=0)
    with pytest.raises(rgb.InputError, match="no folder"):
        rgb.compare_runs(runs[0], tmp_path / "nowhere")


def test_trials_are_the_same_only_if_every_pixel_is(runs, tmp_path, monkeypatch):
    asked = []

    def watched(one, other, *, same_trials):
        asked.append(same_trials)
        return correlation_interval(one, other, same_trials=same_trials)

    monkeypatch.setattr(
        sys.modules["rgb_circuit.calls.compare_runs"], "correlation_interval", watched
    )
    apart = changed(runs[0], tmp_path / "apart")
    manifest = json.loads((apart / "manifest.json").read_text())
    for trial in manifest["trials"]:
        trial["pictures"]["clean"] = "another"
    (apart / "manifest.json").write_text(json.dumps(manifest))
    for other, same in ((runs[0], True), (apart, False), (runs[1], False)):
        asked.clear()
        rgb.compare_runs(runs[0], other)
        assert asked == [same] * 3
