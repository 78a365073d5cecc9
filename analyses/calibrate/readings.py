"""Four ways of giving each head of the game a role.

Two use `analyses.roles`: on the trials as drawn, and on as many trials that the model answers right
on every picture. The other two are in common use: the largest cells of the seed's three heatmaps,
and attention to the odd tile.

A head without a role tells something only if it could have been given one: there must be a gap, and
heads to freeze. If every role is false and no head is found to read the odd colour, the head that
restores it most is frozen instead. A head counts as *testable* if it could have been given every
role.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

import rgb_circuit as rgb
from rgb_circuit.calls.panels import PANELS, panels
from rgb_circuit.calls.patching import PatchedHeads, in_order

from .. import roles
from ..attention_statistics import attention_statistics
from ..evidence import with_controls
from ..roles import GAME
from .known import Known


def by_roles(
    model: rgb.Vlm, trials: Sequence[rgb.Trial], known: Known, null: str = "", seed: int = 0
) -> pd.DataFrame:
    """``layer, head, role`` from `analyses.roles`, and ``testable``: whether every role could have
    been given.

    Args:
        null: the kind of a model on which every role is false, one of `NULLS`.
        seed: of the permutation if ``null`` is "permuted".
    """
    evidence = known.follow(model, roles.steps(model, trials))
    if null and (evidence["void"] == "no extractor").any():
        reads = evidence[evidence["prediction"] == "P1b"]
        closest = reads.loc[reads["effect"].idxmax()]
        evidence = known.follow(
            model,
            roles.steps(
                model, trials, frozen={"extractors": [(closest["layer"], closest["head"])]}
            ),
        )
    if null == "permuted":
        evidence = permuted(evidence, np.random.default_rng(seed))
    void = evidence.groupby("prediction")["void"].first() != ""
    testable = not any(
        void[slot].all() for hypothesis in GAME.hypotheses for slot in hypothesis.slots
    )
    return roles.table(evidence)[["layer", "head", "role"]].assign(testable=testable)


def permuted(evidence: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The evidence with the heads of each layer permuted, prediction by prediction. No head keeps
    the verdicts that make a role: a role's predictions come from different heads of the layer, if
    it has enough. A stand-in moves with the prediction that it stands in for."""
    shift: dict[str, int] = {}
    for hypothesis in GAME.hypotheses:
        for slot in hypothesis.slots:
            number = len(set(shift.values()))
            shift.update({name: number for name in slot if name not in shift})
    start = {layer: int(rng.integers(100)) for layer in sorted(set(evidence["layer"]))}
    order = np.empty(len(evidence), dtype=int)
    for (name, layer), rows in evidence.groupby(
        ["prediction", "layer"], sort=False
    ).indices.items():
        order[rows] = np.roll(rows, start[layer] + shift.get(name, 0))
    kept = ["layer", "head", "prediction"]
    moved = evidence.drop(columns=kept).iloc[order].reset_index(drop=True)
    return evidence[kept].reset_index(drop=True).join(moved)


def by_largest_cells(model: rgb.Vlm, trials: Sequence[rgb.Trial], known: Known) -> pd.DataFrame:
    """``layer, head, role`` as the seed read its heatmaps.

    The color extractor is the largest cell of the first panel (odd, when recolored). POI
    localization are the three largest of the third (background, when erased), if they are above
    zero and do not raise the odd word (by more than a tenth of the extractor's cell) in the other
    two.
    """
    # With the words that roles are told from, so that the sweeps for roles can be reused.
    said = with_controls(GAME, model, trials)
    targets = dict.fromkeys(target for target, _ in PANELS.values())
    swept = known.measure(
        model, [PatchedHeads.of(model, said, "clean", target) for target in targets]
    )
    table = panels(in_order(swept, said))
    recolored, erased, background = (table[panel] for panel in PANELS)
    largest = recolored.idxmax()
    quiet = (np.maximum(recolored, erased) <= 0.1 * recolored[largest]) & (background > 0)
    role = pd.Series("none", index=table.index)
    role[background[quiet].nlargest(3).index] = "POI localization"
    role[largest] = "color extractor"
    return table[["layer", "head"]].assign(role=role)


def by_attention(model: rgb.Vlm, trials: Sequence[rgb.Trial], known: Known) -> pd.DataFrame:
    """``layer, head, role``: every head that puts more than half of its attention at [end] on the
    odd tile gets both roles.

    Attention cannot tell reading a place from reading its colour.
    """
    mass = (
        attention_statistics(model, trials, progress=False)
        .groupby(["layer", "head"])["tile"]
        .mean()
        .reset_index()
    )
    return mass[["layer", "head"]].assign(
        role=np.where(mass["tile"] > 0.5, "color extractor + POI localization", "none")
    )


READINGS: Mapping[str, Callable[..., pd.DataFrame]] = {
    "roles": by_roles,
    "roles, only correct trials": by_roles,
    "largest cells of three heatmaps": by_largest_cells,
    f"attention to {GAME.place}": by_attention,
}


def reading_of(only_correct: bool) -> str:
    """The name of the reading that ``rgb-circuit run`` uses, with or without ``--only-correct``."""
    return "roles, only correct trials" if only_correct else "roles"
