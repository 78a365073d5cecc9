"""How often roles are right: precision and recall, and roles given where none is true, counted over
heads.

If every role is false, heads without a role tell something only if they could have been given one.
So if fewer than `INFORMATIVE` of the heads are testable, no rate is given.
"""

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from rgb_circuit.models.planted import MODERATE_NOISE

from ..rgb.subjects import UNEVEN_HEAD
from ..roles import GAME

# The share of testable heads below which no rate of false roles is given.
INFORMATIVE = 0.8


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Precision and recall of every reading over levels of noise, for even models with one number
    of trials.

    Args:
        frame: concatenated frames of `verdicts`.

    Returns:
        A row per reading × role × noise (planted models): ``reading, role, noise, models, true``
        (heads that have the role), ``given`` (heads that the reading gives it), ``right`` (both),
        ``precision, precision_low, precision_high, recall, recall_low, recall_high``, with exact
        (Clopper–Pearson) 95 % intervals over heads; NaN if nothing was given or true; ``testable``
        (how many of the true heads are).
    """
    even_models = frame[(frame["kind"] == "planted") & (frame["like"] == "even")]
    # The number of trials tried at most levels.
    even_models = even_models[
        even_models["trials"] == even_models.groupby("trials")["noise"].nunique().idxmax()
    ]
    rows = []
    for (reading, noise), part in even_models.groupby(["reading", "noise"], sort=False):
        about = dict(reading=reading, noise=noise, models=part["seed"].nunique())
        rows += [
            about | dict(role=hypothesis.name) | _counted(part, hypothesis.name)
            for hypothesis in GAME.hypotheses
        ]
    return pd.DataFrame(rows)


def by_trials(frame: pd.DataFrame, reading: str = "roles") -> pd.DataFrame:
    """Precision and recall of one reading over numbers of trials, for each kind of planted model at
    moderate noise, and for all together.

    Args:
        frame: concatenated frames of `verdicts`.

    Returns:
        A row per kind × trials × role that is true of a head or given to one: ``like`` (one of
        `KINDS`, `UNEVEN_HEAD`, or "all"), ``trials, role``, then from ``models`` on as `summary`.
    """
    planted = _at_moderate_noise(frame, reading)
    rows = []
    alone = (UNEVEN_HEAD, planted[planted["name"] == UNEVEN_HEAD])
    for like, of_kind in [*planted.groupby("like", sort=False), alone, ("all", planted)]:
        for trials, part in of_kind.groupby("trials"):
            models = len(part[["like", "seed"]].drop_duplicates())
            counted = [
                dict(like=like, trials=trials, role=hypothesis.name, models=models)
                | _counted(part, hypothesis.name)
                for hypothesis in GAME.hypotheses
            ]
            rows += [row for row in counted if row["true"] or row["given"]]
    return pd.DataFrame(rows)


def by_evenness(frame: pd.DataFrame, reading: str = "roles") -> pd.DataFrame:
    """Recall of one reading over numbers of trials, for heads that do the same on every trial and
    for heads that do not.

    Args:
        frame: concatenated frames of `verdicts`.

    Returns:
        As `by_trials`, for any role, without precision; ``like`` is "even" (all heads of such
        models), "some colours" (extractors of four or two), "uneven" (`UNEVEN_HEAD`), or "other
        kinds".
    """
    planted = _at_moderate_noise(frame, reading)
    some_colors = planted["like"].isin(["2 × 4", "4 × 2"]) & (planted["truth"] == "color extractor")
    alike = {
        "even": planted["like"] == "even",
        "some colours": some_colors,
        "uneven": planted["name"] == UNEVEN_HEAD,
    }
    group = np.select(list(alike.values()), list(alike), "other kinds")
    rows = []
    for like in (*alike, "other kinds"):
        for trials, part in planted[(group == like) & (planted["truth"] != "none")].groupby(
            "trials"
        ):
            right = [
                truth in names.split(" + ") for truth, names in zip(part["truth"], part["role"])
            ]
            row = dict(like=like, trials=trials, role="any role", models=part["seed"].nunique())
            row |= dict(true=len(part), right=sum(right), recall=np.mean(right))
            row["recall_low"], row["recall_high"] = binomtest(sum(right), len(part)).proportion_ci()
            row["testable"] = int(part["testable"].sum())
            rows.append(row)
    return pd.DataFrame(rows)


def _at_moderate_noise(frame, reading):
    return frame[
        (frame["kind"] == "planted")
        & (frame["noise"] == MODERATE_NOISE)
        & (frame["reading"] == reading)
    ]


def _counted(part, role):
    """Numbers of heads that have a role, that are given it, and both; precision and recall with
    their intervals."""
    true, given = (
        part["truth"] == role,
        part["role"].str.split(" + ", regex=False).map(lambda names: role in names),
    )
    right = int((true & given).sum())
    row: dict[str, float] = dict(true=int(true.sum()), given=int(given.sum()), right=right)
    for name, of in (("precision", int(given.sum())), ("recall", int(true.sum()))):
        row[name] = right / of if of else np.nan
        interval = binomtest(right, of).proportion_ci() if of else (np.nan, np.nan)
        row[f"{name}_low"], row[f"{name}_high"] = interval
    return row | dict(testable=int((true & part["testable"]).sum()))


def false_discoveries(frame: pd.DataFrame) -> pd.DataFrame:
    """Roles given on models where every role is false (`NULLS`).

    Returns:
        A row per kind × reading: ``kind, reading, models, models_with_a_role, heads,
        heads_with_a_role``, ``testable`` (how many of the heads are), ``informative`` (whether they
        are at least `INFORMATIVE` of the heads; otherwise the number with a role tells nothing).
    """
    rows = []
    for (kind, reading), part in frame[frame["kind"] != "planted"].groupby(
        ["kind", "reading"], sort=False
    ):
        named = part["role"] != "none"
        models = dict(
            models=part["seed"].nunique(), models_with_a_role=part["seed"][named].nunique()
        )
        row = dict(
            kind=kind,
            reading=reading,
            **models,
            heads=len(part),
            heads_with_a_role=int(named.sum()),
        )
        testable = int(part["testable"].sum())
        rows.append(row | dict(testable=testable, informative=testable >= INFORMATIVE * len(part)))
    return pd.DataFrame(rows)
