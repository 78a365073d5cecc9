"""What a module must be before it is traced, and what a probe of one picture finds out about it."""

import copy

import families
import pytest
import torch
import transformers
from accelerate import cpu_offload
from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration

import rgb_circuit as rgb
from rgb_circuit.models import small
from rgb_circuit.models.random import random_llava
from rgb_circuit.modules import check_ready


@pytest.fixture
def made():
    """A random LLaVA and its processor."""
    return random_llava(layers=2)


def on(text):
    """A LLaVA with random weights on another language model, and a processor for it."""
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        image_size=24,
        patch_size=4,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    processor = small.processor(6, 4)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=processor.image_token_id)
    return LlavaForConditionalGeneration(config).eval(), processor


def sizes(**more):
    tokens = len(small.tokenizer())
    plain = dict(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=tokens,
        pad_token_id=0,
    )
    return plain | more


def test_training_mode_is_refused_with_the_way_out(made):
    module, processor = made
    module.train()
    with pytest.raises(rgb.InputError, match=r"'mine' is in training mode.*call model.eval\(\)"):
        rgb.wrap(module, processor, name="mine")
    assert rgb.wrap(module.eval(), processor, name="mine").n_layers == 2


def test_a_single_part_in_training_mode_is_named(made):
    module, processor = made
    module.model.language_model.layers[1].mlp.train()
    with pytest.raises(
        rgb.InputError,
        match=r"the part model.language_model.layers.1.mlp of 'mine' is in training mode.*model.eval\(\)",
    ):
        rgb.wrap(module, processor, name="mine")


def test_a_model_that_goes_back_to_training_is_no_longer_ready(made):
    model = rgb.wrap(*made, name="mine")
    module = model.nnsight._module
    check_ready(module, "mine")
    module.train()
    with pytest.raises(rgb.InputError, match=r"call model.eval\(\)"):
        check_ready(module, "mine")


def test_weights_that_are_offloaded_are_refused_with_what_fits(made):
    module, processor = made
    cpu_offload(module, execution_device=torch.device("cpu"))
    with pytest.raises(
        rgb.InputError,
        match="weights of 'mine' are not in memory .*dtype='bfloat16'.*device_map.*remote=True",
    ):
        rgb.wrap(module, processor, name="mine")


def test_a_device_map_that_leaves_weights_on_disk_is_refused(random_folder):
    parts = dict.fromkeys(
        ("model.vision_tower", "model.multi_modal_projector", "model.language_model.embed_tokens"), "cpu"
    )
    parts |= {"model.language_model.norm": "cpu", "model.language_model.rotary_emb": "cpu", "lm_head": "cpu"}
    parts |= {f"model.language_model.layers.{layer}": "disk" if layer else "cpu" for layer in range(3)}
    with pytest.raises(rgb.InputError, match=r"not in memory .model.language_model.layers.1.*device_map"):
        rgb.load(str(random_folder["grouped"]), device_map=parts)


@pytest.mark.parametrize("inside", [False, True], ids=["wrapped by peft", "with layers of peft"])
def test_adapters_are_refused_and_the_merged_model_is_not(made, inside):
    peft = pytest.importorskip("peft")
    module, processor = made
    adapters = peft.LoraConfig(
        r=2, target_modules=r".*language_model.*\.(q_proj|o_proj)", init_lora_weights=False
    )
    adapted = peft.get_peft_model(copy.deepcopy(module), adapters).eval()
    with pytest.raises(rgb.InputError, match=r"'mine' has adapters.*merge_and_unload\(\)"):
        rgb.wrap(adapted.base_model.model if inside else adapted, processor, name="mine")
    assert rgb.wrap(adapted.merge_and_unload(), processor, name="mine").n_layers == 2


@pytest.mark.parametrize(
    "given", [None, "llava-hf/llava-1.5-7b-hf", torch.nn.Linear(2, 2)], ids=lambda given: type(given).__name__
)
def test_what_is_no_model_is_refused_by_wrap(given):
    with pytest.raises(
        rgb.InputError, match=f"'mine' is an? {type(given).__name__}, not a model of transformers"
    ):
        rgb.wrap(given, small.processor(6, 4), name="mine")


@pytest.mark.parametrize(
    "text",
    [transformers.PhiConfig(**sizes()), transformers.GPTNeoXConfig(**sizes())],
    ids=["Phi", "GPT-NeoX"],
)
def test_a_language_model_without_o_proj_is_refused_as_that(text):
    with pytest.raises(
        rgb.InputError, match=r"the language model of 'mine' \(\w+\) has no self_attn.o_proj.*Llama-style"
    ):
        rgb.wrap(*on(text), name="mine")


@pytest.mark.parametrize("kind", ["OPTConfig", "GPT2Config", "BloomConfig"])
def test_a_language_model_that_no_llava_can_be_built_on_is_refused(kind, tmp_path):
    text = getattr(transformers, kind)()
    config = LlavaConfig(vision_config=CLIPVisionConfig(image_size=24, patch_size=4), text_config=text)
    config.save_pretrained(tmp_path)
    small.processor(6, 4).save_pretrained(tmp_path)
    with pytest.raises(rgb.InputError, match=f"cannot build .*{text.model_type!r}.*Llama-style"):
        rgb.load(str(tmp_path))


def test_a_language_model_whose_final_norm_is_elsewhere_is_refused(made):
    module, processor = made
    text = module.model.language_model
    text.final_norm = text.norm
    del text.norm
    with pytest.raises(rgb.InputError, match="has no final norm called norm"):
        rgb.wrap(module, processor, name="mine")


def test_a_norm_that_is_not_the_last_thing_before_the_logits_is_refused():
    # NanoChat norms the embeddings with the same module as the last layer's output.
    text = transformers.NanoChatConfig(**sizes(num_key_value_heads=4))
    with pytest.raises(
        rgb.InputError,
        match="the o_proj of its layers and then the final norm do not run once each, in that order",
    ):
        rgb.wrap(*on(text), name="mine")


@pytest.mark.parametrize(
    "change",
    [lambda logits: 10 * torch.tanh(logits / 10), lambda logits: 0.5 * logits],
    ids=["soft cap", "multiplier"],
)
def test_logits_that_are_more_than_the_unembedding_of_the_final_norm_are_refused(made, change):
    class Changed(LlavaForConditionalGeneration):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = change(output.logits)
            return output

    module, processor = made
    module.__class__ = Changed
    with pytest.raises(rgb.InputError, match="its logits are not lm_head of what its final norm returns"):
        rgb.wrap(module, processor, name="mine")


def test_heads_that_are_not_as_wide_as_the_configuration_says_are_refused(made):
    module, processor = made
    module.config.text_config.num_attention_heads = 8
    with pytest.raises(rgb.InputError, match=r"o_proj reads \[32\] numbers per position, not 8 heads × 8"):
        rgb.wrap(module, processor, name="mine")


def test_a_configuration_whose_heads_differ_by_layer_is_refused(made, monkeypatch):
    module, processor = made

    def refuse(_):
        raise RuntimeError("per layer")

    # As Gemma 4 does, whose layers have heads of two widths.
    monkeypatch.setattr(type(module.config.text_config), "head_dim", property(refuse), raising=False)
    with pytest.raises(
        rgb.InputError, match="no number of heads and their width that hold for every layer .*per layer"
    ):
        rgb.wrap(module, processor, name="mine")


def test_a_model_without_its_head_is_refused_with_how_to_read_it(made):
    module, processor = made
    with pytest.raises(
        rgb.InputError, match="'mine' is a LlavaModel, which gives no logits; give the whole model"
    ):
        rgb.wrap(module.model, processor, name="mine")


def test_a_soft_cap_that_the_configuration_names_is_known_and_another_is_not():
    module, processor = families.built("paligemma2")
    model = rgb.wrap(copy.deepcopy(module), processor, name="mine")
    assert model.softcap == module.config.text_config.final_logit_softcapping == 30

    class Capped(type(module)):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = 2 * torch.tanh(output.logits / 2)
            return output

    module.__class__ = Capped
    with pytest.raises(rgb.InputError, match="its logits are not lm_head of what its final norm returns"):
        rgb.wrap(module, processor, name="mine")


def test_a_model_that_fails_by_itself_is_said_to(made):
    module, processor = made

    def fail(*_):
        raise RuntimeError("out of order\nsecond line")

    module.model.language_model.layers[1].register_forward_pre_hook(fail)
    with pytest.raises(
        rgb.InputError, match=r"'mine' fails on a plain picture, before any analysis \(out of order\)"
    ):
        rgb.wrap(module, processor, name="mine")


def overflowing(tmp_path):
    """A folder with a LLaVA whose MLPs are within float32 and beyond float16."""
    module, processor = random_llava(layers=2)
    with torch.no_grad():
        for layer in module.model.language_model.layers:
            layer.mlp.down_proj.weight.mul_(3e5)
    return str(small.save(module, processor, tmp_path))


def test_an_overflow_in_half_precision_is_refused_with_another_number_format(tmp_path):
    folder = overflowing(tmp_path)
    with pytest.raises(
        rgb.InputError, match="overflow in float16, so load it with dtype='bfloat16' or 'float32'"
    ):
        rgb.load(folder, dtype="float16")
    for dtype in ("bfloat16", "float32"):
        assert rgb.load(folder, dtype=dtype).dtype == getattr(torch, dtype)


def test_logits_that_are_not_finite_in_float32_mean_broken_weights(made):
    module, processor = made
    with torch.no_grad():
        module.lm_head.weight[0, 0] = torch.inf
    with pytest.raises(
        rgb.InputError, match="not finite .* in float32, so its weights are broken; take another checkpoint"
    ):
        rgb.wrap(module, processor, name="mine")
