"""Benchmarks run where there is no GPU, on a small shape."""

import runpy
from pathlib import Path


def test_the_7b_benchmark_runs_on_a_small_shape(capsys):
    script = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "llava_7b_shape.py"))
    script["main"](["--small", "--device", "cpu"])
    printed = capsys.readouterr().out
    for row in ("plain forward", "[end] sweep, two targets", "all positions", "trials per minute"):
        assert row in printed


def test_the_cost_of_a_run_is_counted(capsys, monkeypatch):
    folder = Path(__file__).parents[1] / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    script = runpy.run_path(str(folder / "run.py"))
    script["main"](["--grid", "6", "--layers", "2", "--trials", "6", "8"])
    assert "plain forwards" in capsys.readouterr().out
