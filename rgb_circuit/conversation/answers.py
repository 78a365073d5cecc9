"""Which token an answer is read at.

A word is read at its first token after the prompt. Which token that is depends on how the model
writes there: LLaVA-1.5 answers "ASSISTANT:" with " Red", a Qwen "assistant\n" with "Red". So the
surface form is settled per prompt, by the model itself:

1. Show it a plain grey picture with the prompt and take its likeliest tokens.
2. Each form (space or none in front; capital or as given) gets the probability of the tokens that
   are written so.
3. The answers of a trial are written in the likeliest form in which the tokenizer can write all of
   them.

Llama-style tokenizers write " 3" as a space and a "3". Where all answers of a trial begin with such
a space it says nothing about which one is given: it is put behind the prompt, and what follows it
is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


FORMS: Mapping[str, Callable[[str], str]] = {
    "space, capital": lambda word: " " + word[:1].upper() + word[1:],
    "capital": lambda word: word[:1].upper() + word[1:],
    "space, as given": lambda word: " " + word,
    "as given": lambda word: word,
}


@dataclass(frozen=True)
class Reading:
    """How the answers of one trial are read.

    Attributes:
        prompt: as it is shown: the trial's own, with a space behind it where all answers begin with
            one of its own.
        form: how answers are written, a key of ``FORMS``.
        tokens: role → the token id whose logit is read.
        whole: role → whether that token is the whole word.
    """

    prompt: str
    form: str
    tokens: dict[str, int]
    whole: dict[str, bool]


def preferred(
    tokenizer: PreTrainedTokenizerBase,
    last: int,
    likeliest: Sequence[int],
    probabilities: Sequence[float],
) -> tuple[str, ...]:
    """The forms, the one that a model prefers first.

    Args:
        last: the prompt's last token.
        likeliest, probabilities: of the tokens that the model would say next.
    """
    weight = dict.fromkeys(FORMS, 0.0)
    decode = partial(tokenizer.decode, clean_up_tokenization_spaces=False)
    before = len(decode([last]))
    for token, probability in zip(likeliest, probabilities):
        text = decode([last, token])[before:]
        letter = text.strip(" ")[:1]
        for form in FORMS:
            spaced = form.startswith("space")
            # What has no case, as a digit or a space of its own, votes for the space alone.
            cased = not letter.islower() if form.endswith("capital") else not letter.isupper()
            if spaced == text.startswith(" ") and cased:
                weight[form] += probability
    return tuple(sorted(FORMS, key=weight.__getitem__, reverse=True))


def written(
    tokenizer: PreTrainedTokenizerBase, prompt: str, word: str, form: str, sayable: float = inf
) -> list[int] | None:
    """The ids that a word adds behind a prompt; None where it changes what comes before, or is
    unknown.

    Args:
        sayable: how many tokens the model has a logit for; a word that begins with another is
            unknown too.
    """
    start, ids = (token_ids(tokenizer, text) for text in (prompt, prompt + FORMS[form](word)))
    added = ids[len(start) :]
    if (
        ids[: len(start)] != start
        or not added
        or tokenizer.unk_token_id in added
        or added[0] >= sayable
    ):
        return None
    return added


def token_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The ids of a text that is gone on from: with one beginning token at most, and no end
    token."""
    ids = tokenizer(once_begun(tokenizer, text))["input_ids"]
    return ids[: len(ids) - ends(tokenizer)]


def once_begun(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """``text`` without its beginning token where the tokenizer puts one in front too, as behind a
    chat template."""
    begin = tokenizer.bos_token
    if (
        begin
        and text.startswith(begin)
        and tokenizer(text)["input_ids"][:2] == [tokenizer.bos_token_id] * 2
    ):
        return text.removeprefix(begin)
    return text


def ends(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts an end token behind every text."""
    end = tokenizer.eos_token_id
    return end is not None and tokenizer("a")["input_ids"][-1:] == [end]


def form_of(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    words: Iterable[str],
    forms: Sequence[str],
    sayable: float = inf,
) -> str | None:
    """The likeliest of ``forms`` in which any of ``words`` can be written behind the prompt;
    ``sayable`` as in `written`."""
    return next(
        (
            form
            for form in forms
            if any(written(tokenizer, prompt, word, form, sayable) for word in words)
        ),
        None,
    )


def drawable(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    words: Iterable[str],
    form: str,
    least: int,
    taken: Iterable[str],
    sayable: float,
) -> list[str]:
    """The words that are one token; if fewer than ``least``, also those that begin with a token of
    their own.

    Args:
        taken: words whose first tokens none of them may begin with.
        sayable: as in `written`.
    """
    ids = {word: written(tokenizer, prompt, word, form, sayable) for word in words}
    taken = list(taken)
    if not taken:
        known = {word: some for word, some in ids.items() if some}
        ids |= behind_space(tokenizer, prompt, known)[1]
    whole = [word for word, some in ids.items() if some and len(some) == 1]
    if len(whole) >= least:
        return whole
    begun = {
        *(tuple(written(tokenizer, prompt, word, form) or ())[:1] for word in taken),
        *(tuple(some) for some in ids.values() if some and len(some) == 1),
    }
    for word, some in ids.items():
        if some and (first := tuple(some[:1])) not in begun:
            begun.add(first)
            whole.append(word)
    return whole


def in_likeliest(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    answers: Mapping[str, str],
    forms: Sequence[str],
    name: str,
    sayable: float,
) -> Reading:
    """How ``answers`` (role → word) are read after ``prompt``, in the first of ``forms`` in which
    all can be written.

    Args:
        name: of the model, for messages.
        sayable: as in `written`.

    Raises:
        InputError: a word that the tokenizer cannot write there, or two that begin with the same
            token.
    """
    for form in forms:
        found = {
            role: written(tokenizer, prompt, word, form, sayable) for role, word in answers.items()
        }
        ids = {role: some for role, some in found.items() if some}
        if len(ids) == len(answers):
            break
    else:
        unknown = next(word for role, word in answers.items() if role not in ids)
        if there := written(tokenizer, prompt, unknown, form):
            raise InputError(
                f"answer {unknown!r} begins with token {there[0]}, and lm_head of {name} has "
                f"{sayable} rows: the tokenizer has tokens that the model was not given; choose "
                "another word, or take the tokenizer that belongs to these weights"
            )
        raise InputError(
            f"answer {unknown!r} is not in the vocabulary of {name} or merges with the prompt; "
            "choose another word"
        )
    prompt, ids = behind_space(tokenizer, prompt, ids)
    first = {}
    for role, some in ids.items():
        word = answers[role]
        other = first.setdefault(some[0], word)
        if other.casefold() != word.casefold():
            (piece,) = tokenizer.convert_ids_to_tokens(some[:1])
            raise InputError(
                f"answers {other!r} and {word!r} both begin with the token {piece!r} for {name}, "
                "which is where they are "
                "read; choose words that begin differently"
            )
    return Reading(
        prompt,
        form,
        {role: some[0] for role, some in ids.items()},
        {role: len(some) == 1 for role, some in ids.items()},
    )


def behind_space(
    tokenizer: PreTrainedTokenizerBase, prompt: str, ids: Mapping[str, list[int]]
) -> tuple[str, dict[str, list[int]]]:
    """The prompt and the ids of words behind it; where all words begin with one space of its own,
    with that space moved from the words to the prompt."""
    spaces = {some[0] for some in ids.values() if _is_space(tokenizer, some)}
    shared = len(spaces) == 1 and all(_is_space(tokenizer, some) for some in ids.values())
    if shared and len(token_ids(tokenizer, prompt + " ")) == len(token_ids(tokenizer, prompt)) + 1:
        return prompt + " ", {name: some[1:] for name, some in ids.items()}
    return prompt, dict(ids)


def _is_space(tokenizer, ids):
    """Whether a word is written as a space of its own and more."""
    return (
        len(ids) > 1 and tokenizer.decode(ids[:1] * 2, clean_up_tokenization_spaces=False).isspace()
    )
