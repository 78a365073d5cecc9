"""The fraction of the logit difference that a run restores, its interval, and which trials have one.

Faithfulness is a quotient over the gap m(source) − m(target), so a gap that is not shown to be positive on
these trials (`rgb_circuit.statistics.shown_to_fall`) is refused: there is nothing to be faithful to. Its
interval is that of a ratio of means (`rgb_circuit.statistics.ratio_interval`) within the words that are
right for the source picture.
"""

from collections.abc import Sequence

from rgb_circuit import Edit, InputError, Trial
from rgb_circuit.statistics import ratio_interval, shown_to_fall
from rgb_circuit.tasks import task_of
from rgb_circuit.trial import as_trials


def _of_task(trials: Sequence[Trial], target: str | None) -> tuple[list[Trial], str]:
    """The trials, and the target or their task's corrupted condition."""
    trials = as_trials(trials)
    return trials, target or task_of(trials).corrupted


def _checked(trials, source, target):
    trials = as_trials(trials)
    if len(trials) < 2:
        raise InputError(
            f"there are {len(trials)} trials, and an interval needs 2 or more; use rgb_trials(model, n=32)"
        )
    if source == target:
        raise InputError(
            f"source and target are both {source!r}, so there is nothing to restore; use two conditions"
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
                f"trial {trial.name!r} has the same right answer for {source!r} and {target!r}; use two "
                "whose answers differ"
            )
    return trials


def _check_random(random_sets):
    if random_sets < 1:
        raise InputError(f"random_sets is {random_sets}; draw at least one")


def _isolated(held, heads, source):
    """Edits of the source run: all but ``heads`` from the target, whose edits are ``held``."""
    kept = set(heads)
    # With every head kept there is nothing to edit; a head's own z stands for that.
    layer, head = heads[0] if heads else (0, 0)
    return [edit for other, edit in held.items() if other not in kept] or [Edit(layer, head, source)]


def _held(model, target):
    """Head → the edit that gives it its target z. Hundreds of variants share them, or they would fill more
    memory than the runs."""
    return {(layer, head): Edit(layer, head, target) for layer, head in model.heads()}


def _difference(frame, trials, source, target, column="patched_logit"):
    """Logit difference, right answer of the source picture − of the target picture: a row per trial, a column
    per variant."""
    right = {trial.name: trial.expected[source] for trial in trials}
    wrong = {trial.name: trial.expected[target] for trial in trials}
    name, role = frame["trial"].astype(str), frame["role"].astype(str)

    def of(wanted):
        rows = frame[role == name.map(wanted)]
        return rows.pivot(index="trial", columns="variant", values=column).astype(float)

    return of(right) - of(wrong)


def _gap(model, m_source, m_target, source, target):
    gap = (m_source - m_target).to_numpy()
    if not shown_to_fall(m_source, m_target):
        raise InputError(
            f"no gap: the logit difference of {model.name} is {m_source.mean():.3g} for {source!r} and "
            f"{m_target.mean():.3g} for "
            f"{target!r} on {len(gap)} trials, which is not shown to be a fall, so there is nothing to "
            "restore; "
            "see with play(model, trials) whether it answers right"
        )
    return gap


def _words(trials, source, names):
    """The right answer to the source picture, in the order of the trials' names."""
    right = {trial.name: trial.answers[trial.expected[source]] for trial in trials}
    return [right[name] for name in names]


def _fraction(gained, gap, words):
    """Mean gain / mean gap with its interval over trials; ``gained`` a row per trial, ``gap`` and ``words``
    (trials,)."""
    values = gained.to_numpy()
    return values.mean(0) / gap.mean(), *ratio_interval(values, gap[:, None], words)
