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

# For the time in which figures are made and written: text that stays text, and the same bytes for
# the same figure. Names come from users, and a dollar sign in one means a dollar.
SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "rgb_circuit",
    "text.parse_math": False,
}


def svg(figure: Figure, says: str) -> Markup:
    """The figure as an SVG element without a background, in the page's own colours: its text's for
    black, ``--page`` for paper, ``--blue`` and ``--vermilion``.

    Call it under ``matplotlib.rc_context(SETTINGS)``, where the figure should be made too.

    Args:
        says: what it shows, for readers who cannot see it.
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
    # Cells end at whole pixels, or a dark page shines through between them.
    text = re.sub(r'<g id="QuadMesh_\d+"', '<g shape-rendering="crispEdges"', text)
    # Names of groups would be the same in every figure of the page.
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
    """Whether a picture is drawn, of few colours, so that its pixels are shown as they are; a
    photograph's would be steps."""
    return image.convert("RGB").getcolors(256) is not None


def shown_picture(row: Mapping[str, Any], grid: Sequence[int] | None) -> dict[str, object]:
    """What is shown of a picture: with a grid, the only tile that is another is outlined, and
    enlarged where it is small."""
    image, close = Image.open(io.BytesIO(row["png"])).convert("RGB"), None
    crisp = is_crisp(image)
    if grid and (tile := odd_tile(image, grid[0])):
        image = outlined(image, tile, grid)
        close = data_uri(enlarged(image, tile, grid)) if grid[0] > SMALL_FROM else None
    return dict(
        condition=row["condition"],
        expected=None if pd.isna(row["expected"]) else row["expected"],
        uri=data_uri(image),
        close=close,
        crisp=crisp,
    )
