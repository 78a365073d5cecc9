"""`rgb-circuit check`: patched logits are held against plain hooks, and an engine that is broken is
found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_exactness import subject_of
from test_interventions import oracle_of, restored
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import rgb_circuit as rgb
from analyses import study
from analyses.command import main
from analyses.study.check import PATCHES, SOURCE, TARGET, check, drawn
from rgb_circuit.calls.reference import patched_effects
from rgb_circuit.edits import COMPONENTS, OF_A_HEAD
from rgb_circuit.programs import sweep


def break_after_loading(monkeypatch):
    """An engine that writes into the head beside the one that was asked for, once the model is
    loaded: what is broken before is refused there."""
    writes, load = sweep._writes, study.loaded

    def beside(*arguments):
        made = writes(*arguments)
        for (_, component), each in made.items():
            if component == "z":
                each[:] = [((*into[:-1], (into[-1] + 1) % 4), *rest) for into, *rest in each]
        return made

    def loaded(*arguments, **options):
        model = load(*arguments, **options)
        monkeypatch.setattr(sweep, "_writes", beside)
        return model

    monkeypatch.setattr(study, "loaded", loaded)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_toy_agrees_with_plain_hooks_and_the_table_says_all(dtype, capsys):
    assert main(["check", "--dtype", dtype]) == 0
    said = capsys.readouterr().out
    for word in (
        "4 layers × 4 "
        "heads", f"{dtype} on cpu, attention kernel sdpa", "36 image tokens, 6 × 6 places",
        "shown "
        "once", "attend to later ones: none",
        "red 'red'", "form: space, as given", "20 of 20 pictures",
        "per plain forward", "iB in this process", "noise floor", "All 10 agree",
    ):  # fmt: skip
        assert word in said, word
    assert said.count(" yes\n") == 10 and " NO\n" not in said
    assert ("round differently; the noise floor is" in said) == (dtype == "bfloat16")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_engine_that_writes_the_neighbours_slice_is_found(dtype, monkeypatch, capsys):
    break_after_loading(monkeypatch)
    assert main(["check", "toy", "--dtype", dtype]) == 1
    said = capsys.readouterr().out
    assert " NO\n" in said and "more than rounding" in said and "report this table" in said


def test_a_difference_that_is_no_number_is_one(grouped):
    found = check(grouped, trials=1, progress=False)
    assert found.agrees
    found.patched.loc[0, "difference"] = np.nan
    assert not found.agrees


def test_every_component_and_every_way_of_the_engine_is_drawn(grouped):
    assert {component for component, _ in PATCHES} == set(COMPONENTS) and len(PATCHES) == 10
    some = [drawn(grouped, seed, SOURCE) for seed in range(20)]
    for edits in some:
        assert {edit.layer for edit in edits} == set(range(grouped.n_layers))
        assert all((edit.head is not None) == (edit.component in OF_A_HEAD) for edit in edits)
        # What the last layer makes of another position than [end] is read by nothing.
        assert all(
            edit.layer < grouped.n_layers - 1
            for edit in edits
            if edit.positions in ("image", "tile")
        )
    assert some[0] == drawn(grouped, 0, SOURCE) != some[1]


# Windows with two kinds of angles; caps on scores and logits; features added between layers.
@pytest.mark.parametrize("name", ["gemma3", "paligemma2", "qwen3_vl"])
def test_the_packages_hooks_agree_with_those_of_the_tests(name):
    subject, oracle = subject_of(name), oracle_of(name)
    trial, model = subject.trials[0], subject.model("eager")
    edits, changes = [], []
    for number, component in enumerate(COMPONENTS):
        if component == "pattern":
            continue
        words, layer = ("end", "all")[number % 2], number % 3
        head = number % 4 if component in OF_A_HEAD else None
        edits.append([rgb.Edit(layer, head, "clean", component, words)])
        places = subject.spots[words]
        if component == "value":
            bare = subject.bare
            changes.append(bare.patch(trial, "clean", "erased", layer, head, "value", places))
            continue
        changes.append(
            oracle.run(trial, "erased", [restored(subject, component, layer, head, places)])[0]
        )
    edits.append([rgb.Edit(1, 2, "clean", "pattern", "all")])
    changes.append(
        subject.bare.patch(trial, "clean", "erased", 1, 2, "pattern", subject.spots["all"])
    )
    wanted = (torch.stack(changes) - oracle.unchanged(trial, "erased")[0])[:, subject.tokens]
    found = torch.stack([*patched_effects(model, trial, "erased", edits, subject.tokens)])
    assert (found - wanted).abs().max() < subject.close
    assert (wanted.abs().amax(1) > 10 * subject.close).all()


def test_hooks_leave_nothing_behind(grouped):
    module, [trial] = grouped.nnsight._module, rgb.rgb_trials(grouped, 1)

    def hooks():
        return [
            (len(part._forward_hooks), len(part._forward_pre_hooks)) for part in module.modules()
        ]

    before = hooks()
    [*patched_effects(grouped, trial, TARGET, [[rgb.Edit(0, 1, component="query")]], [1])]
    assert hooks() == before and "get_interface" not in vars(ALL_ATTENTION_FUNCTIONS)


def test_on_a_server_what_can_be_checked_is_and_the_rest_is_said(ndif_server, monkeypatch, capsys):
    ndif_server.connect(monkeypatch)
    assert main(["check", "toy", "--remote"]) == 0
    said = capsys.readouterr().out
    assert (
        "patched logits are not compared with them" in said
        and "must be" in said
        and "All 10 agree" in said
    )
    assert "on the server, which does not report it" in said and "20 of 20 pictures" in said
