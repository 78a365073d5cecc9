"""A page over two runs: what differs between them, their circuits side by side, which heads act
otherwise, and a click on a head for both.
"""

from .page import check_page, drawn, two_runs, verdict, write

__all__ = ["check_page", "drawn", "two_runs", "verdict", "write"]
