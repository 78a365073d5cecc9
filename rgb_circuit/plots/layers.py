"""How much each layer restores at each group of positions."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ..statistics import mean_over_trials
from .canvas import DIVERGING, brief, limit_of, literal, model_title, new_figure

# Maps with more layers than this have no room for numbers.
ROOMY = 12


@literal
def layer_heatmaps(frame: pd.DataFrame, model: str, *, role: str | None = None) -> Figure:
    """A map of layers × position groups per target, all on one scale: the restored fraction of one
    answer's logit, or its effect in logits if the source is no picture.

    Cells whose 95 % interval includes 0 carry a dot.

    Args:
        frame: from `rgb_circuit.patch_layers`.
        model: its name, for the title.
        role: whose logit; the first of the frame by default.
    """
    role = frame["role"].iloc[0] if role is None else role
    rows = frame[frame["role"] == role]
    table = mean_over_trials(rows, ["target", "positions", "layer"])
    gap = (
        (rows["source_logit"] - rows["target_logit"]).groupby(rows["target"], observed=True).mean()
    )
    fraction = bool(gap.notna().all() and (gap != 0).all())
    if fraction:
        table["effect"] /= table["target"].map(gap).astype(float)
    targets, groups = table["target"].unique(), table["positions"].unique()
    layers = table["layer"].nunique()
    figure = new_figure(
        1.8 + 0.34 * max(layers, 10), (1.2 + 0.45 * len(groups)) * len(targets) + 0.8
    )
    limit = limit_of(table["effect"], 1.0 if fraction else 0)
    label = "restored fraction" if fraction else "effect (logits)"
    for ax, target in zip(figure.subplots(len(targets), 1, squeeze=False)[:, 0], targets):
        of_target = table[table["target"] == target]
        shape = dict(index="positions", columns="layer")
        cells = of_target.pivot(**shape, values="effect").loc[groups].astype(float)
        reaches = of_target.assign(reaches=(of_target["ci_low"] <= 0) & (of_target["ci_high"] >= 0))
        unsure = reaches.pivot(**shape, values="reaches").loc[groups].to_numpy(dtype=bool)
        large = cells.abs().to_numpy() >= limit / 200
        numbers = np.where(large, np.char.mod("%.2g", cells.to_numpy()), "")
        sns.heatmap(
            cells, cmap=DIVERGING, vmin=-limit, vmax=limit, ax=ax, linewidths=0.5,
            annot=numbers if layers <= ROOMY else False, fmt="", annot_kws={"fontsize": 7},
            cbar_kws={"label": label}, xticklabels=1 if layers <= ROOMY else 4,
        )  # fmt: skip
        for row, column in np.argwhere(unsure & large):
            ax.text(
                column + 0.5, row + 0.85, "·", ha="center", va="center", fontsize=9, color="0.3"
            )
        ax.tick_params(rotation=0)
        ax.set(xlabel="layer", ylabel="", title=f"{brief(role)} logit, {brief(target)} picture")
    first, n = frame.iloc[0], frame["trial"].nunique()
    figure.suptitle(
        f"{first['component']} restored from {brief(first['source'])} · {model_title(model)} · n = "
        f"{n} · dots: interval reaches 0",
        fontsize=10,
    )
    return figure
