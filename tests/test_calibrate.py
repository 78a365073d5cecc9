"""The models that verdicts are calibrated on are what they are called, and counts are counts."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import rgb_circuit as rgb
from analyses import calibrate, roles
from analyses.calibrate import judge
from rgb_circuit import InputError
from rgb_circuit.models.planted import MODERATE_NOISE
from rgb_circuit.models.random import random_llava

WANTED = {
    "alike": {"color extractor", "POI localization"},
    "2 × 4": {"color extractor", "POI localization"},
    "4 × 2": {"color extractor", "POI localization"},
    "uneven": {"color extractor", "POI localization"},
    "backup": {"color extractor", "POI localization"},
    "relay": {"color extractor", "place relay"},
    "resting": {"color extractor", "POI localization"},
    "odds": {
        "color extractor",
        "POI localization",
        "canvas suppressor",
        "oddness",
        "background writer",
    },
}


@pytest.mark.parametrize("like", WANTED)
def test_every_kind_can_be_made_from_many_seeds_and_has_its_roles(like):
    for seed in range(8):
        _, _, truth = calibrate.Subject("planted", 0.02, seed, (16,), like).build()
        assert WANTED[like] <= set(truth["role"])


def test_a_family_has_every_kind_by_every_number_of_trials():
    subjects = calibrate.family()
    known = [subject for subject in subjects if subject.kind == "planted"]
    assert len(known) == len(set(known)) == 3 + 9
    assert {subject.noise for subject in known if subject.like == "even"} == set(calibrate.NOISE)
    for subject in known:
        assert subject.sizes == ((16, 32, 64) if subject.noise == MODERATE_NOISE else (32,))
    assert {subject.sizes for subject in calibrate.family(trials=16)} == {(16,)}
    with pytest.raises(InputError, match="0 planted and 5 random models were asked for"):
        calibrate.family(planted_each=0)


def test_fewer_of_the_same_trials_are_judged_without_a_forward_and_as_by_themselves(monkeypatch):
    subject = calibrate.Subject("planted", MODERATE_NOISE, 1, (8, 10), "relay")
    both = judge.judged(subject)
    alone = judge.judged(replace(subject, sizes=(8,)))
    fewer = both[both["trials"] == 8].drop(columns="solved").reset_index(drop=True)
    pd.testing.assert_frame_equal(fewer, alone.drop(columns="solved"))
    # The extractor is frozen with both, so that nothing is left to measure with fewer.
    model, processor, _ = subject.build()
    model = rgb.wrap(model, processor, name="relay")
    trials, known = rgb.rgb_trials(model, 10, seed=1), calibrate.Known()
    calibrate.by_roles(model, trials, known)
    monkeypatch.setattr("analyses.calibrate.known.measure", None)
    calibrate.by_roles(model, trials[:8], known)


def test_exchanged_pictures_stand_under_another_changed_ones_name_and_the_clean_one_stays(planted):
    model = planted
    trials = rgb.rgb_trials(model, 24)
    found = set()
    for before, after in zip(trials, calibrate.exchanged(trials, seed=0)):
        which = {
            name: next(other for other in before.images if before.images[other] is image)
            for name, image in after.images.items()
        }
        assert which["clean"] == "clean" and which["moved"] == "moved"
        assert all(which[name] != name for name in calibrate.CHANGED)
        assert {which[name] for name in calibrate.CHANGED} == set(calibrate.CHANGED)
        assert after.answers == before.answers and after.tile == before.tile
        found.add(which["erased"])
    assert found == {"recolored", "swapped"}


@pytest.mark.parametrize("kind", calibrate.NULLS)
def test_where_every_role_is_false_every_role_could_have_been_given(kind):
    noise = np.nan if kind == "random" else MODERATE_NOISE
    frame = judge.judged(calibrate.Subject(kind, noise, 1, (8,)))
    roles_alone = frame[frame["reading"] == "roles"]
    assert roles_alone["testable"].all() and (roles_alone["truth"] == "none").all()
    row = calibrate.false_discoveries(frame).set_index("reading").loc["roles"]
    assert row["testable"] == row["heads"] == len(roles_alone) and row["informative"]


def test_without_a_gap_nothing_is_testable_and_no_rate_is_told():
    model, processor = random_llava(0, layers=2)
    model = rgb.wrap(model, processor, name="no gap")
    judged = calibrate.by_roles(model, rgb.rgb_trials(model, 8), calibrate.Known(), null="random")
    assert not judged["testable"].any()
    rows = [verdict(kind="random", testable=testable) for testable in [True] * 3 + [False]]
    row = calibrate.false_discoveries(pd.DataFrame(rows)).iloc[0]
    assert row["heads"] == 4 and row["testable"] == 3 and not row["informative"]


def test_permuted_heads_keep_no_set_of_verdicts_that_makes_a_role():
    asked = ["P1a", "P1b", "P1c", "P2a", "P2b", "P2d"]
    names = (*asked, "P2c", "P10")
    rows = [
        dict(layer=layer, head=head, prediction=name, own=10 * layer + head)
        for name in names
        for layer in range(2)
        for head in range(4)
    ]
    evidence, places = pd.DataFrame(rows), set()
    for seed in range(20):
        made = calibrate.permuted(evidence, np.random.default_rng(seed))
        kept = ["layer", "head", "prediction"]
        assert made[kept].equals(evidence[kept])
        # Within each layer, every head's verdict goes to one head.
        assert (made["own"] // 10 == made["layer"]).all()
        assert not made.duplicated(["prediction", "own"]).any()
        by_head = made.pivot(index=["layer", "head"], columns="prediction", values="own")
        # A layer of four heads has no more than four to take them from.
        assert (by_head[asked].nunique(axis=1) == 4).all()
        assert (by_head["P2b"] == by_head["P2c"]).all()
        places.add(tuple(by_head["P1a"]))
    assert len(places) > 4


def verdict(**of):
    row = dict(
        kind="planted",
        like="even",
        noise=0.02,
        trials=32,
        seed=0,
        reading="roles",
        truth="none",
        role="none",
    )
    return row | dict(name="none", testable=True) | of


def test_counts_over_trials_are_heads_of_each_kind_and_of_all():
    rows = [
        verdict(truth="color extractor", role="color extractor"),
        verdict(truth="color extractor"),
        verdict(like="relay", truth="none", role="color extractor + oddness"),
        verdict(like="relay", trials=64, truth="color extractor", role="color extractor"),
        verdict(noise=0.04, truth="color extractor"),
        verdict(like="uneven", truth="color extractor", role="color extractor"),
        verdict(like="uneven", truth="color extractor", name="uneven extractor"),
    ]
    table = calibrate.by_trials(pd.DataFrame(rows)).set_index(["like", "trials", "role"])
    counts = table[["true", "given", "right"]]
    assert counts.loc[("even", 32, "color extractor")].tolist() == [2, 1, 1]
    assert counts.loc[("relay", 32, "color extractor")].tolist() == [0, 1, 0]
    assert counts.loc[("relay", 32, "oddness")].tolist() == [0, 1, 0]
    assert counts.loc[("uneven", 32, "color extractor")].tolist() == [2, 1, 1]
    assert counts.loc[("uneven extractor", 32, "color extractor")].tolist() == [1, 0, 0]
    assert counts.loc[("all", 32, "color extractor")].tolist() == [4, 3, 2]
    assert counts.loc[("all", 64, "color extractor")].tolist() == [1, 1, 1]
    rates = table.loc[("all", 32, "color extractor"), ["precision", "recall"]]
    assert rates.tolist() == pytest.approx([2 / 3, 2 / 4])
    assert (
        np.isnan(table.loc[("relay", 32, "oddness"), "recall"])
        and ("even", 32, "oddness") not in table.index
    )


def test_recall_of_even_heads_stands_beside_that_of_uneven_ones():
    rows = [
        verdict(truth="color extractor", role="color extractor + oddness"),
        verdict(truth="POI localization"),
        verdict(like="4 × 2", truth="color extractor", role="color extractor"),
        verdict(like="4 × 2", truth="POI localization", role="POI localization"),
        verdict(like="uneven", truth="color extractor", name="uneven extractor", trials=64),
        verdict(like="relay", role="oddness"),
    ]
    table = calibrate.by_evenness(pd.DataFrame(rows)).set_index(["like", "trials"])
    assert table[["true", "right"]].to_dict("index") == {
        ("even", 32): dict(true=2, right=1),
        ("some colours", 32): dict(true=1, right=1),
        ("uneven", 64): dict(true=1, right=0),
        ("other kinds", 32): dict(true=1, right=1),
    }


def test_the_summary_over_noise_leaves_other_kinds_out():
    rows = [
        verdict(noise=noise, truth="color extractor", role="color extractor")
        for noise in (0.0, 0.02)
    ]
    rows += [
        verdict(like="relay", truth="color extractor"),
        verdict(trials=64, truth="color extractor"),
    ]
    table = calibrate.summary(pd.DataFrame(rows))
    assert len(table) == 2 * len(roles.GAME.hypotheses)
    assert (table.loc[table["role"] == "color extractor", "recall"] == 1).all()
