"""Heads that only look as if they had a role, and heads that have two: what they are called.

    python benchmarks/decoys.py    # all, at 0, 2 and 5 % noise, by 32, 64 and 128 trials
    python benchmarks/decoys.py brightness --noise 0.02 --seeds 3

A row per planted model (`rgb_circuit.models.decoys`): by each number of trials the role of the head
that it is about, and how many of the others have lost theirs or have a wrong one. The trials are
measured once. Half a minute of one core per model, noise and seed at 128 trials.
"""

import argparse
import warnings

import rgb_circuit as rgb
from analyses import roles
from analyses.calibrate import Known
from rgb_circuit.models.decoys import DECOYS, TWO_THINGS

SIZES = (32, 64, 128)


def judged(decoy, noise, seed, sizes):
    """Number of trials → the roles that heads are given, and how many trials are answered
    wrongly."""
    model, processor = decoy.build(noise, seed)
    wrapped = rgb.wrap(model, processor, name="decoy")
    trials = rgb.rgb_trials(wrapped, max(sizes), seed=seed)
    known, found = Known(), {}
    # The most come first, so that fewer of them are not measured again.
    for n in sorted(sizes, reverse=True):
        evidence = known.follow(wrapped, roles.steps(wrapped, trials[:n]))
        table = roles.table(evidence)
        named = table[table["role"] != "none"].set_index(["layer", "head"])["role"].to_dict()
        found[n] = named, int(evidence["wrong"].iloc[0])
    return found


def row(name, decoy, noise, seed, sizes):
    cells = []
    for n, (named, wrong) in sorted(judged(decoy, noise, seed, sizes).items()):
        others = {head: role for head, role in decoy.roles.items() if head != decoy.head}
        lost = sum(named.get(head) != role for head, role in others.items())
        false = sum(
            decoy.roles.get(head) != role for head, role in named.items() if head != decoy.head
        )
        called = named.get(decoy.head, "none")
        right = "" if called == decoy.roles.get(decoy.head, "none") else " (WRONG)"
        rest = f", others: {lost} of {len(others)} lost, {false} wrong" if lost or false else ""
        cells.append(f"{n}: {called}{right}{rest}{f', {wrong} answered wrongly' if wrong else ''}")
    print(f"{name}, {noise:.0%} noise, seed {seed} | " + " | ".join(cells), flush=True)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="parts of names; all by default")
    parser.add_argument("--noise", type=float, nargs="+", default=(0.0, 0.02, 0.05))
    parser.add_argument("--trials", type=int, nargs="+", default=SIZES)
    parser.add_argument("--seeds", type=int, nargs="+", default=(0,))
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", message=".*answers .* trials wrongly")
    for name, decoy in {**DECOYS, **TWO_THINGS}.items():
        if options.names and not any(part in name for part in options.names):
            continue
        for noise in options.noise:
            for seed in options.seeds:
                row(name, decoy, noise, seed, options.trials)


if __name__ == "__main__":
    main()
