"""A lens: the answers' logits that a state inside the model would give if it were the final one.

``component`` chooses the state:

- ``"resid_pre"``, ``"resid_post"``: the residual stream that enters or leaves a layer, put through
  the final norm **at its own size** and ``lm_head``: the logit lens (nostalgebraist 2020). The last
  layer's ``"resid_post"`` at [end] is the logit itself. Image tokens become readable as words from
  layer to layer (Neo et al. 2024, arXiv 2410.07149).
- ``"z"``: the vector that each head writes through ``o_proj``; ``"attn_out"``, ``"mlp_out"``: the
  output of the attention block and of the MLP. These are shares of a sum, so the final norm divides
  by **the size of the final residual stream** at that position, in this run. At [end] a head's
  share is its direct effect (`direct_effects`, with the same mathematics); at another position, its
  share of the logits there.

If an answer has several accepted words, a residual stream's logit is the log-sum-exp over these
words. A part's share of it is the mean of its shares of the words' logits, weighted by how likely
each word is among them at that position, in the final state of this run.

A lens reads with the last layer's eyes. Information that later layers read, but that is written
towards none of the words, stays invisible: a place, say, or a colour in a tile's own code.

Modules are called, parameters never read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, cast

import numpy as np
import pandas as pd
import torch

from ..edits import Edit, Positions, check_edits, check_heads, check_layer
from ..errors import InputError, NotApplicable
from ..measuring.measure import measure
from ..measuring.measurement import Measurement, Parts
from ..pictures.views import laid_out
from ..programs.pooled import pooled, pooled_shares
from ..programs.states import read_states
from ..prompts import (
    answer_ids,
    answer_table,
    check_trials,
    columns_of,
    encode,
    locate,
    prompt_ids,
)
from ..remote.jobs import Jobs
from ..running.checks import check_finite
from ..running.execute import execute
from ..running.memory import chunks, logits_at_once, pictures_at_once
from ..trial import Trial, as_conditions, asked_of
from ..vlm import Vlm

# Components that are normed at their own size, and at the size of the final residual stream.
WHOLE, PART = ("resid_pre", "resid_post"), ("z", "attn_out", "mlp_out")


def lens(
    model: Vlm,
    trials: Sequence[Trial] | Trial,
    conditions: Sequence[str] = ("clean",),
    *,
    component: str = "resid_post",
    positions: str | Sequence[int] = "end",
    layers: Sequence[int] | None = None,
    heads: Sequence[tuple[int, int]] | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """The logits of the answers' words that heads, layers or image tokens write.

    Args:
        conditions: which pictures to show.
        component: ``"resid_pre"``, ``"resid_post"``, ``"z"``, ``"attn_out"`` or ``"mlp_out"``, see
            above.
        positions: as in `Edit`; each has rows of its own.
        layers: from 0; all by default. Not with ``"z"``, which takes ``heads`` instead.
        heads: (layer, head) pairs, with ``"z"`` only; all by default. All heads of a 7B model at
            every image token are three million rows per picture.
        progress: show a bar if the run takes longer than two seconds.

    Returns:
        A row per trial × condition × layer (× head) × position × role: ``trial, condition,
        component, layer, head`` (missing except for z), ``position`` (token, from 0), ``row,
        column`` (of the picture's grid; missing if the token is not of the picture, or its place is
        unknown), ``role, answer, logit``. For a residual stream ``logit`` is a logit, capped if the
        model caps its logits; for a part it is a share of one.

    Raises:
        InputError: anything that does not exist, before any forward; NotApplicable if parts have no
            shares in this model.

    Examples:
        >>> frame = rgb.lens(model, trials)
        >>> mean = frame.groupby(["layer", "role"], observed=True)["logit"].mean().unstack()
        >>> mean.idxmax(axis=1).tolist()
        ['none', 'none', 'none', 'odd']
    """
    trials = asked_of(model, trials)
    wanted = _wanted(model, component, layers, heads)
    # Words and ints are interpreted as in an edit.
    read_at = Edit(0, 0, positions=cast(Positions, positions))
    check_edits(model, {"lens": [read_at]})
    measurement = Read(
        tuple(trials),
        as_conditions(conditions),
        component,
        tuple(wanted),
        read_at.positions,
    )
    [frame] = measure(model, [measurement], progress=progress, stage="lens")
    return frame


@dataclass(frozen=True)
class Read(Measurement):
    """The logits of some states, for the pictures of some ``conditions``.

    Attributes:
        wanted: (layer, head) pairs, or (layer, None), that exist.
        component, positions: as in `lens`.
    """

    conditions: tuple[str, ...]
    component: str
    wanted: tuple[tuple[int, int | None], ...]
    positions: Positions

    function: ClassVar[str] = "lens"

    def prepare(self, model: Vlm, jobs: Jobs | None) -> Parts:
        check_trials(model, self.trials, self.conditions)
        ids = {
            condition: prompt_ids(model, self.trials, condition) for condition in self.conditions
        }
        places = {
            (trial.name, condition): locate(
                model, trial, self.positions, own[trial.name], condition
            )
            for condition, own in ids.items()
            for trial in self.trials
        }
        return partial(_read, model, self, ids, places)

    def frame(self, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """See `lens`."""
        labels = ["trial", "condition", "component", "role", "answer"]
        types = dict.fromkeys(labels, "category") | dict.fromkeys(
            ["head", "row", "column"], "Int64"
        )
        return super().frame(parts).astype(types)


def _wanted(model, component, layers, heads):
    """The (layer, head) pairs to read, or (layer, None)."""
    if component not in WHOLE + PART:
        raise InputError(f"component is {component!r}; use {', '.join(map(repr, WHOLE + PART))}")
    if component == "z":
        if layers is not None:
            raise InputError("component 'z' is heads'; name heads=[(layer, head), …], not layers")
        found = model.heads() if heads is None else check_heads(model, heads)
    else:
        if heads is not None:
            raise InputError(
                f"component {component!r} is the whole layer's; name layers, not heads"
            )
        layers = range(model.n_layers) if layers is None else layers
        if not isinstance(layers, Iterable):
            raise InputError(f"layers is {layers!r}; give a list, such as [3]")
        for layer in layers:
            check_layer(model, layer)
        found = [(int(layer), None) for layer in dict.fromkeys(layers)]
    if not found:
        raise InputError(
            "there is nothing to read; name at least one layer or head, or leave them out"
        )
    if component in PART and not all(hasattr(layer, "mlp") for layer in model.layers):
        raise NotApplicable(_no_shares(model))
    return found


def _no_shares(model):
    return (
        f"what heads and layers of {model.name} add has no share in its logits: its final norm is "
        "no RMSNorm, or its layers norm what attention and MLP give before they add it, or add "
        "something else; use component='resid_post'"
    )


def _read(model, asked, ids, places, trials, jobs):
    """Trial name → its part of the frame, for some trials at a time."""
    alike = {}
    for trial in trials:
        key = tuple(
            (len(ids[condition][trial.name]), len(places[trial.name, condition]))
            for condition in asked.conditions
        )
        alike.setdefault(key, []).append(trial)
    for key, similar in alike.items():
        longest = max(length for length, _ in key)
        for group in chunks(similar, pictures_at_once(model, longest, 0)):
            blocks: dict[str, list] = {trial.name: [] for trial in group}
            for condition in asked.conditions:
                values = _values(model, asked, group, condition, places, jobs)
                for trial, trial_values in zip(group, values):
                    spots = places[trial.name, condition]
                    cells = _cells(model, trial, condition, ids[condition][trial.name])
                    blocks[trial.name].append(
                        _block(asked, trial, condition, spots, cells, trial_values)
                    )
            yield {name: pd.concat(several) for name, several in blocks.items()}


def _values(model, asked, trials, condition, places, jobs):
    """Per trial, (wanted, positions, roles)."""
    answers = [list(answer_ids(model, trial, condition).values()) for trial in trials]
    layers = sorted({layer for layer, _ in asked.wanted})
    states = execute(
        model,
        read_states,
        (model.n_heads, model.d_head),
        encode(model, [(trial, condition) for trial in trials]),
        asked.component,
        layers,
        torch.tensor([places[trial.name, condition] for trial in trials]),
        answer_table([[token for ids in own for token in ids] for own in answers]),
        logits_at_once(model),
        model.softcap,
        jobs=jobs,
    )
    check_finite(model, states["finite"])
    if asked.component in PART:
        # Rounding grows with the size of the summands, not with their sum.
        allowed = (1e-4 if model.dtype == torch.float32 else 2e-2) * states["sizes"].clamp_min(1)
        if not ((states["sums"] - states["wholes"][:, -1]).abs() <= allowed).all():
            raise NotApplicable(_no_shares(model))
    number = [layers.index(layer) for layer, _ in asked.wanted]
    head = [head or 0 for _, head in asked.wanted]
    values = states["values"].transpose(2, 3)[:, number, head]
    if asked.component in WHOLE:
        return [pooled(own, columns_of(some)).numpy() for own, some in zip(values, answers)]
    wholes = states["wholes"]
    if model.softcap is not None:
        wholes = model.softcap * (wholes / model.softcap).tanh()
    return [
        pooled_shares(own, whole, columns_of(some)).numpy()
        for own, whole, some in zip(values, wholes, answers)
    ]


def _cells(model, trial, condition, ids):
    """Token position → its place on the picture's grid, if known."""
    if trial.sizes[condition] == (model.picture_px, model.picture_px):
        image = (ids == model.config.image_token_id).nonzero().flatten().tolist()
        views = model.layout.places(image)
        return {
            place: divmod(number, model.grid[1])
            for view in views
            for number, place in enumerate(view)
        }
    try:
        # If a picture is cut into pieces, its later views have other places.
        places = laid_out(model, trial.images[condition], ids)
    except InputError:
        return {}
    return {int(position): place for place, position in np.ndenumerate(places)}


def _block(asked, trial, condition, spots, cells, values):
    """One picture's part of the frame; ``values``: (wanted, positions, roles)."""
    n_wanted, n_places, n_roles = values.shape
    layer, head = zip(*asked.wanted)
    row, column = zip(*(cells.get(place, (None, None)) for place in spots))

    def of_places(one):
        return pd.array(
            np.tile(np.repeat(np.asarray(one, dtype=object), n_roles), n_wanted), dtype="Int64"
        )

    def of_roles(one):
        return np.tile(np.asarray(list(one)), n_wanted * n_places)

    heads = np.repeat(np.asarray(head, dtype=object), n_places * n_roles)
    return pd.DataFrame(
        {
            "trial": trial.name,
            "condition": condition,
            "component": asked.component,
            "layer": np.repeat(np.asarray(layer), n_places * n_roles),
            "head": pd.array(heads, dtype="Int64"),
            "position": np.tile(np.repeat(np.asarray(spots), n_roles), n_wanted),
            "row": of_places(row),
            "column": of_places(column),
            "role": of_roles(trial.answers),
            "answer": of_roles(trial.answers.values()),
            "logit": values.ravel(),
        }
    )
