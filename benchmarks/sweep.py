"""Cost of patching every head of an LLaVA-1.5-shaped model, in plain forwards, against one trace
per head.

32 layers × 32 heads, 24 × 24 tiles, random weights at a small width, float32, CPU. All times come
from one process, each the best of several; what counts is their ratios.
"""

import resource
import time

import pandas as pd
import torch

import rgb_circuit as rgb
from rgb_circuit.calls import reference
from rgb_circuit.models.random import random_llava
from rgb_circuit.programs.capture import capture
from rgb_circuit.prompts import encode


def best(run, times):
    """Seconds of the fastest of ``times`` calls."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def random_model(layers, heads, grid, d_head=8):
    """A loaded random LLaVA with so many layers, heads and tiles."""
    shape = dict(layers=layers, heads=heads, kv_heads=heads, d_head=d_head, width=heads * d_head)
    return rgb.wrap(
        *random_llava(grid=grid, tile_px=14, **shape),
        name=f"random, {layers} × {heads} heads, {grid} × {grid} tiles",
    )


@torch.no_grad()
def plain_forward(model, trial):
    """One forward of the bare Hugging Face model on one picture, vision tower included."""
    return model.nnsight._module(**encode(model, [(trial, "erased")]), logits_to_keep=1)


def loop(model, trial, z, heads, places):
    """A forward per head, as `reference` does it, by a loop that has captured ``z`` already."""
    inputs = encode(model, [(trial, "erased")])
    for layer, head in heads:
        reference.patched_forward(
            model, inputs, {(layer, "z"): [(head, places, z[layer][0, places, head])]}
        )


def peak_gib():
    """The most memory this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main():
    model = random_model(layers=32, heads=32, grid=24)
    trial = rgb.rgb_trial()
    heads = model.heads()
    length = encode(model, [(trial, "erased")])["input_ids"].shape[1]
    z = capture(
        model.nnsight,
        (model.n_heads, model.d_head),
        encode(model, [(trial, "clean")]),
        0,
        ("z",),
    ).z
    # Whole layers whose mean depth is that of all layers; the loop on two heads of each.
    four, eight = (
        [(layer, head) for layer in layers for head in range(32)]
        for layers in ((3, 12, 19, 28), (1, 5, 9, 13, 18, 22, 26, 30))
    )
    few = [(layer, head) for layer in (3, 12, 19, 28) for head in (0, 16)]

    def end():
        rgb.patch_heads(model, [trial], target="erased", progress=False)

    def every_position(rows):
        rgb.patch_heads(
            model, [trial], target="erased", positions="all", heads=rows, progress=False
        )

    plain_forward(model, trial), end(), loop(model, trial, z, few, [length - 1])
    plain = best(lambda: plain_forward(model, trial), 7)
    at_rest = peak_gib()
    end_seconds, end_peak = best(end, 7), peak_gib()
    loop_end = best(lambda: loop(model, trial, z, few, [length - 1]), 3) / len(few)
    loop_all = best(lambda: loop(model, trial, z, few, list(range(length))), 3) / len(few)
    fewer, more = (best(lambda rows=rows: every_position(rows), 2) for rows in (four, eight))
    # The pictures are captured once: what four layers more take is an eighth of all.
    all_seconds, all_peak = fewer + 7 * (more - fewer), peak_gib()

    table = pd.DataFrame(
        [
            ("plain forward", plain, 1.0, None, at_rest),
            (
                "one trace per head, [end]",
                loop_end * len(heads),
                loop_end * len(heads) / plain,
                1.0,
                at_rest,
            ),
            (
                "patch_heads, [end], both captures included",
                end_seconds,
                end_seconds / plain,
                end_seconds / (loop_end * len(heads)),
                end_peak,
            ),
            (
                "one trace per head, all positions",
                loop_all * len(heads),
                loop_all * len(heads) / plain,
                1.0,
                end_peak,
            ),
            (
                "patch_heads, all positions",
                all_seconds,
                all_seconds / plain,
                all_seconds / (loop_all * len(heads)),
                all_peak,
            ),
        ],
        columns=["1,024 heads, one target", "seconds", "plain forwards", "of the loop", "peak GiB"],
    )
    print(
        f"{len(heads)} heads, {length} positions, {torch.get_num_threads()} threads; loops timed "
        f"on {len(few)} heads, all positions on {len(four)} and {len(eight)}"
    )
    print(table.to_string(index=False, float_format=lambda value: f"{value:,.4g}"))
    print(f"[end] sweep against the loop: {loop_end * len(heads) / end_seconds:.0f} times faster")


if __name__ == "__main__":
    main()
