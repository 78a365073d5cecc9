"""Pictures that nobody drew: trials of one source are one observation, an effect is one in each
answer, and a head that moves one word is a bias head. On a planted model that reads photographs,
heads get the roles that they have."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import rgb_circuit as rgb
from analyses import roles
from analyses.circuit import circuit, ranked
from analyses.composition import composition, paths
from analyses.evidence import examine
from analyses.evidence.effects import Measured
from analyses.evidence.rules import Rules
from analyses.evidence.verdict import judge
from rgb_circuit import InputError
from rgb_circuit.calls.panels import gaps, panels, panels_for
from rgb_circuit.calls.panels import tested as panel_table
from rgb_circuit.heads import Head
from rgb_circuit.hypothesis import Hypothesis, Prediction, Sweep
from rgb_circuit.models.photo_reader import PLACES, QUESTION, photo_reader, photographs
from rgb_circuit.statistics import t_interval, within_strata
from rgb_circuit.stimuli.replicates import (
    Replicates,
    averaged,
    clusters_of,
    named_clusters,
    of_one_source,
    said,
)
from rgb_circuit.stimuli.tasks import task_of
from rgb_circuit.task import Condition, Role, Task
from rgb_circuit.trial import described

RULES = Rules(margin=0.1, least=0.05, level=0.05, split=False)
READER = Hypothesis("reader", (Prediction.parse("A", "right up, other down: z clean -> changed"),))
BIAS = Hypothesis("bias", (Prediction.parse("B", "right biased: z clean -> changed"),))
TASK = Task(
    name="pairs",
    question="",
    roles={"right": Role(), "other": Role()},
    conditions={"clean": Condition(right="right", shows=("right",)),
                "changed": Condition(right="other", shows=("other",))},
    corrupted="changed",
)  # fmt: skip


# What one observation is


def trial(name, *colors, cluster=""):
    clean, changed = (Image.new("RGB", (24, 24), color) for color in colors)
    answers = {"right": "red", "other": "blue"}
    return rgb.Trial(
        name, "<image> What?", {"clean": clean, "changed": changed}, answers, cluster=cluster
    )


def test_trials_that_share_a_picture_are_one_cluster_however_they_are_linked():
    chain = [trial("1", "#111", "#222"), trial("2", "#333", "#444"), trial("3", "#222", "#333")]
    assert clusters_of([*chain, trial("4", "#555", "#666")], drawn=False) == ["1", "1", "1", "4"]


def test_a_cluster_that_is_named_is_the_trials_own():
    named = [
        trial("1", "#111", "#222", cluster="hall"),
        trial("2", "#111", "#333", cluster="attic"),
    ]
    assert clusters_of(named, drawn=False) == ["hall", "attic"]
    beside = [replace(one, cluster=cluster) for one, cluster in zip(named, ("2", ""))]
    assert clusters_of(beside, drawn=False) == ["2", "trial 2"]
    same = [replace(one, cluster="hall") for one in named]
    assert "2 trials in 1 cluster" in of_one_source(same) and "name one cluster" in of_one_source(
        same
    )


def test_a_manifest_records_which_trials_are_one_observation():
    # The second names a cluster, so its pictures link the first and the third no longer.
    chain = [
        trial("1", "#111", "#222"),
        trial("2", "#222", "#333", cluster="hall"),
        replace(trial("3", "#333", "#444"), strata={"light": "dim"}),
    ]
    task = task_of(chain)
    for found in (
        Replicates.of(chain, task),
        Replicates.recorded([described(one) for one in chain], task),
    ):
        assert found.clusters.tolist() == ["1", "hall", "3"]
        assert found.levels.tolist() == ["", "", "light dim"]


def test_drawn_trials_share_nothing_though_canvases_recur(toy):
    drawn = rgb.rgb_trials(toy, 16)
    replicates = Replicates.of(drawn)
    assert replicates.drawn and replicates.n() == 16 and not of_one_source(drawn)
    values = np.random.default_rng(0).normal(size=(16, 3))
    means, strata = replicates.means(values, np.array(["a", "b"] * 8), alike=True)
    assert (means == values).all() and strata.tolist() == ["a", "b"] * 8


def own(clusters, levels=None):
    clusters = np.array(clusters)
    levels = np.full(len(clusters), "") if levels is None else np.array(levels)
    return Replicates(clusters, levels, drawn=False)


def test_answers_weigh_alike_and_the_interval_is_that_of_their_mean():
    rng = np.random.default_rng(0)
    words = np.array(["yes"] * 24 + ["no"] * 8)
    values = rng.normal(size=32) + (words == "yes")
    means, strata = own(np.arange(32).astype(str)).means(values, words, alike=True)
    each = [values[words == word] for word in ("yes", "no")]
    assert means.mean() == pytest.approx(np.mean([part.mean() for part in each]))
    _, error, _ = within_strata(means, strata)
    assert error == pytest.approx(np.sqrt(sum(part.var(ddof=1) / len(part) for part in each)) / 2)
    low, high = t_interval(means, strata)
    assert low < means.mean() < high


def test_a_cluster_with_both_answers_counts_once_in_the_mean_and_once_in_each():
    words = np.array(["yes", "no"] * 10)
    replicates = own(np.repeat(np.arange(10), 2).astype(str))
    values = np.arange(20.0)
    means, strata = replicates.means(values, words, alike=True)
    np.testing.assert_allclose(means, values.reshape(10, 2).mean(1))
    assert set(strata) == {"no + yes"} and replicates.too_few(words, replicates.all) == ""
    assert [len(part) for part in replicates.by_answer(words, replicates.all)] == [10, 10]


@pytest.mark.parametrize(
    "clusters, words, reason",
    [
        (range(7), ["a"] * 7, "few clusters"),
        ([0] * 8 + [1] * 8, ["a", "b"] * 8, "few clusters"),
        (range(16), ["a"] * 9 + ["b"] * 7, "few of an answer"),
        (range(16), ["a", "b"] * 8, ""),
        (range(10), list("abcdefghij"), ""),
    ],
)
def test_below_eight_clusters_or_eight_of_an_answer_nothing_is_tested(clusters, words, reason):
    replicates = own([str(one) for one in clusters])
    assert replicates.too_few(np.array(words), replicates.all) == reason


def test_declared_strata_are_compared_among_themselves():
    replicates = own([str(number) for number in range(8)], ["template a", "template b"] * 4)
    _, strata = replicates.means(np.zeros(8), np.array(["x"] * 8))
    assert set(strata) == {"x (template a)", "x (template b)"}
    # Four clusters of a stratum are enough to speak of its spread, and three are not.
    assert replicates.thin(np.array(["x"] * 8)) == (0, 2)
    assert own([str(number) for number in range(7)]).thin(np.array([*"xxxxyyy"])) == (1, 2)


def test_halves_have_no_cluster_in_common():
    first, second = own(["a", "b", "c", "a", "d", "c"]).halves()
    assert first.tolist() == [0, 1, 3] and second.tolist() == [2, 4, 5]


def test_a_frame_by_cluster_has_means_of_what_was_measured_alone():
    trials = [trial("1", "#111", "#222"), trial("2", "#111", "#333"), trial("3", "#444", "#555")]
    frame = pd.DataFrame(
        dict(
            trial=["1", "2", "3"],
            layer=5,
            # Missing, as of an MLP.
            head=np.nan,
            role="right",
            answer=["x", "y", "x"],
            effect=[1.0, 3.0, 5.0],
        )
    )
    found = averaged(frame, named_clusters(trials, task_of(trials)))
    assert found["effect"].tolist() == [2.0, 5.0] and found["layer"].tolist() == [5, 5]
    assert found["answer"].tolist() == ["x + y", "x"] and list(found) == list(frame)
    assert said(3, found["trial"].nunique()) == "3 trials in 2 clusters"


# Panels of simulated effects

PANEL = {"right": ("changed", "right")}


def asked(n):
    """Trials of pictures of their own, whose right answers take turns."""
    words = [{"right": "red", "other": "blue"}, {"right": "blue", "other": "red"}]
    return [
        replace(
            trial(str(number), f"#{number:02x}0000", f"#00{number:02x}ff"),
            answers=words[number % 2],
            expected={"clean": "right", "changed": "other"},
        )
        for number in range(n)
    ]


def swept(trials, *moves, floor=0.0):
    """A frame of `patch_heads`, in which each head moves the right word by so much, in every trial
    or trial by trial, of a gap of one logit."""
    rows = [
        dict(trial=one.name, target="changed", layer=0, head=head, role=role, answer=word,
             source_logit=float(role == "right"), target_logit=0.0, patched_logit=float(by))
        for head, move in enumerate(moves)
        for one, moved in zip(trials, np.broadcast_to(move, len(trials)))
        for role, word in one.answers.items()
        for by in [moved * (role == "right")]
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    frame["effect"] = frame["patched_logit"] - frame["target_logit"]
    frame.attrs["noise_floor"] = floor
    return frame


def test_an_effect_is_told_of_own_pictures_where_each_answer_shows_it():
    trials = asked(16)
    of_one = np.arange(16) % 2
    table = panel_table(swept(trials, of_one, 1.0), PANEL, trials=trials)
    assert table["told"].tolist() == [False, True] and table["effect"].tolist() == [0.5, 1]


def test_what_rounding_alone_could_make_is_no_effect_and_no_gap():
    trials = asked(16)
    for floor, told in ((0.0, True), (0.4, False)):
        frame = swept(trials, 0.05, floor=floor)
        for own in ({}, {"trials": trials}):
            mean = panels(frame, PANEL, **own)["right"].item()
            assert mean == pytest.approx(0.05 * told)
            assert panel_table(frame, PANEL, **own)["told"].tolist() == [told]
        assert np.isfinite(gaps(frame, trials=trials)["changed"]) == told


def test_trials_without_a_word_are_left_out_of_its_panel():
    trials = asked(16)
    trials[8:] = [replace(one, answers=one.answers | {"third": "green"}) for one in trials[8:]]
    frame, third = swept(trials, 1.0), {"third": ("changed", "third")}
    table = panel_table(frame, third, trials=trials)
    assert table["n"].tolist() == [8] and table["effect"].tolist() == [-1]
    assert panels(frame, third, trials=trials)["third"].tolist() == [-1]


def test_the_gap_is_that_of_the_trials_with_a_right_answer():
    task = task_of(trials := asked(16))
    trials = [replace(one, task=task) for one in trials]
    without = [replace(one, answers={"other": "red"}, expected={}) for one in trials]
    some = without[:6] + trials[6:]
    assert gaps(swept(some, 1.0), trials=some) == {"changed": 1.0}
    assert np.isnan(gaps(swept(without, 1.0), trials=without)["changed"])


def test_a_trial_without_a_word_to_read_against_is_refused_by_name():
    trials = asked(16)
    trials[:8] = [replace(one, answers=one.answers | {"third": "green"}) for one in trials[:8]]
    frame = swept(trials, 1.0)
    assert task_of(trials).controls("changed") == ("third",)
    for call in (lambda: gaps(frame, trials=trials), lambda: panels(frame, PANEL, trials=trials),
                 lambda: panel_table(frame, PANEL, trials=trials)):  # fmt: skip
        with pytest.raises(InputError, match="trial '8' has no answer 'third', which effects are"):
            call()
    every = [replace(one, answers=one.answers | {"third": "green"}) for one in trials]
    assert panels(swept(every, 1.0), PANEL, trials=every)["right"].tolist() == [1]


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("table", [panels, panel_table])
def test_a_panel_that_the_frame_does_not_have_is_refused_by_name(table, own):
    trials = asked(16)
    of = {"trials": trials} if own else {}
    for panel, sentence in (
        (("changed", "third"), "of the role 'third', and the frame has right, "),
        (("erased", "right"), "of the target 'erased', and the frame has changed; "),
    ):
        with pytest.raises(InputError, match=f"panel 'x' is {sentence}"):
            table(swept(trials, 1.0), {"x": panel}, **of)


# Verdicts on simulated effects of two answers


def effects_of(words, on_first):
    """A `Measured` of two answers; ``on_first``: effect on "yes" against "no" in each trial."""
    rng, n = np.random.default_rng(0), len(words)
    sign = np.where(words == "yes", 1.0, -1.0)
    towards = (on_first * sign)[:, None] + rng.normal(0, 0.1, (n, 3)) * [1, 0, 0]
    effects = np.stack([towards / 2, -towards / 2], axis=-1)
    logits = {"clean": np.tile([3.0, 0.0], (n, 1)), "changed": np.tile([0.0, 3.0], (n, 1))}
    said = np.stack([words, np.where(words == "yes", "no", "yes")], axis=1)
    replicates = own(np.arange(n).astype(str))
    return Measured(
        TASK,
        [Head(0, head) for head in range(3)],
        {Sweep("changed"): effects},
        logits,
        said,
        replicates,
    )


def verdict(measured, hypothesis):
    return judge(measured, [hypothesis.predictions], RULES).iloc[0]


@pytest.mark.parametrize("yes", [16, 24])
def test_a_head_that_always_says_yes_reads_nothing_and_is_biased(yes):
    words = np.array(["yes"] * yes + ["no"] * (32 - yes))
    measured = effects_of(words, np.full(32, 2.0))
    read, biased = verdict(measured, READER), verdict(measured, BIAS)
    assert read["state"] == "refuted" and biased["state"] == "holds"
    assert biased["effect"] == pytest.approx(2, abs=0.1) and biased["ci_low"] > 1.5


def test_a_head_that_reads_is_one_in_both_answers_and_not_biased():
    words = np.array(["yes", "no"] * 16)
    measured = effects_of(words, np.where(words == "yes", 2.0, -2.0))
    assert verdict(measured, READER)["state"] == "holds"
    assert verdict(measured, BIAS)["state"] == "refuted"


def test_a_head_of_one_answer_alone_is_neither():
    words = np.array(["yes", "no"] * 16)
    measured = effects_of(words, np.where(words == "yes", 4.0, 0.0))
    assert not verdict(measured, READER)["holds"] and not verdict(measured, BIAS)["holds"]


def test_a_gap_weighs_answers_alike_and_each_must_show_an_effect():
    words = np.array(["yes"] * 24 + ["no"] * 8)
    measured, [claim, _] = effects_of(words, np.full(32, 2.0)), READER.predictions[0].claims
    wider = measured.logits["clean"] + np.outer(words == "no", [2, 0])
    found = replace(measured, logits={**measured.logits, "clean": wider})
    # Right, against the other one, falls by 6 or by 8.
    assert found.mean_gap(claim, found.replicates.all) == pytest.approx(7)
    values = (words == "yes")[:, None] + 0.1 * np.random.default_rng(1).normal(size=(32, 1))
    assert found.p(values + 1, "greater", claim) < 0.01 and found.p(values, "greater", claim) > 0.05


def test_of_few_of_an_answer_a_fraction_is_of_a_gap_that_is_shown():
    measured = effects_of(np.array(["yes", "no"] * 5), np.full(10, 2.0))
    flat = {name: run * 0.01 for name, run in measured.logits.items()}
    found = [verdict(one, READER) for one in (measured, replace(measured, logits=flat))]
    assert [one["void"] for one in found] == ["few of an answer"] * 2
    # Right, against the other one, falls from 3 to -3.
    assert found[0]["restored_fraction"] == pytest.approx(found[0]["effect"] / 6)
    assert np.isnan(found[1]["restored_fraction"])


def test_more_trials_of_the_same_sources_show_no_more():
    words = np.array(["yes", "no"] * 10)
    once = effects_of(words, np.where(words == "yes", 2.0, -2.0))
    again = [part.repeat(6, axis=0) for part in (once.effects[Sweep("changed")], once.words)]
    often = Measured(
        TASK, once.heads, {Sweep("changed"): again[0]},
        {name: run.repeat(6, axis=0) for name, run in once.logits.items()}, again[1],
        own(np.arange(20).repeat(6).astype(str)),
    )  # fmt: skip
    for hypothesis in (READER, BIAS):
        one, many = (judge(found, [hypothesis.predictions], RULES) for found in (once, often))
        pd.testing.assert_frame_equal(one, many.replace({"stray": {6 * n: n for n in range(20)}}))


# The same on models


@pytest.fixture(scope="module")
def pairs(toy):
    """Twelve pairs of pictures of twelve odd colours and places."""
    return [
        replace(
            trial,
            images={"clean": trial.images["clean"], "changed": trial.images["recolored"]},
            answers={"right": trial.answers["odd"], "other": trial.answers["other"]},
            expected={"clean": "right", "changed": "other"},
            task=None,
        )
        for trial in rgb.rgb_trials(toy, 12)
    ]


def under_names(trials, n):
    return [
        replace(trial, name=f"{trial.name} {number}") for number in range(n) for trial in trials
    ]


def test_twelve_pairs_under_six_names_have_the_verdicts_of_twelve_pairs(toy, pairs):
    with pytest.warns(UserWarning, match="72 trials in 12 clusters"):
        often = examine(toy, under_names(pairs, 6), [READER], task=TASK, progress=False)
    once = examine(toy, pairs, [READER], task=TASK, progress=False)
    assert once["holds"].any() and set(often["n"]) == {12}
    numbers = ["effect", "ci_low", "ci_high", "p_value", "q_value"]
    np.testing.assert_allclose(often[numbers], once[numbers], rtol=1e-3, atol=1e-4)
    assert (often["state"] == once["state"]).all()
    frames = [
        rgb.patch_heads(toy, some, target="changed", progress=False)
        for some in (pairs, under_names(pairs, 3))
    ]
    which = panels_for(pairs)
    one, many = (
        panel_table(frame, which, trials=some)
        for frame, some in zip(frames, (pairs, under_names(pairs, 3)))
    )
    np.testing.assert_allclose(
        many[["effect", "ci_low", "ci_high", "gap"]],
        one[["effect", "ci_low", "ci_high", "gap"]],
        rtol=1e-3,
        atol=1e-4,
    )
    assert (one["told"] == many["told"]).all() and one["told"].any() and set(many["n"]) == {12}


def test_four_pairs_are_too_few_under_whatever_names(toy, pairs):
    often = under_names(pairs[:4], 6)
    task = task_of(often)
    with pytest.warns(UserWarning, match="24 trials in 4 clusters.*fewer than 8"):
        found = roles.evidence(toy, often, task=task, progress=False)
    assert set(found["void"]) == {"few clusters"} and not found["holds"].any()
    assert "a test needs 8 clusters" in roles.refused(found, task)
    frame = rgb.patch_heads(toy, often, target="changed", progress=False)
    assert not panel_table(frame, panels_for(often), trials=often)["told"].any()
    with pytest.raises(InputError, match="24 trials in 4 clusters cannot be tested"):
        circuit(toy, often, [(3, 2)])


def test_a_set_of_heads_is_as_faithful_under_more_names(toy, pairs):
    heads, options = [(3, 1), (3, 2)], dict(random_sets=2, progress=False)
    once, often = (circuit(toy, some, heads, **options) for some in (pairs, under_names(pairs, 2)))
    enough = [frame.set_index("test").loc["sufficiency"] for frame in (once, often)]
    for name in ("faithfulness", "ci_low", "ci_high"):
        assert enough[0][name] == pytest.approx(enough[1][name], rel=1e-3)
    assert set(often["n"]) == {12}


@pytest.mark.parametrize("analysis", [composition, paths, ranked])
def test_a_pair_under_more_names_counts_once_in_routes_and_ranks(toy, pairs, analysis):
    some = pairs[:4]
    heads = [] if analysis is ranked else [[(0, 2)], [(3, 1)]]
    once, often = (
        analysis(toy, trials, *heads, progress=False)
        for trials in (some, [*some, *under_names(some[:1], 3)])
    )
    assert often.attrs["trials"] == 7 and set(often["n"]) == {4}
    numbers = list(once.select_dtypes("number"))
    # Heads that do nothing are in no order.
    place = [name for name in once if name.endswith(("layer", "head"))]
    sides = [side.sort_values(place, kind="stable")[numbers] for side in (often, once)]
    np.testing.assert_allclose(*(side.astype(float) for side in sides), rtol=1e-3, atol=1e-4)


def test_the_gap_of_own_pictures_is_that_to_the_best_alternative_also_of_a_control(toy):
    trials = [
        replace(
            trial,
            images={name: trial.images[old] for name, old in
                    (("clean", "clean"), ("changed", "recolored"), ("moved", "moved"))},
            answers={"right": trial.answers["odd"], "other": trial.answers["other"]},
            expected={"clean": "right", "changed": "other", "moved": "right"},
            task=None,
        )
        for trial in rgb.rgb_trials(toy, 12)
    ]  # fmt: skip
    frame = rgb.patch_heads(toy, trials, target=["changed", "moved"], progress=False)
    found = gaps(frame, trials=trials)
    once = frame[frame["target"] == "changed"].drop_duplicates(["trial", "role"]).set_index("trial")
    right, other = (once[once["role"] == role] for role in ("right", "other"))
    fall = (right["source_logit"] - other["source_logit"]) - (
        right["target_logit"] - other["target_logit"]
    )
    assert (
        found["changed"] == pytest.approx(fall.mean(), rel=1e-4)
        and found["moved"] == found["changed"]
    )


@pytest.fixture(scope="module", params=[0, 1])
def reader(request):
    model, processor, truth = photo_reader(noise=0.02, seed=request.param)
    return rgb.wrap(model, processor, name="photo reader"), truth


@pytest.mark.parametrize("pale, how", [(False, "content"), (True, "looking")])
def test_on_photographs_heads_get_the_roles_that_they_have(reader, pale, how):
    model, truth = reader
    trials = photographs(model.prompt(QUESTION), 32, pale=pale, seed=5)
    assert rgb.play(model, trials, progress=False)["correct"].all()
    table = roles.roles(model, trials, task=task_of(trials), progress=False)
    named = table[table["role"] != "none"].set_index(["layer", "head"])["role"].to_dict()
    assert named == {
        PLACES["answer carrier"]: f"answer carrier + answer by {how} + needed",
        PLACES["bias head"]: "bias head",
    }
    assert PLACES["looker"] not in named and set(truth["role"]) == {
        "none",
        "answer carrier",
        "bias head",
    }


def test_patterns_of_prompts_that_do_not_line_up_are_void_and_all_else_is_tested(reader):
    model, _ = reader
    asked = model.prompt("Which color is the background? Respond in one word")
    trials = [
        replace(trial, prompts={"changed": asked})
        for trial in photographs(model.prompt(QUESTION), 16, seed=2)
    ]
    task = task_of(trials)
    found = roles.evidence(model, trials, task=task, progress=False).drop_duplicates("prediction")
    void = found.set_index("prediction")["void"].to_dict()
    assert void == {
        "A1": "",
        "A2": "not lined up",
        "A3": "not lined up",
        "A4": "",
        "A5": "",
        "A6": "",
    }
