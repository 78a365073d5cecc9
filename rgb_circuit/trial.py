"""One trial: the pictures that are compared, the question, and the words that matter."""

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from html import escape

import numpy as np
from PIL import Image

from .errors import InputError
from .picture import as_rgb
from .thumbnail import SMALL_FROM, data_uri, enlarged, outlined

# How many conditions a notebook shows of a trial, and how wide, in pixels.
MOST_SHOWN, SHOWN_PX = 8, 160


@dataclass(frozen=True, repr=False)
class Trial:
    """Pictures of the same size, one question about them, and the answers whose logits are read.

    Nothing here is tied to the RGB game: anyone can build a trial from two pictures.

    Attributes:
        name: identifies the trial in every frame.
        prompt: the text shown with each picture, holding one ``<image>``.
        images: condition → picture, all of one size; ``"clean"`` is always among them. Any Pillow picture
            will do; it is kept as `rgb_circuit.picture.as_rgb` makes it, which leaves plain RGB as it is.
        answers: role → word, read at its first token; no two different words may begin with the same one.
        tile: (row, column) of the place that differs between conditions, from 0, or None.
        grid: tiles per side that ``tile`` counts in, or None.
        expected: condition → role of the right answer; a condition left out is not scored.
        prompts: condition → the text shown with its picture, where it is another than ``prompt``: a condition
            is a picture and a question.

    Raises:
        InputError: no clean picture, a picture that cannot be shown, pictures of different size, an
            expectation that names no role, a tile off the grid, or a prompt without exactly one ``<image>``.

    Warns:
        UserWarning: two conditions have the same picture, pixel by pixel, and the same prompt.
    """

    name: str
    prompt: str
    images: Mapping[str, Image.Image]
    answers: Mapping[str, str]
    tile: tuple[int, int] | None = None
    grid: int | None = None
    expected: Mapping[str, str] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        if "clean" not in self.images:
            raise InputError(
                f"trial {self.name!r} has the conditions {sorted(self.images)} but no 'clean' picture; add "
                "images['clean']"
            )
        object.__setattr__(
            self, "images", {name: self._shown(name, image) for name, image in self.images.items()}
        )
        clean = self.images["clean"].size
        for condition, image in self.images.items():
            if image.size != clean:
                raise InputError(
                    f"trial {self.name!r}: picture {condition!r} is {_pixels(image.size)} but 'clean' is "
                    f"{_pixels(clean)}; "
                    "make all conditions the same size"
                )
        if not self.answers:
            raise InputError(f"trial {self.name!r} has no answers; give at least one role and its word")
        for condition, role in self.expected.items():
            if condition not in self.images or role not in self.answers:
                raise InputError(
                    f"trial {self.name!r} expects {role!r} for {condition!r}, but has the conditions "
                    f"{sorted(self.images)} "
                    f"and the roles {sorted(self.answers)}; use one of these"
                )
        for condition in self.prompts:
            if condition not in self.images:
                raise InputError(
                    f"trial {self.name!r} has a prompt for {condition!r}, but has the conditions "
                    f"{sorted(self.images)}; add that picture"
                )
        for prompt in (self.prompt, *self.prompts.values()):
            if prompt.count("<image>") != 1:
                raise InputError(
                    f"the prompt of trial {self.name!r} holds {prompt.count('<image>')} '<image>'; put "
                    "exactly one where the picture goes"
                )
        if self.tile is not None:
            check_tile(self.tile, self.grid)
        for one, other in identical(self.images):
            if self.asked(one) != self.asked(other):
                continue
            # At this line, so that Python tells it once, however often the trial is made again.
            warnings.warn(
                f"trial {self.name!r} has the same picture in {one!r} and {other!r}, so that nothing can be "
                "restored "
                "from one in the other; check which pictures these are"
            )

    def asked(self, condition: str) -> str:
        """The prompt that is shown with a condition's picture."""
        return self.prompts.get(condition, self.prompt)

    @cached_property
    def content(self) -> str:
        """A hash of all that the trial holds."""
        return hashlib.sha256(json.dumps(described(self)).encode()).hexdigest()[:16]

    def __repr__(self):
        what = f"{', '.join(self.images)} of {_pixels(self.images['clean'].size)}"
        where = (
            "" if self.tile is None else f", tile {self.tile[0]},{self.tile[1]} of {self.grid} × {self.grid}"
        )
        return f"Trial({self.name!r}: {what}{where})"

    def _repr_html_(self) -> str:
        """The pictures, as a notebook shows them: each with the tile outlined, enlarged where it is small,
        and its right answer."""
        figures = [self._figure(condition) for condition in list(self.images)[:MOST_SHOWN]]
        more = len(self.images) - len(figures)
        rest = (
            f"<div>and {more} more: {escape(', '.join(list(self.images)[MOST_SHOWN:]))}</div>" if more else ""
        )
        asked = "<br>".join(
            escape(text).replace("\n", "<br>") for text in dict.fromkeys(map(self.asked, self.images))
        )
        return (
            f"<div><b>{escape(self.name)}</b><div style='display:flex;flex-wrap:wrap;gap:12px'>"
            f"{''.join(figures)}</div>{rest}<code>{asked}</code></div>"
        )

    def _figure(self, condition):
        role = self.expected.get(condition)
        answer = "" if role is None else f": {escape(str(self.answers[role]))}"
        drawn = "".join(
            f"<img src='{data_uri(picture, SHOWN_PX, quality=80)}' alt='' "
            f"style='width:{width}px;image-rendering:pixelated;margin-right:2px;vertical-align:top'>"
            for picture, width in zip(self._framed(self.images[condition]), (SHOWN_PX, SHOWN_PX // 2))
        )
        caption = f"<figcaption>{escape(condition)}{answer}</figcaption>"
        return f"<figure style='margin:0'>{drawn}{caption}</figure>"

    def _framed(self, image):
        """The picture with its tile outlined, and that enlarged where it is small."""
        if self.tile is None or self.grid is None:
            return [image]
        side, grid = image.width // self.grid * self.grid, (self.grid, self.grid)
        # What is left over at the right and at the bottom belongs to no tile.
        image = image.crop((0, 0, side, side))
        tile = odd_tile(image, self.grid) or self.tile
        framed = outlined(image, tile, grid)
        return [framed, enlarged(framed, tile, grid)] if self.grid > SMALL_FROM else [framed]

    def _shown(self, condition, image):
        try:
            return as_rgb(image)
        except InputError as error:
            raise InputError(f"trial {self.name!r}, picture {condition!r}: {error}") from error


def as_trials(trials: Trial | Iterable[Trial]) -> list[Trial]:
    """The trials that a function was given; one alone is a list of one.

    Raises:
        InputError: something else.
    """
    if isinstance(trials, Trial):
        return [trials]
    if isinstance(trials, (str, Mapping)) or not isinstance(trials, Iterable):
        raise InputError(
            f"trials is {_kind(trials)}; give a Trial or a list of them, such as rgb_trials(model, n=32)"
        )
    given = list(trials)
    for one in given:
        if not isinstance(one, Trial):
            raise InputError(
                f"among the trials is {_kind(one)}; give a Trial or a list of them, such as "
                "rgb_trials(model, n=32)"
            )
    return given


def _kind(value):
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def odd_tile(image: Image.Image, grid: int) -> tuple[int, int] | None:
    """(row, column) of the only tile whose colour at its middle is another than that of all others; None
    where there is none such."""
    middles = np.asarray(image.resize((grid, grid), Image.Resampling.NEAREST)).reshape(grid * grid, -1)
    _, first, counts = np.unique(middles, axis=0, return_index=True, return_counts=True)
    if sorted(counts) != [1, grid * grid - 1]:
        return None
    place = int(first[counts.argmin()])
    return place // grid, place % grid


def described(trial: Trial) -> dict:
    """Everything about a trial, its pictures as hashes of their pixels; only what JSON can hold."""
    about = {
        "name": trial.name,
        "prompt": trial.prompt,
        "answers": dict(trial.answers),
        "expected": dict(trial.expected),
        "tile": None if trial.tile is None else [int(place) for place in trial.tile],
        "grid": trial.grid,
        "pictures": {condition: picture_hash(image) for condition, image in trial.images.items()},
    }
    return about | ({"prompts": dict(trial.prompts)} if trial.prompts else {})


def picture_hash(image: Image.Image) -> str:
    """A hash of a picture's mode, size and pixels."""
    # Bytes of a palette picture say nothing without the palette.
    return hashlib.sha256(
        f"{image.mode} {image.size} ".encode() + image.convert("RGBA").tobytes()
    ).hexdigest()


def identical(images: Mapping[str, Image.Image]) -> list[tuple[str, str]]:
    """Pairs of conditions whose pictures have the same pixels, each with the first condition that has them.

    Args:
        images: condition → picture, all of one mode.
    """
    first, pairs = {}, []
    for condition, image in images.items():
        pixels = image.size, hashlib.sha256(image.tobytes()).digest()
        if pixels in first:
            pairs.append((first[pixels], condition))
        first.setdefault(pixels, condition)
    return pairs


def check_tile(tile, grid):
    """Raise InputError unless ``tile`` (row, column) lies on a ``grid`` × ``grid`` board."""
    if grid is None:
        raise InputError(f"tile {tile} was given without a grid; give grid, the number of tiles per side")
    if len(tile) != 2 or not all(index == int(index) and 0 <= index < grid for index in tile):
        raise InputError(
            f"tile {tuple(tile)} is off the {grid} × {grid} grid; rows and columns go from 0 to {grid - 1}"
        )


def _pixels(size):
    return f"{size[0]} × {size[1]} px"
