"""The circuit as a small drawing: which heads work through which, and which write the answer."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from .parts import Arrow, Part

# In the drawing's own units, which are pixels at full width.
WIDTH, GAP, BETWEEN, MARGIN = 480, 14, 58, 12
TITLE, LINE, SMALL, CHIP = 20, 19, 16, 103
# Mean width of a letter, as a share of its size; most heads in a box, and most boxes in a row.
LETTER, MOST_HEADS, MOST_BESIDE = 0.53, 6, 3
# Half of the room between two arrows in one gap.
ASIDE = 4
DASHED = {"undecided": "5 4", "untested": "5 4", "refuted": "2 4"}


@dataclass(frozen=True)
class Box:
    """The place of a part.

    Attributes:
        part: its content.
        left, top, width, height: of its frame.
        lines: its text: (kind, text or heads), from the top down.
    """

    part: Part
    left: float
    top: float
    width: float
    height: float
    lines: Sequence[tuple[str, object]]


def drawing(
    parts: Sequence[Part],
    arrows: Sequence[Arrow],
    answer: str,
    *,
    linked: bool = True,
    prefix: str = "",
) -> Markup:
    """An SVG element in the page's own colours.

    Args:
        answer: the text at the end of all arrows, what the model says.
        linked: whether the name of a head links to the head.
        prefix: of ids, unique among the drawings of the page.
    """
    tip = f"{prefix}tip"
    starts = {arrow.start for arrow in arrows}
    first = [part for part in parts if part.name in starts or (part.sends and not part.writes)]
    second = [part for part in parts if part not in first]
    boxes: list[Box] = []
    top = 2.0
    for rank in (first, second):
        for beside in _rows(rank):
            placed = _placed(beside, top)
            top = max(box.top + box.height for box in placed) + GAP
            boxes += placed
        top += BETWEEN - GAP if rank else 0
    at = {box.part.name: box for box in boxes}
    drawn, labels = [], set()
    for arrow in arrows:
        start, end = at[arrow.start], at[arrow.end]
        # Several arrows from one box share one label.
        label = "" if arrow.start in labels else arrow.says
        labels.add(arrow.start)
        drawn.append(_arrow(_foot(start), (end.left + end.width / 2, end.top), tip, label))
    writers = [box for box in boxes if box.part.writes]
    drawn += [_to_answer(box, boxes, top, tip) for box in writers]
    body = [*drawn, *(_box(box, linked) for box in boxes), _answer(answer, top)]
    description = "; ".join(_said(part) for part in parts)
    return Markup(
        f'<svg class="circuit" role="group" aria-label="{escape(description)}" '
        f'viewBox="0 0 {WIDTH} {top + 36:.0f}">'
        f'<defs><marker id="{tip}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto" markerUnits="userSpaceOnUse">'
        '<path d="M0 0L8 4L0 8z" style="fill: var(--quiet)"/></marker></defs>'
        f"{''.join(body)}</svg>"
    )


def _said(part):
    heads = ", ".join(name for name, _ in part.heads)
    return f"{part.name}: {heads or ', '.join(part.says)}"


def _rows(parts):
    """Parts in rows of at most `MOST_BESIDE`, as equal as possible."""
    count = -(-len(parts) // MOST_BESIDE)
    size = -(-len(parts) // count) if count else 1
    return [parts[start : start + size] for start in range(0, len(parts), size)]


def _placed(parts, top):
    width = (WIDTH - GAP * (len(parts) - 1) - 4) / len(parts) if len(parts) > 1 else 0.72 * WIDTH
    left = 2 if len(parts) > 1 else (WIDTH - width) / 2
    lines = [_lines(part, width - 2 * MARGIN) for part in parts]
    height = max(sum(_height(kind) for kind, _ in own) for own in lines) + 2 * MARGIN - 4
    return [
        Box(part, left + number * (width + GAP), top, width, height, own)
        for number, (part, own) in enumerate(zip(parts, lines))
    ]


def _height(kind):
    return {"title": TITLE, "heads": LINE}.get(kind, SMALL)


def _lines(part, width):
    """The lines of text in a box of this width."""
    beside = max(1, int(width // CHIP))
    shown = part.heads[:MOST_HEADS]
    lines: list[tuple[str, object]] = [("title", line) for line in _wrapped(part.name, width, 14)]
    lines += [("heads", shown[start : start + beside]) for start in range(0, len(shown), beside)]
    if more := len(part.heads) - len(shown):
        lines.append(("quiet", f"and {more:,} more"))
    for text in part.says:
        lines += [("plain", line) for line in _wrapped(text, width, 12)]
    return lines + [("quiet", line) for line in _wrapped(part.does, width, 12)]


def _wrapped(text, width, size):
    return textwrap.wrap(text, max(8, int(width / (LETTER * size))))


def _box(box, linked):
    dash = DASHED.get(box.part.state, "")
    style = f"stroke-dasharray: {dash}" if dash else "stroke-width: 1.6"
    out = [
        f'<g class="{box.part.state}"><rect x="{box.left:.1f}" y="{box.top:.1f}" '
        f'width="{box.width:.1f}" height="{box.height:.1f}" rx="7" style="{style}"/>'
    ]
    y = box.top + MARGIN - 4
    for kind, content in box.lines:
        y += _height(kind)
        x = box.left + MARGIN
        if kind != "heads":
            out.append(f'<text class="{kind}" x="{x:.1f}" y="{y - 4:.1f}">{escape(content)}</text>')
            continue
        for number, (name, does) in enumerate(content):
            head = (
                f'<text class="head" x="{x + number * CHIP:.1f}" y="{y - 4:.1f}">'
                f'<tspan class="name">{name}</tspan> {escape(does)}</text>'
            )
            out.append(f'<a href="#head={name}">{head}</a>' if linked else head)
    return "".join(out) + "</g>"


def _answer(text, top):
    return (
        f'<g class="answer"><rect x="2" y="{top:.1f}" width="{WIDTH - 4}" height="32" rx="7"/>'
        f'<text class="title" x="{WIDTH / 2}" y="{top + 21:.1f}" text-anchor="middle">'
        f"{escape(text)}</text></g>"
    )


def _foot(box):
    return box.left + box.width / 2, box.top + box.height


def _within(box):
    """Where an arrow from a box meets the answer."""
    return min(max(box.left + box.width / 2, 30), WIDTH - 30)


def _to_answer(box, boxes, top, tip):
    """An arrow from a box to the answer: straight down, or around the boxes in between, so that it
    does not seem to go through them."""
    between = [lower for lower in boxes if lower.top > box.top]
    sides = [at for one in between for at in (one.left - GAP / 2, one.left + one.width + GAP / 2)]
    free = [at for at in sides if 0 < at < WIDTH and not any(_is_over(at, one) for one in between)]
    if not free:
        return _arrow(_foot(box), (_within(box), top), tip)
    x, y = _foot(box)
    past = min(free, key=lambda at: abs(at - x))
    # Keep two arrows in the same gap apart.
    past += ASIDE if x > past else -ASIDE
    corner = min(max(past, box.left + MARGIN), box.left + box.width - MARGIN)
    return (
        f'<path class="arrow" d="M{corner:.1f} {y:.1f}C{corner:.1f} {y + GAP / 2:.1f} {past:.1f} '
        f'{y:.1f} {past:.1f} {y + GAP:.1f}V{top - 1:.1f}" marker-end="url(#{tip})"/>'
    )


def _is_over(x, box):
    return box.left < x < box.left + box.width


def _arrow(start, end, tip, label=""):
    (x, y), (to_x, to_y) = start, end
    middle = (y + to_y) / 2
    line = (
        f'<path class="arrow" d="M{x:.1f} {y:.1f}C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} '
        f'{to_x:.1f} {to_y - 1:.1f}" marker-end="url(#{tip})"/>'
    )
    if not label:
        return line
    # Put the label where the arrow leaves the box, on the side that it turns away from.
    right = to_x <= x
    lines = _wrapped(label, (WIDTH - x if right else x) - 24, 12)
    anchor, at = ("start", x + 12) if right else ("end", x - 12)
    return line + "".join(
        f'<text class="plain" x="{at:.1f}" y="{y + 18 + number * 15:.1f}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
        for number, text in enumerate(lines[:3])
    )
