"""Heads that only look as if they had a role are given none, and each is stopped by the prediction
that was made for it; heads that do two things are called by both."""

import numpy as np
import pytest

import rgb_circuit as rgb
from analyses import roles
from analyses.evidence import by_prediction
from analyses.evidence.effects import Measured
from analyses.evidence.rules import Rules
from analyses.evidence.verdict import judge
from rgb_circuit.hypothesis import Claim, Prediction, Sweep
from rgb_circuit.models.decoys import DECOYS, TWO_THINGS
from rgb_circuit.models.planted import MODERATE_NOISE

# Of which role each would be, were it not for which predictions.
STOPPED = {
    "reader of text summaries": ("color extractor", {"P2d"}),
    "relay that looks at text": ("POI localization", {"P7"}),
    "brightness writer": ("color extractor", {"P1c"}),
    "saturation writer": ("color extractor", {"P1c"}),
    "hue-family writer": ("color extractor", {"P1c"}),
    "existence gate": ("POI localization", {"P6", "P7"}),
}

# These take more trials to be shown to meet the other predictions.
TRIALS = {"brightness writer": 32, "hue-family writer": 32}


def judged(decoy, n, noise=MODERATE_NOISE):
    """Evidence, and head → role of all that have one."""
    model, processor = decoy.build(noise)
    wrapped = rgb.wrap(model, processor, name="decoy")
    evidence = roles.evidence(wrapped, rgb.rgb_trials(wrapped, n), progress=False)
    table = roles.table(evidence)
    return evidence, table[table["role"] != "none"].set_index(["layer", "head"])["role"].to_dict()


@pytest.mark.parametrize("name", DECOYS)
def test_a_decoy_has_no_role_for_want_of_one_prediction_and_the_true_heads_have_theirs(name):
    decoy = DECOYS[name]
    evidence, named = judged(decoy, TRIALS.get(name, 16))
    assert named == decoy.roles and decoy.head not in named
    role, wanted = STOPPED[name]
    holds = by_prediction(evidence, "holds").loc[decoy.head]
    slots = roles.GAME.hypothesis(role).slots
    assert {slot[0] for slot in slots if not holds[slot].any()} == wanted


@pytest.mark.parametrize("name", TWO_THINGS)
def test_a_head_that_does_two_things_or_half_of_one_is_called_what_it_does(name):
    decoy = TWO_THINGS[name]
    _, named = judged(decoy, 16, 0.0)
    assert named == decoy.roles


def test_roles_that_exclude_each_other_are_these():
    assert set(roles.exclusive()) == {
        ("color extractor", "row or column localization"),
        ("color extractor", "place relay"),
        ("color extractor", "canvas suppressor"),
        ("color extractor", "oddness"),
        ("POI localization", "row or column localization"),
        ("POI localization", "oddness"),
        ("row or column localization", "place relay"),
        ("row or column localization", "background writer"),
        ("row or column localization", "canvas suppressor"),
        ("place relay", "canvas suppressor"),
        ("place relay", "oddness"),
        ("background writer", "canvas suppressor"),
        ("background writer", "oddness"),
        ("canvas suppressor", "oddness"),
    }


# Simulated: 8 colours, each with six words that neither picture shows; the gap is 10 logits

WORDS = list("abcdefgh")
ABOVE = Prediction("above", (Claim("odd", "above others", Sweep("erased")),))


def state_of(matrix, n=32, noise=0.1):
    """The state of "odd above others" for a head that writes (word, colour), in logits."""
    rng = np.random.default_rng(0)
    order = np.array([np.roll(np.arange(8), -trial) for trial in range(n)])
    columns = len(roles.GAME.roles) + 4
    numbers = np.concatenate([order[:, :4], np.full((n, 1), -1), order[:, 4:]], axis=1)
    effects = np.zeros((n, 2, columns))
    for trial in range(n):
        effects[trial, 0] = np.where(
            numbers[trial] >= 0, matrix[numbers[trial], order[trial, 0]], 0
        )
    effects += rng.normal(0, noise, effects.shape)
    logits = {name: np.zeros((n, columns)) for name in ("clean", "erased")}
    logits["clean"][:, 0] = 10
    said = np.array([[WORDS[number] if number >= 0 else "" for number in row] for row in numbers])
    measured = Measured(roles.GAME, [(0, 0), (0, 1)], {Sweep("erased"): effects}, logits, said)
    frame = judge(measured, [[ABOVE]], Rules(0.1, 0.05, 0.05, split=False))
    # A head that does nothing raises nothing.
    assert frame["state"].iloc[1] != "holds"
    return frame["state"].iloc[0]


@pytest.mark.parametrize("noise", [0.1, 1.0])
def test_a_head_that_says_each_colour_or_some_rises_above_others(noise):
    assert state_of(5 * np.eye(8), noise=noise) == "holds"
    assert state_of(5 * np.diag([1, 0, 0, 1, 0, 0, 0, 0]), noise=noise) == "holds"
    # Words that are alike rise together, yet less.
    assert (
        state_of(5 * (0.6 * np.eye(8) + 0.4 * np.eye(8).repeat(2, 0)[:8]), noise=noise) == "holds"
    )


def test_a_head_that_raises_another_word_as_much_for_one_colour_it_serves_does_not():
    matrix = 5 * np.eye(8)
    matrix[3, 0] = 5
    assert state_of(matrix) != "holds"
    matrix[3, 0] = 3
    assert state_of(matrix) == "holds"


def test_a_head_that_raises_another_word_for_a_colour_it_does_not_serve_does_not():
    matrix = 5 * np.diag([1.0, 1, 1, 1, 0, 0, 0, 0])
    assert state_of(matrix) == "holds"
    matrix[2, 6] = 3
    assert state_of(matrix) == "refuted"
