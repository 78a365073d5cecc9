"""The cost of measurements, without running them: forwards, memory and disk.

A *plain forward* is the model's own, on one picture. A capture costs about one; a picture that
several trials show is captured once, for the first of them (`rgb_circuit.keeping.recurring`). A
patched run costs a fraction of a forward: its share of the positions, times its share of the
layers, from the first edited one on.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

from ..conversation import EXAMPLE_QUESTION
from ..edits import PathEdit, starts_in
from ..keeping.recurring import Recurring
from ..programs.likeliest import likeliest_tokens
from ..programs.sweep import unedited_copies
from ..prompts.as_read import plain
from ..prompts.inputs import inputs_of
from ..running.execute import execute
from ..running.memory import chunks, held_at_once, picture_bytes, row_bytes, rows_at_once
from ..trial import described
from ..vlm import Vlm
from .measure import pictures_of, units_of
from .measurement import Measurement

# Bytes of a part's file in a store: without rows, and per variant and answer; measured on the toy.
FILE_BYTES, ROW_BYTES = 7000, 12


@dataclass(frozen=True)
class Cost:
    """The cost of some measurements.

    Attributes:
        trials, captures, sweeps: how many trials, captured pictures, and sweeps of these.
        forwards: the total, in plain forwards.
        memory: the most bytes held at once, besides the weights.
        disk: bytes of the parts.
    """

    trials: int
    captures: int
    sweeps: int
    forwards: float
    memory: int
    disk: int


def cost(model: Vlm, measurements: Sequence[Measurement]) -> Cost:
    """The cost of measurements of pictures with a store; other measurements cost almost nothing.

    Raises:
        InputError: a measurement is impossible.
    """
    units = units_of(model, measurements)
    captures = sweeps = memory = disk = 0
    forwards, going_on = 0.0, {}
    trials = {request.trial.name: request.trial for unit in units for _, request in unit.requests}
    recurring = Recurring() if model.server else Recurring.of([*map(described, trials.values())])
    for unit in units:
        kept, swept = {}, {}
        # Several analyses may share a part.
        for work, request in {
            work.key: (work, request) for work, request in unit.requests
        }.values():
            for condition, length in request.lengths.items():
                kept[condition] = max(
                    kept.get(condition, (length, 0)), (length, min(request.held, length))
                )
            disk += FILE_BYTES + ROW_BYTES * max(1, len(request.edits)) * len(request.trial.answers)
            if request.target is not None:
                swept[work.key] = request
        alike = tuple((condition, length) for condition, (length, _) in kept.items())
        if alike not in going_on:
            going_on[alike] = _going_on(model, unit)
        whole = {name: some for name, some in kept.items() if name not in going_on[alike]}
        new = _not_held(model, recurring, unit, whole)
        captures, sweeps = captures + new, sweeps + len(swept)
        forwards += new + sum(going_on[alike].values())
        forwards += sum(_swept(model, request) for request in swept.values())
        each = [picture_bytes(model, length, length - some) for length, some in kept.values()]
        # A picture held for later counts half: its keys and values are there once.
        held = sum(each) + len(recurring.held) * max(each) // 2
        memory = max(
            memory, held + max((_rows(model, request) for request in swept.values()), default=0)
        )
    return Cost(len(trials), captures, sweeps, forwards, memory, disk)


def seconds_of_a_forward(model: Vlm) -> float:
    """The time of a plain forward here: the second of two, since the first may warm things up."""
    inputs = inputs_of(
        model.processor, model.layout, [model.prompt(EXAMPLE_QUESTION)], [plain(model.layout)]
    )
    for _ in range(2):
        start = time.perf_counter()
        execute(model, likeliest_tokens, inputs, 1)
    return time.perf_counter() - start


def _going_on(model, unit):
    """Condition that continues from another's picture → the plain forwards that it costs."""
    pictures = pictures_of(model, [unit], Recurring())
    length = {name: one["inputs"]["input_ids"].shape[1] for name, one in pictures.items()}
    after = {name: one["after"] for name, one in pictures.items() if one["after"] is not None}
    # The first picture's own end is run again too.
    return {
        name: (length[name] + length[first] - 2 * common) / length[name]
        for name, (first, common) in after.items()
    }


def _not_held(model, recurring, unit, kept):
    """How many of a trial's pictures go through the model because no earlier trial's capture is
    held. ``kept``: condition → its length, and how many positions are kept."""
    if unit.nudge:
        return len(kept)
    new = 0
    for condition in kept:
        trial = next(
            request.trial for _, request in unit.requests if condition in request.conditions
        )
        name = recurring.name(model, trial, condition)
        new += name is None or recurring.held.pop(name, None) is None
        if name is not None:
            recurring.held[name] = SimpleNamespace()
    recurring.keep(
        min(held_at_once(model, length, length - some) for length, some in kept.values())
    )
    return new


def _swept(model, request):
    """The plain forwards that a sweep costs."""
    length = request.lengths[request.target]
    rows = request.rows or rows_at_once(model, length, length - request.kept)
    # Each variant joins at its first edited layer. At [end], every forward also has two unedited
    # copies, and those moved by rounding in each layer where variants join.
    starts = sorted(min(edit.layer for edit in edits) for edits in request.edits)
    unedited = starts[:1]
    if request.kept == 1:
        nudges = unedited_copies(model.dtype) - 1
        layers_of = [sorted(set(chunk)) for chunk in chunks(starts, rows)]
        unedited = [start for chunk in layers_of for start in [*chunk[:1] * 2, *chunk * nudges]]
    run = sum(model.n_layers - start for start in [*starts, *unedited])
    return run / model.n_layers * request.kept / length + _walked(model, request)


def _walked(model, request):
    """The plain forwards that the paths of a sweep cost: for rows that begin or end in a layer, and
    the target's own. Rows into keys and values have all positions, but only one in the MLP."""
    total, length = 0.0, request.lengths[request.target]
    paths = [edit for edits in request.edits for edit in edits if isinstance(edit, PathEdit)]
    for everywhere, share in ((False, 1 / length), (True, 1 / 3)):
        of_kind = [edit for edit in paths if (edit.into != "query") == everywhere]
        if of_kind:
            starts = {
                (edit.source, edit.senders, max(0, starts_in(sender)))
                for edit in of_kind
                for sender in edit.senders
            }
            ends = {(edit.source, edit.senders, edit.layer) for edit in of_kind}
            between = max(edit.layer for edit in of_kind) - min(layer for *_, layer in starts)
            total += share * (between + 1 + 2 * len(starts) + len(ends)) / model.n_layers
    return total


def _rows(model, request):
    """The bytes of a sweep's patched runs."""
    length = request.lengths[request.target]
    most = request.rows or rows_at_once(model, length, length - request.kept)
    return min(len(request.edits), most) * row_bytes(model, length, length - request.kept)
