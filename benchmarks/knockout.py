"""Attention knockout and layer patching at LLaVA-1.5's shape, against the usual way: one forward
per window and pair of groups.

32 layers × 32 heads, 24 × 24 tiles, random weights at a small width, float32, CPU, as in
`sweep.py`. All times come from one process, each the best of several; what counts is their ratios.
The usual way is timed on a few windows with plain hooks.
"""

import time
from functools import partial

import torch
from sweep import best, plain_forward, random_model

import rgb_circuit as rgb
from rgb_circuit.prompts import encode, locate

GROUPS = ("tile", "rest", "question", "first")


def with_mask(keys, arguments, options):
    """Forward pre-hook of an attention block: the last query does not see ``keys``."""
    length = options["hidden_states"].shape[1]
    lowest = torch.finfo(options["hidden_states"].dtype).min
    mask = torch.full((length, length), lowest).triu(1)
    mask[-1, keys] = lowest
    return arguments, {**options, "attention_mask": mask[None, None]}


@torch.no_grad()
def one_by_one(model, trial, windows, keys):
    """A forward with hooks for each window of layers."""
    inputs = encode(model, [(trial, "clean")])
    layers = model.nnsight._module.model.language_model.layers
    for window in windows:
        hooks = [
            layers[layer].self_attn.register_forward_pre_hook(
                lambda module, given, options: with_mask(keys, given, options), with_kwargs=True
            )
            for layer in window
        ]
        model.nnsight._module(**inputs, logits_to_keep=1)
        for hook in hooks:
            hook.remove()


def main():
    model = random_model(layers=32, heads=32, grid=24)
    trial = rgb.rgb_trial()
    ids = encode(model, [(trial, "clean")])["input_ids"][0]
    keys = locate(model, trial, "rest", ids)
    plain_forward(model, trial)
    plain = best(partial(plain_forward, model, trial), 7)
    windows = [[layer] for layer in (0, 10, 21, 31)]
    loop = best(partial(one_by_one, model, trial, windows, keys), 3) / len(windows)
    print(f"{len(ids)} positions, {torch.get_num_threads()} threads; plain forward {plain:.3g} s")
    for window in (1, 9):
        knock = partial(
            rgb.knockout, model, [trial], queries="end", keys=GROUPS, window=window, progress=False
        )
        knock()
        seconds, runs = best(knock, 3), (33 - window) * len(GROUPS)
        print(
            f"knockout from [end], windows of {window}, {runs} runs: {seconds / plain:.2f} plain "
            f"forwards, one forward each {runs * loop / plain:.0f}; {runs * loop / seconds:.0f} "
            "times faster"
        )
    for positions in ("end", "tile", "question"):
        start = time.perf_counter()
        rgb.patch_layers(model, [trial], target="erased", positions=positions, progress=False)
        seconds = time.perf_counter() - start
        print(
            f"patch_layers at {positions}, 32 runs and both captures: {seconds / plain:.2f} plain "
            f"forwards, one forward each {32 * loop / plain:.0f}"
        )


if __name__ == "__main__":
    main()
