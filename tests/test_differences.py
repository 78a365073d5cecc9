"""By how much two runs differ: the oracles are scipy's tests, and samples whose truth is known."""

import numpy as np
import pytest
from scipy import stats

import rgb_circuit as rgb
from rgb_circuit.statistics import t_interval
from rgb_circuit.statistics.differences import difference


def symmetric(rng, n):
    """A sample without skewness, so that Student's t needs no correction."""
    half = rng.normal(size=n // 2)
    return np.concatenate([half, -half])


def test_of_the_same_trials_it_is_the_t_of_their_differences():
    rng = np.random.default_rng(0)
    shared, moved = rng.normal(size=30), symmetric(rng, 30) + 0.4
    found = difference(shared, shared + moved, same_trials=True)
    paired = stats.ttest_rel(shared + moved, shared)
    interval = paired.confidence_interval()
    assert found.mean == pytest.approx(moved.mean())
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p == pytest.approx(paired.pvalue, rel=1e-6)


def test_the_same_trials_are_compared_within_their_strata():
    rng, strata = np.random.default_rng(2), np.repeat(["red", "green"], 12)
    moved = np.concatenate([symmetric(rng, 12) + 5, symmetric(rng, 12)])
    found = difference(0 * moved, moved, same_trials=True, strata=(strata, None))
    assert (found.low, found.high) == pytest.approx(t_interval(moved, strata))


def test_of_other_trials_it_is_welchs_t():
    rng = np.random.default_rng(1)
    one, other = symmetric(rng, 24), 3 * symmetric(rng, 40) + 1.2
    found = difference(one, other, same_trials=False)
    welch = stats.ttest_ind(other, one, equal_var=False)
    interval = welch.confidence_interval()
    assert found.mean == pytest.approx(other.mean() - one.mean())
    # Its degrees of freedom are Satterthwaite's without their bias.
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=0.01)
    assert found.p == pytest.approx(welch.pvalue, rel=0.01)


def test_strata_of_other_trials_are_compared_within_each_run():
    """However far strata and runs are apart, their spread within says how sure the means are."""
    rng = np.random.default_rng(2)
    strata = np.repeat(["red", "green"], 12)
    one, other = (
        np.concatenate([symmetric(rng, 12) + 10, symmetric(rng, 12) - 10]) + 100 * run
        for run in range(2)
    )
    found = difference(one, other, same_trials=False, strata=(strata, strata))
    # The oracle: each mean's error from the spread within its strata.
    error = np.sqrt(
        sum(
            (12 / 24) ** 2 * side[strata == name].var(ddof=1) / 12
            for side in (one, other)
            for name in ("red", "green")
        )
    )
    width = stats.t.isf(0.025, 44) * error
    assert found.high - found.low == pytest.approx(2 * width, rel=0.03)
    assert found.mean == pytest.approx(other.mean() - one.mean())


def test_a_stratum_of_one_trial_is_not_compared_with_the_other_run():
    strata = np.array(["a", "a", "a", "a", "b"])
    one = np.array([1.0, 2, 1, 2, 1.5])
    found = difference(one, one + 1000, same_trials=False, strata=(strata, strata))
    assert found.mean == 1000 and found.high - found.low < 4


@pytest.mark.parametrize("same", [True, False])
def test_runs_that_are_the_same_do_not_differ(same):
    one = np.random.default_rng(3).normal(size=(16, 5))
    found = difference(one, one, same_trials=same)
    assert (found.mean == 0).all() and found.p == pytest.approx(np.ones(5))
    assert (found.low <= 0).all() and (found.high >= 0).all()
    if same:
        assert (found.high == found.low).all()


@pytest.mark.parametrize("same", [True, False])
def test_a_true_null_is_rejected_as_often_as_it_may_and_the_interval_covers(same):
    rng = np.random.default_rng(4)
    shared = rng.exponential(size=(16, 4000))
    one = shared + 0.5 * rng.normal(size=shared.shape)
    other = shared if same else rng.exponential(size=(16, 4000))
    other = other + 0.5 * rng.normal(size=shared.shape)
    found = difference(one, other, same_trials=same)
    assert (found.p <= 0.05).mean() < 0.06
    covered = ((found.low <= 0) & (found.high >= 0)).mean()
    assert 0.935 < covered < 0.985
    # An interval and its test never disagree.
    assert ((found.p <= 0.05) == ((found.low > 0) | (found.high < 0))).mean() > 0.999


def test_pairs_tell_what_trials_apart_do_not():
    rng = np.random.default_rng(5)
    one = 5 * rng.normal(size=16)
    other = one + 0.5 + 0.1 * rng.normal(size=16)
    paired, apart = (difference(one, other, same_trials=same) for same in (True, False))
    assert paired.p < 0.001 and apart.p > 0.3 and paired.mean == pytest.approx(apart.mean)


def test_p_is_no_smaller_than_exchanging_sides_could_make_it():
    one, other = np.zeros(4), np.ones(4)
    assert difference(one, other, same_trials=True).p == 2 / 2**4
    assert difference(one, other, same_trials=False).p == 2 / 70


def test_one_trial_tells_nothing_and_unequal_numbers_are_no_pairs():
    found = difference(np.ones((1, 3)), np.zeros((8, 3)), same_trials=False)
    assert (found.mean == -1).all() and np.isnan([found.low, found.high, found.p]).all()
    with pytest.raises(rgb.InputError, match="3 and 4 trials were said to be the same"):
        difference(np.zeros(3), np.zeros(4), same_trials=True)


@pytest.mark.parametrize("same", [True, False])
def test_what_one_run_alone_does_is_covered_however_skewed_it_is(same):
    rng = np.random.default_rng(6)
    nothing = np.zeros((16, 4000))
    found = difference(nothing, rng.exponential(size=nothing.shape), same_trials=same)
    assert 0.935 < ((found.low <= 1) & (found.high >= 1)).mean() < 0.98


def test_an_end_is_no_nearer_than_that_of_t_interval():
    rng = np.random.default_rng(7)
    one, other = rng.exponential(size=(2, 12, 50))
    found, (low, high) = difference(one, other, same_trials=True), t_interval(other - one)
    assert (found.low <= low + 1e-12).all() and (found.high >= high - 1e-12).all()
