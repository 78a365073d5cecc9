"""The field's cheap scores of heads, next to the exact effect of each.

Published lists of heads mostly rest on one of these numbers. They answer different questions: where
a head looks, what it writes towards the answer directly, what could be read from it, and what the
answer loses without it. Only the last says whether the answer needs the head.

- ``effect``: how much of the logit difference restoring its z gives back in the changed picture.
  Exact (`patch_heads`).
- ``silenced``: how much replacing its z by the mean over trials takes from the difference in the
  clean picture. Exact; Wang et al. 2022 (arXiv 2211.00593).
- ``atp``, ``atp-ig``: estimates of ``effect`` by gradients (`attribute`); Kramár et al. 2024 (arXiv
  2403.00745), Hanna et al. 2024 (arXiv 2403.17806).
- ``direct``: its direct contribution to the difference (`direct_effects`); Elhage et al. 2021.
- ``lens``: share of trials in which its direct contribution is largest for the right word;
  nostalgebraist 2020.
- ``picture``: its attention to the picture, the criterion for visual heads (Bi et al. 2024, arXiv
  2412.18108) and localization heads (Kang et al. 2025, arXiv 2503.06287).
- ``spatial entropy``: nats, of the parts that stand out in its map (`spatial_entropy`); *small* for
  localization heads (Kang et al.).
- ``tile``: the share of its attention to the picture that lies on the marked tile, as for Bi et
  al.'s heads that look at a region.
- ``largest on tile``: share of trials in which the marked tile has its largest attention, after
  retrieval heads (Wu et al. 2024, arXiv 2404.15574), whose needle is text that the answer copies.
- ``probe``: share of trials whose right word is read from its z by a linear reader that was fitted
  to the other trials.

All at [end].
"""

from __future__ import annotations

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
from ..stimuli.tasks import corrupted
from ..trial import Trial, asked_of, one_condition
from ..vlm import Vlm
from ..warning import warn
from .attention import attention_from_end, over_picture
from .attribute import METHODS, attribute
from .direct_effects import direct_effects
from .head_patching import patch_heads
from .patching import patch_edits

# Scores for which a small value makes a head special.
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
    """Every head's scores, as means over trials. If no task drew the trials, those of one source
    count as one, and two to four answers get equal weight (`rgb_circuit.stimuli.replicates`).

    Args:
        source: the condition in which heads are observed.
        target: the condition in which they are restored; by default the task's corrupted one.
        progress: show bars if the run takes longer than two seconds.

    Returns:
        A row per head × score: ``layer, head, score, value`` (``effect, silenced, atp, atp-ig,
        direct`` in logits of the difference right answer of the source − right answer of the
        target; `rgb_circuit.calls.scores` explains the others; missing if the model or the trials
        do not allow a score), ``n`` (trials, or clusters of them).

    Raises:
        InputError: trials without right answers for both conditions, or that `patch_heads` refuses.

    Warns:
        UserWarning: scores that this model does not allow, with the reason.

    Examples:
        >>> heads = ["layer", "head"]
        >>> table = rgb.scores(model, trials).pivot(index=heads, columns="score", values="value")
        >>> table["effect"].nlargest(2).index.tolist(), table["picture"].nlargest(1).index.tolist()
        ([(3, 1), (3, 2)], [(3, 1)])
    """
    trials = asked_of(model, trials)
    target = one_condition("target", corrupted(trials, target))
    source = one_condition("source", source)
    for trial in trials:
        if missing := [name for name in (source, target) if name not in trial.expected]:
            raise InputError(
                f"trial {trial.name!r} does not say which answer is right for {missing[0]!r}; set "
                f"expected[{missing[0]!r}] to one of its roles"
            )
    by_score: dict[str, pd.DataFrame | None] = _effects(model, trials, source, target, progress)
    by_score |= _estimates(model, trials, source, target, progress)
    by_score |= _written(model, trials, source, target, progress)
    by_score |= _looks(model, trials, source, progress)
    by_score["probe"] = _probe(model, trials, source)
    words = {trial.name: trial.answers[trial.expected[source]] for trial in trials}
    tables = {score: table for score, table in by_score.items() if table is not None}
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
        for score in by_score
        for layer, head in model.heads()
    ]
    replicates = Replicates.of(trials)
    return with_trials(pd.DataFrame(rows).assign(n=replicates.n()), len(trials))


def spatial_entropy(attention: np.ndarray) -> float:
    """Entropy of a map's parts: 0 if a single connected part stands out, large if many do.

    1. Values above the map's mean stand out.
    2. Neighbours, also across a corner, form one part; its weight is its summed attention.
    3. The result is the entropy of these weights, normalised to 1.

    Args:
        attention: (rows, columns), not negative.

    Returns:
        Nats; NaN if nothing stands out.

    Source: Kang et al. 2025 (arXiv 2503.06287), after Batty, Spatial entropy, Geographical Analysis
    6 (1974).

    Examples:
        >>> from rgb_circuit.calls.scores import spatial_entropy
        >>> spatial_entropy(np.eye(3)), round(spatial_entropy(np.array([[1, 0, 1]])), 2)
        (0.0, 0.69)
    """
    # Rounding makes some values of an even map slightly larger than others.
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
    """The exact scores."""
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
    tables = {}
    for method in METHODS:
        try:
            frame = attribute(
                model, trials, method=method, source=source, target=target, progress=progress
            )
        except (InputError, ServerError) as error:
            _left_out(method, error)
            tables[method] = None
        else:
            tables[method] = _difference(frame, trials, source, target)
    return tables


def _written(model, trials, source, target, progress):
    """The scores of heads' direct contributions to the answers."""
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
    # A head that writes nothing must not count as writing the word that comes first.
    written = best["direct_effect"].to_numpy() > 0
    return {
        "direct": _difference(frame, trials, source, target, "direct_effect"),
        "lens": best.assign(said=(said & written).astype(float)).pivot(
            index="trial", columns=["layer", "head"], values="said"
        ),
    }


def _looks(model, trials, source, progress):
    """The scores of attention, from one map per trial."""
    by_score: dict[str, list[np.ndarray]] = {
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
        by_score["picture"].append(picture.sum(-1))
        # For some pictures, the places of the tokens are unknown.
        with suppress(InputError):
            maps = over_picture(model, trial, pattern, source)
            by_score["spatial entropy"].append(
                np.array([[spatial_entropy(of_head) for of_head in layer] for layer in maps])
            )
        if trial.tile is not None:
            places = locate(model, trial, "tile", ids, source)
            tile = pattern[..., places].sum(-1)
            by_score["tile"].append(tile / np.maximum(picture.sum(-1), np.finfo(np.float32).tiny))
            by_score["largest on tile"].append(np.isin(pattern.argmax(-1), places).astype(float))
    heads = model.heads()
    return {
        score: _table(values, names, heads) if len(values) == len(names) else None
        for score, values in by_score.items()
    }


def _probe(model, trials, source):
    """Whether a ridge, fitted to the trials of all other sources, reads a trial's right word from a
    head's z: 0 or 1, (trials, heads); None with fewer than two sources."""
    replicates = Replicates.of(trials)
    if replicates.n() < 2:
        return None
    z = {}
    # With one condition, each group of trials is one batch.
    for [(shown, end)] in batches(model, trials, (source,)):
        result = execute(model, ends, (model.n_heads, model.d_head), encode(model, shown), end)
        check_finite(model, result["finite"])
        z |= {trial.name: states.numpy() for (trial, _), states in zip(shown, result["z"])}
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
    """Maps of every head's value, one (layers, heads) per trial, as a table (trials, heads)."""
    cells = [[one[layer, head] for layer, head in heads] for one in values]
    return pd.DataFrame(cells, pd.Index(trials, name="trial"), heads)


def _told(z: np.ndarray, labels: np.ndarray, sources: Sequence[np.ndarray]) -> np.ndarray:
    """The label of each trial, read by a ridge that was fitted without the trials of its source,
    (trials,). ``z``: (trials, d_head); ``labels``: (trials, words); ``sources``: per source, the
    numbers of its trials."""
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
    warn(f"{what} cannot be computed for this model: {error}")
