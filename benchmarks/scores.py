"""What cheap readings of heads are worth: each score of `rgb_circuit.scores`, on planted models
whose heads are known.

    python benchmarks/scores.py                          # nine kinds, two seeds each, 16 trials
    python benchmarks/scores.py --seeds 1 --picture docs/pictures/scores.png

Heads are ordered by the size of a score (spatial entropy: the smallest first), and the first k are
taken, k being how many have a role. A row per score: the share of these that have one (precision at
k), of heads of each role how many are among them, how many are decoys, and the rank correlation
with what silencing a head takes from the answer.
"""

import argparse
import warnings

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import rgb_circuit as rgb
from analyses.calibrate import KINDS, Subject
from rgb_circuit.calls.scores import SMALL
from rgb_circuit.models.planted import MODERATE_NOISE

ROLES = ("color extractor", "POI localization", "background writer")


def judged(kind: str, seed: int, n: int) -> pd.DataFrame:
    """A row per head × score of one model: ``score, order`` (from 0, the most special first), ``k,
    role, name, agreement`` (rank correlation over heads of the sizes of the score and of
    ``silenced``)."""
    model, processor, truth = Subject("planted", MODERATE_NOISE, seed, (n,), kind).build()
    wrapped = rgb.wrap(model, processor, name=f"{kind} {seed}")
    table = rgb.scores(wrapped, rgb.rgb_trials(wrapped, n, seed=seed), progress=False)
    truth = truth.set_index(["layer", "head"])
    k = int((truth["role"] != "none").sum())
    wide = table.pivot(index=["layer", "head"], columns="score", values="value").loc[truth.index]
    rows = []
    for score, values in wide.items():
        special = -values if score in SMALL else values.abs()
        order = special.rank(ascending=False, method="first", na_option="bottom") - 1
        agreement = special.corr(wide["silenced"].abs(), method="spearman")
        about = {"score": score, "order": order, "k": k, "agreement": agreement}
        rows.append(truth.assign(**about).reset_index())
    return pd.concat(rows, ignore_index=True)


def summary(heads: pd.DataFrame) -> pd.DataFrame:
    """A row per score, the most precise first."""
    top = heads[heads["order"] < heads["k"]]
    named, decoy = top["role"] != "none", (top["role"] == "none") & (top["name"] != "none")
    table = pd.DataFrame(
        {
            "precision": named.groupby(top["score"]).mean(),
            **{
                role: (top["role"] == role).groupby(top["score"]).sum()
                / (heads["role"] == role).groupby(heads["score"]).sum()
                for role in ROLES
            },
            "decoys": decoy.groupby(top["score"]).mean(),
            "agreement": heads.groupby("score")["agreement"].mean(),
        }
    )
    return table.sort_values("precision", ascending=False)


def drawn(table: pd.DataFrame, models: int) -> Figure:
    """The scores as dots, precision and the share of each role that is found."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots(1, 4, sharey=True)
    for ax, column in zip(axes, ("precision", *ROLES)):
        ax.plot(table[column], np.arange(len(table)), "o", color="#0072b2")
        ax.set(title=column if column == "precision" else f"{column}s found", xlim=(-0.05, 1.05))
        ax.title.set_fontsize(9)
        ax.grid(alpha=0.4)
    axes[0].set_yticks(np.arange(len(table)), table.index)
    axes[0].invert_yaxis()
    figure.suptitle(
        f"The first k heads by each score, k that have a role; {models} planted models", fontsize=11
    )
    return figure


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--seeds", type=int, default=2, help="models of each kind")
    parser.add_argument("--first", type=int, default=4000, help="seed of the first")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--picture", help="file for a figure")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    frames = []
    for kind in options.kinds:
        for seed in range(options.first, options.first + options.seeds):
            frames.append(judged(kind, seed, options.trials))
            print(f"{kind} {seed} is judged", flush=True)
    table = summary(pd.concat(frames, ignore_index=True))
    print(table.round(2).to_string())
    if options.picture:
        drawn(table, len(frames)).savefig(options.picture, dpi=150)


if __name__ == "__main__":
    main()
