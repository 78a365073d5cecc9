"""Planted models with a head that only looks as if it had a role, or that has two.

Each is built on `rgb_circuit.models.planted`; anything that a `Part` cannot express is changed in
the weights afterwards. A head carries the odd tile's colour in the colour slot of `planted`. What
it writes is given as a matrix of words by colours, in logits.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from ..stimuli.tasks.rgb import PALETTE
from .planted import PER_LOGIT, UNKIND, WORDS, Part, Place, layout, planted

GRID, HEADS = 6, 4
COLOR_SLOT = slice(2 * GRID, 2 * GRID + len(WORDS))
MEAN_SLOT = slice(COLOR_SLOT.stop, COLOR_SLOT.stop + len(WORDS))
CHANNELS, _ = layout(GRID, HEADS)
# The places of these heads in the circuit of `planted`.
POI, EXTRACTOR = (2, 1), (3, 0)
CIRCUIT: Mapping[Place, str] = {POI: "POI localization", EXTRACTOR: "color extractor"}


@dataclass(frozen=True)
class Decoy:
    """A planted model and the roles that its heads have.

    head: the head in question.
    made: arguments of `planted`.
    roles: of all heads with a role.
    change: changes the weights afterwards.
    """

    head: Place
    made: Mapping[str, Any]
    roles: Mapping[Place, str] = field(default_factory=lambda: CIRCUIT)
    change: Callable[[Any], None] = lambda model: None

    def build(
        self, noise: float = 0.0, seed: int = 0
    ) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
        """Build the model and its processor."""
        model, processor, _ = planted(noise=noise, seed=seed, decoys=(), **self.made)
        with torch.no_grad():
            self.change(model)
        return model, processor


def slot(model, place: Place, which: slice) -> torch.Tensor:
    """The columns of a layer's output projection that write one slot of a head, (width, n)."""
    layer, head = place
    attention = model.model.language_model.layers[layer].self_attn
    first = head * attention.head_dim
    return attention.o_proj.weight[:, first + which.start : first + which.stop]


def carries_too(model, place: Place, channel: str, which: slice, gain: float) -> None:
    """Let a head also add the colour that it finds in a channel to the answer."""
    layer, head = place
    attention = model.model.language_model.layers[layer].self_attn
    first = head * attention.head_dim
    attention.v_proj.weight[first + which.start : first + which.stop, CHANNELS[channel]] = (
        torch.eye(len(WORDS))
    )
    slot(model, place, which)[CHANNELS["answer"]] = gain * PER_LOGIT * torch.eye(len(WORDS))


def writes_as(matrix: torch.Tensor) -> Callable[[Any], None]:
    """Let the content extractor write this matrix, (word, colour), in logits."""

    def change(model):
        slot(model, WRITER, COLOR_SLOT)[CHANNELS["answer"]] = PER_LOGIT * matrix

    return change


def by_measure(measure: Callable[[tuple[int, int, int]], float], size: float) -> torch.Tensor:
    """A matrix (word, colour) of rank 1: a colour that is high in a measure from 0 to 1 raises the
    words of high colours and lowers the others; a low colour does the reverse."""
    high = torch.tensor([measure(PALETTE[word]) for word in WORDS]) - 0.5
    return size * high[:, None] * high


def brightness(color) -> float:
    return sum(color) / 765


def saturation(color) -> float:
    return (max(color) - min(color)) / max(color) if max(color) else 0.0


def families() -> torch.Tensor:
    """A matrix (word, colour): a warm colour raises all warm words, a cool colour all cool ones."""
    warm = torch.tensor([word in ("red", "orange", "yellow") for word in WORDS])
    cool = torch.tensor([word in ("green", "cyan", "blue", "purple") for word in WORDS])
    return 6.0 * (warm[:, None] & warm | cool[:, None] & cool)


def _rows_and_columns(model):
    """Let one POI head write only the row, and its twin only the column."""
    found = CHANNELS["found"]
    slot(model, POI, slice(0, 2 * GRID))[found.start + GRID : found.stop] = 0
    slot(model, COLUMN, slice(0, 2 * GRID))[found.start : found.start + GRID] = 0


WRITER, COLUMN = (3, 2), (2, 2)
_WRITER = dict(more=[(Part("writer", "none", "mark", "color", "answer", 6.0), WRITER)])
_FINDER = Part("finder", "POI localization", "mark", "place", "handed", 1.0)

DECOYS: Mapping[str, Decoy] = {
    "reader of text summaries": Decoy(
        (4, 1), dict(more=[(UNKIND["summary"], (1, 1)), (UNKIND["summary_reader"], (4, 1))])
    ),
    "relay that looks at text": Decoy(
        (2, 1),
        dict(
            without=("poi", "extractor"),
            more=[
                (_FINDER, (1, 1)),
                (UNKIND["line_relay"], (2, 1)),
                (UNKIND["row_reader"], (3, 0)),
            ],
        ),
        {(1, 1): "POI localization", (3, 0): "color extractor"},
    ),
    "brightness writer": Decoy(WRITER, _WRITER, change=writes_as(by_measure(brightness, 43.2))),
    "saturation writer": Decoy(WRITER, _WRITER, change=writes_as(by_measure(saturation, 24.0))),
    "hue-family writer": Decoy(WRITER, _WRITER, change=writes_as(families())),
    "existence gate": Decoy(
        (2, 1),
        dict(
            without=("poi", "extractor"),
            more=[(UNKIND["gate"], (2, 1)), (UNKIND["gated_reader"], (3, 0))],
        ),
        {(3, 0): "color extractor"},
    ),
}

# Heads with two functions, or with half of one.
TWO_THINGS: Mapping[str, Decoy] = {
    "POI and extractor": Decoy(
        POI,
        {},
        {**CIRCUIT, POI: "color extractor + POI localization"},
        lambda model: carries_too(model, POI, "color", COLOR_SLOT, 6.0),
    ),
    "half POI, half writer": Decoy(
        POI,
        {},
        {**CIRCUIT, POI: "POI localization + background writer"},
        # With a larger gain the background would win over the odd tile.
        lambda model: carries_too(model, POI, "mean", MEAN_SLOT, 8.0),
    ),
    "extractor and writer": Decoy(
        EXTRACTOR,
        {},
        {**CIRCUIT, EXTRACTOR: "color extractor + background writer"},
        lambda model: carries_too(model, EXTRACTOR, "mean", MEAN_SLOT, 4.0),
    ),
    "row and column": Decoy(
        POI,
        dict(
            more=[
                (
                    Part("column", "row or column localization", "mark", "place", "found", 1.0),
                    COLUMN,
                )
            ]
        ),
        {**CIRCUIT, POI: "row or column localization", COLUMN: "row or column localization"},
        _rows_and_columns,
    ),
}
