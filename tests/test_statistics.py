"""Tests on effects: exact where enumeration is possible, calibrated where chance is known."""

from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rgb_circuit import InputError
from rgb_circuit.statistics import (
    benjamini_hochberg,
    decidable,
    equivalence_p,
    fewest_trials,
    hsic,
    independence_p,
    mean_over_trials,
    rank_p,
    ratio_interval,
    shown_to_fall,
    sign_flip_p,
    smallest_mean,
    t_interval,
    t_p,
    trials_needed,
    within_strata,
)


def enumerated(effects):
    """Share of all sign flips whose sum is at least the observed one."""
    sums = np.array(list(product([1, -1], repeat=len(effects)))) @ effects
    return (sums >= effects.sum() - 1e-12).mean()


# Sign flips


def test_sign_flip_p_of_three_trials_by_hand():
    # Sums of ±1 ±2 ±3: 6 once; 4 and more twice; 2 and more three times; 0 and more five times.
    samples = np.array([[1.0, 2, 3], [-1, 2, 3], [1, -2, 3], [1, 2, -3]]).T
    assert sign_flip_p(samples) == pytest.approx([1 / 8, 2 / 8, 3 / 8, 5 / 8])
    assert sign_flip_p(-samples, "less") == pytest.approx([1 / 8, 2 / 8, 3 / 8, 5 / 8])
    assert sign_flip_p(-samples, "two-sided") == pytest.approx([2 / 8, 4 / 8, 6 / 8, 1])


@pytest.mark.parametrize("n", [1, 2, 7, 12])
def test_sign_flip_p_equals_enumeration_up_to_ties_on_the_lattice(n):
    samples = np.random.default_rng(n).normal(0.4, 1, (n, 40))
    wanted = np.array([enumerated(column) for column in samples.T])
    # Rounding can make a few of the 2^n sums change places with the observed one.
    np.testing.assert_allclose(
        sign_flip_p(samples), wanted, rtol=0, atol=5 / 2**n if n > 2 else 1e-12
    )


def test_sign_flip_p_agrees_with_scipy():
    samples = np.random.default_rng(0).normal(0.3, 1, (10, 12))
    for alternative in ("greater", "less", "two-sided"):
        wanted = stats.permutation_test(
            (samples,),
            np.mean,
            permutation_type="samples",
            vectorized=True,
            alternative=alternative,
            n_resamples=2000,
        ).pvalue
        np.testing.assert_allclose(
            sign_flip_p(samples, alternative), wanted, rtol=0, atol=5 / 2**10
        )


@pytest.mark.parametrize("n", [1, 5, 16, 40, 200])
def test_smallest_p_is_one_over_two_to_the_n(n):
    assert sign_flip_p(np.ones((n, 1)))[0] == pytest.approx(2.0**-n)
    assert sign_flip_p(np.linspace(1, 2, n)) == pytest.approx(2.0**-n)


def test_trials_of_exactly_zero_show_nothing():
    assert sign_flip_p(np.zeros(6)) == 1
    assert sign_flip_p(np.array([0.0, 0, 1, 1])) == pytest.approx(1 / 4)


@pytest.mark.parametrize("n", [8, 30])
@pytest.mark.parametrize("draw", ["normal", "laplace", "cauchy"])
def test_sign_flip_p_is_calibrated_under_the_null(n, draw):
    rng = np.random.default_rng(n)
    samples = (
        rng.standard_cauchy((n, 500)) if draw == "cauchy" else getattr(rng, draw)(size=(n, 500))
    )
    for alternative in ("greater", "less", "two-sided"):
        p = sign_flip_p(samples, alternative)
        for level in (0.01, 0.05, 0.2):
            # Three standard errors of a share of 500.
            assert abs((p <= level).mean() - level) < 3 * (
                level * (1 - level) / 500
            ) ** 0.5 + 2.0 ** (1 - n)


def test_p_reaches_far_enough_for_thousands_of_heads():
    # 1,024 heads × 5 predictions with one true effect in 32 trials: no number of random flips that
    # anyone draws shows it.
    samples = np.random.default_rng(0).normal(size=(32, 5120))
    samples[:, 7] += 3
    assert np.flatnonzero(benjamini_hochberg(sign_flip_p(samples[:, :64])) <= 0.05) == [7]
    assert sign_flip_p(samples[:, 7]) < 0.05 / 5120


# Equivalence


def test_equivalence_p_is_small_only_within_the_margin():
    rng = np.random.default_rng(0)
    near, far = rng.normal(0, 0.2, (16, 50)), rng.normal(1, 0.2, (16, 50))
    assert (equivalence_p(near, 0.5) < 0.01).all()
    assert (equivalence_p(far, 0.5) > 0.9).all()
    # Too few and too noisy trials show neither an effect nor its absence.
    noisy = rng.normal(0, 2, (6, 50))
    assert (equivalence_p(noisy, 0.5) > 0.05).mean() > 0.9


def test_equivalence_p_by_hand():
    # Both tests see three trials that agree: 0.1 + 0.5 and 0.1 − 0.5.
    assert equivalence_p(np.full(3, 0.1), 0.5) == pytest.approx(1 / 8)
    assert equivalence_p(np.full(3, 0.6), 0.5) == 1
    assert equivalence_p(np.zeros(3), 0) == 1


def test_equivalence_at_the_margin_is_calibrated():
    samples = np.random.default_rng(1).normal(0.5, 0.3, (16, 1000))
    assert abs((equivalence_p(samples, 0.5) <= 0.05).mean() - 0.05) < 0.021


# False discovery rate


def test_benjamini_hochberg_by_hand():
    # Sorted p · m / rank: 0.04, 0.04, 0.0533…, 0.5; the smallest from each rank upward.
    p = np.array([[0.01, 0.5], [0.02, 0.04]])
    np.testing.assert_allclose(benjamini_hochberg(p), [[0.04, 0.5], [0.04, 0.16 / 3]])
    assert benjamini_hochberg(np.array([])).size == 0


def test_benjamini_hochberg_keeps_false_discoveries_rare():
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(40):
        samples = rng.normal(size=(12, 60))
        samples[:, :20] += 1.5
        found = benjamini_hochberg(sign_flip_p(samples)) <= 0.05
        shares.append(found[20:].sum() / max(1, found.sum()))
    assert np.mean(shares) < 0.05


# Intervals


def knocked(**columns):
    rows = [
        dict(trial=f"{trial}", layer=layer, role=role, answer=word if role == "odd" else "white")
        for trial, word in enumerate(["red", "blue"] * 4)
        for role in ("odd", "none")
        for layer in range(2)
    ]
    return pd.DataFrame(rows).assign(**columns)


def test_means_have_the_t_interval_within_the_words_that_are_read():
    frame = knocked()
    frame["effect"] = np.random.default_rng(0).normal(size=len(frame)) + 3.0 * (
        frame["answer"] == "red"
    )
    table = mean_over_trials(frame, ["role", "layer"])
    assert table[["role", "layer"]].to_numpy().tolist() == [
        [r, k] for r in ("odd", "none") for k in (0, 1)
    ]
    for row in table.itertuples():
        own = frame[(frame["role"] == row.role) & (frame["layer"] == row.layer)].set_index("trial")
        strata = list("abababab") if row.role == "odd" else None
        low, high = t_interval(own["effect"].to_numpy(), strata)
        assert (row.effect, row.ci_low, row.ci_high) == pytest.approx(
            (own["effect"].mean(), low, high)
        )
    # Between red and blue lie 3 logits, which are no chance.
    odd = frame[frame["role"] == "odd"]
    pooled = mean_over_trials(odd.drop(columns="answer"), ["layer"])
    assert (
        np.ptp(pooled[["ci_low", "ci_high"]], axis=1) > np.ptp(table.iloc[:2, -3:-1], axis=1)
    ).all()
    alone = mean_over_trials(frame[frame["trial"] == "3"], ["role", "layer"])
    assert alone["ci_low"].isna().all() and (alone["n"] == 1).all()


def test_the_interval_of_a_ratio_reaches_to_the_outer_one_of_two_ends():
    rng = np.random.default_rng(3)
    part, whole = rng.lognormal(size=(16, 50)), rng.lognormal(1, 0.4, (16, 50))
    strata = np.arange(16) % 4
    low, high = ratio_interval(part, whole, strata)
    for column, (numbers, of) in enumerate(zip(part.T, whole.T)):
        ratio = numbers.mean() / of.mean()
        delta = [
            ratio + float(end) for end in t_interval((numbers - ratio * of) / of.mean(), strata)
        ]
        _, error, freedom = within_strata(numbers - ratio * of, strata)
        t = stats.t.isf(0.025, freedom)
        for end, given, sign, outer in ((low, delta[0], -1, min), (high, delta[1], 1, max)):
            there = ratio + sign * t * error / of.mean()
            _, error_there, _ = within_strata(numbers - there * of, strata)
            assert end[column] == pytest.approx(
                outer(given, ratio + sign * t * error_there / of.mean())
            )
    # Turned round with its whole.
    np.testing.assert_allclose(ratio_interval(part, -whole, strata), (-high, -low))


def test_a_ratio_to_a_constant_is_a_mean_and_to_nothing_is_missing():
    # As far from its mean above as below, so that nothing is skewed.
    samples = 2 + np.outer([-3, -2, -1, -0.5, 0.5, 1, 2, 3], [1, 2, 3])
    found = ratio_interval(samples, np.full((8, 1), 4.0))
    np.testing.assert_allclose(found, np.array(t_interval(samples)) / 4)
    whole = samples[:, :1]
    np.testing.assert_allclose(ratio_interval(0.7 * whole, whole), 0.7)
    assert np.isnan(ratio_interval(samples, np.zeros((8, 3)))).all()


@pytest.mark.parametrize("draw", ["lognormal", "gamma"])
@pytest.mark.parametrize("varies", ["part", "whole"])
def test_the_interval_of_a_ratio_covers_at_16_trials(draw, varies):
    rng, cv = np.random.default_rng([len(draw), len(varies)]), 1.4
    spread = np.log(1 + cv**2) ** 0.5
    skewed = dict(
        lognormal=lambda: rng.lognormal(-(spread**2) / 2, spread, (16, 3000)),
        gamma=lambda: rng.gamma(1 / cv**2, cv**2, (16, 3000)),
    )[draw]()
    part, whole = dict(
        part=(0.8 * skewed, rng.gamma(10, 0.1, (16, 3000))),
        whole=(skewed * rng.beta(8, 2, (16, 3000)), skewed),
    )[varies]
    low, high = ratio_interval(part, whole, np.arange(16) % 8)
    # As simulated in benchmarks/intervals.py.
    assert ((low <= 0.8) & (0.8 <= high)).mean() >= 0.925


def test_a_set_among_random_ones_rejects_no_more_than_its_level():
    rng = np.random.default_rng(0)
    p = np.array([rank_p(found, drawn) for found, *drawn in rng.normal(size=(20000, 20))])
    assert set(np.round(20 * p)) == set(range(1, 21)) and 0.045 < (p <= 0.05).mean() < 0.055
    assert rank_p(1.0, [1.0, 0.0, 2.0]) == 3 / 4 and rank_p(1.0, [1.0 - 1e-9], slack=1e-6) == 1
    assert np.isnan(rank_p(1.0, []))
    assert decidable(19) and not decidable(18)


# Within strata


def symmetric(rng, shape):
    """Samples whose third moment is exactly zero."""
    half = rng.normal(0, 1, (shape[0] // 2, *shape[1:]))
    return 0.4 + np.concatenate([half, -half])


def test_t_of_samples_that_are_not_skewed_is_students():
    samples = symmetric(np.random.default_rng(0), (20, 30))
    for alternative in ("greater", "less"):
        wanted = np.maximum(stats.ttest_1samp(samples, 0, alternative=alternative).pvalue, 2.0**-20)
        np.testing.assert_allclose(t_p(samples, alternative), wanted)
    wanted = stats.ttest_1samp(samples, 0).confidence_interval()
    np.testing.assert_allclose(t_interval(samples), (wanted.low, wanted.high))


def test_t_of_skewed_samples_is_halls():
    samples = np.random.default_rng(0).exponential(1, 24)
    n, mean, error = 24, samples.mean(), stats.sem(samples)
    skewness = stats.kstat(samples, 3) / samples.std(ddof=1) ** 3
    a = skewness / n**0.5
    for null in (0.2, 0.8, 1.3):
        t = (mean - null) / error
        halls = t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6
        assert t_p(samples - null) == pytest.approx(max(0.5**n, stats.t.sf(halls, n - 1)))
        assert t_p(samples - null, "less") == pytest.approx(stats.t.cdf(halls, n - 1))


def test_with_few_trials_the_more_careful_of_two_ts_counts():
    # Four trials of each of two strata do not tell how skewed they are.
    samples = np.random.default_rng(3).exponential(1, (8, 50))
    strata = list("aaaabbbb")
    mean, error, freedom = within_strata(samples, strata)
    t = mean / error
    a = stats.kstat(samples, 3, axis=0) / 8**2 / error**3
    halls = t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6
    wanted = np.maximum(stats.t.sf(t, freedom), stats.t.sf(halls, freedom))
    np.testing.assert_allclose(t_p(samples, strata=strata), np.maximum(wanted, 0.5**8))
    assert (halls > t).any() and (halls < t).any()


@pytest.mark.parametrize("n", [8, 16, 32])
def test_an_interval_ends_where_its_test_turns(n):
    samples = np.random.default_rng(n).lognormal(0, 1, (n, 200)) - 0.5
    for strata in (None, np.arange(n) % 4):
        low, high = t_interval(samples, strata)
        assert (low < samples.mean(0)).all() and (samples.mean(0) < high).all()
        for end, side in ((low, "greater"), (high, "less")):
            np.testing.assert_allclose(t_p(samples - end, side, strata), 0.025, rtol=1e-6)


@pytest.mark.parametrize("n, strata", [(8, 1), (16, 8), (32, 8), (64, 8)])
@pytest.mark.parametrize("cv", [1.0, 1.4])
def test_intervals_of_skewed_effects_cover_at_least_nine_times_of_ten(n, strata, cv):
    spread = np.log(1 + cv**2) ** 0.5
    samples = np.random.default_rng([n, int(10 * cv)]).lognormal(
        -(spread**2) / 2, spread, (n, 4000)
    )
    low, high = t_interval(samples, np.arange(n) % strata)
    # As simulated in benchmarks/verdicts.py; Student's t covers 0.82 to 0.92.
    assert ((low <= 1) & (1 <= high)).mean() > 0.905
    assert (t_p(samples - 1, strata=np.arange(n) % strata) <= 0.05).mean() < 0.055


def test_what_differs_between_strata_is_not_counted_as_chance():
    # A head that serves the first of two colours, alike in each of its trials.
    samples = np.array([2.0, 2, 2, 2, 0, 0, 0, 0])
    low, high = t_interval(samples, list("aaaabbbb"))
    assert low == high == 1
    assert t_p(samples - 0.5, strata=list("aaaabbbb")) == 2.0**-8 < t_p(samples - 0.5)


def test_one_stratum_that_varies_brings_its_own_degrees_of_freedom_only():
    # Of two strata one varies: 3 degrees of freedom, not 6. Mean 0.5 · (1.5 + 0), variance 4 · (5 /
    # 3) / 64.
    samples = np.array([0.0, 1, 2, 3, 0, 0, 0, 0])
    wanted = stats.t.sf(0.75 / (4 * (5 / 3) / 64) ** 0.5, 3)
    assert t_p(samples, strata=list("aaaabbbb")) == pytest.approx(wanted)


def test_trials_alone_in_their_stratum_are_taken_together():
    samples = np.random.default_rng(1).normal(size=(6, 4))
    np.testing.assert_allclose(t_interval(samples, list("abcdef")), t_interval(samples))
    np.testing.assert_allclose(
        t_interval(samples, list("aabbcd")), t_interval(samples, list("aabbcc"))
    )
    np.testing.assert_allclose(
        t_interval(samples, list("aaabbc")), t_interval(samples, list("aaabbb"))
    )


@pytest.mark.parametrize("n", [16, 32])
@pytest.mark.parametrize("served", [8, 2])
def test_t_within_strata_covers_and_keeps_its_level(n, served):
    rng = np.random.default_rng([n, served])
    strata = np.arange(n) % 8
    size = np.where(strata < served, 8 / served, 0.0)[:, None]
    samples = size * rng.normal(1, 0.5, (n, 4000))
    low, high = t_interval(samples, strata)
    # As simulated in benchmarks/verdicts.py.
    assert ((low <= 1) & (1 <= high)).mean() > 0.925
    assert (t_p(samples - 1, strata=strata) <= 0.05).mean() < 0.075


# How many trials


def test_fewest_trials_is_where_the_smallest_p_reaches_the_level():
    assert [fewest_trials(level) for level in (0.5, 0.25, 0.05, 0.01)] == [1, 2, 5, 7]
    assert fewest_trials(0.05, tests=5120) == 17
    n = fewest_trials(0.05)
    assert sign_flip_p(np.ones(n)) <= 0.05 < sign_flip_p(np.ones(n - 1))


def test_with_the_trials_that_are_said_to_be_needed_four_samples_of_five_reject():
    needed = int(trials_needed(0.3, 1 / 40**0.5, 40, 0.01))
    samples = np.random.default_rng(0).normal(0.3, 1, (needed, 2000))
    assert (t_p(samples) <= 0.01).mean() == pytest.approx(0.8, abs=0.03)
    assert trials_needed(0.0, 1.0, 10, 0.05) == np.inf and trials_needed(1.0, 0.0, 10, 0.05) == 1


def test_the_smallest_mean_is_shown_four_times_of_five():
    least, strata = 0.05, np.arange(32) % 8
    mean = smallest_mean(32, 1.0, least, 0.01, strata=8)
    samples = np.random.default_rng(1).normal(mean, mean, (32, 2000))
    assert (t_p(samples - least, strata=strata) <= 0.01).mean() == pytest.approx(0.8, abs=0.03)
    assert smallest_mean(8, 1.0, least, 1e-4, strata=8) == np.inf


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: t_interval(np.ones((1, 3))), "there are 1 trials; at least 2 are needed"),
        (
            lambda: t_interval(np.ones((4, 3)), confidence=95),
            "confidence is 95; use a number between 0 and 1",
        ),
        (lambda: sign_flip_p(np.array([1.0, np.nan])), "1 of the 2 effects are not finite"),
        (
            lambda: sign_flip_p(np.ones(4), "up"),
            "alternative is 'up'; use 'greater', 'less', 'two-sided'",
        ),
        (
            lambda: equivalence_p(np.ones(4), -0.1),
            "margin is -0.1; use a number that is not negative",
        ),
        (lambda: t_p(np.ones(1)), "there are 1 trials; at least 2 are needed"),
        (lambda: t_p(np.ones(4), "two-sided"), "alternative is 'two-sided'; use 'greater', 'less'"),
        (
            lambda: t_interval(np.ones(4), list("abc")),
            "there are 3 strata for 4 trials; give one label for each trial",
        ),
        (
            lambda: t_interval(np.ones(4), confidence=95),
            "confidence is 95; use a number between 0 and 1",
        ),
        (lambda: fewest_trials(5), "the level is 5; use a number between 0 and 1"),
    ],
)
def test_bad_input_says_what_to_do(call, message):
    with pytest.raises(InputError, match=message):
        call()


# Is there a gap?


def test_a_fall_is_shown_where_the_sign_flip_test_shows_it():
    before = np.random.default_rng(0).normal(0.5, 1, (8, 300))
    shown = shown_to_fall(before, np.zeros_like(before))
    assert (shown == (sign_flip_p(before) <= 0.05)).all() and 0 < shown.sum() < 300


def test_where_there_is_no_fall_one_in_twenty_is_shown():
    noise = np.random.default_rng(1).normal(0, 1, (2, 10, 4000))
    assert 0.04 < shown_to_fall(*noise).mean() < 0.06


@pytest.mark.parametrize("n", [1, 2, 4])
def test_of_fewer_trials_than_a_test_needs_all_must_fall(n):
    before = np.linspace(1, 2, n)
    assert shown_to_fall(before, np.zeros(n)) and not shown_to_fall(
        np.append(before, -0.1), np.zeros(n + 1)
    )
    assert not shown_to_fall(np.zeros(n), before)


def test_what_rounding_leaves_is_no_fall_though_it_be_the_same_in_every_trial():
    before = np.full(16, 12.5)
    assert not shown_to_fall(before, before) and not shown_to_fall(before, before - 1e-6)
    assert shown_to_fall(before, before - 1e-3) and shown_to_fall(before * 1e-6, before * 0.9e-6)


def test_a_fall_of_no_trials_or_of_no_numbers_is_refused():
    with pytest.raises(InputError, match="there are 0 trials"):
        shown_to_fall(np.zeros(0), np.zeros(0))
    with pytest.raises(InputError, match="not finite"):
        shown_to_fall(np.array([1.0, np.nan]), np.zeros(2))


# Independence


def hsic_by_loops(one, other):
    """Gretton et al. (2007), equation 4: three sums over trials, with widths from a plain list of
    distances."""
    n = len(one)

    def kernel(values):
        distances = [abs(a - b) for a in values for b in values if a != b]
        width = np.median(distances) if distances else 1
        return lambda i, j: np.exp(-((values[i] - values[j]) ** 2) / (2 * width**2))

    of_one, of_other, every = kernel(one), kernel(other), range(n)
    both = sum(of_one(i, j) * of_other(i, j) for i in every for j in every) / n**2
    apart = sum(of_one(i, j) for i in every for j in every) / n**2
    apart *= sum(of_other(i, j) for i in every for j in every) / n**2
    shared = sum(of_one(i, j) * of_other(i, q) for i in every for j in every for q in every) / n**3
    return both + apart - 2 * shared


@pytest.mark.parametrize("n", [2, 3, 7])
def test_hsic_is_that_of_plain_loops(n):
    one, other = np.random.default_rng(n).normal(size=(2, n))
    other += one
    assert hsic(one, other) == pytest.approx(hsic_by_loops(one, other), abs=1e-12)
    assert hsic(one, other) > 1e-4 and hsic(one, np.ones(n)) == 0
    # Units do not matter.
    assert hsic(1000 * one + 5, -other) == pytest.approx(hsic(one, other))


def test_independence_p_is_the_share_of_all_orders_of_the_trials():
    one, other = np.random.default_rng(1).normal(size=(2, 6))
    other += one / 2
    all_orders = [hsic_by_loops(one[list(order)], other) for order in permutations(range(6))]
    wanted = np.mean(np.array(all_orders) >= all_orders[0] - 1e-12)
    assert independence_p(one, other) == pytest.approx(wanted) and 2 / 720 < wanted < 0.5


def test_independence_p_sees_what_a_correlation_does_not_and_is_calibrated():
    rng = np.random.default_rng(0)
    one = rng.normal(size=32)
    squares = one**2 + rng.normal(scale=0.2, size=32)
    assert independence_p(one, squares) < 0.002
    p = np.array([independence_p(*rng.normal(size=(2, 12)), seed) for seed in range(200)])
    # 200 draws: 0.05 ± three standard errors, and a mean of a half.
    assert 0.003 <= (p <= 0.05).mean() <= 0.097 and abs(p.mean() - 0.5) < 0.07
    # The seed decides which orders are drawn.
    pair = rng.normal(size=(2, 12))
    drawn = [independence_p(*pair, seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_what_is_the_same_in_all_trials_is_independent_of_everything():
    assert (
        independence_p(np.full(9, 0.3), np.arange(9.0))
        == 1
        == independence_p(np.arange(9.0), np.zeros(9))
    )


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (np.arange(3.0), np.arange(4.0), "one number of each kind"),
        (np.ones((3, 1)), np.ones((3, 1)), "one number of each kind"),
        (np.ones(1), np.ones(1), "at least 2"),
        (np.array([0, np.nan]), np.ones(2), "not finite"),
    ],
)
def test_independence_of_what_does_not_pair_is_refused(one, other, message):
    for test in (hsic, independence_p):
        with pytest.raises(InputError, match=message):
            test(one, other)
