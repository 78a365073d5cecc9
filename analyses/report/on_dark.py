"""Maps in the colours of a dark page: zero has the page's colour, and the strongest are the most
vivid.

On paper, strong values are dark. With inverted colours the strongest would be the palest, so every
colour of the map gets its own colour for dark pages, as in the interactive map.
"""

import base64
import io
import re

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.colors import to_hex, to_rgb
from PIL import Image

from rgb_circuit.plots.canvas import DIVERGING, FADED, FADING, INK

# Colours of a dark page, as in page.css: --page, --up, --down, --ink; and of faded cells.
PAGE, UP, DOWN, LETTERS, GREY = "#131519", "#f26a5e", "#5aa6ee", "#e6e8ec", "#24282f"
SHADES = 256


def on_dark(figure: Markup) -> Markup:
    """An SVG element (`embedded.svg`) for both kinds of page: cells have their colour on a dark
    page as ``--dark``, and pixel images have a dark twin of class ``dark``; page.css chooses."""
    text = re.sub(
        r"\bfill: (#[0-9a-f]{6})",
        lambda found: f"{found[0]}; --dark: {_letter(found[1]) or _cell(found[1])}",
        figure,
    )
    return Markup(
        re.sub(r'<image (xlink:href="data:image/png;base64,)([^"]*)("[^>]*?)/>', _twins, text)
    )


def turned(colors: np.ndarray) -> np.ndarray:
    """Colours of a map on paper, (…, 3) from 0 to 1, as their colours on a dark page."""
    paper, dark = _tables()
    flat, back = np.unique(colors.reshape(-1, 3), axis=0, return_inverse=True)
    nearest = [np.abs(paper - color).sum(1).argmin() for color in flat]
    return dark[nearest][back.ravel()].reshape(colors.shape)


def _tables():
    """Every shade of the map, plain and faded, on paper and on a dark page."""
    paper = mpl.colormaps[DIVERGING](np.linspace(0, 1, SHADES))[:, :3]
    page, up, down = (np.array(to_rgb(color)) for color in (PAGE, UP, DOWN))
    value = np.linspace(-1, 1, SHADES)[:, None]
    dark = page + np.abs(value) * (np.where(value > 0, up, down) - page)
    veil, grey = np.array(to_rgb(FADED)), np.array(to_rgb(GREY))
    return (
        np.vstack([paper, paper + FADING * (veil - paper), veil]),
        np.vstack([dark, dark + FADING * (grey - dark), grey]),
    )


def _letter(color):
    """The colour of a name in a cell: light if it was dark."""
    return {to_hex(INK): LETTERS, "#ffffff": PAGE}.get(color)


def _cell(color):
    return to_hex(turned(np.array(to_rgb(color))))


def _twins(found):
    head, content, tail = found.groups()
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGBA"))
    shown = np.rint(255 * turned(pixels[..., :3] / 255)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.dstack([shown, pixels[..., 3]])).save(file, "png")
    twin = base64.b64encode(file.getvalue()).decode()
    return f'<image class="light" {head}{content}{tail}/><image class="dark" {head}{twin}{tail}/>'
