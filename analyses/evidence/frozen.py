"""Effects through some heads and past them: the heads to freeze, and the sweeps that hold these at
their target run.

Predictions about a route freeze the heads of another hypothesis (``through the extractors``): those
that show its predictions about z and for which no prediction is refuted (`readers`), and those that
do the same only when these are silent (`stand_ins`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

import rgb_circuit as rgb
from rgb_circuit.calls.patching import PatchedEdits
from rgb_circuit.heads import Head
from rgb_circuit.hypothesis import Claim, Prediction, Sweep, about_words, slots
from rgb_circuit.measuring.measurement import Steps
from rgb_circuit.statistics import benjamini_hochberg

from .effects import Measured, arrays
from .rules import Rules
from .verdict import judge

Positions = str | tuple[int, ...]


def frozen_heads(
    trials: Sequence[rgb.Trial],
    measured: Measured,
    finders: Sequence[Prediction],
    rules: Rules,
    positions: Positions,
) -> Steps[list[Head]]:
    """The heads that these predictions find, and those that stand in for them."""
    heads = readers(judge(measured, [finders], rules), finders)
    roles = [claim.role for claim in about_words(finders)]
    if not roles:
        return heads
    return heads + (yield from stand_ins(trials, measured, heads, roles[0], rules, positions))


def readers(evidence: pd.DataFrame, finders: Sequence[Prediction]) -> list[Head]:
    """The heads for which every prediction led by z holds and no prediction is refuted in every way
    of meeting it. If none is led by z, every prediction that stands in for no other must hold."""
    table = evidence.pivot(index=["layer", "head"], columns="prediction")
    holds, state = table["holds"], table["state"]
    restoring = [
        prediction.name
        for prediction in finders
        if not prediction.about_attention and about_words([prediction])[0].sweep.component == "z"
    ] or [slot[0] for slot in slots(finders)]
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

    The clean run is edited in two steps: the readers are set to their values in the corrupted
    picture, then each later head as well. In the second step the word must fall further, by more
    than ``least`` of the gap, and by more than it falls for that head alone.
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
    least = rules.least * abs(measured.mean_gap(claim, measured.replicates.all))
    p = np.maximum(measured.p(too + least, "less", claim), measured.p(too - alone, "less", claim))
    return [head for head, q in zip(later, benjamini_hochberg(p)) if q <= rules.level]


def through_and_past(
    trials: Sequence[rgb.Trial],
    measured: Measured,
    predictions: Iterable[Prediction],
    group: str,
    frozen: Sequence[Head],
    positions: Positions,
) -> Steps[dict[Sweep, np.ndarray]]:
    """Sweep → effects, for the parts of each sweep that go through and past a group of ``frozen``
    heads; NaN if there are none."""
    claims = about_words(predictions)
    wholes = list(dict.fromkeys(claim.sweep.whole for claim in claims if claim.sweep.of == group))
    # A head acts on later layers only; freezing earlier heads would show nothing but rounding.
    later = {head: [other for other in frozen if other[0] > head[0]] for head in measured.heads}
    measurements = {}
    for whole in wholes:
        held = {other: rgb.Edit(*other, whole.target, positions=positions) for other in frozen}
        variants = {
            str(head): [whole.edit(head, positions), *(held[other] for other in later[head])]
            for head in measured.heads
            if later[head]
        }
        # If the whole effect could not be measured, its parts cannot be either.
        if variants and not np.isnan(measured.effects[whole]).all():
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
