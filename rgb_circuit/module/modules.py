"""The conditions on a module before it is traced: a vision-language model, in evaluation mode, with
its weights, its own forwards, and attention that takes the masks of patching."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch

# Not its names, which load all of its modelling when they are imported; what only reads runs needs
# none of it.
import transformers

from ..errors import InputError
from ..programs.capture import language_model
from .hooks import check_forwards, is_compiled

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

# Attention kernels that add any mask of numbers to their scores. Others take masks of their own
# form (flex), lengths only (flash), or pages; and a kernel that a user registered may not even be a
# softmax.
KERNELS = ("sdpa", "eager")

MERGE = "merge the adapter into the model (peft: model = model.merge_and_unload())"


def check_config(config: PreTrainedConfig, name: str) -> None:
    """Raise InputError unless this is a model of transformers that looks at pictures through image
    tokens."""
    parts = ("text_config", "vision_config", "image_token_id")
    lacking = [part for part in parts if getattr(config, part, None) is None]
    advice = "give one that does, such as llava-hf/llava-1.5-7b-hf"
    if lacking or type(config) not in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        why = (
            f"its configuration has no {' and no '.join(lacking)}"
            if lacking
            else "not among transformers' models for that"
        )
        raise InputError(
            f"{name!r} is a model of type {config.model_type!r}, which is not known to look at "
            f"pictures through image tokens in its prompt ({why}); {advice}"
        )
    for part in ("perceiver_config", "projector_patch_to_query_dict"):
        if getattr(config, part, None) is not None:
            raise InputError(
                f"{name!r} ({config.model_type!r}) makes the tokens of a picture by a resampler "
                f"({part}), which reads the whole picture for each, so that no token stands for a "
                f"place; {advice}"
            )


def check_vlm(module: torch.nn.Module, name: str) -> None:
    """Raise InputError unless ``module`` is a vision-language model of transformers without
    adapters."""
    parts = module.modules() if isinstance(module, torch.nn.Module) else ()
    if any(type(part).__module__.split(".")[0] == "peft" for part in parts):
        raise InputError(
            f"{name!r} has adapters beside its weights, which head analyses would leave out; "
            f"{MERGE}"
        )
    if isinstance(module, torch.nn.Module) and is_compiled(module):
        raise InputError(
            f"{name!r} is compiled, so patching cannot reach into what it runs; give the model as "
            "it was before (what torch.compile was given)"
        )
    if not isinstance(module, transformers.PreTrainedModel):
        raise InputError(
            f"{name!r} is {a_kind(module)}, not a model of transformers; give the model itself, as "
            "AutoModelForImageTextToText.from_pretrained returns it"
        )
    check_config(module.config, name)
    kind = transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(module.config)]
    if not isinstance(module, kind):
        raise InputError(
            f"{name!r} is {a_kind(module)}, which gives no logits; give the whole model, as "
            "AutoModelForImageTextToText.from_pretrained returns it"
        )


def check_ready(module: torch.nn.Module, name: str) -> None:
    """Raise InputError unless ``module`` can be run now; cheap enough to call before every run.

    The checks: no part is in training mode (dropout makes noise), all weights are on a device,
    forwards and attention are the model's own, and nothing but the weights sets the number format.
    """
    for where, part in module.named_modules():
        if part.training:
            which = f"the part {where} of {name!r}" if where and not module.training else repr(name)
            raise InputError(
                f"{which} is in training mode, where dropout makes every run another; call "
                "model.eval() first"
            )
    own: Any = module.config
    for where, config in (("config", own), ("config.text_config", own.text_config)):
        if not getattr(config, "return_dict", True):
            raise InputError(
                f"{where}.return_dict of {name!r} is False, so its forwards return tuples, whose "
                "parts have no names; set it to True"
            )
    for where, parameter in module.named_parameters():
        if parameter.is_meta:
            raise InputError(
                f"weights of {name!r} are not in memory ({where}): they are offloaded to CPU or "
                "disk, or were never loaded; make them fit with dtype='bfloat16', choose another "
                "device_map such as 'cpu', or leave them on a server with remote=True"
            )
    check_forwards(module, name)
    _check_kernel(module, name)
    device = next(module.parameters()).device.type
    if torch.is_autocast_enabled(device):
        other = str(torch.get_autocast_dtype(device)).removeprefix("torch.")
        raise InputError(
            f"torch.autocast is on, so {name!r} would compute some of its layers in {other}; call "
            f"this outside of it, and to run the whole model in {other} load it with "
            f"dtype={other!r}"
        )


def _check_kernel(module, name):
    """Raise InputError unless the language model's attention is one of transformers' own kernels
    that take a mask of numbers."""
    for layer in language_model(module).layers:
        kernel = getattr(getattr(layer.self_attn, "config", None), "_attn_implementation", "eager")
        function = transformers.AttentionInterface().get(kernel)
        whose = getattr(function, "__globals__", {"__name__": "transformers"})["__name__"]
        if kernel not in KERNELS or whose.split(".")[0] != "transformers":
            way_out = "eager" if kernel == "sdpa" else "sdpa"
            raise InputError(
                f"the language model of {name!r} attends with {kernel!r}"
                f"{f', which {whose} registered anew' if kernel in KERNELS else ''}, and patching "
                "needs the 'sdpa' or 'eager' of transformers, which take its masks; load it with "
                f"rgb.load(…, attn_implementation={way_out!r}), or call "
                f"set_attn_implementation({way_out!r}) on the model that rgb.wrap is given"
            )


def check_language_model(module: PreTrainedModel, name: str) -> None:
    """Raise InputError unless the language model has ``layers[i].self_attn.o_proj`` of one width,
    for heads, and a final ``norm``, none shared between layers, and an ``lm_head``."""
    inner = getattr(module, "model", None)
    text = getattr(inner, "text_model", None) or getattr(inner, "language_model", None)
    advice = (
        "use a model on a Llama-style language model, such as Llama, Mistral, Qwen 2 or Gemma 3"
    )
    if text is None:
        raise InputError(
            f"{name!r} ({type(module).__name__}) has no model.language_model or model.text_model, "
            f"where its layers would be; {advice}"
        )
    layers = list(getattr(text, "layers", ()))
    outputs: list[Any] = [
        getattr(getattr(layer, "self_attn", None), "o_proj", None) for layer in layers
    ]
    lacking = [
        index for index, output in enumerate(outputs) if not isinstance(output, torch.nn.Module)
    ]
    if lacking or not layers:
        first = ", ".join(map(str, lacking[:3])) + (", …" if len(lacking) > 3 else "")
        some = (
            ""
            if len(lacking) == len(layers)
            else f" in {len(lacking)} of its {len(layers)} layers ({first})"
        )
        raise InputError(
            f"the language model of {name!r} ({type(text).__name__}) has no "
            f"self_attn.o_proj{some}, whose input is what heads write: "
            f"{_held(text, layers, lacking)}; {advice}"
        )
    widths = {output.in_features for output in outputs if hasattr(output, "in_features")}
    if len(widths) > 1:
        raise InputError(
            f"the heads of {name!r} are not of one size: o_proj reads "
            f"{' or '.join(map(str, sorted(widths)))} numbers, by "
            f"layer; {advice}"
        )
    for index, output in enumerate(outputs):
        # Of the class: what replaced the forward of one module is refused by `check_ready`.
        _, *taken = inspect.signature(type(output).forward).parameters.values()
        needed = [
            one.name
            for one in taken
            if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD
        ]
        if len(needed) > 1:
            raise InputError(
                f"self_attn.o_proj in layer {index} of {name!r} takes more than what heads write "
                f"({', '.join(needed)}), so no head is a part of it alone; {advice}"
            )
    if not isinstance(getattr(text, "norm", None), torch.nn.Module):
        raise InputError(
            f"the language model of {name!r} ({type(text).__name__}) has no final norm called "
            f"norm, whose output the logits are read from; {advice}"
        )
    if not isinstance(getattr(getattr(module, "lm_head", None), "weight", None), torch.Tensor):
        raise InputError(
            f"{name!r} ({type(module).__name__}) has no lm_head with a weight, a row for each "
            f"token that it can say; {advice}"
        )
    _check_unshared(layers, name)


def _check_unshared(layers, name):
    """Raise InputError if two layers share a part that is patched."""
    for part in ("", "self_attn", "self_attn.o_proj", "mlp"):
        first: dict[int, int] = {}
        for index, layer in enumerate(layers):
            # A layer may have no module called mlp.
            if part == "mlp" and not hasattr(layer, part):
                continue
            other = first.setdefault(id(layer.get_submodule(part)), index)
            if other != index:
                what = f"have the same {part}" if part else "are the same module"
                raise InputError(
                    f"layers {other} and {index} of {name!r} {what}, so that what is patched in "
                    "one would be in both; give each a module of its own (copy.deepcopy)"
                )


def _held(text, layers, lacking):
    """The parts that a layer has in place of ``self_attn.o_proj``, in words."""
    where, part = "it", text
    if layers:
        where, part = f"layer {lacking[0]}", layers[lacking[0]]
    if isinstance(getattr(part, "self_attn", None), torch.nn.Module):
        where, part = f"self_attn of {where}", part.self_attn
    parts = {own: type(inside).__name__ for own, inside in part.named_children()}
    held = [f"{own} ({kind})" for own, kind in parts.items() if "norm" not in kind.lower()]
    return f"{where} holds {', '.join(held)}"


def in_one_format(module: torch.nn.Module) -> str | None:
    """The advice for a model whose parts have different number formats; None if all have one."""
    formats: dict[torch.dtype, str] = {}
    for where, weights in module.named_parameters():
        if weights.is_floating_point():
            formats.setdefault(weights.dtype, where)
    if len(formats) < 2:
        return None
    each = " and ".join(
        f"{str(dtype).removeprefix('torch.')} ({where})" for dtype, where in formats.items()
    )
    return f"its weights are in {each}, so bring them into one, such as model.to(torch.float32)"


def softcap_of(config: PreTrainedConfig) -> float | None:
    """The cap of a model's logits (`Vlm.softcap`) in its language model's configuration, which the
    model may ignore; the name is the same in all families."""
    return getattr(config.text_config, "final_logit_softcapping", None)


def vocabulary_of(module: PreTrainedModel) -> tuple[int, int]:
    """How many tokens a model can read, and how many it can say: the rows of its embedding and of
    its ``lm_head``."""
    read, said = module.get_input_embeddings(), module.get_output_embeddings()
    # The rows of a quantised weight are packed, so the layer's own attribute comes first.
    return (
        getattr(read, "num_embeddings", None) or len(read.weight),
        getattr(said, "out_features", None) or len(said.weight),
    )


def a_kind(thing: object) -> str:
    """The class of a thing, with its article."""
    name = type(thing).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
