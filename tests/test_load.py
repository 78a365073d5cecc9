"""Loading: geometry, the checks that a head is what we take it for, and what is refused."""

import json
import shutil
import warnings

import pandas as pd
import pytest
import torch
from transformers import BertConfig, BertModel, LlavaForConditionalGeneration

import rgb_circuit as rgb
from analyses.study.check import check
from rgb_circuit import loading
from rgb_circuit.models.random import random_llava
from rgb_circuit.models.small import COLORS
from rgb_circuit.programs import capture, probed
from rgb_circuit.prompts import encode, locate
from rgb_circuit.stimuli.drawing import words_for
from rgb_circuit.stimuli.tasks import find


def test_geometry_comes_from_the_configuration(model):
    text = model.config.text_config
    assert (model.n_layers, model.n_heads, model.n_kv_heads, model.d_head) == (
        text.num_hidden_layers,
        text.num_attention_heads,
        text.num_key_value_heads,
        text.head_dim,
    )
    assert model.grid == (6, 6) and model.tile_px == 4
    assert len(model.heads()) == model.n_layers * model.n_heads


def test_the_model_is_hugging_faces_own(grouped):
    assert type(grouped.nnsight._module) is LlavaForConditionalGeneration
    trial = rgb.rgb_trials(grouped, 1)[0]
    inputs = encode(grouped, [(trial, "clean")])
    with torch.no_grad():
        bare = LlavaForConditionalGeneration.from_pretrained(grouped.name)(**inputs).logits[0, -1]
    played = rgb.play(grouped, [trial], ["clean"], progress=False)
    assert played["logit_odd"][0] == pytest.approx(
        float(bare[grouped.token(trial.answers["odd"], trial.prompt)]), abs=1e-5
    )


def test_answers_are_read_in_the_models_own_form(grouped):
    prompt = rgb.rgb_trial().prompt
    assert words_for(grouped, find("rgb")) == COLORS
    assert grouped.processor.tokenizer.decode([grouped.token("red", prompt)]) == "red"
    with pytest.raises(rgb.InputError, match="'mauve'.*vocabulary"):
        grouped.token("mauve", prompt)


def test_half_precision_loads_and_reports_effects_in_float32(random_folder):
    model = rgb.load(str(random_folder["grouped"]), dtype="bfloat16")
    assert model.dtype is torch.bfloat16
    frame = rgb.patch_heads(model, rgb.rgb_trials(model, 1), progress=False)
    assert frame["effect"].dtype == "float32"


def test_what_shows_no_pictures_is_refused(tmp_path):
    BertModel(
        BertConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            vocab_size=8,
        )
    ).save_pretrained(tmp_path)
    with pytest.raises(
        rgb.InputError, match="of type 'bert', which is not known to look at pictures"
    ):
        rgb.load(str(tmp_path))


def test_a_missing_model_is_refused(tmp_path):
    with pytest.raises(rgb.InputError, match="there is no folder .*nowhere.*toy, planted"):
        rgb.load(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    "name, meant",
    [("toyy", "'toy'"), ("Planted", "'planted'"), ("llava-1.5-7b", "'llava-hf/llava-1.5-7b-hf'")],
)
def test_a_misspelt_name_is_refused_with_the_nearest_one_without_asking_the_network(
    name, meant, monkeypatch
):
    monkeypatch.setattr(loading, "find", None)
    with pytest.raises(rgb.InputError, match=f"{name}.*did you mean {meant}"):
        rgb.load(name)


@pytest.mark.parametrize(
    "name",
    [
        "C:\\models\\llava",
        "/nowhere/llava",
        "./nowhere",
        "a/b/c",
        "llava-hf/no such model",
        "no name",
    ],
)
def test_what_can_be_no_hub_id_is_refused_without_asking_the_network(name, monkeypatch):
    monkeypatch.setattr(loading, "find", None)
    with pytest.raises(rgb.InputError, match="no folder.*save_pretrained.*hub id"):
        rgb.load(name)


def test_a_file_in_place_of_its_folder_is_refused(random_folder):
    with pytest.raises(
        rgb.InputError, match="config.json' is a file; give the folder that holds it"
    ):
        rgb.load(random_folder["grouped"] / "config.json")


def test_a_name_that_is_none_is_refused():
    with pytest.raises(rgb.InputError, match="name is None; give"):
        rgb.load(None)


def test_a_folder_may_be_given_as_a_path(random_folder):
    assert rgb.load(random_folder["grouped"]).name == str(random_folder["grouped"])


def test_large_models_are_announced_on_standard_error_and_small_ones_are_not(
    random_folder, monkeypatch, capsys
):
    def said():
        bare = [line for line in capsys.readouterr().err.splitlines() if "…" in line]
        return [line.rstrip() for line in bare]

    rgb.load(random_folder["grouped"])
    rgb.load("toy")
    assert said() == []
    monkeypatch.setattr(loading, "LARGE", 1e4)
    rgb.load(random_folder["grouped"], dtype="bfloat16")
    loaded, checked = said()
    assert "loading 0.0 GB of weights in bfloat16 …" in loaded
    assert "checking on a few pictures that patching its heads does what it should …" in checked


@pytest.mark.parametrize("missing", ["processor_config.json", "tokenizer.json"])
def test_a_folder_without_its_processor_is_refused(random_folder, tmp_path, missing):
    shutil.copytree(random_folder["grouped"], tmp_path, dirs_exist_ok=True)
    (tmp_path / missing).unlink()
    with pytest.raises(rgb.InputError, match="processor.save_pretrained"):
        rgb.load(str(tmp_path))


def test_the_published_stimulus_is_shown_tile_by_token_at_llavas_size():
    shape = dict(layers=2, heads=2, kv_heads=2, d_head=8, width=16)
    model = rgb.wrap(*random_llava(grid=24, tile_px=14, **shape), name="24 × 24")
    trial = rgb.published_trial()
    inputs = encode(model, [(trial, "clean")])
    assert (inputs["input_ids"] == model.config.image_token_id).sum() == 576 and inputs[
        "pixel_values"
    ].shape[-2:] == (336, 336)
    frame = rgb.patch_heads(model, [trial], progress=False)
    assert len(frame) == 2 * 4 * 5 and (frame["effect"] != 0).any()
    resampled = rgb.rgb_trial(tile_px=15)
    with pytest.raises(rgb.InputError, match="360 × 360 px.*exactly one image token"):
        rgb.patch_heads(model, [resampled])


def test_a_vision_tower_that_keeps_its_class_token_puts_it_before_the_tiles():
    module, processor = random_llava(layers=2)
    module.config.vision_feature_select_strategy = processor.vision_feature_select_strategy = "full"
    model = rgb.wrap(module, processor, name="full")
    [trial] = rgb.rgb_trials(model, 1, tile=(2, 3))
    ids = encode(model, [(trial, "clean")])["input_ids"][0]
    image = locate(model, trial, "image", ids)
    assert len(image) == 37
    assert locate(model, trial, "tile", ids) == [image[0] + 1 + 2 * 6 + 3]


def test_attention_that_takes_no_mask_is_refused():
    with pytest.raises(rgb.InputError, match="flash_attention_2.*'sdpa' or 'eager'"):
        rgb.load("toy", attn_implementation="flash_attention_2")


def test_a_number_format_or_device_that_does_not_exist_is_refused():
    with pytest.raises(rgb.InputError, match="float99.*'float32'"):
        rgb.load("toy", dtype="float99")
    with pytest.raises(rgb.InputError, match="int8.*'float32'"):
        rgb.load("toy", dtype="int8")
    if not torch.cuda.is_available():
        with pytest.raises(rgb.InputError, match="'cuda'.*no GPU.*'cpu'"):
            rgb.load("toy", device_map="cuda")


def test_weights_that_are_not_finite_are_refused(random_folder, tmp_path):
    model = LlavaForConditionalGeneration.from_pretrained(random_folder["grouped"])
    with torch.no_grad():
        model.lm_head.weight[0, 0] = torch.nan
    shutil.copytree(random_folder["grouped"], tmp_path, dirs_exist_ok=True)
    model.save_pretrained(tmp_path)
    with pytest.raises(rgb.InputError, match="not finite"):
        rgb.load(str(tmp_path))


def test_heads_that_do_nothing_are_refused(random_folder, tmp_path):
    model = LlavaForConditionalGeneration.from_pretrained(random_folder["grouped"])
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            layer.self_attn.o_proj.weight.zero_()
    shutil.copytree(random_folder["grouped"], tmp_path, dirs_exist_ok=True)
    model.save_pretrained(tmp_path)
    with pytest.raises(rgb.InputError, match="zeroing every head leaves its logits unchanged"):
        rgb.load(str(tmp_path))


def test_a_forward_that_does_not_go_on_from_what_was_captured_is_refused(
    random_folder, monkeypatch
):
    def forgotten(*arguments):
        captured = capture.capture(*arguments)
        captured.values = [torch.zeros_like(values) for values in captured.values]
        return captured

    monkeypatch.setattr(probed, "capture", forgotten)
    with pytest.raises(rgb.InputError, match="goes on from the keys and values of another"):
        rgb.load(str(random_folder["grouped"]))


def test_nothing_that_transformers_means_to_remove_is_used(random_folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        model = rgb.load(str(random_folder["grouped"]))
        for positions in ("end", "tile", "all"):
            rgb.patch_heads(
                model,
                rgb.rgb_trials(model, 1),
                positions=positions,
                component="pattern",
                progress=False,
            )


def test_pickled_weights_are_refused(random_folder, tmp_path):
    shutil.copytree(random_folder["grouped"], tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").unlink()
    torch.save(
        LlavaForConditionalGeneration.from_pretrained(random_folder["grouped"]).state_dict(),
        tmp_path / "pytorch_model.bin",
    )
    with pytest.raises(rgb.InputError, match="safetensors"):
        rgb.load(str(tmp_path))


def test_code_in_a_model_repository_is_not_run(random_folder, tmp_path):
    shutil.copytree(random_folder["grouped"], tmp_path, dirs_exist_ok=True)
    marker = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: pass\n")
    config = json.loads((tmp_path / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Evil", "AutoModelForImageTextToText": "evil.Evil"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    rgb.load(str(tmp_path))
    assert not marker.exists()


def test_an_attention_that_a_checkpoint_asks_for_is_loaded_as_one_that_takes_masks(
    random_folder, tmp_path
):
    folder = tmp_path / "flash"
    shutil.copytree(random_folder["grouped"], folder)
    config = json.loads((folder / "config.json").read_text())
    config["attn_implementation"] = "flash_attention_2"
    config["text_config"]["attn_implementation"] = "flash_attention_2"
    (folder / "config.json").write_text(json.dumps(config))
    model = rgb.load(folder)
    assert model.config.text_config._attn_implementation == "sdpa"


def test_a_configuration_that_one_kernel_does_not_go_with_is_named(random_folder, tmp_path):
    folder = tmp_path / "watched"
    shutil.copytree(random_folder["grouped"], folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["output_attentions"] = True
    (folder / "config.json").write_text(json.dumps(config | {"output_attentions": True}))
    with pytest.raises(rgb.InputError, match="refuses the configuration .*output_attentions"):
        rgb.load(folder)
    rgb.load(folder, attn_implementation="eager")


def frames(model, trials):
    """What some functions find."""
    edits = [rgb.Edit(1, 1, "zero")]
    return [
        rgb.patch_heads(model, trials, target="recolored", progress=False),
        rgb.patch_heads(model, trials, target="recolored", positions="all", progress=False),
        rgb.attribute(model, trials, target="recolored", progress=False),
        rgb.play(model, trials, progress=False),
        rgb.generate(model, trials[0], edits=edits, max_new_tokens=2).tokens,
    ]


def test_numbers_are_the_same_whatever_torchs_default_number_format(grouped):
    trials = rgb.rgb_trials(grouped, 1)
    wanted = frames(grouped, trials)
    torch.set_default_dtype(torch.float64)
    try:
        model = rgb.load(grouped.name)
        for frame, other in zip(frames(model, trials), wanted, strict=True):
            pd.testing.assert_frame_equal(frame, other)
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def set_backend():
    torch.backends.cuda.matmul.fp32_precision = "tf32"


@pytest.mark.parametrize(
    "asked", [lambda: torch.set_float32_matmul_precision("high"), set_backend], ids=["all", "a GPU"]
)
def test_numbers_are_the_same_whether_a_gpu_may_round_to_tf32(grouped, asked, monkeypatch):
    plain, cuda = torch.nn.functional.linear, torch.backends.cuda.matmul

    def rounded(numbers):
        return ((numbers.contiguous().view(torch.int32) + 2**12) & -(2**13)).view(torch.float32)

    def as_on_a_gpu(given, weight, bias=None):
        if cuda.fp32_precision == "tf32":
            given, weight = rounded(given), rounded(weight)
        return plain(given, weight, bias)

    trials = rgb.rgb_trials(grouped, 1)
    wanted = frames(grouped, trials)
    monkeypatch.setattr(torch.nn.functional, "linear", as_on_a_gpu)
    asked()
    try:
        model = rgb.load(grouped.name)
        for frame, other in zip(frames(model, trials), wanted, strict=True):
            pd.testing.assert_frame_equal(frame, other)
        assert check(model, trials=1, progress=False).agrees
        assert cuda.fp32_precision == "tf32"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_numbers_are_the_same_whatever_is_said_of_gradients(grouped, mode):
    trials = rgb.rgb_trials(grouped, 1)
    wanted = rgb.patch_heads(grouped, trials, target="recolored", progress=False)
    with mode():
        model = rgb.load(grouped.name)
        found = rgb.patch_heads(model, trials, target="recolored", progress=False)
    pd.testing.assert_frame_equal(found, wanted)


def test_autocast_is_refused_with_what_it_would_do(grouped):
    trials = rgb.rgb_trials(grouped, 1)
    with torch.autocast("cpu", torch.bfloat16):
        for run in (lambda: rgb.load(grouped.name), lambda: rgb.play(grouped, trials)):
            with pytest.raises(
                rgb.InputError, match="autocast is on, .*bfloat16; call this outside of it"
            ):
                run()
