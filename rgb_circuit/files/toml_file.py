"""A TOML file as people have it: with the mark that Windows puts first, and with its paths."""

import tomllib
from pathlib import Path
from typing import Any

from ..errors import InputError


def read_toml(path: Path) -> dict[str, Any]:
    """What the file holds.

    Raises:
        InputError: no such file, one that cannot be read, or no TOML.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        return tomllib.loads(text)
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}; give the path of a TOML file") from error
    except OSError as error:
        raise InputError(
            f"cannot read {path} ({error.strerror}); give the path of a TOML file"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is no TOML: {error}; save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path.name} is no TOML: {error}{_way_out(text, error)}") from error


def _way_out(text, error):
    """What often helps, to stand behind the error of `tomllib`."""
    if str(error).startswith(("Cannot overwrite", "Cannot declare")):
        return "; a key stands there twice, so rename one or put both under it"
    if "\\" in text:
        return (
            "; a backslash between double quotes begins an escape, so write paths with / or "
            "between single quotes"
        )
    return ""
