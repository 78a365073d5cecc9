"""The field's cheap readings of heads, beside the exact effect of each.

Lists of heads mostly rest on one of these numbers. They answer different questions: where a head
looks, what it writes towards the answer by itself, what could be read from it, and what the answer
does without it. Only the last says whether the answer needs the head.

- ``effect``: what restoring its z gives back of the logit difference in the changed picture. Exact
  (`patch_heads`).
- ``silenced``: what its mean over trials takes from the difference in the clean picture. Exact;
  Wang et al. 2022 (arXiv 2211.00593).
- ``atp``, ``atp-ig``: estimates of ``effect`` by gradients (`attribute`); Kramár et al. 2024 (arXiv
  2403.00745), Hanna et al. 2024 (arXiv 2403.17806).
- ``direct``: what it adds to the difference by itself (`direct_effects`); Elhage et al. 2021.
- ``lens``: share of trials in which what it adds is largest for the right word; nostalgebraist
  2020.
- ``picture``: its attention to the picture, as visual heads (Bi et al. 2024, arXiv 2412.18108) and
  localization heads (Kang et al. 2025, arXiv 2503.06287) are found by.
- ``spatial entropy``: nats, of what stands out in its map (`spatial_entropy`); *small* for
  localization heads (Kang et al.).
- ``tile``: the share of its attention to the picture that lies on the marked tile, as of Bi et
  al.'s heads that look at a region.
- ``largest on tile``: share of trials in which the marked tile has its largest attention, after
  retrieval heads (Wu et al. 2024, arXiv 2404.15574), whose needle is text that the answer copies.
- ``probe``: share of trials whose right word a linear reader of its z tells that was fitted to the
  others.

All at [end].
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import pandas as pd
from scipy import ndimage

from ..edits import Edit
from ..errors import InputError, ModelError, ServerError
from ..measuring.batches import batches
from ..programs.ends import ends
from ..prompts import encode, locate, prompt_ids
from ..running.checks import check_finite
from ..running.execute import execute
from ..statistics import ROUNDING
from ..stimuli.replicates import Replicates, observed, with_trials
from ..stimuli.tasks import task_of
from ..trial import Trial, as_trials
from ..vlm import Vlm
from .attention import attention_from_end, over_picture
from .attribute import METHODS, attribute
from .direct_effects import direct_effects
from .head_patching import patch_heads
from .patching import patch_edits

# Score → whether heads are called special for little of it.
SMALL = ("spatial entropy",)
# A ridge's penalty, as a share of the mean size of z.
RIDGE = 0.01


def scores(
    model: Vlm,
    trials: Sequence[Trial] | Trial,
    *,
    source: str = "clean",
    target: str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Every head's scores, means over trials. Where nobody drew them, trials of one source count as
    one, and each of two to four answers alike (`rgb_circuit.stimuli.replicates`).

    Args:
        source: the condition in which heads are looked at.
        target: the condition in which they are restored; by default the task's corrupted one.
        progress: show bars when it takes longer than two seconds.

    Returns:
        A row per head × score: ``layer, head, score, value`` (``effect, silenced, atp, atp-ig,
        direct`` in logits of the difference right answer of the source − right answer of the
        target; `rgb_circuit.scores` says what the others are; missing where the model or the trials
        do not have it), ``n`` (trials, or clusters of them).

    Raises:
        InputError: trials that do not say their right answers to both conditions, or that
            `patch_heads` refuses.

    Warns:
        UserWarning: scores that cannot be had of this model, with the reason.

    Examples:
        >>> heads = ["layer", "head"]
        >>> table = rgb.scores(model, trials).pivot(index=heads, columns="score", values="value")
        >>> table["effect"].nlargest(2).index.tolist(), table["picture"].nlargest(1).index.tolist()
        ([(3, 1), (3, 2)], [(3, 1)])
    """
    trials = as_trials(trials)
    target = target or task_of(trials).corrupted
    for trial in trials:
        if missing := [name for name in (source, target) if name not in trial.expected]:
            raise InputError(
                f"trial {trial.name!r} does not say which answer is right for {missing[0]!r}; set "
                f"expected[{missing[0]!r}] to one of its roles"
            )
    given: dict[str, pd.DataFrame | None] = _effects(model, trials, source, target, progress)
    given |= _estimates(model, trials, source, target, progress)
    given |= _written(model, trials, source, target, progress)
    given |= _looks(model, trials, source, progress)
    given["probe"] = _probe(model, trials, source)
    words = {trial.name: trial.answers[trial.expected[source]] for trial in trials}
    tables = {score: table for score, table in given.items() if table is not None}
    means = {
        score: observed(table, trials, words)[0].mean(skipna=False).to_dict()
        for score, table in tables.items()
    }
    rows = [
        {
            "layer": layer,
            "head": head,
            "score": score,
            "value": means.get(score, {}).get((layer, head), np.nan),
        }
        for score in given
        for layer, head in model.heads()
    ]
    replicates = Replicates.of(trials)
    return with_trials(pd.DataFrame(rows).assign(n=replicates.n()), len(trials))


def spatial_entropy(attention: np.ndarray) -> float:
    """Entropy of a map's parts: 0 where what stands out is one connected part, large where it is
    many.

    1. What is above the map's mean stands out.
    2. Neighbours, also across a corner, are one part; its weight is its attention.
    3. The entropy of these weights, normalised to 1.

    Args:
        attention: (rows, columns), not negative.

    Returns:
        Nats; NaN where nothing stands out.

    Source: Kang et al. 2025 (arXiv 2503.06287), after Batty, Spatial entropy, Geographical Analysis
    6 (1974).

    Examples:
        >>> from rgb_circuit.calls.scores import spatial_entropy
        >>> spatial_entropy(np.eye(3)), round(spatial_entropy(np.array([[1, 0, 1]])), 2)
        (0.0, 0.69)
    """
    # Rounding makes some of an even map a little larger than others.
    above = attention > (1 + ROUNDING) * attention.mean()
    parts, number = ndimage.label(above, structure=np.ones((3, 3)))
    if not number:
        return np.nan
    weights = ndimage.sum_labels(attention, parts, np.arange(1, number + 1))
    shares = weights / weights.sum()
    return float(-(shares * np.log(shares)).sum()) + 0.0


def _difference(frame, trials, source, target, column="effect"):
    """The right word's column − the wrong word's, (trials, heads)."""
    right = {trial.name: trial.expected[source] for trial in trials}
    wrong = {trial.name: trial.expected[target] for trial in trials}
    name, role = frame["trial"].astype(str), frame["role"].astype(str)
    sides = [
        frame[role == name.map(wanted)].pivot(
            index="trial", columns=["layer", "head"], values=column
        )
        for wanted in (right, wrong)
    ]
    return sides[0] - sides[1]


def _effects(model, trials, source, target, progress):
    """The exact ones."""
    restored = patch_heads(model, trials, source=source, target=target, progress=progress)
    variants = {f"{layer} {head}": [Edit(layer, head, "mean")] for layer, head in model.heads()}
    silenced = patch_edits(model, trials, variants, target=source, progress=progress)
    places = silenced["variant"].astype(str).str.split(" ", expand=True).astype(int)
    silenced = silenced.assign(layer=places[0], head=places[1], effect=-silenced["effect"])
    return {
        "effect": _difference(restored, trials, source, target),
        "silenced": _difference(silenced, trials, source, target),
    }


def _estimates(model, trials, source, target, progress):
    found = {}
    for method in METHODS:
        try:
            frame = attribute(
                model, trials, method=method, source=source, target=target, progress=progress
            )
        except (InputError, ServerError) as error:
            _left_out(method, error)
            found[method] = None
        else:
            found[method] = _difference(frame, trials, source, target)
    return found


def _written(model, trials, source, target, progress):
    """What heads write towards the answers by themselves."""
    try:
        frame = direct_effects(model, trials, (source,), progress=progress)
    except (InputError, ModelError) as error:
        _left_out("direct and lens", error)
        return {"direct": None, "lens": None}
    frame = frame[frame["component"] == "head"].reset_index(drop=True)
    best = frame.loc[
        frame.groupby(["trial", "layer", "head"], observed=True)["direct_effect"].idxmax()
    ]
    right = {trial.name: trial.expected[source] for trial in trials}
    said = best["role"].astype(str) == best["trial"].astype(str).map(right)
    # A head that writes nothing is not said to write the word that happens to stand first.
    written = best["direct_effect"].to_numpy() > 0
    return {
        "direct": _difference(frame, trials, source, target, "direct_effect"),
        "lens": best.assign(said=(said & written).astype(float)).pivot(
            index="trial", columns=["layer", "head"], values="said"
        ),
    }


def _looks(model, trials, source, progress):
    """Where heads look, from one map per trial."""
    several: dict[str, list[np.ndarray]] = {
        "picture": [],
        "spatial entropy": [],
        "tile": [],
        "largest on tile": [],
    }
    names = []
    for trial, _, pattern in attention_from_end(model, trials, (source,), progress=progress):
        names.append(trial.name)
        ids = prompt_ids(model, [trial], source)[trial.name]
        picture = pattern[..., locate(model, trial, "image", ids, source)]
        several["picture"].append(picture.sum(-1))
        # Nobody knows how the tokens of some pictures lie.
        with suppress(InputError):
            maps = over_picture(model, trial, pattern, source)
            several["spatial entropy"].append(
                np.array([[spatial_entropy(of_head) for of_head in layer] for layer in maps])
            )
        if trial.tile is not None:
            places = locate(model, trial, "tile", ids, source)
            tile = pattern[..., places].sum(-1)
            several["tile"].append(tile / np.maximum(picture.sum(-1), np.finfo(np.float32).tiny))
            several["largest on tile"].append(np.isin(pattern.argmax(-1), places).astype(float))
    every = model.heads()
    return {
        score: _table(values, names, every) if len(values) == len(names) else None
        for score, values in several.items()
    }


def _probe(model, trials, source):
    """(layer, head) → the share of trials whose right word is told by a ridge that the others
    fitted, as (trials, heads) of 0 and 1; others are those of another source."""
    replicates = Replicates.of(trials)
    if replicates.n() < 2:
        return None
    z = {}
    # Of one condition each group of trials is one batch.
    for [(shown, end)] in batches(model, trials, (source,)):
        found = execute(model, ends, (model.n_heads, model.d_head), encode(model, shown), end)
        check_finite(model, found["finite"])
        z |= {trial.name: states.numpy() for (trial, _), states in zip(shown, found["z"])}
    words = [trial.answers[trial.expected[source]] for trial in trials]
    labels = np.array(words)[:, None] == np.unique(words)
    states = np.stack([z[trial.name] for trial in trials])
    right = [
        _told(states[:, layer, head], labels, replicates.groups()) == labels.argmax(1)
        for layer, head in model.heads()
    ]
    names = pd.Index([trial.name for trial in trials], name="trial")
    return pd.DataFrame(np.transpose(right).astype(float), names, model.heads())


def _table(values, trials, heads):
    """Values of every head, each (layers, heads), by trial, as (trials, heads)."""
    cells = [[one[layer, head] for layer, head in heads] for one in values]
    return pd.DataFrame(cells, pd.Index(trials, name="trial"), heads)


def _told(z: np.ndarray, labels: np.ndarray, sources: Sequence[np.ndarray]) -> np.ndarray:
    """The label of each trial as a ridge says it that was fitted without the trials of its source,
    (trials,); z (trials, d_head), labels (trials, words), ``sources``: numbers of trials."""
    n = len(z)
    z = z.astype(np.float64)
    told = np.empty(n, dtype=int)
    for left_out in sources:
        kept = np.setdiff1d(np.arange(n), left_out)
        center = z[kept].mean(0)
        rest = z[kept] - center
        size = (rest**2).sum() / max(1, len(rest))
        products = rest @ rest.T
        weights = np.linalg.solve(
            products + (RIDGE * size + np.finfo(float).tiny) * np.eye(len(kept)),
            labels[kept] - labels[kept].mean(0),
        )
        said = labels[kept].mean(0) + (z[left_out] - center) @ rest.T @ weights
        told[left_out] = said.argmax(1)
    return told


def _left_out(what, error):
    warnings.warn(f"{what} cannot be had of this model: {error}", stacklevel=4)
