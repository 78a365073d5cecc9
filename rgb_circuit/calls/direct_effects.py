"""Direct logit attribution: the direct contributions of each head, each MLP and the embedding to
the answer's logit.

The residual stream at [end] is a sum: the embedding, and the additions of every head and every MLP.
The final RMSNorm divides it by one number, which is frozen at the run's own, and ``lm_head`` is
linear. So each summand has its own share of the logit, and the shares add up to it. A share is the
*direct* effect only: a head's effect through later heads and MLPs is part of their shares.

1. Split the residual stream at [end]: ``o_proj`` of z with all heads but one zeroed; the MLPs'
   output; the embedding.
2. Scale each part to the size of the whole, put it through the final norm, and scale it back.
3. Put it through ``lm_head`` and read the answers.
4. Check that the shares add up to the logit.
5. If an answer has several accepted words, take the mean of their shares, weighted by how likely
   each word is among them in this run: to first order, the effect of a share on the answer's pooled
   logit. These means add up to that logit less the entropy of the weights, which is at most
   log(words).

Modules are called, parameters never read.

Source: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"; Wang et al. 2022
(arXiv 2211.00593).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import pandas as pd
import torch

from ..edits import check_mlps
from ..errors import ModelError
from ..measuring.batches import batches
from ..measuring.measure import measure
from ..measuring.measurement import Measurement, Parts
from ..programs.pooled import pooled_shares
from ..programs.split import split
from ..prompts import answer_ids, answer_table, check_trials, columns_of, encode
from ..remote.jobs import Jobs
from ..running.checks import check_finite
from ..running.execute import execute
from ..trial import Trial, as_conditions, asked_of
from ..vlm import Vlm


def direct_effects(
    model: Vlm,
    trials: Sequence[Trial] | Trial,
    conditions: Sequence[str] = ("clean",),
    *,
    progress: bool = True,
) -> pd.DataFrame:
    """The share of every head, every MLP and the embedding in the answers' logits at [end], one run
    per picture.

    Args:
        conditions: which pictures to show.
        progress: show a bar if the run takes longer than two seconds.

    Returns:
        A row per trial × condition × component × role: ``trial, condition, component``
        (``"embedding"``, ``"head"``, ``"attention bias"`` if ``o_proj`` has one, ``"mlp"``),
        ``layer, head`` (missing if the component has none), ``role, answer, direct_effect``
        (logits). Over the components of a run, direct effects add up to the logit; for an answer
        with several words, to its logit less the entropy of the weights of its words (step 5).

    Raises:
        InputError: a condition that a trial lacks, or trials that cannot be shown to this model,
            before any forward; or a model whose logits are not such a sum.

    Examples:
        >>> frame = rgb.direct_effects(model, trials)
        >>> odd = frame[frame["role"] == "odd"].groupby(["component", "layer"], observed=True)
        >>> odd["direct_effect"].sum().nlargest(2).index.tolist()
        [('mlp', 3), ('head', 3)]
    """
    [frame] = measure(
        model,
        [Decomposed(tuple(asked_of(model, trials)), as_conditions(conditions))],
        progress=progress,
        stage="direct effects",
    )
    return frame


@dataclass(frozen=True)
class Decomposed(Measurement):
    """The direct effects in the pictures of some ``conditions``."""

    conditions: tuple[str, ...]

    function: ClassVar[str] = "direct_effects"

    def prepare(self, model: Vlm, jobs: Jobs | None) -> Parts:
        check_mlps(model)
        check_trials(model, self.trials, self.conditions)
        return partial(_decomposed, model, self.conditions)

    def frame(self, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """See `direct_effects`."""
        labels = ["trial", "condition", "component", "role", "answer"]
        types = {**dict.fromkeys(labels, "category"), "layer": "Int64", "head": "Int64"}
        return super().frame(parts).astype(types)


def _decomposed(model, conditions, trials, jobs):
    """Trial name → its part of the frame, for some trials at a time."""
    components = _components(model)
    for pictures in batches(model, trials, conditions):
        blocks = {}
        for shown, _ in pictures:
            for (trial, condition), shares in zip(shown, _shares(model, shown, jobs)):
                blocks.setdefault(trial.name, []).append(
                    _block(components, trial, condition, shares)
                )
        yield {name: pd.concat(both) for name, both in blocks.items()}


def _shares(model, shown, jobs):
    """Per (trial, condition), role → its shares, (1 + layers × (heads + bias + MLP),), in the order
    of `_components`."""
    tokens = [answer_ids(model, trial, condition) for trial, condition in shown]
    answers = answer_table([[token for ids in own.values() for token in ids] for own in tokens])
    result = execute(
        model, split, (model.n_heads, model.d_head), encode(model, shown), answers, jobs=jobs
    )
    shares, logits = result["shares"], result["logits"]
    check_finite(model, result["finite"])

    # Rounding grows with the size of the shares, not with their sum.
    allowed = (1e-4 if model.dtype == torch.float32 else 2e-2) * shares.abs().sum(1).clamp_min(1)
    gap = (shares.sum(1) - logits).abs()
    if not (gap <= allowed).all():
        worst = (gap / allowed).flatten().argmax()
        raise ModelError(
            f"the direct effects in {model.name} add up to {shares.sum(1).flatten()[worst]:.4g}, "
            "but the logit is "
            f"{logits.flatten()[worst]:.4g}: its final norm is no RMSNorm, its layers norm what "
            "heads and MLP give before they "
            "add it or add something else, or its logits are capped, so direct effects mean "
            "nothing there; use patch_heads"
        )
    return [
        dict(zip(own, pooled_shares(share, logit, columns_of(own.values())).T.numpy()))
        for own, share, logit in zip(tokens, shares, logits)
    ]


def _block(components, trial, condition, shares):
    """One run's part of the frame; ``shares``: role → (components,)."""
    block = pd.concat([components] * len(shares), ignore_index=True)
    block["role"] = [role for role in shares for _ in range(len(components))]
    block["answer"] = block["role"].map(trial.answers)
    block["direct_effect"] = np.concatenate(list(shares.values()))
    block.insert(0, "trial", trial.name)
    block.insert(1, "condition", condition)
    # If o_proj has no bias, as in LLaMA, a row of zeros per layer would say nothing.
    return block[(block["component"] != "attention bias") | (block["direct_effect"] != 0)]


def _components(model):
    """``component, layer, head`` in the order in which `split` splits the residual stream."""
    rows: list[tuple[str, int | None, int | None]] = [("embedding", None, None)]
    for layer in range(model.n_layers):
        rows += [("head", layer, head) for head in range(model.n_heads)]
        rows += [("attention bias", layer, None), ("mlp", layer, None)]
    return pd.DataFrame(rows, columns=["component", "layer", "head"]).astype(
        {"layer": "Int64", "head": "Int64"}
    )
