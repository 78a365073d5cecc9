"""A run's folder: Parquet frames, figures, and a manifest that says how to get them again."""

import hashlib
import io
import json
import os
import platform
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from .errors import CannotWrite
from .llava import Llava
from .rgb_game import PALETTE
from .trial import Trial

if TYPE_CHECKING:
    # Only a name here; importing it would make every import of the package slower.
    from matplotlib.figure import Figure

PACKAGES = ("rgb_circuit", "nnsight", "torch", "transformers", "numpy", "pandas", "pillow")


def open_folder(path: str | Path) -> Path:
    """Make the folder, or raise InputError where nothing can be written."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable.{secrets.token_hex(4)}.part"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CannotWrite(f"cannot write to {folder} ({error.strerror}); choose another folder with --out") from error
    return folder


def write_frame(frame: pd.DataFrame, folder: Path, name: str) -> Path:
    """Write ``name``.parquet, whole or not at all."""
    return write_bytes(folder / f"{name}.parquet", frame.to_parquet(index=False))


def write_figure(figure: "Figure", folder: Path, name: str) -> Path:
    """Write ``name``.png, whole or not at all."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=150, format="png")
    return write_bytes(folder / f"{name}.png", drawn.getvalue())


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a file whole or not at all: beside its place, to the disk, and then renamed.

    Raises:
        CannotWrite: disk full, folder read-only or gone; files that were there stay as they are.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            # Without it a power cut could leave the name and not the content.
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise CannotWrite(
            f"cannot write {path} ({error.strerror}); what was finished is kept: make that folder writable, with room on its disk, "
            "and run the same command again"
        ) from error
    return path


def manifest(model: Llava, trials: Sequence[Trial], options: Mapping[str, object]) -> dict:
    """What shapes a run's numbers: model, number format, answer form, versions, trials with their pictures' hashes, options.

    Returns:
        Only what JSON can hold. ``weights`` is a hash of the weights and the processor in memory; None for a hub model, whose
        ``commit`` says it, and for a model on a server. ``server`` is the server's URL, or None.
    """
    commit = getattr(model.config, "_commit_hash", None)
    return {
        "model": model.name,
        "revision": model.revision,
        "commit": commit,
        "weights": None if commit or model.server else _weights_hash(model),
        "dtype": str(model.dtype).removeprefix("torch."),
        "server": model.server and model.server.url,
        "device": None if model.server else model.nnsight.device.type,
        "attention": model.config.text_config._attn_implementation,
        "answer_form": model.answer_form,
        "layers": model.n_layers,
        "heads": model.n_heads,
        "kv_heads": model.n_kv_heads,
        "d_head": model.d_head,
        "grid": list(model.grid),
        "tile_px": model.tile_px,
        "words": model.one_token_words(PALETTE),
        "options": dict(options),
        "trials": [described(trial) for trial in trials],
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of Python and the packages that numbers come from."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def described(trial: Trial) -> dict:
    """Everything about a trial, its pictures as hashes of their pixels; only what JSON can hold."""
    return {
        "name": trial.name,
        "prompt": trial.prompt,
        "answers": dict(trial.answers),
        "expected": dict(trial.expected),
        "tile": None if trial.tile is None else [int(place) for place in trial.tile],
        "grid": trial.grid,
        "pictures": {condition: _picture_hash(image) for condition, image in trial.images.items()},
    }


def _picture_hash(image):
    # Bytes of a palette picture say nothing without the palette.
    return hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.convert("RGBA").tobytes()).hexdigest()


def _weights_hash(model):
    found = hashlib.sha256(model.config.to_json_string().encode())
    found.update(model.processor.image_processor.to_json_string().encode())
    found.update(json.dumps(model.processor.tokenizer.get_vocab(), sort_keys=True).encode())
    for name, tensor in model.nnsight._module.state_dict().items():
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
        # Offloaded weights are not in memory.
        if not tensor.is_meta:
            found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()
