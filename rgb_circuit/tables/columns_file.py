"""Columns in a TOML file: the arguments of `rgb_circuit.trials_from`, for the command.

A table ``[pair]`` holds the arguments of `rgb_circuit.pair` and pairs every row with another.
``folder`` is relative to the TOML file's own. Data only, no names of functions and no expressions.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..files.on_disk import on_disk
from ..files.toml_file import read_toml
from ..hypothesis.plain_tables import known_keys, strings, typed
from .pairing import pair
from .trials_from import Columns, Sheet

_NEEDED = ("name", "question", "images", "answers")
_ALSO = tuple(one.name for one in fields(Columns) if one.name not in _NEEDED)
_KINDS = {"strict": bool, "cluster": str, "fit": str, "folder": str, "name": str, "question": str}


def read_columns(path: str | Path) -> dict[str, Any]:
    """Read a TOML file of columns, and check all that needs no table.

    Returns:
        Its keys, with values that JSON can hold: ``folder`` absolute, and ``file``, the path of the
        TOML file.

    Raises:
        InputError: no such file, no TOML, or a key that is unknown, missing or of the wrong kind.
    """
    path = Path(path)
    table = known_keys(read_toml(path), path.name, needed=_NEEDED, also=(*_ALSO, "pair"))
    for key, value in table.items():
        if key == "strata":
            if not isinstance(value, Mapping):
                strings(value, f"{path.name}: strata")
        else:
            typed(value, _KINDS.get(key, dict), f"{path.name}: {key}")
    if "pair" in table:
        how = known_keys(table["pair"], f"{path.name}: pair", also=("differ", "by", "seed"))
        typed(how.get("seed", 0), int, f"{path.name}: pair.seed")
    if "folder" in table:
        table["folder"] = str(on_disk(path.parent.absolute(), table["folder"]))
    _columns(table)
    return table | {"file": str(path.absolute())}


def sheet_of(rows: str | Path, columns: Mapping[str, Any], *, progress: bool = True) -> Sheet:
    """Read the rows of a table by the columns from `read_columns`.

    Raises:
        InputError: as `rgb_circuit.trials_from` and `rgb_circuit.pair`.
    """
    given = _columns(columns)
    if "pair" not in columns:
        return Sheet.read(rows, given, progress=progress)
    return Sheet.read(pair(rows, **columns["pair"]), given, progress=progress)


def _columns(table):
    return Columns(**{name: value for name, value in table.items() if name not in ("pair", "file")})
