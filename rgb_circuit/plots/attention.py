"""A picture, and where a head looks on it."""

import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from ..picture import as_rgb
from .canvas import new_axes


def veiled(pattern: np.ndarray, image: Image.Image) -> Image.Image:
    """A picture veiled in grey where a head does not look.

    The veil is fully lifted at four times the attention that an even spread would give a tile, or at the most
    looked-at tile if that is more: a head that hardly looks at the picture leaves it grey.

    Args:
        pattern: attention probabilities of the image tokens, (rows, columns).
        image: what the image tokens tile; of a picture that the model crops or pads,
            `rgb_circuit.as_seen.as_seen`.
    """
    image = as_rgb(image)
    lifted = pattern / max(float(pattern.max()), 4 / pattern.size)
    veil = Image.fromarray((255 * 0.85 * (1 - lifted)).round().astype(np.uint8)).resize(
        image.size, Image.Resampling.NEAREST
    )
    return Image.composite(Image.new("RGB", image.size, (89, 89, 89)), image, veil)


def attention_over_picture(pattern: np.ndarray, image: Image.Image, *, ax: Axes | None = None) -> Axes:
    """The `veiled` picture, and how much of the attention is on it.

    Args:
        pattern, image: as in `veiled`.
        ax: where to draw; a new figure's by default.
    """
    ax = ax or new_axes(3.2, 3.2)
    width, height = image.size
    ax.imshow(veiled(pattern, image), extent=(0, width, height, 0), interpolation="nearest")
    row, column = np.unravel_index(int(pattern.argmax()), pattern.shape)
    ax.set_xticks([]), ax.set_yticks([])
    ax.set_xlabel(f"{pattern.sum():.0%} on the picture,\nmost at {row},{column} ({pattern.max():.0%})")
    return ax
