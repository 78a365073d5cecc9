"""Shared by all figures: colours, names and numbers as text, and figures unknown to pyplot."""

import io
import math
import re
from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike

# Red to blue through white; all common kinds of colour blindness can tell these apart.
DIVERGING = "RdBu_r"
# From Okabe and Ito's palette for colour-blind readers; all show on white and on black.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
# QUIET for unobtrusive lines; INK for text on a light cell, which stays dark on a dark page.
QUIET, INK = "0.55", "0.1"
# The ground of text that crosses a line. A dark page replaces it by its own colour.
PAPER = "#fefefe"
# The colour over values not told from zero, and its opacity.
FADED, FADING = "0.9", 0.75
# Letters of a name that fit a title or a legend.
LONGEST_NAME = 28

Arguments = ParamSpec("Arguments")
Drawn = TypeVar("Drawn", Axes, Figure)


class ShownFigure(Figure):
    """A figure that a notebook shows if it ends a cell. pyplot does not know it, so it is neither
    shown twice nor kept."""

    def _repr_png_(self) -> tuple[bytes, dict]:
        drawn = io.BytesIO()
        self.savefig(drawn, dpi=200, format="png")
        width, height = self.get_size_inches()
        # Two of its pixels for each pixel of an ordinary screen.
        return drawn.getvalue(), dict(width=round(100 * width), height=round(100 * height))


class ShownAxes(Axes):
    """The only axes of a `ShownFigure`, which shows them."""

    def _repr_png_(self) -> tuple[bytes, dict]:
        return self.figure._repr_png_()


def new_figure(width: float, height: float) -> ShownFigure:
    """A new figure, of a size in inches."""
    return ShownFigure(figsize=(width, height), layout="constrained")


def new_axes(width: float, height: float) -> Axes:
    """The axes of a new figure, of a size in inches."""
    return new_figure(width, height).add_subplot(axes_class=ShownAxes)


def literal(draw: Callable[Arguments, Drawn]) -> Callable[Arguments, Drawn]:
    """Make a drawing function show its texts literally: names come from users, and a dollar sign in
    one is a dollar, not the beginning of a formula."""

    @wraps(draw)
    def drawn(*arguments: Arguments.args, **options: Arguments.kwargs) -> Drawn:
        with rc_context({"text.parse_math": False}):
            shown = draw(*arguments, **options)
        # Titles and labels of given axes were made before the setting.
        return without_formulas(shown)

    return drawn


def without_formulas(shown: Drawn) -> Drawn:
    """The same axes or figure, with all its texts so far shown literally."""
    for text in shown.findobj(Text):
        text.set_parse_math(False)
    return shown


def brief(name: str, most: int = LONGEST_NAME) -> str:
    """A user's name on one line, short enough for a figure: of a long name the beginning and the
    end."""
    name = " ".join(str(name).split())
    if len(name) <= most:
        return name
    end = (most - 1) // 3
    return f"{name[: most - 1 - end].rstrip()}…{name[len(name) - end :].lstrip()}"


def legend_name(name: str) -> str:
    """A user's name for a legend; matplotlib leaves out names that begin with an underscore."""
    return brief(name) if not name.startswith("_") else f" {brief(name)}"


def model_title(name: str) -> str:
    """A model's name for a title: the last part of a folder's path; a hub id stays whole."""
    parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".", "..", "~")]
    is_path = name.count("/") != 1 or "\\" in name or name[0] in "/.~" or name[-1] == "/"
    return parts[-1] if parts and is_path else name


def limit_of(values: ArrayLike, least: float = 0.0) -> float:
    """The end of a scale centred on zero: the largest absolute value, but at least ``least``; 1 if
    both are zero."""
    sizes = np.abs(np.asarray(values, dtype=float))
    return max(float(sizes[np.isfinite(sizes)].max(initial=0)), least) or 1.0


def percent(share: float, places: int | None = None) -> str:
    """A fraction as per cent; unless ``places`` are given, with two digits below ten: 41 %, 2.8 %,
    0.031 %."""
    if not math.isfinite(share):
        return "–"
    number = 100 * float(share)
    if places is None:
        places = (
            0
            if abs(number) < 1e-6 or abs(number) >= 9.95
            else 1 - math.floor(math.log10(abs(number)))
        )
    # Adding zero removes the sign of −0.
    text = f"{round(number, places) + 0.0:.{places}f}".replace("-", "−")
    return f"{text}\N{NO-BREAK SPACE}%"


def percent_between(share: float, low: float, high: float) -> str:
    """A fraction with its interval, to the digits that the interval justifies, at most three: +41 %
    [38, 44]; without an interval, `percent`."""
    sign = "+" if share > 0 else ""
    width = 100 * (high - low) / 2
    if not math.isfinite(width):
        return sign + percent(share)
    most = max(0, 2 - math.floor(math.log10(abs(100 * share)))) if abs(share) > 1e-8 else 1
    places = min(most, max(0, -math.floor(math.log10(width)))) if width > 1e-6 else min(most, 1)
    one, two = (percent(end, places).removesuffix("\N{NO-BREAK SPACE}%") for end in (low, high))
    return f"{sign}{percent(share, places)} [{one}, {two}]"


def write_names(
    ax: Axes,
    names: Sequence[tuple[str, tuple[float, float], str, Sequence[tuple[float, float]]]],
    *,
    lines: bool = False,
    cell: float = 0,
    size: float = 8,
) -> None:
    """Write names next to points, none over another; call it after everything else is drawn.

    Args:
        names: (name, point in data coordinates, colour, offsets) each. A name is written at the
            first offset with room, in points from its point to the name's left end, or to its right
            end if the first number is negative.
        lines: join names and points with lines, keep names off all the points, and write a name
            that finds no room at its last offset; without it such a name is left out.
        cell: for maps, the side of a square around each point, in data coordinates: names keep off
            all of these and within the axes, on their own ground.
        size: of the font.
    """
    if not names:
        return
    # Only after layout does the figure know the distance of two points.
    ax.figure.draw_without_rendering()
    places = [ax.transData.transform(point) * 72 / ax.figure.dpi for _, point, *_ in names]
    room = ax.bbox.get_points() * 72 / ax.figure.dpi if cell else [[-math.inf] * 2, [math.inf] * 2]
    (left, bottom), (right, top) = room
    side = 6.0
    if cell:
        side = (
            abs(ax.transData.transform((cell, 0)) - ax.transData.transform((0, 0)))[0]
            * 72
            / ax.figure.dpi
        )
    taken = (
        [Bbox.from_bounds(x - side / 2, y - side / 2, side, side) for x, y in places]
        if lines
        else []
    )
    for (name, point, color, offsets), (x, y) in zip(names, places):
        # Letters are about two thirds as wide as high.
        width = 0.66 * size * len(name)
        boxes = [
            Bbox.from_bounds(x + dx - width * (dx < 0), y + dy, width, size) for dx, dy in offsets
        ]
        free = [
            number
            for number, box in enumerate(boxes)
            if left <= box.x0 and box.x1 <= right and bottom <= box.y0 and box.y1 <= top
            and not any(box.overlaps(other) for other in taken)
        ]  # fmt: skip
        if not (free or lines):
            continue
        number = free[0] if free else -1
        taken.append(boxes[number])
        line = dict(arrowstyle="-", color=color, linewidth=0.6, shrinkA=0, shrinkB=2)
        ax.annotate(
            name, point, offsets[number], textcoords="offset points", fontsize=size, color=color,
            ha="left" if offsets[number][0] > 0 else "right", arrowprops=line if lines else None,
            bbox=dict(facecolor=PAPER, edgecolor="none", alpha=0.8, pad=0.5) if cell else None,
        )  # fmt: skip
