"""How many heads are given a role where every one is false, over at least 300 heads of each kind
that could have been given one (`analyses.calibrate.NULLS`).

    python benchmarks/nulls.py                        # all kinds, six minutes of one core
    python benchmarks/nulls.py random --first 5000    # one kind, from a seed on

Each model is judged on 32 trials, by `roles` alone.
"""

import argparse
import warnings

import numpy as np
import pandas as pd
from scipy.stats import binomtest

import rgb_circuit as rgb
from analyses import calibrate
from rgb_circuit.models.planted import MODERATE_NOISE

HEADS, TRIALS = 300, 32


def judged(kind: str, seed: int) -> pd.DataFrame:
    """The roles of one model's heads, none of them true."""
    subject = calibrate.Subject(
        kind, np.nan if kind == "random" else MODERATE_NOISE, seed, (TRIALS,)
    )
    model, processor, _ = subject.build()
    model = rgb.wrap(model, processor, name=f"{kind} {seed}")
    trials = rgb.rgb_trials(model, TRIALS, seed=seed)
    trials = calibrate.exchanged(trials, seed) if kind == "exchanged" else trials
    return calibrate.by_roles(model, trials, calibrate.Known(), null=kind, seed=seed)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(calibrate.NULLS)}; all by default")
    parser.add_argument("--first", type=int, default=5000, help="seed of the first model")
    parser.add_argument(
        "--heads", type=int, default=HEADS, help="testable heads of each kind, at least"
    )
    options = parser.parse_args(arguments)
    for kind in options.kinds or calibrate.NULLS:
        frames: list[pd.DataFrame] = []
        while not frames or sum(frame["testable"].sum() for frame in frames) < options.heads:
            seed = options.first + len(frames)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                frames.append(judged(kind, seed))
            named = frames[-1][frames[-1]["role"] != "none"]
            for row in named.itertuples():
                print(f"  {kind} {seed}: {row.layer}.{row.head} is called {row.role}", flush=True)
        frame = pd.concat(frames)
        given, testable = int((frame["role"] != "none").sum()), int(frame["testable"].sum())
        models = sum((one["role"] != "none").any() for one in frames)
        most = binomtest(given, len(frame)).proportion_ci().high
        print(
            f"{kind} ({calibrate.NULLS[kind]}): of {len(frame)} heads, {testable} testable, "
            f"{given} given a role (up to {most:.3f}, exact 95 %), in {models} of {len(frames)} "
            "models",
            flush=True,
        )


if __name__ == "__main__":
    main()
