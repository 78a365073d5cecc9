"""What a module must be before it is traced, and what a probe of one picture finds out about it."""

import copy
import functools
from importlib import import_module

import families
import pandas as pd
import pytest
import torch
import transformers
from accelerate import cpu_offload
from accelerate.hooks import AlignDevicesHook, ModelHook, SequentialHook, add_hook_to_module
from brute_force import BruteForce
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrizations, prune, weight_norm
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)
from transformers.masking_utils import eager_mask

import rgb_circuit as rgb
from rgb_circuit.models import small
from rgb_circuit.models.random import random_llava
from rgb_circuit.module.modules import check_ready


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
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=processor.image_token_id
    )
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
        match=r"the part model.language_model.layers.1.mlp of 'mine' is in training "
        r"mode.*model.eval\(\)",
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
        ("model.vision_tower", "model.multi_modal_projector", "model.language_model.embed_tokens"),
        "cpu",
    )
    parts |= {
        "model.language_model.norm": "cpu",
        "model.language_model.rotary_emb": "cpu",
        "lm_head": "cpu",
    }
    parts |= {
        f"model.language_model.layers.{layer}": "disk" if layer else "cpu" for layer in range(3)
    }
    with pytest.raises(
        rgb.InputError, match=r"not in memory .model.language_model.layers.1.*device_map"
    ):
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
    "given",
    [None, "llava-hf/llava-1.5-7b-hf", torch.nn.Linear(2, 2)],
    ids=lambda given: type(given).__name__,
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
        rgb.InputError,
        match=r"the language model of 'mine' \(\w+\) has no self_attn.o_proj.*Llama-style",
    ):
        rgb.wrap(*on(text), name="mine")


@pytest.mark.parametrize("kind", ["OPTConfig", "GPT2Config", "BloomConfig"])
def test_a_language_model_that_no_llava_can_be_built_on_is_refused(kind, tmp_path):
    text = getattr(transformers, kind)()
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(image_size=24, patch_size=4), text_config=text
    )
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
        match="the o_proj of its layers and then the final norm do not run once each, in that "
        "order",
    ):
        rgb.wrap(*on(text), name="mine")


@pytest.mark.parametrize(
    "change",
    [
        lambda logits: 10 * torch.tanh(logits / 10),
        lambda logits: 0.5 * logits,
        lambda logits: 0.999 * logits,
    ],
    ids=["soft cap", "multiplier", "slight multiplier"],
)
def test_logits_that_are_more_than_the_unembedding_of_the_final_norm_are_refused(made, change):
    class Changed(LlavaForConditionalGeneration):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = change(output.logits)
            return output

    module, processor = made
    module.__class__ = Changed
    with pytest.raises(
        rgb.InputError, match="its logits are not lm_head of what its final norm returns"
    ):
        rgb.wrap(module, processor, name="mine")


def test_what_is_added_between_layers_may_not_depend_on_what_it_is_added_to(monkeypatch):
    module, processor = families.built("qwen3_vl")

    def doubled(self, stream, image, features):
        return torch.where(image[..., None], 2 * stream, stream)

    monkeypatch.setattr(type(module.model.language_model), "_deepstack_process", doubled)
    with pytest.raises(rgb.InputError, match="adds .* between layers depends on that stream"):
        rgb.wrap(module, processor, name="mine", tiles=6)


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ("", "layers 0 and 1 of 'mine' are the same module"),
        ("self_attn.o_proj", "layers 0 and 1 of 'mine' have the same self_attn.o_proj"),
        ("mlp", "layers 0 and 1 of 'mine' have the same mlp"),
    ],
)
def test_a_part_that_stands_in_two_layers_is_refused(made, part, sentence):
    module, processor = made
    first = "model.language_model.layers.0"
    shared = module.get_submodule(f"{first}.{part}" if part else first)
    module.set_submodule(f"{first.replace('0', '1')}.{part}".rstrip("."), shared)
    with pytest.raises(rgb.InputError, match=sentence):
        rgb.wrap(module, processor, name="mine")


def test_an_unembedding_of_several_parts_is_refused(made):
    module, processor = made
    module.lm_head = torch.nn.Sequential(torch.nn.Linear(32, 8), torch.nn.Linear(8, 40))
    with pytest.raises(rgb.InputError, match="has no lm_head with a weight"):
        rgb.wrap(module.eval(), processor, name="mine")


def test_a_configuration_that_makes_forwards_return_tuples_is_named(made):
    module, processor = made
    module.config.return_dict = False
    with pytest.raises(
        rgb.InputError, match=r"config.return_dict of 'mine' is False.*; set it to True"
    ):
        rgb.wrap(module, processor, name="mine")


def test_heads_that_are_not_as_wide_as_the_configuration_says_are_refused(made):
    module, processor = made
    module.config.text_config.num_attention_heads = 8
    with pytest.raises(
        rgb.InputError, match=r"o_proj reads \[32\] numbers per position, not 8 heads × 8"
    ):
        rgb.wrap(module, processor, name="mine")


def test_a_configuration_whose_heads_differ_by_layer_is_refused(made, monkeypatch):
    module, processor = made

    def refuse(_):
        raise RuntimeError("per layer")

    # As Gemma 4 does, whose layers have heads of two widths.
    monkeypatch.setattr(
        type(module.config.text_config), "head_dim", property(refuse), raising=False
    )
    with pytest.raises(
        rgb.InputError,
        match="no number of heads and their width that hold for every layer .*per layer",
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
    with pytest.raises(
        rgb.InputError, match="its logits are not lm_head of what its final norm returns"
    ):
        rgb.wrap(module, processor, name="mine")


def test_a_model_that_fails_by_itself_is_said_to(made):
    module, processor = made

    class Failing(type(module)):
        def forward(self, *args, **kwargs):
            raise RuntimeError("out of order\nsecond line")

    module.__class__ = Failing
    with pytest.raises(
        rgb.InputError,
        match=r"'mine' fails on a plain picture, before any analysis \(out of order\)",
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
        rgb.InputError,
        match="not finite .* in float32, so its weights are broken; take another checkpoint",
    ):
        rgb.wrap(module, processor, name="mine")


def layer(module, index=1):
    return module.model.language_model.layers[index]


def moved(tensor):
    """Another one at the last position."""
    return torch.cat([tensor[:, :-1], tensor[:, -1:] + 1], 1)


def steer(module, given, made):
    return moved(made)


def steer_in_place(module, given, made):
    made.data[:, -1] += 1


def steer_before(module, given, named):
    return (moved(given[0]), *given[1:]), named


def steer_all_modules(module):
    """On whichever module; on others than MLPs it watches."""
    return register_module_forward_hook(
        lambda part, given, made: moved(made) if part is layer(module).mlp else None
    )


HOOKS = {
    "after a layer": (
        lambda module: layer(module).register_forward_hook(steer),
        r"layers.1 of 'mine' has a forward hook, steer \(test_modules.py, line \d+\), which "
        r"changes",
    ),
    "in place": (
        lambda module: layer(module).mlp.register_forward_hook(steer_in_place),
        r"layers.1.mlp of 'mine' has a forward hook, steer_in_place \(",
    ),
    "before a layer": (
        lambda module: layer(module).register_forward_pre_hook(steer_before, with_kwargs=True),
        r"layers.1 of 'mine' has a forward pre-hook, steer_before \(",
    ),
    "in a class": (
        lambda module: module.lm_head.register_forward_hook(functools.partial(steer)),
        r"lm_head of 'mine' has a forward hook, steer \(",
    ),
    "of all modules": (
        steer_all_modules,
        r"a forward hook of all modules, steer_all_modules.*changes what .*layers.1.mlp of 'mine' "
        r"computes",
    ),
}


def patched(module, processor, trials=None, **options):
    """Effects of all heads, and the model."""
    model = rgb.wrap(module, processor, name="mine")
    trials = trials or rgb.rgb_trials(model, 1)
    return rgb.patch_heads(model, trials, target="recolored", progress=False, **options)


@pytest.mark.parametrize("before", [True, False], ids=["before wrap", "after wrap"])
@pytest.mark.parametrize(("put", "sentence"), HOOKS.values(), ids=HOOKS)
def test_a_hook_that_changes_something_is_named(made, put, sentence, before):
    module, processor = made
    if before:
        handle = put(module)
        try:
            with pytest.raises(rgb.InputError, match=sentence + ".*remove it"):
                rgb.wrap(module, processor, name="mine")
        finally:
            handle.remove()
    model = rgb.wrap(module, processor, name="mine")
    trials = rgb.rgb_trials(model, 1)
    wanted = rgb.patch_heads(model, trials, progress=False)
    handle = put(module)
    try:
        with pytest.raises(rgb.InputError, match=sentence + ".*remove it"):
            rgb.patch_heads(model, trials, progress=False)
    finally:
        handle.remove()
    # Nothing is left of it, nor of its being watched.
    pd.testing.assert_frame_equal(rgb.patch_heads(model, trials, progress=False), wanted)


def test_hooks_that_only_watch_may_stay_and_see_every_run(made):
    module, processor = made
    wanted, seen = patched(*made), []
    part = layer(module)
    part.register_forward_hook(lambda part, given, made: seen.append("none"))
    part.mlp.register_forward_hook(lambda part, given, made: made)
    part.register_forward_pre_hook(lambda part, given, named: (given, named), with_kwargs=True)
    part.self_attn.o_proj.register_forward_pre_hook(lambda part, given: given[0])
    module.register_forward_hook(lambda part, given, named, made: None, with_kwargs=True)
    once = module.lm_head.register_forward_hook(lambda *_: (once.remove(), seen.append("once"))[0])
    of_all = register_module_forward_hook(lambda part, given, made: None)
    hooks = dict(part._forward_hooks)
    try:
        pd.testing.assert_frame_equal(patched(*made), wanted)
    finally:
        of_all.remove()
    assert seen.count("once") == 1 and len(seen) > 10
    assert part._forward_hooks == hooks and not module.lm_head._forward_hooks


def test_what_computes_weights_before_a_forward_changes_nothing(made):
    module, processor = made
    wanted = patched(*made)
    weight_norm(layer(module).mlp.up_proj)
    parametrizations.weight_norm(layer(module).self_attn.o_proj)
    prune.identity(layer(module, 0).self_attn.q_proj, "weight")
    module.gradient_checkpointing_enable()
    module.enable_input_require_grads()
    # What they add is in training mode.
    module.eval()
    got = patched(*made)
    pd.testing.assert_frame_equal(got, wanted, rtol=0, atol=1e-5)


def test_a_hook_on_the_vision_tower_acts_as_in_a_plain_forward(made):
    module, processor = made
    trials = rgb.rgb_trials(rgb.wrap(*made, name="plain"), 1)
    without = patched(*made, trials)
    module.model.multi_modal_projector.register_forward_hook(lambda part, given, made: moved(made))
    model, bare = rgb.wrap(*made, name="mine"), BruteForce(module, processor, attention="sdpa")
    frame = rgb.patch_heads(model, trials, target="recolored", progress=False)
    assert (frame["effect"] - without["effect"]).abs().max() > 1e-3
    logits, *_ = bare.run(trials[0], "recolored")
    for row in frame.itertuples():
        token = model.token(row.answer, trials[0].prompt)
        by_hooks = bare.patch(trials[0], "clean", "recolored", row.layer, row.head, "z", [-1])
        assert abs(float(by_hooks[token] - logits[token]) - row.effect) < 1e-4


def test_a_backward_hook_matters_where_there_are_gradients(made):
    module, processor = made
    model = rgb.wrap(*made, name="mine")
    trials = rgb.rgb_trials(model, 1)

    def estimates():
        return rgb.attribute(model, trials, target="recolored", progress=False)

    wanted, effects = estimates(), patched(*made, trials)
    handle = layer(module).mlp.register_full_backward_hook(lambda part, into, out: None)
    pd.testing.assert_frame_equal(estimates(), wanted)
    handle.remove()
    layer(module).mlp.register_full_backward_hook(lambda part, into, out: (2 * into[0],))
    with pytest.raises(
        rgb.InputError, match=r"layers.1.mlp of 'mine' has a backward hook, .*which changes"
    ):
        estimates()
    pd.testing.assert_frame_equal(patched(*made, trials), effects)


@pytest.mark.parametrize("before", [True, False], ids=["before wrap", "after wrap"])
def test_a_forward_of_a_modules_own_is_named(made, before):
    module, processor = made
    model = None if before else rgb.wrap(*made, name="mine")
    own = layer(module).mlp.forward

    @functools.wraps(own)
    def steered(*given):
        return moved(own(*given))

    layer(module).mlp.forward = steered
    with pytest.raises(
        rgb.InputError, match=r"the forward of .*layers.1.mlp of 'mine' was replaced by .*py"
    ):
        rgb.wrap(*made, name="mine") if before else rgb.play(model, rgb.rgb_trials(model, 1))


def test_a_forward_that_was_replaced_before_nnsight_wrapped_it_is_named(made):
    import nnsight

    module, processor = made
    own = layer(module).mlp.forward
    layer(module).mlp.forward = lambda *given: moved(own(*given))
    nnsight.NNsight(module)
    with pytest.raises(
        rgb.InputError, match=r"layers.1.mlp of 'mine' was replaced by .*<lambda> \(test_m"
    ):
        rgb.wrap(*made, name="mine")


def test_hooks_of_accelerate_are_known_and_others_of_its_kind_are_named(made):
    class Steers(ModelHook):
        def post_forward(self, module, output):
            return moved(output)

    module, processor = made
    wanted = patched(*made)
    for part in (layer(module), layer(module).self_attn, module.lm_head):
        add_hook_to_module(part, SequentialHook(AlignDevicesHook("cpu", io_same_device=True)))
    pd.testing.assert_frame_equal(patched(*made), wanted)
    add_hook_to_module(layer(module), Steers(), append=True)
    with pytest.raises(
        rgb.InputError, match="layers.1 of 'mine' has a hook put on with accelerate, a Steers"
    ):
        patched(*made)


@pytest.mark.parametrize("which", ["whole", "in place", "a layer", "an MLP", "by torch.jit"])
def test_what_is_compiled_is_named(made, which):
    module, processor = made
    if which == "whole":
        module = torch.compile(module, backend="eager")
    elif which == "in place":
        module.compile(backend="eager")
    elif which == "a layer":
        layer(module).compile(backend="eager")
    elif which == "by torch.jit":
        mlp = layer(module).mlp
        layer(module).mlp = torch.jit.trace(mlp, torch.zeros(1, 3, 32))
    else:
        layer(module).mlp = torch.compile(layer(module).mlp, backend="eager")
    with pytest.raises(rgb.InputError, match="'mine' is compiled, so patching cannot reach into"):
        rgb.wrap(module, processor, name="mine")


def test_edits_of_nnsights_own_are_named(made):
    model = rgb.wrap(*made, name="mine")
    trials = rgb.rgb_trials(model, 1)
    with model.nnsight.edit(inplace=True):
        model.nnsight.model.language_model.layers[1].mlp.output[:] = 0
    with pytest.raises(
        rgb.InputError, match=r"nnsight edits 'mine' in every trace.*clear_edits\(\)"
    ):
        rgb.play(model, trials)
    model.nnsight.clear_edits()
    assert len(rgb.play(model, trials, progress=False))


KERNELS = (
    "flex_attention",
    "flash_attention_2",
    "flash_attention_3",
    "paged|eager",
    "paged|sdpa",
    "user's",
)


@pytest.mark.parametrize("kernel", [*KERNELS, "kernels-community/flash-attn"])
def test_attention_that_takes_no_masks_is_named_with_the_way_out(made, kernel):
    module, processor = made
    model = rgb.wrap(*made, name="mine")
    module.config.text_config._attn_implementation = kernel
    sentence = rf"'mine' attends with .{kernel.replace('|', '.')}.*attn_implementation='sdpa'"
    with pytest.raises(rgb.InputError, match=sentence):
        rgb.wrap(*made, name="mine")
    with pytest.raises(rgb.InputError, match=sentence):
        rgb.play(model, rgb.rgb_trials(model, 1))
    module.set_attn_implementation("sdpa")
    assert len(rgb.play(model, rgb.rgb_trials(model, 1), progress=False))


def test_attention_that_somebody_registered_is_named_under_its_own_name_and_under_anothers(
    made, monkeypatch
):
    module, processor = made
    wrong = functools.wraps(AttentionInterface()["sdpa"])(lambda *given, **named: None)
    monkeypatch.setitem(AttentionInterface._global_mapping, "sdpa", wrong)
    with pytest.raises(
        rgb.InputError, match="'sdpa', which test_modules registered anew.*='eager'"
    ):
        rgb.wrap(*made, name="mine")
    monkeypatch.setitem(AttentionInterface._global_mapping, "mine", wrong)
    monkeypatch.setitem(AttentionMaskInterface._global_mapping, "mine", eager_mask)
    module.set_attn_implementation("mine")
    with pytest.raises(rgb.InputError, match="attends with 'mine', and patching needs .*='sdpa'"):
        rgb.wrap(*made, name="mine")


def test_the_vision_tower_may_attend_in_any_way(made):
    module, processor = made
    wanted = patched(*made)
    module.set_attn_implementation({"vision_config": "eager"})
    assert layer(module).self_attn.config._attn_implementation == "sdpa"
    pd.testing.assert_frame_equal(patched(*made), wanted, rtol=0, atol=1e-5)


def swap(module):
    layer(module).self_attn.o_proj = copy.deepcopy(layer(module).self_attn.v_proj)


def fewer(module):
    del module.model.language_model.layers[1]


CHANGES = {
    "heads": (
        lambda module: setattr(module.config.text_config, "num_attention_heads", 2),
        "config.text_config.num_attention_heads was changed from 4 to 2",
    ),
    "soft cap": (
        lambda module: setattr(module.config.text_config, "final_logit_softcapping", 2.0),
        "config.text_config.final_logit_softcapping was changed from nothing to 2.0",
    ),
    "window": (
        lambda module: setattr(module.config.text_config, "sliding_window", 4),
        "config.text_config.sliding_window was changed from nothing to 4",
    ),
    "image token": (
        lambda module: setattr(module.config, "image_token_id", 3),
        "config.image_token_(id|index) was changed from 4 to 3",
    ),
    "sees ahead": (
        lambda module: setattr(layer(module).self_attn, "is_causal", False),
        "is_causal of the attention in layer 1 was changed from True to False",
    ),
    "half": (lambda module: module.half(), "was brought from float32 to float16"),
    "a head": (
        lambda module: module.lm_head.double(),
        "lm_head.weight was brought from float32 to float64",
    ),
    "another part": (swap, r"the part .*layers.1.self_attn.o_proj was replaced by a Linear"),
    "a layer less": (fewer, r"the part .*layers.1 was taken away"),
}


@pytest.mark.parametrize(("change", "sentence"), CHANGES.values(), ids=CHANGES)
def test_what_was_changed_since_it_was_wrapped_is_named(made, change, sentence):
    module, processor = made
    model = rgb.wrap(*made, name="mine")
    trials = rgb.rgb_trials(model, 1)
    change(module)
    with pytest.raises(
        rgb.InputError, match=sentence + " since 'mine' was wrapped.*wrap or load it again"
    ):
        rgb.patch_heads(model, trials, progress=False)


def test_other_weights_are_taken_as_they_are(made):
    module, processor = made
    model = rgb.wrap(*made, name="mine")
    trials = rgb.rgb_trials(model, 1)
    before = rgb.patch_heads(model, trials, target="recolored", progress=False)
    layer(module).self_attn.v_proj.weight.data *= 2
    after = rgb.patch_heads(model, trials, target="recolored", progress=False)
    assert (after["effect"] - before["effect"]).abs().max() > 1e-3
    pd.testing.assert_frame_equal(after, patched(*made, trials))


def test_parts_in_several_number_formats_are_named(made):
    module, processor = made
    module.lm_head.double()
    with pytest.raises(
        rgb.InputError,
        match=r"in float32 \(.*\) and float64 \(lm_head.weight\), so bring them into one",
    ):
        rgb.wrap(*made, name="mine")


def test_a_vision_tower_in_another_format_than_the_rest_is_told_as_that():
    module, processor = random_llava(layers=2)
    module.model.vision_tower.to(torch.bfloat16)
    with pytest.raises(rgb.InputError, match="fails on a picture .*; its weights are in bfloat16"):
        rgb.wrap(module, processor, name="mixed")


def test_a_processor_that_makes_no_pixels_is_told_by_what_it_makes(monkeypatch):
    monkeypatch.setattr(
        import_module("rgb_circuit.loading.probe"),
        "inputs_of",
        lambda *given: {"input_ids": torch.tensor([[0]]), "patches": None},
    )
    with pytest.raises(rgb.InputError, match="makes no pixel_values .* but input_ids, patches;"):
        rgb.wrap(*random_llava(layers=2), name="odd")
