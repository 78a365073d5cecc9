"""Which sweeps can be measured on prompts of unequal length."""

from collections.abc import Mapping
from dataclasses import replace

import rgb_circuit as rgb
from rgb_circuit.calls.patching import PatchedHeads
from rgb_circuit.errors import NotLinedUp
from rgb_circuit.hypothesis import Sweep
from rgb_circuit.keeping.saved_run import ModelNeeded

# Why a prediction that needs any of the others is void.
UNEQUAL = "not lined up"


def lined_up(
    model: rgb.Vlm, wanted: Mapping[Sweep, PatchedHeads]
) -> tuple[dict[Sweep, PatchedHeads], list[Sweep]]:
    """The sweeps that can be measured, and those of which the runs of some trial have no positions
    in common, since their questions differ in length, or the model makes unequal numbers of tokens
    of pictures of unequal size."""
    apart = [sweep for sweep, asked in wanted.items() if not _lines_up(model, asked)]
    return {sweep: asked for sweep, asked in wanted.items() if sweep not in apart}, apart


def _lines_up(model, asked):
    (edit,) = asked.edits[0]
    unequal = tuple(
        trial
        for trial in asked.trials
        if len({(trial.asked(name), trial.sizes[name]) for name in asked.conditions}) > 1
    )
    if not unequal or (edit.positions == "end" and not edit.remade):
        return True
    try:
        replace(asked, trials=unequal, edits=asked.edits[:1], names=asked.names[:1]).prepare(
            model, None
        )
    except NotLinedUp:
        return False
    except ModelNeeded:
        # A run that is finished from its parts: where this one is not among them, the model says.
        return True
    return True
