"""The exceptions that a user meets; each message is one sentence that says what is wrong and what
to do."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb

from huggingface_hub.errors import HTTPError, StrictDataclassError
from safetensors import SafetensorError

# What transformers, torch and the hub's client raise about what they were given. To be caught
# around a single call of theirs: around code of ours it would pass our own faults off as the
# caller's.
FOREIGN = (
    OSError, ValueError, TypeError, AttributeError, LookupError, RuntimeError, ImportError,
    AssertionError,
    MemoryError, SafetensorError, StrictDataclassError, HTTPError,
)  # fmt: skip


def first_line(error: BaseException) -> str:
    """What an error of somebody else's says, for a sentence of ours: its first line, or the
    beginning of that."""
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return line if len(line) <= 240 else line[:239] + "…"


class InputError(ValueError):
    """What the caller gave cannot be used."""


class NotApplicable(InputError):
    """A question that these trials, or what was found on them, do not allow; others they may."""


class NotLinedUp(NotApplicable):
    """Two runs have no positions in common where something of one is to be put into the other."""


class ModelError(InputError):
    """A model that misbehaves, so that its numbers would mean nothing."""


class OneSize(InputError):
    """A number of tiles for a model whose pictures have one size."""


class NotFinite(ModelError):
    """Logits that are infinite or no number, which the next run of the same may not give."""


class PictureGone(InputError):
    """A file no longer gives the picture that was read from it."""


class CannotWrite(InputError):
    """A file cannot be written; what was written before is left as it was."""


class NotDrawn(RuntimeError):
    """Figures or sections of a report could not be drawn, by a fault of ours; all else was written.

    Attributes:
        failed: what could not be drawn → what was raised.
        folders: where all that was measured is.
        again: the command that draws it.
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
    """Draw something after everything was measured: where it fails by a fault of ours, note it in
    ``failed`` and go on, for the caller to raise `NotDrawn` when all else is written."""
    try:
        yield
    except NotDrawn as error:
        failed |= error.failed
    except InputError:
        raise
    except Exception as error:
        failed[what] = error


class ServerError(RuntimeError):
    """An NDIF server could not do what was asked; what was finished before is kept."""
