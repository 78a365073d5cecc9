"""Tests on per-trial effects: intervals, sign-flip p values, equivalence, false discovery rate.

Every function takes an array of shape (trials, …) and treats each column separately; the trials are
the replicates.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from ..arguments import as_number
from ..errors import InputError

# Lattice steps per column's absolute sum in the sign-flip distribution, and the number of random
# draws where all cannot be made.
LATTICE = 8192
RESAMPLES = 2000
# With so many trials beyond the first two of each stratum, the skewness of the effects can be told:
# eight strata of four trials.
TELL_SKEWNESS = 16
# Runs that do the same differ by less than this fraction of their logits.
ROUNDING = 1e-5
# The probability of finding an effect that a number of trials is chosen for.
POWER = 0.8
ALTERNATIVES = ("greater", "less", "two-sided")


def mean_over_trials(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean effects with their intervals.

    Args:
        frame: a row per trial and combination of ``by``, with ``trial`` and ``effect``, and
            ``answer`` if the frame names the word whose logit is read.
        by: columns.

    Returns:
        A row per combination, in the frame's order: ``by``, ``effect`` (mean over trials),
        ``ci_low, ci_high`` (its 95 % t interval within the words of ``answer``, missing with a
        single trial), ``n`` (trials).
    """
    by = list(by)
    order = pd.MultiIndex.from_frame(frame[by].astype(object).drop_duplicates())
    order = order if len(by) > 1 else order.get_level_values(0)

    def cells(values):
        rows = frame.astype({name: object for name in (*by, values)})
        return rows.pivot(index="trial", columns=by, values=values)[order]

    effects = cells("effect").to_numpy(dtype=float)
    table = order.to_frame(index=False).infer_objects()
    table["effect"] = effects.mean(0)
    low, high = np.full((2, len(table)), np.nan)
    if len(effects) > 1:
        words = (
            cells("answer").to_numpy(dtype=str) if "answer" in frame else np.full(effects.shape, "")
        )
        # Combinations that read the same words share their strata.
        kinds, kind = np.unique(words, axis=1, return_inverse=True)
        for number, strata in enumerate(kinds.T):
            columns = kind == number
            low[columns], high[columns] = t_interval(effects[:, columns], strata.tolist())
    return table.assign(ci_low=low, ci_high=high, n=len(effects))


def words_read(rows: pd.DataFrame, trials: pd.Index) -> list[str] | None:
    """The word whose logit is read in each trial: the strata of `t_interval`.

    Args:
        rows: of one role, with ``trial``.
        trials: their names, in the order of the effects.

    Returns:
        A word per trial; None where the rows do not name it in ``answer``.
    """
    if "answer" not in rows:
        return None
    return (
        rows.drop_duplicates("trial").set_index("trial")["answer"].loc[trials].astype(str).tolist()
    )


def sign_flip_p(samples: np.ndarray, alternative: str = "greater") -> np.ndarray:
    """p value for a mean of zero, from all 2^n ways of flipping the signs of the n trials.

    The test is exact for effects that are distributed symmetrically around zero, and assumes
    nothing else. It draws no flips at random: the sum of the trials that keep a positive sign is a
    random subset sum of the absolute values, and the whole distribution of that sum is built up
    trial by trial on a lattice of ``LATTICE`` steps. The effects are first rounded to the lattice.
    The test stays valid, since rounding treats an effect and its negative alike.

    The smallest possible p is 1/2^n for n trials (two-sided 2/2^n). It is reached when all nonzero
    trials agree in sign and none is so small that it rounds to zero.

    Args:
        samples: (trials, …), finite.
        alternative: ``"greater"`` (the mean is above zero), ``"less"`` or ``"two-sided"``.

    Returns:
        p values, (…).

    Raises:
        InputError: no trials, numbers that are not finite, or an unknown alternative.

    Source: Fisher's randomisation test; the lattice is the shift algorithm of Streitberg & Röhmel
    (1986). `scipy.stats.permutation_test` enumerates up to its ``n_resamples`` only and draws at
    random above.
    """
    samples = _checked(samples, least=1)
    if alternative not in ALTERNATIVES:
        raise InputError(
            f"alternative is {alternative!r}; use {', '.join(map(repr, ALTERNATIVES))}"
        )
    columns = samples.reshape(len(samples), -1).T
    if alternative == "less":
        columns = -columns
    elif alternative == "two-sided":
        columns = columns * np.where(columns.sum(1) < 0, -1, 1)[:, None]
    p = np.array([_flips_at_least_as_large(column) for column in columns])
    if alternative == "two-sided":
        p = np.minimum(1, 2 * p)
    return p.reshape(samples.shape[1:])


def shown_to_fall(before: np.ndarray, after: np.ndarray, level: float = 0.05) -> np.ndarray:
    """Whether values are shown to be smaller after than before, so that there is a gap to divide
    by.

    Two things must hold. `sign_flip_p` of the differences is at most ``level``; with fewer trials
    than that takes (`fewest_trials`), all differences are above zero. And their mean is more than
    ``ROUNDING`` of the largest number, since runs that do the same can differ by rounding, in the
    same direction in every trial.

    Args:
        before, after: (trials, …), finite.
        level: of the test.

    Returns:
        Booleans, (…).

    Raises:
        InputError: no trials, or numbers that are not finite.
    """
    before, after = _checked(before, least=1), _checked(after, least=1)
    largest = np.maximum(abs(before), abs(after)).max(0)
    shown = sign_flip_p(before - after) <= max(level, 0.5 ** len(before))
    return shown & ((before - after).mean(0) > ROUNDING * largest)


def equivalence_p(samples: np.ndarray, margin: float | np.ndarray) -> np.ndarray:
    """p value of two one-sided tests: small if the mean is shown to lie between −margin and margin.

    Args:
        samples: (trials, …).
        margin: the largest mean that still counts as no effect, ≥ 0, a number or (…).

    Returns:
        p values, (…): the larger of the two sign-flip p values. The smallest possible is 1/2^n for
        n trials.

    Source: Schuirmann (1987), the two one-sided tests procedure (TOST).
    """
    margin = np.asarray(margin, dtype=float)
    if not (margin >= 0).all():
        raise InputError(
            f"the equivalence margin is {margin.min()}; use a number that is not negative"
        )
    samples = np.asarray(samples, dtype=float)
    return np.maximum(
        sign_flip_p(samples - margin, "less"), sign_flip_p(samples + margin, "greater")
    )


def t_interval(
    samples: np.ndarray, strata: Sequence | np.ndarray | None = None, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """t interval of the mean over trials, within strata and corrected for skewness.

    A stratum is a factor that was sampled on purpose, such as the odd colour, so differences
    between strata are not chance. Effects of heads are skewed: a sample of many small effects and a
    few large ones often has both too small a mean and too small a spread, and Student's interval
    misses the true mean. Hall's transformation of t (`_hall`) removes that skewness to first order;
    for a sample without skewness it equals Student's t. If the strata have too few trials to tell
    their skewness (``TELL_SKEWNESS``), each end is the outer one of Student's and of Hall's with
    the skewness of all trials together. ``benchmarks/verdicts.py`` simulates the coverage;
    docs/verdicts.md lists it.

    Args:
        samples: (trials, …).
        strata: a label per trial; by default all trials are one stratum. Trials that are alone in
            their stratum are pooled.
        confidence: the nominal coverage, between 0 and 1.

    Returns:
        ``(low, high)``, each of shape (…).

    Raises:
        InputError: fewer than 2 trials, numbers that are not finite, or a confidence outside 0 to
            1.

    Source: Cochran, Sampling Techniques (1977), sections 5.3 and 5.4; degrees of freedom after
        Satterthwaite (1946); Hall, On the removal of skewness by transformation, J. R. Statist.
        Soc. B 54 (1992).
    """
    if not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}; use a number between 0 and 1, such as 0.95")
    samples = _checked(samples, least=2)
    mean, error, freedom = within_strata(samples, strata)
    t = stats.t.isf((1 - confidence) / 2, freedom)
    skewness = _skewness_of_the_mean(samples, strata, error)
    low = mean - error * np.max([_hall_inverse(t, one) for one in skewness], axis=0)
    high = mean - error * np.min([_hall_inverse(-t, one) for one in skewness], axis=0)
    return low, high


def t_p(
    samples: np.ndarray, alternative: str = "greater", strata: Sequence | np.ndarray | None = None
) -> np.ndarray:
    """One-sided p value for a mean of zero. It uses the t of `t_interval`, so that intervals and
    tests never disagree.

    p is never below 1/2^n for n trials, the least that sign flips could give: even trials that
    agree to the last digit are only n trials.

    Args:
        samples: (trials, …), finite.
        alternative: ``"greater"`` (the mean is above zero) or ``"less"``.
        strata: as in `t_interval`.

    Returns:
        p values, (…).

    Raises:
        InputError: fewer than 2 trials, numbers that are not finite, or an unknown alternative.
    """
    samples = _checked(samples, least=2)
    if alternative not in ALTERNATIVES[:2]:
        raise InputError(
            f"alternative is {alternative!r}; use {', '.join(map(repr, ALTERNATIVES[:2]))}"
        )
    if alternative == "less":
        samples = -samples
    mean, error, freedom = within_strata(samples, strata)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = mean / error
        corrected = [_hall(t, one) for one in _skewness_of_the_mean(samples, strata, error)]
        p = np.where(
            error > 0, stats.t.sf(np.min(corrected, axis=0), freedom), np.where(mean > 0, 0.0, 1.0)
        )
    return np.maximum(p, 0.5 ** len(samples))


def ratio_interval(
    part: np.ndarray,
    whole: np.ndarray,
    strata: Sequence | np.ndarray | None = None,
    confidence: float = 0.95,
) -> tuple[np.ndarray, np.ndarray]:
    """Interval of a ratio of means over trials, mean of the part / mean of the whole.

    Each end is the outer one of two. The first comes from the delta method: `t_interval` of (part −
    ratio · whole) / mean of the whole, which allows for a skewed part. The second is a step towards
    Fieller's interval, whose end is the ratio r where Student's t rejects that part − r · whole has
    mean 0: its error is taken at the end itself rather than at the ratio, which allows for a whole
    that varies too. Neither covers alone; both together do (``benchmarks/intervals.py``). Read the
    interval only if the whole is shown to differ from 0.

    Args:
        part, whole: (trials, …), of the same trials.
        strata, confidence: as in `t_interval`.

    Returns:
        ``(low, high)``, each of shape (…); NaN where the mean of the whole is 0.

    Raises:
        InputError: as `t_interval`.

    Source: Fieller, Some problems in interval estimation, J. R. Statist. Soc. B 16 (1954).
    """
    part, whole = np.broadcast_arrays(*(_checked(side, least=2) for side in (part, whole)))
    scale = whole.mean(0)
    known = scale != 0
    scale = np.where(known, scale, 1)
    ratio, whole = part.mean(0) / scale, whole / scale
    rest = part / scale - ratio * whole
    low, high = t_interval(rest, strata, confidence)
    _, error, freedom = within_strata(rest, strata)
    width = stats.t.isf((1 - confidence) / 2, freedom)
    ends = [
        side(end, sign * width * within_strata(rest - sign * width * error * whole, strata)[1])
        for side, end, sign in ((np.minimum, low, -1), (np.maximum, high, 1))
    ]
    return np.where(known, ratio + ends[0], np.nan), np.where(known, ratio + ends[1], np.nan)


def rank_p(found: float, drawn: Sequence[float], slack: float = 0.0) -> float:
    """p value of one set of heads among random sets: (1 + how many of these reach it) / (1 + sets).

    The sets are the replicates, so p is never below 1 / (1 + sets), however many trials there are.

    Args:
        found: the value of the set in question; large if the set is special.
        drawn: the value of each random set.
        slack: how far below ``found`` a value still reaches it.

    Returns:
        p; NaN without random sets.
    """
    reaching = int((np.asarray(drawn, dtype=float) >= found - slack).sum())
    return (1 + reaching) / (1 + len(drawn)) if len(drawn) else np.nan


def decidable(sets: int, level: float = 0.05) -> bool:
    """Whether `rank_p` among so many random sets can reach ``level`` at all."""
    return 1 / (1 + sets) <= level


def _hall(t, skewness):
    """t with the skewness of the mean removed to first order; monotonic in t."""
    return t + skewness * t**2 / 3 + skewness**2 * t**3 / 27 + skewness / 6


def _hall_inverse(t, skewness):
    """The inverse of `_hall`."""
    slight = np.abs(skewness) < 1e-6
    safe = np.where(slight, 1, skewness)
    return np.where(slight, t, 3 / safe * (np.cbrt(1 + safe * (t - safe / 6)) - 1))


def _skewness_of_the_mean(samples, strata, error):
    """A list of estimates of the skewness of the mean over trials, each (…): one, from third
    moments within strata; or, if these have too few trials, zero and the one over all trials."""
    numbers = _stratum_numbers(strata, len(samples))
    parts = [samples[numbers == number] for number in np.unique(numbers)]
    if sum(max(0, len(part) - 2) for part in parts) >= TELL_SKEWNESS:
        return [_standardized(sum(map(_third_cumulant, parts)), len(samples), error)]
    return [
        np.zeros(samples.shape[1:]),
        _standardized(_third_cumulant(samples), len(samples), error),
    ]


def _third_cumulant(samples):
    """The unbiased third cumulant of the sum over trials, (…); 0 with fewer than three trials."""
    n = len(samples)
    if n < 3:
        return np.zeros(samples.shape[1:])
    return n * n / ((n - 1) * (n - 2)) * ((samples - samples.mean(0)) ** 3).sum(0)


def _standardized(cumulant, n, error):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error > 0, cumulant / (n * error) ** 3, 0.0)


def within_strata(
    samples: np.ndarray, strata: Sequence | np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over trials, its standard error from the spread within strata, and that error's degrees
    of freedom, each (…).

    Args:
        samples: (trials, …), two or more.
        strata: as in `t_interval`.
    """
    n = len(samples)
    parts = _variance_parts(samples, _stratum_numbers(strata, n))
    variance = sum(part for part, _ in parts)
    # Satterthwaite's, without the bias from squaring estimated variances: E[s⁴] = σ⁴ (ν + 2) / ν.
    squares = sum(part**2 / (freedom + 2) for part, freedom in parts)
    total, fewest = sum(freedom for _, freedom in parts), min(freedom for _, freedom in parts)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.where(squares > 0, variance**2 / squares - 2, total)
    return samples.mean(0), np.sqrt(variance), np.clip(freedom, fewest, total)


def trials_needed(
    distance: np.ndarray, error: np.ndarray, n: int, level: float | np.ndarray, power: float = POWER
) -> np.ndarray:
    """The number of trials at which a one-sided test would reject if the mean stays the same.

    Args:
        distance: from the tested value to the mean.
        error: the mean's standard error with ``n`` trials.
        level: that p must reach.
        power: probability that p reaches it.

    Returns:
        (…): infinite at distance 0. Normal quantiles approximate those of t.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (stats.norm.isf(level) + stats.norm.ppf(power)) * error / np.abs(distance)
    return np.where(error > 0, np.ceil(n * ratio**2), np.where(np.abs(distance) > 0, 1.0, np.inf))


def smallest_mean(
    n: int, variation: float, least: float, level: float, strata: int = 1, power: float = POWER
) -> float:
    """The smallest mean effect that n trials show to be above ``least``.

    Args:
        variation: standard deviation over trials within strata, as a fraction of the mean.
        least: in the same unit as the result.
        level: that p must reach.
        strata: their number; ignored with fewer than two trials per stratum.
        power: probability that p reaches ``level``.

    Returns:
        Infinite where no mean is large enough, since the spread grows with it.
    """
    freedom = n - strata if n >= 2 * strata else n - 1
    taken = variation * (stats.t.isf(level, freedom) + stats.norm.ppf(power)) / n**0.5
    return least / (1 - taken) if taken < 1 else np.inf


def _variance_parts(samples, numbers):
    """For each stratum, its share of the variance of the mean over all trials, (…), and its degrees
    of freedom."""
    strata = [samples[numbers == number] for number in np.unique(numbers)]
    return [(len(part) * part.var(0, ddof=1) / len(samples) ** 2, len(part) - 1) for part in strata]


def _stratum_numbers(strata, n):
    """A number per stratum, (trials,), pooled so that no trial is alone in its stratum."""
    if strata is None:
        return np.zeros(n, dtype=int)
    if len(strata) != n:
        raise InputError(
            f"there are {len(strata)} strata for {n} trials; give one label for each trial"
        )
    _, numbers, sizes = np.unique(
        np.asarray(strata, dtype=str), return_inverse=True, return_counts=True
    )
    alone = sizes[numbers] == 1
    if alone.sum() == 1 and n > 1:
        alone |= numbers == np.where(sizes > 1, sizes, n + 1).argmin()
    return np.where(alone, -1, numbers)


def benjamini_hochberg(p_values: np.ndarray) -> np.ndarray:
    """Adjusted p values (q values) over everything in ``p_values``, of the same shape.

    Rejecting where q ≤ 0.05 keeps the expected share of false rejections among all rejections below
    0.05.

    Source: Benjamini & Hochberg (1995); `scipy.stats.false_discovery_control`.
    """
    p_values = np.asarray(p_values, dtype=float)
    if not p_values.size:
        return p_values
    return stats.false_discovery_control(p_values.ravel(), method="bh").reshape(p_values.shape)


def hsic(one: np.ndarray, other: np.ndarray) -> float:
    """Hilbert–Schmidt independence criterion of two numbers per trial: 0 if either is constant over
    trials, and larger the more one says about the other, in whatever way.

    It is the mean over pairs of trials of K · L, the centred Gaussian kernels exp(−d² / 2w²) of the
    two numbers. w is the median of the nonzero distances d between two trials.

    Args:
        one, other: (trials,).

    Raises:
        InputError: fewer than 2 trials, numbers that are not finite, or arrays that are not both
            (trials,).

    Source: Gretton et al., A kernel statistical test of independence (2007), the biased estimate.
    """
    one, other = _paired(one, other)
    return float((_centred_kernel(one) * _centred_kernel(other)).mean())


def independence_p(one: np.ndarray, other: np.ndarray, seed: int = 0) -> float:
    """p value for the independence of two numbers per trial: the share of orders of the trials of
    ``one`` whose `hsic` with ``other`` is at least the observed one.

    It takes all orders if there are at most ``RESAMPLES``, otherwise that many random ones and the
    observed one. p is 1 if either number is constant over trials. Numbers that differ only by
    rounding still differ, so round them first.

    Args:
        one, other: (trials,).
        seed: of the random orders.

    Raises:
        InputError: as `hsic`.

    Source: Gretton et al. (2007); `scipy.stats.permutation_test`.
    """
    one, other = _paired(one, other)
    moved, fixed = _centred_kernel(one), _centred_kernel(other)

    def reordered(order, axis):
        order = order.astype(int)
        return (moved[order[..., :, None], order[..., None, :]] * fixed).mean((-2, -1))

    result = stats.permutation_test(
        (np.arange(len(one)),),
        reordered,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=RESAMPLES,
        # Keep the reordered kernels of a batch to about 10 million numbers.
        batch=max(1, 10_000_000 // len(one) ** 2),
        alternative="greater",
        rng=seed,
    )
    return float(result.pvalue)


def fewest_trials(level: float, tests: int = 1) -> int:
    """The fewest trials with which a one-sided sign-flip or equivalence test can reject at all.

    Args:
        level: of the test, or false discovery rate.
        tests: how many tests are corrected for together. Pass 1 for the least that
            Benjamini–Hochberg can need (all tests reject together), or their number for the least
            that a single rejection among them needs.

    Returns:
        The smallest n with 1/2^n ≤ level / tests.
    """
    number = as_number(level)
    if number is None or not 0 < number < 1:
        raise InputError(f"the level is {level}; use a number between 0 and 1, such as 0.05")
    return max(1, math.ceil(math.log2(tests / number)))


def _paired(one, other):
    one, other = _checked(one, least=2), _checked(other, least=2)
    if one.ndim != 1 or one.shape != other.shape:
        raise InputError(
            f"the shapes are {one.shape} and {other.shape}; give one number of each kind for each "
            "trial"
        )
    return one, other


def _centred_kernel(values):
    """A kernel (trials, trials) whose rows and columns sum to 0; all 0 if the values are
    constant."""
    distance = np.abs(values[:, None] - values)
    if not distance.any():
        return distance
    kernel = np.exp(-((distance / np.median(distance[distance > 0])) ** 2) / 2)
    return kernel - kernel.mean(0) - kernel.mean(1)[:, None] + kernel.mean()


def _checked(samples, least):
    samples = np.asarray(samples, dtype=float)
    if samples.ndim == 0 or len(samples) < least:
        trials = len(samples) if samples.ndim else 0
        raise InputError(f"there are {trials} trials; at least {least} are needed")
    if not np.isfinite(samples).all():
        raise InputError(
            f"{int((~np.isfinite(samples)).sum())} of the {samples.size} effects are not finite; "
            "leave those trials out"
        )
    return samples


def _flips_at_least_as_large(effects):
    """Share of the sign flips of ``effects`` (trials,) whose sum is at least the observed one."""
    size = np.abs(effects)
    total = size.sum()
    if total == 0:
        return 1.0
    steps = np.rint(size * (LATTICE / total)).astype(int)
    observed = steps[effects > 0].sum()
    # share[k]: of the flips of the trials so far, those whose positive part sums to k steps.
    share = np.zeros(steps.sum() + 1)
    share[0] = 1
    reached = 0
    for step in steps:
        # Counting both signs of a trial that rounds to zero, the share stays 1.
        share[step : reached + step + 1] += share[: reached + 1].copy()
        share[: reached + step + 1] /= 2
        reached += step
    return float(min(1.0, share[observed:].sum()))
