"""Verdicts on one's own hypotheses are tried where these are false, and where a head is made to do
it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import rgb_circuit as rgb
from analyses import calibrate
from analyses.calibrate import own_hypotheses as own_module
from analyses.calibrate.fitted import fitted_readout
from analyses.command import main
from analyses.evidence.families import Role, corrected
from rgb_circuit.hypothesis import Hypothesis, Prediction, Sweep
from rgb_circuit.pictures import picture_hash
from rgb_circuit.statistics import benjamini_hochberg
from rgb_circuit.stimuli.replicates import Replicates
from rgb_circuit.stimuli.tasks import find

GAME = find("rgb")
FILE = Path(__file__).parents[1] / "examples" / "hypotheses" / "reader.toml"
READER = rgb.read_hypotheses(FILE)


@pytest.fixture(scope="module")
def tried(planted):
    task = GAME.with_hypotheses(READER)
    return calibrate.own(
        planted, rgb.rgb_trials(planted, 16), task, random=1, progress=False
    ).set_index("check")


@pytest.fixture(scope="module")
def found(planted):
    task = GAME.with_hypotheses(READER)
    measured, *_ = own_module._measured(planted, rgb.rgb_trials(planted, 8), task, False, "")
    return measured


def test_every_check_says_how_many_heads_could_have_been_given_the_role(tried):
    assert {"random weights", "permuted", "random sets", "injected"} <= set(tried.index)
    assert (tried["testable"] <= tried["heads"]).all()
    assert tried.loc[~tried["informative"], ["rate", "rate_low", "rate_high"]].isna().all(axis=None)


def test_a_rate_is_given_where_four_of_five_heads_could_be_tested(monkeypatch):
    counts = (10, 8), (10, 7), (0, 0)
    rows = [own_module._row(READER[0], "permuted", *count, given=1) for count in counts]
    for name in ("on_random_weights", "on_exchanged", "on_planted", "random_sets", "injected"):
        monkeypatch.setattr(own_module, f"_{name}", lambda *_: [])
    monkeypatch.setattr(own_module, "_measured", lambda model, trials, *_: (None, trials, 0, 0))
    monkeypatch.setattr(own_module, "_permuted", lambda *_: rows)
    frame = calibrate.own(SimpleNamespace(name="any"), [], GAME.with_hypotheses(READER))
    assert frame["informative"].tolist() == frame["rate"].notna().tolist() == [True, False, False]


def test_a_head_that_carries_much_is_found_and_one_that_carries_too_little_is_not(tried):
    injected = tried.loc["injected"].set_index("size")
    assert injected.loc[0.3, "rate"] == 1 and injected.loc[0.05, "rate"] == 0
    assert injected["rate"].is_monotonic_increasing


def test_no_rate_is_printed_where_too_few_could_be_tested(tried):
    few = tried.reset_index().assign(testable=0, informative=False, rate=np.nan)
    said = "\n".join(calibrate.says(few[few["check"] == "permuted"]))
    assert "not informative" in said and "%" not in said


def test_the_command_tries_a_file_on_its_own_model_and_trials(tmp_path, capsys):
    given = ["--hypotheses", str(FILE), "--trials", "8", "--random", "1"]
    assert main(["calibrate", *given, "--out", str(tmp_path)]) == 0
    assert "Heads of toy that are given a role, on 8 trials" in capsys.readouterr().out
    checks = pd.read_parquet(tmp_path / "hypotheses_calibration.parquet")["check"]
    assert {"random weights", "permuted", "injected"} <= set(checks)


def test_an_injected_head_carries_the_share_and_no_other_head_or_sweep_changes(found):
    changed, sweep = own_module._with(found, 5, 0.2), Sweep("erased")
    moved = changed.effects[sweep] - found.effects[sweep]
    difference = found.logits["clean"] - found.logits["erased"]
    np.testing.assert_allclose(moved[:, 5], 0.2 * difference)
    assert np.nanmax(np.abs(np.delete(moved, 5, axis=1))) == 0
    looks = Sweep("recolored", component="pattern")
    np.testing.assert_array_equal(changed.effects[looks], found.effects[looks])


def test_sets_are_ranked_on_the_half_of_the_trials_that_did_not_find_them(found):
    task = GAME.with_hypotheses(READER)
    often = replace(
        found,
        effects={sweep: np.tile(own, (4, 1, 1)) for sweep, own in found.effects.items()},
        logits={name: np.tile(own, (4, 1)) for name, own in found.logits.items()},
        words=np.tile(found.words, (4, 1)),
        replicates=Replicates.each(32),
    )
    idle = {
        sweep: own * (np.arange(32) < 16)[:, None, None] for sweep, own in often.effects.items()
    }
    rng = np.random.default_rng(0)
    (row,), (without,) = (
        own_module._random_sets(one, task, rng) for one in (often, replace(often, effects=idle))
    )
    assert row["heads"] == without["heads"] > 0 and row["p_value"] < 0.05 < without["p_value"] == 1


def test_given_trials_are_fitted_on_one_half_and_judged_on_the_other(monkeypatch):
    for name, stand_in in dict(
        fitted_readout=lambda model, trials, seed: trials,
        _measured=lambda fitted, judged, *_: [(fitted, judged)],
        _judged=lambda found, task: found,
        _counted=lambda check, task, frames: frames,
    ).items():
        monkeypatch.setattr(own_module, name, stand_in)
    given = SimpleNamespace(draw=None)
    halves = own_module._on_random_weights(None, [*range(6)], given, 1, 0, False)
    assert halves == [([0, 2, 4], [1, 3, 5])]


def test_an_exchanged_trial_shows_another_picture_and_expects_nothing(planted):
    [trial] = rgb.rgb_trials(planted, 1)
    other = own_module._exchanged(trial, ["recolored", "erased"], 1)
    assert picture_hash(other.sources["recolored"]) == picture_hash(trial.sources["erased"])
    assert picture_hash(other.sources["clean"]) == picture_hash(trial.sources["clean"])
    assert not other.expected


def test_exchanging_is_no_null_where_a_head_could_meet_both():
    changed = ["recolored", "erased"]
    up = Hypothesis("up", (Prediction.parse("A", "odd up: z clean -> erased"),))
    only = "odd up: z clean -> erased; odd none: z clean -> recolored"
    assert not own_module._fails(up, changed, 1)
    assert own_module._fails(Hypothesis("only", (Prediction.parse("B", only),)), changed, 1)


def test_moved_verdicts_keep_their_numbers_and_come_from_different_heads():
    rows = [
        dict(layer=0, head=head, prediction=name, holds=head == 0)
        for name in "AB"
        for head in range(4)
    ]
    moved = own_module._moved(pd.DataFrame(rows), [["A"], ["B"]], np.random.default_rng(0))
    table = moved.pivot(index="head", columns="prediction", values="holds")
    assert (table.sum() == 1).all() and not table.all(axis=1).any()


def test_a_fitted_readout_answers_by_the_picture_and_the_model_stays_as_it_was(grouped):
    before = {name: value.clone() for name, value in grouped.nnsight._module.state_dict().items()}
    other = fitted_readout(grouped, rgb.rgb_trials(grouped, 48, seed=1), seed=0)
    played = rgb.play(other, rgb.rgb_trials(grouped, 16), progress=False)
    assert played["correct"].mean() > 0.3
    after = grouped.nnsight._module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    layer = "model.language_model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(other.nnsight._module.state_dict()[layer], before[layer])


def test_a_hypothesis_called_like_a_planted_role_is_tried_on_planted_circuits(planted):
    mine = Hypothesis("color extractor", READER[0].predictions)
    task = GAME.with_hypotheses([mine])
    rows = own_module._on_planted(rgb.rgb_trials(planted, 12), task, 1, 0, False)
    has_it, has_it_not = (pd.Series(row) for row in rows)
    assert has_it["given"] == has_it["heads"] == has_it["testable"] > 0
    assert has_it_not["given"] == 0 < has_it_not["heads"]
    assert own_module._on_planted([], GAME.with_hypotheses(READER), 1, 0, False) == []


def role(p):
    return Role([["A"]], (), np.array([p]), benjamini_hochberg(np.array(p)))


def test_several_hypotheses_are_corrected_as_simes_and_benjamini_bogomolov_say():
    p = [[0.001, 0.8, 0.9], [0.02, 0.5, 0.7], [0.6, 0.7, 0.9], [0.004, 0.006, 0.9]]
    level, roles = 0.05, [role(own) for own in p]
    simes = [min(3 * value / rank for rank, value in enumerate(sorted(own), 1)) for own in p]
    order = sorted(simes)
    selected = max(rank for rank, value in enumerate(order, 1) if value <= level * rank / 4)
    wanted = [
        [simes[i] <= order[selected - 1] and q <= level * selected / 4 for q in roles[i].q]
        for i in range(4)
    ]
    given = [list(q <= level) for q in corrected(roles, range(4), level)]
    assert given == wanted and selected == 2


def test_the_weakest_prediction_of_a_shown_role_gets_the_roles_q():
    p, q = np.array([[0.001, 0.001], [0.02, 0.4]]), np.array([0.03, 0.5])
    q_values = dict(zip("AB", p.copy()))
    Role([["A"], ["B"]], (), p, q).raise_weakest(q, q_values, {}, 0.05)
    # The second head does not have the role.
    assert q_values["A"].tolist() == [0.001, 0.001] and q_values["B"].tolist() == [0.03, 0.4]


def test_one_hypothesis_and_those_that_a_task_ships_with_keep_their_level():
    roles = [role([0.01, 0.03]), role([0.5, 0.02])]
    for several in ((), (0,)):
        for q, one in zip(corrected(roles, several, 0.05), roles):
            np.testing.assert_array_equal(q, one.q)
