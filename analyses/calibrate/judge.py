"""The roles that every reading gives each head of a model, next to the true ones.

A model is judged by several numbers of trials: the first 16 of its 64, the first 32, and all. Each
trial is measured only once.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import pandas as pd

import rgb_circuit as rgb
from rgb_circuit.bars import tqdm
from rgb_circuit.calls.play import Played, answered_right
from rgb_circuit.keeping.store import Store
from rgb_circuit.measuring.measurement import content_hash
from rgb_circuit.statistics import fewest_trials

from ..rgb.subjects import NULLS, Subject, exchanged
from .known import Known
from .readings import READINGS, by_roles, reading_of

# Up to this many times as many trials are drawn, to have enough that are answered right.
DRAWN = 4
# The fewest trials that `analyses.roles` needs.
ENOUGH = fewest_trials(0.05)


def verdicts(
    subjects: Sequence[Subject], store: Store | None = None, *, progress: bool = True
) -> Iterator[pd.DataFrame]:
    """Judge every head of every model with every reading.

    Args:
        store: keeps the verdicts on each model, and returns those that it has.

    Yields:
        Per model, a row per number of trials × reading × head: ``kind, like, noise`` (fraction of
        the gap), ``seed, kv_heads, grid, solved`` (share of pictures answered right), ``trials,
        layer, head, truth, name, reading, role, testable`` (whether ``roles`` could have given the
        head every role). Random models have no rows for only correct trials. Models that are not
        even, and permuted ones, have rows for ``roles`` only, as do even models for numbers of
        trials other than 32.
    """
    key = f"verdicts-{content_hash([*READINGS, 'testable'])}"
    for subject in tqdm(subjects, desc="calibrating", unit="model", disable=not progress):
        sizes = "+".join(map(str, subject.sizes))
        unit = f"{subject.kind}-{subject.like}-{subject.noise}-{sizes}-{subject.seed}"
        yield store.kept(key, unit, partial(judged, subject)) if store else judged(subject)


def judged(subject: Subject) -> pd.DataFrame:
    """`verdicts` for one model."""
    model, processor, truth = subject.build()
    model = rgb.wrap(model, processor, name=f"{subject.kind} {subject.seed}")
    drawn = rgb.rgb_trials(model, subject.sizes[-1], seed=subject.seed)
    measured = Known()
    [played] = measured.measure(model, [Played.of(drawn)])
    about = dict(kind=subject.kind, like=subject.like, noise=subject.noise, seed=subject.seed)
    about |= dict(
        kv_heads=model.n_kv_heads, grid=model.grid[0], solved=float(played["correct"].mean())
    )
    known = truth.rename(columns={"role": "truth"})
    nothing = known[["layer", "head"]].assign(role="none", testable=False)
    blocks = []
    # The largest size first, since it includes the others' trials.
    for size in reversed(subject.sizes):
        done = {}
        for reading, sample in _samples(model, drawn, played, subject, size).items():
            # If every trial is answered right, the readings with and without ``only_correct`` are
            # the same.
            key = READINGS[reading], tuple(trial.name for trial in sample)
            if key not in done:
                # A model may answer too few trials right to tell a role from them.
                enough = len(sample) >= min(size, ENOUGH)
                done[key] = _read(subject, reading, model, sample, measured) if enough else nothing
            blocks.append(
                known.merge(done[key], on=["layer", "head"]).assign(reading=reading, trials=size)
            )
    return pd.concat(blocks, ignore_index=True).assign(**about)[
        [*about, "trials", "layer", "head", "truth", "name", "reading", "role", "testable"]
    ]


def _read(subject, reading, model, sample, measured):
    """A reading's role for each head; a naive reading can give its roles to any head."""
    if READINGS[reading] is by_roles:
        return by_roles(
            model, sample, measured, subject.kind if subject.kind in NULLS else "", subject.seed
        )
    return READINGS[reading](model, sample, measured).assign(testable=True)


def _samples(model, drawn, played, subject, size):
    """Reading → the trials that it uses."""
    everything = subject.like == "even" and size == subject.compared and subject.kind != "permuted"
    samples = dict.fromkeys(READINGS if everything else [reading_of(False)], drawn[:size])
    if subject.kind == "random":
        # A random model answers too few trials right on all pictures.
        samples.pop(reading_of(True), None)
    elif everything:
        samples[reading_of(True)] = _right(model, drawn, played, subject)[:size]
    if subject.kind == "exchanged":
        samples = {name: exchanged(sample, subject.seed) for name, sample in samples.items()}
    return samples


def _right(model, drawn, played, subject):
    """As many correctly answered trials as the readings are compared by, from those drawn and, if
    needed, up to `DRAWN` times as many."""
    right = answered_right(drawn, played)
    if len(right) < subject.compared:
        more = rgb.rgb_trials(model, DRAWN * subject.compared, seed=subject.seed)
        right = answered_right(more, rgb.play(model, more, progress=False))
    return right
