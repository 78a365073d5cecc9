"""What a default run costs per trial at LLaVA-1.5's numbers of heads and positions, in plain
forwards.

    # 32 × 32 heads, 24 × 24 tiles, random weights at a small width
    python benchmarks/run.py
    # The same steps on a small shape
    python benchmarks/run.py --grid 6 --layers 4

The difference between runs of more and of fewer trials, so that what is done once counts for
nothing. Random weights play nothing, so no head is found: it is what every trial is asked, and the
closer look at the model as a whole. *Counted* are positions times layers that the language model
runs, of those of a plain forward; *timed* are seconds, of those of a plain forward in the same
process.
"""

import argparse
import io
import tempfile
import time
from contextlib import redirect_stdout

import torch
from sweep import best, plain_forward, random_model

import rgb_circuit as rgb
from analyses import study
from rgb_circuit.prompts import encode

OPTIONS = dict(seed=0, positions="end", only_correct=False, device="auto", dtype="auto")


def counted(model, run):
    """Seconds of ``run``, and the positions times layers that it runs."""
    positions = []
    layers = model.nnsight._module.model.language_model.layers
    hooks = [
        # A layer's attention is skipped with the layer.
        layer.self_attn.o_proj.register_forward_pre_hook(
            lambda _, given: positions.append(given[0].shape[:-1].numel())
        )
        for layer in layers
    ]
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    for hook in hooks:
        hook.remove()
    return seconds, sum(positions)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--grid", type=int, default=24)
    parser.add_argument(
        "--trials", type=int, nargs=2, default=(10, 16), help="of the two runs; 6 or more"
    )
    options = parser.parse_args(arguments)
    model = random_model(layers=options.layers, heads=options.layers, grid=options.grid)
    [trial] = rgb.rgb_trials(model, 1)
    plain_forward(model, trial)
    plain = best(lambda: plain_forward(model, trial), 5)
    every = encode(model, [(trial, "erased")])["input_ids"].shape[1] * model.n_layers

    def run(n):
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
            given = {**OPTIONS, "trials": str(n)}
            study.run(study.Path(folder), model, rgb.rgb_trials(model, n), given, anyway=True)

    fewer, more = options.trials
    (short, some), (long, all_of_them) = (
        counted(model, lambda: run(fewer)),
        counted(model, lambda: run(more)),
    )
    n = more - fewer
    print(f"{model.name}: a plain forward takes {plain:.3g} s")
    print(f"per trial, counted: {(all_of_them - some) / n / every:.1f} plain forwards")
    print(
        f"per trial, timed: {(long - short) / n / plain:.1f} plain forwards "
        f"({(long - short) / n:.3g} s)"
    )


if __name__ == "__main__":
    with torch.no_grad():
        main()
