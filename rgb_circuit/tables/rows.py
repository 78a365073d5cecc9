"""Rows of a table in any form: a DataFrame, a data set of Hugging Face, a list of dictionaries, or
a file.

| file | holds |
|---|---|
| ``.csv``, ``.tsv`` | a header and one line per row, in UTF-8, separated by commas, semicolons, tabs or ``|``; every cell is text |
| ``.json`` | a list of objects; an object of objects, whose keys become a column ``key``; columns as pandas writes them, cells by row number; an object with one list of objects in it; or one object per line |
| ``.jsonl``, ``.ndjson`` | one object per line |
| ``.parquet`` | a Parquet file |

A folder stands for the only such file in it, or for a Parquet file in numbered pieces. Rows are
counted from 0; a CSV line without a filled cell is no row.
"""  # noqa: E501

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import InputError, first_line
from ..files.git_lfs import is_pointer
from ..files.table_text import separator_of, shortened

# A Parquet file that is a piece of a data set, named as on the hub.
_PIECE = re.compile(r"(.*)-\d{5}-of-(\d{5})\.parquet")
# pandas writes whole numbers like this in a column with missing cells, as floats.
_WHOLE = re.compile(r"-?\d+\.0")


@dataclass(frozen=True)
class Rows:
    """Rows of a table.

    Attributes:
        called: its name in messages, such as the file's.
        folder: the folder that paths in the table are relative to, for a file.
        columns: the names of the columns.
        read: names of columns → column → cells; reads only these.
    """

    called: str
    folder: Path | None
    columns: tuple[str, ...]
    read: Callable[[Sequence[str]], dict[str, list[Any]]]

    @classmethod
    def of(cls, rows: object) -> Rows:
        """Read a DataFrame, a data set of Hugging Face, a table of Arrow or Polars, a list of
        dictionaries, a dictionary of columns, or the path of a file or folder.

        Raises:
            InputError: anything else, or a file that cannot be read; the message says what to give.
        """
        if isinstance(rows, (str, Path)):
            return _of_file(_file(Path(rows)))
        if isinstance(rows, pd.DataFrame):
            folder = rows.attrs.get("folder")
            return _of_frame(rows, "the frame", None if folder is None else Path(folder))
        # A streamed data set may not know its columns, so it is read as dictionaries.
        if hasattr(rows, "select_columns") and getattr(rows, "column_names", None):
            return _of_data_set(rows)
        for listed in ("to_pylist", "to_dicts"):
            if hasattr(rows, listed):
                rows = getattr(rows, listed)()
        return _of_dictionaries(rows, "the rows", None)

    def frame(self) -> pd.DataFrame:
        """All rows and columns."""
        return pd.DataFrame(self.read(self.columns), columns=list(self.columns), dtype=object)


def is_missing(cell: object) -> bool:
    """Whether a cell is empty: None, not a number, or blank text."""
    if isinstance(cell, str):
        return not cell.strip()
    return cell is None or (pd.api.types.is_scalar(cell) and bool(pd.isna(cell)))


def _of_frame(frame, called, folder):
    # A named index was a column, and is read as one.
    named = [name for name in frame.index.names if name is not None and name not in frame]
    frame = frame.reset_index(named).rename(columns=str)
    if twice := sorted(set(frame.columns[frame.columns.duplicated()])):
        raise InputError(f"{called} has two columns {twice[0]!r}; rename one")
    return Rows(
        called,
        folder,
        tuple(frame.columns),
        lambda names: {name: frame[name].tolist() for name in names},
    )


def _of_data_set(rows):
    """Rows of a ``datasets.Dataset``; its pictures stay encoded, instead of all being decoded."""
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
    """Rows from a list of dictionaries, or a dictionary of rows or columns."""
    holds = f"{called} hold{'s' if folder else ''}"
    if isinstance(rows, Mapping):
        inside = list(rows.values())
        lists = [name for name, value in rows.items() if _are_rows(value)]
        if _are_numbered(inside):
            rows = [dict(zip(rows, cells)) for cells in zip(*(own.values() for own in inside))]
        elif inside and all(isinstance(value, Mapping) for value in inside):
            rows = [{"key": key, **value} for key, value in rows.items()]
        elif _are_columns(inside):
            return _of_frame(pd.DataFrame(dict(rows)), called, folder)
        elif len(lists) == 1:
            rows = rows[lists[0]]
        elif lists:
            raise InputError(
                f"{holds} {len(lists)} lists of rows, {', '.join(map(repr, lists))}; give one"
                + (" as a file of its own" if folder else f", such as rows[{lists[0]!r}]")
            )
    if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Iterable):
        raise InputError(
            f"{holds} {shortened(rows)}; give a DataFrame, a data set, a list of "
            "dictionaries, or the path of a CSV, TSV, JSON, JSONL or Parquet file"
        )
    table = list(rows)
    if not table:
        raise InputError(
            f"{called + ' has' if folder else 'there are'} no rows; give a row per trial"
        )
    for number, row in enumerate(table):
        if not isinstance(row, Mapping):
            raise InputError(
                f"{holds} {shortened(row)} as row {number}; give a dictionary, column → "
                "cell, for each"
            )
    columns = tuple(dict.fromkeys(str(name) for row in table for name in row))
    return Rows(
        called,
        folder,
        columns,
        lambda names: {name: [row.get(name) for row in table] for name in names},
    )


def _are_numbered(values):
    """Whether these are columns as pandas writes them: cells under row numbers, the same numbers in
    all."""
    if not values or not all(isinstance(value, Mapping) and value for value in values):
        return False
    numbers = [*values[0]]
    return all(str(number).isdecimal() for number in numbers) and all(
        [*value] == numbers for value in values
    )


def _are_columns(values):
    """Whether these are lists of equal length that are not all lists of rows."""
    return (
        len(values) > 1
        and all(isinstance(value, list) for value in values)
        and len({len(value) for value in values}) == 1
        and not all(map(_are_rows, values))
    )


def _are_rows(value):
    return (
        isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)
    )


def _file(path):
    """The path itself, or the only table in a folder; for a table in pieces, the first piece."""
    if not path.is_dir():
        return path
    names = sorted(file.name for file in path.iterdir() if file.suffix.lower() in _READERS)
    pieces = [_PIECE.fullmatch(name) for name in names]
    whole = {piece.groups() for piece in pieces if piece}
    if len(names) != 1 and not (all(pieces) and len(whole) == 1):
        raise InputError(
            f"the folder {path} holds {', '.join(names[:6]) or 'no table'}; name one file of "
            f"{_kinds()}"
        )
    return path / names[0]


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
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not in UTF-8 ({first_line(error)}); save it in UTF-8, which Excel calls "
            "CSV UTF-8"
        ) from error
    except (OSError, ValueError, ImportError) as error:
        raise InputError(
            f"cannot read {path} ({first_line(error)}); export it again as one of {_kinds()}"
        ) from error


def _csv(path, separator=","):
    with path.open(encoding="utf-8-sig") as file:
        separator, above = separator_of(file.readline(), separator)
    try:
        with warnings.catch_warnings():
            # pandas warns if it drops cells.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # Every cell stays text: "007", "NA" and "None" may be names and words.
            frame = pd.read_csv(
                path,
                sep=separator,
                skiprows=above,
                dtype=str,
                keep_default_na=False,
                encoding="utf-8-sig",
                index_col=False,
                skipinitialspace=True,
            )
    except pd.errors.EmptyDataError:
        raise InputError(f"{path.name} has no rows; give a header, and a row per trial") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        where = "" if isinstance(error, Warning) else f" ({first_line(error)})"
        raise InputError(
            f"the rows of {path.name} have more cells than its header, or a quote that does not "
            f"end{where}; put cells that hold {separator!r} in double quotes"
        ) from error
    filled = ~frame.map(is_missing)
    frame = frame[filled.any(axis=1)].rename(columns=str.strip).apply(_whole_numbers)
    return _of_frame(frame.reset_index(drop=True), path.name, path.parent)


def _whole_numbers(cells):
    """Write a column of nothing but 3.0 and the like in digits, as `row_texts.plain` does for
    frames."""
    filled = [cell for cell in cells if not is_missing(cell)]
    if not filled or not all(map(_WHOLE.fullmatch, filled)):
        return cells
    return cells.str.removesuffix(".0")


def _json(path):
    text = path.read_text(encoding="utf-8-sig")
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        # Some files called .json have one object per line.
        rows = _of_lines(path, text, error)
    return _of_dictionaries(rows, path.name, path.parent)


def _of_lines(path, text, error):
    """The values of the lines. If even the first line is not JSON, ``error``, the whole file's, is
    raised."""
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except json.JSONDecodeError as wrong:
            if not rows:
                raise error from None
            raise InputError(
                f"line {number} of {path.name} is no JSON ({wrong.msg} at character "
                f"{wrong.colno}); mend that line"
            ) from wrong
    return rows


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
        # pandas would turn some columns into an index, and whole numbers into floats.
        tables = [
            parquet.read_table(piece, columns=list(names), partitioning=None) for piece in paths
        ]
        return {
            name: [cell for table in tables for cell in table.column(name).to_pylist()]
            for name in names
        }

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
