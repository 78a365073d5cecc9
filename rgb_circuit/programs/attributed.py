"""Gradient estimates of what each head's z does to the answers; see `rgb_circuit.attribute`.

1. Capture the source's z, and for each target run all that a forward needs to go on.
2. Run on from the target's residual stream with gradients, some layers at a time, the last ones
   first: the layers above have given the gradient at the stream that leaves these layers.
3. At every layer multiply the gradient at z by (source z - target z), and add up over d_head and
   positions.

With integrated gradients, step 2 runs several times, from embeddings between those of the two runs,
and the estimates are averaged.

Gradients are taken tensor by tensor (`torch.autograd.grad`), so that no parameter gets one,
whatever its ``requires_grad``. Step 2 starts after the vision tower, of which nothing is held.

This may run on the server that holds the weights (`execute`).
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from .capture import as_captured, capture, counted, language_model
from .measured import lined_up
from .pooled import pooled

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel


def attributed(
    wrapped: TransformersModel,
    head_shape: tuple[int, int],
    source: dict | None,
    targets: dict[str, dict],
    steps: int,
    layers_at_once: int,
) -> dict:
    """Estimated effects on the answers' logits of restoring each head alone in each target.

    The pictures of one condition are a batch, one per trial; all batches have the trials in one
    order.

    Args:
        head_shape: (number of heads, d_head).
        source: its ``inputs``, and the ``start`` from which it is kept; None to restore zeros.
        targets: condition → the same, and ``groups``, 1 where a kept position belongs to a group,
            (trials, groups, kept); token ids to read, ``asked``, as in `pooled`, (trials, answers,
            words); and ``front``, as in `lined_up`.
        steps: 0 for the gradient in the target run; else how many runs between it and the source's
            the gradient is averaged over.
        layers_at_once: the most layers whose inside is held for their gradients.

    Returns:
        Target → ``gradients``, False if none come back, and then nothing else (in NDIF's sandbox
        the layers run in another process); ``estimates``, float32 on the CPU, (trials, groups,
        layers, heads, answers); ``source_logits`` (None without a source) and ``target_logits``,
        (trials, answers); ``finite``; ``drift``, the distance between the logits of a captured run
        and of the same run resumed, as a fraction of the largest logit.
    """
    source_run, results = None, {}
    if source is not None:
        # Interpolation needs the embeddings of both runs.
        keep = ("resume",) if steps else ("z",)
        source_run = capture(wrapped, head_shape, source["inputs"], source["start"], keep)
    for condition, picture in targets.items():
        target = capture(wrapped, head_shape, picture["inputs"], picture["start"], ("resume",))
        changes = [-z for z in target.z]
        if source_run is not None:
            changes = [
                lined_up(z, target, picture["front"]).to(change) + change
                for z, change in zip(source_run.z, changes)
            ]
        result: dict[str, Any] = {"gradients": True, "source_logits": None, "drift": 0.0}
        for name, seen in (("source_logits", source_run), ("target_logits", target)):
            if seen is not None:
                result[name] = pooled(seen.logits, picture["asked"]).cpu()
        total, finite = 0.0, bool(torch.isfinite(target.logits).all())
        for step in range(max(1, steps)):
            # The middle of each of `steps` equal parts of the way.
            run = (
                target
                if source_run is None or not steps
                else between(target, source_run, (step + 0.5) / steps)
            )
            estimate = estimated(
                wrapped, run, changes, picture["groups"], picture["asked"], layers_at_once
            )
            if not estimate["gradients"]:
                return {condition: estimate}
            total = total + estimate["estimates"] / max(1, steps)
            finite = finite and bool(torch.isfinite(estimate["logits"]).all())
            if not steps:
                gap = (estimate["logits"] - result["target_logits"]).abs().max()
                result["drift"] = float(gap / target.logits.abs().max().clamp_min(1e-30))
        result["finite"] = finite and (
            source_run is None or bool(torch.isfinite(source_run.logits).all())
        )
        result["estimates"] = total
        results[condition] = result
    return results


def between(target: SimpleNamespace, source: SimpleNamespace, fraction: float) -> SimpleNamespace:
    """The target's captured run with its embeddings part of the way to the source's. Its residual
    streams above the first layer are unknown, and left out."""
    first = mixed(target.resid_pre[0], source.resid_pre[0], fraction)
    added = [mixed(own, other, fraction) for own, other in zip(target.added, source.added)]
    return SimpleNamespace(**{**vars(target), "resid_pre": [first], "added": added})


def mixed(own, other, fraction) -> torch.Tensor | None:
    """A tensor that lies a fraction of the way from one to another; None is zero."""
    weighed = ((1 - fraction, own), (fraction, other))
    parts = [weight * part for weight, part in weighed if part is not None]
    return sum(parts) if parts else None


def estimated(wrapped, run, changes, groups, asked, layers_at_once) -> dict[str, Any]:
    """``estimates`` from one run's gradients, (trials, groups, layers, heads, answers), and its
    ``logits``.

    Args:
        run: a capture that can be resumed.
        changes: the change of z, per layer (trials, kept, head, d_head).
        groups, asked: as in `attributed`.
    """
    firsts = list(range(0, len(run.z), layers_at_once))
    entries = dict(enumerate(run.resid_pre))
    if len(entries) < len(firsts):
        entries = entered(wrapped, run, firsts)
    layers, above, logits = [], None, None
    for first in reversed(firsts):
        last = min(first + layers_at_once, len(run.z))
        piece = backwards(wrapped, run, changes, groups, asked, entries[first], first, last, above)
        if not piece["gradients"]:
            return piece
        layers = piece["layers"] + layers
        above = piece["entry"]
        logits = piece["logits"] if logits is None else logits
    return {"gradients": True, "estimates": torch.stack(layers, 2), "logits": logits}


def entered(wrapped, run, layers) -> dict[int, torch.Tensor]:
    """Layer → the residual stream that enters it, run on from the one that enters layer 0."""
    entry = run.resid_pre[0]
    with wrapped.trace(
        inputs_embeds=entry, position_ids=counted(entry), use_cache=False, logits_to_keep=1
    ):
        streams = {}
        for index, layer in enumerate(language_model(wrapped).layers):
            stream = as_captured(layer, run, index, entry if index == 0 else None)
            if index in layers:
                streams[index] = stream
            if run.added[index] is not None:
                layer.output = layer.output + run.added[index]
        streams.save()
    return streams


def backwards(wrapped, run, changes, groups, asked, entry, first, last, above) -> dict[str, Any]:
    """One run from layer ``first`` to before ``last``, with gradients.

    Args:
        entry: the residual stream that enters the first of them.
        above: gradients of the answers' logits at the residual stream that enters layer ``last``,
            (answers, trials, kept, width); None if there is no such layer.

    Returns:
        ``gradients``, whether any came back; ``layers``, each layer's estimates, (trials, groups,
        heads, answers), float32 on the CPU; ``entry``, the ``above`` for the layers below;
        ``logits``, (trials, answers).
    """
    with torch.enable_grad():
        entry = entry.detach().clone().requires_grad_()
        with wrapped.trace(
            inputs_embeds=entry, position_ids=counted(entry), use_cache=False, logits_to_keep=1
        ):
            inside, left = [], None
            for index, layer in enumerate(language_model(wrapped).layers):
                if not first <= index < last:
                    layer.skip(entry)
                    continue
                as_captured(layer, run, index, entry if index == first else None)
                inside.append(layer.self_attn.o_proj.input)
                left = layer.output
                if run.added[index] is not None and index + 1 < last:
                    layer.output = left + run.added[index]
            logits = wrapped.output.logits[:, -1].float()
            logits = pooled(logits, asked)
            gradients = graded(logits if above is None else left, [entry, *inside], above)
            logits = logits.detach().cpu().save()
            gradients.save()
    if not gradients:
        return {"gradients": False}
    layers = []
    for layer, gradient in enumerate(gradients[1:], start=first):
        # Added up in float32, whatever the model's own format.
        products = (
            gradient.float().unflatten(-1, changes[layer].shape[-2:]) * changes[layer].float()
        )
        products = products.sum(-1)
        layers.append((groups.to(products) @ products).permute(1, 2, 3, 0).cpu())
    return {"gradients": True, "layers": layers, "entry": gradients[0], "logits": logits}


def graded(left, inside, above) -> list[torch.Tensor]:
    """Gradients of each answer at some tensors, (answers, …) each; empty if none come back.

    Args:
        left: the answers' logits, (trials, answers), or with ``above`` the residual stream that
            leaves.
    """
    if not left.requires_grad:
        return []
    outputs = [(left[:, column].sum(), None) for column in range(left.shape[1])]
    if above is not None:
        outputs = [(left, one) for one in above]
    each = []
    for number, (output, upstream) in enumerate(outputs, start=1):
        retain = number < len(outputs)
        each.append(
            torch.autograd.grad(output, inside, upstream, retain_graph=retain, allow_unused=True)
        )
        # Tensors copied from another process are not part of the graph.
        if any(one is None for one in each[-1]):
            return []
    return [torch.stack(of_one) for of_one in zip(*each)]
