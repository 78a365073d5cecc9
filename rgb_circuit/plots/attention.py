"""A picture, and where a head looks on it."""

import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from ..pictures.picture import as_rgb
from ..pictures.thumbnail import SMALL_FROM, enlarged, outlined
from .canvas import new_axes, percent


def veiled(pattern: np.ndarray, image: Image.Image) -> Image.Image:
    """A picture veiled in grey where a head does not look.

    The veil is fully lifted at four times the attention of an even spread over all tiles, or at the
    most attended tile if that has more. So a head that hardly looks at the picture leaves it grey.

    Args:
        pattern: attention probabilities of the image tokens, (rows, columns).
        image: the part of a picture that the image tokens tile; if the model crops or pads it,
            `rgb_circuit.pictures.as_seen.as_seen`.
    """
    image = as_rgb(image)
    lifted = pattern / max(float(pattern.max()), 4 / pattern.size)
    veil = Image.fromarray((255 * 0.85 * (1 - lifted)).round().astype(np.uint8)).resize(
        image.size, Image.Resampling.NEAREST
    )
    return Image.composite(Image.new("RGB", image.size, (89, 89, 89)), image, veil)


def attention_over_picture(
    pattern: np.ndarray,
    image: Image.Image,
    *,
    tile: tuple[int, int] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The `veiled` picture, with the share of attention on it, and the share that chance would put
    on a tile.

    Chance is the picture's own share, spread evenly over its tiles: the share of each tile if the
    head looked at the picture without looking for anything.

    Args:
        pattern, image: as in `veiled`.
        tile: (row, column) of the tile to outline and to name in the text; if there are many tiles,
            it is also shown enlarged in a corner.
        ax: the axes to draw on; by default those of a new figure.
    """
    ax = ax or new_axes(3.2, 3.4)
    shown = veiled(pattern, image)
    if tile is not None:
        shown = outlined(shown, tile, pattern.shape)
    width, height = shown.size
    ax.imshow(shown, extent=(0, width, height, 0), interpolation="nearest")
    ax.set_xticks([]), ax.set_yticks([])
    most = tuple(int(place) for place in np.unravel_index(int(pattern.argmax()), pattern.shape))
    lines = [f"{percent(pattern.sum())} on the picture (evenly {percent(pattern.mean())} per tile)"]
    at_most = f"most at {most[0]},{most[1]}: {percent(pattern.max())}"
    if tile is not None:
        at_most = f"outlined {tile[0]},{tile[1]}: {percent(pattern[tuple(tile)])}; " + at_most
    ax.set_xlabel("\n".join([*lines, at_most]), fontsize=8)
    if tile is not None and max(pattern.shape) > SMALL_FROM:
        _enlarge(ax, shown, tile, pattern.shape)
    return ax


def _enlarge(ax, image, tile, grid):
    """Show the tile and those around it in the corner furthest from it."""
    below, right = (2 * place < side for place, side in zip(tile, grid))
    corner = ax.inset_axes((0.62 * right, 0.62 * (not below), 0.38, 0.38))
    corner.imshow(enlarged(image, tile, grid), interpolation="nearest")
    corner.set_xticks([]), corner.set_yticks([])
    for spine in corner.spines.values():
        spine.set(color="white", linewidth=1.5)
