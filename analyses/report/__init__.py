"""report.html: a run's findings, in one file to send to somebody.

All its content comes from the files of the run's folder: the manifest, the frames, and the pictures
in one of the frames. No model is loaded.

1. `run` reads the folder: the frames, the columns that the page needs, and why a frame is missing.
2. `head` sums up the findings in a sentence.
3. `sections` are the rest, one per file: its needs, its values, and its fragment of the page. To
   add one, put a module there that makes a `section.Section`. If the run's task lacks what the
   section needs (`run.Needs`), the section is left out of page and navigation. A section that could
   not be measured says why.
4. `page` brings them together.
"""

from .page import write

__all__ = ["write"]
