"""Bars of what takes long: a notebook's own where it has any, else text; and a line on a terminal
while something is done that knows no share of itself."""

import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

with warnings.catch_warnings():
    # tqdm advises to install ipywidgets wherever it is imported first; text will do.
    warnings.filterwarnings("ignore", message="IProgress not found")
    from tqdm.auto import tqdm

__all__ = ["line", "saying", "tqdm"]


class _Line:
    """The line that is there now, of which nothing is left in the end. Where there is no terminal,
    as in a log, a notebook or a pipe, nothing is written at all."""

    def __init__(self):
        self.there = False

    def say(self, text: str) -> None:
        """Put a text in the place of the one before."""
        if sys.stderr.isatty():
            self.clear()
            # A line that goes on below could not be taken away.
            sys.stderr.write(f"{text[: shutil.get_terminal_size().columns - 3]} …")
            sys.stderr.flush()
            self.there = True

    def clear(self) -> None:
        """Leave nothing of it; whoever prints something else does this first."""
        if self.there:
            # Back to the line's beginning, and all behind it away.
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self.there = False


line = _Line()


@contextmanager
def saying(text: str, shown: bool = True) -> Iterator[None]:
    """A line on a terminal, while something is done that prints nothing."""
    if shown:
        line.say(text)
    try:
        yield
    finally:
        line.clear()
