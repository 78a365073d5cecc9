"""Find a file that another file names."""

import os
import unicodedata
from pathlib import Path


def on_disk(folder: Path, name: str) -> Path:
    """The path of a file that a table or a TOML file names. An accented letter may be one character
    in that file and two on disk, or the reverse, and a file from Windows has backslashes."""
    path = folder / name
    if os.path.exists(path):
        return path
    if "\\" in name:
        return on_disk(folder, name.replace("\\", "/"))
    if name.isascii():
        return path
    actual = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        if not os.path.exists(actual / part) and actual.is_dir():
            matches = [file for file in os.listdir(actual) if _composed(file) == _composed(part)]
            part = matches[0] if matches else part
        actual /= part
    return actual if os.path.exists(actual) else path


def _composed(name):
    return unicodedata.normalize("NFC", name)
