"""Benchmarks run where there is no GPU, on a small shape."""

import runpy
from pathlib import Path

import runs

import rgb_circuit as rgb


def test_the_7b_benchmark_runs_on_a_small_shape(capsys):
    script = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "llava_7b_shape.py"))
    script["main"](["--small", "--device", "cpu"])
    printed = capsys.readouterr().out
    for row in ("plain forward", "[end] sweep, two targets", "all positions", "trials per minute"):
        assert row in printed


def test_the_cost_of_a_run_is_counted(capsys, monkeypatch):
    folder = Path(__file__).parents[1] / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    runs.undrawn(monkeypatch)
    script = runpy.run_path(str(folder / "run.py"))
    script["main"](["--grid", "6", "--layers", "2", "--trials", "6", "7"])
    assert "plain forwards" in capsys.readouterr().out


def test_estimates_are_compared_with_what_they_estimate(capsys, monkeypatch):
    folder = Path(__file__).parents[1] / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    script = runpy.run_path(str(folder / "attribution.py"))
    script["main"](["--trials", "1"])
    printed = capsys.readouterr().out
    assert all(
        word in printed for word in ("toy", "planted", "random, 8 × 8", "atp-ig", "times faster")
    )


def test_a_head_that_is_estimated_at_nothing_is_missed(monkeypatch):
    folder = Path(__file__).parents[1] / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    script = runpy.run_path(str(folder / "attribution.py"))
    model = rgb.load("planted")
    trials = rgb.rgb_trials(model, 2)
    atp, _ = script["compared"]("planted", model, trials, ("erased",), "end", model.heads())
    assert atp["k"] == 4 and atp["missed"] == 1 and atp["largest missed"] == atp["largest"]


def test_coverage_is_printed_of_old_and_new_intervals(capsys):
    script = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "intervals.py"))
    script["main"](["shares", "sets"])
    printed = capsys.readouterr().out
    assert all(
        word in printed for word in ("Newcombe", "bootstrap", "0.99 and 0.01", "rank among sets")
    )


def test_nulls_are_counted_among_heads_that_could_have_been_given_a_role(capsys):
    script = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "nulls.py"))
    script["main"](["permuted", "--heads", "1"])
    *_, printed = capsys.readouterr().out.splitlines()
    assert (
        printed.startswith("permuted (planted")
        and "testable" in printed
        and "of 1 models" in printed
    )
