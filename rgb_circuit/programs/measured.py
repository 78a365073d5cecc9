"""Run every picture through the model once, and every sweep over the captures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad

from .capture import (
    attention_gaps,
    by_place,
    capture,
    kept_from,
    left_blind,
    nudged,
    over_some,
    recombined,
)
from .continued import continued
from .paths import paths
from .patterns import shares_of
from .sweep import sweep

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel


def measured(
    wrapped: TransformersModel, head_shape, pictures, sweeps, asked, softcap, held, advance=None
) -> dict[str, Any]:
    """Capture the pictures, then run every variant of every sweep.

    The pictures of one condition are a batch, one per trial; all batches have the trials in one
    order.

    Args:
        head_shape: (number of heads, d_head).
        pictures: condition → its ``inputs``; the ``start`` from which it is kept; what to ``keep``,
            and whether to ``nudge`` it, as in `capture`; ``masks``, per request for shares of
            attention there, as in `patterns.shares`; ``recurs``, its name in ``held``, or None; and
            ``after``, the condition whose picture and first words it shares, with the number of
            positions in common, or None.
        sweeps: per sweep: its ``target`` condition; how many positions, counted from the end,
            change, ``kept``; how many positions of sources of other length line up from the
            ``front``; ``variants``, edits as `sweep.plain` makes them; ``means``, component → one
            tensor per layer, (1, kept, …), or None; ``sources``, the conditions that edits take
            from; ``spots``, per trial, positions as in an edit → token positions; ``batch_size``,
            the most variants in one forward; and ``path_rows``, the most rows of a path into keys
            or values.
        asked: token ids to read, (trials, ids).
        held: name → capture of a picture that recurs, the most recently used last; added to.
        advance: called with the approximate share of each piece of work that is done; in this
            process only.

    Returns:
        ``pictures``: condition → ``logits`` (trials, ids), the ``likeliest`` token (trials,),
        ``finite``, ``gaps`` of attention, ``shares`` (per mask, as in `patterns.shares`), and
        ``drift`` of `continued`; ``sweeps``: per sweep, the results of `sweep`, effects (trials,
        variants, ids), and ``gap``, of `paths`.
    """
    captured, seen = {}, {}
    of_pictures, of_sweeps = _portions(pictures, sweeps, held)
    # A picture that continues from another comes after it.
    for condition, picture in sorted(
        pictures.items(), key=lambda item: item[1]["after"] is not None
    ):
        kept = held.pop(picture["recurs"], None)
        if picture["after"] is not None:
            first, common = picture["after"]
            own_ids, other_ids = (
                one["inputs"]["input_ids"][:, common:].to(captured[first].logits.device)
                for one in (pictures[first], picture)
            )
            kept = continued(
                wrapped, head_shape, captured[first], own_ids, other_ids, picture["start"]
            )
        elif (
            kept is None
            or kept.start > picture["start"]
            or not set(picture["keep"]) <= set(kept.keep)
        ):
            of_picture = (picture[name] for name in ("inputs", "start", "keep", "nudge"))
            kept = capture(wrapped, head_shape, *of_picture)
        if picture["recurs"] is not None:
            held[picture["recurs"]] = kept
        seen[condition] = {
            "logits": kept.logits.gather(-1, asked.to(kept.logits.device)).cpu(),
            "likeliest": kept.logits.argmax(-1).cpu(),
            "finite": bool(torch.isfinite(kept.logits).all()),
            "gaps": attention_gaps(kept) if "attention" in picture["keep"] else [],
            "shares": [
                shares_of(kept_from(kept, kept.length - 1), masks) for masks in picture["masks"]
            ],
            "drift": 0.0 if picture["after"] is None else kept.drift,
        }
        captured[condition] = kept
        if advance:
            advance(of_pictures[condition])
    runs = list(range(len(asked)))
    results = []
    for plan, of_sweep in zip(sweeps, of_sweeps):
        shown = {
            name: captured[name]
            if plan["front"]
            else kept_from(
                captured[name], max(captured[name].start, captured[name].length - plan["kept"])
            )
            for name in {plan["target"], *plan["sources"]}
        }
        target, values = shown[plan["target"]], {}
        layers_of = {}
        for edits in plan["variants"]:
            for layer, _, kind, _ in edits:
                if kind[1] != "attention" and kind[0] != "own":
                    layers_of.setdefault(kind, set()).add(layer)
        through = {kind: layers for kind, layers in layers_of.items() if kind[1] == "path"}
        ends, gap = paths(wrapped, head_shape, captured, plan["target"], through, plan["path_rows"])
        blind = False
        for kind, layers in layers_of.items():
            if kind in through:
                made = {layer: lined_up(z, target) for layer, z in ends[kind].items()}
            else:
                hidden = some_positions(kind, plan["spots"], target.length)
                made = written(
                    shown, target, kind, sorted(layers), plan["means"], hidden, plan["front"]
                )
                blind = blind or leaves_blind(
                    shown, kind, sorted(layers), hidden, plan["variants"], plan["spots"]
                )
            several = len(next(iter(made.values()))) > 1
            rows = (
                torch.arange(len(asked)) if several else torch.zeros(len(asked), dtype=torch.long)
            )
            values[kind] = made, rows
        swept = sweep(
            wrapped,
            head_shape,
            target,
            runs,
            plan["variants"],
            values,
            plan["spots"],
            asked,
            plan["batch_size"],
            softcap,
            advance and (lambda share, whole=of_sweep: advance(share * whole)),
        )
        results.append({**swept, "gap": gap, "blind": blind or swept["blind"]})
    return {"pictures": seen, "sweeps": results}


def _portions(pictures, sweeps, held):
    """The approximate share of the work, in forwards: condition → of its picture; and per sweep."""
    first = {
        name: 0 if one["after"] or one["recurs"] in held else 1 for name, one in pictures.items()
    }
    # On average, a variant runs through half of the layers.
    length = max(one["inputs"]["input_ids"].shape[1] for one in pictures.values())
    each = [len(one["variants"]) * one["kept"] / length / 2 for one in sweeps]
    total = sum(first.values()) + sum(each) or 1
    return {name: one / total for name, one in first.items()}, [one / total for one in each]


def some_positions(kind, spots, length) -> torch.Tensor | None:
    """The positions of a kind's ``over`` or ``without``, Booleans, (trials, length); None for any
    other kind."""
    if len(kind) == 3:
        return None
    some = torch.zeros(len(spots), length, dtype=torch.bool)
    for row, where in zip(some, spots):
        row[where[kind[3][1]]] = True
    return some


def leaves_blind(shown, kind, layers, some, variants, spots) -> bool:
    """Whether the attention of a position that is written loses all that it sees to ``without``."""
    if some is None or kind[3][0] != "without":
        return False
    source = shown[kind[0]]
    written_at = {words for edits in variants for _, _, own, words in edits if own == kind}
    return any(
        bool(left_blind(source, layer, some)[row][torch.tensor(where[word]) - source.start].any())
        for layer in layers
        for row, where in enumerate(spots)
        for word in written_at
    )


def written(shown, target, kind, layers, means, some=None, front=0) -> dict[int, torch.Tensor]:
    """Layer → the values that edits of one kind write, (trials or 1, kept, …).

    Args:
        some: from `some_positions`.
        front: as in `lined_up`.
    """
    source, component, scale = kind[:3]
    made = {}
    like = target.z if component == "z" else target.resid_pre
    for layer in layers:
        if some is not None and component == "pattern":
            value = over_some(target, layer, shown[source], some)
        elif some is not None:
            value = recombined(shown[source], layer, unseen=some)
        elif component in ("pattern", "query", "key", "value"):
            other = shown[source]
            parts = {"pattern": {"queries": other, "keys": other}, "query": {"queries": other}}
            parts |= {"key": {"keys": other}, "value": {"values": other}}
            value = recombined(target, layer, **parts[component])
            if value.dtype != torch.float32:
                # Recomputing rounds differently; where the parts equal the target's, keep its z.
                own = recombined(target, layer)
                value = torch.where((value == own).all(-1, keepdim=True), target.z[layer], value)
        elif source == "zero":
            value = torch.zeros_like(like[layer][:1])
        elif source == "mean":
            # Means may be on another device than the other kinds of the same write.
            value = means[component][layer].to(like[layer].device)
        elif source == "rounding":
            value = nudged(target.z[layer], by_place(target.z[layer]))
        else:
            value = lined_up(getattr(shown[source], component)[layer], target, front)
        made[layer] = value if scale == 1 else scale * value
    return made


def lined_up(value, target, front=0) -> torch.Tensor:
    """Values at another prompt's kept positions, (trials, kept, …), lined up with the target's: the
    first ``front`` from the first position, all others from the end."""
    kept = target.length - target.start
    if value.shape[1] == kept:
        return value
    behind = pad(value[:, -kept:], (*[0, 0] * (value.ndim - 2), max(0, kept - value.shape[1]), 0))
    return torch.cat([value[:, :front], behind[:, front:]], 1) if front else behind


def summed(
    wrapped: TransformersModel, head_shape, inputs, start, components
) -> dict[str, list[torch.Tensor]]:
    """Component → its sum over pictures; one tensor per layer, (1, kept, …)."""
    captured = capture(wrapped, head_shape, inputs, start, components)
    return {
        component: [
            layer.sum(0, keepdim=True, dtype=torch.float32).cpu()
            for layer in getattr(captured, component)
        ]
        for component in components
    }
