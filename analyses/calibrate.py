"""Can the analyses be believed? Their verdicts on models whose heads are known.

1. A family of models: planted circuits (`rgb_circuit.models.planted`), even ones over levels of noise and
   over numbers of trials, and unkind ones over numbers of trials (`KINDS`), with placements, decoys,
   grouped-query attention and grids drawn at random; and three kinds on which every role is false (`NULLS`).
2. Four readings give each head a role: `analyses.roles` on the trials as they are drawn, and on as many that
   the model answers right on every picture; and beside it two that people use, the largest cells of the
   seed's three heatmaps, and attention to the odd tile.
3. Their roles are held against the truth: precision and recall per role, and roles given where none is
   true.

Where every role is false, that none is given says something only where it could have been: where there is a
gap, and heads to freeze. So all of these models have a gap; where none of their heads is found to read the
odd colour, the one that restores it most is frozen in its place; and a head counts as *testable* where every
role could have been given to it. Of fewer than `INFORMATIVE` of the heads, no rate is told.

A model is judged by several numbers of trials: the first 16 of its 64, the first 32, and all. What is
measured of a trial is measured once.

An analysis that is added to `analyses.roles.GAME` is calibrated here without a change.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from tqdm.auto import tqdm

import rgb_circuit as rgb
from rgb_circuit.measure import measure
from rgb_circuit.measurement import Measurement, Steps, content_hash
from rgb_circuit.models.planted import (
    DECOYS,
    MODERATE_NOISE,
    UNKIND,
    WORDS,
    Part,
    gap,
    planted,
    random_placement,
)
from rgb_circuit.models.random import fitted_llava
from rgb_circuit.panels import PANELS, panels
from rgb_circuit.patching import PatchedHeads, in_order
from rgb_circuit.play import Played, answered_right
from rgb_circuit.statistics import fewest_trials
from rgb_circuit.store import Store

from . import roles
from .attention_statistics import attention_statistics
from .evidence import with_controls
from .roles import GAME

# What the planted models are like. "even" ones are as they were always: all heads serve every colour and tile
# alike.
KINDS = ("even", "alike", "2 × 4", "4 × 2", "uneven", "backup", "relay", "resting", "odds")
# Models on which every role is false → what they are.
NULLS = {
    "random": "random weights, fitted readout",
    "exchanged": "planted, changed pictures exchanged within trials",
    "permuted": "planted, heads permuted within layers between predictions",
}
# The share of testable heads below which no rate of false roles is told.
INFORMATIVE = 0.8
# Share of the gap that a head of CV 1 restores there.
UNEVEN_SHARE = 0.125
# Its name, and that of its row beside all heads of its models.
UNEVEN_HEAD = "uneven extractor"
TRIALS = (16, 32, 64)
# By how many all readings are compared.
USUAL = 32
# In units of the gap between clean and corrupted pictures, as margins are.
NOISE = (0.0, MODERATE_NOISE / 2, MODERATE_NOISE, 2 * MODERATE_NOISE)


@dataclass(frozen=True)
class Subject:
    """One model to judge.

    Attributes:
        kind: ``"planted"``, or one of `NULLS`.
        noise: of a planted model, as a fraction of its gap; NaN for a random one.
        seed: of everything that is drawn for it.
        sizes: numbers of trials that it is judged by, in order; each the first of the largest.
        like: of a planted model, one of `KINDS`.
    """

    kind: str
    noise: float
    seed: int
    sizes: tuple[int, ...] = (16,)
    like: str = "even"

    @property
    def compared(self) -> int:
        """The number of trials by which all readings are compared."""
        return USUAL if USUAL in self.sizes else self.sizes[-1]

    def build(self):
        """model, processor, truth (``layer, head, role, name``)."""
        rng = np.random.default_rng([self.seed, self.kind != "random"])
        kv_heads = int(rng.choice([1, 2, 4]))
        if self.kind == "random":
            model, processor = fitted_llava(self.seed, layers=4, heads=4, kv_heads=kv_heads)
            places = [(layer, head) for layer in range(4) for head in range(4)]
            return (
                model,
                processor,
                pd.DataFrame(places, columns=["layer", "head"]).assign(role="none", name="none"),
            )
        layers, grid = int(rng.integers(5, 8)), int(rng.integers(6, 9))
        decoys = [decoy for decoy in DECOYS if rng.random() < 0.8]
        placement = random_placement(layers, 4, self.seed)
        shape: dict[str, Any] = dict(grid=grid, layers=layers, heads=4, kv_heads=kv_heads)
        if self.like == "even":
            made: dict[str, Any] = dict(placement=placement, decoys=decoys)
        else:
            # Two more layers, so that there is room after the circuit.
            shape |= dict(layers=layers + 2, kv_heads=4)
            made = _unkind(self.like, placement, decoys, layers, rng)
        model, processor, truth = planted(**shape, **made, noise=self.noise, seed=self.seed)
        return model, processor, truth if self.kind == "planted" else truth.assign(role="none")


def _unkind(like, placement, decoys, layers, rng):
    """Arguments of `planted` for a kind of model. ``layers`` and the next are free of other parts."""
    mean = placement.mean[0]
    last = [(layers + int(rng.integers(2)), int(head)) for head in rng.permutation(4)]
    taken = {place for place in vars(placement).values() if isinstance(place[0], int)} | set(
        placement.redundant_pair
    )
    free = [
        (layer, head) for layer in range(mean + 1, layers) for head in range(4) if (layer, head) not in taken
    ]
    free = [free[index] for index in rng.permutation(len(free))]
    if like == "alike":
        return dict(placement=placement, decoys=decoys, likeness=0.5)
    if like in ("2 × 4", "4 × 2"):
        many = int(like[0])
        words = rng.permutation(WORDS).reshape(many, -1).tolist()
        read = [
            Part(f"reader {i}", "color extractor", "found", "color", "answer", 10.0, tuple(own))
            for i, own in enumerate(words)
        ]
        return dict(placement=placement, decoys=[], without=["extractor"], more=list(zip(read, last)))
    if like == "uneven":
        share = UNEVEN_SHARE / (1 - UNEVEN_SHARE)
        parts = [part for part in decoys if part != "content_extractor"]
        gain = share * gap(parts)
        part = Part(UNEVEN_HEAD, "color extractor", "found", "color", "answer", gain, variation=1.0)
        return dict(placement=placement, decoys=parts, more=[(part, last[0])])
    if like == "relay":
        late = Part("late extractor", "color extractor", "found", "color", "answer", 10.0)
        places = (mean + 1, 0), (layers, int(rng.integers(4))), (layers + 1, int(rng.integers(4)))
        more = list(zip((UNKIND["finder"], UNKIND["relay"], late), places))
        return dict(placement=placement, decoys=[], without=["poi", "extractor"], more=more)
    if like == "backup":
        # Whatever colour is in the answer silences it, that of a background writer too, so there is none.
        return dict(placement=placement, decoys=[], more=[(UNKIND["backup"], last[0])])
    if like == "resting":
        return dict(
            placement=placement,
            decoys=["late_background_writer"],
            more=[(UNKIND["resting_extractor"], last[0])],
        )
    more = [
        (UNKIND["canvas_suppressor"], last[0]),
        (UNKIND["second_reader"], last[1]),
        (UNKIND["oddness"], free[0]),
    ]
    return dict(placement=placement, decoys=["suppressor"], more=[*more, (UNKIND["fixed_word"], free[1])])


def family(
    seed: int = 0,
    planted_each: int = 1,
    random: int = 5,
    noise: Sequence[float] = NOISE,
    trials: int | None = None,
    kinds: Sequence[str] = KINDS,
) -> list[Subject]:
    """The models to judge.

    Args:
        planted_each: even models at every level of ``noise`` by 32 trials, and models of every kind at
            moderate noise by each number of trials; the same ones at each level and number.
        random: models of each of `NULLS`, by 32 trials.
        trials: that all are judged on, instead of these numbers.
        kinds: of `KINDS`.
    """
    if planted_each < 1 or random < 1:
        raise rgb.InputError(
            f"{planted_each} planted and {random} random models were asked for; use at least one of each"
        )
    if seed < 0:
        raise rgb.InputError(f"seed is {seed}; use a whole number from 0 on")
    if trials is not None and trials < 1:
        raise rgb.InputError(f"trials is {trials}; use a whole number from 1 on, such as 32")
    first = 1000 * seed
    numbers = [first + index for index in range(planted_each)]
    usual, sizes = ((USUAL,), TRIALS) if trials is None else ((trials,), (trials,))
    every = [level for level in noise if not ("even" in kinds and level == MODERATE_NOISE)]
    known = [Subject("planted", level, number, usual) for level in every for number in numbers]
    known += [Subject("planted", MODERATE_NOISE, number, sizes, like) for like in kinds for number in numbers]
    noises = {kind: np.nan if kind == "random" else MODERATE_NOISE for kind in NULLS}
    false = [Subject(kind, noises[kind], first + index, usual) for kind in NULLS for index in range(random)]
    return [*known, *false]


@dataclass(frozen=True)
class Known:
    """What was measured of a model, so that fewer of the same trials are judged without a forward.

    Attributes:
        frames: a measurement's key → the contents of its trials, and its frame.
    """

    frames: dict[str, tuple[set[str], pd.DataFrame]] = field(default_factory=dict)

    def measure(self, model: rgb.Vlm, asked: Sequence[Measurement]) -> list[pd.DataFrame]:
        """As `rgb_circuit.measure.measure`."""
        lacking = [one for one in asked if not self._has(one)]
        for one, frame in zip(lacking, measure(model, lacking, progress=False) if lacking else []):
            self.frames[one.key] = {trial.content for trial in one.trials}, frame
        return [self._of(one) for one in asked]

    def follow(self, model: rgb.Vlm, steps: Steps[pd.DataFrame]) -> pd.DataFrame:
        """As `rgb_circuit.measure.follow`."""
        try:
            asked = next(steps)
            while True:
                asked = steps.send(self.measure(model, asked))
        except StopIteration as end:
            return end.value

    def _has(self, one):
        contents, _ = self.frames.get(one.key, (set(), None))
        return contents >= {trial.content for trial in one.trials}

    def _of(self, one):
        _, frame = self.frames[one.key]
        return frame[frame["trial"].isin([trial.name for trial in one.trials])].reset_index(drop=True)


def by_roles(
    model: rgb.Vlm, trials: Sequence[rgb.Trial], known: Known, null: str = "", seed: int = 0
) -> pd.DataFrame:
    """``layer, head, role`` as `analyses.roles` has them, and ``testable``: whether every role could have
    been given.

    Args:
        null: the kind of a model on which every role is false, one of `NULLS`.
        seed: of the permutation where that is "permuted".
    """
    evidence = known.follow(model, roles.steps(model, trials))
    if null and (evidence["void"] == "no extractor").any():
        reads = evidence[evidence["prediction"] == "P1b"]
        closest = reads.loc[reads["effect"].idxmax()]
        evidence = known.follow(
            model, roles.steps(model, trials, frozen={"extractors": [(closest["layer"], closest["head"])]})
        )
    if null == "permuted":
        evidence = permuted(evidence, np.random.default_rng(seed))
    void = evidence.groupby("prediction")["void"].first() != ""
    testable = not any(void[slot].all() for hypothesis in GAME.hypotheses for slot in hypothesis.slots)
    return roles.table(evidence)[["layer", "head", "role"]].assign(testable=testable)


def permuted(evidence: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The evidence with the heads of each layer permuted, prediction by prediction, so that no head keeps the
    verdicts that make a role: those of a role's predictions come from different heads of the layer, as far as
    it has so many. What stands in for a prediction moves with it."""
    shift: dict[str, int] = {}
    for hypothesis in GAME.hypotheses:
        for slot in hypothesis.slots:
            number = len(set(shift.values()))
            shift.update({name: number for name in slot if name not in shift})
    start = {layer: int(rng.integers(100)) for layer in sorted(set(evidence["layer"]))}
    order = np.empty(len(evidence), dtype=int)
    for (name, layer), rows in evidence.groupby(["prediction", "layer"], sort=False).indices.items():
        order[rows] = np.roll(rows, start[layer] + shift.get(name, 0))
    kept = ["layer", "head", "prediction"]
    moved = evidence.drop(columns=kept).iloc[order].reset_index(drop=True)
    return evidence[kept].reset_index(drop=True).join(moved)


def by_largest_cells(model: rgb.Vlm, trials: Sequence[rgb.Trial], known: Known) -> pd.DataFrame:
    """``layer, head, role`` as the seed read its heatmaps.

    The color extractor is the largest cell of the first panel (odd, when recolored). POI localization are the
    three largest of the third (background, when erased), as far as they are above zero and do not raise the
    odd word (by more than a tenth of the extractor's cell) in the other two.
    """
    # With the words that roles are told from, so that their sweeps serve.
    said = with_controls(GAME, model, trials)
    targets = dict.fromkeys(target for target, _ in PANELS.values())
    swept = known.measure(model, [PatchedHeads.of(model, said, "clean", target) for target in targets])
    table = panels(in_order(swept, said))
    recolored, erased, background = (table[panel] for panel in PANELS)
    largest = recolored.idxmax()
    quiet = (np.maximum(recolored, erased) <= 0.1 * recolored[largest]) & (background > 0)
    role = pd.Series("none", index=table.index)
    role[background[quiet].nlargest(3).index] = "POI localization"
    role[largest] = "color extractor"
    return table[["layer", "head"]].assign(role=role)


def by_attention(model: rgb.Vlm, trials: Sequence[rgb.Trial], known: Known) -> pd.DataFrame:
    """``layer, head, role`` where every head that puts more than half of its attention at [end] on the odd
    tile localizes it.

    Attention cannot tell reading a place from reading its colour, so such a head is called by both roles.
    """
    mass = (
        attention_statistics(model, trials, progress=False)
        .groupby(["layer", "head"])["tile"]
        .mean()
        .reset_index()
    )
    return mass[["layer", "head"]].assign(
        role=np.where(mass["tile"] > 0.5, "color extractor + POI localization", "none")
    )


READINGS: Mapping[str, Callable] = {
    "roles": by_roles,
    "roles, only correct trials": by_roles,
    "largest cells of three heatmaps": by_largest_cells,
    f"attention to {GAME.place}": by_attention,
}
# How many times as many trials are drawn, to have enough that are answered right.
DRAWN = 4
# What `analyses.roles` needs at least.
ENOUGH = fewest_trials(0.05)


def reading_of(only_correct: bool) -> str:
    """The name of the reading that ``rgb-circuit run`` takes, with or without ``--only-correct``."""
    return "roles, only correct trials" if only_correct else "roles"


def verdicts(
    subjects: Sequence[Subject], store: Store | None = None, *, progress: bool = True
) -> Iterator[pd.DataFrame]:
    """Judge every head of every model by every reading.

    Args:
        store: keeps the verdicts on each model, and gives those that it has.

    Yields:
        Per model, a row per number of trials × reading × head: ``kind, like, noise`` (fraction of the gap),
        ``seed, kv_heads, grid, solved`` (share of pictures answered right), ``trials, layer, head, truth,
        name, reading, role, testable`` (whether every role could have been given to the head by ``roles``).
        Random models have no rows for only correct trials; models that are not even, and permuted ones, have
        rows for ``roles`` only, and even ones by other numbers of trials than 32.
    """
    key = f"verdicts-{content_hash([*READINGS, 'testable'])}"
    for subject in tqdm(subjects, desc="calibrating", unit="model", disable=not progress):
        sizes = "+".join(map(str, subject.sizes))
        unit = f"{subject.kind}-{subject.like}-{subject.noise}-{sizes}-{subject.seed}"
        yield store.kept(key, unit, partial(_judged, subject)) if store else _judged(subject)


def _judged(subject):
    """`verdicts` on one model."""
    model, processor, truth = subject.build()
    model = rgb.wrap(model, processor, name=f"{subject.kind} {subject.seed}")
    drawn = rgb.rgb_trials(model, subject.sizes[-1], seed=subject.seed)
    measured = Known()
    [played] = measured.measure(model, [Played.of(drawn)])
    about = dict(kind=subject.kind, like=subject.like, noise=subject.noise, seed=subject.seed)
    about |= dict(kv_heads=model.n_kv_heads, grid=model.grid[0], solved=float(played["correct"].mean()))
    known = truth.rename(columns={"role": "truth"})
    nothing = known[["layer", "head"]].assign(role="none", testable=False)
    blocks = []
    # The most first: the others are among them.
    for size in reversed(subject.sizes):
        done = {}
        for reading, sample in _samples(model, drawn, played, subject, size).items():
            # Where every trial is answered right, the readings that ask for that find what they found without
            # asking.
            key = READINGS[reading], tuple(trial.name for trial in sample)
            if key not in done:
                # A model may answer too few right to tell a role from them.
                enough = len(sample) >= min(size, ENOUGH)
                done[key] = _read(subject, reading, model, sample, measured) if enough else nothing
            blocks.append(known.merge(done[key], on=["layer", "head"]).assign(reading=reading, trials=size))
    return pd.concat(blocks, ignore_index=True).assign(**about)[
        [*about, "trials", "layer", "head", "truth", "name", "reading", "role", "testable"]
    ]


def _read(subject, reading, model, sample, measured):
    """What a reading says of each head; a naive one can give its roles to any."""
    if READINGS[reading] is by_roles:
        return by_roles(model, sample, measured, subject.kind if subject.kind in NULLS else "", subject.seed)
    return READINGS[reading](model, sample, measured).assign(testable=True)


def _samples(model, drawn, played, subject, size):
    """Reading → the trials that it judges by."""
    everything = subject.like == "even" and size == subject.compared and subject.kind != "permuted"
    samples = dict.fromkeys(READINGS if everything else [reading_of(False)], drawn[:size])
    if subject.kind == "random":
        # It answers too few right on all pictures.
        samples.pop(reading_of(True), None)
    elif everything:
        samples[reading_of(True)] = _right(model, drawn, played, subject)[:size]
    if subject.kind == "exchanged":
        samples = {name: exchanged(sample, subject.seed) for name, sample in samples.items()}
    return samples


def _right(model, drawn, played, subject):
    """As many trials that are answered right as all readings are compared by, of those drawn and as many more
    as it takes, up to `DRAWN` times as many."""
    right = answered_right(drawn, played)
    if len(right) < subject.compared:
        more = rgb.rgb_trials(model, DRAWN * subject.compared, seed=subject.seed)
        right = answered_right(more, rgb.play(model, more, progress=False))
    return right


# The pictures whose right answer is another than the clean one's: whichever is shown, the gap is the same.
CHANGED = tuple(name for name, condition in GAME.conditions.items() if condition.right != GAME.right)


def exchanged(trials: Sequence[rgb.Trial], seed: int) -> list[rgb.Trial]:
    """The trials, in each the three changed pictures under each other's names, none under its own; the clean
    and the moved one stay, and with them the gap."""
    rng = np.random.default_rng(seed)
    made = []
    for trial in trials:
        by = int(rng.integers(1, len(CHANGED)))
        images = {name: trial.images[CHANGED[(k + by) % len(CHANGED)]] for k, name in enumerate(CHANGED)}
        made.append(replace(trial, images={**trial.images, **images}, expected={}))
    return made


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Precision and recall of every reading over levels of noise, of even models with one number of trials.

    Args:
        frame: `verdicts`, concatenated.

    Returns:
        A row per reading × role × noise (planted models): ``reading, role, noise, models, true`` (heads that
        have the role), ``given`` (heads that the reading gives it), ``right`` (both), ``precision,
        precision_low, precision_high, recall, recall_low, recall_high``, with exact (Clopper–Pearson) 95 %
        intervals over heads; NaN where nothing was given or true; ``testable`` (how many of the true heads
        are).
    """
    known = frame[(frame["kind"] == "planted") & (frame["like"] == "even")]
    # The number of trials that was tried at most levels.
    known = known[known["trials"] == known.groupby("trials")["noise"].nunique().idxmax()]
    rows = []
    for (reading, noise), part in known.groupby(["reading", "noise"], sort=False):
        about = dict(reading=reading, noise=noise, models=part["seed"].nunique())
        rows += [
            about | dict(role=hypothesis.name) | _counted(part, hypothesis.name)
            for hypothesis in GAME.hypotheses
        ]
    return pd.DataFrame(rows)


def by_trials(frame: pd.DataFrame, reading: str = "roles") -> pd.DataFrame:
    """Precision and recall of one reading over numbers of trials, for each kind of planted model at moderate
    noise, and for all together.

    Args:
        frame: `verdicts`, concatenated.

    Returns:
        A row per kind × trials × role that is true of a head or given to one: ``like`` (one of `KINDS`,
        `UNEVEN_HEAD`, or "all"), ``trials, role``, then from ``models`` on as `summary`.
    """
    known = _at_moderate_noise(frame, reading)
    rows = []
    alone = (UNEVEN_HEAD, known[known["name"] == UNEVEN_HEAD])
    for like, own in [*known.groupby("like", sort=False), alone, ("all", known)]:
        for trials, part in own.groupby("trials"):
            models = len(part[["like", "seed"]].drop_duplicates())
            counted = [
                dict(like=like, trials=trials, role=hypothesis.name, models=models)
                | _counted(part, hypothesis.name)
                for hypothesis in GAME.hypotheses
            ]
            rows += [row for row in counted if row["true"] or row["given"]]
    return pd.DataFrame(rows)


def by_evenness(frame: pd.DataFrame, reading: str = "roles") -> pd.DataFrame:
    """Recall of one reading over numbers of trials, for heads that do the same on every trial and for heads
    that do not.

    Args:
        frame: `verdicts`, concatenated.

    Returns:
        As `by_trials`, of any role, without precision; ``like`` is "even" (all heads of such models), "some
        colours" (extractors of four or two), "uneven" (`UNEVEN_HEAD`), or "other kinds".
    """
    known = _at_moderate_noise(frame, reading)
    some = known["like"].isin(["2 × 4", "4 × 2"]) & (known["truth"] == "color extractor")
    alike = {"even": known["like"] == "even", "some colours": some, "uneven": known["name"] == UNEVEN_HEAD}
    group = np.select(list(alike.values()), list(alike), "other kinds")
    rows = []
    for like in (*alike, "other kinds"):
        for trials, part in known[(group == like) & (known["truth"] != "none")].groupby("trials"):
            right = [truth in names.split(" + ") for truth, names in zip(part["truth"], part["role"])]
            row = dict(like=like, trials=trials, role="any role", models=part["seed"].nunique())
            row |= dict(true=len(part), right=sum(right), recall=np.mean(right))
            row["recall_low"], row["recall_high"] = binomtest(sum(right), len(part)).proportion_ci()
            row["testable"] = int(part["testable"].sum())
            rows.append(row)
    return pd.DataFrame(rows)


def _at_moderate_noise(frame, reading):
    return frame[
        (frame["kind"] == "planted") & (frame["noise"] == MODERATE_NOISE) & (frame["reading"] == reading)
    ]


def _counted(part, role):
    """Heads that have a role, that are given it, and both; precision and recall with their intervals."""
    true, given = (
        part["truth"] == role,
        part["role"].str.split(" + ", regex=False).map(lambda names: role in names),
    )
    right = int((true & given).sum())
    row: dict[str, float] = dict(true=int(true.sum()), given=int(given.sum()), right=right)
    for name, of in (("precision", int(given.sum())), ("recall", int(true.sum()))):
        row[name] = right / of if of else np.nan
        interval = binomtest(right, of).proportion_ci() if of else (np.nan, np.nan)
        row[f"{name}_low"], row[f"{name}_high"] = interval
    return row | dict(testable=int((true & part["testable"]).sum()))


def false_discoveries(frame: pd.DataFrame) -> pd.DataFrame:
    """Roles given where every one is false (`NULLS`).

    Returns:
        A row per kind × reading: ``kind, reading, models, models_with_a_role, heads, heads_with_a_role``,
        ``testable`` (how many of the heads are), ``informative`` (these are at least `INFORMATIVE` of them;
        else how many were given a role says nothing).
    """
    rows = []
    for (kind, reading), part in frame[frame["kind"] != "planted"].groupby(["kind", "reading"], sort=False):
        named = part["role"] != "none"
        models = dict(models=part["seed"].nunique(), models_with_a_role=part["seed"][named].nunique())
        row = dict(kind=kind, reading=reading, **models, heads=len(part), heads_with_a_role=int(named.sum()))
        testable = int(part["testable"].sum())
        rows.append(row | dict(testable=testable, informative=testable >= INFORMATIVE * len(part)))
    return pd.DataFrame(rows)
