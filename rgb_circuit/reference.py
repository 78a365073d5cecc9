"""The obvious way: one full forward per patched run, each with its pictures.

Slow, and here only so that `sweep` has something to agree with.
"""

from collections.abc import Mapping, Sequence

import torch

from .edits import Edit
from .prompts import encode, locate
from .trial import Trial
from .vlm import Vlm


@torch.no_grad()
def patched_logits(
    model: Vlm, trial: Trial, target: str, edits: Sequence[Edit], trials: Sequence[Trial] = ()
) -> torch.Tensor:
    """Logits at [end] of the ``target`` run of ``trial`` with ``edits`` made, (vocabulary,).

    Args:
        trials: whose target runs a ``"mean"`` edit is the mean of.
    """
    inputs = encode(model, [(trial, target)])
    writes: dict[int, list] = {}
    for edit in edits:
        places = locate(model, trial, edit.positions, inputs["input_ids"][0])
        writes.setdefault(edit.layer, []).append(
            (edit.head, places, _restored(model, trial, target, edit, trials)[places])
        )
    return patched_forward(model, inputs, writes)


@torch.no_grad()
def patched_forward(
    model: Vlm,
    inputs: Mapping[str, torch.Tensor],
    writes: Mapping[int, Sequence[tuple[int, list[int], torch.Tensor]]],
) -> torch.Tensor:
    """Logits at [end] of one full forward, (vocabulary,).

    Args:
        inputs: one picture's, as `prompts.encode` makes them.
        writes: layer → (head, positions, z vectors (positions, d_head)) that are put in place.
    """
    layers, heads = model.layers, (model.n_heads, model.d_head)
    with model.nnsight.trace(**inputs, logits_to_keep=1):
        for index, layer in enumerate(layers):
            if index in writes:
                z = layer.self_attn.o_proj.input.unflatten(-1, heads).clone()
                for head, places, value in writes[index]:
                    z[0, places, head] = value
                layer.self_attn.o_proj.input = z.flatten(-2)
        logits = model.nnsight.output.logits[0, -1].float().save()
    return logits


def _restored(model, trial, target, edit, trials):
    """The edited head's new z at every position, (positions, d_head)."""
    z, pattern, values = _head(model, trial, target, edit)
    if edit.source == "zero":
        return torch.zeros_like(z)
    if edit.source == "mean":
        # Prompts of different length are lined up at [end].
        every = [_head(model, one, target, edit)[0] for one in trials]
        shortest = min(map(len, every))
        return torch.cat([z[:-shortest], torch.stack([one[-shortest:] for one in every]).mean(0)])
    source_z, source_pattern, source_values = _head(model, trial, edit.source, edit)
    return {"z": source_z, "pattern": source_pattern @ values, "value": pattern @ source_values}[
        edit.component
    ]


def _head(model, trial, condition, edit):
    """One head of one unpatched run: z (positions, d_head), pattern (positions, positions), values
    (positions, d_head)."""
    layer = model.layers[edit.layer]
    with model.nnsight.trace(**encode(model, [(trial, condition)])):
        attention = layer.self_attn.source.attention_interface_1
        arguments, options = attention.inputs
        queries, keys, values = (tensor[0].save() for tensor in arguments[1:4])
        scaling = options["scaling"].save()
        z = layer.self_attn.o_proj.input[0].unflatten(-1, (model.n_heads, model.d_head)).save()
    group = edit.head // (model.n_heads // model.n_kv_heads)
    scores = queries[edit.head] @ keys[group].T * scaling
    pattern = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf).softmax(-1)
    return z[:, edit.head], pattern, values[group]
