"""A planted circuit that counts is found by the task's hypotheses, and what only looks as if it counted is
not."""

import pytest

import rgb_circuit as rgb
from analyses import roles
from rgb_circuit.models.planted import MODERATE_NOISE
from rgb_circuit.models.planted_counting import PARTS, planted_counting
from rgb_circuit.tasks import find

COUNTING = find("counting")


@pytest.fixture(scope="module", params=[0.0, MODERATE_NOISE], ids=["no noise", "moderate noise"])
def known(request):
    """A model that counts, and head → the role that it was given."""
    model, processor, truth = planted_counting(noise=request.param)
    named = truth[truth["role"] != "none"].set_index(["layer", "head"])["role"].to_dict()
    return rgb.wrap(model, processor, name="planted counting"), named


def found(model, n, seed=0):
    table = roles.roles(model, rgb.trials(model, COUNTING, n, seed), task=COUNTING, progress=False)
    return table[table["role"] != "none"].set_index(["layer", "head"])["role"].to_dict()


@pytest.mark.parametrize("way", ["plain", "short"])
def test_it_counts_without_error_however_dots_are_coloured_and_placed(known, way):
    model, _ = known
    trials = rgb.trials(model, COUNTING, 40, template=way)
    assert rgb.play(model, trials, progress=False)["correct"].mean() == 1


@pytest.mark.parametrize("n", [32, 64])
def test_every_planted_head_has_its_role_and_no_other_has_one(known, n):
    model, named = known
    assert found(model, n) == named
    assert set(named.values()) == {hypothesis.name for hypothesis in COUNTING.hypotheses}


def test_without_the_totaller_only_the_dot_counter_counts():
    model, processor, _ = planted_counting(
        without=[part.name for part in PARTS.values() if part.name != "dot counter"]
    )
    counts = rgb.wrap(model, processor, name="dot counter alone")
    trials = rgb.trials(counts, COUNTING, 20)
    assert rgb.play(counts, trials, progress=False)["correct"].mean() == 1
    effects = rgb.patch_heads(counts, trials, target="one_more", progress=False)
    rows = effects[effects["role"] == "number"].groupby(["layer", "head"], observed=True)["effect"].mean()
    assert rows[(3, 1)] > 5 and rows.drop((3, 1)).abs().max() < 1e-3
