"""A planted circuit that counts: a LLaVA whose weights are set by hand, so that every head's role
is known.

It answers `rgb_circuit.stimuli.tasks.counting` without error, with the plain and with the short
template. Residual stream, vision tower, projector and noise are those of
`rgb_circuit.models.planted`. New are, in the order of the functions below:

1. **Cells**: a cell shows a dot of one of the palette's colours, or nothing.
2. **Counting is shared attention.** A head that looks at every dot equally, and at the first token
   ``REST`` times as much as at a dot, gives n dots the share n / (n + REST). The MLP of its layer
   turns the share into the number, with two steep silu units per step.
3. **Parts** (`PARTS`). The totaller counts from the question's first word, and count carriers bring
   the number from there to the answer; they look at the same token in every picture. The dot
   counter counts at [end] itself, by where it looks. The color counter brings the number of
   colours; the totaller tells the first word these too: which are present, then how many. The
   suppressor lowers the right number, the fixed word always says "3", the text reader reads only
   the question, and the idle carrier writes to channels that nothing reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from ..conversation import prompt
from ..conversation.answers import FORMS, form_of, written
from ..stimuli.tasks import counting
from ..stimuli.tasks.rgb import PALETTE
from ..stimuli.tasks.shape import glyph
from . import small
from .planted import (
    FAST,
    OTHER_TOKENS,
    PER_LOGIT,
    SHARP,
    Place,
    bare_head,
    blank,
    readout_of,
    set_noise,
    side_by_side,
)

NUMBERS = tuple(counting.TASK.vocabulary)
COLORS = tuple(PALETTE)
# Attention on the first token relative to a dot: small enough for one dot to show, large enough for
# the sixth to show too.
REST = 6.0
STEEP = 2000.0
LAYERS, HEADS = 6, 4
# Features that queries and keys read, and shares, which follow the least noise, are kept free of
# it.
KEPT_CLEAR = ("constant", "color", "first", "bos", "text", "shares", "share")
D_HEAD = 28
SHAPE = dict(layers=LAYERS, heads=HEADS, kv_heads=HEADS, d_head=D_HEAD)


@dataclass(frozen=True)
class Part:
    """What one planted head does.

    Attributes:
        name, role: as in the truth frame.
        looks_for: "dots from the first word", "dots" (their share), "any dot" (nearly all of its
            attention, whatever their number) or "first word".
        carries, writes_to: channels of `layout`; a number is that number's channel of "answer".
        gain: factor of the carried vector; for the answer, in logits.
    """

    name: str
    role: str
    looks_for: str
    carries: str
    writes_to: str
    gain: float


PARTS: Mapping[Place, Part] = {
    (0, 1): Part("totaller", "none", "dots from the first word", "color", "shares", 1.0),
    (1, 2): Part("idle carrier", "none", "first word", "number", "idle", 1.0),
    (2, 0): Part("early count carrier", "count carrier", "first word", "number", "answer", 8.0),
    (2, 2): Part("fixed word", "none", "any dot", "dot", "3", 4.0),
    (3, 1): Part("dot counter", "dot counter", "dots", "dot", "share", 1.0),
    (3, 3): Part("text reader", "none", "first word", "text", "2", 3.0),
    (4, 0): Part("suppressor", "none", "first word", "number", "answer", -3.0),
    (4, 3): Part("color counter", "color counter", "first word", "kinds", "answer", 5.0),
    (5, 1): Part("late count carrier", "count carrier", "first word", "number", "answer", 6.0),
}
# Logits that the dot counter's number adds to the answer.
COUNTED = 6.0


def planted_counting(
    *,
    grid: int = 6,
    tile_px: int = 4,
    noise: float = 0.0,
    seed: int = 0,
    without: Sequence[str] = (),
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor, pd.DataFrame]:
    """A LLaVA that counts dots with a known circuit, its processor, and the truth about its heads.

    Args:
        grid: cells per side, one image token each.
        tile_px: side of a cell in pixels; 4 or more, so that dots are round.
        noise: roughly what a head or MLP without a part adds to a word's logit, as a standard
            deviation in units of what there is to restore.
        seed: of the noise.
        without: names of `PARTS` to leave out.

    Returns:
        model, processor, and a frame with a row per head: ``layer, head, role, name``.
    """
    parts = {place: part for place, part in PARTS.items() if part.name not in without}
    channels, width = layout(grid)
    questions = [counting.TASK.asked_by(way).question for way in ("plain", "short")]
    tools = small.processor(grid, tile_px, small.tokenizer((*questions, *NUMBERS)))
    model = blank(
        tools, grid, tile_px, readout_of(_looks(tile_px), tile_px), channels, width, **SHAPE
    )
    generator = torch.Generator().manual_seed(seed)
    to_restore = COUNTED + sum(part.gain for part in parts.values() if part.carries == "number")
    with torch.no_grad():
        _set_words(model, channels, tools.tokenizer, questions)
        for index, layer in enumerate(model.model.language_model.layers):
            set_noise(layer, channels, noise * to_restore, KEPT_CLEAR, generator)
            for (at, head), part in parts.items():
                if at == index:
                    _set_head(layer.self_attn, head, part, channels)
        _set_mlps(model.model.language_model.layers, channels)
    return model, tools, truth(parts)


def layout(grid: int) -> tuple[dict[str, slice], int]:
    """Channels of the residual stream by feature, and its width, a multiple of the number of heads.

    ``first`` is 1 at the question's first word; ``color`` (the last: nothing there) and ``place``
    are at image tokens; ``shares`` (of each colour's dots), ``present`` (colours), ``number`` and
    ``kinds`` at the first word; ``share`` (of all dots) and ``answer`` at [end].
    """
    sizes = dict(constant=1, text=1, bos=1, first=1, place=2 * grid, color=len(COLORS) + 1)
    sizes |= dict(shares=len(COLORS), present=len(COLORS), share=1)
    sizes |= {name: len(NUMBERS) for name in ("number", "kinds", "answer", "idle")}
    return side_by_side(sizes, HEADS)


def _looks(px) -> torch.Tensor:
    """The mean colour of a cell with a dot of each colour, and of one without, 0 to 255, (11,
    3)."""
    ink = float(glyph("circle", px).mean())
    dots = [[255 - ink * (255 - value) for value in PALETTE[color]] for color in COLORS]
    return torch.tensor([*dots, [255.0] * 3], dtype=torch.float64)


def _set_words(model, channels, tokenizer, questions):
    """Word vectors say "text", "first token" or "the question's first word"; the unembedding reads
    the answer."""
    words = model.model.language_model.embed_tokens.weight
    words[:, channels["constant"]] = 1024.0
    words[:, channels["text"]] = 1
    words[tokenizer.bos_token_id, channels["text"]] = 0
    words[tokenizer.bos_token_id, channels["bos"]] = 1
    for question in questions:
        first = tokenizer(question, add_special_tokens=False)["input_ids"][0]
        words[first, channels["first"]] = 1
    head, asked = model.lm_head.weight, prompt(questions[0])
    head[:, channels["constant"]] = OTHER_TOKENS
    form = form_of(tokenizer, asked, NUMBERS, tuple(FORMS))
    for index, number in enumerate(NUMBERS):
        (answer,) = written(tokenizer, asked, number, form)  # type: ignore[arg-type, misc]
        head[answer, channels["constant"]] = 0
        head[answer, channels["answer"].start + index] = 1 / PER_LOGIT


def _set_head(attention, head, part, channels):
    """Write what a head looks for, carries and writes. Keys sit in RoPE's slow planes."""
    d_head, half = attention.head_dim, attention.head_dim // 2
    dot, bos, first = range(FAST, FAST + 3)
    query, key, value, output = bare_head(attention, head)
    assert first < half
    dots = slice(channels["color"].start, channels["color"].stop - 1)
    key[dot, dots] = 1
    key[bos, channels["bos"]] = 1
    key[first, channels["first"]] = 1

    # Attention divides scores by this factor. A head that finds nothing rests on the first token.
    sharp = SHARP * d_head**0.5
    rest = torch.log(torch.tensor(REST)) * d_head**0.5
    query[bos, channels["constant"]] = sharp
    if part.looks_for == "dots from the first word":
        query[dot, channels["first"]] = 2 * sharp
        query[bos, channels["first"]] = sharp + rest
    elif part.looks_for == "dots":
        query[dot, channels["text"]] = 2 * sharp
        query[bos, channels["text"]] = sharp + rest
    elif part.looks_for == "any dot":
        query[dot, channels["text"]] = 2 * sharp
    else:
        query[first, channels["text"]] = 2 * sharp

    if part.carries == "dot":
        value[0, dots] = 1
        features = 1
    else:
        carried = dots if part.carries == "color" else channels[part.carries]
        features = carried.stop - carried.start
        value[:features, carried] = torch.eye(features)
    in_logits = part.writes_to in ("answer", *NUMBERS)
    to = channels.get(part.writes_to) or channels["answer"]
    if part.writes_to in NUMBERS:
        to = slice(
            to.start + NUMBERS.index(part.writes_to), to.start + NUMBERS.index(part.writes_to) + 1
        )
    output[to, :features] = part.gain * (PER_LOGIT if in_logits else 1) * torch.eye(features)


def _set_mlps(layers, channels):
    """Turn shares into numbers: of dots and of colours at the first word, of dots at [end]."""
    dots = torch.arange(1, len(NUMBERS) + 1)
    halfway = (dots - 0.5) / (dots - 0.5 + REST)
    step = 0.1 * float(halfway[-1] - halfway[-2])
    fewest = 1 / (len(NUMBERS) + REST)
    present = [
        Steps(
            {channels["shares"].start + index: 1},
            [fewest / 2],
            fewest / 4,
            channels["present"].start + index,
        )
        for index in range(len(COLORS))
    ]
    number = Steps(_all(channels["shares"]), halfway.tolist(), step, channels["number"].start)
    kinds = Steps(_all(channels["present"]), (dots - 0.5).tolist(), 0.1, channels["kinds"].start)
    answer = Steps(
        _all(channels["share"]),
        halfway.tolist(),
        step,
        channels["answer"].start,
        COUNTED * PER_LOGIT,
    )
    for layer, steps in ((0, [number, *present]), (1, [kinds]), (3, [answer])):
        set_steps(layers[layer].mlp, channels["constant"], steps)


def _all(channel):
    return dict.fromkeys(range(channel.start, channel.stop), 1)


@dataclass(frozen=True)
class Steps:
    """What an MLP makes of a weighted sum of channels: 1 in one of several channels, depending on
    the sum.

    Attributes:
        read: channel → its weight.
        thresholds: rising; between the first two the first channel is 1, above the last the last
            channel.
        width: half of the ramp around a threshold.
        to: the first of the written channels.
        gain: the value written for 1.
    """

    read: Mapping[int, float]
    thresholds: Sequence[float]
    width: float
    to: int
    gain: float = 1.0


def set_steps(mlp, constant: slice, steps: Sequence[Steps]) -> None:
    """Make an MLP of these steps and nothing else: each ramp is the difference of two steep silu
    units."""
    for projection in (mlp.gate_proj, mlp.up_proj, mlp.down_proj):
        projection.weight.zero_()
    unit = 0
    for step in steps:
        for index, threshold in enumerate(step.thresholds):
            for at, sign in ((threshold - step.width, 1), (threshold + step.width, -1)):
                for channel, weight in step.read.items():
                    mlp.gate_proj.weight[unit, channel] = STEEP * weight
                mlp.gate_proj.weight[unit, constant] = -STEEP * at
                mlp.up_proj.weight[unit, constant] = 1 / STEEP
                height = sign * step.gain / (2 * step.width)
                mlp.down_proj.weight[step.to + index, unit] = height
                if index:
                    mlp.down_proj.weight[step.to + index - 1, unit] = -height
                unit += 1


def truth(parts: Mapping[Place, Any]) -> pd.DataFrame:
    """A row per head, ``layer, head, role, name``, from parts that have a role and a name."""
    rows = [
        (layer, head, *((part.role, part.name) if part else ("none", "none")))
        for layer in range(LAYERS)
        for head in range(HEADS)
        for part in [parts.get((layer, head))]
    ]
    return pd.DataFrame(rows, columns=["layer", "head", "role", "name"])
