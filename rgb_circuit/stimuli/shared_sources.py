"""Which trials of several samples share a source, such as one scene with two questions about it.

The noise of a picture enters every effect that is measured on it. If samples share pictures, heads
must not be found and tested on the same picture, and noise that two effects share must not count as
agreement.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..pictures import picture_hash
from ..trial import Trial
from .replicates import Replicates, linked
from .tasks import task_of


def sources_of(samples: Sequence[Sequence[Trial]]) -> list[np.ndarray]:
    """A label per trial of each sample, the same for trials that share a source, in whichever
    sample: their clean picture, pixel for pixel, or a cluster (`rgb_circuit.stimuli.replicates`),
    directly or through others.

    Equal cluster names in two samples mean the same cluster, unless a task drew the trials: its
    clusters are numbers.

    Args:
        samples: each the trials of one task.
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
    """For each sample, the numbers of the trials in the first half of its sources, and in the
    second; a source is in the same half of all samples, so a half may be small, or empty."""
    is_first: dict[str, bool] = {}
    for labels in (sources := sources_of(samples)):
        names = dict.fromkeys(labels)
        room = len(names) // 2 - sum(is_first.get(name, False) for name in names)
        free = [name for name in names if name not in is_first]
        is_first |= {name: number < room for number, name in enumerate(free)}
    firsts = [np.array([is_first[name] for name in labels], dtype=bool) for labels in sources]
    return [(np.flatnonzero(first), np.flatnonzero(~first)) for first in firsts]


def lined_up(one: Sequence[str], other: Sequence[str]) -> tuple[np.ndarray, np.ndarray, bool]:
    """The numbers of the observations to keep of two samples, such that both have the same sources
    in the same order, or none in common; and whether they have the same.

    If the samples share some sources, only these are kept if they are at least half of the smaller
    sample; otherwise the other sample loses them.

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
        numbers = [np.array([own[key] for key in shared]) for own in keys]
        return numbers[0], numbers[1], True
    first_labels = {label for label, _ in keys[0]}
    alone = [number for (label, _), number in keys[1].items() if label not in first_labels]
    return np.arange(len(one)), np.array(alone, dtype=int), False


def _numbered(labels):
    """(label, number of its earlier occurrences) → position."""
    before: Counter = Counter()
    positions = {}
    for number, label in enumerate(labels):
        positions[label, before[label]] = number
        before[label] += 1
    return positions
