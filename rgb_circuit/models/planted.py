"""Planted circuits: LLaVAs whose weights are set by hand, so that the role of every head is known.

The class is the ordinary Hugging Face LLaVA. Its heads play the circuit that the RGB game's
hypothesis describes, next to decoys that pass a naive test and are something else. An analysis that
misjudges these will misjudge a real model. Everything about colours here also holds for other
things in which the tiles of a `Game` differ.

The construction, in the order of the functions below:

1. **Residual stream.** Every feature has its own channels (`layout`). One channel holds
   ``CONSTANT``, which dominates the norm: RMSNorm divides by nearly the same number everywhere, and
   its weight multiplies that number back. So each sublayer reads the features as they are, and the
   constant as 1, to a few parts in a million.
2. **Vision tower.** The patch convolution averages a tile's red, green and blue; the position table
   holds its place as one-hot row and column. Each feature has a twin of opposite sign, so that
   LayerNorm's mean is zero, and two constants of opposite sign fix its variance. The features are
   read before the only encoder layer (``vision_feature_layer`` is −2).
3. **Projector.** Units come in pairs with opposite inputs. gelu(z) − gelu(−z) = z passes the place;
   gelu(z) + gelu(−z) bends, which lets least squares turn the colours of ``WORDS`` into one-hot
   codes. Other colours get a mixed code. Tiles that show pictures, as in `SHAPES`, are told apart
   by the convolution already: least squares over their pixels gives a channel per word, and the
   projector passes it on.
4. **Words.** Every text token but the first is just "text". An answer channel per colour word feeds
   the unembedding; "white" has the constant logit ``WHITE``. The question is not read: the model
   names the odd colour whatever is asked.
5. **Noise.** Heads and MLPs without a part get random weights, which read every feature and write
   to all but the constant.
6. **Heads** (`PARTS`). A head is what it looks for (query), what it carries (value) and where it
   writes that (output). Keys are the same for all heads: the place, the oddness mark, and the first
   token, on which a head rests when it finds nothing. Scores differ by ``SHARP`` or more, so a
   pattern is one-hot or uniform up to about e^-SHARP. Keys sit in RoPE's slow planes, which turn by
   less than 1e-4 over a prompt; the first ``FAST`` planes are left to the noise heads.

   - The mean head, at a tile, averages the colours of the earlier tiles that are not in its row or
     column (in the first row: of all earlier tiles). Its own tile is never among them.
   - The POI localization head finds the mark and writes its place at every text token, including
     [end].
   - The color extractor finds the tile at the place that the POI head wrote, and adds its colour to
     the answer.
   - The redundant pair does the same, each head at half strength.
   - The content extractor finds the mark itself and adds the colour there: it needs no POI head.
   - The background writers find the mark and add the mean noted there. With the clean picture's
     output restored on a plain canvas they raise the background, as a POI head does, and take no
     part in localization.
   - The suppressor finds the mark and lowers the colour there, so that its output too moves "odd −
     background".
   - The idle watcher finds the mark and writes to channels that nothing reads.
7. **Mark.** The MLP in the mean head's layer marks a tile as odd if one colour holds most of the
   mean and the tile has another: mark = Σ over colours of clip((mean − own − ODD_FROM) / (ODD_FULL
   − ODD_FROM), 0, 1), each clip from two steep silu units.

A tile at (0, 0) cannot be odd: nothing comes before it, so (0, 1) gets the mark and the answer is
the background. Every other tile is answered correctly, for all pairs of ``WORDS`` and all five
conditions of `rgb_trial`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from random import Random

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.nn.functional import gelu
from transformers import LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerBase

from ..boards import RGB, Canvas
from ..conversation import prompt
from ..conversation.answers import FORMS, form_of, written
from ..errors import InputError
from ..heads import Head
from ..stimuli.tasks import shape
from ..stimuli.tasks.rgb import NOTHING_ODD, ODD_QUESTION, PALETTE
from . import small

CONSTANT = 1024.0
SHARP = 15.0
FAST = 7
# If (0, 1) is odd, half of the mean at (0, 2) is the odd colour; at an odd tile all of the mean is
# the background.
ODD_FROM, ODD_FULL = 0.6, 0.9
STEEP = 200.0
# The answer is small relative to the other features, so that noise shows in the logits before it
# breaks the circuit.
PER_LOGIT = 0.03
WHITE = 5.0
OTHER_TOKENS = -20.0
# Noise heads attend sharply, so that some of them notice the odd tile.
NOISE_LOOK, NOISE_READ = 1.0, 0.5
# About the largest noise at which the game is nearly always won.
MODERATE_NOISE = 0.02

# Channels that only some parts of `UNKIND` need.
FURTHER = ("handed", "white", "cue", "noted", "line", "summary", "gate")
# A head with uneven attention gives tiles little attention, so that it can vary much.
LOOKS_LITTLE = -3.0

WORDS = small.COLORS
Place = tuple[int, int]


@dataclass(frozen=True)
class Game:
    """Odd one out, by what tiles show.

    Attributes:
        question: the question before the answers.
        words: for what tiles show, in the order of their channels.
        nothing: the answer if no tile is odd.
        differ_in: what tiles differ in, as in the names of parts and roles.
        tile: word, pixels per side → the picture of such a tile; None if tiles are plain colours.
    """

    question: str = ODD_QUESTION
    words: tuple[str, ...] = WORDS
    nothing: str = NOTHING_ODD
    differ_in: str = "color"
    tile: Callable[[str, int], Image.Image] | None = None


def _shape_tile(word: str, px: int) -> Image.Image:
    return shape.board(Canvas(1, px, 0, ""), word, {})


SHAPES = Game(
    shape.TASK.question,
    tuple(shape.TASK.vocabulary),
    shape.TASK.roles["none"].word or "",
    "shape",
    _shape_tile,
)


@dataclass(frozen=True)
class Part:
    """What one planted head does.

    Attributes:
        name, role: as in the truth frame; roles are those of `analyses.roles`.
        looks_for: "other tiles" (from a tile), "mark" (the odd tile), "found" (the place that the
            POI head wrote); "found unless answered" (only while no colour is in the answer), "found
            or canvas" (all tiles, if no place was written), "canvas unless found" (all tiles, as
            long as no place was written), "mark from cue" (the odd tile, but only from the
            question's first word), "cue" (the question's first word), "own line" (from the word
            that stands for a row of tiles: this row, and in it the odd tile), "found line" and
            "handed line" (the word of the row that was found or handed on), "found row" (the row
            that was found, and in it the odd tile) or "canvas if gate" (all tiles if the gate is
            open, the odd tile most).
        carries, writes_to: channels of `layout`; a word of the game is that word's channel of
            "answer".
        gain: factor of the carried vector; for "answer", "white" and "noted", in logits.
        colors: the colours that it carries; all if empty.
        variation: coefficient of variation, over tiles, of the attention that "found" puts on a
            tile; the mean over tiles has the gain. The features that its query and key read are
            kept free of noise, since attention that is far from full follows the least of it.
    """

    name: str
    role: str
    looks_for: str
    carries: str
    writes_to: str
    gain: float
    colors: tuple[str, ...] = ()
    variation: float = 0.0


PARTS: Mapping[str, Part] = {
    "mean": Part("mean", "none", "other tiles", "color", "mean", 1.0),
    "poi": Part("POI localization", "POI localization", "mark", "place", "found", 1.0),
    "extractor": Part("color extractor", "color extractor", "found", "color", "answer", 10.0),
    "content_extractor": Part(
        "content extractor", "color extractor", "mark", "color", "answer", 6.0
    ),
    "redundant_pair": Part("redundant pair", "color extractor", "found", "color", "answer", 5.0),
    "early_background_writer": Part(
        "early background writer", "background writer", "mark", "mean", "answer", 3.0
    ),
    "late_background_writer": Part(
        "late background writer", "background writer", "mark", "mean", "answer", 3.0
    ),
    "suppressor": Part("suppressor", "none", "mark", "color", "answer", -2.0),
    "idle_watcher": Part("idle watcher", "none", "mark", "color", "idle", 1.0),
}
# Parts that real models have and the kind models lack; placed with ``more``.
UNKIND: Mapping[str, Part] = {
    "backup": Part("backup", "none", "found unless answered", "color", "answer", 8.0),
    "resting_extractor": Part(
        "resting extractor", "color extractor", "found or canvas", "color", "answer", 4.0
    ),
    "finder": Part("finder", "none", "mark", "place", "handed", 1.0),
    "relay": Part("place relay", "place relay", "cue", "handed", "found", 1.0),
    "canvas_suppressor": Part(
        "canvas suppressor", "canvas suppressor", "canvas unless found", "color", "answer", -3.0
    ),
    "oddness": Part("oddness", "oddness", "mark", "mark", "white", -4.0),
    "fixed_word": Part("fixed word", "none", "mark", "mark", "blue", 3.0),
    "second_reader": Part("second reader", "background writer", "found", "mean", "answer", 2.0),
    # A circuit at the question's first word, which tells [end] only the colour.
    "early_poi": Part(
        "early POI localization", "POI localization", "mark from cue", "place", "found", 1.0
    ),
    "early_extractor": Part(
        "early color extractor", "color extractor", "found", "color", "noted", 10.0
    ),
    "carrier": Part("carrier", "none", "cue", "noted", "answer", 1.0),
    # Words of the question stand for rows of tiles: they get what is in the row, and which row it
    # is.
    "summary": Part("row summary", "none", "own line", "color", "summary", 1.0),
    "summary_reader": Part("reader of summaries", "none", "found line", "summary", "answer", 6.0),
    "line_relay": Part("relay by text", "none", "handed line", "line", "found", 1.0),
    "row_reader": Part("reader of a row", "color extractor", "found row", "color", "answer", 10.0),
    # It says that a tile is odd, but not where.
    "gate": Part("existence gate", "none", "mark", "mark", "gate", 1.0),
    "gated_reader": Part(
        "gated reader", "color extractor", "canvas if gate", "color", "answer", 10.0
    ),
}
CIRCUIT = ("mean", "poi", "extractor")
DECOYS = tuple(part for part in PARTS if part not in CIRCUIT)


@dataclass(frozen=True)
class Placement:
    """The place of each part, as (layer, head) from 0; ``redundant_pair`` holds two places.

    The mean head comes first (its layer's MLP marks the odd tile), then the POI head, then the
    extractors that read its place. The early background writer sits in a layer before the color
    extractor, the late one in a layer after it.
    """

    mean: Place = (0, 2)
    poi: Place = (2, 1)
    extractor: Place = (3, 0)
    content_extractor: Place = (3, 2)
    redundant_pair: tuple[Place, Place] = ((4, 1), (4, 3))
    early_background_writer: Place = (1, 3)
    late_background_writer: Place = (5, 2)
    suppressor: Place = (4, 2)
    idle_watcher: Place = (3, 3)


# (earlier, later): the first part's layer must come before the second's.
ORDER = (
    *(("mean", part) for part in PARTS if part != "mean"),
    ("poi", "extractor"),
    ("poi", "redundant_pair"),
    ("early_background_writer", "extractor"),
    ("extractor", "late_background_writer"),
)


def planted(
    *,
    grid: int = 6,
    tile_px: int = 4,
    layers: int = 6,
    heads: int = 4,
    kv_heads: int | None = None,
    placement: Placement = Placement(),
    decoys: Sequence[str] = DECOYS,
    noise: float = 0.0,
    seed: int = 0,
    without: Sequence[str] = (),
    more: Sequence[tuple[Part, Place]] = (),
    likeness: float = 0.0,
    vocabulary: PreTrainedTokenizerBase | None = None,
    palette: Mapping[str, RGB] = PALETTE,
    game: Game = Game(),
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor, pd.DataFrame]:
    """A LLaVA with a known circuit, its processor, and the truth about its heads.

    It plays the RGB game, or another, without error for every pair of its words and every tile but
    (0, 0), whichever decoys it has.

    Args:
        grid: tiles per side, one image token each; tried from 3 to 24.
        tile_px: side of a tile in pixels.
        layers, heads, kv_heads: of the language model; ``kv_heads`` defaults to ``heads``. A head's
            width is 2 · ``grid`` plus 2 per word of the game, and 2 more with a cue or lines.
        placement: the place of each part; see also `random_placement`.
        decoys: the members of `DECOYS` to include.
        noise: roughly what a head or MLP without a part adds to a word's logit, as a standard
            deviation in units of the `gap`: noise that is large for a circuit of one reader is
            small for a circuit of four.
        seed: of the noise, and of the uneven attention of heads with ``variation``.
        without: "poi" or "extractor" of the circuit to leave out, if parts of ``more`` replace it.
        more: further parts, each with its place as (layer, head); see `UNKIND`.
        likeness: how much of a colour word's logit goes to similar words (and is taken from
            opposite ones): another word gets ``likeness`` · the cosine of their red, green, blue,
            each from −1 to 1.
        vocabulary: a tokenizer other than the small one. Its answers are the first tokens of colour
            words after the game's prompt.
        palette: the colours of the words.
        game: the game to play, such as `SHAPES`.

    Returns:
        model, processor, and a frame with a row per head: ``layer, head, role, name``. ``role`` is
        "color extractor", "POI localization", "background writer", "none", or the role of a part of
        ``more``; ``name`` tells the parts apart ("mean", "suppressor", … or "none").

    Raises:
        InputError: sizes that no model can have, an unknown decoy, a placement that is off the
            model, double, or out of order, or tiles that no linear readout tells apart.
    """
    kv_heads = heads if kv_heads is None else kv_heads
    placed = _placed(placement, decoys, layers, heads, kv_heads, grid, without, more)
    if vocabulary is not None and vocabulary.bos_token_id is None:
        raise InputError(
            "the heads rest on the first token, and this vocabulary puts none in front; give one "
            "that does"
        )
    further = tuple(
        name
        for name in FURTHER
        if any(name in (part.carries, part.writes_to, *part.looks_for.split()) for part, _ in more)
        or (name == "line" and any(part.looks_for == "found row" for part, _ in more))
    )
    channels, width = layout(grid, heads, further, len(game.words))
    # A cue and lines take a slow plane each.
    d_head = 2 * grid + 2 * len(game.words) + 2 * ("cue" in channels or "line" in channels)

    known = vocabulary or small.tokenizer((game.question, *game.words, game.nothing))
    tools = small.processor(grid, tile_px, known)
    looks = _looks(game, palette, tile_px)
    readout = readout_of(looks, tile_px)
    model = blank(
        tools, grid, tile_px, readout, channels, width,
        layers=layers, heads=heads, kv_heads=kv_heads, d_head=d_head,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    uneven = any(part.variation for part, _ in more)
    with torch.no_grad():
        _set_words(model, channels, tools.tokenizer, likeness, looks, game)
        _set_lines(model, channels, tools.tokenizer, game.question)
        for index, layer in enumerate(model.model.language_model.layers):
            parts = {head: part for part, (at, head) in placed if at == index}
            kept_clear = ["constant", *(["place", "found", "bos"] if uneven else [])]
            of_gap = noise * gap(decoys, without, more, len(game.words))
            set_noise(layer, channels, of_gap, kept_clear, generator)
            _set_heads(layer.self_attn, parts, channels, grid, kv_heads, seed, game.words)
            if any(part.name == "mean" for part in parts.values()):
                _set_mark(layer.mlp, channels)
    return model, tools, _truth(placed, layers, heads, game.differ_in)


def gap(
    decoys: Sequence[str] = DECOYS,
    without: Sequence[str] = (),
    more: Sequence[tuple[Part, Place]] = (),
    words: int = len(WORDS),
) -> float:
    """How many logits the odd word falls by when its tile is recolored or erased: the sum over all
    readers of its colour, without noise.

    A backup counts as nothing, since it adds nothing while others do; a reader of some colours
    counts with its mean over all.
    """
    names = [part for part in (*CIRCUIT, *decoys) if part not in without]
    parts = [PARTS[name] for name in names for _ in range(2 if name == "redundant_pair" else 1)]
    parts += [part for part, _ in more if part.looks_for != "found unless answered"]
    readers = [
        part for part in parts if part.carries == "color" and part.writes_to in ("answer", "noted")
    ]
    readers = [part for part in readers if part.looks_for != "canvas unless found"]
    return sum(part.gain * (len(part.colors) or words) / words for part in readers)


def random_placement(layers: int, heads: int, seed: int = 0) -> Placement:
    """All parts at places drawn by ``seed``, in an order that works; needs 4 layers or more, and
    room for 10 heads."""
    draw = Random(seed)
    if layers < 4:
        raise InputError(
            f"all parts need layers=4 or more, not {layers}; place fewer parts by hand with "
            "Placement(…)"
        )
    mean, poi, extractor, late = sorted(draw.sample(range(layers), 4))
    # Part → layers that it may sit in; the parts with the fewest choices draw first.
    after_mean, after_poi = range(mean + 1, layers), range(poi + 1, layers)
    allowed: dict[str, Sequence[int]] = dict(
        mean=[mean], poi=[poi], extractor=[extractor], late_background_writer=[late]
    )
    allowed |= dict(
        early_background_writer=range(mean + 1, extractor),
        redundant_pair=after_poi,
        redundant_pair_2=after_poi,
    )
    allowed |= dict(content_extractor=after_mean, suppressor=after_mean, idle_watcher=after_mean)
    places: dict[str, Place] = {}
    for part, at in allowed.items():
        free = [
            (layer, head)
            for layer in at
            for head in range(heads)
            if (layer, head) not in places.values()
        ]
        if not free:
            raise InputError(
                f"{layers} layers × {heads} heads leave no room for {part}; give more heads, or "
                "another seed"
            )
        places[part] = draw.choice(free)
    pair = places.pop("redundant_pair"), places.pop("redundant_pair_2")
    return Placement(redundant_pair=pair, **places)


def layout(
    grid: int, multiple: int = 1, further: Sequence[str] = (), colors: int = len(WORDS)
) -> tuple[dict[str, slice], int]:
    """Channels of the residual stream by feature, and its width (a multiple of ``multiple``; the
    remaining channels stay unread).

    ``text`` is 1 at text tokens, ``bos`` at the first token; ``place`` (rows, then columns),
    ``color``, ``mean`` (of other tiles) and ``mark`` (of oddness) are at image tokens; ``found`` (a
    place), ``answer`` (a channel per colour word) and ``idle`` (never read) at text tokens.
    ``further``: the members of `FURTHER` that come after these: ``handed`` (a place), ``white``
    (the answer for nothing), ``cue`` (1 at the question's first word), ``noted`` (a colour),
    ``line`` (the row that a word of the question stands for), ``summary`` (the colour in that row)
    and ``gate`` (open if a tile is odd) at text tokens. ``colors``: the number of words.
    """
    sizes = dict(constant=1, text=1, bos=1)
    sizes |= dict(place=2 * grid, color=colors, mean=colors, mark=1)
    sizes |= dict(found=2 * grid, answer=colors, idle=colors)
    several = {"handed": 2 * grid, "noted": colors, "line": grid, "summary": colors}
    sizes |= {name: several.get(name, 1) for name in further}
    return side_by_side(sizes, multiple)


def side_by_side(sizes: Mapping[str, int], multiple: int) -> tuple[dict[str, slice], int]:
    """Channels by feature, one after the other, and the width: the smallest multiple of
    ``multiple`` that holds them all.

    Args:
        sizes: feature → its number of channels.
    """
    channels, start = {}, 0
    for name, size in sizes.items():
        channels[name] = slice(start, start + size)
        start += size
    return channels, -(-start // multiple) * multiple


def bare_head(
    attention, head: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The zeroed weights of a head, to be written to: its query, key and value, (d_head, width)
    each, and its output, (width, d_head). Every head has its own keys."""
    rows = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
    query, key, value = (
        projection.weight[rows]
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    output = attention.o_proj.weight[:, rows]
    for weights in (query, key, value, output):
        weights.zero_()
    return query, key, value, output


def set_norms(text, channels) -> None:
    """Make every norm the identity on the features, and set the constant to 1."""
    norms = [
        norm
        for layer in text.layers
        for norm in (layer.input_layernorm, layer.post_attention_layernorm)
    ]
    for norm in (*norms, text.norm):
        norm.weight.fill_(CONSTANT / norm.weight.numel() ** 0.5)
        norm.weight[channels["constant"]] /= CONSTANT


@dataclass(frozen=True)
class Readout:
    """How tiles are told apart.

    Attributes:
        weights, offsets: from a tile's pixels, 0 to 1, to its features: (feature, 3, px, px),
            (feature,).
        lines: the directions in which the projector reads the features, (line, feature).
        seen: the features of each word's tile, (word, feature).
    """

    weights: torch.Tensor
    offsets: torch.Tensor
    lines: torch.Tensor
    seen: torch.Tensor


def _looks(game, palette, px) -> torch.Tensor:
    """The look of each word's tile, 0 to 255: its colour, (word, 3), or its pixels, (word, 3, px,
    px)."""
    if game.tile is None:
        return torch.tensor([palette[word] for word in game.words])
    tiles = [np.array(game.tile(word, px).convert("RGB")) for word in game.words]
    return torch.tensor(np.stack(tiles)).permute(0, 3, 1, 2)


def readout_of(looks, px) -> Readout:
    """For colours: red, green and blue, and lines that tell the words apart. For pictures: a
    feature per word."""
    if looks.ndim == 2:
        weights = torch.eye(3, dtype=torch.float64)[:, :, None, None].expand(3, 3, px, px) / px**2
        return Readout(weights, torch.zeros(3), _color_lines(), looks.double() / 255)
    words = len(looks)
    pixels = torch.cat([looks.double().flatten(1) / 255, torch.ones(words, 1)], dim=1)
    if torch.linalg.matrix_rank(pixels) < words:
        raise InputError(
            f"the tiles of the {words} words are not told apart by a sum over {px} × {px} pixels; "
            "use larger tiles, or words whose tiles differ more"
        )
    fitted = torch.linalg.pinv(pixels).T
    return Readout(
        fitted[:, :-1].unflatten(1, looks.shape[1:]),
        fitted[:, -1],
        torch.eye(words),
        torch.eye(words),
    )


def blank(
    tools: LlavaProcessor,
    grid: int,
    tile_px: int,
    readout: Readout,
    channels: Mapping[str, slice],
    width: int,
    *,
    layers: int,
    heads: int,
    kv_heads: int,
    d_head: int,
) -> LlavaForConditionalGeneration:
    """A LLaVA that reads its tiles into its channels, and whose language model does nothing yet.

    Args:
        channels, width: of the residual stream, by feature.
    """
    vision_width = 2 * (1 + len(readout.offsets) + 2 * grid)
    configuration = small.config(
        grid,
        tile_px,
        tools.tokenizer,
        vision=dict(
            hidden_size=vision_width,
            intermediate_size=vision_width,
            num_hidden_layers=1,
            num_attention_heads=1,
        ),
        text=dict(
            hidden_size=width,
            intermediate_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            head_dim=d_head,
            max_position_embeddings=grid * grid + 256,
            # The first slow plane turns by 1e-7 per token, the later ones by less.
            rope_parameters={"rope_type": "default", "rope_theta": 1e7 ** (d_head / 2 / FAST)},
        ),
    )
    model = LlavaForConditionalGeneration(configuration).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        set_norms(model.model.language_model, channels)
        set_vision(model.model.vision_tower, grid, tools.image_processor, readout)
        set_projector(model.model.multi_modal_projector, channels, grid, readout)
    return model


def set_vision(tower, grid, image_processor, readout) -> None:
    """Channels: ± constant, then the readout's features, rows, columns, then the twins of these."""
    features = 2 + len(readout.offsets)
    twin = features + 2 * grid
    table, patches = (
        tower.embeddings.position_embedding.weight,
        tower.embeddings.patch_embedding.weight,
    )
    table[:, 0], table[:, 1] = CONSTANT, -CONSTANT
    # Undo the processor's normalisation, so that features come from pixels between 0 and 1.
    mean, std = (
        torch.tensor(of, dtype=torch.float64)
        for of in (image_processor.image_mean, image_processor.image_std)
    )
    patches[2:features] = (readout.weights * std[:, None, None]).float()
    table[1:, 2:features] = (readout.weights.sum((2, 3)) @ mean + readout.offsets).float()
    for token in range(grid * grid):
        table[1 + token, features + token // grid] = 1
        table[1 + token, features + grid + token % grid] = 1
    patches[twin:] = -patches[2:twin]
    table[1:, twin:] = -table[1:, 2:twin]
    tower.pre_layrnorm.weight.fill_(CONSTANT * (2 / table.shape[1]) ** 0.5)


def set_projector(projector, channels, grid, readout) -> None:
    """Map a tile's features to a one-hot word, and place to place. Hidden units: the readout's
    lines, places, then the same with opposite inputs."""
    lines, places = readout.lines, torch.eye(2 * grid)
    weights = torch.block_diag(lines, places)
    # Read half from the feature, half from its twin.
    read = torch.cat([torch.zeros(len(weights), 2), weights / 2, -weights / 2], dim=1)
    positive, negative = slice(0, len(weights)), slice(len(weights), 2 * len(weights))
    projector.linear_1.weight[positive] = read
    projector.linear_1.weight[negative] = -read

    out, bias = projector.linear_2.weight, projector.linear_2.bias
    bias[channels["constant"]] = CONSTANT
    out[channels["place"], positive.start + len(lines) : positive.stop] = places
    out[channels["place"], negative.start + len(lines) : negative.stop] = -places
    along = readout.seen.double() @ lines.T.double()
    units = torch.cat([gelu(along), gelu(-along), torch.ones(len(along), 1)], dim=1)
    # (unit, word); pinv picks the smallest, and so the smoothest, of the exact solutions.
    code = torch.linalg.pinv(units).float()
    out[channels["color"], positive.start : positive.start + len(lines)] = code[: len(lines)].T
    out[channels["color"], negative.start : negative.start + len(lines)] = code[len(lines) : -1].T
    bias[channels["color"]] = code[-1]


def _color_lines() -> torch.Tensor:
    """The 13 lines through the centre of a 3 × 3 × 3 cube, (line, 3): more than 8 colours need, so
    that the fit is smooth."""
    steps = torch.tensor([-1.0, 0.0, 1.0])
    lines = torch.cartesian_prod(steps, steps, steps)
    return lines[len(lines) // 2 + 1 :]


def _set_words(model, channels, tokenizer, likeness, looks, game):
    """Word vectors say only "text" or "first token"; the unembedding reads the answer."""
    words = model.model.language_model.embed_tokens.weight
    words[:, channels["constant"]] = CONSTANT
    words[:, channels["text"]] = 1
    words[tokenizer.bos_token_id, channels["text"]] = 0
    words[tokenizer.bos_token_id, channels["bos"]] = 1
    if "cue" in channels:
        first = tokenizer(game.question, add_special_tokens=False)["input_ids"][0]
        words[first, channels["cue"]] = 1

    head = model.lm_head.weight
    head[:, channels["constant"]] = OTHER_TOKENS
    asked = prompt(game.question)
    form = form_of(tokenizer, asked, game.words, tuple(FORMS))
    answers = [
        written(tokenizer, asked, word, form)[0]  # type: ignore[arg-type, index]
        for word in (*game.words, game.nothing)
    ]
    for index, answer in enumerate(answers[:-1]):
        row = head[answer]
        row[channels["constant"]] = 0
        row[channels["answer"].start + index] = 1 / PER_LOGIT
        if likeness:
            row[channels["answer"]] += likeness * _likeness(looks)[index] / PER_LOGIT
    head[answers[-1], channels["constant"]] = WHITE
    if "white" in channels:
        head[answers[-1], channels["white"]] = 1 / PER_LOGIT


def _set_lines(model, channels, tokenizer, question):
    """Let the question's first words, without repeats, stand for the rows of tiles."""
    if "line" not in channels:
        return
    ids = list(dict.fromkeys(tokenizer(question, add_special_tokens=False)["input_ids"]))
    line = channels["line"]
    rows = line.stop - line.start
    if len(ids) < rows:
        raise InputError(
            f"the question has {len(ids)} words for {rows} rows of tiles; use a smaller grid"
        )
    model.model.language_model.embed_tokens.weight[ids[:rows], line] = torch.eye(rows)


def _likeness(looks) -> torch.Tensor:
    """The cosine of two words' tiles around grey, (word, word); 0 for a word with itself."""
    colors = torch.nn.functional.normalize(looks.flatten(1) / 127.5 - 1, dim=1)
    return (colors @ colors.T).fill_diagonal_(0)


def set_noise(layer, channels, noise, kept_clear, generator) -> None:
    """Give a whole layer random weights, ``noise`` in logits; planted heads and the marking MLP
    overwrite theirs. Nothing is written to the channels ``kept_clear``."""
    if noise == 0:
        return
    attention, mlp = layer.self_attn, layer.mlp
    look, read = (
        (attention.q_proj, attention.k_proj),
        (attention.v_proj, mlp.gate_proj, mlp.up_proj),
    )
    for projection in (*look, *read):
        size = NOISE_LOOK if projection in look else NOISE_READ
        projection.weight.copy_(torch.randn(projection.weight.shape, generator=generator) * size)
    for projection in (attention.v_proj, mlp.up_proj):
        # A feature that is the same in every picture would shift the logits by a constant.
        for flag in ("constant", "text", "bos"):
            projection.weight[:, channels[flag]] = 0
    for projection, fan_in in (
        (attention.o_proj, attention.head_dim),
        (mlp.down_proj, mlp.intermediate_size),
    ):
        projection.weight.copy_(
            torch.randn(projection.weight.shape, generator=generator)
            * noise
            * PER_LOGIT
            / fan_in**0.5
        )
        # ``kept_clear`` always has the constant: the norms are linear only while it is.
        for name in kept_clear:
            projection.weight[channels[name]] = 0


def _set_heads(attention, parts: Mapping[int, Part], channels, grid, kv_heads, seed, words):
    """Write the planted heads of one layer. Heads that share keys and values get the union of what
    each needs."""
    d_head = attention.head_dim
    half = d_head // 2
    slow = torch.tensor([*range(FAST, half), *range(half + FAST, d_head)])
    place, mark, bos = slow[: 2 * grid], slow[2 * grid], slow[2 * grid + 1]
    colors = 2 * grid + len(words)
    carried = {
        "place": slice(0, 2 * grid),
        "color": slice(2 * grid, colors),
        "mean": slice(colors, colors + len(words)),
    }
    # Heads that share keys and values with these carry neither place nor colour (`_placed`).
    carried |= {"handed": carried["place"], "noted": carried["color"], "mark": slice(0, 1)}
    carried |= {"line": slice(0, grid), "summary": carried["color"]}
    queries, keys, values = (
        projection.weight.view(-1, d_head, projection.weight.shape[1])
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    outputs = attention.o_proj.weight.view(attention.o_proj.weight.shape[0], -1, d_head)
    group_size = len(queries) // kv_heads
    # Attention divides scores by this factor.
    scale = d_head**0.5

    for group in {head // group_size for head in parts}:
        keys[group], values[group] = 0, 0
        keys[group, place, channels["place"]] = torch.eye(2 * grid)
        keys[group, mark, channels["mark"]] = 1
        keys[group, bos, channels["bos"]] = 1
        if "cue" in channels:
            keys[group, slow[2 * grid + 2], channels["cue"]] = 1
        if "line" in channels:
            # A word is in the row that it stands for.
            keys[group, place[:grid], channels["line"]] = torch.eye(grid)
            keys[group, slow[2 * grid + 3], channels["line"]] = 1
    for head, part in parts.items():
        value = carried[part.carries]
        features = value.stop - value.start
        values[head // group_size, value, channels[part.carries]] = torch.eye(features)
        outputs[:, head] = 0
        # A noted colour is already in logits.
        in_logits = (
            part.writes_to in ("answer", "white", "noted", *words) and part.carries != "noted"
        )
        unit = PER_LOGIT if in_logits else 1
        to = (
            channels["answer"].start + words.index(part.writes_to)
            if part.writes_to in words
            else channels[part.writes_to]
        )
        if part.carries == "line":
            # Rows come first.
            to = slice(to.start, to.start + grid)
        written = part.gain * unit * torch.eye(features)
        if part.colors:
            written = written @ torch.diag(
                torch.tensor([float(word in part.colors) for word in words])
            )
        weights, mean = _uneven(part, grid, seed) if part.variation else (None, 1.0)
        outputs[to, head, value] = written[0] / mean if part.writes_to in words else written / mean
        query = queries[head]
        query.zero_()
        if part.looks_for == "other tiles":
            # Own tile −SHARP, text 0, own row or column SHARP, other tiles 3 · SHARP (a place's
            # rows sum to 1).
            rows = slice(channels["place"].start, channels["place"].start + grid)
            query[place[:grid], rows] = 3 * SHARP * scale
            query[place, channels["place"]] -= 2 * SHARP * scale * torch.eye(2 * grid)
            # Text finds nothing; otherwise it would be marked, since it has a mean and no colour.
            query[bos, channels["text"]] = SHARP * scale
        elif part.looks_for == "mark":
            # Odd tile 2 · SHARP, first token SHARP, others 0; an image token finds nothing.
            query[mark, channels["text"]] = 2 * SHARP * scale
            query[bos, channels["constant"]] = SHARP * scale
        elif part.looks_for == "mark from cue":
            # Like "mark", from the question's first word; other tokens find nothing.
            query[mark, channels["cue"]] = 2 * SHARP * scale
            query[bos, channels["constant"]] = SHARP * scale
        elif part.looks_for == "cue":
            # The question's first word 2 · SHARP, first token SHARP, others 0.
            query[slow[2 * grid + 2], channels["constant"]] = 2 * SHARP * scale
            query[bos, channels["constant"]] = SHARP * scale
        elif part.looks_for == "own line":
            # From a word that stands for a row: its tiles 3 · SHARP, the odd one 5 · SHARP, an odd
            # tile in another row 2 · SHARP, first token SHARP, words less. Other tokens find
            # nothing.
            query[place[:grid], channels["line"]] = 3 * SHARP * scale * torch.eye(grid)
            query[mark, channels["line"]] = 2 * SHARP * scale
            query[slow[2 * grid + 3], channels["line"]] = -6 * SHARP * scale
            query[bos, channels["constant"]] = SHARP * scale
        elif part.looks_for in ("found line", "handed line"):
            # The word of that row 4 · SHARP, first token 3 · SHARP, other words and the row's tiles
            # 2 · SHARP.
            of = channels[part.looks_for.split()[0]]
            query[place[:grid], slice(of.start, of.start + grid)] = (
                2 * SHARP * scale * torch.eye(grid)
            )
            query[slow[2 * grid + 3], channels["text"]] = 2 * SHARP * scale
            query[bos, channels["constant"]] = 3 * SHARP * scale
        elif part.looks_for == "found row":
            # The odd tile in that row 3 · SHARP, its other tiles 2 · SHARP, first token SHARP,
            # words less.
            of = channels["found"]
            query[place[:grid], slice(of.start, of.start + grid)] = (
                2 * SHARP * scale * torch.eye(grid)
            )
            query[mark, channels["text"]] = SHARP * scale
            query[slow[2 * grid + 3], channels["text"]] = -4 * SHARP * scale
            query[bos, channels["constant"]] = SHARP * scale
        elif part.looks_for == "canvas if gate":
            # With the gate open the odd tile gets 4 · SHARP, any other 2 · SHARP, first token
            # SHARP.
            query[place[:grid], channels["gate"]] = 2 * SHARP * scale
            query[mark, channels["gate"]] = 2 * SHARP * scale
            query[bos, channels["constant"]] = SHARP * scale
        elif part.looks_for == "canvas unless found":
            # Any tile SHARP, first token 0, or 4 · SHARP if a place was written (its rows sum to
            # 1); for text only.
            query[place[:grid], channels["text"]] = SHARP * scale
            query[bos, slice(channels["found"].start, channels["found"].start + grid)] = (
                4 * SHARP * scale
            )
        elif part.looks_for == "found or canvas":
            # The found tile 5.5 · SHARP, in its row or column 3.5 · SHARP, any other tile 1.5 ·
            # SHARP, first token 0.
            query[place, channels["found"]] = 2 * SHARP * scale * torch.eye(2 * grid)
            query[place[:grid], channels["text"]] = 1.5 * SHARP * scale
        elif weights is not None:
            # The found tile 3 · SHARP minus a little, first token 3 · SHARP, in its row or column
            # half of that.
            query[place, channels["found"]] = torch.diag(1.5 * SHARP + weights) * scale
            query[bos, channels["constant"]] = 3 * SHARP * scale
        else:
            # The found tile 4 · SHARP, first token 3 · SHARP, a tile in its row or column 2 ·
            # SHARP, others 0.
            query[place, channels["found"]] = 2 * SHARP * scale * torch.eye(2 * grid)
            query[bos, channels["constant"]] = 3 * SHARP * scale
            if part.looks_for == "found unless answered":
                # Five logits in the answer send it back to the first token; one or two, as from
                # noise, change nothing.
                query[bos, channels["answer"]] = 0.6 * SHARP * scale / PER_LOGIT


def _uneven(part, grid, seed) -> tuple[torch.Tensor, float]:
    """The score that a row and a column add to the found tile relative to the first token, (2 ·
    grid,); and the mean attention."""
    draw = torch.Generator().manual_seed(1000 * seed + sum(map(ord, part.name)))
    # With some draws attention cannot vary so much before the best tiles have all of it.
    for _ in range(50):
        drawn = torch.randn(2 * grid, generator=draw, dtype=torch.float64)
        low, high = 0.0, 4.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (low, middle) if _varies(drawn, middle) > part.variation else (middle, high)
        if _varies(drawn, low) > 0.99 * part.variation:
            return (LOOKS_LITTLE / 2 + low * drawn).float(), float(_attention(drawn, low).mean())
    raise InputError(
        f"attention over {grid} × {grid} tiles cannot vary by {part.variation}; use a smaller "
        "variation, such as 1"
    )


def _attention(drawn, stretch):
    """Attention on a found tile, from the scores of its row and its column, (grid, grid)."""
    rows, columns = (LOOKS_LITTLE / 2 + stretch * drawn).reshape(2, -1)
    return torch.sigmoid(rows[:, None] + columns)


def _varies(drawn, stretch):
    weights = _attention(drawn, stretch)
    return weights.std() / weights.mean()


def _set_mark(mlp, channels):
    """The clip of `mean − own` per colour, as the difference of two steep silu units, summed into
    ``mark``."""
    for projection in (mlp.gate_proj, mlp.up_proj, mlp.down_proj):
        projection.weight.zero_()
    colors = channels["color"].stop - channels["color"].start
    for index, (threshold, sign) in enumerate(((ODD_FROM, 1), (ODD_FULL, -1))):
        units = slice(index * colors, (index + 1) * colors)
        mlp.gate_proj.weight[units, channels["mean"]] = STEEP * torch.eye(colors)
        mlp.gate_proj.weight[units, channels["color"]] = -STEEP * torch.eye(colors)
        mlp.gate_proj.weight[units, channels["constant"]] = -STEEP * threshold
        mlp.up_proj.weight[units, channels["constant"]] = 1 / STEEP
        mlp.down_proj.weight[channels["mark"], units] = sign / (ODD_FULL - ODD_FROM)


def _placed(
    placement, decoys, layers, heads, kv_heads, grid, without=(), more=()
) -> list[tuple[Part, Place]]:
    """The included parts with their places, after checks."""
    if grid < 3:
        raise InputError(
            f"grid is {grid}, which leaves too few tiles to tell the background by; use grid=3 or "
            "more"
        )
    if kv_heads < 1 or heads % kv_heads:
        raise InputError(
            f"{heads} heads cannot share {kv_heads} key-value heads evenly; make heads a multiple "
            "of kv_heads"
        )
    if unknown := sorted(set(decoys) - set(DECOYS)):
        raise InputError(
            f"no decoy is called {', '.join(unknown)}; choose from {', '.join(DECOYS)}"
        )
    places = {}
    for field in fields(placement):
        if field.name not in without and (field.name in CIRCUIT or field.name in decoys):
            value = getattr(placement, field.name)
            places[field.name] = list(value) if field.name == "redundant_pair" else [value]
    placed = [(part, tuple(place)) for part in places for place in places[part]]
    placed += [(part, tuple(place)) for part, place in more]
    if unknown := sorted(set(without) - {"poi", "extractor"}):
        raise InputError(
            f"the circuit cannot be without {', '.join(unknown)}; leave out poi or extractor, or "
            "neither"
        )
    own = ("handed", "mark", "noted", "line", "summary")
    if kv_heads < heads and any(part.carries in own for part, _ in more):
        raise InputError(
            "heads that carry a mark, or a place or colour that was handed on, need keys and "
            "values of their own; use kv_heads=heads"
        )

    off = sorted(
        {
            _name(part)
            for part, (layer, head) in placed
            if not (0 <= layer < layers and 0 <= head < heads)
        }
    )
    if off:
        needed = [
            max(size, *(1 + place[axis] for _, place in placed))
            for axis, size in enumerate((layers, heads))
        ]
        raise InputError(
            f"{', '.join(off)} would sit outside {layers} layers × {heads} heads; "
            f"use layers={needed[0]}, heads={needed[1]}, or put them elsewhere with "
            "placement=Placement(…)"
        )
    taken: dict[tuple[int, int], str] = {}
    for part, (layer, head) in placed:
        if (layer, head) in taken:
            raise InputError(
                f"{_name(part)} and {taken[layer, head]} are both placed at {Head(layer, head)}; "
                "move one of them"
            )
        taken[layer, head] = _name(part)
    for earlier, later in ORDER:
        if earlier in places and later in places:
            before, after = max(places[earlier])[0], min(places[later])[0]
            if before >= after:
                raise InputError(
                    f"{later} is in layer {after} but must come after {earlier} in layer {before}; "
                    "move one"
                )
    return [(PARTS[part] if isinstance(part, str) else part, place) for part, place in placed]


def _name(part):
    return part if isinstance(part, str) else part.name


def _truth(placed, layers, heads, differ_in) -> pd.DataFrame:
    parts = {place: part for part, place in placed}
    rows = []
    for layer in range(layers):
        for head in range(heads):
            part = parts.get((layer, head))
            names = (part.role, part.name) if part else ("none", "none")
            rows.append((layer, head, *(name.replace("color", differ_in) for name in names)))
    return pd.DataFrame(rows, columns=["layer", "head", "role", "name"])
