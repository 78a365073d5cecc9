"""Planted circuits that count, tell relations and bind colours are found by their tasks'
hypotheses, and what only looks as if it had a role is not."""

import pytest

import rgb_circuit as rgb
from analyses import roles
from rgb_circuit.models.planted import MODERATE_NOISE
from rgb_circuit.models.planted_binding import planted_binding
from rgb_circuit.models.planted_counting import PARTS, planted_counting
from rgb_circuit.models.planted_relation import planted_relation
from rgb_circuit.stimuli.tasks import find

PLANTED = {
    "binding": planted_binding,
    "counting": planted_counting,
    "relation": planted_relation,
}


@pytest.fixture(scope="module", params=PLANTED)
def known(request):
    """Of a task, a model that plays it under noise, and head → the role that it was given."""
    model, processor, truth = PLANTED[request.param](noise=MODERATE_NOISE)
    named = truth[truth["role"] != "none"].set_index(["layer", "head"])["role"].to_dict()
    return find(request.param), rgb.wrap(model, processor, name="planted"), named


@pytest.mark.parametrize("way", ["plain", "short"])
def test_it_answers_without_error_in_two_ways(known, way):
    task, model, _ = known
    trials = rgb.trials(model, task, 40, template=way)
    assert rgb.play(model, trials, progress=False)["correct"].mean() == 1


def test_every_planted_head_has_its_role_and_no_other_has_one(known):
    task, model, named = known
    table = roles.roles(model, rgb.trials(model, task, 32), task=task, progress=False)
    found = table[table["role"] != "none"].set_index(["layer", "head"])["role"].to_dict()
    assert found == named and set(named.values()) == {
        hypothesis.name for hypothesis in task.hypotheses
    }


def test_without_the_totaller_only_the_dot_counter_counts():
    others = [part.name for part in PARTS.values() if part.name != "dot counter"]
    model, processor, _ = planted_counting(without=others)
    counts = rgb.wrap(model, processor, name="dot counter alone")
    trials = rgb.trials(counts, "counting", 20)
    assert rgb.play(counts, trials, progress=False)["correct"].mean() == 1
    effects = rgb.patch_heads(counts, trials, target="one_more", progress=False)
    rows = (
        effects[effects["role"] == "number"]
        .groupby(["layer", "head"], observed=True)["effect"]
        .mean()
    )
    assert rows[(3, 1)] > 5 and rows.drop((3, 1)).abs().max() < 1e-3
