"""Random LLaVAs are repeatable, and random."""

import torch

from rgb_circuit.models.random import random_llava


def test_the_same_seed_gives_the_same_weights_whatever_torchs_own_seed_is():
    torch.manual_seed(1)
    one = random_llava(3)[0].state_dict()
    torch.manual_seed(2)
    two = random_llava(3)[0].state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_another_seed_gives_other_weights():
    one, two = (random_llava(seed)[0].lm_head.weight for seed in (0, 1))
    assert not torch.equal(one, two)
