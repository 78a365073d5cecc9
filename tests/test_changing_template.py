"""What a chat template writes by itself, such as today's date, is no difference between a run and
its continuation."""

import shutil
from argparse import Namespace
from datetime import datetime

import pytest
from transformers.utils import chat_template_utils

import rgb_circuit as rgb
from analyses import study
from analyses.command import main
from analyses.command.loading import model_and_trials
from rgb_circuit.keeping.manifest import manifest, read_manifest
from rgb_circuit.keeping.saved_run import as_recorded
from rgb_circuit.models.random import random_llava
from rgb_circuit.models.small import save, tokenizer
from rgb_circuit.stimuli.drawing import words_for
from rgb_circuit.stimuli.tasks.rgb import ODD_QUESTION

DATED = (
    "{{ strftime_now('%A') }} USER: {% for part in messages[0]['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %} "
    "ASSISTANT:"
)
DAYS = {"Monday": datetime(2026, 11, 30), "Tuesday": datetime(2026, 12, 1)}


@pytest.fixture
def on(monkeypatch):
    """Makes it a day of the week, for chat templates."""

    def go(day):
        class Clock(datetime):
            @classmethod
            def now(cls, tz=None):
                return DAYS[day]

        monkeypatch.setattr(chat_template_utils, "datetime", Clock)

    return go


@pytest.fixture(scope="module")
def dated(tmp_path_factory):
    """Folder of a small random LLaVA whose template says which day it is."""
    module, processor = random_llava(
        layers=2, heads=2, kv_heads=2, vocabulary=tokenizer(tuple(DAYS))
    )
    processor.chat_template = DATED
    return save(module, processor, tmp_path_factory.mktemp("dated"))


def days(folder):
    """Which day the trials of a folder were asked on, as its manifest has it."""
    return {trial["prompt"].split()[0] for trial in read_manifest(folder)["trials"]}


def run(dated, out, *more):
    command = ["run", "--model", str(dated), "--trials", "4", "--heads", "0.1,1.0", "--anyway"]
    return main([*command, "--out", str(out), *more])


def parts(folder):
    """File → when it was written."""
    return {
        path.relative_to(folder): path.stat().st_mtime_ns
        for path in folder.glob("parts/*/*.parquet")
    }


@pytest.fixture
def small_figures(monkeypatch):
    """Nothing is drawn."""
    monkeypatch.setattr(study, "write_figure", lambda figure, folder, name: folder / f"{name}.png")
    monkeypatch.setattr(study._report, "write", lambda folder: folder / "report.html")


def test_a_folder_goes_on_with_the_prompts_that_it_recorded(dated, tmp_path, on, small_figures):
    on("Monday")
    model = rgb.load(dated)
    trials = rgb.rgb_trials(model, 4)
    assert run(dated, tmp_path, "--shard", "1/2") == 0
    begun = parts(tmp_path)
    on("Tuesday")
    assert rgb.load(dated).template.startswith("Tuesday")
    assert run(dated, tmp_path, "--shard", "2/2") == 0
    assert main(["report", str(tmp_path)]) == 0
    assert begun.items() <= parts(tmp_path).items() and days(tmp_path) == {"Monday"}
    found = rgb.read_run(tmp_path)
    assert [trial.prompt for trial in found.trials] == [trial.prompt for trial in trials]
    asked = rgb.patch_heads(model, trials, heads=[(0, 1), (1, 0)], progress=False)
    frame = found.frames["patch_heads"]
    assert len(frame) == len(asked)
    assert list(frame["effect"]) == pytest.approx(list(asked["effect"]), abs=1e-5)
    # Finished, it is not measured again; what else is asked in its folder is asked as it was.
    done = parts(tmp_path)
    assert run(dated, tmp_path) == 0 and parts(tmp_path) == done
    model, again = model_and_trials(Namespace(folder=tmp_path))
    assert model.template.startswith("Monday") and [one.content for one in again] == [
        one.content for one in trials
    ]


def test_shards_of_two_days_come_together_without_a_forward(
    dated, tmp_path, on, small_figures, capsys, monkeypatch
):
    for day, shard in (("Monday", "1/2"), ("Tuesday", "2/2")):
        on(day)
        assert run(dated, tmp_path / day, "--shard", shard) == 0
        assert days(tmp_path / day) == {day}
    capsys.readouterr()
    loaded, load = [], study.load
    monkeypatch.setattr(
        study, "load", lambda name, **options: loaded.append(name) or load(name, **options)
    )
    out = tmp_path / "both"
    assert (
        main(["report", str(tmp_path / "Monday"), str(tmp_path / "Tuesday"), "--out", str(out)])
        == 0
    )
    printed = capsys.readouterr().out
    assert "trials are not measured" not in printed and "is not constant" in printed
    of_both = {path.parent.name for path in parts(tmp_path / "Monday")}
    for day, own in (("Monday", slice(0, 4, 2)), ("Tuesday", slice(1, 4, 2))):
        on(day)
        model = load(dated)
        trials = rgb.rgb_trials(model, 4)[own]
        asked = rgb.patch_heads(model, trials, heads=[(0, 1), (1, 0)], progress=False)
        frame = rgb.read_run(out).frames["patch_heads"]
        mine = frame[frame["trial"].isin([trial.name for trial in trials])]
        assert list(mine["effect"]) == pytest.approx(list(asked["effect"]), abs=1e-5)
    (also,) = read_manifest(out)["also_asked"]
    assert also.startswith("Tuesday") and days(out) == {"Monday"}
    assert of_both <= {path.parent.name for path in parts(out)}


def test_answers_are_read_in_the_form_and_the_game_drawn_with_the_words_that_were_recorded(
    dated, on
):
    on("Monday")
    model = rgb.load(dated)
    asked, recorded = model.prompt(ODD_QUESTION), manifest(model, rgb.rgb_trials(model, 1), {})
    # Both can be written by this tokenizer.
    (other,) = {"as given", "space, as given"} - {recorded["answer_form"]}
    on("Tuesday")
    later = as_recorded(
        rgb.load(dated), {**recorded, "answer_form": other, "words": ["red", "blue"]}
    )
    assert later.prompt(ODD_QUESTION) == asked and later.forms[asked][0] == other
    assert sorted(later.forms[asked]) == sorted(model.forms[asked])
    assert manifest(later, [], {})["answer_form"] == other and words_for(
        later, rgb.tasks()["rgb"]
    ) == (
        "red",
        "blue",
    )


def test_another_chat_template_is_refused_by_name(dated, tmp_path, on, small_figures, capsys):
    on("Monday")
    assert run(dated, tmp_path / "run", "--shard", "1/2") == 0
    other = tmp_path / "other"
    shutil.copytree(dated, other)
    (other / "chat_template.jinja").write_text(DATED.replace(" USER: ", " ASSISTANT: "))
    recorded = tmp_path / "run" / "manifest.json"
    recorded.write_text(recorded.read_text().replace(str(dated), str(other)))
    assert run(other, tmp_path / "run", "--shard", "2/2") == 2
    said = capsys.readouterr().err
    assert "differs in chat_template; repeat" in said
