"""report.html: what a run found, in one file to send to somebody.

Everything in it comes from the files of the run's folder: the manifest, the frames, and the
pictures in one of them. No model is loaded.

1. `run` reads the folder: the frames, the columns that the page needs of each, and why one is not
   there.
2. `head` says in a sentence what was found.
3. `sections` are the rest, one a file: what it needs, what it shows, and its fragment of the page.
   To add one, put a module there that makes a `section.Section`. It says what it needs of the run's
   task (`run.Needs`), and where that is empty it is neither on the page nor in its navigation. One
   that could not be measured says why.
4. `page` brings them together.
"""

from .page import write

__all__ = ["write"]
