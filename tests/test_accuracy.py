"""Accuracy comes first: against chance, by answer and stratum; a constant answer is no playing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import binomtest

import rgb_circuit as rgb
from analyses.report import accuracy
from analyses.report.playing import cannot_play, shown_not_to_play
from rgb_circuit.task import Task

COLORS = ("red", "green", "blue", "yellow")


def trial(number, right="yes", other="no", **more):
    images = {
        "clean": Image.new("RGB", (2, 2), (number, 0, 0)),
        "changed": Image.new("RGB", (2, 2), (0, 9, 0)),
    }
    expected = {"clean": "right", "changed": "other"}
    return rgb.Trial(
        f"t{number}",
        "<image>?",
        images,
        {"right": right, "other": other},
        expected=expected,
        **more,
    )


def played(trials, says):
    """What `rgb.play` would give of a model that answers ``says(trial, condition)``, ahead by a
    logit."""
    rows = []
    for one in trials:
        for condition, role in one.expected.items():
            answer, right = says(one, condition), one.answers[role]
            logits = {f"logit_{name}": float(word == answer) for name, word in one.answers.items()}
            rows.append(
                dict(
                    trial=one.name,
                    condition=condition,
                    expected=right,
                    answer=answer,
                    correct=answer == right,
                )
                | logits
            )
    return pd.DataFrame(rows).astype(
        {"correct": "boolean", "trial": "category", "condition": "category"}
    )


TWO = [trial(n, *(("yes", "no") if n % 2 else ("no", "yes"))) for n in range(8)]
UNEVEN = [trial(n) for n in range(9)]


def right(one, condition):
    return one.answers[one.expected[condition]]


def of(table, by):
    return table.loc[table["by"] == by, ["level", "right", "n"]].values.tolist()


def test_who_always_says_yes_is_right_by_chance_flips_nothing_and_does_not_play():
    table = accuracy.accuracy(frame := played(TWO, lambda *_: "yes"), TWO)
    assert of(table, "all") == [["", 8, 16]] and set(table.loc[table["by"] == "all", "chance"]) == {
        0.5
    }
    assert of(table, "answer") == [["no", 0, 8], ["yes", 8, 8]]
    assert of(table, "flips") == [["", 0, 8]]
    assert [row["constant"] for row in accuracy.constants(table)] == ["yes"]
    task = Task.of_trials(TWO)
    assert cannot_play("m", frame, task).endswith(
        "answers 8 of 16 pictures right, and 'yes' to all of them"
    )
    assert shown_not_to_play(frame, task)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_the_commonest_answer_is_no_playing_however_common_it_is(share):
    trials = [
        rgb.Trial(
            f"t{n}",
            "<image>?",
            {"clean": Image.new("RGB", (2, 2))},
            {"right": word},
            expected={"clean": "right"},
        )
        for n, word in enumerate(["yes"] * round(20 * share) + ["no"] * round(20 * (1 - share)))
    ]
    task = Task.of_trials(trials)
    constant = played(trials, lambda *_: "yes")
    assert cannot_play("m", constant, task) and shown_not_to_play(constant, task)
    # With one "no" among them it is no constant answer, and still no playing.
    nearly = played(trials, lambda one, _: "no" if one.name == "t0" else "yes")
    assert cannot_play("m", nearly, task)
    assert not cannot_play("m", played(trials, right), task)


def test_who_looks_plays_and_flips_all():
    table = accuracy.accuracy(frame := played(TWO, right), TWO)
    assert of(table, "flips") == [["", 8, 8]] and not accuracy.constants(table)
    assert not cannot_play("m", frame, Task.of_trials(TWO))
    each = accuracy.by_trial(frame, TWO)
    # From ahead by one to behind by one.
    assert set(each["gap"]) == {2.0} and each["has_gap"].all()
    assert accuracy.flipped(TWO, frame) == TWO


def test_who_answers_rightly_on_the_clean_pictures_alone_flips_nothing():
    frame = played(TWO, lambda one, _: one.answers["right"])
    assert of(accuracy.accuracy(frame, TWO), "picture") == [["clean", 8, 8], ["changed", 0, 8]]
    assert accuracy.flipped(TWO, frame) == [] and not accuracy.by_trial(frame, TWO)["has_gap"].any()


@pytest.mark.parametrize(
    "words, said, guessed",
    [
        (("yes", "no"), None, 1 / 2),
        (COLORS, None, 1 / 4),
        (("yes", "yes"), None, 1 / 2),
        (COLORS, 0.1, 0.1),
    ],
    ids=str,
)
def test_chance_is_the_tasks_or_one_over_the_answers(words, said, guessed):
    trials = [trial(n, word, "white") for n, word in enumerate(words)]
    frame = played(trials, right).query("condition == 'clean'")
    task = Task.of_trials(trials)
    assert accuracy.chance(frame, Task(**{**vars(task), "chance": said})) == guessed


def test_strata_and_groups_are_counted_and_intervals_are_wilsons():
    trials = [
        trial(n, strata={"kind": "near" if n < 4 else "far"}, cluster=f"scene {n // 2}")
        for n in range(8)
    ]
    frame = played(trials, lambda one, c: right(one, c) if one.name < "t3" else "yes")
    table = accuracy.accuracy(frame, trials)
    assert of(table, "stratum kind") == [["far", 4, 8], ["near", 7, 8]]
    assert of(table, "group") == [["", 1, 4]]
    assert table.loc[table["by"] == "group", "chance"].tolist() == [0.5**4]
    alone = [replace(one, cluster=one.name) for one in trials]
    near, whole = accuracy.accuracy(frame, alone).set_index("level").loc["near"], binomtest(7, 8)
    interval = whole.proportion_ci(method="wilson")
    assert (near["ci_low"], near["ci_high"]) == pytest.approx((interval.low, interval.high))


def test_more_names_for_the_same_pictures_make_no_interval_narrower():
    once = [trial(n, cluster=str(n)) for n in range(8)]
    often = [replace(one, name=f"{one.name} {k}") for k in range(6) for one in once]
    tables = [
        accuracy.accuracy(
            played(some, lambda one, c: "yes" if one.name.startswith("t1") else right(one, c)), some
        )
        for some in (once, often)
    ]
    one, many = (table[table["by"] != "group"] for table in tables)
    assert (many["n"] == 6 * one["n"]).all() and "flips" in set(one["by"])
    columns = ["share", "ci_low", "ci_high"]
    np.testing.assert_allclose(many[columns], one[columns])


def test_what_expects_nothing_is_not_scored():
    trials = [
        rgb.Trial(
            "t", "<image>?", {"clean": Image.new("RGB", (2, 2))}, {"one": "red", "two": "blue"}
        )
    ]
    frame = pd.DataFrame(
        dict(
            trial=["t"],
            condition=["clean"],
            expected=[None],
            answer=["red"],
            correct=[pd.NA],
            logit_one=[1.0],
            logit_two=[0.0],
        )
    ).astype({"expected": "str", "correct": "boolean"})
    assert accuracy.accuracy(frame, trials).empty and not cannot_play(
        "m", frame, Task.of_trials(trials)
    )
    assert accuracy.by_trial(frame, trials)["flips"].isna().all()
    assert (
        list(accuracy.lines(accuracy.accuracy(frame, trials), accuracy.by_trial(frame, trials)))
        == []
    )


def test_chance_of_a_task_is_read_and_written_and_is_a_share():
    plain = Task.of_trials(TWO).plain() | {"chance": 0.25}
    assert Task.of_plain(plain).chance == 0.25 and Task.of_plain(plain).plain()["chance"] == 0.25
    with pytest.raises(rgb.InputError, match="chance is 1.0; give the share"):
        Task.of_plain(plain | {"chance": 1.0})
    with pytest.raises(rgb.InputError, match="chance is 'half'; give a number"):
        Task.of_plain(plain | {"chance": "half"})
