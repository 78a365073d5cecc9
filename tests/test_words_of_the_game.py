"""What is not the game's knows no word of the game: Python strings, and fragments of the report."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORD = re.compile(r"\b(odd|erased|recolored|swapped|background|other_background)\b")
# What belongs to the game: its task, its models, and analyses and figures of nothing else.
FOLDERS = ("rgb_circuit/stimuli/tasks/", "rgb_circuit/models/")
FILES = {
    "rgb_circuit/stimuli/tasks/rgb.py",
    # The question that every model is tried with when it is loaded.
    "rgb_circuit/conversation/__init__.py",
    "rgb_circuit/plots/redirect.py",
    "analyses/background_writer.py",
    "analyses/rgb/published.py",
    "analyses/rgb/redirect.py",
    "analyses/rgb/riddle.py",
    "analyses/report/sections/riddle.py",
    "analyses/report/sections/riddle.jinja",
}


def files(ending):
    return [
        path.relative_to(ROOT).as_posix()
        for folder in ("rgb_circuit", "analyses")
        for path in (ROOT / folder).rglob(f"*.{ending}")
    ]


def strings(text):
    """The string constants of a module, without its docstrings, and where they stand."""
    tree = ast.parse(text)
    bodies = [node.body for node in ast.walk(tree) if isinstance(getattr(node, "body", None), list)]
    said = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.lineno, node.value


def words_in(name):
    """Where a file says words of the game."""
    text = (ROOT / name).read_text(encoding="utf-8")
    lines = strings(text) if name.endswith(".py") else enumerate(text.splitlines(), 1)
    return [f"{name}:{number}: {line}" for number, line in lines if WORD.search(line)]


def test_python_that_is_not_the_games_says_no_word_of_it():
    others = [name for name in files("py") if name not in FILES and not name.startswith(FOLDERS)]
    assert len(others) > 100
    assert [found for name in others for found in words_in(name)] == []


def test_sections_that_are_not_the_games_say_no_word_of_it():
    fragments = [name for name in files("jinja") if "/sections/" in name and name not in FILES]
    assert len(fragments) > 10
    assert [found for name in fragments for found in words_in(name)] == []


@pytest.mark.parametrize("name", sorted(FILES))
def test_what_is_called_the_games_says_a_word_of_it(name):
    assert words_in(name)


def test_a_docstring_may_say_what_code_may_not():
    assert list(strings('"""Odd."""\ndef f():\n    """odd"""\n    return "odd" + g("x")')) == [
        (4, "odd"),
        (4, "x"),
    ]
