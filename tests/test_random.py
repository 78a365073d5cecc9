"""Random LLaVAs are repeatable, and random."""

import pytest
import torch

import rgb_circuit as rgb
from rgb_circuit.models.random import fitted_llava, random_llava


def test_the_same_seed_gives_the_same_weights_whatever_torchs_own_seed_is():
    torch.manual_seed(1)
    one = random_llava(3)[0].state_dict()
    torch.manual_seed(2)
    two = random_llava(3)[0].state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_another_seed_gives_other_weights():
    one, two = (random_llava(seed)[0].lm_head.weight for seed in (0, 1))
    assert not torch.equal(one, two)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_fitted_readout_leaves_the_heads_random_and_makes_a_gap(seed):
    shape = dict(width=64, d_head=16, layers=2)
    model, processor = fitted_llava(seed, **shape)
    weights, bare = (one.state_dict() for one in (model, random_llava(seed, **shape)[0]))
    differing = [name for name in weights if not torch.equal(weights[name], bare[name])]
    assert differing == ["lm_head.weight"]
    fitted = rgb.wrap(model, processor, name="fitted")
    # Other trials than the readout was fitted on.
    trials = rgb.rgb_trials(fitted, 24, seed=seed)
    played = rgb.play(fitted, trials, progress=False)
    assert played["correct"].mean() > 0.6
    odd = played.pivot(index="trial", columns="condition", values="logit_odd")
    for target in ("recolored", "erased", "swapped"):
        assert rgb.statistics.shown_to_fall(odd["clean"].to_numpy(), odd[target].to_numpy())
        assert (odd["clean"] - odd[target]).mean() > 0.5
