"""The exceptions that the package raises on purpose."""


class InputError(ValueError):
    """What the caller gave cannot be used; the message says what is wrong and what to do."""


class CannotWrite(InputError):
    """A file cannot be written; what was written before is left as it was."""
