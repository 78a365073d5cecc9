"""Where a file is that another file names."""

import os
import unicodedata
from pathlib import Path


def on_disk(folder: Path, name: str) -> Path:
    """The path of a file that a table or a TOML file names. An accented letter may be one character
    there and two on disk, or the other way round, and what was written on Windows has
    backslashes."""
    path = folder / name
    if os.path.exists(path):
        return path
    if "\\" in name:
        return on_disk(folder, name.replace("\\", "/"))
    if name.isascii():
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
