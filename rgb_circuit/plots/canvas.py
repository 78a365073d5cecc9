"""What all figures share: colours, and a figure that pyplot does not know of."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

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


def write_names(
    ax: Axes,
    names: Sequence[tuple[str, tuple[float, float], str, Sequence[tuple[float, float]]]],
    *,
    lines: bool = False,
    size: float = 8,
) -> None:
    """Write names beside points, none over another; call it when all else is drawn.

    Args:
        names: (name, point in data coordinates, colour, offsets) each. It is written at the first offset
            where there is room: in points, from there to the name's left end, or to its right end where the
            first number is negative.
        lines: join names and points with lines, keep names off all the points, and write one that finds no
            room at its last offset; otherwise that one is left out.
        size: of the font.
    """
    if not names:
        return
    # Only a figure that is laid out knows how far apart two points are.
    ax.figure.draw_without_rendering()
    places = [ax.transData.transform(point) * 72 / ax.figure.dpi for _, point, *_ in names]
    taken = [Bbox.from_bounds(x - 3, y - 3, 6, 6) for x, y in places] if lines else []
    for (name, point, color, offsets), (x, y) in zip(names, places):
        # Letters are about two thirds as wide as high.
        width = 0.66 * size * len(name)
        boxes = [Bbox.from_bounds(x + dx - width * (dx < 0), y + dy, width, size) for dx, dy in offsets]
        free = [number for number, box in enumerate(boxes) if not any(box.overlaps(other) for other in taken)]
        if not (free or lines):
            continue
        number = free[0] if free else -1
        taken.append(boxes[number])
        line = dict(arrowstyle="-", color=color, linewidth=0.6, shrinkA=0, shrinkB=2)
        ax.annotate(
            name, point, offsets[number], textcoords="offset points", fontsize=size, color=color,
            ha="left" if offsets[number][0] > 0 else "right", arrowprops=line if lines else None,
        )  # fmt: skip
