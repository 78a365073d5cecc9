"""One trial: the pictures to compare, the question, and the answers."""

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from numbers import Real
from typing import Any

import numpy as np
from PIL import Image

from .arguments import check_wrapped
from .boards import check_tile
from .edits import POSITIONS
from .errors import InputError
from .files.table_text import as_text, in_one_order, shortened
from .pictures import KEPT, Pictures, Source, identical, picture_hash, sources_of
from .pictures.picture import as_rgb
from .pictures.thumbnail import SMALL_FROM, data_uri, enlarged, outlined

# How many conditions of a trial a notebook shows, and the width of each in pixels.
MOST_SHOWN, SHOWN_PX = 8, 160


@dataclass(frozen=True, repr=False)
class Trial:
    """Pictures of any size, one question about them, and the answers whose logits are read.

    Nothing here is tied to the RGB game: anyone can build a trial from two pictures.

    Attributes:
        name: identifies the trial in every frame; a whole number becomes text.
        prompt: the text shown with each picture, holding one ``<image>``.
        images: condition → picture; ``"clean"`` is always among them. Sizes may differ; an edit at
            positions that cannot be lined up between two prompts is refused. Any Pillow picture
            will do; `rgb_circuit.pictures.picture.as_rgb` converts it, and leaves plain RGB as it
            is. A `rgb_circuit.pictures.PictureFile` stays in its file, which is opened at every
            look, and `rgb_circuit.pictures.PictureBytes` stay encoded.
        answers: role → word or whole number, stripped of blanks, read at its first token. If all
            answers begin with the same tokens, these are appended to the prompt, and each answer is
            read at the first token after them. No two may be read at one token, but the game's
            ``"none"`` may repeat another word. In a list, every word is accepted: the first names
            the answer, and the rest go to ``also``.
        tile: (row, column) of the place that differs between conditions, from 0, or None.
        grid: tiles per side that ``tile`` counts in, or None.
        expected: condition → role of the right answer; a condition left out is not scored.
        prompts: condition → the text shown with its picture, if it differs from ``prompt``: a
            condition is a picture and a question.
        task: the `rgb_circuit.Task` that drew the trial, or None; not part of its content.
        cluster: names what it shares with other trials, such as a photograph or a scene; trials of
            one cluster are one observation. Empty: it shares nothing that is known.
        strata: factor → level of factors that are fixed, such as ``{"template": "short"}``.
        boxes: condition → name → (left, top, right, bottom) in pixels of that picture; each name is
            a word for positions.
        also: role → further accepted words. The role's logit is the log-sum-exp over the logits of
            all its words, and any of them is a right answer.

    Raises:
        InputError: no clean picture, a picture that cannot be shown, an empty name, prompt or
            answer, two roles with one word, an expectation that names no role, a tile off the grid,
            a tile in pictures of unequal size, a box outside its picture, or a prompt without
            exactly one ``<image>``.

    Warns:
        UserWarning: two conditions have the same picture, pixel by pixel, and the same prompt.

    Examples:
        >>> from PIL import Image
        >>> red, blue = (Image.new("RGB", (24, 24), color) for color in ("red", "blue"))
        >>> question = model.prompt("Which color is the background? Respond in one word")
        >>> answers = {"right": "red", "other": "blue"}
        >>> trial = rgb.Trial("a", question, {"clean": red, "blue": blue}, answers)
        >>> rgb.play(model, trial)[["condition", "answer"]].values.tolist()
        [['clean', 'red'], ['blue', 'blue']]
    """

    name: str
    prompt: str
    images: Mapping[str, Image.Image]
    answers: Mapping[str, str]
    tile: tuple[int, int] | None = None
    grid: int | None = None
    expected: Mapping[str, str] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)
    # A Task; untyped, because task.py imports this file.
    task: Any = field(default=None, compare=False)
    cluster: str = ""
    strata: Mapping[str, str] = field(default_factory=dict)
    boxes: Mapping[str, Mapping[str, tuple[float, float, float, float]]] = field(
        default_factory=dict
    )
    also: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self):
        name = as_text(self.name, "the name of a trial", "red on blue")
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "images", self._pictures())
        words = self._words()
        first = {role: accepted[0] for role, accepted in words.items()}
        more = {role: accepted[1:] for role, accepted in words.items() if len(accepted) > 1}
        object.__setattr__(self, "answers", first)
        object.__setattr__(self, "also", more)
        self._check_expected()
        self._check_prompts()
        # A cluster may be called 0.
        unnamed = self.cluster is None or self.cluster == ""
        what = f"the cluster of trial {name!r}"
        cluster = "" if unnamed else as_text(self.cluster, what, "kitchen 3")
        object.__setattr__(self, "cluster", cluster)
        object.__setattr__(self, "strata", self._levels())
        object.__setattr__(self, "boxes", self._boxes())
        if self.tile is not None:
            tile, grid = check_tile(self.tile, self.grid)
            object.__setattr__(self, "tile", tile)
            object.__setattr__(self, "grid", grid)
            self._check_one_size()
        for condition, twin in identical(
            {name: picture_hash(source) for name, source in self.sources.items()}
        ):
            if self.asked(condition) != self.asked(twin):
                continue
            # Reported at this line, so that Python warns once however often the trial is rebuilt.
            warnings.warn(
                f"trial {self.name!r} has the same picture in {condition!r} and {twin!r}, so that "
                "nothing can be restored "
                "from one in the other; check which pictures these are"
            )

    @property
    def sources(self) -> Mapping[str, Source]:
        """Condition → the picture itself, or its file. A trial made from another's sources opens no
        file."""
        return sources_of(self.images)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the clean picture in pixels."""
        return self.sources["clean"].size

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Condition → (width, height) of its picture in pixels."""
        return {condition: source.size for condition, source in self.sources.items()}

    @cached_property
    def words(self) -> Mapping[str, tuple[str, ...]]:
        """Role → all its accepted words, the answer first."""
        return {role: (word, *self.also.get(role, ())) for role, word in self.answers.items()}

    @property
    def accepted(self) -> Mapping[str, str]:
        """Role → all its accepted words, as people read them: "grey / gray"."""
        return {role: " / ".join(words) for role, words in self.words.items()}

    def asked(self, condition: str) -> str:
        """The prompt shown with a condition's picture."""
        return self.prompts.get(condition, self.prompt)

    @cached_property
    def content(self) -> str:
        """A hash of everything that `described` tells of the trial."""
        return hashlib.sha256(json.dumps(described(self)).encode()).hexdigest()[:16]

    def __repr__(self):
        of_size: dict[tuple[int, int], list[str]] = {}
        for condition, size in self.sizes.items():
            of_size.setdefault(size, []).append(condition)
        what = ", ".join(
            f"{', '.join(names)} of {_pixels(size)}" for size, names in of_size.items()
        )
        where = (
            ""
            if self.tile is None
            else f", tile {self.tile[0]},{self.tile[1]} of {self.grid} × {self.grid}"
        )
        return f"Trial({self.name!r}: {what}{where})"

    def _repr_html_(self) -> str:
        """The pictures, for a notebook: each with its tile outlined, enlarged if it is small, and
        its right answer."""
        figures = [self._figure(condition) for condition in list(self.images)[:MOST_SHOWN]]
        more = len(self.images) - len(figures)
        rest = (
            f"<div>and {more} more: {escape(', '.join(list(self.images)[MOST_SHOWN:]))}</div>"
            if more
            else ""
        )
        prompts = "<br>".join(
            escape(text).replace("\n", "<br>")
            for text in dict.fromkeys(map(self.asked, self.images))
        )
        return (
            f"<div><b>{escape(self.name)}</b><div style='display:flex;flex-wrap:wrap;gap:12px'>"
            f"{''.join(figures)}</div>{rest}<code>{prompts}</code></div>"
        )

    def _figure(self, condition):
        role = self.expected.get(condition)
        answer = "" if role is None else f": {escape(self.accepted[role])}"
        drawn = "".join(
            f"<img src='{data_uri(picture, SHOWN_PX, quality=80)}' alt='' "
            f"style='width:{width}px;image-rendering:pixelated;margin-right:2px;vertical-align:top'>"
            for picture, width in zip(
                self._framed(self.images[condition]), (SHOWN_PX, SHOWN_PX // 2)
            )
        )
        caption = f"<figcaption>{escape(condition)}{answer}</figcaption>"
        return f"<figure style='margin:0'>{drawn}{caption}</figure>"

    def _framed(self, image):
        """The picture with its tile outlined; and an enlargement if the tile is small."""
        if self.tile is None or self.grid is None:
            return [image]
        side, grid = image.width // self.grid * self.grid, (self.grid, self.grid)
        # The remainder at the right and at the bottom belongs to no tile.
        image = image.crop((0, 0, side, side))
        tile = odd_tile(image, self.grid) or self.tile
        framed = outlined(image, tile, grid)
        return [framed, enlarged(framed, tile, grid)] if self.grid > SMALL_FROM else [framed]

    def _pictures(self):
        """``images``, each converted to RGB unless its source is kept."""
        given = self._mapping("images", "conditions to pictures, with 'clean' among them")
        if "clean" not in given:
            raise InputError(
                f"trial {self.name!r} has the conditions {sorted(given)} but no 'clean' picture; "
                "add images['clean']"
            )
        return Pictures(
            {name: self._shown(name, source) for name, source in sources_of(given).items()}
        )

    def _check_one_size(self):
        """Raise InputError unless all pictures have one size, so that a tile is the same place."""
        for condition, size in self.sizes.items():
            if size != self.size:
                raise InputError(
                    f"trial {self.name!r} has a tile, and picture {condition!r} is {_pixels(size)} "
                    f"but 'clean' is {_pixels(self.size)}; make all conditions the same size, or "
                    "leave tile and grid out"
                )

    def _shown(self, condition, source):
        if isinstance(source, KEPT):
            return source
        try:
            return as_rgb(source)
        except InputError as error:
            raise InputError(f"trial {self.name!r}, picture {condition!r}: {error}") from error

    def _words(self):
        """Role → the words of ``answers`` and ``also``, each once, as stripped text."""
        given = self._mapping("answers", "roles to words, such as {'right': 'red'}")
        if not given:
            raise InputError(
                f"trial {self.name!r} has no answers; give at least one role and its word"
            )
        also = self._mapping("also", "roles to lists of words, such as {'right': ['gray']}")
        if lacking := [role for role in also if role not in given]:
            raise InputError(
                f"trial {self.name!r} has further words for {lacking[0]!r}, but has the roles "
                f"{sorted(given)}; use one of these"
            )
        words = {}
        for role, word in given.items():
            several = self._texts(role, word) + self._texts(role, also.get(role, ()))
            words[role] = tuple(dict.fromkeys(several))
        if empty := [role for role, accepted in words.items() if not accepted]:
            raise InputError(
                f"answer {empty[0]!r} of trial {self.name!r} is a list without a word; give at "
                "least one"
            )
        # The game's word for "nothing is odd" may be one of a user's colours.
        first = {}
        told_apart = ((role, word) for role in words if role != "none" for word in words[role])
        for role, word in told_apart:
            other, same = first.setdefault(word.casefold(), (role, word))
            if other != role:
                raise InputError(
                    f"trial {self.name!r} has one word for two roles, {same!r} for "
                    f"{other!r} and {word!r} for {role!r}, which could not be told apart; give "
                    "each a word of its own"
                )
        return words

    def _texts(self, role, given):
        """A word or several words, as a list of texts."""
        several = given if isinstance(given, list | tuple | np.ndarray) else (given,)
        what = f"answer {role!r} of trial {self.name!r}"
        return [as_text(word, what, "red").strip() for word in several]

    def _mapping(self, field, what):
        """A field's value; InputError unless it is a mapping whose keys are names."""
        given = getattr(self, field)
        if not isinstance(given, Mapping):
            raise InputError(
                f"the {field} of trial {self.name!r} are {_kind(given)}; give a mapping of {what}"
            )
        for name in given:
            if not isinstance(name, str) or not name.strip():
                raise InputError(
                    f"trial {self.name!r} has {shortened(name)} ({type(name).__name__}) among its "
                    f"{field}; name each in text"
                )
        return given

    def _check_expected(self):
        expected = self._mapping("expected", "conditions to roles, such as {'clean': 'right'}")
        for condition, role in expected.items():
            # A table may hold lists, which cannot be looked up in a mapping.
            if condition not in self.images or role not in list(self.answers):
                raise InputError(
                    f"trial {self.name!r} expects {role!r} for {condition!r}, but has the "
                    f"conditions {sorted(self.images)} "
                    f"and the roles {sorted(self.answers)}; use one of these"
                )

    def _check_prompts(self):
        for condition in self._mapping("prompts", "conditions to prompts"):
            if condition not in self.images:
                raise InputError(
                    f"trial {self.name!r} has a prompt for {condition!r}, but has the conditions "
                    f"{sorted(self.images)}; add that picture"
                )
        for given in (self.prompt, *self.prompts.values()):
            prompt = as_text(given, f"the prompt of trial {self.name!r}", "<image> Which color?")
            if prompt.count("<image>") != 1:
                raise InputError(
                    f"the prompt of trial {self.name!r} holds {prompt.count('<image>')} '<image>'; "
                    "put exactly one where the picture goes"
                )

    def _levels(self):
        """``strata``, each level as text."""
        given = self._mapping("strata", "factors to levels, such as {'template': 'short'}")
        return {
            factor: as_text(level, f"the {factor} of trial {self.name!r}", "short")
            for factor, level in given.items()
        }

    def _boxes(self):
        """``boxes`` as tuples of numbers."""
        boxes = {}
        for condition, named in self._mapping("boxes", "conditions to boxes by name").items():
            if condition not in self.images:
                raise InputError(
                    f"trial {self.name!r} has boxes for {condition!r}, but has the conditions "
                    f"{sorted(self.images)}; use one of these"
                )
            if not isinstance(named, Mapping):
                raise InputError(
                    f"the boxes of trial {self.name!r} for {condition!r} are {_kind(named)}; name "
                    "each, such as {'object': (left, top, right, bottom)}"
                )
            size = self.sources[condition].size
            boxes[condition] = {name: self._box(name, box, size) for name, box in named.items()}
        return boxes

    def _box(self, name, box, size):
        where = f"box {name!r} of trial {self.name!r}"
        if not isinstance(name, str) or not name.strip() or name in POSITIONS:
            raise InputError(
                f"{where} cannot be called that; give it a name that is none of "
                f"{', '.join(POSITIONS)}"
            )
        whole = (
            isinstance(box, (Sequence, np.ndarray)) and not isinstance(box, str) and len(box) == 4
        )
        if not whole or not all(isinstance(edge, Real) for edge in box):
            raise InputError(
                f"{where} is {shortened(box)}; give (left, top, right, bottom) in pixels"
            )
        left, top, right, bottom = map(float, box)
        if not (0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]):
            raise InputError(
                f"{where} is {shortened(tuple(box))}, which is no place in a picture of "
                f"{_pixels(size)}; give (left, top, right, bottom) in pixels, from the upper left "
                "corner"
            )
        if max(right, bottom) <= 1 < max(size):
            raise InputError(
                f"{where} is {shortened(tuple(box))}, less than a pixel; give (left, top, right, "
                "bottom) in pixels: fractions times width and height"
            )
        return left, top, right, bottom


def asked_of(model: object, trials: Trial | Iterable[Trial]) -> list[Trial]:
    """`as_trials`, and InputError unless the model that they are shown to is one."""
    check_wrapped(model)
    return as_trials(trials)


def as_trials(trials: Trial | Iterable[Trial]) -> list[Trial]:
    """The trials that a function was given, as a list; a single trial becomes a list of one.

    Raises:
        InputError: it is neither a trial nor a list of trials.
    """
    if isinstance(trials, Trial):
        return [trials]
    if isinstance(trials, (str, Mapping)) or not isinstance(trials, Iterable):
        raise InputError(
            f"trials is {_kind(trials)}; give a Trial or a list of them, such as rgb_trials(model, "
            "n=32)"
        )
    listed = list(trials)
    for trial in listed:
        if not isinstance(trial, Trial):
            raise InputError(
                f"among the trials is {_kind(trial)}; give a Trial or a list of them, such as "
                "rgb_trials(model, n=32)"
            )
    return named_alike(listed)


def named_alike(trials: list[Trial]) -> list[Trial]:
    """The trials, in which an answer that accepts the same words has one name, the word that the
    first of these trials puts first: under two names it would be two answers."""
    orders: dict[frozenset[str], Sequence[str]] = {}

    def ordered(trial):
        # One word has one order.
        if not trial.also:
            return trial
        words: Any = {role: in_one_order(own, orders) for role, own in trial.words.items()}
        return trial if words == trial.words else replace(trial, answers=words, also={})

    return [ordered(trial) for trial in trials]


def as_conditions(conditions: str | Iterable[str], argument: str = "conditions") -> tuple[str, ...]:
    """The conditions that a function was given; a single name becomes a tuple of one."""
    if isinstance(conditions, str):
        return (conditions,)
    if isinstance(conditions, Image.Image) or not isinstance(conditions, Iterable):
        raise InputError(
            f"{argument} is {_kind(conditions)}; give names of pictures, such as ['clean']"
        )
    return tuple(conditions)


def one_condition(name: str, condition: str) -> str:
    """A condition where a function takes one alone.

    Args:
        name: of the argument, for the message.
    """
    if not isinstance(condition, str):
        raise InputError(f"{name} is {shortened(condition)}; name one picture, such as 'clean'")
    return condition


def _kind(value):
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def odd_tile(image: Image.Image, grid: int) -> tuple[int, int] | None:
    """(row, column) of the one tile that differs from all others: in its colour at the middle, or
    else at 16 × 16 places; None if there is none."""
    for fine in (1, 16):
        side = grid * fine
        pixels = np.asarray(image.resize((side, side), Image.Resampling.NEAREST))
        tiles = pixels.reshape(grid, fine, grid, fine, -1).swapaxes(1, 2).reshape(grid * grid, -1)
        _, first, counts = np.unique(tiles, axis=0, return_index=True, return_counts=True)
        if sorted(counts) == [1, grid * grid - 1]:
            place = int(first[counts.argmin()])
            return place // grid, place % grid
    return None


def described(trial: Trial) -> dict:
    """A trial as JSON can hold it, its pictures as hashes of their pixels; without its task."""
    content = {
        "name": trial.name,
        "prompt": trial.prompt,
        "answers": dict(trial.answers),
        "expected": dict(trial.expected),
        "tile": None if trial.tile is None else list(trial.tile),
        "grid": trial.grid,
        "pictures": {
            condition: picture_hash(source) for condition, source in trial.sources.items()
        },
    }
    # Left out if empty, so that trials without them keep their content hash.
    optional = {
        "prompts": dict(trial.prompts),
        "cluster": trial.cluster,
        "strata": dict(trial.strata),
        "boxes": {
            condition: {name: list(box) for name, box in named.items()}
            for condition, named in trial.boxes.items()
        },
        "also": {role: list(words) for role, words in trial.also.items()},
    }
    return content | {name: value for name, value in optional.items() if value}


def _pixels(size):
    return f"{size[0]} × {size[1]} px"
