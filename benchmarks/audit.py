"""What an audit of a list of heads costs per trial, in plain forwards.

    python benchmarks/audit.py                        # 20 heads of 32 × 32, 24 × 24 tiles, 200
    random lists python benchmarks/audit.py --layers 4 --grid 6 --heads 4

*Counted* are positions times layers that the language model runs, of those of a plain forward; the
difference between runs of more and of fewer trials. Random weights have no gap, which is said when
all is measured.
"""

import argparse
import random

import torch
from run import counted
from sweep import random_model

import rgb_circuit as rgb
from analyses.audit import audit
from rgb_circuit.prompts import encode


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--grid", type=int, default=24)
    parser.add_argument("--heads", type=int, default=20, help="of the list")
    parser.add_argument("--random-lists", type=int, default=200)
    options = parser.parse_args(arguments)
    model = random_model(layers=options.layers, heads=options.layers, grid=options.grid)
    [trial] = rgb.rgb_trials(model, 1)
    every = encode(model, [(trial, "erased")])["input_ids"].shape[1] * model.n_layers
    heads = random.Random(0).sample(model.heads(), options.heads)

    def run(n):
        trials = rgb.rgb_trials(model, n)
        try:
            audit(model, trials, {"list": heads}, random_lists=options.random_lists, progress=False)
        except rgb.InputError as error:
            if "no gap" not in str(error):
                raise

    (_, fewer), (_, more) = counted(model, lambda: run(2)), counted(model, lambda: run(4))
    print(f"{model.name}: {options.heads} heads, {options.random_lists} random lists")
    print(f"per trial, counted: {(more - fewer) / 2 / every:.1f} plain forwards")


if __name__ == "__main__":
    with torch.no_grad():
        main()
