"""Samples that share pictures: nothing is found on a picture and tested on the same one, and noise
that two effects share is not taken for agreement."""

from dataclasses import replace

import numpy as np
import pytest

import rgb_circuit as rgb
from analyses.transfer import _pair, _Sample
from rgb_circuit.stimuli.replicates import Replicates
from rgb_circuit.stimuli.shared_sources import halves_of, lined_up, sources_of


@pytest.fixture(scope="module")
def ways():
    """Counting in its three ways; yes or no draws some of the others' pictures."""
    model = rgb.load("talker")
    return {
        way: rgb.trials(model, "counting", 24, template=way)
        for way in ("plain", "short", "yes or no")
    }


def test_two_ways_of_asking_have_the_same_sources_and_a_third_some_of_them(ways):
    plain, short, third = map(set, sources_of([*ways.values()]))
    assert plain == short and len(plain) == 24
    there = [{trial.images["clean"].tobytes() for trial in ways[way]} for way in ways]
    assert len(plain & third) == len(there[0] & there[2]) > 0


def test_names_of_drawn_trials_link_nothing_and_clusters_of_given_ones_do(ways):
    model = rgb.load("talker")
    other = rgb.trials(model, "counting", 24, seed=1)
    assert {trial.name for trial in other} & {trial.name for trial in ways["plain"]}
    one, two = sources_of([ways["plain"], other])
    assert not set(one) & set(two)
    task = rgb.Task.of_trials(other)
    given = [
        [replace(trial, task=task, cluster="hall") for trial in trials[:2]]
        for trials in (ways["plain"], other)
    ]
    assert len({*np.concatenate(sources_of(given))}) == 1


def test_a_source_is_in_one_half_of_all_samples(ways):
    few = ways["plain"][5:20]
    samples = [*ways.values(), few]
    halves = halves_of(samples)
    labels = sources_of(samples)
    first, second = (
        {label for own, half in zip(labels, halves) for label in own[half[side]]} for side in (0, 1)
    )
    assert not first & second
    assert [sorted(np.concatenate(half)) for half in halves] == [
        [*range(len(some))] for some in samples
    ]
    for half, alone in zip(halves[0], Replicates.of(ways["plain"]).halves()):
        assert half.tolist() == alone.tolist()


def test_observations_are_all_the_same_or_none_of_them():
    for one, other, expected in [
        ("abcd", "abcd", ([0, 1, 2, 3], [0, 1, 2, 3], True)),
        ("abcd", "dcba", ([0, 1, 2, 3], [3, 2, 1, 0], True)),
        ("abcd", "bdef", ([1, 3], [0, 1], True)),
        ("abcd", "aefg", ([0, 1, 2, 3], [1, 2, 3], False)),
        ("abcd", "efgh", ([0, 1, 2, 3], [0, 1, 2, 3], False)),
        ("aab", "aaa", ([0, 1], [0, 1], True)),
    ]:
        *numbers, same = lined_up(one, other)
        assert ([own.tolist() for own in numbers], same) == (
            list(map(list, expected[:2])),
            expected[2],
        )


@pytest.mark.parametrize("kept", [range(24), range(4, 24), range(23, -1, -1)])
def test_noise_of_pictures_that_two_samples_share_is_no_agreement(ways, kept):
    """Effects of two kinds of heads that have nothing in common but the noise of the pictures."""
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        noise = rng.normal(scale=3, size=(24, 64))
        values = [rng.normal(size=64) + noise for _ in range(2)]
        numbers = [range(24), kept]
        sides = [
            _Sample(
                way, [ways[way][at] for at in own], "one_more", effect[own], np.ones(len(own)), ""
            )
            for way, own, effect in zip(("plain", "short"), map(list, numbers), values)
        ]
        found.append(_pair(*sides)["corrected"])
    assert abs(np.nanmean(found)) < 3 * np.nanstd(found) / np.sqrt(np.isfinite(found).sum())
