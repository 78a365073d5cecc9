"""The published experiment's own command, on a planted circuit that speaks LLaVA-1.5's kind of
vocabulary."""

import pandas as pd
import pytest
import runs
from vocabularies import llama_like

from analyses.command import main
from rgb_circuit.models.planted import planted
from rgb_circuit.models.small import save
from rgb_circuit.stimuli.tasks.rgb import PALETTE


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder of ``rgb-circuit run --trials published --positions all``, as README has it."""
    home = tmp_path_factory.mktemp("published")
    colors = {**PALETTE, "blue": (0, 176, 240), "green": (0, 176, 80)}
    model, processor, _ = planted(grid=24, tile_px=14, vocabulary=llama_like(), palette=colors)
    save(model, processor, home / "model")
    command = ["run", "--model", str(home / "model"), "--trials", "published", "--positions", "all"]
    with pytest.MonkeyPatch.context() as patched:
        runs.sections(patched, "play")
        runs.without_closer_look(patched)
        assert main([*command, "--out", str(home / "run")]) == 0
    return home / "run"


def test_it_answers_every_published_picture_right(run):
    played = pd.read_parquet(run / "play.parquet").set_index("condition")
    answers = {
        "clean": "Red",
        "recolored": "Green",
        "erased": "White",
        "swapped": "White",
        "moved": "Red",
    }
    assert played["answer"].to_dict() == answers and played["correct"].all()


def test_a_word_of_two_tokens_is_read_at_its_first_and_the_report_says_so(run):
    pieces = pd.read_parquet(run / "answers.parquet").set_index("answer")
    assert pieces["piece"].to_dict() == {
        "red": "▁Red", "green": "▁Green", "blue": "▁Blue", "yellow": "▁Y", "white": "▁White"
    }  # fmt: skip
    assert "yellow at “▁Y”" in (run / "report.html").read_text()


def test_the_planted_heads_are_the_strongest_of_the_published_panels(run):
    frame = pd.read_parquet(run / "patch_heads.parquet")

    def strongest(target, role):
        rows = frame[(frame["target"] == target) & (frame["role"] == role)]
        best = rows.loc[rows["effect"].nlargest(1).index[0]]
        return int(best["layer"]), int(best["head"]), round(float(best["effect"]), 1)

    assert strongest("recolored", "odd") == strongest("erased", "odd") == (3, 0, 10.0)
    assert strongest("erased", "background")[:2] == (2, 1)


def test_compare_says_that_these_are_other_heads(run, capsys):
    assert main(["compare", str(run)]) == 2
    assert "32" in capsys.readouterr().err
