"""Probe a model with pictures of tiles and a question about them, before trusting any measurement.

Are its heads slices of ``o_proj``'s input? Are its logits ``lm_head`` of its final norm? Can a
forward resume from another's cache?
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..boards import draw
from ..errors import FOREIGN, InputError, first_line
from ..module.hooks import hooks_watched
from ..module.layout import Layout
from ..module.modules import in_one_format, softcap_of
from ..module.nnsight_internals import OutOfOrderError, SourceNotAvailable
from ..programs.capture import language_model
from ..programs.probed import probed as program
from ..prompts.asking import VOTERS
from ..prompts.inputs import inputs_of
from ..running.checks import resumed
from ..running.execute import numbers_as_usual
from ..warning import warn

if TYPE_CHECKING:
    from nnsight import TransformersModel
    from transformers import ProcessorMixin

    from ..remote.server import Server

# Colours of the board and of its one different tile.
BOARD, TILE = (0, 0, 255), (255, 0, 0)

PLAIN = "docs/families.md says what a language model must be for that"


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
    """Run `programs.probed` on pictures of tiles, here or on a server, and check its results.

    Args:
        heads: (number of heads, d_head).
        asked: the prompt of all pictures.

    Returns:
        ``likeliest, dtype, softcap, rounding`` of `programs.probed`, and ``ahead`` of `Vlm`.

    Raises:
        InputError: the model cannot be analysed, with the reason.
        ServerError: as `execute.execute`.
    """
    rows, columns = layout.grid
    places = [
        (rows // 2, columns // 2),
        (rows // 3, columns - 1),
        (rows - 1, columns // 3),
        (1, columns // 2),
        (rows - 1, columns - 1),
    ]
    tiles = [{}, *({place: TILE} for place in dict.fromkeys(places))]
    boards = [draw(BOARD, colors, rows, layout.tile_px, margin=layout.margin) for colors in tiles]
    inputs = inputs_of(processor, layout, [asked], boards[1:2])
    image = (
        (inputs["input_ids"][0] == wrapped._module.config.image_token_id)
        .nonzero()
        .flatten()
        .tolist()
    )
    differing = inputs_of(processor, layout, [asked] * len(boards), boards)
    _check_untouched(boards[1], inputs, name)
    views = layout.places(image)
    arguments = heads, inputs, VOTERS, softcap_of(wrapped._module.config), differing, views
    if server:
        probed = server.run(wrapped, program, (*arguments, None))
    else:
        try:
            with hooks_watched(wrapped._module, name), numbers_as_usual():
                probed = program(wrapped, *arguments, _bare(wrapped, inputs, name))
        except InputError:
            raise
        except (*FOREIGN, SourceNotAvailable, OutOfOrderError) as error:
            # The model's own code failed, called otherwise than in a plain forward.
            raise InputError(
                f"{name!r} cannot be analysed: its forward fails where it is run in parts "
                f"({first_line(error)}); {_way_out(error, PLAIN)}"
            ) from error
    _check(probed, heads, server, name)
    wanted = [row * columns + column for row, column in dict.fromkeys(places)]
    if misplaced := [
        place for place, changed in zip(wanted, probed["moved"]) if changed != [place] * len(views)
    ]:
        # Warn only: a trained tower may write what it sees in a patch into other tokens.
        warn(
            f"{len(misplaced)} of {len(wanted)} changed tiles change another image token of "
            f"{name!r} more than their own, so results "
            "on single tiles may be about their neighbours"
        )
    return {
        "likeliest": probed["likeliest"],
        "dtype": probed["dtype"],
        "softcap": probed["softcap"],
        "rounding": probed["rounding"],
        "ahead": _ahead(probed["furthest"], image),
    }


def _check_untouched(board, inputs, name):
    """Refuse a processor that resamples a picture whose size it should leave unchanged."""
    if "pixel_values" not in inputs:
        raise InputError(
            f"the processor of {name!r} makes no pixel_values of a picture, but "
            f"{', '.join(inputs)}; give one that does, such as LlavaProcessor"
        )
    shown = torch.unique(inputs["pixel_values"].float().round(decimals=4))
    # At most: two colours in three channels, and the value of padding.
    if len(shown) > 7:
        raise InputError(
            f"the processor of {name!r} makes {len(shown)} different values of a picture of "
            f"{board.width} × {board.height} px in two colours, where 7 would do: it resamples it "
            "or mixes its channels, so that no tile would be one token; set its size and crop_size "
            "to those of the model's pictures"
        )


def _ahead(furthest, image):
    """Which tokens attend to later ones; ``furthest`` is the last position that each attends to."""
    looking = [place for place, far in enumerate(furthest) if far > place]
    if not looking:
        return "none"
    within = image[0] <= looking[0] and max(furthest[place] for place in looking) <= image[-1]
    return "image" if within else "all"


def _bare(wrapped, inputs, name):
    """Logits at [end] of a forward outside any trace, (vocabulary,); refuses a model whose parts do
    not run once each, in order."""
    text = language_model(wrapped)._module
    expected = [*(layer.self_attn.o_proj for layer in text.layers), text.norm]
    ran = []
    hooks = [
        part.register_forward_hook(lambda part, *_: ran.append(part)) for part in set(expected)
    ]
    on_device = {key: tensor.to(wrapped.device) for key, tensor in inputs.items()}
    try:
        logits = wrapped._module(**on_device, logits_to_keep=1).logits[0, -1].float()
    except InputError:
        raise
    except FOREIGN as error:
        plain = (
            in_one_format(wrapped._module)
            or "use a model that answers about a picture in transformers"
        )
        advice = _way_out(error, plain)
        raise InputError(
            f"{name!r} fails on a plain picture, before any analysis ({first_line(error)}); "
            f"{advice}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    if ran != expected:
        raise InputError(
            f"{name!r} cannot be analysed: the o_proj of its layers and then the final norm do not "
            f"run once each, in that order; {PLAIN}"
        )
    return logits


def _way_out(error, otherwise):
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return "give dtype='bfloat16', device_map='cpu', or remote=True to leave it on a server"
    return otherwise


def _check(probed, heads, server, name):
    """Refuse a model whose heads are not slices of ``o_proj``'s input, from what `programs.probed`
    found."""

    def refuse(reason, found=None):
        by = "" if found is None else f" (by {probed[found]:.2g} of the largest)"
        raise InputError(f"{name!r} cannot be analysed: {reason}{by}; {PLAIN}")

    if not probed["finite"]:
        raise InputError(_not_finite(probed["dtype"], server, name))
    if set(probed["widths"]) != {heads[0] * heads[1]}:
        refuse(
            f"o_proj reads {sorted(set(probed['widths']))} numbers per position, not {heads[0]} "
            f"heads × {heads[1]}"
        )
    # `not <=` instead of `>`, so that NaN is refused too.
    if not probed["traced"] <= 2e-3:
        refuse("its logits inside a trace differ from the bare forward", "traced")
    # Both sides compute the same product, so in float32 even a weak cap shows.
    if not probed["unembedded"] <= (1e-4 if probed["dtype"] == "float32" else 2e-3):
        refuse(
            "its logits are not lm_head of what its final norm returns, as with a soft cap or a "
            "multiplier",
            "unembedded",
        )
    if not probed["alike"]:
        refuse(
            "it gives the pictures of a batch other positions than each would have alone, so that "
            "its numbers depend on which pictures it is shown together"
        )
    if probed["remade"]:
        refuse(
            f"its layers choose which tokens a head sees (layer {probed['remade'][0]} makes a mask "
            "of its own, as an indexer does), and a patched run would keep the choice of the run "
            "that it goes on from"
        )
    if probed["by_name"]:
        refuse(
            f"layer {probed['by_name'][0]} hands attention its mask by name, and a patched run "
            "puts its own in fifth place"
        )
    if not probed["added"] <= (1e-4 if probed["dtype"] == "float32" else 2e-2):
        refuse(
            "what it adds to the residual stream between layers depends on that stream, and a "
            "patched run would add what the run that it goes on from does",
            "added",
        )
    if not probed["rewritten"] <= 2e-3:
        refuse("writing the heads' own outputs back changes its logits", "rewritten")
    if not probed["zeroed"] >= 1e-6:
        refuse("zeroing every head leaves its logits unchanged")
    if not probed["o_proj"] <= (1e-4 if probed["dtype"] == "float32" else 1e-2):
        refuse("o_proj of the heads' outputs is not what its attention block returns", "o_proj")
    if not probed["swept"] <= resumed(getattr(torch, probed["dtype"]), probed["rounding"]):
        refuse(
            "a forward that goes on from the keys and values of another does not give what a whole "
            "one gives",
            "swept",
        )


def _not_finite(dtype, server, name):
    """Why logits are not finite, and what to do."""
    what = f"the logits of {name!r} are not finite on a plain picture"
    if dtype == "float32":
        return (
            f"{what} in float32, so its weights are broken; take another checkpoint, or "
            "download it again"
        )
    others = "'bfloat16' or 'float32'" if dtype == "float16" else "'float32'"
    if server is not None:
        return (
            f"{what} in {dtype}, the server's number format; ask for one that serves it in "
            f"{others}, or load it here"
        )
    return (
        f"{what}: they overflow in {dtype}, so load it with dtype={others} (if that gives the "
        "same, its weights are broken)"
    )
