"""Which shipped model is asked where nobody names one."""

from dataclasses import replace

import pytest

import rgb_circuit as rgb
from analyses.command import command_parser, main
from analyses.command.loading import model_and_trials
from rgb_circuit.loading.shipped import WordsNeeded, shipped_for
from rgb_circuit.stimuli.tasks import find, tasks
from rgb_circuit.task import PLAIN

RGB, COUNTING = find("rgb"), find("counting")


def chosen(*asked):
    return shipped_for(WordsNeeded.of_task(task) for task in asked)


def test_the_game_is_asked_of_the_toy_without_a_word_about_it():
    assert chosen(RGB) == ("toy", "")


@pytest.mark.parametrize("name", [name for name in tasks() if name != "rgb"])
def test_every_other_task_that_ships_is_asked_of_the_talker_in_every_template(name):
    task = find(name)
    for template in (PLAIN, *task.templates):
        model, says = shipped_for([WordsNeeded.of_task(task, template)])
        assert model == "talker" and says.startswith("Model: talker, since toy does not know '")


def test_the_game_beside_another_task_is_asked_of_the_model_that_knows_both():
    assert chosen(RGB, COUNTING)[0] == chosen(COUNTING, RGB)[0] == "talker"


def test_a_model_knows_a_vocabulary_of_which_it_knows_as_many_words_as_a_trial_draws():
    # The game draws four colours; the toy knows no brown.
    words = ["red", "green", "blue", "black", "brown"]
    assert chosen(replace(RGB, vocabulary=dict.fromkeys(words)))[0] == "toy"
    assert chosen(replace(RGB, vocabulary=dict.fromkeys(words[1:])))[0] == "talker"


def test_answers_that_no_shipped_model_knows_are_refused_with_both():
    animals = replace(RGB, name="animals", vocabulary=dict.fromkeys(["cat", "dog", "cow", "hen"]))
    with pytest.raises(rgb.InputError) as refused:
        chosen(animals)
    assert str(refused.value) == (
        "no shipped model can be asked animals: toy does not know 'cat', 'dog', 'cow', …; talker "
        "does not know 'cat', 'dog', 'cow', …; name one that can with --model, such as a folder or "
        "a hub id"
    )


def test_a_question_that_no_shipped_model_knows_is_asked_and_told():
    odd = replace(RGB, question="Which color is the animal?")
    model, says = chosen(odd)
    assert model == "toy"
    assert "toy does not know 'animal'; talker does not know 'animal'" in says


def test_every_word_of_given_trials_counts():
    trial = rgb.rgb_trials(rgb.load("toy"), 1)[0]
    brown = replace(trial, answers={**trial.answers, "odd": "brown"})
    asked = [WordsNeeded.of_trials([trial, one], "pairs.csv") for one in (trial, brown)]
    assert [shipped_for([one])[0] for one in asked] == ["toy", "talker"]


@pytest.mark.parametrize(
    "arguments, model",
    [
        (["play"], "toy"),
        (["play", "--task", "counting"], "talker"),
        (["play", "--task", "counting", "--model", "toy"], "toy"),
        (["calibrate", "--hypotheses", "any.toml", "--task", "counting"], "talker"),
    ],
)
def test_the_command_takes_it_where_no_model_is_named(arguments, model, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "analyses.study.loaded", lambda name, **options: asked.append(name) or rgb.load("talker")
    )
    options = command_parser().parse_args(arguments)
    options.hypotheses, options.trials, options.fix = None, "8", {}
    model_and_trials(options)
    assert asked == [model]


def test_a_dry_run_of_two_tasks_is_about_the_talker(capsys):
    assert main(["run", "--task", "rgb", "--task", "counting", "--trials", "8", "--dry-run"]) == 0
    told = capsys.readouterr()
    assert told.out.count("talker: 8 trials, 24 heads") == 2
    assert told.err.count("Model: talker, since toy does not know 'How', 'many', 'dots', ….") == 1
