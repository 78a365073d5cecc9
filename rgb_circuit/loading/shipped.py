"""The shipped model to use if the user names none: the toy if it knows the words, else the talker.

A model knows a word if its tokenizer has tokens for all of it, in one of the forms in which answers
are written. It knows a task if it knows all words of the questions, all answers that every trial
has, and as many of the drawn answers as a trial draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..conversation.answers import FORMS
from ..errors import InputError
from ..stimuli.drawing import WordsAsked
from ..task import PLAIN, Task
from ..trial import Trial
from . import TRAINED

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# How many words a message names.
NAMED = 3


@dataclass(frozen=True)
class WordsNeeded:
    """The words that a model must know for a task or for some trials.

    Attributes:
        what: the name of the task, for messages.
        questions: all questions.
        answers: the model must know every one.
        drawn: answers from which trials draw.
        least: how many of ``drawn`` a trial draws.
    """

    what: str
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    drawn: tuple[str, ...] = ()
    least: int = 0

    @classmethod
    def of_task(cls, task: Task, template: str = PLAIN) -> WordsNeeded:
        """The words of a task that draws its trials.

        Args:
            template: the wording of the task's question.

        Raises:
            InputError: a template that the task does not have.
        """
        asked_task = task.asked_by(template)
        words = WordsAsked.of(asked_task, "", asked_task.vocabulary)
        template_words = (
            asked_task.templates[template].words if template in asked_task.templates else ()
        )
        return cls(
            asked_task.name,
            asked_task.questions,
            (*words.taken, *template_words),
            words.words,
            words.least,
        )

    @classmethod
    def of_trials(cls, trials: Sequence[Trial], what: str) -> WordsNeeded:
        """The words of given trials."""
        questions = {trial.asked(condition) for trial in trials for condition in trial.images}
        answers = {word for trial in trials for word in trial.answers.values()}
        return cls(what, tuple(sorted(questions)), tuple(sorted(answers)))


def shipped_for(needed: Iterable[WordsNeeded]) -> tuple[str, str]:
    """The shipped model for all of these words, and a notice for the user; empty if the toy knows
    all words.

    If no shipped model knows all words of the questions, take the first that knows the answers: a
    model that the user names need not know the questions' words either.

    Raises:
        InputError: no shipped model knows the words of the answers.
    """
    needed = tuple(needed)
    unread = {name: [word for need in needed for word in _unread(name, need)] for name in TRAINED}
    unsaid = {name: [word for need in needed for word in _unsaid(name, need)] for name in TRAINED}
    lacks = {
        name: f"{name} does not know {_some([*unread[name], *unsaid[name]])}" for name in TRAINED
    }
    first = TRAINED[0]
    for name in TRAINED:
        if not unread[name] and not unsaid[name]:
            return name, "" if name == first else f"Model: {name}, since {lacks[first]}."
    why = "; ".join(lacks.values())
    for name in TRAINED:
        if not unsaid[name]:
            return name, f"Model: {name}; name another with --model, since {why}."
    raise InputError(
        f"no shipped model can be asked {', '.join(need.what for need in needed)}: {why}; name one "
        "that can with --model, such as a folder or a hub id"
    )


def _some(words):
    """The first few distinct words, for a message; punctuation only if there is nothing else."""
    words = list(dict.fromkeys(words))
    named = [word for word in words if word.isalnum()] or words
    return ", ".join(map(repr, named[:NAMED])) + (", …" if len(named) > NAMED else "")


def _unread(name: str, needed: WordsNeeded) -> list[str]:
    """The words in the questions that a model does not know."""
    return [word for text in needed.questions for word in _unknown(name, text)]


def _unsaid(name: str, needed: WordsNeeded) -> list[str]:
    """The words that keep a model from answering."""
    lacks = [word for word in needed.answers if not _says(name, word)]
    unknown = [word for word in needed.drawn if not _says(name, word)]
    known = len(needed.drawn) - len(unknown)
    return lacks + (unknown if known < max(needed.least, 1) and needed.drawn else [])


def _says(name, word):
    return any(not _unknown(name, form(word)) for form in FORMS.values())


def _unknown(name: str, text: str) -> list[str]:
    """The parts of a text for which a model has no token."""
    tokenizer = _tokenizer(name)
    made = tokenizer.encode(text, add_special_tokens=False)
    unknown = tokenizer.token_to_id("<unk>")
    return [text[slice(*span)] for id_, span in zip(made.ids, made.offsets) if id_ == unknown]


@cache
def _tokenizer(name) -> Tokenizer:
    from tokenizers import Tokenizer

    file = Path(__file__).parents[1] / "models" / name / "tokenizer.json"
    return Tokenizer.from_file(str(file))
