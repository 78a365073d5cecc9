"""Path patching: the effect of a head, an MLP or the embedding on the answer through one head's
query, key or value.

A restored head acts on everything above it. Along a *direct path* it acts on one receiver only: the
residual stream carries the change of its output to the receiver's layer, everything in between is
held, and only one of the receiver's query, key and value sees the change. The receiver's new output
then runs on through the rest of the model.

1. Capture both pictures. The stream that enters the receiver's layer is the target's, plus the
   sender's output in the source's run, minus its output in the target's.
2. Make the receiver's query at [end] (or its keys, or its values, at all positions) from that
   stream; take its other two parts from the target. All pairs are one forward, in which each layer
   is handed only the rows that begin or end there.
3. Write the resulting z at [end] into the target's run, all pairs side by side in another forward.

See `rgb_circuit.programs.paths`. Paths of several senders add up in the stream, not in the logits:
the paths of *everything* below a receiver, together, replace its query
(`rgb_circuit.edits.PathEdit`).

Source: Wang et al. 2022 (arXiv 2211.00593); Goldowsky-Dill et al. 2023 (arXiv 2304.05969).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ..edits import PathEdit, Sender, below, check_heads, check_into, check_senders
from ..errors import InputError
from ..measuring.measure import measure
from ..measuring.measurement import Measurement, Seen
from ..stimuli.tasks import corrupted
from ..trial import Trial, asked_of
from ..vlm import Vlm
from .patching import Patched, in_order, targets_of

LABELS = ("trial", "source", "target", "into", "sender", "role", "answer")


def patch_paths(
    model: Vlm,
    trials: Sequence[Trial] | Trial,
    senders: Sequence[Sender],
    receivers: Sequence[tuple[int, int]],
    *,
    into: str | Sequence[str] = "query",
    source: str = "clean",
    target: str | Sequence[str] | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """The effect of each sender on the answer through each receiver alone, by the direct path.

    Args:
        senders: (layer, head) pairs, MLPs ``("mlp", layer)``, or ``"embedding"`` (tokens and
            picture as they enter the language model).
        receivers: (layer, head) pairs.
        into: the receiver's input that sees the sender: its ``"query"`` at [end], or its ``"key"``
            or ``"value"`` at all positions; one, or several.
        source: condition that senders are restored from.
        target: condition or conditions that are patched; by default the task's corrupted one, in
            the game "erased".
        progress: show a bar if the run takes longer than two seconds.

    Returns:
        A row per trial × target × into × sender × receiver × role: ``trial, source, target, into,
        sender`` (``"head"``, ``"mlp"``, ``"embedding"``), ``sender_layer, sender_head`` (missing if
        the sender has none), ``receiver_layer, receiver_head, role, answer, source_logit,
        target_logit, patched_logit, effect``; logits and effect as in `patch_heads`. A sender in
        the receiver's own layer or a later one has no path to it, and an effect of exactly 0.

    Raises:
        InputError: anything that does not exist, before any forward; a model in which the residual
            stream is not a sum; or logits that are not finite.

    Source: Wang et al. 2022 (arXiv 2211.00593); Goldowsky-Dill et al. 2023 (arXiv 2304.05969).

    Examples:
        >>> mlps = [("mlp", layer) for layer in range(3)]
        >>> frame = rgb.patch_paths(model, trials, mlps, [(3, 2)], into="value")
        >>> odd = frame[frame["role"] == "odd"].groupby("sender_layer")["effect"].mean()
        >>> odd.nlargest(2).index.tolist()
        [1, 0]
    """
    trials = asked_of(model, trials)
    senders, receivers = check_senders(model, senders), check_heads(model, receivers, "receivers")
    alone = isinstance(into, str) or not isinstance(into, Iterable)
    ends: list[Any] = [into] if alone else list(dict.fromkeys(into))
    for what, given in (("senders", senders), ("receivers", receivers), ("into", ends)):
        if not given:
            raise InputError(f"{what} is empty; name at least one")
    for end in ends:
        check_into(end, source)
    targets = targets_of(corrupted(trials, target), trials)
    measurements = [
        PatchedPaths.of(trials, senders, receivers, ends, source, one) for one in targets
    ]
    return in_order(
        measure(model, measurements, progress=progress, stage="patching"), trials, LABELS
    )


@dataclass(frozen=True)
class PatchedPaths(Patched):
    """Runs of one target, each with one path that exists.

    Attributes:
        pairs: (into, sender, receiver) of every pair, also of those without a path.
        source: the condition that senders are restored from.
    """

    pairs: tuple[tuple[str, Sender, tuple[int, int]], ...] = ()
    source: str = "clean"

    function: ClassVar[str] = "paths"

    @classmethod
    def of(
        cls,
        trials: Sequence[Trial],
        senders: Sequence[Sender],
        receivers: Sequence[tuple[int, int]],
        into: Sequence[str],
        source: str,
        target: str,
    ) -> PatchedPaths:
        """The measurement of `patch_paths` for one target; senders and receivers exist."""
        pairs = tuple(
            (end, sender, receiver) for end in into for sender in senders for receiver in receivers
        )
        reaching = [(end, sender, head) for end, sender, head in pairs if below(sender, head[0])]
        edits = tuple((PathEdit(*head, (sender,), end, source),) for end, sender, head in reaching)
        names = tuple(
            f"{sender} into the {end} of {layer}.{head}" for end, sender, (layer, head) in reaching
        )
        return cls(tuple(trials), edits, target, names, pairs=pairs, source=source)

    @property
    def conditions(self) -> list[str]:
        """The conditions that are run."""
        return list(dict.fromkeys([self.source, self.target]))

    def part(self, trial: Trial, seen: Seen) -> pd.DataFrame:
        """One trial's rows; ``pair`` is the number of the pair."""
        effects = np.zeros((len(self.pairs), len(trial.answers)), dtype=np.float32)
        effects[[below(sender, layer) for _, sender, (layer, _) in self.pairs]] = seen.effects
        target_logit = np.tile(seen.logits[self.target], len(self.pairs))
        return pd.DataFrame(
            {
                "trial": trial.name,
                "source": self.source,
                "target": self.target,
                "pair": np.repeat(np.arange(len(self.pairs)), len(trial.answers)),
                "role": np.tile(np.asarray(list(trial.answers)), len(self.pairs)),
                "answer": np.tile(np.asarray(list(trial.answers.values())), len(self.pairs)),
                "source_logit": np.tile(seen.logits[self.source], len(self.pairs)),
                "target_logit": target_logit,
                "patched_logit": target_logit + effects.ravel(),
                "effect": effects.ravel(),
            }
        )

    def frame(self, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """See `patch_paths`."""
        frame = Measurement.frame(self, parts)
        where, number = frame.columns.get_loc("pair"), frame.pop("pair").to_numpy()
        table = pd.DataFrame([_named(*pair) for pair in self.pairs])
        types = {
            **dict.fromkeys(LABELS, "category"),
            "sender_layer": "Int64",
            "sender_head": "Int64",
        }
        for place, (name, column) in enumerate(table.iloc[number].items(), start=where):
            frame.insert(place, name, column.to_numpy())
        return frame.astype(types)


def _named(into, sender, receiver):
    """The columns of the frame that describe a pair."""
    if sender == "embedding":
        kind, layer, head = "embedding", None, None
    elif sender[0] == "mlp":
        kind, layer, head = "mlp", sender[1], None
    else:
        kind, (layer, head) = "head", sender
    return {
        "into": into,
        "sender": kind,
        "sender_layer": layer,
        "sender_head": head,
        "receiver_layer": receiver[0],
        "receiver_head": receiver[1],
    }
