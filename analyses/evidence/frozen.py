"""What goes through some heads, and what goes past them: the heads that are frozen, and the sweeps
with these held at what they do in the target run.

Predictions about a route freeze the heads of another hypothesis (``through the extractors``): those
of which its claims of effects hold and nothing that it asks for is refuted; and the heads that do
the same only when these are silent, which are looked for (`stand_ins`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

import rgb_circuit as rgb
from rgb_circuit.calls.patching import PatchedEdits
from rgb_circuit.heads import Head
from rgb_circuit.hypothesis import Claim, Prediction, Sweep, slots
from rgb_circuit.measuring.measurement import Steps
from rgb_circuit.statistics import benjamini_hochberg, t_p

from .effects import Measured, arrays
from .verdict import Rules, judge

Positions = str | tuple[int, ...]


def frozen_heads(
    trials: Sequence[rgb.Trial],
    measured: Measured,
    finders: Sequence[Prediction],
    rules: Rules,
    positions: Positions,
) -> Steps[list[Head]]:
    """The heads that some predictions find, and those that stand in for them."""
    heads = readers(judge(measured, [finders], rules), finders)
    return heads + (
        yield from stand_ins(trials, measured, heads, finders[0].claims[0].role, rules, positions)
    )


def readers(evidence: pd.DataFrame, finders: Sequence[Prediction]) -> list[Head]:
    """The heads of which every prediction led by z holds, and no way of meeting the others is
    refuted."""
    table = evidence.pivot(index=["layer", "head"], columns="prediction")
    holds, state = table["holds"], table["state"]
    restoring = [
        prediction.name for prediction in finders if prediction.claims[0].sweep.component == "z"
    ]
    kept = holds[restoring].all(axis=1)
    for slot in slots(finders):
        kept &= (state[slot] != "refuted").any(axis=1)
    return [Head(int(layer), int(head)) for layer, head in kept.index[kept]]


def stand_ins(
    trials: Sequence[rgb.Trial],
    measured: Measured,
    readers: Sequence[Head],
    role: str,
    rules: Rules,
    positions: Positions,
) -> Steps[list[Head]]:
    """The heads that raise a role's word only when all ``readers`` are silent (self-repair).

    In the clean run, the readers are set to what they do in the corrupted picture, then each later
    head as well. The word must fall further by that, by more than ``least`` of the gap, and by more
    than it falls for that head alone.
    """
    later = [
        head
        for head in measured.heads
        if readers and head not in readers and head[0] > min(readers)[0]
    ]
    if not later:
        return []
    claim = Claim(role, "down", Sweep("clean", source=measured.task.corrupted))

    def silenced(head):
        return claim.sweep.edit(head, positions)

    silent = [silenced(head) for head in readers]
    variants = {"silent": silent}
    variants |= {f"too {head}": [*silent, silenced(head)] for head in later}
    if claim.sweep not in measured.effects:
        variants |= {f"alone {head}": [silenced(head)] for head in later}
    [frame] = yield [PatchedEdits.of(trials, variants, "clean")]
    effects, _, _ = arrays(measured.task, frame, trials, len(variants))
    on_word = replace(measured, effects={claim.sweep: effects}).effect(claim)
    too, alone = on_word[:, 1 : 1 + len(later)] - on_word[:, :1], on_word[:, 1 + len(later) :]
    if claim.sweep in measured.effects:
        alone = measured.effect(claim)[:, [measured.heads.index(head) for head in later]]
    some = rules.least * abs(measured.gap(claim).mean())
    p = np.maximum(
        t_p(too + some, "less", measured.strata(claim)),
        t_p(too - alone, "less", measured.strata(claim)),
    )
    return [head for head, q in zip(later, benjamini_hochberg(p)) if q <= rules.level]


def through_and_past(
    trials: Sequence[rgb.Trial],
    measured: Measured,
    predictions: Iterable[Prediction],
    group: str,
    frozen: Sequence[Head],
    positions: Positions,
) -> Steps[dict[Sweep, np.ndarray]]:
    """Sweep → effects, for the parts of a sweep that go through and past a group of ``frozen``
    heads; NaN without any."""
    claims = [claim for prediction in predictions for claim in prediction.claims]
    wholes = list(dict.fromkeys(claim.sweep.whole for claim in claims if claim.sweep.of == group))
    # A head acts on later layers only, so that freezing others would show rounding and nothing
    # else.
    later = {head: [other for other in frozen if other[0] > head[0]] for head in measured.heads}
    measurements = {}
    for whole in wholes:
        held = {other: rgb.Edit(*other, whole.target, positions=positions) for other in frozen}
        variants = {
            str(head): [whole.edit(head, positions), *(held[other] for other in later[head])]
            for head in measured.heads
            if later[head]
        }
        if variants:
            measurements[whole] = PatchedEdits.of(trials, variants, whole.target)
    frames = dict(zip(measurements, (yield list(measurements.values())))) if measurements else {}
    effects = {}
    for whole in wholes:
        past = (
            measured.effects[whole].copy()
            if frozen
            else np.full_like(measured.effects[whole], np.nan)
        )
        if whole in frames:
            kept_back, _, _ = arrays(
                measured.task, frames[whole], trials, len(measurements[whole].edits)
            )
            past[:, [bool(later[head]) for head in measured.heads]] = kept_back
        effects[replace(whole, part="past", of=group)] = past
        effects[replace(whole, part="through", of=group)] = measured.effects[whole] - past
    return effects
