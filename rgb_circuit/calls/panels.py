"""The seed's three panels, or those that fit other trials: what each head restores, averaged over
trials."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ..errors import InputError
from ..heads import Head
from ..statistics import benjamini_hochberg, shown_to_fall, t_interval, t_p, words_read
from ..stimuli.tasks import find, task_of
from ..trial import Trial

# Panel → (target condition, role whose logit is read), in the order of the published figure.
PANELS: Mapping[str, tuple[str, str]] = find("rgb").panels
# What counts as an effect, as for roles (`analyses.evidence`): this fraction of the gap or more,
# and where there is no gap, or one of fewer logits than the second, that fraction of the second.
LEAST, LEAST_GAP = 0.05, 0.5
LEAST_SAID = f"{100 * LEAST:g}\N{NO-BREAK SPACE}% of the gap or {LEAST * LEAST_GAP:g} logits"


def panels_for(trials: Sequence[Trial]) -> Mapping[str, tuple[str, str]]:
    """The panels that trials of any kind allow: their task's where they can be filled.

    Otherwise every picture but clean is a target, and the word whose logit is read is the one
    expected for clean, or every word where nothing is.

    Args:
        trials: all with the same conditions and roles.

    Raises:
        InputError: no picture to patch, or trials that expect different roles for clean.
    """
    first, own = trials[0], task_of(trials).panels
    if own and all(
        target in first.images and role in first.answers for target, role in own.values()
    ):
        return own
    targets = [condition for condition in first.images if condition != "clean"]
    if not targets:
        raise InputError(
            f"trial {first.name!r} has only a clean picture, so there is nothing to patch; add "
            "another picture"
        )
    expected = sorted({trial.expected["clean"] for trial in trials if "clean" in trial.expected})
    if len(expected) > 1:
        raise InputError(
            f"the trials expect different roles for 'clean' ({', '.join(expected)}), so their "
            "effects cannot be averaged; "
            "name a role for what its word is, such as 'right', and use the same role in every "
            "trial"
        )
    return {
        f"{role}, when {target}": (target, role)
        for role in expected or first.answers
        for target in targets
    }


def panels(frame: pd.DataFrame, which: Mapping[str, tuple[str, str]] = PANELS) -> pd.DataFrame:
    """Mean effect of each head in each panel.

    Args:
        frame: from `patch_heads` with the panels' targets. Where it says its `noise_floor`
            (``frame.attrs["noise_floor"]``, logits), a mean that rounding alone could be is no
            effect.
        which: panel → (target condition, role whose logit is read).

    Returns:
        A row per head: ``layer, head``, and a column per panel with the mean effect over trials
        (logits), 0 where it is none.
    """
    columns = {}
    rounding = mean_floor(frame.attrs.get("noise_floor", 0.0), frame["trial"].nunique())
    for panel, (target, role) in which.items():
        rows = frame[(frame["target"] == target) & (frame["role"] == role)]
        mean = rows.groupby(["layer", "head"])["effect"].mean()
        columns[panel] = mean.where(mean.abs() > rounding, 0.0)
    return pd.DataFrame(columns).reset_index()


def gaps(frame: pd.DataFrame) -> dict[str, float]:
    """What there is to restore in each target picture: by how much the answer falls from the source
    to it.

    Args:
        frame: from `patch_heads`.

    Returns:
        Target → mean fall over trials (logits) of the answer whose logit falls most; of the game's
        pictures that is the odd colour's word. NaN where no answer is shown to fall
        (`rgb_circuit.statistics.shown_to_fall`).
    """
    found = {}
    for target, rows in frame.groupby("target", observed=True):
        once = rows.drop_duplicates(["trial", "role"])
        before, after = (
            once.pivot(index="trial", columns="role", values=name).dropna(axis=1)
            for name in ("source_logit", "target_logit")
        )
        after = after[before.columns]
        falls = (before - after).mean()
        shown = len(falls) and bool(
            shown_to_fall(*(side[[falls.idxmax()]] for side in (before, after)))[0]
        )
        found[str(target)] = float(falls.max()) if shown else np.nan
    return found


def tested(
    frame: pd.DataFrame, which: Mapping[str, tuple[str, str]] = PANELS, level: float = 0.05
) -> pd.DataFrame:
    """Each head's effect in each panel with its interval, and whether it is told from zero.

    Args:
        frame: from `patch_heads` with the panels' targets; where it says its `noise_floor`, a mean
            that rounding alone could be is not told from zero.
        which: panel → (target condition, role whose logit is read).
        level: false discovery rate over the heads of a panel.

    Returns:
        A row per panel × head: ``panel, target, role, layer, head, effect, ci_low, ci_high``
        (logits; mean over trials and its 95 % t interval within the role's words), ``gap`` (logits,
        see `gaps`), ``told`` (Benjamini–Hochberg q of the same t, two-sided, ≤ level, and more than
        rounding; of one trial, which tests nothing, just that), ``n`` (trials).
    """
    gap, blocks = gaps(frame), []
    rounding = mean_floor(frame.attrs.get("noise_floor", 0.0), frame["trial"].nunique())
    for panel, (target, role) in which.items():
        rows = frame[(frame["target"] == target) & (frame["role"] == role)]
        cells = rows.pivot(index="trial", columns=["layer", "head"], values="effect").sort_index(
            axis=1
        )
        block = cells.mean().rename("effect").reset_index()
        told = block["effect"].abs() > rounding
        low = high = np.full(len(block), np.nan)
        if len(cells) > 1:
            strata = words_read(rows, cells.index)
            low, high = t_interval(cells, strata)
            p = 2 * np.minimum(t_p(cells, "greater", strata), t_p(cells, "less", strata))
            told &= benjamini_hochberg(np.minimum(p, 1)) <= level
        about = dict(panel=panel, target=target, role=role)
        found = dict(ci_low=low, ci_high=high, gap=gap[target], told=told, n=len(cells))
        blocks.append(pd.DataFrame(about, index=block.index).join(block.assign(**found)))
    return pd.concat(blocks, ignore_index=True)


def least_effect(gap: float | pd.Series) -> np.ndarray:
    """From which size on a mean effect counts as one, in logits: `LEAST` of the gap, and of
    `LEAST_GAP` where the gap is smaller or missing."""
    # The larger of the two; fmax takes the number where the other is missing.
    return LEAST * np.fmax(np.asarray(gap, dtype=float), LEAST_GAP)


def shown(table: pd.DataFrame) -> pd.Series:
    """Whether each effect is shown to be one: told from zero, and as large as `least_effect`.

    Args:
        table: ``effect, gap`` (logits) and ``told``, as from `tested`.
    """
    return table["told"].eq(True) & (table["effect"].abs() >= least_effect(table["gap"]))


def mean_floor(floor: float, n: int) -> float:
    """Below what a mean of ``n`` effects may be rounding alone, given the floor of one: it is as
    likely up as down."""
    return floor / max(n, 1) ** 0.5


def strongest(table: pd.DataFrame, k: int = 8) -> pd.DataFrame:
    """The ``k`` heads of `panels` with the largest effect in any panel, by size, labelled
    ``layer.head``."""
    effects = table.drop(columns=["layer", "head"])
    order = effects.abs().max(axis=1).sort_values(ascending=False, kind="stable").index[:k]
    labels = [
        str(Head(*head)) for head in table.loc[order, ["layer", "head"]].itertuples(index=False)
    ]
    return effects.loc[order].set_axis(pd.Index(labels, name="head"))
