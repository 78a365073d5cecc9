"""The models to judge, the truth about their heads, and the random draws for them.

Planted circuits (`rgb_circuit.models.planted`): even ones over levels of noise and over numbers of
trials, and unkind ones over numbers of trials (`KINDS`), with random placements, decoys,
grouped-query attention and grids. In addition, three kinds on which every role is false (`NULLS`):
the random ones are built with a gap, and the others have that of a planted model, so that a role
could be given.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from transformers import LlavaForConditionalGeneration, LlavaProcessor

import rgb_circuit as rgb
from rgb_circuit.arguments import whole_number
from rgb_circuit.models.planted import (
    DECOYS,
    MODERATE_NOISE,
    UNKIND,
    WORDS,
    Part,
    gap,
    planted,
    random_placement,
)
from rgb_circuit.models.random import fitted_llava

from ..roles import GAME

# Kinds of planted models. In "even" models all heads serve every colour and tile alike.
KINDS = ("even", "alike", "2 × 4", "4 × 2", "uneven", "backup", "relay", "resting", "odds")
# Models on which every role is false → their description.
NULLS = {
    "random": "random weights, fitted readout",
    "exchanged": "planted, changed pictures exchanged within trials",
    "permuted": "planted, heads permuted within layers between predictions",
}
# Share of the gap that the uneven head, with a CV of 1, restores in its models.
UNEVEN_SHARE = 0.125
# Its name, and that of its row next to all heads of its models.
UNEVEN_HEAD = "uneven extractor"
TRIALS = (16, 32, 64)
# The number of trials by which all readings are compared.
USUAL = 32
# In units of the gap between clean and corrupted pictures, like margins.
NOISE = (0.0, MODERATE_NOISE / 2, MODERATE_NOISE, 2 * MODERATE_NOISE)


@dataclass(frozen=True)
class Subject:
    """One model to judge.

    Attributes:
        kind: ``"planted"``, or one of `NULLS`.
        noise: of a planted model, as a fraction of its gap; NaN for a random one.
        seed: of everything that is drawn for the model.
        sizes: numbers of trials to judge by, in order; each takes the first of the largest.
        like: of a planted model, one of `KINDS`.
    """

    kind: str
    noise: float
    seed: int
    sizes: tuple[int, ...] = (16,)
    like: str = "even"

    @property
    def compared(self) -> int:
        """The number of trials by which all readings are compared."""
        return USUAL if USUAL in self.sizes else self.sizes[-1]

    def build(self) -> tuple[LlavaForConditionalGeneration, LlavaProcessor, pd.DataFrame]:
        """Build model, processor, truth (``layer, head, role, name``)."""
        rng = np.random.default_rng([self.seed, self.kind != "random"])
        kv_heads = int(rng.choice([1, 2, 4]))
        if self.kind == "random":
            model, processor = fitted_llava(self.seed, layers=4, heads=4, kv_heads=kv_heads)
            places = [(layer, head) for layer in range(4) for head in range(4)]
            return (
                model,
                processor,
                pd.DataFrame(places, columns=["layer", "head"]).assign(role="none", name="none"),
            )
        layers, grid = int(rng.integers(5, 8)), int(rng.integers(6, 9))
        decoys = [decoy for decoy in DECOYS if rng.random() < 0.8]
        placement = random_placement(layers, 4, self.seed)
        shape: dict[str, Any] = dict(grid=grid, layers=layers, heads=4, kv_heads=kv_heads)
        if self.like == "even":
            made: dict[str, Any] = dict(placement=placement, decoys=decoys)
        else:
            # Two more layers make room after the circuit.
            shape |= dict(layers=layers + 2, kv_heads=4)
            made = _unkind(self.like, placement, decoys, layers, rng)
        model, processor, truth = planted(**shape, **made, noise=self.noise, seed=self.seed)
        return model, processor, truth if self.kind == "planted" else truth.assign(role="none")


def _unkind(like, placement, decoys, layers, rng):
    """Arguments of `planted` for a kind of model. ``layers`` and the next layer are free of other
    parts."""
    mean = placement.mean[0]
    last = [(layers + int(rng.integers(2)), int(head)) for head in rng.permutation(4)]
    taken = {place for place in vars(placement).values() if isinstance(place[0], int)} | set(
        placement.redundant_pair
    )
    free = [
        (layer, head)
        for layer in range(mean + 1, layers)
        for head in range(4)
        if (layer, head) not in taken
    ]
    free = [free[index] for index in rng.permutation(len(free))]
    if like == "alike":
        return dict(placement=placement, decoys=decoys, likeness=0.5)
    if like in ("2 × 4", "4 × 2"):
        many = int(like[0])
        words = rng.permutation(WORDS).reshape(many, -1).tolist()
        read = [
            Part(f"reader {i}", "color extractor", "found", "color", "answer", 10.0, tuple(own))
            for i, own in enumerate(words)
        ]
        return dict(
            placement=placement, decoys=[], without=["extractor"], more=list(zip(read, last))
        )
    if like == "uneven":
        share = UNEVEN_SHARE / (1 - UNEVEN_SHARE)
        parts = [part for part in decoys if part != "content_extractor"]
        gain = share * gap(parts)
        part = Part(UNEVEN_HEAD, "color extractor", "found", "color", "answer", gain, variation=1.0)
        return dict(placement=placement, decoys=parts, more=[(part, last[0])])
    if like == "relay":
        late = Part("late extractor", "color extractor", "found", "color", "answer", 10.0)
        places = (mean + 1, 0), (layers, int(rng.integers(4))), (layers + 1, int(rng.integers(4)))
        more = list(zip((UNKIND["finder"], UNKIND["relay"], late), places))
        return dict(placement=placement, decoys=[], without=["poi", "extractor"], more=more)
    if like == "backup":
        # Any colour in the answer silences the backup, even a background writer's, so there is no
        # writer.
        return dict(placement=placement, decoys=[], more=[(UNKIND["backup"], last[0])])
    if like == "resting":
        return dict(
            placement=placement,
            decoys=["late_background_writer"],
            more=[(UNKIND["resting_extractor"], last[0])],
        )
    more = [
        (UNKIND["canvas_suppressor"], last[0]),
        (UNKIND["second_reader"], last[1]),
        (UNKIND["oddness"], free[0]),
    ]
    return dict(
        placement=placement, decoys=["suppressor"], more=[*more, (UNKIND["fixed_word"], free[1])]
    )


def family(
    seed: int = 0,
    planted_each: int = 1,
    random: int = 5,
    noise: Sequence[float] = NOISE,
    trials: int | None = None,
    kinds: Sequence[str] = KINDS,
) -> list[Subject]:
    """The models to judge.

    Args:
        planted_each: the number of even models at every level of ``noise`` by 32 trials, and of
            models of every kind at moderate noise by each number of trials; the same models at each
            level and number.
        random: the number of models of each of `NULLS`, by 32 trials.
        trials: the number of trials for all models, instead of these numbers.
        kinds: of `KINDS`.
    """
    if planted_each < 1 or random < 1:
        raise rgb.InputError(
            f"{planted_each} planted and {random} random models were asked for; use at least one "
            "of each"
        )
    seed = whole_number("seed", seed, least=0)
    if trials is not None:
        trials = whole_number("trials", trials, advice="use a whole number from 1 on, such as 32")
    first = 1000 * seed
    numbers = [first + index for index in range(planted_each)]
    usual, sizes = ((USUAL,), TRIALS) if trials is None else ((trials,), (trials,))
    every = [level for level in noise if not ("even" in kinds and level == MODERATE_NOISE)]
    known = [Subject("planted", level, number, usual) for level in every for number in numbers]
    known += [
        Subject("planted", MODERATE_NOISE, number, sizes, like)
        for like in kinds
        for number in numbers
    ]
    noises = {kind: np.nan if kind == "random" else MODERATE_NOISE for kind in NULLS}
    false = [
        Subject(kind, noises[kind], first + index, usual)
        for kind in NULLS
        for index in range(random)
    ]
    return [*known, *false]


# The pictures whose right answer differs from the clean one's; the gap is the same for all of them.
CHANGED = tuple(
    name for name, condition in GAME.conditions.items() if condition.right != GAME.right
)


def exchanged(trials: Sequence[rgb.Trial], seed: int) -> list[rgb.Trial]:
    """The trials with their three changed pictures under each other's names, none under its own;
    the clean and the moved picture stay, and with them the gap."""
    rng = np.random.default_rng(seed)
    made = []
    for trial in trials:
        by = int(rng.integers(1, len(CHANGED)))
        images = {
            name: trial.images[CHANGED[(k + by) % len(CHANGED)]] for k, name in enumerate(CHANGED)
        }
        made.append(replace(trial, images={**trial.images, **images}, expected={}))
    return made
