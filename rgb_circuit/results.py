"""A run's folder: Parquet frames, figures, and a manifest that says how to get them again."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from .errors import InputError
from .llava import Llava
from .trial import Trial

PACKAGES = ("nnsight", "torch", "transformers", "numpy", "pandas")


def open_folder(path: str | Path) -> Path:
    """Make the folder, or raise InputError where nothing can be written."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write to {folder} ({error.strerror}); choose another folder with --out") from error
    return folder


def clear(folder: Path, names: Sequence[str]) -> None:
    """Remove what an earlier run left under these file names, so that a folder never holds parts of two runs."""
    for name in names:
        (folder / name).unlink(missing_ok=True)


def write_frame(frame: pd.DataFrame, folder: Path, name: str) -> Path:
    """Write ``name``.parquet, whole or not at all."""
    return _replace(folder / f"{name}.parquet", lambda path: frame.to_parquet(path, index=False))


def write_figure(figure: Figure, folder: Path, name: str) -> Path:
    """Write ``name``.png, whole or not at all."""
    return _replace(folder / f"{name}.png", lambda path: figure.savefig(path, dpi=150, format="png"))


def write_manifest(folder: Path, model: Llava, trials: Sequence[Trial], options: Mapping[str, object]) -> Path:
    """Write manifest.json: model and revision, number format, answer form, versions, trials, options."""
    manifest = {
        "model": model.name,
        "revision": model.revision,
        "dtype": str(model.dtype).removeprefix("torch."),
        "answer_form": model.answer_form,
        "layers": model.n_layers,
        "heads": model.n_heads,
        "kv_heads": model.n_kv_heads,
        "grid": list(model.grid),
        "options": dict(options),
        "trials": [{"name": trial.name, "answers": dict(trial.answers), "tile": trial.tile} for trial in trials],
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }
    return _replace(folder / "manifest.json", lambda path: path.write_text(json.dumps(manifest, indent=2) + "\n"))


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a file, whole or not at all."""
    return _replace(path, lambda part: part.write_bytes(data))


def _replace(path, write):
    """Write beside ``path`` and rename, so that a killed run leaves no half file."""
    part = path.with_name(f".{path.name}.part")
    write(part)
    os.replace(part, path)
    return path
