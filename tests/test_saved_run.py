"""What a run's folder gives back is what the run was made of and what it found."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import runs

import rgb_circuit as rgb
from analyses.command import main
from rgb_circuit.files.results import read_frame
from rgb_circuit.keeping.manifest import read_manifest
from rgb_circuit.keeping.saved_run import SavedRun
from rgb_circuit.trial import described


@pytest.fixture(scope="module")
def folder(planted_run):
    """Of a run of the planted model, which has roles."""
    return planted_run


def test_a_run_gives_its_model_and_trials_back(folder):
    run = rgb.read_run(folder)
    assert run.model == "planted" and run.folder == folder and run.manifest == read_manifest(folder)
    assert [described(trial) for trial in run.trials] == run.manifest["trials"]
    assert repr(run) == f"SavedRun({str(folder)!r}: planted, 12 trials, {len(run.frames)} frames)"


def test_trials_of_chosen_colours_are_drawn_with_these_again(tmp_path, monkeypatch):
    runs.undrawn(monkeypatch)
    chosen = [
        "--trials",
        "2",
        "--other-background",
        "yellow",
        "--component",
        "pattern",
        "--heads",
        "3.0",
    ]
    assert main(["run", *chosen, "--out", str(tmp_path)]) == 0
    run = rgb.read_run(tmp_path)
    assert [described(trial) for trial in run.trials] == run.manifest["trials"]
    assert {trial.answers["other_background"] for trial in run.trials} == {"yellow"}


def test_a_run_gives_every_frame_back_and_reads_none_before_it_is_asked_for(folder, monkeypatch):
    read = []
    whole = pd.read_parquet
    monkeypatch.setattr(pd, "read_parquet", lambda path: read.append(path.stem) or whole(path))
    run = rgb.read_run(folder)
    assert set(run.frames) == {path.stem for path in folder.glob("*.parquet")} and not read
    pd.testing.assert_frame_equal(run.frames["patch_heads"], whole(folder / "patch_heads.parquet"))
    assert run.frames["patch_heads"] is run.frames["patch_heads"] and read == ["patch_heads"]
    # As it was measured: the floor of rounding comes back with it.
    assert run.frames["patch_heads"].attrs["noise_floor"] > 0


def test_findings_are_the_heads_with_a_role_strongest_first(folder):
    table = pd.read_parquet(folder / "roles.parquet")
    found = rgb.read_run(folder).findings
    assert len(found) == (table["role"] != "none").sum() > 0 and "none" not in set(found["role"])
    assert found["score"].abs().is_monotonic_decreasing
    assert list(found) == ["layer", "head", "role", "score", "colors"]


def test_a_run_cannot_be_changed(folder):
    with pytest.raises(AttributeError):
        rgb.read_run(folder).folder = "elsewhere"


def test_a_frame_that_was_left_out_says_why(two_trials_run):
    run = rgb.read_run(two_trials_run)
    for ask in (lambda: run.findings, lambda: run.frames["roles"], lambda: run.frames["evidence"]):
        with pytest.raises(rgb.InputError, match=r"has no (roles|evidence): too few trials"):
            ask()
    with pytest.raises(rgb.InputError, match="has no rolls; it has accuracy,"):
        run.frames["rolls"]
    assert "roles" not in run.frames and run.frames.get("roles") is None


def test_a_run_that_is_not_finished_says_so(folder, tmp_path):
    unfinished = tmp_path / "my run"
    unfinished.mkdir()
    shutil.copy(folder / "manifest.json", unfinished)
    # What is to be typed can be typed.
    again = f"finish it with rgb-circuit report '{unfinished}'"
    with pytest.raises(rgb.InputError, match=f"is not finished; {again}"):
        rgb.read_run(unfinished).frames["patch_heads"]
    again = f"finish its run with rgb-circuit report '{unfinished}'"
    with pytest.raises(rgb.InputError, match=f"holds no patch_heads.parquet; {again}"):
        read_frame(unfinished, "patch_heads", [])


@pytest.mark.parametrize(
    "manifest, part",
    [
        (None, "holds no manifest.json"),
        ("{", "cannot read"),
        ({"model": "toy", "dtype": "float32"}, "says nothing"),
    ],
)
def test_a_folder_of_something_else_is_refused(manifest, part, tmp_path):
    if manifest is not None:
        text = manifest if isinstance(manifest, str) else json.dumps(manifest)
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(rgb.InputError, match=part):
        rgb.read_run(tmp_path)
    with pytest.raises(rgb.InputError, match="no folder"):
        rgb.read_run(tmp_path / "nowhere")


def test_findings_are_the_heads_with_a_role_the_strongest_first_whichever_way():
    table = pd.DataFrame(
        dict(layer=0, head=range(3), role=["a", "none", "b"], score=[0.5, 0.9, -0.8], colors="")
    )
    found = SavedRun(Path(), {}, {"roles": table}).findings
    assert found["head"].tolist() == [2, 0]
