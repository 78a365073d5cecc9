"""The examples in docstrings run as they stand, and give what they say."""

import ast
import doctest
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import rgb_circuit as rgb

ROOT = Path(__file__).parents[1]
SOURCES = {
    path: path.read_text("utf-8")
    for folder in ("rgb_circuit", "analyses")
    for path in (ROOT / folder).rglob("*.py")
}
WITH_EXAMPLES = sorted(path for path, text in SOURCES.items() if ">>> " in text)


def docstrings(source):
    """(name, line from 0, docstring) of a module and of what it defines.

    They are read from the source, since doctest's own search passes over functions that are
    decorated.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            if text := ast.get_docstring(node, clean=False):
                yield getattr(node, "name", "module"), node.body[0].lineno - 1, text


def failures(source, path, known):
    """(number of examples, report of those that do not give what they say)."""
    runner, report, found = doctest.DocTestRunner(verbose=False), [], 0
    for name, line, text in docstrings(source):
        # Each docstring stands by itself: no example uses a name from another.
        test = doctest.DocTestParser().get_doctest(text, known, name, str(path), line)
        found += len(test.examples)
        runner.run(test, out=report.append)
    return found, "".join(report)


@pytest.fixture(scope="module")
def known(toy):
    """What examples use without saying where it is from."""
    return {
        "rgb": rgb,
        "pd": pd,
        "np": np,
        "Path": Path,
        "model": toy,
        "trials": rgb.rgb_trials(toy, 4),
    }


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_example_gives_what_it_says_and_leaves_no_file(path, known, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = import_module(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    )
    found, report = failures(SOURCES[path], path, {**vars(module), **known})
    assert not report, report
    # None stands where nothing runs it.
    assert found == SOURCES[path].count(">>> ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_example_stands_under_a_heading_so_that_the_documents_show_it_as_code(path):
    bare = [
        name
        for name, _, text in docstrings(SOURCES[path])
        if ">>> " in text and "Examples:\n" not in text
    ]
    assert not bare


def test_a_wrong_example_is_reported_even_of_a_decorated_function():
    source = '@decorated\ndef one():\n    """\n    >>> 1 + 1\n    3\n    """'
    found, report = failures(source, "one.py", {})
    assert found == 1 and "Expected:\n    3\nGot:\n    2" in report
