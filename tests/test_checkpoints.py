"""Checkpoints as they are found: all of a file's weights and no others, or a sentence that says why not."""

import json
import shutil

import pytest
import torch
from hub_folder import change, old_name, write_hub_folder
from safetensors.torch import load_file, save_file
from transformers import LlavaConfig, LlavaNextConfig, LlavaOnevisionConfig, PixtralVisionConfig

import rgb_circuit as rgb
from rgb_circuit.models.random import random_llava


@pytest.fixture
def folder(random_folder, tmp_path):
    """A copy of the grouped random LLaVA's folder."""
    shutil.copytree(random_folder["grouped"], tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A LLaVA with a padded vocabulary, its processor, and a folder of it laid out like the hub's."""
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
        name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()
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
            name: tensor for name, tensor in held.items() if ".layers.1.self_attn.q_proj" not in name
        },
    )
    with pytest.raises(
        rgb.InputError, match=r"3 tensors are missing .*layers.1.self_attn.q_proj.weight.*save_pretrained"
    ):
        rgb.load(str(folder))


def test_weights_under_another_name_are_refused_as_missing_and_left_over(folder):
    rewrite(
        folder,
        lambda held: {
            name.replace("multi_modal_projector", "mm_projector"): tensor for name, tensor in held.items()
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
            name for name in held if name.endswith("layers.0.mlp.down_proj.weight") and "language" in name
        )
        return held | {name: held[name][:, :-1].contiguous()}

    rewrite(folder, cut)
    with pytest.raises(
        rgb.InputError,
        match=r"1 tensor is of another shape \(.*down_proj.weight \(32 × 63 in the file, 32 × 64 in",
    ):
        rgb.load(str(folder))


def test_adapters_in_the_weights_are_refused_with_how_to_merge_them(folder):
    def adapted(held):
        name = next(
            name for name in held if "language" in name and name.endswith("layers.0.self_attn.q_proj.weight")
        )
        stem = name.removesuffix("weight")
        return held | {f"{stem}lora_A.weight": torch.ones(2, 32), f"{stem}lora_B.weight": torch.ones(32, 2)}

    rewrite(folder, adapted)
    with pytest.raises(rgb.InputError, match=r"2 tensors are left over .*lora_A.*merge_and_unload\(\)"):
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
        match=rf"holds adapters .adapter_config.json. {which} a model.*merge_and_unload\(\).*save_pretrained",
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


def test_pixtral_is_refused_as_not_supported(tmp_path):
    LlavaConfig(vision_config=PixtralVisionConfig(image_size=24, patch_size=4)).save_pretrained(tmp_path)
    with pytest.raises(
        rgb.InputError,
        match="Pixtral vision tower, which is not supported yet; use a LLaVA with a CLIP or SigLIP",
    ):
        rgb.load(str(tmp_path))


@pytest.mark.parametrize("kind", [LlavaNextConfig, LlavaOnevisionConfig])
def test_other_families_are_refused_by_their_name(kind, tmp_path):
    kind().save_pretrained(tmp_path)
    with pytest.raises(rgb.InputError, match=f"is a '{kind.model_type}' model, not a LLaVA"):
        rgb.load(str(tmp_path))


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
    with pytest.raises(rgb.InputError, match="config.json of .* is no LLaVA's"):
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
    with pytest.raises(rgb.InputError, match="cannot read the weights .*; save or download it again"):
        rgb.load(str(folder))


def test_a_truncated_file_is_refused(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(rgb.InputError, match="cannot read the weights .*; save or download it again"):
        rgb.load(str(folder))


def test_a_missing_shard_is_refused(published, tmp_path):
    shutil.copytree(published[2], tmp_path, dirs_exist_ok=True)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(rgb.InputError, match="cannot read the weights .*model-00002-of-00002.safetensors"):
        rgb.load(str(tmp_path))


@pytest.mark.parametrize("index", ["{", "{}", "[]"])
def test_an_index_that_is_none_is_refused(published, tmp_path, index):
    shutil.copytree(published[2], tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(rgb.InputError, match="cannot read the weights"):
        rgb.load(str(tmp_path))


@pytest.mark.parametrize("file", ["processor_config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_processor_that_cannot_be_read_is_refused(folder, file):
    (folder / file).write_text("{")
    with pytest.raises(rgb.InputError, match="has no processor that can be read .*processor.save_pretrained"):
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
