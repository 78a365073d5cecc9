"""A run that was killed goes on where it stopped, gives the same frames, and says what it cannot
do."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import wraps
from pathlib import Path

import pandas as pd
import pytest
import runs
from PIL import Image
from transformers import LlavaForConditionalGeneration

import rgb_circuit as rgb
from analyses import roles, steering, study
from analyses.attention_statistics import Summarized, attention_statistics
from analyses.command import main
from analyses.study import closer_look
from analyses.study.findings import Study, measure_each
from analyses.task_reading import patch_questions, questions
from rgb_circuit.calls.direct_effects import Decomposed
from rgb_circuit.calls.patching import PatchedEdits, PatchedHeads
from rgb_circuit.calls.paths import PatchedPaths
from rgb_circuit.calls.play import Played
from rgb_circuit.files.locking import locked
from rgb_circuit.keeping.manifest import described, manifest
from rgb_circuit.keeping.store import open_store
from rgb_circuit.measuring import measure as measuring
from rgb_circuit.measuring.estimate import cost
from rgb_circuit.measuring.measure import follow, measure
from rgb_circuit.running import memory
from rgb_circuit.stimuli.tasks import task_of

FRAMES = ("play", "patch_heads", "evidence", "roles")


@pytest.fixture(scope="module")
def trials(grouped):
    return rgb.rgb_trials(grouped, 3)


@pytest.fixture
def undrawn(monkeypatch):
    """Runs draw and write no more than empty figures and an empty page."""
    runs.undrawn(monkeypatch)


@pytest.fixture
def forwards(monkeypatch):
    """A list that grows with every forward."""
    counted, forward = [], LlavaForConditionalGeneration.forward

    @wraps(forward)
    def counting(*arguments, **options):
        counted.append(1)
        return forward(*arguments, **options)

    monkeypatch.setattr(LlavaForConditionalGeneration, "forward", counting)
    return counted


@pytest.fixture
def seen(grouped):
    """Lists that grow with every forward of the model that is shared by tests, and with every
    picture that its vision tower sees."""
    counted = {"forwards": [], "pictures": []}
    module = grouped.nnsight._module
    hooks = [
        module.lm_head.register_forward_pre_hook(lambda *_: counted["forwards"].append(1)),
        module.model.vision_tower.register_forward_pre_hook(
            lambda _, given, named: counted["pictures"].extend(named.get("pixel_values", *given)),
            with_kwargs=True,
        ),
    ]
    yield counted
    for hook in hooks:
        hook.remove()


def parts(folder):
    """Every part and when it was written."""
    return {path: path.stat().st_mtime_ns for path in Path(folder).glob("parts/*/[!.]*.parquet")}


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in Path(folder).rglob("[!.]*.parquet")
    }


def refused(capsys):
    """The one sentence that a command ended with."""
    (line,) = (
        line for line in capsys.readouterr().err.splitlines() if line.startswith("rgb-circuit: ")
    )
    return line


def heads_at_the_tile(model, trials, source):
    """Two heads, in one target."""
    return PatchedHeads.of(
        model, trials, source, "recolored", positions="tile", heads=[(0, 1), (1, 2)]
    )


JOINT = {"b": [rgb.Edit(0, 1), rgb.Edit(1, 2, "zero")], "a": [rgb.Edit(0, 0)]}
PATHS = [(0, 1), ("mlp", 0), "embedding"], [(1, 0), (2, 3)], ["query", "key", "value"]
# What is measured, and the call that gives the same frame.
CALLS = {
    "play": (
        lambda model, trials: Played.of(trials),
        lambda model, trials: rgb.play(model, trials, progress=False),
    ),
    "every head": (
        lambda model, trials: PatchedHeads.of(model, trials, "clean", "erased", "pattern"),
        lambda model, trials: rgb.patch_heads(model, trials, target="erased", component="pattern"),
    ),
    "at the tile": (
        lambda model, trials: heads_at_the_tile(model, trials, "clean"),
        lambda model, trials: rgb.patch_heads(
            model, trials, target="recolored", positions="tile", heads=[(0, 1), (1, 2)]
        ),
    ),
    "mean over trials": (
        lambda model, trials: PatchedHeads.of(model, trials, "mean", "erased"),
        lambda model, trials: rgb.patch_heads(model, trials, source="mean", target="erased"),
    ),
    "mean at the tile": (
        lambda model, trials: heads_at_the_tile(model, trials, "mean"),
        lambda model, trials: rgb.patch_heads(
            model,
            trials,
            source="mean",
            target="recolored",
            positions="tile",
            heads=[(0, 1), (1, 2)],
        ),
    ),
    "joint": (
        lambda model, trials: PatchedEdits.of(trials, JOINT, "erased"),
        lambda model, trials: rgb.patch_edits(model, trials, JOINT, target="erased"),
    ),
    "paths": (
        lambda model, trials: PatchedPaths.of(trials, *PATHS, "clean", "erased"),
        lambda model, trials: rgb.patch_paths(model, trials, *PATHS[:2], into=PATHS[2]),
    ),
    "paths into the query": (
        lambda model, trials: PatchedPaths.of(trials, *PATHS[:2], ["query"], "moved", "recolored"),
        lambda model, trials: rgb.patch_paths(
            model, trials, *PATHS[:2], source="moved", target="recolored", into="query"
        ),
    ),
    "direct": (
        lambda model, trials: Decomposed(tuple(trials), ("clean", "erased")),
        lambda model, trials: rgb.direct_effects(model, trials, ("clean", "erased")),
    ),
    "attention": (
        lambda model, trials: Summarized(tuple(trials), ("clean", "moved")),
        lambda model, trials: attention_statistics(model, trials, ("clean", "moved")),
    ),
    "questions": (
        lambda model, trials: questions(trials, positions="words")[0],
        lambda model, trials: patch_questions(model, trials, positions=["words"]),
    ),
    "steering": (
        lambda model, trials: next(steering.steering.steps(model, trials, [(0, 1)]))[0],
        lambda model, trials: steering.steering(model, trials, [(0, 1)]),
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_kept_frame_is_the_frame_and_is_not_measured_twice(call, grouped, trials, tmp_path, seen):
    asked, plainly = (function(grouped, trials) for function in CALLS[call])
    store = open_store(tmp_path, manifest(grouped, trials, {}))
    [kept] = measure(grouped, [asked], store)
    assert len(parts(tmp_path)) == len(trials)
    assert seen["forwards"]
    del seen["forwards"][:]
    [again] = measure(grouped, [asked], store)
    assert not seen["forwards"]
    assert list(kept.columns) == list(plainly.columns)
    kept_as_is, labels = kept, list(plainly.select_dtypes("category"))
    kept = kept.astype(dict.fromkeys(labels, "category"))
    pd.testing.assert_frame_equal(
        kept, plainly, check_exact=False, rtol=0, atol=1e-5, check_categorical=True
    )
    pd.testing.assert_frame_equal(again, kept_as_is, check_exact=True)


def everything(model, trials):
    """One of each kind, twice the same edits with other answers among them."""
    renamed = [
        replace(trial, answers={"odd": trial.answers["odd"]}, expected={}) for trial in trials
    ]
    return [
        *(asked(model, trials) for asked, _ in CALLS.values()),
        PatchedHeads.of(model, renamed, "clean", "erased", "pattern"),
        PatchedHeads.of(model, trials, "zero", "erased"),
    ]


def test_what_is_measured_together_is_to_the_last_bit_what_is_measured_alone(
    grouped, trials, tmp_path
):
    together = measure(
        grouped,
        everything(grouped, trials),
        open_store(tmp_path / "one", manifest(grouped, trials, {})),
    )
    for number, asked in enumerate(everything(grouped, trials)):
        alone = open_store(tmp_path / f"alone {number}", manifest(grouped, trials, {}))
        pd.testing.assert_frame_equal(
            measure(grouped, [asked], alone)[0], together[number], check_exact=True
        )


def shares_of_trials(model, trials):
    """What a default run asks, more or less."""
    return [
        Played.of(trials),
        *(
            PatchedHeads.of(model, trials, "clean", target)
            for target in ("recolored", "erased", "swapped")
        ),
        PatchedHeads.of(model, trials, "clean", "erased", "pattern"),
        PatchedHeads.of(model, trials, "erased", "clean"),
        *questions(trials, positions="end"),
    ]


def test_pictures_go_through_the_model_once_whatever_is_asked_of_them(
    grouped, trials, tmp_path, seen
):
    store, asked = (
        open_store(tmp_path, manifest(grouped, trials, {})),
        shares_of_trials(grouped, trials),
    )
    # How the model answers the other question is found out first, on a picture of its own.
    asked[-1].prepare(grouped, None)
    del seen["pictures"][:]
    measure(grouped, asked, store)
    # Five pictures; the clean one under the other question goes on from where the two part.
    different = {
        trial.images[condition].tobytes() for trial in trials for condition in trial.images
    }
    assert len(different) < 5 * len(trials), "canvases recur"
    assert len(seen["pictures"]) == len(different) == cost(grouped, asked).captures
    # In a second round they are still there.
    del seen["pictures"][:]
    measure(grouped, [PatchedHeads.of(grouped, trials, "swapped", "erased")], store)
    assert len(seen["pictures"]) < len(
        different - {trial.images["clean"].tobytes() for trial in trials}
    )


@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_picture_that_is_held_gives_what_it_gives_anew(
    grouped, trials, tmp_path, seen, monkeypatch, room
):
    """Whatever room there is, and whatever of it was kept before."""
    plainly = open_store(tmp_path / "plain", {**manifest(grouped, trials, {}), "trials": []})
    asked = [*everything(grouped, trials), *shares_of_trials(grouped, trials)]
    expected, alone = measure(grouped, asked, plainly), len(seen["pictures"])
    monkeypatch.setattr(measuring, "held_at_once", lambda *_: room)
    store = open_store(tmp_path / "held", manifest(grouped, trials, {}))
    del seen["pictures"][:]
    for one, frame in zip(measure(grouped, asked, store), expected, strict=True):
        pd.testing.assert_frame_equal(one, frame, check_exact=True)
    assert len(store.recurring.held) <= room
    assert len(seen["pictures"]) == alone if room == 0 else len(seen["pictures"]) < alone


@pytest.mark.filterwarnings("ignore:.*has the same picture")
def test_trials_of_one_name_and_calls_of_one_function_are_told_apart(grouped, trials, tmp_path):
    first = trials[0]
    swapped = {**first.images, "clean": first.images["swapped"]}
    other = rgb.Trial(
        first.name, first.prompt, swapped, first.answers, first.tile, first.grid, first.expected
    )
    store = open_store(tmp_path, manifest(grouped, trials, {}))

    def measured(asked):
        return measure(grouped, [asked], store)[0]

    one, two = (
        measured(Played((trial,), ("clean",)))["logit_odd"].item() for trial in (first, other)
    )
    several = [
        measured(PatchedHeads.of(grouped, trials[:n], "mean", "erased"))["effect"].to_numpy()
        for n in (2, 3)
    ]
    with pytest.raises(rgb.InputError, match="two trials are named"):
        measured(Played((first, first), ("clean",)))
    assert one != two
    assert (several[0] != several[1][: len(several[0])]).any()


def test_bad_input_is_refused_before_any_forward_and_leaves_no_parts(
    grouped, trials, tmp_path, seen
):
    store = open_store(tmp_path, manifest(grouped, trials, {}))
    for wrong in ([], [trials[0], trials[0]], [*trials[:2], rgb.rgb_trial()]):
        with pytest.raises(rgb.InputError):
            measure(
                grouped,
                [Played.of(trials), PatchedHeads.of(grouped, wrong, "clean", "erased")],
                store,
            )
    with pytest.raises(rgb.InputError, match="'middle'"):
        measure(
            grouped,
            [PatchedHeads.of(grouped, trials, "clean", "erased", positions="middle")],
            store,
        )
    assert not seen["forwards"] and not parts(tmp_path)


def test_a_folder_keeps_what_one_model_does(grouped, trials, tmp_path):
    other = replace(grouped, name="another")
    store = open_store(tmp_path, manifest(grouped, trials, {}))
    measure(grouped, [Played.of(trials)], store)
    with pytest.raises(rgb.InputError, match="use another folder for another"):
        measure(other, [Played.of(trials)], store)


def test_pictures_that_differ_in_their_palette_alone_are_different(trials):
    red, green = (Image.new("P", (8, 8)) for _ in range(2))
    red.putpalette([255, 0, 0] * 256), green.putpalette([0, 255, 0] * 256)
    one, other = (
        described(replace(trials[0], images={"clean": picture}, expected={}))["pictures"]
        for picture in (red, green)
    )
    assert one != other


@pytest.mark.parametrize("lost", ["server", "d_head", "trials", "options", "words"])
def test_a_manifest_of_another_version_is_refused_in_a_sentence(grouped, trials, tmp_path, lost):
    left = {
        key: value
        for key, value in manifest(grouped, trials, {"positions": "end"}).items()
        if key != lost
    }
    (tmp_path / "manifest.json").write_text(json.dumps(left))
    with pytest.raises(rgb.InputError, match="of this version"):
        study.report([tmp_path])


def test_what_goes_into_one_forward_does_not_change_with_the_memory_that_is_free(
    grouped, trials, tmp_path, monkeypatch
):
    sizes = []

    def sweep(*arguments):
        sizes.append(arguments[8])
        return plain(*arguments)

    from rgb_circuit.programs import measured

    plain = measured.sweep
    monkeypatch.setattr(measured, "sweep", sweep)
    for free, some in ((3, trials[:1]), (200, trials)):
        monkeypatch.setattr(memory, "_fit", lambda model, needed, most, share, free=free: free)
        store = open_store(tmp_path, manifest(grouped, trials, {}))
        measure(grouped, [PatchedHeads.of(grouped, some, "clean", "erased")], store)
    assert sizes == [3, 3, 3]


def test_killed_at_six_points_a_run_leaves_the_same_bytes_and_repeats_nothing(tmp_path):
    root = Path(__file__).parents[1]
    process = subprocess.run(
        [sys.executable, root / "tests" / "killing.py", tmp_path, "6", "0"],
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "no"},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-2000:]
    found = json.loads(process.stdout.splitlines()[-1])
    assert len(found["progress"]) == 6 and found["repeated"] == 0
    # Killed before, while and after trials are measured; parts come a trial at a time.
    assert len(set(found["progress"])) > 3 and min(found["progress"]) < 0.5 < max(found["progress"])
    undisturbed = content(tmp_path / "undisturbed")
    assert {f"{name}.parquet" for name in FRAMES} <= set(undisturbed) and len(undisturbed) > 50
    assert len([name for name in undisturbed if name.startswith("parts/steered-")]) == 3
    # Sweeps with frozen heads are among it.
    assert pd.read_parquet(tmp_path / "undisturbed" / "evidence.parquet")["frozen"].any()
    for number in range(1, found["runs"] + 1):
        assert content(tmp_path / f"killed-{number}") == undisturbed
    assert not list(tmp_path.rglob("*.part"))


def test_the_curve_takes_pictures_that_are_there_already(grouped, tmp_path, seen):
    """Ranked on the first half, it asks of the second half's pictures while they are in the model;
    of shards it asks again, and gets the same bytes."""
    trials, asked = rgb.rgb_trials(grouped, 6), Study(anyway=True)
    taken = {}
    for folder, several in (("whole", [trials]), ("shards", [trials[::2], trials[1::2]])):
        store = open_store(tmp_path / folder, manifest(grouped, trials, {}))
        for own in several:
            measure_each(grouped, own, trials, asked, store)
        del seen["pictures"][:]
        # Of a random model there is no curve, but all that it would be made of.
        with pytest.raises(rgb.InputError, match="no gap"):
            follow(grouped, closer_look.curve(grouped, trials, task_of(trials)), store)
        taken[folder] = len(seen["pictures"])
    assert taken["whole"] == 0 < taken["shards"]
    assert content(tmp_path / "whole") == content(tmp_path / "shards")


def test_a_finished_run_is_repaired_without_a_forward(
    small_run, small_folder, tmp_path, undrawn, forwards
):
    shutil.copytree(small_run, tmp_path, dirs_exist_ok=True)
    command = ["run", "--model", small_folder, *runs.SMALL, "--out", str(tmp_path)]
    before, when = content(tmp_path), parts(tmp_path)
    (tmp_path / "evidence.parquet").unlink()
    (tmp_path / ".play.parquet.0123.part").write_bytes(b"half")
    assert main(["report", str(tmp_path)]) == 0
    assert (
        content(tmp_path) == before
        and parts(tmp_path) == when
        and not list(tmp_path.rglob("*.part"))
    )

    (tmp_path / "roles.parquet").unlink()
    del forwards[:]
    rgb.load(small_folder)
    loading = len(forwards)
    assert main(command) == 0
    assert content(tmp_path) == before and len(forwards) == 2 * loading > 0


def test_shards_are_merged_into_what_one_run_gives(
    small_run, small_folder, tmp_path, undrawn, capsys, monkeypatch
):
    """Two shards share a folder, the third has its own."""
    assert pd.read_parquet(small_run / "evidence.parquet")["frozen"].any()
    common = ["run", "--model", small_folder, *runs.SMALL]
    for shard, folder in (("1/3", "ab"), ("2/3", "ab"), ("3/3", "c")):
        assert main([*common, "--shard", shard, "--out", str(tmp_path / folder)]) == 0
        assert f"Shard {shard} is done" in capsys.readouterr().out
        assert not (tmp_path / folder / "play.parquet").exists()
    loaded, load = [], study.load
    monkeypatch.setattr(
        study, "load", lambda name, **options: loaded.append(name) or load(name, **options)
    )

    # Without the third shard its trials are computed first.
    assert main(["report", str(tmp_path / "ab"), "--out", str(tmp_path / "early")]) == 0
    printed = capsys.readouterr().out
    assert (
        printed.startswith("3 of 9 trials are not measured, of shard 3/3.")
        and "color extractor" in printed
    )
    # With all three, the sweeps with frozen heads remain.
    when = parts(tmp_path / "ab")
    assert (
        main(["report", str(tmp_path / "ab"), str(tmp_path / "c"), "--out", str(tmp_path / "all")])
        == 0
    )
    assert capsys.readouterr().out.startswith("Every trial is measured")
    assert parts(tmp_path / "ab") == when and len(loaded) == 2
    # With those too, no model is needed.
    assert main(["report", str(tmp_path / "all")]) == 0
    assert "color extractor" in capsys.readouterr().out and len(loaded) == 2
    assert content(small_run) == content(tmp_path / "early") == content(tmp_path / "all")


@pytest.mark.parametrize("shard", ["0/4", "5/4", "1", "1/", "a/b", "1/-2", "1/99"])
def test_a_shard_that_does_not_exist(shard, tmp_path, capsys):
    assert main(["run", "--trials", "3", "--shard", shard, "--out", str(tmp_path)]) == 2
    assert "shard" in refused(capsys) and not parts(tmp_path)


@pytest.fixture(scope="module")
def two_trials(two_trials_run, tmp_path_factory):
    """A folder of a run of two trials, to change."""
    return shutil.copytree(two_trials_run, tmp_path_factory.mktemp("two") / "run")


@pytest.mark.parametrize(
    "options, parts_of_message",
    [
        (
            ["--seed", "1"],
            ["options.seed (0 there, 1 here)", "trials (2 there, 2 here, not the same)"],
        ),
        (["--trials", "3"], ["options.trials (2 there, 3 here)", "trials (2 there, 3 here"]),
        (["--dtype", "bfloat16"], ["dtype (float32 there, bfloat16 here)", "weights;"]),
        (["--positions", "all"], ["options.positions (end there, all here)"]),
        (
            ["--model", "planted", "--seed", "1"],
            ["model (toy there, planted here)", "layers (4 there, 6 here)", " more; repeat"],
        ),
    ],
)
def test_another_run_is_refused_with_the_difference(options, parts_of_message, two_trials, capsys):
    before = content(two_trials)
    assert main(["run", "--trials", "2", *options, "--out", str(two_trials)]) == 2
    sentence = refused(capsys)
    assert all(
        part in sentence
        for part in [*parts_of_message, "choose another folder with --out, or delete"]
    ), sentence
    assert content(two_trials) == before


@pytest.mark.parametrize(
    "name, accepted",
    [
        ("torch", False),
        ("transformers", False),
        ("nnsight", False),
        ("rgb_circuit", False),
        ("python", True),
        ("pandas", True),
    ],
)
def test_versions_that_shape_parts_are_compared(name, accepted, two_trials, undrawn, capsys):
    path = two_trials / "manifest.json"
    before = path.read_text()
    recorded = json.loads(before)
    recorded["versions"][name] = "0.0.1"
    path.write_text(json.dumps(recorded))
    try:
        assert main(["run", "--trials", "2", "--out", str(two_trials)]) == (0 if accepted else 2)
    finally:
        path.write_text(before)
    assert accepted or f"versions.{name} (0.0.1 there, " in refused(capsys)


def test_other_weights_under_the_same_name_are_refused(grouped, trials, tmp_path):
    from torch import no_grad

    before = manifest(grouped, trials, {})
    weight = grouped.nnsight._module.lm_head.weight
    with no_grad():
        kept, weight[3, 3] = weight[3, 3].item(), 7.0
    after = manifest(grouped, trials, {})
    with no_grad():
        weight[3, 3] = kept
    open_store(tmp_path, before)
    with pytest.raises(rgb.InputError, match="differs in weights;"):
        open_store(tmp_path, after)
    assert manifest(grouped, trials, {}) == before


@pytest.mark.filterwarnings("ignore:.*has the same picture")
def test_a_changed_picture_is_named(grouped, trials, tmp_path):
    first, *rest = trials
    images = {**first.images, "moved": first.images["erased"]}
    changed = rgb.Trial(
        first.name, first.prompt, images, first.answers, first.tile, first.grid, first.expected
    )
    open_store(tmp_path, manifest(grouped, trials, {}))
    named = re.escape(f"differs in pictures.moved of trial {first.name!r};")
    with pytest.raises(rgb.InputError, match=named):
        open_store(tmp_path, manifest(grouped, [changed, *rest], {}))


def test_parts_without_a_manifest_are_nobodys(grouped, trials, tmp_path):
    for broken in (lambda path: path.write_text('{"model"'), Path.unlink):
        store = open_store(tmp_path / broken.__name__, manifest(grouped, trials, {}))
        measure(grouped, [Played.of(trials)], store)
        broken(tmp_path / broken.__name__ / "manifest.json")
        with pytest.raises(rgb.InputError, match="gone or broken.*delete"):
            open_store(tmp_path / broken.__name__, manifest(grouped, trials, {}))


def test_reports_of_different_runs_and_of_changed_pictures_are_refused(
    two_trials, tmp_path, capsys
):
    assert (
        main(
            [
                "run",
                "--trials",
                "2",
                "--seed",
                "4",
                "--shard",
                "1/2",
                "--out",
                str(tmp_path / "other"),
            ]
        )
        == 0
    )
    assert main(["report", str(two_trials), str(tmp_path / "other")]) == 2
    assert "options.seed (4 there, 0 here)" in refused(capsys)
    path = tmp_path / "other" / "manifest.json"
    path.write_text(path.read_text().replace('"seed": 4', '"seed": 5'))
    assert main(["report", str(tmp_path / "other")]) == 2
    assert "are no longer what they were" in refused(capsys)
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert "there is no folder" in refused(capsys)
    path.write_text('{"model": "toy", "dtype": "float32"}')
    assert main(["report", str(tmp_path / "other")]) == 2
    assert "says nothing about answer_form, d_head, grid" in refused(capsys)


def test_two_processes_on_one_folder_are_refused_and_shards_are_not(tmp_path):
    with locked(tmp_path):
        for shard in (None, (1, 2)):
            with (
                pytest.raises(rgb.InputError, match="another process works on"),
                locked(tmp_path, shard),
            ):
                pass
    with locked(tmp_path, (1, 2)), locked(tmp_path, (2, 2)):
        with pytest.raises(rgb.InputError, match="works on shard 1/2"), locked(tmp_path, (1, 2)):
            pass
        with pytest.raises(rgb.InputError, match="shard-1-of-2"), locked(tmp_path):
            pass
    with locked(tmp_path):
        pass


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: bytes(len(data)), None],
)
def test_a_damaged_part_is_computed_again_and_no_other(damage, grouped, trials, tmp_path):
    def flipped(data):
        return data[:40] + bytes([data[40] ^ 1]) + data[41:]

    store = open_store(tmp_path, manifest(grouped, trials, {}))
    asked = [PatchedHeads.of(grouped, trials, "clean", "erased")]
    [before] = measure(grouped, asked, store)
    when = parts(tmp_path)
    victim = sorted(when)[1]
    whole = victim.read_bytes()
    victim.write_bytes((damage or flipped)(whole))
    with pytest.warns(UserWarning, match=f"{victim.name} cannot be read .* computed again") as told:
        [after] = measure(grouped, asked, store)
    assert [warning.filename for warning in told] == [__file__]
    pd.testing.assert_frame_equal(before, after, check_exact=True)
    assert victim.read_bytes() == whole
    assert {path for path, then in parts(tmp_path).items() if then != when[path]} == {victim}


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_fills_up_or_turns_read_only_costs_nothing_that_was_finished(
    reason, tmp_path, undrawn, monkeypatch, capsys
):
    # What is written later is written alike.
    runs.without_closer_look(monkeypatch)
    command = ["run", "--trials", "2", "--out", str(tmp_path)]
    replace, left = os.replace, [7]

    def failing(source, target):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(reason, os.strerror(reason))
        replace(source, target)

    monkeypatch.setattr("rgb_circuit.files.results.os.replace", failing)
    assert main(command) == 2
    sentence = refused(capsys)
    assert (
        f"({os.strerror(reason)}); what was finished is kept" in sentence
        and "No role table" not in sentence
    )
    assert not list(tmp_path.rglob("*.part"))
    finished = parts(tmp_path)
    assert 0 < len(finished) < 7
    monkeypatch.setattr("rgb_circuit.files.results.os.replace", replace)
    assert main(command) == 0
    assert {path: parts(tmp_path)[path] for path in finished} == finished


def test_a_disk_that_is_full_while_roles_are_tested_is_not_taken_for_trials_without_roles(
    small_folder, tmp_path, monkeypatch, capsys
):
    def full(*given, **options):
        raise rgb.errors.CannotWrite("cannot write")

    monkeypatch.setattr(roles, "steps", full)
    assert main(["run", "--model", small_folder, "--trials", "2", "--out", str(tmp_path)]) == 2
    assert refused(capsys) == "rgb-circuit: cannot write"


def test_a_file_in_place_of_the_folder(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["run", "--out", str(tmp_path / "file")]) == 2
    assert "choose another folder with --out" in refused(capsys)
