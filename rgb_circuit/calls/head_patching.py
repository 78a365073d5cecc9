"""Restore every head alone (`patch_heads`), or only those that an estimate ranks highest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..edits import Edit, check_edits, check_heads, component_of
from ..errors import InputError
from ..heads import Head
from ..measuring.measure import measure
from ..trial import Trial, asked_of
from ..vlm import Vlm
from ..warning import warn
from .attribute import METHODS, attribute
from .patching import PatchedHeads, as_batch_size, in_order, targets_of

# With `among`, the share of heads that are patched, and the least number of heads.
PART, LEAST = 0.1, 32


def patch_heads(
    model: Vlm,
    trials: Sequence[Trial] | Trial,
    *,
    source: str = "clean",
    target: str | Sequence[str] | None = None,
    component: str = "z",
    positions: str | Sequence[int] = "end",
    heads: Sequence[tuple[int, int]] | None = None,
    over: str | Sequence[int] | None = None,
    without: str | Sequence[int] | None = None,
    among: str | None = None,
    batch_size: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """The effect of restoring each head alone from ``source`` in the ``target`` run.

    Args:
        trials: the trials to measure on, or a single one.
        source: condition that is restored from, or ``"zero"`` / ``"mean"`` / ``"rounding"`` (see
            `Edit`).
        target: condition or conditions that are patched; by default those of the task's panels, in
            the game "recolored" and "erased".
        component: ``"z"``; ``"pattern"``, the source run's attention over the target run's values;
            ``"value"``, the other way round; ``"query"`` and ``"key"`` (see `Edit`).
        positions: as in `Edit`.
        heads: (layer, head) pairs; all by default.
        over, without: as in `Edit`: the pattern over these positions alone, z without attention to
            them.
        among: ``"atp"`` or ``"atp-ig"``: patch only the heads that this estimate ranks highest (see
            `attribute`), a tenth and at least 32. For ``component="z"``, and worthwhile at many
            positions. A warning says how many were skipped; ``attrs["skipped"]`` of the frame lists
            them.
        batch_size: the most patched runs in one forward; by default as many as fit into a quarter
            of the free memory.
        progress: show a bar if the run takes longer than two seconds.

    Returns:
        A row per trial × target × head × role: ``trial, source, target, component, positions,
        layer, head, role, answer, source_logit, target_logit, patched_logit, effect``. Logits are
        read at [end], each word's at its first token; effect = patched − target logit, computed
        with the number format's precision of a difference, not of a logit.

    Raises:
        InputError: anything that does not exist, before any forward runs; or logits that are not
            finite.

    Examples:
        >>> frame = rgb.patch_heads(model, trials, target="recolored")
        >>> odd = frame[frame["role"] == "odd"].groupby(["layer", "head"])["effect"].mean()
        >>> odd.nlargest(3).index.tolist()
        [(3, 1), (3, 2), (3, 3)]
    """
    trials = asked_of(model, trials)
    batch_size = as_batch_size(batch_size)
    heads = model.heads() if heads is None else check_heads(model, heads)
    patch: dict[str, Any] = dict(
        source=source, component=component, positions=positions, over=over, without=without
    )
    check_edits(model, {head: [Edit(*head, **patch)] for head in heads})
    skipped: list[Head] = []
    if among is not None:
        if component != "z" or without is not None:
            asked_for = component_of(Edit(0, 0, **patch))
            raise InputError(f"among estimates component 'z', not {asked_for!r}; leave it out")
        heads, skipped = _ranked_highest(
            model, trials, heads, method=among, source=source, target=target, positions=positions,
            progress=progress,
        )  # fmt: skip
    measurements = [
        PatchedHeads.of(
            model, trials, source, one, component, positions, heads, batch_size, over, without
        )
        for one in targets_of(target, trials)
    ]
    frame = in_order(measure(model, measurements, progress=progress, stage="patching"), trials)
    if among is not None:
        frame.attrs["skipped"] = skipped
    return frame


def _ranked_highest(
    model: Vlm,
    trials: Trial | Sequence[Trial],
    heads: Sequence[Head],
    *,
    method: str,
    source: str,
    target: str | Sequence[str] | None,
    positions: str | Sequence[int],
    progress: bool = True,
) -> tuple[list[Head], list[Head]]:
    """The ``heads`` that an estimate ranks highest, a tenth and at least 32, and the rest. Heads
    are ranked by the mean over trials of their estimates, the largest over targets and roles in
    size. One warning says how many heads were left out, and the largest estimate among them.

    Args:
        method, source, target, positions, progress: as in `attribute`.

    Raises:
        InputError, ServerError: as `attribute`.
    """
    if method not in METHODS:
        raise InputError(
            f"among is {method!r}; use {' or '.join(map(repr, METHODS))}, or leave it out"
        )
    frame = attribute(
        model, trials, method=method, source=source, target=target, positions=positions,
        heads=heads,
        progress=progress,
    )  # fmt: skip
    mean = frame.groupby(["layer", "head", "target", "role"], observed=True)["effect"].mean()
    size = mean.abs().groupby(["layer", "head"]).max()
    chosen = set(size.nlargest(max(LEAST, round(PART * len(size)))).index)
    skipped = [head for head in heads if head not in chosen]
    if skipped:
        largest = Head(*size[skipped].idxmax())
        warn(
            f"{len(skipped)} of {len(heads)} heads were not patched, since their {method} "
            f"estimates are smaller: at most {size[largest]:.3g} logits ({largest}); where "
            "attention is saturated, estimates may be too small"
        )
    return [head for head in heads if head in chosen], skipped
