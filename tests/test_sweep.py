"""The fast paths would not pass if they were wrong, and rounding is all that half precision
changes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import rgb_circuit as rgb
from rgb_circuit.calls import reference
from rgb_circuit.models.random import random_llava
from rgb_circuit.programs import sweep
from rgb_circuit.prompts import answer_tokens, prompt_ids


def largest_error(model, trial, positions):
    """Between `patch_heads` and the loop, over all heads and answers."""
    frame = rgb.patch_heads(model, [trial], target="erased", positions=positions, progress=False)
    tokens = list(answer_tokens(model, trial).values())
    loop = [
        reference.patched_logits(
            model, trial, "erased", [rgb.Edit(layer, head, positions=positions)]
        )[tokens]
        .cpu()
        .numpy()
        for layer, head in model.heads()
    ]
    return float(np.abs(frame["patched_logit"].to_numpy() - np.concatenate(loop)).max())


def handed(inputs, **changed):
    inputs["captured"] = SimpleNamespace(**{**vars(inputs["captured"]), **changed})


def see_everything(inputs):
    inputs["masks"] = {layer: torch.zeros_like(mask) for layer, mask in inputs["masks"].items()}


def see_no_first_token(inputs):
    inputs["masks"] = {
        layer: torch.cat([mask[..., :1] - 1e9, mask[..., 1:]], -1)
        for layer, mask in inputs["masks"].items()
    }


def forget_the_mask(inputs):
    inputs["masks"] = dict.fromkeys(inputs["masks"])


def wrong_angles(inputs):
    handed(inputs, angles=[(sin, cos) for cos, sin in inputs["captured"].angles])


def keys_of_the_next_layer(inputs):
    keys = inputs["captured"].keys
    handed(inputs, keys=[*keys[1:], keys[0]])


def something_added(inputs):
    handed(inputs, added=[0.1 * torch.ones_like(entry) for entry in inputs["captured"].resid_pre])


def next_head(inputs):
    for where, [((batch, position, head), values, factor)] in inputs["writes"].items():
        inputs["writes"][where] = [((batch, position, head.roll(1)), values, factor)]


def next_row(inputs):
    for where, [((batch, position, head), values, factor)] in inputs["writes"].items():
        inputs["writes"][where] = [((batch.roll(1), position.roll(1), head), values, factor)]


def no_write(inputs):
    inputs["writes"].clear()


def entered_as_the_next_layer(inputs):
    """What enters a layer is what enters the next."""
    streams = inputs["captured"].resid_pre
    handed(inputs, resid_pre=[*streams[1:], streams[-1]])


WRONG_STATE = {
    # Without angles of their own what joins later does not fit, and the forward ends there.
    "end": [
        see_everything,
        see_no_first_token,
        forget_the_mask,
        wrong_angles,
        keys_of_the_next_layer,
        something_added,
        entered_as_the_next_layer,
    ],
    "all": [wrong_angles, something_added, entered_as_the_next_layer],
    (-9, -2): [
        see_everything,
        see_no_first_token,
        wrong_angles,
        keys_of_the_next_layer,
        something_added,
        entered_as_the_next_layer,
    ],
}
WRONG_WRITES = [next_head, next_row, no_write]


def mutated(monkeypatch, mutate):
    forward = sweep._forward

    def broken(wrapped, heads, writes, *given, **inputs):
        inputs["writes"] = dict(writes)
        mutate(inputs)
        return forward(wrapped, heads, inputs.pop("writes"), *given, **inputs)

    monkeypatch.setattr(sweep, "_forward", broken)


@pytest.mark.parametrize("positions", WRONG_STATE)
@pytest.mark.parametrize("mutate", WRONG_WRITES)
def test_wrong_writes_are_noticed(grouped, monkeypatch, positions, mutate):
    trial = rgb.rgb_trials(grouped, 1)[0]
    assert largest_error(grouped, trial, positions) < 1e-5
    mutated(monkeypatch, mutate)
    assert largest_error(grouped, trial, positions) > 1e-4


@pytest.mark.parametrize(
    "positions, mutate", [(where, mutate) for where, some in WRONG_STATE.items() for mutate in some]
)
def test_a_forward_in_another_state_is_refused_by_the_copy_that_edits_nothing(
    grouped, monkeypatch, positions, mutate
):
    trial = rgb.rgb_trials(grouped, 1)[0]
    mutated(monkeypatch, mutate)
    with pytest.raises(rgb.InputError, match="edits nothing moves its logits"):
        largest_error(grouped, trial, positions)


@pytest.mark.parametrize("positions, forward", [("end", "_side_by_side"), ("text", "_as_batch")])
def test_a_batch_that_is_not_finite_is_refused_though_the_last_one_is(
    grouped, monkeypatch, positions, forward
):
    whole, before = getattr(sweep, forward), []

    def first_overflows(*given):
        before.append(forward)
        return tuple(
            False if value is True and len(before) == 1 else value for value in whole(*given)
        )

    monkeypatch.setattr(sweep, forward, first_overflows)
    options = dict(target="erased", positions=positions, batch_size=6, progress=False)
    with pytest.raises(rgb.InputError, match="not finite"):
        rgb.patch_heads(grouped, rgb.rgb_trials(grouped, 1), **options)
    assert len(before) > 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("positions", ["end", "all"])
def test_half_precision_errs_no_more_than_a_change_of_attention_kernel(
    random_folder, dtype, positions
):
    folder = str(random_folder["grouped"])
    sdpa, eager = (
        rgb.load(folder, dtype=dtype),
        rgb.load(folder, dtype=dtype, attn_implementation="eager"),
    )
    errors, rounding = [], []
    for trial in rgb.rgb_trials(sdpa, 4):
        errors.append(largest_error(sdpa, trial, positions))
        played = [
            rgb.play(model, [trial], progress=False).filter(like="logit_").to_numpy()
            for model in (sdpa, eager)
        ]
        rounding.append(np.abs(played[0] - played[1]).max())
    # The largest of 12 heads × 5 answers per trial against the largest of 5 pictures × 5 answers:
    # of one size, not one below the other.
    assert max(errors) < 3 * max(rounding)


def test_eager_attention_gives_the_same_frames(random_folder):
    folder = str(random_folder["grouped"])
    sdpa, eager = rgb.load(folder), rgb.load(folder, attn_implementation="eager")
    trials = rgb.rgb_trials(sdpa, 2)
    for component in ("z", "pattern", "value"):
        for positions in ("end", "text", "all"):
            options = dict(component=component, positions=positions, progress=False)
            one, other = (
                rgb.patch_heads(sdpa, trials, **options),
                rgb.patch_heads(eager, trials, **options),
            )
            np.testing.assert_allclose(
                one["patched_logit"], other["patched_logit"], rtol=0, atol=1e-5
            )


@pytest.mark.parametrize("place, layer", [(0, 0), (-1, 0), (-1, 1)])
def test_a_hook_on_the_first_or_the_last_token_is_refused(place, layer):
    """It acts on one copy alone, which at both ends is one that edits nothing."""
    module, processor = random_llava(layers=3)
    model = rgb.wrap(module, processor, name="steered")

    def steer(block, given, output):
        output = output.clone()
        output[:, place] += 1.0
        return output

    trials = rgb.rgb_trials(model, 1)
    hook = module.model.language_model.layers[layer].register_forward_hook(steer)
    with pytest.raises(rgb.InputError, match="edits nothing moves its logits|hook"):
        rgb.patch_heads(model, trials, target="erased", progress=False)
    hook.remove()
    rgb.patch_heads(model, trials, target="erased", progress=False)


def layers_run(model, call):
    """Positions times layers that a call runs."""
    seen = []
    hooks = [
        layer.self_attn.o_proj.register_forward_pre_hook(
            lambda _, given: seen.append(given[0].shape[:-1].numel())
        )
        for layer in model.nnsight._module.model.language_model.layers
    ]
    call()
    for hook in hooks:
        hook.remove()
    return sum(seen)


@pytest.mark.parametrize(
    "positions, heads", [("end", "every"), ("all", "every"), ("all", "one a layer")]
)
@pytest.mark.parametrize("batch_size", [None, 4])
def test_a_variant_runs_from_its_own_layer_on(grouped, positions, heads, batch_size):
    trials, layers = rgb.rgb_trials(grouped, 2), grouped.n_layers
    heads = grouped.heads() if heads == "every" else [(layer, 0) for layer in range(layers)]
    length = len(next(iter(prompt_ids(grouped, trials).values())))
    options = dict(
        target="erased", positions=positions, heads=heads, batch_size=batch_size, progress=False
    )
    ran = layers_run(grouped, lambda: rgb.patch_heads(grouped, trials, **options))
    captures, variants = 2 * length * layers, sum(layers - layer for layer, _ in heads)
    if positions == "all":
        # One run a trial edits nothing, however many batches there are.
        assert ran == len(trials) * (captures + length * (variants + layers))
    else:
        # Two copies in every forward do.
        forwards = 1 if batch_size is None else len(heads) // (batch_size // len(trials))
        assert 0 <= len(trials) * (captures + variants + 2 * layers * forwards) - ran < ran / 10
