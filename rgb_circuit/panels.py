"""The seed's three panels: what each head restores, averaged over trials."""

from collections.abc import Mapping

import pandas as pd

# Panel → (target condition, role whose logit is read), in the order of the published figure.
PANELS: Mapping[str, tuple[str, str]] = {
    "odd, when recolored": ("recolored", "odd"),
    "odd, when erased": ("erased", "odd"),
    "background, when erased": ("erased", "background"),
}


def panels(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean effect of each head in each panel.

    Args:
        frame: from `patch_heads` with the targets ``recolored`` and ``erased``.

    Returns:
        A row per head: ``layer, head``, and a column per panel with the mean effect over trials (logits).
    """
    columns = {}
    for panel, (target, role) in PANELS.items():
        rows = frame[(frame["target"] == target) & (frame["role"] == role)]
        columns[panel] = rows.groupby(["layer", "head"])["effect"].mean()
    return pd.DataFrame(columns).reset_index()


def strongest(table: pd.DataFrame, k: int = 8) -> pd.DataFrame:
    """The ``k`` heads of `panels` with the largest effect in any panel, by size, labelled ``layer.head``."""
    size = table[list(PANELS)].abs().max(axis=1)
    top = table.loc[size.sort_values(ascending=False, kind="stable").index[:k]]
    labels = [f"{layer}.{head}" for layer, head in zip(top["layer"], top["head"])]
    return top[list(PANELS)].set_axis(pd.Index(labels, name="head"))
