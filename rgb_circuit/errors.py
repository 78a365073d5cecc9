"""The exceptions that a user meets; each message is one sentence that says what is wrong and what to do."""


class InputError(ValueError):
    """What the caller gave cannot be used."""


class CannotWrite(InputError):
    """A file cannot be written; what was written before is left as it was."""


class ServerError(RuntimeError):
    """An NDIF server could not do what was asked; what was finished before is kept."""
