"""What every head is: the three hypotheses side by side, from one set of sweeps."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

import rgb_circuit as rgb

from . import background_writer, color_extractor, poi_localization
from . import evidence as _evidence

# Role → the predictions that all must hold, and those of them whose restored fractions make its score.
HYPOTHESES = {
    "color extractor": (color_extractor.PREDICTIONS, ("P1a", "P1b")),
    "POI localization": (poi_localization.PREDICTIONS, ("P3a", "P4", "P6")),
    "background writer": (background_writer.PREDICTIONS, ("P3a", "P4w")),
}


def roles(model: rgb.Vlm, trials: Sequence[rgb.Trial], **options) -> pd.DataFrame:
    """One row per head: its role, how strongly, and which predictions it meets.

    Args:
        options: those of `evidence`.

    Returns:
        ``layer, head, role, score``, then a Boolean per prediction: ``P1a, P1b, P2a, P2b`` (`color_extractor`), ``P3a, P3b, P4,
        P5, P6`` (`poi_localization`), ``P4w, P5w`` (`background_writer`); see `table`.

    Raises:
        InputError: as `evidence`.
    """
    return table(evidence(model, trials, **options))


def evidence(
    model: rgb.Vlm,
    trials: Sequence[rgb.Trial],
    *,
    extractors: Iterable[tuple[int, int]] | None = None,
    split: bool = True,
    **options,
) -> pd.DataFrame:
    """All predictions for every head; every sweep is run once.

    The false discovery rate is controlled within the color extractors' predictions, and within all others. Heads are frozen
    for P5 and P5w only after they were found to be color extractors.

    Args:
        extractors: (layer, head) pairs that P5 and P5w freeze; by default the color extractors that are found.
        split: find on the first half of the trials and test on the second.
        options: ``margin, least, level, only_correct, progress`` of `analyses.evidence.examine`.

    Returns:
        A row per head × prediction, as `analyses.evidence.examine`.

    Raises:
        InputError: too few trials, or a picture or word that a prediction needs and a trial lacks.
    """
    finders = color_extractor.PREDICTIONS
    return _evidence.examine(model, trials, _families(), finders=finders, extractors=extractors, split=split, **options)


def measure(model: rgb.Vlm, trials: Sequence[rgb.Trial], *, progress: bool = True) -> None:
    """Run what `evidence` needs of each trial by itself; see `analyses.evidence.measure`."""
    _evidence.measure(model, trials, _families(), finders=color_extractor.PREDICTIONS, progress=progress)


def table(evidence: pd.DataFrame) -> pd.DataFrame:
    """One row per head from the frame of `evidence`.

    Returns:
        ``layer, head, role, score`` and a Boolean per prediction.
        ``role`` is "color extractor", "POI localization", "background writer", or "none"; a head that meets all predictions of
        several hypotheses is called by all, such as "color extractor + background writer".
        ``score`` is a signed fraction of the gap: the mean restored fraction of P1a and P1b for a color extractor, of P3a, P4
        and P6 for POI localization, of P3a and P4w for a background writer. Of several roles, and for "none" of all three, it
        is the one furthest from zero: how much the head does of anything, for better or worse. It is missing where a gap that it
        is a fraction of is not shown (`no_gap`).
    """
    frame = evidence.pivot(index=["layer", "head"], columns="prediction", values="holds")
    frame = frame[list(dict.fromkeys(evidence["prediction"]))]
    scores = _scores(evidence)
    met = {role: _evidence.heads(evidence, predictions) for role, (predictions, _) in HYPOTHESES.items()}
    names, best = [], []
    for head in frame.index:
        own = [role for role in HYPOTHESES if head in met[role]]
        names.append(" + ".join(own) or "none")
        best.append(max(scores.loc[head, own or list(HYPOTHESES)].dropna(), key=abs, default=np.nan))
    frame.insert(0, "role", names)
    frame.insert(1, "score", best)
    return frame.rename_axis(columns=None).reset_index()


def _families():
    """The predictions that are corrected for together."""
    others = dict.fromkeys(
        prediction for role, (those, _) in HYPOTHESES.items() if role != "color extractor" for prediction in those
    )
    return [color_extractor.PREDICTIONS, tuple(others)]


def heads(table: pd.DataFrame, role: str) -> list[tuple[int, int]]:
    """The (layer, head) pairs of a role table (`roles`) that have ``role``, alone or among others."""
    own = [role in names.split(" + ") for names in table["role"]]
    return [(int(layer), int(head)) for layer, head in table.loc[own, ["layer", "head"]].itertuples(index=False)]


def closest(evidence: pd.DataFrame, k: int = 3) -> pd.DataFrame:
    """The heads that come closest to a role: those with the highest score for any.

    Args:
        evidence: from `evidence`.
        k: how many.

    Returns:
        A row per head, the highest score first: ``layer, head, role`` (the one it comes closest to), ``score`` (for that role, as in
        `table`). No row where no head has a score, for want of a gap (`no_gap`).
    """
    scores = _scores(evidence).dropna(how="all")
    if scores.empty:
        return pd.DataFrame(columns=["layer", "head", "role", "score"])
    nearest = pd.DataFrame({"role": scores.idxmax(axis=1), "score": scores.max(axis=1)})
    return nearest.sort_values("score", ascending=False, kind="stable").head(k).reset_index()


def no_gap(evidence: pd.DataFrame) -> str:
    """What cannot be tested because the model's answer does not change (`analyses.evidence`), in words; empty where all can be.

    Args:
        evidence: from `evidence`.
    """
    names = _void(evidence)
    if not names:
        return ""
    every = [prediction for those, _ in HYPOTHESES.values() for prediction in those]
    targets = list(dict.fromkeys(prediction.claims[0].sweep.target for prediction in every if prediction.name in names))
    all_of_them = len(targets) == len({prediction.claims[0].sweep.target for prediction in every})
    which = "" if all_of_them else " and ".join(targets) + " "
    pictures = f"the {which}pictures do" if all_of_them or len(targets) > 1 else f"the {which}picture does"
    void = "no role can be tested" if all_of_them else f"{', '.join(names)} {'are' if len(names) > 1 else 'is'} void"
    shown = f"as far as {evidence['n'].iloc[0]} trials show"
    return f"no gap: {pictures} not change what the model says about the odd word, {shown}, so {void}"


def _void(evidence):
    """The predictions that lack a gap."""
    # An effect is missing too where there is no extractor to freeze.
    without = evidence["restored_fraction"].isna() & evidence["effect"].notna()
    return list(dict.fromkeys(evidence.loc[without, "prediction"]))


def _scores(evidence):
    """A row per (layer, head), a column per role: the signed fraction of the gap that is the head's score for it."""
    fractions = evidence.pivot(index=["layer", "head"], columns="prediction", values="restored_fraction")
    # Of what a score is the mean of, nothing may be missing.
    means = {role: fractions[list(scored)].mean(axis=1, skipna=False) for role, (_, scored) in HYPOTHESES.items()}
    return pd.DataFrame(means)
