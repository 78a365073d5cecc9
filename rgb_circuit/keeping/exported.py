"""A run's heads as plain data: for other tools, for scripts, and for an audit on other trials."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from ..heads import rows_of
from ..task import Task

FORMAT = "rgb_circuit heads, 1"
NUMBERS = ("effect", "ci_low", "ci_high", "q_value")


def exported(
    manifest: Mapping[str, Any], findings: pd.DataFrame, evidence: pd.DataFrame
) -> dict[str, Any]:
    """The heads of a run that have a role, strongest first, with the tests of each.

    Args:
        manifest, findings, evidence: of a `rgb_circuit.keeping.saved_run.SavedRun`.

    Returns:
        Values that JSON can hold: ``format, model, revision, commit, dtype, positions, task,
        question, trials`` (how many), ``seed`` (None for trials from a file), ``version`` (of this
        package), ``heads``: per head ``layer, head, role, score, colors`` and ``predictions`` (name
        → ``expected, effect, ci_low, ci_high, q_value, state, n``; effects in logits), those of its
        role.
    """
    task, options = Task.of_plain(manifest["task"]), manifest["options"]
    about = {name: manifest.get(name) for name in ("model", "revision", "commit", "dtype")}
    named = {hypothesis.name: hypothesis for hypothesis in task.hypotheses}
    heads = []
    for row in findings.to_dict("records"):
        own = [named[name] for name in str(row["role"]).split(" + ") if name in named]
        wanted = {prediction.name for hypothesis in own for prediction in hypothesis.predictions}
        tested = rows_of(evidence, (row["layer"], row["head"]))
        heads.append(
            {
                "layer": int(row["layer"]),
                "head": int(row["head"]),
                "role": row["role"],
                "score": _plain(row["score"]),
                "colors": row["colors"] or None,
                "predictions": {
                    str(prediction["prediction"]): _tested(prediction)
                    for prediction in tested[tested["prediction"].isin(wanted)].to_dict("records")
                },
            }
        )
    return {
        "format": FORMAT,
        **about,
        "positions": options["positions"],
        "task": task.name,
        "question": task.question,
        "trials": len(manifest["trials"]),
        "seed": options.get("seed"),
        "version": manifest["versions"]["rgb_circuit"],
        "heads": heads,
    }


def as_lists(found: Mapping[str, Any]) -> dict[str, dict[str, list[int]]]:
    """Role → ``{layer: [heads]}``, as tools that steer or prune heads take them, from the result of
    `exported`."""
    lists: dict[str, dict[str, list[int]]] = {}
    for head in found["heads"]:
        for role in str(head["role"]).split(" + "):
            lists.setdefault(role, {}).setdefault(str(head["layer"]), []).append(head["head"])
    return lists


def _tested(row):
    return {
        "expected": row["expected"],
        **{name: _plain(row[name]) for name in NUMBERS},
        "state": row["state"],
        "n": int(row["n"]),
    }


def _plain(value):
    """A number as JSON can hold it; None if it is missing or not finite."""
    return None if pd.isna(value) or not math.isfinite(value) else float(value)
