"""Rows of a table, whatever holds it: a DataFrame, a data set of Hugging Face, a list of
dictionaries, or a file.

| file | holds |
|---|---|
| ``.csv``, ``.tsv`` | a header and a row a line, in UTF-8; every cell is text, just as it stands there |
| ``.json`` | a list of objects; an object of objects, whose keys become a column ``key``; an object with one such list in it; or an object a line |
| ``.jsonl``, ``.ndjson`` | an object a line |
| ``.parquet`` | a Parquet file |

A folder stands for the only such file in it, or for Parquet files that are numbered pieces of one.
Rows are counted from 0.
"""  # noqa: E501

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import InputError, first_line
from ..files.git_lfs import is_pointer
from ..files.table_text import shortened

# A Parquet file that is a piece of a data set, as the hub names them.
_PIECE = re.compile(r"(.*)-\d{5}-of-(\d{5})\.parquet")


@dataclass(frozen=True)
class Rows:
    """Rows of a table.

    Attributes:
        called: for messages, such as the file's name.
        folder: that paths in the table count from, where it is a file.
        columns: their names.
        read: names of columns → column → its cells; only these are read.
    """

    called: str
    folder: Path | None
    columns: tuple[str, ...]
    read: Callable[[Sequence[str]], dict[str, list[Any]]]

    @classmethod
    def of(cls, rows: object) -> Rows:
        """The rows of a DataFrame, a data set of Hugging Face, a list of dictionaries, or the path
        of a file or folder.

        Raises:
            InputError: something else, or a file that cannot be read; with what to give.
        """
        if isinstance(rows, (str, Path)):
            return _of_file(_file(Path(rows)))
        if isinstance(rows, pd.DataFrame):
            return _of_frame(rows, "the frame", None)
        if hasattr(rows, "select_columns") and hasattr(rows, "column_names"):
            return _of_data_set(rows)
        return _of_dictionaries(rows, "the rows", None)

    def frame(self) -> pd.DataFrame:
        """All of it."""
        return pd.DataFrame(self.read(self.columns), columns=list(self.columns), dtype=object)


def is_missing(cell: object) -> bool:
    """Whether nothing stands in a cell: None, not a number, or blank text."""
    if isinstance(cell, str):
        return not cell.strip()
    return cell is None or (pd.api.types.is_scalar(cell) and bool(pd.isna(cell)))


def _of_frame(frame, called, folder):
    frame = frame.rename(columns=str)
    if twice := sorted(set(frame.columns[frame.columns.duplicated()])):
        raise InputError(f"{called} has two columns {twice[0]!r}; rename one")
    return Rows(
        called,
        folder,
        tuple(frame.columns),
        lambda names: {name: frame[name].tolist() for name in names},
    )


def _of_data_set(rows):
    """Rows of a ``datasets.Dataset``, whose pictures are handed out encoded instead of all
    decoded."""
    if isinstance(rows, Mapping):
        raise InputError(
            f"these are the splits {', '.join(map(str, rows))} of a data set; give one, such as "
            f"rows[{next(iter(rows))!r}]"
        )
    for name, feature in (getattr(rows, "features", None) or {}).items():
        if getattr(feature, "decode", False) is True:
            rows = rows.cast_column(name, type(feature)(decode=False))
    names = tuple(rows.column_names)

    def read(wanted):
        cells = {name: [] for name in wanted}
        for row in rows.select_columns(list(wanted)):
            for name in wanted:
                cells[name].append(row[name])
        return cells

    return Rows("the data set", None, names, read)


def _of_dictionaries(rows, called, folder):
    """Rows of dictionaries: a list of them, or a dictionary of them."""
    if isinstance(rows, Mapping):
        inside = list(rows.values())
        lists = [value for value in inside if _are_rows(value)]
        if inside and all(isinstance(value, Mapping) for value in inside):
            rows = [{"key": key, **value} for key, value in rows.items()]
        elif len(lists) == 1:
            (rows,) = lists
    if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Iterable):
        raise InputError(
            f"{called} hold {shortened(rows)}; give a DataFrame, a data set, a list of "
            "dictionaries, or the path of a CSV, TSV, JSON, JSONL or Parquet file"
        )
    table = list(rows)
    for number, row in enumerate(table):
        if not isinstance(row, Mapping):
            raise InputError(
                f"{called} hold {shortened(row)} as row {number}; give a dictionary, column → "
                "cell, for each"
            )
    columns = tuple(dict.fromkeys(str(name) for row in table for name in row))
    return Rows(
        called,
        folder,
        columns,
        lambda names: {name: [row.get(name) for row in table] for name in names},
    )


def _are_rows(value):
    return (
        isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)
    )


def _file(path):
    """The path itself, or the table in that folder; of a table in pieces, the first."""
    if not path.is_dir():
        return path
    found = sorted(file.name for file in path.iterdir() if file.suffix.lower() in _READERS)
    pieces = [_PIECE.fullmatch(name) for name in found]
    whole = {piece.groups() for piece in pieces if piece}
    if len(found) != 1 and not (all(pieces) and len(whole) == 1):
        raise InputError(
            f"the folder {path} holds {', '.join(found[:6]) or 'no table'}; name one file of "
            f"{_kinds()}"
        )
    return path / found[0]


def _of_file(path):
    kind = path.suffix.lower()
    if kind not in _READERS:
        raise InputError(f"{path} is no table that can be read; give one of {_kinds()}")
    if not path.is_file():
        raise InputError(f"there is no file {path}; give the path of a table, a row per trial")
    if is_pointer(path):
        raise InputError(f"{path} is a Git LFS pointer without its table; run git lfs pull there")
    try:
        return _READERS[kind](path)
    except InputError:
        raise
    except (OSError, ValueError, ImportError) as error:
        raise InputError(
            f"cannot read {path} ({first_line(error)}); export it again as one of {_kinds()}"
        ) from error


def _csv(path, separator=","):
    # Read as text: "007", "NA" and "None" may be names and words.
    frame = pd.read_csv(
        path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False
    )
    return _of_frame(frame, path.name, path.parent)


def _json(path):
    text = path.read_text(encoding="utf-8-sig")
    try:
        rows = json.loads(text)
    except json.JSONDecodeError:
        # Some lists of objects are called .json and have one a line.
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    return _of_dictionaries(rows, path.name, path.parent)


def _parquet(path):
    from pyarrow import parquet

    match = _PIECE.fullmatch(path.name)
    paths = [path]
    if match:
        paths = sorted(path.parent.glob(f"{match[1]}-?????-of-{match[2]}.parquet"))
        if len(paths) < int(match[2]):
            raise InputError(
                f"{len(paths)} of {int(match[2])} pieces are there of {match[1]}; fetch the "
                "others, or rename the one that is meant"
            )

    def read(names):
        frames = [pd.read_parquet(piece, columns=list(names)) for piece in paths]
        return {name: [cell for frame in frames for cell in frame[name].tolist()] for name in names}

    return Rows(path.name, path.parent, tuple(parquet.read_schema(path).names), read)


_READERS = {
    ".csv": _csv,
    ".tsv": lambda path: _csv(path, "\t"),
    ".json": _json,
    ".jsonl": _json,
    ".ndjson": _json,
    ".parquet": _parquet,
}


def _kinds():
    return ", ".join(_READERS)
