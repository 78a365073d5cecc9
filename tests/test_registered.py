"""Whether a run's claims were written down before its trials were looked at, as folders beside it
tell."""

import json
from dataclasses import replace

import pytest

import rgb_circuit as rgb
from rgb_circuit.hypothesis import Hypothesis, Prediction
from rgb_circuit.measuring.registered import registered, registered_of
from rgb_circuit.stimuli.tasks import find
from rgb_circuit.trial import described

GAME = find("rgb")


def manifest(expected="up", seed=0, **more):
    """As much of a run's manifest as it takes, of two trials."""
    claims = Hypothesis("one", (Prediction.parse("A", f"odd {expected}: z clean -> erased"),))
    trials = [
        rgb.rgb_trial(tile=(1, 2 + seed), grid=6, tile_px=4, odd=odd, name=odd)
        for odd in ("red", "purple")
    ]
    task = GAME.with_hypotheses([claims])
    about = dict(model="m", dtype="float32", weights="w", config="c", commit=None, options={})
    return about | dict(task=task.plain(), trials=[described(trial) for trial in trials]) | more


def before(folder, there, name="earlier"):
    """A finished run in a folder beside the one that is returned."""
    (folder / name).mkdir()
    (folder / name / "manifest.json").write_text(json.dumps({**there, "finished": "then"}))
    return folder / "now"


def after(folder, here):
    return registered_of(registered(folder, here)).after


def test_other_claims_on_trials_that_were_looked_at_are_exploratory(tmp_path):
    now = before(tmp_path, manifest("down"))
    found = registered_of(registered(now, manifest()))
    assert found.exploratory and found.after == ("earlier",)
    assert found.says.startswith("Exploratory: the run in earlier had looked at these trials")


@pytest.mark.parametrize(
    "there",
    [
        manifest("down", seed=1),
        manifest("up"),
        manifest("down", weights="others"),
        manifest("down", model="another"),
    ],
    ids=["new trials", "the same claims", "other weights", "another model"],
)
def test_what_says_nothing_about_these_claims_leaves_them_confirmatory(tmp_path, there):
    assert after(before(tmp_path, there), manifest()) == ()


def test_a_run_that_is_not_finished_had_shown_nothing(tmp_path):
    now = before(tmp_path, manifest("down"))
    there = json.loads((tmp_path / "earlier" / "manifest.json").read_text())
    del there["finished"]
    (tmp_path / "earlier" / "manifest.json").write_text(json.dumps(there))
    assert after(now, manifest()) == ()


def test_trials_of_one_cluster_are_not_new(tmp_path):
    there, here = manifest("down", seed=1), manifest()
    for trial in (there["trials"][0], here["trials"][1]):
        trial["cluster"] = "kitchen"
    assert after(before(tmp_path, there), here) == ("earlier",)


def test_the_hash_is_of_claims_and_trials_and_what_a_task_ships_with_is_not_registered(tmp_path):
    hashes = {
        registered_of(registered(tmp_path / "now", one)).hash
        for one in (manifest(), manifest("down"), manifest(seed=1), manifest(model="another"))
    }
    assert len(hashes) == 3
    shipped = manifest() | dict(task=GAME.plain())
    assert registered(tmp_path / "now", shipped) == shipped


def test_the_text_of_the_file_is_kept(tmp_path):
    (tmp_path / "mine.toml").write_text("# mine")
    here = manifest(options={"hypotheses": str(tmp_path / "mine.toml")})
    assert registered_of(registered(tmp_path / "now", here)).file == "# mine"
    assert replace(
        registered_of(registered(tmp_path / "now", here)), after=("a", "b")
    ).says.startswith("Exploratory: the runs in a, b had")
