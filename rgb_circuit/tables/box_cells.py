"""Boxes in the cells of tables: are they corners, or a corner and a size, as COCO writes them?"""

from collections.abc import Iterable
from typing import Any

from ..arguments import as_number

# COCO's boxes are rounded, so that some end a little outside of their pictures.
ROUNDED = 1.0


def as_coco(boxes: Iterable[tuple[Any, tuple[int, int]]]) -> bool:
    """Whether boxes are (left, top, width, height): all are places in their pictures that way, and
    not all are as (left, top, right, bottom).

    Args:
        boxes: each with the (width, height) of its picture in pixels.

    Examples:
        >>> as_coco([((10, 10, 20, 20), (40, 40)), ((30, 30, 8, 8), (40, 40))])
        True
        >>> as_coco([((10, 10, 20, 20), (40, 40))]), as_coco([((30, 30, 8, 39), (40, 40))])
        (False, False)
    """
    numbers = [([as_number(edge) for edge in box], size) for box, size in boxes]
    if not all(len(box) == 4 and None not in box for box, _ in numbers):
        return False
    sized = [((x, y, x + w, y + h), size) for (x, y, w, h), size in numbers]  # type: ignore[operator]
    return not all(_is_place(*one) for one in numbers) and all(_is_place(*one) for one in sized)


def _is_place(box, size):
    left, top, right, bottom = box
    width, height = size
    return 0 <= left < right <= width + ROUNDED and 0 <= top < bottom <= height + ROUNDED
