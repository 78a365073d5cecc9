"""Checkpoints as they are found: all of a file's weights and no others, or a sentence that says why
not."""

import json
import shutil

import families
import pytest
import torch
import transformers as hf
from hub_folder import change, old_name, write_hub_folder
from safetensors.torch import load_file, save_file

import rgb_circuit as rgb
from rgb_circuit.loading import checkpoints
from rgb_circuit.models import small
from rgb_circuit.models.random import random_llava


@pytest.fixture
def folder(random_folder, tmp_path):
    """A copy of the grouped random LLaVA's folder."""
    shutil.copytree(random_folder["grouped"], tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A LLaVA with a padded vocabulary, its processor, and a folder of it laid out like the
    hub's."""
    module, processor = random_llava(3, layers=3, kv_heads=2)
    module.resize_token_embeddings(len(processor.tokenizer) + 37, mean_resizing=False)
    # New embeddings are in training mode.
    module = module.half().eval()
    return (
        module,
        processor,
        write_hub_folder(module, processor, tmp_path_factory.mktemp("hub") / "llava-1.5-7b-hf"),
    )


def rewrite(folder, edit):
    """Give the tensors of a folder's file to ``edit``, and write what it returns."""
    file = folder / "model.safetensors"
    save_file(edit(load_file(file)), file, metadata={"format": "pt"})


def test_the_hubs_layout_loads_with_exactly_the_weights_of_its_files(published):
    module, _, folder = published
    model = rgb.load(str(folder))
    assert model.dtype == torch.float16 and model.n_kv_heads == 2
    here = model.nnsight._module.state_dict()
    filed = {
        name: tensor
        for file in folder.glob("*.safetensors")
        for name, tensor in load_file(file).items()
    }
    assert set(here) == set(module.state_dict())
    assert all(torch.equal(tensor, filed[old_name(name)]) for name, tensor in here.items())


def test_the_hubs_layout_plays_like_the_module_that_it_came_from(published):
    module, processor, folder = published
    model, origin = rgb.load(str(folder)), rgb.wrap(module, processor, name="origin")
    trials = rgb.rgb_trials(model, 2)
    one, other = (rgb.play(each, trials, progress=False) for each in (model, origin))
    assert one["answer"].tolist() == other["answer"].tolist()
    # Attention in half precision differs in its last bit between two calls.
    assert (one["logit_odd"] - other["logit_odd"]).abs().max() < 1e-2


def test_weights_that_are_missing_from_the_file_are_refused_by_name(folder):
    rewrite(
        folder,
        lambda held: {
            name: tensor
            for name, tensor in held.items()
            if ".layers.1.self_attn.q_proj" not in name
        },
    )
    with pytest.raises(
        rgb.InputError,
        match=r"3 tensors are missing .*layers.1.self_attn.q_proj.weight.*save_pretrained",
    ):
        rgb.load(str(folder))


def test_weights_under_another_name_are_refused_as_missing_and_left_over(folder):
    rewrite(
        folder,
        lambda held: {
            name.replace("multi_modal_projector", "mm_projector"): tensor
            for name, tensor in held.items()
        },
    )
    match = (
        r"4 tensors are missing \(.*multi_modal_projector.*, …\), 4 tensors are left over "
        r"\(.*mm_projector.*, …\)"
    )
    with pytest.raises(rgb.InputError, match=match):
        rgb.load(str(folder))


def test_a_tensor_of_another_shape_is_refused_with_both_shapes(folder):
    def cut(held):
        name = next(
            name
            for name in held
            if name.endswith("layers.0.mlp.down_proj.weight") and "language" in name
        )
        return held | {name: held[name][:, :-1].contiguous()}

    rewrite(folder, cut)
    with pytest.raises(
        rgb.InputError,
        match=r"1 tensor is of another shape \(.*down_proj.weight \(32 × 63 in the file, 32 × 64 "
        r"in",
    ):
        rgb.load(str(folder))


def test_adapters_in_the_weights_are_refused_with_how_to_merge_them(folder):
    def adapted(held):
        name = next(
            name
            for name in held
            if "language" in name and name.endswith("layers.0.self_attn.q_proj.weight")
        )
        stem = name.removesuffix("weight")
        return held | {
            f"{stem}lora_A.weight": torch.ones(2, 32),
            f"{stem}lora_B.weight": torch.ones(32, 2),
        }

    rewrite(folder, adapted)
    with pytest.raises(
        rgb.InputError, match=r"2 tensors are left over .*lora_A.*merge_and_unload\(\)"
    ):
        rgb.load(str(folder))


def test_what_old_files_hold_beside_the_weights_does_no_harm(folder):
    extra = {
        "language_model.model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
        "vision_tower.vision_model.embeddings.position_ids": torch.arange(37)[None],
        "vision_tower.vision_model.head.probe": torch.ones(1, 1, 32),
    }
    rewrite(folder, lambda held: held | extra)
    assert rgb.load(str(folder)).n_layers == 3


def test_two_loads_of_one_file_give_the_same_weights(folder):
    one, other = (rgb.load(str(folder)).nnsight._module.state_dict() for _ in range(2))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("instead", [False, True], ids=["beside", "instead of"])
def test_adapters_beside_or_instead_of_a_model_are_refused(folder, instead):
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": "llava-hf/llava-1.5-7b-hf"})
    )
    if instead:
        (folder / "config.json").unlink()
    which = "instead of" if instead else "beside"
    with pytest.raises(
        rgb.InputError,
        match=rf"holds adapters .adapter_config.json. {which} a "
        rf"model.*merge_and_unload\(\).*save_pretrained",
    ):
        rgb.load(str(folder))


def test_an_original_repository_is_refused_with_the_converted_one(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "model_type": "llava",
                "architectures": ["LlavaLlamaForCausalLM"],
                "hidden_size": 32,
                "mm_hidden_size": 1024,
            }
        )
    )
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(
        rgb.InputError,
        match="original LLaVA repositories.*converted for transformers .*llava-hf/llava-1.5-7b-hf",
    ):
        rgb.load(str(tmp_path))


TEXT = dict(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=64,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
VISION = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
# Families that attend in another way, and what is said of each.
OTHERS = {
    "cross attention": (
        lambda: hf.MllamaConfig(
            text_config=TEXT | {"cross_attention_layers": [1, 3]},
            vision_config=dict(
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_global_layers=1,
                attention_heads=2,
                image_size=24,
                patch_size=4,
                vision_output_dim=32,
                intermediate_layers_indices=[0],
            ),
        ),
        r"\(MllamaTextModel\) has no self_attn.o_proj in 2 of its 4 layers \(1, 3\), .*layer 1 "
        r"holds cross_attn \(MllamaTextCrossAttention\), mlp \(MllamaTextMLP\); .*Llama-style",
    ),
    "convolutions": (
        lambda: hf.Lfm2VlConfig(
            text_config=TEXT
            | {"model_type": "lfm2", "layer_types": ["conv", "full_attention"] * 2},
            vision_config=VISION | {"model_type": "siglip2_vision_model"},
        ),
        r"\(Lfm2Model\) has no self_attn.o_proj, .*layer 0 holds conv \(Lfm2ShortConv\), "
        r".*Llama-style",
    ),
    "linear attention": (
        lambda: hf.Qwen3_5Config(
            text_config=TEXT
            | {
                "head_dim": 8,
                "layer_types": ["linear_attention"] * 3 + ["full_attention"],
                "linear_num_key_heads": 2,
                "linear_num_value_heads": 2,
                "linear_key_head_dim": 8,
                "linear_value_head_dim": 8,
            },
            vision_config=dict(
                depth=1, hidden_size=16, intermediate_size=32, num_heads=2, out_hidden_size=32
            ),
        ),
        r"\(Qwen3_5TextModel\) has no self_attn.o_proj in 3 of its 4 layers \(0, 1, 2\), .*layer 0 "
        r"holds linear_attn \(Qwen3_5GatedDeltaNet\), .*Llama-style",
    ),
    "heads of two sizes": (
        lambda: hf.Gemma4Config(
            text_config=TEXT
            | {
                "head_dim": 8,
                "global_head_dim": 16,
                "layer_types": ["sliding_attention", "full_attention"] * 2,
                "vocab_size_per_layer_input": 64,
                "hidden_size_per_layer_input": 8,
                "num_kv_shared_layers": 0,
            },
            vision_config=VISION,
        ),
        "the heads of .* are not of one size: o_proj reads 32 or 64 numbers, by layer",
    ),
    "a Q-Former": (
        lambda: hf.InstructBlipConfig(),
        r"of type 'instructblip', which is not known to look at pictures through image tokens in "
        r"its prompt \(its configuration has no image_token_id\)",
    ),
    "a resampler": (
        lambda: hf.Idefics2Config(
            text_config=TEXT | {"model_type": "mistral", "rms_norm_eps": 1e-6},
            vision_config=VISION,
            perceiver_config=dict(resampler_n_latents=16, hidden_size=32, rms_norm_eps=1e-6),
        ),
        "makes the tokens of a picture by a resampler .*perceiver_config.* no token stands for a "
        "place",
    ),
}


@pytest.mark.parametrize("family", OTHERS)
def test_families_that_attend_in_another_way_are_refused_with_the_reason(family, tmp_path):
    made, reason = OTHERS[family]
    config = made()
    config.save_pretrained(tmp_path)
    small.processor(6, 4).save_pretrained(tmp_path)
    with pytest.raises(rgb.InputError, match=reason):
        rgb.load(str(tmp_path))
    with torch.device("meta"):
        module = hf.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)](config)
    with pytest.raises(rgb.InputError, match=reason):
        rgb.wrap(module, small.processor(6, 4), name="mine")


@pytest.mark.parametrize(
    "kind", [hf.LlavaNextConfig, hf.LlavaOnevisionConfig, hf.Qwen2_5_VLConfig, hf.Gemma3Config]
)
def test_the_processor_of_another_model_is_refused(kind, tmp_path):
    kind().save_pretrained(tmp_path)
    small.processor(6, 4).save_pretrained(tmp_path)
    with pytest.raises(
        rgb.InputError,
        match="the (image )?processor of .* (writes no image token of the model's|makes 24 × 24 "
        "px)",
    ):
        rgb.load(str(tmp_path))


def test_a_package_that_a_vision_tower_lacks_is_named(tmp_path, monkeypatch):
    def lacks(config):
        raise ImportError("it requires the timm library")

    hf.VipLlavaConfig().save_pretrained(tmp_path)
    monkeypatch.setitem(
        checkpoints.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING._extra_content, hf.VipLlavaConfig, lacks
    )
    with pytest.raises(
        rgb.InputError, match="needs a package that is not installed .*timm library.; install it"
    ):
        rgb.load(str(tmp_path))


@pytest.mark.parametrize(
    "name",
    [
        "llava_pixtral", "llava_next", "paligemma2", "glm4v", "glm46v", "cohere2_vision",
        "deepseek_vl",
        "qwen3_vl_moe", "video_llama_3", "lighton_ocr", "llava_next_video", "exaone4_5",
    ],
)  # fmt: skip
def test_other_families_load_from_a_folder(name, tmp_path, capsys):
    family = families.FAMILIES[name]
    model = rgb.load(families.saved(name, tmp_path), tiles=family.tiles)
    assert model.grid == (family.grid, family.grid) and len(model.layout.views) == family.views
    kernel = model.config.text_config._attn_implementation
    assert kernel == ("eager" if name == "paligemma2" else "sdpa")
    assert ("runs with 'eager'" in capsys.readouterr().err) == (name == "paligemma2")
    with pytest.raises(
        rgb.InputError,
        match="use a whole number per side" if family.any_size else "leave tiles out",
    ):
        rgb.load(tmp_path, tiles=1)


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(rgb.InputError, match="has no config.json, so it is no model"):
        rgb.load(str(tmp_path))


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"model_type": null}', "\x00"])
def test_a_configuration_that_is_none_is_refused(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(rgb.InputError, match="config.json"):
        rgb.load(str(folder))


@pytest.mark.parametrize(
    "part, entry, value",
    [
        (None, "vision_feature_select_strategy", "some"),
        (None, "text_config", {"model_type": "no such model"}),
        (None, "vision_config", {"model_type": "siglip_vision_model", "hidden_size": "wide"}),
        (None, "text_config", 3),
    ],
)
def test_a_configuration_that_no_llava_has_is_refused(folder, part, entry, value):
    change(folder / "config.json", **{entry: value})
    with pytest.raises(
        rgb.InputError, match="config.json of .* describes no model of type 'llava' .*again"
    ):
        rgb.load(str(folder))


def test_a_model_that_transformers_does_not_know_is_refused_by_its_type(folder):
    change(folder / "config.json", model_type="molmo")
    with pytest.raises(
        rgb.InputError,
        match="is a model of type 'molmo', which transformers does not know by itself",
    ):
        rgb.load(str(folder))


def test_a_configuration_that_is_a_folder_is_refused(folder):
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()
    with pytest.raises(rgb.InputError, match="cannot read config.json"):
        rgb.load(str(folder))


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(rgb.InputError, match="has no weights"):
        rgb.load(str(folder))


@pytest.mark.parametrize("content", [b"", b"\x00" * 100], ids=["empty", "zeros"])
def test_a_file_that_is_no_safetensors_is_refused(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(
        rgb.InputError, match="cannot read the weights .*; save or download it again"
    ):
        rgb.load(str(folder))


def test_a_truncated_file_is_refused(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(
        rgb.InputError, match="cannot read the weights .*; save or download it again"
    ):
        rgb.load(str(folder))


def test_a_missing_shard_is_refused(published, tmp_path):
    shutil.copytree(published[2], tmp_path, dirs_exist_ok=True)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(
        rgb.InputError, match="cannot read the weights .*model-00002-of-00002.safetensors"
    ):
        rgb.load(str(tmp_path))


@pytest.mark.parametrize("index", ["{", "{}", "[]"])
def test_an_index_that_is_none_is_refused(published, tmp_path, index):
    shutil.copytree(published[2], tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(rgb.InputError, match="cannot read the weights"):
        rgb.load(str(tmp_path))


@pytest.mark.parametrize(
    "file", ["processor_config.json", "tokenizer.json", "tokenizer_config.json"]
)
def test_a_processor_that_cannot_be_read_is_refused(folder, file):
    (folder / file).write_text("{")
    with pytest.raises(
        rgb.InputError, match="has no processor that can be read .*processor.save_pretrained"
    ):
        rgb.load(str(folder))


def test_a_tokenizer_alone_is_no_processor(folder):
    for file in ("processor_config.json", "preprocessor_config.json"):
        (folder / file).unlink(missing_ok=True)
    change(folder / "tokenizer_config.json", processor_class=None)
    with pytest.raises(rgb.InputError, match="processor.save_pretrained"):
        rgb.load(str(folder))


def test_shipped_models_fit_their_configurations():
    for model in map(rgb.load, ("toy", "planted")):
        assert model.picture_px == model.grid[0] * model.tile_px


def test_a_weight_format_that_needs_a_package_says_which(folder):
    change(folder / "config.json", quantization_config={"quant_method": "awq", "bits": 4})
    with pytest.raises(
        rgb.InputError, match="loading .* needs a package that is not installed .*; install it"
    ):
        rgb.load(str(folder))


def test_a_quantisation_that_is_not_applied_is_told(folder):
    change(folder / "config.json", quantization_config={"quant_method": "bogus"})
    with pytest.warns(UserWarning, match=r"quantised \('bogus'\), but .* in float32"):
        rgb.load(str(folder))


def test_a_device_that_does_not_exist_is_refused(folder):
    with pytest.raises(
        rgb.InputError, match="cannot load the weights .*device_map={'': 'nowhere:3'}.*a device"
    ):
        rgb.load(str(folder), device_map={"": "nowhere:3"})


def test_what_another_package_says_at_length_is_cut(folder):
    change(folder / "config.json", text_config={"model_type": "no such model"})
    with pytest.raises(rgb.InputError, match="no such model") as refused:
        rgb.load(str(folder))
    assert len(str(refused.value)) < 500
