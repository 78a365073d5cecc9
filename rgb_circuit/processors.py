"""Making a processor fit its model: as many image tokens as the model makes features of a picture, and pictures of its size.

What a LLaVA processor needs to know (patch size, strategy, class token, image token) follows from the model, and repositories of all
ages lack it or have it wrong. It is filled in from the model. How pictures are resized, cropped and padded does not follow; where the
vision tower would get a picture of another size than it takes, the processor is refused.
"""

from __future__ import annotations

import copy

import torch
from PIL import Image
from tokenizers import AddedToken
from transformers import LlavaForConditionalGeneration, LlavaProcessor
from transformers.configuration_utils import PreTrainedConfig

from .errors import FOREIGN, InputError, first_line

# Stands for the picture in every prompt.
IMAGE = "<image>"


def fitted(processor: LlavaProcessor, module: LlavaForConditionalGeneration, name: str) -> LlavaProcessor:
    """A copy of a processor that fits a model.

    Args:
        module: with weights, or on the meta device.

    Raises:
        InputError: what is no LLaVA processor; pictures of another size than the vision tower takes; a vision tower whose
            features are no square of patches with at most one class token; a strategy that drops a patch; an image
            token that tokenizer and model do not share.
    """
    if not isinstance(processor, LlavaProcessor):
        raise InputError(
            f"{name!r} has a {type(processor).__name__}, not a LlavaProcessor; save one beside it with processor.save_pretrained, "
            "or give one to wrap"
        )
    config, vision = module.config, module.config.vision_config
    pixels = _pixels(processor, vision.image_size, name)
    extra = _class_tokens(module, pixels, name)
    strategy = config.vision_feature_select_strategy
    if strategy == "default" and not extra:
        raise InputError(
            f"vision_feature_select_strategy of {name!r} is 'default', which drops a class token, but its vision tower "
            f"({vision.model_type}) makes none and would lose a patch of the picture; set it to 'full' in the model's configuration"
        )
    processor = copy.deepcopy(processor)
    processor.patch_size = vision.patch_size
    processor.vision_feature_select_strategy = strategy
    processor.num_additional_image_tokens = extra
    _set_image_token(processor, config, name)
    _check_counts(processor, module, pixels, name)
    return processor


def _pixels(processor, side, name):
    """What the vision tower gets of a picture of its own size, (1, 3, side, side)."""
    reads = processor.image_processor
    # Its own size, a large wide one and a small high one.
    sizes = [(side, side), (3 * side, 2 * side), (side // 3 + 1, side // 2 + 1)]
    found = [_shown(reads, size, name) for size in sizes]
    wrong = [(size, pixels) for size, pixels in zip(sizes, found) if pixels.shape != (1, 3, side, side)]
    if wrong:
        (width, height), pixels = wrong[0]
        shape = " × ".join(map(str, pixels.shape[-2:][::-1])) + " px" if pixels.ndim == 4 else f"{tuple(pixels.shape)} numbers"
        raise InputError(
            f"the image processor of {name!r} ({type(reads).__name__}) makes {shape} of a picture of {width} × {height} px, but the vision "
            f"tower takes {side} × {side} px; {_advice(reads, sizes, side, name)}"
        )
    return found[0]


def _shown(reads, size, name, **settings):
    """The numbers that an image processor makes of a picture of ``size``."""
    try:
        return reads(Image.new("RGB", size), return_tensors="pt", **settings)["pixel_values"]
    except FOREIGN as error:
        raise InputError(
            f"the image processor of {name!r} ({type(reads).__name__}) cannot read a picture of {size[0]} × {size[1]} px "
            f"({first_line(error)}); save one that can beside the model"
        ) from error


def _advice(reads, sizes, side, name):
    """The fewest settings with which every picture comes out right, tried one after the other."""
    square = {"height": side, "width": side}
    crop, cut = {"crop_size": square}, {"do_center_crop": True, "crop_size": square}
    shortest, exact = {"do_resize": True, "size": {"shortest_edge": side}}, {"do_resize": True, "size": square}
    for settings in (crop, {"size": square}, cut, exact, {**shortest, **cut}, {**exact, "do_center_crop": False}):
        try:
            if all(_shown(reads, size, name, **settings).shape == (1, 3, side, side) for size in sizes):
                changed = {key: value for key, value in settings.items() if _plain(getattr(reads, key, None)) != value}
                written = " and ".join(f"{key} = {value}" for key, value in changed.items())
                return f"set {written} in preprocessor_config.json (image_processor in processor_config.json)"
        except InputError:
            continue
    return "its size, crop_size, do_resize, do_center_crop and do_pad must give that, such as those of llava-hf/llava-1.5-7b-hf do"


def _plain(value):
    """A setting as its file has it."""
    return {key: edge for key, edge in dict(value).items() if edge is not None} if hasattr(value, "items") else value


@torch.no_grad()
def _features(module, pixels, strategy, name):
    """How many features the model makes of a picture."""
    try:
        found = module.get_image_features(
            pixel_values=pixels.to(module.device), vision_feature_select_strategy=strategy, return_dict=True
        )
    except FOREIGN as error:
        raise InputError(
            f"the vision tower of {name!r} ({module.config.vision_config.model_type}) fails on a picture ({first_line(error)}); "
            "use a LLaVA with a CLIP or SigLIP tower"
        ) from error
    return sum(len(features) for features in found.pooler_output)


def _class_tokens(module, pixels, name):
    """How many features the vision tower makes beside one a patch: 0 or 1."""
    vision = module.config.vision_config
    side = vision.image_size // vision.patch_size
    made = _features(module, pixels, "full", name)
    if made - side * side not in (0, 1):
        raise InputError(
            f"the vision tower of {name!r} ({vision.model_type}) makes {made} features of a picture, not {side} × {side} and at most a "
            "class token, so that no tile could be found again; use a LLaVA with a CLIP or SigLIP tower"
        )
    return made - side * side


def _set_image_token(processor, config, name):
    """Make ``IMAGE`` the token that the model puts the picture's features at."""
    tokenizer, wanted = processor.tokenizer, config.image_token_id
    if _token(tokenizer) is None and wanted == len(tokenizer):
        tokenizer.add_tokens([AddedToken(IMAGE, special=True, normalized=False)], special_tokens=True)
    found = _token(tokenizer)
    if found != wanted:
        there = f"is token {found} of its tokenizer" if found is not None else "is no token of its tokenizer"
        fix = f"set image_token_id = {found} in" if found is not None else f"add it as a special token and set its id in"
        raise InputError(
            f"{IMAGE!r}, which stands for the picture in prompts, {there}, but {name!r} puts pictures at token {wanted} "
            f"(image_token_id); {fix} the model's configuration, unless the tokenizer is another model's"
        )
    processor.image_token, processor.image_token_id = IMAGE, wanted


def _token(tokenizer):
    ids = tokenizer(IMAGE, add_special_tokens=False)["input_ids"]
    return ids[0] if len(ids) == 1 and ids[0] != tokenizer.unk_token_id else None


def _check_counts(processor, module, pixels, name):
    side = pixels.shape[-1]
    ids = processor(text=[IMAGE], images=[Image.new("RGB", (side, side))], return_tensors="pt")["input_ids"]
    written = int((ids == module.config.image_token_id).sum())
    made = _features(module, pixels, module.config.vision_feature_select_strategy, name)
    if written != made:
        raise InputError(
            f"the processor of {name!r} writes {written} image tokens for a picture of which the model makes {made} features; take the "
            "processor that belongs to this checkpoint"
        )
