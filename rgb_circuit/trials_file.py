"""Trials from a file: your own pictures, question and answers, a row per trial.

The file is a CSV, or a folder that holds one beside the pictures. Its columns:

| column | holds | |
|---|---|---|
| ``name`` | identifies the trial in every frame | required, each its own |
| ``question`` | the question about the pictures | required |
| ``clean`` | the clean picture's path | required |
| ``image:CONDITION`` | path of the picture in another condition, such as ``image:swapped`` | any number |
| ``answer:ROLE`` | a word, read at its first token, such as ``answer:right`` | one or more |
| ``expected:CONDITION`` | role of the right answer to it; an empty cell is not scored | any number |
| ``tile_row``, ``tile_column`` | the tile that differs, from 0 | optional, with ``grid`` |
| ``grid`` | how many tiles a side has | optional |

Every trial has every picture and every answer. Paths count from the file's own folder. A question is put into
the conversation that the model was made for; one with ``<image>`` is taken as the whole prompt.

Pictures may be of any kind that Pillow reads, and are shown as viewers show them: upright, transparent places
on white, 16-bit grey scaled to 8 bits. What says nothing of its range or has several frames is refused;
`rgb_circuit.picture.as_rgb` has the rules. What is left of a picture that is not of the model's own shape is
up to the model's processor: most LLaVA-1.5 cut out the central square, others lay the picture between bars or
stretch it. The command says which, and `rgb_circuit.as_seen.as_seen` shows it.

A role says what a word is *for*, not which word it is: effects are
averaged over trials role by role, so the right answer to the clean pictures should have the same role in
every row.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from .errors import InputError
from .picture import as_rgb
from .rgb_game import TEMPLATE, prompt
from .trial import Trial

REQUIRED = ("name", "question", "clean")
PLACE = ("tile_row", "tile_column", "grid")
PREFIXES = ("image:", "answer:", "expected:")


def read_trials(path: str | Path, *, template: str = TEMPLATE) -> list[Trial]:
    """The trials of a CSV file with the columns above, or of the only one in a folder.

    Rows are counted in messages as a spreadsheet does: the header is row 1.

    Raises:
        InputError: a file, column, cell or picture that cannot be used; the message names file, row and
            column.

    Warns:
        UserWarning: two conditions of a trial have the same picture.
    """
    path = _file(Path(path))
    header, rows = _table(path)
    _check_header(path, header)
    trials, row_of = [], {}
    for number, cells in rows:
        where = f"{path.name}, row {number}"
        if len(cells) != len(header):
            numbers = f"{len(cells)} cells but the header has {len(header)}"
            raise InputError(f"{where} has {numbers}; put cells that hold a comma into quotes")
        row = dict(zip(header, (cell.strip() for cell in cells)))
        trial = _trial(where, row, path.parent, template)
        if trial.name in row_of:
            twin = f"row {row_of[trial.name]}"
            raise InputError(
                f"{where}, column 'name': {twin} is named {trial.name!r} too; give each trial its own name"
            )
        row_of[trial.name] = number
        trials.append(trial)
    if not trials:
        raise InputError(f"{path} has a header but no trials; add a row per trial")
    return trials


def _file(path: Path) -> Path:
    """The path itself, or the only CSV in that folder."""
    if not path.is_dir():
        return path
    found = sorted(file.name for file in path.iterdir() if file.suffix.lower() == ".csv")
    if len(found) != 1:
        holds = ", ".join(found) if found else "no CSV"
        raise InputError(
            f"the folder {path} holds {holds}; put one CSV with a row per trial there, or name the file"
        )
    return path / found[0]


def _table(path):
    """Header, and (row number, cells) of every row that is not empty."""
    try:
        # Spreadsheets put a byte order mark first, which would become part of the first column's name.
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file, strict=True))
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}; give a CSV with a row per trial") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path} as a CSV in UTF-8 ({error}); export it again as one") from error
    if not rows:
        raise InputError(
            f"{path} is empty; its first row names columns: {', '.join(REQUIRED)}, image:…, answer:…, "
            "expected:…"
        )
    header, *rest = rows
    filled = [(number, cells) for number, cells in enumerate(rest, start=2) if any(map(str.strip, cells))]
    return [name.strip() for name in header], filled


def _check_header(path, header):
    if len(header) == 1 and ";" in header[0]:
        raise InputError(f"{path.name} is separated by semicolons; export it with commas")
    for name in REQUIRED:
        if name not in header:
            raise InputError(f"{path.name} has no column {name!r}; it has {', '.join(map(repr, header))}")
    for name in header:
        prefixed = name.startswith(PREFIXES) and not name.endswith(":") and name != "image:clean"
        if not prefixed and name not in (*REQUIRED, *PLACE):
            raise InputError(
                f"{path.name}: column {name!r} means nothing here; use {', '.join([*REQUIRED, *PLACE])}, "
                "image:CONDITION, "
                "answer:ROLE or expected:CONDITION, and remove other columns"
            )
        if header.count(name) > 1:
            raise InputError(f"{path.name} has {header.count(name)} columns {name!r}; keep one")
    roles, conditions = _named("answer:", header), ["clean", *_named("image:", header)]
    if not roles:
        raise InputError(
            f"{path.name} has no answers; add a column such as 'answer:right' with a word in every row"
        )
    for condition in _named("expected:", header):
        if condition not in conditions:
            raise InputError(
                f"{path.name}: 'expected:{condition}' is about no picture; the pictures are "
                f"{', '.join(conditions)}"
            )
    given = [name for name in PLACE if name in header]
    if given and len(given) < len(PLACE):
        raise InputError(f"{path.name} has {', '.join(given)} alone; a place needs all of {', '.join(PLACE)}")


def _trial(where, row, folder, template):
    """The trial of one row, given as column → cell."""
    for column in row:
        if not row[column] and not column.startswith("expected:") and column not in PLACE:
            free = f"expected:… and {', '.join(PLACE)}"
            raise InputError(f"{where}, column {column!r} is empty; every row fills every column but {free}")
    roles = _named("answer:", row)
    expected = {
        condition: row[f"expected:{condition}"]
        for condition in _named("expected:", row)
        if row[f"expected:{condition}"]
    }
    for condition, role in expected.items():
        if role not in roles:
            raise InputError(
                f"{where}, column 'expected:{condition}': {role!r} is no role; the roles are "
                f"{', '.join(roles)}"
            )
    columns = {"clean": "clean", **{condition: f"image:{condition}" for condition in _named("image:", row)}}
    images = {
        condition: _picture(where, column, folder / row[column]) for condition, column in columns.items()
    }
    answers = {role: row[f"answer:{role}"] for role in roles}
    tile, grid = _place(where, row)
    question = row["question"]
    try:
        return Trial(
            row["name"],
            question if "<image>" in question else prompt(question, template),
            images,
            answers,
            tile,
            grid,
            expected,
        )
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _picture(where, column, path):
    try:
        with Image.open(path) as image:
            return as_rgb(image)
    except FileNotFoundError as error:
        raise InputError(
            f"{where}, column {column!r}: no file {path}; paths count from the folder of the CSV"
        ) from error
    except InputError as error:
        raise InputError(f"{where}, column {column!r}, {path}: {error}") from error
    # What Pillow raises for broken files depends on the format.
    except Exception as error:
        reason = f"cannot read {path} as a picture ({error})"
        raise InputError(f"{where}, column {column!r}: {reason}; save it as PNG or JPEG") from error


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
    """What follows ``prefix`` in the names of those columns that begin with it, in order."""
    return [name.removeprefix(prefix) for name in columns if name.startswith(prefix)]
