"""What a module must be before it is traced: a plain LLaVA, in evaluation mode, with its weights."""

from __future__ import annotations

import torch
from transformers import LlavaForConditionalGeneration
from transformers.configuration_utils import PreTrainedConfig

from .errors import InputError

MERGE = "merge the adapter into the model (peft: model = model.merge_and_unload())"


def check_llava(module: torch.nn.Module, name: str) -> None:
    """Raise InputError unless ``module`` is a ``LlavaForConditionalGeneration`` without adapters."""
    parts = module.modules() if isinstance(module, torch.nn.Module) else ()
    if any(type(part).__module__.split(".")[0] == "peft" for part in parts):
        raise InputError(
            f"{name!r} has adapters beside its weights, which head analyses would leave out; {MERGE}"
        )
    if not isinstance(module, LlavaForConditionalGeneration):
        raise InputError(
            f"{name!r} is {_a(module)}, not a LlavaForConditionalGeneration; give the model itself, as "
            "LlavaForConditionalGeneration.from_pretrained returns it"
        )


def check_ready(module: torch.nn.Module, name: str) -> None:
    """Raise InputError unless ``module`` can be run now; cheap enough for before every run.

    Checked are that no part is in training mode (dropout makes noise), and that all weights are on a device.
    """
    for where, part in module.named_modules():
        if part.training:
            which = f"the part {where} of {name!r}" if where and not module.training else repr(name)
            raise InputError(
                f"{which} is in training mode, where dropout makes every run another; call model.eval() first"
            )
    for where, parameter in module.named_parameters():
        if parameter.is_meta:
            raise InputError(
                f"weights of {name!r} are not in memory ({where}): they are offloaded to CPU or disk, or "
                "were never loaded; make them fit with dtype='bfloat16', choose another device_map such as "
                "'cpu', or leave them on a server with remote=True"
            )


def check_language_model(module: LlavaForConditionalGeneration, name: str) -> None:
    """Raise InputError unless there are ``layers[i].self_attn.o_proj``, for heads, and a final ``norm``."""
    text = module.model.language_model
    advice = "use a LLaVA on a Llama-style language model, such as Llama, Vicuna, Mistral or Qwen2"
    layers = list(getattr(text, "layers", ()))
    lacking = [
        index
        for index, layer in enumerate(layers)
        if not isinstance(getattr(getattr(layer, "self_attn", None), "o_proj", None), torch.nn.Module)
    ]
    if lacking or not layers:
        some = "" if len(lacking) == len(layers) else f" in layer {', '.join(map(str, lacking))}"
        raise InputError(
            f"the language model of {name!r} ({type(text).__name__}) has no self_attn.o_proj{some}, whose "
            "input is what heads write; " + advice
        )
    if not isinstance(getattr(text, "norm", None), torch.nn.Module):
        raise InputError(
            f"the language model of {name!r} ({type(text).__name__}) has no final norm called norm, whose "
            f"output the logits are read from; {advice}"
        )


def check_vision_tower(config: PreTrainedConfig, name: str) -> None:
    """Raise InputError unless the vision tower takes square pictures of one size, cut into square patches."""
    vision = config.vision_config
    advice = "use a LLaVA with a CLIP or SigLIP tower, such as llava-hf/llava-1.5-7b-hf"
    if vision.model_type == "pixtral":
        raise InputError(f"{name!r} has a Pixtral vision tower, which is not supported yet; {advice}")
    sizes = [getattr(vision, size, None) for size in ("image_size", "patch_size")]
    if not all(isinstance(size, int) and size > 0 for size in sizes) or sizes[0] < sizes[1]:
        raise InputError(
            f"the vision tower of {name!r} ({vision.model_type}) has image_size {sizes[0]} and patch_size "
            f"{sizes[1]}, no square picture of one size cut into square patches; {advice}"
        )


def _a(thing):
    name = type(thing).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
