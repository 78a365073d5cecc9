"""Trials from a file: your own pictures, question and answers, a row per trial.

The file is a CSV in UTF-8, or a folder that holds one beside the pictures; semicolons or tabs may
stand for its commas. Its columns:

| column | holds | |
|---|---|---|
| ``name`` | identifies the trial in every frame | required, each its own |
| ``question`` | the question about the pictures | required |
| ``clean`` or ``image:clean`` | the clean picture's path | required |
| ``image:CONDITION`` | path of the picture in another condition, such as ``image:swapped`` | any |
| ``answer:ROLE`` | a word, read at its first token, such as ``answer:right`` | one or more |
| ``expected:CONDITION`` | role of the right answer to it; an empty cell is not scored | any |
| ``tile_row``, ``tile_column`` | the tile that differs, from 0 | optional, with ``grid`` |
| ``grid`` | how many tiles a side has | optional |

Every trial has every picture and every answer. If an answer accepts several words, its cell holds
them as a list, in quotes because of the commas: ``"['grey', 'gray']"``. Capitals and blanks in a
column's name make no difference, except in CONDITION and ROLE. Other columns are named in a warning
and left out. Paths count from the file's own folder. A question is put into the model's own
conversation; one with ``<image>`` is the whole prompt, kept as it is, to the last line break.

Pictures may be of any kind that Pillow reads, and are shown as viewers show them: upright,
transparent places on white, 16-bit grey scaled to 8 bits. A picture of unknown range or with
several frames is refused; `rgb_circuit.pictures.picture.as_rgb` has the rules. Every picture is
opened once when the file is read, and stays in its file until it is shown
(`rgb_circuit.pictures.PictureFile`). If a picture does not have the model's own shape, the model's
processor decides what the model sees of it: most LLaVA-1.5 cut out the central square, others put
the picture between bars or stretch it. The command says which, and
`rgb_circuit.pictures.as_seen.as_seen` shows it.

A role says what a word is *for*, not which word it is. Effects are averaged over trials role by
role, so the right answer to the clean pictures should have the same role in every row.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .arguments import as_path
from .bars import tqdm
from .conversation import TEMPLATE, prompt
from .errors import InputError
from .files.git_lfs import is_pointer
from .files.on_disk import on_disk
from .files.table_text import in_one_order, separator_of, shortened
from .pictures import PictureFile, Pictures
from .tables.picture_cells import LONGEST_PATH
from .tables.row_texts import entries
from .trial import Trial
from .warning import warn

REQUIRED = ("name", "question", "clean")
PLACE = ("tile_row", "tile_column", "grid")
PREFIXES = ("image:", "answer:", "expected:")

# First bytes of other kinds of file → what the file is.
BEGINNINGS = {
    b"PAR1": "a Parquet file",
    b"PK\x03\x04": "an Excel file or another archive",
    b"\xd0\xcf\x11\xe0": "an Excel file",
    b"\x1f\x8b": "compressed",
    b"\xff\xfe": "in UTF-16",
    b"\xfe\xff": "in UTF-16",
    b"{": "JSON",
    b"[": "JSON",
}


def read_trials(
    path: str | Path, template: str = TEMPLATE, *, progress: bool = True
) -> list[Trial]:
    """Read the trials of a CSV file with the columns above, or of the only one in a folder.

    Messages count rows as a spreadsheet does: the header is row 1.

    Args:
        template: of the conversation that questions are put into, with ``<image>`` and
            ``{question}``; a model's own is ``model.template``.
        progress: show a bar if reading takes longer than two seconds.

    Raises:
        InputError: a file, column, cell or picture that cannot be used; the message names file, row
            and column.

    Warns:
        UserWarning: two conditions of a trial have the same picture, or a column means nothing
            here.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> table = "name,question,clean,answer:right\\nfirst,Which color is it?,a.png,red\\n"
        >>> with TemporaryDirectory() as folder:
        ...     trials[0].images["clean"].save(Path(folder, "a.png"))
        ...     _ = Path(folder, "trials.csv").write_text(table, encoding="utf-8")
        ...     rgb.read_trials(folder, template=model.template)
        [Trial('first': clean of 24 × 24 px)]
    """
    if not isinstance(template, str):
        raise InputError(
            f"template is a {type(template).__name__}; give the text of a conversation, such as "
            "model.template"
        )
    return TrialsFile.read(path, progress=progress).trials(template)


@dataclass(frozen=True)
class Row:
    """A trial's row.

    Attributes:
        where: file and row, for messages.
        cells: column → its text.
        pictures: condition → its file.
    """

    where: str
    cells: dict[str, str]
    pictures: Pictures


@dataclass(frozen=True)
class TrialsFile:
    """A file of trials with checked pictures; a conversation's template makes its rows trials."""

    rows: tuple[Row, ...]

    @classmethod
    def read(cls, path: str | Path, *, progress: bool = True) -> "TrialsFile":
        """See `read_trials`."""
        path = _file(as_path(path, "a CSV with a row per trial"))
        header, table = _table(path)
        columns = _columns(path, header)
        cells = {
            f"{path.name}, row {number}": _cells(path, number, row, columns)
            for number, row in table
        }
        if not cells:
            raise InputError(f"{path} has a header but no trials; add a row per trial")
        _check_names(cells)
        for where, row in cells.items():
            _check_filled(where, row)
        rows, known = [], {}
        with tqdm(
            cells.items(), desc="reading pictures", unit="trial", delay=2, disable=not progress
        ) as bar:
            for where, row in bar:
                rows.append(Row(where, row, _pictures(where, row, path.parent, known)))
        return cls(tuple(rows))

    def trials(self, template: str) -> list[Trial]:
        """A trial per row; see `read_trials`."""
        orders: dict[frozenset[str], Sequence[Any]] = {}
        return [_trial(row, template, orders) for row in self.rows]


def _file(path: Path) -> Path:
    """The path itself, or the only CSV if it is a folder."""
    if not path.is_dir():
        return path
    found = sorted(file.name for file in path.iterdir() if file.suffix.lower() == ".csv")
    if len(found) != 1:
        holds = ", ".join(found) if found else "no CSV"
        raise InputError(
            f"the folder {path} holds {holds}; put one CSV with a row per trial there, or name the "
            "file"
        )
    return path / found[0]


def _table(path):
    """Header, and (row number, cells) of every row that is not empty."""
    _check_text(path)
    try:
        # Spreadsheets put a byte order mark first, which would become part of the first column's
        # name.
        with path.open(newline="", encoding="utf-8-sig") as file:
            separator, above = separator_of(file.readline())
            file.seek(0)
            rows = list(csv.reader(file, delimiter=separator, strict=True))[above:]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"cannot read {path} as a CSV in UTF-8 ({error}); export it again as one"
        ) from error
    if not rows:
        raise InputError(
            f"{path} is empty; its first row names columns: {', '.join(REQUIRED)}, image:…, "
            "answer:…, expected:…"
        )
    header, *rest = rows
    filled = [
        (number, cells)
        for number, cells in enumerate(rest, start=2 + above)
        if any(map(str.strip, cells))
    ]
    return header, filled


def _check_text(path):
    """Raise InputError for a file that is missing, or that is plainly not a CSV in UTF-8."""
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}; give a CSV with a row per trial") from error
    except OSError as error:
        raise InputError(
            f"cannot read {path} ({error}); give a CSV with a row per trial"
        ) from error
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    kind = next((kind for begin, kind in BEGINNINGS.items() if text.startswith(begin)), None)
    if is_pointer(path):
        raise InputError(f"{path} is a Git LFS pointer without its table; run git lfs pull there")
    if kind is None and b"\0" in start:
        kind = "no text"
    if kind is not None:
        raise InputError(
            f"{path} is {kind}; give a CSV in UTF-8 with a row per trial, as spreadsheets export "
            "it or pandas writes it with frame.to_csv(path, index=False), or have rgb.trials_from "
            "(--columns) read it"
        )


def _columns(path, header):
    """The name of each column, up to the last that has one; None for a column that is left out."""
    columns = [_plain(name) for name in header]
    while columns and not columns[-1]:
        columns.pop()
    for name in REQUIRED:
        if name not in columns:
            raise InputError(f"{path.name} has no column {name!r}; it has {_listed(columns)}")
    for name in columns:
        if name.startswith(PREFIXES) and name.endswith(":"):
            raise InputError(
                f"{path.name}: column {name!r} means nothing here; use "
                f"{', '.join([*REQUIRED, *PLACE])}, image:CONDITION, answer:ROLE or "
                "expected:CONDITION"
            )
        if _known(name) and columns.count(name) > 1:
            raise InputError(f"{path.name} has {columns.count(name)} columns {name!r}; keep one")
    _check_together(path, columns)
    if others := [name for name in columns if not _known(name)]:
        warn(f"{path.name}: unknown columns are ignored: {_listed(others)}")
    return [name if _known(name) else None for name in columns]


def _plain(name):
    """A column's name in its normal form: capitals and blanks make no difference, except after a
    colon; the clean picture may be named as the others are."""
    kind, colon, rest = name.strip().partition(":")
    plain = "_".join(kind.split()).casefold()
    if (plain, rest.strip()) == ("image", "clean"):
        return "clean"
    if colon and f"{plain}:" in PREFIXES:
        return f"{plain}:{rest.strip()}"
    return plain if not colon and plain in (*REQUIRED, *PLACE) else name.strip()


def _known(name):
    return name in (*REQUIRED, *PLACE) or name.startswith(PREFIXES)


def _listed(names):
    """Names of columns, as many as fit a sentence."""
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return (", ".join(map(shortened, names[:12])) or "none") + more


def _check_together(path, columns):
    """Raise InputError if a column is missing that others need."""
    roles, conditions = _named("answer:", columns), ["clean", *_named("image:", columns)]
    if not roles:
        raise InputError(
            f"{path.name} has no answers; add a column answer:ROLE for each word whose logit is "
            "read"
        )
    for condition in _named("expected:", columns):
        if condition not in conditions:
            raise InputError(
                f"{path.name}: 'expected:{condition}' has no picture; the conditions are "
                f"{', '.join(conditions)}"
            )
    given = [name for name in PLACE if name in columns]
    if given and len(given) < len(PLACE):
        raise InputError(
            f"{path.name} has {', '.join(given)} alone; a place needs all of {', '.join(PLACE)}"
        )


def _cells(path, number, cells, columns):
    """Column → cell of a row, for the columns that are used."""
    # A separator at the end of a line adds an empty cell.
    while len(cells) > len(columns) and not cells[-1].strip():
        cells = cells[:-1]
    if len(cells) != len(columns):
        raise InputError(
            f"{path.name}, row {number} has {len(cells)} cells but the header has {len(columns)}; "
            "put cells that hold the separator into quotes"
        )
    row = {name: cell.strip() for name, cell in zip(columns, cells) if name is not None}
    # A whole prompt stays exactly as written: the answer may follow its last line break.
    question = cells[columns.index("question")]
    return row | {"question": question} if "<image>" in question else row


def _check_names(rows):
    """Raise InputError for two trials of one name."""
    first = {}
    for where, row in rows.items():
        if (twin := first.setdefault(row["name"], where)) != where and row["name"]:
            raise InputError(
                f"{where}, column 'name': {twin.rpartition(', ')[2]} is named {row['name']!r} too; "
                "give each trial its own name"
            )


def _check_filled(where, row):
    """Raise InputError for a cell that is empty or names no role."""
    for column, cell in row.items():
        if not cell and not column.startswith("expected:") and column not in PLACE:
            free = f"expected:… and {', '.join(PLACE)}"
            raise InputError(
                f"{where}, column {column!r} is empty; every row fills every column but {free}"
            )
    roles = _named("answer:", row)
    for condition in _named("expected:", row):
        role = row[f"expected:{condition}"]
        if role and role not in roles:
            raise InputError(
                f"{where}, column 'expected:{condition}': {role!r} is no role; the roles are "
                f"{', '.join(roles)}"
            )


def _pictures(where, row, folder, known):
    """Condition → picture of a row.

    Args:
        known: path → picture of a file that was opened before; added to.
    """
    columns = {
        "clean": "clean",
        **{condition: f"image:{condition}" for condition in _named("image:", row)},
    }
    pictures = {}
    for condition, column in columns.items():
        if len(row[column]) > LONGEST_PATH:
            raise InputError(
                f"{where}, column {column!r} holds {len(row[column])} letters, which is no path; "
                "give the path of a picture, counted from the folder of the CSV"
            )
        path = on_disk(folder, row[column])
        try:
            if path not in known:
                known[path] = PictureFile.read(path)
        except FileNotFoundError as error:
            raise InputError(
                f"{where}, column {column!r}: no file {path}; paths count from the folder of the "
                "CSV"
            ) from error
        except InputError as error:
            raise InputError(f"{where}, column {column!r}, {error}") from error
        pictures[condition] = known[path]
    return Pictures(pictures)


def _trial(row, template, orders):
    """The trial of a row; ``orders`` as in `in_one_order`."""
    cells = row.cells
    question = cells["question"]
    expected = {
        condition: cells[f"expected:{condition}"]
        for condition in _named("expected:", cells)
        if cells[f"expected:{condition}"]
    }
    tile, grid = _place(row.where, cells)
    answers: dict[str, Any] = {
        role: in_one_order(entries(cells[f"answer:{role}"]), orders)
        for role in _named("answer:", cells)
    }
    try:
        return Trial(
            cells["name"],
            question if "<image>" in question else prompt(question, template),
            row.pictures,
            answers,
            tile,
            grid,
            expected,
        )
    except InputError as error:
        raise InputError(f"{row.where}: {error}") from error


def _place(where, row):
    """(tile, grid) of a row, (None, None) if it names no place."""
    cells = {column: row.get(column, "") for column in PLACE}
    if not any(cells.values()):
        return None, None
    for column, cell in cells.items():
        if not (cell.isascii() and cell.isdigit()):
            way_out = f"give a whole number, or leave {', '.join(PLACE)} all empty"
            raise InputError(f"{where}, column {column!r} is {cell!r}; {way_out}")
    tile_row, tile_column, grid = (int(cell) for cell in cells.values())
    return (tile_row, tile_column), grid


def _named(prefix: str, columns: Sequence[str]):
    """The names of the columns that begin with ``prefix``, without it, in order."""
    return [name.removeprefix(prefix) for name in columns if name.startswith(prefix)]
