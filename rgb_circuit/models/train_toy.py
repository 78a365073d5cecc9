"""Train the toy: a small, ordinary Hugging Face LLaVA that plays the RGB game.

    python -m rgb_circuit.models.train_toy --out FOLDER

1. Draw scenes as grids of colour numbers: one odd tile on a plain canvas, a plain canvas, or two
   regions side by side, one of which has the odd tile. With two regions a tile is odd *within its
   region*, and may have the other region's colour. Counting colours over the picture then no longer
   gives the answer, so the odd tile must be found where it is.
2. Ask which colour is odd ("white" if none is) or, for one-region scenes, which colour is the
   background.
3. Minimise the cross-entropy of the one-word answer at the last prompt token.
4. Two devices push the reading into few, late heads, so the circuit is in part engineered: in every
   other step, information read from the picture below ``late_layer`` is made useless
   (`late_reading`), and what heads write at [end] costs a little (`written_norms`). Which heads
   read, and how they find the tile, is left to training.

A seeded fifth of all (place, background, odd) triples never occurs in training, in scenes of either
kind.

The language model sees single tiles: the vision tower has one layer, and LLaVA's own choice of the
second-to-last hidden state (``vision_feature_layer=-2``) is then the patch embedding. So attention
heads of the language model work out whether a tile is odd, and can be studied there.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn import functional
from tqdm import tqdm
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from ..conversation import prompt
from ..stimuli.tasks.rgb import BACKGROUND_QUESTION, NOTHING_ODD, ODD_QUESTION, PALETTE
from . import small
from .small import COLORS

QUESTIONS = (ODD_QUESTION, BACKGROUND_QUESTION)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the trained weights.

    Attributes:
        seed: of the weights, the scenes and the held-out triples.
        grid: tiles per side.
        tile_px: side of a tile, and of a vision patch, in pixels.
        layers, heads, d_head, width: of the language model; the MLPs are twice as wide as the
            residual stream.
        vision_width: of the patch embedding.
        steps: optimiser steps, each on one batch about one question.
        batch: scenes per step.
        learning_rate: peak; warmed up over ``warmup`` steps, then a cosine down to zero.
        background_every: the interval of steps that ask for the background instead of the odd
            colour.
        two_regions, camouflaged, solid: shares of the odd question's scenes with two regions; of
            those in which the odd tile is drawn in the other region's colour; and (of either kind)
            without an odd tile. ``solid`` holds for both questions.
        late_layer: the first layer in which the words after the picture may read it.
        late_every: the interval of steps that require this (see `late_reading`).
        quiet: weight of the mean norm that each head adds at [end] (see `written_norms`), from step
            ``quiet_from`` on.
        held_out: share of the (place, background, odd) triples kept out of training.
    """

    seed: int = 0
    grid: int = 6
    tile_px: int = 4
    layers: int = 4
    heads: int = 4
    d_head: int = 16
    width: int = 48
    vision_width: int = 32
    steps: int = 1200
    batch: int = 64
    learning_rate: float = 3e-3
    warmup: int = 100
    background_every: int = 5
    two_regions: float = 0.5
    camouflaged: float = 0.5
    solid: float = 0.15
    late_layer: int = 3
    late_every: int = 2
    quiet: float = 0.03
    quiet_from: int = 400
    held_out: float = 0.2


@dataclass(frozen=True)
class Scenes:
    """A batch of pictures as colour numbers, and the truth about them.

    Attributes:
        tiles: (scene, row, column) index into ``COLORS``.
        place: (scene,) the odd tile's place, counting row by row; if there is none, where it would
            be.
        background: (scene,) the colour around the odd tile, or of the whole canvas.
        odd: (scene,) the odd tile's colour; without one ``len(COLORS)``, the answer "nothing is
            odd".
    """

    tiles: torch.Tensor
    place: torch.Tensor
    background: torch.Tensor
    odd: torch.Tensor


def build(recipe: Recipe) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """The untrained toy and its processor."""
    tools = small.processor(recipe.grid, recipe.tile_px)
    vision = dict(
        hidden_size=recipe.vision_width,
        intermediate_size=recipe.vision_width,
        num_hidden_layers=1,
        num_attention_heads=2,
        initializer_range=0.1,
    )
    text = dict(
        hidden_size=recipe.width,
        intermediate_size=2 * recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        head_dim=recipe.d_head,
        max_position_embeddings=1024,
        initializer_range=0.1,
    )
    configuration = small.config(
        recipe.grid, recipe.tile_px, tools.tokenizer, vision, text, vision_feature_layer=-2
    )
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model = LlavaForConditionalGeneration(configuration)
    return model, tools


def held_out_triples(recipe: Recipe) -> torch.Tensor:
    """(place, background, odd) → whether the triple is kept out of training; places count row by
    row."""
    shape = (recipe.grid**2, len(COLORS), len(COLORS))
    return torch.rand(shape, generator=torch.Generator().manual_seed(recipe.seed)) < recipe.held_out


def pixels(tiles: torch.Tensor, tools: LlavaProcessor) -> torch.Tensor:
    """(scene, row, column) colour numbers → the (scene, 3, height, width) pixels that the processor
    makes of the drawn picture."""
    look = tools.image_processor
    palette = torch.tensor([PALETTE[word] for word in COLORS], dtype=torch.float64) / 255
    palette = ((palette - torch.tensor(look.image_mean)) / torch.tensor(look.image_std)).float()
    side = tools.patch_size
    return palette[tiles].permute(0, 3, 1, 2).repeat_interleave(side, 2).repeat_interleave(side, 3)


def draw_scenes(
    recipe: Recipe, forbidden: torch.Tensor, question: str, generator: torch.Generator
) -> Scenes:
    """One batch of random scenes; none shows a (place, background, odd) triple that is
    ``forbidden``."""
    n, grid = recipe.batch, recipe.grid

    def integers(high):
        return torch.randint(high, (n,), generator=generator)

    def chance(share):
        return torch.rand(n, generator=generator) < share

    # Two regions meet at a straight edge, upright or level; each is at least two tiles wide.
    edge = 2 + integers(grid - 3)
    lines = torch.arange(grid).expand(n, grid)
    beyond = (lines >= edge[:, None])[:, None, :].expand(n, grid, grid)
    beyond = torch.where(chance(0.5)[:, None, None], beyond, beyond.transpose(1, 2))
    first = integers(len(COLORS))
    second = (first + 1 + integers(len(COLORS) - 1)) % len(COLORS)
    second = torch.where(chance(recipe.two_regions) & (question == ODD_QUESTION), second, first)
    tiles = torch.where(beyond, second[:, None, None], first[:, None, None])

    # Redraw until every tile is odd where it is, and not held out.
    scene, place, odd = (
        torch.arange(n),
        torch.zeros(n, dtype=torch.long),
        torch.zeros(n, dtype=torch.long),
    )
    bad = torch.ones(n, dtype=torch.bool)
    while bad.any():
        place = torch.where(bad, integers(grid**2), place)
        background = tiles.flatten(1)[scene, place]
        # With two regions, first + second - background is the colour of the region without the
        # tile.
        color = torch.where(
            chance(recipe.camouflaged), first + second - background, integers(len(COLORS))
        )
        odd = torch.where(bad, color, odd)
        bad = (odd == background) | forbidden[place, background, odd] | _touches(tiles, place, odd)

    none = chance(recipe.solid)
    tiles = tiles.flatten(1).clone()
    tiles[scene, place] = torch.where(none, background, odd)
    return Scenes(tiles.view(n, grid, grid), place, background, torch.where(none, len(COLORS), odd))


def _touches(tiles, place, color):
    """Whether a tile of ``color`` at ``place`` would touch a tile of the same colour, and so not be
    odd."""
    same = functional.pad((tiles == color[:, None, None]).float()[:, None], (1, 1, 1, 1))
    near = functional.max_pool2d(same, 3, stride=1).flatten(1)
    return near[torch.arange(len(place)), place] > 0


def answer_tokens(tools: LlavaProcessor) -> torch.Tensor:
    """Token ids of the colours in the order of ``COLORS``, then of the word for "nothing is
    odd"."""
    return torch.tensor(tools.tokenizer.convert_tokens_to_ids([*COLORS, NOTHING_ODD]))


def end_logits(
    model: LlavaForConditionalGeneration, tools: LlavaProcessor, tiles: torch.Tensor, question: str
) -> torch.Tensor:
    """Logits (scene, vocabulary) at the last prompt token, for one question about (scene, row,
    column) colour numbers."""
    tokens = tools.tokenizer.encode(
        prompt(question).replace("<image>", "<image>" * tiles[0].numel())
    )
    tokens = torch.tensor(tokens).expand(len(tiles), -1)
    inputs = dict(
        input_ids=tokens, attention_mask=torch.ones_like(tokens), pixel_values=pixels(tiles, tools)
    )
    return model(**inputs, use_cache=False, logits_to_keep=1).logits[:, -1]


@contextmanager
def late_reading(model: LlavaForConditionalGeneration, layer: int, words: int) -> Iterator[None]:
    """From ``layer`` on, the last ``words`` tokens, which are all those after the picture, see the
    *next* scene of the batch.

    Asking for that next scene's answer makes useless what [end], or a word that [end] reads, saw of
    the picture in earlier layers. Without it, a head of the first layer reacts to rare colours and
    nothing looks for the odd tile. The exchange is interchange intervention training (Geiger et al.
    2022, "Inducing causal structure for interpretable neural networks").
    """

    def exchange(module, arguments):
        hidden = arguments[0]
        # Apart from the image tokens this moves the words before the picture, which are the same in
        # every scene.
        return torch.cat([hidden[:, :-words].roll(-1, 0), hidden[:, -words:]], 1), *arguments[1:]

    handle = model.model.language_model.layers[layer].register_forward_pre_hook(exchange)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def written_norms(model: LlavaForConditionalGeneration) -> Iterator[list[torch.Tensor]]:
    """Yields a list that a forward fills, layer by layer, with the (scene, head) norms of z at
    [end].

    As a penalty, their sum makes reading with few heads cheap; the norm, unlike its square,
    silences whole heads.
    """
    norms, handles = [], []
    d_head = model.config.text_config.head_dim

    def collect(module, arguments):
        norms.append(arguments[0][:, -1].unflatten(-1, (-1, d_head)).norm(dim=-1))

    for layer in model.model.language_model.layers:
        handles.append(layer.self_attn.o_proj.register_forward_pre_hook(collect))
    try:
        yield norms
    finally:
        for handle in handles:
            handle.remove()


def train(
    recipe: Recipe, progress: bool = True
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor, list[float]]:
    """A trained toy, its processor, and the cross-entropy of every step. On the same machine a
    recipe gives the same weights."""
    model, tools = build(recipe)
    forbidden, words = held_out_triples(recipe), answer_tokens(tools)
    behind = {
        text: len(tools.tokenizer.tokenize(prompt(text).split("<image>")[1])) for text in QUESTIONS
    }
    generator = torch.Generator().manual_seed(recipe.seed)
    optimiser = torch.optim.AdamW(
        model.parameters(),
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=0.01,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, recipe))

    losses = []
    bar = tqdm(range(recipe.steps), desc="train", disable=not progress)
    for step in bar:
        question = QUESTIONS[step % recipe.background_every == recipe.background_every - 1]
        scenes = draw_scenes(recipe, forbidden, question, generator)
        expected = scenes.odd if question == ODD_QUESTION else scenes.background
        late = step % recipe.late_every == recipe.late_every - 1
        with (
            late_reading(model, recipe.late_layer, behind[question]) if late else nullcontext(),
            written_norms(model) as norms,
        ):
            logits = end_logits(model, tools, scenes.tiles, question)
        loss = functional.cross_entropy(logits, words[expected.roll(-1) if late else expected])
        losses.append(loss.item())
        if question == ODD_QUESTION and step >= recipe.quiet_from:
            loss = loss + recipe.quiet * torch.cat(norms, 1).sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 20 == 0:
            bar.set_postfix(loss=f"{np.mean(losses[-20:]):.3f}")
    return model.eval(), tools, losses


def _rate(step, recipe):
    cosine = 0.5 * (1 + np.cos(np.pi * step / recipe.steps))
    return min(1.0, (step + 1) / recipe.warmup) * cosine


@torch.no_grad()
def evaluate(
    model: LlavaForConditionalGeneration, tools: LlavaProcessor, recipe: Recipe
) -> pd.DataFrame:
    """Ask both questions about every picture with one odd tile on a plain canvas, and about every
    plain canvas.

    Returns:
        One row per question × picture: ``question, condition ("clean" or "erased"), background,
        odd, row, column, answer, expected, correct, held_out``; odd, row and column are missing for
        a plain canvas.
    """
    grid = recipe.grid
    place, background, odd = torch.cartesian_prod(
        torch.arange(grid**2), torch.arange(len(COLORS)), torch.arange(len(COLORS))
    ).T
    keep = background != odd
    place, background, odd = place[keep], background[keep], odd[keep]
    tiles = background[:, None].repeat(1, grid**2)
    tiles[torch.arange(len(place)), place] = odd
    plain = torch.arange(len(COLORS))
    pictures = torch.cat([tiles, plain[:, None].expand(-1, grid**2)]).view(-1, grid, grid)

    names = np.array([*COLORS, NOTHING_ODD])
    about = pd.DataFrame(
        {
            "condition": ["clean"] * len(place) + ["erased"] * len(plain),
            "background": names[torch.cat([background, plain])],
            "odd": pd.Series(names[odd]).reindex(range(len(pictures))),
            "row": pd.Series(place // grid, dtype="Int64").reindex(range(len(pictures))),
            "column": pd.Series(place % grid, dtype="Int64").reindex(range(len(pictures))),
            "held_out": torch.cat(
                [
                    held_out_triples(recipe)[place, background, odd],
                    torch.zeros(len(plain), dtype=torch.bool),
                ]
            ),
        }
    )
    frames = []
    for question in QUESTIONS:
        logits = torch.cat(
            [end_logits(model, tools, some, question) for some in pictures.split(256)]
        )
        answer = tools.tokenizer.convert_ids_to_tokens(logits.argmax(-1))
        expected = (
            about["odd"].fillna(NOTHING_ODD) if question == ODD_QUESTION else about["background"]
        )
        frames.append(about.assign(question=question, answer=answer, expected=expected))
    frame = pd.concat(frames, ignore_index=True)
    frame["correct"] = frame["answer"] == frame["expected"]
    return frame[
        [
            "question",
            "condition",
            "background",
            "odd",
            "row",
            "column",
            "answer",
            "expected",
            "correct",
            "held_out",
        ]
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train the toy LLaVA that plays the RGB game.")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder to write the model and its processor to"
    )
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    options = parser.parse_args(arguments)
    # A single thread: more are slower on matrices this small, and would change the order of sums.
    torch.set_num_threads(1)
    recipe = replace(Recipe(), seed=options.seed)
    model, tools, _ = train(recipe)
    small.save(model, tools, options.out)
    scores = evaluate(model, tools, recipe)
    table = scores.groupby(["question", "condition", "held_out"])["correct"].agg(["mean", "size"])
    print(table.rename(columns={"mean": "right", "size": "pictures"}))


if __name__ == "__main__":
    main()
