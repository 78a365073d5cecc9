"""The command does what its help says."""

import io
import json
import os
import shutil
import subprocess
import sys
from argparse import Namespace
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest
from runs import TWO_TRIALS, printed, sections, without_closer_look

import rgb_circuit as rgb
from analyses import calibrate, roles
from analyses.calibrate import judge
from analyses.command import loading, main
from rgb_circuit.calls.attention import attention_from_end
from rgb_circuit.files.results import opened
from rgb_circuit.keeping.manifest import read_manifest
from rgb_circuit.models.planted import planted
from rgb_circuit.models.random import random_llava
from rgb_circuit.models.small import save
from rgb_circuit.stimuli.tasks import find


@pytest.fixture(scope="module")
def finished(toy_run, tmp_path_factory):
    """The folder of a run, which figures may be written into."""
    return shutil.copytree(toy_run, tmp_path_factory.mktemp("finished") / "run")


def test_run_leaves_frames_figures_and_a_manifest(toy_run):
    said = printed(toy_run)
    assert "toy plays the RGB game" in said and "Strongest heads" in said
    frame = pd.read_parquet(toy_run / "patch_heads.parquet")
    assert frame["trial"].nunique() == 10 and set(frame["target"]) == {"recolored", "erased"}
    assert len(pd.read_parquet(toy_run / "play.parquet")) == 10 * 5
    assert (toy_run / "panels.png").stat().st_size > 10_000
    manifest = json.loads((toy_run / "manifest.json").read_text())
    assert (
        manifest["model"] == "toy"
        and manifest["options"]["seed"] == 3
        and len(manifest["trials"]) == 10
    )
    assert set(manifest["versions"]) >= {"nnsight", "torch", "transformers"}
    assert not list(toy_run.glob("*.part"))


def test_a_folder_holds_one_run(two_trials_run, tmp_path):
    assert "No role table: too few trials" in printed(two_trials_run)
    shutil.copytree(two_trials_run, tmp_path, dirs_exist_ok=True)
    assert not (tmp_path / "roles.parquet").exists()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    for other in (["--trials", "3"], ["--positions", "9999"]):
        assert main(["run", "--trials", "2", *other, "--out", str(tmp_path)]) == 2
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == before


def test_trials_with_a_wrong_answer_are_left_out_on_request(tmp_path, capsys, monkeypatch):
    sections(monkeypatch, "play", "reproduce")
    without_closer_look(monkeypatch)
    made = str(save(*planted(grid=4, decoys=(), noise=0.1)[:2], tmp_path / "model"))
    out = tmp_path / "results"
    assert (
        main(["run", "--model", made, "--trials", "10", "--only-correct", "--out", str(out)]) == 0
    )
    assert (
        "Of 10 trials, 3 with a wrong answer are left out of everything below."
        in capsys.readouterr().out
    )
    played = pd.read_parquet(out / "play.parquet")
    right = played.groupby("trial", observed=True)["correct"].all()
    assert len(right) == 10 and right.sum() == 7
    assert set(pd.read_parquet(out / "patch_heads.parquet")["trial"]) == set(right.index[right])
    evidence = pd.read_parquet(out / "evidence.parquet")
    assert (evidence["n"] == 7).all() and (evidence["wrong"] == 0).all()
    text = (out / "report.html").read_text()
    assert "Of the 10 trials, 3 with a wrong answer are left out of everything below." in text
    # A long path puts each option into a line of its own.
    typed = text.replace("\\\n    ", "")
    assert "--only-correct --trials 10 --seed 0" in typed and "--only-correct True" not in typed
    # A run that leaves nothing out is another run.
    assert main(["run", "--model", made, "--trials", "10", "--out", str(out)]) == 2
    assert "options.only_correct (True there, False here)" in capsys.readouterr().err


def test_a_dry_run_says_what_a_run_would_take_and_writes_nothing(tmp_path, capsys):
    folder = tmp_path / "nothing"
    assert main(["run", "--dry-run", "--trials", "3", "--out", str(folder)]) == 0
    printed = capsys.readouterr().out
    # Thirteen different pictures, and three of each trial for the noise; twelve sweeps, two of
    # noise. Three trials are too few for a test of the question, so its three sweeps are not asked
    # for.
    assert "toy: 3 trials, 16 heads" in printed
    assert (
        "7.33 pictures through the model, 14 sweeps of heads" in printed
        and "KiB to disk" in printed
    )
    assert not folder.exists()
    assert main(["run", "--dry-run", "--positions", "9999", "--out", str(folder)]) == 2


def test_the_version_is_the_packages(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (
        ended.value.code == 0
        and capsys.readouterr().out == f"rgb-circuit {version('rgb_circuit')}\n"
    )


def test_a_run_that_leaves_every_trial_out_says_so(tmp_path, capsys):
    made = str(save(*random_llava()[:2], tmp_path / "model"))
    command = ["run", "--model", made, "--trials", "2", "--only-correct", "--anyway"]
    assert main([*command, "--out", str(tmp_path / "results")]) == 2
    assert "run without --only-correct" in capsys.readouterr().err


def test_calibration_goes_on_with_the_models_that_are_left_and_writes_every_verdict(
    tmp_path, monkeypatch, capsys
):
    command = [
        "calibrate",
        "--models",
        "1",
        "--random",
        "1",
        "--trials",
        "12",
        "--out",
        str(tmp_path),
    ]
    judged, judge_once = [], cache(judge.judged)

    def counting(subject):
        judged.append(subject)
        if len(judged) == 4:
            raise KeyboardInterrupt
        # An even model, an uneven one and three without a role; others count as one of these.
        known = {} if subject.kind != "planted" else dict(noise=0.02)
        known |= {} if subject.like == "even" else dict(like="uneven")
        return judge_once(replace(subject, **known)).assign(like=subject.like, noise=subject.noise)

    monkeypatch.setattr(judge, "judged", counting)
    assert main(command) == 130
    assert (
        "stopped; what was finished is kept, and the same command continues"
        in capsys.readouterr().err
    )
    assert main(command) == 0
    # Four levels of noise, eight further kinds, and three models without a role.
    assert len(judged) == 16 and judged[3] == judged[4] and len(set(judged[:3] + judged[4:])) == 15
    said = capsys.readouterr().out
    (heading, names, *rows), _ = (part.splitlines() for part in said.strip().split("\n\n"))
    assert "1 planted model at 2 % noise" in heading and "found (recall)" in names
    table = pd.read_parquet(tmp_path / "calibration_summary.parquet")
    table = table[(table["noise"] == 0.02) & (table["reading"] == "roles")].set_index("role")
    (extractor,) = (row for row in rows if row.startswith("roles  ") and "color extractor" in row)
    one = table.loc["color extractor"]
    assert (
        f"{one['right']} of {one['true']} [" in extractor
        and f"{one['right']} of {one['given']} [" in extractor
    )
    assert sum("none (random)" in row for row in rows) == 3
    assert sum("none (permuted)" in row for row in rows) == 1
    assert all(("testable" in row) == ("none (" in row) for row in rows)
    assert max(map(len, rows)) <= 130
    frame = pd.read_parquet(tmp_path / "calibration.parquet")
    assert set(frame["kind"]) == {"planted", *calibrate.NULLS} and frame["reading"].nunique() == 4
    assert (
        len(pd.read_parquet(tmp_path / "calibration_summary.parquet"))
        == 4 * len(roles.GAME.hypotheses) * 4
    )
    # Too little is answered right there.
    assert "roles, only correct trials" not in set(frame[frame["kind"] == "random"]["reading"])
    kinds = pd.read_parquet(tmp_path / "calibration_trials.parquet")
    assert set(kinds["like"]) == {*calibrate.KINDS, calibrate.UNEVEN_HEAD, "all"}
    assert set(kinds["trials"]) == {12}
    assert (tmp_path / "calibration.png").exists() and (
        tmp_path / "calibration_trials.png"
    ).exists()
    before = (tmp_path / "calibration.parquet").read_bytes()
    assert main(command) == 0
    assert len(judged) == 16 and (tmp_path / "calibration.parquet").read_bytes() == before


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """The folder of a run of two trials, made again with -q, and what that printed."""
    folder, said = tmp_path_factory.mktemp("quiet") / "run", [io.StringIO(), io.StringIO()]
    with redirect_stdout(said[0]), redirect_stderr(said[1]):
        assert main(["run", *TWO_TRIALS, "-q", "--out", str(folder)]) == 0
    return folder, "".join(one.getvalue() for one in said)


def test_the_same_command_gives_the_same_frames(two_trials_run, quiet):
    for frame in ("play", "patch_heads"):
        one, two = (
            pd.read_parquet(folder / f"{frame}.parquet") for folder in (two_trials_run, quiet[0])
        )
        pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_play_counts_right_answers(capsys):
    assert main(["play", "--trials", "8"]) == 0
    said = capsys.readouterr().out
    for condition in ("clean", "recolored", "erased", "swapped", "moved"):
        assert condition in said
    assert "of 8" in said


def test_attention_draws_a_head(tmp_path, capsys):
    assert main(["attention", "--head", "3.1", "--trials", "2", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "attention_3.1.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    "arguments, part",
    [
        (["run", "--trials", "many"], "'many'"),
        (["run", "--trials", "0"], "--trials is '0'; give a number"),
        (["run", "--trials", "²"], "'²'"),
        (["run", "--positions", "9999"], "9999"),
        (["play", "--seed", "-1"], "seed is -1"),
        (["calibrate", "--models", "0"], "0 planted"),
        (["calibrate", "--seed", "-1"], "seed is -1"),
        (["run", "--positions", "middle"], "'middle'"),
        (["run", "--model", "/nowhere"], "'/nowhere'"),
        (["run", "--trials", "published"], "24 × 24 tiles"),
        (
            ["run", "--task", "shape", "--trials", "published"],
            "--task says 'shape'; leave one of them out",
        ),
        (["run", "--dtype", "float99"], "float99"),
        (["run", "--out", "/proc/nothing"], "--out"),
        (["run", "--heads", "three"], "'three'; write layer.head"),
        (["run", "--heads", "3.0,"], "'3.0,'"),
        (["run", "--odd", "mauve"], "--odd mauve is not in the palette"),
        (["run", "--odd", "red", "--background", "red"], "must differ"),
        (["run", "--odd", "red", "--trials", "published"], "--odd holds a word of drawn trials"),
        (
            ["run", "--other-background", "red", "--trials-file", "RUN"],
            "--other-background holds a word",
        ),
        (["run", "--trials-file", "/nowhere.csv"], "/nowhere.csv"),
        (["run", "--shard", "5/4"], "'5/4'"),
        (["run", "--shard", "1/40"], "40 shards"),
        (["run", "--detach"], "--remote"),
        (["run", "--seed", "-1"], "seed is -1"),
        (["run", "--out", "new/deeper/results", "--seed", "-1"], "seed is -1"),
        (["attention", "--head", "three"], "--head is 'three'"),
        (["attention", "--head", "3.1,3.2"], "name one head, such as 3.1"),
        (["attention", "--head", "3.1", "--trials", "0"], "--trials is '0'; give a number"),
        (["attention", "nowhere", "--head", "3.1"], "no folder nowhere"),
        (
            ["attention", "nowhere", "--head", "3.1", "--model", "planted"],
            "--model and the folder nowhere",
        ),
        (["attention", "nowhere", "--head", "3.1", "--out", "figures"], "no folder nowhere"),
        (["calibrate", "--trials", "0"], "trials is 0"),
        (["calibrate", "--random", "0", "--out", "new/deeper"], "0 random"),
        (["compare", "nowhere", "--out", "table"], "no folder nowhere"),
        (["compare", "RUN", "--out", "table"], "16 heads in 4 layers"),
        (["report", "nowhere", "--out", "page"], "no folder nowhere"),
        (["collect", "nowhere"], "no folder nowhere"),
        (["knockout", "--keys", "nonsense"], "'nonsense'"),
        (["knockout", "--keys", "end,,"], "--keys is 'end,,'; write words such as"),
        (["knockout", "--window", "0"], "--window is 0; use a whole number from 1 to 4"),
        (["knockout", "nowhere", "--seed", "3"], "--seed and the folder nowhere"),
        (["layers", "nowhere"], "no folder nowhere"),
        (["layers", "--role", "mauve", "--out", "new/deeper"], "mauve"),
    ],
)
def test_bad_input_ends_with_one_sentence_and_leaves_no_folder(
    arguments, part, finished, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    given = {"RUN": str(finished)}
    before = set(tmp_path.rglob("*"))
    assert main([given.get(argument, argument) for argument in arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("rgb-circuit: ") and part in error
    assert set(tmp_path.rglob("*")) == before


def test_a_folder_that_was_there_stays_whatever_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for name in ("empty", "mine"):
        assert main(["run", "--seed", "-1", "--out", str(tmp_path / name)]) == 2
    assert (tmp_path / "empty").is_dir() and (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_a_folder_that_another_process_has_begun_to_use_stays(tmp_path):
    from filelock import FileLock

    with pytest.raises(rgb.InputError, match="refused"):
        with opened(tmp_path / "shared") as folder:
            other = FileLock(folder / ".shard-2-of-2.lock")
            other.acquire()
            raise rgb.InputError("refused")
    assert (folder / ".shard-2-of-2.lock").exists()
    other.release()
    with pytest.raises(rgb.InputError, match="refused"):
        with opened(tmp_path / "kept") as folder:
            (folder / "manifest.json").write_text("{}")
            raise rgb.InputError("refused")
    assert (folder / "manifest.json").exists()


def test_quiet_prints_nothing_and_writes_the_same(two_trials_run, quiet, tmp_path, capsys):
    folder, said = quiet
    assert said == "" != printed(two_trials_run)
    assert {path.name for path in two_trials_run.iterdir()} == {
        path.name for path in folder.iterdir()
    }
    # What is written nowhere is printed all the same, and what goes wrong.
    assert main(["play", "-q", "--trials", "2"]) == 0 and "2 of 2" in capsys.readouterr().out
    fixed = [
        "--odd",
        "red",
        "--other",
        "green",
        "--background",
        "blue",
        "--other-background",
        "yellow",
    ]
    assert main(["run", "-q", "--dry-run", "--trials", "40", *fixed]) == 0
    assert "of only 35 kinds" in capsys.readouterr().err
    assert main(["run", "-q", "--seed", "-1", "--out", str(tmp_path / "bad")]) == 2
    assert "seed is -1" in capsys.readouterr().err


def test_a_run_of_some_heads_and_colours_restores_those_and_can_be_finished_again(
    tmp_path, capsys, monkeypatch
):
    chosen = [
        "--heads",
        "3.1,3.0,3.1",
        "--component",
        "pattern",
        "--odd",
        "red",
        "--background",
        "blue",
    ]
    sections(monkeypatch)
    command = ["run", "--trials", "8", *chosen, "--out", str(tmp_path)]
    assert main(command) == 0
    assert "No role table: heads other than 3.1, 3.0 were not restored" in capsys.readouterr().out
    frame = pd.read_parquet(tmp_path / "patch_heads.parquet")
    assert set(zip(frame["layer"], frame["head"])) == {(3, 0), (3, 1)} and set(
        frame["component"]
    ) == {"pattern"}
    assert set(frame.loc[frame["role"] == "odd", "answer"]) == {"red"}
    assert set(frame.loc[frame["role"] == "background", "answer"]) == {"blue"}
    model = rgb.load("toy")
    trials = rgb.rgb_trials(model, 8, odd="red", background="blue")
    same = rgb.patch_heads(
        model, trials, component="pattern", heads=[(3, 1), (3, 0)], progress=False
    )
    pd.testing.assert_frame_equal(
        frame, same, check_categorical=False, check_dtype=False, atol=1e-5
    )
    left_out = pd.read_parquet(tmp_path / "left_out.parquet").set_index("frame")["reason"]
    assert {"roles", "composition", "curve", "task_reading"} <= set(left_out.index)
    assert (tmp_path / "attention.parquet").exists() and (tmp_path / "report.html").exists()
    # From the folder alone: the trials are drawn again, with the same colours.
    (tmp_path / "patch_heads.parquet").unlink()
    assert main(["report", str(tmp_path)]) == 0
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "patch_heads.parquet"), frame)
    # Another choice is another run.
    capsys.readouterr()
    assert main(["run", "--trials", "8", "--out", str(tmp_path)]) == 2
    assert "options.heads" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["attention", "--head", "9.1"],
        ["attention", "RUN", "--head", "9.1"],
        ["run", "--heads", "3.0,9.1"],
        ["audit", "heads.json"],
    ],
)
def test_a_head_that_there_is_not_is_refused_before_weights_are_read(
    command, finished, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("heads.json").write_text("[[9, 1]]")
    for load in ("loaded", "reloaded"):
        monkeypatch.setattr(f"analyses.study.{load}", None)
    assert main([str(finished) if part == "RUN" else part for part in command]) == 2
    assert "head 9.1 does not exist in toy; it has layers 0 to 3" in capsys.readouterr().err
    assert os.listdir() == ["heads.json"]


@pytest.mark.parametrize(
    "command, said",
    [
        (["knockout", "--role", "od"], "--role is 'od'; the trials have odd, other,"),
        (["layers", "RUN", "--role", "od"], "--role is 'od'"),
        (["layers", "RUN", "--positions", "end,tiel"], "--positions names 'tiel'; use end, all"),
        (["knockout", "--queries", "tiel"], "--queries names 'tiel'"),
        (
            ["knockout", "--task", "relation", "--keys", "shape,other shapes"],
            "--keys names 'other shapes'; use end, all, image, text, tile, rest, question, first "
            "or a box of the trials (other shape, shape), or token positions such as 5",
        ),
        (["run", "--positions", "5,x"], "--positions names '5,x'"),
        (["audit", "heads.json", "--positions", "tiel"], "--positions names 'tiel'"),
        (["play", "--odd", "rd"], "--odd rd is not in the palette"),
        (["play", "--task", "counting", "--fix", "number=99"], "number cannot be 99"),
        (["check", "toy", "--seed", "-5"], "--seed is -5"),
    ],
)
def test_a_name_that_trials_do_not_have_is_refused_before_weights_are_read(
    command, said, finished, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("heads.json").write_text("[[3, 1]]")
    for load in ("loaded", "reloaded"):
        monkeypatch.setattr(f"analyses.study.{load}", None)
    assert main([str(finished) if part == "RUN" else part for part in command]) == 2
    assert said in capsys.readouterr().err and os.listdir() == ["heads.json"]


def test_somebody_elses_task_is_not_drawn_before_there_is_a_model():
    options = Namespace(seed=0, fix={})
    task = replace(find("rgb"), draw=lambda *arguments: pytest.fail("drawn"))
    assert loading._drawn_without_a_model(task, options) == []
    assert len(loading._drawn_without_a_model(find("rgb"), options)) == 1


def test_attention_takes_model_and_trials_from_a_run(finished, tmp_path, monkeypatch):
    seen = []

    def watched(model, trials, *arguments, **options):
        seen.append((model.name, [trial.name for trial in trials]))
        return attention_from_end(model, trials, *arguments, **options)

    monkeypatch.setattr("rgb_circuit.calls.attention.attention_from_end", watched)
    assert main(["attention", str(finished), "--head", "3.1", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "attention_3.1.png").stat().st_size > 10_000
    assert seen == [("toy", [trial["name"] for trial in read_manifest(finished)["trials"][:4]])]
    assert main(["attention", str(finished), "--head", "3.2"]) == 0
    assert (finished / "attention_3.2.png").exists()


def test_the_package_is_the_command(tmp_path):
    code = [sys.executable, "-m", "rgb_circuit"]
    done = subprocess.run([*code, "--version"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == f"rgb-circuit {version('rgb_circuit')}\n"
    # Refused before torch is imported; what comes after is in tests/test_surroundings.py.
    done = subprocess.run([*code, "run", "--trials"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and "--trials" in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words, offered",
    [
        (["rgb-circuit", "cal"], {"calibrate"}),
        (["rgb-circuit", "run", "--comp"], {"--component"}),
        (["rgb-circuit", "run", "--component", "pa"], {"pattern"}),
        (["rgb-circuit", "report", "resul"], {"results"}),
    ],
)
def test_a_shell_completes_commands_options_and_folders(words, offered, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--print-completion", "bash"])
    assert ended.value.code == 0
    (tmp_path / "results").mkdir()
    (tmp_path / "resulting.txt").touch()
    script = capsys.readouterr().out + (
        f"\nCOMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; COMP_TYPE=9\n"
        "$(complete -p rgb-circuit | sed 's/.*-F \\([^ ]*\\).*/\\1/') rgb-circuit\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert {line.strip("/ ") for line in done.stdout.split()} == offered, done.stderr


@pytest.mark.parametrize("command", ["play", "run", "attention"])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0 and "--model" in capsys.readouterr().out
