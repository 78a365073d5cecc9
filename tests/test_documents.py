"""What the documents say is so: their Python runs, their links lead somewhere, what they quote
exists."""

import argparse
import ast
import io
import re
from contextlib import redirect_stdout
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import families
import nbformat
import pandas as pd
import pytest
import runs

import rgb_circuit as rgb
from analyses.command import command_parser, main
from rgb_circuit.stimuli.tasks import find

ROOT = Path(__file__).parents[1]
_found = spec_from_file_location("execute", ROOT / "examples" / "execute.py")
execute = module_from_spec(_found)
_found.loader.exec_module(execute)
PAGES = sorted((ROOT / "docs").rglob("*.md"))
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
README, LENS = ROOT / "README.md", ROOT / "docs" / "attribute_and_lens.md"
FIRST_STEPS, FAMILIES = ROOT / "docs" / "first_steps.md", ROOT / "docs" / "families.md"
REPORT, PHOTOGRAPHS = ROOT / "docs" / "report.md", ROOT / "docs" / "photographs.md"


def python_of(page):
    """The Python blocks of a page, but those that ask for what is not at hand."""
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [block for block in blocks if 'load("llava-hf/' not in block]


def rows_of(page):
    """The cells of each row of its tables, and not those of its headings."""
    rows = [line for line in page.read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 140


# Those that are left out have tests of their own.
@pytest.mark.parametrize(
    "page",
    [
        page
        for page in (README, *PAGES)
        if python_of(page) and page not in (FAMILIES, LENS, REPORT, PHOTOGRAPHS)
    ],
    ids=lambda page: page.stem,
)
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in python_of(page):
        exec(compile(block, str(page), "exec"), names)


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """Name of a model → the folder of its default run, without figures and what they would show
    beside the roles, and what that printed."""

    @cache
    def run(model):
        folder, said = tmp_path_factory.mktemp(model), io.StringIO()
        with redirect_stdout(said), pytest.MonkeyPatch.context() as patched:
            runs.undrawn(patched)
            runs.without_closer_look(patched)
            assert main(["run", "--model", model, "--out", str(folder)]) == 0
        return folder, said.getvalue()

    return run


@pytest.mark.parametrize("model", ["toy", "planted"])
def test_what_a_run_prints_is_what_first_steps_show(model, run_of):
    blocks = re.findall(r"^```text\n(.*?)^```", FIRST_STEPS.read_text(), re.DOTALL | re.MULTILINE)
    shown = dict(zip(["toy", "planted"], blocks, strict=True))[model]
    lines = [line for line in shown.splitlines() if line.strip() not in ("", "...")]
    assert len(lines) >= 4
    printed = {line.rstrip() for line in run_of(model)[1].splitlines()}
    assert [line for line in lines if line.rstrip() not in printed] == []


def test_the_roles_and_effects_of_the_readme_are_those_that_are_found(run_of):
    folder, _ = run_of("planted")
    role_of = pd.read_parquet(folder / "roles.parquet").set_index(["layer", "head"])["role"]
    evidence = pd.read_parquet(folder / "evidence.parquet")
    # P3a is about the background on a plain canvas.
    raised = evidence[evidence["prediction"] == "P3a"].set_index(["layer", "head"])[
        "restored_fraction"
    ]
    told = [row for row in rows_of(README) if re.fullmatch(r"\d+\.\d+", row[0])]
    assert len(told) == 3
    for name, _, size, role in told:
        head = tuple(map(int, name.split(".")))
        assert role.startswith(role_of[head]), name
        assert f"{100 * raised[head]:+.0f} %" == size, name
    said = re.search(r"\*color extractors\*, are found too: (.*?)\.\s", README.read_text()).group(1)
    found = [
        f"{layer}.{head}" for (layer, head), role in role_of.items() if role == "color extractor"
    ]
    assert re.findall(r"\d+\.\d+", said) == found


def test_runs_are_read_and_compared_as_the_page_of_the_report_says(run_of, tmp_path, monkeypatch):
    runs.undrawn(monkeypatch)
    runs.without_closer_look(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").symlink_to(run_of("planted")[0])
    said = re.search(r"`rgb-circuit (run --seed 1 --out again)`", REPORT.read_text()).group(1)
    assert main([*said.split(), "--model", "planted", "--trials", "12", "--quiet"]) == 0
    names = {}
    for block in python_of(REPORT):
        exec(compile(block, str(REPORT), "exec"), names)
    found = {
        f"{layer}.{head}" for layer, head in names["run"].findings[["layer", "head"]].to_numpy()
    }
    compared = rgb.compare_runs("results", "again").query("compared == 'role'")
    assert found == {name for names in compared["both"] for name in names.split()}


@pytest.mark.parametrize("name", ["toy", "gemma3", "llava_next"])
def test_five_lines_check_a_model(name, tmp_path):
    (code,) = python_of(FAMILIES)
    assert '"toy"' in code
    folder = name if name == "toy" else str(families.saved(name, tmp_path))
    found = {}
    exec(code.replace('"toy"', repr(folder)), found)
    assert found["difference"] < 1e-5 < found["swept"]["effect"].abs().max()


def test_every_family_that_is_tested_is_in_the_table():
    named = FAMILIES.read_text()
    for family in families.FAMILIES:
        model_type = families.built(family)[0].config.model_type if family != "smolvlm" else family
        assert f"`{model_type}`" in named, family


def test_the_examples_of_attribution_and_lens_run_and_draw_their_pictures(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    text, names = LENS.read_text(), {}
    for code in python_of(LENS):
        exec(code, names)
    drawn = {file.name for file in tmp_path.iterdir()}
    assert drawn == {"attribute.png", "lens_layers.png", "lens_picture.png"}
    assert all(
        (ROOT / "docs" / "pictures" / name).is_file() and f"pictures/{name}" in text
        for name in drawn
    )
    printed = capsys.readouterr().out
    assert "10.0 20.0\n10.0 0.0\n" in printed.replace("-0.0", "0.0")
    assert "{(3, 0): 10.0, (3, 2): 6.0, (4, 1): 5.0, (4, 2): -2.0, (4, 3): 5.0}" in printed


# Links between the pages themselves are checked by `mkdocs build --strict`, which sees nothing
# outside.
@pytest.mark.parametrize(
    "file", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/RESULTS.md"]
)
def test_every_link_to_a_file_leads_somewhere(file):
    for link in re.findall(r"\]\(([^)\s]+)\)", (ROOT / file).read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        page = (ROOT / file).parent / path if path else ROOT / file
        assert page.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
            assert anchor in [
                re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in headings
            ], link


def test_every_picture_is_shown_somewhere():
    shown = "".join(page.read_text() for page in (README, *PAGES))
    for picture in (ROOT / "docs" / "pictures").glob("*.png"):
        assert f"pictures/{picture.name})" in shown, picture.name


def test_every_public_name_is_in_the_reference():
    reference = "".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    entries = re.findall(r"^::: rgb_circuit\.(\w+)$", reference, re.MULTILINE)
    assert set(rgb.__all__) <= set(entries)


def test_every_command_and_option_is_on_its_page():
    page = (ROOT / "docs" / "command.md").read_text()
    (commands,) = (
        action
        for action in command_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    for name, parser in commands.choices.items():
        assert f"`{name}" in page, name
        for action in parser._actions:
            for option in action.option_strings:
                if option.startswith("--"):
                    assert re.search(rf"[` ]{option}\b", page), f"{name} {option}"


def test_every_prediction_of_a_role_is_explained_with_its_claims():
    explained = {
        row[0]: row[2] for row in rows_of(ROOT / "docs" / "predictions.md") if len(row) == 4
    }
    for prediction in find("rgb").predictions:
        assert explained[prediction.name] == prediction.expected


def test_every_message_that_is_explained_is_one_of_the_code():
    sentences = [
        "".join(
            part.value if isinstance(part, ast.Constant) else "\0"
            for part in (node.values if isinstance(node, ast.JoinedStr) else [node])
        )
        for folder in ("rgb_circuit", "analyses")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.JoinedStr)
        or (isinstance(node, ast.Constant) and isinstance(node.value, str))
    ]
    quoted = [
        row[0][1:-1] for row in rows_of(ROOT / "docs" / "errors.md") if row[0].startswith("`")
    ]
    assert len(quoted) > 20
    for message in quoted:
        parts = [re.escape(part.strip()) for part in message.split("…") if part.strip()]
        pattern = re.compile(r".*".join(parts), re.DOTALL)
        assert any(pattern.search(sentence) for sentence in sentences), message


@pytest.fixture(scope="module")
def executed():
    """Name of a notebook → it with what it says now."""
    return dict(zip([path.stem for path in NOTEBOOKS], execute.executed(*NOTEBOOKS), strict=True))


@pytest.mark.parametrize(
    "name, shown",
    [
        ("first_steps", "POI localization"),
        ("your_own_question", "3.0 raises the canvas's word by 6.6 logits"),
        ("the_riddle", "holds the canvas's colour down"),
        ("one_localizer", "no head acts in more than 2 of 4 tasks"),
    ],
)
def test_a_notebook_is_kept_with_what_it_says_now_and_with_what_its_text_says(
    name, shown, executed
):
    path = ROOT / "examples" / f"{name}.ipynb"
    stored, now = nbformat.read(path, as_version=4), executed[name]
    every = [output for cell in now.cells for output in cell.get("outputs", [])]
    # That ipywidgets should be installed.
    assert not any("IProgress" in output.get("text", "") for output in every)
    said = [execute.outputs(notebook) for notebook in (stored, execute.tidied(now))]
    assert list(map(len, said[0])) == list(map(len, said[1]))
    for cells in zip(*said):
        for kept, fresh in zip(*cells):
            assert execute.same(kept, fresh), f"{kept}\n\nis now\n\n{fresh}"
    assert shown in "".join(text for cell in said[0] for text in cell)
    outputs = [output for cell in stored.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert path.stat().st_size < 400_000


def test_numbers_of_a_kept_notebook_may_differ_in_their_last_digits_alone():
    assert execute.same("effect 1.2000 −3", "effect  1.2001 −3")
    assert not execute.same("effect 1.20", "effect 1.22")
    assert not execute.same("role a", "role b")
    assert not execute.same("1 2", "1")


def test_all_notebooks_are_held_against_what_they_say_now():
    assert {path.stem for path in NOTEBOOKS} == {
        "first_steps",
        "one_localizer",
        "the_riddle",
        "your_own_question",
    }
