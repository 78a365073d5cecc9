"""False positives and power where trials share sources, and where there are two answers: by trials,
as before 0.9, and by clusters and answers (`rgb_circuit.stimuli.replicates`); and roles on planted
readers of photographs.

    python benchmarks/items.py clusters
    python benchmarks/items.py bias
    python benchmarks/items.py power
    python benchmarks/items.py photographs --seeds 2
"""

import argparse

import numpy as np
import pandas as pd

import rgb_circuit as rgb
from analyses import roles
from rgb_circuit.models.photo_reader import PLACES, QUESTION, photo_reader, photographs
from rgb_circuit.statistics import t_p
from rgb_circuit.stimuli.replicates import Replicates
from rgb_circuit.stimuli.tasks import task_of

DRAWS, TRIALS, LEVEL = 2000, 32, 0.05


def replicates(clusters) -> Replicates:
    """Of trials that nobody drew."""
    clusters = np.asarray(clusters).astype(str)
    return Replicates(clusters, np.full(len(clusters), ""), drawn=False)


def shown(values, words, found, value=0.0) -> float:
    """How often a mean is shown to be above a value in every answer, by clusters; (trials,
    draws)."""
    parts = found.by_answer(words, found.all)
    observed = [found.means(values - value, words, own, alike=True) for own in parts]
    p = np.max([t_p(means, "greater", strata) for means, strata in observed], axis=0)
    return float((p <= LEVEL).mean())


def clusters() -> pd.DataFrame:
    """A null head whose effects share half of their variance within a picture: how often it is
    named."""
    rng, rows = np.random.default_rng(0), []
    for pictures in (32, 16, 8):
        each = TRIALS // pictures
        shared = rng.normal(size=(pictures, 1, DRAWS)).repeat(each, axis=1)
        values = np.sqrt(0.5) * (shared + rng.normal(size=(pictures, each, DRAWS)))
        values, found = values.reshape(TRIALS, DRAWS), replicates(np.arange(pictures).repeat(each))
        before = float((t_p(values) <= LEVEL).mean())
        rows.append(dict(pictures=pictures, by_trial=before, by_cluster=shown(values, None, found)))
    return pd.DataFrame(rows)


def bias() -> pd.DataFrame:
    """A head that adds a logit to "yes" whatever is right: how often it "brings the right answer
    up"."""
    rng, rows = np.random.default_rng(0), []
    for n, yes in ((128, 0.5), (128, 0.75), (128, 0.9), (32, 0.9)):
        often = round(yes * n)
        words = np.array(["yes"] * often + ["no"] * (n - often))
        values = np.where(words == "yes", 1.0, -1.0)[:, None] + rng.normal(0, 0.3, (n, DRAWS))
        before = float((t_p(values - 0.3) <= LEVEL).mean())
        found = replicates(np.arange(n))
        after = found.too_few(words, found.all) or shown(values, words, found, 0.3)
        rows.append(dict(trials=n, yes=yes, pooled=before, in_each_answer=after))
    return pd.DataFrame(rows)


def power() -> pd.DataFrame:
    """A head that adds a logit to the right answer, with a coefficient of variation of 1: how often
    it is."""
    rng, rows = np.random.default_rng(0), []
    for n in (32, 64):
        for share in (0.5, 0.625, 0.75):
            words = np.array(["yes"] * round(share * n) + ["no"] * (n - round(share * n)))
            values = 1 + rng.normal(size=(n, DRAWS))
            before = float((t_p(values - 0.3) <= LEVEL).mean())
            after = shown(values, words, replicates(np.arange(n)), 0.3)
            rows.append(dict(trials=n, yes=share, pooled=before, in_each_answer=after))
    return pd.DataFrame(rows)


def photographs_read(seeds: int) -> pd.DataFrame:
    """Roles of own pairs on planted readers of photographs, by number of trials and kind of
    pair."""
    rows = []
    for seed in range(seeds):
        made, processor, _ = photo_reader(noise=0.02, seed=seed)
        model = rgb.wrap(made, processor, name="photo reader")
        for n in (32, 64):
            pale = bool(seed % 2)
            trials = photographs(model.prompt(QUESTION), n, pale=pale, seed=100 + seed)
            table = roles.roles(model, trials, task=task_of(trials), progress=False)
            role = table.set_index(["layer", "head"])["role"]
            carrier = f"answer carrier + answer by {'looking' if pale else 'content'} + needed"
            rows.append(
                dict(
                    trials=n,
                    carrier=role[PLACES["answer carrier"]] == carrier,
                    bias_head=role[PLACES["bias head"]] == "bias head",
                    looker=role[PLACES["looker"]] != "none",
                    others=(role.drop(list(PLACES.values())) != "none").sum(),
                )
            )
    return pd.DataFrame(rows).groupby("trials").agg(["sum", "count"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("clusters", "bias", "power", "photographs"))
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    simulated = {"clusters": clusters, "bias": bias, "power": power}
    found = (
        photographs_read(options.seeds)
        if options.what == "photographs"
        else simulated[options.what]()
    )
    print(found.round(3).to_string())
