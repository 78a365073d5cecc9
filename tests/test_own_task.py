"""A stranger's task: a TOML file and pictures outside the package, as docs/tasks.md has them,
through the command to its page."""

import csv
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
import runs

import rgb_circuit as rgb
from analyses.command import main
from rgb_circuit.stimuli.tasks import named

DOCS = Path(__file__).parents[1] / "docs"


def block(page, kind, holding):
    """The block of a page in a language, of those that hold some text the first."""
    found = re.findall(
        rf"^```{kind}\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE
    )
    return next(one for one in found if holding in one)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the documents' task lies, with its pictures; the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shapes.toml").write_text(block("tasks.md", "toml", 'name = "shapes"'))
    exec(block("your_own_pictures.md", "python", "shapes.csv"), {})
    return tmp_path


def test_the_task_of_the_documents_runs_to_its_page(folder, random_folder):
    model = str(random_folder["grouped"])
    assert (
        main(
            [
                "run",
                "--task",
                "shapes.toml",
                "--model",
                model,
                "--anyway",
                "--quiet",
                "--out",
                "out",
            ]
        )
        == 0
    )
    page = (folder / "out" / "report.html").read_text()
    for said in (
        "bind a colour to the square",
        "two shapes in two colours",
        "12 trials in 6 clusters",
        "a test needs 8",
    ):
        assert said in page
    evidence = pd.read_parquet(folder / "out" / "evidence.parquet")
    assert set(evidence["prediction"]) == {"B1", "B2"}
    assert set(rgb.read_run("out").trials[0].images) == {"clean", "exchanged"}
    # Asked of nothing but what the folder holds.
    (folder / "shapes.toml").unlink()
    assert main(["report", "out", "--quiet"]) == 0
    again = (folder / "out" / "report.html").read_text()
    assert "bind a colour to the square" in again and "two shapes in two colours" in again


def test_a_module_in_the_working_directory_is_a_task(tmp_path, monkeypatch):
    """The task of docs/adding.md, as the script rgb-circuit finds it: not beside itself."""
    code = block("adding.md", "python", "CANVAS = rgb.Task").partition("model = rgb.load")[0]
    (tmp_path / "plain.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    before = [*sys.path]
    task = named("plain:CANVAS")
    assert task.corrupted == "changed" and task.draw is not None and sys.path == before
    with pytest.raises(rgb.InputError, match="there is no task 'plain:NONE'"):
        named("plain:NONE")


READER = """
name = "two tiles"
says = "the odd tile in two colours"
question = "Which color is the odd color out? Respond in one word"
trials = "pairs.csv"
corrupted = "exchanged"

[roles]
right = "colour of the odd tile"
other = "its colour when exchanged"

[conditions]
clean = { right = "right", shows = ["right"] }
exchanged = { right = "other", shows = ["other"] }

[hypotheses.reader]
says = "brings the colour that it looks at"
[hypotheses.reader.predictions]
R1 = "right up, other down: z clean -> exchanged"
R2 = "right not up: pattern clean -> exchanged"
"""


def test_a_strangers_hypothesis_of_two_answers_finds_the_heads_that_read(tmp_path, monkeypatch):
    """Without a word that no picture shows, a word is read against the other answer."""
    runs.sections(monkeypatch, "hypotheses")
    runs.without_closer_look(monkeypatch)
    (tmp_path / "pairs.toml").write_text(READER)
    model = rgb.load("planted")
    with open(tmp_path / "pairs.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(
            ["name", "question", "clean", "image:exchanged", "answer:right", "answer:other",
             "expected:clean", "expected:exchanged"]
        )  # fmt: skip
        for trial in rgb.rgb_trials(model, 10):
            number = trial.name[:3]
            for condition in ("clean", "recolored"):
                trial.images[condition].save(tmp_path / f"{number} {condition}.png")
            table.writerow(
                [number, "Which color is the odd color out? Respond in one "
                         "word", f"{number} clean.png",
                 f"{number} "
                 "recolored.png", trial.answers["odd"], trial.answers["other"], "right", "other"]
            )  # fmt: skip
    out = str(tmp_path / "out")
    task = str(tmp_path / "pairs.toml")
    assert main(["run", "--task", task, "--model", "planted", "--quiet", "--out", out]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert (
        "brings the colour that it looks at" in page
        and "4 reader heads (3.0, 3.2, 4.1, 4.3)" in page
    )
    roles = rgb.read_run(out).frames["roles"].set_index(["layer", "head"])["role"]
    assert set(roles[roles == "reader"].index) == {(3, 0), (3, 2), (4, 1), (4, 3)}


def test_the_sixth_task_of_the_documents_is_played_without_a_model_being_named(
    tmp_path, monkeypatch, capsys
):
    code = block("tasks.md", "python", "PRESENCE").rpartition("print(")[0]
    (tmp_path / "presence.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    assert main(["play", "--task", "presence:PRESENCE", "--trials", "8"]) == 0
    told = capsys.readouterr()
    assert "Model: talker, since toy does not know" in told.err
    assert [line.split() for line in told.out.splitlines()[1:]] == [
        [condition, "8", "of", "8"] for condition in ("clean", "changed", "moved")
    ]
