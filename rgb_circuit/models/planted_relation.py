"""A planted circuit that tells where a shape is relative to another: the role of every head is
known.

It answers `rgb_circuit.stimuli.tasks.relation` without error, with the plain and with the short
template. `rgb_circuit.models.planted_counting` has the code that it shares with the planted circuit
that counts. New are:

1. **Cells**: a cell shows a shape in a colour, told apart from 40 others and from nothing by its
   pixels along random lines, which the projector bends.
2. **Names.** The question says the names of two shapes. The hearer tells the second name the first;
   so the second name knows the shape in question and the other.
3. **The relation is made at the second name**: two finders write the places of both shapes there,
   and the MLP compares their rows and their columns. Relation writers bring it from there to the
   answer.
4. **Places are also read at [end]**: question readers tell [end] the two names. Each place reader
   looks at a shape and adds its row and column to the answer, positive for the shape in question
   and negative for the other. A single place reader says where on the board a shape is.

The suppressor lowers the right relation, the fixed word always says "left", and the idle head
writes to channels that nothing reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from transformers import LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerBase

from ..boards import Canvas
from ..conversation import prompt
from ..conversation.answers import FORMS, form_of, written
from ..stimuli.tasks import relation, things
from ..stimuli.tasks.rgb import PALETTE
from . import small
from .planted import (
    FAST,
    OTHER_TOKENS,
    PER_LOGIT,
    SHARP,
    Place,
    Readout,
    bare_head,
    blank,
    set_noise,
    side_by_side,
)
from .planted_counting import HEADS, SHAPE, Steps, set_steps, truth

NAMES = relation.TASK.slots["shape"]
RELATIONS = tuple(relation.TASK.vocabulary)
LOOKS = [things.Thing(shape, color) for shape in NAMES for color in PALETTE]
# Random sums over pixels, and random lines through these sums; each line bends both ways.
FEATURES, LINES = 24, 36
# Features that queries and keys read, and places to compare, are kept free of noise.
KEPT_CLEAR = (
    "constant", "text", "bos", "color", "names", "heard", "asked", "asked_other",
    "there", "there_other",
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """What one planted head does.

    Attributes:
        name, role: as in the truth frame.
        looks_for: "other name" (from a name), "second name", "any word" (from all text), or a
            channel of names: the cell with this shape.
        carries, writes_to: channels of `layout`; "place" written to the answer is read as how far
            left and how far up a cell is.
        gain: factor of the carried vector; for the answer, in logits (for places, in logits per
            cell).
    """

    name: str
    role: str
    looks_for: str
    carries: str
    writes_to: str
    gain: float


PARTS: Mapping[Place, Part] = {
    (0, 1): Part("hearer", "none", "other name", "names", "heard", 1.0),
    (1, 0): Part("question reader", "question reader", "second name", "heard", "asked", 1.0),
    (1, 1): Part("finder", "none", "heard", "place", "there", 1.0),
    (1, 2): Part(
        "reader of the other name", "question reader", "second name", "names", "asked_other", 1.0
    ),
    (1, 3): Part("finder of the other", "none", "names", "place", "there_other", 1.0),
    (2, 1): Part("place reader", "place reader", "asked", "place", "answer", 1.5),
    (2, 3): Part(
        "reader of the other place", "place reader", "asked_other", "place", "answer", -1.5
    ),
    (3, 0): Part(
        "early relation writer", "relation writer", "second name", "relation", "answer", 5.0
    ),
    (3, 2): Part("fixed word", "none", "any word", "text", "left", 3.0),
    (4, 1): Part("suppressor", "none", "second name", "relation", "answer", -2.0),
    (4, 3): Part("idle head", "none", "second name", "relation", "idle", 1.0),
    (5, 2): Part(
        "late relation writer", "relation writer", "second name", "relation", "answer", 4.0
    ),
}


def planted_relation(
    *, grid: int = 6, tile_px: int = 4, noise: float = 0.0, seed: int = 0
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor, pd.DataFrame]:
    """A LLaVA that tells spatial relations with a known circuit, its processor, and the truth about
    its heads.

    Args:
        grid, tile_px: as in `rgb_circuit.models.planted_counting.planted_counting`.
        noise: roughly what a head or MLP without a part adds to a word's logit, as a standard
            deviation in units of what there is to restore.
        seed: of the noise.

    Returns:
        model, processor, and a frame with a row per head: ``layer, head, role, name``.
    """
    channels, width = layout(grid)
    ways = [relation.TASK.asked_by(way).questions for way in ("plain", "short")]
    questions = [question for way in ways for question in way]
    tools = small.processor(grid, tile_px, small.tokenizer((*questions, *RELATIONS)))
    model = blank(tools, grid, tile_px, readout_of_things(tile_px), channels, width, **SHAPE)
    generator = torch.Generator().manual_seed(seed)
    to_restore = sum(abs(part.gain) for part in PARTS.values() if part.writes_to == "answer")
    with torch.no_grad():
        set_words(model, channels, tools.tokenizer, questions[0], RELATIONS)
        for index, layer in enumerate(model.model.language_model.layers):
            set_noise(layer, channels, noise * to_restore, KEPT_CLEAR, generator)
            for (at, head), part in PARTS.items():
                if at == index:
                    _set_head(layer.self_attn, head, part, channels, grid)
        _set_comparison(model.model.language_model.layers[1].mlp, channels, grid)
    return model, tools, truth(PARTS)


def layout(grid: int) -> tuple[dict[str, slice], int]:
    """Channels of the residual stream by feature, and its width, a multiple of the number of heads.

    ``color`` (what a cell shows; the last: nothing) and ``place`` (rows, then columns) are at image
    tokens; ``names`` at the question's names; ``heard``, ``there, there_other`` and ``relation`` at
    the second name; ``asked, asked_other`` and ``answer`` at [end].
    """
    sizes = dict(constant=1, text=1, bos=1, place=2 * grid, color=len(LOOKS) + 1)
    sizes |= dict.fromkeys(("names", "heard", "asked", "asked_other"), len(NAMES))
    sizes |= dict.fromkeys(("there", "there_other"), 2 * grid)
    sizes |= dict.fromkeys(("relation", "answer", "idle"), len(RELATIONS))
    return side_by_side(sizes, HEADS)


def readout_of_things(px: int) -> Readout:
    """A readout that tells `LOOKS` and empty cells apart, for cells of ``px`` pixels: random sums
    over the pixels, and random lines through these sums."""
    canvas, draw = Canvas(1, px, 0, ""), torch.Generator().manual_seed(0)
    cells = [things.board(canvas, {(0, 0): look}) for look in LOOKS] + [things.board(canvas, {})]
    pixels = (
        torch.tensor(np.stack([np.array(cell) for cell in cells])).permute(0, 3, 1, 2).double()
        / 255
    )
    weights = torch.randn(FEATURES, *pixels.shape[1:], generator=draw, dtype=torch.float64) / px
    offsets = -(pixels.mean(0) * weights).sum((1, 2, 3))
    seen = pixels.flatten(1) @ weights.flatten(1).T + offsets
    lines = torch.randn(LINES, FEATURES, generator=draw) / FEATURES**0.5
    return Readout(weights, offsets, lines, seen)


def set_words(
    model: LlavaForConditionalGeneration,
    channels: Mapping[str, slice],
    tokenizer: PreTrainedTokenizerBase,
    question: str,
    answers: Sequence[str],
) -> None:
    """Word vectors say "text", "first token" or a name; the unembedding reads which of the
    ``answers`` is right."""
    words = model.model.language_model.embed_tokens.weight
    words[:, channels["constant"]] = 1024.0
    words[:, channels["text"]] = 1
    words[tokenizer.bos_token_id, channels["text"]] = 0
    words[tokenizer.bos_token_id, channels["bos"]] = 1
    for index, name in enumerate(NAMES):
        words[tokenizer.convert_tokens_to_ids(name), channels["names"].start + index] = 1
    head, asked = model.lm_head.weight, prompt(question)
    head[:, channels["constant"]] = OTHER_TOKENS
    form = form_of(tokenizer, asked, answers, tuple(FORMS))
    for index, word in enumerate(answers):
        (answer,) = written(tokenizer, asked, word, form)  # type: ignore[arg-type, misc]
        head[answer, channels["constant"]] = 0
        head[answer, channels["answer"].start + index] = 1 / PER_LOGIT


def _set_head(attention, head, part, channels, grid):
    """Write what a head looks for, carries and writes. Keys sit in RoPE's slow planes: names or
    shapes, the second name, and the first token, on which a head rests if it finds nothing."""
    d_head = attention.head_dim
    shapes, second, bos = slice(FAST, FAST + len(NAMES)), FAST + len(NAMES), FAST + len(NAMES) + 1
    query, key, value, output = bare_head(attention, head)
    # Attention divides scores by this factor.
    sharp = SHARP * d_head**0.5
    key[bos, channels["bos"]] = 1
    query[bos, channels["constant"]] = sharp
    if part.looks_for in ("second name", "any word"):
        key[second, channels["heard" if part.looks_for == "second name" else "text"]] = 1
        query[second, channels["text"]] = 2 * sharp
    elif part.looks_for == "other name":
        # Its own name 0, another 2 · SHARP, first token SHARP.
        key[shapes, channels["names"]] = torch.eye(len(NAMES))
        query[shapes, channels["names"]] = 2 * sharp * (1 - torch.eye(len(NAMES)))
    else:
        key[shapes, slice(channels["color"].start, channels["color"].stop - 1)] = torch.eye(
            len(NAMES)
        ).repeat_interleave(len(PALETTE), 1)
        query[shapes, channels[part.looks_for]] = 2 * sharp * torch.eye(len(NAMES))

    carried = channels[part.carries]
    features = carried.stop - carried.start
    value[:features, carried] = torch.eye(features)
    if part.writes_to == "answer" and part.carries == "place":
        written_to, vectors = channels["answer"], PER_LOGIT * _toward(grid)
    elif part.writes_to in RELATIONS:
        start = channels["answer"].start + RELATIONS.index(part.writes_to)
        written_to, vectors = slice(start, start + 1), PER_LOGIT * torch.eye(1)
    else:
        in_logits = part.writes_to == "answer"
        written_to = channels[part.writes_to]
        vectors = (PER_LOGIT if in_logits else 1.0) * torch.eye(features)
    output[written_to, :features] = part.gain * vectors


def _toward(grid) -> torch.Tensor:
    """How much a row and a column speak for left, right, above and below, (4, 2 · grid)."""
    middle = torch.arange(grid) - (grid - 1) / 2
    toward = torch.zeros(len(RELATIONS), 2 * grid)
    for word, axis, sign in (("left", 1, -1), ("right", 1, 1), ("above", 0, -1), ("below", 0, 1)):
        toward[RELATIONS.index(word), axis * grid : (axis + 1) * grid] = sign * middle
    return toward


def _set_comparison(mlp, channels, grid):
    """Write the relation of the two places at the second name: 1 if they are a cell or more apart
    in that direction."""
    steps = []
    for index, along in enumerate(_toward(grid).tolist()):
        read = {channels["there"].start + place: weight for place, weight in enumerate(along)}
        read |= {
            channels["there_other"].start + place: -weight for place, weight in enumerate(along)
        }
        steps.append(Steps(read, [0.5], 0.2, channels["relation"].start + index))
    set_steps(mlp, channels["constant"], steps)
