"""Progress bars: a notebook's own if it has any, else text; and a line on a terminal during work
whose progress is unknown."""

import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

with warnings.catch_warnings():
    # On its first import, tqdm advises installing ipywidgets; text will do.
    warnings.filterwarnings("ignore", message="IProgress not found")
    from tqdm.auto import tqdm

__all__ = ["line", "saying", "tqdm"]


class _Line:
    """The line on the terminal, which is removed in the end. Without a terminal, as in a log, a
    notebook or a pipe, nothing is written at all."""

    def __init__(self):
        self.there = False

    def say(self, text: str) -> None:
        """Replace the line's text."""
        if sys.stderr.isatty():
            self.clear()
            # A text that wraps to a second line could not be removed.
            sys.stderr.write(f"{text[: shutil.get_terminal_size().columns - 3]} …")
            sys.stderr.flush()
            self.there = True

    def clear(self) -> None:
        """Remove the line; call this before printing anything else."""
        if self.there:
            # Return to the line's beginning, and erase to its end.
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self.there = False


line = _Line()


@contextmanager
def saying(text: str, shown: bool = True) -> Iterator[None]:
    """Show a line on a terminal during work that prints nothing."""
    if shown:
        line.say(text)
    try:
        yield
    finally:
        line.clear()
