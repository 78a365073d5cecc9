"""The fraction of the logit difference that a run restores, with its interval; and the edits that
isolate a circuit.

Faithfulness is a ratio over the gap m(source) − m(target), so trials that do not show a positive
gap (`rgb_circuit.statistics.shown_to_fall`) are refused: there is nothing to be faithful to. Its
interval is that of a ratio of means (`rgb_circuit.statistics.ratio_interval`) within the words that
are right for the source picture.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rgb_circuit import Edit, InputError, Trial, Vlm
from rgb_circuit.arguments import whole_number
from rgb_circuit.heads import Head
from rgb_circuit.statistics import ratio_interval, shown_to_fall
from rgb_circuit.trial import one_condition


def check_trials(trials: Sequence[Trial], source: str, target: str) -> None:
    """Refuse fewer than two trials, equal conditions, and trials whose right answers to the two
    conditions are missing or equal."""
    if len(trials) < 2:
        raise InputError(
            f"there are {len(trials)} trials, and an interval needs 2 or more; use "
            "rgb_trials(model, n=32)"
        )
    source, target = one_condition("source", source), one_condition("target", target)
    if source == target:
        raise InputError(
            f"source and target are both {source!r}, so there is nothing to restore; use two "
            "conditions"
        )
    for trial in trials:
        for condition in (source, target):
            if condition not in trial.expected:
                raise InputError(
                    f"trial {trial.name!r} does not say which answer is right for {condition!r}; "
                    f"set expected[{condition!r}] to one of its roles"
                )
        if trial.expected[source] == trial.expected[target]:
            raise InputError(
                f"trial {trial.name!r} has the same right answer for {source!r} and {target!r}; "
                "use two whose answers differ"
            )


def as_draws(random_sets: int, seed: int) -> tuple[int, int]:
    """How many random sets are drawn, and the seed; InputError unless both are whole numbers, and
    there is a set to compare with."""
    random_sets = whole_number("random_sets", random_sets, advice="draw at least one")
    return random_sets, whole_number("seed", seed, least=0)


def held_heads(model: Vlm, target: str) -> dict[Head, Edit]:
    """Head → the edit that gives it its target z. Hundreds of variants share these edits; copies
    would fill more memory than the runs."""
    return {head: Edit(*head, target) for head in model.heads()}


def isolating_edits(
    held: Mapping[Head, Edit], heads: Sequence[tuple[int, int]], source: str
) -> list[Edit]:
    """Edits of the source run: all heads but ``heads`` from the target, with the edits ``held``."""
    kept = set(heads)
    # With every head kept there is nothing to edit, so the variant sets a head to its own z.
    layer, head = heads[0] if heads else (0, 0)
    return [edit for other, edit in held.items() if other not in kept] or [
        Edit(layer, head, source)
    ]


def logit_difference(
    frame: pd.DataFrame,
    trials: Sequence[Trial],
    source: str,
    target: str,
    column: str = "patched_logit",
) -> pd.DataFrame:
    """Logit difference, right answer of the source picture − of the target picture: a row per
    trial, a column per variant."""
    right = {trial.name: trial.expected[source] for trial in trials}
    wrong = {trial.name: trial.expected[target] for trial in trials}
    name, role = frame["trial"].astype(str), frame["role"].astype(str)

    def of(wanted):
        rows = frame[role == name.map(wanted)]
        return rows.pivot(index="trial", columns="variant", values=column).astype(float)

    return of(right) - of(wrong)


def shown_gap(m_source: pd.Series, m_target: pd.Series, source: str, target: str) -> np.ndarray:
    """How much larger the logit difference is in the source run than in the target run, (trials,).

    Raises:
        InputError: the mean is not shown to be above zero.
    """
    gap = (m_source - m_target).to_numpy()
    if not shown_to_fall(m_source, m_target):
        raise InputError(
            f"no gap: the logit difference is {m_source.mean():.3g} for {source!r} and "
            f"{m_target.mean():.3g} for {target!r}, which is not shown to be a fall, so there is "
            "nothing to restore; see first whether the model answers right"
        )
    return gap


def source_words(trials: Sequence[Trial], source: str) -> dict[str, str]:
    """Trial name → the right answer to its source picture."""
    return {trial.name: trial.answers[trial.expected[source]] for trial in trials}


def restored_fraction(
    gained: pd.DataFrame, gap: np.ndarray, words: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean gain / mean gap, and the ends of its interval over trials, per column of ``gained``,
    (trials, variants); ``gap`` and ``words`` (trials,)."""
    values = gained.to_numpy()
    low, high = ratio_interval(values, gap[:, None], words)
    return values.mean(0) / gap.mean(), low, high
