"""A page over two runs: what differs between them, their circuits side by side, which heads act
otherwise, and a click on a head for both.
"""

from .page import two_runs, verdict, write

__all__ = ["two_runs", "verdict", "write"]
