"""Which interval covers, and which test keeps its level, on simulated effects: the tables of
docs/verdicts.md.

    python benchmarks/verdicts.py

Effects of a head in units of the gap, over n trials whose odd colours are balanced (8 colours, as
`rgb_trials` draws them). Nothing here looks at a model. Seeded; two minutes on one core.
"""

import numpy as np
import pandas as pd

from rgb_circuit.statistics import bootstrap_interval, sign_flip_p, t_interval, t_p

COLORS, REPEATS, SIZES = 8, 4000, (8, 16, 32, 64)
LEAST, MEAN = 0.05, 1.0


def lognormal(rng, n, repeats, cv):
    """Mean 1 and coefficient of variation ``cv``, (n, repeats)."""
    spread = np.log(1 + cv**2) ** 0.5
    return rng.lognormal(-(spread**2) / 2, spread, (n, repeats))


def mixture(rng, n, repeats):
    """Mean 1; 5 % of the trials are large and negative."""
    values = rng.normal(1, 0.3, (n, repeats)) - 10 * (rng.random((n, repeats)) < 0.05)
    return values + 0.5


def by_color(served, cv):
    """Mean 1 over colours: 8 / ``served`` for as many colours, nothing for the others."""

    def draw(rng, n, repeats):
        size = np.where(np.arange(n) % COLORS < served, COLORS / served, 0.0)[:, None]
        return size * lognormal(rng, n, repeats, cv)

    return draw


DRAWS = {
    "normal, CV 0.5": lambda rng, n, repeats: rng.normal(1, 0.5, (n, repeats)),
    "normal, CV 1": lambda rng, n, repeats: rng.normal(1, 1, (n, repeats)),
    "lognormal, CV 0.5": lambda rng, n, repeats: lognormal(rng, n, repeats, 0.5),
    "lognormal, CV 1": lambda rng, n, repeats: lognormal(rng, n, repeats, 1.0),
    "lognormal, CV 1.4": lambda rng, n, repeats: lognormal(rng, n, repeats, 1.4),
    "4 of 8 colours, CV 0.3": by_color(4, 0.3),
    "2 of 8 colours, CV 0.3": by_color(2, 0.3),
    "1 of 8 colours, CV 0.3": by_color(1, 0.3),
    "1 of 8 colours, CV 1": by_color(1, 1.0),
    "5 % large negative": mixture,
}


def bootstrap_t(samples, confidence=0.95, resamples=999, seed=0):
    """Bootstrap-t interval of the mean (Efron & Tibshirani 1993, section 12.5); one column after the other in
    memory."""
    rng = np.random.default_rng(seed)
    n = len(samples)
    mean, error = samples.mean(0), samples.std(0, ddof=1) / n**0.5
    ends = []
    for column, (center, spread) in enumerate(zip(mean, error)):
        drawn = samples[rng.integers(n, size=(n, resamples)), column]
        errors = drawn.std(0, ddof=1) / n**0.5
        t = (drawn.mean(0) - center)[errors > 0] / errors[errors > 0]
        ends.append(center - spread * np.quantile(t, [(1 + confidence) / 2, (1 - confidence) / 2]))
    return np.array(ends).T


def strata(n):
    return np.arange(n) % COLORS


INTERVALS = {
    "percentile bootstrap": lambda samples: bootstrap_interval(samples),
    "bootstrap-t": lambda samples: bootstrap_t(samples[:, :1000]),
    "t": lambda samples: t_interval(samples),
    "t within colours": lambda samples: t_interval(samples, strata(len(samples))),
}
TESTS = {
    "sign flip": lambda samples, side: sign_flip_p(samples, side),
    "t": lambda samples, side: t_p(samples, side),
    "t within colours": lambda samples, side: t_p(samples, side, strata(len(samples))),
}


def table(rows, columns):
    return pd.DataFrame(rows).pivot(index=["effects", "method"], columns=columns, values="share").round(3)


def main():
    coverage, level, power = [], [], []
    for number, (name, draw) in enumerate(DRAWS.items()):
        for n in SIZES:
            samples = draw(np.random.default_rng([number, n]), n, REPEATS)
            for method, interval in INTERVALS.items():
                low, high = interval(samples)
                coverage.append(
                    {
                        "effects": name,
                        "method": method,
                        "n": n,
                        "share": ((low <= MEAN) & (MEAN <= high)).mean(),
                    }
                )
            for method, test in TESTS.items():
                few = samples[:, : REPEATS // 2]
                for side, asked in (("greater", "up"), ("less", "not up")):
                    rejected = (test(few - MEAN, side) <= 0.05).mean()
                    level.append({"effects": name, "method": method, "n": f"{asked}, {n}", "share": rejected})
                # A head that restores 12.5 % of the gap, against the 5 % that "up" asks for, at a level that
                # leaves room for many heads.
                power.append(
                    {
                        "effects": name,
                        "method": method,
                        "n": n,
                        "share": (test(0.125 * few - LEAST, "greater") <= 0.005).mean(),
                    }
                )
    order = [f"{asked}, {n}" for asked in ("up", "not up") for n in SIZES]
    print("Coverage of 95 % intervals", table(coverage, "n").to_string(), sep="\n")
    print(
        "\nLevel of one-sided tests at 0.05, true mean on the boundary",
        table(level, "n")[order].to_string(),
        sep="\n",
    )
    print("\nPower at 0.005 for 12.5 % of the gap against 5 %", table(power, "n").to_string(), sep="\n")


if __name__ == "__main__":
    main()
