"""Activation patching of whole layers: where is the information that the answer needs? A first look
before heads.

The residual stream that enters a layer, or the output of its attention block or its MLP, is
restored at a group of positions. At [end] all layers are copies side by side and take about one
forward; any other group takes about half a forward for every layer.

Source: Meng et al. 2022 (arXiv 2202.05262), who call it causal tracing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from ..edits import OF_A_LAYER, Edit, Groups, Positions, check_edits, groups_of
from ..errors import InputError
from ..measuring.measure import measure
from ..trial import Trial, asked_of
from ..vlm import Vlm
from .patching import Patched, as_batch_size, in_order, targets_of


def patch_layers(
    model: Vlm,
    trials: Sequence[Trial] | Trial,
    *,
    component: str = "resid_pre",
    source: str = "clean",
    target: str | Sequence[str] | None = None,
    positions: Groups = ("tile", "rest", "question", "end"),
    batch_size: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """The effect of restoring each layer alone from ``source`` in the ``target`` run, at groups of
    positions.

    Args:
        component: ``"resid_pre"``, ``"attn_out"`` or ``"mlp_out"``, see `rgb_circuit.Edit`.
        source: condition that is restored from, or ``"zero"`` / ``"mean"``.
        target: condition or conditions that are patched; by default those of the task's panels, in
            the game "recolored" and "erased".
        positions: one or several groups of positions: words as in `rgb_circuit.Edit`, or lists of
            ints.
        batch_size, progress: as in `rgb_circuit.patch_heads`.

    Returns:
        A row per trial × target × layer × group × role, with the columns of
        `rgb_circuit.patch_heads` without ``head``.

    Raises:
        InputError: anything that does not exist, before any forward.

    Examples:
        >>> frame = rgb.patch_layers(model, trials, target="erased")
        >>> odd = frame[frame["role"] == "odd"].groupby("positions", observed=True)["effect"].mean()
        >>> odd.nlargest(2).index.tolist()
        ['tile', 'rest']
    """
    trials = asked_of(model, trials)
    if component not in OF_A_LAYER:
        raise InputError(
            f"component is {component!r}; use {', '.join(map(repr, OF_A_LAYER))}, or patch_heads "
            "for heads"
        )
    batch_size = as_batch_size(batch_size)
    measurements = [
        PatchedLayers.of(model, trials, component, source, one, group, batch_size)
        for one, group in product(targets_of(target, trials), groups_of("positions", positions))
    ]
    return in_order(
        measure(model, measurements, progress=progress, stage="patching layers"), trials
    )


@dataclass(frozen=True)
class PatchedLayers(Patched):
    """Runs of one target, each with one layer's edit."""

    @classmethod
    def of(
        cls,
        model: Vlm,
        trials: Sequence[Trial],
        component: str,
        source: str,
        target: str,
        positions: Positions,
        batch_size: int | None = None,
    ) -> PatchedLayers:
        """The measurement of `patch_layers` for one target and group.

        Raises:
            InputError: anything that does not exist.
        """
        edits = {
            str(layer): (Edit(layer, None, source, component, positions),)
            for layer in range(model.n_layers)
        }
        check_edits(model, edits)
        return cls(tuple(trials), tuple(edits.values()), target, tuple(edits), batch_size)

    def frame(self, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """See `patch_layers`."""
        frame = super().frame(parts)
        layers = np.array([edit.layer for (edit,) in self.edits])
        where, number = frame.columns.get_loc("variant"), frame.pop("variant").cat.codes.to_numpy()
        frame.insert(where, "layer", layers[number])
        return frame
