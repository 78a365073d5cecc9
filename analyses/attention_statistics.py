"""Where each head looks from [end], in numbers, and whether that says what it does.

Attention alone misleads: a head may look at the odd tile and write nothing that matters, and
another may matter without looking there. `attention_vs_effect` says how far one can be read off the
other on this model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import pandas as pd
import torch

from rgb_circuit import InputError, Trial, Vlm
from rgb_circuit.measuring.batches import batches
from rgb_circuit.measuring.measure import measure
from rgb_circuit.measuring.measurement import Measurement, Parts
from rgb_circuit.programs.patterns import shares
from rgb_circuit.prompts import check_trials, encode, locate, prompt_ids, tile_positions
from rgb_circuit.remote.jobs import Jobs
from rgb_circuit.running.checks import check_attention, check_finite
from rgb_circuit.running.execute import execute
from rgb_circuit.trial import as_trials

MASSES = ("tile", "picture", "question", "first", "before")
STATISTICS = (*MASSES, "entropy")


def attention_statistics(
    model: Vlm,
    trials: Sequence[Trial],
    conditions: Sequence[str] = ("clean",),
    *,
    progress: bool = True,
) -> pd.DataFrame:
    """How every head divides its attention at [end].

    Args:
        conditions: which pictures to show.
        progress: show a bar when it takes longer than two seconds.

    Returns:
        A row per trial × condition × head: ``trial, condition, layer, head``; the shares, which add
        up to 1: ``tile`` (the image token of ``trial.tile``, whatever that picture shows there),
        ``picture`` (the rest of it), ``question`` (the text after the picture, [end] included),
        ``first`` (the first token, on which idle heads rest), ``before`` (other text before the
        picture); and ``entropy`` (nats) of the attention over the image tokens, normalised to 1
        there: 0 on one tile, log(tiles) when even.

    Raises:
        InputError: a trial without a tile, or a condition that a trial lacks, before any forward.

    Examples:
        >>> from analyses.attention_statistics import attention_statistics
        >>> frame = attention_statistics(model, trials)
        >>> picture = frame.groupby(["layer", "head"])["picture"].mean()
        >>> picture[picture > 0.9].index.tolist()
        [(3, 3)]
    """
    asked = Summarized(tuple(as_trials(trials)), tuple(conditions))
    [frame] = measure(model, [asked], progress=progress, stage="attention")
    return frame


@dataclass(frozen=True)
class Summarized(Measurement):
    """How every head divides its attention at [end], on the pictures of some ``conditions``."""

    conditions: tuple[str, ...]

    function: ClassVar[str] = "attention_statistics"

    def prepare(self, model: Vlm, jobs: Jobs | None) -> Parts:
        for trial in self.trials:
            if trial.tile is None:
                raise InputError(
                    f"trial {trial.name!r} has no tile, so attention to it means nothing; set tile "
                    "and grid"
                )
        check_trials(model, self.trials, self.conditions)
        return partial(_summarized, model, self.conditions)

    def frame(self, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """See `attention_statistics`."""
        return super().frame(parts).astype({"trial": "category", "condition": "category"})


def _summarized(model, conditions, trials, jobs):
    """Trial name → its part of the frame, for some trials at a time."""
    layer, head = np.array(model.heads()).T
    for shown, end in batches(model, trials, conditions):
        of = {trial.name: _masks(model, trial) for trial, _ in shown[:: len(conditions)]}
        masks = torch.tensor(np.stack([of[trial.name] for trial, _ in shown]))
        found = execute(
            model,
            shares,
            (model.n_heads, model.d_head),
            encode(model, shown),
            end,
            masks,
            jobs=jobs,
        )
        check_finite(model, found["finite"])
        check_attention(model, found["gaps"])
        blocks = {}
        for (trial, condition), numbers in zip(shown, found["statistics"]):
            block = pd.DataFrame(
                numbers.reshape(-1, len(STATISTICS)).numpy(), columns=list(STATISTICS)
            )
            block.insert(0, "trial", trial.name)
            block.insert(1, "condition", condition)
            block.insert(2, "layer", layer)
            block.insert(3, "head", head)
            blocks.setdefault(trial.name, []).append(block)
        yield {name: pd.concat(several, ignore_index=True) for name, several in blocks.items()}


def attention_vs_effect(attention: pd.DataFrame, effects: pd.DataFrame) -> pd.DataFrame:
    """Correlation, over heads, of where a head looks with how much it matters.

    Both are averaged over trials first, then the effect's sign is dropped: a head that lowers a
    logit matters too.

    Args:
        attention: from `attention_statistics`.
        effects: from `rgb_circuit.patch_heads`, of the same model.

    Returns:
        A row per attention statistic × condition × target × role: ``statistic, condition, target,
        role, spearman, pearson`` (missing where one side is constant), ``heads`` (how many).

    Raises:
        InputError: fewer than three heads in both frames.
    """
    looks = attention.groupby(["condition", "layer", "head"], observed=True)[
        list(STATISTICS)
    ].mean()
    matters = (
        effects.groupby(["target", "role", "layer", "head"], observed=True)["effect"].mean().abs()
    )
    rows = []
    for condition, look in looks.groupby(level="condition", observed=True):
        for (target, role), size in matters.groupby(level=["target", "role"], observed=True):
            both = look.droplevel("condition").join(size.droplevel(["target", "role"]), how="inner")
            if len(both) < 3:
                raise InputError(
                    f"{len(both)} heads are in both frames; a correlation needs 3 or more, so "
                    "patch more heads"
                )
            for statistic in STATISTICS:
                rows.append(
                    {
                        "statistic": statistic,
                        "condition": condition,
                        "target": target,
                        "role": role,
                        "spearman": _correlation(both[statistic].rank(), both["effect"].rank()),
                        "pearson": _correlation(both[statistic], both["effect"]),
                        "heads": len(both),
                    }
                )
    return pd.DataFrame(rows)


def _masks(model, trial):
    """Which tokens of the prompt belong to each of ``MASSES``, and which are tiles of the picture,
    float64, (shares + 1, positions)."""
    ids = prompt_ids(model, [trial])[trial.name]
    image = locate(model, trial, "image", ids)
    parts = np.full(len(ids), "before", dtype=object)
    parts[image[-1] + 1 :] = "question"
    parts[image] = "picture"
    parts[0] = "first"
    parts[locate(model, trial, "tile", ids)] = "tile"
    tiles = np.isin(np.arange(len(ids)), tile_positions(model, ids))
    return np.stack([*(parts == part for part in MASSES), tiles]).astype(float)


def _correlation(one, other):
    """Pearson's; NaN where one of the two is constant."""
    return one.corr(other) if one.nunique() > 1 and other.nunique() > 1 else np.nan
