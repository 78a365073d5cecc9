"""Trials from tables as people have them."""

import base64
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pytest
import tables
import vocabularies
from PIL import Image

import rgb_circuit as rgb
from rgb_circuit.models.random import random_llava
from rgb_circuit.pictures import KEPT, PictureBytes, PictureFile
from rgb_circuit.tables.rows import Rows
from rgb_circuit.tables.trials_from import Columns, Sheet

PAIR = dict(
    name="{id}",
    question="Which color is the background? Respond in one word",
    images={"clean": "clean", "changed": "changed"},
    answers={"right": "is", "other": "was"},
    expected={"clean": "right", "changed": "other"},
)


@pytest.fixture(scope="module")
def llama():
    """A small random LLaVA with a vocabulary like LLaVA-1.5's."""
    return rgb.wrap(*random_llava(vocabulary=vocabularies.llama_like(), layers=2), name="llama")


def row(number=0, **cells):
    picture = {
        name: Image.new("RGB", (24, 24), color)
        for name, color in (("clean", "red"), ("changed", "green"))
    }
    return {"id": number, "is": "red", "was": "green", **picture, **cells}


def taken(model, rows, **arguments):
    return rgb.trials_from(rows, model, **{**PAIR, **arguments})


# Where rows come from


class DataSet:
    """As ``datasets.Dataset`` behaves as far as it is used: columns, features that can be told not
    to decode, rows one by one."""

    def __init__(self, rows, decode=True):
        self.rows, self.column_names = rows, list(rows[0])
        self.features = {name: Feature(decode) for name in ("clean", "changed")}

    def cast_column(self, name, feature):
        return DataSet(self.rows, feature.decode)

    def select_columns(self, names):
        assert not any(feature.decode for feature in self.features.values())
        return [{name: row[name] for name in names} for row in self.rows]


class Feature:
    def __init__(self, decode=True):
        self.decode = decode


def held(kind, folder):
    """One table, whose pictures are bytes, held in every way; where files cannot hold bytes, in
    files."""
    rows = [row(n, clean=tables.encoded("red"), changed=tables.encoded("green")) for n in range(3)]
    if kind == "data set":
        return DataSet([{**one, "clean": dict(bytes=one["clean"], path=None)} for one in rows])
    if kind in ("list", "frame"):
        return pd.DataFrame(rows) if kind == "frame" else rows
    if kind == "parquet":
        pd.DataFrame(rows).to_parquet(path := folder / "rows.parquet")
        return path
    for name, color in (("red", "red"), ("green", "green")):
        (folder / f"{name}.png").write_bytes(tables.encoded(color))
    frame = pd.DataFrame([one | dict(clean="red.png", changed="green.png") for one in rows])
    path = folder / f"rows.{kind}"
    if kind in ("csv", "tsv"):
        frame.to_csv(path, index=False, sep="\t" if kind == "tsv" else ",")
    elif kind == "json as pandas writes it":
        frame.to_json(path := folder / "rows.json")
    else:
        frame.to_json(path, orient="records", lines=kind == "jsonl")
    return path


@pytest.mark.parametrize(
    "kind",
    ["list", "frame", "data set", "parquet", "csv", "tsv", "json", "jsonl",
     "json as pandas writes it"],
)  # fmt: skip
def test_whatever_holds_the_rows_the_trials_are_the_same(kind, toy, tmp_path):
    trials = taken(toy, held(kind, tmp_path))
    assert [trial.content for trial in trials] == [
        trial.content for trial in taken(toy, [row(n) for n in range(3)])
    ]
    assert trials.rows[["row", "trial", "used", "says"]].values.tolist() == [
        [n, str(n), True, ""] for n in range(3)
    ]


def test_a_folder_stands_for_its_only_table_and_for_all_pieces_of_one(toy, tmp_path):
    frame = held("frame", tmp_path)
    for piece in range(3):
        frame[piece : piece + 1].to_parquet(tmp_path / f"test-0000{piece}-of-00003.parquet")
    assert [trial.name for trial in taken(toy, tmp_path)] == ["0", "1", "2"]
    (tmp_path / "test-00001-of-00003.parquet").rename(tmp_path / "other.parquet")
    with pytest.raises(
        rgb.InputError, match="holds other.parquet, test-00000.*; name one file of .csv"
    ):
        taken(toy, tmp_path)
    with pytest.raises(rgb.InputError, match="2 of 3 pieces are there"):
        taken(toy, tmp_path / "test-00000-of-00003.parquet")


@pytest.mark.parametrize(
    "rows, sentence",
    [
        ("no.csv", "there is no file no.csv"),
        ("rows.xlsx", "no table that can be read; give one of .csv, .tsv"),
        (3, "the rows hold 3; give a DataFrame"),
        ([3], "hold 3 as row 0; give a dictionary"),
        ([], "there are no rows; give a row per trial"),
        (
            {"train": [{"id": 1}], "test": [{"id": 1}]},
            r"hold 2 lists of rows, 'train', .*\['train'\]",
        ),
    ],
)
def test_what_is_no_table_is_refused(rows, sentence, toy, no_forward):
    with pytest.raises(rgb.InputError, match=sentence):
        taken(toy, rows)


def written(path, *, separator=",", encoding="utf-8", end="\n", above="", more=""):
    """Three rows as a file, of which one is empty."""
    rows = ["id,clean,changed,is,was", "1.0,red.png,green.png,red,green", ",,,,",
            "2.0,red.png,green.png,red,green"]  # fmt: skip
    text = above + end.join(rows).replace(",", separator) + end + more
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    "how",
    [
        dict(separator=";", encoding="utf-8-sig", end="\r\n"),
        dict(separator=";", encoding="utf-8-sig", end="\r\n", above="sep=;\r\n"),
        dict(separator="\t"),
        dict(separator=", "),
    ],
)
def test_a_csv_as_excel_saves_it_has_its_rows_and_whole_numbers(how, toy, tmp_path):
    held("csv", tmp_path)
    trials = taken(toy, written(tmp_path / "rows.csv", **how))
    assert [trial.name for trial in trials] == ["1", "2"]


def test_cells_of_a_csv_are_the_texts_that_stand_there(tmp_path):
    rows = [["007", "NA"], ["1e3", "None"]]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(map(",".join, [["name", "word"], *rows])))
    assert Rows.of(path).frame().to_numpy().tolist() == rows


def test_paths_count_from_the_folder_that_is_given(toy, tmp_path):
    (tmp_path / "tables").mkdir()
    path = held("csv", tmp_path).rename(tmp_path / "tables" / "rows.csv")
    assert len(taken(toy, path, folder=tmp_path)) == 3


@pytest.mark.parametrize(
    "name, how, sentence",
    [
        ("a.csv", dict(encoding="utf-16"), "is not in UTF-8 .*; save it in UTF-8"),
        ("a.csv", dict(more="3,a.png,b.png,Well, red,green\n"), "more cells than its header"),
        ("a.csv", dict(more='3,a.png,b.png,"red,green\n'), "a quote that does not end"),
        ("a.jsonl", None, r"line 2 of a.jsonl is no JSON \(Expecting value at character 1\)"),
        ("two.json", None, "two.json holds 2 lists of rows, 'images', 'annotations'; give one"),
    ],
)
def test_a_file_that_would_be_misread_is_refused(name, how, sentence, toy, tmp_path, no_forward):
    path = tmp_path / name
    if how is None:
        both = '{"images": [{"id": 1}], "annotations": [{"id": 1}]}'
        path.write_text(both if name == "two.json" else '{"id": 1}\nnothing\n')
    else:
        written(path, **how)
    with pytest.raises(rgb.InputError, match=sentence):
        taken(toy, path)


def test_columns_with_a_named_index_and_tables_of_arrow_hold_rows(toy, tmp_path):
    frame = held("frame", tmp_path)
    wanted = [trial.content for trial in taken(toy, frame)]
    frame.set_index("is").to_parquet(tmp_path / "indexed.parquet")
    listed = frame.assign(clean=[[dict(bytes=one, path=None)] for one in frame["clean"]])
    for rows in (
        frame.set_index("is"),
        tmp_path / "indexed.parquet",
        frame.to_dict("list"),
        pyarrow.Table.from_pylist(listed.to_dict("records")),
    ):
        assert [trial.content for trial in taken(toy, rows)] == wanted


# Pictures


def test_pictures_stay_in_files_and_bytes_and_are_upright_on_white(toy, tmp_path):
    upright = Image.new("RGB", (24, 16), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = tables.encoded("red", (16, 24), "JPEG", exif=exif.tobytes())
    clear = io.BytesIO()
    Image.new("RGBA", (24, 16), (255, 0, 0, 0)).save(clear, "PNG")
    (tmp_path / "clear.png").write_bytes(clear.getvalue())
    [trial] = taken(toy, [row(clean=turned, changed="clear.png")], folder=tmp_path)
    assert {type(source) for source in trial.sources.values()} == {PictureBytes, PictureFile}
    assert trial.size == upright.size
    assert np.abs(np.asarray(trial.images["clean"], float) - np.asarray(upright, float)).max() < 3
    assert trial.images["changed"].getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize("scale", [1, 255])
def test_arrays_of_0_to_1_and_of_0_to_255_are_pictures(scale, toy):
    array = np.zeros((24, 24, 3), float if scale == 1 else np.uint8)
    array[..., 0] = scale
    [trial] = taken(toy, [row(clean=array)])
    assert trial.content == taken(toy, [row()])[0].content


def test_base64_lists_of_numbers_and_windows_paths_are_pictures(toy, tmp_path):
    data, pixels = tables.encoded("red"), np.asarray(Image.new("RGB", (24, 24), "red"))
    (tmp_path / "im ages").mkdir()
    (tmp_path / "im ages" / "ü.png").write_bytes(data)
    text = base64.b64encode(data).decode()
    cells = [text, f"data:image/png;base64,{text}", "im ages\\ü.png ", pixels.tolist(), [data],
             np.array([dict(bytes=data, path=None)], dtype=object)]  # fmt: skip
    rows = [row(number, clean=cell) for number, cell in enumerate(cells)]
    for trial in taken(toy, rows, folder=tmp_path):
        assert (np.asarray(trial.images["clean"]) == pixels).all(), trial.name


def test_no_decoded_picture_is_kept(toy, tmp_path):
    trials = taken(toy, held("parquet", tmp_path))
    assert all(isinstance(source, KEPT) for trial in trials for source in trial.sources.values())


@pytest.mark.parametrize("how, corner", [("pad", (127, 127, 127)), ("resize", (255, 0, 0))])
def test_pictures_are_made_square_where_it_is_asked_for(how, corner, toy):
    wide = tables.encoded("red", (60, 20))
    [trial] = taken(toy, [row(clean=wide, changed=tables.encoded("green", (20, 40)))], fit=how)
    side = toy.picture_px
    assert {image.size for image in trial.images.values()} == {(side, side)}
    assert trial.images["clean"].getpixel((0, 0)) == corner
    assert trial.images["clean"].getpixel((side // 2, side // 2)) == (255, 0, 0)
    with pytest.raises(rgb.InputError, match="boxes count pixels .* leave out fit"):
        taken(toy, [row()], fit=how, boxes={"clean": {"thing": "box"}})


@pytest.mark.parametrize(
    "cell, sentence",
    [
        (None, "there is no picture"),
        (float("nan"), "there is no picture"),
        ("gone.png", "no file .*gone.png; paths count from"),
        ("https://example.org/a.png", "is an address; fetch"),
        ("S3://bucket/a.png", "is an address; fetch"),
        (b"no picture", r"cannot read 10 bytes as a picture \(its format is not known\)"),
        ([[0, 1], [2]], "lists of numbers of unequal length"),
        ("A" * 5000, "5000 letters, which is no path"),
        (["a.png", "b.png"], "there are 2 pictures, and a model is shown one at a time"),
        (np.zeros((2, 2, 7)), r"shape \(2, 2, 7\) is no picture"),
        (3.5, r"3.5 \(float\) is no picture"),
    ],
    ids=str,
)
def test_what_is_no_picture_is_refused_with_its_row(cell, sentence, toy, no_forward):
    with pytest.raises(
        rgb.InputError, match=f"row 1 .*picture 'clean': .*{sentence}.*strict=False"
    ):
        taken(toy, [row(0), row(1, clean=cell)])


def test_a_picture_that_is_too_large_to_open_is_to_be_made_smaller(toy, monkeypatch, tmp_path):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    (path := tmp_path / "large.png").write_bytes(tables.encoded("red"))
    for cell in (path, path.read_bytes()):
        with pytest.raises(rgb.InputError, match="cannot read.*exceeds limit.*; make it smaller"):
            taken(toy, [row(clean=cell)])


# Texts


def test_texts_are_columns_format_strings_or_the_same_for_all(toy):
    rows = [row(n, thing="wall", kind="near") for n in range(2)]
    trials = taken(
        toy,
        rows,
        name="{thing} {row}",
        question="Which color is the {thing}?",
        questions={"changed": "Which color is the background? Respond in one word"},
        answers={"right": "is", "other": "yellow"},
        cluster="scene of {thing}",
        strata={"distance": "kind"},
    )
    first = trials[0]
    assert [trial.name for trial in trials] == ["wall 0", "wall 1"]
    assert first.prompt == toy.prompt("Which color is the wall?")
    assert first.prompts == {"changed": toy.prompt(PAIR["question"])}
    assert first.answers == {"right": "red", "other": "yellow"}
    assert (first.cluster, first.strata) == ("scene of wall", {"distance": "near"})


def test_boxes_are_lists_also_as_text_and_lie_in_their_pictures(toy):
    boxes = {"clean": {"thing": "box"}}
    [trial] = taken(toy, [row(box="[2, 3, 10, 12.5]")], boxes=boxes)
    assert trial.boxes == {"clean": {"thing": (2.0, 3.0, 10.0, 12.5)}}
    with pytest.raises(
        rgb.InputError, match="row 0 .*box 'thing'.* no place in a picture of 24 × 24 px"
    ):
        taken(toy, [row(box=[2, 3, 10, 30])], boxes=boxes)


def test_boxes_in_fractions_are_refused(toy, no_forward):
    with pytest.raises(rgb.InputError, match="less than a pixel; give .* in pixels: fractions"):
        taken(toy, [row(box=[0.25, 0.5, 0.75, 1])], boxes={"clean": {"object": "box"}})


def test_a_role_of_a_cell_is_expected_and_an_empty_cell_is_not_scored(toy):
    rows = [row(0, role="right"), row(1, role="")]
    one, two = taken(toy, rows, expected={"clean": "role", "changed": "other"})
    assert dict(one.expected) == {"clean": "right", "changed": "other"}
    assert dict(two.expected) == {"changed": "other"}


def test_of_several_words_all_that_are_one_token_are_taken_and_the_frame_says_so(llama):
    words = {0: "red", 1: "['purple', 'red']", 2: ["red", "blue"], 3: "['purple']"}
    trials = taken(llama, [row(n, **{"is": cell}) for n, cell in words.items()])
    assert [trial.answers["right"] for trial in trials] == ["red", "red", "red", "purple"]
    assert trials.rows["says"].tolist() == [
        "",
        "right is read as 'red', of 'purple', 'red'",
        "right is read as 'red' or 'blue'",
        "",
    ]


def test_words_that_several_rows_accept_are_all_in_their_trials(llama):
    [one, two] = taken(llama, [row(0, **{"is": "['red', 'blue']"}), row(1)])
    assert one.words == {"right": ("red", "blue"), "other": ("green",)}
    assert one.also == {"right": ("blue",)} and not two.also


def test_the_same_words_in_another_order_are_the_same_answer(llama):
    cells = ("['red', 'blue']", "['blue', 'red']", "['blue']")
    trials = taken(llama, [row(n, **{"is": cell}) for n, cell in enumerate(cells)])
    assert [trial.answers["right"] for trial in trials] == ["red", "red", "blue"]


def test_a_word_that_is_accepted_for_two_roles_is_refused_or_its_row_left_out(llama):
    rows = [row(0), row(1, **{"is": "['red', 'blue']", "was": "['green', 'Blue']"})]
    with pytest.raises(rgb.InputError, match="row 1 .*'Blue' is accepted for 'right' and for 'oth"):
        taken(llama, rows)
    trials = taken(llama, rows, strict=False)
    assert len(trials) == 1
    assert trials.left_out["says"].tolist() == [
        "'Blue' is accepted for 'right' and for 'other', so that it tells nothing; take it out of "
        "one of their cells"
    ]


QUESTION = "How many balls are there?"


@pytest.mark.parametrize(
    "whole",
    [
        tables.CHATML.format(QUESTION),
        f"<|im_start|>system\nBe "
        f"brief.<|im_end|>\n<|im_start|>user\n<image>\n{QUESTION}<|im_end|>\n",
        f"A chat. USER: <image>\n{QUESTION} ASSISTANT:",
        f"[INST] <image>\n{QUESTION} [/INST]",
        f"<s>[INST] {QUESTION}\n<image>[/INST]",
        f"<|start_header_id|>user<|end_header_id|>\n\n<|image|>{QUESTION}<|eot_id|>",
        f"<start_of_turn>user\n<start_of_image>{QUESTION}<end_of_turn>\n<start_of_turn>model\n",
        f"<|user|>\n<|image_1|>\n{QUESTION}<|end|>\n<|assistant|>\n",
        f"<image>\n{QUESTION}",
        f"<image 1>{QUESTION}</s>",
    ],
)
def test_a_whole_prompt_is_cut_down_to_its_question(whole, llama):
    trials = taken(llama, [row(prompt=whole)], question="prompt")
    assert trials[0].prompt == llama.prompt(QUESTION)
    assert trials.rows["says"].tolist() == ["question cut out of a prompt"]


@pytest.mark.parametrize(
    "text, sentence",
    [
        (
            "A dog on a sofa.",
            r"is a caption and asks nothing; ask about it, such as question=\"Is this true",
        ),
        (
            "USER: <image><image>\nAre they alike? ASSISTANT:",
            "shows 2 pictures, and a trial shows one",
        ),
        ("Which image fits better? The first or the second?", "asks about two pictures"),
        ("USER: Hi ASSISTANT: Hello USER: And? ASSISTANT:", "has 2 turns of a user"),
        ("USER: <image> ASSISTANT:", "asks nothing"),
    ],
)
def test_what_cannot_be_asked_about_one_picture_is_refused(text, sentence, llama, no_forward):
    with pytest.raises(rgb.InputError, match=sentence):
        taken(llama, [row(text=text)], question="text")


@pytest.mark.parametrize(
    "text",
    [
        "Describe the color of the wall",
        "Answer with one word: the color",
        "色は何ですか",
        "It is red. True or false",
    ],
)
def test_what_asks_without_a_question_mark_is_asked(text, toy):
    assert taken(toy, [row(text=text)], question="text")[0].prompt == toy.prompt(text)


def test_a_caption_in_a_format_string_is_asked_about(toy):
    [trial] = taken(
        toy, [row(caption="A red wall.")], question="Is this true: {caption} Answer yes or no"
    )
    assert "A red wall." in trial.prompt


# Multiple choice


def test_each_option_has_each_letter_equally_often_and_the_answers_follow(llama):
    options = ["left of", "right of", "on", "under"]
    rows = [row(n, options=options, other=options[2]) for n in range(16)]
    trials = taken(
        llama,
        rows,
        question="Where is it?\n{options:letters}\nAnswer with the letter.",
        answers={"right": "{options[0]:letter}", "other": "{other:letter}"},
    )
    for role, text in (("right", "left of"), ("other", "on")):
        letters = [trial.answers[role] for trial in trials]
        assert Counter(letters) == dict.fromkeys("ABCD", 4)
        assert all(
            f"\n{letter}. {text}\n" in trial.prompt for letter, trial in zip(letters, trials)
        )
    # Not in turn: tables often come in the order of the options.
    assert (
        len(
            {
                "".join(trial.answers["right"] for trial in trials[k : k + 4])
                for k in range(0, 16, 4)
            }
        )
        > 1
    )


@pytest.mark.parametrize("right", ["{key:letter}", "{options[index]:letter}"])
def test_an_answer_that_is_a_letter_or_a_number_of_the_table_follows_its_option(right, llama):
    options = ["red", "green", "blue", None]
    rows = [row(n, A="red", B="green", C="blue", D=options[3], options=options[:3],
                key="B", index=1) for n in range(6)]  # fmt: skip
    question = "Which color?\n{A | B | C | D:letters}"
    trials = taken(llama, rows, question=question, answers={"right": right, "other": "{A:letter}"})
    for trial in trials:
        assert f"\n{trial.answers['right']}. green" in trial.prompt
    assert {trial.answers["right"] for trial in trials} == set("ABC")


@pytest.mark.parametrize(
    "options, right, sentence",
    [
        (["red", "green"], "key", r"is the letter 'B' of the table, .*; write \{key:letter\}"),
        (["A. red", "B. green"], "{options[0]:letter}", "have letters already, such as 'A. red'"),
        ("[red, green]", "is", "is a list that cannot be read; write it as JSON does"),
    ],
)
def test_options_that_would_be_misread_are_refused(options, right, sentence, llama, no_forward):
    with pytest.raises(rgb.InputError, match=sentence):
        taken(
            llama,
            [row(options=options, key="B")],
            question="Which color?\n{options:letters}",
            answers={"right": right, "other": "{was}"},
        )


def test_what_is_inside_of_dictionaries_is_named_in_square_brackets(llama):
    turns = [{"from": "human", "value": "<image>\nWhich color is it?"}, {"value": "red"}]
    more = dict(
        question="{turns[0][value]}", answers={"right": "{turns[1][value]}", "other": "was"}
    )
    for cell in (turns, np.array(turns, dtype=object)):
        [trial] = taken(llama, [row(turns=cell)], **more)
        assert trial.answers["right"] == "red" and "\nWhich color is it?\n" in trial.prompt
    with pytest.raises(rgb.InputError, match=r"name what is inside, such as \{turns\[0\]\[value"):
        taken(llama, [row(turns=turns)], question="turns")


def test_several_columns_are_options_too(llama):
    [trial] = taken(
        llama,
        [row(a="a dog", b="a cat")],
        question="Which is it?\n{a | b:letters}",
        answers={"right": "{a:letter}", "other": "{b:letter}"},
    )
    assert sorted(trial.answers.values()) == ["A", "B"]


# What is refused, and left out


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (dict(question="promt"), "question is 'promt', which is no column; there are 'id', 'is'"),
        (dict(question="Which color is {thing}?"), "names the column 'thing', and there are"),
        (dict(question="Which {color?"), "braces cannot be read"),
        (
            dict(images={"clean": "cleen", "changed": "changed"}),
            r"images\['clean'\] is 'cleen', which is no column",
        ),
        (dict(images={"changed": "changed"}), "images lacks 'clean'"),
        (dict(answers={}), "answers is empty"),
        (dict(expected={"clean": "rigth"}), "is no role and no column; the roles are right, other"),
        (dict(expected={"erased_": "right"}), "expected names 'erased_', which images lacks"),
        (dict(cluster="scene"), "cluster is 'scene', which is no column"),
        (dict(strata=["kind"]), r"strata\['kind'\] is 'kind', which is no column"),
        (dict(strata="kind"), r"strata is 'kind'; give a list of columns"),
        (dict(fit="crop"), "fit is 'crop'; use 'pad' or 'resize'"),
        (dict(name="same"), "name is 'same', which is no column"),
        (dict(answers={"right": "Was"}), "'Was', which is no column; .* a word that is the same"),
        (dict(answers={"right": "gt_word"}), "'gt_word', which is no column"),
        (dict(question="{is:lettres}?"), "'lettres' behind a colon"),
    ],
    ids=str,
)
def test_an_argument_that_cannot_be_used_is_named_before_any_picture(
    arguments, sentence, toy, no_forward
):
    with pytest.raises(rgb.InputError, match=sentence):
        taken(toy, [row(clean="gone.png")], **arguments)


def test_a_word_for_all_rows_that_is_nearly_a_columns_name_is_taken_and_told(toy):
    with pytest.warns(UserWarning, match="'orange', the same .*; if the column 'Range' is meant"):
        [trial] = taken(toy, [row(Range=1)], answers={"right": "orange", "other": "was"})
    assert trial.answers["right"] == "orange"


def test_rows_that_cannot_be_used_are_left_out_with_the_reason(toy, no_forward):
    rows = [
        row(0),
        row(1, clean=None),
        row(2, **{"is": ""}),
        row(0),
        row(4, **{"is": "elephant"}),
        row(5, was="red"),
        # Row 1 is left out, so its name is free.
        row(1),
    ]
    trials = taken(toy, rows, strict=False)
    assert [trial.name for trial in trials] == ["0", "1"]
    assert trials.left_out["row"].tolist() == [1, 2, 3, 4, 5]
    for says, sentence in zip(
        trials.left_out["says"],
        ["there is no picture", "answer 'right': column 'is' is empty", "row 0 is named '0' too",
         "'elephant' is not in the vocabulary", "one word for two roles"],
    ):  # fmt: skip
        assert sentence in says
    for number in range(1, 6):
        with pytest.raises(rgb.InputError, match=r"row 1 \(from 0\): .*; with strict=False"):
            taken(toy, [rows[0], rows[number]])
    with pytest.raises(
        rgb.InputError, match="none of 1 rows can be used; of row 0: picture 'clean'"
    ):
        taken(toy, [rows[1]], strict=False)


def test_trials_are_made_again_from_the_words_that_were_taken_without_a_model(toy, llama):
    rows = [row(0, **{"is": "['purple', 'red', 'blue']"}), row(1, clean=None), row(2)]
    sheet = Sheet.read(rows, Columns(**PAIR, strict=False))
    made = sheet.trials(llama)
    words = {trial.name: trial.words for trial in made}

    class Recorded:
        prompt, picture_px = llama.prompt, llama.picture_px

    again = sheet.trials(Recorded(), words=words)
    assert again == made and again[0].also == {"right": ("blue",)}


# Pairs


def answers(*words):
    return [
        {"image": f"{n}.png", "gt_answer": word, "question": "q"} for n, word in enumerate(words)
    ]


@pytest.mark.parametrize(
    "words", ["ab" * 8, "aaab", "abcde" * 3, "aabbccddd", "a" * 5 + "bcd"], ids=str
)
def test_no_pair_has_equal_answers_and_as_many_rows_as_possible_have_a_partner(words):
    # One seed alone may pair as many rows by luck.
    for seed in range(9):
        with pytest.warns(UserWarning) if len(words) != 2 * most_pairs(words) else no_warning():
            paired = rgb.pair(answers(*words), seed=seed)
        assert len(paired) == 2 * most_pairs(words)
    assert (paired["gt_answer"] != paired["other_gt_answer"]).all()
    assert sorted([*paired["row"], *paired.attrs["left_over"]]) == list(range(len(words)))
    # Both ways round: each picture is clean once and changed once.
    assert sorted(paired["image"]) == sorted(paired["other_image"])
    assert (paired.groupby("pair").size() == 2).all()
    assert Counter(paired["gt_answer"]) == Counter(paired["other_gt_answer"])


@pytest.mark.filterwarnings("ignore:.* have no partner")
def test_no_row_is_paired_with_one_that_accepts_a_word_of_its_own():
    rows = answers(["grey", "gray"], ["gray", "grey"], "green", ["green", "gray"], ["blue"], "red")
    for seed in range(20):
        paired = rgb.pair(rows, seed=seed)
        accepted = [
            {*cell} if isinstance(cell, list) else {cell}
            for cell in [*paired["gt_answer"], *paired["other_gt_answer"]]
        ]
        pairs = zip(accepted[: len(paired)], accepted[len(paired) :])
        assert len(paired) >= 4 and not any(one & other for one, other in pairs)


def most_pairs(words):
    """Of n rows no more than half pairs, and no more than rows of another answer than the
    commonest."""
    return min(len(words) // 2, len(words) - max(Counter(words).values()))


def no_warning():
    import warnings

    context = warnings.catch_warnings()
    return context


def test_pairs_agree_in_what_they_must_and_follow_the_seed():
    rows = [one | {"question": "pq"[n // 8]} for n, one in enumerate(answers(*"ab" * 8))]
    paired = rgb.pair(rows, by="question")
    assert (paired["question"] == paired["other_question"]).all()
    assert paired.equals(rgb.pair(rows, by=["question"])) and not paired.equals(
        rgb.pair(rows, by="question", seed=1)
    )
    with pytest.raises(rgb.InputError, match="no column 'label' to pair"):
        rgb.pair(rows, differ="label")
    with pytest.raises(rgb.InputError, match="the rows: no two rows differ in 'gt_answer'"):
        rgb.pair(answers("a", "A", ""))


@pytest.mark.parametrize("name", ["pair", "other_gt_answer"])
def test_a_column_that_pairing_adds_is_not_written_over(name):
    with pytest.raises(rgb.InputError, match=f"there is a column '{name}', which pairing adds"):
        rgb.pair([{"gt_answer": word, name: 1} for word in ("yes", "no")])


def test_numbers_are_equal_answers_however_they_are_written():
    with pytest.raises(rgb.InputError, match="no two rows differ"):
        rgb.pair([{"gt_answer": number} for number in (1, 1.0, "1")])
    # Also one of several, and with blanks around it.
    for several, one in (([2, 1], 1.0), (["grey", " gray"], "gray")):
        with pytest.raises(rgb.InputError, match="no two rows differ"):
            rgb.pair([{"gt_answer": several}, {"gt_answer": one}])


def test_equal_answers_are_equal_whatever_their_case_and_behind_lists():
    with pytest.warns(UserWarning, match="2 of 4 rows have no partner"):
        paired = rgb.pair(answers("Yes", "yes", "['yes', 'yeah']", "no"))
    assert sorted(map(str.casefold, map(str, paired["gt_answer"])))[-1].startswith(("yes", "["))
    assert len(paired) == 2


# As data sets have them


def test_boxes_as_coco_writes_them_are_refused_whichever_rows_are_left_out(llama):
    # Read as corners, the second is a place as well, and another one.
    rows = [row(0, box=[12, 12, 8, 8]), row(1, box=[2, 3, 10, 12.0])]
    boxes = {"clean": {"thing": "box"}}
    for strict in (True, False):
        with pytest.raises(rgb.InputError, match="holds .left, top, width, height., as COCO"):
            taken(llama, rows, boxes=boxes, strict=strict)
    corners = [row(0, box=[12, 12, 20, 20]), row(1, box="[2, 3, 12, 15]")]
    assert [one.boxes["clean"]["thing"] for one in taken(llama, corners, boxes=boxes)] == [
        (12, 12, 20, 20), (2, 3, 12, 15)
    ]  # fmt: skip
    # One that is a place neither way is a row's own fault.
    broken = [*corners, row(2, box=[20, 20, 12, 12])]
    assert len(taken(llama, broken, boxes=boxes, strict=False)) == 2


def test_a_picture_and_a_box_inside_a_cell_are_named_in_braces(llama):
    rows = [
        {**row(n), "images": [row()["clean"], {"bytes": png("blue"), "path": "b.png"}],
         "objects": {"bbox": [[1, 2, 9, 10]]}}
        for n in range(2)
    ]  # fmt: skip
    images = {"clean": "{images[0]}", "changed": "{images[1]}"}
    [first, _] = taken(llama, rows, images=images, boxes={"clean": {"it": "{objects[bbox][0]}"}})
    assert first.images["clean"].getpixel((0, 0)) == (255, 0, 0)
    assert first.images["changed"].getpixel((0, 0)) == (0, 0, 255)
    assert first.boxes == {"clean": {"it": (1, 2, 9, 10)}}
    with pytest.raises(rgb.InputError, match=r"there are 2 pictures.*such as {images\[0\]}"):
        taken(llama, rows, images={**images, "clean": "images"})


def test_a_word_inside_an_entry_is_named_with_the_entry(llama):
    rows = [row(0, **{"is": [{"answer": "red"}, {"answer": "blue"}]})]
    with pytest.raises(rgb.InputError, match=r"such as {is\[0\]\[answer\]}"):
        taken(llama, rows)
    [trial] = taken(llama, rows, answers={"right": "{is[0][answer]}", "other": "was"})
    assert trial.answers == {"right": "red", "other": "green"}


def test_an_options_number_is_told_how_to_name_its_text(llama):
    rows = [{**row(0), "options": ["red", "green"], "index": 1}]
    asked = dict(question="Which?\n{options:letters}")
    with pytest.raises(rgb.InputError, match=r"such as {options\[index\]:letter}"):
        taken(llama, rows, **asked, answers={"right": "{index:letter}", "other": "B"})


def test_base64_for_addresses_is_a_picture_too(llama):
    letters = base64.urlsafe_b64encode(png("blue")).decode()
    while not {"-", "_"} & set(letters):
        letters = base64.urlsafe_b64encode(png("blue", len(letters))).decode()
    [trial] = taken(llama, [row(0, clean=letters)])
    assert trial.images["clean"].getpixel((0, 0)) == (0, 0, 255)


def png(color, side=24):
    file = io.BytesIO()
    Image.new("RGB", (side, side), color).save(file, "PNG")
    return file.getvalue()


def test_pairs_of_a_file_know_its_folder(llama, tmp_path, monkeypatch):
    for color in ("red", "green"):
        (tmp_path / f"{color}.png").write_bytes(png(color))
    table = "id,clean,is\n1,red.png,red\n2,green.png,green\n"
    (tmp_path / "rows.csv").write_text(table)
    monkeypatch.chdir(tmp_path.parent)
    paired = rgb.pair(Path(tmp_path.name, "rows.csv"), differ="is")
    paired.to_parquet(tmp_path / "pairs.parquet")
    images = {"clean": "clean", "changed": "other_clean"}
    answers = {"right": "is", "other": "other_is"}
    for rows in (paired, tmp_path / "pairs.parquet"):
        assert len(taken(llama, rows, images=images, answers=answers)) == 2
