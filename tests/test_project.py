"""The project's own files agree with each other."""

import ast
import sys
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [*PROJECT["dependencies"], *EXTRAS["test"]]
# Module → the distribution that it comes in, where that has another name.
COMES_IN = {"PIL": "pillow", "vl_convert": "vl-convert-python"}


def required(requirements):
    """Distribution → the versions that are asked for."""
    return {
        canonicalize_name(wanted.name): wanted.specifier
        for wanted in map(Requirement, requirements)
    }


def test_conda_environment_asks_for_the_same_packages():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (through_pip,) = (
        entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)
    )
    assert sorted(through_pip) == sorted([*REQUIREMENTS, "-e ."])
    assert f"python{PROJECT['requires-python']}" in environment["dependencies"]


def test_only_what_would_break_is_bounded_above():
    bounded = {name for name, versions in required(REQUIREMENTS).items() if "<" in str(versions)}
    assert bounded == {"nnsight", "transformers"}


def test_the_tested_versions_are_exact_and_meet_every_requirement():
    lines = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    tested = required(lines)
    assert len(tested) == len(lines)
    for name, versions in required(
        [*REQUIREMENTS, *EXTRAS["families"], *EXTRAS["lint"], *EXTRAS["docs"]]
    ).items():
        (exact,) = tested[name]
        assert exact.operator == "==" and versions.contains(exact.version), name


def test_readme_and_ci_install_the_tested_versions():
    for file in ("README.md", ".ci/run"):
        lines = [
            line for line in (ROOT / file).read_text().splitlines() if "pip install -q" in line
        ]
        assert lines and all("-q -c constraints.txt " in line for line in lines), file


def test_every_package_that_is_imported_is_asked_for():
    imported = {
        name.split(".")[0]
        for folder in ("rgb_circuit", "analyses")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [each.name for each in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
    }
    foreign = imported - {*sys.stdlib_module_names, "rgb_circuit", "analyses"}
    assert {canonicalize_name(COMES_IN.get(name, name)) for name in foreign} <= required(
        PROJECT["dependencies"]
    ).keys()


def test_every_picture_of_the_readme_is_there():
    readme = (ROOT / "README.md").read_text()
    pictures = [
        part.split(")")[0] for part in readme.split("](")[1:] if part.split(")")[0].endswith(".png")
    ]
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).is_file(), picture


SOURCES = {
    path.relative_to(ROOT): path.read_text()
    for folder in ("rgb_circuit", "analyses")
    for path in (ROOT / folder).rglob("*.py")
}


def body_lines(function):
    """How many lines a function has below its signature and its docstring."""
    body = function.body[ast.get_docstring(function) is not None :]
    return function.end_lineno - body[0].lineno + 1 if body else 0


def test_a_function_fits_on_a_page_but_for_what_travels_and_what_sets_weights():
    assert [
        (path.as_posix(), node.name, lines)
        for path, text in SOURCES.items()
        if not {"programs", "models"} & set(path.parts)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and (lines := body_lines(node)) > 70
    ] == []


def test_a_file_of_analyses_fits_in_one_sitting():
    lengths = {
        path.as_posix(): len(text.splitlines())
        for path, text in SOURCES.items()
        if path.parts[0] == "analyses"
    }
    assert len(lengths) > 50 and {path: n for path, n in lengths.items() if n > 450} == {}
