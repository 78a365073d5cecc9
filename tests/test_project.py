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
