"""A run of the whole command on a real NDIF server leaves what a run here leaves: waited for,
handed in and collected, or interrupted."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import runs

from analyses.command import main
from analyses.report import page
from rgb_circuit.keeping import store
from rgb_circuit.measuring import measure
from rgb_circuit.remote import server


def same_frames(one, other):
    """Whether two runs' folders hold the same frames, up to rounding."""
    names = sorted(path.name for path in one.glob("*.parquet"))
    assert names == sorted(path.name for path in other.glob("*.parquet"))
    assert "patch_heads.parquet" in names
    for name in names:
        here, there = pd.read_parquet(one / name), pd.read_parquet(other / name)
        for column in here:
            if here[column].dtype.kind == "f":
                if column not in ("p_value", "q_value", "share"):
                    np.testing.assert_allclose(
                        there[column],
                        here[column],
                        rtol=1e-3,
                        atol=1e-4,
                        err_msg=f"{name}, {column}",
                    )
            elif len(here) and isinstance(here[column].iloc[0], np.ndarray):
                for one_row, other_row in zip(here[column], there[column], strict=True):
                    if one_row.dtype.kind == "f":
                        # Attention, kept in half precision.
                        np.testing.assert_allclose(other_row, one_row, rtol=2e-3, atol=1e-4)
                    else:
                        np.testing.assert_array_equal(other_row, one_row)
            else:
                assert there[column].tolist() == here[column].tolist(), (name, column)


@pytest.fixture(scope="module")
def command(small_folder):
    """The run of `small_run`, on a server or here."""
    return ["run", "--model", small_folder, *runs.SMALL]


@pytest.fixture(scope="module")
def run_there(command, _ndif_server, tmp_path_factory):
    """The folder of `small_run` on a server that is waited for; and of every time that something
    was measured, (trials, requests)."""
    run, rounds = measure._run, []

    def counted(model, works, *given):
        before = model.server.requests
        waiting = run(model, works, *given)
        trials = {trial.name for work in works for trial in work.missing}
        rounds.append((len(trials), model.server.requests - before))
        return waiting

    folder = tmp_path_factory.mktemp("runs") / "there"
    _ndif_server.start()
    with pytest.MonkeyPatch.context() as monkeypatch:
        _ndif_server.connect(monkeypatch)
        runs.undrawn(monkeypatch)
        monkeypatch.setattr(measure, "_run", counted)
        assert main([*command, "--remote", _ndif_server.url, "--out", str(folder)]) == 0
    return folder, [one for one in rounds if one[0]]


def test_a_run_on_a_server_leaves_what_a_run_here_leaves(
    small_run, command, run_there, ndif_server, monkeypatch
):
    there, _ = run_there
    same_frames(small_run, there)
    assert (there / "roles.parquet").exists()
    runs.sections(monkeypatch, "reproduce")
    assert f"--remote {ndif_server.url}" in page.write(there).read_text()
    # On this machine it would be another run.
    assert main([*command, "--out", str(there)]) == 2


def test_a_run_asks_at_most_three_times_a_trial_and_round(run_there):
    # Each trial by itself: the first four are played alone, before all else; then the first half is
    # played and measured, with where every head looks on three and the noise of four, for the page;
    # then the second half, with direct effects of four more. Then stand-ins, and frozen heads. The
    # closer look, together: for half the trials what is averaged and patched, and for three where
    # the heads found look, and what is answered while they look elsewhere.
    each = [(4, 4), (4, 4 + 4 + 3 + 4), (5, 5 + 4)]
    through, look = [(9, 9), (9, 9)], (5 + 3, 2 * 5 + 3 + 3)
    assert run_there[1] == [*each, *through, look]


def same_bits(one, other):
    """Whether two runs' folders hold the same frames and parts, bit for bit."""
    names = sorted(path.relative_to(one) for path in one.rglob("*.parquet"))
    assert names == sorted(path.relative_to(other) for path in other.rglob("*.parquet"))
    assert [name for name in names if name.parent.name] and Path("roles.parquet") in names
    for name in names:
        pd.testing.assert_frame_equal(
            pd.read_parquet(one / name),
            pd.read_parquet(other / name),
            check_exact=True,
            obj=str(name),
        )


def test_a_detached_run_is_handed_in_and_collected(
    command, run_there, ndif_server, monkeypatch, tmp_path, capsys
):
    runs.undrawn(monkeypatch)
    ndif_server.connect(monkeypatch)
    handed_in = []
    post = server._Backend._post

    def counted(*given):
        handed_in.append(1)
        return post(*given)

    monkeypatch.setattr(server._Backend, "_post", counted)
    status = main([*command, "--remote", "--detach", "--out", str(tmp_path)])
    assert status == 4 and "rgb-circuit collect" in capsys.readouterr().out
    # The probe of the model, the question that is new to it, and everything that needs no result
    # over all trials, at once; for the page, where heads look on three trials and direct effects of
    # eight; and the noise of four.
    assert len(handed_in) == 1 + 1 + 9 + 3 + 8 + 4
    rounds = 0
    while status == 4 and rounds < 100:
        # Each round loads the model and all parts anew; without a pause they would be many more.
        time.sleep(0.5)
        status = main(["collect", str(tmp_path)])
        rounds += 1
    assert status == 0 and 1 < rounds
    same_bits(run_there[0], tmp_path)
    assert not list(tmp_path.rglob("*.jobs"))
    before = len(handed_in)
    assert main(["collect", str(tmp_path)]) == 0
    # The probe of the model, and not one part again.
    assert len(handed_in) == before + 1


def test_jobs_that_are_lost_are_handed_in_again(two_trials_run, spoiled, monkeypatch, tmp_path):
    runs.undrawn(monkeypatch)
    running, _ = spoiled
    running.connect(monkeypatch)
    monkeypatch.setattr(server, "FIRST_WAIT", 0.01)
    there = tmp_path / "there"
    assert main(["run", *runs.TWO_TRIALS, "--remote", "--detach", "--out", str(there)]) == 4
    # Its jobs were in the memory of the server.
    running.kill()
    assert main(["collect", str(there)]) == 3
    running.start()
    monkeypatch.setattr(server, "LOST", 0.5)
    time.sleep(0.6)
    assert main(["collect", str(there)]) == 4
    monkeypatch.setattr(server, "LOST", 30.0)
    while (status := main(["collect", str(there)])) == 4:
        time.sleep(0.2)
    assert status == 0
    same_frames(two_trials_run, there)


def test_a_run_that_loses_its_server_goes_on_where_it_was(
    two_trials_run, spoiled, monkeypatch, tmp_path, capsys
):
    runs.undrawn(monkeypatch)
    running, _ = spoiled
    running.connect(monkeypatch)
    monkeypatch.setattr(server, "FIRST_WAIT", 0.01)
    written = []
    kept = store.write_bytes

    def until_the_tenth(path, data):
        written.append(path)
        if len(written) == 10:
            running.kill()
        return kept(path, data)

    monkeypatch.setattr(store, "write_bytes", until_the_tenth)
    command = ["run", *runs.TWO_TRIALS, "--remote", "--out", str(tmp_path / "there")]
    assert main(command) == 3
    assert (
        "what was finished is kept, and the same command continues from there"
        in capsys.readouterr().err
    )
    parts = {
        path: path.stat().st_mtime_ns for path in (tmp_path / "there").rglob("parts/*/*.parquet")
    }
    assert parts
    running.start()
    assert main(command) == 0
    assert all(path.stat().st_mtime_ns == when for path, when in parts.items())
    same_frames(two_trials_run, tmp_path / "there")


def test_what_cannot_be_detached_is_refused(toy_run, tmp_path, capsys):
    assert main(["run", "--detach", "--out", str(tmp_path / "a")]) == 2
    assert "give --remote with it" in capsys.readouterr().err
    assert main(["collect", str(toy_run)]) == 2
    assert "holds no run on a server" in capsys.readouterr().err
