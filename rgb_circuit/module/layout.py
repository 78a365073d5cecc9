"""The model's own grid: which image token covers which place of a picture, and the size of picture
that is shown without resampling.

No family is known by name. The processor gets one square picture, and its image tokens are counted:

| tokens | means |
|---|---|
| n² | the picture once |
| 1 + n² | a class token first |
| n² + n (n + 1) | the picture twice, the second time with a token after every row |

`probe` checks this on the model: a changed tile must move its own token most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from math import isqrt
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..arguments import as_whole
from ..errors import InputError, OneSize
from ..warning import warn
from .uncut import uncut

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

# Tiles per side if pictures may have any size: as in the published experiment.
TILES = 24

# Options with which a processor cuts a picture into several, each shown by itself.
SPLITTING = ("do_image_splitting", "crop_to_patches", "do_pan_and_scan")


@dataclass(frozen=True)
class Layout:
    """How a square picture becomes image tokens.

    Attributes:
        grid: (rows, columns) of places.
        tile_px: side of a place in pixels.
        picture_px: side of the picture; the remainder at the right and at the bottom belongs to no
            token.
        first: image tokens before the first place (a class token).
        views: for each time that the picture is shown, how many tokens a row has: columns, or one
            more if a row ends in an extra token.
        options: for the processor, so that it shows the picture whole.
        takes: the names of the processor's outputs that the model takes.
    """

    grid: tuple[int, int]
    tile_px: int
    picture_px: int
    first: int = 0
    views: tuple[int, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)
    takes: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def margin(self) -> int:
        """How many pixels remain beyond the grid, at the right and at the bottom."""
        return self.picture_px - self.grid[0] * self.tile_px

    def tokens(self) -> int:
        """How many image tokens a picture of ``picture_px`` has."""
        return self.first + self.grid[0] * sum(self.views)

    def places(self, image: Sequence[int]) -> list[list[int]]:
        """Per view, the token positions of its places row by row, from the positions of all image
        tokens."""
        rows, columns = self.grid
        found, begin = [], self.first
        for width in self.views:
            found.append(
                [
                    image[begin + row * width + column]
                    for row in range(rows)
                    for column in range(columns)
                ]
            )
            begin += rows * width
        return found


def layout_of(
    name: str,
    module: PreTrainedModel,
    processor: ProcessorMixin,
    prompt: str,
    tiles: int | None = None,
) -> Layout:
    """The layout of a model's pictures.

    Args:
        module: with or without weights.
        prompt: with one picture, as the processor reads it.
        tiles: per side, for a model that takes pictures of any size; by default ``TILES``, or the
            nearest number that its processor does not resize.

    Raises:
        InputError: ``tiles`` for a model whose pictures have one size, or that its processor
            resizes; or image tokens that form no square grid.

    Warns:
        UserWarning: another number of tiles than ``TILES`` is taken.
    """
    config = module.config
    vision = config.vision_config
    patch = _one(getattr(vision, "patch_size", None))
    if patch is None:
        raise InputError(
            f"the vision configuration of {name!r} ({vision.model_type}) has no patch_size, so "
            "nobody can tell which pixels a token stands for; use a model whose tower cuts a "
            "picture into patches of one size"
        )
    # How many patches per side make a token; some families only say so in the processor.
    sides = [getattr(part, "spatial_merge_size", None) for part in (vision, config)]
    tile = patch * next(
        filter(None, [*sides, getattr(processor.image_processor, "merge_size", None)]), 1
    )
    side = _one(getattr(vision, "image_size", None))
    takes = _takes(name, module)
    # Pixtral's image_size is the largest picture that it takes; in a tower that is given the grid
    # of patches, as GLM's, it is the size from which positions are interpolated.
    any_size = side is None or vision.model_type == "pixtral" or "image_grid_thw" in takes
    if tiles is not None and not any_size:
        raise OneSize(f"{name!r} takes pictures of {side} × {side} px alone; leave tiles out")
    asked = None if tiles is None else as_whole(tiles)
    if tiles is not None and (asked is None or asked < 2):
        raise InputError(f"tiles is {tiles!r}; use a whole number per side, from 2 on")
    tiles = asked
    if any_size:
        side = (tiles or TILES) * tile
    count = _tokens(processor, config, prompt, side)
    if not count:
        own = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
        raise InputError(
            f"of a prompt with one picture the processor of {name!r} ({type(processor).__name__}) "
            f"writes no image token of the model's (id {config.image_token_id}); its own, "
            f"{processor.image_token!r}, has id {own}, so give the processor or the configuration "
            "in which both are one"
        )
    # A number that is no square is another form of grid, not another size.
    if any_size and count != (side // tile) ** 2 and count == isqrt(count) ** 2:
        fitting = [
            n
            for n in range(2, 2 * TILES + 1)
            if _tokens(processor, config, prompt, n * tile) == n**2
        ]
        nearest = min(fitting, key=lambda n: abs(n - side // tile), default=None)
        if tiles is not None or nearest is None:
            raise InputError(_resized(name, processor, tile, side, count, fitting, nearest))
        warn(
            f"pictures of {nearest} × {nearest} tiles are drawn for {name!r}, since its processor "
            f"resizes pictures of {TILES} × {TILES}"
        )
        return layout_of(name, module, processor, prompt, nearest)
    for first, views in ((0, 1),) if any_size else ((0, 1), (1, 1), (0, 2)):
        rows = isqrt(max(0, count - first) // views)
        widths = (rows, rows + 1)[:views]
        covered = side // patch * patch
        if rows and first + rows * sum(widths) == count and covered % rows == 0:
            options = _whole(processor, side)
            return Layout((rows, rows), covered // rows, side, first, widths, options, takes)
    rows = isqrt(count)
    one = "no square grid" if any_size else "neither a square grid nor two"
    seen = (
        f"a grid of {rows} × {rows} places, between which its {side // patch * patch} px do not "
        "divide"
        if rows * rows == count
        else one
    )
    raise InputError(
        f"{name!r} makes {count} image tokens of a picture of {side} × {side} px, {seen}, so no "
        "tile could be found again; use a model that shows a picture as one square grid, or as two"
    )


def _tokens(processor, config, prompt, side):
    """The number of image tokens of a square picture with this side."""
    board = Image.new("RGB", (side, side), (0, 0, 255))
    options = _whole(processor, side)
    encoded = uncut(processor, [prompt], [board], **options)
    return int((encoded["input_ids"] == config.image_token_id).sum())


def _resized(name, processor, tile, side, count, fitting, nearest):
    """The message that a processor for pictures of any size resizes this one, with the numbers of
    tiles that it shows unresized."""
    way_out = ""
    if fitting:
        way_out = (
            f"give tiles={nearest} (of {min(fitting)} to {max(fitting)} tiles a side it shows a "
            "picture as it is), or "
        )
    return (
        f"the processor of {name!r} resizes a picture of {side} × {side} px, {side // tile} tiles "
        f"of {tile} px a side: it makes {count} image tokens of it; {way_out}set the sizes that it "
        "allows (min_pixels and max_pixels, or size) so that it does not"
    )


def _takes(name, module):
    """The names that the model's forward takes, from the class that lists them: a wrapper's forward
    may pass on any argument."""
    for kind in type(module).__mro__:
        named, hands_on = _parameters(kind)
        if {"input_ids", "pixel_values"} <= named:
            # Other arguments go on to the model below lm_head, which uses them.
            named |= _parameters(type(module.base_model))[0] if hands_on else frozenset()
            # With labels, a forward would compute a loss.
            return named - {"labels"}
    raise InputError(
        f"the forward of {name!r} ({type(module).__name__}) takes no input_ids and pixel_values, "
        "so nothing can be shown to it; give a "
        "vision-language model of transformers"
    )


def _parameters(kind):
    """The names that a class's forward takes, and whether it takes any others."""
    taken = signature(kind.forward).parameters if hasattr(kind, "forward") else {}
    others = {name for name, one in taken.items() if one.kind is one.VAR_KEYWORD}
    return frozenset(taken) - others, bool(others)


def _whole(processor, side):
    """The options with which a processor does not cut a picture of this side into several."""
    reads = processor.image_processor
    options: dict[str, Any] = {
        switch: False for switch in SPLITTING if getattr(reads, switch, None) is not None
    }
    if "do_image_splitting" in options:
        # Idefics enlarges a picture that it would split.
        options["size"] = {"longest_edge": side}
    return options


def _one(value):
    """A side given as a number, or as a pair of equal numbers; configurations have either."""
    return value[0] if isinstance(value, list | tuple) else value
