"""Draw trials for a model: on its own grid, in its own conversation, with words that it can say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ..arguments import check_wrapped
from ..boards.balanced import as_request
from ..conversation.answers import FORMS, drawable, form_of
from ..errors import InputError
from ..files.table_text import shortened
from ..prompts.asking import settle
from ..task import Task
from ..trial import Trial, named_alike
from .tasks import find

if TYPE_CHECKING:
    from ..vlm import Vlm


def trials(
    model: Vlm, task: str | Task = "rgb", n: int = 32, seed: int = 0, **fixed: Any
) -> list[Trial]:
    """Draw trials of a task for a model.

    Words come from those of the task that are one token for the model; if these are too few, from
    those that begin with different tokens.

    Args:
        task: the name of a shipped task, or any task that draws its trials.
        n: number of trials.
        seed: the same seed gives the same trials.
        fixed: what the task can hold fixed: roles, such as ``odd="red"``, a ``template`` of the
            task, and its further options.

    Raises:
        InputError: an unknown task, or one that draws no trials, or draws them with a question that
            is not its own; a model that lacks the task's words; or a value in ``fixed`` that the
            task cannot draw.

    Examples:
        >>> trials = rgb.trials(model, "rgb", n=3, odd="red")
        >>> [trial.answers["odd"] for trial in trials]
        ['red', 'red', 'red']
        >>> list(trials[0].images)
        ['clean', 'recolored', 'erased', 'swapped', 'moved']
    """
    check_wrapped(model)
    n, seed = as_request(n, seed)
    task = find(task) if isinstance(task, str) else task
    if not isinstance(task, Task):
        raise InputError(f"task is {shortened(task)}; give a Task, or the name of a shipped one")
    if "template" in fixed and task.templates:
        task = task.asked_by(fixed["template"])
    if task.draw is None:
        raise InputError(
            f"the task {task.name!r} draws no pictures; give trials from a file (read_trials) or "
            "build them"
        )
    vocabulary = fixed.get("palette", task.vocabulary)
    words = words_for(model, task, vocabulary)
    if not words and "palette" not in fixed:
        raise InputError(
            f"no word of the task ({', '.join(list(vocabulary)[:3])}, …) is in the vocabulary of "
            f"{model.name!r}, so it cannot play {task.says or task.name}; use another tokenizer, "
            "or give trials of your own"
        )
    drawn = task.draw(model.canvas, words, n, seed, fixed)
    _check_asked(task, drawn)
    return named_alike([replace(trial, task=task) for trial in drawn])


def _check_asked(task, drawn):
    """Raise InputError if a trial is drawn with another question than its task's, by which words
    are chosen and effects are read."""
    questions = [question.strip() for question in task.questions]
    for trial in drawn:
        if not any(question in trial.prompt for question in questions):
            raise InputError(
                f"the task {task.name!r} asks {task.question!r}, but its drawing function writes "
                f"another question into trial {trial.name!r} ({shortened(trial.prompt)}); change "
                f"both{', or give template=' if task.templates else ''}"
                f"{' or '.join(map(repr, task.templates))}"
            )


def rgb_trials(model: Vlm, n: int, seed: int = 0, **fixed: Any) -> list[Trial]:
    """A sample of the RGB game on the model's own grid, balanced over colours and tiles.

    Colours come from the palette's words that are one token for the model; if these are too few,
    from those that begin with different tokens. Each is used equally often in each role, and no
    tile is used twice before all were used. The first tile is left out: a causal model has nothing
    to compare it with.

    Args:
        n: number of trials.
        seed: the same seed gives the same trials.
        fixed: any of ``odd, other, background, other_background, tile, palette`` of `rgb_trial`,
            held fixed.

    Raises:
        InputError: a model without colour words, an unknown colour, a tile off the grid, or too few
            colours left to draw from.

    Warns:
        UserWarning: some trials have the same pictures, since too much is fixed.

    Examples:
        >>> trials = rgb.rgb_trials(model, 8)
        >>> sorted(trial.answers["odd"] for trial in trials)
        ['black', 'blue', 'cyan', 'green', 'orange', 'purple', 'red', 'yellow']
        >>> len({trial.tile for trial in trials})
        8
    """
    return trials(model, "rgb", n, seed, **fixed)


def words_for(model: Vlm, task: Task, vocabulary: Iterable[str] | None = None) -> tuple[str, ...]:
    """The words with which a task is drawn for a model; empty if the model knows none.

    Args:
        vocabulary: the words to draw from, instead of the task's.
    """
    check_wrapped(model)
    words = task.vocabulary if vocabulary is None else vocabulary
    asked = WordsAsked.of(task, model.prompt(task.questions[0]), words)
    return words_at(model, **asked._asdict()) if words else ()


class WordsAsked(NamedTuple):
    """The inputs, in addition to the model, that the words of a task depend on (`Vlm.drawable`)."""

    prompt: str
    words: tuple[str, ...]
    least: int
    taken: tuple[str, ...]

    @classmethod
    def of(cls, task: Task, prompt: str, words: Iterable[str]) -> WordsAsked:
        """The inputs for a task asked in a prompt."""
        taken = tuple(role.word for role in task.roles.values() if role.word is not None)
        return cls(prompt, tuple(words), len(task.drawn), taken)


def words_at(
    model: Vlm, prompt: str, words: Iterable[str], *, least: int, taken: Iterable[str]
) -> tuple[str, ...]:
    """Those of ``words`` with which a task asked in ``prompt`` can be drawn; empty if the model can
    write none there.

    Args:
        least, taken: as in `rgb_circuit.conversation.answers.drawable`.
    """
    check_wrapped(model)
    asked = WordsAsked(prompt, tuple(words), least, tuple(taken))
    if asked not in model.drawable:
        form = form_at(model, prompt, asked.words)
        model.drawable[asked] = () if form is None else tuple(
            drawable(model.processor.tokenizer, prompt, asked.words, form, least, asked.taken,
            model.sayable)
        )  # fmt: skip
    return model.drawable[asked]


def form_at(model: Vlm, prompt: str, words: Iterable[str]) -> str | None:
    """The form in which the model writes ``words`` after ``prompt``, a key of
    `rgb_circuit.conversation.answers.FORMS`: the likeliest form that can write any of them; None,
    without a forward, if there is none."""
    words, tokenizer = tuple(words), model.processor.tokenizer
    if form_of(tokenizer, prompt, words, tuple(FORMS), model.sayable) is None:
        return None
    settle(model, [prompt])
    return form_of(tokenizer, prompt, words, model.forms[prompt], model.sayable)
