"""Faithfulness is 0 of nothing, 1 of the whole model, and what the planted gains say in between."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from brute_force import BruteForce

import rgb_circuit as rgb
from analyses.circuit import areas, circuit, curve, ranked
from rgb_circuit.models.planted import Placement
from rgb_circuit.prompts import answer_tokens

PLACE = Placement()
# What each planted head adds to odd − white in the clean run; together, the gap.
GAINS = {
    PLACE.extractor: 10,
    PLACE.content_extractor: 6,
    **dict.fromkeys(PLACE.redundant_pair, 5),
    PLACE.suppressor: -2,
}
GAP = sum(GAINS.values())
CIRCUIT = [PLACE.poi, PLACE.extractor, PLACE.content_extractor, *PLACE.redundant_pair]


@pytest.fixture(scope="module")
def trials(model):
    return playable(model)


@pytest.fixture(scope="module")
def planted():
    return rgb.load("planted")


@pytest.fixture(scope="module")
def planted_trials(planted):
    return rgb.rgb_trials(planted, 8)


def playable(model):
    """Trials with something to restore: the three of a random model whose logit difference happens to fall
    most."""
    many = rgb.rgb_trials(model, 24, seed=5)
    played = rgb.play(model, many, progress=False).set_index(["trial", "condition"])
    difference = (played["logit_odd"] - played["logit_none"]).unstack()
    most = (difference["clean"] - difference["erased"]).nlargest(3).index
    return [trial for trial in many if trial.name in most]


def faithfulness(frame):
    """Test, or head left out → faithfulness."""
    keys = [
        row.test if row.test != "minimality" else (int(row.layer), int(row.head))
        for row in frame.itertuples()
    ]
    return dict(zip(keys, frame["faithfulness"]))


def test_the_whole_model_is_faithful_and_needed(model, trials):
    found = circuit(model, trials, model.heads(), random_sets=2, progress=False).set_index("test")
    for test in ("sufficiency", "isolation"):
        assert found.loc[test, ["faithfulness", "ci_low", "ci_high"]].astype(float).tolist() == pytest.approx(
            [1, 1, 1], abs=1e-4
        )
    assert found.loc["minimality", "random_mean"].isna().all()


def test_the_curve_runs_from_zero_to_one(model, trials):
    frame = curve(model, trials, model.heads(), progress=False)
    assert frame["size"].tolist() == list(range(len(model.heads()) + 1))
    for column in ("faithfulness", "ci_low", "ci_high"):
        assert frame[column].iloc[[0, -1]].tolist() == pytest.approx([0, 1], abs=1e-4)


def test_every_test_agrees_with_plain_hooks(model, trials):
    bare, heads = BruteForce(model.name), [(0, 1), (1, 0), (1, 2)]
    clean, erased = (
        {trial.name: bare.unpatched(trial, condition) for trial in trials}
        for condition in ("clean", "erased")
    )
    end = len(clean[trials[0].name][1][0]) - 1
    mean = {
        head: sum(run[1][head[0]][end, head[1]] for run in clean.values()) / len(trials) for head in heads
    }

    def difference(logits, trial):
        tokens = answer_tokens(model, trial)
        return float(logits[tokens["odd"]] - logits[tokens["none"]])

    def restored(condition, vector):
        """Fraction restored in the ``condition`` run; ``vector``: trial, head → z to write, or None."""
        gained = gap = 0
        for trial in trials:
            writes = [
                (*head, end, vector(trial, head)) for head in model.heads() if vector(trial, head) is not None
            ]
            low = difference(erased[trial.name][0], trial)
            gained += difference(bare.run(trial, condition, writes)[0], trial) - low
            gap += difference(clean[trial.name][0], trial) - low
        return gained / gap

    def of(runs):
        return lambda trial, head: runs[trial.name][1][head[0]][end, head[1]]

    def outside(kept):
        return lambda trial, head: None if head in kept else of(erased)(trial, head)

    wanted = {
        "sufficiency": restored(
            "erased", lambda trial, head: of(clean if head in heads else erased)(trial, head)
        ),
        "isolation": restored("clean", outside(heads)),
        "necessity": restored("clean", lambda trial, head: mean.get(head)),
        **{
            left_out: restored("clean", outside([head for head in heads if head != left_out]))
            for left_out in heads
        },
    }
    frame = circuit(model, trials, heads, random_sets=2, progress=False)
    assert faithfulness(frame) == pytest.approx(wanted, abs=1e-4)
    assert np.ptp(list(wanted.values())) > 0.05


def test_the_planted_circuit_gives_what_its_gains_say(planted, planted_trials):
    frame = circuit(planted, planted_trials, CIRCUIT, progress=False)
    found = faithfulness(frame)
    whole = (GAP + 2) / GAP
    assert found["sufficiency"] == pytest.approx(whole, abs=1e-3)
    assert found["isolation"] == pytest.approx(whole, abs=1e-3)
    # Eight trials show each of eight colours once as the odd one: the mean keeps an eighth of what the
    # extractors write.
    assert found["necessity"] == pytest.approx(
        (sum(GAINS[head] for head in CIRCUIT[1:]) / 8 - 2) / GAP, abs=1e-3
    )
    for head in CIRCUIT[1:]:
        assert found[head] == pytest.approx(whole - GAINS[head] / GAP, abs=1e-3)
    # Without the localizer only the content extractor is left, which needs none.
    assert found[PLACE.poi] == pytest.approx(6 / GAP, abs=1e-3)
    random = frame.set_index("test")["random_mean"]
    assert random["isolation"] < 0.1 and random["sufficiency"] < 0.1 and random["necessity"] > 0.9


def test_what_a_sender_does_shows_in_isolation_and_not_in_sufficiency(planted, planted_trials):
    frames = (circuit(planted, planted_trials, heads, progress=False) for heads in (CIRCUIT, CIRCUIT[1:]))
    with_poi, without = map(faithfulness, frames)
    assert with_poi["sufficiency"] == pytest.approx(without["sufficiency"], abs=1e-4)
    assert with_poi["isolation"] - without["isolation"] == pytest.approx(20 / GAP, abs=1e-3)


def test_ranking_finds_the_planted_heads_in_the_order_of_what_falls_without_them(planted, planted_trials):
    table = ranked(planted, planted_trials, progress=False)
    first = list(table[["layer", "head"]].head(3).itertuples(index=False, name=None))
    assert first == [PLACE.poi, PLACE.extractor, PLACE.content_extractor]
    assert table["score"].head(3).tolist() == pytest.approx([20, 10, 6], abs=0.01)
    assert tuple(table[["layer", "head"]].iloc[-1]) == PLACE.suppressor
    assert len(table) == len(planted.heads())


def test_the_areas_of_the_planted_curve(planted, planted_trials):
    ranking = ranked(planted, planted_trials, progress=False)[["layer", "head"]].to_numpy()
    frame = curve(planted, planted_trials, ranking, progress=False)
    assert frame["faithfulness"].head(6).tolist() == pytest.approx(
        [0, 0, 10 / 24, 16 / 24, 21 / 24, 26 / 24], abs=1e-3
    )
    backwards = curve(planted, planted_trials, ranking[::-1], progress=False)
    assert areas(frame)["cpr"].item() > areas(backwards)["cpr"].item()
    assert areas(frame)["cmd"].item() < areas(backwards)["cmd"].item()


def test_areas_are_those_of_straight_lines():
    def of(faithfulness):
        return areas(pd.DataFrame({"share": [0.0, 0.5, 1.0], "faithfulness": faithfulness, "n": 3})).iloc[0]

    assert of([0.0, 0.5, 1.0])[["cpr", "cmd"]].tolist() == pytest.approx([0.5, 0.5])
    assert of([1.0, 1.0, 1.0])[["cpr", "cmd"]].tolist() == pytest.approx([1, 0])
    assert of([0.0, 2.0, 1.0])[["cpr", "cmd"]].tolist() == pytest.approx([1.25, 0.75])


def test_the_seed_decides_the_random_sets(grouped):
    trials = playable(grouped)
    heads = [(0, 1), (1, 1)]
    one, again, other = (
        circuit(grouped, trials, heads, random_sets=5, seed=seed, progress=False) for seed in (0, 0, 1)
    )
    pd.testing.assert_frame_equal(one, again)
    assert not np.allclose(one["random_mean"], other["random_mean"])
    np.testing.assert_allclose(one["faithfulness"], other["faithfulness"], atol=1e-5)


def test_random_sets_of_a_curve_run_from_nothing_to_all_and_stay_below_the_ranked_heads(
    planted, planted_trials
):
    ranking = ranked(planted, planted_trials, progress=False)[["layer", "head"]].to_numpy()
    frame = curve(planted, planted_trials, ranking, progress=False)
    random = frame[["random_low", "random_mean", "random_high"]]
    assert random.iloc[[0, -1]].to_numpy().ravel().tolist() == pytest.approx([0, 0, 0, 1, 1, 1], abs=1e-3)
    assert (random["random_mean"].iloc[2:6] < frame["faithfulness"].iloc[2:6] - 0.3).all()
    assert (random["random_low"] <= random["random_mean"]).all() and (
        random["random_mean"] <= random["random_high"]
    ).all()
    again, other = (curve(planted, planted_trials, ranking, seed=seed, progress=False) for seed in (0, 1))
    pd.testing.assert_frame_equal(frame, again)
    assert not np.allclose(other["random_mean"], frame["random_mean"])
    np.testing.assert_allclose(other["faithfulness"], frame["faithfulness"], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(heads=[(0, 9)]), "head 0.9 does not exist"),
        (dict(heads=[]), "circuit is empty"),
        (dict(target="gone"), "does not say which answer is right for 'gone'"),
        (dict(target="moved"), "same right answer"),
        (dict(target="clean"), "both 'clean'"),
        (dict(n=1), "there are 1 trials"),
        (dict(fixed=dict(odd="red")), "odd colours differ"),
        (dict(random_sets=0), "at least one"),
    ],
)
def test_bad_input_is_refused_before_any_forward(grouped, monkeypatch, change, message):
    monkeypatch.setattr("rgb_circuit.patching.execute", None)
    arguments = dict(heads=[(0, 0)], n=2, fixed={}) | change
    trials = rgb.rgb_trials(grouped, arguments.pop("n"), **arguments.pop("fixed"))
    with pytest.raises(rgb.InputError, match=message):
        circuit(grouped, trials, **arguments, progress=False)


def test_a_ranking_must_hold_every_head_once(grouped, monkeypatch):
    monkeypatch.setattr("rgb_circuit.patching.execute", None)
    trials = rgb.rgb_trials(grouped, 2)
    for ranking in (grouped.heads()[1:], [*grouped.heads(), (0, 0)]):
        with pytest.raises(rgb.InputError, match="rank each head"):
            curve(grouped, trials, ranking, progress=False)


@pytest.mark.filterwarnings("ignore:.*has the same picture")
def test_a_model_that_has_nothing_to_restore_is_refused(planted):
    # Both pictures are the same one.
    trials = [
        replace(
            trial,
            images={**trial.images, "same": trial.images["clean"]},
            expected={"clean": "odd", "same": "none"},
        )
        for trial in rgb.rgb_trials(planted, 2)
    ]
    with pytest.raises(rgb.InputError, match="nothing to restore"):
        circuit(planted, trials, [PLACE.poi], target="same", progress=False)
