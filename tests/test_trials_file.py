"""Trials from a file: anybody's pictures, checked before any forward."""

import unicodedata

import numpy as np
import pandas as pd
import pytest
import runs
from PIL import Image, ImageDraw

import rgb_circuit as rgb
from analyses.command import main
from rgb_circuit.calls.panels import PANELS, panels_for
from rgb_circuit.trials_file import read_trials

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
HEADER = [
    "name", "question", "clean", "image:swapped_colors",
    "answer:right", "answer:other", "expected:clean", "expected:swapped_colors",
]  # fmt: skip


def shapes(square, circle, size=(96, 96)):
    """A square on the left and a circle on the right, on black."""
    image = Image.new("RGB", size)
    draw = ImageDraw.Draw(image)
    draw.rectangle((8, 32, 40, 64), fill=COLORS[square])
    draw.ellipse((56, 32, 88, 64), fill=COLORS[circle])
    return image


@pytest.fixture
def rows(tmp_path):
    """Cells of a file about two shapes that swap colours, its pictures drawn beside it."""
    made = [list(HEADER)]
    for square, circle in (("red", "green"), ("green", "blue"), ("blue", "red")):
        for one, two in ((square, circle), (circle, square)):
            shapes(one, two).save(tmp_path / f"{one}-{two}.png")
        made.append([
            f"{square} and {circle}", "Which color is the square?",
            f"{square}-{circle}.png", f"{circle}-{square}.png", square, circle, "right", "other",
        ])  # fmt: skip
    return made


def write(folder, rows, encoding="utf-8"):
    path = folder / "shapes.csv"
    path.write_text("\n".join(",".join(row) for row in rows) + "\n", encoding=encoding)
    return path


def test_a_folder_stands_for_its_only_file(tmp_path, rows):
    with pytest.raises(rgb.InputError, match="holds no CSV; put one"):
        read_trials(tmp_path)
    path = write(tmp_path, rows)
    assert read_trials(tmp_path) == read_trials(path)
    (tmp_path / "more.CSV").write_text("")
    with pytest.raises(rgb.InputError, match="holds more.CSV, shapes.csv; .* or name the file"):
        read_trials(tmp_path)


def write_game(folder, trials, without=()):
    """A file with the pictures and words of trials of the game."""
    conditions = [condition for condition in trials[0].images if condition not in without]
    table = []
    for number, trial in enumerate(trials):
        for condition in conditions:
            trial.images[condition].save(folder / f"{number}-{condition}.png")
        row = {
            "name": trial.name,
            "question": "Which color is the odd color out? Respond in one word",
        }
        column_of = {
            condition: "clean" if condition == "clean" else f"image:{condition}"
            for condition in conditions
        }
        row |= {column: f"{number}-{condition}.png" for condition, column in column_of.items()}
        row |= {f"answer:{role}": word for role, word in trial.answers.items()}
        row |= {f"expected:{condition}": trial.expected[condition] for condition in conditions}
        table.append(
            row | {"tile_row": trial.tile[0], "tile_column": trial.tile[1], "grid": trial.grid}
        )
    path = folder / "game.csv"
    pd.DataFrame(table).to_csv(path, index=False)
    return path


def test_a_row_becomes_a_trial(tmp_path, rows):
    trials = read_trials(write(tmp_path, rows))
    assert [trial.name for trial in trials] == ["red and green", "green and blue", "blue and red"]
    first = trials[0]
    assert first.prompt == "USER: <image>\nWhich color is the square?\nASSISTANT:"
    assert first.answers == {"right": "red", "other": "green"} and first.expected == {
        "clean": "right",
        "swapped_colors": "other",
    }
    assert first.tile is None and first.grid is None
    for condition, colors in (("clean", ("red", "green")), ("swapped_colors", ("green", "red"))):
        assert np.array_equal(first.images[condition], shapes(*colors))


def test_trials_of_the_game_survive_the_file(tmp_path, toy):
    drawn = rgb.rgb_trials(toy, 4, seed=2)
    for one, two in zip(drawn, read_trials(write_game(tmp_path, drawn)), strict=True):
        assert (one.name, one.prompt, one.tile, one.grid) == (
            two.name,
            two.prompt,
            two.tile,
            two.grid,
        )
        assert dict(one.answers) == dict(two.answers) and dict(one.expected) == dict(two.expected)
        assert list(one.images) == list(two.images)
        assert all(
            np.array_equal(one.images[condition], two.images[condition]) for condition in one.images
        )


def test_a_question_with_an_image_in_it_is_the_whole_prompt(tmp_path, rows):
    rows[1][1] = "<image> Which color?"
    assert read_trials(write(tmp_path, rows))[0].prompt == "<image> Which color?"


def test_spreadsheets_habits_do_no_harm(tmp_path, rows):
    """A byte order mark, blanks around cells, an empty row, a cell that is not scored, the clean
    picture named as the others are."""
    assert rows[0][2] == "clean"
    rows[0][2] = "image:clean"
    rows[2] = [f" {cell} " for cell in rows[2]]
    rows[3][-1] = ""
    rows.insert(2, [""] * len(HEADER))
    trials = read_trials(write(tmp_path, rows, encoding="utf-8-sig"))
    assert (
        len(trials) == 3
        and trials[1].answers["right"] == "green"
        and trials[2].expected == {"clean": "right"}
    )


def test_pictures_are_turned_upright_and_become_rgb(tmp_path, rows):
    for name, left in zip(rows[1][2:4], (0, 200)):
        turned = Image.new("L", (96, 48), 100)
        turned.paste(left, (0, 0, 10, 48))
        exif = turned.getexif()
        exif[0x0112] = 6
        turned.save(tmp_path / name, exif=exif)
    image = read_trials(write(tmp_path, rows[:2]))[0].images["clean"]
    assert image.size == (48, 96) and image.mode == "RGB"
    # The left edge comes out on top.
    assert image.getpixel((24, 4)) == (0, 0, 0) and image.getpixel((24, 90)) == (100, 100, 100)


def cell(row, column, value):
    def change(rows, folder):
        rows[row][HEADER.index(column)] = value

    return change


def column(name, value):
    def change(rows, folder):
        for number, row in enumerate(rows):
            row.append(value if number else name)

    return change


def without(name):
    def change(rows, folder):
        index = rows[0].index(name)
        for row in rows:
            del row[index]

    return change


def picture(name, save):
    return lambda rows, folder: save(folder / name)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:120])


@pytest.mark.parametrize(
    "change, parts",
    [
        (without("clean"), ["no column 'clean'"]),
        (without("question"), ["no column 'question'"]),
        (
            lambda rows, folder: [
                without("answer:right")(rows, folder),
                without("answer:other")(rows, folder),
            ],
            ["no answers"],
        ),
        (column("image:clean", "red-green.png"), ["2 columns 'clean'"]),
        (column("answer:", "x"), ["'answer:'", "means nothing"]),
        (column("answer:right", "red"), ["2 columns 'answer:right'"]),
        (column("expected:erased", "right"), ["'expected:erased'", "swapped_colors"]),
        (column("tile_row", "1"), ["tile_row alone"]),
        (cell(2, "clean", ""), ["row 3", "'clean' is empty"]),
        (cell(2, "answer:other", ""), ["row 3", "'answer:other' is empty"]),
        (cell(2, "clean", "lost.png"), ["row 3", "'clean'", "lost.png"]),
        (cell(2, "clean", "."), ["row 3", "'clean'", "cannot read"]),
        (
            cell(3, "expected:clean", "blue"),
            ["row 4", "'expected:clean'", "'blue'", "right, other"],
        ),
        (cell(3, "name", "red and green"), ["row 4", "'name'", "row 2"]),
        (cell(1, "question", "<image> <image>"), ["row 2", "exactly one"]),
        (cell(1, "question", "odd, isn't it"), ["row 2", "9 cells", "quotes"]),
        (
            picture("green-red.png", lambda path: path.write_text("none")),
            ["row 2", "'image:swapped_colors'", "cannot read"],
        ),
        (picture("green-red.png", cut_short), ["row 2", "'image:swapped_colors'", "cannot read"]),
        (lambda rows, folder: rows.__delitem__(slice(1, None)), ["no trials"]),
    ],
)
def test_what_cannot_be_used_is_named_by_row_and_column(tmp_path, rows, change, parts, capsys):
    change(rows, tmp_path)
    path = write(tmp_path, rows)
    with pytest.raises(rgb.InputError) as error:
        read_trials(path)
    assert all(part in str(error.value) for part in [*parts, "shapes.csv"]), str(error.value)
    assert main(["play", "--trials-file", str(path)]) == 2
    assert capsys.readouterr().err == f"rgb-circuit: {error.value}\n"


@pytest.mark.parametrize(
    "place, part",
    [
        (("1", "", "6"), "'tile_column' is ''"),
        (("1", "x", "6"), "'x'"),
        (("1", "²", "6"), "'²'"),
        (("1", "6", "6"), "off the 6 × 6 grid"),
    ],
)
def test_a_place_that_is_none_is_refused(tmp_path, rows, place, part):
    for name, value in zip(("tile_row", "tile_column", "grid"), place):
        column(name, value)(rows, tmp_path)
    with pytest.raises(rgb.InputError, match="row 2") as error:
        read_trials(write(tmp_path, rows))
    assert part in str(error.value)


@pytest.mark.parametrize(
    "content, part",
    [
        (None, "no file"),
        (b"", "is empty"),
        (b'name,"question\n', "cannot read"),
        (b"name,\xe9\n", "cannot read .* in UTF-8"),
        (
            ",".join(f"column {number}" for number in range(500)).encode(),
            "'column 11' and 488 more$",
        ),
    ],
)
def test_files_that_are_no_table_are_refused(tmp_path, content, part):
    path = tmp_path / "shapes.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(rgb.InputError, match=part):
        read_trials(path)


@pytest.mark.parametrize(
    "name, export, said",
    [
        ("trials.json", lambda frame, path: frame.to_json(path), "is JSON"),
        (
            "trials.jsonl",
            lambda frame, path: frame.to_json(path, orient="records", lines=True),
            "is JSON",
        ),
        ("list.json", lambda frame, path: frame.to_json(path, orient="records"), "is JSON"),
        ("trials.parquet", lambda frame, path: frame.to_parquet(path), "is a Parquet file"),
        ("trials.csv.gz", lambda frame, path: frame.to_csv(path), "is compressed"),
        ("utf16.csv", lambda frame, path: frame.to_csv(path, encoding="utf-16"), "is in UTF-16"),
        ("bare.csv", lambda frame, path: frame.to_csv(path, encoding="utf-16-le"), "is no text"),
        (
            "trials.xlsx",
            lambda frame, path: path.write_bytes(b"PK\x03\x04\0\0[Content"),
            "an Excel file or",
        ),
        ("trials.png", lambda frame, path: shapes("red", "blue").save(path), "is no text"),
    ],
)
def test_another_kind_of_file_is_named_with_what_is_taken(
    tmp_path, rows, name, export, said, capsys
):
    export(pd.DataFrame(rows[1:], columns=rows[0]), tmp_path / name)
    assert main(["play", "--trials-file", str(tmp_path / name)]) == 2
    printed = capsys.readouterr().err
    assert said in printed and "give a CSV in UTF-8 with a row per trial" in printed
    assert printed.count("\n") == 1 and len(printed) < 400


def test_a_folder_of_another_kind_of_file_says_what_is_taken(tmp_path, rows):
    pd.DataFrame(rows[1:], columns=rows[0]).to_json(tmp_path / "trials.json")
    with pytest.raises(rgb.InputError, match="holds no CSV; put one CSV"):
        read_trials(tmp_path)


def test_a_whole_prompt_is_kept_to_the_last_line_break(tmp_path, rows):
    """What a chat template ends in is where the answer is read."""
    whole = "<image>\nWhich color? assistant\n"
    rows[1][1], rows[2][1] = f'"{whole}"', '"  Which color?\n"'
    first, second, _ = read_trials(write(tmp_path, rows))
    assert first.prompt == whole
    assert second.prompt == "USER: <image>\nWhich color?\nASSISTANT:"


def test_columns_that_mean_nothing_are_named_and_left_out(tmp_path, rows, capsys):
    plain = read_trials(write(tmp_path, rows))
    column("colour", "x")(rows, tmp_path), column("Split", "test")(rows, tmp_path)
    path = write(tmp_path, rows)
    with pytest.warns(UserWarning, match="unknown columns are ignored: 'colour', 'Split'$"):
        assert read_trials(path) == plain
    assert main(["play", "--trials-file", str(path)]) == 0
    assert capsys.readouterr().err.count("ignored: 'colour', 'Split'") == 1


@pytest.mark.filterwarnings("error")
def test_empty_columns_at_the_end_do_no_harm(tmp_path, rows):
    plain = read_trials(write(tmp_path, rows))
    column("", "")(rows, tmp_path), rows[2].append("")
    assert read_trials(write(tmp_path, rows)) == plain


@pytest.mark.filterwarnings("error")
def test_capitals_and_blanks_in_the_names_of_columns_make_no_difference(tmp_path, rows):
    for name, value in zip(("tile_row", "tile_column", "grid"), "126"):
        column(name, value)(rows, tmp_path)
    plain = read_trials(write(tmp_path, rows))
    written = {
        "name": "Name", "question": " QUESTION ", "image:swapped_colors": "Image: swapped_colors",
        "answer:right": "ANSWER "
                        ":right", "expected:clean": "Expected : clean", "tile_row": "Tile Row",
    }  # fmt: skip
    rows[0] = [written.get(name, name) for name in rows[0]]
    assert read_trials(write(tmp_path, rows)) == plain
    rows[0] = ["Right" if name == "ANSWER :right" else name for name in rows[0]]
    column("Name", "again")(rows, tmp_path)
    with pytest.raises(rgb.InputError, match="has 2 columns 'name'; keep one"):
        read_trials(write(tmp_path, rows))


@pytest.mark.parametrize("names", [("left/right", "50%"), ("ß", "Ä"), ("a b", "a:b"), ("1", "2")])
def test_conditions_and_roles_may_be_called_anything(tmp_path, rows, names, planted):
    condition, role = names
    cell(0, "image:swapped_colors", f"image:{condition}")(rows, tmp_path)
    cell(0, "expected:swapped_colors", f"expected:{condition}")(rows, tmp_path)
    cell(0, "answer:other", f"answer:{role}")(rows, tmp_path)
    for number in (1, 2, 3):
        rows[number][-1] = role
    trial = read_trials(write(tmp_path, rows))[0]
    assert list(trial.images) == ["clean", condition] and list(trial.answers) == ["right", role]
    assert trial.expected[condition] == role
    played = rgb.play(planted, [trial], progress=False)
    assert list(played["condition"]) == ["clean", condition] and f"logit_{role}" in played


@pytest.mark.parametrize("on_disk, in_table", [("NFD", "NFC"), ("NFC", "NFD")])
def test_an_accent_may_be_written_in_either_way(tmp_path, rows, on_disk, in_table):
    folder = tmp_path / unicodedata.normalize(on_disk, "été")
    folder.mkdir()
    shapes("red", "green").save(folder / unicodedata.normalize(on_disk, "é.png"))
    cell(1, "clean", unicodedata.normalize(in_table, "été/é.png"))(rows, tmp_path)
    trial = read_trials(write(tmp_path, rows))[0]
    assert np.array_equal(trial.images["clean"], shapes("red", "green"))
    cell(1, "clean", "ete/é.png")(rows, tmp_path)
    with pytest.raises(rgb.InputError, match="row 2, column 'clean': no file .*ete/é.png"):
        read_trials(write(tmp_path, rows))


def test_a_picture_written_into_the_table_is_refused_without_repeating_it(tmp_path, rows):
    cell(1, "clean", "iVBORw0KGgo" * 1000)(rows, tmp_path)
    with pytest.raises(
        rgb.InputError, match="row 2, column 'clean' holds 11000 letters.* no path"
    ) as error:
        read_trials(write(tmp_path, rows))
    assert len(str(error.value)) < 200


def test_a_cell_may_list_several_words_that_are_accepted(tmp_path, rows):
    cell(2, "answer:right", "\"['green', 'lime']\"")(rows, tmp_path)
    [_, trial, *_] = read_trials(write(tmp_path, rows))
    assert trial.words["right"] == ("green", "lime")
    # The same words in another order are the same answer.
    cell(3, "answer:right", "\"['lime', 'green']\"")(rows, tmp_path)
    assert read_trials(write(tmp_path, rows))[2].words["right"] == ("green", "lime")
    cell(2, "answer:right", "[]")(rows, tmp_path)
    with pytest.raises(rgb.InputError, match="row 3: answer 'right' .* a list without a word"):
        read_trials(write(tmp_path, rows))


def test_two_roles_of_one_word_are_refused_in_a_file_too(tmp_path, rows):
    cell(2, "answer:other", "Green")(rows, tmp_path)
    with pytest.raises(
        rgb.InputError, match="row 3: .* 'green' for 'right' and 'Green' for 'other'"
    ):
        read_trials(write(tmp_path, rows))


def test_panels_for_other_pictures_are_every_target_with_cleans_answer(tmp_path, rows, toy):
    assert panels_for(read_trials(write(tmp_path, rows))) == {
        "right, when swapped_colors": ("swapped_colors", "right")
    }
    for row in rows[1:]:
        row[HEADER.index("expected:clean")] = ""
    unscored = panels_for(read_trials(write(tmp_path, rows)))
    assert list(unscored.values()) == [("swapped_colors", "right"), ("swapped_colors", "other")]
    assert panels_for(rgb.rgb_trials(toy, 1)) is PANELS


def test_trials_whose_clean_answers_differ_in_role_are_not_averaged(tmp_path, rows, capsys):
    cell(2, "expected:clean", "other")(rows, tmp_path)
    path = write(tmp_path, rows)
    assert main(["run", "--trials-file", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "different roles for 'clean' (other, right)" in capsys.readouterr().err


def test_trials_with_a_clean_picture_alone_can_be_played_but_not_patched(tmp_path, rows, capsys):
    (
        without("image:swapped_colors")(rows, tmp_path),
        without("expected:swapped_colors")(rows, tmp_path),
    )
    path = write(tmp_path, rows)
    assert main(["play", "--trials-file", str(path)]) == 0
    assert main(["run", "--trials-file", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "nothing to patch" in capsys.readouterr().err


def test_the_toy_runs_on_pictures_it_does_not_know_and_says_so(tmp_path, rows, capsys, monkeypatch):
    without("expected:swapped_colors")(rows, tmp_path)
    path, out = write(tmp_path, rows), tmp_path / "out"
    runs.sections(monkeypatch)
    assert main(["run", "--trials-file", str(path), "--out", str(out)]) == 0
    printed, told = capsys.readouterr()
    assert "reads them as <unk>" in told and "swapped_colors not scored" in printed
    assert "No role table: these pictures come without a hypothesis about heads" in printed
    frame = pd.read_parquet(out / "patch_heads.parquet")
    assert set(frame["target"]) == {"swapped_colors"} and set(frame["role"]) == {"right", "other"}
    assert frame["trial"].nunique() == 3
    assert (out / "panels.png").stat().st_size > 10_000 and not (out / "roles.parquet").exists()
    assert str(path) in (out / "manifest.json").read_text()

    assert main(["attention", "--head", "3.1", "--trials-file", str(path), "--out", str(out)]) == 0
    assert (out / "attention_3.1.png").stat().st_size > 10_000
    assert main(["compare", str(out)]) == 2
    assert "compare a run of the RGB game" in capsys.readouterr().err


def test_pictures_that_lose_their_margins_are_announced(tmp_path, rows, capsys):
    """A LLaVA-1.5 cuts out the central square."""
    path = write(tmp_path, rows)
    assert main(["play", "--trials-file", str(path)]) == 0
    assert "margins" not in capsys.readouterr().out
    for name in rows[2][2:4]:
        Image.open(tmp_path / name).resize((192, 96)).save(tmp_path / name)
    rows[3][2:4] = rows[2][2:4]
    write(tmp_path, [rows[0], rows[1], rows[3]])
    assert main(["play", "--trials-file", str(path)]) == 0
    lost = "(192 × 96 px: 25 % at the left, 25 % at the right)"
    said = f"toy cuts margins off the pictures of 1 of 2 trials, e.g. of 'blue and red' {lost}\n"
    assert said in capsys.readouterr().out


def test_the_game_in_a_file_gives_what_the_game_gives(toy_run, tmp_path, toy, monkeypatch):
    runs.undrawn(monkeypatch)
    # As many trials as `runs.TOY` draws, with its seed.
    path = write_game(tmp_path, rgb.rgb_trials(toy, 10, seed=3))
    assert main(["run", "--trials-file", str(path), "--out", str(tmp_path / "read")]) == 0
    for name in ("play", "patch_heads", "roles"):
        drawn, read = (
            pd.read_parquet(folder / f"{name}.parquet") for folder in (toy_run, tmp_path / "read")
        )
        pd.testing.assert_frame_equal(drawn, read, check_exact=True)


def test_an_answer_that_is_no_token_is_refused_before_any_forward(tmp_path, rows, capsys):
    cell(1, "answer:other", "turquoise")(rows, tmp_path)
    assert main(["play", "--trials-file", str(write(tmp_path, rows))]) == 2
    assert "'turquoise' is not in the vocabulary of toy" in capsys.readouterr().err


def test_trials_and_a_file_exclude_each_other(tmp_path, rows, capsys):
    with pytest.raises(SystemExit):
        main(["play", "--trials", "8", "--trials-file", str(write(tmp_path, rows))])
    assert "not allowed with" in capsys.readouterr().err


@pytest.mark.parametrize("above", [[], ["sep={}"], ['"SEP={}"']])
@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_table_of_a_locale_with_decimal_commas_is_read(separator, above, tmp_path, rows):
    plain = read_trials(write(tmp_path, rows))
    turned = [[line.format(separator)] for line in above] + [[separator.join(row)] for row in rows]
    assert read_trials(write(tmp_path, turned, encoding="utf-8-sig")) == plain
