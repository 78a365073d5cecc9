"""Estimated effects against exact ones."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.stats import spearmanr

from ..errors import InputError
from ..heads import Head
from .canvas import BLUE, INK, QUIET, limit_of, literal, model_title, new_axes, write_names


@literal
def estimates_against_exact(
    estimate: pd.DataFrame,
    exact: pd.DataFrame,
    model: str,
    *,
    label: int = 6,
    ax: Axes | None = None,
) -> Axes:
    """Each head's estimated effect over its exact effect, as means over trials: one point per head,
    target and role.

    Args:
        estimate: from `rgb_circuit.attribute`, at positions that are restored together.
        exact: from `rgb_circuit.patch_heads`, with the same arguments.
        model: its name, for the title.
        label: the number of heads to name, those whose estimate is furthest off.
        ax: the axes to draw on; by default those of a new figure.

    Raises:
        InputError: frames of other trials, targets, heads or positions.
    """
    keys = ["target", "layer", "head", "role"]
    for name in ("trial", "source", "target", "component", "positions", "role"):
        if set(estimate[name].astype(str)) != set(exact[name].astype(str)):
            raise InputError(
                f"the two frames differ in their column {name}; estimate what was patched"
            )
    means = [frame.groupby(keys, observed=True)["effect"].mean() for frame in (exact, estimate)]
    if not means[0].index.equals(means[1].index):
        raise InputError("the two frames have other heads; estimate what was patched")
    truth, guess = means
    ax = ax or new_axes(4.6, 4.4)
    limit = 1.05 * limit_of([truth, guess])
    ax.plot([-limit, limit], [-limit, limit], color=QUIET, linewidth=1)
    ax.scatter(truth, guess, s=12, color=BLUE, alpha=0.6, linewidth=0)
    ax.set(
        xlim=(-limit, limit), ylim=(-limit, limit), xlabel="exact effect (logits)",
        ylabel=f"estimate, {estimate['method'].iloc[0]} (logits)", aspect="equal",
    )  # fmt: skip
    n = estimate["trial"].nunique()
    rho = float(spearmanr(truth, guess).statistic)
    ax.set_title(
        f"{model_title(model)} · positions: {estimate['positions'].iloc[0]} · n = {n}\nSpearman "
        f"{rho:.2f}",
        fontsize=9,
    )
    ax.spines[["top", "right"]].set_visible(False)
    far = (guess - truth).abs().dropna()
    worst = far.loc[far.groupby(["layer", "head"]).idxmax()].nlargest(label).index
    names = []
    for key in worst:
        _, layer, head, _ = key
        x, y = truth[key], guess[key]
        if np.abs(y - x) > limit / 50:
            names.append(
                (str(Head(layer, head)), (x, y), INK, [(5, 4), (5, -10), (-5, 4), (-5, -10)])
            )
    write_names(ax, names)
    return ax
