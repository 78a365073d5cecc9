"""What a model does with pictures of the game, before anything is believed of it.

Are its heads slices of ``o_proj``'s input, its logits ``lm_head`` of its final norm, and can a forward go on
from another's cache?
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from nnsight.intervention.interleaver import OutOfOrderError
from nnsight.intervention.source import SourceNotAvailable

from .answers import VOTERS
from .capture import RESUMED, RESUMED_HALF, capture, language_model, last_seen
from .errors import FOREIGN, InputError, first_line
from .layout import Layout
from .modules import softcap_of
from .prompts import inputs_of
from .rgb_game import PALETTE, draw
from .sweep import sweep

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel
    from transformers import ProcessorMixin

    from .server import Server

PLAIN = "use a model whose language model is a plain Llama-style decoder"


@torch.no_grad()
def probe(
    wrapped: TransformersModel,
    processor: ProcessorMixin,
    heads: tuple[int, int],
    layout: Layout,
    asked: str,
    server: Server | None,
    name: str,
) -> dict:
    """What `_probed` finds on pictures of the game, wherever the model is; checked.

    Args:
        heads: (number of heads, d_head).
        asked: the game's prompt, as in a trial.

    Returns:
        ``likeliest, dtype`` of `_probed`, and ``ahead`` of `Vlm`.

    Raises:
        InputError: a model that cannot be analysed, with the reason.
        ServerError: as `execute.execute`.
    """
    rows, columns = layout.grid
    places = [(rows // 2, columns // 2), (rows // 3, columns - 1), (rows - 1, columns // 3), (1, columns // 2), (rows - 1, columns - 1)]
    tiles = [{}, *({place: PALETTE["red"]} for place in dict.fromkeys(places))]
    boards = [draw(PALETTE["blue"], some, rows, layout.tile_px, margin=layout.margin) for some in tiles]
    inputs = inputs_of(processor, layout, [asked], boards[1:2])
    image = (inputs["input_ids"][0] == wrapped._module.config.image_token_id).nonzero().flatten().tolist()
    differing = inputs_of(processor, layout, [asked] * len(boards), boards)
    _check_untouched(boards[1], inputs, name)
    views = layout.places(image)
    arguments = heads, inputs, VOTERS, softcap_of(wrapped._module.config), differing, views
    if server:
        probed = server.run(wrapped, _probed, (*arguments, None))
    else:
        bare = _bare(wrapped, inputs, name)
        try:
            probed = _probed(wrapped, *arguments, bare)
        except InputError:
            raise
        except (*FOREIGN, SourceNotAvailable, OutOfOrderError) as error:
            # The model's own code, called in another way than in a plain forward; a plain decoder takes it.
            raise InputError(
                f"{name!r} cannot be analysed: its forward fails where it is run in parts "
                f"({first_line(error)}); {_way_out(error, PLAIN)}"
            ) from error
    _check(probed, heads, server, name)
    wanted = [row * columns + column for row, column in dict.fromkeys(places)]
    if misplaced := [place for place, found in zip(wanted, probed["moved"]) if found != [place] * len(views)]:
        # A trained tower may put what it finds into other tokens than its own, so this does not refuse.
        warnings.warn(
            f"of {len(wanted)} changed tiles {len(misplaced)} change another image token of {name!r} more than their own, so what is "
            "said of single tiles may be about their neighbours",
            stacklevel=4,
        )
    return {"likeliest": probed["likeliest"], "dtype": probed["dtype"], "ahead": _ahead(probed["furthest"], image)}


def _check_untouched(board, inputs, name):
    """Refuse a processor that resamples a picture of the size that it was said to show as it is."""
    shown = torch.unique(inputs["pixel_values"].float().round(decimals=4))
    # Two colours in three channels, and the value of padding.
    if len(shown) > 7:
        raise InputError(
            f"the processor of {name!r} changes a picture of {board.width} × {board.height} px, which its model takes as it is, so no tile "
            "would be one token; take the processor that belongs to this checkpoint"
        )


def _ahead(furthest, image):
    """Which tokens attend to later ones; ``furthest``: the last position that each attends to."""
    looking = [place for place, far in enumerate(furthest) if far > place]
    if not looking:
        return "none"
    within = image[0] <= looking[0] and max(furthest[place] for place in looking) <= image[-1]
    return "image" if within else "all"


def _moved(wrapped, inputs, views):
    """Program: per changed picture, the place in each view whose token differs most from the first picture's, as layer 0 reads it."""
    with wrapped.trace(**inputs, use_cache=False, logits_to_keep=1) as tracer:
        entries = language_model(wrapped).layers[0].input.float().save()
        tracer.stop()
    moved = (entries[1:] - entries[:1]).norm(dim=-1)
    return [[int(one[view].argmax()) for view in views] for one in moved]


def _bare(wrapped, inputs, name):
    """Logits at [end] of the forward outside of any trace, (vocabulary,); parts must run once, in order."""
    text = language_model(wrapped)._module
    expected = [*(layer.self_attn.o_proj for layer in text.layers), text.norm]
    ran = []
    hooks = [part.register_forward_hook(lambda part, *_: ran.append(part)) for part in set(expected)]
    on_device = {key: tensor.to(wrapped.device) for key, tensor in inputs.items()}
    try:
        logits = wrapped._module(**on_device, logits_to_keep=1).logits[0, -1].float()
    except FOREIGN as error:
        advice = _way_out(error, "use a model that answers about a picture in transformers")
        raise InputError(
            f"{name!r} fails on a plain picture, before any analysis ({first_line(error)}); {advice}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    if ran != expected:
        raise InputError(
            f"{name!r} cannot be analysed: the o_proj of its layers and then the final norm do not run once "
            f"each, in that order; {PLAIN}"
        )
    return logits


def _way_out(error, otherwise):
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return "give dtype='bfloat16', device_map='cpu', or remote=True to leave it on a server"
    return otherwise


def _probed(wrapped, heads, inputs, most, softcap, differing, views, bare):
    """Program: whether heads are slices of ``o_proj``'s input, and a forward can go on from another's cache.

    Args:
        heads: (number of heads, d_head).
        most: how many of the likeliest tokens to tell.
        softcap: see `Vlm.softcap`.
        differing, views: as `_moved` takes them.
        bare: logits of the forward outside of any trace, (vocabulary,), or None.

    Returns:
        ``furthest``, the last position that each position attends to; ``likeliest`` tokens at [end] as `answers.preferred` takes them, ``finite``, ``dtype``, ``widths`` of what each
        ``o_proj`` reads. Then, as fractions of the largest logit, how far they move: ``traced`` inside a
        trace, ``unembedded`` as ``lm_head`` of what the final norm returns, ``rewritten`` with each z written
        back, ``zeroed`` with z zeroed; ``moved``, see `_moved`; and ``swept``, how far what a sweep says of zeroed heads is from what whole forwards say. ``o_proj``: how far
        ``o_proj`` of z is from what the attention block returns, as a fraction of that.
    """
    layers = language_model(wrapped).layers
    with wrapped.trace(**inputs, logits_to_keep=1):
        kept, widths, gaps = [], [], []
        for layer in layers:
            z = layer.self_attn.o_proj.input
            kept.append(z.clone())
            widths.append(z.shape[-1])
            returned = layer.self_attn.output[0]
            gaps.append(
                (layer.self_attn.o_proj(z) - returned).abs().max() / returned.abs().max().clamp_min(1e-6)
            )
        kept.save(), widths.save(), gaps.save()
        unembedded = wrapped.lm_head(language_model(wrapped).norm.output[:, -1:])[0, -1].float().save()
        plain = wrapped.output.logits[0, -1].float().save()
    if softcap is not None:
        unembedded = softcap * (unembedded / softcap).tanh()
    with wrapped.trace(**inputs, logits_to_keep=1):
        for layer, z in zip(layers, kept):
            layer.self_attn.o_proj.input = z
        rewritten = wrapped.output.logits[0, -1].float().save()
    with wrapped.trace(**inputs, logits_to_keep=1):
        for layer, z in zip(layers, kept):
            layer.self_attn.o_proj.input = torch.zeros_like(z)
        zeroed = wrapped.output.logits[0, -1].float().save()
    largest = plain.abs().max()
    likeliest = plain.softmax(-1).topk(min(most, len(plain)))
    ids = likeliest.indices.tolist()
    fits = set(widths) == {heads[0] * heads[1]}
    swept, furthest = _swept(wrapped, heads, inputs, ids, softcap) if fits else (0.0, [])
    return {
        "likeliest": [int(inputs["input_ids"][0, -1]), ids, likeliest.values.tolist()],
        "finite": bool(torch.isfinite(plain).all()),
        "dtype": str(kept[0].dtype).removeprefix("torch."),
        "widths": widths,
        "traced": 0.0 if bare is None else float((plain - bare).abs().max() / largest),
        "unembedded": float((unembedded.to(plain.device) - plain).abs().max() / largest),
        "rewritten": float((rewritten - plain).abs().max() / largest),
        "zeroed": float((zeroed - plain).abs().max() / largest),
        "moved": _moved(wrapped, differing, views),
        "swept": swept,
        "furthest": furthest,
        "o_proj": max(float(gap) for gap in gaps),
    }


def _swept(wrapped, heads, inputs, ids, softcap):
    """Heads of three layers zeroed at [end], by `sweep` and by a whole forward each.

    Returns:
        The largest difference of an effect on the logits of ``ids``, or drift, as a fraction of the largest logit; and the last
        position that each position attends to.
    """
    length = inputs["input_ids"].shape[1]
    captured = capture(wrapped, heads, inputs, 0, True, False)
    furthest = last_seen(captured)
    chosen = sorted({0, len(captured.z) // 2, len(captured.z) - 1})
    variants = [[(layer, 0, "zero", "end")] for layer in chosen]
    whole = []
    for zeroed in chosen:
        with wrapped.trace(**inputs, logits_to_keep=1):
            for index, layer in enumerate(language_model(wrapped).layers):
                if index == zeroed:
                    z = layer.self_attn.o_proj.input.unflatten(-1, heads).clone()
                    z[:, -1, 0] = 0
                    layer.self_attn.o_proj.input = z.flatten(-2)
            whole.append(wrapped.output.logits[0, -1].float()[ids].cpu().save())
    wanted = torch.stack(whole) - captured.logits[0, ids].cpu()
    # From the last token on and from the last but one; from the first, where some attend to later ones.
    looks_ahead = any(far > place for place, far in enumerate(furthest))
    gaps = []
    for start in (0,) if looks_ahead else (length - 2, length - 1):
        here = captured if start == 0 else capture(wrapped, heads, inputs, start, True, False)
        zero = {"zero": ({layer: torch.zeros_like(here.z[layer]) for layer in chosen}, torch.tensor([0]))}
        spots = [{"end": [length - 1]}]
        done = sweep(wrapped, heads, here, [0], variants, zero, spots, torch.tensor([ids]), len(chosen) + 1, softcap)
        gaps += [done["drift"], float((done["effects"][0] - wanted).abs().max() / here.logits.abs().max().cpu())]
    return max(gaps), furthest


def _check(probed, heads, server, name):
    """Refuse a model whose heads are not slices of ``o_proj``'s input, from what `_probed` found."""

    def refuse(reason):
        raise InputError(f"{name!r} cannot be analysed: {reason}; {PLAIN}")

    if not probed["finite"]:
        raise InputError(_not_finite(probed["dtype"], server, name))
    if set(probed["widths"]) != {heads[0] * heads[1]}:
        refuse(
            f"o_proj reads {sorted(set(probed['widths']))} numbers per position, not {heads[0]} heads × "
            f"{heads[1]}"
        )
    # Written so that a number which is none is refused too.
    if not probed["traced"] <= 2e-3:
        refuse("its logits inside a trace differ from the bare forward")
    if not probed["unembedded"] <= 2e-3:
        refuse(
            "its logits are not lm_head of what its final norm returns, as with a soft cap or a multiplier"
        )
    if not probed["rewritten"] <= 2e-3:
        refuse("writing the heads' own outputs back changes its logits")
    if not probed["zeroed"] >= 1e-6:
        refuse("zeroing every head leaves its logits unchanged")
    if not probed["o_proj"] <= 1e-2:
        refuse("o_proj of the heads' outputs is not what its attention block returns")
    if not probed["swept"] <= (RESUMED if probed["dtype"] == "float32" else RESUMED_HALF):
        refuse("a forward that goes on from the keys and values of another does not give what a whole one gives")


def _not_finite(dtype, server, name):
    """Why logits are not finite, and what to do."""
    what = f"the logits of {name!r} are not finite on a plain picture"
    if dtype == "float32":
        return f"{what} in float32, so its weights are broken; take another checkpoint, or download it again"
    others = "'bfloat16' or 'float32'" if dtype == "float16" else "'float32'"
    if server is not None:
        return (
            f"{what} in {dtype}, the server's number format; ask for one that serves it in {others}, or "
            "load it here"
        )
    return (
        f"{what}: they overflow in {dtype}, so load it with dtype={others} (if that gives the same, its "
        "weights are broken)"
    )
