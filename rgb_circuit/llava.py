"""A Hugging Face LLaVA, unmodified, wrapped in nnsight, with its geometry and its way of writing answers; `loading` makes one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from nnsight.modeling.transformers import TransformersModel
from transformers import LlavaProcessor

from .errors import InputError
from .rgb_game import PALETTE, prompt

if TYPE_CHECKING:
    from .server import Server

# How an answer word may be written after the prompt; a model's own way is settled at load.
ANSWER_FORMS = {
    "space, capital": lambda word: " " + word[:1].upper() + word[1:],
    "capital": lambda word: word[:1].upper() + word[1:],
    "space, as given": lambda word: " " + word,
    "as given": lambda word: word,
}


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
        answer_form: how this model writes an answer word after the prompt, a key of ``ANSWER_FORMS``.
        words: the palette's colour words that are one token so written.
        server: the NDIF server that holds the weights, or None where this process does.
        commit: of a hub repository: the commit that was read here; None for a folder.
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
        """The id of the one token that ``word`` adds after the prompt ``after``, in this model's answer form.

        Raises:
            InputError: the word is no single known token there.
        """
        ids = _added_tokens(self.processor.tokenizer, after, ANSWER_FORMS[self.answer_form](word))
        if ids is None:
            raise InputError(
                f"answer {word!r} is not in the vocabulary of {self.name} or merges with the prompt; choose another word"
            )
        if len(ids) > 1:
            pieces = self.processor.tokenizer.convert_ids_to_tokens(ids)
            raise InputError(
                f"answer {word!r} is {len(ids)} tokens for {self.name} ({' '.join(pieces)}); choose a word that is one token"
            )
        return ids[0]

    def one_token_words(self, words: Iterable[str]) -> list[str]:
        """Those of ``words`` that are one token as an answer to the game's question."""
        kept = []
        for word in words:
            ids = _added_tokens(self.processor.tokenizer, prompt(), ANSWER_FORMS[self.answer_form](word))
            if ids is not None and len(ids) == 1:
                kept.append(word)
        return kept


def _answer_ids(name, tokenizer):
    """Answer form → palette word → its token id, of the words that are one token in it; InputError where no form has any."""
    forms = {}
    for form, write in ANSWER_FORMS.items():
        added = {word: _added_tokens(tokenizer, prompt(), write(word)) for word in PALETTE}
        ids = {word: ids[0] for word, ids in added.items() if ids is not None and len(ids) == 1}
        if ids:
            forms[form] = ids
    if not forms:
        raise InputError(
            f"no colour word is one token for {name!r}; the game cannot be read off its logits, so use another tokenizer"
        )
    return forms


def _added_tokens(tokenizer, before, text):
    """The ids that ``text`` adds after ``before``; None where it changes what comes before, or is unknown."""
    start = tokenizer(before)["input_ids"]
    ids = tokenizer(before + text)["input_ids"]
    added = ids[len(start) :]
    if ids[: len(start)] != start or not added or tokenizer.unk_token_id in added:
        return None
    return added
