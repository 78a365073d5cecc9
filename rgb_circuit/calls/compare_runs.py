"""Compare two runs, of two models or of two samples of trials: which heads agree."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pandas as pd

from ..arguments import whole_number
from ..errors import InputError
from ..heads import Head
from ..keeping.saved_run import SavedRun, read_run, recorded_task
from ..keeping.shared_trials import shared_trials
from ..statistics.agreement import (
    agreement,
    ceiling,
    correlation_interval,
    disattenuated,
    reliability,
)
from ..stimuli.replicates import averaged, recorded_clusters
from .panels import gaps, least_effect, panels

COLUMNS = (
    "compared", "name", "heads", "pearson", "pearson_low", "pearson_high", "spearman", "in_a",
    "in_b",
    "shared", "by_chance", "both", "only_a", "only_b", "reliability_a", "reliability_b", "ceiling",
    "disattenuated", "disattenuated_low", "disattenuated_high",
)  # fmt: skip


class Recorded(Protocol):
    """The parts of a finished run that its panels need."""

    @property
    def folder(self) -> Path:
        """The folder of the run."""

    @property
    def frames(self) -> Mapping[str, pd.DataFrame]:
        """Name → frame."""


def compare_runs(
    a: SavedRun | str | Path, b: SavedRun | str | Path, *, k: int = 10
) -> pd.DataFrame:
    """The heads on which two runs agree, panel by panel and role by role.

    Args:
        a, b: runs of the same heads, or their folders: of two models of one shape, or of one model
            on two samples of trials. Trials that are in both, in whatever words they ask, are
            compared trial by trial, and others are left out, unless those are fewer than half of
            the smaller run's.
        k: the most heads that count as the top of a panel: those that raise the word's logit most,
            by 0.05 of the run's gap or more (by 0.025 logits if there is no gap, or one below half
            a logit: `rgb_circuit.calls.panels.least_effect`). Smaller effects are never at the top,
            however large they are compared with the others.

    Returns:
        A row per panel that both have (``compared`` is "effects") and per role that a head has in
        either ("role"): ``compared, name`` (panel or role), ``heads`` (how many are compared),
        ``pearson, pearson_low, pearson_high`` (of mean effects over heads, with the interval of
        `rgb_circuit.statistics.agreement.correlation_interval`), ``spearman`` (all missing for a
        role), ``in_a, in_b`` (how many heads are at the top, or have the role), ``shared`` (how
        many in both), ``by_chance`` (how many would be shared if each picked at random), ``both,
        only_a, only_b`` (their names, for a panel the strongest first). Roles are compared if both
        runs have them. For a panel, also the influence of noise on ``pearson``: ``reliability_a,
        reliability_b`` (of each run's mean effects, from split halves of its trials), ``ceiling``
        (the largest correlation possible at these reliabilities, on other trials), and
        ``disattenuated`` with ``_low, _high`` (the correlation without that noise, and its 95 %
        interval; `rgb_circuit.statistics.agreement.disattenuated`).

    Raises:
        InputError: a folder without a finished run, runs of different heads or without a panel in
            common, or a k below 1.
    """
    runs = [run if isinstance(run, SavedRun) else read_run(run) for run in (a, b)]
    which = common_panels(runs)
    shared = shared_trials(*runs)
    swept = [run.frames["patch_heads"] for run in runs]
    frames = [frame[shared.compares(frame["trial"])] for frame in swept]
    tables = [panels(frame, which).set_index(["layer", "head"]) for frame in frames]
    if set(tables[0].index) != set(tables[1].index):
        raise InputError(
            f"{runs[0].folder} has {_shape(tables[0])} and {runs[1].folder} {_shape(tables[1])}; "
            "heads of models of different shape are not the same heads, so compare runs of the "
            "same ones"
        )
    k = whole_number("k", k, advice="use 1 or more heads")
    samples = [
        averaged(frame, recorded_clusters(run.manifest["trials"], recorded_task(run.manifest)))
        for frame, run in zip(frames, runs)
    ]
    rows = [
        _of_panel(frames, samples, shared.paired, panel, which[panel], tables, k) for panel in which
    ]
    if all("roles" in run.frames for run in runs):
        rows += _of_roles(*(run.frames["roles"] for run in runs))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def common_panels(runs: Sequence[Recorded]) -> dict[str, tuple[str, str]]:
    """Panel → (target, role), for the panels that two runs have in common.

    Raises:
        InputError: the runs have no panel in common.
    """
    each = [
        {
            (row.panel, row.target, row.role): None
            for row in run.frames["panels"][["panel", "target", "role"]]
            .drop_duplicates()
            .itertuples()
        }
        for run in runs
    ]
    common = {
        panel: (target, role) for panel, target, role in each[0] if (panel, target, role) in each[1]
    }
    if not common:
        names = [", ".join(panel for panel, *_ in one) for one in each]
        raise InputError(
            f"{runs[0].folder} has the panels {names[0]}, and {runs[1].folder} {names[1]}; compare "
            "runs with a panel in common"
        )
    return common


def _of_panel(frames, averages, paired, panel, place, tables, k):
    effects_a, effects_b = (table[panel] for table in tables)
    effects_b = effects_b.reindex(effects_a.index)
    mine, theirs = (float(least_effect(gaps(frame)[place[0]])) for frame in frames)
    found, back = (
        agreement(effects_a, effects_b, k, (mine, theirs)),
        agreement(effects_b, effects_a, k, (theirs, mine)),
    )
    samples = [_samples(frame, place, effects_a.index) for frame in averages]
    same_trials = paired and set(samples[0].index) == set(samples[1].index)
    if same_trials:
        samples[1] = samples[1].reindex(samples[0].index)
    sides = [sample.to_numpy() for sample in samples]
    low, high = correlation_interval(*sides, same_trials=same_trials)
    without_noise = disattenuated(*sides, same_trials=same_trials)
    about_noise = dict(zip(("reliability_a", "reliability_b"), map(reliability, sides)))
    about_noise |= dict(ceiling=ceiling(*sides))
    names = "disattenuated", "disattenuated_low", "disattenuated_high"
    return (
        dict(
            compared="effects",
            name=panel,
            heads=len(effects_a),
            pearson=found.pearson,
            pearson_low=low,
            pearson_high=high,
            spearman=found.spearman,
        )
        | _overlap(found.top, back.top, found.shared, len(effects_a))
        | about_noise
        | dict(zip(names, without_noise))
    )


def _samples(frame, place, heads):
    """Effects, a row per trial and a column per head."""
    target, role = place
    rows = frame[(frame["target"] == target) & (frame["role"] == role)]
    return rows.pivot(index="trial", columns=["layer", "head"], values="effect")[list(heads)]


def _of_roles(one, other):
    rows = []
    named = [_by_role(table) for table in (one, other)]
    for role in dict.fromkeys([*named[0], *named[1]]):
        mine, theirs = (side.get(role, []) for side in named)
        shared = [head for head in mine if head in theirs]
        rows.append(
            dict(compared="role", name=role, heads=len(one))
            | _overlap(mine, theirs, shared, len(one))
        )
    return rows


def _by_role(table) -> dict[str, list[Head]]:
    """Role → its heads; a head may have several."""
    heads_of: dict[str, list[Head]] = {}
    for row in table[table["role"] != "none"].itertuples():
        for role in row.role.split(" + "):
            heads_of.setdefault(role, []).append(Head(row.layer, row.head))
    return heads_of


def _overlap(mine, theirs, shared, heads):
    return dict(
        in_a=len(mine),
        in_b=len(theirs),
        shared=len(shared),
        by_chance=len(mine) * len(theirs) / heads,
        both=_names(shared),
        only_a=_names(head for head in mine if head not in shared),
        only_b=_names(head for head in theirs if head not in shared),
    )


def _names(heads):
    return " ".join(str(Head(*head)) for head in heads)


def _shape(table):
    layers = table.index.get_level_values("layer").nunique()
    return f"{len(table)} heads in {layers} layer{'s' * (layers > 1)}"
