"""How the cost of an [end] sweep grows: with heads, with tokens, with trials, with the size of
joint patches.

Random models, float32, one target, both captures included; every time beside a plain forward of the
same model, best of three. Prints a table and draws figures/growth.png.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from sweep import best, plain_forward, random_model

import rgb_circuit as rgb


def cost(model, trials, size=1):
    """Plain forwards per trial of patching every head, or as many joint patches of ``size``
    heads."""
    heads = model.heads()
    variants = {
        str(start): [
            rgb.Edit(*heads[(start + step * len(heads) // size) % len(heads)])
            for step in range(size)
        ]
        for start in range(len(heads))
    }
    plain_forward(model, trials[0])
    plain = best(lambda: plain_forward(model, trials[0]), 3)
    if size == 1:
        seconds = best(lambda: rgb.patch_heads(model, trials, target="erased", progress=False), 3)
    else:
        seconds = best(
            lambda: rgb.patch_edits(model, trials, variants, target="erased", progress=False), 3
        )
    return dict(
        plain_seconds=plain, sweep_seconds=seconds, forwards_per_trial=seconds / plain / len(trials)
    )


def main():
    rows = []

    def measure(what, value, model, n=1, size=1):
        rows.append(dict(grows=what, value=value, **cost(model, rgb.rgb_trials(model, n), size)))

    for layers in (8, 16, 32):
        model = random_model(layers=layers, heads=32, grid=12)
        measure("heads", layers * 32, model)
    for grid in (6, 12, 24):
        model = random_model(layers=16, heads=16, grid=grid)
        measure("image tokens", grid * grid, model)
    model = random_model(layers=16, heads=16, grid=12)
    for n in (1, 4, 16):
        measure("trials", n, model, n=n)
    for size in (1, 2, 8, 32):
        measure("heads per joint patch", size, model, size=size)

    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
    kinds = table["grows"].unique()
    figure, axes = plt.subplots(
        1, len(kinds), figsize=(3.2 * len(kinds), 3), sharey=True, layout="constrained"
    )
    for kind, ax in zip(kinds, axes):
        part = table[table["grows"] == kind]
        ax.plot(part["value"], part["forwards_per_trial"], marker="o", color="#0072B2")
        ax.set(xlabel=kind, xscale="log", ylim=(0, None))
        ax.set_xticks(part["value"], part["value"].astype(str), minor=False)
        ax.minorticks_off()
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("plain forwards per trial")
    figure.suptitle("Cost of patching every head at [end], captures included")
    folder = Path(__file__).parent / "figures"
    folder.mkdir(exist_ok=True)
    figure.savefig(folder / "growth.png", dpi=120)


if __name__ == "__main__":
    main()
