"""The share of its attention that every head gives to some tokens from [end], read off pictures
that are shown anyway."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import pandas as pd
import torch

from ..prompts import check_trials, locate, prompt_ids
from ..trial import Trial
from ..vlm import Vlm
from .measurement import OfPictures, Request


@dataclass(frozen=True)
class AttentionShares(OfPictures):
    """The share of its attention at [end] that every head gives to some tokens, and how evenly it
    spreads over the picture.

    Attributes:
        condition: the picture that is shown.
        at: groups of tokens, position words as in `rgb_circuit.prompts.locate`.
    """

    condition: str
    at: tuple[str, ...]

    function: ClassVar[str] = "attention_shares"

    def prepare(self, model: Vlm, jobs: object) -> Callable[[Trial], Request]:
        check_trials(model, self.trials, [self.condition])
        ids = prompt_ids(model, self.trials, self.condition)
        groups = (*self.at, "image")
        masks = {
            trial.name: _masks(model, trial, groups, ids[trial.name], self.condition)
            for trial in self.trials
        }

        def request(trial: Trial) -> Request:
            return Request(
                trial=trial,
                lengths={self.condition: len(ids[trial.name])},
                ids=(),
                part=partial(_part, model, trial, self.condition, self.at, masks[trial.name]),
                masks={self.condition: masks[trial.name]},
            )

        return request

    def frame(self, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """A row per trial × head × group of tokens, and one for the picture's entropy: ``trial,
        layer, head, at`` (a position word, or "entropy"), ``value`` (the share of all attention, or
        nats over the image tokens, normalised to 1 there; missing if no attention is on the
        picture), ``even`` (the value of even attention)."""
        return super().frame(parts).astype({"trial": "category", "at": "category"})


def _masks(model, trial, groups, ids, condition):
    """1 where a token belongs to a group, float64, (groups, positions)."""
    masks = torch.zeros(len(groups), len(ids), dtype=torch.float64)
    for mask, words in zip(masks, groups):
        mask[locate(model, trial, words, ids, condition)] = 1
    return masks


def _part(model, trial, condition, at, masks, seen):
    """One trial's rows."""
    values, heads = seen.shares[condition], np.array(model.heads())
    inside = masks.sum(1).numpy()
    even = [*(inside[:-1] / masks.shape[1]), np.log(inside[-1])]
    blocks = [
        pd.DataFrame(
            dict(
                trial=trial.name,
                layer=heads[:, 0],
                head=heads[:, 1],
                at=name,
                value=values[heads[:, 0], heads[:, 1], number].astype(float),
                even=even[number],
            )
        )
        for number, name in enumerate((*at, "entropy"))
    ]
    return pd.concat(blocks, ignore_index=True)
