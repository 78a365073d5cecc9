"""Processors as they are found: what the model knows is filled in, the rest refused by its name."""

import copy
import json

import pandas as pd
import pytest
import torch
from hub_folder import change
from PIL import Image
from tokenizers import Tokenizer
from transformers import (
    BaseImageProcessor,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessorPil,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
)

import rgb_circuit as rgb
from rgb_circuit.conversation import prompt
from rgb_circuit.loading.processors import fitted
from rgb_circuit.models import small
from rgb_circuit.models.random import random_llava
from rgb_circuit.stimuli.tasks.rgb import ODD_QUESTION


def llava(vision, strategy="full", layer=-1, tokenizer=None, **settings):
    """A LLaVA with the default initialisation on a vision tower, in evaluation mode."""
    torch.manual_seed(0)
    tokenizer = tokenizer or small.tokenizer()
    text = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        initializer_range=0.5, vocab_size=len(tokenizer) + 8, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    settings = {"image_token_index": tokenizer.convert_tokens_to_ids("<image>")} | settings
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        vision_feature_select_strategy=strategy,
        vision_feature_layer=layer,
        **settings,
    )
    return LlavaForConditionalGeneration(config).eval()


def tower(kind, image=24, patch=4, **settings):
    return kind(
        image_size=image,
        patch_size=patch,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        **settings,
    )


def llava_processor(image_processor, **settings):
    """A LLaVA processor that knows nothing of its model."""
    return LlavaProcessor(image_processor=image_processor, tokenizer=small.tokenizer(), **settings)


def siglip(image, patch):
    exact = SiglipImageProcessorPil(size={"height": image, "width": image})
    return llava(tower(SiglipVisionConfig, image, patch)), llava_processor(exact)


def written(processor, module, side):
    """Image tokens that a processor writes for one picture."""
    ids = processor(
        text=[prompt(ODD_QUESTION)], images=[Image.new("RGB", (side, side))], return_tensors="pt"
    )["input_ids"]
    return int((ids == module.config.image_token_id).sum())


BOOKKEEPING = [
    {"patch_size": None},
    {"patch_size": 14},
    {"vision_feature_select_strategy": None},
    {"vision_feature_select_strategy": "full"},
    {"num_additional_image_tokens": 0},
    {"num_additional_image_tokens": 2},
    {"image_token": "<picture>", "image_token_id": 3},
    {"patch_size": None, "vision_feature_select_strategy": None, "num_additional_image_tokens": 0},
]


@pytest.mark.parametrize(
    "wrong",
    BOOKKEEPING,
    ids=lambda wrong: " ".join(f"{name}={value}" for name, value in wrong.items()),
)
def test_what_a_processor_lacks_or_has_wrong_is_taken_from_the_model(grouped, wrong):
    trials = rgb.rgb_trials(grouped, 1)
    found = copy.deepcopy(grouped.processor)
    for name, value in wrong.items():
        setattr(found, name, value)
    model = rgb.wrap(grouped.nnsight._module, found, name=grouped.name)
    pd.testing.assert_frame_equal(
        rgb.play(model, trials, progress=False), rgb.play(grouped, trials, progress=False)
    )


def test_a_folder_whose_processor_says_nothing_of_its_model_loads(random_folder, tmp_path):
    small.save(*random_llava(layers=2), tmp_path)
    nothing = dict.fromkeys(
        (
            "patch_size",
            "vision_feature_select_strategy",
            "num_additional_image_tokens",
            "image_token",
        )
    )
    change(tmp_path / "processor_config.json", **nothing)
    assert not set(nothing) & set(json.loads((tmp_path / "processor_config.json").read_text()))
    model = rgb.load(str(tmp_path))
    assert written(model.processor, model.nnsight._module, 24) == 36


def test_wrap_leaves_the_callers_model_and_processor_as_they_are():
    module, processor = random_llava(layers=2)
    processor.patch_size, processor.tokenizer.padding_side, processor.tokenizer.pad_token = (
        None,
        "right",
        None,
    )
    before = processor.to_json_string(), module.config.to_json_string()
    weights = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    model = rgb.wrap(module, processor, name="mine")
    assert model.nnsight._module is module and model.processor is not processor
    assert (processor.to_json_string(), module.config.to_json_string()) == before
    assert processor.patch_size is None
    assert (processor.tokenizer.padding_side, processor.tokenizer.pad_token) == ("right", None)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize(
    "vision, strategy, class_tokens",
    [
        (tower(CLIPVisionConfig), "default", 1),
        (tower(CLIPVisionConfig), "full", 1),
        (tower(Dinov2Config), "default", 1),
        (tower(SiglipVisionConfig), "full", 0),
    ],
    ids=["CLIP", "CLIP that keeps its class token", "DINOv2", "SigLIP"],
)
def test_a_processor_writes_a_token_for_every_feature_whatever_the_tower(
    vision, strategy, class_tokens
):
    module = llava(vision, strategy, layer=-2)
    reads = CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    processor = fitted(llava_processor(reads), module, "some tower")
    pixels = processor(
        text=[prompt(ODD_QUESTION)], images=[Image.new("RGB", (24, 24))], return_tensors="pt"
    )["pixel_values"]
    with torch.no_grad():
        features = module.get_image_features(pixel_values=pixels, return_dict=True).pooler_output[0]
    assert (
        written(processor, module, 24)
        == len(features)
        == 36 + (class_tokens if strategy == "full" else 0)
    )
    assert rgb.wrap(module, llava_processor(reads), name="some tower").grid == (6, 6)


@pytest.mark.parametrize("image, patch, side", [(40, 6, 6), (384, 14, 27)])
def test_a_siglip_tower_leaves_a_margin_that_is_no_token(tmp_path, image, patch, side):
    model = rgb.load(str(small.save(*siglip(image, patch), tmp_path)))
    assert (model.grid, model.tile_px, model.picture_px) == ((side, side), patch, image)
    assert written(model.processor, model.nnsight._module, image) == side * side


def test_the_picture_of_a_tower_without_a_margin_is_its_tiles(grouped):
    assert grouped.picture_px == grouped.grid[0] * grouped.tile_px


def test_a_strategy_that_would_drop_a_patch_is_refused_by_name():
    module, processor = siglip(24, 4)
    module.config.vision_feature_select_strategy = "default"
    with pytest.raises(
        rgb.InputError, match="vision_feature_select_strategy .* 'default'.*lose a patch.*'full'"
    ):
        rgb.wrap(module, processor, name="SigLIP")


def test_features_that_are_no_square_of_tiles_are_refused():
    module = llava(tower(Dinov2WithRegistersConfig))
    processor = random_llava(layers=1)[1]
    with pytest.raises(
        rgb.InputError, match="41 features of a picture, not 6 × 6 and at most a class token"
    ):
        rgb.wrap(module, processor, name="registers")


SQUARE = {"height": 24, "width": 24}
SETTINGS = [
    ("crop_size", {"size": {"shortest_edge": 24}, "crop_size": {"height": 28, "width": 28}}),
    (
        "size = .* and crop_size",
        {"size": {"shortest_edge": 48}, "crop_size": {"height": 48, "width": 48}},
    ),
    (
        "do_center_crop",
        {"size": {"shortest_edge": 24}, "crop_size": SQUARE, "do_center_crop": False},
    ),
    ("size", {"size": {"height": 32, "width": 32}, "do_center_crop": False}),
    ("do_resize", {"size": SQUARE, "do_resize": False, "do_center_crop": False}),
]


@pytest.mark.parametrize("named, settings", SETTINGS)
def test_pictures_of_another_size_than_the_tower_takes_are_refused_by_the_setting(
    named, settings, tmp_path
):
    module, processor = random_llava(layers=1)
    processor.image_processor = CLIPImageProcessorPil(**settings)
    with pytest.raises(
        rgb.InputError,
        match=r"of a picture of \d+ × \d+ px, but the vision tower takes 24 × 24 px; set " + named,
    ):
        rgb.load(str(small.save(module, processor, tmp_path)))


def test_an_image_processor_that_enlarges_and_cuts_what_has_the_right_size_is_refused():
    module, processor = random_llava(layers=1)
    processor.image_processor = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=SQUARE)
    with pytest.raises(
        rgb.InputError,
        match=r"resizes or crops even a picture of 24 × 24 px.*; set size = {'shortest_edge': 24} "
        r"in",
    ):
        rgb.wrap(module, processor, name="mine")


@pytest.mark.parametrize("named, settings", SETTINGS)
def test_the_setting_that_a_refusal_names_helps(named, settings):
    module, processor = random_llava(layers=1)
    processor.image_processor = CLIPImageProcessorPil(**settings)
    with pytest.raises(rgb.InputError) as refused:
        rgb.wrap(module, processor, name="mine")
    advice = str(refused.value).split("; set ")[1].split(" in preprocessor_config.json")[0]
    for setting in advice.split(" and "):
        name, value = setting.split(" = ")
        setattr(processor.image_processor, name, eval(value))
    assert rgb.wrap(module, processor, name="mine").grid == (6, 6)


def test_a_processor_that_pads_to_a_square_is_taken():
    module, processor = random_llava(layers=1)
    processor.image_processor = LlavaImageProcessorPil(
        do_pad=True, size={"shortest_edge": 24}, crop_size=SQUARE
    )
    assert rgb.wrap(module, processor, name="pads").picture_px == 24


def test_an_image_processor_that_cuts_pictures_up_is_refused():
    class Crops(CLIPImageProcessorPil):
        def __call__(self, *args, **kwargs):
            shown = super().__call__(*args, **kwargs)
            shown["pixel_values"] = shown["pixel_values"][:, None]
            return shown

    module, processor = random_llava(layers=1)
    processor.image_processor = Crops(size={"shortest_edge": 24}, crop_size=SQUARE)
    with pytest.raises(
        rgb.InputError, match=r"\(1, 1, 3, 24, 24\) numbers of a picture.*24 × 24 px"
    ):
        rgb.wrap(module, processor, name="crops")


def test_an_image_processor_that_cannot_read_a_picture_says_so():
    class Broken(BaseImageProcessor):
        pass

    module, processor = random_llava(layers=1)
    processor.image_processor = Broken()
    with pytest.raises(
        rgb.InputError,
        match="image processor of 'mine' .Broken. cannot read a picture of 24 × 24 px",
    ):
        rgb.wrap(module, processor, name="mine")


def test_a_tokenizer_without_the_image_token_gets_it_where_the_model_looks_for_it():
    module, processor = random_llava(layers=1)
    held = json.loads(processor.tokenizer.backend_tokenizer.to_str())
    # The vocabulary without the image token, the ids that come after it moved up.
    words = sorted(held["model"]["vocab"], key=held["model"]["vocab"].get)
    held["model"]["vocab"] = {
        word: id for id, word in enumerate(word for word in words if word != "<image>")
    }
    held["added_tokens"] = [
        token for token in held["added_tokens"] if token["content"] != "<image>"
    ]
    last = len(words) - 1
    processor.tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(held)),
        bos_token="<s>",
        unk_token="<unk>",
        pad_token="<pad>",
    )
    assert "<image>" not in processor.tokenizer.get_vocab() and len(processor.tokenizer) == last
    module.config.image_token_id = last
    model = rgb.wrap(module, processor, name="lacks <image>")
    assert written(model.processor, module, 24) == 36
    assert "<image>" not in processor.tokenizer.get_vocab()


def test_an_image_token_that_model_and_tokenizer_do_not_share_is_refused():
    module, processor = random_llava(layers=1)
    module.config.image_token_id = 7
    with pytest.raises(
        rgb.InputError,
        match="'<image>'.*is token 4 of its tokenizer.*at token 7 .image_token_id.; set "
        "image_token_id = 4",
    ):
        rgb.wrap(module, processor, name="mine")


@pytest.mark.parametrize(
    "given",
    [None, "processor", small.tokenizer(), CLIPImageProcessorPil()],
    ids=lambda given: type(given).__name__,
)
def test_what_is_no_processor_is_refused(given):
    module, _ = random_llava(layers=1)
    with pytest.raises(
        rgb.InputError,
        match=f"'mine' has a {type(given).__name__}, which does not prepare pictures and words",
    ):
        rgb.wrap(module, given, name="mine")
