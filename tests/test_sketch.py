"""What a run would take is said from a model's configuration and processor alone."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import rgb_circuit as rgb
from analyses.command import main
from rgb_circuit.calls.patching import PatchedHeads
from rgb_circuit.loading import sketch as sketching
from rgb_circuit.loading.sketch import forward_seconds, sketch
from rgb_circuit.measuring.estimate import cost


@pytest.fixture
def without_weights(tmp_path):
    """The toy's folder, but for its weights."""
    shipped = Path(rgb.__file__).parent / "models" / "toy"
    return shutil.copytree(
        shipped, tmp_path / "toy", ignore=shutil.ignore_patterns("*.safetensors")
    )


def test_a_dry_run_needs_no_weights(without_weights, tmp_path, capsys):
    out = tmp_path / "nothing"
    assert main(["run", "--dry-run", "--model", str(without_weights), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "no weights are read" in printed and not out.exists()
    for part in ("start-up: ", "step 1: ", "the page: ", " in all, and more by what is found"):
        assert part in printed
    assert main(["run", "--model", str(without_weights), "--out", str(out)]) == 2
    assert "has no weights" in capsys.readouterr().err


def test_a_sketch_is_shown_the_same_trials_and_costs_the_same(toy):
    drawn = sketch("toy")
    trials = rgb.rgb_trials(drawn, 4, seed=3)
    assert [one.content for one in trials] == [
        one.content for one in rgb.rgb_trials(toy, 4, seed=3)
    ]
    found = [
        cost(model, [PatchedHeads.of(model, trials, "clean", "erased")]) for model in (drawn, toy)
    ]
    assert replace(found[0], memory=0) == replace(found[1], memory=0)
    assert drawn.heads() == toy.heads() and drawn.template == toy.template


def test_what_a_layer_takes_goes_on_to_all_layers(monkeypatch):
    monkeypatch.setattr(sketching, "LARGE", 0)
    built = []

    def timed(model, depth, inputs):
        built.append(len(sketching._filled(model.config, depth, model.dtype, "cpu").model
                         .language_model.layers))  # fmt: skip
        return 2 + 0.5 * depth

    monkeypatch.setattr(sketching, "_timed", timed)
    assert forward_seconds(sketch("toy")) == 2 + 0.5 * 4 and built == [1, 3]
