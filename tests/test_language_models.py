"""LLaVA on language models of odd kinds: numbers are those of plain hooks, or what cannot be told
is refused."""

from __future__ import annotations

from functools import partial

import families
import pytest
import torch
import transformers as hf
from families import TEXT, WIDE_HEADS, clip_llava, ids, randomised, tokenizer

import rgb_circuit as rgb
from analyses.study.check import check
from rgb_circuit.errors import ModelError
from rgb_circuit.loading.checkpoints import skeleton

EXPERTS = dict(num_local_experts=4, num_experts_per_tok=2)


def gemma2(tokens):
    """Its configuration caps logits, which LLaVA leaves out."""
    return hf.Gemma2Config(**ids(tokens, **WIDE_HEADS), query_pre_attn_scalar=8, sliding_window=24)


def deepseek_v3(tokens):
    """Latent attention: values of 8 numbers, queries and keys of 12."""
    latent = dict(
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_nope_head_dim=8,
        qk_rope_head_dim=4,
        v_head_dim=8,
        num_key_value_heads=families.HEADS,
    )
    experts = dict(
        n_routed_experts=4, num_experts_per_tok=2, n_group=1, topk_group=1, moe_intermediate_size=16
    )
    return hf.DeepseekV3Config(**ids(tokens, **TEXT | latent), **experts, first_k_dense_replace=1)


def deepseek_v32(tokens, index_topk=16):
    """As `deepseek_v3`, but a head sees only those tokens that an indexer scores highest."""
    text = deepseek_v3(tokens).to_dict() | dict(index_topk=index_topk, index_head_dim=8)
    text |= dict(index_n_heads=2, mlp_layer_types=["dense", "sparse", "sparse", "sparse"])
    return hf.DeepseekV32Config(**{name: text[name] for name in text if name != "model_type"})


def ministral3(tokens):
    """Queries are scaled by their position: in these prompts every sixteen tokens anew."""
    rope = dict(
        rope_type="yarn",
        rope_theta=1e4,
        factor=4.0,
        llama_4_scaling_beta=0.5,
        original_max_position_embeddings=16,
    )
    return hf.Ministral3Config(**ids(tokens, **WIDE_HEADS), rope_parameters=rope)


def gpt_oss(tokens):
    """Heads with sinks, and a mixture of experts that returns two things."""
    return hf.GptOssConfig(**ids(tokens, **WIDE_HEADS), **EXPERTS, sliding_window=24)


def granitemoe(tokens):
    """Experts in a part that is not called mlp."""
    return hf.GraniteMoeConfig(**ids(tokens, **TEXT), **EXPERTS)


def wrapped(text, **changes):
    """A small random LLaVA on a language model, after ``changes`` of its parameters by name."""
    tokens = tokenizer(("<image>",))
    module, processor = clip_llava(text(tokens), tokens)
    module = randomised(module)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if (kind := name.rpartition(".")[2]) in changes:
                parameter.fill_(changes[kind])
    return rgb.wrap(module, processor, name=getattr(text, "__name__", "odd"))


@pytest.mark.parametrize("text", [gemma2, deepseek_v3, ministral3])
def test_every_component_is_that_of_plain_hooks(text):
    assert check(wrapped(text), trials=1, progress=False).agrees


def test_a_cap_that_the_model_leaves_out_is_left_out():
    model = wrapped(gemma2)
    assert model.config.text_config.final_logit_softcapping == 30 and model.softcap is None


def test_heads_of_latent_attention_are_as_wide_as_their_values():
    assert wrapped(deepseek_v3).d_head == 8


# So little goes into the sinks that z is softmax(queries · keys) @ values but for a hundredth.
def test_a_weak_sink_leaves_z_alone_to_be_patched():
    model = wrapped(gpt_oss, sinks=-3.0)
    [trial] = rgb.rgb_trials(model, 1)
    assert len(rgb.patch_heads(model, trial, target="erased", progress=False))
    with pytest.raises(ModelError, match="as where heads have sinks"):
        rgb.patch_heads(model, trial, target="erased", component="pattern", progress=False)


# Also where the indexer chooses all tokens of the prompt that loading tries: of a longer one it
# would leave some out.
@pytest.mark.parametrize("index_topk", [16, 1000])
def test_heads_that_see_what_an_indexer_chooses_are_refused(index_topk):
    with pytest.raises(rgb.InputError, match="its layers choose which tokens a head sees"):
        wrapped(partial(deepseek_v32, index_topk=index_topk))


def doge(tokens):
    """A mask of each layer's own, made of what it reads, handed on by name."""
    return hf.DogeConfig(**ids(tokens, **TEXT))


def afmoe(tokens):
    """A mask that is handed on by name."""
    return hf.AfmoeConfig(**ids(tokens, **TEXT))


def inkling2(tokens):
    """A projection of heads that is gated by the stream."""
    given = {name: TEXT[name] for name in TEXT if name != "intermediate_size"}
    experts = dict(n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=16)
    config = hf.Inkling2Config().text_config
    config.update(
        ids(tokens, **given) | experts | dict(head_dim=8, swa_head_dim=8, swa_num_attention_heads=4)
        | dict(swa_num_key_value_heads=2, layer_types=["hybrid"] * 4, d_rel=4, rel_extent=64)
        | dict(n_layers_per_attn_res_block=2, tie_word_embeddings=False)
    )  # fmt: skip
    return config


@pytest.mark.parametrize(
    "text, said",
    [
        (doge, "its layers choose which tokens a head sees"),
        (afmoe, "layer 0 hands attention its mask by name"),
        (inkling2, "o_proj in layer 0 of 'inkling2' takes more than what heads write"),
    ],
)
def test_what_a_language_model_does_otherwise_is_named(text, said):
    with pytest.raises(rgb.InputError, match=said):
        wrapped(text)


def test_direct_effects_of_experts_that_return_several_things_add_up():
    model = wrapped(gpt_oss)
    [trial] = rgb.rgb_trials(model, 1)
    frame = rgb.direct_effects(model, trial, progress=False)
    played = rgb.play(model, trial, conditions=["clean"], progress=False)
    added = frame[frame["condition"] == "clean"].groupby("role", observed=True)["direct_effect"]
    for role, logit in added.sum().items():
        assert logit == pytest.approx(float(played[f"logit_{role}"].iloc[0]), abs=1e-4)


def test_what_needs_an_mlp_by_name_is_refused_without_one():
    model = wrapped(granitemoe)
    trials = rgb.rgb_trials(model, 1)
    with pytest.raises(rgb.InputError, match="layer 0 of granitemoe has no part called mlp"):
        rgb.direct_effects(model, trials, progress=False)
    with pytest.raises(rgb.InputError, match="layer 0 of granitemoe has no part called mlp"):
        rgb.patch_paths(model, trials, [(0, 1)], [(2, 1)], progress=False)


def test_layers_without_attention_are_named():
    tokens = tokenizer(("<image>",))
    layers = ["mamba", "attention"] * 2
    heads = dict(mamba_n_heads=4, mamba_d_head=16, mamba_d_state=8)
    text = hf.GraniteMoeHybridConfig(**ids(tokens, **TEXT), **heads, layer_types=layers)
    module, processor = clip_llava(text, tokens)
    with pytest.raises(rgb.InputError, match="layer 0 holds .*mamba"):
        rgb.wrap(module.eval(), processor, name="hybrid")
    with pytest.raises(rgb.InputError, match=r"in 2 of its 4 layers \(0, 2\)"):
        rgb.wrap(skeleton("hybrid", module.config), processor, name="hybrid")
