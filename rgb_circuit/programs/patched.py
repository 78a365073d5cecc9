"""Captured pictures, and every variant of every target run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .capture import attention_gaps, capture, nudged, recombined
from .sweep import sweep

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel


def patched_logits(
    wrapped: TransformersModel,
    heads,
    inputs,
    start,
    variants,
    runs,
    sources,
    means,
    spots,
    asked,
    answers,
    batch_size,
    softcap,
):
    """Capture the pictures, then every variant of every target run.

    Args:
        heads: (number of heads, d_head).
        variants: edits as `sweep.plain` makes them.
        runs: the target runs, as rows of ``inputs``; ``sources``: condition → the row of each run's source
            picture.
        means: one tensor per layer, (targets, kept, head, d_head), or None; runs go through the targets in
            turn.
        spots: per run, positions as in an edit → token positions.
        asked, answers: token ids to read per picture and per run, (pictures, answers) and (runs, answers).

    Returns:
        Logits of ``unpatched`` (pictures, answers); ``effects`` (runs, variants, answers), ``drift`` and
        ``finite`` as `sweep` has them; ``gaps`` of attention.
    """
    kinds = {kind for edits in variants for _, _, kind, _ in edits}
    apart = any(component != "z" for _, component in kinds)
    captured = capture(wrapped, heads, inputs, start, True, apart)
    runs_row = torch.tensor(runs)
    values = {}
    for source, component in kinds:
        edited = sorted(
            {layer for edits in variants for layer, _, kind, _ in edits if kind == (source, component)}
        )
        in_turn = torch.arange(len(runs))
        if source == "zero":
            values[source, component] = (
                {layer: torch.zeros_like(captured.z[layer][:1]) for layer in edited},
                in_turn * 0,
            )
        elif source == "mean":
            values[source, component] = means, in_turn % len(means[0])
        elif source == "rounding":
            values[source, component] = {layer: nudged(captured.z[layer]) for layer in edited}, runs_row
        elif component == "z":
            values[source, component] = captured.z, torch.tensor(sources[source])
        else:
            of_source = torch.tensor(sources[source])
            pattern_of, values_of = (of_source, runs_row) if component == "pattern" else (runs_row, of_source)
            made = {layer: recombined(captured, layer, pattern_of, values_of) for layer in edited}
            values[source, component] = made, in_turn
    done = sweep(wrapped, heads, captured, runs, variants, values, spots, answers, batch_size, softcap)
    return {
        "unpatched": captured.logits.gather(-1, asked.to(captured.logits.device)).cpu(),
        "effects": done["effects"],
        "drift": done["drift"],
        "finite": done["finite"] and bool(torch.isfinite(captured.logits).all()),
        "gaps": attention_gaps(captured) if apart else [],
    }


def summed_z(wrapped: TransformersModel, heads, inputs, start, n_targets):
    """Z summed over trials, whose targets come in turn; one tensor per layer, (targets, kept, head,
    d_head)."""
    captured = capture(wrapped, heads, inputs, start, False, False)
    return [z.unflatten(0, (-1, n_targets)).sum(0, dtype=torch.float32).cpu() for z in captured.z]
