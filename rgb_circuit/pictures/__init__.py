"""A trial's pictures. Pictures in memory are kept; those in files are opened each time they are
looked at.

Two thousand photographs do not fit into memory. So only the size and a hash of the pixels are kept
of a file, both from one pass. Each look opens the file again, and nothing keeps the picture.
Encoded bytes from tables stay bytes and are decoded at each look.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from ..arguments import as_path
from ..errors import InputError, PictureGone, first_line
from ..files.git_lfs import is_pointer
from .picture import as_rgb


@dataclass(frozen=True)
class PictureFile:
    """A picture that stays in its file.

    Attributes:
        path: absolute.
        size: (width, height) in pixels, upright.
        hash: of its pixels, as `picture_hash` gives it.
        stamp: (size in bytes, time of the last change in nanoseconds) of the file when it was read.
    """

    path: Path
    size: tuple[int, int]
    hash: str
    stamp: tuple[int, int]

    @classmethod
    def read(cls, path: str | Path) -> PictureFile:
        """Read a file's picture once.

        Raises:
            FileNotFoundError: no such file.
            InputError: a file that is no picture, or that `rgb_circuit.pictures.picture.as_rgb`
                refuses.
        """
        path = as_path(path, "a picture").absolute()
        image, stamp = _opened(path)
        return cls(path, image.size, picture_hash(image), stamp)

    def open(self) -> Image.Image:
        """The picture in RGB, unchanged since it was read.

        Raises:
            PictureGone: the file is gone, has changed, or is no longer readable.
        """
        try:
            image, stamp = _opened(self.path)
        except FileNotFoundError as error:
            raise PictureGone(
                f"the picture {self.path} is gone since the trials were read; put it back"
            ) from error
        except InputError as error:
            raise PictureGone(str(error)) from error
        # A file that was put back has another time, and may hold the same picture.
        if stamp != self.stamp and picture_hash(image) != self.hash:
            raise PictureGone(
                f"the picture {self.path} has changed since the trials were read; read them again, "
                "or put the picture back as it was"
            )
        return image


@dataclass(frozen=True)
class PictureBytes:
    """A picture that stays encoded, as in a table's cell.

    Attributes:
        data: the contents of a picture's file, such as a PNG or JPEG.
        size: (width, height) in pixels, upright.
        hash: of its pixels, as `picture_hash` gives it.
    """

    data: bytes = field(repr=False)
    size: tuple[int, int]
    hash: str

    @classmethod
    def read(cls, data: bytes) -> PictureBytes:
        """Read the picture of some bytes once.

        Raises:
            InputError: bytes that are no picture, or that `rgb_circuit.pictures.picture.as_rgb`
                refuses.
        """
        image = _decoded(data)
        return cls(data, image.size, picture_hash(image))

    def open(self) -> Image.Image:
        """The picture in RGB."""
        return _decoded(self.data)


# Name → function that makes a picture square.
FITS = {
    "pad": lambda image, side: ImageOps.pad(image, (side, side), color=(127, 127, 127)),
    "resize": lambda image, side: image.resize((side, side), Image.Resampling.BICUBIC),
}


@dataclass(frozen=True)
class FittedPicture:
    """A picture that is made square each time it is looked at.

    Attributes:
        source: the picture as it is.
        side: of the square, in pixels.
        how: ``"pad"`` (scaled whole, between grey bars) or ``"resize"`` (stretched).
        hash: of the square picture's pixels, as `picture_hash` gives it.
    """

    source: Source = field(repr=False)
    side: int
    how: str
    hash: str

    @classmethod
    def read(cls, source: Source, side: int, how: str) -> FittedPicture:
        """Make a picture square, and read it once."""
        return cls(source, side, how, picture_hash(FITS[how](opened(source), side)))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.side, self.side

    def open(self) -> Image.Image:
        """The picture in RGB, square."""
        return FITS[self.how](opened(self.source), self.side)


# Sources that make their picture at every look.
KEPT = (PictureFile, PictureBytes, FittedPicture)
# The sources of pictures; all have a `size`.
Source = Image.Image | PictureFile | PictureBytes | FittedPicture


def opened(source: Source) -> Image.Image:
    """A source's picture."""
    return source.open() if isinstance(source, KEPT) else source


class Pictures(Mapping[str, Image.Image]):
    """Condition → picture.

    Attributes:
        sources: condition → the picture itself, or its file.
    """

    def __init__(self, sources: Mapping[str, Source]):
        self.sources = dict(sources)

    def __getitem__(self, condition: str) -> Image.Image:
        return opened(self.sources[condition])

    def __contains__(self, condition: object) -> bool:
        # The default of Mapping would open the picture.
        return condition in self.sources

    def __iter__(self) -> Iterator[str]:
        return iter(self.sources)

    def __len__(self) -> int:
        return len(self.sources)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Pictures):
            return super().__eq__(other)
        return _hashes(self.sources) == _hashes(other.sources)

    def __repr__(self) -> str:
        sizes = ", ".join(
            f"{name}: {source.size[0]} × {source.size[1]} px"
            for name, source in self.sources.items()
        )
        return f"Pictures({sizes})"


def sources_of(images: Mapping[str, Image.Image]) -> Mapping[str, Source]:
    """Condition → source of its picture, without opening a file."""
    return images.sources if isinstance(images, Pictures) else images


def picture_hash(picture: Source) -> str:
    """A hash of a picture's mode, size and pixels; a picture that is not in memory has it
    already."""
    if isinstance(picture, KEPT):
        return picture.hash
    found = hashlib.sha256(f"{picture.mode} {picture.size} ".encode())
    # The bytes of a palette picture mean nothing without the palette.
    found.update(picture.convert("RGBA").tobytes())
    return found.hexdigest()


def identical(hashes: Mapping[str, str]) -> list[tuple[str, str]]:
    """Pairs of conditions whose pictures have the same pixels; the first of each pair is the first
    condition with them.

    Args:
        hashes: condition → `picture_hash` of its picture.
    """
    first, pairs = {}, []
    for condition, pixels in hashes.items():
        if pixels in first:
            pairs.append((first[pixels], condition))
        first.setdefault(pixels, condition)
    return pairs


def _hashes(sources):
    return {condition: picture_hash(source) for condition, source in sources.items()}


def _opened(path):
    """A file's picture in RGB, with the file closed again; and the file's `PictureFile.stamp`."""
    try:
        about = os.stat(path)
        with Image.open(path) as image:
            return as_rgb(image), (about.st_size, about.st_mtime_ns)
    except FileNotFoundError:
        raise
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    # What Pillow raises for broken files depends on the format.
    except Exception as error:
        if is_pointer(path):
            raise InputError(
                f"{path} is a Git LFS pointer without the picture that it stands for; run git lfs "
                "pull there"
            ) from error
        raise InputError(
            f"{path}: cannot read it as a picture ({_why(error)}); {_instead(error)}"
        ) from error


def _decoded(data):
    """The picture of some bytes in RGB."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return as_rgb(image)
    except InputError:
        raise
    # What Pillow raises for broken files depends on the format.
    except Exception as error:
        raise InputError(
            f"cannot read {len(data)} bytes as a picture ({_why(error)}); {_instead(error)}"
        ) from error


def _why(error):
    """Why Pillow cannot open a picture. For an unknown format Pillow only says where it looked."""
    if isinstance(error, UnidentifiedImageError):
        return "its format is not known"
    return getattr(error, "strerror", None) or first_line(error)


def _instead(error):
    """What to do about a picture that Pillow cannot open."""
    if isinstance(error, Image.DecompressionBombError):
        return "make it smaller"
    return "save it as PNG or JPEG"
