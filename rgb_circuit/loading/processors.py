"""Make a processor fit its model: one image token per feature of a picture, and pictures of the
right size.

Some settings of a LLaVA processor (patch size, strategy, class token, image token) follow from the
model. Many repositories lack them or have them wrong, so they are filled in. Resizing, cropping and
padding do not follow from the model: if the vision tower would get a picture of a wrong size, the
processor is refused.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import AddedToken
from transformers import LlavaProcessor, PreTrainedConfig, PreTrainedModel, ProcessorMixin

from ..errors import FOREIGN, InputError, first_line
from ..module.modules import in_one_format
from ..module.uncut import uncut

# Stands for the picture in every prompt.
IMAGE = "<image>"


def fitted(processor: ProcessorMixin, module: PreTrainedModel, name: str) -> ProcessorMixin:
    """A copy of a processor that fits a model. Only processors of LLaVA need changes.

    Args:
        module: with weights, or on the meta device.

    Raises:
        InputError: not a processor of pictures and words; for a LLaVA: pictures of another size
            than the vision tower takes, a vision tower whose features are not a square of patches
            with at most one class token, a strategy that drops a patch, or an image token that
            tokenizer and model do not share.
    """
    if not all(
        hasattr(processor, part) for part in ("image_processor", "tokenizer", "image_token")
    ):
        raise InputError(
            f"{name!r} has a {type(processor).__name__}, which does not prepare pictures and words "
            "together; save the "
            "processor that belongs to this model beside it with processor.save_pretrained, or "
            "give it to wrap"
        )
    if not isinstance(processor, LlavaProcessor) or not hasattr(
        module.config, "vision_feature_select_strategy"
    ):
        return copy.deepcopy(processor)
    check_vision_tower(module.config, name)
    config, vision = module.config, module.config.vision_config
    pixels = _pixels(processor, vision.image_size, name)
    strategy = config.vision_feature_select_strategy
    made = _features(module, pixels, strategy, name)
    extra = _class_tokens(made, strategy, vision, name)
    if strategy == "default" and not extra:
        raise InputError(
            f"vision_feature_select_strategy of {name!r} is 'default', which drops a class token, "
            f"but its vision tower ({vision.model_type}) makes none and would lose a patch of the "
            "picture; set it to 'full' in the model's configuration"
        )
    processor = copy.deepcopy(processor)
    processor.patch_size = vision.patch_size
    processor.vision_feature_select_strategy = strategy
    processor.num_additional_image_tokens = extra
    _set_image_token(processor, config, name)
    _check_counts(processor, made, pixels, config, name)
    return processor


def check_vision_tower(config: PreTrainedConfig, name: str) -> None:
    """Raise InputError unless the vision tower takes square pictures of one size, cut into square
    patches."""
    vision = config.vision_config
    advice = "use a LLaVA with a CLIP or SigLIP tower, such as llava-hf/llava-1.5-7b-hf"
    sizes: list[Any] = [getattr(vision, size, None) for size in ("image_size", "patch_size")]
    if not all(isinstance(size, int) and size > 0 for size in sizes) or sizes[0] < sizes[1]:
        raise InputError(
            f"the vision tower of {name!r} ({vision.model_type}) has image_size {sizes[0]} and "
            f"patch_size {sizes[1]}, no square picture of one size cut into square patches; "
            f"{advice}"
        )


def _pixels(processor, side, name):
    """The vision tower's input for a picture of its own size, (1, 3, side, side)."""
    reads = processor.image_processor
    if trouble := _trouble(reads, side, name, {}):
        raise InputError(
            f"the image processor of {name!r} ({type(reads).__name__}) {trouble}, but the vision "
            f"tower takes {side} × {side} px; " + _advice(reads, side, name)
        )
    return _shown(reads, _noise(side, side), name, {})


def _trouble(reads, side, name, settings):
    """What an image processor does wrong with pictures of several sizes; None if nothing."""
    for width, height in ((side, side), (3 * side, 2 * side), (side // 3 + 1, side // 2 + 1)):
        pixels = _shown(reads, _noise(width, height), name, settings)
        if pixels.shape != (1, 3, side, side):
            shape = (
                " × ".join(map(str, pixels.shape[-2:][::-1])) + " px"
                if pixels.ndim == 4
                else f"{tuple(pixels.shape)} numbers"
            )
            return f"makes {shape} of a picture of {width} × {height} px"
    right_size = _noise(side, side)
    untouched = _shown(
        reads, right_size, name, settings | {"do_resize": False, "do_center_crop": False}
    )
    if not torch.equal(_shown(reads, right_size, name, settings), untouched):
        return f"resizes or crops even a picture of {side} × {side} px"
    return None


def _noise(width, height):
    """A picture of noise, so that any change to a pixel shows."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _shown(reads, picture, name, settings):
    """An image processor's pixel values for a picture."""
    try:
        return reads(picture, return_tensors="pt", **settings)["pixel_values"]
    except FOREIGN as error:
        width, height = picture.size
        raise InputError(
            f"the image processor of {name!r} ({type(reads).__name__}) cannot read a picture of "
            f"{width} × {height} px ({first_line(error)}); save one that can beside the model"
        ) from error


def _advice(reads, side, name):
    """Advice: the smallest change of settings that makes every picture come out right."""
    square = {"height": side, "width": side}
    exact, shortest, crop = (
        {"size": square},
        {"size": {"shortest_edge": side}},
        {"crop_size": square},
    )
    cut, whole, resized = {"do_center_crop": True}, {"do_center_crop": False}, {"do_resize": True}
    for settings in (
        crop, shortest, cut, resized, exact, shortest | crop, cut | crop, resized | exact,
        shortest | crop | cut, exact | whole, shortest | crop | cut | resized,
        exact | whole | resized,
    ):  # fmt: skip
        try:
            if _trouble(reads, side, name, settings) is None:
                changed = {
                    key: value
                    for key, value in settings.items()
                    if _plain(getattr(reads, key, None)) != value
                }
                written = " and ".join(f"{key} = {value}" for key, value in changed.items())
                return (
                    f"set {written} in preprocessor_config.json (image_processor in "
                    "processor_config.json)"
                )
        except InputError:
            continue
    return (
        "its size, crop_size, do_resize, do_center_crop and do_pad must give that, as those of "
        "llava-hf/llava-1.5-7b-hf do"
    )


def _plain(value):
    """A setting in the form of its file."""
    return (
        {key: edge for key, edge in dict(value).items() if edge is not None}
        if hasattr(value, "items")
        else value
    )


@torch.no_grad()
def _features(module, pixels, strategy, name):
    """How many features the model makes of a picture."""
    try:
        output = module.get_image_features(
            pixel_values=pixels.to(module.device),
            vision_feature_select_strategy=strategy,
            return_dict=True,
        )
    except FOREIGN as error:
        way_out = in_one_format(module) or "use a LLaVA with a CLIP or SigLIP tower"
        raise InputError(
            f"the vision tower of {name!r} ({module.config.vision_config.model_type}) fails on a "
            f"picture ({first_line(error)}); {way_out}"
        ) from error
    return sum(len(features) for features in output.pooler_output)


def _class_tokens(made, strategy, vision, name):
    """How many features the vision tower makes beside one a patch: 0 or 1."""
    # The strategy "default" drops the first feature of the tower.
    made += strategy == "default"
    side = vision.image_size // vision.patch_size
    if made - side * side not in (0, 1):
        raise InputError(
            f"the vision tower of {name!r} ({vision.model_type}) makes {made} features of a "
            f"picture, not {side} × {side} and at most a class token, so that no tile could be "
            "found again; use a LLaVA with a CLIP or SigLIP tower"
        )
    return made - side * side


def _set_image_token(processor, config, name):
    """Make ``IMAGE`` the token that the model replaces by the picture's features."""
    tokenizer, wanted = processor.tokenizer, config.image_token_id
    if _token(tokenizer) is None and wanted == len(tokenizer):
        tokenizer.add_tokens(
            [AddedToken(IMAGE, special=True, normalized=False)], special_tokens=True
        )
    own_id = _token(tokenizer)
    if own_id != wanted:
        state = (
            f"is token {own_id} of its tokenizer"
            if own_id is not None
            else "is no token of its tokenizer"
        )
        fix = (
            f"set image_token_id = {own_id} in"
            if own_id is not None
            else "add it as a special token and set its id in"
        )
        raise InputError(
            f"{IMAGE!r}, which stands for the picture in prompts, {state}, but {name!r} puts "
            f"pictures at token {wanted} (image_token_id); {fix} the model's configuration, unless "
            "the tokenizer is another model's"
        )
    processor.image_token, processor.image_token_id = IMAGE, wanted


def _token(tokenizer):
    ids = tokenizer(IMAGE, add_special_tokens=False)["input_ids"]
    return ids[0] if len(ids) == 1 and ids[0] != tokenizer.unk_token_id else None


def _check_counts(processor, made, pixels, config, name):
    side = pixels.shape[-1]
    ids = uncut(processor, [IMAGE], [Image.new("RGB", (side, side))])["input_ids"]
    written = int((ids == config.image_token_id).sum())
    if written != made:
        raise InputError(
            f"the processor of {name!r} ({type(processor).__name__}) writes {written} image tokens "
            f"for a picture of {side} × {side} px, of which the model makes {made} features, also "
            "with the model's own patch size and feature strategy; give a processor that writes as "
            "many"
        )
