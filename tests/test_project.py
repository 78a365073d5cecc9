"""The project's own files agree with each other."""

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]


def test_conda_environment_asks_for_the_same_packages():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (through_pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert sorted(through_pip) == sorted([*REQUIREMENTS, "-e ."])
    assert f"python{PROJECT['requires-python']}" in environment["dependencies"]


def test_versions_that_the_project_depends_on_are_bounded():
    for wanted in ("nnsight>=0.8.1,<0.9", "torch>=2.13,<2.14", "transformers>=5.23,<6"):
        assert wanted in REQUIREMENTS


def test_every_picture_of_the_readme_is_there():
    readme = (ROOT / "README.md").read_text()
    pictures = [part.split(")")[0] for part in readme.split("](")[1:] if part.split(")")[0].endswith(".png")]
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).is_file(), picture
