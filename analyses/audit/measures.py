"""The measures of lists of heads, and of each of their heads."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from rgb_circuit import InputError, Trial, Vlm
from rgb_circuit.arguments import whole_number
from rgb_circuit.calls.panels import least_effect
from rgb_circuit.calls.patching import PatchedEdits
from rgb_circuit.edits import label_of
from rgb_circuit.measuring.attention_shares import AttentionShares
from rgb_circuit.measuring.measure import stepwise
from rgb_circuit.measuring.measurement import Steps
from rgb_circuit.statistics import (
    ROUNDING,
    benjamini_hochberg,
    decidable,
    rank_p,
    shown_to_fall,
    t_interval,
    t_p,
)
from rgb_circuit.statistics.absence import mostly_p
from rgb_circuit.stimuli.replicates import observed
from rgb_circuit.stimuli.tasks import corrupted, task_of
from rgb_circuit.trial import as_trials

from ..circuit.faithfulness import check_trials, logit_difference, restored_fraction, source_words
from ..circuit.resampling import with_partners
from .design import SILENCED, Design, Variant, design
from .effects import Effects

# Measures for which small values are special; for all others large ones are.
SMALL = ("right when silenced", "entropy")
COLUMNS = (
    "list", "layer", "head", "measure", "word", "unit", "value", "ci_low", "ci_high",
    "random_mean", "random_low", "random_high", "random_lists", "decidable",
    "least", "p_value", "q_value", "p_absent", "n", "positions", "source", "target",
)  # fmt: skip


@stepwise(stage="auditing")
def audit(
    model: Vlm,
    trials: Sequence[Trial],
    lists: Mapping[str, Sequence[tuple[int, int]]],
    *,
    source: str = "clean",
    target: str | None = None,
    positions: str | Sequence[int] = "end",
    random_lists: int = 200,
    also: Mapping[str, Sequence[Trial]] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Steps[pd.DataFrame]:
    """Measure lists of heads, and each of their heads, against random lists of the same layers.

    Args:
        lists: name → (layer, head) pairs.
        source: condition in which heads are silenced and from which they are restored.
        target: condition in which they are restored; by default the task's corrupted one.
        positions: of all edits, as in `rgb_circuit.Edit`.
        random_lists: the number of random lists for each list, or all possible ones if these are
            fewer.
        also: name → other trials, for example of another task, on which the lists are restored too.
        seed: of the random lists, and of the pictures given to each trial for resampling.
        progress: show a bar when it takes longer than two seconds.

    Returns:
        A row per list × measure, ``layer, head`` missing, and per list × head × measure (×
        ``word``): ``measure`` ("restored", "lost (mean)", "lost (zero)", "lost (resampling)"; for
        lists also "alone", "right when silenced", "right when alone", "restored, first half",
        "restored, second half" and "restored: NAME" for ``also``; and for where they look in the
        source picture, "picture", "tile" and the names of boxes, if all trials have them, and
        "entropy"); ``word`` (the role of the word whose logit it is; missing for the logit
        difference); ``unit`` ("fraction" of the gap of the difference, "logits", "share" of trials
        or of attention, "nats"); ``value, ci_low, ci_high`` (95 % over trials); ``random_mean,
        random_low, random_high`` (mean and central 95 % of ``random_lists`` lists); ``decidable``
        (whether their rank could reach 0.05); ``p_value``: for a list its rank among the random
        ones (much restored, much lost, few right when silenced, much attention to the picture,
        little entropy); for a head, that the mean effect is larger than ``least`` (the least size
        of an effect, in the row's unit); and for where a head looks, that it gives the picture more
        attention than the model's heads do on average, or a place more than an even spread over
        prompt or picture would; ``p_absent``: for a head, that in most trials the effect is smaller
        than ``least``; ``n`` (trials, or clusters of trials of one source), ``positions, source,
        target``.

    Raises:
        InputError: before any forward, a list that is empty or names a head that does not exist or
            one twice, or trials that `analyses.circuit.circuit` refuses; after it, a model without
            a gap.

    Examples:
        >>> from analyses.audit import audit, heads
        >>> planted = rgb.load("planted")
        >>> lists = {"readers": [(3, 0), (3, 2)], "lookers": [(3, 3)]}
        >>> frame = audit(planted, rgb.rgb_trials(planted, 16), lists, random_lists=5)
        >>> heads(frame)[["list", "layer", "head", "verdict"]].values.tolist()
        [['readers', 3, 0, 'causal'], ['readers', 3, 2, 'causal'], ['lookers', 3, 3, 'looks only']]
    """
    trials = as_trials(trials)
    if also is not None and not isinstance(also, Mapping):
        raise InputError("also is trials without a name; give a mapping, such as {'counting': …}")
    others = {name: as_trials(more) for name, more in (also or {}).items()}
    target = corrupted(trials, target)
    seed = whole_number("seed", seed, least=0)
    check_trials(trials, source, target)
    for more in others.values():
        check_trials(more, source, task_of(more).corrupted)
    plan = design(model, lists, source, target, positions, random_lists, seed)
    restored, silenced = plan.restored(), plan.silenced(model)
    themselves = {
        variant: edits for variant, edits in restored.items() if variant.of and variant.number == 0
    }
    in_target, in_source, attention, *elsewhere = yield [
        _patched(trials, restored, target),
        _patched(with_partners(trials, source, target, seed), silenced, source),
        AttentionShares(tuple(trials), source, ("image", *_places(trials, source))),
        *(_patched(more, themselves, task_of(more).corrupted) for more in others.values()),
    ]
    effects = Effects.of(trials, plan, (in_target, list(restored)), (in_source, list(silenced)))
    rows = [*_of_lists(plan, effects), *_of_heads(plan, effects)]
    rows += _of_looks(trials, plan, effects, attention)
    for (name, more), frame in zip(others.items(), elsewhere):
        rows += _elsewhere(name, more, frame, list(themselves), source)
    return _frame(rows, plan)


def _patched(trials, runs, condition):
    """Runs as a measurement; the variants are named by number, in the order of ``runs``."""
    return PatchedEdits.of(
        trials, {str(place): edits for place, edits in enumerate(runs.values())}, condition
    )


def _frame(rows, plan):
    """The rows as `audit` returns them, with q values over all lists' ranks of one measure."""
    frame = pd.DataFrame(rows).reindex(columns=list(COLUMNS))
    types = dict.fromkeys(("layer", "head", "random_lists"), "Int64") | {"decidable": "boolean"}
    frame = frame.astype(types)
    frame["positions"], frame["source"], frame["target"] = (
        label_of(plan.positions),
        plan.source,
        plan.target,
    )
    ranked = frame["layer"].isna() & frame["p_value"].notna()
    for _, ranks in frame[ranked].groupby("measure", sort=False):
        frame.loc[ranks.index, "q_value"] = benjamini_hochberg(ranks["p_value"].to_numpy())
    return frame


def _of_lists(plan: Design, effects: Effects) -> Iterator[dict]:
    """Rows for what lists restore, lose, keep, and answer."""
    halves = {"first": effects.part(slice(0, None, 2)), "second": effects.part(slice(1, None, 2))}
    for name, several in plan.lists.items():

        def runs(measure, name=name, several=several):
            return [Variant(name, measure, number) for number in range(len(several))]

        for measure in ("restored", *SILENCED, "alone"):
            gained = effects.difference[runs(measure)]
            # A list alone keeps what it does not lose.
            gained = gained.rsub(effects.gap, axis=0) if measure == "alone" else gained
            yield _list_row(name, measure, "fraction", *_fractions(gained, effects))
        for half, part in halves.items():
            if len(part.gap) > 1:
                gained = part.difference[runs("restored")]
                yield _list_row(
                    name, f"restored, {half} half", "fraction", *_fractions(gained, part)
                )
        for measure, run in (("right when silenced", "lost (mean)"), ("right when alone", "alone")):
            right = effects.right[runs(run)]
            yield _list_row(name, measure, "share", right, *_share_interval(right.iloc[:, 0]))


def _share_interval(right):
    """The exact interval of a share; if clusters of several trials are partly right, the t
    interval."""
    values = right.to_numpy(dtype=float)
    if np.isin(values, (0, 1)).all():
        ends = binomtest(int(values.sum()), len(values)).proportion_ci()
        return ends.low, ends.high
    return tuple(float(np.clip(end[0], 0, 1)) for end in t_interval(values[:, None]))


def _fractions(gained, effects):
    """Gains as fractions of the mean gap, and the interval of the first column's mean."""
    _, low, high = restored_fraction(gained.iloc[:, :1], effects.gap, effects.labels)
    return gained / effects.gap.mean(), low[0], high[0]


def _list_row(name, measure, unit, each, low, high):
    """A list's row; ``each``: its column, then one for every random list, a row per trial."""
    value, *random = each.to_numpy(dtype=float).mean(0)
    drawn = np.quantile(random, [0.025, 0.975]) if random else (np.nan, np.nan)
    sign = -1 if measure in SMALL else 1
    # Lists that do the same differ by rounding.
    slack = ROUNDING * max(map(abs, (value, *random)))
    return {
        "list": name,
        "measure": measure,
        "unit": unit,
        "value": value,
        "ci_low": low,
        "ci_high": high,
        "random_mean": np.mean(random) if random else np.nan,
        "random_low": drawn[0],
        "random_high": drawn[1],
        "random_lists": len(random),
        "decidable": decidable(len(random)),
        "p_value": rank_p(sign * value, [sign * other for other in random], slack),
        "n": len(each),
    }


def _elsewhere(also, trials, frame, variants, source):
    """Rows for what lists restore on other trials; without a value if these have no gap."""
    target = task_of(trials).corrupted
    before, after, patched = (
        logit_difference(frame, trials, source, target, f"{run}_logit")
        for run in ("source", "target", "patched")
    )
    before, after = before.iloc[:, 0], after.iloc[:, 0]
    right = source_words(trials, source)
    plays = bool(shown_to_fall(before, after))
    gap, _ = observed((before - after).to_frame("gap"), trials, right)
    gained, labels = observed(patched.sub(after, axis=0), trials, right)
    falls = gap["gap"].to_numpy()
    for number, variant in enumerate(variants):
        gain = gained[[str(number)]]
        low, high = restored_fraction(gain, falls, labels)[1:] if plays else ([np.nan], [np.nan])
        each = gain / falls.mean() if plays else gain * np.nan
        yield _list_row(variant.of, f"restored: {also}", "fraction", each, low[0], high[0])


def _of_heads(plan: Design, effects: Effects) -> Iterator[dict]:
    """Rows for the effects of single heads on the difference and on every word."""
    for role, moved in ((None, effects.difference), *effects.words.items()):
        scale = effects.gap.mean() if role is None else effects.fall
        # The difference is given as a fraction of its gap.
        unit = scale if role is None else 1.0
        least = float(least_effect(scale))
        for measure in ("restored", *SILENCED):
            each = moved[[Variant(None, measure, head) for head in plan.heads]].to_numpy()
            low, high = t_interval(each, effects.labels)
            larger = [t_p(sign * each - least, "greater", effects.labels) for sign in (1, -1)]
            columns = dict(
                value=each.mean(0) / unit,
                ci_low=low / unit,
                ci_high=high / unit,
                p_value=np.minimum(1, 2 * np.minimum(*larger)),
                p_absent=mostly_p(np.abs(each) <= least, [effects.labels]),
            )
            about = {
                "measure": measure,
                "word": role,
                "unit": "fraction" if role is None else "logits",
                "least": least / unit,
                "n": len(each),
            }
            yield from _head_rows(plan, columns, about)


def _of_looks(trials, plan: Design, effects: Effects, attention) -> Iterator[dict]:
    """Rows for where lists and heads look in the source picture."""
    right = source_words(trials, plan.source)

    def table(at, value="value"):
        rows = attention[attention["at"] == at]
        wide = rows.pivot(index="trial", columns=["layer", "head"], values=value)
        return observed(wide.loc[[trial.name for trial in trials]], trials, right)[0]

    picture = table("image")
    places = [
        place for place in attention["at"].cat.categories if place not in ("image", "entropy")
    ]
    # The baseline of the picture is the average of the model's heads; that of a place is an even
    # spread over the prompt, or over the picture of what the head gives the picture. Entropy has
    # none.
    usual = {"picture": picture.mean(axis=1).to_numpy()[:, None], "entropy": None}
    for place in places:
        evenly = table(place, "even")
        usual[place] = np.maximum(evenly, picture * (evenly / table("image", "even")))
    looks = {"picture": picture, **{place: table(place) for place in places}}
    for measure, wide in {**looks, "entropy": table("entropy")}.items():
        unit = "nats" if measure == "entropy" else "share"
        for name, several in plan.lists.items():
            each = pd.concat(
                [wide[list(map(tuple, heads))].mean(axis=1) for heads in several], axis=1
            )
            low, high = t_interval(each.iloc[:, :1].to_numpy(), effects.labels)
            yield _list_row(name, measure, unit, each, low[0], high[0])
        of_heads = list(map(tuple, plan.heads))
        values = wide[of_heads].to_numpy()
        low, high = t_interval(values, effects.labels)
        columns = dict(value=values.mean(0), ci_low=low, ci_high=high)
        if usual[measure] is not None:
            more = (wide - usual[measure])[of_heads].to_numpy() - ROUNDING
            columns["p_value"] = t_p(more, "greater", effects.labels)
        yield from _head_rows(plan, columns, {"measure": measure, "unit": unit, "n": len(wide)})


def _places(trials, source):
    """The places in the picture that all trials mark: the tile, and boxes by name."""
    boxes = [trial.boxes.get(source, {}) for trial in trials]
    shared = [name for name in boxes[0] if all(name in own for own in boxes)]
    return (*(["tile"] if all(trial.tile is not None for trial in trials) else []), *shared)


def _head_rows(plan, columns, about):
    """A row per list and head; ``columns``: an entry per head of the plan."""
    for name, (heads, *_) in plan.lists.items():
        for head in heads:
            place = plan.heads.index(head)
            numbers = {column: values[place] for column, values in columns.items()}
            yield {"list": name, "layer": head[0], "head": head[1], **about, **numbers}
