"""Reading the processor beside a model, with torchvision or without: it often does not fit a torch
for CPUs.

Of what vision-language models need for a picture, transformers has Pillow versions. torchvision is
wanted by two things that pictures do not need: a processor's video part, and one helper of
PixtralProcessor, which the Pillow version of its image processor has as well.
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

# Where a repository says which class its processor has, the first that says so.
SAYS_CLASS = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")


def read_processor(source: str | os.PathLike, revision: str | None = None, **hub) -> ProcessorMixin:
    """The processor that is saved beside a model; without its video part where that cannot be
    built.

    No code of a repository is run.

    Args:
        source: a folder, or a hub id.
        revision: of a hub repository.
        hub: ``local_files_only``, ``cache_dir`` or ``token``, as in transformers.

    Raises:
        InputError: a package that the processor needs is missing, or only a part of it is there.
        Exception: whatever transformers raises where files are missing or cannot be read.
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
        # A missing video part shows in as many ways as there are layouts; whatever else it was
        # comes again.
        kind = _class(source, place)
        if kind is None:
            raise
        return without_video(kind).from_pretrained(source, trust_remote_code=False, **place)


def processor_class(name: str) -> type[ProcessorMixin] | None:
    """The class of transformers with this name, with or without torchvision; None where there is
    none."""
    return _imported(processor_class_from_name(name))


def without_video(kind: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """The processor class without its video part; the class itself where it has none."""
    has_video = "video_processor" in kind.get_attributes()
    return _without_video(kind) if has_video else kind  # type: ignore[arg-type]


@functools.cache
def _without_video(kind):
    place = kind.get_attributes().index("video_processor")

    class Parts(ProcessorMixin):
        """What the class hands its parts on to, the video part among them."""

        def __init__(self, *parts, **options):
            super().__init__(*parts[:place], *parts[place + 1 :], **options)

    def get_attributes(cls):
        return [part for part in super(own, cls).get_attributes() if part != "video_processor"]

    def from_args_and_dict(cls, parts, settings, **options):
        # The class takes its parts in its own order, wherever the video part is among them.
        settings = {name: value for name, value in settings.items() if name != "video_processor"}
        parts = [*parts[:place], None, *parts[place:]]
        return super(own, cls).from_args_and_dict(parts, settings, **options)

    # Of the same name, so that it is saved as the class that it stands for.
    own: Any = type(
        kind.__name__,
        (kind, Parts),
        {
            "__module__": kind.__module__,
            "__doc__": kind.__doc__,
            "get_attributes": classmethod(get_attributes),
            "from_args_and_dict": classmethod(from_args_and_dict),
            # SmolVLM's chat template and ERNIE's save_pretrained ask these of it, for videos.
            "video_processor": SimpleNamespace(num_frames=None, fps=None, font=""),
        },
    )
    return own


def _class(source, place):
    """The class of the processor, with what it is made of imported; None where there is none."""
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
    """The class that transformers puts a dummy in place of, where torchvision alone is what it
    misses."""
    if not getattr(kind, "is_dummy", False):
        return kind
    # Its module takes a helper from the torchvision image processor's module; the Pillow one's has
    # the same.
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
