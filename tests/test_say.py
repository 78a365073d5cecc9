"""`rgb-circuit say` says what `rgb.generate` returns."""

from __future__ import annotations

import pytest

import rgb_circuit as rgb
from analyses.command import main
from rgb_circuit.models.planted import Placement
from rgb_circuit.stimuli.tasks.rgb import BACKGROUND_QUESTION


def said(capsys, *arguments):
    """The lines that the command prints of the planted model."""
    assert main(["say", "--model", "planted", "--tokens", "2", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.fixture(scope="module")
def trial():
    """The second that the command draws."""
    return rgb.rgb_trials(rgb.load("planted"), 2)[1]


def test_heads_without_the_colour_leave_the_answer_without_it(capsys, trial):
    odd = trial.answers["odd"]
    heads = [Placement.extractor, Placement.content_extractor, *Placement.redundant_pair]
    scales = [f"--scale={layer}.{head}=0" for layer, head in heads]
    lines = said(capsys, "--trial", "1", *scales)
    assert (
        repr(trial.name) in lines[0] and "odd color out?" in lines[0] and "<image>" not in lines[0]
    )
    assert lines[1] == f"unedited: {odd} {odd}"
    assert lines[2].startswith("edited: ") and odd not in lines[2]
    # Without them once more, nothing is edited.
    assert said(capsys, "--trial", "1")[1:] == [f"says: {odd} {odd}"]


@pytest.mark.parametrize("bias", ["", ":20"])
def test_a_localizer_that_looks_elsewhere_makes_it_say_what_is_there(capsys, trial, bias):
    layer, head = Placement.poi
    row, column = (3, 4) if trial.tile != (3, 4) else (1, 4)
    lines = said(capsys, "--trial", "1", f"--look={layer}.{head}={row},{column}{bias}")
    background = trial.answers["background"]
    assert lines[2] == f"edited:   {background} {background}"
    row, column = trial.tile
    lines = said(capsys, "--trial", "1", f"--look={layer}.{head}={row},{column}{bias}")
    assert lines[2].removeprefix("edited:   ") == lines[1].removeprefix("unedited: ")


def test_another_question_and_another_picture(capsys, trial):
    lines = said(capsys, "--trial", "1", "--question", BACKGROUND_QUESTION, "--condition", "erased")
    assert "Which color is the background?" in lines[0] and "'erased'" in lines[0]
    assert lines[1] == "says: white white"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--scale", "3=0"], "--scale is '3=0'; write it as layer.head=factor"),
        (["--scale", "3.1=none"], "--scale is '3.1=none'"),
        (["--scale", "3.1=nan"], "--scale is '3.1=nan'"),
        (["--scale", "9.1=0"], "head 9.1"),
        (["--look", "3.1"], "--look is '3.1'; write it as layer.head=row,column"),
        (["--look", "3.1=2,2:much"], "--look is '3.1=2,2:much'"),
        (["--look", "9.1=2,2"], "head 9.1"),
        (["--trial", "32"], "--trial is 32; there are 32 trials"),
        (["--condition", "blurred"], "--condition is 'blurred'; use one of clean, "),
        (["--condition", "blurred", "--look", "3.1=2,2"], "--condition is 'blurred'"),
        (["--tokens", "0"], "--tokens is 0"),
    ],
)
def test_bad_input_ends_with_one_sentence_before_weights_are_read(
    arguments, part, capsys, monkeypatch
):
    monkeypatch.setattr("analyses.study.loaded", None)
    assert main(["say", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("rgb-circuit: ") and part in error


def test_a_place_that_the_model_does_not_have_is_one_sentence(capsys):
    assert main(["say", "--look", "3.1=2,99"]) == 2
    assert "place 2,99 is off" in capsys.readouterr().err
