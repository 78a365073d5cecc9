"""Runs of several tasks: a folder each, as of a single task, and above them what the same heads do
in all."""

import json
import re
from contextlib import redirect_stdout
from io import StringIO

import pandas as pd
import pytest
import runs

import rgb_circuit as rgb
from analyses.command import main
from analyses.transfer import transfer

TASKS = ("counting", "binding")
OF_BOTH = [option for task in TASKS for option in ("--task", task)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a run of both tasks, and what it printed."""
    folder, said = tmp_path_factory.mktemp("several") / "both", StringIO()
    with redirect_stdout(said), pytest.MonkeyPatch.context() as patched:
        runs.sections(patched)
        assert run(folder, *OF_BOTH) == 0
    return folder, said.getvalue()


def run(folder, *options):
    return main(["run", "--model", "talker", "--trials", "10", *options, "--out", str(folder)])


def pairs_of(folder):
    return [*pd.read_parquet(folder / "transfer_pairs.parquet").itertuples()]


def test_a_tasks_folder_holds_what_a_run_of_it_alone_holds(made, tmp_path, monkeypatch):
    runs.undrawn(monkeypatch)
    assert run(tmp_path / "alone", "--task", "counting", "--quiet") == 0
    frames = {path.name for path in (tmp_path / "alone").glob("*.parquet")}
    assert {"patch_heads.parquet", "evidence.parquet", "roles.parquet"} <= frames
    assert frames == {path.name for path in (made[0] / "counting").glob("*.parquet")}
    for name in frames:
        one, other = (
            pd.read_parquet(folder / name) for folder in (tmp_path / "alone", made[0] / "counting")
        )
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_heads_pairs_and_sets_are_those_of_trials_that_are_measured_anew(made):
    model = rgb.load("talker")
    samples = {task: rgb.trials(model, task, 10) for task in TASKS}
    anew = transfer(model, samples, progress=False)
    for name in ("heads", "pairs", "sets"):
        kept = pd.read_parquet(made[0] / f"transfer_{name}.parquet")
        pd.testing.assert_frame_equal(kept, getattr(anew, name), atol=1e-4, check_dtype=False)


def test_the_page_above_leads_to_each_page_and_says_what_is_shared(made):
    folder, said = made
    page = (folder / "report.html").read_text()
    for task in TASKS:
        assert f'href="{task}/report.html"' in page and (folder / task / "report.html").exists()
    verdict = re.search(r"<h1>(.*?)</h1>", page).group(1)
    assert verdict in said and "(2 of 2 tasks)" in said
    heads = pd.read_parquet(folder / "transfer_heads.parquet")
    shown = heads[heads["shown"]].groupby(["layer", "head"]).size()
    if not (shown > 1).any():
        assert verdict == "No head of talker is shown to act in more than one of 2 tasks."
    top, [pair] = heads.loc[heads["effect"].idxmax()], pairs_of(folder)
    assert f"<th>{top['layer']}.{top['head']}</th>" in page
    assert f'<td class="n">{pair.ceiling:.2f}</td>' in page
    assert page.count("<svg") == 1 and (folder / "transfer.png").stat().st_size > 10_000


def test_pages_are_written_again_from_the_folder_of_all(made, capsys, monkeypatch):
    runs.sections(monkeypatch)
    pages = [made[0] / "report.html", *(made[0] / task / "report.html" for task in TASKS)]
    before = [page.read_bytes() for page in pages]
    for page in pages:
        page.unlink()
    assert main(["report", str(made[0])]) == 0
    assert [page.read_bytes() for page in pages] == before
    # What takes one run is told where they are, and a run of one task is another folder's.
    capsys.readouterr()
    assert run(made[0], "--task", "counting") == 2
    assert "holds a run for each of several tasks; choose" in capsys.readouterr().err
    assert main(["attention", str(made[0]), "--head", "3.2"]) == 2
    assert str(made[0] / "counting") in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, said",
    [
        (["--task", "counting"], "--task names 'counting' twice"),
        (["--task", "counting:template=plain"], "--task names 'counting' twice"),
        (["--task", "relation:template=brief"], "template names 'brief', which it does not have"),
        (["--task", "rgb:template=short"], "template names 'short', which it does not have"),
        (["--task", "relation", "--trials-file", __file__], "--trials-file goes with one task"),
        (["--task", "relation", "--heads", "3.2"], "--heads goes with one task"),
        (["--task", "rgb", "--model", "planted"], "--task counting: no word of the task (1, 2, 3"),
        (["--task", "rgb", "--fix", "template=short"], "--task rgb: "),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_written(options, said, tmp_path, capsys):
    folder = tmp_path / "nothing"
    # A trials file and a number of trials exclude each other.
    command = ["run", "--model", "talker", "--task", "counting", *options, "--out", str(folder)]
    assert main(command) == 2
    assert said in capsys.readouterr().err and not folder.exists()


def test_one_task_is_asked_in_several_ways(tmp_path, monkeypatch):
    """Each as a run with --fix asks it, on the same pictures; what a word says goes before what
    --fix says of all."""
    runs.undrawn(monkeypatch)
    runs.without_closer_look(monkeypatch)
    heads = ("--task", "counting:template=plain", "--task", "counting", "--fix", "template=short")
    folder = tmp_path / "both"
    assert run(folder, *heads, "--quiet") == 0
    assert run(tmp_path / "alone", "--task", "counting:template=short", "--quiet") == 0
    for frame in ("patch_heads", "roles"):
        one, other = (
            pd.read_parquet(at / f"{frame}.parquet")
            for at in (folder / "counting", tmp_path / "alone")
        )
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    options = json.loads((folder / "counting_plain" / "manifest.json").read_text())["options"]
    assert options["task"] == "counting" and options["fix"] == {"template": "plain"}
    page = (folder / "report.html").read_text()
    assert "Ways of asking and their pages" in page and "of 2 ways of asking" in page
    assert "How many dots" in page and "Count the dots. Answer with one number" in page
    assert 'href="counting_plain/report.html">counting:plain</a>' in page


def test_a_dry_run_counts_every_task_and_what_is_between_them(tmp_path, capsys):
    three = (*OF_BOTH, "--task", "counting:template=short")
    assert run(tmp_path / "nothing", *three, "--dry-run") == 0
    said = capsys.readouterr().out
    assert said.count("talker: 10 trials, 24 heads") == 3 and "counting:short (3 of 3" in said
    assert re.search(r"Comparing \d tasks takes up to [\d,]+ more plain forwards", said)
    assert not (tmp_path / "nothing").exists()
