"""Processors read from folders: what they show is what the saved ones show, with torchvision and
without."""

import copy
import json
from importlib.util import find_spec
from math import e, pi

import families
import pytest
import torch
from families import FAMILIES, add_video_part, inputs, prompt
from transformers import AutoProcessor
from transformers.utils import is_torchvision_available

from rgb_circuit.boards import draw
from rgb_circuit.errors import InputError
from rgb_circuit.processor_parts import read_processor, without_video
from rgb_circuit.stimuli.tasks.rgb import BACKGROUND_QUESTION

RED, BLUE, CYAN = (255, 0, 0), (0, 0, 255), (0, 255, 255)


def buildable(names):
    """Names as parameters; those that need a package that is not here are skipped."""
    return [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                FAMILIES[name].needs is not None and find_spec(FAMILIES[name].needs) is None,
                reason=f"{name}'s processor needs {FAMILIES[name].needs}",
            ),
        )
        for name in names
    ]


@pytest.fixture(params=buildable(FAMILIES))
def name(request):
    return request.param


def as_published_long_ago(processor, folder):
    """Settings, template and class in the files of before transformers 5: none nested in
    another's."""
    processor.save_pretrained(folder)
    settings = processor.image_processor.to_dict() | {"processor_class": type(processor).__name__}
    settings["image_processor_type"] = settings["image_processor_type"].removesuffix("Pil")
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    file = folder / "processor_config.json"
    kept = {
        key: value
        for key, value in json.loads(file.read_text()).items()
        if not isinstance(value, dict)
    }
    file.write_text(json.dumps(kept))
    template = folder / "chat_template.jinja"
    if template.exists():
        (folder / "chat_template.json").write_text(
            json.dumps({"chat_template": template.read_text()})
        )
        template.unlink()


def as_published_now(processor, folder):
    processor.save_pretrained(folder)
    add_video_part(processor, folder)


@pytest.mark.parametrize("write", [as_published_now, as_published_long_ago])
def test_a_processor_that_is_read_shows_what_the_saved_one_shows(name, write, tmp_path):
    processor = families.built(name)[1]
    write(processor, tmp_path)
    # On a copy, as whoever fits a processor to its model works on one.
    read = copy.deepcopy(read_processor(tmp_path))
    assert type(read).__name__ == type(processor).__name__
    assert prompt(read) == prompt(processor)
    side = FAMILIES[name].side
    pictures = [draw(BLUE, {(1, 2): color}, 4, side // 4, margin=side % 4) for color in (RED, CYAN)]
    expected = inputs(name, processor, pictures, BACKGROUND_QUESTION)
    shown = inputs(name, read, pictures, BACKGROUND_QUESTION)
    for key, value in expected.items():
        assert torch.equal(shown[key], value), key


@pytest.mark.skipif(is_torchvision_available(), reason="torchvision is here")
@pytest.mark.parametrize(
    "name",
    [
        "llava_pixtral",
        "llava_onevision",
        "qwen2_vl",
        "qwen2_5_vl",
        "qwen3_vl",
        "internvl",
        "mistral3",
    ],
)
def test_transformers_alone_reads_these_only_with_torchvision(name, tmp_path):
    as_published_now(families.built(name)[1], tmp_path)
    with pytest.raises(ImportError, match="(?i)torchvision"):
        AutoProcessor.from_pretrained(tmp_path)


def test_what_was_read_can_be_saved_and_read_again(tmp_path):
    as_published_now(families.built("qwen2_vl")[1], tmp_path / "first")
    read = read_processor(tmp_path / "first")
    read.save_pretrained(tmp_path / "second")
    again = read_processor(tmp_path / "second")
    picture = draw(BLUE, {(1, 2): RED}, 6, 8)
    expected, shown = inputs("qwen2_vl", read, [picture]), inputs("qwen2_vl", again, [picture])
    assert all(torch.equal(shown[key], expected[key]) for key in expected)


def test_a_class_without_a_video_part_is_left_as_it_is():
    kind = type(families.built("llava_llama")[1])
    assert without_video(kind) is kind


def test_a_tokenizer_alone_is_no_processor(tmp_path):
    families.tokenizer(("<image>",)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="has a .* but no processor of pictures and text"):
        read_processor(tmp_path)


def test_no_code_of_a_repository_is_run(tmp_path):
    ran = tmp_path / "ran"
    (tmp_path / "theirs.py").write_text(f"open({str(ran)!r}, 'w')\n\n\nclass Theirs:\n    pass\n")
    remote = {"processor_class": "Theirs", "auto_map": {"AutoProcessor": "theirs.Theirs"}}
    (tmp_path / "processor_config.json").write_text(json.dumps(remote))
    with pytest.raises(ValueError, match="trust_remote_code"):
        read_processor(tmp_path)
    assert not ran.exists()


def test_a_missing_package_is_named_with_what_brings_it(tmp_path, monkeypatch):
    as_published_now(families.built("idefics3")[1], tmp_path)
    file = tmp_path / "processor_config.json"
    file.write_text(
        json.dumps(json.loads(file.read_text()) | {"processor_class": "SmolVLMProcessor"})
    )
    monkeypatch.setattr("transformers.models.smolvlm.processing_smolvlm.num2words", None)
    with pytest.raises(InputError, match=r"num2words.*pip install 'rgb_circuit\[families\]'"):
        read_processor(tmp_path)


# Model → the family that has its structure; published settings, as far as they bear on sizes, of
# the image processor and of the processor; side of the picture; px per token; options for one whole
# picture; tokens. The picture is shown again in tiles, beside black.
PADDED = ("llava_next",)
CLIP = {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}
SIGLIP = {"size": {"height": 384, "width": 384}}
QWEN2 = {
    "patch_size": 14,
    "merge_size": 2,
    "size": {"shortest_edge": 3136, "longest_edge": 12845056},
}
QWEN3 = {
    "patch_size": 16,
    "merge_size": 2,
    "size": {"shortest_edge": 65536, "longest_edge": 16777216},
}
ONEVISION = [[384 * rows, 384 * columns] for rows in range(1, 7) for columns in range(1, 7)]
WHOLE = {"do_image_splitting": False}
PUBLISHED = {
    "llava-1.5-7b": ("llava_llama", CLIP, {"patch_size": 14}, 336, 14, {}, 576),
    "llama3-llava": ("llava_llama3", CLIP, {"patch_size": 14}, 336, 14, {}, 576),
    "llava-interleave-qwen": ("llava_qwen2", SIGLIP, {"patch_size": 14}, 384, 14, {}, 729),
    "vip-llava-7b": ("vipllava", CLIP, {"patch_size": 14}, 336, 14, {}, 576),
    "pixtral-12b": (
        "llava_pixtral",
        {"size": {"longest_edge": 1024}, "patch_size": 16},
        {"patch_size": 16},
        384,
        16,
        {},
        576,
    ),
    "mistral-small-3.1": (
        "mistral3",
        {"size": {"longest_edge": 1540}, "patch_size": 14},
        {"patch_size": 14},
        672,
        28,
        {},
        576,
    ),
    "llava-v1.6": (
        "llava_next",
        CLIP | {"image_grid_pinpoints": families.anyres(336)},
        {"patch_size": 14},
        336,
        14,
        {},
        576 + 24 * 25,
    ),
    "llava-onevision": (
        "llava_onevision",
        SIGLIP | {"image_grid_pinpoints": ONEVISION},
        {"num_image_tokens": 729},
        384,
        14,
        {},
        729 + 27 * 28,
    ),
    "qwen2-vl": ("qwen2_vl", QWEN2, {}, 672, 28, {}, 576),
    "qwen2.5-vl": ("qwen2_5_vl", QWEN2, {}, 672, 28, {}, 576),
    "qwen3-vl": ("qwen3_vl", QWEN3, {}, 768, 32, {}, 576),
    "gemma-3": ("gemma3", {"size": {"height": 896, "width": 896}}, {}, 896, 56, {}, 256),
    "paligemma-224": (
        "paligemma",
        {"size": {"height": 224, "width": 224}},
        {"image_seq_length": 256},
        224,
        14,
        {},
        256,
    ),
    "paligemma2-448": (
        "paligemma2",
        {"size": {"height": 448, "width": 448}},
        {"image_seq_length": 1024},
        448,
        14,
        {},
        1024,
    ),
    "idefics3-8b": (
        "idefics3",
        {"size": {"longest_edge": 1456}, "max_image_size": {"longest_edge": 364}},
        {"image_seq_len": 169},
        364,
        28,
        WHOLE | {"size": {"longest_edge": 364}},
        169,
    ),
    "smolvlm2-2.2b": (
        "smolvlm",
        {"size": {"longest_edge": 1536}, "max_image_size": {"longest_edge": 384}},
        {"image_seq_len": 81},
        384,
        42,
        WHOLE | {"size": {"longest_edge": 384}},
        81,
    ),
    "smolvlm2-500m": (
        "smolvlm",
        {"size": {"longest_edge": 2048}, "max_image_size": {"longest_edge": 512}},
        {"image_seq_len": 64},
        512,
        64,
        WHOLE | {"size": {"longest_edge": 512}},
        64,
    ),
    "internvl3": (
        "internvl",
        {"size": {"height": 448, "width": 448}, "crop_to_patches": True, "max_patches": 12},
        {"image_seq_length": 256},
        448,
        28,
        {"crop_to_patches": False},
        256,
    ),
    "aya-vision-8b": (
        "aya_vision",
        {"size": {"height": 364, "width": 364}, "crop_to_patches": True, "max_patches": 12},
        {"patch_size": 28, "img_size": 364},
        364,
        28,
        {"crop_to_patches": False},
        169,
    ),
}


@pytest.fixture(
    params=[
        pytest.param(model, marks=buildable([facts[0]])[0].marks)
        for model, facts in PUBLISHED.items()
    ]
)
def published(request):
    """(family, processor with published settings, side, px per token, options, image tokens, id of
    one)"""
    family, pictures, text, side, px, options, tokens = PUBLISHED[request.param]
    model, processor = families.built(family)
    processor.image_processor = type(processor.image_processor)(**pictures)
    for setting, value in text.items():
        assert hasattr(processor, setting)
        setattr(processor, setting, value)
    if family == "gemma3":
        processor = type(processor)(
            processor.image_processor, processor.tokenizer, processor.chat_template, 256
        )
    return family, processor, side, px, options, tokens, model.config.image_token_id


def colors_seen(family, processor, picture, options):
    """How many colours the tower is shown, and the ids."""
    made = processor(text=[prompt(processor)], images=[[picture]], return_tensors="pt", **options)
    pixels = made["pixel_values"]
    if "image_grid_thw" in made:
        # A row a patch: channels, then frames (twice the same picture), rows and columns.
        pixels = pixels.unflatten(1, (3, -1)).transpose(0, 1)
    else:
        pixels = pixels.flatten(0, -4).movedim(-3, 0)
    red, green, blue = pixels.flatten(1).double()
    # A number a colour, which is sorted ten times as fast as columns of three.
    return len(torch.unique(red + pi * green + e * blue)), made["input_ids"]


def test_a_picture_of_the_published_size_lands_on_the_grid_untouched(published):
    family, processor, side, px, options, tokens, image_token = published
    grid = side // px
    picture = draw(
        BLUE, {(grid // 2, grid // 3): RED, (0, grid - 1): CYAN}, grid, px, margin=side - grid * px
    )
    seen, ids = colors_seen(family, processor, picture, options)
    assert seen == 3 + (family in PADDED)
    assert int((ids == image_token).sum()) == tokens
    views = {1: grid * grid, 2: grid * grid + grid * (grid + 1)}
    assert tokens == views[FAMILIES[family].views]


def test_another_size_is_resampled_and_noticed(published):
    family, processor, side, px, options, _, _ = published
    if not options and family.startswith(("qwen", "mistral3", "llava_pixtral")):
        # Any size is taken there, but no part of a token.
        side = side + px // 2
    else:
        side = side + px
    grid = side // 10
    picture = draw(BLUE, {(3, 4): RED, (0, 9): CYAN}, 10, grid, margin=side - 10 * grid)
    assert colors_seen(family, processor, picture, options)[0] > 3 + (family in PADDED)
