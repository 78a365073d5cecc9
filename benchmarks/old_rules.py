"""The rules of version 0.3 and these, on the same planted models and the same trials.

    git worktree add ../old 329d16d        # the last commit with the rules of 0.3
    python benchmarks/old_rules.py --old ../old --seed 3000

One model of each kind of `analyses.calibrate.KINDS`, judged by 32 and by 64 trials: of the heads
that have a role, how many are given it, and how many heads are given one that they have not. The
models are saved as folders and the trials are handed over as pictures, so that both see the same.
"""

import argparse
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

import rgb_circuit as rgb
from analyses import calibrate, roles
from rgb_circuit.models.planted import MODERATE_NOISE
from rgb_circuit.models.small import save

# Run where the old package is imported: model folder, trials → table.
OLD = """
import pickle, sys, warnings
warnings.simplefilter("ignore")
import rgb_circuit as rgb
from analyses import roles
folder, given, out = sys.argv[1:]
trials = [rgb.Trial(**fields) for fields in pickle.load(open(given, "rb"))]
roles.roles(rgb.load(folder), trials, progress=False)[["layer", "head", "role"]].to_pickle(out)
"""
FIELDS = ("name", "prompt", "images", "answers", "tile", "grid", "expected")


def _fields(trial):
    """As an old package takes them."""
    return {name: getattr(trial, name) for name in FIELDS} | {"images": dict(trial.images)}


def by_old_rules(checkout, made, trials):
    """``layer, head, role``, as the package in ``checkout`` has them."""
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "trials", Path(folder) / "table"
        given.write_bytes(pickle.dumps(list(map(_fields, trials))))
        saved = save(*made, Path(folder) / "model")
        arguments = [sys.executable, "-c", OLD, str(saved), str(given), str(out)]
        subprocess.run(
            arguments, check=True, cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)}
        )
        return pd.read_pickle(out)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--old", type=Path, required=True, help="a checkout of the old version")
    parser.add_argument("--seed", type=int, default=3000)
    parser.add_argument("--trials", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--kinds", nargs="+", default=calibrate.KINDS)
    options = parser.parse_args(arguments)
    counts = []
    for like in options.kinds:
        for n in options.trials:
            subject = calibrate.Subject("planted", MODERATE_NOISE, options.seed, (n,), like)
            model, processor, truth = subject.build()
            wrapped = rgb.wrap(model, processor, name=like)
            trials = rgb.rgb_trials(wrapped, n, seed=options.seed)
            given = {
                "old": by_old_rules(options.old, (model, processor), trials),
                "new": roles.roles(wrapped, trials, progress=False),
            }
            for rules, table in given.items():
                both = truth.merge(table, on=["layer", "head"], suffixes=("_true", ""))
                for _, head in both.iterrows():
                    true, named = head["role_true"], set(head["role"].split(" + ")) - {"none"}
                    about = dict(trials=n, rules=rules)
                    if true != "none":
                        counts.append(about | dict(role=true, of=1, right=int(true in named)))
                    if wrong := len(named - {true}):
                        counts.append(about | dict(role="one that it has not", of=0, right=wrong))
            print(f"{like}, {n} trials", flush=True)
    table = pd.DataFrame(counts).groupby(["role", "trials", "rules"], sort=False).sum()
    print(table.rename(columns={"right": "given"}).unstack(["trials", "rules"]).to_string())


if __name__ == "__main__":
    main()
