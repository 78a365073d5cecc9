"""An analysis is a generator of steps: called it follows them, and what it asks first is each
trial's own."""

import inspect
from dataclasses import replace

import pandas as pd
import pytest

import rgb_circuit as rgb
from analyses import circuit, composition, roles, steering, task_reading
from analyses.study import closer_look
from analyses.study.findings import Study, asked_first
from rgb_circuit.calls.play import Played
from rgb_circuit.keeping.manifest import manifest
from rgb_circuit.keeping.saved_run import recorded_model
from rgb_circuit.measuring.measure import Unit, follow, stepwise
from rgb_circuit.measuring.measurement import Request

HEADS, OTHERS = [(1, 0), (2, 1)], [(3, 0), (3, 1)]
ANALYSES = {
    "circuit": lambda model, trials: circuit.circuit.steps(model, trials, HEADS, random_sets=2),
    "ranked": lambda model, trials: circuit.ranked.steps(model, trials),
    "faithfulness": lambda model, trials: circuit.curve.steps(
        model, trials, model.heads(), random_sets=2
    ),
    "composition": lambda model, trials: composition.composition.steps(
        model, trials, HEADS, OTHERS
    ),
    "mediation": lambda model, trials: composition.mediation.steps(model, trials, HEADS, OTHERS),
    "paths": lambda model, trials: composition.paths.steps(model, trials, HEADS, OTHERS),
    "questions": lambda model, trials: task_reading.evidence.steps(model, trials),
    "roles": lambda model, trials: roles.steps(model, trials),
    "steering": lambda model, trials: steering.steering.steps(model, trials, HEADS, OTHERS),
}
OF_TRIALS = ("stimuli", "curve", "task_reading", "looks", "direct_effects")


@pytest.fixture(scope="module")
def toy():
    return rgb.load("toy")


@pytest.fixture(scope="module")
def trials(toy):
    return rgb.rgb_trials(toy, 6)


@stepwise(stage="playing")
def right(model, trials, *, condition="clean", progress=True):
    """The share of right answers."""
    [played] = yield [Played.of(trials, [condition])]
    return played["correct"].mean()


def test_an_analysis_is_a_function_that_follows_its_steps(toy, trials):
    assert (
        right(toy, trials, progress=False)
        == follow(toy, right.steps(toy, trials), progress=False)
        == 1
    )
    assert right(trials=trials, model=toy, condition="erased", progress=False) == 1
    assert inspect.isgenerator(right.steps(toy, trials))
    assert right.__doc__ == "The share of right answers." and right.__name__ == "right"
    assert list(inspect.signature(right).parameters) == ["model", "trials", "condition", "progress"]


@pytest.mark.parametrize("shown", [True, False])
def test_progress_is_for_the_bar_alone(toy, trials, shown, monkeypatch):
    bars = []
    monkeypatch.setattr(
        "rgb_circuit.measuring.measure.tqdm", lambda **options: bars.append(options) or _Bar()
    )
    right(toy, trials, progress=shown)
    assert bars[0]["desc"] == "playing" and {bar["disable"] for bar in bars} == {not shown}


class _Bar:
    n = 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def update(self, count):
        self.n += count


def test_an_argument_that_an_analysis_lacks_is_refused_where_it_is_called(toy, trials):
    with pytest.raises(
        TypeError, match=r"right\(\) got an unexpected keyword argument 'conditions'"
    ):
        right(toy, trials, conditions=["clean"])


def first_of(name, model, trials):
    """What an analysis asks at its first step."""
    steps = (
        ANALYSES[name](model, trials)
        if name in ANALYSES
        else closer_look.of_trials(model, trials, roles.GAME)[name]
    )
    return next(steps)


@pytest.mark.parametrize("name", [*ANALYSES, *OF_TRIALS])
def test_what_an_analysis_asks_first_needs_no_model_and_no_frame(toy, trials, name):
    absent = recorded_model(manifest(toy, trials, {}))
    asked = first_of(name, absent, trials)
    assert [one.key for one in asked] == [one.key for one in first_of(name, toy, trials)] != []


@pytest.mark.parametrize("name", ["roles", *OF_TRIALS])
def test_what_a_run_asks_first_each_trial_gives_by_itself(toy, trials, name):
    for measurement in first_of(name, toy, trials):
        part = measurement.only(trials[::2])
        assert type(part) is type(measurement) and part.key == measurement.key
        assert [trial.name for trial in part.trials] == [
            trial.name
            for trial in measurement.trials
            if trial.name in {shown.name for shown in trials[::2]}
        ]


def units_of(measurements):
    return sorted((one.key, trial.content) for one in measurements for trial in one.trials)


def test_shards_measure_what_the_whole_run_asks_first(toy, trials):
    whole = asked_first(toy, trials, trials, Study())
    shards = [asked_first(toy, trials[which::2], trials, Study()) for which in range(2)]
    assert {*OF_TRIALS, "run", "roles"} == whole.keys()
    for name, measurements in whole.items():
        parts = [
            (one.key, trial.content)
            for shard in shards
            for one in shard[name]
            for trial in one.trials
        ]
        assert sorted(parts) == sorted(
            (one.key, trial.content) for one in measurements for trial in one.trials
        )


def test_frames_of_an_analysis_and_of_its_steps_are_the_same(toy, trials):
    followed = follow(toy, circuit.ranked.steps(toy, trials), progress=False)
    pd.testing.assert_frame_equal(circuit.ranked(toy, trials, progress=False), followed)


def test_requests_share_pictures_only_under_one_question(trials):
    trial = trials[0]

    def request(asked):
        return Request(asked, lengths={"clean": 9}, ids=(), part=lambda seen: seen)

    unit = Unit([(None, request(trial))])
    assert unit.shares(request(replace(trial)))
    assert not unit.shares(request(replace(trial, prompt=trial.prompt + " please")))
