"""Many patched runs for the price of a few: the engine behind `patch_heads` and `patch_edits`.

Every edit replaces the output of a head or layer at some positions (`edits.Edit`) by a value that
was captured before (`capture`), or adds to attention scores (`edits.AttentionEdit`). A patched run
thus differs from its target run only from the first edited position and layer on.

1. Positions before ``start``, the first that any edit touches, are not run again: causal attention
   leaves them as in the target run, so that run's keys and values serve every variant. Every layer
   is handed its inputs of that run (rotary angles, mask rows, those keys and values, what the model
   adds after the layer), so that no cache class and no family's way of counting positions matters.
2. Layers below the first edited one are skipped: their output is the target run's residual stream.
3. Edits at [end] only: the variants of a target run are copies of its last token, side by side in
   one sequence, all at the same position. A mask lets each copy see itself and the part of the
   shared prefix that [end] saw (speculative decoding calls this tree attention). Each copy joins at
   its first edited layer: below, it would equal the target run. One forward over 1,024 tokens
   patches 1,024 heads.
4. Any other positions: the variants are rows of a batch that run on from ``start``, each joining at
   its first edited layer. Attention is not run again where a joining row's z is known, and in the
   last layer only at [end].
5. Unedited runs go along: at [end] the first and the last copy of every forward, at other positions
   one row per target run. An unedited run must end where the target run did. Effects are counted
   from it, so that rounding that differs from the captured run is in both, and cancels.
6. A copy at [end] branches off the first copy's stream where it joins, so below they round alike.
   Above, each copy rounds in its own way, and so would a single baseline. In half precision,
   effects are therefore counted from the mean of the first copy and of several that are moved by
   rounding where the variant joins (`unedited_copies`). A variant that writes only the target run's
   own numbers differs from these by rounding alone, so in half precision its effect is 0 (`idle`).
7. An effect is ``lm_head`` of the difference between two final, normed states. Differences of
   logits would be multiples of their own rounding step, in bfloat16 0.06 where a logit is 8 to 16.

Equal to a forward per variant up to rounding; `reference` is that loop.

This may run on the server that holds the weights (`execute`), so edits come as tuples: (layer,
head, kind, positions). Kind is (source, component, scale), and positions are as in an `Edit`; an
edit with ``over`` or ``without`` appends (``"over"`` or ``"without"``, positions) to its kind. For
an `AttentionEdit`, kind is (source, "attention", bias), and positions are (queries, keys). For a
`PathEdit`, kind is (source, "path", (into, senders)).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

from .capture import (
    allowed,
    behind,
    by_place,
    counted,
    first_of,
    handed,
    language_model,
    nudged,
    with_first,
)

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

    from ..edits import AnyEdit, Positions, Sender

    Kind = (
        tuple[str, str, float | tuple[str, tuple[Sender, ...]]]
        | tuple[str, str, float, tuple[str, Positions]]
    )
    Plain = tuple[int, int | None, Kind, Positions | tuple[Positions, Positions]]
    # Kind → (layer → values to write, (rows, kept, …); each target run's row of these, (runs,)).
    Values = Mapping[Kind, tuple[Mapping[int, torch.Tensor] | Sequence[torch.Tensor], torch.Tensor]]


def plain(variants: Sequence[Sequence[AnyEdit]]) -> list[list[Plain]]:
    """Edits as the tuples that `sweep` takes."""
    return [[_plain(edit) for edit in edits] for edits in variants]


def _plain(edit):
    if edit.component == "path":
        return (
            edit.layer,
            edit.head,
            (edit.source, edit.component, (edit.into, edit.senders)),
            edit.positions,
        )
    if edit.component == "attention":
        return (
            edit.layer,
            edit.head,
            (edit.source, edit.component, edit.bias),
            (edit.queries, edit.keys),
        )
    kind = edit.source, edit.component, edit.scale
    extras = [
        (name, words) for name in ("over", "without") if (words := getattr(edit, name)) is not None
    ]
    return edit.layer, edit.head, (*kind, *extras), edit.positions


def sweep(
    wrapped: TransformersModel,
    head_shape: tuple[int, int],
    captured: SimpleNamespace,
    runs: Sequence[int],
    variants: Sequence[Sequence[Plain]],
    values: Values,
    spots: Sequence[Mapping[str | tuple[int, ...], Sequence[int]]],
    answers: torch.Tensor,
    batch_size: int,
    softcap: float | None = None,
    advance: Callable[[float], None] | None = None,
) -> dict:
    """The effects of every variant of every target run on the answers' logits.

    Args:
        head_shape: (number of heads, d_head).
        captured: the target runs, captured to ``"resume"``.
        runs: the target runs, as indices into the captured batch.
        variants: per variant, the edits that are made together.
        values: what edits of each kind write.
        spots: per target run, positions as in an edit → token positions.
        answers: token ids to read at [end], (runs, answers).
        batch_size: the most variants (of all target runs together) in one forward.
        softcap: set if a logit is softcap · tanh(lm_head's output / softcap), as in Gemma 2.
        advance: called after each forward with the share of the variants that it ran.

    Returns:
        ``effects`` on the answers' logits, float32 on the CPU, (runs, variants, answers);
        ``drift``, the largest effect of an unedited run, as a fraction of the largest logit;
        ``finite``, whether every final state was; ``blind``, whether a position was left with
        nothing to attend to.
    """
    effects = torch.empty(len(runs), len(variants), answers.shape[1])
    drift, finite, blind = 0.0, True, False
    first_layer = [min(layer for layer, _, _, _ in edits) for edits in variants]
    order = sorted(range(len(variants)), key=first_layer.__getitem__)
    if captured.start == captured.length - 1:
        size = max(1, batch_size // len(runs))
        for begin in range(0, len(order), size):
            chosen = order[begin : begin + size]
            chosen_edits = [variants[index] for index in chosen]
            batch_effects, unedited, good, none_left = _side_by_side(
                wrapped, head_shape, captured, runs, chosen_edits, values, spots, answers, softcap
            )
            effects[:, chosen] = batch_effects
            drift, finite, blind = max(drift, unedited), finite and good, blind or none_left
            if advance:
                advance(len(chosen) / len(variants))
    else:
        # Ordered by first edited layer, so that every run's first row is among the first to join.
        rows = [(run, index) for index in order for run in range(len(runs))]
        # Target run → final state of its unedited run.
        baselines = {}
        while rows:
            new = [
                run
                for run in dict.fromkeys(run for run, _ in rows[:batch_size])
                if run not in baselines
            ]
            batch = rows[: max(1, batch_size - len(new))]
            new = [run for run in new if run in {run for run, _ in batch}]
            rows = rows[len(batch) :]
            edited = [(run, variants[index]) for run, index in batch]
            batch_effects, unedited, good, none_left = _as_batch(
                wrapped,
                head_shape,
                captured,
                runs,
                edited,
                new,
                baselines,
                values,
                spots,
                answers,
                softcap,
            )
            effects[[run for run, _ in batch], [index for _, index in batch]] = batch_effects
            drift, finite, blind = max(drift, unedited), finite and good, blind or none_left
            if advance:
                advance(len(batch) / len(runs) / len(variants))
    if captured.z[0].dtype != torch.float32:
        effects[idle(captured, runs, variants, values, spots)] = 0.0
    return {
        "effects": effects,
        "drift": drift / float(captured.logits.abs().max().clamp_min(1e-30)),
        "finite": finite,
        "blind": blind,
    }


def idle(captured, runs, variants, values, spots) -> torch.Tensor:
    """Whether a variant writes only what its target run has there, to the last bit, (runs,
    variants)."""
    # (kind, layer, positions) → per target run, whether the values of all heads there are its own.
    unchanged: dict = {}
    for kind, layer, component, positions in {
        (edit[2], edit[0], "z" if edit[1] is not None else edit[2][1], edit[3])
        for edits in variants
        for edit in edits
        if edit[2] in values
    }:
        made, row = values[kind]
        kept = getattr(captured, component)
        # A component that the target run did not keep comes from another run.
        if kept:
            same = (made[layer][row] == kept[layer][runs].to(made[layer])).all(-1).cpu()
            unchanged[kind, layer, positions] = [
                same[run, torch.tensor(spots[run][positions]) - captured.start].all(0).tolist()
                for run in range(len(runs))
            ]

    def leaves(run, edit):
        layer, head, kind, positions = edit
        if kind not in values:
            return kind[1] == "attention" and kind[2] == 0
        if (kind, layer, positions) not in unchanged:
            return False
        same = unchanged[kind, layer, positions][run]
        return same if head is None else same[head]

    return torch.tensor(
        [
            [all(leaves(run, edit) for edit in edits) for edits in variants]
            for run in range(len(runs))
        ]
    )


def _side_by_side(wrapped, head_shape, captured, runs, variants, values, spots, answers, softcap):
    """All variants at [end] as copies of the last token, between two unedited copies.

    Args:
        variants: ordered by their first edited layers.

    Returns:
        Effects (runs, variants, answers), the largest effect of the unedited copies, whether all
        states were finite, and whether a copy was left with nothing to attend to.
    """
    enters = [min(layer for layer, _, _, _ in edits) for edits in variants]
    nudges, made = _nudges(captured, runs, sorted(set(enters)))
    # A stable sort: the copies moved by rounding stay before the variants of their layer.
    joined = [*((edits[0][0], True, edits) for edits in nudges)]
    joined += [(layer, False, edits) for layer, edits in zip(enters, variants)]
    joined.sort(key=lambda copy: copy[0])
    layers, is_nudge = (torch.tensor(column) for column in list(zip(*joined))[:2])
    first = joined[0][0]
    copies, prefix, n_runs = len(joined) + 2, captured.start, len(runs)
    active = {layer: 2 + int((layers <= layer).sum()) for layer in range(first, len(captured.z))}
    every_run, picked = torch.arange(n_runs), torch.tensor(runs)
    like = captured.resid_pre[first]
    lowest = torch.finfo(like.dtype).min
    itself = torch.full(
        (copies, copies), lowest, dtype=like.dtype, device=like.device
    ).fill_diagonal_(0)

    def seen(layer):
        # Numbers to add to the scores: eager attention would add Booleans as zeros and ones.
        before = allowed(captured, layer, picked)[..., :prefix].expand(n_runs, -1, copies, -1)
        return torch.cat([before, itself.to(before).expand(n_runs, 1, -1, -1)], -1)

    written, biases = {}, {}
    # (layer, whether a head of it, kind) → (copy, head) pairs.
    places: dict = {}
    for copy, (_, _, edits) in enumerate(joined, start=1):
        for layer, head, kind, positions in edits:
            if kind[1] != "attention":
                places.setdefault((layer, head is not None, kind), []).append((copy, head or 0))
                continue
            for run in range(n_runs):
                keys = torch.tensor(spots[run][positions[1]])
                # A copy sees only its own last position.
                keys[keys == prefix] += copy
                biases.setdefault(layer, []).append(
                    (run, head, torch.tensor([copy]), keys, kind[2])
                )
    for (layer, of_head, kind), pairs in places.items():
        copy_of, head_of = torch.tensor(pairs).repeat_interleave(n_runs, dim=0).T
        run_of = every_run.repeat(len(pairs))
        heads = head_of if of_head else None
        _note(written, layer, heads, kind, (run_of, copy_of, torch.zeros_like(run_of), run_of))

    # The first and the last copy are compared with the captured run, all others with the first.
    base = (every_run * copies)[:, None].repeat(1, copies)
    base[:, 0] = base[:, -1] = n_runs * copies + every_run
    effects, _, finite, blind = _forward(
        wrapped,
        head_shape,
        _writes(written, {**values, **made}),
        first,
        active,
        side_by_side=True,
        known=captured.normed[runs],
        base=base.flatten(),
        answers=answers.repeat_interleave(copies, dim=0),
        captured=captured,
        picked=picked,
        masks=_by_layer(captured, first, seen, biases),
        biases=biases,
        softcap=softcap,
    )
    effects = effects.unflatten(0, (n_runs, copies))
    drift = float(effects[:, [0, -1]].abs().max())
    effects = _from_the_mean(effects[:, 1:-1], layers, is_nudge)
    return effects[:, ~is_nudge], drift, finite, blind


def _from_the_mean(effects, layers, is_nudge):
    """Effects (runs, copies, answers), recounted from the mean of the first copy and of the copies
    moved by rounding in the same layer; they come counted from the first copy. ``layers``: where
    each copy joins, (copies,)."""
    effects = effects.clone()
    for layer in layers.unique() if is_nudge.any() else ():
        in_layer = layers == layer
        nudges = effects[:, in_layer & is_nudge]
        effects[:, in_layer] -= nudges.sum(1, keepdim=True) / (1 + nudges.shape[1])
    return effects


def unedited_copies(dtype) -> int:
    """How many copies at [end] make the baseline of a variant: the first copy, and in half
    precision some that are moved by rounding."""
    return 1 if dtype == torch.float32 else 3


def _nudges(captured, runs, layers):
    """Variants that move all heads of a layer by rounding, each in its own way, for each of the
    layers; and the values that they write."""
    z = captured.z[0]
    rows, heads = torch.tensor(runs), range(z.shape[-2])
    # No condition is called None.
    kinds = [(None, "z", number) for number in range(unedited_copies(z.dtype) - 1)]
    variants = [
        [(layer, head, kind, "end") for head in heads] for layer in layers for kind in kinds
    ]
    made = {}
    for kind in kinds:
        # In pairs that move every number up and down, so that in the mean only rounding remains.
        up = by_place(z, kind[2] // 2) ^ bool(kind[2] % 2)
        made[kind] = {layer: nudged(captured.z[layer], up) for layer in layers}, rows
    return variants, made


def _as_batch(
    wrapped, head_shape, captured, runs, rows, new, baselines, values, spots, answers, softcap
):
    """(target run, edits) pairs as rows of a batch that run on from ``captured.start``, after the
    unedited runs ``new``.

    Args:
        rows: ordered by their first edited layers.
        baselines: target run → final state of the unedited run, (width,); those of ``new`` are
            added.

    Returns:
        Effects (rows, answers), the largest effect of the unedited rows, whether all states were
        finite, and whether a position was left with nothing to attend to.
    """
    enters = [min(layer for layer, _, _, _ in edits) for _, edits in rows]
    first = enters[0]
    joining = torch.tensor([*[first] * len(new), *enters])
    active = {layer: int((joining <= layer).sum()) for layer in range(first, len(captured.z))}
    written, biases = {}, {}
    for row, (run, edits) in enumerate(rows, start=len(new)):
        for layer, head, kind, positions in edits:
            if kind[1] != "attention":
                place = torch.tensor(spots[run][positions]) - captured.start
                heads = None if head is None else torch.full_like(place, head)
                place = torch.full_like(place, row), place, place, torch.full_like(place, run)
                _note(written, layer, heads, kind, place)
                continue
            queries, keys = (torch.tensor(spots[run][places]) for places in positions)
            biases.setdefault(layer, []).append(
                (row, head, queries - captured.start, keys, kind[2])
            )

    run_of_row = [*new, *(run for run, _ in rows)]
    picked = torch.tensor([runs[run] for run in run_of_row])

    def seen(layer):
        # Without a mask the model uses a cheaper kernel.
        whole = captured.start == 0 and captured.masks[layer] is None and layer not in biases
        return None if whole else allowed(captured, layer, picked).expand(len(picked), -1, -1, -1)

    before = [run for run in dict.fromkeys(run_of_row) if run not in new]
    known = [
        *(captured.normed[runs[run]] for run in new),
        *(baselines[run] for run in before),
    ]
    # The index of each row's baseline: among the rows, or after them in ``known``.
    place = {run: index for index, run in enumerate(new)}
    place |= {run: len(run_of_row) + len(new) + index for index, run in enumerate(before)}
    base = [*range(len(run_of_row), len(run_of_row) + len(new)), *(place[run] for run, _ in rows)]
    effects, normed, finite, blind = _forward(
        wrapped,
        head_shape,
        _writes(written, values),
        first,
        active,
        side_by_side=False,
        known=torch.stack(known),
        base=torch.tensor(base),
        answers=answers[run_of_row],
        captured=captured,
        picked=picked,
        masks=_by_layer(captured, first, seen, biases),
        biases=biases,
        softcap=softcap,
    )
    baselines.update({run: normed[index] for index, run in enumerate(new)})
    unedited = float(effects[: len(new)].abs().max()) if new else 0.0
    return effects[len(new) :], unedited, finite, blind


def _forward(
    wrapped,
    head_shape,
    writes,
    first,
    active,
    side_by_side,
    known,
    base,
    answers,
    captured,
    picked,
    masks,
    biases,
    softcap,
):
    """Run on from layer ``first``, with the writes made.

    Args:
        writes: as `_writes` makes them.
        active: layer → how many copies or rows run there, the first ones in order; side by side,
            the last copy is counted too, and runs everywhere.
        side_by_side: True for copies of [end], in one sequence for each of ``picked``: every final
            state is one of the rows below. False for rows that run on from ``captured.start``: the
            state at a row's last position is.
        known: more final states, (known, width).
        base: per row, the index of its baseline among the rows followed by ``known``, (rows,).
        answers: token ids to read, (rows, answers).
        picked: the captured pictures that sequences or rows go on from.
        masks: layer → numbers to add to the scores, (rows, 1, positions, positions of the prefix
            and own), or None.
        biases: layer → what is added to its mask, as `biased` takes it.

    Returns:
        Effects on the answers' logits, float32 on the CPU, (rows, answers); the final, normed
        states, (rows, width); whether these were finite; and whether a position was left with
        nothing to attend to.
    """
    prefix, last = captured.start, len(captured.z) - 1
    entry = captured.resid_pre[first][picked if side_by_side else picked[: active[first]]]
    entry = entry.expand(-1, active[first], -1) if side_by_side else entry
    with wrapped.trace(
        inputs_embeds=entry, position_ids=counted(entry), use_cache=False, logits_to_keep=1
    ):
        blind, before = torch.tensor(False), 0
        for index, layer in enumerate(language_model(wrapped).layers):
            if index < first:
                layer.skip(entry)
            else:
                attention = layer.self_attn.source.attention_interface_1
                arguments, options = layer.inputs
                count = active[index]
                pictures = picked if side_by_side else picked[:count]
                if index == first:
                    stream = entry
                elif side_by_side:
                    stream = forked(arguments[0], count - before)
                else:
                    joining = captured.resid_pre[index][picked[before:count]]
                    stream = torch.cat([arguments[0], joining.to(arguments[0])])
                stream = put(stream, writes.get((index, "resid_pre")))
                beside = handed(captured, index, pictures, count if side_by_side else None)
                layer.inputs = (stream, *arguments[1:]), {**options, **beside}
                arguments, options = attention.inputs
                module, queries, keys, values, _, *rest = arguments
                if prefix:
                    keys, values = behind(captured, index, keys, values, pictures)
                mask = masks[index] if masks[index] is None else masks[index].to(keys)
                if index in biases:
                    mask = biased(mask, biases[index], head_shape[0])
                    blind = blind | (mask.amax(-1) <= torch.finfo(mask.dtype).min / 2).any().cpu()
                if mask is not None and side_by_side:
                    mask = mask[:, :, :count, : prefix + count]
                elif mask is not None:
                    mask = mask[:count]
                # The z of a joining row is known, and the last layer is read at [end] only.
                untouched = index not in biases and (index, "resid_pre") not in writes
                looking = before if untouched and not side_by_side else count
                short = not side_by_side and (looking == 0 or index == last)
                if short:
                    queries, mask = queries[:, :, -1:], mask if mask is None else mask[:, :, -1:]
                if 0 < looking < count:
                    queries, keys, values = queries[:looking], keys[:looking], values[:looking]
                    mask = mask if mask is None else mask[:looking]
                attention.inputs = (module, queries, keys, values, mask, *rest), options
                if short or 0 < looking < count:
                    z, *weights = attention.output
                    missing = stream.shape[1] - z.shape[1]
                    z = pad(z, (0, 0, 0, 0, missing, 0, 0, count - len(z)))
                    attention.output = (z, *weights)
                if (index, "z") in writes or looking < count:
                    z = layer.self_attn.o_proj.input.unflatten(-1, head_shape)
                    if looking < count:
                        z = torch.cat([z[:looking], captured.z[index][pictures[looking:]].to(z)])
                    layer.self_attn.o_proj.input = put(z, writes.get((index, "z"))).flatten(-2)
                put_outputs(layer, index, writes)
                if captured.added[index] is not None:
                    layer.output = layer.output + captured.added[index][pictures]
                before = count
        normed = language_model(wrapped).norm.output[
            :, slice(None) if side_by_side else slice(-1, None)
        ]
        normed = normed.flatten(0, 1).save()
        finite = bool(torch.isfinite(normed).all())
        held_against = torch.cat([normed, known.to(normed)])[base.to(normed.device)]
        change = normed.float() - held_against.float()
        # Scaled to fit every number format; lm_head's own bias is subtracted.
        size = change.abs().amax(-1, keepdim=True).clamp_min(1e-30)
        change = torch.cat([change / size, torch.zeros_like(change[:1])]).to(normed.dtype)
        logits = wrapped.lm_head(change)
        ids = answers.to(logits.device)
        bias = logits[-1:].expand(len(ids), -1).gather(-1, ids).float()
        effects = (logits[:-1].gather(-1, ids).float() - bias) * size.to(logits.device)
        if softcap is not None:
            uncapped = wrapped.lm_head(held_against).gather(-1, ids).float()
            effects = softcap * (
                ((uncapped + effects) / softcap).tanh() - (uncapped / softcap).tanh()
            )
        effects = effects.cpu().save()
        finite.save(), blind.save()
    return effects, normed, finite, bool(blind)


def forked(stream, count) -> torch.Tensor:
    """A stream (sequences, copies, width) with ``count`` more copies of its first inserted before
    its last."""
    return torch.cat([stream[:, :-1], stream[:, :1].expand(-1, count, -1), stream[:, -1:]], 1)


def _note(written, layer, head, kind, place):
    """Add edits of one kind to ``written``; see `_writes`.

    Args:
        head: the head that each edits, (n,), or None for the whole layer.
        place: the row, position, position in the values, and run of each, (n,).
    """
    batch, position, kept, run = place
    heads = () if head is None else (head,)
    where = (layer, "z" if heads else kind[1])
    written.setdefault(where, {}).setdefault(kind, []).append(
        ((batch, position, *heads), (kept, *heads), run)
    )


def _writes(written, values):
    """(layer, component) → writes: (``into``, the indices that change; the new values, (n, …), or
    None; the factor for the present values if these are None).

    Args:
        written: (layer, component) → kind → per group of edits: ``into``; the matching indices
            into the values of one target run; and which run, (n,).
    """
    writes = {}
    for (layer, component), kinds in written.items():
        layer_writes = writes[layer, component] = []
        for kind, parts in kinds.items():
            into = tuple(torch.cat(each) for each in zip(*(into for into, _, _ in parts)))
            if kind[0] == "own":
                layer_writes.append((into, None, kind[2]))
                continue
            made, row = values[kind]
            inside = tuple(torch.cat(each) for each in zip(*(inside for _, inside, _ in parts)))
            run = torch.cat([run for _, _, run in parts])
            layer_writes.append((into, made[layer][(row[run], *inside)], None))
    return writes


def put(there, write) -> torch.Tensor:
    """A copy of a tensor with one entry of `_writes` made; the tensor itself if there is none."""
    if not write:
        return there
    there = there.clone()
    for into, written, factor in write:
        there[into] = factor * there[into] if written is None else written.to(there)
    return there


def put_outputs(layer, index, writes) -> None:
    """Apply the writes to the outputs of a layer's attention block and its MLP."""
    for component, name in (("attn_out", "self_attn"), ("mlp_out", "mlp")):
        if (index, component) in writes:
            # A layer may lack one of them.
            module = getattr(layer, name)
            output = module.output
            module.output = with_first(output, put(first_of(output), writes[index, component]))


def biased(mask, some, n_heads) -> torch.Tensor:
    """A mask (rows, 1, queries, keys) with numbers added, (rows, 1 or heads, queries, keys).

    Args:
        some: per addition: the row; the head, or None for all; queries and keys; and the number.
    """
    by_head = any(head is not None for _, head, _, _, _ in some)
    mask = mask.expand(-1, n_heads, -1, -1).clone() if by_head else mask.clone()
    for row, head, queries, keys, bias in some:
        heads = slice(None) if head is None else head
        mask[row][heads, queries[:, None], keys] += bias
    # The softmax of a row of -inf alone would be NaN.
    return mask.clamp_min(torch.finfo(mask.dtype).min)


def _by_layer(captured, first, seen, biases):
    """Layer → the mask that ``seen`` makes for it; layers with the same captured mask share one."""
    made, masks = {}, {}
    for layer in range(first, len(captured.masks)):
        key = id(captured.masks[layer]), captured.causal[layer], layer in biases
        if key not in made:
            made[key] = seen(layer)
        masks[layer] = made[key]
    return masks
