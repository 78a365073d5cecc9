"""The exceptions that a user meets; each message is one sentence that says what is wrong and what to do."""

from huggingface_hub.errors import HTTPError, StrictDataclassError
from safetensors import SafetensorError

# What transformers, torch and the hub's client raise about what they were given. To be caught around a single
# call of theirs: around code of ours it would pass our own faults off as the caller's.
FOREIGN = (
    OSError, ValueError, TypeError, AttributeError, LookupError, RuntimeError, ImportError, AssertionError,
    MemoryError, SafetensorError, StrictDataclassError, HTTPError,
)  # fmt: skip


def first_line(error: BaseException) -> str:
    """What an error of somebody else's says, for a sentence of ours: its first line, or the beginning of
    that."""
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return line if len(line) <= 240 else line[:239] + "…"


class InputError(ValueError):
    """What the caller gave cannot be used."""


class NotApplicable(InputError):
    """A question that these trials, or what was found on them, do not allow; others they may."""


class ModelError(InputError):
    """A model that misbehaves, so that its numbers would mean nothing."""


class CannotWrite(InputError):
    """A file cannot be written; what was written before is left as it was."""


class ServerError(RuntimeError):
    """An NDIF server could not do what was asked; what was finished before is kept."""
