"""The seed's three panels, or those that fit other trials: what each head restores, averaged over trials."""

from collections.abc import Mapping, Sequence

import pandas as pd

from .errors import InputError
from .trial import Trial

# Panel → (target condition, role whose logit is read), in the order of the published figure.
PANELS: Mapping[str, tuple[str, str]] = {
    "odd, when recolored": ("recolored", "odd"),
    "odd, when erased": ("erased", "odd"),
    "background, when erased": ("erased", "background"),
}


def panels_for(trials: Sequence[Trial]) -> Mapping[str, tuple[str, str]]:
    """The panels that trials of any kind allow: ``PANELS`` where they can be filled.

    Otherwise every picture but clean is a target, and the word whose logit is read is the one expected for
    clean, or every word where nothing is.

    Args:
        trials: all with the same conditions and roles.

    Raises:
        InputError: no picture to patch, or trials that expect different roles for clean.
    """
    first = trials[0]
    if all(target in first.images and role in first.answers for target, role in PANELS.values()):
        return PANELS
    targets = [condition for condition in first.images if condition != "clean"]
    if not targets:
        raise InputError(
            f"trial {first.name!r} has only a clean picture, so there is nothing to patch; add another "
            "picture"
        )
    expected = sorted({trial.expected["clean"] for trial in trials if "clean" in trial.expected})
    if len(expected) > 1:
        raise InputError(
            f"the trials expect different roles for 'clean' ({', '.join(expected)}), so their effects "
            "cannot be averaged; "
            "name a role for what its word is, such as 'right', and use the same role in every trial"
        )
    return {
        f"{role}, when {target}": (target, role) for role in expected or first.answers for target in targets
    }


def panels(frame: pd.DataFrame, which: Mapping[str, tuple[str, str]] = PANELS) -> pd.DataFrame:
    """Mean effect of each head in each panel.

    Args:
        frame: from `patch_heads` with the panels' targets. Where it says its `noise_floor`
            (``frame.attrs["noise_floor"]``, logits), a mean that rounding alone could be is no effect.
        which: panel → (target condition, role whose logit is read).

    Returns:
        A row per head: ``layer, head``, and a column per panel with the mean effect over trials (logits), 0
        where it is none.
    """
    columns = {}
    rounding = mean_floor(frame.attrs.get("noise_floor", 0.0), frame["trial"].nunique())
    for panel, (target, role) in which.items():
        rows = frame[(frame["target"] == target) & (frame["role"] == role)]
        mean = rows.groupby(["layer", "head"])["effect"].mean()
        columns[panel] = mean.where(mean.abs() > rounding, 0.0)
    return pd.DataFrame(columns).reset_index()


def mean_floor(floor: float, n: int) -> float:
    """Below what a mean of ``n`` effects may be rounding alone, given the floor of one: it is as likely up as
    down."""
    return floor / max(n, 1) ** 0.5


def strongest(table: pd.DataFrame, k: int = 8) -> pd.DataFrame:
    """The ``k`` heads of `panels` with the largest effect in any panel, by size, labelled ``layer.head``."""
    effects = table.drop(columns=["layer", "head"])
    order = effects.abs().max(axis=1).sort_values(ascending=False, kind="stable").index[:k]
    labels = [
        f"{layer}.{head}" for layer, head in table.loc[order, ["layer", "head"]].itertuples(index=False)
    ]
    return effects.loc[order].set_axis(pd.Index(labels, name="head"))
