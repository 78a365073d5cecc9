"""Check that a module is unchanged since it was wrapped.

The checks at loading (`probe`) hold for the module as it was then: its parts, their number formats
and devices, its configuration, and the settings of its attention. The values of weights may change;
they are not remembered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..errors import InputError
from ..programs.capture import language_model
from .modules import a_kind

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False, repr=False)
class Wrapped:
    """A module as it was wrapped.

    Attributes:
        parts: name → module.
        weights: name → its number format, and its device.
        settings: name → value, of the configuration and of every attention module.
    """

    parts: dict[str, torch.nn.Module]
    weights: dict[str, tuple[torch.dtype, torch.device]]
    settings: dict[str, Any]


# Settings that saving a model changes; the number formats of its weights are remembered separately.
BY_SAVING = ("architectures", "dtype", "torch_dtype", "transformers_version", "_name_or_path")


def as_it_is(module: PreTrainedModel) -> Wrapped:
    """The facts about a module that are remembered."""
    return Wrapped(dict(module.named_modules()), dict(_weights(module)), dict(_settings(module)))


def check_unchanged(wrapped: Wrapped, module: PreTrainedModel, name: str) -> None:
    """Raise InputError if a module was changed since it was wrapped; cheap enough to call before
    every run."""
    if change := _change(wrapped, module):
        raise InputError(
            f"{change} since {name!r} was wrapped, and what was checked then need not hold any "
            "more; wrap or load it again"
        )


def _change(wrapped, module):
    parts = dict(module.named_modules())
    for where, part in wrapped.parts.items():
        if where not in parts:
            return f"the part {where} was taken away"
        if parts[where] is not part:
            return f"the part {where} was replaced by {a_kind(parts[where])}"
    weights = dict(_weights(module))
    for where, before in wrapped.weights.items():
        # A weight that is now kept under another name, as pruning does, is fine.
        for old, new in zip(before, weights.get(where, before)):
            if old != new:
                return f"{where} was brought from {_short(old)} to {_short(new)}"
    settings = dict(_settings(module))
    for where in dict.fromkeys([*wrapped.settings, *settings]):
        before, now = (found.get(where, "nothing") for found in (wrapped.settings, settings))
        if before != now:
            return f"{where} was changed from {before} to {now}"
    return None


def _weights(module):
    for where, weights in module.named_parameters():
        yield where, (weights.dtype, weights.device)


def _settings(module) -> Iterator[tuple[str, Any]]:
    yield from _flat("config", module.config.to_dict())
    for index, layer in enumerate(language_model(module).layers):
        for key, value in vars(layer.self_attn).items():
            if isinstance(value, bool | int | float | str) and not key.startswith("_"):
                yield f"{key} of the attention in layer {index}", value


def _flat(where, value):
    """(path, value) pairs of nested mappings."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key in BY_SAVING:
                continue
            yield from _flat(f"{where}.{key}", inner)
    else:
        yield where, repr(value)


def _short(of_torch):
    return str(of_torch).removeprefix("torch.")
