"""A page over two runs: their differences, their circuits side by side, the heads that act
differently, and a card of each head in both runs.
"""

from .page import check_page, drawn, two_runs, verdict, write

__all__ = ["check_page", "drawn", "two_runs", "verdict", "write"]
