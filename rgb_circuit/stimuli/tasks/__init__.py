"""The shipped tasks, and the task that given trials belong to."""

import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TypeVar

from ...errors import InputError
from ...files.table_text import shortened
from ...hypothesis import Hypothesis, pairs
from ...task import Task
from ...trial import Trial, as_trials
from ..task_file import read_hypotheses, read_task, to_toml

__all__ = [
    "DEFAULT",
    "corrupted",
    "find",
    "named",
    "read_hypotheses",
    "read_task",
    "shipped_hypotheses",
    "task_of",
    "tasks",
    "to_toml",
]

T = TypeVar("T")

# The task if none is named.
DEFAULT = "rgb"


@cache
def tasks() -> Mapping[str, Task]:
    """Name → task, for the tasks that are drawn, the default first: the ``TASK`` of each module
    here that has a TOML file of the same name.

    Examples:
        >>> [hypothesis.name for hypothesis in rgb.tasks()["rgb"].hypotheses][:2]
        ['color extractor', 'POI localization']
    """
    files = Path(__file__).parent.glob("*.toml")
    names = sorted(file.stem for file in files if file.with_suffix(".py").is_file())
    first = sorted(names, key=lambda name: name != DEFAULT)
    return {name: import_module(f"{__name__}.{name}").TASK for name in first}


def find(name: str) -> Task:
    """A shipped task.

    Raises:
        InputError: an unknown name.
    """
    if name not in tasks():
        raise InputError(
            f"there is no task {shortened(name)}; use one of {', '.join(tasks())}, or a TOML file"
        )
    return tasks()[name]


def named(text: str) -> Task:
    """A task as a command line names it: a shipped one by its name, a TOML file by its path, or a
    `Task` in a module by ``module:NAME``; Python finds the module, or it is in the working
    directory.

    Raises:
        InputError: nothing of that name, or something that is no task.
    """
    if text.endswith(".toml"):
        return read_task(text)
    module, colon, name = text.partition(":")
    if not colon:
        return find(text)
    try:
        task = getattr(_imported(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"there is no task {text!r}: {error}; write module:NAME of a Task"
        ) from error
    if not isinstance(task, Task):
        raise InputError(f"{text} is {shortened(task)}; name a Task")
    return task


def _imported(module):
    """A module, which may be in the working directory; the script ``rgb-circuit`` does not search
    there."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return import_module(module)
    finally:
        sys.path.remove(here)


def task_of(trials: Sequence[Trial]) -> Task:
    """The task of some trials: the one that drew them; else the first shipped task whose conditions
    and answers all of them have, or that has all of theirs; else a task made from the trials
    (`Task.of_trials`)."""
    trials = as_trials(trials)
    if (
        trials
        and all(trial.task is trials[0].task for trial in trials)
        and trials[0].task is not None
    ):
        return trials[0].task
    for task in tasks().values():
        if all(_plays(trial, task) for trial in trials):
            return task
    return Task.of_trials(trials)


def corrupted(trials: Sequence[Trial], target: T | None = None) -> T | str:
    """The condition that circuits, routes and stand-ins are measured against: ``target``, or the
    task's own."""
    return task_of(trials).corrupted if target is None else target


def _plays(trial, task):
    conditions, roles = set(task.conditions), set(task.roles)
    has_all = conditions <= set(trial.images) and set(task.drawn) <= set(trial.answers)
    return has_all or (
        set(trial.images) <= conditions and set(trial.answers) <= roles and task.right in roles
    )


def shipped_hypotheses(task: Task) -> tuple[Hypothesis, ...]:
    """The hypotheses that a task has without anybody writing them: those of the shipped task of
    that name; else, with two right answers, those of pairs in the task's own names."""
    if task.name in tasks():
        return tasks()[task.name].hypotheses
    right, other = (task.conditions[name].right for name in ("clean", task.corrupted))
    return pairs.hypotheses(right, other, task.corrupted)
