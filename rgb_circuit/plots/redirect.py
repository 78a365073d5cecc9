"""How often the model names what is at the place where its heads were made to look."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..stimuli.replicates import counted
from .canvas import BLUE, QUIET, VERMILION, literal, model_title

TITLES = {"clean": "the background there", "two tiles": "a second odd tile there"}


@literal
def redirect_panels(table: pd.DataFrame, model: str) -> Figure:
    """The share of trials that name what is at the other place, over the bias: for the found heads
    and for random ones, with 95 % intervals, and for the unedited model; one panel per picture.

    Args:
        table: from `analyses.rgb.redirect.summary`.
        model: its name, for the title.
    """
    pictures = list(dict.fromkeys(table["picture"]))
    figure = Figure(figsize=(3.6 * len(pictures) + 0.6, 3.6), layout="constrained")
    axes = figure.subplots(1, len(pictures), sharey=True, squeeze=False)[0]
    for ax, picture in zip(axes, pictures):
        part = table[table["picture"] == picture].sort_values("bias")
        place = np.arange(len(part))
        ax.axhline(part["unedited"].iloc[0], color=QUIET, linestyle=":", label="unedited")
        for which, color, marker, aside in (
            ("random", VERMILION, "s", 0.05),
            ("found", BLUE, "o", -0.05),
        ):
            errors = [part[which] - part[f"{which}_low"], part[f"{which}_high"] - part[which]]
            errors = np.clip(errors, 0, None)
            # Shift the points sideways, so that their intervals do not cover each other.
            ax.errorbar(
                place + aside,
                part[which],
                errors,
                color=color,
                marker=marker,
                capsize=2,
                label=f"{which} heads",
            )
        ax.set_xticks(
            place, ["all else\nmasked" if np.isinf(bias) else f"{bias:g}" for bias in part["bias"]]
        )
        ax.set(xlabel="bias on attention", ylim=(-0.05, 1.05), title=TITLES.get(picture, picture))
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("share of answers that name what is there")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    sets = table["random_sets"].iloc[0]
    about = f"{model_title(model)} · n = {counted(table)} · {sets} random sets"
    figure.suptitle(f"Heads with redirected attention · {about}", fontsize=10)
    return figure
