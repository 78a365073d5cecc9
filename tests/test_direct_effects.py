"""Direct effects are the summands of the logit, each through the run's own final norm."""

import numpy as np
import pytest
import torch
from brute_force import BruteForce
from torch.nn.functional import layer_norm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

import rgb_circuit as rgb
from rgb_circuit.calls.direct_effects import direct_effects
from rgb_circuit.models.planted import PARTS, Placement
from rgb_circuit.models.random import random_llava
from rgb_circuit.models.small import save
from rgb_circuit.prompts import answer_tokens

CONDITIONS = ("clean", "erased")


@pytest.fixture(scope="module")
def trials(model):
    return rgb.rgb_trials(model, 2, seed=3)


def add_up(frame, played):
    """Largest distance of a run's sum of direct effects from its logit in ``played``, from
    `rgb_circuit.play`."""
    logits = played.set_index(["trial", "condition"])
    sums = frame.groupby(["trial", "condition", "role"], observed=True)["direct_effect"].sum()
    return max(
        abs(total - logits.loc[(trial, condition), f"logit_{role}"])
        for (trial, condition, role), total in sums.items()
    )


def test_direct_effects_add_up_to_the_logit(model, trials):
    frame = direct_effects(model, trials, CONDITIONS, progress=False)
    assert add_up(frame, rgb.play(model, trials, CONDITIONS, progress=False)) < 1e-4
    assert frame["direct_effect"].abs().max() > 0.1


@torch.no_grad()
def test_direct_effects_agree_with_the_parameters(model, trials):
    bare, trial = BruteForce(model.name), trials[0]
    _, z, _, _, states = bare.run(trial, "erased")
    text, d_head = bare.model.model.language_model, bare.d_head
    # What enters the final norm, from what leaves it: hidden_states end with the normed one.
    weight = text.norm.weight.detach()
    parts = {("embedding", None, None): states[0][0, -1]}
    for layer, block in enumerate(text.layers):
        written = block.self_attn.o_proj.weight.split(d_head, dim=1)
        heads = [
            slice_of_o_proj @ z[layer][-1, head] for head, slice_of_o_proj in enumerate(written)
        ]
        before = sum(parts.values()) + sum(heads)
        normed = (
            before
            / (before.square().mean() + text.norm.variance_epsilon).sqrt()
            * block.post_attention_layernorm.weight
        )
        parts |= {("head", layer, head): added for head, added in enumerate(heads)}
        parts["mlp", layer, None] = block.mlp(normed)
    divisor = (sum(parts.values()).square().mean() + text.norm.variance_epsilon).sqrt()

    frame = direct_effects(model, [trial], ["erased"], progress=False)
    for role, token in answer_tokens(model, trial).items():
        unembedding = bare.model.lm_head.weight[token]
        for (component, layer, head), part in parts.items():
            rows = frame[(frame["component"] == component) & (frame["role"] == role)]
            rows = rows if layer is None else rows[rows["layer"] == layer]
            rows = rows if head is None else rows[rows["head"] == head]
            wanted = float(unembedding @ (weight * part / divisor))
            assert rows["direct_effect"].tolist() == pytest.approx([wanted], abs=1e-5)


def test_a_bias_of_o_proj_is_a_component_of_its_own(tmp_path):
    bare, processor = random_llava(5, layers=2, heads=4, kv_heads=2)
    bare.config.text_config.attention_bias = True
    with_bias = type(bare)(bare.config).eval()
    with_bias.load_state_dict(bare.state_dict(), strict=False)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in with_bias.model.language_model.layers:
            layer.self_attn.o_proj.bias.normal_(generator=generator)
    model = rgb.load(str(save(with_bias, processor, tmp_path)))
    trials = rgb.rgb_trials(model, 2)
    frame = direct_effects(model, trials, progress=False)
    assert frame[frame["component"] == "attention bias"]["layer"].unique().tolist() == [0, 1]
    assert add_up(frame, rgb.play(model, trials, progress=False)) < 1e-4


def test_planted_heads_write_what_was_planted(planted):
    model, place = planted, Placement()
    frame = direct_effects(model, rgb.rgb_trials(model, 4), progress=False).query(
        "component == 'head' and role == 'odd'"
    )
    mean = frame.groupby(["layer", "head"])["direct_effect"].mean()
    gains = {
        place.extractor: PARTS["extractor"].gain,
        place.content_extractor: PARTS["content_extractor"].gain,
        place.suppressor: PARTS["suppressor"].gain,
        **dict.fromkeys(place.redundant_pair, PARTS["redundant_pair"].gain),
        # It writes a place, not a word: all it does, it does through the extractors.
        place.poi: 0,
    }
    for head, gain in gains.items():
        assert mean[head] == pytest.approx(gain, abs=0.01)


def test_half_precision_adds_up_within_its_rounding(random_folder):
    model = rgb.load(str(random_folder["grouped"]), dtype="bfloat16")
    trials = rgb.rgb_trials(model, 2)
    exact = direct_effects(rgb.load(str(random_folder["grouped"])), trials, progress=False)
    frame = direct_effects(model, trials, progress=False)
    np.testing.assert_allclose(frame["direct_effect"], exact["direct_effect"], rtol=0, atol=0.05)


def test_prompts_of_different_length_keep_their_order_and_values(grouped):
    first, second = rgb.rgb_trials(grouped, 2, seed=2)
    words = (
        "USER: <image>\nRespond in one word Which color is the odd color out? Respond in one "
        "word\nASSISTANT:"
    )
    long = rgb.Trial("long", words, second.images, {"yes": "red", "no": "one"})
    together = direct_effects(grouped, [first, long], progress=False)
    assert together["trial"].unique().tolist() == [first.name, "long"]
    alone = direct_effects(grouped, [long], progress=False)
    np.testing.assert_allclose(
        together.query("trial == 'long'")["direct_effect"],
        alone["direct_effect"],
        rtol=0,
        atol=1e-5,
    )


def test_the_frame_has_a_row_per_trial_condition_component_role(grouped):
    frame = direct_effects(grouped, rgb.rgb_trials(grouped, 2), CONDITIONS, progress=False)
    assert list(frame.columns) == [
        "trial",
        "condition",
        "component",
        "layer",
        "head",
        "role",
        "answer",
        "direct_effect",
    ]
    assert len(frame) == 2 * 2 * (1 + grouped.n_layers * (grouped.n_heads + 1)) * 5
    assert frame["head"].isna().sum() == 2 * 2 * (1 + grouped.n_layers) * 5


def test_another_norm_is_refused(random_folder, monkeypatch):
    def centred(self, states):
        return layer_norm(states, states.shape[-1:], self.weight, self.weight)

    monkeypatch.setattr(LlamaRMSNorm, "forward", centred)
    model = rgb.load(str(random_folder["grouped"]))
    with pytest.raises(rgb.InputError, match="final norm is no RMSNorm"):
        direct_effects(model, rgb.rgb_trials(model, 1), progress=False)


def test_a_condition_that_is_not_there_is_refused(grouped):
    with pytest.raises(rgb.InputError, match="no condition 'recoloured'"):
        direct_effects(grouped, rgb.rgb_trials(grouped, 1), ["recoloured"], progress=False)
