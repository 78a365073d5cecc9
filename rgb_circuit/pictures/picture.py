"""A picture as people see it, in the form that every processor reads alike: plain RGB."""

import io

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps

from ..errors import InputError, first_line


def as_rgb(image: Image.Image) -> Image.Image:
    """The picture in RGB with 8 bits per channel, as viewers show it.

    - It is turned upright as its camera noted.
    - Transparent places are laid on white.
    - 16-bit grey is divided by 257, and floats from 0 (black) to 1 (white) are multiplied by 255.
      Other floats, and 32-bit integers, are refused: they do not say which number is white.
    - Palette, bilevel, CMYK, Lab, YCbCr and HSV are converted, CMYK by its colour profile if it has
      one. Profiles of RGB and grey pictures are not applied, since no model's processor applies
      them.
    - An animated picture, or a file of several pages, is refused.

    Returns:
        The same object if it is plain RGB already.

    Raises:
        InputError: no Pillow picture, an unreadable one, or one of those refused above.
    """
    if not isinstance(image, Image.Image):
        raise InputError(
            f"a picture is a {type(image).__name__}, not a Pillow picture; make one of a file with "
            "PIL.Image.open, "
            "or of an array of 0 to 255 (uint8) with PIL.Image.fromarray"
        )
    # What Pillow raises for broken files depends on the format.
    try:
        image.load()
        # In this format a camera adds its own previews after the picture.
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except Exception as error:
        raise InputError(
            f"cannot read this picture ({first_line(error)}); fetch it again, or save it as PNG or "
            "JPEG"
        ) from error
    if not (image.width and image.height):
        raise InputError(
            f"this picture has {image.width} × {image.height} px; give one of a pixel or more"
        )
    if frames > 1:
        raise InputError(
            f"this picture has {frames} frames or pages; save the one to be shown as a picture of "
            "its own"
        )
    # Pillow scales the range that a Netpbm file states to 16 bits.
    grey16 = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
    return _colors(ImageOps.exif_transpose(image) if turned else image, grey16)


def _colors(image, grey16):
    if grey16:
        return _from_grey16(image)
    if image.mode in ("I", "F"):
        return _from_numbers(image)
    if image.has_transparency_data:
        # Pillow cannot convert grey with premultiplied transparency directly.
        straight = image.convert("LA") if image.mode == "La" else image
        return _on_white(straight.convert("RGBA"))
    if image.mode == "CMYK" and image.info.get("icc_profile"):
        return _from_inks(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image):
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _from_grey16(image):
    numbers = np.asarray(image)
    grey = (numbers / 257).round().astype(np.uint8)
    if "transparency" in image.info:
        grey[numbers == image.info["transparency"]] = 255
    return Image.fromarray(grey).convert("RGB")


def _from_numbers(image):
    numbers = np.asarray(image)
    low, high = numbers.min(), numbers.max()
    if image.mode == "I":
        raise InputError(
            f"this picture holds 32-bit whole numbers, here from {low} to {high}, and does not say "
            "which is white; save it with 8 or 16 bits"
        )
    # Written so that NaN fails too.
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"this picture holds decimal numbers from {low:g} to {high:g}, and only 0 (black) to 1 "
            "(white) can be "
            "shown; scale them to that, or save it with 8 or 16 bits"
        )
    return Image.fromarray((255 * numbers).round().astype(np.uint8)).convert("RGB")


def _from_inks(image):
    """Convert CMYK by its colour profile; without it the same inks come out as garish colours."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        return ImageCms.profileToProfile(
            image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (OSError, ImageCms.PyCMSError) as error:
        raise InputError(
            f"cannot read the colour profile of this CMYK picture ({first_line(error)}); save it "
            "as an RGB picture"
        ) from error
