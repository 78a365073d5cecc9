"""What a LLaVA does with one picture, before anything is believed of it.

Are its heads slices of ``o_proj``'s input, its logits ``lm_head`` of its final norm, and can a forward go on
from another's cache?
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from nnsight.intervention.interleaver import OutOfOrderError
from nnsight.intervention.source import SourceNotAvailable
from PIL import Image

from .answers import VOTERS
from .capture import RESUMED, RESUMED_HALF, capture
from .errors import FOREIGN, InputError, first_line
from .prompts import inputs_of
from .rgb_game import rgb_trial
from .sweep import sweep

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel
    from transformers import LlavaProcessor

    from .server import Server

PLAIN = "use a LLaVA whose language model is a plain Llama-style decoder"


@torch.no_grad()
def probe(
    wrapped: TransformersModel,
    processor: LlavaProcessor,
    geometry: dict,
    server: Server | None,
    name: str,
) -> dict:
    """What `_probed` finds on one picture, wherever the model is; checked.

    Args:
        geometry: ``n_heads``, ``d_head``, ``grid``, ``tile_px`` and ``picture_px`` of `Llava`.

    Raises:
        InputError: a model that cannot be analysed, with the reason.
        ServerError: as `execute.execute`.
    """
    rows, _ = geometry["grid"]
    side = geometry["picture_px"]
    trial = rgb_trial(tile=(rows // 2, rows // 2), grid=rows, tile_px=geometry["tile_px"])
    picture = Image.new("RGB", (side, side))
    picture.paste(trial.images["clean"])
    inputs = inputs_of(processor, [trial.prompt], [picture])
    heads = geometry["n_heads"], geometry["d_head"]
    if server:
        probed = server.run(wrapped, _probed, (heads, inputs, VOTERS, None))
    else:
        bare = _bare(wrapped, inputs, name)
        try:
            probed = _probed(wrapped, heads, inputs, VOTERS, bare)
        except InputError:
            raise
        except (*FOREIGN, SourceNotAvailable, OutOfOrderError) as error:
            # The model's own code, called in another way than in a plain forward; a plain decoder takes it.
            raise InputError(
                f"{name!r} cannot be analysed: its forward fails where it is run in parts "
                f"({first_line(error)}); {_way_out(error, PLAIN)}"
            ) from error
    _check(probed, heads, server, name)
    return probed


def _bare(wrapped, inputs, name):
    """Logits at [end] of the forward outside of any trace, (vocabulary,); parts must run once, in order."""
    text = wrapped._module.model.language_model
    expected = [*(layer.self_attn.o_proj for layer in text.layers), text.norm]
    ran = []
    hooks = [part.register_forward_hook(lambda part, *_: ran.append(part)) for part in set(expected)]
    on_device = {key: tensor.to(wrapped.device) for key, tensor in inputs.items()}
    try:
        logits = wrapped._module(**on_device, logits_to_keep=1).logits[0, -1].float()
    except FOREIGN as error:
        advice = _way_out(error, "use a LLaVA that answers about a picture in transformers")
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


def _probed(wrapped, heads, inputs, most, bare):
    """Program: whether heads are slices of ``o_proj``'s input, and a forward can go on from another's cache.

    Args:
        heads: (number of heads, d_head).
        most: how many of the likeliest tokens to tell.
        bare: logits of the forward outside of any trace, (vocabulary,), or None.

    Returns:
        ``likeliest`` tokens at [end] as `answers.preferred` takes them, ``finite``, ``dtype``, ``widths`` of what each
        ``o_proj`` reads. Then, as fractions of the largest logit, how far they move: ``traced`` inside a
        trace, ``unembedded`` as ``lm_head`` of what the final norm returns, ``rewritten`` with each z written
        back, ``zeroed`` with z zeroed, ``resumed`` with the last tokens run alone. ``o_proj``: how far
        ``o_proj`` of z is from what the attention block returns, as a fraction of that.
    """
    layers = wrapped.model.language_model.layers
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
        unembedded = wrapped.lm_head(wrapped.model.language_model.norm.output[:, -1:])[0, -1].float().save()
        plain = wrapped.output.logits[0, -1].float().save()
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
    resumed = _resumed(wrapped, heads, inputs, ids) if set(widths) == {heads[0] * heads[1]} else 0.0
    return {
        "likeliest": [int(inputs["input_ids"][0, -1]), ids, likeliest.values.tolist()],
        "finite": bool(torch.isfinite(plain).all()),
        "dtype": str(kept[0].dtype).removeprefix("torch."),
        "widths": widths,
        "traced": 0.0 if bare is None else float((plain - bare).abs().max() / largest),
        "unembedded": float((unembedded.to(plain.device) - plain).abs().max() / largest),
        "rewritten": float((rewritten - plain).abs().max() / largest),
        "zeroed": float((zeroed - plain).abs().max() / largest),
        "resumed": resumed,
        "o_proj": max(float(gap) for gap in gaps),
    }


def _resumed(wrapped, heads, inputs, ids):
    """How far the logits of ``ids`` move, as a fraction of the largest, where the last token, or the last two, run alone
    with one head given its own z."""
    moved = []
    for start in (-1, -2):
        captured = capture(wrapped, heads, inputs, inputs["input_ids"].shape[1] + start, True, False)
        own = {"own": (captured.z, torch.tensor([0]))}
        edits = [[(0, 0, "own", "last")]]
        spots = [{"last": range(captured.start, captured.length)}]
        done = sweep(wrapped, heads, captured, [0], edits, own, spots, torch.tensor([ids]), 1)
        moved += [done["drift"], float(done["effects"].abs().max() / captured.logits.abs().max())]
    return max(moved)


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
    if not probed["resumed"] <= (RESUMED if probed["dtype"] == "float32" else RESUMED_HALF):
        refuse("its logits change where a forward goes on from the keys and values of another")


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
