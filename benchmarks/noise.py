"""Whether the noise floor of a number format is where its errors are.

    python benchmarks/noise.py

Effects of all heads at [end] in half precision against the same weights in float32, which hold the
format's numbers exactly. *Above* is the share of effects that are off by more than
`rgb_circuit.noise_floor`, which promises 5 %; the last column is the largest effect of an edit that
changes nothing.
"""

import copy

import numpy as np
import torch

import rgb_circuit as rgb
from rgb_circuit.models.planted import planted
from rgb_circuit.models.random import random_llava

TARGETS = ("recolored", "erased")


def models():
    """Name → a model and its processor."""
    yield "random, 4 × 4", random_llava(0)
    yield "random, 4 × 4, keys in groups", random_llava(1, kv_heads=2)
    yield "random, 8 × 8", random_llava(0, layers=8, heads=8, kv_heads=8, width=128, d_head=16)
    yield "planted", planted()[:2]
    yield "planted, keys in groups", planted(kv_heads=2)[:2]
    yield "planted, keys in groups, 2 % noise", planted(kv_heads=2, noise=0.02)[:2]
    toy = rgb.load("toy")
    yield "toy", (toy.nnsight._module, toy.processor)


def compared(module, processor, dtype, n=4):
    """Errors and floors of one model, as numbers."""
    module = copy.deepcopy(module).to(dtype)
    exact = rgb.wrap(copy.deepcopy(module).float(), processor, name="float32")
    model = rgb.wrap(module, processor, name=str(dtype))
    trials = rgb.rgb_trials(exact, n)
    wanted, found = (
        rgb.patch_heads(each, trials, target=TARGETS, progress=False)["effect"]
        for each in (exact, model)
    )
    errors = (found - wanted).abs()
    floor = rgb.noise_floor(model, trials, target=TARGETS, progress=False)
    nothing = [
        rgb.patch_heads(model, trials, source=target, target=target, progress=False)["effect"]
        .abs()
        .max()
        for target in TARGETS
    ]
    return {
        "largest effect": wanted.abs().max(),
        "95 % of errors": errors.quantile(0.95),
        "floor": floor,
        "above": f"{100 * (errors > floor).mean():.1f} %",
        "changes nothing": np.max(nothing),
    }


def main():
    for name, (module, processor) in models():
        for dtype in (torch.bfloat16, torch.float16):
            row = compared(module, processor, dtype)
            said = ", ".join(
                f"{key} {value if isinstance(value, str) else f'{value:.2g}'}"
                for key, value in row.items()
            )
            print(f"{name}, {str(dtype).removeprefix('torch.')}: {said}", flush=True)


if __name__ == "__main__":
    with torch.no_grad():
        main()
