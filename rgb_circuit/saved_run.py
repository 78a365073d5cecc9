"""Reading what a run left in its folder."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from .errors import InputError


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
        reason = str(error).splitlines()[0]
        raise InputError(f"cannot read {path} ({reason}); run rgb-circuit run again with this --out") from error
    if missing := [column for column in columns if column not in frame]:
        lacking = f"column{'s' * (len(missing) > 1)} {', '.join(missing)}"
        raise InputError(f"{path} lacks the {lacking}; give the folder of a run of rgb-circuit run")
    return frame


def read_manifest(folder: str | Path) -> dict:
    """The manifest of a run's folder, as `rgb_circuit.results.write_manifest` wrote it.

    Raises:
        InputError: no such folder or file, or a file that is no manifest.
    """
    path = _existing(folder, "manifest.json")
    try:
        manifest = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path} ({error}); run rgb-circuit run again with this --out") from error
    if not isinstance(manifest, dict) or not {"model", "dtype"} <= set(manifest):
        raise InputError(f"{path} names no model and dtype; give the folder of a run of rgb-circuit run")
    return manifest


def _existing(folder, name):
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; make one with rgb-circuit run --out {folder}")
    path = folder / name
    if not path.is_file():
        raise InputError(f"{folder} holds no {name}; give the folder of a run of rgb-circuit run")
    return path
