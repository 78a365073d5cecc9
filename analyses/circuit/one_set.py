"""The tests of one set of heads, compared with random sets.

There are three ablations, because a head with a stand-in shows only in some. **Mean** removes what
differs between trials. **Zero** removes everything, including what is the same in every picture,
and is a state that the model is never in: a stand-in that waits for silence then acts.
**Resampling** gives each trial what the heads do in another trial's source picture: a state that
the model knows, with another answer. If the three agree, C is as needed as they say; if they
differ, look for a stand-in.

**Random sets** are all different and drawn from outside C. C is compared with them by its rank: p =
(1 + how many restore as much as C, or leave as little) / (1 + sets). The sets are the replicates of
such a test, so p is never below 1 / (1 + sets), however many trials there are; if that is above
0.05, the test cannot decide whether C is better than other heads of its layers.

**Partial necessity** is this rank, for what is left under resampling.

**Independence** has a p value for the independence of m and what is left of it
(`rgb_circuit.statistics.independence_p`), also under resampling: the mean would leave a trace of
C's own output. Here a *small* p speaks against C, since something outside C then plays the game
too. A large p alone shows nothing: m must differ between trials, by more than rounding (else p is
1), and trials must be many. Nor does p say how much is left of m; the faithfulness in the same row
does. The p values are not corrected for one another.

The mean of mean ablation is taken over the *source* runs of all trials. With balanced trials it
removes which colour and which place a trial shows, and keeps what all trials share, so the ablated
run still has an odd tile. The mean over target runs would also turn "there is an odd tile" into
"there is none". With n trials, 1/n of a head's own output remains in the mean.
"""

from collections.abc import Sequence
from math import factorial

import numpy as np
import pandas as pd

from rgb_circuit import Edit, InputError, Trial, Vlm
from rgb_circuit.calls.patching import PatchedEdits
from rgb_circuit.edits import check_heads
from rgb_circuit.measuring.measure import stepwise
from rgb_circuit.measuring.measurement import Steps
from rgb_circuit.statistics import ROUNDING, decidable, independence_p, rank_p
from rgb_circuit.stimuli.replicates import check_enough, observed, with_trials
from rgb_circuit.stimuli.tasks import corrupted
from rgb_circuit.trial import as_trials

from .faithfulness import (
    as_draws,
    check_trials,
    held_heads,
    isolating_edits,
    logit_difference,
    restored_fraction,
    shown_gap,
    source_words,
)
from .resampling import RESAMPLED, with_partners

# Test → how the circuit's heads are ablated.
NECESSITY = {"necessity": "mean", "necessity (zero)": "zero", "necessity (resampling)": RESAMPLED}


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
    """Sufficiency, isolation, necessity and minimality of a set of heads, compared with random
    sets.

    Random sets have as many heads in each layer as the circuit, drawn from outside it if the layer
    has enough. All are different, so there can be fewer than ``random_sets``. For minimality each
    of up to ``random_sets`` other heads of its layer, from outside the circuit, replaces the
    left-out head.

    Args:
        heads: the circuit's (layer, head) pairs.
        source: condition in which the circuit works.
        target: the corrupted condition; by default the task's, in the game "erased".
        random_sets: the largest number of random sets to draw.
        seed: of the random sets, of the pictures given to each trial for resampling (`partners`),
            and of the orders of trials behind the p value of independence.
        progress: show a bar when it takes longer than two seconds.

    Returns:
        A row per test, for minimality per head: ``test`` ("sufficiency", "isolation", "necessity"
        (mean ablation), "necessity (zero)", "necessity (resampling)", "partial necessity",
        "independence", "minimality"), ``ablation`` ("mean", "zero" or "resampling", if the test
        ablates, else missing), ``layer, head`` (the head left out, else missing), ``size`` (heads
        in the tested set), ``source, target, faithfulness`` (restored fraction), ``ci_low,
        ci_high`` (95 % interval over trials), ``random_mean, random_low, random_high`` (mean and
        central 95 % over the random sets' faithfulness; missing if there are none to draw),
        ``random_sets`` (their number), ``p_value`` (of independence; otherwise the circuit's rank
        among the random sets, missing for minimality and without a random set), ``n`` (trials, or
        clusters), ``decidable`` (whether p could be 0.05 or less with that many random sets, or
        orders of trials; missing where p is). Partial necessity and independence use the run of
        "necessity (resampling)" and repeat its faithfulness.

    Raises:
        InputError: before any forward, a head or condition that does not exist, fewer than two
            trials, too few clusters (`rgb_circuit.stimuli.replicates`), trials that do not say
            which answer they expect, or that all expect the same word, which a mean and another
            trial's output would keep; after it, a model whose logit difference is not shown to be
            larger in the source run than in the target run.

    Examples:
        >>> from analyses.circuit import circuit
        >>> planted = rgb.load("planted")
        >>> extractors = [(3, 0), (3, 2), (4, 1), (4, 3)]
        >>> frame = circuit(planted, rgb.rgb_trials(planted, 6), extractors, random_sets=3)
        >>> enough = frame[frame["test"] == "sufficiency"]
        >>> enough[["faithfulness", "random_mean"]].round(2).values.tolist()
        [[1.08, -0.08]]
    """
    trials = as_trials(trials)
    target = corrupted(trials, target)
    if RESAMPLED in (source, target):
        raise InputError(
            f"a condition is named {RESAMPLED!r}, which means another trial's picture here; rename "
            "it"
        )
    check_trials(trials, source, target)
    check_enough(trials)
    words = {trial.answers[trial.expected[source]] for trial in trials}
    if len(words) == 1:
        raise InputError(
            f"every trial's answer to {source!r} is {words.pop()!r}, so mean and resampling "
            "ablation would leave it in place; use trials whose answers differ (zero ablation "
            "alone needs none: patch_edits with Edit(layer, head, 'zero'))"
        )
    heads = _heads(model, heads)
    random_sets, seed = as_draws(random_sets, seed)
    paired = with_partners(trials, source, target, seed)

    restored, working = _variants(model, heads, source, target, random_sets, seed)
    in_target, in_source = yield [
        PatchedEdits.of(trials, restored, target),
        PatchedEdits.of(paired, working, source),
    ]
    return _tests(trials, heads, in_target, in_source, source, target, seed)


def _heads(model, heads):
    heads = check_heads(model, heads)
    if not heads:
        raise InputError("the circuit is empty; name at least one (layer, head)")
    return heads


def sets_like(
    model: Vlm, heads: Sequence[tuple[int, int]], most: int, rng: np.random.Generator
) -> list[list[tuple[int, int]]]:
    """Up to ``most`` different sets like ``heads`` (`_random_set`), never the circuit itself."""
    sets = {}
    # If few sets exist, the same ones are drawn again and again.
    for _ in range(20 * most):
        chosen = tuple(sorted(_random_set(model, heads, rng)))
        if chosen != tuple(sorted(heads)):
            sets[chosen] = None
        if len(sets) == most:
            break
    return [list(chosen) for chosen in sets]


def _random_set(model, heads, rng):
    """As many heads in each layer as ``heads`` has there, from outside it if the layer has
    enough."""
    chosen = []
    for layer in sorted({layer for layer, _ in heads}):
        inside = [head for head in heads if head[0] == layer]
        outside = [(layer, index) for index in range(model.n_heads) if (layer, index) not in inside]
        drawn = [
            group[index] for group in (outside, inside) for index in rng.permutation(len(group))
        ]
        chosen += drawn[: len(inside)]
    return chosen


def _variants(model, heads, source, target, random_sets, seed):
    """The edits of `circuit` in the target run, and in the source run: "test: set" → edits."""
    rng = np.random.default_rng(seed)
    sets = {"circuit": heads} | {
        f"random {index}": chosen
        for index, chosen in enumerate(sets_like(model, heads, random_sets, rng))
    }
    restored = {
        f"sufficiency: {name}": restored_alone(model, chosen, source, target)
        for name, chosen in sets.items()
    }
    held = held_heads(model, target)
    working = {
        f"isolation: {name}": isolating_edits(held, chosen, source) for name, chosen in sets.items()
    }
    for test, instead in NECESSITY.items():
        working |= {
            f"{test}: {name}": [Edit(layer, head, instead) for layer, head in chosen]
            for name, chosen in sets.items()
        }
    for head in heads:
        rest = [other for other in heads if other != head]
        swaps = [
            (head[0], index) for index in range(model.n_heads) if (head[0], index) not in heads
        ]
        swaps = [swaps[index] for index in rng.permutation(len(swaps))[:random_sets]]
        working[f"minimality {head}: circuit"] = isolating_edits(held, rest, source)
        working |= {
            f"minimality {head}: {swap}": isolating_edits(held, [*rest, swap], source)
            for swap in swaps
        }
    return restored, working


def _tests(trials, heads, in_target, in_source, source, target, seed):
    """The table of `circuit`, from the frames of the patched runs."""
    runs = [
        logit_difference(frame, trials, source, target, "target_logit").iloc[:, 0].rename(name)
        for frame, name in ((in_target, "target"), (in_source, "source"))
    ]
    patched = [logit_difference(frame, trials, source, target) for frame in (in_target, in_source)]
    of_trials = pd.concat([*runs, *patched], axis=1)
    table, words = observed(of_trials, trials, source_words(trials, source))
    m_target, m_source = table.pop("target"), table.pop("source")
    gap = shown_gap(m_source, m_target, source, target)
    gained = table.sub(m_target, axis=0)

    def of(test):
        chosen = gained.loc[:, gained.columns.str.startswith(f"{test}: ")]
        return chosen.rename(columns=lambda name: name.removeprefix(f"{test}: "))

    resampled = of("necessity (resampling)")
    left = resampled["circuit"] + m_target
    alone = resampled[["circuit"]]
    rows = [
        *(
            _row(test, of(test), gap, words, p=_rank(of(test)))
            for test in ("sufficiency", "isolation")
        ),
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
        _row(
            "partial necessity", resampled, gap, words, ablation="resampling", p=_rank(-resampled)
        ),
        _row(
            "independence",
            alone,
            gap,
            words,
            ablation="resampling",
            p=_independence(m_source, left, seed),
        ),
        *(_row("minimality", of(f"minimality {head}"), gap, words, head=head) for head in heads),
    ]
    frame = pd.DataFrame(rows).astype({"layer": "Int64", "head": "Int64"})
    frame.insert(4, "size", len(heads) - frame["layer"].notna())
    frame.insert(5, "source", source)
    frame.insert(6, "target", target)
    frame["n"] = n = len(gained)
    # Among all orders of n trials p is at least 1 / n!; ten trials have more orders than any
    # request.
    orders = factorial(min(n, 10)) - 1
    replicates = frame["random_sets"].where(frame["test"] != "independence", orders)
    frame["decidable"] = pd.array([decidable(number) for number in replicates], dtype="boolean")
    frame = frame.assign(decidable=frame["decidable"].mask(frame["p_value"].isna()))
    return with_trials(frame, len(of_trials))


def _rank(of_sets):
    """`rank_p` of the circuit among random sets, of means over trials; (trials, sets)."""
    means = of_sets.mean()
    # Sets that do the same differ by rounding.
    return rank_p(means["circuit"], means.drop("circuit"), ROUNDING * means.abs().max())


def _independence(m_source, left, seed):
    """p value for independence of the source run's logit difference and what is left of it,
    (trials,) each."""
    rounding = ROUNDING * max(m_source.abs().max(), left.abs().max())
    if min(np.ptp(m_source), np.ptp(left)) <= rounding:
        return 1.0
    return independence_p(m_source.to_numpy(), left.to_numpy(), seed)


def restored_alone(
    model: Vlm, heads: Sequence[tuple[int, int]], source: str, target: str
) -> list[Edit]:
    """Edits of the target run: ``heads`` from the source, all others held."""
    return [
        Edit(layer, head, source if (layer, head) in heads else target)
        for layer, head in model.heads()
    ]


def _row(test, gained, gap, words, *, ablation=None, head=None, p=np.nan):
    """One row of `circuit`; ``gained`` has the column "circuit" and one per random set."""
    faithfulness, low, high = (
        values[0] for values in restored_fraction(gained[["circuit"]], gap, words)
    )
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
