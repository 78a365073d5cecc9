"""Estimates beside what they estimate: `rgb.attribute` against `rgb.patch_heads`, heads restored from clean.

    python benchmarks/attribution.py              # toy, planted, and random weights, 8 × 8 heads: a minute
    python benchmarks/attribution.py --llava      # LLaVA-1.5's 32 × 32 heads and 593 positions, at a small
                                                  # width: ten minutes, 2 GiB

A head's size is the largest |effect| over targets and roles of its mean over trials. *Rank agreement* is
Spearman's, of heads' sizes, and of all signed effects (head × target × role). *Missed* is how many of the k
largest heads are not among the k with the largest estimates.
"""

import argparse
import time

import pandas as pd
import torch
from scipy.stats import spearmanr
from sweep import peak_gib, random_model

import rgb_circuit as rgb
from rgb_circuit.attribute import METHODS

KEYS = ["target", "role", "layer", "head"]


def timed(run):
    """What ``run`` returns, and seconds; of the second of two runs where the first took less than ten."""
    start = time.perf_counter()
    found = run()
    seconds = time.perf_counter() - start
    if seconds < 10:
        start = time.perf_counter()
        found = run()
        seconds = time.perf_counter() - start
    return found, seconds


def compared(name, model, trials, targets, positions):
    """A row per method."""
    ask = dict(target=targets, positions=positions, progress=False)
    exact, patched_in = timed(lambda: rgb.patch_heads(model, trials, **ask))
    truth = exact.groupby(KEYS, observed=True)["effect"].mean()
    size = truth.abs().groupby(["layer", "head"]).max()
    k = max(4, round(len(size) / 10))
    rows = []
    for method in METHODS:
        frame, estimated_in = timed(lambda method=method: rgb.attribute(model, trials, method=method, **ask))
        guess = frame.groupby(KEYS, observed=True)["effect"].mean()
        guessed = guess.abs().groupby(["layer", "head"]).max()
        largest = set(size.nlargest(k).index)
        rows.append(
            {
                "model": name,
                "heads": len(size),
                "trials": len(trials),
                "positions": positions,
                "method": method,
                "sizes": spearmanr(size, guessed).statistic,
                "signed": spearmanr(truth, guess).statistic,
                "k": k,
                "missed": len(largest - set(guessed.nlargest(k).index)),
                "missed by 2k": len(largest - set(guessed.nlargest(2 * k).index)),
                "largest missed": size[list(largest - set(guessed.nlargest(k).index))].max(),
                "largest": size.max(),
                "exact, s": patched_in,
                "estimate, s": estimated_in,
                "times faster": patched_in / estimated_in,
            }
        )
    return rows


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--llava", action="store_true", help="LLaVA-1.5's narrow shape instead of small models"
    )
    parser.add_argument("--trials", type=int, default=16, help="of the small models")
    options = parser.parse_args(arguments)
    both = ("recolored", "erased")
    if options.llava:
        model = random_model(layers=32, heads=32, grid=24)
        models = {"random, 32 × 32": (model, [rgb.rgb_trial()], ("erased",))}
    else:
        models = {}
        small = {
            "toy": rgb.load("toy"),
            "planted": rgb.load("planted"),
            "random, 8 × 8": random_model(8, 8, 12),
        }
        for name, model in small.items():
            models[name] = model, rgb.rgb_trials(model, options.trials), both
    rows = []
    for name, (model, trials, targets) in models.items():
        for positions in ("end", "all"):
            rows += compared(name, model, trials, targets, positions)
    print(f"{torch.get_num_threads()} threads, peak {peak_gib():.2f} GiB")
    print(pd.DataFrame(rows).to_string(index=False, float_format=lambda value: f"{value:,.3g}"))


if __name__ == "__main__":
    main()
