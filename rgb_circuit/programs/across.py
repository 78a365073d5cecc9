"""Heads restored from runs with another prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

from .capture import capture, kept_from
from .sweep import sweep

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel


def across(
    wrapped: TransformersModel, heads, inputs, others, own_start, other_start, places, answers, softcap
):
    """Every head restored from the runs ``others`` into ``inputs``, place by place.

    Args:
        places: place → edits as `sweep.plain` makes them, the token positions they name, and how many go into
            one forward.

    Returns:
        Logits of ``source`` and ``target`` (trials, answers), and under each place's name effects (trials,
        heads, answers); ``drift`` and ``finite`` as `sweep` has them.
    """
    target = capture(wrapped, heads, inputs, own_start, True, False)
    source = capture(wrapped, heads, others, other_start, False, False)
    runs = list(range(len(answers)))
    ids = answers.to(target.logits.device)
    done = {
        "source": source.logits.gather(-1, ids).cpu(),
        "target": target.logits.gather(-1, ids).cpu(),
        "finite": bool(torch.isfinite(source.logits).all() and torch.isfinite(target.logits).all()),
        "drift": 0.0,
    }
    for place, (variants, positions, batch_size) in places.items():
        # Unless earlier positions see [end] too.
        alone = place == "end" and target.start > 0
        captured, given = (
            (kept_from(target, target.length - 1), kept_from(source, source.length - 1))
            if alone
            else (target, source)
        )
        values = {("question", "z"): ([lined_up(z, captured) for z in given.z], torch.tensor(runs))}
        spots = [{positions: positions}] * len(runs)
        swept = sweep(wrapped, heads, captured, runs, variants, values, spots, answers, batch_size, softcap)
        done[place] = swept["effects"]
        done["finite"] = done["finite"] and swept["finite"]
        done["drift"] = max(done["drift"], swept["drift"])
    return done


def lined_up(z, captured):
    """The end of another prompt's z (pictures, kept, head, d_head), as long as what is kept of a captured
    one."""
    kept = captured.length - captured.start
    return pad(z[:, -kept:], (0, 0, 0, 0, max(0, kept - z.shape[1]), 0))
