"""A mediated effect is what disappears when the receiver is frozen."""

from dataclasses import replace

import numpy as np
import pytest
from brute_force import BruteForce

import rgb_circuit as rgb
from analyses.composition import composition, mediation, paths
from rgb_circuit.models.planted import PARTS, Placement
from rgb_circuit.prompts import answer_tokens
from rgb_circuit.stimuli.tasks import task_of

PLACE = Placement()
READERS = [PLACE.extractor, *PLACE.redundant_pair]


@pytest.fixture(scope="module")
def trials(model):
    return rgb.rgb_trials(model, 2, seed=3)


def cell(frame, sender, receiver=None, role="background"):
    rows = frame[
        (frame["sender_layer"] == sender[0])
        & (frame["sender_head"] == sender[1])
        & (frame["role"] == role)
    ]
    if receiver is not None:
        rows = rows[
            (rows["receiver_layer"] == receiver[0]) & (rows["receiver_head"] == receiver[1])
        ]
    (row,) = rows.to_dict("records")
    return row


def test_mediated_effects_agree_with_plain_hooks(model, trials):
    bare, last = BruteForce(model.name), model.n_layers - 1
    senders, receivers = [(0, 1), (0, 2)], [(last, 0), (last, 3)]
    frame = composition(model, trials, senders, receivers, progress=False)
    together = mediation(model, trials, senders, receivers, progress=False)

    def effects(trial, sender, frozen):
        """role → effect of the sender's patch with some heads frozen."""
        (target, z, *_), (_, source_z, *_) = (
            bare.unpatched(trial, "erased"),
            bare.unpatched(trial, "clean"),
        )
        end = len(z[0]) - 1
        writes = [(*sender, end, source_z[sender[0]][end, sender[1]])]
        writes += [(*head, end, z[head[0]][end, head[1]]) for head in frozen]
        patched = bare.run(trial, "erased", writes)[0]
        return {
            role: float(patched[token] - target[token])
            for role, token in answer_tokens(model, trial).items()
        }

    for sender in senders:
        totals = [effects(trial, sender, []) for trial in trials]
        for frozen, rows in [
            *(([receiver], frame) for receiver in receivers),
            (receivers, together),
        ]:
            held = [effects(trial, sender, frozen) for trial in trials]
            for role in totals[0]:
                row = cell(rows, sender, frozen[0] if rows is frame else None, role)
                total, rest = (np.mean([one[role] for one in many]) for many in (totals, held))
                assert row["total_effect"] == pytest.approx(total, abs=1e-5)
                assert row["frozen_effect"] == pytest.approx(rest, abs=1e-5)
                assert row["mediated_effect"] == pytest.approx(total - rest, abs=1e-5)
                assert row["share"] * row["total_effect"] == pytest.approx(total - rest, abs=1e-5)
    assert frame["mediated_effect"].abs().max() > 1e-4


def test_a_sender_at_or_after_the_receiver_has_exactly_no_mediated_effect(model, trials):
    frame = composition(model, trials, model.heads(), model.heads(), progress=False)
    late = frame[frame["sender_layer"] >= frame["receiver_layer"]]
    for column in ("mediated_effect", "ci_low", "ci_high"):
        assert (late[column] == 0).all()
    assert (
        frame[frame["sender_layer"] < frame["receiver_layer"]]["mediated_effect"] != 0
    ).mean() > 0.9


def test_freezing_an_earlier_head_really_changes_nothing(model, trials):
    # `composition` does not run these rows; here they are run.
    sender, last = (model.n_layers - 1, 0), model.n_layers - 1
    variants = {"free": [rgb.Edit(*sender)]}
    variants |= {
        f"{head}": [rgb.Edit(*sender), rgb.Edit(*head, "erased")]
        for head in [(0, 0), (0, 3), (last, 1)]
    }
    frame = rgb.patch_edits(model, trials, variants, target="erased", progress=False)
    effects = frame.pivot(index=["trial", "role"], columns="variant", values="effect")
    np.testing.assert_allclose(effects.sub(effects["free"], axis=0), 0, atol=1e-5)


def test_the_planted_localizer_acts_through_its_extractors_and_nothing_else(planted):
    trials = rgb.rgb_trials(planted, 4)
    receivers = [*READERS, PLACE.content_extractor]
    senders = [PLACE.poi, PLACE.early_background_writer, PLACE.late_background_writer]
    frame = composition(planted, trials, senders, receivers, progress=False)
    gains = {PLACE.extractor: PARTS["extractor"].gain, PLACE.content_extractor: 0}
    gains |= dict.fromkeys(PLACE.redundant_pair, PARTS["redundant_pair"].gain)
    for receiver, gain in gains.items():
        row = cell(frame, PLACE.poi, receiver)
        assert row["mediated_effect"] == pytest.approx(gain, abs=0.01)
        assert row["total_effect"] == pytest.approx(sum(gains.values()), abs=0.01)
        assert row["ci_low"] <= row["mediated_effect"] <= row["ci_high"]
        assert row["share_low"] <= row["share"] <= row["share_high"]
        for writer in senders[1:]:
            assert cell(frame, writer, receiver)["mediated_effect"] == pytest.approx(0, abs=0.01)


def test_a_share_of_an_effect_that_is_not_shown_has_no_interval(planted):
    trials = rgb.rgb_trials(planted, 4)
    frame = composition(
        planted, trials, [PLACE.idle_watcher], [PLACE.late_background_writer], progress=False
    )
    assert (
        frame[["share_low", "share_high"]].isna().all(axis=None) and frame["ci_low"].notna().all()
    )


def test_the_planted_localizer_composes_with_its_extractors_queries_and_with_nothing_else(planted):
    senders = [PLACE.poi, PLACE.early_background_writer, PLACE.late_background_writer]
    receivers = [*READERS, PLACE.content_extractor]
    frame = paths(planted, rgb.rgb_trials(planted, 4), senders, receivers, progress=False)
    gains = {PLACE.extractor: PARTS["extractor"].gain}
    gains |= dict.fromkeys(PLACE.redundant_pair, PARTS["redundant_pair"].gain)
    for part in ("query", "key", "value"):
        rows = frame[frame["into"] == part]
        for sender in senders:
            for receiver in receivers:
                row = cell(rows, sender, receiver)
                told = sender == PLACE.poi and part == "query"
                assert row["effect"] == pytest.approx(
                    gains.get(receiver, 0) if told else 0, abs=0.01
                )
                assert row["ci_low"] <= row["effect"] <= row["ci_high"] and row["n"] == 4


def test_paths_are_means_over_trials_and_a_head_has_none_to_itself(model, trials):
    every, last = [(0, 1), (1, 2)], model.n_layers - 1
    frame = paths(model, trials, every, [(1, 2), (last, 3)], target="recolored", progress=False)
    assert len(frame) == 3 * 3 * len(trials[0].answers)
    single = rgb.patch_paths(
        model, trials, every, [(1, 2), (last, 3)], into=("query", "key", "value"),
        target="recolored",
        progress=False,
    )  # fmt: skip
    for row in frame.to_dict("records"):
        same = single[(single["into"] == row["into"]) & (single["role"] == row["role"])]
        for end in ("sender", "receiver"):
            for part in ("layer", "head"):
                same = same[same[f"{end}_{part}"] == row[f"{end}_{part}"]]
        assert len(same) == len(trials)
        assert row["effect"] == pytest.approx(same["effect"].mean(), abs=1e-6)
        assert row["ci_low"] <= row["effect"] <= row["ci_high"]


def test_all_of_the_planted_localizers_effect_runs_through_the_readers_together(planted):
    frame = mediation(
        planted,
        rgb.rgb_trials(planted, 4),
        [PLACE.poi, PLACE.late_background_writer],
        READERS,
        progress=False,
    )
    assert cell(frame, PLACE.poi)["share"] == pytest.approx(1, abs=1e-3)
    assert cell(frame, PLACE.late_background_writer)["mediated_effect"] == 0
    assert cell(frame, PLACE.poi)["receivers"] == "3.0 4.1 4.3"


def test_one_receiver_is_the_same_by_pair_and_together(grouped):
    trials = rgb.rgb_trials(grouped, 3)
    pair = composition(grouped, trials, [(0, 1)], [(2, 2)], progress=False)
    alone = mediation(grouped, trials, [(0, 1)], [(2, 2)], progress=False)
    numbers = ["total_effect", "frozen_effect", "mediated_effect", "ci_low", "ci_high"]
    np.testing.assert_allclose(pair[numbers], alone[numbers], atol=1e-6)


def test_the_frame_has_a_row_per_pair_and_role_and_none_for_a_head_with_itself(grouped):
    trials = rgb.rgb_trials(grouped, 2)
    frame = composition(grouped, trials, [(0, 1), (1, 0)], [(1, 0), (2, 2)], progress=False)
    pair = "sender_layer sender_head receiver_layer receiver_head source target role".split()
    assert (
        list(frame.columns)
        == pair
        + "total_effect frozen_effect mediated_effect ci_low ci_high share n share_low "
        "share_high".split()
    )
    assert len(frame) == 3 * 5
    assert set(frame["n"]) == {2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(senders=[(0, 9)]), "head 0.9 does not exist"),
        (dict(receivers=[(7, 0)]), "head 7.0 does not exist"),
        (dict(senders=[]), "senders is empty"),
        (dict(senders=[(0, 0)], receivers=[(0, 0)]), "only"),
        (dict(target="gone"), "no condition 'gone'"),
        (dict(target="clean"), "both 'clean'"),
        (dict(n=1), "there are 1 trials"),
    ],
)
def test_bad_input_is_refused_before_any_forward(grouped, monkeypatch, change, message):
    monkeypatch.setattr("rgb_circuit.calls.patching.execute", None)
    arguments = dict(senders=[(0, 0)], receivers=[(1, 0)], n=2) | change
    trials = rgb.rgb_trials(grouped, arguments.pop("n"))
    for analysis in (composition, mediation, paths):
        with pytest.raises(rgb.InputError, match=message):
            analysis(grouped, trials, **arguments, progress=False)


def test_on_own_pairs_it_reads_their_own_answers_and_pictures(grouped):
    """What is measured of the game's pictures, under names that the game does not have."""
    drawn, last = rgb.rgb_trials(grouped, 3, seed=3), grouped.n_layers - 1
    own = [
        replace(
            trial,
            task=None,
            images={"clean": trial.images["clean"], "changed": trial.images["recolored"]},
            answers={"right": trial.answers["odd"], "wrong": trial.answers["other"]},
            expected={"clean": "right", "changed": "wrong"},
        )
        for trial in drawn
    ]
    task = task_of(own)
    assert [(one.name, one.short) for one in task.receivers] == [("answer carrier", "carriers")]
    assert task.senders == task.receivers and task.mediated == ("right", "wrong")
    heads = [(0, 1)], [(last, 0), (last, 3)]
    wanted = composition(grouped, drawn, *heads, target="recolored", progress=False)
    found = composition(grouped, own, *heads, progress=False)
    assert set(found["target"]) == {"changed"}
    for role, of_game in (("right", "odd"), ("wrong", "other")):
        for column in ("total_effect", "mediated_effect"):
            one, other = (
                frame.loc[frame["role"] == name, column].to_numpy()
                for frame, name in ((found, role), (wanted, of_game))
            )
            np.testing.assert_allclose(one, other, atol=1e-6)
