"""The logits that a lens reads: over the picture, and over the layers."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from PIL import Image

from ..errors import InputError
from ..heads import Head
from ..pictures.picture import as_rgb
from ..statistics import t_interval, words_read
from ..stimuli.replicates import observed, said
from ..trial import Trial
from .canvas import (
    BLUE,
    DIVERGING,
    GREEN,
    PURPLE,
    QUIET,
    VERMILION,
    brief,
    legend_name,
    limit_of,
    literal,
    model_title,
    new_axes,
)

# Components whose lens gives a whole logit, not a share of one.
WHOLE = ("resid_pre", "resid_post")


@literal
def lens_over_picture(
    frame: pd.DataFrame,
    image: Image.Image,
    role: str,
    *,
    layer: int,
    head: int | None = None,
    limit: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The logits of one answer that the lens reads at the image tokens, laid over the grey picture.

    If the model sees the picture twice, the mean of both views.

    Args:
        frame: from `rgb_circuit.lens`, of one trial and condition, at image tokens.
        image: the part of a picture that the image tokens tile; if the model crops or pads it,
            `rgb_circuit.pictures.as_seen.as_seen`.
        role: of the answer.
        layer, head: the rows to draw; a head only for ``component="z"``.
        limit: logits at the ends of the colour scale; by default the largest drawn.
        ax: the axes to draw on; by default those of a new figure.

    Raises:
        InputError: no such rows, rows of several pictures, or rows that do not cover the picture.
    """
    rows = frame[(frame["role"] == role) & (frame["layer"] == layer)]
    if head is not None:
        rows = rows[rows["head"] == head]
    rows = rows.dropna(subset=["row", "column"])
    if rows.empty:
        raise InputError(
            f"the frame has no image tokens of role {role!r} in layer {layer}"
            + ("" if head is None else f", head {head}")
            + "; read them with positions='image'"
        )
    for name in ("trial", "condition", "component", "head"):
        if rows[name].nunique(dropna=False) > 1:
            raise InputError(f"the frame has several {name}s; choose one")
    cells = rows.pivot_table(index="row", columns="column", values="logit", aggfunc="mean")
    values = cells.to_numpy(dtype=float, na_value=np.nan)
    if values.size == 1 or cells.index[0] != 0 or cells.columns[0] != 0:
        raise InputError(
            "the frame has some image tokens only; read them all with positions='image'"
        )
    limit = limit or limit_of(values)
    ax = ax or new_axes(4.2, 3.4)
    width, height = image.size
    grey = as_rgb(image).convert("L")
    # Black is shown as mid-grey, so that the colours over it stay visible.
    ax.imshow(
        grey,
        cmap="gray",
        vmin=-255,
        vmax=255,
        extent=(0, width, height, 0),
        interpolation="nearest",
    )
    drawn = ax.imshow(
        values, cmap=DIVERGING, vmin=-limit, vmax=limit, alpha=0.75, interpolation="nearest",
        extent=(0, width, height, 0),
    )  # fmt: skip
    first = rows.iloc[0]
    what = f"{first['component']} of layer {layer}" if head is None else f"z of {Head(layer, head)}"
    ax.figure.colorbar(
        drawn, ax=ax, shrink=0.8, label=f"{_unit(first['component'])} of “{brief(first['answer'])}”"
    )
    ax.set_xticks([]), ax.set_yticks([])
    ax.set_title(f"{brief(role)}: {what}, {brief(first['condition'])} picture", fontsize=9)
    return ax


@literal
def lens_over_layers(
    frame: pd.DataFrame,
    model: str,
    *,
    trials: Sequence[Trial] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The logits of each answer that the lens reads at the layers, one line per role: the mean over
    trials with its 95 % interval.

    Args:
        frame: from `rgb_circuit.lens`, of one condition; positions are averaged within a trial,
            heads added up.
        model: its name, for the title.
        trials: the frame's trials; needed if several are one observation
            (`rgb_circuit.stimuli.replicates`), which counts once.
        ax: the axes to draw on; by default those of a new figure.

    Raises:
        InputError: rows of several conditions.
    """
    if frame["condition"].nunique() > 1:
        raise InputError("the frame has several conditions; choose one")
    ax = ax or new_axes(5.4, 3.6)
    ax.axhline(0, color=QUIET, linewidth=1)
    summed = frame.groupby(["role", "trial", "layer", "position"], observed=True)["logit"].sum()
    by_trial = summed.groupby(["role", "trial", "layer"], observed=True).mean().unstack("layer")
    roles, n = (
        list(dict.fromkeys(frame["role"])),
        said(n_trials := frame["trial"].nunique(), n_trials),
    )
    colors = (BLUE, VERMILION, GREEN, PURPLE, "black")
    for number, role in enumerate(roles):
        of_role = by_trial.loc[role]
        strata = words_read(frame[frame["role"] == role], of_role.index)
        if trials is not None:
            of_role, strata = observed(
                of_role, trials, dict(zip(of_role.index.astype(str), strata or []))
            )
            n = said(n_trials, len(of_role))
        values = of_role.to_numpy(dtype=float)
        layers, color = by_trial.columns.to_numpy(), colors[number % len(colors)]
        # With more roles than colours, dashes tell them apart.
        dashes = ("-", "--", ":")[number // len(colors) % 3]
        ax.plot(
            layers,
            values.mean(0),
            color=color,
            linestyle=dashes,
            marker="o",
            markersize=3,
            label=legend_name(role),
        )
        if len(values) > 1:
            ax.fill_between(
                layers, *t_interval(values, strata), color=color, alpha=0.2, linewidth=0
            )
    component, condition = frame["component"].iloc[0], brief(frame["condition"].iloc[0])
    places = frame["position"].nunique()
    where = "one position" if places == 1 else f"mean of {places:,} positions"
    ax.set_title(
        f"{component}, {condition} picture, {where} · {model_title(model)} · n = {n}", fontsize=9
    )
    ax.set(xlabel="layer", ylabel=_unit(component))
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=5)
    return ax


def _unit(component):
    return "logit" if component in WHOLE else "share of the logit"
