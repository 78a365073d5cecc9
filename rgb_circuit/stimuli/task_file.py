"""Tasks and hypotheses as TOML files: data only, no names of functions and no expressions."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..arguments import as_path
from ..errors import InputError
from ..files.on_disk import on_disk
from ..files.table_text import shortened
from ..files.toml_file import read_toml
from ..hypothesis import Hypothesis
from ..hypothesis.plain_tables import hypotheses_of
from ..task import Task

# The characters of a TOML key without quotes.
_BARE = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def read_task(path: str | Path) -> Task:
    """Read the task that a TOML file describes (docs/tasks.md has the format). Paths to its
    ``trials`` and to the file that it is ``like`` are relative to the file.

    Raises:
        InputError: no such file, no TOML, or an invalid entry, with its key.

    Examples:
        >>> task = rgb.read_task(Path(rgb.__file__).parent / "stimuli" / "tasks" / "rgb.toml")
        >>> task.right, task.corrupted, task.targets
        ('odd', 'erased', ('recolored', 'erased'))
    """
    path = as_path(path, "a task's TOML file")
    task = Task.of_plain(_table_of(path), path.name)
    return replace(task, trials=str(on_disk(path.parent, task.trials))) if task.trials else task


def read_hypotheses(path: str | Path) -> tuple[Hypothesis, ...]:
    """Read the hypotheses of a TOML file, which may be a task's or hold nothing else.

    Raises:
        InputError: no such file, no TOML, no hypotheses, or an invalid hypothesis, with its key.

    Examples:
        >>> folder = Path(rgb.__file__).parent / "stimuli" / "tasks"
        >>> hypotheses = rgb.read_hypotheses(folder / "rgb.toml")
        >>> for prediction in hypotheses[-1].predictions:
        ...     print(prediction.name, "|", prediction.text)
        P9a | none down, odd not up, background not up: z clean -> erased
        P9b | none none: z clean -> recolored
    """
    path = as_path(path, "a TOML file of hypotheses")
    hypotheses, _ = hypotheses_of(_table_of(path), name := path.name)
    if not hypotheses:
        raise InputError(f"{name} has no hypotheses; add a table such as [hypotheses.reader]")
    return hypotheses


def to_toml(table: Mapping[str, Any]) -> str:
    """Write a table of text, numbers, lists and tables, such as from `Task.plain`, as TOML.

    Examples:
        >>> print(to_toml({"name": "shapes", "roles": {"right": {"says": "colour of the square"}}}))
        name = "shapes"
        <BLANKLINE>
        [roles]
        right = { says = "colour of the square" }
    """
    plain = [
        f"{_key(name)} = {_value(value)}"
        for name, value in table.items()
        if not isinstance(value, Mapping)
    ]
    for name, value in table.items():
        if isinstance(value, Mapping):
            plain += [
                "",
                f"[{_key(name)}]",
                *(f"{_key(key)} = {_value(own)}" for key, own in value.items()),
            ]
    return "\n".join(plain)


def _value(value):
    if isinstance(value, Mapping):
        return (
            "{ " + ", ".join(f"{_key(name)} = {_value(own)}" for name, own in value.items()) + " }"
        )
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    # JSON's text, numbers, true and false are TOML's; TOML has no null.
    return json.dumps(value, ensure_ascii=False)


def _key(name):
    return name if name and set(name) <= _BARE else json.dumps(name, ensure_ascii=False)


def _table_of(path, above=()):
    """A file's table, on top of the table of the file that it is ``like``, with words replaced as
    in ``instead``."""
    path = Path(path)
    table = read_toml(path)
    if "like" not in table:
        return table
    like, instead = table.pop("like"), table.pop("instead", {})
    if not isinstance(like, str) or path.resolve() in above:
        raise InputError(
            f"{path.name}: like is {shortened(like)}; name another TOML file, one that is not like "
            "this one"
        )
    if not isinstance(instead, dict) or not all(isinstance(word, str) for word in instead.values()):
        raise InputError(
            f"{path.name}: instead is {shortened(instead)}; give a table of words, such as "
            '{ color = "shape" }'
        )
    there = _table_of(on_disk(path.parent, like), (*above, path.resolve()))
    return _reworded(there, instead) | table


def _reworded(value, instead, names=False):
    """A value with words replaced. In nested tables the levels alternate between the format's keys,
    which stay, and ``names``, which are replaced too."""
    if isinstance(value, dict):
        keys = [_reworded(key, instead) if names else key for key in value]
        return {key: _reworded(own, instead, not names) for key, own in zip(keys, value.values())}
    if isinstance(value, list):
        return [_reworded(own, instead) for own in value]
    if isinstance(value, str):
        return re.sub(r"\w+", lambda word: instead.get(word[0], word[0]), value)
    return value
