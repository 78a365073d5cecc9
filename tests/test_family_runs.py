"""The command goes through to its report on every kind of model."""

from __future__ import annotations

import csv
import json

import families
import numpy as np
import pandas as pd
import pytest
import runs
from families import FAMILIES, at_hand
from PIL import Image

import rgb_circuit as rgb
from analyses import study
from analyses.command import main
from rgb_circuit.calls.attention import attention_from_end, over_picture
from rgb_circuit.keeping.manifest import read_manifest
from rgb_circuit.models.random import random_llava
from rgb_circuit.models.small import save
from rgb_circuit.prompts import prompt_ids
from rgb_circuit.stimuli.tasks import find
from rgb_circuit.stimuli.tasks.rgb import ODD_QUESTION, published_trial

# A kind each: pictures shown twice; of any size; image tokens that see each other; all tokens that
# do, with soft caps; layers elsewhere. The others were run by hand.
KINDS = at_hand("llava_next", "qwen3_vl", "gemma3", "paligemma2", "smolvlm")
# With six trials roles are tested too, at two places of a tile and under masks of two kinds.
TRIALS = {name: 6 if name in ("llava_next", "gemma3") else 2 for name in KINDS}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Name of a family → arguments that name its folder."""
    made = {}

    def arguments(name):
        if name not in made:
            made[name] = families.saved(name, tmp_path_factory.mktemp(name))
        tiles = FAMILIES[name].tiles
        return ["--model", str(made[name]), *(["--tiles", str(tiles)] if tiles else [])]

    return arguments


@pytest.mark.parametrize("name", KINDS)
def test_a_run_goes_through_to_its_report_and_is_finished_again_without_the_model(
    name, saved, tmp_path, capsys, monkeypatch
):
    assert (
        main(
            ["run", *saved(name), "--trials", str(TRIALS[name]), "--anyway", "--out", str(tmp_path)]
        )
        == 0
    )
    family, manifest = FAMILIES[name], read_manifest(tmp_path)
    assert manifest["grid"] == [family.grid] * 2 and manifest["ahead"] == family.attends
    assert manifest["options"]["tiles"] == family.tiles
    frame = pd.read_parquet(tmp_path / "patch_heads.parquet")
    assert len(frame) == TRIALS[name] * 2 * families.LAYERS * families.HEADS * 5
    assert frame["effect"].abs().max() > 1e-4
    assert (tmp_path / "roles.parquet").exists() == (TRIALS[name] > 2)
    looks = pd.read_parquet(tmp_path / "attention.parquet")
    assert {looks["row"].max(), looks["column"].max()} == {family.grid - 1}
    # What its roles rest on: nothing that these models can play, and said so.
    report = (tmp_path / "report.html").read_text()
    assert "does not play the game" in report and ("--tiles 6" in report) == family.any_size
    (tmp_path / "report.html").unlink()
    monkeypatch.setattr(study, "loaded", None)
    assert main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").read_text() == report


def test_a_task_that_is_drawn_goes_through_to_its_page_on_another_family(tmp_path, monkeypatch):
    task = find("counting")
    words = f"{families.ROLES} {task.question} {' '.join(task.vocabulary)}"
    monkeypatch.setattr(families, "ROLES", words)
    model = str(families.saved("qwen2_vl", tmp_path / "model"))
    command = ["run", "--model", model, "--tiles", "6", "--task", "counting", "--trials", "2"]
    assert main([*command, "--anyway", "--quiet", "--out", str(tmp_path / "out")]) == 0
    frame = pd.read_parquet(tmp_path / "out" / "patch_heads.parquet")
    heads = families.LAYERS * families.HEADS
    # Every answer, number and one more, in the one picture with another answer.
    assert len(frame) == 2 * heads * 2 and set(frame["target"]) == {"one_more"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert task.asks in page and "does not play the game" in page


@pytest.mark.parametrize("name", ["llava_next", "qwen3_vl", "gemma3"])
def test_attention_is_drawn_on_every_grid(name, saved, tmp_path):
    assert (
        main(["attention", *saved(name), "--trials", "1", "--head", "1.2", "--out", str(tmp_path)])
        == 0
    )
    assert (tmp_path / "attention_1.2.png").stat().st_size > 10_000


def own(folder, size):
    """A CSV of two trials with two pictures of (width, height) each."""
    folder.mkdir()
    noise = np.random.default_rng(0)
    question = "Which color is the background? Respond in one word"
    rows = []
    for trial in ("a", "b"):
        files = [f"{trial}-{condition}.png" for condition in ("clean", "other")]
        for file in files:
            Image.fromarray(noise.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(
                folder / file
            )
        rows.append([trial, question, *files, "red", "blue"])
    with open(folder / "trials.csv", "w", newline="") as file:
        header = ["name", "question", "clean", "image:other", "answer:right", "answer:wrong"]
        csv.writer(file).writerows([header, *rows])
    return ["--trials-file", str(folder)]


@pytest.mark.parametrize("name", ["llava_next", "qwen3_vl", "internvl"])
def test_own_pictures_of_any_size_are_patched_and_drawn(name, saved, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    # Those that lay tokens over pictures.
    runs.sections(monkeypatch, "heads", "pictures", "items", "attention")
    assert main(["run", *saved(name), *own(tmp_path / "own", (40, 30)), "--out", str(out)]) == 0
    sentence = "so its tokens cannot be laid over it"
    assert sentence not in capsys.readouterr().out
    report = (out / "report.html").read_text()
    assert "with the pictures as they were given" not in report and sentence not in report
    assert (out / "attention.parquet").exists()
    shown = pd.read_parquet(out / "stimuli.parquet")
    assert shown["unseen"].isna().all()
    # In the model's own conversation, not in LLaVA-1.5's.
    template = json.loads((out / "manifest.json").read_text())["template"]
    assert not template.startswith("USER:")
    assert set(shown["prompt"]) == {
        template.replace("{question}", "Which color is the background? Respond in one word")
    }


def test_a_table_of_the_games_pictures_says_how_many_tiles_there_are(saved, tmp_path, capsys):
    _, folder, *_ = saved("qwen3_vl")
    trial = rgb.rgb_trial(grid=6, tile_px=8, tile=(1, 2))
    header = "name,question,clean,image:other,answer:right,tile_row,tile_column,grid"
    row = f"first,{ODD_QUESTION},clean.png,recolored.png,red,1,2,6"
    (tmp_path / "trials.csv").write_text(f"{header}\n{row}\n")
    for name in ("clean", "recolored"):
        trial.images[name].save(tmp_path / f"{name}.png")
    assert main(["play", "--model", folder, "--trials-file", str(tmp_path)]) == 0
    assert "tiles are drawn" not in capsys.readouterr().err


def test_a_picture_that_a_processor_refuses_is_refused_in_a_sentence(saved, tmp_path, capsys):
    assert (
        main(
            [
                "run",
                *saved("qwen3_vl"),
                *own(tmp_path / "own", (600, 2)),
                "--out",
                str(tmp_path / "out"),
            ]
        )
        == 2
    )
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert (
        "cannot show these pictures (600 × 2 px" in error and "give pictures of 48 × 48 px" in error
    )


def test_tokens_are_laid_over_in_the_shape_of_the_picture(saved):
    _, folder, *_ = saved("qwen3_vl")
    model = rgb.load(folder, tiles=6)
    # 4 × 9 tokens, as many as 6 × 6.
    wide = Image.new("RGB", (9 * 8, 4 * 8))
    trial = rgb.Trial("wide", model.prompt(ODD_QUESTION), {"clean": wide}, {"right": "red"})
    ((_, _, pattern),) = attention_from_end(model, [trial], progress=False)
    image = prompt_ids(model, [trial])["wide"] == model.config.image_token_id
    over = over_picture(model, trial, pattern)
    assert over.shape[-2:] == (4, 9) and np.array_equal(
        over.reshape(*over.shape[:2], -1), pattern[..., image]
    )


def test_the_published_stimulus_is_drawn_for_any_model_with_its_grid(tmp_path, monkeypatch):
    runs.sections(monkeypatch)
    runs.without_closer_look(monkeypatch)
    module, processor = random_llava(layers=2, grid=24)
    processor.chat_template = families.HUMAN_CHAT
    folder = str(save(module, processor, tmp_path / "model"))
    command = [
        "run",
        "--model",
        folder,
        "--trials",
        "published",
        "--anyway",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(command) == 0
    manifest = read_manifest(tmp_path / "out")
    (trial,) = manifest["trials"]
    assert (
        manifest["grid"] == [24, 24] and trial["tile"] == [10, 9] and manifest["picture_px"] != 336
    )
    assert trial["prompt"].startswith("###Human: <image>")
    # The published colours, not the palette's.
    model = rgb.load(folder)
    drawn = published_trial(model.canvas).images["clean"]
    assert drawn.getpixel((0, 0)) == (0, 176, 240) and drawn.size == (
        model.picture_px,
        model.picture_px,
    )


@pytest.mark.parametrize("name", ["gemma3", "mistral3"])
def test_the_published_tile_does_not_exist_on_another_grid(name, saved, tmp_path, capsys):
    assert main(["run", *saved(name), "--trials", "published", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    places = f"{FAMILIES[name].grid} × {FAMILIES[name].grid} image tokens"
    assert (
        places in error
        and "(row 10, column 9) does not exist; draw trials for this model with --trials" in error
    )
