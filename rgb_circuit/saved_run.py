"""Reading what a run left in its folder."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch

from .errors import InputError, first_line
from .llava import Llava
from .rgb_game import published_trial, sample_trials
from .trial import Trial
from .trials_file import read_trials

# What it takes to go on with a run.
NEEDED = {
    "model", "revision", "server", "dtype", "answer_form", "layers", "heads", "kv_heads", "d_head", "grid", "tile_px", "words",
    "options", "trials",
}  # fmt: skip


class ModelNeeded(Exception):
    """Something was asked of a model that is only recorded."""


def read_frame(folder: str | Path, name: str, columns: Sequence[str]) -> pd.DataFrame:
    """The frame ``name``.parquet of a run's folder.

    Args:
        columns: those that it must have.

    Raises:
        InputError: no such folder or file, a file that is not Parquet, or one that lacks a column.
    """
    path = _existing(folder, f"{name}.parquet")
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        reason = first_line(error)
        raise InputError(f"cannot read {path} ({reason}); run rgb-circuit run again with this --out") from error
    if missing := [column for column in columns if column not in frame]:
        lacking = f"column{'s' * (len(missing) > 1)} {', '.join(missing)}"
        raise InputError(f"{path} lacks the {lacking}; give the folder of a run of rgb-circuit run")
    return frame


def read_manifest(folder: str | Path) -> dict:
    """The manifest of a run's folder, as `rgb_circuit.results.manifest` makes it.

    Raises:
        InputError: no such folder or file, or a file that is no manifest.
    """
    path = _existing(folder, "manifest.json")
    try:
        manifest = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path} ({error}); delete {folder} and run rgb-circuit run again") from error
    if not isinstance(manifest, dict) or not {"model", "dtype"} <= set(manifest):
        raise InputError(f"{path} names no model and dtype; give the folder of a run of rgb-circuit run")
    return manifest


def read_run(folder: str | Path) -> dict:
    """The manifest of ``rgb-circuit run``, as `rgb_circuit.results.manifest` has it, with all that it takes to go on.

    Raises:
        InputError: as `read_manifest`; or a manifest of something else, or of another version.
    """
    manifest = read_manifest(folder)
    missing = sorted(NEEDED - set(manifest))
    trials = manifest.get("trials")
    whole = isinstance(trials, list) and all(isinstance(trial, dict) and "name" in trial for trial in trials)
    if missing or not whole or not {"positions", "device", "dtype"} <= set(manifest["options"]):
        what = f"nothing about {', '.join(missing)}" if missing else "too little about its options or trials"
        raise InputError(f"the manifest of {folder} says {what}; give the folder of a run of rgb-circuit run, of this version")
    return manifest


def recorded_trials(manifest: Mapping) -> list[Trial]:
    """The trials of a run, drawn or read again from what its manifest says.

    Args:
        manifest: from `read_run`.

    Raises:
        InputError: a trials file that is gone or cannot be used.
    """
    options = manifest["options"]
    if "trials_file" in options:
        return read_trials(options["trials_file"])
    if options.get("trials") == "published":
        return [published_trial()]
    if not str(options.get("trials")).isdecimal() or not isinstance(options.get("seed"), int):
        raise InputError("the manifest says nothing about how its trials were drawn; give the folder of a run of rgb-circuit run")
    place = dict(grid=manifest["grid"][0], tile_px=manifest["tile_px"])
    return sample_trials(manifest["words"], int(options["trials"]), options["seed"], **place, fixed={})


def recorded_model(manifest: Mapping) -> Llava:
    """The model of a run as far as its manifest says it: name and geometry. Whoever asks for more meets `ModelNeeded`."""
    return Llava(
        name=manifest["model"],
        revision=manifest["revision"],
        nnsight=_Absent(),
        processor=_Absent(),
        n_layers=manifest["layers"],
        n_heads=manifest["heads"],
        n_kv_heads=manifest["kv_heads"],
        d_head=manifest["d_head"],
        grid=tuple(manifest["grid"]),
        tile_px=manifest["tile_px"],
        dtype=getattr(torch, manifest["dtype"]),
        answer_form=manifest["answer_form"],
    )


class _Absent:
    def __getattr__(self, name):
        raise ModelNeeded(name)


def _existing(folder, name):
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; make one with rgb-circuit run --out {folder}")
    path = folder / name
    if not path.is_file():
        raise InputError(f"{folder} holds no {name}; give the folder of a run of rgb-circuit run")
    return path
