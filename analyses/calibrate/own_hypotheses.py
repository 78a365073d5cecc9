"""How often verdicts on a user's own hypotheses are right, tried on the user's own model and
trials.

Checks in which the hypothesis is false, or no head has the role for the reason it gives:

1. *random weights*: the model with random weights and a fitted readout (`.fitted`);
2. *exchanged*: changed pictures under each other's names, with the clean one and the gap kept; only
   for hypotheses that a head which meets them could not meet then;
3. *permuted*: each prediction's verdicts moved to other heads of the layer, each by another number;
4. *random sets*: whether the heads found on the first half of the trials do more, on the second
   half, than random sets of as many heads of the same layers.

A check in which it is true, as far as outputs go: 5. *injected*: an idle head is made to carry a
share of the clean difference, and to look like the head that looks most as claimed.

If planted circuits of the task have a role of the hypothesis' name, it is tried on these too:
*planted, have it* and *planted, have it not*.

A rate is given only if at least `.counts.INFORMATIVE` of the heads could have been given the role.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import binomtest

import rgb_circuit as rgb
from rgb_circuit.bars import tqdm
from rgb_circuit.edits import ARTIFICIAL
from rgb_circuit.errors import NotApplicable
from rgb_circuit.hypothesis import Claim, Hypothesis, Look, Sweep, about_attention
from rgb_circuit.measuring.measure import follow
from rgb_circuit.measuring.registered import claims_hash
from rgb_circuit.models.planted import MODERATE_NOISE
from rgb_circuit.stimuli.drawing import trials as draw
from rgb_circuit.task import Task

from .. import evidence as _evidence
from .. import roles
from ..evidence import rivals
from ..evidence.effects import Measured
from ..evidence.rules import Rules
from ..evidence.verdict import judge_hypotheses
from ..rgb.subjects import Subject
from ..roles import GAME
from .counts import INFORMATIVE
from .fitted import fitted_readout

RULES = Rules(0.1, 0.05, 0.05, False)
# Shares of the clean difference that an injected head carries, and the number of heads tried with
# each.
SIZES = (0.05, 0.1, 0.15, 0.2, 0.3)
HEADS = 19
# Numbers of random sets of the same layers, and of permutations.
SETS = 99
PERMUTATIONS = 20
# Trials to fit a readout on, if they can be drawn; no user gives their seeds.
FITTED_ON = 128
SEED = 2**32


def own(
    model: rgb.Vlm,
    trials: Sequence[rgb.Trial],
    task: Task,
    *,
    random: int = 5,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Try the verdicts on a task's hypotheses.

    Args:
        task: of the trials, with the hypotheses.
        random: the number of copies with random weights, and of exchanges of pictures.
        seed: of all random draws.
        progress: show bars.

    Returns:
        A row per hypothesis × check: ``hypothesis, check`` ("random weights", "exchanged",
        "planted, have it", "planted, have it not", "permuted", "random sets", "injected"), ``size``
        (the injected share of the clean difference, else missing), ``heads`` (how many were tried),
        ``testable`` (how many of them could have been given the role), ``given`` (how many were),
        ``rate, rate_low, rate_high`` (with the exact 95 % interval over heads; missing if fewer
        than 80 % are testable), ``informative``, ``p_value`` (for random sets, by rank; else
        missing), ``claims`` (a hash of the hypotheses), ``model, trials`` (their number).

    Raises:
        InputError: as `analyses.evidence.examine`.
    """
    trials = list(trials)
    found, trials, _, _ = _measured(model, trials, task, progress, "the trials")
    rng = np.random.default_rng(seed)
    rows = [
        *_on_random_weights(model, trials, task, random, seed, progress),
        *_on_exchanged(model, trials, task, random, rng, progress),
        *_on_planted(trials, task, random, seed, progress),
        *_permuted(found, task, rng),
        *_random_sets(found, task, rng),
        *_injected(found, task, rng, progress),
    ]
    columns = ["hypothesis", "check", "size", "heads", "testable", "given", "p_value"]
    frame = pd.DataFrame(rows, columns=columns)
    frame["informative"] = (frame["testable"] >= INFORMATIVE * frame["heads"]) & (
        frame["heads"] > 0
    )
    rates = [_rate(row) for row in frame.to_dict("records")]
    frame[["rate", "rate_low", "rate_high"]] = np.array(rates, dtype=float).reshape(-1, 3)
    return frame.assign(claims=claims_hash(task), model=model.name, trials=len(trials))


def says(frame: pd.DataFrame) -> list[str]:
    """The frame of `own` in lines of text."""
    lines = []
    for name, rows in frame.groupby("hypothesis", sort=False):
        lines.append(f"{name}:")
        for row in rows.to_dict("records"):
            size = "" if pd.isna(row["size"]) else f" {100 * row['size']:.0f} %"
            lines.append(f"  {row['check'] + size:<16} {_said(row)}")
    return lines


def _said(row):
    if row["check"] == "random sets":
        if pd.isna(row["p_value"]):
            return "no head is found on the first half of the trials"
        return (
            f"p = {row['p_value']:.2g}, for {row['heads']} heads found on the first half of the "
            "trials"
        )
    if not row["heads"]:
        return "cannot be tested: no head meets the claims that are not injected"
    testable = f"of {row['heads']}, {row['testable']} testable"
    if not row["informative"]:
        return f"not informative: {testable}"
    low, high = 100 * row["rate_low"], 100 * row["rate_high"]
    return f"{row['given']} given the role [{low:.1f}, {high:.1f}] % ({testable})"


def _rate(row):
    """Rate and interval, if they may be given."""
    if not row["informative"] or not pd.isna(row["p_value"]):
        return [np.nan] * 3
    result = binomtest(row["given"], row["heads"])
    return [result.statistic, *result.proportion_ci()]


def _measured(model, trials, task, progress, what):
    steps = _evidence.measuring(model, trials, task.hypotheses, RULES, task=task)
    return follow(model, steps, progress=progress, stage=what)


def _judged(found: Measured, task: Task) -> pd.DataFrame:
    return judge_hypotheses(found, task.hypotheses, (), RULES)


def _testable(evidence: pd.DataFrame, hypothesis: Hypothesis) -> bool:
    """Whether every prediction of a role, or one that stands in for it, could be tested."""
    void = evidence.drop_duplicates("prediction").set_index("prediction")["void"] != ""
    return (
        not any(void[slot].all() for slot in hypothesis.slots)
        and not void[list(hypothesis.refutes)].any()
    )


def _row(hypothesis, check, heads, testable, given, size=np.nan, p_value=np.nan):
    return dict(
        hypothesis=hypothesis.name, check=check, size=size, heads=heads, testable=testable,
        given=given, p_value=p_value,
    )  # fmt: skip


def _counted(check: str, task: Task, frames: Sequence[pd.DataFrame]) -> list[dict]:
    """A row per hypothesis, from evidence on which it is false."""
    rows = []
    for hypothesis in task.hypotheses if frames else ():
        heads = [len(frame.drop_duplicates(["layer", "head"])) for frame in frames]
        testable = [count * _testable(frame, hypothesis) for count, frame in zip(heads, frames)]
        given = sum(len(_evidence.heads(frame, hypothesis)) for frame in frames)
        rows.append(_row(hypothesis, check, sum(heads), sum(testable), given))
    return rows


def _on_random_weights(model, trials, task, random, seed, progress):
    frames = []
    for number in tqdm(range(random), desc="random weights", unit="model", disable=not progress):
        if task.draw is None:
            # Given trials are split: one half is fitted on, the other judged.
            fitting, judged = trials[::2], trials[1::2]
        else:
            fitting, judged = draw(model, task, FITTED_ON, SEED + seed + number), trials
        try:
            other = fitted_readout(model, fitting, SEED + seed + number)
        except NotApplicable:
            return []
        found, *_ = _measured(other, judged, task, False, "")
        frames.append(_judged(found, task))
    return _counted("random weights", task, frames)


def _on_exchanged(model, trials, task, random, rng, progress):
    changed = [name for name in task.conditions if task.conditions[name].right != task.right]
    known = [name for name in changed if all(name in trial.images for trial in trials)]
    if len(known) < 2:
        return []
    false = [
        one for one in task.hypotheses if all(_fails(one, known, by) for by in range(1, len(known)))
    ]
    if not false:
        return []
    frames = []
    for _ in tqdm(range(random), desc="exchanged", unit="time", disable=not progress):
        shifted = [_exchanged(trial, known, int(rng.integers(1, len(known)))) for trial in trials]
        found, *_ = _measured(model, shifted, task, False, "")
        frames.append(_judged(found, task))
    return [
        row
        for row in _counted("exchanged", task, frames)
        if row["hypothesis"] in {one.name for one in false}
    ]


def _exchanged(trial, known, by):
    """A trial with its changed pictures under each other's names."""
    images = {name: trial.images[known[(k + by) % len(known)]] for k, name in enumerate(known)}
    return replace(trial, images={**trial.images, **images}, expected={})


def _fails(hypothesis: Hypothesis, known: Sequence[str], by: int) -> bool:
    """Whether no head can meet a hypothesis both as it is and with the pictures exchanged."""
    named = {name: known[(k + by) % len(known)] for k, name in enumerate(known)}

    def renamed(claim):
        if not isinstance(claim, Claim):
            return replace(claim, condition=named.get(claim.condition, claim.condition))
        sweep = claim.sweep
        target, source = (named.get(name, name) for name in (sweep.target, sweep.source))
        return replace(claim, sweep=replace(sweep, target=target, source=source))

    other = replace(
        hypothesis,
        name=f"{hypothesis.name}, exchanged",
        predictions=tuple(
            replace(one, claims=tuple(map(renamed, one.claims))) for one in hypothesis.predictions
        ),
        rivals=(),
    )
    return bool(rivals.exclusive([hypothesis, other]))


def _on_planted(trials, task, random, seed, progress):
    """Rows for the hypotheses named like a role of planted circuits."""
    known = [one for one in task.hypotheses if one.name in [role.name for role in GAME.hypotheses]]
    if task.name != GAME.name or task.draw is None or not known:
        return []
    judged = []
    for number in tqdm(range(random), desc="planted", unit="model", disable=not progress):
        module, processor, truth = Subject("planted", MODERATE_NOISE, seed + number).build()
        planted = rgb.wrap(module, processor, name=f"planted {seed + number}")
        found, *_ = _measured(
            planted, draw(planted, task, len(trials), seed + number), task, False, ""
        )
        judged.append((_judged(found, task), truth.set_index(["layer", "head"])["role"]))
    rows = []
    for hypothesis in known:
        for check, has_it in (("planted, have it", True), ("planted, have it not", False)):
            heads = testable = given = 0
            for evidence, role in judged:
                tried = {*role.index[(role == hypothesis.name) == has_it]}
                heads += len(tried)
                testable += len(tried) * _testable(evidence, hypothesis)
                given += len(tried & {*map(tuple, _evidence.heads(evidence, hypothesis))})
            rows.append(_row(hypothesis, check, heads, testable, given))
    return rows


def _permuted(found: Measured, task: Task, rng) -> list[dict]:
    evidence = _judged(found, task)
    rows = []
    for hypothesis in task.hypotheses:
        pieces = [*hypothesis.slots, *([name] for name in hypothesis.refutes)]
        # A hypothesis with one piece cannot be torn apart.
        if len(pieces) < 2:
            continue
        given = 0
        for _ in range(PERMUTATIONS):
            given += len(_evidence.heads(_moved(evidence, pieces, rng), hypothesis))
        heads = len(evidence.drop_duplicates(["layer", "head"])) * PERMUTATIONS
        rows.append(
            _row(hypothesis, "permuted", heads, heads * _testable(evidence, hypothesis), given)
        )
    return rows


def _moved(evidence, pieces, rng):
    """The evidence with the verdicts of each piece moved to other heads of the layer, each piece by
    another number if there are enough heads."""
    order = np.arange(len(evidence))
    of = {name: number for number, names in enumerate(pieces) for name in names}
    shifts: dict[int, np.ndarray] = {}
    for (name, layer), rows in evidence.groupby(
        ["prediction", "layer"], sort=False
    ).indices.items():
        shifts.setdefault(layer, rng.permutation(len(rows)))
        if name in of:
            order[rows] = np.roll(rows, shifts[layer][of[name] % len(rows)])
    kept = ["layer", "head", "prediction"]
    moved = evidence.drop(columns=kept).iloc[order].reset_index(drop=True)
    return evidence[kept].reset_index(drop=True).join(moved)


def _some(found: Measured, used: np.ndarray) -> Measured:
    """The measurements of the trials ``used``."""
    return replace(
        found,
        effects={sweep: effects[used] for sweep, effects in found.effects.items()},
        logits={name: logits[used] for name, logits in found.logits.items()},
        words=None if found.words is None else found.words[used],
        replicates=found.replicates.only(used),
        looks={look: (side[used], most[used]) for look, (side, most) in found.looks.items()},
    )


def _random_sets(found: Measured, task: Task, rng) -> list[dict]:
    first, second = found.replicates.halves()
    finding = _judged(_some(found, first), task)
    scores = roles.scores_by_role(_judged(_some(found, second), task), task)
    rows = []
    for hypothesis in task.hypotheses:
        heads, score = _evidence.heads(finding, hypothesis), scores[hypothesis.name]
        p = np.nan
        if heads and not score.isna().all():
            layers = [layer for layer, _ in heads]
            drawn = [_drawn(score, layers, rng) for _ in range(SETS)]
            mean = score.loc[heads].mean()
            p = (1 + sum(one >= mean for one in drawn)) / (1 + SETS)
        testable = len(heads) * _testable(finding, hypothesis)
        rows.append(_row(hypothesis, "random sets", len(heads), testable, len(heads), p_value=p))
    return rows


def _drawn(score, layers, rng):
    """The mean score of as many random heads of each layer."""
    values = []
    for layer in sorted(set(layers)):
        own = score.loc[layer].to_numpy()
        values.extend(rng.choice(own, layers.count(layer), replace=False))
    return np.mean(values)


def _injected(found: Measured, task: Task, rng, progress) -> Iterator[dict]:
    evidence = _judged(found, task)
    holds = _evidence.by_prediction(evidence, "holds")
    for hypothesis in task.hypotheses:
        moved = {one.name for one in hypothesis.predictions if any(map(_carried, one.claims))}
        if not moved:
            continue
        looks = about_attention(hypothesis.predictions)
        moved |= {one.name for one in hypothesis.predictions if one.about_attention}
        rest = [slot for slot in hypothesis.slots if not moved & {*slot}]
        idle = [
            number
            for number, head in enumerate(found.heads)
            if head not in _evidence.heads(evidence, hypothesis)
            and all(holds.loc[head, slot].any() for slot in rest)
        ]
        tried = rng.permutation(idle)[:HEADS]
        testable = len(tried) * _testable(evidence, hypothesis)
        for size in tqdm(SIZES, desc="injected", unit="size", disable=not progress):
            frames = [_judged(_with(found, number, size, looks), task) for number in tried]
            named = [_evidence.heads(frame, hypothesis) for frame in frames]
            given = sum(found.heads[number] in heads for number, heads in zip(tried, named))
            yield _row(hypothesis, "injected", len(tried), testable, given, size)


def _carried(claim) -> bool:
    return isinstance(claim, Claim) and _carries(claim.sweep)


def _carries(sweep: Sweep) -> bool:
    """Whether a sweep restores an injected head's effect: its output from another picture's run."""
    return (
        sweep.component == "z"
        and sweep.source not in ARTIFICIAL
        and not (sweep.over or sweep.without)
        and sweep.part != "through"
    )


def _with(found: Measured, number: int, size: float, looks: Sequence[Look] = ()) -> Measured:
    """The measurements as if a head carried a share of the difference between two pictures past all
    other heads and, for each of the looks, looked like the head that is most on its side."""
    effects = dict(found.effects)
    for sweep in filter(_carries, effects):
        effects[sweep] = effects[sweep].copy()
        effects[sweep][:, number] += size * (
            found.logits[sweep.source] - found.logits[sweep.target]
        )
    seen = dict(found.looks)
    for look in looks:
        side, most = found.looks[look]
        side = side.copy()
        side[:, number] = side[:, side.mean(0).argmax()]
        seen[look] = side, most
    return replace(found, effects=effects, looks=seen)
