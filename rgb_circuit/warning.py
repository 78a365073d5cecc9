"""Warnings that point to the user's line."""

import contextlib
import functools
import os
import sys
import warnings
from pathlib import Path

_HERE = Path(__file__).parent
# Decorators of the standard library stand between calls of ours.
_PASSED_OVER = (
    *(f"{folder}{os.sep}" for folder in (_HERE, _HERE.parent / "analyses")),
    contextlib.__file__,
    functools.__file__,
)


def warn(text: str) -> None:
    """Warn, and point to the line outside this package that called it."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PASSED_OVER):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, stacklevel=level)
