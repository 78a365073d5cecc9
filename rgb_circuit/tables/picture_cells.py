"""Pictures as cells of tables hold them: paths, encoded bytes, ``{bytes, path}``, arrays, Pillow
pictures."""

import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InputError
from ..files.table_text import shortened
from ..pictures import PictureBytes, PictureFile, Source
from ..pictures.picture import as_rgb
from .rows import is_missing

# No path is longer; some tables hold the pictures themselves, as base64.
LONGEST_PATH = 4096


def picture_of(cell: object, folder: Path, known: dict[object, Source]) -> Source:
    """The picture of a cell, looked at once. Files stay in their files, and bytes stay bytes.

    Args:
        folder: that paths count from.
        known: path or bytes → picture that was looked at before, which this adds to.

    Raises:
        InputError: a cell that holds no picture, or several.
    """
    # A data set's own way to hold one.
    if isinstance(cell, Mapping) and set(cell) <= {"bytes", "path"}:
        cell = cell["path"] if cell.get("bytes") is None else cell["bytes"]
    if isinstance(cell, (list, tuple)) and len(cell) == 1:
        (cell,) = cell
    if is_missing(cell):
        raise InputError("there is no picture; fill the cell")
    if isinstance(cell, (list, tuple)):
        raise InputError(
            f"there are {len(cell)} pictures, and a model is shown one at a time here; give each a "
            "condition of its own, and a question about one picture"
        )
    if isinstance(cell, Image.Image):
        return as_rgb(cell)
    if isinstance(cell, np.ndarray):
        return as_rgb(_of_array(cell))
    if isinstance(cell, (bytes, bytearray)):
        data = bytes(cell)
        if data not in known:
            known[data] = PictureBytes.read(data)
        return known[data]
    if not isinstance(cell, (str, os.PathLike)):
        raise InputError(
            f"{shortened(cell)} ({type(cell).__name__}) is no picture; give a path, the bytes of a "
            "PNG or JPEG, an array of 0 to 255 (uint8), or a Pillow picture"
        )
    return _in_file(os.fspath(cell), folder, known)


def _in_file(name, folder, known):
    if name.startswith(("http://", "https://")):
        raise InputError(f"{shortened(name)} is an address; fetch the picture, and give its path")
    if len(name) > LONGEST_PATH:
        raise InputError(
            f"there are {len(name)} letters, which is no path; give the picture's path or bytes"
        )
    path = on_disk(folder, name)
    if path not in known:
        try:
            known[path] = PictureFile.read(path)
        except FileNotFoundError as error:
            raise InputError(
                f"no file {path}; paths count from {folder}, unless folder= says another"
            ) from error
    return known[path]


def _of_array(cell):
    """A Pillow picture of an array (height, width), or (height, width, channels)."""
    whole = cell.dtype == np.uint8 or (
        cell.dtype.kind in "iu" and cell.min() >= 0 and cell.max() <= 255
    )
    if cell.dtype.kind == "f" and cell.size and cell.min() >= 0 and cell.max() <= 1:
        cell, whole = (255 * cell).round(), True
    if not whole or not (cell.ndim == 2 or (cell.ndim == 3 and cell.shape[2] in (1, 3, 4))):
        raise InputError(
            f"an array of {cell.dtype} with shape {cell.shape} is no picture; give (height, width, "
            "3) of 0 to 255, or of 0 to 1"
        )
    cell = cell[..., 0] if cell.ndim == 3 and cell.shape[2] == 1 else cell
    return Image.fromarray(np.ascontiguousarray(cell.astype(np.uint8)))


def on_disk(folder: Path, name: str) -> Path:
    """The path of a file that a table names. An accented letter may be one character there and two
    on disk, or the other way round."""
    path = folder / name
    if name.isascii() or os.path.exists(path):
        return path
    here = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        if not os.path.exists(here / part) and here.is_dir():
            same = [file for file in os.listdir(here) if _composed(file) == _composed(part)]
            part = same[0] if same else part
        here /= part
    return here if os.path.exists(here) else path


def _composed(name):
    return unicodedata.normalize("NFC", name)
