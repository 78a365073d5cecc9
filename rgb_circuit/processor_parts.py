"""Read a model's processor, with torchvision or without: torchvision often does not fit a torch for
CPUs.

For pictures, transformers has Pillow versions of everything that vision-language models need. Two
things need torchvision all the same, though pictures do not: a processor's video part, and one
helper of PixtralProcessor, which the Pillow version of its image processor has as well.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoProcessor, ProcessorMixin
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING, processor_class_from_name
from transformers.utils import cached_file

from .errors import InputError

EXTRA = "pip install 'rgb_circuit[families]'"

# The files of a repository that may name its processor's class; the first that does counts.
SAYS_CLASS = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")


def read_processor(source: str | os.PathLike, revision: str | None = None, **hub) -> ProcessorMixin:
    """The processor saved with a model; without its video part if that cannot be built.

    No code of a repository is run.

    Args:
        source: a folder, or a hub id.
        revision: of a hub repository.
        hub: ``local_files_only``, ``cache_dir`` or ``token``, as in transformers.

    Raises:
        InputError: a package that the processor needs is missing, or only a part of the processor
            is there.
        Exception: whatever transformers raises if files are missing or cannot be read.
    """
    place = {"revision": revision, **hub} if revision is not None else hub
    try:
        processor = _read(source, place)
    except ImportError as error:
        said = " ".join(str(error).split()).rstrip(".")
        advice = (
            EXTRA
            if "num2words" in said
            else f"install one that belongs to torch {torch.__version__}"
        )
        raise InputError(
            f"the processor of {os.fspath(source)!r} needs a package that is not installed "
            f"({said}); {advice}"
        ) from error
    if not isinstance(processor, ProcessorMixin):
        raise InputError(
            f"{os.fspath(source)!r} has a {type(processor).__name__} but no processor of pictures "
            "and text; save one beside it with processor.save_pretrained"
        )
    return processor


def _read(source, place):
    try:
        return AutoProcessor.from_pretrained(source, trust_remote_code=False, **place)
    except Exception:
        # A missing video part fails in as many ways as there are repository layouts, so try without
        # it; any other error is raised again.
        kind = _class(source, place)
        if kind is None:
            raise
        return without_video(kind).from_pretrained(source, trust_remote_code=False, **place)


def processor_class(name: str) -> type[ProcessorMixin] | None:
    """The class of transformers with this name, with or without torchvision; None if there is
    none."""
    return _imported(processor_class_from_name(name))


def without_video(kind: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """The processor class without its video part; the class itself if it has none."""
    has_video = "video_processor" in kind.get_attributes()
    return _without_video(kind) if has_video else kind  # type: ignore[arg-type]


@functools.cache
def _without_video(kind):
    place = kind.get_attributes().index("video_processor")

    class Parts(ProcessorMixin):
        """The base class that gets the parts, the video part among them."""

        def __init__(self, *parts, **options):
            super().__init__(*parts[:place], *parts[place + 1 :], **options)

    def get_attributes(cls):
        return [part for part in super(own, cls).get_attributes() if part != "video_processor"]

    def from_args_and_dict(cls, parts, settings, **options):
        # The class takes its parts in its own order, so the video part's place must be filled.
        settings = {name: value for name, value in settings.items() if name != "video_processor"}
        parts = [*parts[:place], None, *parts[place:]]
        return super(own, cls).from_args_and_dict(parts, settings, **options)

    # With the same name, so that it is saved as the class that it replaces.
    own: Any = type(
        kind.__name__,
        (kind, Parts),
        {
            "__module__": kind.__module__,
            "__doc__": kind.__doc__,
            "get_attributes": classmethod(get_attributes),
            "from_args_and_dict": classmethod(from_args_and_dict),
            # SmolVLM's chat template and ERNIE's save_pretrained read these, for videos.
            "video_processor": SimpleNamespace(num_frames=None, fps=None, font=""),
        },
    )
    return own


def _class(source, place):
    """The class of the processor, its parts imported; None if there is none."""
    for file in SAYS_CLASS:
        try:
            with open(cached_file(source, file, **place), encoding="utf-8") as lines:
                said = json.load(lines).get("processor_class")
        except (OSError, ValueError):
            continue
        if said is not None:
            return processor_class(said)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, **place)
    except (OSError, ValueError):
        return None
    return _imported(PROCESSOR_MAPPING[type(config)]) if type(config) in PROCESSOR_MAPPING else None


def _imported(kind):
    """The class behind a dummy of transformers, if only torchvision is missing; any other class as
    it is."""
    if not getattr(kind, "is_dummy", False):
        return kind
    # The class's module imports a helper from the torchvision image processor's module; the Pillow
    # version's module has the same helper.
    home = getattr(transformers, kind.__name__).__module__
    package, _, module = home.rpartition(".")
    family = module.removeprefix("processing_")
    torchvision, pillow = (
        f"{package}.image_processing_{family}",
        f"{package}.image_processing_pil_{family}",
    )
    try:
        sys.modules[torchvision] = importlib.import_module(pillow)
        return getattr(importlib.import_module(home), kind.__name__)
    finally:
        sys.modules.pop(torchvision, None)
