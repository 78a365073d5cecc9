"""Is a set of heads enough to play the game, and is each of them needed?

A circuit is a set C of heads at [end]. Everything is measured on the logit difference m = right answer of the
source picture (odd) − right answer of the target picture, as the restored fraction, called faithfulness: f =
(m(run) − m(target)) / (m(source) − m(target)), means over trials: 0 is the target run, 1 the source run.

- **sufficiency**: in the target run, C's z are restored from the source run and every other head is held at
  the target's. Is what C *writes* enough?
- **isolation**: in the source run, every head outside C is given its target z, and C works by itself. Is what
  C *computes* enough? A sender whose receivers are in C counts here only: sufficiency hands the receivers
  their finished output. This is the faithfulness of the MIB benchmark, with heads at [end] as the units.
- **necessity**: in the source run, C is ablated, everything else is free. 0 if nothing replaces C.
- **partial necessity**: does ablating C hurt more than ablating sets of heads from outside it?
- **independence**: with C ablated, does m still follow from trial to trial what it is in the source run?
- **minimality**: isolation with one head left out of C; a head that is needed makes it fall.

There are three ablations, because a head that another stands in for shows in some only. **Mean** takes away
what differs between trials. **Zero** takes away everything, also what is the same in every picture, and is no
state that the model is ever in: a stand-in that waits for silence then speaks. **Resampling** gives each
trial what the heads do in another trial's source picture: a state that the model knows, in which they say
something else. Where the three agree, C is as needed as they say; where they differ, look for a stand-in.

**Random sets** are drawn from outside C and all different, and C is compared with them by its rank: p = (1 +
how many restore as much as C, or leave as little) / (1 + sets). The sets are the replicates of such a test,
so p is never below 1 / (1 + sets), however many trials there are; where that is above 0.05, it is not
decidable whether C is better than other heads of its layers.

**Partial necessity** is this rank of what is left, under resampling.

**Independence** has p of the two being independent (`rgb_circuit.statistics.independence_p`), also under
resampling: the mean would leave a trace of C's own output. Here a *small* p speaks against C, since something
outside C then plays the game too. A large one alone shows nothing: m must differ between trials, by more than
rounding (else p is 1), and trials must be many. Nor does p say by how much: that is what is left of m, which
stands beside it. The p values are not corrected for one another.

Faithfulness is a quotient over the gap m(source) − m(target), so a gap that is not shown to be positive on
these trials (`rgb_circuit.statistics.shown_to_fall`) is refused: there is nothing to be faithful to. Its
interval is that of a ratio of means (`rgb_circuit.statistics.ratio_interval`) within the words that are
right for the source picture.

The mean of mean ablation is taken over the *source* runs of all trials. With balanced trials it takes away
which colour and which place this trial shows and keeps what all trials share, so that the ablated run is
still one with an odd tile; the mean over target runs would also turn "there is an odd tile" into "there is
none". Of n trials, 1/n of a head's own output remains in the mean.

Earlier positions are never touched: what heads do there belongs to all of these runs alike.

Source: Mueller et al. 2025, MIB (arXiv 2504.13151) for faithfulness and its areas CPR and CMD; Wang et al.
2022 (arXiv 2211.00593) for minimality and mean ablation; Shi et al. 2024 (arXiv 2410.13032) for random
circuits as control, partial necessity and independence. They ask of partial necessity by a binomial test
whether C beats 90 % of random circuits, which takes 29 of them; here its rank among them is the p value.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import factorial

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from rgb_circuit import Edit, InputError, Trial, Vlm
from rgb_circuit.edits import check_heads
from rgb_circuit.heads import Head
from rgb_circuit.measure import stepwise
from rgb_circuit.measurement import Steps
from rgb_circuit.patching import PatchedEdits, PatchedHeads
from rgb_circuit.statistics import (
    ROUNDING,
    decidable,
    independence_p,
    rank_p,
    ratio_interval,
    shown_to_fall,
)
from rgb_circuit.tasks import task_of
from rgb_circuit.trial import as_trials

# The condition that holds another trial's source picture.
RESAMPLED = "resampled"
# Test → what ablates the circuit's heads.
NECESSITY = {"necessity": "mean", "necessity (zero)": "zero", "necessity (resampling)": RESAMPLED}

# Circuit sizes of the MIB benchmark, as shares of all heads; small circuits are measured at every size.
SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
EVERY_SIZE_UP_TO = 16


@stepwise(stage="patching")
def circuit(
    model: Vlm,
    trials: Sequence[Trial],
    heads: Sequence[tuple[int, int]],
    *,
    source: str = "clean",
    target: str | None = None,
    random_sets: int = 20,
    seed: int = 0,
    progress: bool = True,
) -> Steps[pd.DataFrame]:
    """Sufficiency, isolation, necessity and minimality of a set of heads, beside random sets.

    Random sets have as many heads in each layer as the circuit, drawn from outside it as far as the layer has
    enough; all are different, so that there can be fewer than ``random_sets``. For minimality the left-out
    head is replaced by each of up to ``random_sets`` other heads of its layer from outside the circuit.

    Args:
        heads: the circuit's (layer, head) pairs.
        source: condition in which the circuit works.
        target: condition that is the corrupted one; by default the task's, in the game "erased".
        random_sets: how many random sets are drawn at most.
        seed: of the random sets, of whose picture a trial is given for resampling (`partners`), and of the
            orders of trials behind the p value of independence.
        progress: show a bar when it takes longer than two seconds.

    Returns:
        A row per test, for minimality per head: ``test`` ("sufficiency", "isolation", "necessity" (mean
        ablation), "necessity (zero)", "necessity (resampling)", "partial necessity", "independence",
        "minimality"), ``ablation`` ("mean", "zero" or "resampling" where the test has one, else missing),
        ``layer, head`` (the head left out, else missing), ``size`` (heads in the tested set), ``source,
        target, faithfulness`` (restored fraction), ``ci_low, ci_high`` (95 % interval over trials),
        ``random_mean, random_low, random_high`` (mean and central 95 % over the random sets' faithfulness;
        missing where there is none to draw), ``random_sets`` (how many they are), ``p_value`` (of
        independence; elsewhere the circuit's rank among the random sets, missing for minimality and without a
        random set), ``n`` (trials), ``decidable`` (whether p could be 0.05 or less with so many random sets,
        or so many orders of trials; missing where p is). Partial necessity and independence ask about the run
        of "necessity (resampling)" and repeat its faithfulness.

    Raises:
        InputError: before any forward, a head or condition that does not exist, fewer than two trials, trials
            that do not say which answer they expect, or that all expect the same word, so that a mean and
            another trial's output keep it, or pictures that no other trial has the size of; after it, a model
            whose logit difference is not shown to be larger in the source run than in the target run.

    Examples:
        >>> from analyses.circuit import circuit
        >>> planted = rgb.load("planted")
        >>> extractors = [(3, 0), (3, 2), (4, 1), (4, 3)]
        >>> frame = circuit(planted, rgb.rgb_trials(planted, 6), extractors, random_sets=3)
        >>> enough = frame[frame["test"] == "sufficiency"]
        >>> enough[["faithfulness", "random_mean"]].round(2).values.tolist()
        [[1.08, -0.08]]
    """
    trials, target = _of_task(trials, target)
    if RESAMPLED in (source, target):
        raise InputError(
            f"a condition is named {RESAMPLED!r}, which means another trial's picture here; rename it"
        )
    trials = _checked(trials, source, target)
    words = {trial.answers[trial.expected[source]] for trial in trials}
    if len(words) == 1:
        raise InputError(
            f"every trial's answer to {source!r} is {words.pop()!r}, so mean and resampling ablation would "
            "leave it in place; use trials whose answers differ (zero ablation alone needs none: "
            "patch_edits with Edit(layer, head, 'zero'))"
        )
    heads = _heads(model, heads)
    _check_random(random_sets)
    paired = _given_partners(trials, source, target, seed)

    restored, working = _variants(model, heads, source, target, random_sets, seed)
    in_target, in_source = yield [
        PatchedEdits.of(trials, restored, target),
        PatchedEdits.of(paired, working, source),
    ]
    return _tests(model, trials, heads, in_target, in_source, source, target, seed)


def partners(trials: Sequence[Trial], source: str, target: str, seed: int = 0) -> list[int]:
    """Whose source picture each trial is given for resampling: every trial's is given once, and none to
    itself.

    Pairs are drawn at random among those that leave the fewest trials with what was to be taken away: a
    partner whose right answer is one of the two words that are compared, or else whose tile is at the same
    place.

    Returns:
        The partner's index, per trial.

    Raises:
        InputError: pictures of different sizes, so that not every trial has a partner of its own.
    """
    rng = np.random.default_rng(seed)
    cost = rng.random((len(trials), len(trials)))
    for row, trial in enumerate(trials):
        compared = {trial.answers[trial.expected[condition]] for condition in (source, target)}
        for column, other in enumerate(trials):
            if row == column or trial.size != other.size:
                cost[row, column] = np.inf
            # One word more is worse than all that chance and places can add up to.
            elif other.answers[other.expected[source]] in compared:
                cost[row, column] += 4 * len(trials) ** 2
            elif trial.tile is not None and trial.tile == other.tile:
                cost[row, column] += 2 * len(trials)
    try:
        return linear_sum_assignment(cost)[1].tolist()
    except ValueError:
        raise InputError(
            f"the {source!r} pictures have different sizes, so that resampling cannot give each trial "
            "another's; use trials of one size"
        ) from None


@stepwise(stage="patching")
def ranked(
    model: Vlm,
    trials: Sequence[Trial],
    *,
    source: str = "clean",
    target: str | None = None,
    progress: bool = True,
) -> Steps[pd.DataFrame]:
    """All heads, the most important first: the larger of how much of the logit difference goes when one head
    alone gets its target z (noising), and of how much comes when it alone gets its source z (denoising).

    Each direction is blind to something. Noising shows senders, whose receivers see a corrupted picture when
    a sender alone is restored; it does not show a head that another stands in for as soon as it is silent.
    Denoising shows that head, and no senders. The larger of the two keeps what either has shown, where their
    mean would put each of these behind a head of half their work that shows in both.

    Args:
        source, target, progress: as in `circuit`.

    Returns:
        A row per head, sorted: ``layer, head, score`` (the larger of the next two), ``noising`` (fall of the
        logit difference in the source run), ``denoising`` (its rise in the target run), each a mean over
        trials in logits, ``n``.

    Raises:
        InputError: as `circuit`, before any forward.

    Examples:
        >>> from analyses.circuit import ranked
        >>> ranked(model, trials)[["layer", "head"]].head(3).values.tolist()
        [[3, 2], [3, 1], [3, 3]]
    """
    trials, target = _of_task(trials, target)
    trials = _checked(trials, source, target)
    noised, denoised = yield [
        PatchedHeads.of(model, trials, target, source),
        PatchedHeads.of(model, trials, source, target),
    ]
    return _ranking(trials, noised, denoised, source, target)


@stepwise(stage="patching")
def curve(
    model: Vlm,
    trials: Sequence[Trial],
    ranking: Sequence[tuple[int, int]],
    *,
    source: str = "clean",
    target: str | None = None,
    random_sets: int = 20,
    seed: int = 0,
    progress: bool = True,
) -> Steps[pd.DataFrame]:
    """Faithfulness (isolation) of circuits of growing size: the first heads of a ranking, beside random sets.

    Sizes are all up to 16, then those of the MIB benchmark (shares of all heads), from none to all. A ranking
    made from the same trials flatters the curve; rank on others. Random sets are the first heads of random
    rankings of all heads.

    Args:
        ranking: every (layer, head) of the model once, the most important first: ``ranked(...)[["layer",
            "head"]].values``.
        source, target, random_sets, seed, progress: as in `circuit`.

    Returns:
        A row per size: ``size, share`` (of all heads), ``layer, head`` (the last head of the circuit),
        ``source, target, faithfulness, ci_low, ci_high`` (95 % interval over trials),
        ``random_mean, random_low, random_high`` (mean and central 95 % over the random sets), ``n``.

    Raises:
        InputError: as `circuit`, or a ranking that is not every head once.
    """
    trials, target = _of_task(trials, target)
    trials = _checked(trials, source, target)
    _check_random(random_sets)
    ranking = [Head(int(layer), int(head)) for layer, head in ranking]
    if sorted(ranking) != model.heads():
        raise InputError(
            f"the ranking holds {len(ranking)} heads, {len(set(ranking))} different ones, but {model.name} "
            "has "
            f"{len(model.heads())}; rank each head of the model once, as ranked(model, trials) does"
        )
    sizes = sorted(
        {*range(min(EVERY_SIZE_UP_TO, len(ranking)) + 1), *(round(share * len(ranking)) for share in SHARES)}
    )
    rng = np.random.default_rng(seed)
    rankings = [
        ranking,
        *([ranking[index] for index in rng.permutation(len(ranking))] for _ in range(random_sets)),
    ]
    held = _held(model, target)
    # The empty circuit, the whole one, and in a small model others too are the same in several rankings.
    names: dict[frozenset[Head], str] = {}
    named = [
        [names.setdefault(frozenset(chosen[:size]), f"{number} {size}") for size in sizes]
        for number, chosen in enumerate(rankings)
    ]
    variants = {name: _isolated(held, sorted(kept), source) for kept, name in names.items()}
    [frame] = yield [PatchedEdits.of(trials, variants, source)]
    m_source = _difference(frame, trials, source, target, "target_logit").iloc[:, 0]
    # The empty circuit restores every head from the target picture, so its source logit is the target run's.
    m_target = _difference(frame, trials, source, target, "source_logit")["0 0"]
    gap = _gap(model, m_source, m_target, source, target)
    gained = _difference(frame, trials, source, target).sub(m_target, axis=0)
    faithfulness, low, high = _fraction(gained[named[0]], gap, _words(trials, source, gained.index))
    random = np.stack([gained[drawn].to_numpy().mean(0) for drawn in named[1:]]) / gap.mean()
    random_low, random_high = np.quantile(random, [0.025, 0.975], axis=0)
    last = [(None, None), *ranking]
    return pd.DataFrame(
        {
            "size": sizes,
            "share": np.array(sizes) / len(ranking),
            "layer": pd.array([last[size][0] for size in sizes], dtype="Int64"),
            "head": pd.array([last[size][1] for size in sizes], dtype="Int64"),
            "source": source,
            "target": target,
            "faithfulness": faithfulness,
            "ci_low": low,
            "ci_high": high,
            "random_mean": random.mean(0),
            "random_low": random_low,
            "random_high": random_high,
            "n": len(trials),
        }
    )


def areas(frame: pd.DataFrame) -> pd.DataFrame:
    """Circuit performance ratio and circuit–model distance of a `curve`.

    Returns:
        One row: ``cpr`` (area under faithfulness over the share of heads kept, trapezoids; high where few
        heads do much), ``cmd`` (area between faithfulness and 1; 0 where every circuit behaves as the model
        does), ``n``.
    """
    share, faithfulness = frame["share"], frame["faithfulness"]
    cpr, cmd = np.trapezoid(faithfulness, share), np.trapezoid((1 - faithfulness).abs(), share)
    return pd.DataFrame([{"cpr": float(cpr), "cmd": float(cmd), "n": int(frame["n"].iloc[0])}])


def _of_task(trials: Sequence[Trial], target: str | None) -> tuple[list[Trial], str]:
    """The trials, and the target or their task's corrupted condition."""
    trials = as_trials(trials)
    return trials, target or task_of(trials).corrupted


def _checked(trials, source, target):
    trials = as_trials(trials)
    if len(trials) < 2:
        raise InputError(
            f"there are {len(trials)} trials, and an interval needs 2 or more; use rgb_trials(model, n=32)"
        )
    if source == target:
        raise InputError(
            f"source and target are both {source!r}, so there is nothing to restore; use two conditions"
        )
    for trial in trials:
        for condition in (source, target):
            if condition not in trial.expected:
                raise InputError(
                    f"trial {trial.name!r} does not say which answer is right for {condition!r}; "
                    f"set expected[{condition!r}] to one of its roles"
                )
        if trial.expected[source] == trial.expected[target]:
            raise InputError(
                f"trial {trial.name!r} has the same right answer for {source!r} and {target!r}; use two "
                "whose answers differ"
            )
    return trials


def _check_random(random_sets):
    if random_sets < 1:
        raise InputError(f"random_sets is {random_sets}; draw at least one")


def _heads(model, heads):
    heads = check_heads(model, heads)
    if not heads:
        raise InputError("the circuit is empty; name at least one (layer, head)")
    return heads


def _random_sets(model, heads, most, rng):
    """Up to ``most`` different sets like ``heads`` (`_random_set`), never the circuit itself."""
    found = {}
    # Where few sets exist, the same ones are drawn over and over.
    for _ in range(20 * most):
        chosen = tuple(sorted(_random_set(model, heads, rng)))
        if chosen != tuple(sorted(heads)):
            found[chosen] = None
        if len(found) == most:
            break
    return [list(chosen) for chosen in found]


def _random_set(model, heads, rng):
    """As many heads in each layer as ``heads`` has there, from outside it where the layer has enough."""
    chosen = []
    for layer in sorted({layer for layer, _ in heads}):
        inside = [head for head in heads if head[0] == layer]
        outside = [(layer, index) for index in range(model.n_heads) if (layer, index) not in inside]
        drawn = [group[index] for group in (outside, inside) for index in rng.permutation(len(group))]
        chosen += drawn[: len(inside)]
    return chosen


def _given_partners(trials, source, target, seed):
    """The trials, each with its partner's source picture as a further condition."""
    kept = dict.fromkeys(("clean", source, target))
    return [
        replace(
            trial,
            # Without the other conditions: to be equal to one of those would be nothing to warn of.
            images={name: trial.sources[name] for name in kept} | {RESAMPLED: trials[index].sources[source]},
            expected={condition: trial.expected[condition] for condition in (source, target)},
        )
        for trial, index in zip(trials, partners(trials, source, target, seed))
    ]


def _variants(model, heads, source, target, random_sets, seed):
    """What `circuit` patches in the target run, and in the source run: "test: set" → edits."""
    rng = np.random.default_rng(seed)
    sets = {"circuit": heads} | {
        f"random {index}": chosen for index, chosen in enumerate(_random_sets(model, heads, random_sets, rng))
    }
    restored = {
        f"sufficiency: {name}": _restored(model, chosen, source, target) for name, chosen in sets.items()
    }
    held = _held(model, target)
    working = {f"isolation: {name}": _isolated(held, chosen, source) for name, chosen in sets.items()}
    for test, instead in NECESSITY.items():
        working |= {
            f"{test}: {name}": [Edit(layer, head, instead) for layer, head in chosen]
            for name, chosen in sets.items()
        }
    for head in heads:
        rest = [other for other in heads if other != head]
        swaps = [(head[0], index) for index in range(model.n_heads) if (head[0], index) not in heads]
        swaps = [swaps[index] for index in rng.permutation(len(swaps))[:random_sets]]
        working[f"minimality {head}: circuit"] = _isolated(held, rest, source)
        working |= {f"minimality {head}: {swap}": _isolated(held, [*rest, swap], source) for swap in swaps}
    return restored, working


def _tests(model, trials, heads, in_target, in_source, source, target, seed):
    """The table of `circuit`, from what the patched runs said."""
    m_target = _difference(in_target, trials, source, target, "target_logit").iloc[:, 0]
    m_source = _difference(in_source, trials, source, target, "target_logit").iloc[:, 0]
    gap = _gap(model, m_source, m_target, source, target)
    patched = [_difference(frame, trials, source, target) for frame in (in_target, in_source)]
    gained = pd.concat(patched, axis=1).sub(m_target, axis=0)
    words = _words(trials, source, gained.index)

    def of(test):
        chosen = gained.loc[:, gained.columns.str.startswith(f"{test}: ")]
        return chosen.rename(columns=lambda name: name.removeprefix(f"{test}: "))

    resampled = of("necessity (resampling)")
    left = resampled["circuit"] + m_target
    alone = resampled[["circuit"]]
    rows = [
        *(_row(test, of(test), gap, words, p=_rank(of(test))) for test in ("sufficiency", "isolation")),
        *(
            _row(
                test,
                of(test),
                gap,
                words,
                ablation="resampling" if instead == RESAMPLED else instead,
                p=_rank(-of(test)),
            )
            for test, instead in NECESSITY.items()
        ),
        _row("partial necessity", resampled, gap, words, ablation="resampling", p=_rank(-resampled)),
        _row("independence", alone, gap, words, ablation="resampling", p=_independence(m_source, left, seed)),
        *(_row("minimality", of(f"minimality {head}"), gap, words, head=head) for head in heads),
    ]
    frame = pd.DataFrame(rows).astype({"layer": "Int64", "head": "Int64"})
    frame.insert(4, "size", len(heads) - frame["layer"].notna())
    frame.insert(5, "source", source)
    frame.insert(6, "target", target)
    frame["n"] = len(trials)
    # Among all orders of n trials p is at least 1 / n!, and ten have more of them than anybody asks for.
    orders = factorial(min(len(trials), 10)) - 1
    replicates = frame["random_sets"].where(frame["test"] != "independence", orders)
    frame["decidable"] = pd.array([decidable(number) for number in replicates], dtype="boolean")
    return frame.assign(decidable=frame["decidable"].mask(frame["p_value"].isna()))


def _rank(of_sets):
    """`rank_p` of the circuit among random sets, of means over trials; (trials, sets)."""
    means = of_sets.mean()
    # Sets that do the same differ by rounding.
    return rank_p(means["circuit"], means.drop("circuit"), ROUNDING * means.abs().max())


def _independence(m_source, left, seed):
    """p value of the source run's logit difference and of what is left of it being independent, (trials,)
    each."""
    rounding = ROUNDING * max(m_source.abs().max(), left.abs().max())
    if min(np.ptp(m_source), np.ptp(left)) <= rounding:
        return 1.0
    return independence_p(m_source.to_numpy(), left.to_numpy(), seed)


def _ranking(trials, noised, denoised, source, target):
    """The table of `ranked`, from what the patched runs said."""
    directions = {}
    for name, frame, sign in (("noising", noised, -1), ("denoising", denoised, 1)):
        frame = frame.assign(variant=list(zip(frame["layer"], frame["head"])))
        directions[name] = sign * _difference(frame, trials, source, target, "effect").mean()
    table = pd.DataFrame(directions)
    table.insert(0, "score", table.max(axis=1))
    table = table.sort_values("score", ascending=False, kind="stable")
    layer, head = zip(*table.index)
    table.insert(0, "layer", layer)
    table.insert(1, "head", head)
    return table.reset_index(drop=True).assign(n=len(trials))


def _restored(model, heads, source, target):
    """Edits of the target run: ``heads`` from the source, all others held."""
    return [Edit(layer, head, source if (layer, head) in heads else target) for layer, head in model.heads()]


def _isolated(held, heads, source):
    """Edits of the source run: all but ``heads`` from the target, whose edits are ``held``."""
    kept = set(heads)
    # With every head kept there is nothing to edit; a head's own z stands for that.
    layer, head = heads[0] if heads else (0, 0)
    return [edit for other, edit in held.items() if other not in kept] or [Edit(layer, head, source)]


def _held(model, target):
    """Head → the edit that gives it its target z. Hundreds of variants share them, or they would fill more
    memory than the runs."""
    return {(layer, head): Edit(layer, head, target) for layer, head in model.heads()}


def _difference(frame, trials, source, target, column="patched_logit"):
    """Logit difference, right answer of the source picture − of the target picture: a row per trial, a column
    per variant."""
    right = {trial.name: trial.expected[source] for trial in trials}
    wrong = {trial.name: trial.expected[target] for trial in trials}
    name, role = frame["trial"].astype(str), frame["role"].astype(str)

    def of(wanted):
        rows = frame[role == name.map(wanted)]
        return rows.pivot(index="trial", columns="variant", values=column).astype(float)

    return of(right) - of(wrong)


def _gap(model, m_source, m_target, source, target):
    gap = (m_source - m_target).to_numpy()
    if not shown_to_fall(m_source, m_target):
        raise InputError(
            f"no gap: the logit difference of {model.name} is {m_source.mean():.3g} for {source!r} and "
            f"{m_target.mean():.3g} for "
            f"{target!r} on {len(gap)} trials, which is not shown to be a fall, so there is nothing to "
            "restore; "
            "see with play(model, trials) whether it answers right"
        )
    return gap


def _words(trials, source, names):
    """The right answer to the source picture, in the order of the trials' names."""
    right = {trial.name: trial.answers[trial.expected[source]] for trial in trials}
    return [right[name] for name in names]


def _fraction(gained, gap, words):
    """Mean gain / mean gap with its interval over trials; ``gained`` a row per trial, ``gap`` and ``words``
    (trials,)."""
    values = gained.to_numpy()
    return values.mean(0) / gap.mean(), *ratio_interval(values, gap[:, None], words)


def _row(test, gained, gap, words, *, ablation=None, head=None, p=np.nan):
    """One row of `circuit`; ``gained`` has the column "circuit" and one per random set."""
    faithfulness, low, high = (values[0] for values in _fraction(gained[["circuit"]], gap, words))
    random = gained.drop(columns="circuit").to_numpy().mean(0) / gap.mean()
    spread = np.quantile(random, [0.025, 0.975]) if len(random) else (np.nan, np.nan)
    return {
        "test": test,
        "ablation": ablation,
        "layer": None if head is None else head[0],
        "head": None if head is None else head[1],
        "faithfulness": faithfulness,
        "ci_low": low,
        "ci_high": high,
        "random_mean": random.mean() if len(random) else np.nan,
        "random_low": spread[0],
        "random_high": spread[1],
        "random_sets": len(random),
        "p_value": p,
    }
