"""A scatter of heads, one run against the other, as an SVG element in the page's own colours; each
head links to its card."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from rgb_circuit.plots.canvas import percent

# In the drawing's own units: its side, and the margins for the axes.
SIDE, LEFT, BOTTOM, EDGE = 320, 52, 36, 10
# Heads closer to zero in both runs, as a share of the axis, share one mark. At most this many heads
# have their names.
NEAR, NAMED = 0.01, 8
# The shortest axis, as a fraction of the gap and in logits: on a shorter one, rounding would look
# like effects.
SHORTEST_SHARE, SHORTEST_LOGITS = 0.01, 0.005


@dataclass(frozen=True)
class Point:
    """A head in both runs.

    Attributes:
        name: ``layer.head``.
        x, y: its effect in A and in B, each (mean, low, high).
        marked: whether it is shown to differ.
        says: the text of its tooltip.
    """

    name: str
    x: tuple[float, float, float]
    y: tuple[float, float, float]
    marked: bool
    says: str


def scatter(points: Sequence[Point], *, share: bool, names: tuple[str, str], says: str) -> Markup:
    """Heads with A to the right and B upwards, on one scale; the dashed line means equal effects.

    Args:
        share: whether numbers are fractions; logits otherwise.
        names: of the runs, for the axes.
        says: what the drawing shows, for readers who cannot see it.
    """
    points = [point for point in points if np.isfinite([point.x[0], point.y[0]]).all()]
    ends = [value for point in points for value in (*point.x, *point.y) if np.isfinite(value)]
    low, high = min(0.0, *ends, 0.0), max(0.0, *ends, 0.0)
    pad = max(0.06 * (high - low), (SHORTEST_SHARE if share else SHORTEST_LOGITS) / 2)
    low, high = low - pad, high + pad

    def across(value):
        return LEFT + (value - low) / (high - low) * (SIDE - LEFT - EDGE)

    def up(value):
        return SIDE - BOTTOM - (value - low) / (high - low) * (SIDE - BOTTOM - EDGE)

    far = [point for point in points if point.marked or _size(point) >= NEAR * (high - low)]
    far.sort(key=lambda point: (point.marked, _size(point)))
    near = len(points) - len(far)
    body = _axes(low, high, across, up, share, names)
    if near:
        tooltip = f"{near:,} head{'s' * (near > 1)} with almost no effect in either run"
        body.append(
            f'<circle class="near" cx="{across(0):.1f}" cy="{up(0):.1f}" r="5">'
            f"<title>{tooltip}</title></circle>"
        )
    body += [_point(point, across, up) for point in far]
    body += _names(far, across, up)
    return Markup(
        f'<svg class="scatter" role="group" aria-label="{escape(says)}" '
        f'viewBox="0 0 {SIDE} {SIDE}">{"".join(body)}</svg>'
    )


def _size(point):
    return max(abs(point.x[0]), abs(point.y[0]))


def _axes(low, high, across, up, share, names):
    step = _step(high - low)
    ticks = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
    ends = low, high
    out = [
        f'<path class="same" d="M{across(low):.1f} {up(low):.1f}L{across(high):.1f} '
        f'{up(high):.1f}"/>'
    ]
    for value in ticks:
        text = percent(value) if share else f"{value + 0.0:.4g}".replace("-", "−")
        kind = "zero" if abs(value) < step / 2 else "line"
        for x0, y0, x1, y1 in ((value, ends[0], value, ends[1]), (ends[0], value, ends[1], value)):
            out.append(
                f'<path class="{kind}" d="M{across(x0):.1f} {up(y0):.1f}L{across(x1):.1f} '
                f'{up(y1):.1f}"/>'
            )
        out.append(
            f'<text class="tick" x="{across(value):.1f}" y="{SIDE - BOTTOM + 13}" '
            f'text-anchor="middle">{text}</text>'
            f'<text class="tick" x="{LEFT - 5}" y="{up(value) + 3:.1f}" '
            f'text-anchor="end">{text}</text>'
        )
    middle = (SIDE + LEFT - EDGE) / 2, (SIDE - BOTTOM + EDGE) / 2
    return [
        *out,
        f'<text class="axis" x="{middle[0]}" y="{SIDE - 6}" text-anchor="middle">'
        f"{escape(names[0])}</text>",
        f'<text class="axis" x="10" y="{middle[1]}" text-anchor="middle" '
        f'transform="rotate(-90 10 {middle[1]})">{escape(names[1])}</text>',
    ]


def _step(width):
    """A round distance between ticks, for four to six steps."""
    size = 10.0 ** np.floor(np.log10(width / 4))
    return next(many * size for many in (1, 2, 5, 10) if width / (many * size) <= 6)


def _point(one, across, up):
    x, y, bars = across(one.x[0]), up(one.y[0]), ""
    if one.marked and np.isfinite([*one.x, *one.y]).all():
        bars = (
            f'<path d="M{across(one.x[1]):.1f} {y:.1f}H{across(one.x[2]):.1f}M{x:.1f} '
            f'{up(one.y[1]):.1f}V{up(one.y[2]):.1f}"/>'
        )
    kind = ' class="other"' if one.marked else ""
    return (
        f'<a href="#head={one.name}"{kind}>{bars}<circle cx="{x:.1f}" cy="{y:.1f}" r="4">'
        f"<title>{escape(one.says)}</title></circle></a>"
    )


def _names(points, across, up):
    """The names of the heads that differ and of those with the largest effects, if there is
    room."""
    taken: list[tuple[float, float]] = []
    out = []
    for point in points[: -NAMED - 1 : -1]:
        x, y = across(point.x[0]) + 7, up(point.y[0]) + 3.5
        if x > SIDE - 24:
            x -= 34
        if any(abs(x - left) < 24 and abs(y - below) < 11 for left, below in taken):
            continue
        taken.append((x, y))
        out.append(f'<text class="name" x="{x:.1f}" y="{y:.1f}">{point.name}</text>')
    return out
