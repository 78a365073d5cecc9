"""The exact shape of LLaVA-1.5-7B with random weights: what the sweeps cost, before any weights are
downloaded.

    # 7 billion random weights; needs 24 GiB of GPU memory
    python benchmarks/llava_7b_shape.py --dtype float16
    # Without a GPU; needs 24 GiB of memory
    python benchmarks/llava_7b_shape.py --device cpu --dtype bfloat16
    # The same steps on a small shape
    python benchmarks/llava_7b_shape.py --small

All-positions sweeps are timed on whole layers, evenly spread (on a CPU on one head of each), and
scaled to all heads. Published figures come from one run.
"""

import argparse
import resource
import sys
import time

import pandas as pd
import torch
from transformers import LlavaForConditionalGeneration

import rgb_circuit as rgb
from rgb_circuit.models import small
from rgb_circuit.prompts import encode


def build(dtype, device, tiny):
    """The wrapped model, its weights drawn where they stay."""
    grid, tile_px = (6, 4) if tiny else (24, 14)
    tools = small.processor(grid, tile_px)
    if tiny:
        vision = dict(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
        )
        text = dict(
            hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4
        )
    else:
        vision = dict(
            hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16
        )
        text = dict(
            hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32
        )
    configuration = small.config(
        grid, tile_px, tools.tokenizer, vision, text, vision_feature_layer=-2
    )
    if not tiny:
        # LLaVA-1.5's own size; the small tokenizer's words are the first of them.
        configuration.text_config.vocab_size = 32064
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = LlavaForConditionalGeneration(configuration).eval()
    finally:
        torch.set_default_dtype(torch.float32)
    return rgb.wrap(
        model,
        tools,
        name="random weights in the shape of " + ("a small LLaVA" if tiny else "LLaVA-1.5-7B"),
    )


def measure(run, device, times):
    """Seconds of the fastest of ``times`` calls, and peak GiB on the device; on a CPU that of the
    whole process so far."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(times):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    # Linux counts it in KiB.
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return min(seconds), torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else process


@torch.no_grad()
def table(dtype: torch.dtype, device: str, tiny: bool) -> pd.DataFrame:
    """Seconds, plain forwards, and peak memory of every sweep."""
    records = []

    def note(what, seconds, peak):
        # A row takes minutes on a CPU.
        print(f"{what}: {seconds:,.3g} s", file=sys.stderr, flush=True)
        records.append((what, seconds, peak))

    start = time.perf_counter()
    model = build(dtype, device, tiny)
    note("weights drawn, and the checks of loading", time.perf_counter() - start, float("nan"))
    # Whatever takes minutes is measured once.
    patient = device == "cpu" and not tiny
    [trial] = rgb.rgb_trials(model, 1)
    several = rgb.rgb_trials(model, 2 if patient else 8)
    inputs = encode(model, [(trial, "erased")]).items()
    inputs = {name: tensor.to(device) for name, tensor in inputs}
    # Every eighth layer from the middle of the first eight: their mean depth is that of all layers.
    layers = range(model.n_layers)[3::8] or [model.n_layers // 2]
    rows = [(layer, head) for layer in layers for head in range(1 if patient else model.n_heads)]

    def plain():
        model.nnsight._module(**inputs, logits_to_keep=1)

    def end():
        rgb.patch_heads(model, [trial], progress=False)

    def end_of_several():
        rgb.patch_heads(model, several, progress=False)

    def every_position():
        rgb.patch_heads(
            model, [trial], target="erased", positions="all", heads=rows, progress=False
        )

    def one_target():
        rgb.patch_heads(model, [trial], target="erased", progress=False)

    def pattern():
        rgb.patch_heads(model, [trial], target="erased", component="pattern", progress=False)

    plain()
    forward, forward_peak = measure(plain, device, 2 if patient else 5)
    note("plain forward", forward, forward_peak)
    note("[end] sweep, one target", *measure(one_target, device, 1 if patient else 3))
    note("[end] sweep, one target, pattern", *measure(pattern, device, 1 if patient else 3))
    note("[end] sweep, two targets", *measure(end, device, 1 if patient else 3))
    seconds, peak = measure(end_of_several, device, 1)
    note(f"[end] sweep, two targets, per trial of {len(several)}", seconds / len(several), peak)
    seconds, peak = measure(every_position, device, 1)
    note("all positions, one target", seconds * len(model.heads()) / len(rows), peak)
    frame = pd.DataFrame(records, columns=["what", "seconds", "peak GiB"])
    frame.insert(2, "plain forwards", frame["seconds"] / forward)
    frame.attrs["title"] = (
        f"{model.name}, {model.n_layers} × {model.n_heads} heads, {dtype}, {device}"
    )
    return frame


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--small", action="store_true", help="a small shape instead of 7 billion weights"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default=None, help="default: float16 on a GPU, float32 on a CPU")
    options = parser.parse_args(arguments)
    dtype = getattr(torch, options.dtype or ("float16" if options.device == "cuda" else "float32"))
    frame = table(dtype, options.device, options.small)
    print(frame.attrs["title"])
    print(frame.to_string(index=False, float_format=lambda value: f"{value:,.3g}"))
    trials = 60 / frame.set_index("what")["seconds"]["[end] sweep, two targets"]
    print(f"[end] sweep of 2 × all heads: {trials:,.1f} trials per minute")


if __name__ == "__main__":
    main()
