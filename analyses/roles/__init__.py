"""The role of every head: all hypotheses tested from one set of sweeps."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

import rgb_circuit as rgb
from rgb_circuit.hypothesis import Claim, Hypothesis, about_words
from rgb_circuit.measuring.measurement import Measurement, Steps
from rgb_circuit.stimuli.replicates import FEWEST, counted
from rgb_circuit.stimuli.tasks import find
from rgb_circuit.task import Task

from .. import evidence as _evidence
from ..evidence import Frozen, rivals
from ..evidence.power import smallest_share

# The sentence of `refused` for each reason why nothing can be tested
# (`rgb_circuit.stimuli.replicates`).
FEW = {
    "few clusters": "trials of one source are one observation, and these are too few: a test needs "
    f"{FEWEST} clusters; add trials of other pictures",
    "few of an "
    "answer": "each of two to four answers must show what a head does, and one is right in fewer "
    f"than {FEWEST} clusters of trials; add trials of it",
    "no two "
    "answers": "a bias is told from two to four answers that are right in some trials each, and "
    "these trials have only one, or more than four",
    "not lined "
    "up": "where a head looks, and what it reads, is restored where the tokens of both prompts "
    "line up, and these do not; ask in as many tokens",
}
# The default task.
GAME = find("rgb")


def roles(
    model: rgb.Vlm, trials: Sequence[rgb.Trial], *, task: Task = GAME, **options
) -> pd.DataFrame:
    """One row per head: its role, how strong it is, and which predictions the head meets.

    Args:
        task, options: those of `evidence`.

    Returns:
        ``layer, head, role, score, colors``, then a Boolean per prediction of the task: of the
        game's ``P1a, P1b, P1c, P2a, P2b, P2c, P2d`` (`color_extractor`), ``P3a, P3b, P3c, P3d, P4,
        P5, P6, P5b, P7`` (`poi_localization`), ``P3n, P6p`` (`half_localization`), ``P7r``
        (`place_relay`), ``P4w, P5w, P8`` (`background_writer`), ``P8s`` (`canvas_suppressor`),
        ``P9a, P9b`` (`oddness`), and ``P10``: the clean answer needs the head; see `table`.

    Raises:
        InputError: as `evidence`.

    Examples:
        >>> from analyses.roles import roles
        >>> planted = rgb.load("planted")
        >>> table = roles(planted, rgb.rgb_trials(planted, 12))
        >>> table[table["role"] == "color extractor"][["layer", "head"]].values.tolist()
        [[3, 0], [3, 2], [4, 1], [4, 3]]
    """
    return table(evidence(model, trials, task=task, **options), task)


def evidence(
    model: rgb.Vlm,
    trials: Sequence[rgb.Trial],
    *,
    task: Task = GAME,
    extractors: Iterable[tuple[int, int]] | None = None,
    split: bool = False,
    **options,
) -> pd.DataFrame:
    """Test every prediction on every head; every sweep runs once.

    The false discovery rate is controlled for each role, over heads.

    Args:
        task: whose hypotheses and checks are tested.
        extractors: (layer, head) pairs that P5, P5b, P5w and P7 freeze; by default the heads that
            are found to read the odd colour.
        split: find heads on the first half of the trials and test them on the second, so that
            choosing heads does not inflate their effects. It takes twice the trials.
        options: ``margin, least, level, only_correct, positions, progress`` of
            `analyses.evidence.examine`; ``positions="all"``, for example, finds a circuit that
            works before [end].

    Returns:
        A row per head × prediction, as from `analyses.evidence.examine`.

    Raises:
        InputError: too few trials, or a picture or word that a prediction needs and a trial lacks.
    """
    frozen: Frozen | None = None if extractors is None else {"extractors": extractors}
    return _evidence.examine(
        model,
        trials,
        task.hypotheses,
        task=task,
        checks=task.checks,
        frozen=frozen,
        split=split,
        **options,
    )


def steps(
    model: rgb.Vlm, trials: Sequence[rgb.Trial], *, task: Task = GAME, **options
) -> Steps[pd.DataFrame]:
    """`evidence` as steps; see `analyses.evidence.steps`, which takes the ``options``."""
    return _evidence.steps(model, trials, task.hypotheses, task=task, checks=task.checks, **options)


def needs(
    model: rgb.Vlm,
    trials: Sequence[rgb.Trial],
    positions: str | Sequence[int] = "end",
    task: Task = GAME,
) -> list[Measurement]:
    """The measurements of `evidence` that need one trial at a time; see
    `analyses.evidence.needs`."""
    return _evidence.needs(
        model, trials, task.hypotheses, task=task, checks=task.checks, positions=positions
    )


def table(evidence: pd.DataFrame, task: Task = GAME) -> pd.DataFrame:
    """One row per head, from the frame of `evidence`.

    Args:
        task: whose hypotheses were tested.

    Returns:
        ``layer, head, role, score, colors`` and a Boolean per prediction.
        ``role`` is the name of a hypothesis, in the game "color extractor", "POI localization",
        "row or column localization", "place relay", "background writer", "canvas suppressor" or
        "oddness", or it is "none". A head that meets all predictions of several hypotheses gets all
        their names, such as "color extractor + background writer"; `exclusive` lists the roles that
        exclude each other. ``colors``, for a head that carries the right answer
        (`carries_the_answer`), lists the words for which it alone is shown to restore the answer in
        all its pictures, such as "green, red"; it is empty if these are all words, or if a word has
        too few trials to tell. ``score`` is a signed fraction of the gap: the mean restored
        fraction of the predictions in `rgb_circuit.hypothesis.Hypothesis.score`. A head with
        several roles has the score furthest from zero; a head with the role "none" has the furthest
        of all roles' scores, which says how much it does of anything, for better or worse. The
        score is missing if a gap that it is a fraction of is not shown (`no_gap`).
    """
    frame = evidence.pivot(index=["layer", "head"], columns="prediction", values="holds")
    frame = frame[list(dict.fromkeys(evidence["prediction"]))]
    fractions = scores_by_role(evidence, task)
    met = {hypothesis: _evidence.heads(evidence, hypothesis) for hypothesis in task.hypotheses}
    names, best, words = [], [], []
    for head in frame.index:
        hypotheses = [hypothesis for hypothesis in task.hypotheses if head in met[hypothesis]]
        carried = [
            _words(evidence, head, one) for one in hypotheses if carries_the_answer(one, task)
        ]
        words.append(carried[0] if carried else "")
        names.append(" + ".join(hypothesis.name for hypothesis in hypotheses) or "none")
        scored = [hypothesis.name for hypothesis in hypotheses or task.hypotheses]
        best.append(max(fractions.loc[head, scored].dropna(), key=abs, default=np.nan))
    frame.insert(0, "role", names)
    frame.insert(1, "score", best)
    frame.insert(2, "colors", words)
    return frame.rename_axis(columns=None).reset_index()


def carries_the_answer(hypothesis: Hypothesis, task: Task = GAME) -> bool:
    """Whether the score of a hypothesis counts only rises of the right answer's word."""
    scored = [
        prediction for prediction in hypothesis.predictions if prediction.name in hypothesis.score
    ]
    leads = [prediction.claims[0] for prediction in scored]
    return all(
        isinstance(claim, Claim) and claim.role == task.right and claim.expected == "up"
        for claim in leads
    )


def _words(evidence, head, hypothesis):
    """The words for which a head is shown to do all that its score counts; empty if these are
    all."""
    rows = evidence[
        (evidence["layer"] == head[0])
        & (evidence["head"] == head[1])
        & evidence["prediction"].isin(hypothesis.score)
    ]
    shown = [set(words.split(", ")) for words in rows["words"] if words]
    return ", ".join(sorted(set.intersection(*shown))) if shown else ""


def exclusive(task: Task = GAME) -> list[tuple[str, str]]:
    """The pairs of roles that no head can have both: whichever predictions stand in for others, one
    asks for what the other forbids.

    Examples:
        >>> exclusive()[0]
        ('color extractor', 'row or column localization')
    """
    return rivals.exclusive(task.hypotheses)


def power(
    evidence: pd.DataFrame,
    variation: float = 1.0,
    colors: int = 8,
    level: float = 0.05,
    least: float = 0.05,
    stray: float | None = None,
) -> float:
    """The smallest share of the gap that one head among all must restore to be confirmed, four
    times out of five, on as many trials: both its effects and the absence of others must be shown.

    Args:
        evidence: from `evidence`.
        variation: standard deviation of the head's effect over trials of one colour, as a fraction
            of the effect; 0.9 to 1.4 on a trained model.
        colors: how many are drawn.
        level, least: as in the call of `evidence`.
        stray: the share of trials in which an effect that should be absent is not; by default the
            share that the model answers wrongly. Pass 0 if those trials were left out.

    Returns:
        Infinite if no head could be confirmed, or nothing can be tested.
    """
    if evidence["void"].isin(list(FEW)[:2]).all():
        return np.inf
    n_heads, n = len(evidence[["layer", "head"]].drop_duplicates()), int(evidence["n"].iloc[0])
    if stray is None:
        stray = min(1.0, float(evidence["wrong"].iloc[0]) / evidence.attrs.get("trials", n))
    # Each of two to four answers is tested separately.
    answers, in_each = evidence.attrs.get("answers", (1, n))
    if answers > 1:
        n, colors = in_each, 1
    return smallest_share(n, n_heads, variation, colors, level, least, stray, answers)


def refused(evidence: pd.DataFrame, task: Task = GAME) -> str:
    """The roles that these trials cannot show, and why, in words without a full stop; empty if
    there are none.

    Args:
        evidence: from `evidence`.
    """
    void = evidence.drop_duplicates("prediction").set_index("prediction")["void"]
    # Role of an answer → the roles of heads that its missing or constant word leaves untestable.
    constant: dict[str, dict[str, None]] = {}
    unread: dict[str, dict[str, None]] = {}
    for hypothesis in task.hypotheses:
        for prediction in hypothesis.predictions:
            reason = void.get(prediction.name, "")
            if reason == "one word":
                constant.setdefault(prediction.varied or task.right, {})[hypothesis.name] = None
            for role in task.fixed(prediction) if reason == "no word" else ():
                unread.setdefault(role, {})[hypothesis.name] = None
    sentences = [
        f"{' and '.join(names)} cannot be shown where all trials have one {role}, since a head "
        f"that always says that word would pass; vary the {role}"
        for role, names in constant.items()
    ]
    sentences += [
        f"{' and '.join(names)} cannot be shown where trials have no answer {role!r}, the word for "
        f"{task.roles[role].says or 'it'}; add answers[{role!r}]"
        for role, names in unread.items()
    ]
    sentences += [FEW[reason] for reason in dict.fromkeys(void[void.isin(list(FEW))])]
    return "; ".join(sentences)


def heads(table: pd.DataFrame, role: str) -> list[tuple[int, int]]:
    """The (layer, head) pairs of a role table (`roles`) with ``role``, alone or among others."""
    has_role = [role in names.split(" + ") for names in table["role"]]
    return [
        (int(layer), int(head))
        for layer, head in table.loc[has_role, ["layer", "head"]].itertuples(index=False)
    ]


def closest(evidence: pd.DataFrame, k: int = 3, task: Task = GAME) -> pd.DataFrame:
    """The heads that come closest to any role: those with the highest scores.

    Args:
        evidence: from `evidence`.
        k: how many.

    Returns:
        A row per head, the highest score first: ``layer, head, role`` (the closest role), ``score``
        (for that role, as in `table`). Heads without a score, for lack of a gap (`no_gap`), are
        left out.
    """
    fractions = scores_by_role(evidence, task).dropna(how="all")
    if fractions.empty:
        return pd.DataFrame(columns=["layer", "head", "role", "score"])
    nearest = pd.DataFrame({"role": fractions.idxmax(axis=1), "score": fractions.max(axis=1)})
    return nearest.sort_values("score", ascending=False, kind="stable").head(k).reset_index()


def no_gap(evidence: pd.DataFrame, task: Task = GAME) -> str:
    """The predictions that cannot be tested because the model's answer does not change
    (`analyses.evidence`), as a sentence; empty if all can be tested.

    Args:
        evidence: from `evidence`.
    """
    names = list(dict.fromkeys(evidence.loc[evidence["void"] == "no gap", "prediction"]))
    if not names:
        return ""
    leads = {prediction.name: about_words([prediction])[:1] for prediction in task.predictions}
    pictures = {name: task.changed(claim.sweep) for name, lead in leads.items() for claim in lead}
    targets = list(dict.fromkeys(pictures[name] for name in names))
    all_of_them = set(targets) == set(pictures.values())
    which = "" if all_of_them else " and ".join(targets) + " "
    which_do = (
        f"the {which}pictures do" if all_of_them or len(targets) > 1 else f"the {which}picture does"
    )
    untested = "no role can be tested" if all_of_them else f"{', '.join(names)} cannot be tested"
    shown = f"as far as {counted(evidence)} show"
    return (
        f"no gap: {which_do} not change what the model says about the {task.right} word, "
        f"{shown}, so {untested}"
    )


def scores_by_role(evidence: pd.DataFrame, task: Task = GAME) -> pd.DataFrame:
    """A row per (layer, head), a column per role: the head's score for it, a signed fraction of the
    gap; missing if a gap is not shown."""
    fractions = evidence.pivot(
        index=["layer", "head"], columns="prediction", values="restored_fraction"
    )
    # A score is missing if any of the fractions that it averages is.
    means = {
        hypothesis.name: fractions[list(hypothesis.score)].mean(axis=1, skipna=False)
        for hypothesis in task.hypotheses
    }
    return pd.DataFrame(means)
