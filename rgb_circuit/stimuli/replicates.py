"""What counts as one observation: trials that share a source are one, and are averaged before any
test.

- **Clusters.** A trial may name its cluster (`rgb_circuit.Trial.cluster`). Trials that name none
  and that no task drew are one cluster if they share a picture, pixel for pixel and under any
  condition, or if other trials link them. Eight questions about each of four photographs are four
  observations: counted as 32, a true null is rejected in 0.24 of samples instead of 0.05. Below
  `FEWEST` clusters nothing is tested.
- **Strata** are what was fixed: the answer's word, and the factors that a trial declares
  (`rgb_circuit.Trial.strata`).
- **Answers.** Each of two to four words (`FEW_WORDS`) has the same weight, whichever is more
  frequent. A claim must be shown in each, with `FEWEST` clusters or more: a head that always says
  "yes" is right wherever that is the answer.

The trials of a drawn task share nothing, unless they name a cluster.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..errors import NotApplicable
from ..pictures import picture_hash
from ..task import Task
from ..trial import Trial
from .tasks import task_of

# The fewest clusters that are tested; with two to four answers, the fewest in each.
FEWEST = 8
# The fewest clusters for which a stratum's own spread means much.
ENOUGH = 4
FEW_WORDS = range(2, 5)
# Columns of numbers that are labels, not measurements.
_LABELS = ("window", "sender_layer", "sender_head", "receiver_layer", "receiver_head")


@dataclass(frozen=True)
class Replicates:
    """Which trials are one observation.

    Attributes:
        clusters: a label per trial, (trials,).
        levels: the declared strata, one text per trial, (trials,); empty if none are declared.
        drawn: whether a task drew the trials. Then any number of them is tested, and answers are as
            balanced as they were drawn.

    Examples:
        >>> from rgb_circuit.stimuli.replicates import Replicates
        >>> kitchens = Replicates(np.array(["a", "a", "b"]), np.array(["", "", ""]), drawn=False)
        >>> words = np.array(["yes", "yes", "no"])
        >>> effects, strata = kitchens.means(np.array([1.0, 3.0, 5.0]), words)
        >>> effects.tolist(), strata.tolist()
        ([2.0, 5.0], ['yes', 'no'])
    """

    clusters: np.ndarray
    levels: np.ndarray
    drawn: bool

    @classmethod
    def of(cls, trials: Sequence[Trial], task: Task | None = None) -> "Replicates":
        """The replicates of a task's trials; by default the task from
        `rgb_circuit.stimuli.tasks.task_of`."""
        drawn = (task or task_of(trials)).is_game
        levels = [_levels(trial.strata) for trial in trials]
        return cls(np.array(clusters_of(trials, drawn)), np.array(levels, dtype=str), drawn)

    @classmethod
    def recorded(cls, described: Sequence[Mapping[str, Any]], task: Task) -> "Replicates":
        """`of` for trials as `rgb_circuit.trial.described` records them, without their pictures."""
        clusters = recorded_clusters(described, task)
        levels = [_levels(trial.get("strata", {})) for trial in described]
        return cls(np.array([*clusters.values()]), np.array(levels, dtype=str), task.is_game)

    @classmethod
    def each(cls, n: int) -> "Replicates":
        """The replicates of ``n`` drawn trials that share nothing."""
        return cls(np.arange(n).astype(str), np.full(n, ""), drawn=True)

    def only(self, used: np.ndarray) -> "Replicates":
        """The replicates of the trials ``used``, given by number."""
        return Replicates(self.clusters[used], self.levels[used], self.drawn)

    @property
    def all(self) -> np.ndarray:
        """The numbers of all trials."""
        return np.arange(len(self.clusters))

    @property
    def counts_clusters(self) -> bool:
        """Whether the rules for clusters apply: no task drew the trials, or some share a
        cluster."""
        return not self.drawn or len(set(self.clusters)) < len(self.clusters)

    def n(self, used: np.ndarray | None = None) -> int:
        """The number of clusters of the trials ``used``."""
        return len(set(self.clusters if used is None else self.clusters[used]))

    def halves(self) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the trials in the first half of the clusters, and in the second."""
        names = list(dict.fromkeys(self.clusters))
        first = np.isin(self.clusters, names[: len(names) // 2])
        return np.flatnonzero(first), np.flatnonzero(~first)

    def by_answer(self, words: np.ndarray | None, used: np.ndarray) -> list[np.ndarray]:
        """The trials that are tested together: if the answer has two to four words, those of each
        word; else all.

        Args:
            words: the answer's word in every trial; None if unknown.
            used: numbers of trials.
        """
        if self.drawn or words is None or len(answers := np.unique(words[used])) not in FEW_WORDS:
            return [used]
        return [used[words[used] == word] for word in answers]

    def too_few(self, words: np.ndarray | None, used: np.ndarray) -> str:
        """Why nothing can be tested on the trials ``used``: "few clusters", "few of an answer", or
        empty."""
        if not self.counts_clusters:
            return ""
        if self.n(used) < FEWEST:
            return "few clusters"
        parts = self.by_answer(words, used)
        return "few of an answer" if min(map(self.n, parts)) < FEWEST else ""

    def groups(
        self, used: np.ndarray | None = None, apart: np.ndarray | None = None
    ) -> list[np.ndarray]:
        """The numbers of each cluster's trials, in the order of the trials.

        Args:
            used: numbers of trials; all by default.
            apart: a label per trial; trials with different labels stay apart.
        """
        members: dict[tuple, list[int]] = {}
        for trial in self.all if used is None else used:
            members.setdefault(
                (self.clusters[trial], None if apart is None else apart[trial]), []
            ).append(trial)
        return [np.array(trials) for trials in members.values()]

    def means(
        self,
        values: np.ndarray,
        words: np.ndarray | None,
        used: np.ndarray | None = None,
        alike: bool = False,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Means over the trials of each cluster, and the clusters' strata.

        Args:
            values: (trials, …).
            words: strata of the trials in addition to the declared ones; None if there are none.
            used: numbers of trials; all by default.
            alike: give each of two to four answers the same weight, so that the mean over clusters
                is the mean of the answers' means.

        Returns:
            (clusters, …), and a label per cluster, which joins several strata by " + ".
        """
        used, values = self.all if used is None else used, np.asarray(values)
        groups = self.groups(used)
        strata = self.strata(words)
        labels = (
            None
            if strata is None
            else np.array([" + ".join(sorted(set(strata[members]))) for members in groups])
        )
        parts = self.by_answer(words, used) if alike else [used]
        if len(parts) == 1:
            return np.stack([values[members].mean(0) for members in groups]), labels
        weights = np.zeros(len(self.clusters))
        for part in parts:
            shared = self.groups(part)
            for members in shared:
                weights[members] = len(groups) / len(parts) / len(shared) / len(members)
        weighted = values * weights.reshape(-1, *[1] * (values.ndim - 1))
        return np.stack([weighted[members].sum(0) for members in groups]), labels

    def strata(self, words: np.ndarray | None) -> np.ndarray | None:
        """The words with the declared levels, (trials,)."""
        if not self.levels.any():
            return words
        if words is None:
            return self.levels
        return np.array([f"{word} ({level})" for word, level in zip(words, self.levels)])

    def thin(self, words: np.ndarray) -> tuple[int, int]:
        """The number of strata with fewer than `ENOUGH` clusters, and the number of strata."""
        strata = words if (found := self.strata(words)) is None else found
        counts = [self.n(np.flatnonzero(strata == name)) for name in np.unique(strata)]
        return sum(count < ENOUGH for count in counts), len(counts)


def _levels(strata):
    """A trial's declared levels as text."""
    return ", ".join(f"{name} {level}" for name, level in strata.items())


def clusters_of(trials: Sequence[Trial], drawn: bool) -> list[str]:
    """A label per trial: its cluster, or the name of the first trial with which it shares
    pictures."""
    pictures = [
        () if drawn or trial.cluster else tuple(map(picture_hash, trial.sources.values()))
        for trial in trials
    ]
    return linked([trial.name for trial in trials], [trial.cluster for trial in trials], pictures)


def linked(
    names: Sequence[str], named: Sequence[str], pictures: Sequence[Iterable[str]]
) -> list[str]:
    """A label per trial, the same for trials that name the same cluster or share a picture,
    directly or through others.

    Args:
        names: of the trials.
        named: the cluster that each names, or empty.
        pictures: identifiers of each trial's pictures; empty if it names a cluster.

    Examples:
        >>> from rgb_circuit.stimuli.replicates import linked
        >>> pictures = [("a", "b"), ("c", "d"), ("b", "c"), ()]
        >>> linked(["1", "2", "3", "4"], ["", "", "", "hall"], pictures)
        ['1', '1', '1', 'hall']
    """
    first: dict[str, int] = {}
    above = list(range(len(names)))

    def root(trial):
        while above[trial] != trial:
            above[trial] = trial = above[above[trial]]
        return trial

    for trial, own in enumerate(pictures):
        for picture in own:
            one, other = root(first.setdefault(picture, trial)), root(trial)
            above[max(one, other)] = min(one, other)
    linked_to, taken = [names[root(trial)] for trial in range(len(names))], set(named)
    # A trial may have the name of another's cluster.
    alone = [f"trial {name}" if name in taken else name for name in linked_to]
    return [cluster or name for cluster, name in zip(named, alone)]


def named_clusters(trials: Sequence[Trial], task: Task | None = None) -> dict[str, str]:
    """Trial name → cluster; see `Replicates.of`."""
    return dict(
        zip((trial.name for trial in trials), map(str, Replicates.of(trials, task).clusters))
    )


def recorded_clusters(described: Sequence[Mapping[str, Any]], task: Task) -> dict[str, str]:
    """`named_clusters` for trials as `rgb_circuit.trial.described` records them, without their
    pictures."""
    names = [trial["name"] for trial in described]
    clusters = [trial.get("cluster", "") for trial in described]
    pictures = [
        () if task.is_game or cluster else trial["pictures"].values()
        for trial, cluster in zip(described, clusters)
    ]
    return dict(zip(names, linked(names, clusters, pictures)))


def averaged(frame: pd.DataFrame, clusters: Mapping[str, str]) -> pd.DataFrame:
    """A frame with a row per cluster instead of per trial: the means of its numbers, and all words
    of ``answer``. If each trial is its own cluster, the frame itself.

    Args:
        frame: with ``trial``, and a row per trial for every combination of its labels.
        clusters: trial name → cluster.
    """
    named = frame["trial"].astype(str).map(clusters)
    if named.nunique() == frame["trial"].nunique():
        return frame
    numbers = frame.select_dtypes("number").columns.difference(["layer", "head", *_LABELS])
    by = [name for name in frame if name not in (*numbers, "trial", "answer")]
    grouped = frame.assign(trial=named).groupby(
        ["trial", *by], observed=True, sort=False, dropna=False
    )
    means = grouped[list(numbers)].mean()
    if "answer" in frame:
        means["answer"] = grouped["answer"].agg(
            lambda words: " + ".join(sorted(set(map(str, words))))
        )
    means = means.reset_index()[list(frame)]
    means.attrs = dict(frame.attrs)
    return means


def observed(
    table: pd.DataFrame, trials: Sequence[Trial], words: Mapping[str, str]
) -> tuple[pd.DataFrame, list[str]]:
    """A table with a row per trial as a table with a row per cluster, with equal weight for each
    answer; and the rows' strata.

    Args:
        table: indexed by the trials' names.
        trials: the table's trials, or more.
        words: trial name → the word that is read, or right.
    """
    named = {trial.name: trial for trial in trials}
    replicates = Replicates.of([named[str(name)] for name in table.index])
    read = np.array([words[str(name)] for name in table.index])
    if not replicates.counts_clusters:
        return table, read.tolist()
    values, strata = replicates.means(table.to_numpy(dtype=float), read, alike=True)
    names = [table.index[own[0]] for own in replicates.groups()]
    return pd.DataFrame(values, pd.Index(names, name="trial"), table.columns), list(strata)  # type: ignore


def of_one_source(trials: Sequence[Trial]) -> str:
    """Sentences that say which trials are one observation, since they share pictures or a cluster,
    and whether these are too few; empty if there is nothing to say, or a task drew the trials."""
    replicates = Replicates.of(trials)
    if replicates.drawn:
        return ""
    groups, sentences = replicates.groups(), []
    if shared := [own for own in groups if len(own) > 1]:
        first, second = (trials[number].name for number in shared[0][:2])
        why = "name one cluster" if trials[shared[0][0]].cluster else "share a picture"
        sentences.append(
            f"{said(len(trials), len(groups))}, each one observation: trials of one source are "
            f"averaged before any test, such as {first!r} and {second!r}, which {why}"
        )
    thin, strata = replicates.thin(_right_words(trials))
    kinds = "answers within declared strata" if replicates.levels.any() else "answers"
    if len(groups) < FEWEST:
        sentences.append(f"nothing is tested with fewer than {FEWEST} trials that share no source")
    elif thin and strata not in FEW_WORDS:
        sentences.append(
            f"{thin} of {strata} {kinds} have fewer than {ENOUGH} clusters, so "
            "that effects on single ones can hardly be distinguished from chance"
        )
    return ". ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)


def _right_words(trials):
    """The right answer to the clean picture, (trials,); empty if there is none."""
    return np.array([trial.answers.get(trial.expected.get("clean"), "") for trial in trials])


def check_enough(trials: Sequence[Trial]) -> None:
    """Refuse trials in too few clusters to be tested.

    Raises:
        NotApplicable: fewer than `FEWEST` clusters, if no task drew the trials or they name
            clusters.
    """
    replicates = Replicates.of(trials)
    if replicates.too_few(None, replicates.all):
        raise NotApplicable(
            f"{said(len(trials), replicates.n())} cannot be tested, since trials of one source are "
            f"one observation, and a test needs {FEWEST}; add trials of other pictures"
        )


def counted(frame: pd.DataFrame) -> str:
    """The ``n`` of a frame of results in words: "32 trials", or "32 trials in 8 clusters" if
    ``attrs["trials"]`` says that it counts clusters.

    Examples:
        >>> from rgb_circuit.stimuli.replicates import counted
        >>> counted(pd.DataFrame({"n": [8]})), counted(with_trials(pd.DataFrame({"n": [8]}), 32))
        ('8 trials', '32 trials in 8 clusters')
    """
    n = int(frame["n"].iloc[0])
    return said(frame.attrs.get("trials", n), n)


def observations(frame: pd.DataFrame) -> str:
    """What the ``n`` of a frame of results counts: "trials", or "clusters of trials"."""
    n = int(frame["n"].iloc[0])
    return "trials" if frame.attrs.get("trials", n) == n else "clusters of trials"


def with_trials(frame: pd.DataFrame, trials: int) -> pd.DataFrame:
    """The frame, with the number of trials behind its ``n`` observations kept in ``attrs``."""
    frame.attrs["trials"] = trials
    return frame


def said(trials: int, clusters: int) -> str:
    """A number of trials in words: "32 trials", "32 trials in 8 clusters"."""
    count = f"{trials} trial{'s' * (trials != 1)}"
    return count if trials == clusters else f"{count} in {clusters} cluster{'s' * (clusters != 1)}"
