"""How much each head's effect differs between two runs, and how far effects agree over heads.

1. A head's effect in a panel is computed as everywhere on the pages: trial by trial, less the other
   answers if no task drew the pictures, with trials of one source averaged first.
2. If both runs have a gap in the panel, effects are shares of each run's own gap, so that models
   with large and small logits are comparable; else logits. A share is a ratio of two means; its
   observations are those of the delta method, r + (effect − r · gap) / mean gap with r the share.
3. The difference is B less A, trial by trial for the trials that are in both
   (`rgb_circuit.keeping.shared_trials`), else of the means
   (`rgb_circuit.statistics.differences`). It is shown if q ≤ 5 % over all heads and panels
   together, it exceeds rounding, and it is at least as large as an effect that counts
   (`rgb_circuit.calls.panels.least_effect` of both runs).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from rgb_circuit.calls.panels import least_effect
from rgb_circuit.heads import Head
from rgb_circuit.keeping.shared_trials import shared_trials
from rgb_circuit.statistics import benjamini_hochberg, ratio_interval, t_interval
from rgb_circuit.statistics.agreement import ceiling, correlation_interval, disattenuated
from rgb_circuit.statistics.differences import difference
from rgb_circuit.stimuli.replicates import Replicates

from .. import items
from ..run import Run

LEVEL = 0.05
KEY = ["panel", "target", "role"]
SHARE, LOGITS = "share of the gap", "logits"


@dataclass(frozen=True)
class Compared:
    """The comparison of two runs with the same heads.

    Attributes:
        heads: a row per panel × head: ``panel, target, role, layer, head``; ``effect_a, effect_b``
            with ``_low, _high`` (95 %; in ``unit``); ``difference`` (B less A) with ``ci_low,
            ci_high, p_value, q_value``; ``differs``, whether the difference is shown; ``unit``
            ("share of the gap" or "logits"), ``paired`` (compared trial by trial), ``n_a, n_b``
            (trials, or clusters of them) and ``void``, why nothing was tested, else empty.
        panels: a row per panel: ``panel, target, role, unit, paired, n_a, n_b, void``; ``gap_a,
            gap_b`` (logits); over heads ``correlation, ci_low, ci_high, ceiling, corrected,
            corrected_low, corrected_high``, as in `rgb_circuit.statistics.agreement`.
    """

    heads: pd.DataFrame
    panels: pd.DataFrame


@dataclass(frozen=True)
class _Sample:
    """A run's effects in a panel, one observation per row: ``effects`` (observations, heads) and
    ``gap`` (observations,) or None, in logits; ``strata``, a label per observation; ``void``, why
    nothing can be tested."""

    effects: np.ndarray
    gap: np.ndarray | None
    strata: np.ndarray | None
    void: str

    @property
    def mean_gap(self):
        """The mean gap in logits; NaN if there is none."""
        return np.nan if self.gap is None else self.gap.mean()

    @property
    def shares(self):
        """Observations (observations, heads) whose mean is the share of the gap."""
        assert self.gap is not None
        scale = self.mean_gap
        share = self.effects.mean(0) / scale
        return share + (self.effects - share * self.gap[:, None]) / scale


def compared(a: Run, b: Run) -> Compared:
    """Compare two runs that have the same heads and a panel in common."""
    overlap = shared_trials(a, b)
    sides = [{(one.name, one.target, one.role): one for one in items.panels(run)} for run in (a, b)]
    heads, rows = [], []
    for key in sides[0]:
        if key not in sides[1]:
            continue
        names = list(sides[0][key].effects.columns)
        samples = [_sample(run, side[key], names, overlap) for run, side in zip((a, b), sides)]
        shared = dict(zip(KEY, key)) | _about(samples, overlap.paired)
        rows.append(shared | _agreement(samples, overlap.paired))
        heads.append(_differences((a, b), samples, names, shared))
    return Compared(_tested(pd.concat(heads, ignore_index=True)), pd.DataFrame(rows))


def _sample(run, panel, names, overlap):
    """A run's measurements in a panel, of the trials that are compared, with the heads in this
    order."""
    trials = {trial["name"]: trial for trial in run.manifest["trials"]}
    # Sort by name: two runs may have the same trials in different orders.
    effects = panel.effects[names].dropna().sort_index()
    effects = effects[overlap.compares(effects.index)]
    records = [trials[str(name)] for name in effects.index]
    words = np.array([trial["answers"][panel.role] for trial in records])
    replicates = Replicates.recorded(records, run.task)
    gap = _gap(run, panel).reindex(effects.index)
    with_gap = np.column_stack([effects.to_numpy(dtype=float), gap.to_numpy(dtype=float)])
    means, strata = replicates.means(with_gap, words, alike=True)
    void = replicates.too_few(words, replicates.all) or ("one trial" if len(means) < 2 else "")
    # As in the panels: missing if there is no gap to divide by.
    frame = run.frames["panels"]
    has_gap = bool(frame.loc[frame["panel"] == panel.name, "gap"].notna().all())
    gap_of = means[:, -1] if has_gap and np.isfinite(means[:, -1]).all() else None
    return _Sample(means[:, :-1], gap_of, strata, void)


def _gap(run, panel):
    """The gap per trial, in logits: the values that `rgb_circuit.calls.panels.gaps` averages."""
    frame = run.frames["patch_heads"]
    if run.task.is_game:
        once = frame[frame["target"] == panel.target].drop_duplicates(["trial", "role"])
        once = once.assign(fall=once["source_logit"] - once["target_logit"])
        falls = once.pivot(index="trial", columns="role", values="fall").dropna(axis=1)
        return falls[falls.mean().idxmax()]
    right = run.task.conditions["clean"].right
    changed = run.task.with_gap(panel.target) if right else panel.target
    rows = frame[frame["target"] == changed]
    if right is None or rows.empty:
        return pd.Series(np.nan, frame["trial"].unique())
    before, after = (
        items.against(run, rows, column, changed, right).iloc[:, 0]
        for column in ("source_logit", "target_logit")
    )
    return before - after


def _about(samples, same):
    """The common unit of a panel's two samples, and their sizes."""
    a, b = samples
    return dict(
        unit=LOGITS if a.gap is None or b.gap is None else SHARE,
        paired=same and len(a.effects) == len(b.effects),
        n_a=len(a.effects),
        n_b=len(b.effects),
        void=a.void or b.void,
    )


def _agreement(samples, same):
    a, b = (sample.effects for sample in samples)
    same = same and len(a) == len(b)
    varied = all(np.ptp(side.mean(0)) > 0 for side in (a, b))
    low, high = correlation_interval(a, b, same_trials=same)
    corrected = disattenuated(a, b, same_trials=same)
    names = "corrected", "corrected_low", "corrected_high"
    return dict(
        gap_a=samples[0].mean_gap,
        gap_b=samples[1].mean_gap,
        correlation=np.corrcoef(a.mean(0), b.mean(0))[0, 1] if varied else np.nan,
        ci_low=low,
        ci_high=high,
        ceiling=ceiling(a, b),
    ) | dict(zip(names, corrected))


def _differences(runs, samples, names, about):
    """The rows of a panel, without the columns that need all panels."""
    in_shares = about["unit"] == SHARE
    table = pd.DataFrame([Head.parse(name) for name in names], columns=["layer", "head"])
    for side, sample in zip("ab", samples):
        low, high = _interval(sample, in_shares)
        values = sample.shares if in_shares else sample.effects
        table[f"effect_{side}"] = values.mean(0)
        table[f"effect_{side}_low"], table[f"effect_{side}_high"] = low, high
    values = [sample.shares if in_shares else sample.effects for sample in samples]
    strata = samples[0].strata, samples[1].strata
    tested = difference(*values, same_trials=about["paired"], strata=strata)
    gaps = [sample.mean_gap for sample in samples]
    scales = gaps if in_shares else [1.0, 1.0]
    return pd.DataFrame({name: about[name] for name in KEY}, index=table.index).assign(
        **table,
        difference=tested.mean,
        ci_low=tested.low,
        ci_high=tested.high,
        p_value=np.nan if about["void"] else tested.p,
        **{name: about[name] for name in ("unit", "paired", "n_a", "n_b", "void")},
        least=max(float(least_effect(gap)) / scale for gap, scale in zip(gaps, scales)),
        rounding=np.hypot(*(run.floor / scale for run, scale in zip(runs, scales))),
    )


def _interval(sample, in_shares):
    """The interval of a run's mean effects, as on the run's own page."""
    if len(sample.effects) < 2:
        return np.nan, np.nan
    if in_shares:
        return ratio_interval(sample.effects, sample.gap[:, None], sample.strata)
    return t_interval(sample.effects, sample.strata)


def _tested(table):
    """The rows of all panels, with q values over all of them and the differences they show."""
    p, q = table["p_value"].to_numpy(), np.full(len(table), np.nan)
    q[~np.isnan(p)] = benjamini_hochberg(p[~np.isnan(p)])
    table.insert(table.columns.get_loc("p_value") + 1, "q_value", q)
    size = table["difference"].abs()
    shown = (q <= LEVEL) & (size >= table.pop("least")) & (size > table.pop("rounding"))
    table.insert(table.columns.get_loc("q_value") + 1, "differs", shown)
    return table
