"""Find out which surface form a model prefers after each prompt, once, and keep it with the model
(`Vlm.forms`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ..bars import tqdm
from ..conversation.answers import FORMS, Reading, in_likeliest, preferred
from ..errors import InputError
from ..programs.likeliest import likeliest_tokens
from ..running.execute import execute
from ..running.memory import chunks, pictures_at_once
from .as_read import plain, read_ids, say_unknown
from .inputs import inputs_of

if TYPE_CHECKING:
    from ..vlm import Vlm

# How many of the likeliest tokens vote on the form.
VOTERS = 64


def read(model: Vlm, prompt: str, answers: Mapping[str, tuple[str, ...]]) -> Reading:
    """How ``answers`` (role → its words) are read after ``prompt``.

    Raises:
        InputError: a word that the tokenizer cannot write there, or words of two roles that begin
            with the same token.
    """
    if prompt not in model.forms:
        settle(model, [prompt])
    asked = prompt, *answers.items()
    if asked not in model.readings:
        model.readings[asked] = _in_likeliest(model, prompt, answers, model.forms[prompt])
    return model.readings[asked]


def token_of(model: Vlm, word: str, after: str) -> int:
    """The id of the token that ``word`` is read at after the prompt ``after``: its first, as the
    model writes it there.

    Raises:
        InputError: the word cannot be written there.
    """
    return read(model, after, {"word": (word,)}).tokens["word"]


def check_readable(model: Vlm, prompt: str, answers: Mapping[str, tuple[str, ...]]) -> None:
    """Raise InputError, without a forward, if `read` would for every form that the model may
    prefer."""
    if (prompt, *answers.items()) in model.readings:
        return
    for form in model.forms.get(prompt, FORMS):
        try:
            _in_likeliest(model, prompt, answers, [form])
            return
        except InputError as error:
            # The last form is the plain word, so its error is the one that a user can act on.
            refused = error
    raise refused


def settle(model: Vlm, prompts: Iterable[str], progress: bool = True) -> None:
    """Find the order in which the model prefers the forms, for every prompt that is new to it: one
    forward each. Even a detached run waits for the server here, as it does when a model is loaded,
    since nothing can be read before."""
    new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in model.forms]
    module, processor, grey = model.nnsight._module, model.processor, plain(model.layout)
    ids = {prompt: read_ids(model.name, module, processor, model.layout, prompt) for prompt in new}
    say_unknown(model.name, processor.tokenizer, ids)
    lengths = {}
    for prompt in new:
        lengths.setdefault(len(ids[prompt]), []).append(prompt)
    with tqdm(
        total=len(new), desc="reading answer tokens", unit="question", delay=2, disable=not progress
    ) as bar:
        for length, alike in lengths.items():
            for batch in chunks(alike, pictures_at_once(model, length, length - 1)):
                inputs = inputs_of(processor, model.layout, batch, [grey] * len(batch))
                for prompt, *likeliest in zip(
                    batch, *execute(model, likeliest_tokens, inputs, VOTERS)
                ):
                    last = int(inputs["input_ids"][0, -1])
                    model.forms[prompt] = preferred(
                        processor.tokenizer, last, *(one.tolist() for one in likeliest)
                    )
                bar.update(len(batch))


def _in_likeliest(model, prompt, answers, forms):
    return in_likeliest(
        model.processor.tokenizer, prompt, answers, forms, model.name, model.sayable
    )
