"""Attribution patching: the effect of patching each head alone, estimated by gradients for all
heads at once.

`patch_heads` at many positions takes a forward per head. To first order, the effect of a patch is
the change of z times the gradient of the answers' logits:

    effect ≈ Σ over positions and d_head of (z in the source run - z in the target run) · ∂ logit /
    ∂ z

with the gradient taken in the target run. Two captures, a forward and a backward pass per answer
then give every head at every position. It is an **estimate**. Where attention is saturated, the
gradient is almost zero although the patch moves attention elsewhere: such heads are missed (Kramár
et al. 2024). ``method`` chooses the runs in which the gradient is taken:

- ``"atp"``, attribution patching: in the target run (Nanda 2023; Kramár et al. 2024, arXiv
  2403.00745).
- ``"atp-ig"``, with integrated gradients: the mean over ``STEPS`` runs whose embeddings, image
  tokens included, lie between the target's and the source's (Hanna et al. 2024, arXiv 2403.17806,
  who find more faithful circuits with it). Embeddings are interpolated rather than z, since that
  takes ``STEPS`` runs for all layers together instead of for each. The runs are the midpoints of
  ``STEPS`` equal intervals. In them everything moves towards the source, in a patch only one head:
  for a single patch this is often the worse estimate (benchmarks/RESULTS.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import numpy as np
import pandas as pd
import torch

from ..edits import (
    ARTIFICIAL,
    Edit,
    Groups,
    Positions,
    check_edits,
    check_heads,
    groups_of,
    label_of,
)
from ..errors import InputError, ServerError
from ..measuring.measure import measure
from ..measuring.measurement import Measurement, Parts
from ..programs.attributed import attributed
from ..prompts import encode, pooled_table
from ..remote.jobs import Jobs
from ..running.checks import check_finite, check_unedited
from ..running.execute import execute
from ..running.memory import chunks, layers_with_gradients, pictures_with_gradients
from ..trial import Trial, asked_of
from ..vlm import Vlm
from .patching import LABELS, Patched, in_order, targets_of

# The word for every position by itself.
EACH = "each"

METHODS = ("atp", "atp-ig")
# As many as Hanna et al. take.
STEPS = 5


def attribute(
    model: Vlm,
    trials: Sequence[Trial] | Trial,
    *,
    method: str = "atp",
    source: str = "clean",
    target: str | Sequence[str] | None = None,
    positions: Groups = "end",
    heads: Sequence[tuple[int, int]] | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Estimate the effect of restoring each head's z alone from ``source`` in the ``target`` run.

    Args:
        method: ``"atp"`` or ``"atp-ig"``, see above.
        source: condition that is restored from, or ``"zero"`` (not for ``"atp-ig"``).
        target: condition or conditions that are patched; by default those of the task's panels, in
            the game "recolored" and "erased".
        positions: one or several groups of positions, as in `patch_layers`: words as in `Edit`, or
            lists of ints; or ``"each"``, every position by itself. More groups cost almost nothing.
        heads: (layer, head) pairs for the rows of the frame; all by default, at the same cost.
        progress: show a bar if the run takes longer than two seconds.

    Returns:
        A row per trial × target × positions × head × role, with the columns of `patch_heads`, and
        ``method`` after ``component``. ``effect`` (logits) is the estimate, and ``patched_logit``
        is target_logit + effect; ``source_logit`` and ``target_logit`` are measured. Positions
        given as ints are written as a list in text; so are those of ``"each"``. For an answer with
        several words, the gradient is that of the logit pooled over them.

    Raises:
        InputError: as `patch_heads`, before any forward; or, for ``"atp-ig"``, prompts of different
            length.
        ServerError: no gradients come back from the server.

    Examples:
        >>> frame = rgb.attribute(model, trials, target="recolored")
        >>> odd = frame[frame["role"] == "odd"].groupby(["layer", "head"])["effect"].mean()
        >>> odd.nlargest(2).index.tolist()
        [(3, 1), (3, 2)]
    """
    trials = asked_of(model, trials)
    if method not in METHODS:
        raise InputError(f"method is {method!r}; use {' or '.join(map(repr, METHODS))}")
    targets = targets_of(target, trials)
    heads = model.heads() if heads is None else check_heads(model, heads)
    if not heads:
        raise InputError("heads is empty; name at least one, or leave it out for all")
    if source == "zero" and method == "atp-ig":
        raise InputError(
            "no run lies between source 'zero' and a target's; use method='atp' with it"
        )
    if source in ARTIFICIAL and source != "zero":
        raise InputError(
            f"source {source!r} is not estimated; name a condition or 'zero', or use patch_heads"
        )
    groups = groups_of("positions", positions)
    if EACH in groups and len(groups) > 1:
        raise InputError(f"positions is {EACH!r} beside other groups; ask for it alone")
    check_edits(model, {"all": [Edit(0, 0, source, positions=_within(one)) for one in groups]})
    measurement = Attributed(
        tuple(trials), source, tuple(targets), tuple(groups), method, tuple(heads)
    )
    [frame] = measure(model, [measurement], progress=progress, stage="attribution")
    return frame


@dataclass(frozen=True)
class Attributed(Measurement):
    """Estimated effects of some heads, each alone.

    Attributes:
        source, method: as in `attribute`.
        targets: conditions that are patched.
        groups: positions that are restored together, as in an edit, or ``"each"`` alone.
        heads: (layer, head) pairs that exist.
    """

    source: str
    targets: tuple[str, ...]
    groups: tuple[Positions, ...]
    method: str = "atp"
    heads: tuple[tuple[int, int], ...] = field(default=())

    function: ClassVar[str] = "attribute"

    def prepare(self, model: Vlm, jobs: Jobs | None) -> Parts:
        _check_gradients(model)
        # Prepare the patches that are estimated, so that whatever these refuse is refused here.
        edits = tuple((Edit(0, 0, self.source, positions=_within(one)),) for one in self.groups)
        names = tuple(map(str, self.groups))
        prepared = {
            target: Patched(self.trials, edits, target, names).prepare(model, None)
            for target in self.targets
        }
        of_target = {
            target: [ask(trial) for trial in self.trials] for target, ask in prepared.items()
        }
        shown = {
            trial.name: {target: every[number] for target, every in of_target.items()}
            for number, trial in enumerate(self.trials)
        }
        if self.method == "atp-ig":
            for trial in self.trials:
                lengths = {
                    length for one in shown[trial.name].values() for length in one.lengths.values()
                }
                if len(lengths) > 1:
                    raise InputError(
                        f"trial {trial.name!r} asks in prompts of "
                        f"{' and '.join(map(str, sorted(lengths)))} tokens, between which no run "
                        "lies; use method='atp', or ask in as many tokens"
                    )
        return partial(_attributed, model, self, shown)

    def frame(self, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """See `attribute`."""
        return in_order(parts, self.trials, (*LABELS, "method"))


def _within(group):
    """Positions of an edit that cover a group."""
    return "all" if group == EACH else group


def _attributed(model, asked, shown, trials, jobs):
    """Trial name → its part of the frame, for some trials at a time.

    Args:
        shown: trial name → target → the request of `Patched`.
    """
    alike = {}
    for trial in trials:
        of_targets = shown[trial.name].items()
        key = [
            (target, *sorted(one.lengths.items()), one.kept, one.front)
            for target, one in of_targets
        ]
        alike.setdefault(str(key), []).append(trial)
    for similar in alike.values():
        requests = list(shown[similar[0].name].values())
        length = max(length for each in requests for length in each.lengths.values())
        kept = max(each.held for each in requests)
        if asked.method == "atp-ig":
            kept = length
        at_once = pictures_with_gradients(model, length, length - kept)
        for group in chunks(similar, at_once):
            layers = layers_with_gradients(model, length, length - kept, len(group))
            yield _together(model, asked, shown, group, kept, layers, jobs)


def _together(model, asked, shown, trials, kept, layers, jobs):
    """Trial name → its part, for trials that run together."""
    source = None if asked.source == "zero" else _picture(model, trials, asked.source, kept)
    targets = {}
    for target in asked.targets:
        requests = [shown[trial.name][target] for trial in trials]
        picture = _picture(model, trials, target, kept)
        groups = [
            _members(asked, one.spots, one.lengths[target], picture["start"]) for one in requests
        ]
        answers = pooled_table([one.ids for one in requests])
        extras = {"groups": torch.stack(groups), "asked": answers, "front": requests[0].front}
        targets[target] = picture | extras
    steps = STEPS if asked.method == "atp-ig" else 0
    results = execute(
        model, attributed, (model.n_heads, model.d_head), source, targets, steps, layers, jobs=jobs
    )
    for target, result in results.items():
        if not result["gradients"]:
            raise _without_gradients(model)
        check_finite(model, result["finite"])
        check_unedited(model, result["drift"], shown[trials[0].name][target].lengths[target])
    return {
        trial.name: pd.concat(
            [_part(asked, trial, target, row, one) for target, one in results.items()]
        )
        for row, trial in enumerate(trials)
    }


def _picture(model, trials, condition, kept):
    """One condition's inputs, and the position from which they are kept."""
    inputs = encode(model, [(trial, condition) for trial in trials])
    return {"inputs": inputs, "start": max(0, inputs["input_ids"].shape[1] - kept)}


def _check_gradients(model):
    """Raise InputError if gradients cannot flow through the model's weights."""
    for where, weights in model.nnsight._module.named_parameters():
        if weights.is_inference():
            raise InputError(
                f"weights of {model.name} were made inside torch.inference_mode() ({where}), so "
                "that no gradients go through them; load the model outside of it, or use "
                "patch_heads, which needs none"
            )


def _without_gradients(model):
    if model.server is None:
        return InputError(
            "gradients are switched off here; call attribute outside torch.inference_mode()"
        )
    return ServerError(
        "the server runs this key's jobs in a process apart from the model, where no gradients "
        "come back; use patch_heads, which needs none, or load the model here"
    )


def _members(asked, spots, length, start):
    """1 where a kept position belongs to a group, (groups, kept)."""
    if asked.groups == (EACH,):
        return torch.eye(length)[start:, start:]
    places = torch.zeros(len(asked.groups), length)
    for row, group in enumerate(asked.groups):
        places[row, spots[group]] = 1
    return places[:, start:]


def _part(asked, trial, target, row, done):
    """One trial's rows of one target."""
    layer, head = np.array(asked.heads).T
    n_roles = len(trial.answers)
    # (groups, heads, roles); a trial with fewer answers than others repeats its last one.
    effect = done["estimates"][row][:, layer, head, :n_roles].numpy()
    names, (n_groups, n_heads, _) = _names(asked, len(effect)), effect.shape

    def of_roles(values):
        return np.tile(np.asarray(values), n_groups * n_heads)

    source_logit, target_logit = (
        np.full(n_roles, np.nan, np.float32) if one is None else one[row, :n_roles].numpy()
        for one in (done["source_logits"], done["target_logits"])
    )
    return pd.DataFrame(
        {
            "trial": trial.name,
            "source": asked.source,
            "target": target,
            "component": "z",
            "method": asked.method,
            "positions": np.repeat(np.asarray(names), n_heads * n_roles),
            "layer": np.tile(np.repeat(layer, n_roles), n_groups),
            "head": np.tile(np.repeat(head, n_roles), n_groups),
            "role": of_roles(list(trial.answers)),
            "answer": of_roles(list(trial.answers.values())),
            "source_logit": of_roles(source_logit),
            "target_logit": of_roles(target_logit),
            "patched_logit": of_roles(target_logit) + effect.ravel(),
            "effect": effect.ravel(),
        }
    )


def _names(asked, count):
    """The names of ``count`` groups, as `patch_heads` writes positions."""
    if asked.groups == (EACH,):
        return [label_of((place,)) for place in range(count)]
    return [label_of(group) for group in asked.groups]
