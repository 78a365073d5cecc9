"""The one exception that bad input raises."""


class InputError(ValueError):
    """What the caller gave cannot be used; the message says what is wrong and what to do."""
