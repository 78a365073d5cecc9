"""Arguments in the forms in which scripts hold them: they are taken, or one sentence says what to
give instead."""

import numpy as np
import pytest
import torch

import rgb_circuit as rgb
from analyses import audit, circuit, composition, evidence, report, roles, steering, transfer
from analyses.report import two_runs
from analyses.report.accuracy import accuracy
from analyses.rgb import redirect
from rgb_circuit.arguments import as_number, as_whole
from rgb_circuit.boards import Canvas, draw
from rgb_circuit.stimuli.drawing import words_for

HEADS = [(3, 0)]
# Each with a model and trials, in this order.
CALLS = {
    "play": rgb.play,
    "answer_pieces": rgb.answer_pieces,
    "noise_floor": lambda *both: rgb.noise_floor(*both, target="erased"),
    "patch_heads": rgb.patch_heads,
    "patch_edits": lambda *both: rgb.patch_edits(*both, {"a": [rgb.Edit(3, 0)]}, target="erased"),
    "patch_layers": rgb.patch_layers,
    "knockout": lambda *both: rgb.knockout(*both, queries="end", keys="image"),
    "patch_paths": lambda *both: rgb.patch_paths(*both, [(2, 0)], HEADS),
    "attribute": rgb.attribute,
    "lens": rgb.lens,
    "direct_effects": rgb.direct_effects,
    "scores": rgb.scores,
    "examine": lambda *both: evidence.examine(*both, rgb.tasks()["rgb"].hypotheses),
    "roles": roles.roles,
    "circuit": lambda *both: circuit.circuit(*both, HEADS),
    "composition": lambda *both: composition.composition(*both, [(2, 0)], HEADS),
    "steering": lambda *both: steering.steering(*both, HEADS),
    "redirect": lambda *both: redirect.redirect(*both, HEADS),
    "audit": lambda *both: audit.audit(*both, {"a": HEADS}),
}


@pytest.fixture(scope="module")
def trials(planted):
    return rgb.rgb_trials(planted, 2)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_model_and_trials_are_told_apart(call, planted, trials, no_forward):
    for model, shown in ((trials, planted), ("planted", trials), (planted.nnsight, trials)):
        with pytest.raises(rgb.InputError, match="^model is a .*; give what rgb.load or rgb.wrap"):
            call(model, shown)
    with pytest.raises(rgb.InputError, match="^trials is a Vlm; give a Trial or a list of them"):
        call(planted, planted)


@pytest.mark.parametrize("model", ["planted", None, 3])
def test_trials_are_drawn_for_a_model(model, planted, trials):
    for draws in (
        lambda: rgb.rgb_trials(model, 2),
        lambda: words_for(model, rgb.tasks()["rgb"]),
        lambda: rgb.generate(model, trials[0]),
        lambda: rgb.attention_over(model, trials[0], 3, 0),
    ):
        with pytest.raises(rgb.InputError, match="^model is a"):
            draws()
    with pytest.raises(rgb.InputError, match="^task is 3; give a Task"):
        rgb.trials(planted, 3)


@pytest.mark.parametrize("two", [2, np.int64(2), np.uint8(2), np.array(2), torch.tensor([2])])
def test_a_whole_number_of_any_kind_is_one(two, planted, trials):
    assert (as_whole(two), type(as_whole(two))) == (2, int)
    edits = [rgb.Edit(two, two), rgb.AttentionEdit(two, two), rgb.PathEdit(3, two, [(two, two)])]
    plain = [rgb.Edit(2, 2), rgb.AttentionEdit(2, 2), rgb.PathEdit(3, 2, [(2, 2)])]
    assert edits == plain and all(type(edit.layer) is int for edit in edits)
    few = dict(target="erased", progress=False)
    assert rgb.patch_heads(planted, trials, heads=[(two, two)], batch_size=two, **few).equals(
        rgb.patch_heads(planted, trials, heads=[(2, 2)], batch_size=2, **few)
    )
    assert rgb.rgb_trials(planted, two, seed=two) == rgb.rgb_trials(planted, 2, seed=2)
    board = dict(tile=(0, 1), grid=two, tile_px=two, margin=two)
    assert rgb.rgb_trial(**board) == rgb.rgb_trial(tile=(0, 1), grid=2, tile_px=2, margin=2)


@pytest.mark.parametrize("value", [True, np.True_, torch.tensor(True), 2.0, "2", None, [2]])
def test_what_is_no_whole_number_is_none(value, planted, trials, no_forward):
    assert as_whole(value) is None
    patched = lambda **options: rgb.patch_heads(planted, trials, target="erased", **options)  # noqa: E731
    for call, said in (
        (lambda: rgb.rgb_trials(planted, value), "n is .*; ask for a whole number of trials"),
        (lambda: rgb.pair([{"gt_answer": "a"}], seed=value), "no two rows|seed is .*from 0 on"),
        (lambda: circuit.curve(planted, trials, HEADS, random_sets=value), "random_sets is"),
        (lambda: audit.audit(planted, trials, {"a": HEADS}, seed=value), "seed is"),
        (lambda: redirect.redirect(planted, trials, HEADS, draws=value), "draws is"),
        (lambda: patched(positions=[value]), "positions is"),
        (lambda: patched(heads=[(value, 0)]), "heads is"),
    ):
        with pytest.raises(rgb.InputError, match=said):
            call()


@pytest.mark.parametrize("half", [0.5, np.float32(0.5), np.float64(0.5), torch.tensor(0.5)])
def test_a_number_of_any_kind_is_one(half, planted, trials):
    assert (as_number(half), type(as_number(half))) == (0.5, float)
    assert rgb.Edit(3, 0, "own", scale=half) == rgb.Edit(3, 0, "own", scale=0.5)
    assert rgb.AttentionEdit(3, bias=half) == rgb.AttentionEdit(3, bias=0.5)
    with pytest.raises(rgb.InputError, match="the level is 0.5x; use a number between"):
        transfer.transfer(planted, {"a": trials, "b": trials}, level="0.5x")


@pytest.mark.parametrize("path", [{}, [], None, 3, b"a.toml"])
def test_what_is_no_path_is_refused(path):
    for read in (
        rgb.read_hypotheses,
        rgb.read_task,
        rgb.read_trials,
        rgb.read_run,
        audit.read_lists,
        report.write,
        lambda one: two_runs.two_runs(one, one),
        lambda one: rgb.compare_runs(one, one),
    ):
        with pytest.raises(rgb.InputError, match="is no path; give the path of a"):
            read(path)


def test_a_model_is_no_template(planted, tmp_path):
    with pytest.raises(rgb.InputError, match="template is a Vlm; give .*, such as model.template"):
        rgb.read_trials(tmp_path, planted)


@pytest.mark.parametrize("head", [(3, 0), ("3.0",), ((3, 0),), (np.int64(3), torch.tensor(0))])
def test_a_head_of_a_run_by_text_pair_or_numbers(head, planted_run):
    run = rgb.read_run(planted_run)
    assert str(run.head(*head)) == str(run.head(3, 0))


@pytest.mark.parametrize("head", [("3",), (3,), (True, 0), ([3], 0), ((3, 0), 0), (None, 3)])
def test_what_is_no_head_of_a_run_is_refused(head, planted_run):
    with pytest.raises(rgb.InputError, match="head is .*(such as 3 and 2|such as 3.2)"):
        rgb.read_run(planted_run).head(*head)


@pytest.mark.parametrize("name", [["clean"], np.array(["clean"]), {"clean": 1}])
def test_one_condition_is_a_name(name, planted, trials, no_forward):
    for call in (
        lambda: rgb.knockout(planted, trials, condition=name, queries="end", keys="image"),
        lambda: rgb.generate(planted, trials[0], name),
        lambda: rgb.attention_over(planted, trials[0], 3, 0, name),
        lambda: rgb.scores(planted, trials, target=name),
        lambda: circuit.circuit(planted, trials, HEADS, target=name),
        lambda: composition.mediation(planted, trials, [(2, 0)], HEADS, source=name),
    ):
        with pytest.raises(rgb.InputError, match="name one picture, such as 'clean'"):
            call()


@pytest.mark.parametrize("names", [3, None, "a picture"])
def test_conditions_are_names(names, planted, trials, no_forward):
    names = trials[0].images["clean"] if names == "a picture" else names
    for call in (rgb.direct_effects, rgb.lens):
        with pytest.raises(rgb.InputError, match="conditions is an? .*; give names of pictures"):
            call(planted, trials, names)
    if names is not None:
        with pytest.raises(rgb.InputError, match="target is an? .*; give names of pictures"):
            rgb.patch_heads(planted, trials, target=names)


def test_answers_are_scored_from_one_trial_or_a_generator(planted, trials):
    played = rgb.play(planted, trials, progress=False)
    listed = accuracy(played, trials)
    assert accuracy(played, (trial for trial in trials)).equals(listed)
    alone = rgb.play(planted, trials[0], progress=False)
    assert accuracy(alone, trials[0]).equals(accuracy(alone, trials[:1]))


def test_a_tile_off_the_board_is_not_drawn_nowhere():
    with pytest.raises(rgb.InputError, match="is off the 6 × 6 grid"):
        draw((0, 0, 255), {(6, 0): (255, 0, 0)}, grid=6, tile_px=4)
    with pytest.raises(rgb.InputError, match="canvas is a str; give a model's, model.canvas"):
        rgb.published_trial("planted")
    assert Canvas(np.int64(2), np.int64(3), 0, "").board((0, 0, 0), {}).size == (6, 6)


def test_colours_and_tiles_as_numpy_has_them(planted):
    palette = {**rgb.PALETTE, "red": np.array([250, 0, 0])}
    trial = rgb.rgb_trial(palette=palette, tile=np.array([1, 2]))
    assert trial.images["clean"].getpixel((2 * 14, 14)) == (250, 0, 0)
    assert rgb.rgb_trials(planted, 1, tile=np.array([1, 2]))[0].tile == (1, 2)
    with pytest.raises(rgb.InputError, match=r"odd=\['red'\] is not in the palette"):
        rgb.rgb_trial(odd=["red"])
