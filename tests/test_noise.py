"""What of an effect is rounding, and what is left of it: effects in half precision against the same
weights in float32."""

import copy
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pytest
import torch

import rgb_circuit as rgb
from rgb_circuit.models.planted import planted
from rgb_circuit.models.random import random_llava
from rgb_circuit.programs import sweep
from rgb_circuit.programs.capture import by_chance, by_place, nudged

TARGETS = ("recolored", "erased")


@pytest.fixture(scope="module")
def precise():
    """A random LLaVA in float32 whose weights bfloat16 holds exactly, and whose logits reach ±9."""
    module, processor = random_llava(0, layers=8, heads=8, kv_heads=8, width=128, d_head=16)
    module.lm_head.weight.data.mul_(4)
    return rgb.wrap(module.bfloat16().float(), processor, name="float32")


def rounded(precise, dtype):
    return rgb.wrap(
        copy.deepcopy(precise.nnsight._module).to(dtype), precise.processor, name=str(dtype)
    )


def random(precise, dtype):
    return precise, rounded(precise, dtype)


def planted_in_groups(precise, dtype):
    """A planted circuit, whose heads look at one place almost alone, in float32 with weights that
    the format holds exactly, and in that format."""
    module, processor, _ = planted(kv_heads=2)
    exact = rgb.wrap(module.to(dtype).float(), processor, name="planted in float32")
    return exact, rounded(exact, dtype)


@pytest.mark.parametrize(
    "models, positions, dtype",
    [
        (random, "end", torch.bfloat16),
        (random, "text", torch.float16),
        (planted_in_groups, "end", torch.bfloat16),
        (planted_in_groups, "end", torch.float16),
    ],
)
def test_95_percent_of_effects_are_off_float32_by_less_than_the_noise_floor(
    precise, models, dtype, positions
):
    (exact, model), trials = models(precise, dtype), rgb.rgb_trials(precise, 4)
    targets = TARGETS if positions == "end" else TARGETS[1:]
    options = dict(target=targets, positions=positions, progress=False)
    exact, found = (rgb.patch_heads(one, trials, **options) for one in (exact, model))
    errors = (exact["effect"] - found["effect"]).abs()
    floor = rgb.noise_floor(model, trials, **options)
    # Of about a thousand effects of four trials, which are not independent.
    assert 0.01 < (errors > floor).mean() < 0.1
    # A real effect is one that float32 has, too.
    above = found["effect"].abs() > 3 * floor
    assert (
        above.any() and (np.sign(found["effect"][above]) == np.sign(exact["effect"][above])).all()
    )


@pytest.mark.parametrize("positions, dtype", [("end", torch.float16), ("text", torch.bfloat16)])
def test_an_edit_that_changes_nothing_shows_nothing(precise, dtype, positions):
    model, trials = rounded(precise, dtype), rgb.rgb_trials(precise, 2)
    # A fourth of the heads, in every layer.
    heads = [(layer, head) for layer in range(8) for head in (layer % 4, layer % 4 + 4)]
    options = dict(target="erased", positions=positions, heads=heads, progress=False)
    for component in ("z", "pattern", "value", "query", "key"):
        frame = rgb.patch_heads(model, trials, source="erased", component=component, **options)
        assert (frame["effect"] == 0).all()
    # Moved by rounding, or only one of two edits.
    frame = rgb.patch_heads(model, trials, source="rounding", **options)
    assert (frame["effect"] != 0).mean() > 0.9
    edits = [
        rgb.Edit(2, 1, "erased", positions=positions),
        rgb.Edit(3, 0, "clean", positions=positions),
    ]
    frame = rgb.patch_edits(
        model, trials, {"frozen": edits[:1], "both": edits}, target="erased", progress=False
    )
    assert (frame["effect"][frame["variant"] == "frozen"] == 0).all()
    assert (frame["effect"][frame["variant"] == "both"] != 0).any()


def test_of_a_layer_too_an_edit_that_changes_nothing_shows_nothing(precise):
    model, trials = rounded(precise, torch.bfloat16), rgb.rgb_trials(precise, 1)
    for component in ("resid_pre", "attn_out", "mlp_out"):
        frame = rgb.patch_layers(
            model, trials, component=component, source="erased", target="erased", positions=["end",
            "text"],
            progress=False,
        )  # fmt: skip
        assert (frame["effect"] == 0).all()
    # The target run keeps neither of these two, so nothing says that they are its own.
    for component in ("attn_out", "mlp_out"):
        frame = rgb.patch_layers(
            model, trials, component=component, target="erased", positions="end", progress=False
        )
        assert (frame["effect"] != 0).any()
    edits = {
        "a bias of 0": [rgb.AttentionEdit(1, 2, bias=0.0)],
        "a bias": [rgb.AttentionEdit(1, 2, bias=0.5)],
        "louder": [rgb.Edit(1, 2, "own", scale=1.5)],
    }
    effects = rgb.patch_edits(model, trials, edits, target="erased", progress=False)
    largest = effects["effect"].abs().groupby(effects["variant"], observed=True).max()
    assert largest["a bias of 0"] == 0 and (largest[["a bias", "louder"]] > 0).all()


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
        return rgb.patch_heads(
            precise, [trial], target="erased", heads=[(1, 2), (7, 0)], progress=False
        )["effect"].to_numpy()

    wanted = [effects(trial) for trial in trials]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(wanted, pool.map(effects, trials)):
            np.testing.assert_array_equal(one, other)


def test_effects_of_a_trial_are_not_all_off_together(precise, monkeypatch):
    """What they are taken from rounds too, in all effects of a layer alike, so it is a mean of
    several copies that leave the trunk where the heads do."""
    model, trials = rounded(precise, torch.bfloat16), rgb.rgb_trials(precise, 16)

    def off_together():
        exact, found = (
            rgb.patch_heads(one, trials, target=TARGETS, progress=False) for one in (precise, model)
        )
        errors = found.assign(error=found["effect"] - exact["effect"])
        errors = errors.groupby(["trial", "target", "role"], observed=True)["error"]
        return np.sqrt((errors.mean() ** 2).mean() / (errors.std() ** 2).mean())

    several = off_together()
    monkeypatch.setattr(sweep, "unedited_copies", lambda dtype: 1)
    # Three copies: halfway between what their mean has left, and all.
    assert several < (3**-0.5 + 1) / 2 * off_together()


def test_an_effect_is_counted_from_the_mean_of_the_first_copy_and_those_of_its_layer():
    # Counted from the first copy, two that are moved by rounding and one variant; another layer's.
    effects = torch.tensor([3.0, 6.0, 10.0, 5.0])[None, :, None]
    layers, moved = torch.tensor([0, 0, 0, 1]), torch.tensor([True, True, False, False])
    assert sweep._from_the_mean(effects, layers, moved)[0, :, 0].tolist() == [0, 3, 7, 5]


def test_in_float32_one_copy_edits_nothing():
    assert [sweep.unedited_copies(dtype) for dtype in (torch.float32, torch.bfloat16)] == [1, 3]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_copy_is_moved_by_rounding_in_its_own_way(dtype):
    z = torch.randn(2, 1, 4, 12, generator=torch.Generator().manual_seed(0)).to(dtype)
    moved = [nudged(z, by_place(z, bit) ^ way) for bit in range(2) for way in (False, True)]
    for one in moved:
        assert 0 < ((one.float() - z.float()) / z.float()).abs().max() <= 2 * torch.finfo(dtype).eps
    assert all(not torch.equal(one, other) for one, other in combinations(moved, 2))
    # The two of a pair move every number both ways.
    assert ((moved[0] > z) == (moved[1] < z)).all() and ((moved[0] < z) == (moved[1] > z)).all()


def test_chance_moves_a_picture_alike_whichever_are_beside_it():
    stream = torch.ones(3, 50, 40)
    up = by_chance(stream, 1)
    assert torch.equal(up, by_chance(stream[:1], 1)) and not torch.equal(up, by_chance(stream, 2))
    assert 0.45 < up.float().mean() < 0.55
