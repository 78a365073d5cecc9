"""The fast paths would not pass if they were wrong, and rounding is all that half precision changes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import rgb_circuit as rgb
from rgb_circuit import reference
from rgb_circuit.programs import sweep
from rgb_circuit.prompts import answer_tokens


def largest_error(model, trial, positions):
    """Between `patch_heads` and the loop, over all heads and answers."""
    frame = rgb.patch_heads(model, [trial], target="erased", positions=positions, progress=False)
    tokens = list(answer_tokens(model, trial).values())
    loop = [
        reference.patched_logits(model, trial, "erased", [rgb.Edit(layer, head, positions=positions)])[tokens]
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
        layer: torch.cat([mask[..., :1] - 1e9, mask[..., 1:]], -1) for layer, mask in inputs["masks"].items()
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


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("positions", ["end", "all"])
def test_half_precision_errs_no_more_than_a_change_of_attention_kernel(random_folder, dtype, positions):
    folder = str(random_folder["grouped"])
    sdpa, eager = rgb.load(folder, dtype=dtype), rgb.load(folder, dtype=dtype, attn_implementation="eager")
    errors, rounding = [], []
    for trial in rgb.rgb_trials(sdpa, 4):
        errors.append(largest_error(sdpa, trial, positions))
        played = [
            rgb.play(model, [trial], progress=False).filter(like="logit_").to_numpy()
            for model in (sdpa, eager)
        ]
        rounding.append(np.abs(played[0] - played[1]).max())
    # The largest of 12 heads × 5 answers per trial against the largest of 5 pictures × 5 answers: of one
    # size, not one below the other.
    assert max(errors) < 3 * max(rounding)


def test_eager_attention_gives_the_same_frames(random_folder):
    folder = str(random_folder["grouped"])
    sdpa, eager = rgb.load(folder), rgb.load(folder, attn_implementation="eager")
    trials = rgb.rgb_trials(sdpa, 2)
    for component in ("z", "pattern", "value"):
        for positions in ("end", "text", "all"):
            options = dict(component=component, positions=positions, progress=False)
            one, other = rgb.patch_heads(sdpa, trials, **options), rgb.patch_heads(eager, trials, **options)
            np.testing.assert_allclose(one["patched_logit"], other["patched_logit"], rtol=0, atol=1e-5)
