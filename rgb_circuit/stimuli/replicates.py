"""What counts as one observation: trials that share a source are one, and are averaged before any
test.

- **Clusters.** A trial may name its cluster (`rgb_circuit.Trial.cluster`). Trials that name none
  and that no task drew are one cluster where they share a picture, pixel for pixel, whichever
  condition's it is, and where others link them. Eight questions about each of four photographs are
  four observations: counted as 32, a true null is rejected in 0.24 of samples instead of 0.05.
  Below `FEWEST` clusters nothing is tested.
- **Strata** are what was fixed: the answer's word, and what a trial declares
  (`rgb_circuit.Trial.strata`).
- **Answers.** Of two to four words (`FEW_WORDS`) each has the same weight, whichever is more
  frequent, and what is claimed must be shown in each, with `FEWEST` clusters or more: a head that
  always says "yes" is right wherever that is the answer.

A task that is drawn says itself what its trials share: nothing, unless they name a cluster.
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

# Clusters below which nothing is tested; of two to four answers, in each.
FEWEST = 8
# From how many clusters on a stratum's own spread is worth much.
ENOUGH = 4
FEW_WORDS = range(2, 5)
# Numbers of a frame that are no measurements.
_LABELS = ("window", "sender_layer", "sender_head", "receiver_layer", "receiver_head")


@dataclass(frozen=True)
class Replicates:
    """Which of some trials are one observation.

    Attributes:
        clusters: a label per trial, (trials,).
        levels: of the declared strata, one text per trial, (trials,); empty where none are.
        drawn: a task drew the trials, so that any number of them is tested, and answers are as
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
        """Of trials of a task; by default `rgb_circuit.stimuli.tasks.task_of` says which."""
        drawn = (task or task_of(trials)).is_game
        levels = [_levels(trial.strata) for trial in trials]
        return cls(np.array(clusters_of(trials, drawn)), np.array(levels, dtype=str), drawn)

    @classmethod
    def recorded(cls, described: Sequence[Mapping[str, Any]], task: Task) -> "Replicates":
        """`of` trials as `rgb_circuit.trial.described` has them, without their pictures."""
        clusters = recorded_clusters(described, task)
        levels = [_levels(trial.get("strata", {})) for trial in described]
        return cls(np.array([*clusters.values()]), np.array(levels, dtype=str), task.is_game)

    @classmethod
    def each(cls, n: int) -> "Replicates":
        """Of ``n`` drawn trials that share nothing."""
        return cls(np.arange(n).astype(str), np.full(n, ""), drawn=True)

    def only(self, used: np.ndarray) -> "Replicates":
        """Of the trials ``used``, by number."""
        return Replicates(self.clusters[used], self.levels[used], self.drawn)

    @property
    def all(self) -> np.ndarray:
        """The numbers of all trials."""
        return np.arange(len(self.clusters))

    @property
    def counts_clusters(self) -> bool:
        """Whether the rules of clusters are theirs: nobody drew them, or some share a cluster."""
        return not self.drawn or len(set(self.clusters)) < len(self.clusters)

    def n(self, used: np.ndarray | None = None) -> int:
        """How many clusters the trials ``used`` are in."""
        return len(set(self.clusters if used is None else self.clusters[used]))

    def halves(self) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the trials in the first half of the clusters, and in the second."""
        names = list(dict.fromkeys(self.clusters))
        first = np.isin(self.clusters, names[: len(names) // 2])
        return np.flatnonzero(first), np.flatnonzero(~first)

    def by_answer(self, words: np.ndarray | None, used: np.ndarray) -> list[np.ndarray]:
        """The trials that are tested together: those of each answer where it has two to four words,
        else all.

        Args:
            words: the answer's in every trial; None where they are not known.
            used: numbers of trials.
        """
        if self.drawn or words is None or len(found := np.unique(words[used])) not in FEW_WORDS:
            return [used]
        return [used[words[used] == word] for word in found]

    def too_few(self, words: np.ndarray | None, used: np.ndarray) -> str:
        """Why nothing can be tested on the trials ``used``: "few clusters", "few of an answer"; or
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
        """The numbers of the trials of each cluster, in the order of the trials.

        Args:
            used: numbers of trials; all by default.
            apart: a label per trial; those of different labels stay apart.
        """
        found: dict[tuple, list[int]] = {}
        for trial in self.all if used is None else used:
            found.setdefault(
                (self.clusters[trial], None if apart is None else apart[trial]), []
            ).append(trial)
        return [np.array(trials) for trials in found.values()]

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
            words: strata of the trials beside those declared; None where there are none.
            used: numbers of trials; all by default.
            alike: weigh each answer alike where it has two to four words, so that the mean over
                clusters is the mean of the answers' means.

        Returns:
            (clusters, …), and a label per cluster: of several strata all of them, with " + "
            between.
        """
        used, values = self.all if used is None else used, np.asarray(values)
        groups = self.groups(used)
        strata = self.strata(words)
        labels = (
            None
            if strata is None
            else np.array([" + ".join(sorted(set(strata[own]))) for own in groups])
        )
        parts = self.by_answer(words, used) if alike else [used]
        if len(parts) == 1:
            return np.stack([values[own].mean(0) for own in groups]), labels
        weights = np.zeros(len(self.clusters))
        for part in parts:
            shared = self.groups(part)
            for own in shared:
                weights[own] = len(groups) / len(parts) / len(shared) / len(own)
        weighted = values * weights.reshape(-1, *[1] * (values.ndim - 1))
        return np.stack([weighted[own].sum(0) for own in groups]), labels

    def strata(self, words: np.ndarray | None) -> np.ndarray | None:
        """(trials,): the words, with the declared levels."""
        if not self.levels.any():
            return words
        if words is None:
            return self.levels
        return np.array([f"{word} ({level})" for word, level in zip(words, self.levels)])

    def thin(self, words: np.ndarray) -> tuple[int, int]:
        """How many strata have fewer than `ENOUGH` clusters, and how many strata there are."""
        strata = words if (found := self.strata(words)) is None else found
        counts = [self.n(np.flatnonzero(strata == name)) for name in np.unique(strata)]
        return sum(count < ENOUGH for count in counts), len(counts)


def _levels(strata):
    """The declared levels of a trial, as a text."""
    return ", ".join(f"{name} {level}" for name, level in strata.items())


def clusters_of(trials: Sequence[Trial], drawn: bool) -> list[str]:
    """A label per trial: its cluster, or the name of the first trial that it shares pictures
    with."""
    pictures = [
        () if drawn or trial.cluster else tuple(map(picture_hash, trial.sources.values()))
        for trial in trials
    ]
    return linked([trial.name for trial in trials], [trial.cluster for trial in trials], pictures)


def linked(
    names: Sequence[str], named: Sequence[str], pictures: Sequence[Iterable[str]]
) -> list[str]:
    """A label per trial, the same for those that have one cluster, or share a picture directly or
    by others.

    Args:
        names: of the trials.
        named: the cluster that each names, or empty.
        pictures: what identifies its pictures, where it names none.

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
    return [cluster or names[root(trial)] for trial, cluster in enumerate(named)]


def named_clusters(trials: Sequence[Trial], task: Task | None = None) -> dict[str, str]:
    """Name of a trial → its cluster; see `Replicates.of`."""
    return dict(
        zip((trial.name for trial in trials), map(str, Replicates.of(trials, task).clusters))
    )


def recorded_clusters(described: Sequence[Mapping[str, Any]], task: Task) -> dict[str, str]:
    """`named_clusters` of trials as `rgb_circuit.trial.described` has them, without their
    pictures."""
    names = [trial["name"] for trial in described]
    own = [trial.get("cluster", "") for trial in described]
    pictures = [
        () if task.is_game or cluster else trial["pictures"].values()
        for trial, cluster in zip(described, own)
    ]
    return dict(zip(names, linked(names, own, pictures)))


def averaged(frame: pd.DataFrame, clusters: Mapping[str, str]) -> pd.DataFrame:
    """A frame with a row per cluster where it had one per trial: means of its numbers, and of
    ``answer`` all words. Where each trial is a cluster, the frame itself.

    Args:
        frame: with ``trial``, and a row per trial for every combination of its labels.
        clusters: name of a trial → its cluster.
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
    """A table of a row per trial as one of a row per cluster, answers weighed alike; and the rows'
    strata.

    Args:
        table: indexed by the trials' names.
        trials: that it is of, or more.
        words: name of a trial → the word that is read, or right.
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
    """Which trials are one observation since they share pictures or a cluster, and whether there
    are too few, in sentences; empty where there is nothing to say, and where a task drew them."""
    replicates = Replicates.of(trials)
    if replicates.drawn:
        return ""
    groups, sentences = replicates.groups(), []
    if shared := [own for own in groups if len(own) > 1]:
        one, other = (trials[number].name for number in shared[0][:2])
        why = "name one cluster" if trials[shared[0][0]].cluster else "share a picture"
        sentences.append(
            f"{said(len(trials), len(groups))}, each one observation: trials of one source are "
            f"averaged before any test, such as {one!r} and {other!r}, which {why}"
        )
    thin, strata = replicates.thin(_right_words(trials))
    kinds = "answers within declared strata" if replicates.levels.any() else "answers"
    if len(groups) < FEWEST:
        sentences.append(f"nothing is tested with fewer than {FEWEST} trials that share no source")
    elif thin and strata not in FEW_WORDS:
        sentences.append(
            f"{thin} of {strata} {kinds} have fewer than {ENOUGH} clusters, so "
            "that what a head does for one of these is hardly told from chance"
        )
    return ". ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)


def _right_words(trials):
    """(trials,): what is right for the clean picture, empty where nothing is."""
    return np.array([trial.answers.get(trial.expected.get("clean"), "") for trial in trials])


def check_enough(trials: Sequence[Trial]) -> None:
    """Refuse trials that are in too few clusters to be tested.

    Raises:
        NotApplicable: fewer than `FEWEST`, where nobody drew them or they name clusters.
    """
    replicates = Replicates.of(trials)
    if replicates.too_few(None, replicates.all):
        raise NotApplicable(
            f"{said(len(trials), replicates.n())} cannot be tested, since trials of one source are "
            f"one observation, and a test needs {FEWEST}; add trials of other pictures"
        )


def counted(frame: pd.DataFrame) -> str:
    """What the ``n`` of a frame of results is: "32 trials", or "32 trials in 8 clusters" where
    ``attrs["trials"]`` says that it counts clusters of so many.

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
    """The frame, which remembers of how many trials its ``n`` observations are."""
    frame.attrs["trials"] = trials
    return frame


def said(trials: int, clusters: int) -> str:
    """A number of trials as it is shown: "32 trials", "32 trials in 8 clusters"."""
    count = f"{trials} trial{'s' * (trials != 1)}"
    return count if trials == clusters else f"{count} in {clusters} cluster{'s' * (clusters != 1)}"
