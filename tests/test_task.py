"""A task is a value: read from TOML and written back the same, with controls, gap and similarity
that follow from what its pictures show."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import rgb_circuit as rgb
from rgb_circuit import InputError
from rgb_circuit.boards import Canvas
from rgb_circuit.hypothesis import Claim, Sweep
from rgb_circuit.stimuli.tasks import find, named, read_hypotheses, read_task, task_of, to_toml
from rgb_circuit.task import Condition, Role, Task

GAME = find("rgb")

SHAPES = """
name = "shapes"
says = "two shapes in two colours"
asks = "bind a colour to the square, and bring it to the answer"
question = "Which color is the square? Respond in one word"
trials = "shapes.csv"
corrupted = "exchanged"

[roles]
right = "colour of the square"
other = "colour of the circle"

[conditions]
clean     = { says = "as it is",          right = "right", shows = ["right", "other"] }
exchanged = { says = "colours exchanged", right = "other", shows = ["right", "other"] }

[hypotheses.binder]
says = "carries the colour of what is asked for"
score = ["B1"]
[hypotheses.binder.predictions]
B1 = "right up, other down: z clean -> exchanged"
B2 = { claims = "right not up: pattern clean -> exchanged", says = "looking there is not enough" }
"""


def written(tmp_path, text=SHAPES):
    path = tmp_path / "shapes.toml"
    path.write_text(text)
    return path


# The game: what evidence had as tables of its own, before it followed from what pictures show


def test_controls_of_the_game_are_what_neither_picture_shows():
    assert {target: GAME.controls(target) for target in GAME.conditions} == {
        "clean": ("other", "other_background"),
        "recolored": ("other_background",),
        "erased": ("other", "other_background"),
        "swapped": ("other",),
        "moved": ("other", "other_background"),
    }


def test_the_gap_falls_to_the_picture_that_changes_the_answer_else_to_the_corrupted_one():
    for sweep, picture in (
        (Sweep("recolored"), "recolored"),
        (Sweep("recolored", source="moved"), "recolored"),
        (Sweep("clean", source="erased"), "erased"),
        (Sweep("erased", source="zero"), "erased"),
        (Sweep("clean", source="zero"), "erased"),
        # The same answer is right in both.
        (Sweep("moved"), "erased"),
        (Sweep("clean", source="moved"), "erased"),
    ):
        assert GAME.changed(sweep) == picture


def test_similarity_is_taken_out_of_absences_of_words_that_a_picture_of_one_word_does_not_show():
    claims = [claim for prediction in GAME.predictions for claim in prediction.claims]
    shared = {(str(claim), claim.sweep.text) for claim in claims if GAME.written_alone(claim)}
    assert shared == {
        ("odd not up", "z clean -> erased"),
        ("odd not up", "pattern clean -> erased"),
    }
    assert GAME.written_alone(Claim("odd", "not up", Sweep("erased"))) == "background"


def test_a_word_that_is_accepted_is_no_control():
    canvas, words = Canvas(6, 14, 0, "USER: <image> {question} A:"), list(GAME.vocabulary)
    [trial] = GAME.draw(canvas, words, 1, 0, {})
    spare = next(word for word in words if word not in trial.answers.values())
    several = replace(trial, answers={**trial.answers, "odd": (trial.answers["odd"], spare)})
    [extended] = GAME.with_controls([several], words, [trial.prompt])
    assert {*words} - {*extended.answers.values()} == {spare}


def test_who_sends_and_who_receives_follows_from_the_routes_that_are_claimed():
    assert [hypothesis.name for hypothesis in GAME.receivers] == ["color extractor"]
    assert [hypothesis.name for hypothesis in GAME.senders] == [
        "POI localization", "place relay", "background writer", "canvas suppressor",
    ]  # fmt: skip


@pytest.mark.parametrize("name", rgb.tasks())
def test_what_is_drawn_is_what_the_file_says(name):
    task = find(name)
    words = list(task.vocabulary)
    for trial in task.draw(Canvas(6, 14, 0, "USER: <image> {question} A:"), words, 8, 0, {}):
        assert list(trial.images) == list(task.conditions) and set(trial.answers) == set(task.roles)
        assert trial.expected == {
            condition: about.right for condition, about in task.conditions.items() if about.right
        }
        assert trial.prompt in {f"USER: <image> {question} A:" for question in task.questions}
        assert all(trial.answers[role] in words for role in task.drawn)
        assert all(
            trial.answers[role] == about.word
            for role, about in task.roles.items()
            if about.word is not None
        )


# Files


def test_a_task_is_written_back_the_same(tmp_path):
    for task in (*rgb.tasks().values(), read_task(written(tmp_path))):
        assert Task.of_plain(tomllib.loads(to_toml(task.plain()))) == task


def test_the_file_says_what_the_task_is(tmp_path):
    task = read_task(written(tmp_path))
    assert task == named(str(tmp_path / "shapes.toml"))
    assert task.trials == str(tmp_path / "shapes.csv") and task.draw is None
    assert task.roles["right"] == Role("colour of the square") and task.right == "right"
    assert task.conditions["exchanged"] == Condition(
        "colours exchanged", "other", ("right", "other")
    )
    assert task.targets == ("exchanged",) and task.controls("exchanged") == ()
    (binder,) = task.hypotheses
    assert (binder.name, binder.plural, binder.slots) == (
        "binder",
        "binder heads",
        [["B1"], ["B2"]],
    )
    assert task.says_of_predictions == {"B1": "", "B2": "looking there is not enough"}
    assert read_hypotheses(tmp_path / "shapes.toml") == task.hypotheses


def test_a_file_is_like_another_in_other_words_but_for_what_it_says_itself(tmp_path):
    written(tmp_path)
    path = tmp_path / "sizes.toml"
    path.write_text(
        """
like = "shapes.toml"
instead = { colour = "size", colours = "sizes", color = "size", binder = "sizer", says = "no key" }
name = "sizes"
trials = "sizes.csv"
"""
    )
    task, other = read_task(path), read_task(tmp_path / "shapes.toml")
    assert (task.name, task.trials) == ("sizes", str(tmp_path / "sizes.csv"))
    assert task.question == "Which size is the square? Respond in one word"
    assert task.roles["right"] == Role("size of the square")
    assert [hypothesis.name for hypothesis in task.hypotheses] == ["sizer"]
    assert task.predictions == other.predictions and task.corrupted == other.corrupted


@pytest.mark.parametrize(
    "text, said",
    [
        ('like = "own.toml"', "own.toml: like is 'own.toml'; name another TOML file"),
        ("like = 3", "own.toml: like is 3; name another TOML file"),
        ('like = "none.toml"', "there is no file .*none.toml"),
        (
            'like = "shapes.toml"\ninstead = { colour = 3 }',
            "own.toml: instead is {'colour': 3}; give a table",
        ),
        ('instead = { colour = "size" }', "own.toml has the key 'instead', which is not known"),
    ],
)
def test_what_a_file_cannot_be_like_is_refused(tmp_path, text, said):
    written(tmp_path)
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(InputError, match=said):
        read_task(tmp_path / "own.toml")


@pytest.mark.parametrize(
    "there, instead, said",
    [
        ('name = "shapes"\n', "", "has no 'name'; add it"),
        ('says = "two '
         'shapes', 'sais = "two shapes', "has the key 'sais', which is not known; use name"),
        ('question = "Which', 'question = 3 #"Which', "question is 3; give text in quotes"),
        ('corrupted = "exchanged"', 'corrupted = "changed"', "corrupted names 'changed', which it"),
        ('right = "colour', 'right = 3 #"colour', "roles.right is 3; give a table"),
        ('right = "colour of the '
         'square"', 'right = { word = 3 }', "roles.right.word is 3; give text"),
        ('clean     = { says', 'clear = { says', "the first of its conditions is not 'clean'"),
        ('right = "right", shows', 'right = "wrong", shows', "condition 'clean' names 'wrong'"),
        ('shows = ["right", "other"] '
         '}', 'shows = "right" }', "clean.shows is 'right'; give a list"),
        ('says = "as it is"', 'sais = "as it is"', "conditions.clean has the key 'sais'"),
        ('right = "right", '
         'shows', "shows", "condition 'clean' has no right answer, so nothing can be"),
        ("[hypotheses.binder]", "[hypothesis.binder]", "has the key 'hypothesis', which is not "
                                                       "known"),
        ('score = '
         '["B1"]', 'score = ["B3"]', "the score of hypothesis 'binder' is 'B3'; use one of B1, B2"),
        ('score = ["B1"]', 'score = "B1"', "hypotheses.binder.score is 'B1'; give a list"),
        ('score = '
         '["B1"]', "in_circuit = 1", "hypotheses.binder.in_circuit is 1; give true or false"),
        ("[hypotheses.binder.predictions]", "[hypotheses.binder.claims]", "has the key 'claims', "
                                                                          "which"),
        ('B1 = "right '
         'up,', 'B1 = "right upp,', "predictions.B1: prediction B1: 'right upp' is no claim"),
        ('B1 = "right '
         'up,', 'B1 = "wrong up,', "prediction B1 names 'wrong', which it does not have"),
        ("z clean -> "
         "exchanged", "z clean -> changed", "prediction B1 names 'changed', which it does not"),
        ('claims = "right not up', 'claim = "right not up', "predictions.B2 has the key 'claim'"),
        ("right up, "
         "other", "right up through the readers, other", "goes through or past the readers"),
        ("[roles]", "[roles", "shapes.toml is no TOML:"),
    ],
)  # fmt: skip
def test_a_slip_in_a_file_is_one_sentence_with_file_and_key(there, instead, said, tmp_path):
    assert there in SHAPES
    with pytest.raises(InputError) as raised:
        read_task(written(tmp_path, SHAPES.replace(there, instead, 1)))
    sentence = str(raised.value)
    assert (
        sentence.startswith("shapes.toml")
        and said in sentence
        and "\n" not in sentence.split(":")[0]
    )


def test_what_is_not_there_is_said(tmp_path):
    for make, said in (
        (lambda: read_task(tmp_path / "none.toml"), "there is no file"),
        (lambda: named("poker"), "there is no task 'poker'; use one of rgb"),
        (lambda: named("rgb_circuit.trial:TASK"), "there is no task 'rgb_circuit.trial:TASK'"),
        (lambda: named("rgb_circuit.stimuli.tasks.rgb:PALETTE"), "name a Task"),
        (lambda: GAME.hypothesis("reader"), "has no hypothesis 'reader'; it has color extractor"),
        (lambda: GAME.prediction("B1"), "names 'B1', which is not among its predictions"),
    ):
        with pytest.raises(InputError, match=said):
            make()
    assert named("rgb") is GAME and named("rgb_circuit.stimuli.tasks.rgb:TASK") is GAME


QUESTIONS = """
[slots]
shape = ["square", "circle"]
[templates.short]
question = "Color of the {shape}?"
questions = { asked = "Color of the other one?" }
"""


def with_questions(text=QUESTIONS):
    """`SHAPES` with a slot in its question, another question about a picture, and a template."""
    asked = (
        'asked = { right = "other", question = "Which color is the other?", picture = "clean" }\n'
    )
    there = SHAPES.replace("is the square?", "is the {shape}?")
    return there.replace("exchanged = { says", asked + "exchanged = { says") + text


def test_another_question_about_another_conditions_picture_is_read_and_written_back(tmp_path):
    task = read_task(written(tmp_path, with_questions()))
    assert task.conditions["asked"] == Condition(
        "", "other", (), "Which color is the other?", "clean"
    )
    assert task.questions == tuple(
        f"Which color is the {shape}? Respond in one word" for shape in ("square", "circle")
    )
    short = task.asked_by("short")
    assert short.questions == ("Color of the square?", "Color of the circle?")
    assert short.conditions["asked"].question == "Color of the other one?"
    assert task.asked_by("plain") is task and short.predictions == task.predictions
    for asked in (task, short):
        assert Task.of_plain(tomllib.loads(to_toml(asked.plain()))) == asked


@pytest.mark.parametrize(
    "there, instead, said",
    [
        (
            'shape = ["square", "circle"]',
            "",
            "names 'shape', which it does not have; use one of (none)",
        ),
        ('shape = ["square", "circle"]', "shape = 3", "slots.shape is 3; give a list"),
        (
            'shape = ["square", "circle"]',
            "shape = []",
            "the slots of its question have no words that differ",
        ),
        ('question = "Color of the {shape}?"', "", "templates.short has no 'question'; add it"),
        ("questions = {", "asks = {", "templates.short has the key 'asks', which is not known"),
        ('{ asked = "Color', '{ asking = "Color', "template 'short' names 'asking'"),
        (
            'questions = { asked = "Color of the other one?" }',
            "",
            "no question for condition 'asked', which",
        ),
        (
            "questions = {",
            'words = ["yes"]\nquestions = {',
            "template 'short' has 1 words; give the two",
        ),
    ],
)
def test_a_slip_in_a_question_is_one_sentence(there, instead, said, tmp_path):
    assert there in QUESTIONS
    with pytest.raises(InputError) as raised:
        read_task(written(tmp_path, with_questions(QUESTIONS.replace(there, instead, 1))))
    assert said in str(raised.value) and str(raised.value).startswith("shapes.toml")


def test_a_picture_that_is_no_conditions_is_refused(tmp_path):
    with pytest.raises(InputError, match="condition 'asked' names 'clear', which it does not have"):
        read_task(
            written(tmp_path, with_questions().replace('picture = "clean"', 'picture = "clear"'))
        )


# Which task trials are of


def pair(**fields):
    given = dict(
        name="a",
        prompt="<image> Which?",
        images={
            "clean": Image.new("RGB", (8, 8), "red"),
            "changed": Image.new("RGB", (8, 8), "blue"),
        },
        answers={"right": "red", "wrong": "blue"},
        expected={"clean": "right", "changed": "wrong"},
    )
    return rgb.Trial(**{**given, **fields})


def test_trials_are_of_the_task_that_drew_them_or_whose_names_they_have():
    drawn = rgb.rgb_trials(rgb.load("toy"), 2)
    assert drawn[0].task is GAME and task_of(drawn) is GAME
    by_hand = rgb.rgb_trial()
    assert by_hand.task is None and task_of([by_hand]) is GAME
    own = task_of([pair()])
    assert own.corrupted == "changed" and own.right == "right"
    shipped = read_task(Path(rgb.__file__).parent / "stimuli" / "tasks" / "pairs.toml")
    as_shipped = pair(
        answers={"right": "red", "other": "blue"}, expected={"clean": "right", "changed": "other"}
    )
    assert Task.of_trials([as_shipped]).hypotheses == shipped.hypotheses
    assert own.hypotheses[0].predictions[0].text == "right up, wrong down: z clean -> changed"
    # Of pictures without two right answers nothing is claimed.
    assert task_of([replace(pair(), expected={"clean": "right"})]).hypotheses == ()
    # Nor of trials that disagree which roles are right.
    turned = replace(pair(), name="2", expected={"clean": "wrong", "changed": "right"})
    assert task_of([pair(), turned]).hypotheses == ()
    assert task_of([replace(pair(), task=own)]) is own
    # Who drew it is no part of what a trial is.
    assert drawn[0].content == replace(drawn[0], task=None).content and drawn[0] == replace(
        drawn[0], task=None
    )


def test_the_trials_that_a_task_draws_for_a_model_are_the_games():
    model = rgb.load("toy")
    for fixed in ({}, {"odd": "red", "background": "cyan"}):
        drawn = rgb.trials(model, "rgb", 4, seed=3, **fixed)
        assert [trial.content for trial in drawn] == [
            trial.content for trial in rgb.rgb_trials(model, 4, seed=3, **fixed)
        ]
    with pytest.raises(InputError, match="draws no pictures; give trials from a file"):
        rgb.trials(model, task_of([pair()]))
    # The words of a question that nobody asks would be those of another one.
    reworded = replace(GAME, question="Which tile differs?")
    with pytest.raises(InputError, match="asks 'Which tile differs.', but its drawing function"):
        rgb.trials(model, reworded, 4)
    words = replace(GAME, vocabulary={"zebra": None})
    with pytest.raises(
        InputError, match=r"no word of the task \(zebra, …\) is in the vocabulary of 'toy'"
    ):
        rgb.trials(model, words)
