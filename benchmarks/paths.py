"""Cost of direct paths, in plain forwards, against the usual way: a forward per pair that holds
everything else, and one more that lets the receiver's new query, key or value run on.

    python benchmarks/paths.py             # LLaVA-1.5's heads and positions, random weights, a
    small width python benchmarks/paths.py --small     # the same steps on a small shape

The usual way is timed on a few pairs, as the plain forwards that it takes: two, one of the target's
picture with everything below the receiver but the sender held by hooks, and one with the receiver's
z written. All times come from one process, each the best of several; what counts is their ratios.
*Counted* are positions times layers that the language model runs, of those of a plain forward; in a
layer where a path into keys or values begins or ends the MLP runs at one position, which is not
counted as less.
"""

import argparse

import pandas as pd
import torch
from run import counted
from sweep import best, plain_forward, random_model

import rgb_circuit as rgb
from rgb_circuit.prompts import encode


@torch.no_grad()
def held_forwards(model, trial, sender, receiver):
    """Two forwards of the bare model: one in which every z and every MLP below the receiver but the
    sender is held at numbers of its own, and one in which the receiver's z at [end] is written."""
    module = model.nnsight._module
    layers, inputs = module.model.language_model.layers, encode(model, [(trial, "erased")])
    kept, hooks = {}, []

    def keep(place):
        return lambda module, given, made=None: kept.update(
            {place: given[0] if made is None else made}
        )

    def hold(place):
        return lambda module, given, made=None: (kept[place],) if made is None else kept[place]

    def hooked(hook):
        for index in range(receiver[0]):
            o_proj, mlp = layers[index].self_attn.o_proj, layers[index].mlp
            yield o_proj.register_forward_pre_hook(hook((index, "z")))
            yield mlp.register_forward_hook(hook((index, "mlp")))

    # What is held is captured once for all pairs, and not timed.
    hooks = list(hooked(keep))
    module(**inputs, logits_to_keep=1)
    for one in hooks:
        one.remove()
    kept[sender[0], "z"] = kept[sender[0], "z"].flip(-1)

    def write(module, given):
        z = given[0].clone()
        z[:, -1, : model.d_head] = 0
        return (z,)

    def pair():
        some = list(hooked(hold))
        module(**inputs, logits_to_keep=1)
        for one in some:
            one.remove()
        last = layers[receiver[0]].self_attn.o_proj.register_forward_pre_hook(write)
        module(**inputs, logits_to_keep=1)
        last.remove()

    return best(pair, 3)


def main(given=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true")
    small = parser.parse_args(given).small
    model = random_model(
        **(dict(layers=4, heads=4, grid=6) if small else dict(layers=32, heads=32, grid=24))
    )
    trial = rgb.rgb_trials(model, 1, seed=0)[0]
    length = encode(model, [(trial, "erased")])["input_ids"].shape[1]
    deep, every = model.n_layers, length * model.n_layers
    senders = [(layer, head) for layer in (deep // 4, deep // 2) for head in range(4)]
    receivers = [(layer, head) for layer in (3 * deep // 4, deep - 1) for head in range(4)]
    plain_forward(model, trial)
    plain = best(lambda: plain_forward(model, trial), 5)
    usual = (
        sum(held_forwards(model, trial, senders[0], receiver) for receiver in receivers[::4]) / 2
    )

    def asked(senders, receivers, into):
        return lambda: rgb.patch_paths(
            model, [trial], senders, receivers, into=into, progress=False
        )

    few = model.heads()[: model.n_heads * deep // 2]
    rows = []
    for what, some, ends, into in (
        (f"{len(senders)} heads into {len(receivers)} queries", senders, receivers, ["query"]),
        (f"{len(few)} heads into {len(receivers)} queries", few, receivers, ["query"]),
        (f"{len(senders)} heads into {len(receivers)} keys", senders, receivers, ["key"]),
        (
            f"{len(senders)} heads into {len(receivers)} queries, keys and values",
            senders,
            receivers,
            ["query", "key", "value"],
        ),
    ):
        run = asked(some, ends, into)
        run()
        seconds, paths = best(run, 3), len(some) * len(ends) * len(into)
        _, positions = counted(model, run)
        rows.append(
            (
                what,
                paths,
                positions / every,
                seconds,
                seconds / plain,
                2 * paths,
                paths * usual / seconds,
            )
        )
    columns = [
        "both captures included",
        "paths",
        "counted",
        "seconds",
        "plain forwards",
        "usual forwards",
    ]
    columns += ["times faster"]
    print(
        f"{length} positions; plain forward {plain:.3g} s, one pair the usual way "
        f"{usual / plain:.3g} of it"
    )
    print(
        pd.DataFrame(rows, columns=columns).to_string(
            index=False, float_format=lambda value: f"{value:,.3g}"
        )
    )


if __name__ == "__main__":
    main()
