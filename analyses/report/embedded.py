"""Figures and pictures as parts of an HTML page."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from PIL import Image

from rgb_circuit.pictures.thumbnail import SMALL_FROM, data_uri, enlarged, outlined
from rgb_circuit.plots.canvas import BLUE, PAPER, VERMILION
from rgb_circuit.trial import odd_tile

from .run import Run

# While figures are made and written: keep text as text, and give the same bytes for the same
# figure. Names come from users, so a dollar sign in one means a dollar, not mathematics.
SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "rgb_circuit",
    "text.parse_math": False,
}


def svg(figure: Figure, says: str) -> Markup:
    """The figure as an SVG element without a background, in the page's own colours: the text's for
    black, ``--page`` for paper, ``--blue`` and ``--vermilion``.

    Make the figure and call this function under ``matplotlib.rc_context(SETTINGS)``.

    Args:
        says: what the figure shows, for readers who cannot see it.
    """
    file = io.StringIO()
    undated = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(
        file, format="svg", transparent=True, metadata=undated, bbox_inches="tight", pad_inches=0.04
    )
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(
        r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL
    )
    # Align cells to whole pixels, or a dark page shines through between them.
    text = re.sub(r'<g id="QuadMesh_\d+"', '<g shape-rendering="crispEdges"', text)
    # Drop ids of groups, which every figure of the page would repeat.
    text = (
        re.sub(r'<g id="[A-Za-z.]+\d*_\d+"', "<g", text)
        .replace("#000000", "currentColor")
        .replace(PAPER, "var(--page)")
    )
    text = text.replace(BLUE.lower(), "var(--blue)").replace(VERMILION.lower(), "var(--vermilion)")
    width = re.search(r'<svg[^>]* width="([\d.]+)pt"', text).group(1)  # type: ignore[union-attr]
    text = re.sub(
        r'^<svg ([^>]*?) ?(?:height|width)="[\d.]+pt"([^>]*?) (?:height|width)="[\d.]+pt"',
        r"<svg \1\2",
        text,
    )
    label = f'<svg role="img" aria-label="{escape(says)}" style="width: {float(width) / 72:.2f}in" '
    return Markup(text.replace("<svg ", label, 1))


def is_crisp(image: Image.Image) -> bool:
    """Whether a picture is a drawing with few colours, so that its pixels are shown unsmoothed,
    unlike a photograph's."""
    return image.convert("RGB").getcolors(256) is not None


def marked_tiles(
    images: Mapping[str, Image.Image], tile: Sequence[int] | None, grid: Sequence[int]
) -> dict[str, tuple[int, int] | None]:
    """Condition → the place of the trial's marked tile in that picture, or None.

    If the marked tile stands out in the clean picture, it is the one that stands out in each
    picture. Any other marked place, such as that of a dot in only one picture, is the same in all.

    Args:
        images: a trial's pictures by condition.
        tile: the trial's (row, column), or None if it has none.
        grid: rows and columns of tiles.
    """
    if tile is None:
        return dict.fromkeys(images)
    odd = {condition: odd_tile(image, grid[0]) for condition, image in images.items()}
    if odd.get("clean") == tuple(tile):
        return odd
    return dict.fromkeys(images, (tile[0], tile[1]))


def opened(png: bytes) -> Image.Image:
    """A picture from its file."""
    return Image.open(io.BytesIO(png)).convert("RGB")


def shown_pictures(rows: pd.DataFrame, run: Run) -> list[dict[str, object]]:
    """A trial's pictures, one after the other, with the marked tile outlined, if there is one, and
    enlarged if it is small.

    Args:
        rows: ``trial, condition, expected, png`` of one trial, with the clean picture among them.
    """
    grid = run.manifest["grid"] if run.task.place else None
    images = {row.condition: opened(row.png) for row in rows.itertuples()}
    tile = run.tiles.get(rows["trial"].iloc[0]) if grid else None
    tiles = marked_tiles(images, tile, grid) if grid else dict.fromkeys(images)
    return [
        _shown(row, images[row["condition"]], tiles[row["condition"]], grid)
        for row in rows.to_dict("records")
    ]


def _shown(row, image, tile, grid):
    close, crisp = None, is_crisp(image)
    if tile:
        image = outlined(image, tile, grid)
        close = data_uri(enlarged(image, tile, grid)) if grid[0] > SMALL_FROM else None
    return dict(
        condition=row["condition"],
        expected=None if pd.isna(row["expected"]) else row["expected"],
        uri=data_uri(image),
        close=close,
        crisp=crisp,
    )
