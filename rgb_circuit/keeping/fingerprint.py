"""Hashes and settings of a model and its processor that its numbers depend on, to tell models
apart.

Each part has an entry of its own, so that a difference can be named. Parts that no number depends
on are left out: how a tokenizer cuts and pads, since prompts are read whole
(`rgb_circuit.module.uncut`); settings for generating; parts for videos.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, ProcessorMixin

    from ..vlm import Vlm

# Keys of a tokenizer's backend that do not count: every call sets them.
OF_A_CALL = ("version", "truncation", "padding")
# Attributes of a processor with entries of their own, or that pictures do not go through.
ELSEWHERE = (
    "tokenizer",
    "chat_template",
    "image_processor",
    "video_processor",
    "feature_extractor",
)


def fingerprint(model: Vlm) -> dict[str, Any]:
    """The parts of a model that its numbers depend on, as entries of a manifest.

    Returns:
        ``config, chat_template``: hashes (None without a chat template). ``weights``: a hash of the
        weights and buffers in memory; None for a hub model, whose commit identifies them, and for
        one on a server. ``tokenizer``: part → hash. ``processor``: its settings.
    """
    return {
        "config": _hash(model.config.to_json_string()),
        "weights": None if model.commit or model.server else _weights(model.nnsight._module),
        "tokenizer": _tokenizer(model.processor.tokenizer),
        "processor": _processor(model.processor),
        "chat_template": chat_template(model.processor),
    }


def chat_template(processor: ProcessorMixin) -> str | None:
    """A hash of the chat template's source, before anything is filled in: the processor's, else its
    tokenizer's; None without one."""
    source = getattr(processor, "chat_template", None) or getattr(
        processor.tokenizer, "chat_template", None
    )
    return _hash(source) if source else None


def _weights(module):
    found = hashlib.sha256()
    # Buffers that are not saved, such as rotary frequencies, may have been changed in memory.
    for name, tensor in {**module.state_dict(), **dict(module.named_buffers())}.items():
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
        # Offloaded weights are not in memory.
        if not tensor.is_meta:
            found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def _tokenizer(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    if getattr(tokenizer, "is_fast", False):
        parts = json.loads(tokenizer.backend_tokenizer.to_str())
        model = parts.pop("model")
        parts = {name: part for name, part in parts.items() if name not in OF_A_CALL}
        parts |= {name: model.pop(name, None) for name in ("vocab", "merges")} | {"model": model}
    else:
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.save_vocabulary(folder)
            parts = {
                "vocab": {
                    file.name: _hash(file.read_bytes()) for file in sorted(Path(folder).iterdir())
                },
                "added_tokens": {
                    id: repr(token) for id, token in tokenizer.added_tokens_decoder.items()
                },
            }
    parts["special_tokens"] = [tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token]
    parts["class"] = type(tokenizer).__name__
    parts["reads"] = [
        tokenizer.model_input_names,
        getattr(tokenizer, "split_special_tokens", False),
    ]
    return {name: _hash(part) for name, part in parts.items()}


def _processor(processor: ProcessorMixin) -> dict[str, Any]:
    pictures = processor.image_processor
    settings = {name: value for name, value in vars(processor).items() if name not in ELSEWHERE}
    settings["class"] = type(processor).__name__
    settings["image_processor"] = {**pictures.to_dict(), "class": type(pictures).__name__}
    return json.loads(json.dumps(settings, default=_plain))


def _hash(value):
    """A hash of bytes, or of any value that JSON can hold."""
    data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()


def _plain(value):
    """A stand-in for a setting that JSON cannot hold."""
    if isinstance(value, np.ndarray | torch.Tensor):
        return value.tolist()
    if hasattr(value, "items"):
        return dict(value)
    # Not the object's repr, which may contain its address.
    return getattr(value, "content", type(value).__name__)
