"""Maps on a dark page: the same values in other colours, in drawn cells and in pixels."""

import base64
import io
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from analyses.report import on_dark
from analyses.report.embedded import svg

CSS = Path(on_dark.__file__).with_name("page.css").read_text()


def mixed(value):
    """A value of −1 to 1 in the colours that a dark page's style names, one after the other."""
    dark = CSS.split("prefers-color-scheme: dark", 1)[1]
    page, end = (
        np.array(to_rgb(re.search(rf"--{name}: (#\w+)", dark)[1]))
        for name in ("page", "up" if value > 0 else "down")
    )
    return page + abs(value) * (end - page)


@pytest.mark.parametrize("raster", [False, True])
def test_a_map_has_every_value_in_the_dark_pages_colours(raster):
    values = np.array([[-1.0, -0.5, 0.0], [0.25, 0.5, 1.0]])
    _, ax = plt.subplots(figsize=(2, 2))
    cells = ax.pcolormesh(values, cmap="RdBu_r", vmin=-1, vmax=1, rasterized=raster)
    ax.text(0.5, 0.5, "name", color="0.1")
    text = on_dark.on_dark(svg(cells.figure, "a map"))
    if raster:
        twin = re.search(r'<image class="dark" xlink:href="data:image/png;base64,([^"]*)"', text)[1]
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(twin))).convert("RGB")) / 255
        # Pixels stand in an SVG from below, as values do in a mesh.
        height, width = pixels.shape[:2]
        found = [
            pixels[int(height * (0.25 + row / 2)), int(width * (column + 0.5) / 3)]
            for row in range(2)
            for column in range(3)
        ]
    else:
        mesh = text.split('crispEdges"')[1].split("</g>")[0]
        found = [np.array(to_rgb(one)) for one in re.findall(r"--dark: (#\w{6})", mesh)]
    wanted = [mixed(value) for value in values.ravel()]
    assert np.abs(np.array(found) - wanted).max() < 0.012
    assert "fill: #1a1a1a; --dark: #e6e8ec" in text
