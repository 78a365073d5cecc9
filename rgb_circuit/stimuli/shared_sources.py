"""Which trials of several samples are of one source, such as one scene that is asked about in two
ways.

Noise of a picture is in every effect that is measured on it. Where samples share pictures, heads
must not be found on a picture and tested on the same one, and what two effects share by noise must
not be taken for agreement.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..pictures import picture_hash
from ..trial import Trial
from .replicates import Replicates, linked
from .tasks import task_of


def sources_of(samples: Sequence[Sequence[Trial]]) -> list[np.ndarray]:
    """A label per trial of each sample, the same for trials of one source, in whichever sample:
    such as share their clean picture, pixel for pixel, or are in one cluster
    (`rgb_circuit.stimuli.replicates`), directly or by others.

    Clusters that trials name are one in two samples where nobody drew the trials; those of drawn
    trials are numbers.

    Args:
        samples: trials of one task each.
    """
    names, known = [], []
    for number, trials in enumerate(samples):
        drawn = task_of(trials).is_game
        for trial, cluster in zip(trials, Replicates.of(trials).clusters):
            names.append(f"{number} {trial.name}")
            own = [f"picture {picture_hash(trial.sources['clean'])}", f"{number} {cluster}"]
            known.append(own + [f"cluster {trial.cluster}"] * bool(trial.cluster and not drawn))
    labels = np.array(linked(names, [""] * len(names), known))
    return np.split(labels, np.cumsum([len(trials) for trials in samples])[:-1])


def halves_of(samples: Sequence[Sequence[Trial]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each sample the numbers of the trials in the first half of its sources, and in the second;
    a source is in the same half of all samples, so that a half may be small, or empty."""
    is_first: dict[str, bool] = {}
    for labels in (sources := sources_of(samples)):
        names = dict.fromkeys(labels)
        room = len(names) // 2 - sum(is_first.get(name, False) for name in names)
        free = [name for name in names if name not in is_first]
        is_first |= {name: number < room for number, name in enumerate(free)}
    firsts = [np.array([is_first[name] for name in labels], dtype=bool) for labels in sources]
    return [(np.flatnonzero(first), np.flatnonzero(~first)) for first in firsts]


def lined_up(one: Sequence[str], other: Sequence[str]) -> tuple[np.ndarray, np.ndarray, bool]:
    """The numbers of the observations of two samples, such that both are of the same sources in the
    same order, or of none in common; and whether they are the same.

    Where samples share some of their sources, these alone are kept if they are half of the smaller
    sample or more; else the other sample is left without them.

    Args:
        one, other: the source of each observation.

    Examples:
        >>> one, other, same = lined_up("abc", "xcb")
        >>> [*map(int, one)], [*map(int, other)], same
        ([1, 2], [2, 1], True)
        >>> one, other, same = lined_up("abc", "xyc")
        >>> [*map(int, one)], [*map(int, other)], same
        ([0, 1, 2], [0, 1], False)
    """
    keys = [_numbered(labels) for labels in (one, other)]
    shared = [key for key in keys[0] if key in keys[1]]
    if shared and 2 * len(shared) >= min(map(len, keys)):
        same = [np.array([own[key] for key in shared]) for own in keys]
        return same[0], same[1], True
    there = {label for label, _ in keys[0]}
    alone = [number for (label, _), number in keys[1].items() if label not in there]
    return np.arange(len(one)), np.array(alone, dtype=int), False


def _numbered(labels):
    """(label, how many of it came before) → its number."""
    before: Counter = Counter()
    found = {}
    for number, label in enumerate(labels):
        found[label, before[label]] = number
        before[label] += 1
    return found
