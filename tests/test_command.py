"""The command does what its help says."""

import json
from importlib.metadata import version

import pandas as pd
import pytest

from analyses import calibrate, roles
from analyses.command import main
from rgb_circuit.models.planted import planted
from rgb_circuit.models.random import random_llava
from rgb_circuit.models.small import save


def test_run_leaves_frames_figures_and_a_manifest(tmp_path, capsys):
    assert main(["run", "--trials", "8", "--out", str(tmp_path), "--seed", "3"]) == 0
    printed = capsys.readouterr().out
    assert "toy plays the RGB game" in printed and "Strongest heads" in printed
    frame = pd.read_parquet(tmp_path / "patch_heads.parquet")
    assert frame["trial"].nunique() == 8 and set(frame["target"]) == {"recolored", "erased"}
    assert len(pd.read_parquet(tmp_path / "play.parquet")) == 8 * 5
    assert (tmp_path / "panels.png").stat().st_size > 10_000
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["model"] == "toy" and manifest["options"]["seed"] == 3 and len(manifest["trials"]) == 8
    assert set(manifest["versions"]) >= {"nnsight", "torch", "transformers"}
    assert not list(tmp_path.glob("*.part"))


def test_a_folder_holds_one_run(tmp_path, capsys):
    main(["run", "--trials", "2", "--out", str(tmp_path)])
    assert "No role table: too few trials" in capsys.readouterr().out
    assert not (tmp_path / "roles.parquet").exists()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    for other in (["--trials", "3"], ["--positions", "9999"]):
        assert main(["run", "--trials", "2", *other, "--out", str(tmp_path)]) == 2
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == before


def test_trials_with_a_wrong_answer_are_left_out_on_request(tmp_path, capsys):
    made = str(save(*planted(noise=0.03)[:2], tmp_path / "model"))
    out = tmp_path / "results"
    assert main(["run", "--model", made, "--trials", "16", "--only-correct", "--out", str(out)]) == 0
    assert "Of 16 trials, 4 with a wrong answer are left out of what follows." in capsys.readouterr().out
    played = pd.read_parquet(out / "play.parquet")
    right = played.groupby("trial", observed=True)["correct"].all()
    assert len(right) == 16 and right.sum() == 12
    assert set(pd.read_parquet(out / "patch_heads.parquet")["trial"]) == set(right.index[right])
    evidence = pd.read_parquet(out / "evidence.parquet")
    assert (evidence["n"] == 12).all() and (evidence["wrong"] == 0).all()
    text = (out / "report.html").read_text()
    assert "Of the 16 trials, 4 with a wrong answer are left out of all that follows." in text
    assert "--only-correct --trials 16 --seed 0" in text and "--only-correct True" not in text
    # A run that leaves nothing out is another run.
    assert main(["run", "--model", made, "--trials", "16", "--out", str(out)]) == 2
    assert "options.only_correct (True there, False here)" in capsys.readouterr().err


def test_a_dry_run_says_what_a_run_would_take_and_writes_nothing(tmp_path, capsys):
    folder = tmp_path / "nothing"
    assert main(["run", "--dry-run", "--trials", "3", "--out", str(folder)]) == 0
    printed = capsys.readouterr().out
    # Five pictures and the other question; nine sweeps, three of the question, two of rounding.
    assert "toy: 3 trials, 16 heads" in printed
    assert "6 pictures through the model, 14 sweeps of heads" in printed and "KiB to disk" in printed
    assert not folder.exists()
    assert main(["run", "--dry-run", "--positions", "9999", "--out", str(folder)]) == 2


def test_the_version_is_the_packages(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"rgb-circuit {version('rgb_circuit')}\n"


def test_a_run_that_leaves_every_trial_out_says_so(tmp_path, capsys):
    made = str(save(*random_llava()[:2], tmp_path / "model"))
    command = ["run", "--model", made, "--trials", "2", "--only-correct", "--anyway"]
    assert main([*command, "--out", str(tmp_path / "results")]) == 2
    assert "run without --only-correct" in capsys.readouterr().err


def test_calibrate_prints_intervals_and_writes_every_verdict(tmp_path, capsys):
    assert (
        main(["calibrate", "--models", "1", "--random", "1", "--trials", "16", "--out", str(tmp_path)]) == 0
    )
    printed = capsys.readouterr().out
    assert "attention to the odd tile" in printed and "1.00 [" in printed and "shuffled" in printed
    frame = pd.read_parquet(tmp_path / "calibration.parquet")
    assert set(frame["kind"]) == {"planted", "random", "shuffled"} and frame["reading"].nunique() == 4
    assert len(pd.read_parquet(tmp_path / "calibration_summary.parquet")) == 4 * len(roles.HYPOTHESES) * 4
    # Nothing is answered right there.
    assert "roles, only correct trials" not in set(frame[frame["kind"] == "random"]["reading"])
    kinds = pd.read_parquet(tmp_path / "calibration_trials.parquet")
    assert set(kinds["like"]) == {*calibrate.KINDS, calibrate.UNEVEN_HEAD, "all"}
    assert set(kinds["trials"]) == {16}
    assert (tmp_path / "calibration.png").exists() and (tmp_path / "calibration_trials.png").exists()


def test_the_same_command_gives_the_same_frames(tmp_path):
    for name in ("one", "two"):
        main(["run", "--trials", "4", "--out", str(tmp_path / name)])
    for frame in ("play", "patch_heads"):
        one, two = (pd.read_parquet(tmp_path / name / f"{frame}.parquet") for name in ("one", "two"))
        pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_all_positions_and_chosen_positions(tmp_path):
    for positions in ("all", "5,-1"):
        assert (
            main(["run", "--trials", "1", "--positions", positions, "--out", str(tmp_path / positions)]) == 0
        )


def test_play_counts_right_answers(capsys):
    assert main(["play", "--trials", "8"]) == 0
    printed = capsys.readouterr().out
    for condition in ("clean", "recolored", "erased", "swapped", "moved"):
        assert condition in printed
    assert "of 8" in printed


def test_attention_draws_a_head(tmp_path, capsys):
    assert main(["attention", "--head", "3.1", "--trials", "2", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "attention_3.1.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    "arguments, part",
    [
        (["run", "--trials", "many"], "'many'"),
        (["run", "--trials", "0"], "n is 0"),
        (["run", "--trials", "²"], "'²'"),
        (["run", "--positions", "9999"], "9999"),
        (["play", "--seed", "-1"], "seed is -1"),
        (["calibrate", "--models", "0"], "0 planted"),
        (["calibrate", "--seed", "-1"], "seed is -1"),
        (["run", "--positions", "middle"], "'middle'"),
        (["run", "--model", "/nowhere"], "'/nowhere'"),
        (["run", "--trials", "published"], "24 × 24 tiles"),
        (["run", "--dtype", "float99"], "float99"),
        (["run", "--out", "/proc/nothing"], "--out"),
        (["attention", "--head", "three"], "'three'"),
        (["attention", "--head", "9.1"], "head 9.1"),
    ],
)
def test_bad_input_ends_with_one_sentence(arguments, part, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("rgb-circuit: ") and part in error


@pytest.mark.parametrize("command", ["play", "run", "attention"])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0 and "--model" in capsys.readouterr().out
