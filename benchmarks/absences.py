"""How an absence is shown: by the mean, by a count of trials, or by either; what each lets through.

    python benchmarks/absences.py            # the rules side by side
    python benchmarks/absences.py --shares   # what the count must exceed, by numbers of strays

Simulated effects in units of the gap, with 8 odd colours and 8 backgrounds, as `rgb_trials` draws
them; the margin is a tenth of the gap. A role's p is its weakest claim's, and corrected over heads:
where one head alone has the role, p must reach 0.05 divided by the number of heads. No model is
looked at. Seeded; seconds of one core.
"""

import argparse

import numpy as np
import pandas as pd
from scipy import stats

from rgb_circuit.statistics import t_p
from rgb_circuit.statistics.absence import SHARE, mostly_p

COLORS, MARGIN, REPEATS, SIZES = 8, 0.1, 2000, (16, 32, 64, 128)
HEADS = (24, 1024)
LEVEL = 0.05
SHARES = (0.5, 0.6, 0.65, 0.7, 0.75, 0.8)
# The level at which a mean that is shown to lie beyond the margin keeps a count from speaking.
VETO = 0.05


def lognormal(rng, n, mean, cv):
    spread = np.log(1 + cv**2) ** 0.5
    return mean * rng.lognormal(-(spread**2) / 2, spread, (n, REPEATS))


def noise(rng, n, spread=0.02):
    return rng.normal(0, spread, (n, REPEATS))


def strays(rate, size):
    return lambda rng, n: noise(rng, n) + size * (rng.random((n, REPEATS)) < rate)


def colors(served, size):
    return lambda rng, n: noise(rng, n) + size * (strata(n) < served)[:, None]


def backgrounds(served, size):
    return lambda rng, n: noise(rng, n) + size * (grounds(n) < served)[:, None]


# Effects that are absent, and effects that are not.
ABSENT = {
    "nothing": lambda rng, n: noise(rng, n),
    "1 % strays of 1.1": strays(0.01, 1.1),
    "3 % strays of 1.1": strays(0.03, 1.1),
    "5 % strays of 1.1": strays(0.05, 1.1),
    "10 % strays of 1.1": strays(0.10, 1.1),
    "5 % strays of 0.3": strays(0.05, 0.3),
    "wide: 0.02, spread 0.1": lambda rng, n: 0.02 + noise(rng, n, 0.1),
    "wide: 0, spread 0.2": lambda rng, n: noise(rng, n, 0.2),
    "skewed: 0.02, CV 1.4": lambda rng, n: lognormal(rng, n, 0.02, 1.4),
    "skewed: 0.05, CV 1": lambda rng, n: lognormal(rng, n, 0.05, 1.0),
}
PRESENT = {
    "1 of 8 colours at 0.5": colors(1, 0.5),
    "1 of 8 colours at 1": colors(1, 1.0),
    "2 of 8 colours at 0.5": colors(2, 0.5),
    "2 of 8 colours at 1": colors(2, 1.0),
    "1 of 8 backgrounds at 1": backgrounds(1, 1.0),
    "15 % of trials at 1": strays(0.15, 1.0),
    "20 % of trials at 0.6": strays(0.2, 0.6),
    "constant 0.09, spread 0.02": lambda rng, n: 0.09 + noise(rng, n),
    "constant 0.1, spread 0.02": lambda rng, n: 0.1 + noise(rng, n),
    "constant 0.1, spread 0.1": lambda rng, n: 0.1 + noise(rng, n, 0.1),
    "constant 0.15, spread 0.1": lambda rng, n: 0.15 + noise(rng, n, 0.1),
    "skewed: 0.1, CV 1": lambda rng, n: lognormal(rng, n, 0.1, 1.0),
    "skewed: 0.1, CV 1.4": lambda rng, n: lognormal(rng, n, 0.1, 1.4),
    "skewed: 0.15, CV 1.4": lambda rng, n: lognormal(rng, n, 0.15, 1.4),
}


def strata(n):
    """The odd colours."""
    return np.arange(n) % COLORS


def grounds(n):
    """The backgrounds: every run of 8 trials has each once, in an order of its own."""
    rng = np.random.default_rng(n)
    return np.concatenate([rng.permutation(COLORS) for _ in range(n // COLORS)])


def by_mean(effects):
    return t_p(MARGIN - effects, "greater", strata(len(effects)))


def by_count(effects, share=SHARE):
    n = len(effects)
    counted = mostly_p(effects < MARGIN, (strata(n), grounds(n)), share)
    beyond = t_p(effects - MARGIN, "greater", strata(n))
    return np.where(beyond <= VETO, 1.0, counted)


RULES = {
    "mean": by_mean,
    "count": by_count,
    "either": lambda effects: np.minimum(1, 2 * np.minimum(by_mean(effects), by_count(effects))),
}


def shown(draw, number, n, rules):
    """Rule and number of heads → how often "not up" is shown."""
    effects = draw(np.random.default_rng([number, n]), n)
    return {
        (heads, name): np.mean(rule(effects) <= LEVEL / heads)
        for name, rule in rules.items()
        for heads in HEADS
    }


def table(kinds, rules):
    rows = {}
    for number, (name, draw) in enumerate(kinds.items()):
        cells = [shown(draw, number, n, rules) for n in SIZES]
        rows[name] = {
            key: " / ".join(f"{cell[key]:.2f}" for cell in cells) for key in sorted(cells[0])
        }
    return pd.DataFrame(rows).T.rename_axis(columns=["heads", "rule"]).to_string()


def by_hand():
    """Share → the p of 32 trials of which some stray, times 1,024 heads; and of 16 of which none
    does, times 24."""
    rows = {}
    for share in SHARES:
        clean = [stats.binom.sf(31 - stray, 32, share) * 1024 for stray in range(4)]
        rows[share] = [f"{q:.4f}" for q in (*clean, stats.binom.sf(15, 16, share) * 24)]
    columns = [f"{stray} of 32, 1,024 heads" for stray in range(4)] + ["0 of 16, 24 heads"]
    return pd.DataFrame(rows, index=columns).T.to_string()


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--shares", action="store_true", help="the count by itself, at other shares"
    )
    options = parser.parse_args(arguments)
    rules = RULES
    if options.shares:
        print("q of a lone head by the count, at strays of n\n" + by_hand() + "\n")
        rules = {
            f"{share:.0%}": lambda effects, share=share: by_count(effects, share)
            for share in SHARES
        }
    sizes = " / ".join(map(str, SIZES))
    print(f'How often "not up" is shown for a lone head among so many, at {sizes} trials')
    print("Absent, so it should be", table(ABSENT, rules), sep="\n")
    print("\nNot absent, so it should not be", table(PRESENT, rules), sep="\n")


if __name__ == "__main__":
    main()
