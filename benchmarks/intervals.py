"""How often each interval of the package covers, beside the one that stood there before: coverage
of a nominal 95 % at 8 / 16 / 32 trials.

    python benchmarks/intervals.py               # all of it
    python benchmarks/intervals.py ratios        # or one of means, ratios, shares, sets

Nothing here looks at a model. Seeded; about a minute of one core.
"""

import argparse

import numpy as np
import pandas as pd

from analyses.rgb.redirect import paired_interval
from rgb_circuit.statistics import rank_p, ratio_interval, sign_flip_p, t_interval

COLORS, REPEATS, SIZES, RESAMPLES = 8, 3000, (8, 16, 32), 400
VARIATIONS = (0.3, 1.0, 1.4)


def lognormal(rng, n, cv):
    """Mean 1 and coefficient of variation ``cv``, (n, REPEATS)."""
    spread = np.log(1 + cv**2) ** 0.5
    return rng.lognormal(-(spread**2) / 2, spread, (n, REPEATS))


def gamma(rng, n, cv):
    """As `lognormal`."""
    return rng.gamma(1 / cv**2, cv**2, (n, REPEATS))


DRAWS = {"lognormal": lognormal, "gamma": gamma}


def strata(n):
    return np.arange(n) % COLORS


def percentile(statistic, *samples):
    """Percentile bootstrap over trials, which stood everywhere but in roles: each column by
    itself."""
    rng = np.random.default_rng(0)
    drawn = [rng.integers(len(samples[0]), size=len(samples[0])) for _ in range(RESAMPLES)]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = [statistic(*(sample[chosen] for sample in samples)) for chosen in drawn]
    return np.quantile(found, [0.025, 0.975], axis=0)


def mean(samples):
    return samples.mean(0)


def ratio(part, whole):
    return part.mean(0) / whole.mean(0)


def covered(interval, truth):
    low, high = interval
    return ((low <= truth) & (truth <= high)).mean()


def table(rows):
    """A row per kind of effects, a column per method: coverage and median width over numbers of
    trials."""
    frame = pd.DataFrame(rows, columns=["effects", "method", "coverage", "width"])
    cells = frame.groupby(["effects", "method"], sort=False).agg(
        lambda values: " / ".join(f"{value:.2f}" for value in values)
    )
    return (
        (cells["coverage"] + "   width " + cells["width"])
        .unstack()[list(dict.fromkeys(frame["method"]))]
        .to_string()
    )


def rows_of(name, draw, truth, methods):
    """``draw``: n → samples. Of each method its coverage and its median width, over the numbers of
    trials."""
    rows = []
    for n in SIZES:
        samples = draw(np.random.default_rng([n, len(name)]), n)
        for method, interval in methods.items():
            low, high = interval(*samples)
            rows.append((name, method, covered((low, high), truth), np.median(high - low)))
    return rows


def means():
    methods = {
        "bootstrap": lambda samples: percentile(mean, samples),
        "t": t_interval,
        "t within colours": lambda samples: t_interval(samples, strata(len(samples))),
    }
    rows = []
    for name, draw in DRAWS.items():
        for cv in VARIATIONS:
            rows += rows_of(f"{name}, CV {cv}", lambda rng, n: [draw(rng, n, cv)], 1, methods)

    def two_colors(rng, n):
        return [np.where(strata(n) < 2, COLORS / 2, 0)[:, None] * gamma(rng, n, 0.3)]

    rows += rows_of("2 of 8 colours, CV 0.3", two_colors, 1, methods)
    print(
        "Means: knockout, layers, paths, mediated effects, panels, questions", table(rows), sep="\n"
    )


def ratios():
    methods = {
        "bootstrap": lambda part, whole: percentile(ratio, part, whole),
        "used, no strata": ratio_interval,
        "used, within colours": lambda part, whole: ratio_interval(part, whole, strata(len(part))),
    }
    # What is drawn of a skewed effect, of another number and of a share between 0 and 1.
    kinds = {
        "skewed part, constant gap": lambda skewed, other, share: (skewed, np.ones_like(skewed)),
        "skewed part, gap of CV 0.3": lambda skewed, other, share: (skewed, other),
        "skewed gap, part of CV 0.3": lambda skewed, other, share: (other, skewed),
        "a share of a skewed whole": lambda skewed, other, share: (skewed * share / 0.8, skewed),
    }
    rows = []
    for kind, made in kinds.items():
        for name, draw in DRAWS.items():
            for cv in VARIATIONS:

                def drawn(rng, n):
                    return made(draw(rng, n, cv), gamma(rng, n, 0.3), rng.beta(8, 2, (n, REPEATS)))

                rows += rows_of(f"{kind}: {name}, CV {cv}", drawn, 1, methods)
    print("Ratios of means: faithfulness, shares", table(rows), sep="\n")


def shares():
    methods = {
        "bootstrap": lambda one, other: percentile(mean, one - other),
        "Newcombe": paired_interval,
    }
    rows = []
    for one, other in ((0.95, 0.05), (0.99, 0.01), (0.7, 0.3), (0.5, 0.5)):
        for alike, draws in ((0.0, 1), (0.0, 5), (0.8, 5)):

            def drawn(rng, n):
                chance, others = rng.random((n, REPEATS)), rng.random((draws, n, REPEATS))
                others = np.where(rng.random((n, REPEATS)) < alike, chance, others)
                return (chance < one).astype(float), (others < other).mean(0)

            name = f"{one} and {other} of {draws} draw{'s' * (draws > 1)}, alike in {alike:.0%}"
            rows += rows_of(name, drawn, one - other, methods)
    print("Differences of paired shares: redirect", table(rows), sep="\n")


def sets(repeats=1000, drawn=19):
    """Where the heads found are one of the random sets: sets differ in how often they turn the
    answer."""
    print(
        f"Share of samples where p ≤ 0.05 and the heads found are a random set among {drawn} "
        "others, at 16 / 32 / 64 trials"
    )
    rejected = {"sign flips over trials": [], "rank among sets": []}
    for n in (16, 32, 64):
        rng = np.random.default_rng(n)
        chance = rng.beta(2, 4, (repeats, 1, drawn + 1))
        named = rng.random((repeats, n, drawn + 1)) < chance
        difference = named[:, :, 0] - named[:, :, 1:].mean(2)
        rejected["sign flips over trials"].append((sign_flip_p(difference.T) <= 0.05).mean())
        p = [rank_p(shares[0], shares[1:]) for shares in named.mean(1)]
        rejected["rank among sets"].append((np.array(p) <= 0.05).mean())
    for method, of in rejected.items():
        print(f"  {method:24s}", " / ".join(f"{share:.2f}" for share in of))


PARTS = {"means": means, "ratios": ratios, "shares": shares, "sets": sets}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    chosen = parser.parse_args(arguments).parts or list(PARTS)
    for number, name in enumerate(chosen):
        print("\n" * (number > 0), end="")
        PARTS[name]()


if __name__ == "__main__":
    main()
