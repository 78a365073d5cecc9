"""Generate the model's text about a picture, with and without edits.

The loop is Hugging Face's own ``generate``, so that every family counts positions and keeps keys
and values in its own way.

This may run on the server that holds the weights (`execute`), so edits come as tuples
(`sweep.plain`).
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from .capture import as_numbers, attention_gaps, capture, language_model, unmasked
from .measured import leaves_blind, some_positions, written
from .sweep import biased, put, put_outputs

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

# Position words that also apply to every generated token.
GO_ON = ("end", "all", "text")
# Components that replace a head's z.
OF_Z = ("z", "pattern", "value", "query", "key")


def said(
    wrapped: TransformersModel,
    head_shape,
    inputs,
    pictures,
    target,
    kept,
    front,
    variants,
    spots,
    settings,
) -> dict[str, Any]:
    """Generate greedily from one picture's prompt, once per variant.

    Args:
        head_shape: (number of heads, d_head).
        inputs: of the picture, as `prompts.encode` makes them.
        pictures: condition → ``inputs`` and what to ``keep``, as in `capture`, for the sources of
            edits.
        target: the condition of ``inputs``.
        kept: how many positions of the prompt, counted from its end, the edits may write.
        front: how many positions line up from the first, in prompts of other length.
        variants: per variant, the edits that are made together, as `sweep.plain` makes them; none
            for the model as it is.
        spots: positions as in an edit → token positions of the prompt.
        settings: for Hugging Face's ``generate``: greedy, one text, one token in each forward after
            the first.

    Returns:
        ``runs``, per variant: ``ids`` of the generated tokens; ``logits``, of each of these tokens
        and of the likeliest other, float32, (tokens, 2); ``finite``, whether all logits were;
        ``blind``, whether a position was left with nothing to attend to. And ``gaps`` of attention,
        see `attention_gaps`.
    """
    length = inputs["input_ids"].shape[1]
    shown, gaps = {}, []
    for condition, picture in pictures.items():
        start = 0 if front else max(0, picture["inputs"]["input_ids"].shape[1] - kept)
        shown[condition] = capture(wrapped, head_shape, picture["inputs"], start, picture["keep"])
        if "attention" in picture["keep"]:
            gaps += [max(attention_gaps(shown[condition]))]
    nothing = SimpleNamespace(start=length - kept, length=length, z=None, resid_pre=None)
    base, values, left_blind = shown.get(target, nothing), {}, False
    for kind in {kind for edits in variants for _, _, kind, _ in edits}:
        if kind[1] != "attention" and kind[0] not in ("own", "zero"):
            layers = {layer for edits in variants for layer, _, own, _ in edits if own == kind}
            some = some_positions(kind, [spots], length)
            values[kind] = written(shown, base, kind, sorted(layers), None, some, front)
            left_blind = left_blind or leaves_blind(shown, kind, layers, some, variants, [spots])
    runs = []
    for edits in variants:
        steps = [_changes(edits, spots, length - kept, values), _changes(edits, None, 0, values)]
        run = _run(wrapped, head_shape, inputs, steps, spots, settings)
        runs.append({**run, "blind": left_blind or run["blind"]})
    return {"runs": runs, "gaps": gaps}


def _run(wrapped, head_shape, inputs, steps, spots, settings):
    """Generate one text. ``steps``: the changes in the prompt's forward, and in the forward of
    every generated token."""
    length = inputs["input_ids"].shape[1]
    layers = sorted({layer for changes in steps for layer, _ in changes})
    with wrapped.generate(**settings) as tracer:
        with tracer.invoke(**inputs):
            seen, blind = [].save(), [].save()
            # This loop ends when the model stops generating.
            for step in tracer.iter[:]:
                changes = steps[min(step, 1)]
                for index in layers:
                    layer = language_model(wrapped).layers[index]
                    if (index, "attention") in changes:
                        # nnsight wants a layer's source accessed before anything else of that
                        # layer.
                        attention = layer.self_attn.source.attention_interface_1
                    if (index, "resid_pre") in changes:
                        arguments, options = layer.inputs
                        stream = put(arguments[0], changes[index, "resid_pre"])
                        layer.inputs = (stream, *arguments[1:]), options
                    if (index, "attention") in changes:
                        arguments, options = attention.inputs
                        module, queries, keys, cached, mask, *others = arguments
                        mask = _added(mask, queries, keys, bool(getattr(module, "is_causal", True)))
                        biases = _biases(
                            changes[index, "attention"], spots, length, step, keys.shape[2]
                        )
                        mask = biased(mask, biases, head_shape[0])
                        blind.append(bool((mask.amax(-1) <= torch.finfo(mask.dtype).min / 2).any()))
                        attention.inputs = (module, queries, keys, cached, mask, *others), options
                    if (index, "z") in changes:
                        z = layer.self_attn.o_proj.input.unflatten(-1, head_shape)
                        layer.self_attn.o_proj.input = put(z, changes[index, "z"]).flatten(-2)
                    put_outputs(layer, index, changes)
                seen.append(wrapped.output.logits[0, -1].float())
        # A second invoke, since no code of the first runs after its loop.
        with tracer.invoke():
            everything = tracer.result[0].save()
    ids = everything[length:].cpu()
    logits = torch.stack(seen).cpu()
    of_said = logits.gather(-1, ids[:, None])
    others = logits.scatter(-1, ids[:, None], -torch.inf).amax(-1, keepdim=True)
    return {
        "ids": ids,
        "logits": torch.cat([of_said, others], -1),
        "finite": bool(torch.isfinite(logits).all()),
        "blind": any(blind),
    }


def _changes(edits, spots, start, values):
    """The changes in a forward: (layer, component) → writes as `put` takes them, or attention
    edits.

    Args:
        spots: see `said`; None if the forward is of one generated token.
        start: the position at which ``values`` begin.
        values: kind → layer → the values of its edits, (1, kept, …).
    """
    changes = {}
    for layer, head, kind, positions in edits:
        source, component, factor = kind[:3]
        attention = component == "attention"
        own = attention or source in ("own", "zero")
        word = positions[0] if attention else positions
        if spots is None and not (own and word in GO_ON):
            continue
        here = [0] if spots is None else spots[word]
        one = () if head is None else (head,)
        change: tuple
        if attention:
            change = head, here, positions[1], factor
        elif own:
            change = (0, here, *one), None, 0.0 if source == "zero" else factor
        else:
            kept = [place - start for place in here]
            change = (0, here, *one), values[kind][layer][(0, kept, *one)], None
        changes.setdefault((layer, "z" if component in OF_Z else component), []).append(change)
    return changes


def _added(mask, queries, keys, causal):
    """A layer's mask as numbers to add to the scores, (1, 1, queries, keys)."""
    asked, held = queries.shape[2], keys.shape[2]
    if mask is None:
        mask = unmasked(held - asked, held, causal, queries.device)
    return as_numbers(mask[..., :held], queries.dtype)


def _biases(changes, spots, length, step, held):
    """Attention edits as `biased` takes them.

    Args:
        length: tokens of the prompt.
        step: tokens generated before this forward's logits.
        held: how many keys the layer has; a sliding window has dropped the first ones.
    """
    lost = length + step - held
    some = []
    for head, queries, word, bias in changes:
        places = [*spots[word], *(range(length, length + step) if word in GO_ON else ())]
        keys = torch.tensor([place - lost for place in places if place >= lost], dtype=torch.long)
        some.append((0, head, torch.tensor(queries), keys, bias))
    return some
