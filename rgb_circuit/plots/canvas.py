"""What all figures share: colours, and a figure that pyplot does not know of."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Red to blue through white: told apart with every common kind of colour blindness.
DIVERGING = "RdBu_r"
# Of Okabe and Ito's palette, which the colour-blind can tell apart; all of them show on white and on black.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
# For lines that must not stand out, and for writing on a light cell, which stays dark where the page is dark.
QUIET, INK = "0.55", "0.1"
# Behind writing that crosses a line. A page that is dark puts its own colour there.
PAPER = "#fefefe"


def new_axes(width: float, height: float) -> Axes:
    """The axes of a new figure, in inches."""
    return Figure(figsize=(width, height), layout="constrained").add_subplot()


def head_name(layer: int, head: int) -> str:
    """``layer.head``."""
    return f"{layer}.{head}"
