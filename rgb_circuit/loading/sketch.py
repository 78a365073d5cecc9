"""A model as far as its configuration and processor describe it, and the time of its forward on
this machine. No weights are fetched or read.

1. `sketch` looks a model up as `rgb_circuit.load` does, and stops before the weights. Two facts
   need weights and are assumed: the model prefers the first form of an answer that can be written,
   and no image token attends to later ones.
2. `forward_seconds` times the same model filled with one number. A large model is built twice, with
   one layer of its language model and with `DEEPER`; the time per layer is extrapolated.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    PreTrainedConfig,
    PreTrainedModel,
    initialization,
)

from ..conversation import EXAMPLE_QUESTION
from ..conversation.answers import FORMS
from ..errors import FOREIGN
from ..prompts.as_read import plain
from ..prompts.asking import token_of
from ..prompts.inputs import inputs_of
from ..vlm import Vlm
from . import LARGE, described, weights_size

# Language-model layers of the deeper of the two shallow models.
DEEPER = 3


@dataclass(frozen=True)
class Unloaded:
    """A stand-in, in a `Vlm`, for an nnsight model whose weights are not loaded.

    Attributes:
        device: where the weights would go.
    """

    _module: PreTrainedModel
    device: torch.device


class _AnyForm(dict):
    """The forms of answers after any prompt: all of them, since the likeliest is unknown."""

    def __contains__(self, prompt):
        return True

    def __missing__(self, prompt):
        return tuple(FORMS)


def sketch(
    name: str | os.PathLike = "toy",
    *,
    device_map: str | Mapping = "auto",
    dtype: str | torch.dtype = "auto",
    revision: str | None = None,
    tiles: int | None = None,
) -> Vlm:
    """A model without weights, for prompts, layouts and costs, but not for forwards; arguments as
    in `rgb_circuit.load`.

    Raises:
        InputError: as `rgb_circuit.load`, except for faults of the weights.
    """
    known = described(name, device_map, dtype, revision, tiles)
    return Vlm(
        name=known.name,
        revision=known.found.commit,
        nnsight=Unloaded(known.empty, _device(device_map)),
        processor=known.processor,
        layout=known.layout,
        dtype=known.dtype,
        template=known.template,
        token_of=token_of,
        forms=_AnyForm(),
        commit=known.found.commit,
        **known.heads,
    )


def forward_seconds(model: Vlm) -> float | None:
    """The time of a plain forward of a `sketch` on this machine; None if the model cannot be built
    with fewer layers, or does not fit into memory."""
    layers = model.n_layers
    small = weights_size(model.nnsight._module, model.dtype) < LARGE
    depths = (layers,) if small or layers <= DEEPER else (1, DEEPER)
    inputs = inputs_of(
        model.processor, model.layout, [model.prompt(EXAMPLE_QUESTION)], [plain(model.layout)]
    )
    try:
        taken = [_timed(model, depth, inputs) for depth in depths]
    except FOREIGN:
        return None
    if len(taken) == 1:
        return taken[0]
    shallow, deeper = taken
    return shallow + (layers - 1) * max(0.0, deeper - shallow) / (DEEPER - 1)


def _timed(model, depth, inputs):
    """The seconds of a forward with ``depth`` layers: the second of two, since the first may
    include warm-up."""
    device = model.nnsight.device
    module = _filled(model.config, depth, model.dtype, device)
    on_device = {
        name: value.to(device, model.dtype if value.is_floating_point() else value.dtype)
        for name, value in inputs.items()
    }
    with torch.no_grad():
        for _ in range(2):
            start = time.perf_counter()
            float(module(**on_device, logits_to_keep=1).logits[0, -1, 0])
    return time.perf_counter() - start


def _filled(config: PreTrainedConfig, depth, dtype, device):
    """The model with ``depth`` layers of its language model, every weight the same number."""
    config = copy.deepcopy(config)
    text = config.text_config
    text.num_hidden_layers = depth
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:depth]
    kind = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]
    config._attn_implementation = "sdpa"
    with _as_default(dtype), initialization.no_init_weights(), torch.device(device):
        try:
            module = kind(config)
        except ValueError:
            # Some models have only eager attention in transformers.
            config._attn_implementation = "eager"
            module = kind(config)
    with torch.no_grad():
        for weights in module.parameters():
            weights.fill_(0.01)
    return module.eval()


@contextmanager
def _as_default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _device(device_map):
    """The device on which ``device_map`` puts all or most weights."""
    if device_map == "auto" or not isinstance(device_map, str):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device_map)
