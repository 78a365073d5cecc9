"""What a run found leaves it as data, for a paper, and beside another run."""

import json
import shutil

import pandas as pd
import pytest
import runs

import rgb_circuit as rgb
from analyses.command import main


def test_json_holds_what_the_frames_hold(planted_run):
    run = rgb.read_run(planted_run)
    found = json.loads(run.to_json())
    assert [(head["layer"], head["head"], head["role"]) for head in found["heads"]] == list(
        run.findings[["layer", "head", "role"]].itertuples(index=False, name=None)
    )
    reader = next(head for head in found["heads"] if head["role"] == "color extractor")
    evidence = run.frames["evidence"]
    own = (evidence["layer"] == reader["layer"]) & (evidence["head"] == reader["head"])
    row = evidence[own & (evidence["prediction"] == "P1a")].iloc[0]
    assert reader["predictions"]["P1a"]["effect"] == row["effect"]
    assert reader["predictions"]["P1a"]["state"] == "holds"
    # Those of its own role, and no others.
    assert "P3a" not in reader["predictions"]
    assert (found["model"], found["trials"], found["positions"]) == ("planted", 12, "end")


def test_a_run_prints_json_alone(planted_run, tmp_path, capsys, monkeypatch):
    runs.undrawn(monkeypatch)
    copy = shutil.copytree(planted_run, tmp_path / "run")
    assert main(["run", *runs.PLANTED, "--out", str(copy), "--json"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed) == json.loads(rgb.read_run(planted_run).to_json())


def test_json_wants_a_finished_run(capsys):
    assert main(["run", "--json", "--shard", "1/2"]) == 2
    assert "--json prints a finished run's verdict" in capsys.readouterr().err


def test_lists_are_what_other_tools_take(planted_run, tmp_path, capsys):
    assert main(["export", str(planted_run), "--format", "lists"]) == 0
    assert json.loads(capsys.readouterr().out)["color extractor"] == {"3": [0, 2], "4": [1, 3]}
    assert main(["export", str(planted_run), "--out", str(tmp_path / "heads.json")]) == 0
    assert json.loads((tmp_path / "heads.json").read_text()) == json.loads(
        rgb.read_run(planted_run).to_json()
    )


def test_a_paper_gets_figures_table_and_methods(planted_run, tmp_path, capsys):
    assert (
        main(["export", str(planted_run), "--for", "paper", "--out", str(tmp_path / "paper")]) == 0
    )
    files = {path.name: path.read_bytes() for path in (tmp_path / "paper").iterdir()}
    assert set(files) == {"heads.tex", "methods.txt", "panels.pdf", "panels.svg", "CITATION.cff"}
    assert files["panels.pdf"].startswith(b"%PDF") and b"<svg" in files["panels.svg"]
    assert files["heads.tex"].decode().count("color extractor & ") == 4
    assert "about 12 trials drawn with seed 0" in files["methods.txt"].decode()
    again = tmp_path / "again"
    main(["export", str(planted_run), "--for", "paper", "--out", str(again)])
    assert {path.name: path.read_bytes() for path in again.iterdir()} == files


def test_a_run_without_roles_says_why(two_trials_run, capsys):
    assert main(["export", str(two_trials_run)]) == 2
    assert "has no roles: too few trials" in capsys.readouterr().err


def test_two_runs_are_compared_from_the_shell(planted_run, tmp_path, capsys):
    assert main(["compare", str(planted_run), str(planted_run), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "color extractor" in said and "ceiling" in said
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "compare_runs.parquet"),
        rgb.compare_runs(planted_run, planted_run),
        check_dtype=False,
    )
    assert main(["compare", "a", "b", "c"]) == 2
    assert "3 folders were given" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["export", "nowhere"], ["compare", "nowhere", "elsewhere"]])
def test_a_folder_that_is_not_there(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    assert "there is no folder nowhere" in capsys.readouterr().err
