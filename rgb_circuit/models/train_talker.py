"""Trains the talker: a small, ordinary Hugging Face LLaVA that plays five tasks.

    python -m rgb_circuit.models.train_talker --out FOLDER

In a first part:

1. Draw scenes of five families and several questions about each (`talker_scenes`).
2. Ask all questions of a scene in one sequence, side by side behind its picture, none seeing
   another (`side_by_side`); minimise the cross-entropy of the one-word answers.
3. While training, linear readers tell of every cell at the projector's output what it holds, in
   which colour, on which ground, in which row and column (`Readers`). The vision tower learns for
   them alone at first, and for both later. They are thrown away. Trained on answers alone, shapes
   never reach the language model.
4. A family is drawn more often the worse it goes.

In a second part:

5. Scenes with many things are drawn beside, on which an answer that is told from two things by
   heart goes wrong; and no question names a pair that is kept out, to which the answer was always
   no. A model that comes from the first part alone holds that such pairs are never there.
6. The language model's layers begin half-way back at fresh weights: what they hold of a pair that
   is asked about no more would stay for ever, since nothing contradicts it.
7. Asked whether a shape has a colour, the model is also to tell, among words for colours, which one
   the shape has. Who knows that needs no list of pairs.
8. The learning rate stays high, and the weights that are left are the mean of those of many steps:
   what is said of pairs never seen changes from step to step, and evens out.

Nothing tells heads of the language model what to do, or at which layer to do it.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from ..conversation import prompt
from . import small, talker_scenes
from .talker_scenes import (
    COLOR_WORDS,
    CROWDED,
    FAMILIES,
    FORMS,
    INKS,
    Scenes,
    draw,
    pixels,
    together,
)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the trained weights.

    Attributes:
        seed: of the weights and the scenes.
        grid: cells per side.
        cell_px: side of a cell, and of a vision patch, in pixels.
        layers, heads, d_head, width: of the language model; its MLPs are twice as wide as the
            residual stream.
        vision_layers, vision_heads, vision_width: of the vision tower.
        spread: standard deviation of the weights before training. With Hugging Face's 0.02 heads of
            this width hardly look anywhere, and training takes about twice the steps.
        looking: steps in which the vision tower and the projector learn alone, for the readers.
        steps: those after, in the first part.
        batch: scenes a step, shared out among ``workers`` processes.
        learning_rate: peak; warmed up over ``warmup`` steps at the beginning of both parts, and in
            the last ``falling`` share of the first falling to zero.
        readers: weight of the readers' loss beside the answers'.
        varied, varied_rate, varied_decay: steps of the second part, their learning rate and decay
            of weights.
        fresh: share of fresh weights in the language model's layers at the beginning of the second
            part.
        colors: weight of the true colour's loss beside the answers' in the second part.
        settling: steps of the second part before those whose weights are averaged.
    """

    seed: int = 0
    grid: int = 6
    cell_px: int = 8
    layers: int = 6
    heads: int = 4
    d_head: int = 16
    width: int = 64
    vision_layers: int = 2
    vision_heads: int = 4
    vision_width: int = 64
    spread: float = 0.1
    looking: int = 600
    steps: int = 6000
    batch: int = 24
    workers: int = 2
    learning_rate: float = 2e-3
    warmup: int = 100
    falling: float = 0.4
    readers: float = 0.05
    varied: int = 4000
    varied_rate: float = 1.5e-3
    varied_decay: float = 0.1
    fresh: float = 0.5
    colors: float = 0.5
    settling: int = 1600


class Readers(nn.ModuleDict):
    """Linear readers of cells at the projector's output: what a cell holds, its colour, its ground,
    its row and its column."""

    def __init__(self, recipe: Recipe) -> None:
        sizes = dict(
            form=len(FORMS),
            ink=len(INKS) + 1,
            ground=len(INKS),
            row=recipe.grid,
            column=recipe.grid,
        )
        super().__init__({name: nn.Linear(recipe.width, size) for name, size in sizes.items()})

    def loss(self, cells: torch.Tensor, scenes: Scenes) -> torch.Tensor:
        """The sum of the readers' cross-entropies of ``cells`` (scene, place, width)."""
        n, places = scenes.forms.shape
        grid = round(places**0.5)
        # What an empty cell would be coloured cannot be seen.
        truth = dict(
            form=scenes.forms,
            ink=np.where(scenes.forms == talker_scenes.EMPTY, len(INKS), scenes.inks),
            ground=np.repeat(scenes.grounds[:, None], places, 1),
            row=np.tile(np.arange(places) // grid, (n, 1)),
            column=np.tile(np.arange(places) % grid, (n, 1)),
        )
        flat = cells.flatten(0, 1)
        losses = (
            functional.cross_entropy(self[name](flat), torch.from_numpy(truth[name]).flatten())
            for name in self
        )
        return sum(losses, start=torch.zeros(()))


# A step of training: the model as far as it is trained, its processor, the loss, and of each family
# the share of right answers lately.
Lesson = tuple[LlavaForConditionalGeneration, LlavaProcessor, float, dict[str, float]]


@dataclass(frozen=True)
class Prompts:
    """Prompts about some scenes, those about one as one sequence with its picture in it once.

    Attributes:
        ids: (scene, position) tokens: what all prompts begin with, then what is left of each.
        mask: (scene, 1, position, position) whether a position sees another: in its own prompt, not
            behind.
        positions: (scene, position) where each token stands in its own prompt.
        ends: (scene, question) where the answer is read.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor
    ends: torch.Tensor


def build(recipe: Recipe) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """The untrained talker and its processor."""
    tools = small.processor(
        recipe.grid, recipe.cell_px, small.tokenizer(tuple(map(prompt, talker_scenes.texts())))
    )
    vision = dict(
        hidden_size=recipe.vision_width,
        intermediate_size=2 * recipe.vision_width,
        num_hidden_layers=recipe.vision_layers,
        num_attention_heads=recipe.vision_heads,
        initializer_range=recipe.spread,
    )
    text = dict(
        hidden_size=recipe.width,
        intermediate_size=2 * recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        head_dim=recipe.d_head,
        max_position_embeddings=1024,
        initializer_range=recipe.spread,
    )
    configuration = small.config(
        recipe.grid, recipe.cell_px, tools.tokenizer, vision, text, vision_feature_layer=-1
    )
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model = LlavaForConditionalGeneration(configuration)
    return model, tools


def side_by_side(tools: LlavaProcessor, questions: list[list[str]], grid: int) -> Prompts:
    """One sequence for all questions about each scene's picture, equally many; each is answered as
    if it were asked alone."""
    begin, _ = _tokens(tools, questions[0][0], grid)
    rests = [[_tokens(tools, text, grid)[1] for text in about] for about in questions]
    length = len(begin) + max(sum(map(len, about)) for about in rests)
    ids = np.zeros((len(rests), length), int)
    ids[:, : len(begin)] = begin
    # Which prompt a token belongs to: 0 is all, and what pads the sequence is no one's.
    whose, positions = np.full(ids.shape, -1), np.zeros(ids.shape, int)
    whose[:, : len(begin)], positions[:, : len(begin)] = 0, np.arange(len(begin))
    ends = np.zeros((len(rests), len(questions[0])), int)
    for scene, about in enumerate(rests):
        place = len(begin)
        for number, rest in enumerate(about):
            here = slice(place, place + len(rest))
            ids[scene, here], whose[scene, here] = rest, number + 1
            positions[scene, here] = len(begin) + np.arange(len(rest))
            place += len(rest)
            ends[scene, number] = place - 1
    key, query = whose[:, None, :], whose[:, :, None]
    mask = ((key == 0) | (key == query)) & np.tri(length, dtype=bool)
    return Prompts(*map(torch.from_numpy, (ids, mask[:, None], positions, ends)))


@cache
def _tokens(tools, question, grid):
    """A question's prompt as tokens: up to the picture's last, and from there on."""
    ids = tools.tokenizer.encode(prompt(question).replace("<image>", "<image>" * grid**2))
    image = tools.tokenizer.convert_tokens_to_ids("<image>")
    begin = len(ids) - ids[::-1].index(image)
    return ids[:begin], ids[begin:]


def seen(
    model: LlavaForConditionalGeneration, tools: LlavaProcessor, scenes: Scenes
) -> torch.Tensor:
    """What the language model is given of the scenes' pictures, (scene, place, width)."""
    rows = model.model.get_image_features(pixel_values=pixels(scenes, tools)).pooler_output
    return torch.stack(list(rows))


def asked(
    model: LlavaForConditionalGeneration, tools: LlavaProcessor, scenes: Scenes
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (scene, question, vocabulary) where each answer is read, and what `seen` gives of the
    scenes."""
    grid = round(scenes.forms.shape[1] ** 0.5)
    texts = side_by_side(tools, [[one.text for one in about] for about in scenes.asked], grid)
    cells = seen(model, tools, scenes)
    embedded = model.get_input_embeddings()(texts.ids)
    image = texts.ids[0] == model.config.image_token_id
    embedded = torch.cat(
        [embedded[:, : image.nonzero()[0]], cells, embedded[:, image.nonzero()[-1] + 1 :]], 1
    )
    hidden = model.model.language_model(
        inputs_embeds=embedded,
        attention_mask=texts.mask,
        position_ids=texts.positions,
        use_cache=False,
    ).last_hidden_state
    ends = texts.ends[..., None].expand(-1, -1, hidden.shape[-1])
    return model.lm_head(hidden.gather(1, ends)), cells


def answers(tools: LlavaProcessor, scenes: Scenes) -> torch.Tensor:
    """Tokens (scene, question) of the right answers."""
    words = [[one.answer for one in about] for about in scenes.asked]
    return torch.tensor([tools.tokenizer.convert_tokens_to_ids(row) for row in words])


def train(recipe: Recipe, out: Path, progress: bool = True, start: Path | None = None) -> None:
    """Writes a trained talker and its processor to a folder, each 500 steps what has become of it.

    Each worker has a core of its own. On one machine a recipe gives the same weights.

    Args:
        start: a folder with what the first part left; only the second is trained.
    """
    with TemporaryDirectory() as folder:
        meet = f"file://{folder}/meet"
        torch.multiprocessing.spawn(
            _train, (recipe, out, meet, progress, start), nprocs=recipe.workers
        )


def _train(worker, recipe, out, meet, progress, start):
    # More threads are slower on matrices this small, and would change the order of sums.
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", meet, rank=worker, world_size=recipe.workers)
    first, last = recipe.steps if start else -recipe.looking, recipe.steps + recipe.varied
    bar = tqdm(range(first, last), desc="train", disable=worker > 0 or not progress)
    for step, (model, tools, loss, right) in zip(bar, lessons(recipe, worker, start), strict=True):
        if step % 50 == 0:
            bar.set_postfix(
                loss=f"{loss:.3f}", **{name: f"{share:.2f}" for name, share in right.items()}
            )
        if worker == 0 and (step % 500 == 499 or step == last - 1):
            small.save(model, tools, out)
    torch.distributed.destroy_process_group()


def lessons(recipe: Recipe, worker: int = 0, start: Path | None = None) -> Iterator[Lesson]:
    """Trains, a step a lesson. All workers come to the same model.

    Args:
        start: a folder with what the first part left; there are only lessons of the second.
    """
    if start is None:
        model, tools = build(recipe)
        yield from _first_part(recipe, worker, model, tools)
    else:
        model = LlavaForConditionalGeneration.from_pretrained(start)
        tools = LlavaProcessor.from_pretrained(start)
    yield from _second_part(recipe, worker, model, tools)


def _first_part(recipe, worker, model, tools):
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        readers = Readers(recipe)
    rng = np.random.default_rng((recipe.seed, worker))
    parameters = [*model.parameters(), *readers.parameters()]
    optimiser = _optimiser(parameters)
    right = torch.zeros(len(FAMILIES))
    for step in range(-recipe.looking, recipe.steps):
        into = step if step >= 0 else step + recipe.looking
        rate = recipe.learning_rate * _share(into, 1 - max(step, 0) / recipe.steps, recipe)
        family, scenes = _mixed(recipe, rng, right, FAMILIES, fair=False)
        loss, good = _loss(model, tools, readers, scenes, recipe, step)
        loss = _update(optimiser, rate, loss, family, good, right, recipe.workers)
        yield model, tools, loss, dict(zip(FAMILIES, right.tolist()))


def _second_part(recipe, worker, model, tools):
    rng = np.random.default_rng((recipe.seed, worker, 1))
    _half_forget(model, recipe)
    optimiser = _optimiser(list(model.parameters()), recipe.varied_decay)
    families = (*FAMILIES, *CROWDED)
    right = torch.zeros(len(families))
    mean = AveragedModel(model)
    for step in range(recipe.varied):
        rate = recipe.varied_rate * min(1.0, (step + 1) / recipe.warmup)
        family, scenes = _mixed(recipe, rng, right, families, fair=True)
        said, _ = asked(model, tools, scenes)
        loss, good = _answered(said, tools, scenes)
        loss = loss + recipe.colors * _true_colors(said, tools, scenes)
        loss = _update(optimiser, rate, loss, family, good, right, recipe.workers)
        if step >= recipe.settling:
            mean.update_parameters(model)
        left = mean.module if step >= recipe.settling else model
        yield left, tools, loss, dict(zip(families, right.tolist()))


@torch.no_grad()
def _half_forget(model, recipe):
    """Moves the language model's layers towards fresh weights."""
    fresh, _ = build(replace(recipe, seed=recipe.seed + 1))
    for old, new in zip(
        model.model.language_model.layers.parameters(),
        fresh.model.language_model.layers.parameters(),
        strict=True,
    ):
        old.lerp_(new, recipe.fresh)


def _true_colors(said, tools, scenes):
    """The loss of the colour that a shape really has, among words for colours, where binding is
    asked by yes or no."""
    words = tools.tokenizer.convert_tokens_to_ids(list(COLOR_WORDS))
    # Cross-entropy passes over -100, all other questions.
    true = [
        [COLOR_WORDS.index(one.color) if one.color else -100 for one in about]
        for about in scenes.asked
    ]
    expected = torch.tensor(true).flatten()
    total = functional.cross_entropy(said[..., words].flatten(0, 1), expected, reduction="sum")
    return total / len(expected)


def _optimiser(parameters, decay=0.01):
    return torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=decay, fused=True)


def _share(into, left, recipe):
    """Share of the peak learning rate, so many steps into a part of which that share is left."""
    return min(1.0, (into + 1) / recipe.warmup, left / recipe.falling)


def _update(optimiser, rate, loss, family, good, right, workers):
    """Makes a step, brings ``right`` up to date, and gives the mean loss."""
    (group,) = optimiser.param_groups
    group["lr"], parameters = rate, group["params"]
    optimiser.zero_grad()
    loss.backward()
    counts = torch.stack([family.T @ good, family.sum(0)])
    (scored, drawn), loss = _mean_over_workers(parameters, counts, loss.detach())
    lately = 1 - 0.95 ** (drawn * workers / len(right))
    right += torch.where(drawn > 0, lately * (scored / drawn.clamp(min=1e-9) - right), 0)
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimiser.step()
    return loss.item()


def _mixed(recipe, rng, right, families, fair):
    """(scene, family) whether each is of that family, and scenes: more of families that go
    worse."""
    wrong = 1.05 - right.double().numpy()
    which = np.sort(
        rng.choice(len(families), recipe.batch // recipe.workers, p=wrong / wrong.sum())
    )
    many = dict(zip(families, np.bincount(which)))
    scenes = [draw(name, rng, n, recipe.grid, fair=fair) for name, n in many.items() if n]
    family = functional.one_hot(torch.from_numpy(which), len(families)).float()
    return family, together(scenes)


def _loss(model, tools, readers, scenes, recipe, step):
    """The loss of a step, and (scene,) the share of right answers."""
    if step < 0:
        return readers.loss(seen(model, tools, scenes), scenes), torch.zeros(len(scenes.forms))
    said, cells = asked(model, tools, scenes)
    loss, good = _answered(said, tools, scenes)
    return loss + recipe.readers * readers.loss(cells, scenes), good


def _answered(said, tools, scenes):
    """The loss of answers, and (scene,) the share of right ones."""
    expected = answers(tools, scenes)
    loss = functional.cross_entropy(said.flatten(0, 1), expected.flatten())
    return loss, (said.argmax(-1) == expected).float().mean(1)


def _mean_over_workers(parameters, counts, loss):
    """Makes gradients the means over all workers; gives the means of the rest."""
    if not torch.distributed.is_initialized():
        return counts, loss
    gradients = [weights.grad for weights in parameters if weights.grad is not None]
    every = torch.cat(
        [*(gradient.flatten() for gradient in gradients), counts.flatten(), loss[None]]
    )
    torch.distributed.all_reduce(every)
    every /= torch.distributed.get_world_size()
    place = 0
    for gradient in gradients:
        gradient.copy_(every[place : place + gradient.numel()].view_as(gradient))
        place += gradient.numel()
    return every[place:-1].view_as(counts), every[-1]


@torch.no_grad()
def evaluate(
    model: LlavaForConditionalGeneration, tools: LlavaProcessor, recipe: Recipe, n: int = 1024
) -> pd.DataFrame:
    """Ask about fresh scenes of every family, half of which show pairs that training never showed.

    Returns:
        One row per scene × question: ``family, kept_out, skill, question, expected, answer,
        correct``.
    """
    rng = np.random.default_rng(recipe.seed + 1)
    frames = []
    for family, held, _ in product(FAMILIES, (False, True), range(0, n, 128)):
        scenes = draw(family, rng, 128, recipe.grid, held)
        said = asked(model, tools, scenes)[0].argmax(-1).flatten()
        questions = [one for about in scenes.asked for one in about]
        frame = pd.DataFrame(questions).rename(columns={"text": "question", "answer": "expected"})
        answer = tools.tokenizer.convert_ids_to_tokens(said)
        frames.append(frame.assign(family=family, kept_out=held, answer=answer))
    frame = pd.concat(frames, ignore_index=True)
    frame["correct"] = frame["answer"] == frame["expected"]
    return frame[["family", "kept_out", "skill", "question", "expected", "answer", "correct"]]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Train the talker, a small LLaVA that plays five tasks."
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder to write the model and its processor to"
    )
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--start", type=Path, help="train the second part alone, from this folder")
    options = parser.parse_args(arguments)
    recipe = replace(Recipe(), seed=options.seed)
    train(recipe, options.out, start=options.start)
    model = LlavaForConditionalGeneration.from_pretrained(options.out).eval()
    tools = LlavaProcessor.from_pretrained(options.out)
    scores = evaluate(model, tools, recipe)
    table = scores.groupby(["skill", "kept_out"])["correct"].agg(["mean", "size"])
    print(table.rename(columns={"mean": "right", "size": "questions"}).to_string())


if __name__ == "__main__":
    main()
