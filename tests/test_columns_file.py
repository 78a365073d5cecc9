"""Tables with columns of their own, from the command: how they are read stands in a TOML file."""

import json
import shutil

import pandas as pd
import pytest
import runs
import tables

import rgb_circuit as rgb
from analyses.command import main
from rgb_circuit.tables.columns_file import read_columns, sheet_of

PAIRS = """
name = "object"
question = "Which color is the background? Respond in one word"
images = { clean = "original_image", changed = "counterfact_image" }
answers = { right = "correct_answer", other = "incorrect_answer" }
expected = { clean = "right", changed = "other" }
strict = false
"""
SINGLE = """
name = "{relative_image_path}"
question = "prompt"
images = { clean = "relative_image_path", other = "other_relative_image_path" }
answers = { right = "gt_answer", other = "other_gt_answer" }
expected = { clean = "right", other = "other" }
cluster = "pair"

[pair]
differ = "gt_answer"
"""


def asking(verb, table, columns):
    """A command about the planted model and a table."""
    of_table = ["--trials-file", str(table), "--columns", str(columns)]
    return [verb, "--model", "planted", *of_table]


@pytest.fixture
def columns(tmp_path):
    (tmp_path / "columns.toml").write_text(PAIRS)
    return tmp_path / "columns.toml"


# What is read of its page.
SECTIONS = ("accuracy", "reproduce")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(table, columns, folder of a finished run over them): one row cannot be used."""
    home = tmp_path_factory.mktemp("pairs")
    table = tables.visual_counterfact(home)
    rows = pd.read_parquet(table)
    rows.loc[3, "incorrect_answer"] = "elephant"
    rows["correct_answer"] = rows["correct_answer"].replace("['red']", "['red', 'white']")
    rows.to_parquet(table)
    (home / "columns.toml").write_text(PAIRS)
    command = asking("run", table, home / "columns.toml")
    with pytest.MonkeyPatch.context() as patched:
        runs.sections(patched, *SECTIONS)
        assert main([*command, "--out", str(home / "out"), "--quiet"]) == 0
    return table, home / "columns.toml", home / "out"


def test_a_run_records_its_columns_and_says_what_became_of_every_row(done):
    table, columns, out = done
    run = rgb.read_run(out)
    assert run.manifest["options"]["columns"]["images"] == {
        "clean": "original_image",
        "changed": "counterfact_image",
    }
    rows = run.frames["rows_used"]
    assert rows.loc[~rows["used"], "row"].tolist() == [3]
    assert (
        rows["says"][1] == "right is read as 'green', of 'dark green', 'green'"
        and "'elephant'" in rows["says"][3]
    )
    page = (out / "report.html").read_text()
    assert f"--columns {columns}" in page and "Does the model use the picture?" in page
    assert {"flips", "answer", "all"} <= set(run.frames["accuracy"]["by"])


def test_all_accepted_words_count_and_are_named_on_the_page(done):
    run = rgb.read_run(done[2])
    several = [trial for trial in run.trials if trial.also]
    assert [trial.words["right"] for trial in several] == 2 * [("red", "white")]
    frames, names = run.frames, [trial.name for trial in several]
    clean = frames["play"].query("condition == 'clean'").set_index("trial").loc[names]
    assert clean["answer"].tolist() == ["white", "white"] and clean["correct"].all()
    assert set(clean["accepted"]) == {"red / white"}
    assert "red / white" in frames["accuracy"].query("by == 'answer'")["level"].tolist()
    says = frames["rows_used"].set_index("trial")["says"].loc[names]
    assert set(says) == {"right is read as 'red' or 'white'"}
    page = (done[2] / "report.html").read_text()
    assert "red / white" in page


def test_its_trials_are_read_again_without_model_and_columns_file(done, monkeypatch):
    runs.sections(monkeypatch, *SECTIONS)
    table, columns, out = done
    made = sheet_of(table, read_columns(columns)).trials(rgb.load("planted"))
    text = columns.read_text()
    columns.unlink()
    try:
        assert rgb.read_run(out).trials == list(made) and len(made) == 7
        before = (out / "report.html").read_text()
        assert main(["report", str(out), "--quiet"]) == 0
        assert (out / "report.html").read_text().partition("<h2")[0] == before.partition("<h2")[0]
    finally:
        columns.write_text(text)


def test_a_run_that_was_killed_goes_on_from_there(done, tmp_path, monkeypatch):
    runs.undrawn(monkeypatch)
    table, columns, out = done
    shutil.copytree(out, again := tmp_path / "again")
    for path in again.glob("*.parquet"):
        path.unlink()
    gone = sorted(again.glob("parts/patch-*/*.parquet"))[0]
    gone.unlink()
    kept = {path: path.stat().st_mtime_ns for path in again.glob("parts/*/*.parquet")}
    command = asking("run", table, columns)
    assert main([*command, "--out", str(again), "--quiet"]) == 0
    assert gone.is_file() and {path: path.stat().st_mtime_ns for path in kept} == kept
    for name in ("rows_used", "accuracy", "accuracy_by_trial", "patch_heads"):
        assert rgb.read_run(again).frames[name].equals(rgb.read_run(out).frames[name]), name


def test_other_columns_are_another_run(done, tmp_path, capsys):
    table, columns, out = done
    (tmp_path / "other.toml").write_text(PAIRS.replace("Respond in one word", "Answer"))
    command = asking("run", table, tmp_path / "other.toml")
    assert main([*command, "--out", str(out)]) == 2
    assert "holds a run that differs in options.columns.question" in capsys.readouterr().err


def test_single_pictures_are_paired_before_they_are_read(tmp_path, capsys):
    table = tables.technion(tmp_path / "technion")
    (tmp_path / "single.toml").write_text(SINGLE)
    assert main(asking("play", table, tmp_path / "single.toml")) == 0
    said = capsys.readouterr().out
    # The planted model says "white" to a plain canvas.
    assert "does not answer these questions: it answers 0 of 16 pictures right" in said
    assert "Guessing would reach 25 %." in said and "0 of 8 trials flip" in said


def test_the_accuracy_is_said_before_any_head_is_measured(tmp_path, capsys, monkeypatch, columns):
    def stop(*_, **__):
        raise rgb.InputError("a head was measured")

    monkeypatch.setattr("analyses.study.find", stop)
    table = tables.visual_counterfact(tmp_path / "pairs", n=12)
    command = asking("run", table, columns)
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert "a head was measured" in said.err
    first, second = (line for line in said.out.splitlines() if "does not answer" in line)
    assert first.startswith("After 8 trials: planted") and "0 of 24 pictures right" in second


def test_trials_that_do_not_flip_are_left_out_where_that_is_asked_for(tmp_path, capsys, columns):
    table = tables.visual_counterfact(tmp_path / "pairs", n=4)
    command = [*asking("run", table, columns), "--flips-only"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    assert "no trial flips: of none are the clean picture" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("name = ", "columns.toml is no TOML"),
        ('folder = "C:\\data"', "; a backslash between double quotes begins an escape"),
        ('name = "object"', "columns.toml has no 'question'; add it"),
        (PAIRS + 'nme = "x"', "has the key 'nme', which is not known; use name, question"),
        (
            PAIRS.replace("strict = false", 'strict = "no"'),
            "columns.toml: strict is 'no'; give true or false",
        ),
        (PAIRS + 'strata = "kind"', "columns.toml: strata is 'kind'; give a list"),
        (PAIRS + "[pair]\nbye = 3", "columns.toml: pair has the key 'bye'"),
        (PAIRS.replace('clean = "original_image", ', ""), "images lacks 'clean'"),
        (
            PAIRS.replace("original_image", "image_0"),
            r"images['clean'] is 'image_0', which is no column",
        ),
    ],
    ids=["toml", "backslash", "missing", "unknown", "kind", "strata", "pair", "clean", "column"],
)
def test_what_cannot_be_read_is_said_before_a_model_is_loaded(
    text, sentence, tmp_path, capsys, columns
):
    columns.write_text(text)
    table = tables.visual_counterfact(tmp_path / "pairs")
    command = [
        "play",
        "--model",
        "no/model",
        "--trials-file",
        str(table),
        "--columns",
        str(columns),
    ]
    assert main(command) == 2
    assert sentence in capsys.readouterr().err


def test_columns_are_of_a_table(columns, capsys):
    assert main(["play", "--columns", str(columns)]) == 2
    assert "name the table with --trials-file" in capsys.readouterr().err
    assert main(["play", "--trials-file", "x.csv", "--columns", "none.toml"]) == 2
    assert "there is no file none.toml" in capsys.readouterr().err


def test_hypotheses_are_tested_on_a_table_of_ones_own(tmp_path, columns, capsys):
    (tmp_path / "mine.toml").write_text(
        '[hypotheses.reader]\npredictions = { A = "right up: z clean -> changed" }\nscore = ["A"]\n'
    )
    table = tables.visual_counterfact(tmp_path / "pairs", n=4)
    command = [*asking("run", table, columns), "--dry-run"]
    assert main([*command, "--hypotheses", str(tmp_path / "mine.toml")]) == 0
    assert "4 trials" in capsys.readouterr().out


def test_what_a_manifest_holds_of_columns_is_json(columns):
    assert json.loads(json.dumps(read_columns(columns))) == read_columns(columns)
