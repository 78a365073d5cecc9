"""A run's folder: frames as Parquet, figures, and other files, each written whole or not at all."""

from __future__ import annotations

import io
import os
import secrets
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CannotWrite, InputError, first_line
from .locking import nobody_holds

if TYPE_CHECKING:
    # Only names here: the command should say what it can do before they are loaded.
    import pandas as pd
    from matplotlib.figure import Figure


def open_folder(path: str | Path) -> Path:
    """Make the folder, or raise InputError where nothing can be written."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable.{secrets.token_hex(4)}.part"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CannotWrite(
            f"cannot write to {folder} ({error.strerror}); choose another folder with --out"
        ) from error
    return folder


@contextmanager
def opened(path: str | Path) -> Iterator[Path]:
    """The folder, made where it is new; one that was made here is taken away again where what is
    done in it fails before anything is written.

    Raises:
        CannotWrite: nothing can be written there.
    """
    folder = Path(path)
    made = [part for part in (folder, *folder.parents) if not part.exists()]
    try:
        yield open_folder(folder)
    except BaseException:
        _take_back(folder, made)
        raise


def _take_back(folder, made):
    """Remove the folders ``made``, innermost first, as far as nothing but unused locks is in
    them."""
    with suppress(OSError):
        if made and folder.is_dir():
            locks = list(folder.iterdir())
            if nobody_holds(locks):
                for lock in locks:
                    lock.unlink()
        for part in made:
            if part.exists():
                part.rmdir()


def write_frame(frame: pd.DataFrame, folder: Path, name: str) -> Path:
    """Write ``name``.parquet, whole or not at all."""
    return write_bytes(folder / f"{name}.parquet", frame.to_parquet(index=False))


def write_figure(figure: Figure, folder: Path, name: str) -> Path:
    """Write ``name``.png, whole or not at all."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=150, format="png")
    return write_bytes(folder / f"{name}.png", drawn.getvalue())


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a file whole or not at all: beside its place, to the disk, and then renamed.

    Raises:
        CannotWrite: disk full, folder read-only or gone; files that were there stay as they are.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            # Without it a power cut could leave the name and not the content.
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise CannotWrite(
            f"cannot write {path} ({error.strerror}); what was finished is kept: make that folder "
            "writable, with room on its disk, "
            "and run the same command again"
        ) from error
    return path


def read_frame(folder: str | Path, name: str, columns: Sequence[str]) -> pd.DataFrame:
    """The frame ``name``.parquet of a run's folder.

    Args:
        columns: those that it must have.

    Raises:
        InputError: no such folder or file, a file that is not Parquet, or one that lacks a column.
    """
    import pandas as pd

    path = existing(folder, f"{name}.parquet")
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        reason = first_line(error)
        raise InputError(
            f"cannot read {path} ({reason}); run rgb-circuit run again with this --out"
        ) from error
    if missing := [column for column in columns if column not in frame]:
        lacking = f"column{'s' * (len(missing) > 1)} {', '.join(missing)}"
        raise InputError(f"{path} lacks the {lacking}; give the folder of a run of rgb-circuit run")
    return frame


def existing(folder: str | Path, name: str) -> Path:
    """The path of a file of a run's folder, or InputError where it is not there."""
    folder = Path(folder)
    if folder.is_file():
        raise InputError(f"{folder} is a file; give the folder of a run of rgb-circuit run")
    if not folder.is_dir():
        raise InputError(
            f"there is no folder {folder}; make one with rgb-circuit run --out "
            f"{shlex.quote(str(folder))}"
        )
    path = folder / name
    if not path.is_file():
        unfinished = (folder / "manifest.json").is_file()
        way_out = (
            f"finish its run with rgb-circuit report {shlex.quote(str(folder))}"
            if unfinished
            else "give the folder of a run of rgb-circuit run"
        )
        raise InputError(f"{folder} holds no {name}; {way_out}")
    return path
