"""Where each head looks from [end], in numbers, and whether that says what it does.

Attention alone misleads: a head may look at the odd tile and write nothing that matters, and
another may matter without looking there. `attention_vs_effect` measures how well attention predicts
effects on this model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import ClassVar

import numpy as np
import pandas as pd
import torch

from rgb_circuit import InputError, Trial, Vlm
from rgb_circuit.measuring.batches import batches
from rgb_circuit.measuring.measure import measure
from rgb_circuit.measuring.measurement import Measurement, Parts
from rgb_circuit.pictures.views import laid_out
from rgb_circuit.programs.patterns import shares
from rgb_circuit.prompts import check_trials, encode, locate, prompt_ids
from rgb_circuit.remote.jobs import Jobs
from rgb_circuit.running.checks import check_attention, check_finite
from rgb_circuit.running.execute import execute
from rgb_circuit.trial import as_conditions, as_trials

MASSES = ("tile", "picture", "question", "first", "before")
STATISTICS = (*MASSES, "entropy")


def attention_statistics(
    model: Vlm,
    trials: Sequence[Trial],
    conditions: Sequence[str] = ("clean",),
    *,
    progress: bool = True,
) -> pd.DataFrame:
    """The shares of every head's attention at [end].

    Args:
        conditions: the pictures to show.
        progress: show a bar when it takes longer than two seconds.

    Returns:
        A row per trial × condition × head: ``trial, condition, layer, head``; the shares, which add
        up to 1: ``tile`` (the image token of ``trial.tile``, whatever that picture shows there),
        ``picture`` (the rest of it), ``question`` (the text after the picture, including [end]),
        ``first`` (the first token, on which idle heads rest), ``before`` (other text before the
        picture); and ``entropy`` (nats) of the attention over the image tokens, normalised to 1
        there: 0 on one tile, log(tiles) when even.

        If trials have boxes, also a row for each box: ``tile`` is then the share of the tokens that
        cover it, and ``picture`` that of the rest; ``box``, the column after ``head``, is its name,
        or "tile".

    Raises:
        InputError: a picture without a tile or a box, or a condition that a trial lacks, before any
            forward.

    Examples:
        >>> from analyses.attention_statistics import attention_statistics
        >>> frame = attention_statistics(model, trials)
        >>> picture = frame.groupby(["layer", "head"])["picture"].mean()
        >>> picture[picture > 0.9].index.tolist()
        [(3, 3)]
    """
    asked = Summarized(tuple(as_trials(trials)), as_conditions(conditions))
    [frame] = measure(model, [asked], progress=progress, stage="attention")
    return frame


@dataclass(frozen=True)
class Summarized(Measurement):
    """The shares of every head's attention at [end], on the pictures of some ``conditions``."""

    conditions: tuple[str, ...]

    function: ClassVar[str] = "attention_statistics"

    def prepare(self, model: Vlm, jobs: Jobs | None) -> Parts:
        check_trials(model, self.trials, self.conditions)
        for trial, condition in product(self.trials, self.conditions):
            if not _regions(trial, condition):
                raise InputError(
                    f"trial {trial.name!r} has no tile and no box in {condition!r}, so attention "
                    "to it means nothing; set tile and grid, or boxes"
                )
            _masks(model, trial, condition)
        return partial(_summarized, model, self.conditions)

    def frame(self, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """See `attention_statistics`."""
        frame = super().frame(parts)
        if not any(trial.boxes for trial in self.trials):
            frame = frame.drop(columns="box")
        return frame.astype({"trial": "category", "condition": "category"})


def _summarized(model, conditions, trials, jobs):
    """Trial name → its part of the frame, for several trials at a time."""
    layer, head = np.array(model.heads()).T
    for pictures in batches(model, trials, conditions):
        blocks = {}
        for shown, end in pictures:
            masks = _alike([_masks(model, *one) for one in shown])
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
            for (trial, condition), numbers in zip(shown, found["statistics"]):
                about = {"trial": trial.name, "condition": condition, "layer": layer, "head": head}
                for number, region in enumerate(_regions(trial, condition)):
                    own = [*range(number * len(MASSES), (number + 1) * len(MASSES)), -1]
                    values = numbers[..., own].flatten(0, 1).T.numpy()
                    block = pd.DataFrame(about | {"box": region} | dict(zip(STATISTICS, values)))
                    blocks.setdefault(trial.name, []).append(block)
        yield {name: pd.concat(several, ignore_index=True) for name, several in blocks.items()}


def attention_vs_effect(attention: pd.DataFrame, effects: pd.DataFrame) -> pd.DataFrame:
    """Correlation, over heads, of where a head looks with how much it matters.

    Both are averaged over trials first. Then the effect's sign is dropped: a head that lowers a
    logit matters too.

    Args:
        attention: from `attention_statistics`.
        effects: from `rgb_circuit.patch_heads`, of the same model.

    Returns:
        A row per attention statistic × condition (× box) × target × role: ``statistic, condition,
        target, role, spearman, pearson`` (missing if one side is constant), ``heads`` (their
        number).

    Raises:
        InputError: fewer than three heads in both frames.
    """
    of = [name for name in ("condition", "box") if name in attention]
    looks = attention.groupby([*of, "layer", "head"], observed=True)[list(STATISTICS)].mean()
    matters = (
        effects.groupby(["target", "role", "layer", "head"], observed=True)["effect"].mean().abs()
    )
    rows = []
    for where, look in looks.groupby(level=of, observed=True):
        for (target, role), size in matters.groupby(level=["target", "role"], observed=True):
            both = look.droplevel(of).join(size.droplevel(["target", "role"]), how="inner")
            if len(both) < 3:
                raise InputError(
                    f"{len(both)} heads are in both frames; a correlation needs 3 or more, so "
                    "patch more heads"
                )
            for statistic in STATISTICS:
                rows.append(
                    {
                        "statistic": statistic,
                        **dict(zip(of, where)),
                        "target": target,
                        "role": role,
                        "spearman": _correlation(both[statistic].rank(), both["effect"].rank()),
                        "pearson": _correlation(both[statistic], both["effect"]),
                        "heads": len(both),
                    }
                )
    return pd.DataFrame(rows)


def _regions(trial, condition):
    """The regions of a picture whose attention is measured: its tile, and its boxes."""
    return [*([] if trial.tile is None else ["tile"]), *trial.boxes.get(condition, {})]


def _masks(model, trial, condition):
    """The tokens of the prompt in each of ``MASSES``, for one region after the other, and those
    that are places of the picture, float64, (regions × masses + 1, positions)."""
    ids = prompt_ids(model, [trial], condition)[trial.name]
    image = locate(model, trial, "image", ids, condition)
    rows = []
    for region in _regions(trial, condition):
        parts = np.full(len(ids), "before", dtype=object)
        parts[image[-1] + 1 :] = "question"
        parts[image] = "picture"
        parts[0] = "first"
        parts[locate(model, trial, region, ids, condition)] = "tile"
        rows += [parts == part for part in MASSES]
    rows.append(np.isin(np.arange(len(ids)), laid_out(model, trial.images[condition], ids)))
    return np.stack(rows).astype(float)


def _alike(masks):
    """The masks of several pictures as one tensor; a picture with fewer regions gets empty
    masks."""
    most = max(map(len, masks))
    return torch.tensor(
        np.stack([np.insert(own, [len(own) - 1] * (most - len(own)), 0, axis=0) for own in masks])
    )


def _correlation(one, other):
    """Pearson's correlation; NaN if either side is constant."""
    return one.corr(other) if one.nunique() > 1 and other.nunique() > 1 else np.nan
