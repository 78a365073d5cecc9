"""For each trial another trial's source picture, for resampling."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from rgb_circuit import Trial

# The condition with another trial's source picture.
RESAMPLED = "resampled"


def partners(trials: Sequence[Trial], source: str, target: str, seed: int = 0) -> list[int]:
    """The partner whose source picture each trial gets for resampling. Every trial is a partner
    once, and never its own.

    Pairs are drawn at random among those that leave the fewest trials with information that should
    be removed: a partner whose right answer is one of the two words that are compared or, less bad,
    whose tile is at the same place.

    Returns:
        The partner's index, per trial.
    """
    rng = np.random.default_rng(seed)
    cost = rng.random((len(trials), len(trials)))
    for row, trial in enumerate(trials):
        compared = {
            word
            for condition in (source, target)
            for word in trial.words[trial.expected[condition]]
        }
        for column, other in enumerate(trials):
            if row == column:
                cost[row, column] = np.inf
            # One word more is worse than everything that chance and places can add up to.
            elif compared.intersection(other.words[other.expected[source]]):
                cost[row, column] += 4 * len(trials) ** 2
            elif trial.tile is not None and trial.tile == other.tile:
                cost[row, column] += 2 * len(trials)
    return linear_sum_assignment(cost)[1].tolist()


def with_partners(trials, source: str, target: str, seed: int) -> list[Trial]:
    """The trials, each with its partner's source picture and question as a further condition."""
    kept = dict.fromkeys(("clean", source, target))
    resampled = []
    for trial, index in zip(trials, partners(trials, source, target, seed)):
        partner = trials[index]
        prompts = {name: trial.asked(name) for name in kept} | {RESAMPLED: partner.asked(source)}
        resampled.append(
            replace(
                trial,
                # Without the other conditions, since a picture equal to one of them needs no
                # warning.
                images={name: trial.sources[name] for name in kept}
                | {RESAMPLED: partner.sources[source]},
                expected={condition: trial.expected[condition] for condition in (source, target)},
                prompts={
                    name: prompt for name, prompt in prompts.items() if prompt != trial.prompt
                },
                boxes={name: boxes for name, boxes in trial.boxes.items() if name in kept},
            )
        )
    return resampled
