"""An unmodified Hugging Face vision-language model, wrapped in nnsight, with the facts about it
that analyses need; `loading` makes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from .boards import Canvas
from .conversation import prompt
from .heads import Head
from .module.layout import Layout
from .module.modules import vocabulary_of
from .programs.capture import language_model

if TYPE_CHECKING:
    from nnsight import TransformersModel
    from transformers import PreTrainedConfig, ProcessorMixin

    from .conversation.answers import Reading
    from .module.unchanged import Wrapped
    from .remote.server import Server


@dataclass(frozen=True, eq=False, repr=False)
class Vlm:
    """A model ready for tracing, with the geometry that head analyses need.

    Attributes:
        name: the name that `load` was called with.
        revision: of a hub repository: the commit that was loaded, or the revision that a server
            was asked for; None for a folder.
        nnsight: the nnsight model around the unmodified Hugging Face one.
        processor: its Hugging Face processor, a copy that writes as many image tokens as the model
            makes of a picture.
        n_layers, n_heads, n_kv_heads, d_head: of the language model; heads are numbered from 0.
        layout: how a picture becomes image tokens.
        dtype: number format of the language model where it runs.
        template: of the model's own conversation, with ``<image>`` and ``{question}``.
        token_of: `rgb_circuit.prompts.asking.token_of`, which this file cannot import.
        ahead: which prompt tokens attend to later ones: ``"none"``, ``"image"`` (image tokens, to
            one another), or ``"all"``.
        softcap: set if a logit is softcap · tanh(``lm_head``'s output / softcap), as in Gemma 2;
            else None.
        rounding: the share by which float32 rounding may change an attention probability that is
            recomputed, estimated from the size of the scores; 0 in half precision.
        server: the NDIF server that holds the weights, or None if this process does.
        commit: of a hub repository: the commit that was read here; None for a folder.
        forms: cache: prompt → the forms of answers there, the model's preferred one first.
        readings: cache: (prompt, (role, word), …) → how those answers are read there.
        drawable: cache: (prompt, words, least, taken) → those of the words that a task with this
            prompt is drawn with.
        ids: cache: (prompt as it is shown, size of its picture) → its token ids, (positions,).
        covering: cache: (size of a picture, box on it) → the numbers of the image tokens that cover
            it.
        as_wrapped: the module as it was when it was checked; None if a server holds the weights.
    """

    name: str
    revision: str | None
    nnsight: TransformersModel
    processor: ProcessorMixin
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    layout: Layout
    dtype: torch.dtype
    template: str
    token_of: Callable[[Vlm, str, str], int]
    ahead: str = "none"
    softcap: float | None = None
    rounding: float = 0.0
    server: Server | None = None
    commit: str | None = None
    forms: dict[str, tuple[str, ...]] = field(default_factory=dict)
    readings: dict[tuple, Reading] = field(default_factory=dict)
    drawable: dict[tuple, tuple[str, ...]] = field(default_factory=dict)
    ids: dict[tuple, torch.Tensor] = field(default_factory=dict)
    covering: dict[tuple, tuple[int, ...]] = field(default_factory=dict)
    as_wrapped: Wrapped | None = None

    def __repr__(self):
        rows, columns = self.grid
        parts = [
            f"{self.n_layers} layers × {self.n_heads} heads",
            f"{rows} × {columns} image tokens",
            str(self.dtype).removeprefix("torch."),
        ]
        parts += [f"on {self.server.url}"] if self.server else []
        return f"Vlm({self.name!r}: {', '.join(parts)})"

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the image tokens."""
        return self.layout.grid

    @property
    def tile_px(self) -> int:
        """Side in pixels of the square that one image token covers."""
        return self.layout.tile_px

    @property
    def picture_px(self) -> int:
        """Side in pixels of the square picture that is shown without resampling; the remainder at
        the right and at the bottom belongs to no token."""
        return self.layout.picture_px

    @property
    def canvas(self) -> Canvas:
        """The facts about this model that drawing a task needs."""
        return Canvas(self.grid[0], self.tile_px, self.layout.margin, self.template)

    @property
    def layers(self) -> Any:
        """The nnsight envoys of the language model's layers, first to last."""
        return language_model(self.nnsight).layers

    @property
    def sayable(self) -> int:
        """How many tokens have a logit: rows of ``lm_head``."""
        return vocabulary_of(self.nnsight._module)[1]

    @property
    def config(self) -> PreTrainedConfig:
        """The Hugging Face configuration."""
        return self.nnsight._module.config

    def prompt(self, question: str) -> str:
        """A question about one picture in this model's own conversation, with ``<image>`` where the
        picture goes.

        Raises:
            InputError: the question is not text.
        """
        return prompt(question, self.template)

    def heads(self) -> list[Head]:
        """Every (layer, head), in order."""
        return [Head(layer, head) for layer in range(self.n_layers) for head in range(self.n_heads)]

    def token(self, word: str, after: str) -> int:
        """The id of the token at which ``word`` is read after the prompt ``after``: its first
        token, as this model writes the word there.

        Raises:
            InputError: the word cannot be written there.
        """
        return self.token_of(self, word, after)
