"""One trial: the pictures that are compared, the question, and the words that matter."""

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from PIL import Image

from .errors import InputError
from .picture import as_rgb


@dataclass(frozen=True)
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

    def _shown(self, condition, image):
        try:
            return as_rgb(image)
        except InputError as error:
            raise InputError(f"trial {self.name!r}, picture {condition!r}: {error}") from error


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
