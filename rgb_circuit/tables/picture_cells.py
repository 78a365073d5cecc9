"""Pictures in the cells of tables: paths, encoded bytes (also as base64), ``{bytes, path}``,
arrays, Pillow pictures."""

import base64
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InputError
from ..files.on_disk import on_disk
from ..files.table_text import shortened
from ..pictures import PictureBytes, PictureFile, Source
from ..pictures.picture import as_rgb
from .rows import is_missing

# Longer texts are no paths.
LONGEST_PATH = 4096
# The beginnings of PNG, JPEG, GIF and WebP in base64, or a prefix that says that it is base64.
_BASE64 = re.compile(r"data:image/[^;,]*;base64,|(?=iVBORw0KGgo|/9j/|R0lGOD|UklGR)")
# Base64 for addresses writes two of its letters otherwise.
_URL_SAFE = str.maketrans("-_", "+/")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def picture_of(cell: object, folder: Path, known: dict[object, Source]) -> Source:
    """Read the picture of a cell once. Files stay in their files, and bytes stay bytes.

    Args:
        folder: the folder that paths are relative to.
        known: path or bytes → picture that was read before; this call adds to it.

    Raises:
        InputError: a cell that holds no picture, or several.
    """
    if isinstance(cell, np.ndarray) and cell.dtype == object:
        cell = cell.tolist()
    if isinstance(cell, (list, tuple)):
        cell = _of_list(cell)
    # The form in which data sets of Hugging Face hold a picture.
    if isinstance(cell, Mapping) and cell.keys() & {"bytes", "path"}:
        cell = cell.get("path") if cell.get("bytes") is None else cell["bytes"]
    if is_missing(cell):
        raise InputError("there is no picture; fill the cell")
    if isinstance(cell, str):
        cell = _of_text(cell)
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


def _of_list(cell):
    """The picture of a list: its only entry, or an array given as rows of numbers."""
    numbers = _first_leaf(cell)
    if len(cell) and not isinstance(numbers, bool) and isinstance(numbers, (int, float, np.number)):
        try:
            return np.array(_all_lists(cell))
        except ValueError:
            raise InputError(
                "the rows of the picture are lists of numbers of unequal length; give an array"
            ) from None
    if len(cell) == 1:
        return cell[0]
    raise InputError(
        f"there are {len(cell)} pictures, and a model is shown one at a time here; give each a "
        "condition of its own, such as {images[0]} and {images[1]}, and a question about one "
        "picture"
    )


def _first_leaf(cell):
    while isinstance(cell, (list, tuple, np.ndarray)) and len(cell):
        cell = cell[0]
    return cell


def _all_lists(cell):
    return (
        [_all_lists(one) for one in cell] if isinstance(cell, (list, tuple, np.ndarray)) else cell
    )


def _of_text(text):
    """The bytes of a base64 text, or the path that a text is.

    Raises:
        InputError: a URL, or a text that is neither.
    """
    text = text.strip()
    if begins := _BASE64.match(text):
        try:
            letters = "".join(text[begins.end() :].split()).translate(_URL_SAFE)
            return base64.b64decode(letters, validate=True)
        except ValueError:
            # A path may begin like base64.
            pass
    if _ADDRESS.match(text):
        raise InputError(f"{shortened(text)} is an address; fetch the picture, and give its path")
    if len(text) > LONGEST_PATH:
        raise InputError(
            f"there are {len(text)} letters, which is no path; give the picture's path or bytes"
        )
    return text


def _in_file(name, folder, known):
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
