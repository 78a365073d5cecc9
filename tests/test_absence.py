"""An absence is shown by a count of trials too, so that one stray trial takes no role away."""

from math import comb
from types import SimpleNamespace

import numpy as np
import pytest
from test_hypotheses import NONE_THERE, ROLES, RULES, UP_HERE, simulated

from analyses import roles
from analyses.evidence import heads
from analyses.evidence.verdict import _strays, judge
from rgb_circuit.hypothesis import Hypothesis
from rgb_circuit.statistics.absence import SHARE, chance_of_mostly, mostly_p, trials_for_mostly

COLORS = np.tile(list("abcdefgh"), 16)
ROLE = Hypothesis("one role", (UP_HERE, NONE_THERE))


def idle(n, every, seed=0):
    """Effects of heads that do nothing but noise, in logits, where the margin is 1."""
    return np.random.default_rng(seed).normal(0, 0.1, (n, every))


def test_the_p_of_a_count_is_a_binomial_tail():
    inside = np.arange(20)[:, None] >= np.array([0, 1, 3])
    wanted = [
        sum(comb(20, k) * SHARE**k * (1 - SHARE) ** (20 - k) for k in range(20 - out, 21))
        for out in (0, 1, 3)
    ]
    np.testing.assert_allclose(mostly_p(inside), wanted)


def test_a_label_may_have_one_trial_of_four_outside_and_no_more():
    colors = COLORS[:64]
    first = np.flatnonzero(colors == "c")
    inside = np.ones((64, 4), dtype=bool)
    for column, outside in enumerate((1, 2, 3, 8)):
        inside[first[:outside], column] = False
    assert (mostly_p(inside, [colors])[:2] < 1e-6).all() and (
        mostly_p(inside, [colors])[2:] == 1
    ).all()
    # Of two trials one may be.
    few = np.array([True, True, False, True, True, True])
    assert mostly_p(few, [list("aabbcc")]) == mostly_p(few)


def test_an_absence_holds_for_every_word_of_each_role_that_the_clean_picture_shows():
    # Two trials of one background stray, of different odd words, and too far for a mean to tell.
    there = idle(32, 2)
    there[[0, 8], 1] = 40
    measured = simulated(np.zeros((32, 2)), there, words=np.repeat(list("abcdefgh"), 4))
    for backgrounds, holds in ((COLORS[:32], False), (np.full(32, "a"), True)):
        measured.words[:, ROLES.index("background")] = backgrounds
        frame = judge(measured, [[NONE_THERE]], RULES)
        assert frame["holds"].tolist() == [True, holds]


def test_of_a_quarter_of_the_trials_the_furthest_strays_and_more_are_no_strays():
    over = np.full((8, 3), -1.0)
    over[:2, 0], over[:3, 1] = (1, 2), 1
    test = SimpleNamespace(over=over, n=8, first=np.arange(10, 18))
    found = _strays([test])
    assert found["outside"].tolist() == [2, 3, 0] and found["stray"].tolist() == [11, -1, -1]


@pytest.mark.parametrize("every", [24, 1024])
def test_a_lone_head_with_one_stray_trial_of_32_is_named_among_many(every):
    here, there = idle(32, every), idle(32, every, seed=1)
    here[:, 5] += 3
    there[7, 5] = 7.17
    found = judge(simulated(here, there, COLORS[:32]), [ROLE.predictions], RULES)
    assert heads(found, ROLE) == [(0, 5)]
    row = found[(found["prediction"] == "none") & (found["head"] == 5)].iloc[0]
    assert row["outside"] == 1 and row["stray"] == 7
    rest = found[(found["prediction"] == "none") & (found["head"] != 5)]
    assert (rest["outside"] == 0).all() and (rest["stray"] == -1).all()
    assert found[found["prediction"] == "up"]["outside"].isna().all()


@pytest.mark.parametrize("served, size", [("a", 10.0), ("ab", 5.0)])
def test_what_a_head_does_for_some_colours_is_no_stray_at_any_number_of_trials(served, size):
    there = idle(128, 24)
    there[:, 3] += size * np.isin(COLORS, list(served))
    found = judge(simulated(idle(128, 24, 1), there, COLORS), [[NONE_THERE]], RULES)
    assert found["state"].tolist() == ["holds"] * 3 + ["refuted"] + ["holds"] * 20


def test_a_mean_that_is_shown_beyond_the_margin_keeps_the_count_from_speaking():
    # A fifth of the trials, of every colour: few enough for the count, but no chance.
    there = idle(128, 24)
    there[::5, 3] = 10
    assert mostly_p(there[:, 3] < 1, [COLORS]) < 1e-3
    found = judge(simulated(idle(128, 24, 1), there, COLORS), [[NONE_THERE]], RULES)
    assert found["state"].iloc[3] == "undecided"


def test_an_absence_is_refuted_by_most_trials_where_one_hides_the_mean():
    there = idle(32, 24)
    there[:, 3] += 3
    # The mean is 1.4, with an error of 1.6.
    there[0, 3] = -48
    found = judge(simulated(idle(32, 24, 1), there, COLORS[:32]), [[NONE_THERE]], RULES)
    assert found["state"].tolist() == ["holds"] * 3 + ["refuted"] + ["holds"] * 20


def test_with_the_trials_that_it_asks_for_an_absence_with_strays_is_shown_four_times_of_five():
    def drawn(rng, n):
        there = rng.normal(0, 0.1, (n, 24))
        there[:, 3] += 6 * (rng.random(n) < 1 / 8)
        return there

    rng = np.random.default_rng(0)
    few = idle(16, 24)
    # Two of sixteen, of different colours.
    few[[3, 12], 3] = 6
    found = judge(simulated(idle(16, 24, 1), few, COLORS[:16]), [[NONE_THERE]], RULES)
    row = found.iloc[3]
    assert row["state"] == "undecided"
    needed = int(row["trials_to_decide"])
    assert 32 < needed < 512
    colors = np.resize(COLORS, needed)
    shown = [
        judge(simulated(idle(needed, 24, 1), drawn(rng, needed), colors), [[NONE_THERE]], RULES)[
            "state"
        ][3]
        for _ in range(100)
    ]
    # That a mean is shown beyond the margin by chance is not in the plan.
    assert 0.7 < np.mean(np.array(shown) == "holds") < 1


def test_trials_for_a_count_are_those_that_reach_its_level_four_times_of_five():
    rng = np.random.default_rng(0)
    for outside in (1, 3):
        inside = np.ones(16, dtype=bool)
        inside[:outside] = False
        needed = int(trials_for_mostly(inside, 1e-4, [COLORS[:16]]))
        again = rng.random((needed, 4000)) >= outside / 16
        reached = (mostly_p(again, [np.resize(COLORS, needed)]) <= 1e-4).mean()
        assert 0.75 < reached < 1
        assert 0.75 < chance_of_mostly(needed, outside / 16, 8, 1e-4) < reached + 0.03
    # One colour of eight stays what it is.
    served = COLORS[:64] != "a"
    assert trials_for_mostly(served, 1e-4, [COLORS[:64]]) == np.inf


def test_the_power_that_is_printed_counts_absences():
    found = judge(
        simulated(idle(32, 24), idle(32, 24, 1), COLORS[:32]), [ROLE.predictions], RULES
    ).assign(wrong=0)
    clean = roles.power(found)
    assert roles.power(found.assign(wrong=1)) > clean
    # Where a tenth of the trials stray, no head is named four times of five.
    assert roles.power(found.assign(wrong=4)) == np.inf
    assert roles.power(found.assign(wrong=4), stray=0) == clean
