"""A checkpoint as it is found in a folder or on the hub: its configuration, its processor and its weights, or what is wrong with them.

Weights are read from safetensors only, all of them and no others, and no code of a repository is run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import AutoProcessor, LlavaConfig, LlavaForConditionalGeneration, ProcessorMixin
from transformers.utils import logging

from .errors import FOREIGN, InputError, first_line
from .modules import MERGE

EXAMPLE = "llava-hf/llava-1.5-7b-hf"
AGAIN = "save or download it again"

# Left over in files of all ages, and read by nothing: tables that are computed anew, and the head of a vision tower of its own.
HARMLESS = re.compile(r"rotary_emb\.inv_freq$|position_ids$|(^|\.)vision_tower\.(vision_model\.)?head\.")


def read_config(name: str, source: str, revision: str | None) -> tuple[LlavaConfig, str | None]:
    """The configuration of a LLaVA.

    Args:
        name: what messages call it.
        source: a folder, or a hub id.

    Returns:
        The configuration, and the hub's commit that it is of; None for a folder.

    Raises:
        InputError: nothing that can be reached or read there, or another model than a LLaVA in Hugging Face's layout.
    """
    path = _file(name, source, "config.json", revision)
    if _has_adapter(source, revision):
        raise InputError(
            f"{name!r} holds adapters (adapter_config.json) {'instead of' if path is None else 'beside'} a model; {MERGE}, save that "
            "with save_pretrained together with the processor, and give the new folder"
        )
    if path is None:
        raise InputError(
            f"{name!r} has no config.json, so it is no model; give a folder written by save_pretrained, or a hub id such as {EXAMPLE}"
        )
    try:
        said = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read config.json of {name!r} ({first_line(error)}); {AGAIN}") from error
    kind = said.get("model_type") if isinstance(said, dict) else None
    if isinstance(said, dict) and any(key.startswith("mm_") for key in said):
        raise InputError(
            f"{name!r} is in the layout of the original LLaVA repositories, which transformers does not read; take the checkpoint "
            f"converted for transformers (llava-hf/..., such as {EXAMPLE})"
        )
    if kind != "llava":
        raise InputError(
            f"{name!r} is a {kind!r} model, not a LLaVA; give a checkpoint whose model_type is 'llava', such as {EXAMPLE}"
            if kind
            else f"config.json of {name!r} names no model_type; give a checkpoint whose model_type is 'llava', such as {EXAMPLE}"
        )
    commit = None if Path(source).is_dir() else path.parent.name
    try:
        return LlavaConfig.from_pretrained(source, revision=commit), commit
    except FOREIGN as error:
        raise InputError(f"config.json of {name!r} is no LLaVA's ({_said(error)}); {AGAIN}") from error


def read_processor(name: str, source: str, revision: str | None) -> ProcessorMixin:
    """The processor beside a model, as it is found.

    Raises:
        InputError: there is none, or none that can be read here.
    """
    try:
        with _quiet():
            return AutoProcessor.from_pretrained(source, revision=revision)
    except FOREIGN as error:
        if sentence := _unreachable(name, revision, error):
            raise InputError(sentence) from error
        if isinstance(error, ImportError):
            raise InputError(
                f"the processor of {name!r} needs a package that is not installed ({first_line(error)}); install it"
            ) from error
        raise InputError(
            f"{name!r} has no processor that can be read ({_said(error)}); save one beside it with processor.save_pretrained"
        ) from error


def skeleton(name: str, config: LlavaConfig) -> LlavaForConditionalGeneration:
    """The model without weights, on the meta device: all its modules and shapes, in a tenth of a second.

    Raises:
        InputError: transformers cannot build a LLaVA on that language model or vision tower.
    """
    try:
        with _quiet(), torch.device("meta"):
            return LlavaForConditionalGeneration(config)
    except FOREIGN as error:
        text, vision = config.text_config.model_type, config.vision_config.model_type
        raise InputError(
            f"transformers cannot build {name!r}, a LLaVA on the language model {text!r} and the vision tower {vision!r} "
            f"({_said(error)}); use one on a Llama-style language model, such as {EXAMPLE}"
        ) from error


def read_weights(name: str, source: str, revision: str | None, **options) -> LlavaForConditionalGeneration:
    """The model with exactly the weights of its files.

    Args:
        options: ``device_map``, ``dtype`` and ``attn_implementation`` as in transformers.

    Raises:
        InputError: no safetensors, files that cannot be read, tensors that are missing, left over or of another shape,
            or no room for them.
    """
    if Path(source).is_dir():
        _check_files(name, Path(source))
    try:
        with _quiet():
            module, found = LlavaForConditionalGeneration.from_pretrained(
                source,
                revision=revision,
                use_safetensors=True,
                # What does not fit is refused in our words.
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **options,
            )
    except FOREIGN as error:
        raise InputError(_unread(name, revision, error, options)) from error
    _check_complete(name, found)
    return module


def _unread(name, revision, error, options):
    """Why the weights could not be read, and what to do."""
    if sentence := _unreachable(name, revision, error):
        return sentence
    device, dtype = options["device_map"], options["dtype"]
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return (
            f"{name!r} does not fit into memory with device_map={device!r} and dtype={dtype!r}; give dtype='bfloat16', device_map='cpu', "
            "or remote=True to leave it on a server"
        )
    if isinstance(error, ImportError):
        return f"loading {name!r} needs a package that is not installed ({first_line(error)}); install it"
    return (
        f"cannot load the weights of {name!r}; they must be safetensors that are whole, for a device and number format that exist here "
        f"(device_map={device!r}, dtype={dtype!r}): {_said(error)}"
    )


def _check_files(name, folder):
    """Refuse a folder without safetensors before transformers looks for them."""
    files = sorted(path.name for path in folder.iterdir())
    if any(file.endswith((".safetensors", ".safetensors.index.json")) for file in files):
        return
    pickles = [file for file in files if file.endswith((".bin", ".pt", ".pth", ".ckpt")) and file != "training_args.bin"]
    if pickles:
        raise InputError(
            f"the weights of {name!r} are pickles ({pickles[0]}), which can run code as they are read; only safetensors are read, so "
            "save it again with a current transformers (model.save_pretrained)"
        )
    raise InputError(f"{name!r} holds no weights (no .safetensors file); {AGAIN}")


def _check_complete(name, found):
    """Refuse weights that were not in the files, or are in them and not in the model."""
    missing = sorted(found["missing_keys"])
    left_over = sorted(key for key in found["unexpected_keys"] if not HARMLESS.search(key))
    other = sorted(f"{key} ({_sizes(there)} in the file, {_sizes(here)} in the model)" for key, there, here in found["mismatched_keys"])
    reasons = [
        f"{len(keys)} {'tensor is' if len(keys) == 1 else 'tensors are'} {what} ({_few(keys)})"
        for keys, what in ((missing, "missing from it"), (left_over, "left over"), (other, "of another shape"))
        if keys
    ]
    if not reasons:
        return
    if any("lora_" in key or ".base_layer." in key for key in left_over):
        advice = f"these are an adapter's: {MERGE} and save that with save_pretrained"
    else:
        advice = "save it again with model.save_pretrained from where it runs as it should, or take another checkpoint"
    raise InputError(f"the weights of {name!r} do not fit its configuration: {', '.join(reasons)}; {advice}")


def _few(keys):
    return ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")


def _sizes(shape):
    return " × ".join(map(str, shape))


def _file(name, source, file, revision):
    """Where a file of a checkpoint lies on this machine, fetched if it has to be; None where the checkpoint has none."""
    if Path(source).is_dir():
        path = Path(source, file)
        return path if path.exists() else None
    try:
        return Path(hf_hub_download(source, file, revision=revision))
    except FOREIGN as error:
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            return None
        sentence = _unreachable(name, revision, error) or f"cannot fetch {file} of {name!r} from the hub ({_said(error)})"
        raise InputError(sentence) from error


def _has_adapter(source, revision):
    if Path(source).is_dir():
        return Path(source, "adapter_config.json").exists()
    try:
        return bool(hf_hub_download(source, "adapter_config.json", revision=revision))
    except FOREIGN:
        # Whether the hub can be reached is said of config.json.
        return False


def _unreachable(name, revision, error):
    """What is wrong between here and the hub, and what to do; None where an error is about something else."""
    causes = list(_chain(error))

    def among(*kinds):
        return next((cause for cause in causes if isinstance(cause, kinds)), None)

    if among(GatedRepoError):
        return (
            f"{name!r} is gated: accept its conditions at {constants.ENDPOINT}/{name} and log in as the same user "
            "(hf auth login, or HF_TOKEN)"
        )
    if among(RevisionNotFoundError):
        return f"{name!r} has no revision {revision!r}; give a branch, tag or commit that {constants.ENDPOINT}/{name} lists"
    if among(RepositoryNotFoundError):
        return (
            f"there is no folder {name!r} here, and the hub has no such repository or it is private; check the spelling, or log in "
            "as a user who may read it (hf auth login, or HF_TOKEN)"
        )
    if answered := among(HfHubHTTPError):
        status = answered.response.status_code
        if status in (401, 403):
            return (
                f"the hub does not let this user read {name!r} (HTTP {status}); log in as one who may (hf auth login, or HF_TOKEN)"
            )
        return f"the hub does not answer about {name!r} as it should (HTTP {status}); try again later"
    if among(OfflineModeIsEnabled, LocalEntryNotFoundError):
        return _offline(name, revision)
    # The client's own errors of a connection, which are not of this module's making in every version.
    if any(type(cause).__module__.split(".")[0] in ("httpx", "httpx2", "httpcore") for cause in causes):
        return _offline(name, revision)
    return None


def _offline(name, revision):
    which = f"revision {revision!r} of {name!r}" if revision else repr(name)
    elsewhere = f"fetch it where there is network (hf download {name} --local-dir FOLDER) and give the folder"
    if constants.HF_HUB_OFFLINE:
        return f"{which} was not downloaded before, and HF_HUB_OFFLINE forbids it now; unset that, or {elsewhere}"
    return (
        f"there is no folder {name!r} here, and the hub ({constants.ENDPOINT}) cannot be reached to look for {which}; check the network, "
        f"or {elsewhere}"
    )


def _chain(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _said(error):
    """What another package's error says, in a line without its full stop."""
    said = first_line(error)
    if isinstance(error, KeyError):
        said = f"no {said}"
    return said.rstrip(".:")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own report on what fits and what does not: it is refused in a sentence, or harmless."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
