"""How well a model answers the trials, reported before anything about its heads is measured.

Accuracy says little by itself: a model that says "yes" to every picture is right on every picture
whose answer is "yes". So right answers are counted by picture, by answer and by stratum, compared
with guessing (`chance`), and three measures show whether the model looks at all:

- A **flip**: a trial with right answers to the clean picture and to all pictures with another right
  answer. A model that always says one word has none.
- A **group**: the trials of a cluster, if all their pictures are answered rightly; such as several
  questions about the same pair of pictures.
- A **gap**: how far the logit of the right answer, less the best of the others, falls from the
  clean picture to those with another right answer (logits, mean over these). Without a gap there is
  nothing to restore.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy.stats import norm

from rgb_circuit.calls.panels import LEAST_GAP
from rgb_circuit.calls.play import right_words
from rgb_circuit.stimuli.replicates import named_clusters
from rgb_circuit.task import Task
from rgb_circuit.trial import Trial, as_trials

# At most this many answers, strata or conditions are printed.
MOST_PRINTED = 12
# At most this many words accepted for one answer are named.
MOST_WORDS = 4


def chance(played: pd.DataFrame, task: Task | None = None) -> float:
    """The share of right answers by guessing: the task's, else 1 / the number of words that are
    right for some picture; if there is only one such word, 1 / the number of roles.

    Args:
        played: from `rgb_circuit.play`.

    Returns:
        NaN if nothing is scored.

    Examples:
        >>> played = pd.DataFrame({"expected": ["yes", "No", None], "correct": [True, False, None]})
        >>> chance(played)
        0.5
    """
    if task is not None and task.chance is not None:
        return task.chance
    words = played.loc[played["correct"].notna(), "expected"].str.casefold().nunique()
    if words == 1:
        words = max(2, sum(name.startswith("logit_") for name in played.columns))
    return 1 / words if words else np.nan


def named_words(played: pd.DataFrame) -> dict[str, str]:
    """Right word in lower case → that word and others accepted for it in some trial, for people to
    read: in the one spelling that always occurs ("A"), else in lower case.

    Args:
        played: rows of `rgb_circuit.play`.

    Examples:
        >>> rows = {"expected": ["grey", "Grey", "red"], "accepted": ["grey / gray", "Grey", "red"]}
        >>> named_words(pd.DataFrame(rows))
        {'grey': 'grey / gray', 'red': 'red'}
    """
    both = pd.DataFrame({"word": played["expected"], "accepted": right_words(played)})
    # Right word → each accepted word in lower case → its spellings.
    accepted: dict[str, dict[str, set[str]]] = {}
    for word, several in both.dropna().drop_duplicates().itertuples(index=False):
        spellings = accepted.setdefault(word.casefold(), {})
        for spelling in several.split(" / "):
            spellings.setdefault(spelling.casefold(), set()).add(spelling)
    named = {}
    for word, spellings in accepted.items():
        words = [_spelled(written, folded) for folded, written in spellings.items()]
        named[word] = " / ".join([*words[:MOST_WORDS], *["…"] * (len(words) > MOST_WORDS)])
    return named


def _spelled(written, folded):
    """A word in the one spelling that always occurs, such as "A"; else in lower case."""
    return next(iter(written)) if len(written) == 1 else folded


def constant(played: pd.DataFrame) -> str:
    """The one answer to all scored pictures, if their right answers differ; else empty.

    Args:
        played: rows of `rgb_circuit.play`.
    """
    scored = played[played["correct"].notna()]
    answers = scored["answer"].str.casefold().unique()
    differ = scored["expected"].str.casefold().nunique() > 1
    return str(scored["answer"].iloc[0]) if differ and len(answers) == 1 else ""


def by_trial(played: pd.DataFrame, trials: Sequence[Trial]) -> pd.DataFrame:
    """The answers to each trial's pictures.

    Args:
        played: from `rgb_circuit.play`, of these trials.

    Returns:
        A row per trial: ``trial, cluster``; ``right, n`` (scored pictures); ``changed`` (pictures
        with another right answer than the clean one); if there are any, ``flips``, ``gap``
        (logits), and ``has_gap``: whether the gap is at least `rgb_circuit.calls.panels.LEAST_GAP`.

    Examples:
        >>> table = by_trial(rgb.play(model, trials), trials)
        >>> table[["right", "n", "flips", "has_gap"]].values.tolist()[0]
        [5, 5, True, True]
    """
    trials = as_trials(trials)
    # Plain dictionaries: a frame per trial takes a minute for ten thousand trials.
    seen = {(str(row["trial"]), str(row["condition"])): row for row in played.to_dict("records")}
    rows = []
    for trial in trials:
        answers = {
            condition: row
            for condition in trial.images
            if (row := seen.get((trial.name, condition)))
        }
        scored = [bool(row["correct"]) for row in answers.values() if not pd.isna(row["correct"])]
        right = trial.expected.get("clean")
        changed = [
            name for name, role in trial.expected.items() if name in answers and role != right
        ]
        entry = dict(trial=trial.name, cluster=trial.cluster, right=sum(scored), n=len(scored))
        entry |= dict(changed=len(changed), flips=None, gap=np.nan, has_gap=None)
        if right is not None and changed and "clean" in answers:
            fallen = np.mean([_ahead(answers[name], trial, right) for name in changed])
            entry["flips"] = all(bool(answers[name]["correct"]) for name in ("clean", *changed))
            gap = _ahead(answers["clean"], trial, right) - fallen
            entry |= dict(gap=gap, has_gap=bool(gap >= LEAST_GAP))
        rows.append(entry)
    return pd.DataFrame(rows).astype({"flips": "boolean", "has_gap": "boolean"})


def flipped(trials: Sequence[Trial], played: pd.DataFrame) -> list[Trial]:
    """The trials that flip; see `by_trial`."""
    flips = by_trial(played, trials).set_index("trial")["flips"]
    return [trial for trial in trials if flips[trial.name] is not pd.NA and flips[trial.name]]


def accuracy(
    played: pd.DataFrame, trials: Sequence[Trial], task: Task | None = None
) -> pd.DataFrame:
    """How often a model is right, by picture, answer and stratum, against chance.

    Args:
        played: from `rgb_circuit.play`, of these trials.
        task: gives ``chance``.

    Returns:
        A row per ``by`` × ``level``: "all", "picture" (condition), "answer" (the right word, with
        the others accepted for it in some trial: "grey / gray"), "stratum FACTOR" (its level),
        "flips" and "group" (trials that flip, and clusters with only right answers; "group" only if
        a cluster has several trials).
        ``right, n, share``, ``ci_low, ci_high`` (95 %, Wilson's, as if all were independent; trials
        of one source count once),
        ``chance``, and ``constant``: the one answer to all of these pictures, if their right
        answers differ; else empty. Unscored pictures are left out.

    Examples:
        >>> table = accuracy(rgb.play(model, trials), trials)
        >>> table.loc[table["by"] == "picture", ["level", "right", "n"]].values.tolist()[0]
        ['clean', 4, 4]
        >>> table.loc[table["by"] == "flips", ["right", "n"]].values.tolist()
        [[4, 4]]
    """
    trials = as_trials(trials)
    guessed = chance(played, task)
    scored = played[played["correct"].notna()].astype({"condition": str, "trial": str})
    by_name, clusters = {trial.name: trial for trial in trials}, named_clusters(trials, task)
    scored["cluster"] = scored["trial"].map(clusters)
    rows = [_row("all", "", scored, guessed)] if len(scored) else []
    rows += [
        _row("picture", level, group, guessed)
        for level, group in scored.groupby("condition", sort=False)
    ]
    words = scored["expected"].str.casefold()
    named = named_words(played)
    rows += [_row("answer", named[word], group, guessed) for word, group in scored.groupby(words)]
    for factor in dict.fromkeys(factor for trial in trials for factor in trial.strata):
        levels = scored["trial"].map(lambda name, factor=factor: by_name[name].strata.get(factor))
        rows += [
            _row(f"stratum {factor}", str(level), group, guessed)
            for level, group in scored.groupby(levels)
        ]
    each = by_trial(played, trials)
    if len(flips := each["flips"].dropna()):
        pictures = 1 + each.loc[flips.index, "changed"]
        rows.append(
            _counted(
                "flips",
                int(flips.sum()),
                len(flips),
                float((guessed**pictures).mean()),
                _once(each.loc[flips.index, "trial"].map(clusters)),
            )
        )
    clusters = each[(each["cluster"] != "") & (each["n"] > 0)].groupby("cluster")
    if len(clusters) and clusters.size().max() > 1:
        whole = [bool((group["right"] == group["n"]).all()) for _, group in clusters]
        rows.append(
            _counted(
                "group", sum(whole), len(whole), float((guessed ** clusters["n"].sum()).mean())
            )
        )
    columns = ["by", "level", "right", "n", "share", "ci_low", "ci_high", "chance", "constant"]
    return pd.DataFrame(rows, columns=columns)


def lines(table: pd.DataFrame, each: pd.DataFrame) -> Iterable[str]:
    """The table of `accuracy` and the frame of `by_trial` in lines, as the command prints them
    below the right answers by picture."""
    if table.empty:
        return
    yield f"  Guessing would reach {_percent(table['chance'].iloc[0])}. Right answers"
    for by, rows in table[~table["by"].isin(["all", "picture", "flips", "group"])].groupby(
        "by", sort=False
    ):
        counts = [f"{row.level}: {row.right} of {row.n}" for row in rows.itertuples()]
        more = f", and {len(counts) - MOST_PRINTED} more" if len(counts) > MOST_PRINTED else ""
        yield f"    by {by}: {', '.join(counts[:MOST_PRINTED])}{more}"
    for row in table[table["by"].isin(["flips", "group"])].itertuples():
        what = {
            "flips": "trials flip: right on the clean picture and on those with another answer",
            "group": "clusters are right in all their trials",
        }[row.by]
        yield f"    {row.right} of {row.n} {what}; guessing would reach {_percent(row.chance)}"
    for row in constants(table):
        which = f"all {row['level']} pictures" if row["level"] else "all pictures"
        yield f"    {which} are answered {row['constant']!r}, whatever the right answer is"
    if gaps := each["has_gap"].count():
        yield (
            f"    {each['has_gap'].sum()} of {gaps} trials have a gap: the logit difference to the "
            f"best other answer falls by {LEAST_GAP} logits or more"
        )


def constants(table: pd.DataFrame) -> list[dict]:
    """The rows of `accuracy` whose pictures all get one answer: "all" if it is one, else those of
    conditions."""
    named = table[(table["constant"] != "") & table["by"].isin(["all", "picture"])]
    return named[named["by"] == named["by"].min()].to_dict("records")


def _percent(share):
    return f"{100 * share:.2g} %"


def _ahead(row, trial, role):
    """A role's logit less the best of the others', in a row of `rgb_circuit.play`; NaN without
    others."""
    others = [row[f"logit_{name}"] for name in trial.answers if name != role]
    return row[f"logit_{role}"] - max(others, default=np.nan)


def _row(by, level, rows, guessed):
    once = rows.drop_duplicates("trial")["cluster"]
    counts = _counted(by, int(rows["correct"].sum()), len(rows), guessed, _once(once))
    return counts | dict(level=level, constant=constant(rows))


def _once(clusters):
    """Clusters per trial, so that each cluster counts once; ``clusters`` has one entry a trial."""
    return clusters.nunique() / len(clusters)


def _counted(by, right, n, guessed, once=1.0):
    share, z = right / n, norm.isf(0.025)
    # The effective n need not be a whole number, hence the formula.
    spread = z**2 / (n * once)
    middle = (share + spread / 2) / (1 + spread)
    width = np.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    low, high = max(0.0, float(middle - width)), min(1.0, float(middle + width))
    return dict(by=by, level="", right=right, n=n, share=share, ci_low=low, ci_high=high,
                chance=guessed, constant="")  # fmt: skip
