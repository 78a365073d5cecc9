"""Every picture through the model once, and every sweep of what was captured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

from .capture import attention_gaps, capture, kept_from, nudged, recombined
from .sweep import sweep

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel


def measured(wrapped: TransformersModel, head_shape, pictures, sweeps, asked, softcap, held):
    """Capture the pictures, then run every variant of every sweep.

    The pictures of one condition are a batch, one of every trial; all batches have the trials in one order.

    Args:
        head_shape: (number of heads, d_head).
        pictures: condition → its ``inputs``; the ``start`` from which it is kept; and whether to keep its
            ``inside`` (z), all to ``resume`` it, and what takes it ``apart`` into pattern and values;
            ``recurs``, its name in ``held``, or None.
        sweeps: each with its ``target`` condition; how many positions from the end change, ``kept``;
            ``variants``, edits as `sweep.plain` makes them; ``means``, one tensor per layer, (1, kept, head,
            d_head), or None; ``sources``, the conditions that edits take from; ``spots``, per trial positions
            as in an edit → token positions; and ``batch_size``, the most variants in one forward.
        asked: token ids to read, (trials, ids).
        held: name → what is known of a picture that recurs, the last that was needed last; added to.

    Returns:
        ``pictures``: condition → ``logits`` (trials, ids), the ``likeliest`` token (trials,), ``finite`` and
        ``gaps`` of attention; ``sweeps``: of each, what `sweep` returns, effects (trials, variants, ids).
    """
    captured, seen = {}, {}
    for condition, picture in pictures.items():
        kept = held.pop(picture["recurs"], None)
        if kept is None or not serves(kept, picture):
            kept = capture(
                wrapped,
                head_shape,
                picture["inputs"],
                picture["start"],
                picture["resume"],
                picture["apart"],
                picture["inside"],
            )
        if picture["recurs"]:
            held[picture["recurs"]] = kept
        seen[condition] = {
            "logits": kept.logits.gather(-1, asked.to(kept.logits.device)).cpu(),
            "likeliest": kept.logits.argmax(-1).cpu(),
            "finite": bool(torch.isfinite(kept.logits).all()),
            "gaps": attention_gaps(kept) if picture["apart"] else [],
        }
        captured[condition] = kept
    runs = list(range(len(asked)))
    done = []
    for one in sweeps:
        shown = {
            name: kept_from(captured[name], max(captured[name].start, captured[name].length - one["kept"]))
            for name in {one["target"], *one["sources"]}
        }
        target, values = shown[one["target"]], {}
        for source, component in {kind for edits in one["variants"] for _, _, kind, _ in edits}:
            edited = {
                layer
                for edits in one["variants"]
                for layer, _, kind, _ in edits
                if kind == (source, component)
            }
            made = written(shown, target, source, component, sorted(edited), one["means"])
            several = len(next(iter(made.values()))) > 1
            rows = torch.arange(len(asked)) if several else torch.zeros(len(asked), dtype=torch.long)
            values[source, component] = made, rows
        done.append(
            sweep(
                wrapped,
                head_shape,
                target,
                runs,
                one["variants"],
                values,
                one["spots"],
                asked,
                one["batch_size"],
                softcap,
            )
        )
    return {"pictures": seen, "sweeps": done}


def serves(kept, picture):
    """Whether a capture has all that is to be kept of a picture."""
    needed = {"z": picture["inside"], "entries": picture["resume"], "queries": picture["apart"]}
    return kept.start <= picture["start"] and all(getattr(kept, name) for name in needed if needed[name])


def written(shown, target, source, component, layers, means):
    """Layer → what edits of one kind write, (trials or 1, kept, head, d_head)."""
    if source == "zero":
        return {layer: torch.zeros_like(target.z[layer][:1]) for layer in layers}
    if source == "mean":
        # They come from elsewhere, and one write may hold other kinds too.
        return {layer: means[layer].to(target.z[layer].device) for layer in layers}
    if source == "rounding":
        return {layer: nudged(target.z[layer]) for layer in layers}
    if component == "z":
        return {layer: lined_up(shown[source].z[layer], target) for layer in layers}
    looking, valued = (shown[source], target) if component == "pattern" else (target, shown[source])
    return {layer: recombined(looking, valued, layer) for layer in layers}


def lined_up(z, target):
    """Another prompt's z (trials, kept, head, d_head), lined up with the target's from the end."""
    kept = target.length - target.start
    if z.shape[1] == kept:
        return z
    return pad(z[:, -kept:], (0, 0, 0, 0, max(0, kept - z.shape[1]), 0))


def summed_z(wrapped: TransformersModel, head_shape, inputs, start):
    """Z summed over pictures; one tensor per layer, (1, kept, head, d_head)."""
    captured = capture(wrapped, head_shape, inputs, start, False, False)
    return [z.sum(0, keepdim=True, dtype=torch.float32).cpu() for z in captured.z]
