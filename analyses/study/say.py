"""What the model says about a picture, with and without heads scaled or made to look elsewhere; as
text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf, isfinite

from rgb_circuit import AttentionEdit, Edit, InputError, Trial, Vlm
from rgb_circuit.bars import saying
from rgb_circuit.calls.generate import generate
from rgb_circuit.edits import check_head
from rgb_circuit.heads import Head
from rgb_circuit.prompts import check_trials, encode, locate, place_positions

from ..rgb.redirect import looking_at


def parse_scale(text: str) -> Edit:
    """``"19.6=0"`` as an edit: the head's z times 0, at every token from which the model generates.

    Raises:
        InputError: anything else.
    """
    head, _, factor = text.partition("=")
    try:
        return Edit(*Head.parse(head), "own", scale=_number(factor))
    except ValueError:
        raise InputError(
            f"--scale is {text!r}; write it as layer.head=factor, both from 0, such as 19.6=0"
        ) from None


def parse_look(text: str) -> tuple[Head, tuple[int, int], float]:
    """``"19.6=10,9:4"`` as head, place (row, column) and bias; the default bias is infinite.

    Raises:
        InputError: anything else.
    """
    try:
        head, place = text.split("=")
        place, colon, bias = place.partition(":")
        row, column = map(int, place.split(","))
        return Head.parse(head), (row, column), _number(bias) if colon else inf
    except ValueError:
        raise InputError(
            f"--look is {text!r}; write it as layer.head=row,column, all from 0, such as "
            "19.6=10,9, or with a bias such as 19.6=10,9:4"
        ) from None


def _number(text):
    """A number from a command line; ValueError for anything else, infinities and NaN among them."""
    if not isfinite(number := float(text)):
        raise ValueError(text)
    return number


def say(
    model: Vlm,
    trial: Trial,
    condition: str,
    scales: Sequence[Edit],
    looks: Sequence[tuple[tuple[int, int], tuple[int, int], float]],
    question: str | None,
    most: int,
) -> None:
    """Print what the model says, unedited and edited.

    Args:
        scales, looks: from `parse_scale` and `parse_look`.
        question: replaces the trial's.
        most: tokens to generate at most.
    """
    if question is not None:
        trial = replace(trial, prompt=model.prompt(question), prompts={}, expected={})
    check_trials(model, [trial], [condition])
    edits: list[Edit | AttentionEdit] = list(scales)
    for (layer, head), place, bias in looks:
        check_head(model, layer, head)
        ids = encode(model, [(trial, condition)])["input_ids"][0]
        there = place_positions(model, ids, place)
        rest = set(locate(model, trial, "image", ids)) - set(there)
        edits += looking_at([(layer, head)], bias, there, tuple(sorted(rest)))
    with saying(f"{model.name} speaks"):
        said = generate(model, trial, condition, edits, most)
    print(
        f"{model.name}, {condition!r} of trial {trial.name!r}: {_question(trial.asked(condition))}"
    )
    print(said)


def _question(prompt):
    """The prompt in one line, without the picture's tokens."""
    return " ".join(prompt.replace("<image>", " ").split())
