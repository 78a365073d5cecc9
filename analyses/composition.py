"""Does one head act through another? Mediation by freezing.

1. Patch the sender S at [end] from the source picture into the target run: its total effect.
2. Patch S and freeze the receiver R at its target run: the effect that does not need R.
3. The difference is mediated by R: mediated = total − frozen.

S is patched at [end] only, so it reaches R only through [end]'s own residual stream. R's reading of
the picture then changes through its query alone: for that reading, this is Q-composition. No
weights are read.

Mediated effects of several receivers do not add up: two receivers that stand in for each other each
mediate little while the other is free, and much when both are frozen (`mediation`).

A sender acts on later layers only. For a receiver in its own or an earlier layer nothing is run:
freezing it changes nothing, and the mediated effect is exactly 0 instead of what rounding leaves.

`paths` answers another question: by which of query, key and value a sender acts on a receiver. It
restores the sender's direct path into one of these, holds everything else, and reads the answer.
Along a path into keys or values the sender is restored at all positions.

Source: Vig et al. 2020 (arXiv 2004.12265) and Goldowsky-Dill et al. 2023 (arXiv 2304.05969); for
Q-composition Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rgb_circuit import Edit, InputError, Trial, Vlm
from rgb_circuit.calls.patching import PatchedEdits
from rgb_circuit.calls.paths import PatchedPaths
from rgb_circuit.edits import INTO, check_heads
from rgb_circuit.heads import Head
from rgb_circuit.hypothesis import Hypothesis
from rgb_circuit.measuring.measure import stepwise
from rgb_circuit.measuring.measurement import Steps
from rgb_circuit.statistics import mean_over_trials, ratio_interval, t_interval
from rgb_circuit.stimuli.replicates import Replicates, averaged, named_clusters, with_trials
from rgb_circuit.stimuli.tasks import corrupted, find
from rgb_circuit.trial import as_trials, one_condition

from . import evidence as _evidence

# The hypothesis of composition for any head: its effect runs through the color extractors.
TASK = find("rgb")
HYPOTHESIS = Hypothesis("through the extractors", (TASK.prediction("P5"),))

# In logits. A smaller effect is rounding, in any number format, and has no shares.
ROUNDED = 1e-5


def evidence(
    model: Vlm,
    trials: Sequence[Trial],
    *,
    extractors: Sequence[tuple[int, int]] | None = None,
    **options,
) -> pd.DataFrame:
    """P5 for every head: restored in ``erased`` it raises the background, entirely through the
    color extractors.

    Args:
        extractors: (layer, head) pairs to freeze; by default those that `color_extractor` finds on
            the same trials.
        options: ``margin, least, level, split, only_correct, progress`` of
            `analyses.evidence.examine`.

    Returns:
        A row per head × prediction, as `analyses.evidence.examine`.

    Raises:
        InputError: too few trials, or a picture or word that the prediction needs and a trial
            lacks.
    """
    frozen = None if extractors is None else {"extractors": extractors}
    return _evidence.examine(model, trials, [HYPOTHESIS], task=TASK, frozen=frozen, **options)


def heads(evidence: pd.DataFrame) -> list[Head]:
    """The (layer, head) pairs that act through the color extractors."""
    return _evidence.heads(evidence, HYPOTHESIS)


@stepwise(stage="patching")
def composition(
    model: Vlm,
    trials: Sequence[Trial],
    senders: Sequence[tuple[int, int]],
    receivers: Sequence[tuple[int, int]],
    *,
    target: str | None = None,
    source: str = "clean",
    progress: bool = True,
) -> Steps[pd.DataFrame]:
    """How much of each sender's effect runs through each single receiver: all pairs in one forward
    per trial.

    Args:
        senders, receivers: (layer, head) pairs; a head may be in both, and is not paired with
            itself.
        target: the patched condition; by default the task's corrupted one, in the game "erased".
        source: the condition that senders are restored from.
        progress: show a bar when it takes longer than two seconds.

    Returns:
        A row per sender × receiver × role that every trial has: ``sender_layer, sender_head,
        receiver_layer, receiver_head, source, target, role, total_effect, frozen_effect,
        mediated_effect`` (logits, means over trials), ``ci_low, ci_high`` (95 % t interval of the
        mediated effect, within the role's words), ``share`` (mediated / total of the means; read it
        only if the total effect is clearly not zero), ``n`` (trials), ``share_low, share_high``
        (its 95 % interval, `rgb_circuit.statistics.ratio_interval`; missing if the total effect is
        not shown to differ from 0).

    Raises:
        InputError: a head or condition that does not exist, or fewer than two trials, before any
            forward.

    Examples:
        >>> from analyses.composition import composition
        >>> planted = rgb.load("planted")
        >>> frame = composition(planted, rgb.rgb_trials(planted, 6), [(2, 1)], [(3, 0), (4, 1)])
        >>> frame.loc[frame["role"] == "background", "share"].round(2).tolist()
        [0.5, 0.25]
    """
    trials = as_trials(trials)
    target = one_condition("target", corrupted(trials, target))
    source = one_condition("source", source)
    senders, receivers = _heads(model, senders, "senders"), _heads(model, receivers, "receivers")
    pairs = [(sender, [receiver]) for sender, receiver in _pairs(senders, receivers)]
    frame = yield from _mediated(trials, pairs, source, target)
    layer, head = np.array([receiver for _, (receiver,) in pairs])[frame["pair"]].T
    frame.insert(frame.columns.get_loc("source"), "receiver_layer", layer)
    frame.insert(frame.columns.get_loc("source"), "receiver_head", head)
    return frame.drop(columns="pair")


@stepwise(stage="patching")
def mediation(
    model: Vlm,
    trials: Sequence[Trial],
    senders: Sequence[tuple[int, int]],
    receivers: Sequence[tuple[int, int]],
    *,
    target: str | None = None,
    source: str = "clean",
    progress: bool = True,
) -> Steps[pd.DataFrame]:
    """How much of each sender's effect runs through all receivers together.

    Args:
        senders: (layer, head) pairs, each patched alone.
        receivers: (layer, head) pairs, all frozen at once; a sender is never frozen itself.
        target, source, progress: as in `composition`.

    Returns:
        A row per sender × role, as `composition`, with ``receivers`` (the heads frozen together,
        ``"3.0 4.1"``) for ``receiver_layer, receiver_head``.

    Raises:
        InputError: as `composition`.
    """
    trials = as_trials(trials)
    target = one_condition("target", corrupted(trials, target))
    source = one_condition("source", source)
    senders, receivers = _heads(model, senders, "senders"), _heads(model, receivers, "receivers")
    pairs = [
        (sender, [receiver for receiver in receivers if receiver != sender]) for sender in senders
    ]
    for sender, frozen in pairs:
        if not frozen:
            raise InputError(f"head {sender} is the only receiver of itself; name another receiver")
    frame = yield from _mediated(trials, pairs, source, target)
    together = np.array([" ".join(map(str, frozen)) for _, frozen in pairs])
    frame.insert(frame.columns.get_loc("source"), "receivers", together[frame["pair"]])
    return frame.drop(columns="pair")


@stepwise(stage="patching")
def paths(
    model: Vlm,
    trials: Sequence[Trial],
    senders: Sequence[tuple[int, int]],
    receivers: Sequence[tuple[int, int]],
    *,
    target: str | None = None,
    source: str = "clean",
    progress: bool = True,
) -> Steps[pd.DataFrame]:
    """By which of query, key and value each sender acts on each receiver: the effect of its direct
    path into that part alone, as in `rgb_circuit.patch_paths`.

    Args:
        senders, receivers, target, source, progress: as in `composition`.

    Returns:
        A row per ``into`` (``"query"``, ``"key"``, ``"value"``) × sender × receiver × role that
        every trial has: ``into, sender_layer, sender_head, receiver_layer, receiver_head, source,
        target, role, effect`` (logits, mean over trials), ``ci_low, ci_high`` (its 95 % t interval
        within the role's words), ``n`` (trials).

    Raises:
        InputError: as `composition`; or a model without direct paths.
    """
    trials = as_trials(trials)
    target = one_condition("target", corrupted(trials, target))
    source = one_condition("source", source)
    senders, receivers = _heads(model, senders, "senders"), _heads(model, receivers, "receivers")
    _pairs(senders, receivers)
    roles = _roles(trials, source, target)
    [patched] = yield [PatchedPaths.of(trials, senders, receivers, INTO, source, target)]
    ends = [f"{end}_{part}" for end in ("sender", "receiver") for part in ("layer", "head")]
    itself = (patched["sender_layer"] == patched["receiver_layer"]) & (
        patched["sender_head"] == patched["receiver_head"]
    )
    rows = patched[~itself & patched["role"].isin(roles)].astype({"into": str, "role": str})
    rows = averaged(rows, named_clusters(trials))
    frame = mean_over_trials(rows, ["into", *ends, "role"])
    where = frame.columns.get_loc("role")
    frame.insert(where, "source", source)
    frame.insert(where + 1, "target", target)
    return with_trials(frame, len(trials))


def _pairs(senders, receivers):
    """Every (sender, receiver) of two different heads."""
    pairs = [
        (sender, receiver) for sender in senders for receiver in receivers if sender != receiver
    ]
    if not pairs:
        raise InputError(
            f"head {senders[0]} is the only sender and the only receiver; name another receiver"
        )
    return pairs


def _roles(trials, source, target):
    """The answers' roles that all trials have; InputError if nothing could be measured on them."""
    if len(trials) < 2:
        raise InputError(
            f"there are {len(trials)} trials, and an interval needs 2 or more; use "
            "rgb_trials(model, n=32)"
        )
    if source == target:
        raise InputError(
            f"source and target are both {source!r}, so there is no effect to mediate; use two "
            "conditions"
        )
    roles = [role for role in trials[0].answers if all(role in trial.answers for trial in trials)]
    if not roles:
        raise InputError(
            "no answer role is common to all trials; give their answers the same roles"
        )
    return roles


def _mediated(trials, pairs, source, target):
    """A row per pair × role; pairs of (sender, receivers) are numbered in ``pair``."""
    roles = _roles(trials, source, target)
    totals = {sender: str(sender) for sender, _ in pairs}
    variants = {name: [Edit(layer, head, source)] for (layer, head), name in totals.items()}
    frozen_names = []
    for sender, receivers in pairs:
        after = [receiver for receiver in receivers if receiver[0] > sender[0]]
        name = f"{sender} without {' '.join(map(str, after))}" if after else totals[sender]
        variants[name] = [
            *variants[totals[sender]],
            *(Edit(layer, head, target) for layer, head in after),
        ]
        frozen_names.append(name)
    [patched] = yield [PatchedEdits.of(trials, variants, target)]
    effects = patched.pivot(index="trial", columns=["variant", "role"], values="effect")

    def per_pair(names):
        columns = pd.MultiIndex.from_product([names, roles])
        return effects[columns].to_numpy(dtype=float).reshape(len(trials), len(names), len(roles))

    named = {trial.name: trial for trial in trials}
    replicates = Replicates.of([named[str(name)] for name in effects.index])
    total, frozen, words = _observed(
        per_pair([totals[sender] for sender, _ in pairs]),
        per_pair(frozen_names),
        [np.array([named[str(name)].answers[role] for name in effects.index]) for role in roles],
        replicates,
    )
    (low, high), (share_low, share_high) = _intervals(total, frozen, words)
    sender_layer, sender_head = np.array([sender for sender, _ in pairs]).T
    frame = pd.DataFrame(
        {
            "pair": np.repeat(np.arange(len(pairs)), len(roles)),
            "sender_layer": np.repeat(sender_layer, len(roles)),
            "sender_head": np.repeat(sender_head, len(roles)),
            "source": source,
            "target": target,
            "role": np.tile(roles, len(pairs)),
            "total_effect": total.mean(0).ravel(),
            "frozen_effect": frozen.mean(0).ravel(),
            "mediated_effect": (total - frozen).mean(0).ravel(),
            "ci_low": low.ravel(),
            "ci_high": high.ravel(),
        }
    )
    frame["share"] = frame["mediated_effect"] / frame["total_effect"].where(
        frame["total_effect"] != 0
    )
    frame["n"] = len(total)
    frame = frame.assign(share_low=share_low.ravel(), share_high=share_high.ravel())
    return with_trials(frame, len(trials))


def _observed(total, frozen, words, replicates):
    """Effects given by trial as (clusters, pairs, roles), and each role's strata."""
    if not replicates.counts_clusters:
        return total, frozen, words
    both = np.stack([total, frozen], axis=1)
    found = [
        replicates.means(both[..., number], said, alike=True) for number, said in enumerate(words)
    ]
    both = np.stack([values for values, _ in found], axis=-1)
    return both[:, 0], both[:, 1], [strata for _, strata in found]


def _intervals(total, frozen, words):
    """Intervals of the mediated effect and of its share in the total, each (2, pairs, roles); the
    effects are (trials, pairs, roles), the words (roles, trials)."""
    intervals = np.empty((2, 2, *total.shape[1:]))
    for number, strata in enumerate(words):
        whole = total[..., number]
        mediated = whole - frozen[..., number]
        intervals[0, ..., number] = t_interval(mediated, strata)
        low, high = t_interval(whole, strata)
        shown = ((low > 0) | (high < 0)) & (np.abs(whole.mean(0)) > ROUNDED)
        intervals[1, ..., number] = np.where(shown, ratio_interval(mediated, whole, strata), np.nan)
    return intervals


def _heads(model, heads, what):
    heads = check_heads(model, heads)
    if not heads:
        raise InputError(f"{what} is empty; name at least one (layer, head)")
    return heads
