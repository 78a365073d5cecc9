"""The token that an answer is read at.

A word is read at its first token after the prompt. Which token that is depends on how the model
writes there: LLaVA-1.5 answers "ASSISTANT:" with " Red", a Qwen "assistant\n" with "Red". So the
model itself settles the surface form, for each prompt:

1. Show it a plain grey picture with the prompt and take its likeliest tokens.
2. Each form (with or without a space in front; capital or as given) gets the probability of the
   tokens that are written in it.
3. The answers of a trial are written in the likeliest form in which the tokenizer can write all of
   them.

A common beginning of all answers of a trial does not tell them apart: "13" and "18" begin with a
"1", "dark red" and "dark blue" with "dark", and Llama-style tokenizers write " 3" as a space and a
"3". Such tokens are appended to the prompt, and each answer is read at the first token that
differs.

If several words are accepted for one answer, each is read this way; words that are read at the same
token count once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from ..errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, ProcessorMixin


FORMS: Mapping[str, Callable[[str], str]] = {
    "space, capital": lambda word: " " + word[:1].upper() + word[1:],
    "capital": lambda word: word[:1].upper() + word[1:],
    "space, as given": lambda word: " " + word,
    "as given": lambda word: word,
}


class Piece(NamedTuple):
    """The token that a word is read at.

    Attributes:
        token: its id.
        whole: whether it is the whole word.
    """

    word: str
    token: int
    whole: bool


@dataclass(frozen=True)
class Reading:
    """How the answers of one trial are read.

    Attributes:
        prompt: the prompt that the model sees: the trial's own, and the text appended to it.
        behind: the common beginning of all answers, as text; often empty.
        form: how answers are written, a key of ``FORMS``.
        pieces: role → a piece for each of its words, the answer's first.
    """

    prompt: str
    behind: str
    form: str
    pieces: Mapping[str, tuple[Piece, ...]]

    @property
    def tokens(self) -> dict[str, int]:
        """Role → the token id that its answer is read at."""
        return {role: pieces[0].token for role, pieces in self.pieces.items()}

    @property
    def ids(self) -> dict[str, tuple[int, ...]]:
        """Role → the token ids whose logits are read, without repeats."""
        return {
            role: tuple(dict.fromkeys(piece.token for piece in pieces))
            for role, pieces in self.pieces.items()
        }


def preferred(
    tokenizer: PreTrainedTokenizerBase,
    last: int,
    likeliest: Sequence[int],
    probabilities: Sequence[float],
) -> tuple[str, ...]:
    """The forms, in the order of the model's preference.

    Args:
        last: the prompt's last token.
        likeliest, probabilities: of the model's next tokens.
    """
    weight = dict.fromkeys(FORMS, 0.0)
    decode = partial(tokenizer.decode, clean_up_tokenization_spaces=False)
    before = len(decode([last]))
    for token, probability in zip(likeliest, probabilities):
        text = decode([last, token])[before:]
        letter = text.strip(" ")[:1]
        for form in FORMS:
            spaced = form.startswith("space")
            # A token without case, such as a digit or a lone space, votes only on the space.
            cased = not letter.islower() if form.endswith("capital") else not letter.isupper()
            if spaced == text.startswith(" ") and cased:
                weight[form] += probability
    return tuple(sorted(FORMS, key=weight.__getitem__, reverse=True))


def written(
    tokenizer: PreTrainedTokenizerBase, prompt: str, word: str, form: str, sayable: float = inf
) -> list[int] | None:
    """The ids that a word adds after a prompt; None if it changes the ids before it, or is unknown.

    Args:
        sayable: the number of tokens that the model has a logit for; a word that begins with
            another token is unknown too.
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
    """The ids of a text that the model continues: with at most one beginning token, and no end
    token."""
    ids = tokenizer(once_begun(tokenizer, text))["input_ids"]
    return ids[: len(ids) - ends(tokenizer)]


def once_begun(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """``text`` without its beginning token if the tokenizer adds one as well, as after a chat
    template."""
    begin = tokenizer.bos_token
    if (
        begin
        and text.startswith(begin)
        and tokenizer(text)["input_ids"][:2] == [tokenizer.bos_token_id] * 2
    ):
        return text.removeprefix(begin)
    return text


def picture_mark(processor: ProcessorMixin) -> str:
    """What stands for a picture in a text that the processor is given: its image token, or a word
    that it writes these in place of."""
    return getattr(processor, "image_placeholder_token", None) or processor.image_token


def ends(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer appends an end token to every text."""
    end = tokenizer.eos_token_id
    return end is not None and tokenizer("a")["input_ids"][-1:] == [end]


def form_of(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    words: Iterable[str],
    forms: Sequence[str],
    sayable: float = inf,
) -> str | None:
    """The likeliest of ``forms`` in which any of ``words`` can be written after the prompt;
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
    """The words that are one token; if there are fewer than ``least``, also words that begin with a
    token that no other word begins with.

    Args:
        taken: words whose first tokens are excluded.
        sayable: as in `written`.
    """
    ids = {word: written(tokenizer, prompt, word, form, sayable) for word in words}
    taken = list(taken)
    if not taken:
        # Words are read after their common beginning.
        shared = len(_shared(tokenizer, [[tokens] for tokens in ids.values() if tokens]))
        ids = {word: tokens and tokens[shared:] for word, tokens in ids.items()}
    whole = [word for word, tokens in ids.items() if tokens and len(tokens) == 1]
    if len(whole) >= least:
        return whole
    begun = {
        *(tuple(written(tokenizer, prompt, word, form) or ())[:1] for word in taken),
        *(tuple(tokens) for tokens in ids.values() if tokens and len(tokens) == 1),
    }
    for word, tokens in ids.items():
        if tokens and (first := tuple(tokens[:1])) not in begun:
            begun.add(first)
            whole.append(word)
    return whole


def in_likeliest(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    answers: Mapping[str, tuple[str, ...]],
    forms: Sequence[str],
    name: str,
    sayable: float,
) -> Reading:
    """How ``answers`` (role → its words) are read after ``prompt``, in the first of ``forms`` in
    which all can be written.

    Args:
        name: of the model, for messages.
        sayable: as in `written`.

    Raises:
        InputError: a word that the tokenizer cannot write there, or words of two roles that begin
            with the same token.
    """
    words = [(role, word) for role, several in answers.items() for word in several]
    for form in forms:
        tokens_of_words = [written(tokenizer, prompt, word, form, sayable) for _, word in words]
        ids = [tokens for tokens in tokens_of_words if tokens]
        if len(ids) == len(words):
            break
    else:
        unknown = next(word for (_, word), tokens in zip(words, tokens_of_words) if not tokens)
        if there := written(tokenizer, prompt, unknown, form):
            raise _unsayable(unknown, there[0], name, sayable)
        raise InputError(
            f"answer {unknown!r} is not in the vocabulary of {name} or merges with the prompt; "
            "choose another word"
        )
    of_role: dict[str, list[list[int]]] = {role: [] for role in answers}
    for (role, _), tokens in zip(words, ids):
        of_role[role].append(tokens)
    shared = _shared(tokenizer, list(of_role.values()))
    behind = _text_of(tokenizer, prompt, FORMS[form](words[0][1]), shared)
    if behind:
        ids = [tokens[len(shared) :] for tokens in ids]
    first: dict[int, tuple[str, str]] = {}
    pieces: dict[str, tuple[Piece, ...]] = {role: () for role in answers}
    for (role, word), tokens in zip(words, ids):
        of, earlier = first.setdefault(tokens[0], (role, word))
        if of != role and earlier.casefold() != word.casefold():
            (piece,) = tokenizer.convert_ids_to_tokens(tokens[:1])
            raise InputError(
                f"answers {earlier!r} and {word!r} both begin with the token {piece!r} for {name}, "
                "which is where they are read; choose words that begin differently, or all of "
                "which begin with it and go on differently"
                + (_FEWER if len(words) > len(answers) else "")
            )
        if tokens[0] >= sayable:
            raise _unsayable(word, tokens[0], name, sayable)
        pieces[role] += (Piece(word, tokens[0], len(tokens) == 1 and not behind.strip()),)
    return Reading(prompt + behind, behind, form, pieces)


# The further advice if an answer has several words.
_FEWER = "; where several words are accepted, leave out those that do not"


def _unsayable(word, token, name, sayable):
    return InputError(
        f"answer {word!r} begins with token {token}, and lm_head of {name} has {sayable} rows: the "
        "tokenizer has tokens that the model was not given; choose another word, or take the "
        "tokenizer that belongs to these weights"
    )


def _shared(tokenizer, answers):
    """The ids that all words of all answers begin with, without any word's last id; for a single
    answer at most a lone space."""
    shared = []
    for alike in zip(*(ids[:-1] for own in answers for ids in own)):
        if len(set(alike)) > 1:
            break
        shared.append(alike[0])
    if len({frozenset(map(tuple, own)) for own in answers}) > 1:
        return shared
    return [token for token in shared[:1] if _is_space(tokenizer, token)]


def _is_space(tokenizer, token):
    """Whether a token is nothing but a space."""
    return tokenizer.decode([token] * 2, clean_up_tokenization_spaces=False).isspace()


def _text_of(tokenizer, prompt, word, shared):
    """The beginning of a word that adds these ids to a prompt; empty if there is none, for example
    within a letter."""
    wanted = token_ids(tokenizer, prompt) + shared
    beginnings = (word[:end] for end in range(1, len(word))) if shared else ()
    return next((text for text in beginnings if token_ids(tokenizer, prompt + text) == wanted), "")
