"""Direct paths: a head's z if its query, keys or values saw some senders' outputs of another run,
with everything in between held.

1. The change that a sender makes to the residual stream is the difference of two outputs of its
   layer, with and without the sender's z or MLP output replaced by the source's. The layer is
   handed a stream of zeros and the target's z; its MLP puts out zeros, or the target's output if an
   MLP sends. So anything that a family does to a block's output happens here too.
2. Direct paths run along the residual stream alone. The stream that enters the receiver's layer is
   the target's, plus the senders' changes.
3. From that stream, the receiver's layer makes its queries, keys and values. One of these, with the
   target's other two, makes z at [end] (`capture.recombined`); writing that z is an edit like any
   other (`sweep`).

All of it is one forward, in which every layer is handed only the rows that begin or end there; a
row into queries is one position, [end]. The first row is the target's own stream, through a layer
that adds nothing. It must come out unchanged, and give the target's own queries, keys and values:
this check finds families in which a path is something else.

This may run on the server that holds the weights (`execute`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

from .capture import apart, first_of, handed, kept_from, language_model, recombined, with_first

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

    from ..edits import Sender

    # The source condition, and the senders.
    Path = tuple[str, tuple[Sender, ...]]


def paths(
    wrapped: TransformersModel,
    head_shape: tuple[int, int],
    captured: Mapping[str, SimpleNamespace],
    target: str,
    asked: Mapping[tuple, Sequence[int]],
    size: int,
) -> tuple[dict, float]:
    """The z of receivers, with the paths of each kind of edit.

    Args:
        head_shape: (number of heads, d_head).
        captured: condition → its captured pictures, one per trial; if paths end in keys or values,
            kept from the first position on.
        target: the condition that is patched.
        asked: (source, "path", (into, senders)) → the receivers' layers.
        size: the most rows that a layer is handed at once if paths end in keys or values.

    Returns:
        kind → layer → z at [end], (trials, 1, head, d_head); and the largest error of the first
        rows, as a fraction of the largest number there.
    """
    made, gap = {kind: {} for kind in asked}, 0.0
    for everywhere in (False, True):
        receivers = {}
        for (source, _, (into, senders)), layers in asked.items():
            if (into != "query") == everywhere:
                receivers.setdefault((source, senders), {})[into] = layers
        if not receivers:
            continue
        shown = {name: captured[name] for name in {target, *(source for source, _ in receivers)}}
        if not everywhere:
            shown = {name: kept_from(one, one.length - 1) for name, one in shown.items()}
        rows = max(1, size // len(shown[target].z[0]) - 2) if everywhere else len(receivers)
        order = list(receivers)
        for begin in range(0, len(order), rows):
            batch = {path: receivers[path] for path in order[begin : begin + rows]}
            ends, batch_gap = _walked(wrapped, head_shape, shown, target, batch)
            for (source, senders), into, layer, z in ends:
                made[source, "path", (into, senders)][layer] = z
            gap = max(gap, batch_gap)
    return made, gap


def _walked(wrapped, head_shape, shown, target, wanted):
    """Walk some paths through the layers.

    Args:
        shown: condition → the pictures, kept at the positions of the paths.
        wanted: path → "query", "key" or "value" → the receivers' layers.

    Returns:
        (path, "query", "key" or "value", layer, z) of each; and the largest gap, as in `paths`.
    """
    target_run, n = shown[target], len(shown[target].z[0])
    end = kept_from(target_run, target_run.length - 1)
    last = max(layer for ends in wanted.values() for layers in ends.values() for layer in layers)
    begins = {path: _by_layer(path[1]) for path in wanted}
    first = min(layer for layers in begins.values() for layer in layers)
    entry = target_run.resid_pre[first][:1, -1:]
    with wrapped.trace(
        inputs_embeds=entry, position_ids=torch.zeros(1, 1, dtype=torch.long, device=entry.device),
        use_cache=False, logits_to_keep=1,
    ):  # fmt: skip
        receiver_z, gaps = [], []
        # Path → its change of the residual stream so far, (trials, positions, width).
        moved = {}
        for path in wanted:
            moved[path] = torch.zeros_like(target_run.resid_pre[0], dtype=torch.float32)
            if "embedding" in path[1]:
                moved[path] += shown[path[0]].resid_pre[0].float() - target_run.resid_pre[0].float()
        for index, layer in enumerate(language_model(wrapped).layers):
            if not first <= index <= last:
                layer.skip(entry)
                continue
            attention = layer.self_attn.source.attention_interface_1
            starting = [path for path in wanted if begins[path].get(index)]
            ending = [
                path for path in wanted if any(index in layers for layers in wanted[path].values())
            ]
            # Where no path begins or ends, one position is enough to check the stream.
            here = target_run if starting or ending else end
            stream = here.resid_pre[index]
            # Blocks of rows, one row per trial: the target's own; the zero streams, without and
            # with each sender here replaced; and the streams of paths that end here.
            silent = [torch.zeros_like(stream)] * (len(starting) + bool(starting))
            reached = [(stream + moved[path].to(stream.device)).to(stream) for path in ending]
            blocks = torch.cat([stream, *silent, *reached])
            picked = torch.arange(n).repeat(len(blocks) // n)
            arguments, options = layer.inputs
            beside = handed(here, index, picked)
            layer.inputs = (blocks.to(arguments[0]), *arguments[1:]), {**options, **beside}
            arguments, options = attention.inputs
            module, queries, keys, values, _, *others = arguments
            gaps.append(apart(queries[:n], here.queries[index]))
            gaps.append(apart(keys[:n], here.keys[index][:, :, here.start :]))
            gaps.append(apart(values[:n], here.values[index][:, :, here.start :]))
            for number, path in enumerate(ending, start=1 + len(silent)):
                rows = slice(number * n, (number + 1) * n)
                parts = {"query": queries[rows], "key": keys[rows], "value": values[rows]}
                for into, layers in wanted[path].items():
                    if index in layers:
                        receiver_z.append((path, into, index, _seen(end, index, into, parts[into])))
            # Attention's output is not read: z is written below.
            attention.inputs = (module, queries[:, :, -1:], keys, values, None, *others), options
            z, *weights = attention.output
            attention.output = (pad(z, (0, 0, 0, 0, stream.shape[1] - 1, 0)), *weights)
            z, mlp_out = _given(shown, here, index, starting, begins, len(blocks))
            layer.self_attn.o_proj.input = z.to(stream).flatten(-2)
            output, *weights = layer.self_attn.output
            output = output.clone()
            output[:n] = 0
            layer.self_attn.output = (output, *weights)
            # The MLP's output for these rows is not read either: it is written below.
            arguments, options = layer.mlp.inputs
            first_alone = tuple(part if part is None else part[:, :1] for part in arguments)
            layer.mlp.inputs = first_alone, options
            output = layer.mlp.output
            layer.mlp.output = with_first(output, mlp_out.to(first_of(output)))
            left = layer.output
            gaps.append(apart(left[:n], stream))
            left = left[n:].float()
            for number, path in enumerate(starting, start=1):
                moved[path] = moved[path].to(left) + left[number * n : (number + 1) * n] - left[:n]
            for path in wanted:
                # Additions between layers (such as a picture's) belong to the embedding.
                if "embedding" in path[1]:
                    for added, sign in (
                        (shown[path[0]].added[index], 1),
                        (target_run.added[index], -1),
                    ):
                        if added is not None:
                            moved[path] = moved[path].to(added.device) + sign * added.float()
            if index == last:
                layer.output = entry.to(left.device)
        receiver_z.save(), gaps.save()
    return receiver_z, max(gaps)


def _by_layer(senders):
    """Layer → its senders, head numbers and ``"mlp"``; ``"embedding"`` begins at layer 0."""
    layers = {}
    for sender in senders:
        if sender == "embedding":
            layers.setdefault(0, [])
        elif sender[0] == "mlp":
            layers.setdefault(sender[1], []).append("mlp")
        else:
            layers.setdefault(sender[0], []).append(sender[1])
    return layers


def _seen(end, layer, into, part):
    """Z at [end] with one part replaced."""
    name = {"query": "queries", "key": "keys", "value": "values"}[into]
    mixed = SimpleNamespace(**{**vars(end), name: {layer: part}})
    return recombined(end, layer, **{name: mixed})  # type: ignore[arg-type]


def _given(shown, own, layer, starting, begins, rows):
    """The input for o_proj, (rows, positions, head, d_head), and the output for the MLP, (rows,
    positions, width)."""
    n = len(own.z[layer])
    z = own.z[layer].repeat(rows // n, 1, 1, 1)
    mlp_out = torch.zeros_like(own.resid_pre[layer]).repeat(rows // n, 1, 1)
    if any("mlp" in begins[path][layer] for path in starting):
        mlp_out[n : (2 + len(starting)) * n] = own.mlp_out[layer].repeat(1 + len(starting), 1, 1)
    for number, path in enumerate(starting, start=2):
        other, here = shown[path[0]], slice(number * n, (number + 1) * n)
        for sender in begins[path][layer]:
            if sender == "mlp":
                mlp_out[here] = other.mlp_out[layer].to(mlp_out)
            else:
                z[here, :, sender] = other.z[layer][:, :, sender].to(z)
    return z, mlp_out
