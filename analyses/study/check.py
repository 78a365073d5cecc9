"""Can the numbers be trusted with this model, these weights, this machine? The checks of a careful
user, done once.

1. Compute ten patched logits, of every component at several positions, twice: by the engine
   (`rgb_circuit.patch_edits`, and for z at [end] the sweep of all heads) and by plain PyTorch hooks
   on the very same weights (`rgb_circuit.calls.reference`). Layers are spread over the model;
   layers and heads are drawn at random.
2. The two may differ by rounding. The hooks measure how much: they move every z of a layer, at all
   positions, to its neighbour in the number format, which changes nothing but rounding. The root
   mean square change of the answers' logits, in the layer with the largest, is the error of one
   effect; a difference of two effects has √2 times that error. The largest of all differences
   exceeds the tolerance with probability ``ALARM`` (normal errors, Bonferroni). The tolerance is
   never below the package's threshold for rounding (`rgb_circuit.statistics.ROUNDING` of the
   largest logit).
3. Hooks need the weights in this process. On a server, the engine instead restores a run's own
   activations, which must change nothing, and the noise floor replaces the hooks' rounding error.
4. Report what else shapes the numbers: kernel, number format, tokens, grid, noise floor, time,
   memory, and whether the model plays.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

import numpy as np
import pandas as pd
import psutil
import torch
from scipy.stats import norm

from rgb_circuit import Edit, Vlm, noise_floor, patch_edits, patch_heads, play, rgb_trials
from rgb_circuit.bars import tqdm
from rgb_circuit.calls.reference import patched_effects
from rgb_circuit.edits import OF_A_HEAD
from rgb_circuit.heads import rows_of
from rgb_circuit.measuring.estimate import seconds_of_a_forward
from rgb_circuit.prompts import answer_tokens
from rgb_circuit.prompts.asking import token_of
from rgb_circuit.statistics import ROUNDING
from rgb_circuit.stimuli.drawing import words_for
from rgb_circuit.stimuli.tasks import find

TASK, TARGET = find("rgb"), "clean"
# The two pictures share no word, so all their image tokens differ.
SOURCE = next(
    name
    for name, one in TASK.conditions.items()
    if not {*one.shows} & {*TASK.conditions[TARGET].shows}
)

# Every component, by both routes of the engine: copies of [end], and rows that resume from an
# earlier position.
PATCHES = (
    ("z", "end"), ("z", "image"), ("pattern", "end"), ("pattern", "text"), ("value", "image"),
    ("query", "text"), ("key", "end"), ("attn_out", "end"), ("mlp_out", "tile"), ("resid_pre",
    "tile"),
)  # fmt: skip

# The probability that rounding alone counts as a difference, and how many layers are rounded.
ALARM, NUDGED = 1e-3, 8

# The noise floor bounds 95 % of effects: this many root mean squares.
FLOOR = float(norm.isf(0.025))


@dataclass(frozen=True)
class Check:
    """The result of `check`.

    Attributes:
        patched: a row per edit: ``component, positions, layer, head`` (missing for a component of
            the whole layer); ``effect`` and ``wanted``, the true effect (logits), on the ``answer``
            that the edit moves most; ``difference`` (logits), the largest over all answers.
        tolerance: the largest difference allowed, in logits.
        floor: the noise floor at [end], in logits.
        tokens: the game's words → the token id at which each is read.
        played: from `rgb_circuit.play`.
        forward, sweep: seconds of a plain forward, and of a sweep of all heads at [end] with both
            pictures.
        memory: place → peak bytes since the process began; empty on a server.
    """

    patched: pd.DataFrame
    tolerance: float
    floor: float
    tokens: dict[str, int]
    played: pd.DataFrame
    forward: float
    sweep: float
    memory: dict[str, int]

    @property
    def agrees(self) -> bool:
        """Whether every difference is within the tolerance; NaN is not."""
        return bool((self.patched["difference"] <= self.tolerance).all())


def check(model: Vlm, *, trials: int = 4, seed: int = 0, progress: bool = True) -> Check:
    """Compare ten patched logits of a model with plain hooks on its own weights, and measure time
    and memory.

    Args:
        trials: how many trials of the game are played; the first is patched.
        seed: of trials, layers and heads.
        progress: show a bar if the check takes longer than two seconds.

    Raises:
        InputError: as `rgb_circuit.rgb_trials` and `rgb_circuit.patch_heads`.
    """
    shown = rgb_trials(model, trials, seed)
    trial = shown[0]
    with tqdm(
        total=5 + len(PATCHES) + NUDGED, desc="checking", delay=2, disable=not progress
    ) as bar:

        def done(value):
            bar.update()
            return value

        played = done(play(model, shown, progress=False))
        forward = done(seconds_of_a_forward(model))
        begin = time.perf_counter()
        sweep = patch_heads(model, trial, source=SOURCE, target=TARGET, progress=False)
        seconds = done(time.perf_counter() - begin)
        floor = done(noise_floor(model, trial, target=TARGET, progress=False))
        edits = drawn(model, seed, TARGET if model.server else SOURCE)
        if model.server:
            sweep = patch_heads(model, trial, source=TARGET, target=TARGET, progress=False)
        found = done(_by_engine(model, trial, edits, sweep))
        if model.server:
            wanted, error = np.zeros_like(found), floor / FLOOR
        else:
            wanted, error = _by_hooks(model, trial, edits, done)
        bar.update(bar.total - bar.n)
    apart = float(norm.isf(ALARM / 2 / found.size)) * np.sqrt(2) * error
    return Check(
        patched=_table(trial, edits, found, wanted),
        tolerance=max(apart, ROUNDING * float(sweep["target_logit"].abs().max())),
        floor=floor,
        tokens={word: token_of(model, word, trial.prompt) for word in words_for(model, TASK)},
        played=played,
        forward=forward,
        sweep=seconds,
        memory={} if model.server else _peaks(model),
    )


def drawn(model: Vlm, seed: int, source: str) -> list[Edit]:
    """An edit for each of ``PATCHES``, all from one condition, in layers spread over the model."""
    random = np.random.default_rng(seed)
    depth = (random.permutation(len(PATCHES)) + random.random(len(PATCHES))) / len(PATCHES)
    edits = []
    for (component, positions), place in zip(PATCHES, depth):
        # The last layer's output is read at [end] only.
        layers = model.n_layers - (positions in ("image", "tile") and model.n_layers > 1)
        head = int(random.integers(model.n_heads)) if component in OF_A_HEAD else None
        edits.append(Edit(int(place * layers), head, source, component, positions))
    # Some models have no module called `mlp`.
    return [
        edit
        for edit in edits
        if edit.component != "mlp_out" or hasattr(model.layers[edit.layer], "mlp")
    ]


def _by_engine(model, trial, edits, sweep):
    """Effects by the engine, (edits, answers); those of z at [end] come from the sweep."""
    rows = {}
    for positions, group in groupby(
        sorted(edits, key=attrgetter("positions")), attrgetter("positions")
    ):
        variants = {str(number): [edit] for number, edit in enumerate(group)}
        frame = patch_edits(model, trial, variants, target=TARGET, progress=False)
        for number, (edit,) in variants.items():
            rows[edit] = frame[frame["variant"] == number]
    for edit in edits:
        if (edit.component, edit.positions) == ("z", "end"):
            rows[edit] = rows_of(sweep, (edit.layer, edit.head))
    return np.stack([rows[edit]["effect"].to_numpy() for edit in edits])


def _by_hooks(model, trial, edits, done):
    """Effects by plain hooks, (edits, answers), and the rounding error of one effect."""
    tokens = list(answer_tokens(model, trial, TARGET).values())
    most = min(NUDGED, model.n_layers)
    layers = sorted({round(place) for place in np.linspace(0, model.n_layers - 1, most)})
    rounding = [
        [Edit(layer, head, "rounding", positions="all") for head in range(model.n_heads)]
        for layer in layers
    ]
    variants = [*([edit] for edit in edits), *rounding]
    effects = np.stack(
        [done(effect.numpy()) for effect in patched_effects(model, trial, TARGET, variants, tokens)]
    )
    errors = np.sqrt((effects[len(edits) :] ** 2).mean(1))
    return effects[: len(edits)], float(errors.max())


def _table(trial, edits, found, wanted):
    """``patched`` of `Check`, from effects (edits, answers)."""
    row, most = np.arange(len(edits)), np.abs(wanted).argmax(1)
    words = list(trial.answers.values())
    return pd.DataFrame(
        {
            "component": [edit.component for edit in edits],
            "positions": [edit.positions for edit in edits],
            "layer": [edit.layer for edit in edits],
            "head": pd.array([edit.head for edit in edits], dtype="Int64"),
            "answer": [words[number] for number in most],
            "effect": found[row, most],
            "wanted": wanted[row, most],
            "difference": np.abs(found - wanted).max(1),
        }
    )


def _peaks(model):
    """Place → peak bytes so far."""
    peaks = {"this process": _peak_of_the_process()}
    devices = {
        weights.device
        for weights in model.nnsight._module.parameters()
        if weights.device.type == "cuda"
    }
    return peaks | {
        str(device): torch.cuda.max_memory_allocated(device) for device in sorted(devices, key=str)
    }


def _peak_of_the_process():
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    # Linux counts in KiB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )
