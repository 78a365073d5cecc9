"""Compare what a model reads of a prompt with what was written.

A tokenizer may cut a prompt, a template may lose the question, a processor may write the picture
twice. Then the model answers another question, and every number is about that one. So the ids of
every prompt are checked once, before its first forward:

1. Every id has a row in the embedding.
2. The picture is there exactly once.
3. The tokens before and after the picture, decoded, hold the text that was written there. Only
   letters and digits are compared, without case and accents: tokenizers drop those, and most
   spaces. If a tokenizer writes the text in yet another way, no letter may be left without a token.

A word without a token is read as the unknown token; that is a warning, not an error.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from PIL import Image

from ..errors import FOREIGN, InputError, first_line
from ..module.layout import Layout
from ..module.modules import vocabulary_of
from ..running.execute import one_at_a_time
from ..warning import warn
from .inputs import inputs_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

GREY = (128, 128, 128)


def read_ids(
    name: str, module: PreTrainedModel, processor: ProcessorMixin, layout: Layout, prompt: str
) -> list[int]:
    """The token ids of a prompt, shown with a plain grey picture.

    Args:
        name: of the model, for messages.
        module: with or without weights.
        prompt: with one ``<image>``.

    Raises:
        InputError: a prompt that the model would not read as written.
    """
    if prompt.count("<image>") != 1:
        raise InputError(
            f"the prompt {_short(prompt)} holds {prompt.count('<image>')} '<image>'; put exactly "
            "one where the picture goes, as model.prompt(question) does"
        )
    try:
        made = inputs_of(processor, layout, [prompt], [plain(layout)])
    except FOREIGN as error:
        raise InputError(
            f"the processor of {name!r} ({type(processor).__name__}) cannot read the prompt "
            f"{_short(prompt)} ({first_line(error)}); ask in other words"
        ) from error
    ids = made["input_ids"][0].tolist()
    image = [place for place, token in enumerate(ids) if token == module.config.image_token_id]
    _check_rows(name, module, processor.tokenizer, prompt, ids, image)
    if len(image) != layout.tokens():
        raise InputError(
            f"the prompt {_short(prompt)} gives {name!r} {len(image)} image tokens, and a picture "
            f"is {layout.tokens()}, so it does not hold the picture once; leave out what the "
            f"processor ({type(processor).__name__}) reads as a picture"
        )
    sides = zip(prompt.split("<image>"), (ids[: image[0]], ids[image[-1] + 1 :]))
    if any(not holds(processor.tokenizer, found, written) for written, found in sides):
        read = processor.tokenizer.decode(
            [token for token in ids if token != module.config.image_token_id]
        )
        raise InputError(
            f"{name!r} would not be asked what is written: of the prompt {_short(prompt)} its "
            f"tokens hold {_short(read)}; mend its tokenizer or processor, which leave something "
            "out, or ask in other words"
        )
    return ids


def holds(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], written: str) -> bool:
    """Whether tokens hold the whole text."""
    letters = _letters(tokenizer.decode(ids))
    if _letters(written) in letters:
        return True
    # For unknown words and other spellings, compare with the tokens of the text alone.
    with one_at_a_time:
        alone = tokenizer(written, add_special_tokens=False)
    if alone.is_fast and _without_token(written, alone.encodings[0].offsets):
        return False
    return _letters(tokenizer.decode(alone["input_ids"])) in letters


def say_unknown(
    name: str, tokenizer: PreTrainedTokenizerBase, read: Mapping[str, Sequence[int]]
) -> None:
    """Warn about prompts with words that have no token.

    Args:
        read: prompt → its ids.
    """
    # A tokenizer that spells everything out may use its beginning or end token as unknown token.
    if tokenizer.unk_token_id in (None, tokenizer.bos_token_id, tokenizer.eos_token_id):
        return
    unread = [prompt for prompt, ids in read.items() if tokenizer.unk_token_id in ids]
    if unread:
        warn(
            f"{name} has no tokens for some words of {len(unread)} of {len(read)} questions and "
            f"reads them as {tokenizer.unk_token}, e.g. in {_short(unread[0])}"
        )


def plain(layout: Layout) -> Image.Image:
    """A grey picture of the size that is not resampled."""
    return Image.new("RGB", (layout.picture_px, layout.picture_px), GREY)


def _without_token(written, spans):
    """The letters of a text outside all of its tokens' (begin, end)."""
    covered = {place for first, last in spans for place in range(first, last)}
    return [
        letter for place, letter in enumerate(written) if letter.isalnum() and place not in covered
    ]


def _check_rows(name, module, tokenizer, prompt, ids, image):
    rows, _ = vocabulary_of(module)
    # Some families never look image tokens up, and give them ids beyond the table.
    beyond = [token for place, token in enumerate(ids) if token >= rows and place not in set(image)]
    if beyond:
        raise InputError(
            f"{tokenizer.decode(beyond[:1])!r} of the prompt {_short(prompt)} is token "
            f"{beyond[0]}, and the embedding of {name!r} has {rows} rows: the tokenizer has tokens "
            "that the model was not given; ask without them, or take the tokenizer that belongs to "
            "these weights"
        )


def _letters(text):
    """Only letters and digits, without case and accents."""
    return "".join(
        letter for letter in unicodedata.normalize("NFKD", text.casefold()) if letter.isalnum()
    )


def _short(text):
    return repr(text if len(text) <= 200 else f"{text[:120]} … {text[-70:]}")
