"""Texts made from a row's cells.

A text is the name of a column; or a format string with names of columns in braces; or, without
braces, a constant for all rows. Braces may hold what Python's format strings allow for names, and
more:

| in braces | is |
|---|---|
| ``{object}`` | the cell |
| ``{options[0]}`` | an entry of a list, or of a list written as text |
| ``{turns[0][value]}`` | the value under this key there |
| ``{options[index]}`` | the entry whose number is in the column ``index``, from 0 |
| ``{row}`` | the row's number, from 0 |
| ``{options:letters}``, ``{text_0 | text_1:letters}`` | the entries of a list, or several cells, one per line after a letter: multiple choice |
| ``{options[0]:letter}`` | the letter of this text among them |
| ``{answer:letter}`` | for a cell that is a letter, not an option: the new letter of the option that the table has under it |

The order of the options is shuffled row by row, with a seed. Over as many rows as there are
options, each option has each letter once, so a model that always says "A" is right by
chance."""  # noqa: E501

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from numbers import Integral, Real
from string import Formatter, ascii_uppercase
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..files.table_text import shortened
from .rows import is_missing

ROW = "row"
# An option that already has a letter.
_LETTERED = re.compile(r"\(?([A-Z])[.):]\s*\S")


@dataclass(frozen=True)
class RowText:
    """A text made from a row's cells.

    Attributes:
        text: as the user gave it.
        column: the column whose cell it is, unchanged; empty for another text.
        pieces: for a format string, (text, field in the braces after it, format after the colon);
            else none.
    """

    text: str
    column: str
    pieces: tuple[tuple[str, str | None, str], ...] = ()

    @classmethod
    def of(cls, text: object, columns: Sequence[str], what: str) -> RowText:
        """Parse a text over some columns.

        Args:
            what: the argument that holds the text, for messages.

        Raises:
            InputError: a value that is no text, or one that names no column.
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
        parsed = cls(text, "", tuple((said, name, spec or "") for said, name, spec in parts))
        for name in parsed._named():
            if name not in (*columns, ROW):
                raise InputError(
                    f"{what} names the column {name!r}, and there are "
                    f"{', '.join(map(repr, columns))}; use one of these"
                )
        for _, inside, spec in parsed.pieces:
            if inside is not None and spec not in ("", LETTER, LETTERS):
                raise InputError(
                    f"{what} has {spec!r} behind a colon; :{LETTERS} writes options, :{LETTER} "
                    "one's letter, and any other format takes a column of its own"
                )
        return parsed

    @property
    def is_constant(self) -> bool:
        """Whether the text is the same for all rows."""
        return not self.column and not self.columns

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the text uses, including names in square brackets, which may be
        columns."""
        inside = [key for field in self._inside_braces() for key in _steps(field)[1]]
        return (self.column,) if self.column else (*dict.fromkeys([*self._named(), *inside]),)

    def _named(self):
        return [_steps(field)[0] for field in self._inside_braces()]

    def _inside_braces(self):
        return [name for _, field, _ in self.pieces if field is not None for name in _fields(field)]

    @property
    def options(self) -> str | None:
        """The field in the braces that list options, if there is one."""
        return next((field for _, field, spec in self.pieces if spec == LETTERS), None)

    @property
    def gives_letter(self) -> bool:
        """Whether the text is made from the options' letters."""
        return any(spec == LETTER for _, _, spec in self.pieces)

    def cell(self, row: RowCells) -> Any:
        """The text's value in a row: the cell of a column unchanged, and what one pair of braces
        alone names, if it is a picture, a list or another thing that is no text; otherwise text.

        Raises:
            InputError: a cell that is empty, or no text.
        """
        if self.column:
            return row.cells[self.column]
        if len(self.pieces) == 1:
            before, field, spec = self.pieces[0]
            alone = field is not None and not before and not spec
            if alone and not pd.api.types.is_scalar(named := row.named(str(field))):
                return named
        return self.said(row)

    def said(self, row: RowCells) -> str:
        """The value as text.

        Raises:
            InputError: as `cell`.
        """
        if self.column:
            return plain(row.cells[self.column], self.column)
        if not self.pieces:
            return self.text
        return "".join(
            said + ("" if field is None else row.said(field, spec))
            for said, field, spec in self.pieces
        )


LETTER, LETTERS = "letter", "letters"


@dataclass(frozen=True)
class RowCells:
    """A row's cells by column, and the options of its multiple choice.

    Attributes:
        options: the options in the order of their letters.
        listed_as: the options in the table's order.
    """

    number: int
    cells: Mapping[str, Any]
    options: tuple[str, ...] = ()
    listed_as: tuple[str, ...] = ()

    def said(self, field: str, spec: str = "") -> str:
        """The text that replaces a pair of braces."""
        if spec == LETTERS:
            return "\n".join(
                f"{letter}. {text}" for letter, text in zip(ascii_uppercase, self.options)
            )
        text = self._entry(field)
        if spec != LETTER:
            return text
        if text not in self.options and self.is_letter(text):
            text = self.listed_as[ascii_uppercase.index(text)]
        if text not in self.options:
            options = ", ".join(map(shortened, self.options)) or "(none)"
            way_out = (
                f"name its text, such as {{options[{field}]:{LETTER}}} if it counts them from 0"
                if self.options
                else f"write them into the question with {{column:{LETTERS}}}"
            )
            raise InputError(f"{shortened(text)} is none of the options {options}; {way_out}")
        return ascii_uppercase[self.options.index(text)]

    def is_letter(self, text: str) -> bool:
        """Whether a text is the letter of an option."""
        return len(text) == 1 and text in ascii_uppercase[: len(self.options)]

    def listed(self, field: str) -> list[str]:
        """The options that braces name: the entries of one list, or several cells, ignoring empty
        ones.

        Raises:
            InputError: fewer than two, too many, two equal ones, or options with letters.
        """
        cells = [self.named(name) for name in _fields(field)]
        texts = (
            entries(cells[0])
            if len(cells) == 1
            else [cell for cell in cells if not is_missing(cell)]
        )
        texts = [plain(entry, field) for entry in texts]
        if not 2 <= len(texts) <= len(ascii_uppercase) or len(set(texts)) < len(texts):
            raise InputError(
                f"the options in {field!r} are {shortened(texts)}; give two or more, each another "
                "text"
            )
        marks = [match[1] if (match := _LETTERED.match(text)) else "" for text in texts]
        if marks == list(ascii_uppercase[: len(texts)]):
            raise InputError(
                f"the options in {field!r} have letters already, such as {shortened(texts[0])}; "
                f"take these off, or write them in their own order, without :{LETTERS}"
            )
        return texts

    def _entry(self, field):
        return plain(self.named(field), field)

    def named(self, field: str) -> Any:
        """The cell of a column, or the part of it named in square brackets."""
        name, steps = _steps(field)
        if name == ROW and name not in self.cells:
            return str(self.number)
        cell = self.cells[name]
        for step in steps:
            cell = self._inside(cell, step, name)
        return cell

    def _inside(self, cell, step, name):
        """An entry of a list, by its number or the column that holds the number; or a value of a
        dictionary, by its key."""
        mapping = _mapping(cell)
        if mapping is not None and step in mapping:
            return mapping[step]
        is_column = step in self.cells and not re.fullmatch(r"-?\d+", step)
        try:
            return entries(cell)[int(plain(self.cells[step], step) if is_column else step)]
        except (IndexError, ValueError) as error:
            raise InputError(
                f"column {name!r} holds {shortened(cell)}, which has no entry {step}; count from 0"
            ) from error


def shuffled(row: RowCells, field: str, seed: int = 0) -> RowCells:
    """The row with the options that ``field`` names in a random order of its own.

    The options are rotated by a turn drawn with ``seed``. Among the first k rows, k being the
    number of options, each has a different option first, and likewise among every k rows after
    that.
    """
    options = row.listed(field)
    block, place = divmod(row.number, len(options))
    turn = int(np.random.default_rng([seed, block]).permutation(len(options))[place])
    return replace(row, options=(*options[turn:], *options[:turn]), listed_as=tuple(options))


def plain(cell: object, column: str) -> str:
    """A cell as text: text without surrounding blanks, or a whole number in digits, even from 3.0.

    Raises:
        InputError: an empty cell, or a cell of another kind.
    """
    if is_missing(cell):
        raise InputError(f"column {column!r} is empty; fill the cell")
    if isinstance(cell, (bool, np.bool_)):
        return str(bool(cell))
    if isinstance(cell, Integral):
        return str(int(cell))
    if isinstance(cell, (Real, Decimal)):
        return str(int(float(cell)) if float(cell).is_integer() else float(cell))
    if not isinstance(cell, str):
        inside = _first_inside(cell)
        raise InputError(
            f"column {column!r} holds {shortened(cell)} ({type(cell).__name__}), which is no text; "
            + (f"name what is inside, such as {{{column}{inside}}}" if inside else "make it text")
        )
    return cell.strip()


def entries(cell: object) -> list[Any]:
    """The entries of a list, which may be written as text; any other cell is the only entry.

    Raises:
        InputError: a text in square brackets that neither Python, JSON nor NumPy would write.

    Examples:
        >>> entries("['red', 'dark red']"), entries("red")
        (['red', 'dark red'], ['red'])
        >>> entries("['red' 'dark red']"), entries("[0. 12.]")
        (['red', 'dark red'], [0.0, 12.0])
    """
    if isinstance(cell, np.ndarray):
        return cell.tolist()
    if isinstance(cell, (list, tuple)):
        return list(cell)
    if isinstance(cell, str) and cell.strip()[:1] + cell.strip()[-1:] == "[]":
        return _listed(cell.strip())
    return [cell]


def _listed(text):
    """The entries of a list written as text."""
    try:
        return list(json.loads(text))
    except ValueError:
        pass
    try:
        return list(ast.literal_eval(_between_commas(text)))
    except (ValueError, SyntaxError, tokenize.TokenError) as error:
        raise InputError(
            f"{shortened(text)} is a list that cannot be read; write it as JSON does, such as "
            '["red", "blue"]'
        ) from error


def _between_commas(text):
    """A list as Python writes it, with the commas that NumPy leaves out: Python joins two adjacent
    texts into one."""
    values, pieces, last = (tokenize.STRING, tokenize.NUMBER), [], None
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NL:
            continue
        if last in values and (token.type in values or token.string == "-"):
            pieces.append(",")
        pieces.append(token.string)
        last = token.type
    return " ".join(pieces).strip()


def _mapping(cell):
    """A dictionary, which may be written as JSON; None for any other cell."""
    if isinstance(cell, str) and cell.lstrip().startswith("{"):
        try:
            cell = json.loads(cell)
        except ValueError:
            return None
    return cell if isinstance(cell, Mapping) else None


def _first_inside(cell):
    """The path to a text in a cell, in square brackets; of a dictionary's texts, to the longest."""
    if isinstance(cell, Mapping) and cell:
        texts = {key: len(value) for key, value in cell.items() if isinstance(value, str)}
        name = max(texts, key=texts.__getitem__) if texts else next(iter(cell))
        return f"[{name}]{_first_inside(cell[name])}"
    if isinstance(cell, (list, tuple, np.ndarray)) and len(cell):
        return f"[0]{_first_inside(cell[0])}"
    return ""


def _fields(field):
    return [name.strip() for name in field.split("|")]


def _steps(name):
    """Split ``turns[0][value]`` into its column and the contents of each pair of square
    brackets."""
    match = re.fullmatch(r"(.+?)((?:\[[^\[\]]+\])+)", name)
    return (match[1], re.findall(r"\[([^\[\]]+)\]", match[2])) if match else (name, [])
