"""What measurements would cost, without running them: forwards, memory and disk.

A *plain forward* is the model's own, on one picture. A capture costs about one, and a picture that
several trials show is captured for the first of them (`rgb_circuit.keeping.recurring`); a patched
run costs the share of a forward's positions that it runs on, in the layers from its first edited
one on.
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

# Of a part in a store: bytes of the file alone, and of a variant's row for one answer; measured on
# those of the toy.
FILE_BYTES, ROW_BYTES = 7000, 12


@dataclass(frozen=True)
class Cost:
    """What some measurements would cost.

    Attributes:
        trials, captures, sweeps: how many trials, pictures captured, and sweeps of them.
        forwards: plain forwards that it all comes to.
        memory: the most bytes held at once, beside the weights.
        disk: bytes of the parts.
    """

    trials: int
    captures: int
    sweeps: int
    forwards: float
    memory: int
    disk: int


def cost(model: Vlm, measurements: Sequence[Measurement]) -> Cost:
    """What measurements of pictures would cost with a store; the others take next to nothing.

    Raises:
        InputError: what cannot be measured.
    """
    units = units_of(model, measurements)
    captures = sweeps = memory = disk = 0
    forwards, going_on = 0.0, {}
    trials = {request.trial.name: request.trial for unit in units for _, request in unit.requests}
    recurring = Recurring() if model.server else Recurring.of([*map(described, trials.values())])
    for unit in units:
        kept, swept = {}, {}
        # Several analyses may ask for one part.
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
        # Of a picture that waits there are keys and values once.
        held = sum(each) + len(recurring.held) * max(each) // 2
        memory = max(
            memory, held + max((_rows(model, request) for request in swept.values()), default=0)
        )
    return Cost(len(trials), captures, sweeps, forwards, memory, disk)


def seconds_of_a_forward(model: Vlm) -> float:
    """How long a plain forward takes now; of the second of two, since the first may warm things
    up."""
    inputs = inputs_of(
        model.processor, model.layout, [model.prompt(EXAMPLE_QUESTION)], [plain(model.layout)]
    )
    for _ in range(2):
        start = time.perf_counter()
        execute(model, likeliest_tokens, inputs, 1)
    return time.perf_counter() - start


def _going_on(model, unit):
    """Condition that goes on from another's picture → the plain forwards that this takes."""
    pictures = pictures_of(model, [unit], Recurring())
    length = {name: one["inputs"]["input_ids"].shape[1] for name, one in pictures.items()}
    after = {name: one["after"] for name, one in pictures.items() if one["after"] is not None}
    # The other's own end is run on too.
    return {
        name: (length[name] + length[first] - 2 * common) / length[name]
        for name, (first, common) in after.items()
    }


def _not_held(model, recurring, unit, kept):
    """How many of a trial's pictures go through the model, since no trial before has shown them;
    ``kept``: condition → its length and how many positions are kept."""
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
    """The plain forwards that a sweep comes to."""
    length = request.lengths[request.target]
    rows = request.rows or rows_at_once(model, length, length - request.kept)
    # Each joins at its first edited layer; at [end] also, in each forward, two copies that edit
    # nothing, and those that are moved by rounding where others join.
    starts = sorted(min(edit.layer for edit in edits) for edits in request.edits)
    unedited = starts[:1]
    if request.kept == 1:
        several = unedited_copies(model.dtype) - 1
        every = [sorted(set(chunk)) for chunk in chunks(starts, rows)]
        unedited = [start for chunk in every for start in [*chunk[:1] * 2, *chunk * several]]
    run = sum(model.n_layers - start for start in [*starts, *unedited])
    return run / model.n_layers * request.kept / length + _walked(model, request)


def _walked(model, request):
    """The plain forwards that the paths of a sweep come to: of rows that begin or end in a layer,
    or are the target's own. Those into keys and values are of all positions, and their MLPs of
    one."""
    total, length = 0.0, request.lengths[request.target]
    paths = [edit for edits in request.edits for edit in edits if isinstance(edit, PathEdit)]
    for everywhere, share in ((False, 1 / length), (True, 1 / 3)):
        some = [edit for edit in paths if (edit.into != "query") == everywhere]
        if some:
            starts = {
                (edit.source, edit.senders, max(0, starts_in(sender)))
                for edit in some
                for sender in edit.senders
            }
            ends = {(edit.source, edit.senders, edit.layer) for edit in some}
            between = max(edit.layer for edit in some) - min(layer for *_, layer in starts)
            total += share * (between + 1 + 2 * len(starts) + len(ends)) / model.n_layers
    return total


def _rows(model, request):
    """The bytes that a sweep's patched runs take."""
    length = request.lengths[request.target]
    most = request.rows or rows_at_once(model, length, length - request.kept)
    return min(len(request.edits), most) * row_bytes(model, length, length - request.kept)
