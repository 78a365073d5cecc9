"""Faithfulness is 0 of nothing, 1 of the whole model, and what the planted gains say in between."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from brute_force import BruteForce

import rgb_circuit as rgb
from analyses.circuit import areas, circuit, curve, partners, ranked
from analyses.circuit.resampling import RESAMPLED, with_partners
from rgb_circuit.boards import Canvas
from rgb_circuit.conversation import TEMPLATE
from rgb_circuit.models.planted import PARTS, UNKIND, Part, Placement
from rgb_circuit.models.planted import planted as make_planted
from rgb_circuit.pictures import picture_hash
from rgb_circuit.prompts import answer_tokens
from rgb_circuit.stimuli.tasks import find

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
def planted_trials(planted):
    return rgb.rgb_trials(planted, 8)


def wrapped(**made):
    """A planted model with these options."""
    model, processor, _ = make_planted(**made)
    return rgb.wrap(model, processor, name="planted")


def playable(model):
    """Trials with something to restore: the three of a random model whose logit difference happens
    to fall most."""
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
        assert found.loc[test, ["faithfulness", "ci_low", "ci_high"]].astype(
            float
        ).tolist() == pytest.approx([1, 1, 1], abs=1e-4)
    assert found["random_mean"].isna().all() and (found["random_sets"] == 0).all()
    assert found["p_value"].notna().pipe(lambda tested: tested[tested].index.tolist()) == [
        "independence"
    ]


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
        head: sum(run[1][head[0]][end, head[1]] for run in clean.values()) / len(trials)
        for head in heads
    }

    def difference(logits, trial):
        tokens = answer_tokens(model, trial)
        return float(logits[tokens["odd"]] - logits[tokens["none"]])

    def restored(condition, vector):
        """Fraction restored in the ``condition`` run; ``vector``: trial, head → z to write, or
        None."""
        gained = gap = 0
        for trial in trials:
            writes = [
                (*head, end, vector(trial, head))
                for head in model.heads()
                if vector(trial, head) is not None
            ]
            low = difference(erased[trial.name][0], trial)
            gained += difference(bare.run(trial, condition, writes)[0], trial) - low
            gap += difference(clean[trial.name][0], trial) - low
        return gained / gap

    def of(runs):
        return lambda trial, head: runs[trial.name][1][head[0]][end, head[1]]

    def anothers(trial, head):
        partner = trials[partners(trials, "clean", "erased")[trials.index(trial)]]
        return clean[partner.name][1][head[0]][end, head[1]]

    def outside(kept):
        return lambda trial, head: None if head in kept else of(erased)(trial, head)

    wanted = {
        "sufficiency": restored(
            "erased", lambda trial, head: of(clean if head in heads else erased)(trial, head)
        ),
        "isolation": restored("clean", outside(heads)),
        "necessity": restored("clean", lambda trial, head: mean.get(head)),
        "necessity (zero)": restored(
            "clean", lambda trial, head: 0 * mean[head] if head in heads else None
        ),
        **dict.fromkeys(
            ("necessity (resampling)", "partial necessity", "independence"),
            restored("clean", lambda trial, head: anothers(trial, head) if head in heads else None),
        ),
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
    # Eight trials show each of eight colours once as the odd one: the mean keeps an eighth of what
    # the extractors write.
    assert found["necessity"] == pytest.approx(
        (sum(GAINS[head] for head in CIRCUIT[1:]) / 8 - 2) / GAP, abs=1e-3
    )
    # Without a mean only the suppressor is left.
    for test in ("necessity (zero)", "necessity (resampling)"):
        assert found[test] == pytest.approx(-2 / GAP, abs=1e-3)
    for head in CIRCUIT[1:]:
        assert found[head] == pytest.approx(whole - GAINS[head] / GAP, abs=1e-3)
    # Without the localizer only the content extractor is left, which needs none.
    assert found[PLACE.poi] == pytest.approx(6 / GAP, abs=1e-3)
    # The answer is as sure in every trial, but for rounding.
    assert frame.set_index("test").loc["independence", "p_value"] == 1
    random = frame.set_index("test")["random_mean"]
    assert random["isolation"] < 0.1 and random["sufficiency"] < 0.1 and random["necessity"] > 0.9


def test_a_needed_head_outside_the_circuit_is_what_is_left_of_the_answer(planted, planted_trials):
    heads = [head for head in CIRCUIT if head != PLACE.content_extractor]
    found = faithfulness(circuit(planted, planted_trials, heads, progress=False))
    for test in ("necessity (zero)", "necessity (resampling)", "partial necessity"):
        assert found[test] == pytest.approx((6 - 2) / GAP, abs=1e-3)


def test_a_stand_in_speaks_under_the_ablation_that_silences_and_under_no_other():
    model = wrapped(decoys=(), more=[(UNKIND["backup"], (4, 0))])
    trials = rgb.rgb_trials(model, 8)
    tests = ["necessity", "necessity (zero)", "necessity (resampling)"]
    # The extractor writes 10 logits, its stand-in 8 if there are none of any colour; of the mean
    # over eight trials with eight colours, an eighth is the trial's own.
    for heads, wanted in (([(3, 0)], [1 / 8, 0.8, 0]), ([(3, 0), (4, 0)], [1 / 8, 0, 0])):
        frame = circuit(model, trials, heads, progress=False).set_index("test")
        assert frame.loc[tests, "faithfulness"].tolist() == pytest.approx(wanted, abs=2e-3)
        assert frame.loc[tests, "ablation"].tolist() == ["mean", "zero", "resampling"]


def test_partial_necessity_is_the_rank_among_sets_that_differ(planted, planted_trials):
    def of(model, trials, heads, **options):
        frame = circuit(model, trials, heads, progress=False, **options).set_index("test")
        return frame.loc["partial necessity", ["p_value", "random_sets"]].tolist()

    # Outside the circuit are 3 heads in layer 2, 2 in layer 3 and 2 in layer 4, so 3 sets of its
    # shape.
    assert of(planted, planted_trials, CIRCUIT) == [pytest.approx(1 / 4), 3]
    # Of the three other heads of its layer, one is worse to lose.
    assert of(planted, planted_trials, [PLACE.content_extractor]) == [pytest.approx(2 / 4), 3]
    # Nothing is lost with this head, so any other is at least as bad to lose.
    assert of(planted, planted_trials, [(3, 1)]) == [pytest.approx(1), 3]
    # Two do the same, but for what rounding could do, which is no rank.
    alike = wrapped(decoys=(), more=[(replace(PARTS["content_extractor"], gain=10.00005), (3, 1))])
    for head in ((3, 0), (3, 1)):
        assert of(alike, rgb.rgb_trials(alike, 8), [head]) == [pytest.approx(2 / 4), 3]
    wide = wrapped(heads=8, decoys=())
    trials = rgb.rgb_trials(wide, 8)
    assert of(wide, trials, [PLACE.poi, PLACE.extractor]) == [pytest.approx(1 / 21), 20]
    assert of(wide, trials, [PLACE.poi, PLACE.extractor], random_sets=99) == [
        pytest.approx(1 / 50),
        49,
    ]


def test_a_circuit_is_ranked_among_random_sets_and_few_sets_decide_nothing(planted, planted_trials):
    frame = circuit(planted, planted_trials, CIRCUIT, progress=False).set_index("test")
    ranked_tests = [
        "sufficiency",
        "isolation",
        "necessity",
        "necessity (zero)",
        "necessity (resampling)",
    ]
    # Best of 3 random sets in everything; that is no more than 1 of 4.
    assert frame.loc[ranked_tests, "p_value"].tolist() == [pytest.approx(1 / 4)] * 5
    assert not frame.loc[[*ranked_tests, "partial necessity"], "decidable"].any()
    assert frame.loc["independence", "decidable"]
    assert frame.loc["minimality", ["p_value", "decidable"]].isna().all(axis=None)
    # A head that does nothing restores no more than any other, and leaves no less.
    idle = circuit(planted, planted_trials, [(3, 1)], progress=False).set_index("test")
    assert (idle.loc[ranked_tests, "p_value"] > 0.2).all()
    wide = wrapped(heads=8, decoys=())
    found = circuit(wide, rgb.rgb_trials(wide, 8), [PLACE.poi, PLACE.extractor], progress=False)
    found = found.set_index("test").loc[ranked_tests]
    assert found["p_value"].tolist() == [pytest.approx(1 / 21)] * 5 and found["decidable"].all()


def test_independence_is_refuted_where_a_reader_outside_the_circuit_follows_the_trials_too():
    # The answer varies with the tile, by what each of two readers makes of it.
    parts = [
        Part(name, "", "found", "color", "answer", 5.0, variation=1.0) for name in ("one", "two")
    ]
    readers = [(3, 0), (4, 2)]
    model = wrapped(decoys=(), without=("extractor",), more=list(zip(parts, readers)))
    trials = rgb.rgb_trials(model, 32)

    def p(heads):
        frame = circuit(model, trials, heads, random_sets=1, progress=False).set_index("test")
        return frame.loc["independence", "p_value"]

    assert p(readers[:1]) < 0.01 and p(readers[1:]) < 0.01
    # Nothing is left that could follow anything, and all is left without a head that takes no part.
    assert p(readers) > 0.5 and p([(5, 0)]) < 0.001


def test_every_trial_lends_its_picture_once_to_one_of_another_word_and_place(planted):
    for seed in range(3):
        trials = rgb.rgb_trials(planted, 24, seed=seed)
        chosen = partners(trials, "clean", "recolored", seed)
        assert sorted(chosen) == list(range(24)) and chosen != partners(
            trials, "clean", "recolored", seed + 1
        )
        for trial, other in zip(trials, (trials[index] for index in chosen)):
            assert other.answers["odd"] not in (trial.answers["odd"], trial.answers["other"])
            assert other.tile != trial.tile
    trials = [trial for tile in ((1, 1), (4, 2)) for trial in rgb.rgb_trials(planted, 8, tile=tile)]
    trials = [replace(trial, name=f"{index}") for index, trial in enumerate(trials)]
    assert all(
        trials[index].tile != trial.tile
        for trial, index in zip(trials, partners(trials, "clean", "erased"))
    )
    # As few of the same word as there can be: of three reds and a blue, two.
    trials = [
        *rgb.rgb_trials(planted, 3, odd="red"),
        *rgb.rgb_trials(planted, 1, odd="blue", other="green"),
    ]
    pairs = [
        (trials[row].answers["odd"], trials[column].answers["odd"])
        for row, column in enumerate(partners(trials, "clean", "erased"))
    ]
    assert sorted(pairs) == [("blue", "red"), ("red", "blue"), ("red", "red"), ("red", "red")]


def test_what_a_sender_does_shows_in_isolation_and_not_in_sufficiency(planted, planted_trials):
    frames = (
        circuit(planted, planted_trials, heads, progress=False) for heads in (CIRCUIT, CIRCUIT[1:])
    )
    with_poi, without = map(faithfulness, frames)
    assert with_poi["sufficiency"] == pytest.approx(without["sufficiency"], abs=1e-4)
    assert with_poi["isolation"] - without["isolation"] == pytest.approx(20 / GAP, abs=1e-3)


def test_ranking_finds_the_planted_heads_in_the_order_of_what_falls_without_them(
    planted, planted_trials
):
    table = ranked(planted, planted_trials, progress=False)
    first = list(table[["layer", "head"]].head(3).itertuples(index=False, name=None))
    assert first == [PLACE.poi, PLACE.extractor, PLACE.content_extractor]
    assert table["score"].head(3).tolist() == pytest.approx([20, 10, 6], abs=0.01)
    # A sender restored alone does nothing while its readers see a plain canvas.
    assert table["noising"].head(3).tolist() == pytest.approx([20, 10, 6], abs=0.01)
    assert table["denoising"].head(3).tolist() == pytest.approx([0, 10, 6], abs=0.01)
    assert tuple(table[["layer", "head"]].iloc[-1]) == PLACE.suppressor
    assert len(table) == len(planted.heads())


def test_a_head_with_a_stand_in_is_ranked_by_what_it_restores_alone():
    model = wrapped(decoys=(), more=[(UNKIND["backup"], (4, 0))])
    table = ranked(model, rgb.rgb_trials(model, 8), progress=False).set_index(["layer", "head"])
    first = table.loc[[(2, 1), (3, 0), (4, 0)], ["noising", "denoising", "score"]].to_numpy()
    # Localizer, extractor, stand-in.
    np.testing.assert_allclose(first, [[10, 0, 10], [2, 10, 10], [0, 0, 0]], atol=0.02)


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
        return areas(
            pd.DataFrame({"share": [0.0, 0.5, 1.0], "faithfulness": faithfulness, "n": 3})
        ).iloc[0]

    assert of([0.0, 0.5, 1.0])[["cpr", "cmd"]].tolist() == pytest.approx([0.5, 0.5])
    assert of([1.0, 1.0, 1.0])[["cpr", "cmd"]].tolist() == pytest.approx([1, 0])
    assert of([0.0, 2.0, 1.0])[["cpr", "cmd"]].tolist() == pytest.approx([1.25, 0.75])


def test_the_seed_decides_the_random_sets(grouped):
    trials = playable(grouped)
    heads = [(0, 1), (1, 1)]
    one, again, other = (
        circuit(grouped, trials, heads, random_sets=5, seed=seed, progress=False)
        for seed in (0, 0, 1)
    )
    pd.testing.assert_frame_equal(one, again)
    assert not np.allclose(one["random_mean"], other["random_mean"])
    np.testing.assert_allclose(one["faithfulness"], other["faithfulness"], atol=1e-5)


def test_the_seed_decides_whose_picture_a_trial_gets(grouped):
    trials, lent = rgb.rgb_trials(grouped, 8), []
    for seed in (0, 0, 1):
        _, in_source = next(circuit.steps(grouped, trials, [(0, 1)], seed=seed))
        lent.append([picture_hash(trial.sources[RESAMPLED]) for trial in in_source.trials])
    assert lent[0] == lent[1] != lent[2]


def test_random_sets_of_a_curve_run_from_nothing_to_all_and_stay_below_the_ranked_heads(
    planted, planted_trials
):
    ranking = ranked(planted, planted_trials, progress=False)[["layer", "head"]].to_numpy()
    frame = curve(planted, planted_trials, ranking, progress=False)
    random = frame[["random_low", "random_mean", "random_high"]]
    assert random.iloc[[0, -1]].to_numpy().ravel().tolist() == pytest.approx(
        [0, 0, 0, 1, 1, 1], abs=1e-3
    )
    assert (random["random_mean"].iloc[2:6] < frame["faithfulness"].iloc[2:6] - 0.3).all()
    # But for rounding, where all sets are alike.
    assert (random["random_low"] <= random["random_mean"] + 1e-9).all()
    assert (random["random_mean"] <= random["random_high"] + 1e-9).all()
    again, other = (
        curve(planted, planted_trials, ranking, seed=seed, progress=False) for seed in (0, 1)
    )
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
        (
            dict(fixed=dict(odd="red")),
            "mean and resampling ablation would leave it.*answers differ.*zero",
        ),
        (dict(target="resampled"), "named 'resampled'.*rename it"),
        (dict(random_sets=0), "at least one"),
    ],
)
def test_bad_input_is_refused_before_any_forward(grouped, monkeypatch, change, message):
    monkeypatch.setattr("rgb_circuit.calls.patching.execute", None)
    arguments = dict(heads=[(0, 0)], n=2, fixed={}) | change
    trials = rgb.rgb_trials(grouped, arguments.pop("n"), **arguments.pop("fixed"))
    with pytest.raises(rgb.InputError, match=message):
        circuit(grouped, trials, **arguments, progress=False)


def test_a_ranking_must_hold_every_head_once(grouped, monkeypatch):
    monkeypatch.setattr("rgb_circuit.calls.patching.execute", None)
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


def test_a_partner_lends_its_question_with_its_picture_and_no_place_of_a_picture_left_out():
    task = find("relation")
    asked = task.draw(Canvas(6, 4, 0, TEMPLATE), list(task.vocabulary), 8, 0, {})
    for trial, other in zip(
        with_partners(asked, "clean", "exchanged", 0), partners(asked, "clean", "exchanged")
    ):
        assert (
            trial.asked(RESAMPLED) == asked[other].prompt
            and trial.asked("exchanged") == trial.prompt
        )
        assert trial.sources[RESAMPLED] is asked[other].sources["clean"]
        assert trial.boxes.keys() == {"clean", "exchanged"}
