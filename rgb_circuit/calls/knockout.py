"""Attention knockout: which positions must attend to which others, and in which layers, for the
answer?

1. Choose the positions that attend (queries) and those that are attended to (keys), both in groups,
   and a window of layers.
2. In every layer of the window add -inf to those attention scores, so that the rest of the pattern
   takes their weight; everything else runs on.
3. The fall of the answers' logits is what flows from keys to queries there; without a fall, nothing
   that flows there is needed.
4. Repeat for every window. With queries at [end], all windows and groups are copies of [end], side
   by side in one forward (`programs.sweep`); otherwise they are rows of a batch.

Source: Geva et al. 2023 (arXiv 2304.14767); in vision-language models Neo et al. 2024 (arXiv
2410.07149) and Zhang et al. 2024 (arXiv 2411.18620).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import pandas as pd

from ..arguments import as_whole
from ..edits import AttentionEdit, Groups, Positions, check_edits, check_heads, groups_of, label_of
from ..errors import InputError
from ..measuring.measure import measure
from ..trial import Trial, asked_of, one_condition
from ..vlm import Vlm
from .patching import Patched, as_batch_size, in_order

LABELS = ("trial", "condition", "queries", "keys", "role", "answer")


def knockout(
    model: Vlm,
    trials: Sequence[Trial] | Trial,
    *,
    condition: str = "clean",
    queries: Groups,
    keys: Groups,
    window: int = 1,
    heads: Sequence[tuple[int, int]] | None = None,
    batch_size: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """The effect of keeping some positions from attending to others, in every window of layers.

    With queries at ``"end"``, all windows and groups of a trial take about one forward besides the
    picture's own; with others, half a forward for each window and pair of groups, and one more.

    Args:
        condition: the picture that is shown.
        queries, keys: one or several groups of positions: words as in `rgb_circuit.Edit`, or lists
            of ints. Every group of queries is kept from every group of keys.
        window: how many consecutive layers.
        heads: (layer, head) pairs whose attention is knocked out; all heads of the window's layers
            by default. Windows without one of them are left out.
        batch_size, progress: as in `rgb_circuit.patch_heads`.

    Returns:
        A row per trial × first layer × (queries, keys) × role: ``trial, condition, layer`` (the
        window's first), ``window, queries, keys, role, answer, logit, knocked_logit, effect``.
        Logits are read at [end]; effect = knocked − own logit.

    Raises:
        InputError: anything that does not exist, queries that see none of the keys or nothing else,
            before any forward.

    Examples:
        >>> frame = rgb.knockout(model, trials, queries="end", keys="image")
        >>> odd = frame[frame["role"] == "odd"].groupby("layer")["effect"].mean()
        >>> odd[odd < -1].index.tolist()
        [3]
    """
    trials, condition = asked_of(model, trials), one_condition("condition", condition)
    batch_size = as_batch_size(batch_size)
    chosen = None if heads is None else check_heads(model, heads)
    measurements = [
        Knocked.of(model, trials, condition, looking, keys, window, chosen, batch_size)
        for looking in groups_of("queries", queries)
    ]
    return in_order(
        measure(model, measurements, progress=progress, stage="knocking out"), trials, LABELS
    )


@dataclass(frozen=True)
class Knocked(Patched):
    """Runs of one picture, each with attention knocked out in a window of layers.

    Attributes:
        about: each variant's first layer, and its keys in words.
        window: how many layers.
    """

    about: tuple[tuple[int, str], ...] = ()
    window: int = 1

    function: ClassVar[str] = "knockout"
    unlike_others: ClassVar[tuple[str, ...]] = (*Patched.unlike_others, "about", "window")

    @classmethod
    def of(
        cls,
        model: Vlm,
        trials: Sequence[Trial],
        condition: str,
        queries: Positions,
        keys: Groups,
        window: int = 1,
        heads: Sequence[tuple[int, int]] | None = None,
        batch_size: int | None = None,
    ) -> Knocked:
        """The measurement of `knockout` for one group of queries.

        Raises:
            InputError: groups or heads that do not exist, no such window, or nothing to knock out.
        """
        wide = as_whole(window)
        if wide is None or not 1 <= wide <= model.n_layers:
            raise InputError(
                f"window is {window!r}; use a whole number from 1 to {model.n_layers} layers"
            )
        window = wide
        edits, about = {}, []
        pairs: Sequence[tuple[int, int | None]] = (
            [(layer, None) for layer in range(model.n_layers)] if heads is None else heads
        )
        for first, seen in product(range(model.n_layers - window + 1), groups_of("keys", keys)):
            inside = [(layer, head) for layer, head in pairs if first <= layer < first + window]
            if inside:
                edits[f"{first} {label_of(seen)}"] = tuple(
                    AttentionEdit(layer, head, queries, seen) for layer, head in inside
                )
                about.append((first, label_of(seen)))
        check_edits(model, edits)
        variants, names = tuple(edits.values()), tuple(edits)
        return cls(
            tuple(trials), variants, condition, names, batch_size, about=tuple(about), window=window
        )

    def frame(self, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """See `knockout`."""
        frame = super().frame(parts)
        variants = frame.pop("variant").cat.codes.to_numpy()
        layers, keys = zip(*self.about)
        frame = frame.rename(
            columns={
                "target": "condition",
                "positions": "queries",
                "target_logit": "logit",
                "patched_logit": "knocked_logit",
            }
        ).drop(columns=["source", "component", "source_logit"])
        frame.insert(2, "layer", [layers[number] for number in variants])
        frame.insert(3, "window", self.window)
        frame.insert(5, "keys", [keys[number] for number in variants])
        return frame
