"""A checkpoint in a folder or on the hub: its contents, or what is wrong with it.

Weights are read from safetensors only, all of them and no others, and no code from a repository is
run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    StrictDataclassError,
)
from safetensors import SafetensorError
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    PreTrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
)
from transformers.utils import logging

from ..errors import FOREIGN, InputError, first_line
from ..files.git_lfs import is_pointer
from ..module.modules import MERGE, check_config
from ..processor_parts import read_processor as processor_beside
from ..warning import warn

EXAMPLE = "llava-hf/llava-1.5-7b-hf"
AGAIN = "save or download it again"

# Leftovers in many checkpoints that no model reads: tables that are computed anew, and the vision
# tower's own head.
HARMLESS = re.compile(
    r"rotary_emb\.inv_freq$|position_ids$|(^|\.)vision_tower\.(vision_model\.)?head\."
)


@dataclass(frozen=True)
class Checkpoint:
    """Where the files of a model are.

    Attributes:
        name: for messages.
        source: a folder, or a hub id.
        revision: of a hub repository, as requested: branch, tag or commit; None for its main
            branch.
        config: its config.json; None if it has none.
        commit: of a hub repository: the revision's commit at look-up; None for a folder.
        offline: of a hub repository: only files that were downloaded before are available.
    """

    name: str
    source: str
    revision: str | None
    config: Path | None
    commit: str | None = None
    offline: bool = False

    @property
    def place(self) -> dict:
        """Arguments of ``from_pretrained`` in addition to the source: one commit for all files."""
        return (
            {}
            if self.commit is None
            else {"revision": self.commit, "local_files_only": self.offline}
        )


def find(name: str, source: str, revision: str | None) -> Checkpoint:
    """Look a model up in its folder or on the hub.

    Raises:
        InputError: nothing there can be reached or read, or a file is only a Git LFS pointer.
    """
    if Path(source).is_dir():
        check_fetched(source, name)
        path = Path(source, "config.json")
        return Checkpoint(name, source, revision, path if path.exists() else None)
    offline, trouble = constants.HF_HUB_OFFLINE, None
    try:
        if not offline:
            # Ask once; a download would retry an unreachable hub for half a minute.
            get_hf_file_metadata(hf_hub_url(source, "config.json", revision=revision))
    except EntryNotFoundError:
        return Checkpoint(name, source, revision, None)
    except FOREIGN as error:
        if not _is_interruption(error):
            raise InputError(
                _unreachable(name, revision, error) or _unasked(name, error)
            ) from error
        offline, trouble = True, error
    try:
        path = Path(
            hf_hub_download(source, "config.json", revision=revision, local_files_only=offline)
        )
    except FOREIGN as error:
        # Not in the cache either: report why the hub failed.
        trouble = trouble or error
        raise InputError(
            _unreachable(name, revision, trouble) or _unasked(name, trouble)
        ) from trouble
    return Checkpoint(name, source, revision, path, path.parent.name, offline)


def check_fetched(folder: str | Path, name: str) -> None:
    """Raise InputError if files of a folder are still Git LFS pointers, a few lines of text
    each."""
    files = sorted(path for path in Path(folder).iterdir() if path.is_file())
    pointers = [path.name for path in files if is_pointer(path)]
    if pointers:
        raise InputError(
            f"{name!r} holds {_few(pointers)} as Git LFS pointers of some hundred bytes, without "
            f"what they stand for; run git lfs pull in {folder}"
        )


def read_config(found: Checkpoint) -> PreTrainedConfig:
    """The configuration of a vision-language model.

    Raises:
        InputError: adapters, a missing or unreadable configuration, or one of a model that does not
            see pictures through image tokens.
    """
    name, path = found.name, found.config
    if _exists(found, "adapter_config.json", unknown=False):
        raise InputError(
            f"{name!r} holds adapters (adapter_config.json) "
            f"{'instead of' if path is None else 'beside'} a model; {MERGE}, save that with "
            "save_pretrained together with the processor, and give the new folder"
        )
    if path is None:
        raise InputError(
            f"{name!r} has no config.json, so it is no model; give a folder written by "
            f"save_pretrained, or a hub id such as {EXAMPLE}"
        )
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read config.json of {name!r} ({first_line(error)}); {AGAIN}"
        ) from error
    kind = content.get("model_type") if isinstance(content, dict) else None
    if isinstance(content, dict) and {
        "mm_vision_tower",
        "mm_projector_type",
        "mm_hidden_size",
    } & set(content):
        raise InputError(
            f"{name!r} is in the layout of the original LLaVA repositories, which transformers "
            f"does not read; take the checkpoint converted for transformers (llava-hf/..., such as "
            f"{EXAMPLE})"
        )
    if not kind:
        raise InputError(
            f"{name!r} names no model_type in its config.json; {AGAIN}, or give another, such as "
            f"{EXAMPLE}"
        )
    try:
        config = AutoConfig.from_pretrained(found.source, **found.place)
    except FOREIGN as error:
        if kind in CONFIG_MAPPING:
            raise InputError(
                f"config.json of {name!r} describes no model of type {kind!r} ({_said(error)}); "
                f"{AGAIN}, or give another, such as "
                f"{EXAMPLE}"
            ) from error
        raise InputError(
            f"{name!r} is a model of type {kind!r}, which transformers does not know by itself; "
            "give a vision-language model that "
            f"is part of transformers, such as {EXAMPLE}"
        ) from error
    check_config(config, name)
    return config


def read_processor(found: Checkpoint) -> ProcessorMixin:
    """The processor of a checkpoint, unchanged.

    Raises:
        InputError: it is missing or cannot be read here.
    """
    name = found.name
    try:
        with _quiet():
            return processor_beside(found.source, **found.place)
    except InputError:
        raise
    except FOREIGN as error:
        if found.commit and (sentence := _unreachable(name, found.revision, error)):
            raise InputError(sentence) from error
        raise InputError(
            f"{name!r} has no processor that can be read ({_said(error)}); save one beside it with "
            "processor.save_pretrained"
        ) from error


def skeleton(name: str, config: PreTrainedConfig) -> PreTrainedModel:
    """The model without weights, on the meta device: all its modules and shapes, in a tenth of a
    second.

    Raises:
        InputError: transformers cannot build it with that language model or vision tower.
    """
    try:
        # The checkpoint's attention may not be installed; every model has eager.
        config._attn_implementation = "eager"
        with _quiet(), torch.device("meta"):
            return MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)](config)
    except ImportError as error:
        raise InputError(
            f"building {name!r} needs a package that is not installed ({_said(error)}); install it"
        ) from error
    except FOREIGN as error:
        text, vision = config.text_config.model_type, config.vision_config.model_type
        raise InputError(
            f"transformers cannot build {name!r}, a model of type {config.model_type!r} on the "
            f"language model {text!r} and the "
            f"vision tower {vision!r} ({_said(error)}); use one on a Llama-style language model, "
            f"such as {EXAMPLE}"
        ) from error


def read_weights(found: Checkpoint, config: PreTrainedConfig, **options) -> PreTrainedModel:
    """The model with exactly the weights of its files.

    Args:
        options: ``device_map``, ``dtype`` and ``attn_implementation`` as in transformers.

    Raises:
        InputError: no safetensors, unreadable files, tensors that are missing, left over or of
            another shape, or too little memory.
    """
    _check_files(found)
    try:
        with _quiet():
            module, report = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)].from_pretrained(
                found.source,
                **found.place,
                use_safetensors=True,
                # `_check_complete` refuses mismatched sizes in our words.
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **options,
            )
    except FOREIGN as error:
        raise InputError(_unread(found, error, options)) from error
    _check_complete(found.name, report)
    _say_unquantised(found.name, config, module)
    return module


def _say_unquantised(name, config, module):
    """Warn if the configuration says that weights are quantised, but transformers loads them as if
    they were not: the method is unknown to it, or has no kernel here."""
    claims = [
        part.quantization_config
        for part in (config, config.text_config)
        if getattr(part, "quantization_config", None)
    ]
    if claims and getattr(module, "hf_quantizer", None) is None:
        warn(
            f"config.json of {name!r} says that its weights are quantised "
            f"({claims[0].get('quant_method')!r}), but transformers applies no such quantisation "
            f"here, so it runs on plain weights in {str(module.dtype).removeprefix('torch.')}, "
            "whose numbers may differ from those of the quantised model"
        )


def _unread(found, error, options):
    """Why the weights could not be read, and what to do."""
    name = found.name
    if found.commit and (sentence := _unreachable(name, found.revision, error)):
        return sentence
    device, dtype = options["device_map"], options["dtype"]
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return (
            f"{name!r} does not fit into memory with device_map={device!r} and dtype={dtype!r}; "
            "give dtype='bfloat16', device_map='cpu', or remote=True to leave it on a server"
        )
    if isinstance(error, StrictDataclassError):
        # The first line of this error does not say what is wrong.
        message = " ".join(str(error).split()).rstrip(".")
        return (
            f"transformers refuses the configuration of {name!r} with attn_implementation="
            f"{options['attn_implementation']!r} ({message}); mend its config.json, or give the "
            "other of 'sdpa' and 'eager'"
        )
    if isinstance(error, ImportError):
        return (
            f"loading {name!r} needs a package that is not installed ({first_line(error)}); "
            "install it"
        )
    if isinstance(error, (OSError, LookupError, TypeError, json.JSONDecodeError, SafetensorError)):
        return (
            f"cannot read the weights of {name!r} ({_said(error)}); {AGAIN}, all of its "
            "safetensors files and their index"
        )
    return (
        f"cannot load the weights of {name!r} with device_map={device!r} and dtype={dtype!r} "
        f"({_said(error)}); give a device and a number format that exist here"
    )


def _check_files(found):
    """Refuse a checkpoint without safetensors, before transformers advises otherwise."""
    if any(
        _exists(found, file, unknown=True)
        for file in ("model.safetensors.index.json", "model.safetensors")
    ):
        return
    for file in ("pytorch_model.bin.index.json", "pytorch_model.bin"):
        if _exists(found, file, unknown=False):
            raise InputError(
                f"the weights of {found.name!r} are pickles ({file}), which can run code as they "
                "are read; only safetensors are read, so take a revision or a checkpoint that has "
                "them, or save it again with a current transformers (model.save_pretrained)"
            )
    raise InputError(
        f"{found.name!r} has no weights (model.safetensors, or its index and shards); {AGAIN}"
    )


def _exists(found, file, unknown):
    """Whether a checkpoint has a file; ``unknown`` if the hub does not say."""
    if Path(found.source).is_dir():
        return Path(found.source, file).exists()
    revision = found.commit or found.revision
    if isinstance(try_to_load_from_cache(found.source, file, revision=revision), str):
        return True
    if found.offline:
        return unknown
    try:
        return bool(get_hf_file_metadata(hf_hub_url(found.source, file, revision=revision)))
    except EntryNotFoundError:
        return False
    except FOREIGN:
        return unknown


def _check_complete(name, report):
    """Refuse a checkpoint whose tensors differ from the model's in name or shape."""
    missing = sorted(report["missing_keys"])
    left_over = sorted(key for key in report["unexpected_keys"] if not HARMLESS.search(key))
    mismatched = sorted(
        f"{key} ({_sizes(in_file)} in the file, {_sizes(here)} in the model)"
        for key, in_file, here in report["mismatched_keys"]
    )
    reasons = [
        f"{len(keys)} {'tensor is' if len(keys) == 1 else 'tensors are'} {what} ({_few(keys)})"
        for keys, what in (
            (missing, "missing"),
            (left_over, "left over"),
            (mismatched, "of another shape"),
        )
        if keys
    ]
    if not reasons:
        return
    if any("lora_" in key or ".base_layer." in key for key in left_over):
        advice = f"these are an adapter's: {MERGE} and save that with save_pretrained"
    else:
        advice = (
            "save it again with model.save_pretrained from where it runs as it should, or take "
            "another checkpoint"
        )
    raise InputError(
        f"the weights of {name!r} do not fit its configuration: {', '.join(reasons)}; {advice}"
    )


def _few(keys):
    return ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")


def _sizes(shape):
    return " × ".join(map(str, shape))


def _unreachable(name, revision, error):
    """What is wrong between this machine and the hub, and what to do; None for other errors."""
    causes = list(_chain(error))

    def among(*kinds):
        return next((cause for cause in causes if isinstance(cause, kinds)), None)

    if among(GatedRepoError):
        return (
            f"{name!r} is gated: accept its conditions at {constants.ENDPOINT}/{name} and log in "
            "as the same user (hf auth login, or HF_TOKEN)"
        )
    if among(RevisionNotFoundError):
        return (
            f"{name!r} has no revision {revision!r}; give a branch, tag or commit that "
            f"{constants.ENDPOINT}/{name} lists"
        )
    if among(RepositoryNotFoundError):
        return (
            f"there is no folder {name!r} here, and the hub has no such repository or it is "
            "private; check the spelling, or log in as a user who may read it (hf auth login, or "
            "HF_TOKEN)"
        )
    if answered := among(HfHubHTTPError):
        status = answered.response.status_code
        if status in (401, 403):
            return (
                f"the hub does not let this user read {name!r} (HTTP {status}); log in as one who "
                "may (hf auth login, or HF_TOKEN)"
            )
        return (
            f"the hub does not answer about {name!r} as it should (HTTP {status}); try again later"
        )
    if _is_interruption(error):
        return _offline(name, revision)
    return None


def _is_interruption(error):
    """Whether the hub was not asked or did not answer, so that earlier downloads may serve."""
    causes = list(_chain(error))
    for cause in causes:
        if isinstance(cause, HfHubHTTPError):
            return cause.response.status_code >= 500 or cause.response.status_code == 429
    # The hub client's connection errors come from different packages in different versions.
    return any(
        isinstance(cause, (OfflineModeIsEnabled, LocalEntryNotFoundError))
        or type(cause).__module__.split(".")[0] in ("httpx", "httpx2", "httpcore")
        for cause in causes
    )


def _unasked(name, error):
    return f"cannot look up {name!r} on the hub ({_said(error)}); check the name and the network"


def _offline(name, revision):
    which = f"revision {revision!r} of {name!r}" if revision else repr(name)
    elsewhere = (
        f"fetch it where there is network (hf download {name} --local-dir FOLDER) and "
        "give the folder"
    )
    if constants.HF_HUB_OFFLINE:
        return (
            f"{which} is not on this machine, or not all of it, and HF_HUB_OFFLINE forbids to "
            f"fetch it; unset that, or {elsewhere}"
        )
    return (
        f"there is no folder {name!r} here, and the hub ({constants.ENDPOINT}) cannot be reached "
        f"to look for {which}; check the network, or {elsewhere}"
    )


def _chain(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _said(error):
    """The message of another package's error, in one line without its full stop."""
    said = first_line(error)
    if isinstance(error, KeyError):
        said = f"no {said}"
    return said.rstrip(".:")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' report on mismatches: we refuse them in a sentence, or they are
    harmless."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
