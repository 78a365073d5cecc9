"""The order of heads by importance, and how faithful circuits of the first ones are."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rgb_circuit import InputError, Trial, Vlm
from rgb_circuit.calls.patching import PatchedEdits, PatchedHeads
from rgb_circuit.edits import check_heads
from rgb_circuit.heads import Head
from rgb_circuit.measuring.measure import stepwise
from rgb_circuit.measuring.measurement import Steps
from rgb_circuit.stimuli.replicates import observed, with_trials
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

# Circuit sizes of the MIB benchmark, as shares of all heads; small circuits are measured at every
# size.
SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
EVERY_SIZE_UP_TO = 16


@stepwise(stage="patching")
def ranked(
    model: Vlm,
    trials: Sequence[Trial],
    *,
    source: str = "clean",
    target: str | None = None,
    progress: bool = True,
) -> Steps[pd.DataFrame]:
    """All heads, the most important first. The score is the larger of two numbers: the loss of
    logit difference when the head alone gets its target z (noising), and the gain when it alone
    gets its source z (denoising).

    Each direction misses something. Noising shows senders, whose receivers see a corrupted picture
    when only the sender is restored; it misses a head that another replaces as soon as it is
    silent. Denoising shows that head, and no senders. The larger of the two keeps whatever either
    shows; their mean would put such a head behind one that does half as much in both.
    Args:
        source, target, progress: as in `circuit`.

    Returns:
        A row per head, sorted: ``layer, head, score`` (the larger of the next two), ``noising``
        (fall of the logit difference in the source run), ``denoising`` (its rise in the target
        run), each a mean over trials in logits, ``n``.

    Raises:
        InputError: as `circuit`, before any forward.

    Examples:
        >>> from analyses.circuit import ranked
        >>> ranked(model, trials)[["layer", "head"]].head(3).values.tolist()
        [[3, 2], [3, 1], [3, 3]]
    """
    trials = as_trials(trials)
    target = corrupted(trials, target)
    check_trials(trials, source, target)
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
    """Faithfulness (isolation) of circuits of growing size, the first heads of a ranking, compared
    with random sets.

    Sizes are all up to 16, then those of the MIB benchmark (shares of all heads), from none to all.
    A ranking made from the same trials flatters the curve; rank on others. Random sets are the
    first heads of random rankings of all heads.

    Args:
        ranking: every (layer, head) of the model once, the most important first:
            ``ranked(...)[["layer", "head"]].values``.
        source, target, random_sets, seed, progress: as in `circuit`.

    Returns:
        A row per size: ``size, share`` (of all heads), ``layer, head`` (the last head of the
        circuit), ``source, target, faithfulness, ci_low, ci_high`` (95 % interval over trials),
        ``random_mean, random_low, random_high`` (mean and central 95 % over the random sets),
        ``n``.

    Raises:
        InputError: as `circuit`, or a ranking that is not every head once.
    """
    trials = as_trials(trials)
    target = corrupted(trials, target)
    check_trials(trials, source, target)
    random_sets, seed = as_draws(random_sets, seed)
    given, ranking = ranking, check_heads(model, ranking, "ranking")
    if len(given) > len(ranking) or sorted(ranking) != model.heads():
        raise InputError(
            f"the ranking holds {len(given)} heads, {len(ranking)} different ones, but "
            f"{model.name} has "
            f"{len(model.heads())}; rank each head of the model once, as ranked(model, trials) does"
        )
    sizes = sorted(
        {
            *range(min(EVERY_SIZE_UP_TO, len(ranking)) + 1),
            *(round(share * len(ranking)) for share in SHARES),
        }
    )
    rng = np.random.default_rng(seed)
    rankings = [
        ranking,
        *([ranking[index] for index in rng.permutation(len(ranking))] for _ in range(random_sets)),
    ]
    held = held_heads(model, target)
    # The empty circuit and the whole one, in a small model others too, are the same in several
    # rankings.
    names: dict[frozenset[Head], str] = {}
    named = [
        [names.setdefault(frozenset(chosen[:size]), f"{number} {size}") for size in sizes]
        for number, chosen in enumerate(rankings)
    ]
    variants = {name: isolating_edits(held, sorted(kept), source) for kept, name in names.items()}
    [frame] = yield [PatchedEdits.of(trials, variants, source)]
    m_source = logit_difference(frame, trials, source, target, "target_logit").iloc[:, 0]
    # The empty circuit restores every head from the target picture, so its source logit is that of
    # the target run.
    m_target = logit_difference(frame, trials, source, target, "source_logit")["0 0"]
    gained = logit_difference(frame, trials, source, target)
    of_trials = gained.assign(target=m_target, source=m_source)
    table, words = observed(of_trials, trials, source_words(trials, source))
    m_target, m_source = table.pop("target"), table.pop("source")
    gap = shown_gap(m_source, m_target, source, target)
    gained = table.sub(m_target, axis=0)
    faithfulness, low, high = restored_fraction(gained[named[0]], gap, words)
    random = np.stack([gained[drawn].to_numpy().mean(0) for drawn in named[1:]]) / gap.mean()
    random_low, random_high = np.quantile(random, [0.025, 0.975], axis=0)
    last = [(None, None), *ranking]
    frame = pd.DataFrame(
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
            "n": len(gained),
        }
    )
    return with_trials(frame, len(of_trials))


def areas(frame: pd.DataFrame) -> pd.DataFrame:
    """Circuit performance ratio and circuit–model distance of a `curve`.

    Returns:
        One row: ``cpr`` (area under faithfulness over the share of heads kept, trapezoids; high if
        few heads do much), ``cmd`` (area between faithfulness and 1; 0 if every circuit behaves
        like the model), ``n``.
    """
    share, faithfulness = frame["share"], frame["faithfulness"]
    cpr, cmd = np.trapezoid(faithfulness, share), np.trapezoid((1 - faithfulness).abs(), share)
    return pd.DataFrame([{"cpr": float(cpr), "cmd": float(cmd), "n": int(frame["n"].iloc[0])}])


def _ranking(trials, noised, denoised, source, target):
    """The table of `ranked`, from the frames of the patched runs."""
    directions = {}
    for name, frame, sign in (("noising", noised, -1), ("denoising", denoised, 1)):
        frame = frame.assign(variant=list(zip(frame["layer"], frame["head"])))
        moved = sign * logit_difference(frame, trials, source, target, "effect")
        by_cluster, _ = observed(moved, trials, source_words(trials, source))
        directions[name] = by_cluster.mean()
    table = pd.DataFrame(directions)
    table.insert(0, "score", table.max(axis=1))
    table = table.sort_values("score", ascending=False, kind="stable")
    layer, head = zip(*table.index)
    table.insert(0, "layer", layer)
    table.insert(1, "head", head)
    table = table.reset_index(drop=True).assign(n=len(by_cluster))
    return with_trials(table, len(trials))
