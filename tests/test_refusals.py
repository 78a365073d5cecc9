"""Why a model refused a measurement is kept with its run, and said again where there is no model to
ask."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

import rgb_circuit as rgb
from analyses import evidence
from analyses.evidence.verdict import UNEQUAL
from analyses.study import closer_look
from rgb_circuit.calls.patching import PatchedHeads
from rgb_circuit.calls.play import Played
from rgb_circuit.errors import CannotWrite, ModelError, NotFinite, NotLinedUp, PictureGone
from rgb_circuit.heads import Head
from rgb_circuit.hypothesis import Hypothesis, Prediction
from rgb_circuit.keeping.manifest import manifest
from rgb_circuit.keeping.saved_run import ModelNeeded, recorded_model
from rgb_circuit.keeping.store import open_store
from rgb_circuit.measuring.measure import follow, measure, measure_all
from rgb_circuit.measuring.measurement import Measurement, OfPictures
from rgb_circuit.pictures import PictureFile

# What is raised, at a step of a measurement, of a trial's name.
RAISED: dict[tuple[str, str], Exception] = {}


def answer(step, *trials):
    for trial in trials:
        if error := RAISED.get((step, trial.name)):
            raise error


@dataclass(frozen=True)
class Asked(Measurement):
    """A measurement that may refuse before it measures or while it does."""

    function = "asked"

    def prepare(self, model, jobs):
        assert model.processor.tokenizer
        answer("prepared", *self.trials)
        return self.measured

    def measured(self, trials, jobs):
        for trial in trials:
            answer("measured", trial)
            yield {trial.name: pd.DataFrame({"trial": [trial.name]})}


@dataclass(frozen=True)
class Pictured(OfPictures):
    """One that may refuse when it says what it asks of a trial."""

    function = "pictured"

    def prepare(self, model, jobs):
        assert model.processor.tokenizer
        return partial(answer, "requested")


@dataclass(frozen=True)
class Whole(Asked):
    """One with one part, of all trials."""

    function = "whole"
    whole = True

    def measured(self, jobs):
        answer("measured", *self.trials)
        return pd.DataFrame({"trials": [len(self.trials)]})


@pytest.fixture
def trials(grouped):
    RAISED.clear()
    return rgb.rgb_trials(grouped, 3)


@pytest.fixture
def recorded(grouped, trials):
    return manifest(grouped, trials, {})


@pytest.fixture
def store(recorded, tmp_path):
    return open_store(tmp_path / "run", recorded)


def refusal(model, asked, store):
    with pytest.raises(rgb.InputError) as caught:
        measure(model, [asked], store)
    return caught.value


@pytest.mark.parametrize("error", [rgb.InputError, NotLinedUp, ModelError])
@pytest.mark.parametrize(
    "kind, step",
    [(Asked, "prepared"), (Asked, "measured"), (Pictured, "requested"), (Whole, "measured")],
)
def test_what_a_model_refused_is_said_again_without_it(
    kind, step, error, grouped, trials, recorded, store
):
    asked, absent = kind(tuple(trials)), recorded_model(recorded)
    with pytest.raises(ModelNeeded):
        measure(absent, [asked], store)
    RAISED[step, trials[1].name] = error("it sees nothing")
    first = refusal(grouped, asked, store)
    RAISED.clear()
    # A server is not asked twice either, nor what took forwards to see where the model is here.
    here = [grouped] if step == "measured" else []
    for elsewhere in (absent, replace(grouped, server=object()), *here):
        again = refusal(elsewhere, asked, store)
        assert type(again) is type(first) is error and str(again) == str(first) == "it sees nothing"


def test_a_refusal_is_of_its_trials_and_of_all_that_hold_them(
    grouped, trials, recorded, store, tmp_path
):
    absent = recorded_model(recorded)
    for trial, step in zip(trials[1:], ("prepared", "measured")):
        RAISED[step, trial.name] = rgb.InputError(f"not {trial.name}")
    # As shards do, the later trial first, and the second into a folder of its own.
    other = open_store(tmp_path / "other", recorded)
    refusal(grouped, Asked(tuple(trials[2:])), store)
    refusal(grouped, Asked(tuple(trials[1:2])), other)
    with pytest.raises(ModelNeeded):
        measure(absent, [Asked(tuple(trials[:2]))], store)
    store.take_over(other.folder)
    for some in (trials[:2], trials[1:], trials):
        assert str(refusal(absent, Asked(tuple(some)), store)) == f"not {trials[1].name}"
    with pytest.raises(ModelNeeded):
        measure(absent, [Asked(tuple(trials[:1]))], store)
    # Another question is another measurement.
    with pytest.raises(ModelNeeded):
        measure(absent, [Whole(tuple(trials))], store)


def test_a_trial_that_is_called_otherwise_keeps_its_refusal(grouped, trials, recorded, tmp_path):
    there, here = (open_store(tmp_path / name, recorded) for name in ("there", "here"))
    RAISED["measured", trials[0].name] = rgb.InputError("not this one")
    asked = Asked(tuple(trials[:1]))
    refusal(grouped, asked, there)
    here.take_over(there.folder, {asked.key: "key", trials[0].content: "content"})
    assert str(here.refusal("key", ["content"])) == "not this one"
    assert here.refusal(asked.key, [trials[0].content]) is None


@pytest.mark.parametrize(
    "step, error, server",
    [
        ("prepared", rgb.InputError, None),
        ("measured", NotFinite, None),
        ("measured", NotFinite, object()),
    ],
)
def test_the_model_is_asked_again_and_what_it_gives_stands(
    step, error, server, grouped, trials, recorded, store
):
    absent, asked = recorded_model(recorded), Asked(tuple(trials))
    RAISED[step, trials[1].name] = error("not now")
    refusal(grouped, asked, store)
    assert str(refusal(absent, asked, store)) == "not now"
    RAISED.clear()
    [frame] = measure(replace(grouped, server=server), [asked], store)
    assert list(frame["trial"]) == [trial.name for trial in trials]
    if step == "prepared":
        return
    # What was refused of one trial has nothing to say of others that lack a part.
    store._path(asked.key, trials[2].content).unlink()
    with pytest.raises(ModelNeeded):
        measure(absent, [asked], store)


@pytest.mark.parametrize("error", [ValueError("a fault of ours"), CannotWrite("a full disk")])
@pytest.mark.parametrize("step", ["prepared", "measured"])
def test_a_fault_of_ours_and_a_full_disk_are_not_kept(
    error, step, grouped, trials, recorded, store
):
    RAISED[step, trials[0].name] = error
    asked = Asked(tuple(trials))
    with pytest.raises(type(error), match=str(error)):
        measure(grouped, [asked], store)
    with pytest.raises(ModelNeeded):
        measure(recorded_model(recorded), [asked], store)


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"half a pi")])
def test_a_picture_that_cannot_be_read_for_now_is_no_refusal(
    spoil, grouped, trials, recorded, store, tmp_path
):
    clean, picture = trials[0].images["clean"], tmp_path / "clean.png"
    clean.save(picture)
    own = replace(trials[0], images={**trials[0].images, "clean": PictureFile.read(picture)})
    asked = Played((own, *trials[1:]), ("clean",))
    spoil(picture)
    with pytest.raises(PictureGone, match="clean.png"):
        measure(grouped, [asked], store)
    assert not [*store.folder.glob("parts/*/*.refused")]
    clean.save(picture)
    [frame] = measure(replace(grouped, server=None), [asked], store)
    assert len(frame) == len(trials)


@pytest.mark.parametrize("positions, void", [("end", [False, True]), ("image", [True, True])])
def test_a_sweep_that_does_not_line_up_is_void_without_the_model_too(
    positions, void, grouped, tmp_path
):
    trials = [
        replace(trial, prompts={"recolored": grouped.prompt("Which color is the odd color?")})
        for trial in rgb.rgb_trials(grouped, 8)
    ]
    store = open_store(tmp_path / "run", manifest(grouped, trials, {}))
    texts = ["odd above others: z clean -> recolored", "odd up: pattern clean -> recolored"]
    reader = Hypothesis("reader", tuple(map(Prediction.parse, "ZP", texts)))
    # As shards do: each of its own trials, all that is asked of each.
    for some in (trials[:3], trials[3:]):
        for one in evidence.needs(grouped, trials, [reader], positions=positions):
            measure_all(grouped, {"one": [one.only(some)]}, store)
    absent = recorded_model(manifest(grouped, trials, {}))
    found, again = (
        follow(model, evidence.steps(model, trials, [reader], positions=positions), store)
        for model in (grouped, absent)
    )
    reasons = found.drop_duplicates("prediction")["void"]
    assert list(reasons == UNEQUAL) == void
    pd.testing.assert_frame_equal(again, found, check_exact=True)
    # Whoever asks for the sweep alone is told why there is none.
    sweep = PatchedHeads.of(grouped, trials, "clean", "recolored", "pattern", positions)
    assert "line up from either end" in str(refusal(grouped, sweep, store))


def test_a_model_that_was_changed_is_no_refusal(grouped, trials, recorded, store, monkeypatch):
    asked = Asked(tuple(trials))
    with monkeypatch.context() as changed:
        changed.setattr(
            grouped.nnsight._module.config.text_config, "rope_theta", 1.0, raising=False
        )
        assert "wrap or load it again" in str(refusal(grouped, asked, store))
    with pytest.raises(ModelNeeded):
        measure(recorded_model(recorded), [asked], store)


def test_where_heads_look_on_pictures_that_nobody_knows_is_refused_before_any_forward(
    grouped, trials, recorded, store, no_forward, monkeypatch
):
    def unknown(*given):
        raise rgb.InputError("its tokens cannot be laid over it")

    monkeypatch.setattr(closer_look, "laid_out", unknown)
    asked = closer_look.Looked(tuple(trials), (Head(0, 1),))
    for model in (grouped, recorded_model(recorded)):
        assert str(refusal(model, asked, store)) == "its tokens cannot be laid over it"


def test_a_refusal_that_cannot_be_read_is_none(grouped, trials, recorded, store):
    RAISED["prepared", trials[0].name] = rgb.InputError("no")
    asked = Asked(tuple(trials))
    refusal(grouped, asked, store)
    [file] = store.folder.glob("parts/*/*.refused")
    for text in ("{", "[]", '{"units": []}', "3"):
        file.write_text(text)
        with pytest.raises(ModelNeeded):
            measure(recorded_model(recorded), [asked], store)
