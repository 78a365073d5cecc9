"""Pictures of a trials file stay in their files: opened when they are looked at, and let go of
after that."""

import csv
import os
import shutil
import weakref
from dataclasses import replace

import numpy as np
import psutil
import pytest
import runs
from PIL import Image

import rgb_circuit as rgb
from analyses.command import main
from rgb_circuit.pictures import PictureFile, Pictures, identical, picture_hash
from rgb_circuit.trial import described

QUESTION = "Which color is the odd color out? Respond in one word"


def game_in_files(folder, trials):
    """A CSV with the game's pictures and words."""
    conditions = list(trials[0].images)
    with open(folder / "game.csv", "w", newline="") as file:
        table = csv.writer(file)
        columns = ["clean" if name == "clean" else f"image:{name}" for name in conditions]
        roles = list(trials[0].answers)
        expected = [f"expected:{name}" for name in conditions]
        answers = [f"answer:{role}" for role in roles]
        table.writerow(
            ["name", "question", *columns, *answers, *expected, "tile_row", "tile_column", "grid"]
        )
        for number, trial in enumerate(trials):
            for name in conditions:
                trial.images[name].save(folder / f"{number}-{name}.png")
            files = [f"{number}-{name}.png" for name in conditions]
            right = [trial.expected[name] for name in conditions]
            place = [*trial.tile, trial.grid]
            table.writerow([trial.name, QUESTION, *files, *trial.answers.values(), *right, *place])
    return folder / "game.csv"


@pytest.fixture(scope="module")
def drawn():
    return rgb.rgb_trials(rgb.load("toy"), 3, seed=1)


@pytest.fixture
def read(tmp_path, drawn):
    """The same trials, their pictures in files."""
    return rgb.read_trials(game_in_files(tmp_path, drawn))


def test_a_picture_in_a_file_is_the_picture_in_memory(read, drawn):
    assert read == drawn
    for in_file, in_memory in zip(read, drawn, strict=True):
        assert in_file.content == in_memory.content and described(in_file) == described(in_memory)
        assert in_file.size == in_memory.size and repr(in_file) == repr(in_memory)
        assert in_file._repr_html_() == in_memory._repr_html_()
        assert all(isinstance(source, PictureFile) for source in in_file.sources.values())
        for condition, image in in_file.images.items():
            assert np.array_equal(image, in_memory.images[condition])
            assert picture_hash(in_file.sources[condition]) == picture_hash(image)


def test_what_is_measured_on_it_is_the_same_to_the_last_bit(read, drawn, toy):
    model = toy
    for measured in (
        rgb.play,
        lambda model, trials: rgb.patch_heads(model, trials, progress=False),
    ):
        assert measured(model, read).equals(measured(model, drawn))


def test_only_looking_at_a_picture_opens_it(read, monkeypatch):
    opened = []
    plain = PictureFile.open
    monkeypatch.setattr(PictureFile, "open", lambda file: opened.append(file.path) or plain(file))
    first = read[0]
    made = replace(
        first,
        images={**first.sources, "again": first.sources["moved"]},
        prompts={"again": "<image>?"},
    )
    assert made.size == first.size and made.content != first.content and "erased" in made.images
    assert repr(made) and repr(made.images) and list(made.images) == [*first.images, "again"]
    assert identical({name: picture_hash(source) for name, source in made.sources.items()}) == [
        ("moved", "again")
    ]
    assert opened == []
    made.images["again"]
    assert opened == [first.sources["moved"].path]


def test_a_picture_is_let_go_of(read):
    image = read[0].images["clean"]
    gone = weakref.ref(image)
    del image
    assert gone() is None


def test_pictures_are_equal_where_their_pixels_are(read, drawn):
    pictures = read[0].images
    assert pictures == drawn[0].images and pictures != drawn[1].images
    assert drawn[0].images == dict(drawn[0].images) != drawn[1].images
    assert pictures != {"clean": drawn[0].images["clean"]} and pictures != 3 and Pictures({}) == {}


def test_a_file_that_is_gone_or_changed_is_named(read, drawn, toy):
    path = read[0].sources["clean"].path
    kept, about = path.read_bytes(), os.stat(path)
    drawn[1].images["clean"].save(path)
    with pytest.raises(rgb.InputError, match=f"{path.name} has changed since the trials were read"):
        rgb.play(toy, read[0], progress=False)
    path.write_bytes(b"nothing")
    with pytest.raises(rgb.InputError, match=f"{path.name}: cannot read it as a picture"):
        read[0].images["clean"]
    path.unlink()
    with pytest.raises(
        rgb.InputError, match=f"{path.name} is gone since the trials were read; put it back"
    ):
        rgb.play(toy, read[0], progress=False)
    # The same picture with another time is the same picture.
    path.write_bytes(kept)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns + 10**9))
    assert np.array_equal(read[0].images["clean"], drawn[0].images["clean"])


def test_files_are_found_again_from_another_folder(tmp_path, drawn, monkeypatch):
    game_in_files(tmp_path, drawn)
    monkeypatch.chdir(tmp_path)
    read = rgb.read_trials("game.csv")
    monkeypatch.chdir("/")
    assert np.array_equal(read[0].images["clean"], drawn[0].images["clean"])


def test_each_file_is_read_once(tmp_path, drawn, monkeypatch):
    path = game_in_files(tmp_path, [drawn[0]])
    header, row = path.read_text().splitlines()
    path.write_text(
        "\n".join([header, *(row.replace("000 ", f"{number} ") for number in range(9))])
    )
    looked = []
    plain = PictureFile.read.__func__
    monkeypatch.setattr(
        PictureFile, "read", classmethod(lambda cls, path: looked.append(path) or plain(cls, path))
    )
    assert len(rgb.read_trials(path)) == 9 and len(looked) == len(set(looked)) == 5
    looked.clear()
    # Not again in the model's own conversation.
    assert main(["play", "--trials-file", str(path)]) == 0
    assert len(looked) == 5


def test_photographs_do_not_fill_the_memory(tmp_path):
    """Forty rows of two photographs of 5.5 MiB, as they are in memory: 440 MiB. Ten rows come
    first, for what is imported and kept once."""
    rng = np.random.default_rng(0)
    for number in range(2):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3)).astype(np.uint8))
        coarse.resize((1600, 1200)).save(tmp_path / f"{number}.jpg")
    lines = ["name,question,clean,image:changed,answer:right,answer:other"]
    for row in range(50):
        for number in range(2):
            os.link(tmp_path / f"{number}.jpg", tmp_path / f"{row}-{number}.jpg")
        lines.append(f"{row},{QUESTION},{row}-0.jpg,{row}-1.jpg,red,blue")
    few, many = tmp_path / "few.csv", tmp_path / "many.csv"
    few.write_text("\n".join(lines[:11])), many.write_text("\n".join(lines[:1] + lines[11:]))
    first = rgb.read_trials(few)
    before = psutil.Process().memory_info().rss
    trials = rgb.read_trials(many)
    assert len(first) + len(trials) == 50
    assert psutil.Process().memory_info().rss - before < 100 * 2**20


def test_a_run_whose_pictures_vanish_ends_in_a_sentence(tmp_path, drawn, capsys, monkeypatch):
    runs.undrawn(monkeypatch)
    path, out = game_in_files(tmp_path, drawn), tmp_path / "out"
    assert main(["run", "--trials-file", str(path), "--out", str(out)]) == 0
    capsys.readouterr()
    shutil.rmtree(out / "parts")
    (tmp_path / "1-erased.png").unlink()
    assert main(["report", str(out)]) == 2
    said = capsys.readouterr().err
    assert "row 3, column 'image:erased': no file" in said and said.count("\n") == 1
