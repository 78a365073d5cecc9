"""What cannot be done is said in one sentence that names the value and the way out, before any
forward."""

import numpy as np
import pandas as pd
import pytest
import torch

import rgb_circuit as rgb
from analyses import circuit, composition, evidence, roles, task_reading
from analyses.attention_statistics import attention_statistics
from rgb_circuit.calls.attention import attention_from_end
from rgb_circuit.programs.capture import capture
from rgb_circuit.running.execute import execute


@pytest.fixture(scope="module")
def trials(grouped):
    return rgb.rgb_trials(grouped, 2)


def changed(trial, **changes):
    fields = dict(
        name=trial.name,
        prompt=trial.prompt,
        images=trial.images,
        answers=trial.answers,
        tile=trial.tile,
        grid=trial.grid,
    )
    return rgb.Trial(**{**fields, **changes})


@pytest.mark.parametrize(
    "options, parts",
    [
        (dict(heads=[(3, 0)]), ["head 3.0", "layers 0 to 2", "heads 0 to 3"]),
        (dict(heads=[(0, -1)]), ["head 0.-1"]),
        (dict(heads=[]), ["nothing to patch"]),
        (dict(target="blurred"), ["blurred", "recolored"]),
        (dict(target=()), ["target is empty"]),
        (dict(source="blurred"), ["blurred", "clean"]),
        (dict(component="keys"), ["'keys'", "'pattern'"]),
        (dict(component="mlp_out"), ["whole layer", "head=None"]),
        (dict(component="pattern", source="zero"), ["'zero'", "'z'"]),
        (dict(positions="middle"), ["'middle'", "'end'", "ints"]),
        (dict(positions=[0, 99]), ["99", "53 tokens"]),
        (dict(positions=[]), ["[]", "ints"]),
        (dict(positions=5), ["5", "ints"]),
        (dict(positions=[1.5]), ["1.5", "ints"]),
        (dict(heads=(3, 2)), ["(3, 2)", "pairs"]),
        (dict(heads=["3.2"]), ["3.2", "pairs"]),
        (dict(heads=[(1.7, 2)]), ["1.7", "pairs"]),
        (dict(source=["clean"]), ["clean", "one condition"]),
        (dict(batch_size="4"), ["'4'", "whole number"]),
        (dict(batch_size=0), ["batch_size is 0"]),
    ],
)
def test_patch_heads(grouped, trials, no_forward, options, parts):
    with pytest.raises(rgb.InputError) as error:
        rgb.patch_heads(grouped, trials, **options)
    assert all(part in str(error.value) for part in parts), str(error.value)


@pytest.mark.parametrize(
    "variants, parts",
    [
        ({}, ["nothing to patch"]),
        ([rgb.Edit(0, 1)], ["list", "dictionary"]),
        ({"empty": []}, ["'empty'", "at least one"]),
        ({"bare": rgb.Edit(0, 1)}, ["'bare'", "list"]),
        ({1: [rgb.Edit(0, 1)], "1": [rgb.Edit(0, 2)]}, ["same name"]),
        (
            {"twice": [rgb.Edit(0, 1), rgb.Edit(0, 1, "zero")]},
            ["'twice'", "0.1", "twice at position 52"],
        ),
        (
            {"overlap": [rgb.Edit(0, 1, positions="all"), rgb.Edit(0, 1, "zero", positions=[3])]},
            ["'overlap'", "twice at position 3"],
        ),
        ({"far": [rgb.Edit(0, 9)]}, ["0.9"]),
    ],
)
def test_patch_edits(grouped, trials, no_forward, variants, parts):
    with pytest.raises(rgb.InputError) as error:
        rgb.patch_edits(grouped, trials, variants, target="erased")
    assert all(part in str(error.value) for part in parts), str(error.value)


def test_trials(grouped, trials, no_forward):
    first = trials[0]
    two = {"clean": first.images["clean"], "erased": first.images["erased"]}
    large = {name: image.resize((48, 48)) for name, image in first.images.items()}
    refused = {
        "no trials": [],
        first.name: [first, first],
        "'recolored'": [changed(first, images=two)],
        "'mauve'": [changed(first, answers={"odd": "mauve"})],
        "begin with the token 'odd'": [
            changed(first, answers={"odd": "odd color", "other": "odd"})
        ],
        "24 × 24": [rgb.rgb_trial()],
        "8 px": [changed(first, images=large)],
    }
    for part, given in refused.items():
        with pytest.raises(rgb.InputError) as error:
            rgb.patch_heads(grouped, given)
        assert part in str(error.value), str(error.value)


@pytest.mark.parametrize(
    "changes, said",
    [
        (dict(answers={"right": float("nan")}), "answer 'right' of trial .* is nan (float); give "
                                                "text"),
        (dict(answers={"right": None}), "answer 'right' of trial .* is None (NoneType); give"),
        (dict(answers={"right": pd.NA}), "answer 'right' of trial .* is <NA> (NAType); give"),
        (dict(answers={"right": 3.0}), "answer 'right' of trial .* is 3.0 (float); give text"),
        (dict(answers={"right": True}), "answer 'right' of trial .* is True (bool); give text"),
        (dict(answers={"right": [["yes", "no"]]}), "answer 'right' of trial .* is ['yes', 'no'] "
                                                   "(list); give"),
        (dict(answers={"right": ""}), "answer 'right' of trial .* is blank ('')"),
        (dict(answers={"right": " \n"}), "answer 'right' of trial .* is blank (' \\n')"),
        (dict(answers={"right": "red", "other": "red"}), "one word for two roles, 'red' for "
                                                         "'right' and"),
        (dict(answers={"right": "yes", "other": " Yes"}), "'yes' for 'right' and 'Yes' for "
                                                          "'other'"),
        (dict(answers={1: "red"}), "has 1 (int) among its answers; name each in text"),
        (dict(answers={" ": "red"}), "has ' ' (str) among its answers; name each in text"),
        (dict(answers=["red", "blue"]), "the answers of trial .* are a list; give a mapping of "
                                        "roles"),
        (dict(answers={}), "has no answers"),
        (dict(name=float("nan")), "the name of a trial is nan (float); give text"),
        (dict(name=" "), "the name of a trial is blank (' ')"),
        (dict(prompt=None), "the prompt of trial .* is None (NoneType); give text"),
        (dict(prompt=""), "the prompt of trial .* is blank"),
        (dict(prompts={"erased": None}), "the prompt of trial .* is None"),
        (dict(images=[]), "the images of trial .* are a list; give a mapping of conditions to "
                          "pictures"),
        (dict(expected={"clean": ["odd"]}), "expects ['odd'] for 'clean', but has the conditions"),
        (dict(expected={"clean": None}), "expects None for 'clean', but has the conditions"),
        (dict(tile=float("nan")), "tile is nan; give its row and column"),
        (dict(tile=(1, float("nan"))), "tile is (1, nan); give its row and column"),
        (dict(tile="12"), "tile is '12'; give its row and column"),
        (dict(grid="6"), "grid is '6'; give a whole number"),
    ],
)  # fmt: skip
def test_what_a_table_holds_is_named_by_trial_and_field(trials, changes, said):
    with pytest.raises(rgb.InputError) as error:
        changed(trials[0], **changes)
    before, _, after = said.partition(".*")
    assert before in str(error.value) and after in str(error.value), str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_whole_numbers_are_words_and_names(grouped, trials):
    text = changed(trials[0], name="7", answers={"right": "red", "other": "blue"})
    counted = changed(
        trials[0], name=np.int64(7), answers={"right": np.str_("red "), "other": "\nblue"},
        tile=np.array(trials[0].tile), grid=np.float64(trials[0].grid),
    )  # fmt: skip
    assert counted == text and counted.content == text.content and repr(counted) == repr(text)
    numbers = changed(trials[0], answers={"right": 3, "other": np.int64(4)})
    assert numbers.answers == {"right": "3", "other": "4"}
    assert rgb.play(grouped, counted, progress=False).equals(
        rgb.play(grouped, text, progress=False)
    )


def test_the_games_word_for_nothing_odd_may_be_a_colour(trials):
    assert changed(trials[0], answers={"odd": "white", "none": "white"}).answers["none"] == "white"


def test_a_blank_question_is_asked_but_has_no_positions(grouped, trials):
    for question in ("", " ", "\n"):
        trial = changed(trials[0], prompt=grouped.prompt(question))
        assert len(rgb.play(grouped, trial, ["clean"], progress=False)) == 1
        with pytest.raises(rgb.InputError, match="question of trial .* is blank.*'text' or 'end'"):
            rgb.patch_heads(grouped, trial, positions="question", heads=[(0, 0)], progress=False)
    with pytest.raises(rgb.InputError, match="the question is nan .float.; give it as text"):
        grouped.prompt(float("nan"))


def test_a_condition_may_not_be_named_like_a_source_without_a_picture(grouped, trials, no_forward):
    images = {"clean": trials[0].images["clean"], "mean": trials[0].images["erased"]}
    with pytest.raises(rgb.InputError, match="'mean'.*rename"):
        rgb.patch_heads(grouped, [changed(trials[0], images=images)], target="mean")


def test_a_tile_is_needed_for_tile_positions(grouped, trials, no_forward):
    with pytest.raises(rgb.InputError, match="no tile"):
        rgb.patch_heads(grouped, [changed(trials[0], tile=None, grid=None)], positions="tile")


def test_pictures_without_a_tile_may_have_any_size(grouped, trials):
    first = trials[0]
    images = {name: image.resize((50, 40)) for name, image in first.images.items()}
    frame = rgb.patch_heads(
        grouped, [changed(first, images=images, tile=None, grid=None)], progress=False
    )
    assert frame["effect"].notna().all()


def test_samples(grouped):
    with pytest.raises(rgb.InputError, match="n is 0"):
        rgb.rgb_trials(grouped, 0)
    with pytest.raises(rgb.InputError, match="n is 2.5"):
        rgb.rgb_trials(grouped, 2.5)
    with pytest.raises(rgb.InputError, match="seed is -1"):
        rgb.rgb_trials(grouped, 2, seed=-1)
    with pytest.raises(rgb.InputError, match="no conditions"):
        rgb.play(grouped, rgb.rgb_trials(grouped, 1), [])
    with pytest.raises(rgb.InputError, match="cannot fix grid"):
        rgb.rgb_trials(grouped, 1, grid=8)
    with pytest.raises(rgb.InputError, match="mauve"):
        rgb.rgb_trials(grouped, 1, odd="mauve")
    with pytest.raises(rgb.InputError, match="colours are to be drawn"):
        rgb.rgb_trials(grouped, 1, palette={"red": (255, 0, 0), "blue": (0, 0, 255)})


def test_the_mean_needs_prompts_of_equal_length(grouped, trials):
    longer = changed(trials[1], prompt=trials[1].prompt.replace("one word", "one one word"))
    with pytest.raises(rgb.InputError, match="mean over trials needs prompts of equal length"):
        rgb.patch_heads(grouped, [trials[0], longer], source="mean", positions="all")
    assert len(rgb.patch_heads(grouped, [trials[0], longer], source="mean", progress=False))


FUNCTIONS = {
    "play": rgb.play,
    "patch_heads": rgb.patch_heads,
    "patch_edits": lambda model, trials: rgb.patch_edits(
        model, trials, {"one": [rgb.Edit(0, 1)]}, target="erased"
    ),
    "knockout": lambda model, trials: rgb.knockout(model, trials, queries="end", keys=["image"]),
    "patch_layers": rgb.patch_layers,
    "answer_pieces": rgb.answer_pieces,
    "direct_effects": rgb.direct_effects,
    "noise_floor": lambda model, trials: pd.DataFrame(
        {"floor": [rgb.noise_floor(model, trials, target="erased")]}
    ),
    "attention_from_end": lambda model, trials: pd.DataFrame(
        [pattern.ravel() for _, _, pattern in attention_from_end(model, trials)]
    ),
    "attention_statistics": attention_statistics,
    "reading": task_reading.reading,
    "patch_questions": task_reading.patch_questions,
}


@pytest.fixture
def infinite(grouped):
    """A model with one weight too large to read logits from."""
    weight = grouped.nnsight._module.lm_head.weight
    before = weight[5, 0].item()
    with torch.no_grad():
        weight[5, 0] = torch.inf
        yield grouped
        weight[5, 0] = before


RUNS = {name: FUNCTIONS[name] for name in (
    "play", "patch_heads", "knockout", "direct_effects", "attention_from_end", "patch_questions",
)} | {
    "attribute": rgb.attribute,
    "generate": lambda model, trials: rgb.generate(model, trials[0]),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_logits_that_are_not_finite(infinite, trials, name):
    with pytest.raises(rgb.InputError, match="not finite in torch.float32"):
        RUNS[name](infinite, trials)


@pytest.mark.parametrize("run", ["source", "target"])
def test_one_run_that_is_not_finite_is_enough(grouped, trials, monkeypatch, run):
    captured = iter(["source", "target", "other target"])

    def spoiled(*given):
        found = capture(*given)
        if next(captured) == run:
            found.logits = torch.full_like(found.logits, torch.inf)
        return found

    monkeypatch.setattr("rgb_circuit.programs.attributed.capture", spoiled)
    with pytest.raises(rgb.InputError, match="not finite in torch.float32"):
        rgb.attribute(grouped, trials)


LOOKING = rgb.Edit(0, 1, "erased", component="pattern")


@pytest.mark.parametrize(
    "program, run",
    [
        ("patterns", FUNCTIONS["attention_from_end"]),
        ("said", lambda model, trials: rgb.generate(model, trials[0], edits=LOOKING)),
        ("measured", lambda model, trials: rgb.patch_heads(model, trials, component="pattern")),
    ],
)
def test_attention_of_another_form_is_refused(grouped, trials, monkeypatch, program, run):
    monkeypatch.setattr(f"rgb_circuit.programs.{program}.attention_gaps", lambda captured: [1.0])
    with pytest.raises(rgb.InputError, match="attention in layer 0 .* is not softmax"):
        run(grouped, trials)


def test_gradients_of_a_run_that_ends_elsewhere_are_refused(grouped, trials, monkeypatch):
    def elsewhere(*given, **options):
        return {name: found | {"drift": 1.0} for name, found in execute(*given, **options).items()}

    monkeypatch.setattr("rgb_circuit.calls.attribute.execute", elsewhere)
    with pytest.raises(rgb.InputError, match="edits nothing moves its logits"):
        rgb.attribute(grouped, trials)


@pytest.mark.parametrize(
    "call, number, run, said",
    [
        ("direct_effects", "logits", rgb.direct_effects, "add up to"),
        ("lens", "sums", lambda *given: rgb.lens(*given, component="z"), "has no share"),
    ],
)
def test_shares_must_add_up_in_every_answer(grouped, trials, monkeypatch, call, number, run, said):
    def off_in_one(*given, **options):
        found = execute(*given, **options)
        found[number][0, 0] += 9
        return found

    monkeypatch.setattr(f"rgb_circuit.calls.{call}.execute", off_in_one)
    with pytest.raises(rgb.InputError, match=said):
        run(grouped, trials)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_one_trial_does_for_a_list_of_one(grouped, trials, name):
    alone, listed = FUNCTIONS[name](grouped, trials[0]), FUNCTIONS[name](grouped, [trials[0]])
    pd.testing.assert_frame_equal(alone, listed)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_no_trial_is_refused(grouped, trials, no_forward, name):
    for given in ("clean", 3, [trials[0], "clean"]):
        with pytest.raises(rgb.InputError, match="give a Trial or a list of them"):
            FUNCTIONS[name](grouped, given)


@pytest.mark.parametrize(
    "analysis, more",
    [
        (roles.roles, []),
        (circuit.curve, [[(0, 0), (0, 1)]]),
        (composition.composition, [[(0, 0)], [(1, 0)]]),
        (task_reading.evidence, []),
    ],
)
def test_one_trial_is_too_few_and_no_other_fault(grouped, trials, no_forward, analysis, more):
    with pytest.raises(rgb.InputError, match="trial"):
        analysis(grouped, trials[0], *more)


def test_numbers_of_numpy_and_single_names_and_edits_are_what_they_say(grouped, trials):
    drawn = rgb.rgb_trials(grouped, np.int64(2), seed=np.int32(0))
    assert [trial.name for trial in drawn] == [trial.name for trial in trials]
    told = rgb.play(grouped, trials, "clean")
    pd.testing.assert_frame_equal(told, rgb.play(grouped, trials, ["clean"]))
    silent = rgb.Edit(1, np.int64(0), "own", scale=0)
    said = [
        rgb.generate(grouped, trials[0], edits=edits, max_new_tokens=np.int64(1)).edited_text
        for edits in (silent, [silent])
    ]
    assert said[0] == said[1]
    knocked = rgb.knockout(grouped, trials, queries="end", keys="image", window=np.int64(2))
    assert set(knocked["window"]) == {2}


@pytest.mark.parametrize(
    "call, said",
    [
        (
            lambda model, trials: rgb.patch_edits(
                model, trials, {"a": [rgb.Edit(1, "0")]}, target="erased"
            ),
            "layer and head are 1 and '0'; give whole numbers",
        ),
        (
            lambda model, trials: rgb.patch_edits(
                model, trials, {"a": [rgb.Edit("1", None, component="attn_out")]}, target="erased"
            ),
            "layer is '1'; give a whole number",
        ),
        (
            lambda model, trials: rgb.patch_heads(
                model, trials, heads=pd.DataFrame({"layer": [1]})
            ),
            "heads is    layer 0      1; give a list of (layer, head) pairs",
        ),
        (
            lambda model, trials: evidence.examine(model, trials, "a.toml"),
            "among the hypotheses is 'a.toml'; give Hypothesis values",
        ),
        (lambda model, trials: rgb.read_run(__file__), "is a file; give the folder of a run"),
        (lambda model, trials: rgb.generate(model, trials), "trial is a list; the model talks"),
        (lambda model, trials: rgb.play("planted", trials), "model is a str; give what rgb.load"),
    ],
)
def test_a_script_that_gives_another_kind_of_thing(grouped, trials, no_forward, call, said):
    with pytest.raises(rgb.InputError) as error:
        call(grouped, trials)
    assert said in str(error.value)
