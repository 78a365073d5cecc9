"""Can the analyses be believed? Their verdicts on models whose heads are known.

1. A family of models: planted circuits (`rgb_circuit.models.planted`) over levels of noise, with placements, decoys, grouped-query
   attention and grids drawn at random; LLaVAs with random weights; and planted ones whose pictures are shuffled among the
   conditions of a trial. On the last two every role is false.
2. Four readings give each head a role: `analyses.roles` on the trials as they are drawn, and on as many that the model answers
   right on every picture; and beside it two that people use, the largest cells of the seed's three heatmaps, and attention to the odd tile.
3. Their roles are held against the truth: precision and recall per role, and roles given on random models.

An analysis that is added to `analyses.roles.HYPOTHESES` is calibrated here without a change.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from tqdm.auto import tqdm

import rgb_circuit as rgb
from rgb_circuit.keeping import call_name, kept
from rgb_circuit.models.planted import DECOYS, MODERATE_NOISE, planted, random_placement
from rgb_circuit.models.random import random_llava
from rgb_circuit.panels import PANELS, panels
from rgb_circuit.play import answered_right
from rgb_circuit.statistics import fewest_trials

from . import roles
from .attention_statistics import attention_statistics

# In units of the gap between clean and corrupted pictures, as margins are.
NOISE = (0.0, MODERATE_NOISE / 2, MODERATE_NOISE, 2 * MODERATE_NOISE)


@dataclass(frozen=True)
class Subject:
    """One model to judge.

    Attributes:
        kind: ``"planted"``, ``"random"``, or ``"shuffled"`` (planted, shown the pictures under each other's names).
        noise: of a planted model, as a fraction of its gap; NaN for a random one.
        seed: of everything that is drawn for it.
    """

    kind: str
    noise: float
    seed: int

    def build(self):
        """model, processor, truth (``layer, head, role, name``)."""
        rng = np.random.default_rng([self.seed, self.kind != "random"])
        kv_heads = int(rng.choice([1, 2, 4]))
        if self.kind == "random":
            model, processor = random_llava(self.seed, layers=4, heads=4, kv_heads=kv_heads)
            places = [(layer, head) for layer in range(4) for head in range(4)]
            return model, processor, pd.DataFrame(places, columns=["layer", "head"]).assign(role="none", name="none")
        layers, grid = int(rng.integers(5, 8)), int(rng.integers(6, 9))
        decoys = [decoy for decoy in DECOYS if rng.random() < 0.8]
        placement = random_placement(layers, 4, self.seed)
        shape = dict(grid=grid, layers=layers, heads=4, kv_heads=kv_heads)
        model, processor, truth = planted(**shape, placement=placement, decoys=decoys, noise=self.noise, seed=self.seed)
        return model, processor, truth if self.kind == "planted" else truth.assign(role="none")


def family(seed: int = 0, planted_each: int = 5, random: int = 20, noise: Sequence[float] = NOISE) -> list[Subject]:
    """``planted_each`` planted models at every level of ``noise``, the same ones at each; ``random`` random, and as many shuffled ones."""
    if planted_each < 1 or random < 1:
        raise rgb.InputError(f"{planted_each} planted and {random} random models were asked for; use at least one of each")
    if seed < 0:
        raise rgb.InputError(f"seed is {seed}; use a whole number from 0 on")
    first = 1000 * seed
    known = [Subject("planted", level, first + index) for level in noise for index in range(planted_each)]
    false = [Subject("random", np.nan, first + index) for index in range(random)]
    return known + false + [Subject("shuffled", MODERATE_NOISE, first + index) for index in range(random)]


def by_roles(model: rgb.Vlm, trials: Sequence[rgb.Trial]) -> pd.DataFrame:
    """``layer, head, role`` as `analyses.roles` has them."""
    return roles.roles(model, trials, progress=False)[["layer", "head", "role"]]


def by_largest_cells(model: rgb.Vlm, trials: Sequence[rgb.Trial]) -> pd.DataFrame:
    """``layer, head, role`` as the seed read its heatmaps.

    The color extractor is the largest cell of the first panel (odd, when recolored). POI localization are the three largest
    of the third (background, when erased), as far as they are above zero and do not raise the odd word (by more than a tenth
    of the extractor's cell) in the other two.
    """
    table = panels(rgb.patch_heads(model, trials, progress=False))
    recolored, erased, background = (table[panel] for panel in PANELS)
    largest = recolored.idxmax()
    quiet = (np.maximum(recolored, erased) <= 0.1 * recolored[largest]) & (background > 0)
    role = pd.Series("none", index=table.index)
    role[background[quiet].nlargest(3).index] = "POI localization"
    role[largest] = "color extractor"
    return table[["layer", "head"]].assign(role=role)


def by_attention(model: rgb.Vlm, trials: Sequence[rgb.Trial]) -> pd.DataFrame:
    """``layer, head, role`` where every head that puts more than half of its attention at [end] on the odd tile localizes it.

    Attention cannot tell reading a place from reading its colour, so such a head is called by both roles.
    """
    mass = attention_statistics(model, trials, progress=False).groupby(["layer", "head"])["tile"].mean().reset_index()
    return mass[["layer", "head"]].assign(role=np.where(mass["tile"] > 0.5, "color extractor + POI localization", "none"))


READINGS: Mapping[str, Callable] = {
    "roles": by_roles,
    "roles, only correct trials": by_roles,
    "largest cells of three heatmaps": by_largest_cells,
    "attention to the odd tile": by_attention,
}
# How many times as many trials are drawn, to have enough that are answered right.
DRAWN = 4
# What `analyses.roles` needs at least, half of them to find heads and half to test them.
ENOUGH = 2 * fewest_trials(0.05)


def reading_of(only_correct: bool) -> str:
    """The name of the reading that ``rgb-circuit run`` takes, with or without ``--only-correct``."""
    return "roles, only correct trials" if only_correct else "roles"


def verdicts(subjects: Sequence[Subject], *, trials: int = 16, progress: bool = True) -> Iterator[pd.DataFrame]:
    """Judge every head of every model by every reading; inside `rgb_circuit.keeping.keeping` each model once.

    Yields:
        Per model, a row per reading × head: ``kind, noise`` (fraction of the gap), ``seed, kv_heads, grid, solved`` (share of
        pictures answered right), ``layer, head, truth, name, reading, role``. Random models answer nothing right, and have no rows
        for only correct trials.
    """
    call = call_name("verdicts", {"trials": trials, "readings": list(READINGS)})
    for subject in tqdm(subjects, desc="calibrating", unit="model", disable=not progress):
        unit = f"{subject.kind}-{subject.noise}-{subject.seed}"
        yield kept(call, unit, partial(_judged, subject, trials))


def _judged(subject, trials):
    """`verdicts` on one model."""
    model, processor, truth = subject.build()
    model = rgb.wrap(model, processor, name=f"{subject.kind} {subject.seed}")
    drawn = rgb.rgb_trials(model, DRAWN * trials, seed=subject.seed)
    played = rgb.play(model, drawn, progress=False)
    solved = float(played["correct"].mean())
    samples = dict.fromkeys(READINGS, drawn[:trials]) | {reading_of(True): answered_right(drawn, played)[:trials]}
    if subject.kind == "random":
        del samples[reading_of(True)]
    if subject.kind == "shuffled":
        samples = {name: _all_shuffled(sample, subject.seed) for name, sample in samples.items()}
    about = dict(
        kind=subject.kind,
        noise=subject.noise,
        seed=subject.seed,
        kv_heads=model.n_kv_heads,
        grid=model.grid[0],
        solved=solved,
    )
    known = truth.rename(columns={"role": "truth"})
    nothing = known[["layer", "head"]].assign(role="none")
    blocks = []
    for reading, sample in samples.items():
        # A model may answer too few right to tell a role from them.
        found = READINGS[reading](model, sample) if len(sample) >= min(trials, ENOUGH) else nothing
        blocks.append(known.merge(found, on=["layer", "head"]).assign(reading=reading))
    return pd.concat(blocks, ignore_index=True).assign(**about)[[*about, "layer", "head", "truth", "name", "reading", "role"]]


def _all_shuffled(trials, seed):
    """The trials, each with its pictures under each other's conditions."""
    rng = np.random.default_rng(seed)
    shuffled = []
    for trial in trials:
        names = list(trial.images)
        images = {name: trial.images[other] for name, other in zip(names, rng.permutation(names))}
        shuffled.append(replace(trial, images=images, expected={}))
    return shuffled


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Precision and recall of every reading.

    Args:
        frame: `verdicts`, concatenated.

    Returns:
        A row per reading × role × noise (planted models): ``reading, role, noise, models, true`` (heads that have the role),
        ``given`` (heads that the reading gives it), ``right`` (both), ``precision, precision_low, precision_high, recall,
        recall_low, recall_high``, with exact (Clopper–Pearson) 95 % intervals over heads; NaN where nothing was given or true.
    """
    rows = []
    known = frame[frame["kind"] == "planted"]
    for (reading, noise), part in known.groupby(["reading", "noise"], sort=False):
        for role in roles.HYPOTHESES:
            true, given = part["truth"] == role, part["role"].str.split(" + ", regex=False).map(lambda names: role in names)
            right = int((true & given).sum())
            row = dict(
                reading=reading,
                role=role,
                noise=noise,
                models=part["seed"].nunique(),
                true=int(true.sum()),
                given=int(given.sum()),
                right=right,
            )
            for name, of in (("precision", row["given"]), ("recall", row["true"])):
                row[name] = right / of if of else np.nan
                interval = binomtest(right, of).proportion_ci() if of else (np.nan, np.nan)
                row[f"{name}_low"], row[f"{name}_high"] = interval
            rows.append(row)
    return pd.DataFrame(rows)


def false_discoveries(frame: pd.DataFrame) -> pd.DataFrame:
    """Roles given where every one is false: on random weights, and on shuffled pictures.

    Returns:
        A row per kind × reading: ``kind, reading, models, models_with_a_role, heads, heads_with_a_role``.
    """
    rows = []
    for (kind, reading), part in frame[frame["kind"] != "planted"].groupby(["kind", "reading"], sort=False):
        named = part["role"] != "none"
        models = dict(models=part["seed"].nunique(), models_with_a_role=part["seed"][named].nunique())
        rows.append(dict(kind=kind, reading=reading, **models, heads=len(part), heads_with_a_role=int(named.sum())))
    return pd.DataFrame(rows)
