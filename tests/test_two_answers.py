"""Where pictures leave no control word, a word is read against the best of the others: of two
answers, the logit difference."""

from dataclasses import replace

import numpy as np
import pytest

import rgb_circuit as rgb
from analyses.evidence import examine
from analyses.evidence.effects import Measured
from rgb_circuit.heads import Head
from rgb_circuit.hypothesis import Claim, Hypothesis, Prediction, Sweep
from rgb_circuit.task import Condition, Role, Task

READER = Hypothesis(
    "reader",
    (
        Prediction.parse("B1", "right up: z clean -> changed"),
        Prediction.parse("B2", "other not up: z clean -> changed"),
        # Its picture keeps the answer, so that its gap is the task's.
        Prediction.parse("B3", "right none: z moved -> clean"),
    ),
)
TASK = Task(
    name="two answers",
    question="",
    roles={"right": Role(), "other": Role()},
    conditions={
        "clean": Condition(right="right", shows=("right", "other")),
        "changed": Condition(right="other", shows=("right", "other")),
        "moved": Condition(right="right", shows=("right", "other")),
    },
    corrupted="changed",
    hypotheses=(READER,),
)
SWEEP = Sweep("changed")


@pytest.fixture(scope="module")
def model():
    return rgb.load("toy")


@pytest.fixture(scope="module")
def trials(model):
    """The game's pictures, with two answers and other names."""
    drawn = rgb.rgb_trials(model, 12)
    return [
        rgb.Trial(
            name=trial.name,
            prompt=trial.prompt,
            images={
                "clean": trial.images["clean"],
                "changed": trial.images["recolored"],
                "moved": trial.images["moved"],
            },
            answers={"right": trial.answers["odd"], "other": trial.answers["other"]},
            expected={"clean": "right", "changed": "other", "moved": "right"},
            task=TASK,
        )
        for trial in drawn
    ]


def differences(frame, column):
    """(trials, heads): right − other."""
    logits = frame.pivot(index="trial", columns=["role", "layer", "head"], values=column)
    return logits["right"] - logits["other"]


def test_the_effect_is_that_on_the_logit_difference(model, trials):
    found = examine(model, trials, [READER], progress=False)
    swept = rgb.patch_heads(model, trials, target="changed", progress=False)
    expected = differences(swept, "effect").mean()
    rows = found[found["prediction"] == "B1"].set_index(["layer", "head"])
    np.testing.assert_allclose(rows["effect"], expected.loc[rows.index], rtol=1e-4, atol=1e-5)
    gap = (differences(swept, "source_logit") - differences(swept, "target_logit")).mean().iloc[0]
    np.testing.assert_allclose(rows["restored_fraction"], rows["effect"] / gap, rtol=1e-5)
    # The strongest of the toy's readers writes its colour.
    assert rows.loc[(3, 2), "holds"]


def test_a_claim_on_a_picture_that_keeps_the_answer_can_be_tested(model, trials):
    found = examine(model, trials, [READER], progress=False)
    rows = found[found["prediction"] == "B3"]
    assert (rows["void"] == "").all() and rows["holds"].any()
    swept = rgb.patch_heads(model, trials, target="changed", progress=False)
    gap = (differences(swept, "source_logit") - differences(swept, "target_logit")).mean().iloc[0]
    np.testing.assert_allclose(rows["restored_fraction"], rows["effect"] / gap, rtol=1e-4)


def test_a_gap_is_read_where_no_sweep_shows_its_picture(model, trials):
    alone = Hypothesis("alone", READER.predictions[2:])
    both = examine(model, trials, [READER], progress=False)
    found = examine(model, trials, [alone], progress=False)
    rows = both[both["prediction"] == "B3"].reset_index(drop=True)
    np.testing.assert_allclose(
        found["restored_fraction"], rows["restored_fraction"], rtol=1e-4, atol=1e-6
    )


def simulated(words, seed=0):
    rng = np.random.default_rng(seed)
    task = replace(TASK, roles={name: Role() for name in words}, hypotheses=())
    part = replace(SWEEP, part="past", of="readers")
    effects = {
        SWEEP: rng.normal(size=(6, 4, len(words))),
        part: rng.normal(size=(6, 4, len(words))),
    }
    effects[part.other_part] = effects[SWEEP] - effects[part]
    logits = {name: rng.normal(size=(6, len(words))) for name in TASK.conditions}
    return Measured(task, [Head(0, head) for head in range(4)], effects, logits), part


def test_of_more_answers_the_best_of_the_others_is_found_before_and_after():
    shows = {
        name: replace(about, shows=("right", "other", "third"))
        for name, about in TASK.conditions.items()
    }
    found, past = simulated(["right", "other", "third"])
    found = replace(found, task=replace(found.task, conditions=shows))
    for trial in range(6):
        for head in range(4):
            before = found.logits["changed"][trial]
            after = before + found.effects[SWEEP][trial, head]
            expected = (after[0] - max(after[1:])) - (before[0] - max(before[1:]))
            assert found.effect(Claim("right", "up", SWEEP))[trial, head] == pytest.approx(expected)
    through = found.effect(Claim("right", "up", past.other_part))
    whole, rest = (found.effect(Claim("right", "up", sweep)) for sweep in (SWEEP, past))
    np.testing.assert_allclose(through, whole - rest)


def test_a_third_answer_that_no_picture_shows_is_the_control():
    found, _ = simulated(["right", "other", "third"])
    effects = found.effects[SWEEP]
    np.testing.assert_allclose(
        found.effect(Claim("right", "up", SWEEP)), effects[..., 0] - effects[..., 2]
    )
