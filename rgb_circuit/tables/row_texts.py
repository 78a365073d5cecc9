"""Texts that are made of a row's cells.

A text is the name of a column; or a format string, whose braces hold names of columns; or, without
braces, the same for all rows. In braces may stand what Python's format strings know of names, and
more:

| in braces | is |
|---|---|
| ``{object}`` | the cell |
| ``{options[0]}`` | an entry of a list, or of a list that is written as text |
| ``{row}`` | the row's number, from 0 |
| ``{options:letters}``, ``{text_0 | text_1:letters}`` | the entries of a list, or several cells, a line each behind letters: multiple choice |
| ``{options[0]:letter}`` | the letter that this text has among them |

Which option stands behind which letter is shuffled row by row, with a seed, such that of as many
rows as there are options each option has each letter once: a model that always says "A" is right by
chance."""  # noqa: E501

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from string import Formatter, ascii_uppercase
from typing import Any

import numpy as np

from ..errors import InputError
from ..files.table_text import shortened
from .rows import is_missing

ROW = "row"


@dataclass(frozen=True)
class RowText:
    """A text that is made of a row's cells.

    Attributes:
        text: as it was given.
        column: the column that it is, whose cell is taken as it stands; empty for another text.
        pieces: (text, what stands in the braces behind it, what stands behind the colon there) of a
            format string; else none.
    """

    text: str
    column: str
    pieces: tuple[tuple[str, str | None, str], ...] = ()

    @classmethod
    def of(cls, text: object, columns: Sequence[str], what: str) -> RowText:
        """A text over some columns.

        Args:
            what: the argument that it is of, for messages.

        Raises:
            InputError: what is no text, or names no column.
        """
        if not isinstance(text, str) or not text.strip():
            raise InputError(
                f"{what} is {shortened(text)}; give a column, or a text with columns in braces"
            )
        if text in columns:
            return cls(text, text)
        try:
            parts = [(said, name, spec) for said, name, spec, _ in Formatter().parse(text)]
        except ValueError as error:
            raise InputError(
                f"{what} is {shortened(text)}, whose braces cannot be read ({error}); write "
                f"{{column}}, and twice a brace that is meant"
            ) from error
        if "{" not in text and "}" not in text:
            return cls(text, "")
        made = cls(text, "", tuple((said, name, spec or "") for said, name, spec in parts))
        for name in made.columns:
            if name not in (*columns, ROW):
                raise InputError(
                    f"{what} names the column {name!r}, and there are "
                    f"{', '.join(map(repr, columns))}; use one of these"
                )
        for _, inside, spec in made.pieces:
            if inside is not None and spec not in ("", LETTER, LETTERS):
                raise InputError(
                    f"{what} has {spec!r} behind a colon; :{LETTERS} writes options, :{LETTER} "
                    "one's letter"
                )
        return made

    @property
    def is_constant(self) -> bool:
        """Whether it is the same for all rows."""
        return not self.column and not self.columns

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it takes."""
        named = [
            name for _, field, _ in self.pieces if field is not None for name in _fields(field)
        ]
        return (
            (self.column,)
            if self.column
            else tuple(dict.fromkeys(_indexed(name)[0] for name in named))
        )

    @property
    def options(self) -> str | None:
        """What stands in the braces that write options, if any do."""
        return next((field for _, field, spec in self.pieces if spec == LETTERS), None)

    def cell(self, row: RowCells) -> Any:
        """What it is of a row: the cell of a column just as it stands, else text.

        Raises:
            InputError: a cell that is empty, or no text.
        """
        if self.column:
            return row.cells[self.column]
        if not self.pieces:
            return self.text
        return "".join(
            said + ("" if field is None else row.said(field, spec))
            for said, field, spec in self.pieces
        )

    def said(self, row: RowCells) -> str:
        """It as text.

        Raises:
            InputError: as `cell`.
        """
        return plain(row.cells[self.column], self.column) if self.column else self.cell(row)


LETTER, LETTERS = "letter", "letters"


@dataclass(frozen=True)
class RowCells:
    """A row's cells by column, and the options of its multiple choice.

    Attributes:
        options: the texts behind the letters, in the order of the letters.
    """

    number: int
    cells: Mapping[str, Any]
    options: tuple[str, ...] = ()

    def said(self, field: str, spec: str = "") -> str:
        """What stands for braces."""
        if spec == LETTERS:
            return "\n".join(
                f"{letter}. {text}" for letter, text in zip(ascii_uppercase, self.options)
            )
        text = self._entry(field)
        if spec != LETTER:
            return text
        if text not in self.options:
            options = ", ".join(map(shortened, self.options)) or "(none)"
            raise InputError(
                f"{shortened(text)} is none of the options {options}; write them into the "
                f"question with {{column:{LETTERS}}}"
            )
        return ascii_uppercase[self.options.index(text)]

    def listed(self, field: str) -> list[str]:
        """The options that braces name: the entries of one list, or several cells.

        Raises:
            InputError: fewer than two, too many, or two that are the same.
        """
        names = _fields(field)
        if len(names) > 1:
            found = [self._entry(name) for name in names]
        else:
            found = [plain(entry, field) for entry in entries(self.cells.get(field))]
        if not 2 <= len(found) <= len(ascii_uppercase) or len(set(found)) < len(found):
            raise InputError(
                f"the options in {field!r} are {shortened(found)}; give two or more, each another "
                "text"
            )
        return found

    def _entry(self, field):
        name, index = _indexed(field)
        if name == ROW and name not in self.cells:
            return str(self.number)
        cell = self.cells[name]
        if index is None:
            return plain(cell, name)
        try:
            return plain(entries(cell)[index], field)
        except IndexError as error:
            raise InputError(
                f"column {name!r} holds {shortened(cell)}, which has no entry {index}; count from 0"
            ) from error


def shuffled(row: RowCells, field: str, seed: int = 0) -> RowCells:
    """The row, with the options that ``field`` names in an order of its own.

    Of every k rows, from the first on, k being the number of options, each has another first
    letter's option: a random turn of the options, drawn with ``seed``.
    """
    options = row.listed(field)
    block, place = divmod(row.number, len(options))
    turn = int(np.random.default_rng([seed, block]).permutation(len(options))[place])
    return RowCells(row.number, row.cells, tuple([*options[turn:], *options[:turn]]))


def plain(cell: object, column: str) -> str:
    """A cell as text: text without the blanks around it, a whole number in digits, as also 3.0.

    Raises:
        InputError: an empty cell, or another thing.
    """
    if is_missing(cell):
        raise InputError(f"column {column!r} is empty; fill the cell")
    if isinstance(cell, (bool, np.bool_)):
        return str(bool(cell))
    if isinstance(cell, Integral):
        return str(int(cell))
    if isinstance(cell, Real):
        return str(int(float(cell)) if float(cell).is_integer() else float(cell))
    if not isinstance(cell, str):
        raise InputError(
            f"column {column!r} holds {shortened(cell)} ({type(cell).__name__}), which is no text; "
            f"name an entry of it, such as {{{column}[0]}}"
        )
    return cell.strip()


def entries(cell: object) -> list[Any]:
    """The entries of a list, also of one that is written as text; of another cell, that alone.

    Examples:
        >>> entries("['red', 'dark red']"), entries("red")
        (['red', 'dark red'], ['red'])
    """
    if isinstance(cell, np.ndarray):
        return cell.tolist()
    if isinstance(cell, (list, tuple)):
        return list(cell)
    if isinstance(cell, str) and cell.strip()[:1] + cell.strip()[-1:] == "[]":
        try:
            return list(ast.literal_eval(cell.strip()))
        except (ValueError, SyntaxError):
            return [cell]
    return [cell]


def _fields(field):
    return [name.strip() for name in field.split("|")]


def _indexed(name):
    """``options[0]`` as its column and number."""
    match = re.fullmatch(r"(.+)\[(-?\d+)\]", name)
    return (match[1], int(match[2])) if match else (name, None)
