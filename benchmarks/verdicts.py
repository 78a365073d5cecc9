"""What docs/verdicts.md says was simulated: which interval covers, which test keeps its level, how
rare false roles are among many heads, and what the test of independence sees.

    python benchmarks/verdicts.py                # all of it
    python benchmarks/verdicts.py intervals      # or one of intervals, roles, independence

Nothing here looks at a model. Seeded; one to five minutes of one core each.
"""

import argparse

import numpy as np
import pandas as pd
from scipy import stats

from analyses.evidence import heads
from analyses.evidence.effects import Measured
from analyses.evidence.verdict import Rules, judge
from rgb_circuit.hypothesis import Claim, Prediction, Sweep
from rgb_circuit.statistics import independence_p, sign_flip_p, t_interval, t_p, within_strata
from rgb_circuit.stimuli.tasks import find

# Effects of a head in units of the gap, over n trials whose odd colours are balanced (8 colours, as
# `rgb_trials` draws them).
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


def percentile(samples):
    """Percentile bootstrap (Efron & Tibshirani 1993, chapter 13)."""
    ends = stats.bootstrap(
        (samples,), np.mean, axis=0, n_resamples=2000, batch=50, method="percentile", rng=0
    )
    return ends.confidence_interval.low, ends.confidence_interval.high


def bca(samples):
    """Bias-corrected and accelerated bootstrap (Efron & Tibshirani 1993, section 14.3)."""
    ends = stats.bootstrap(
        (samples,), np.mean, axis=0, n_resamples=999, batch=50, method="BCa", rng=0
    )
    return ends.confidence_interval.low, ends.confidence_interval.high


def bootstrap_t(samples, confidence=0.95, resamples=999, seed=0):
    """Bootstrap-t interval of the mean (Efron & Tibshirani 1993, section 12.5); one column after
    the other in memory."""
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


def students(samples, among=None, confidence=0.95, shift=0.0):
    """Student's t interval within strata."""
    mean, error, freedom = within_strata(samples, among)
    width = stats.t.isf((1 - confidence) / 2, freedom)
    return mean + error * (shift - width), mean + error * (shift + width)


def johnsons(samples, among):
    """Johnson's modified t (1978): the interval moves by a sixth of the skewness of the mean."""
    _, error, _ = within_strata(samples, among)
    parts = [samples[among == color] for color in np.unique(among)]
    cumulant = sum(len(part) * stats.kstat(part, 3, axis=0) for part in parts if len(part) > 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        skewness = np.nan_to_num(cumulant / (len(samples) * error) ** 3)
    return students(samples, among, shift=skewness / 6)


def students_p(samples, side, among):
    mean, error, freedom = within_strata(samples if side == "greater" else -samples, among)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(error > 0, stats.t.sf(mean / error, freedom), np.where(mean > 0, 0.0, 1.0))
    return np.maximum(p, 0.5 ** len(samples))


# What takes long is tried on fewer samples.
FEW = 500
INTERVALS = {
    "percentile bootstrap": percentile,
    "BCa": lambda samples: bca(samples[:, :FEW]),
    "bootstrap-t": lambda samples: bootstrap_t(samples[:, :FEW]),
    "Student's t": lambda samples: students(samples),
    "within colours: Student's t": lambda samples: students(samples, strata(len(samples))),
    "within colours: Johnson's t": lambda samples: johnsons(samples, strata(len(samples))),
    "within colours: the one used": lambda samples: t_interval(samples, strata(len(samples))),
}
TESTS = {
    "sign flip": lambda samples, side: sign_flip_p(samples[:, :FEW], side),
    "Student's t": lambda samples, side: students_p(samples, side, strata(len(samples))),
    "the one used": lambda samples, side: t_p(samples, side, strata(len(samples))),
}
# Corrections over many heads ask for small p.
SMALL = 0.001


def table(rows, columns="n"):
    """A row per kind of effects, a column per method: shares over the numbers of trials."""
    frame = pd.DataFrame(rows)
    cells = frame.groupby(["effects", "method"], sort=False)["share"].agg(
        lambda shares: " / ".join(f"{share:.2f}" for share in shares)
    )
    return cells.unstack("method").to_string()


def intervals():
    coverage, level, small, power, absent = [], [], [], [], []
    for number, (name, draw) in enumerate(DRAWS.items()):
        for n in SIZES:
            samples = draw(np.random.default_rng([number, n]), n, REPEATS)
            about = dict(effects=name, n=n)
            for method, interval in INTERVALS.items():
                low, high = interval(samples)
                covered = ((low <= MEAN) & (MEAN <= high)).mean()
                coverage.append(about | dict(method=method, share=covered))
            for method, test in TESTS.items():
                for side, asked in (("greater", "up"), ("less", "not up")):
                    rejected = (test(samples - MEAN, side) <= 0.05).mean()
                    level.append(about | dict(method=f"{asked}: {method}", share=rejected))
                # A head that restores 12.5 % of the gap, against the 5 % that "up" asks for, and
                # one that restores 2 %, against the 10 % that "not up" asks for; at a level that
                # leaves room for many heads.
                up = (test(0.125 * samples - LEAST, "greater") <= 0.005).mean()
                power.append(about | dict(method=method, share=up))
                nothing = (test(0.02 * samples - 2 * LEAST, "less") <= 0.005).mean()
                absent.append(about | dict(method=method, share=nothing))
            if n > COLORS:
                many = draw(np.random.default_rng([number, n, 1]), n, 10 * REPEATS)
                for method in ("Student's t", "the one used"):
                    for side, asked in (("greater", "up"), ("less", "not up")):
                        rejected = (TESTS[method](many - MEAN, side) <= SMALL).mean() / SMALL
                        small.append(about | dict(method=f"{asked}: {method}", share=rejected))
    print(
        f"At {' / '.join(map(str, SIZES))} trials. Coverage of 95 % intervals",
        table(coverage),
        sep="\n",
    )
    print("\nLevel of one-sided tests at 0.05, true mean on the boundary", table(level), sep="\n")
    print(
        f"\nThe same at {SMALL}, as a multiple of it, at {' / '.join(map(str, SIZES[1:]))} trials",
        table(small),
        sep="\n",
    )
    print('\nPower at 0.005 of "up", for 12.5 % of the gap against 5 %', table(power), sep="\n")
    print('\nPower at 0.005 of "not up", for 2 % of the gap against 10 %', table(absent), sep="\n")


# Heads that are true on all predictions of a role but one, at its margin.
GAME = find("rgb")
ROLES = list(GAME.roles)
EVERY, TRUE, NEAR, TRIALS, GAP = 1024, 2, 40, 32, 10.0
HERE, THERE = Sweep("erased"), Sweep("recolored")
UP = Prediction("up", (Claim("odd", "up", HERE),))
NONE = Prediction("none", (Claim("odd", "none", THERE),))


def simulated(here, there, words):
    """Effects on the odd word in the erased and in the recolored picture, as if measured; (trials,
    heads)."""
    effects = {}
    for sweep, values in ((HERE, here), (THERE, there)):
        effects[sweep] = np.zeros((*values.shape, len(ROLES)))
        effects[sweep][..., ROLES.index("odd")] = values
    logits = {name: np.zeros((len(here), len(ROLES))) for name in ("clean", "erased", "recolored")}
    logits["clean"][:, ROLES.index("odd")] = GAP
    said = np.full((len(here), len(ROLES)), "", dtype="U9")
    said[:, ROLES.index("odd")] = words
    return Measured(GAME, [(0, head) for head in range(here.shape[1])], effects, logits, said)


def false_roles(repeats=50):
    rows = []
    for name, draw in {
        one: DRAWS[one] for one in ("normal, CV 0.5", "normal, CV 1", "lognormal, CV 1")
    }.items():
        rng = np.random.default_rng(0)
        for repeat in range(repeats):
            here = rng.normal(0, 0.1, (TRIALS, EVERY))
            here[:, : TRUE + NEAR] = 3 * draw(rng, TRIALS, TRUE + NEAR)
            there = rng.normal(0, 0.1, (TRIALS, EVERY))
            # On the margin of a tenth of the gap.
            there[:, TRUE : TRUE + NEAR] = 0.1 * GAP * draw(rng, TRIALS, NEAR)
            frame = judge(
                simulated(here, there, strata(TRIALS)),
                [[UP, NONE]],
                Rules(0.1, 0.05, 0.05, split=False),
            )
            by_themselves = pd.concat(
                [
                    frame[frame["prediction"] == one.name]
                    .set_index("head")["p_value"]
                    .rename(one.name)
                    for one in (UP, NONE)
                ],
                axis=1,
            )
            q = by_themselves.apply(lambda p: stats.false_discovery_control(p))
            for rule, named in (
                ("roles", [head for _, head in heads(frame, [UP, NONE])]),
                ("each prediction by itself", list(q.index[(q <= 0.05).all(axis=1)])),
            ):
                wrong = sum(head >= TRUE for head in named)
                rows.append(
                    dict(
                        effects=name,
                        rule=rule,
                        false=wrong / max(1, len(named)),
                        found=(len(named) - wrong) / TRUE,
                    )
                )
    means = pd.DataFrame(rows).groupby(["effects", "rule"], sort=False)[["false", "found"]]
    print(
        f"{EVERY} heads, {TRUE} with the role and {NEAR} true on one of its predictions and on the "
        f"margin of the other; {TRIALS} trials, {repeats} repeats.\nMean share of false among the "
        "named, and of the true that are named"
    )
    errors = means.sem().add_suffix(", error")
    print(pd.concat([means.mean(), errors], axis=1).round(3).to_string())


def independence(repeats=200):
    rows = []
    for number, r in enumerate((0.3, 0.5, 0.7)):
        for n in SIZES:
            rng = np.random.default_rng([number, n])
            pairs = rng.multivariate_normal([0, 0], [[1, r], [r, 1]], (repeats, n))
            rejected = [independence_p(pair[:, 0], pair[:, 1]) <= 0.05 for pair in pairs]
            rows.append(
                dict(effects=f"normal, r = {r}", method="rejected", share=np.mean(rejected))
            )
    for n in SIZES:
        rng = np.random.default_rng([9, n])
        own = lognormal(rng, n, repeats, 1.0)
        # Each trial is given another's, as resampling does.
        rejected = [independence_p(one, np.roll(one, 1)) <= 0.05 for one in own.T]
        rows.append(
            dict(effects="lognormal, of another trial", method="rejected", share=np.mean(rejected))
        )
    print(
        f"Share of samples where independence is rejected at 0.05, {repeats} samples, at "
        f"{' / '.join(map(str, SIZES))} trials",
        table(rows),
        sep="\n",
    )


PARTS = {"intervals": intervals, "roles": false_roles, "independence": independence}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    chosen = parser.parse_args(arguments).parts or list(PARTS)
    for number, name in enumerate(chosen):
        print("\n" * (number > 0), end="")
        PARTS[name]()


if __name__ == "__main__":
    main()
