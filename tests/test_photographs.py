"""Data sets of the field go from their file to a page by the lines that docs/photographs.md has."""

import json
import re
import shlex
from pathlib import Path

import pytest
import runs
import tables
import vocabularies

import rgb_circuit as rgb
from analyses.command import main
from rgb_circuit.models.random import random_llava
from rgb_circuit.models.small import save

PAGE = (Path(__file__).parents[1] / "docs" / "photographs.md").read_text()
BLOCK = re.compile(r"^```(toml|bash|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)
MODEL = "llava-hf/llava-1.5-7b-hf"

# The TOML file of each data set → (makes the stand-in, the folder it lies in).
SETS = {
    "counterfact": (tables.visual_counterfact, "Visual-Counterfact"),
    "vismin": (tables.vismin, "vismin-bench"),
    "counting": (tables.technion, "technion/counting"),
    "whatsup": (tables.whats_up, "whatsup"),
    "pope": (tables.pope, "single"),
    "gqa": (tables.gqa, "single"),
    "vsr": (tables.vsr, "single"),
}


def steps():
    """Name of a TOML file → the blocks of the page from there to the command, with Python in
    front."""
    found, waiting = {}, []
    for kind, text in BLOCK.findall(PAGE):
        waiting.append((kind, text))
        if kind == "bash":
            name = re.search(
                r"# (\w+)\.toml", next(text for kind, text in waiting if kind == "toml")
            ).group(1)
            found[name], waiting = waiting, []
    return found


STEPS = steps()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of a small random LLaVA with a vocabulary like LLaVA-1.5's."""
    made = random_llava(vocabulary=vocabularies.llama_like(), layers=2, heads=2, kv_heads=2)
    return str(save(*made, tmp_path_factory.mktemp("model")))


def test_every_data_set_has_its_lines_and_they_are_few():
    assert set(STEPS) == set(SETS)
    for name, blocks in STEPS.items():
        assert sum(text.count("\n") for _, text in blocks) <= 18, name


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SETS)
def test_its_lines_lead_from_the_file_to_the_page(name, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name != "counterfact":
        # All heads and the whole page once; what differs between the sets comes before them.
        runs.sections(monkeypatch)
    made, folder = SETS[name]
    made(tmp_path / folder)
    for kind, text in STEPS[name]:
        if kind == "toml":
            (tmp_path / f"{name}.toml").write_text(text)
        elif kind == "python":
            exec(text, {})
        else:
            command = [model if word == MODEL else word for word in shlex.split(text)[1:]]
            assert (
                main([*command, "--quiet", *([] if name == "counterfact" else ["--heads", "0.0"])])
                == 0
            )
    run = rgb.read_run(f"{name}-run")
    assert (run.folder / "report.html").is_file()
    rows = run.frames["rows_used"]
    assert len(rows) == 8 and rows["used"].all()
    for trial in run.trials:
        assert len(set(trial.answers.values())) == 2 and set(trial.expected) == set(trial.images)
        # Each set names its trials, and none is asked in another's conversation or with braces
        # left.
        assert trial.prompt.startswith("USER: <image>\n") and not re.search(r"[{}|]", trial.prompt)


def test_the_python_of_the_page_runs():
    (code,) = (
        text for kind, text in BLOCK.findall(PAGE) if kind == "python" and "trials_from" in text
    )
    names = {}
    exec(code, names)
    assert len(names["trials"]) == 8 and names["played"]["correct"].all()
    assert names["swept"]["effect"].abs().max() > 1


def test_numbers_of_a_data_set_are_its_tables(model, tmp_path, monkeypatch):
    """What a trial shows and asks is what its row holds, not its neighbour's."""
    monkeypatch.chdir(tmp_path)
    table = tables.whats_up(tmp_path / "whatsup")
    wanted = {row["image_path"]: row["caption_options"] for row in json.loads(table.read_text())}
    exec(next(text for kind, text in STEPS["whatsup"] if kind == "python"), {})
    (tmp_path / "whatsup.toml").write_text(
        next(text for kind, text in STEPS["whatsup"] if kind == "toml")
    )
    from rgb_circuit.tables.columns_file import read_columns, sheet_of

    trials = sheet_of("whatsup/rows.parquet", read_columns("whatsup.toml")).trials(rgb.load(model))
    for trial in trials:
        own, other = (
            next(
                caption
                for caption in wanted[path]
                if f"\n{trial.answers[role]}. {caption}\n" in trial.prompt
            )
            for role, path in (("right", trial.name), ("other", trial.name))
        )
        assert own == wanted[trial.name][0]
        shown = Path(trial.sources["other"].path).relative_to(tmp_path / "whatsup")
        assert other == wanted[str(shown)][0]
