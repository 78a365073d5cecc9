"""What a patched run costs at other positions than [end], counted in plain forwards.

    python benchmarks/rows.py

Positions times layers that the language model runs, of those of a plain forward, captures left out:
of all heads, of one head in every layer, of whole layers and of attention knockout. Counted on a
small random LLaVA with 16 layers, in batches of as many rows as fit and of four: what is counted
depends on neither width nor machine.
"""

from functools import partial

from run import counted
from sweep import random_model

import rgb_circuit as rgb
from rgb_circuit.prompts import encode


def rows_of(model, trial, batch_size):
    """(what is patched, the call, rows, captures) of each kind."""
    layers, options = range(model.n_layers), dict(progress=False, batch_size=batch_size)
    heads = partial(rgb.patch_heads, model, trial, target="erased", positions="all", **options)
    yield "all heads", heads, model.n_layers * model.n_heads, 2
    yield (
        "one head in every layer",
        partial(heads, heads=[(layer, 0) for layer in layers]),
        len(layers),
        2,
    )
    whole = partial(rgb.patch_layers, model, trial, target="erased", positions="image", **options)
    yield "whole layers at the picture", whole, len(layers), 2
    knocked = partial(rgb.knockout, model, trial, queries="image", keys="first", **options)
    yield "knockout from the picture on, windows of one layer", knocked, len(layers), 1


def main(layers=16, grid=8):
    model = random_model(layers=layers, heads=4, grid=grid)
    [trial] = rgb.rgb_trials(model, 1)
    plain = encode(model, [(trial, "clean")])["input_ids"].shape[1] * model.n_layers
    for batch_size in (None, 4):
        for what, call, rows, captures in rows_of(model, trial, batch_size):
            _, ran = counted(model, call)
            print(
                f"{what}, batches of {batch_size or 'what fits'}: "
                f"{(ran / plain - captures) / rows:.3f} plain forwards each, of {rows}"
            )


if __name__ == "__main__":
    main()
