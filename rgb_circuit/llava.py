"""A Hugging Face LLaVA, unmodified, wrapped in nnsight, with its geometry and its way of writing answers; `loading` makes one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from nnsight.modeling.transformers import TransformersModel
from transformers import LlavaProcessor

from .answers import read

if TYPE_CHECKING:
    from .server import Server


@dataclass(frozen=True, eq=False)
class Llava:
    """A LLaVA ready for tracing, with the geometry that head analyses need.

    Attributes:
        name: what `load` was called with.
        revision: of a hub repository: the commit that was loaded, or what a server was asked for; None for a folder.
        nnsight: the nnsight model around the unmodified ``LlavaForConditionalGeneration``.
        processor: its Hugging Face processor, a copy that writes as many image tokens as the model makes of a picture.
        n_layers, n_heads, n_kv_heads, d_head: of the language model; heads are numbered from 0.
        grid: (rows, columns) of image tokens.
        tile_px: side of the square of pixels behind one image token.
        picture_px: side of the square picture that the vision tower takes; what the grid leaves over of it, right and bottom,
            belongs to no token.
        dtype: number format of the language model where it runs.
        answer_form: how it writes a colour word after the game's prompt, a key of `rgb_circuit.answers.FORMS`.
        words: the palette's colour words that the game is drawn with.
        server: the NDIF server that holds the weights, or None where this process does.
        commit: of a hub repository: the commit that was read here; None for a folder.
        forms: prompt → the forms of answers there, the one that the model prefers first, as far as that was asked.
    """

    name: str
    revision: str | None
    nnsight: TransformersModel = field(repr=False)
    processor: LlavaProcessor = field(repr=False)
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    grid: tuple[int, int]
    tile_px: int
    picture_px: int
    dtype: torch.dtype
    answer_form: str
    words: tuple[str, ...]
    server: Server | None = None
    commit: str | None = None
    forms: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False)

    @property
    def layers(self):
        """The nnsight envoys of the language model's layers, first to last."""
        return self.nnsight.model.language_model.layers

    @property
    def config(self):
        """The Hugging Face configuration."""
        return self.nnsight._module.config

    def heads(self) -> list[tuple[int, int]]:
        """Every (layer, head), in order."""
        return [(layer, head) for layer in range(self.n_layers) for head in range(self.n_heads)]

    def token(self, word: str, after: str) -> int:
        """The id of the token that ``word`` is read at after the prompt ``after``: its first, as this model writes it there.

        Raises:
            InputError: the word cannot be written there.
        """
        return read(self, after, {"word": word}).tokens["word"]
