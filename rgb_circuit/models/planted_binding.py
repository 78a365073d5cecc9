"""A planted circuit that tells which colour a shape has: the role of every head is known.

It answers `rgb_circuit.stimuli.tasks.binding` without error, with the plain and with the short
template. It reads cells as `rgb_circuit.models.planted_relation` does. New are:

1. **Bound at the name.** A finder looks from the question's name of a shape at that shape and
   writes its colour there. Feature binders bring the colour from the name to the answer; they look
   at the same token in every picture.
2. **Bound by place.** A question reader tells [end] the name, and each place binder looks from
   there at the shape and reads the colour that it finds.

The lister raises the colours of both shapes equally. The looker looks where place binders do and
writes to channels that nothing reads. The prejudiced head adds a fixed colour for each name, the
suppressor lowers the right colour, and the fixed word always says "red".
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from ..stimuli.tasks import binding
from ..stimuli.tasks.rgb import PALETTE
from . import small
from .planted import FAST, PER_LOGIT, SHARP, Place, bare_head, blank, set_noise, side_by_side
from .planted_counting import HEADS, SHAPE, truth
from .planted_relation import LOOKS, NAMES, readout_of_things, set_words

COLORS = tuple(PALETTE)
# Features that queries and keys read are kept free of noise.
KEPT_CLEAR = ("constant", "text", "bos", "color", "names", "bound", "asked")


@dataclass(frozen=True)
class Part:
    """What one planted head does.

    Attributes:
        name, role: as in the truth frame.
        looks_for: "names" (from the name) or "asked" (from [end]): the cell with that shape; "any
            thing" (both shapes equally), "name" (the question's) or "any word".
        carries, writes_to: channels of `layout`; carried "hue" is the colour of what a cell shows,
            and a written colour is its channel of "answer".
        gain: factor of the carried vector; for the answer, in logits.
    """

    name: str
    role: str
    looks_for: str
    carries: str
    writes_to: str
    gain: float


PARTS: Mapping[Place, Part] = {
    (0, 1): Part("finder", "none", "names", "hue", "bound", 1.0),
    (1, 0): Part("question reader", "question reader", "name", "names", "asked", 1.0),
    (1, 2): Part("lister", "none", "any thing", "hue", "answer", 4.0),
    (2, 0): Part("early feature binder", "feature binder", "name", "bound", "answer", 5.0),
    (2, 1): Part("early place binder", "place binder", "asked", "hue", "answer", 6.0),
    (3, 1): Part("prejudiced head", "none", "name", "names", "answer", 2.0),
    (3, 2): Part("fixed word", "none", "any word", "text", "red", 3.0),
    (3, 3): Part("looker", "none", "asked", "hue", "idle", 1.0),
    (4, 1): Part("suppressor", "none", "name", "bound", "answer", -2.0),
    (4, 3): Part("late place binder", "place binder", "asked", "hue", "answer", 4.0),
    (5, 2): Part("late feature binder", "feature binder", "name", "bound", "answer", 4.0),
}


def planted_binding(
    *, grid: int = 6, tile_px: int = 4, noise: float = 0.0, seed: int = 0
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor, pd.DataFrame]:
    """A LLaVA that tells the colours of shapes with a known circuit, its processor, and the truth
    about its heads.

    Args:
        grid, tile_px: as in `rgb_circuit.models.planted_counting.planted_counting`.
        noise: roughly what a head or MLP without a part adds to a word's logit, as a standard
            deviation in units of what there is to restore.
        seed: of the noise.

    Returns:
        model, processor, and a frame with a row per head: ``layer, head, role, name``.
    """
    channels, width = layout(grid)
    ways = [binding.TASK.asked_by(way).questions for way in ("plain", "short")]
    questions = [question for way in ways for question in way]
    tools = small.processor(grid, tile_px, small.tokenizer((*questions, *COLORS)))
    model = blank(tools, grid, tile_px, readout_of_things(tile_px), channels, width, **SHAPE)
    generator = torch.Generator().manual_seed(seed)
    told = [part for part in PARTS.values() if part.role.endswith("binder")]
    to_restore = sum(part.gain for part in told)
    with torch.no_grad():
        set_words(model, channels, tools.tokenizer, questions[0], COLORS)
        for index, layer in enumerate(model.model.language_model.layers):
            set_noise(layer, channels, noise * to_restore, KEPT_CLEAR, generator)
            for (at, head), part in PARTS.items():
                if at == index:
                    _set_head(layer.self_attn, head, part, channels)
    return model, tools, truth(PARTS)


def layout(grid: int) -> tuple[dict[str, slice], int]:
    """Channels of the residual stream by feature, and its width, a multiple of the number of heads.

    ``color`` (what a cell shows; the last: nothing) and ``place`` (rows, then columns) are at image
    tokens; ``names`` (of a shape) and ``bound`` (its colour) at the name; ``asked`` (a shape) and
    ``answer`` at [end].
    """
    sizes = dict(constant=1, text=1, bos=1, place=2 * grid, color=len(LOOKS) + 1)
    sizes |= dict(names=len(NAMES), asked=len(NAMES))
    sizes |= dict.fromkeys(("bound", "answer", "idle"), len(COLORS))
    return side_by_side(sizes, HEADS)


def _set_head(attention, head, part, channels):
    """Write what a head looks for, carries and writes. Keys sit in RoPE's slow planes: shapes, one
    plane for every other search, and the first token, on which a head rests if it finds nothing."""
    d_head = attention.head_dim
    shapes, alone, bos = slice(FAST, FAST + len(NAMES)), FAST + len(NAMES), FAST + len(NAMES) + 1
    query, key, value, output = bare_head(attention, head)
    things = slice(channels["color"].start, channels["color"].stop - 1)
    # Attention divides scores by this factor.
    sharp = SHARP * d_head**0.5
    key[bos, channels["bos"]] = 1
    query[bos, channels["constant"]] = sharp
    if part.looks_for in ("names", "asked"):
        key[shapes, things] = torch.eye(len(NAMES)).repeat_interleave(len(COLORS), 1)
        query[shapes, channels[part.looks_for]] = 2 * sharp * torch.eye(len(NAMES))
    else:
        sought = {"any thing": things, "name": channels["names"], "any word": channels["text"]}
        key[alone, sought[part.looks_for]] = 1
        query[alone, channels["text"]] = 2 * sharp

    if part.carries == "hue":
        carried, features = things, len(COLORS)
        value[:features, carried] = torch.eye(features).repeat(1, len(NAMES))
    else:
        carried = channels[part.carries]
        features = carried.stop - carried.start
        value[:features, carried] = torch.eye(features)
    to = channels["answer"] if part.writes_to in COLORS else channels[part.writes_to]
    start = to.start + (COLORS.index(part.writes_to) if part.writes_to in COLORS else 0)
    unit = PER_LOGIT if to == channels["answer"] else 1.0
    output[start : start + features, :features] = part.gain * unit * torch.eye(features)
