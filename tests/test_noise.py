"""What of an effect is rounding, and what is left of it: effects in half precision against the same weights
in float32."""

import copy
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pytest
import torch

import rgb_circuit as rgb
from rgb_circuit.models.random import random_llava
from rgb_circuit.programs import sweep
from rgb_circuit.programs.capture import nudged

TARGETS = ("recolored", "erased")


@pytest.fixture(scope="module")
def precise():
    """A random LLaVA in float32 whose weights bfloat16 holds exactly, and whose logits reach ±9."""
    module, processor = random_llava(0, layers=8, heads=8, kv_heads=8, width=128, d_head=16)
    module.lm_head.weight.data.mul_(4)
    return rgb.wrap(module.bfloat16().float(), processor, name="float32")


def rounded(precise, dtype):
    return rgb.wrap(copy.deepcopy(precise.nnsight._module).to(dtype), precise.processor, name=str(dtype))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_noise_floor_is_where_the_errors_are(precise, dtype):
    model, trials = rounded(precise, dtype), rgb.rgb_trials(precise, 4)
    exact, found = (rgb.patch_heads(one, trials, target=TARGETS, progress=False) for one in (precise, model))
    errors = (exact["effect"] - found["effect"]).abs()
    floor = rgb.noise_floor(model, trials, target=TARGETS, progress=False)
    # Both are 95 % quantiles, of some hundreds of effects.
    assert 0.5 * errors.quantile(0.95) < floor < 2 * errors.quantile(0.95)
    # A real effect is one that float32 has, too.
    above = found["effect"].abs() > 3 * floor
    assert (np.sign(found["effect"][above]) == np.sign(exact["effect"][above])).all()


def test_a_finer_number_format_has_a_lower_floor(precise):
    trials = rgb.rgb_trials(precise, 2)
    models = rounded(precise, torch.bfloat16), rounded(precise, torch.float16), precise
    floors = [rgb.noise_floor(model, trials, target="erased", progress=False) for model in models]
    assert floors[0] > 3 * floors[1] > 0 and floors[1] > 100 * floors[2] > 0


def test_effects_in_bfloat16_are_no_multiples_of_a_logits_rounding_step(precise):
    model, trials = rounded(precise, torch.bfloat16), rgb.rgb_trials(precise, 2)
    frame = rgb.patch_heads(model, trials, target=TARGETS, progress=False)
    step = 2.0 ** (np.floor(np.log2(frame["target_logit"].abs())) - 7)
    # Differences of logits would be zero, or a step at least.
    assert ((frame["effect"] != 0) & (frame["effect"].abs() < step / 2)).any()
    assert frame["effect"].nunique() > 0.5 * len(frame)


def test_rounding_is_no_edit_in_float32_and_changes_something(precise):
    frame = rgb.patch_heads(
        precise, rgb.rgb_trials(precise, 1), source="rounding", target="erased", progress=False
    )
    assert 0 < frame["effect"].abs().max() < 1e-5
    assert frame["source_logit"].isna().all()


def test_threads_wait_for_one_another(precise):
    trials = rgb.rgb_trials(precise, 4)

    def effects(trial):
        return rgb.patch_heads(precise, [trial], target="erased", heads=[(1, 2), (7, 0)], progress=False)[
            "effect"
        ].to_numpy()

    wanted = [effects(trial) for trial in trials]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(wanted, pool.map(effects, trials)):
            np.testing.assert_array_equal(one, other)


def test_effects_of_a_trial_are_not_all_off_together(precise, monkeypatch):
    """What they are taken from rounds too, in every effect alike, so it is a mean over several copies."""
    model, trials = rounded(precise, torch.bfloat16), rgb.rgb_trials(precise, 16)

    def off_together():
        exact, found = (
            rgb.patch_heads(one, trials, target=TARGETS, progress=False) for one in (precise, model)
        )
        errors = found.assign(error=found["effect"] - exact["effect"])
        errors = errors.groupby(["trial", "target", "role"], observed=True)["error"]
        return np.sqrt((errors.mean() ** 2).mean() / (errors.std() ** 2).mean())

    several = off_together()
    monkeypatch.setattr(sweep, "unedited_copies", lambda dtype, d_head: 1)
    # Five copies: halfway between what their mean has left, and all.
    assert several < (5**-0.5 + 1) / 2 * off_together()


def test_in_float32_one_copy_edits_nothing():
    assert sweep.unedited_copies(torch.float32, 128) == 1
    assert [sweep.unedited_copies(torch.bfloat16, d_head) for d_head in (128, 80, 12)] == [8, 8, 5]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_copy_is_moved_by_rounding_in_its_own_way(dtype):
    z = torch.randn(2, 1, 4, 12, generator=torch.Generator().manual_seed(0)).to(dtype)
    moved = [nudged(z, bit) for bit in range(4)]
    for one in moved:
        assert 0 < ((one.float() - z.float()) / z.float()).abs().max() <= 2 * torch.finfo(dtype).eps
    assert all(not torch.equal(one, other) for one, other in combinations(moved, 2))
