"""The exceptions that users see; each message is one sentence that says what is wrong and what to
do."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb

from huggingface_hub.errors import HTTPError, StrictDataclassError
from safetensors import SafetensorError

# Errors that transformers, torch and the hub's client raise about their arguments. Catch these
# around a single call of theirs only: around our own code, they would blame our bugs on the caller.
FOREIGN = (
    OSError, ValueError, TypeError, AttributeError, LookupError, RuntimeError, ImportError,
    AssertionError,
    MemoryError, SafetensorError, StrictDataclassError, HTTPError,
)  # fmt: skip


def first_line(error: BaseException) -> str:
    """The first line of another package's error, cut if long, for use in a message of ours."""
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return line if len(line) <= 240 else line[:239] + "…"


class InputError(ValueError):
    """An argument cannot be used."""


class NotApplicable(InputError):
    """These trials, or the results on them, do not allow this question; others they may."""


class NotLinedUp(NotApplicable):
    """Two runs have no common positions where a value of one should go into the other."""


class ModelError(InputError):
    """A model that misbehaves, so that its numbers would mean nothing."""


class OneSize(InputError):
    """A number of tiles for a model whose pictures have one size."""


class NotFinite(ModelError):
    """Logits that are infinite or no number, which the next run of the same may not give."""


class PictureGone(InputError):
    """A file no longer gives the picture that was read from it."""


class CannotWrite(InputError):
    """A file cannot be written; an earlier version of it is left as it was."""


class NotDrawn(RuntimeError):
    """A bug of ours stopped figures or sections of a report; everything else was written.

    Attributes:
        failed: figure or section → the exception.
        folders: the folders with all measurements.
        again: the command that draws the report again.
    """

    def __init__(self, failed: Mapping[str, Exception], *folders: str | Path, again: str = ""):
        self.failed = dict(failed)
        name, error = next(iter(self.failed.items()))
        own = [at for at in extract_tb(error.__traceback__) if "site-packages" not in at.filename]
        where = f" in {Path(own[-1].filename).name}, line {own[-1].lineno}" if own else ""
        more = f", and {len(failed) - 1} more could not" if len(failed) > 1 else ""
        there = " and ".join(f"{folder}/" for folder in folders)
        again = again or f"rgb-circuit report {shlex.quote(str(folders[0]))}"
        super().__init__(
            f"{name} could not be drawn ({type(error).__name__}{where}: "
            f"{first_line(error)}){more}; this is a fault of rgb-circuit, and all that was "
            f"measured is in {there}: once it is mended, {again} draws it"
        )


@contextmanager
def attempt(what: str, failed: dict[str, Exception]) -> Iterator[None]:
    """Draw something after everything was measured. If a bug of ours stops it, note the exception
    in ``failed`` and go on; the caller raises `NotDrawn` when everything else is written."""
    try:
        yield
    except NotDrawn as error:
        failed |= error.failed
    except InputError:
        raise
    except Exception as error:
        failed[what] = error


class ServerError(RuntimeError):
    """An NDIF server failed to do the work; finished parts are kept."""
