"""Where each head looks from [end], in numbers, and whether that says what it does.

Attention alone misleads: a head may look at the odd tile and write nothing that matters, and another may matter without looking
there. `attention_vs_effect` says how far one can be read off the other on this model.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from rgb_circuit import InputError, Llava, Trial
from rgb_circuit.attention import attention_from_end, over_picture
from rgb_circuit.keeping import by_trial
from rgb_circuit.prompts import check_trials, locate, prompt_ids

MASSES = ("tile", "picture", "question", "first", "before")
STATISTICS = (*MASSES, "entropy")


def attention_statistics(
    model: Llava, trials: Sequence[Trial], conditions: Sequence[str] = ("clean",), *, progress: bool = True
) -> pd.DataFrame:
    """How every head divides its attention at [end].

    Args:
        conditions: which pictures to show.
        progress: show a bar when it takes longer than two seconds.

    Returns:
        A row per trial × condition × head: ``trial, condition, layer, head``; the shares, which add up to 1: ``tile`` (the image
        token of ``trial.tile``, whatever that picture shows there), ``picture`` (the rest of it), ``question`` (the text after
        the picture, [end] included), ``first`` (the first token, on which idle heads rest), ``before`` (other text before the
        picture); and ``entropy`` (nats) of the attention over the image tokens, normalised to 1 there: 0 on one tile, log(tiles)
        when even.

    Raises:
        InputError: a trial without a tile, or a condition that a trial lacks, before any forward.
    """
    trials, conditions = list(trials), list(conditions)

    def prepare():
        for trial in trials:
            if trial.tile is None:
                raise InputError(f"trial {trial.name!r} has no tile, so attention to it means nothing; set tile and grid")
        check_trials(model, trials, conditions)
        return partial(_summarized, model, conditions)

    arguments = {"conditions": conditions}
    parts = by_trial("attention_statistics", arguments, trials, prepare, progress=progress, what="attention")
    frame = pd.concat([parts[trial.name] for trial in trials], ignore_index=True)
    return frame.astype({"trial": "category", "condition": "category"})


def _summarized(model, conditions, trials):
    """Trial name → its part of the frame, one at a time."""
    layer, head = np.array(model.heads()).T
    blocks = []
    for trial, condition, attention in attention_from_end(model, trials, conditions, progress=False):
        parts = _parts(model, trial)
        shares = np.stack([attention[..., parts == part].sum(-1) for part in MASSES], axis=-1)
        block = pd.DataFrame(shares.reshape(-1, len(MASSES)), columns=list(MASSES))
        block["entropy"] = _entropy(over_picture(model, trial, attention)).ravel()
        block.insert(0, "trial", trial.name)
        block.insert(1, "condition", condition)
        block.insert(2, "layer", layer)
        block.insert(3, "head", head)
        blocks.append(block)
        if len(blocks) == len(conditions):
            yield {trial.name: pd.concat(blocks)}
            blocks = []


def attention_vs_effect(attention: pd.DataFrame, effects: pd.DataFrame) -> pd.DataFrame:
    """Correlation, over heads, of where a head looks with how much it matters.

    Both are averaged over trials first, then the effect's sign is dropped: a head that lowers a logit matters too.

    Args:
        attention: from `attention_statistics`.
        effects: from `rgb_circuit.patch_heads`, of the same model.

    Returns:
        A row per attention statistic × condition × target × role: ``statistic, condition, target, role, spearman, pearson``
        (missing where one side is constant), ``heads`` (how many).

    Raises:
        InputError: fewer than three heads in both frames.
    """
    looks = attention.groupby(["condition", "layer", "head"], observed=True)[list(STATISTICS)].mean()
    matters = effects.groupby(["target", "role", "layer", "head"], observed=True)["effect"].mean().abs()
    rows = []
    for condition, look in looks.groupby(level="condition", observed=True):
        for (target, role), size in matters.groupby(level=["target", "role"], observed=True):
            both = look.droplevel("condition").join(size.droplevel(["target", "role"]), how="inner")
            if len(both) < 3:
                raise InputError(f"{len(both)} heads are in both frames; a correlation needs 3 or more, so patch more heads")
            for statistic in STATISTICS:
                rows.append(
                    {
                        "statistic": statistic,
                        "condition": condition,
                        "target": target,
                        "role": role,
                        "spearman": _correlation(both[statistic].rank(), both["effect"].rank()),
                        "pearson": _correlation(both[statistic], both["effect"]),
                        "heads": len(both),
                    }
                )
    return pd.DataFrame(rows)


def _parts(model, trial):
    """Which of ``MASSES`` each token of the prompt belongs to, (positions,)."""
    ids = prompt_ids(model, [trial])[trial.prompt]
    image = locate(model, trial, "image", ids)
    parts = np.full(len(ids), "before", dtype=object)
    parts[image[-1] + 1 :] = "question"
    parts[image] = "picture"
    parts[0] = "first"
    parts[locate(model, trial, "tile", ids)] = "tile"
    return parts


def _entropy(pattern):
    """Entropy in nats over the last two axes, of ``pattern`` (…, rows, columns) normalised to one there."""
    flat = pattern.reshape(*pattern.shape[:-2], -1).astype(float)
    share = flat / flat.sum(-1, keepdims=True)
    return -(share * np.log(np.where(share > 0, share, 1))).sum(-1)


def _correlation(one, other):
    """Pearson's; NaN where one of the two is constant."""
    return one.corr(other) if one.nunique() > 1 and other.nunique() > 1 else np.nan
