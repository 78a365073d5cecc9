"""Every public function on a real NDIF server gives the frames that it gives here, and faults give
sentences."""

import http.server
import inspect
import io
import pickletools
import re
import threading
import time
import traceback
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from nnsight import CONFIG
from nnsight.intervention.backends.remote import RemoteBackend, RemoteError
from nnsight.intervention.serialization import dumps
from proxy import proxy
from remote_server import Server, missing
from transformers import PreTrainedModel

import analyses
import rgb_circuit as rgb
from analyses import (
    attention_statistics,
    background_writer,
    circuit,
    color_extractor,
    composition,
    poi_localization,
    redirect,
    report,
    riddle,
    roles,
    study,
    task_reading,
)
from analyses.command import main
from rgb_circuit import jobs, manifest, measure, memory, patching, programs, results, server, store
from rgb_circuit.conversation import prompt
from rgb_circuit.direct_effects import Decomposed
from rgb_circuit.execute import execute
from rgb_circuit.play import Played
from rgb_circuit.rgb_game import BACKGROUND_QUESTION

MODELS = ("toy", "planted", "grouped")


@pytest.fixture(scope="module")
def loaded():
    """(name, remote) → a model that was loaded before."""
    return {}


@pytest.fixture
def pair(request, ndif_server, monkeypatch, loaded):
    """The same model here and on the server."""
    ndif_server.connect(monkeypatch)
    name = ndif_server.names["grouped"] if request.param == "grouped" else request.param
    for remote in (False, True):
        if (name, remote) not in loaded:
            loaded[name, remote] = rgb.load(name, remote=remote)
    return loaded[name, False], loaded[name, True]


@pytest.fixture
def far(ndif_server, monkeypatch, loaded):
    """The toy on the server."""
    ndif_server.connect(monkeypatch)
    if ("toy", True) not in loaded:
        loaded["toy", True] = rgb.load("toy", remote=True)
    return loaded["toy", True]


def heads(model):
    return [(layer, head) for layer in range(model.n_layers) for head in (0, model.n_heads - 1)]


def edits(model):
    last = model.n_layers - 1
    return {
        "one": [rgb.Edit(0, 0)],
        "frozen": [rgb.Edit(0, 1), rgb.Edit(last, 0, source="erased")],
        "ablated": [rgb.Edit(1, 1, source="zero"), rgb.Edit(last, 1, source="mean")],
        "everywhere": [
            rgb.Edit(0, 2, positions="image", component="value"),
            rgb.Edit(1, 0, positions=[-2, -1], component="pattern"),
        ],
    }


def every_kind(model, words):
    """An edit of each component, and of attention, at some positions."""
    layer, [head, *_] = model.n_layers - 2, range(model.n_heads)
    return {
        **{
            kind: [rgb.Edit(layer, head, component=kind, positions=words)]
            for kind in ("z", "pattern", "value", "query", "key")
        },
        **{
            kind: [rgb.Edit(layer, None, component=kind, positions=words)]
            for kind in ("attn_out", "mlp_out", "resid_pre")
        },
        "scaled": [rgb.Edit(0, 1, "own", positions=words, scale=0.5)],
        "mean": [rgb.Edit(layer, None, "mean", "mlp_out", words)],
        "looks less": [rgb.AttentionEdit(layer, queries=words, keys="first", bias=-1.0)],
        "one looks away": [rgb.AttentionEdit(0, head, queries=words, keys="tile")],
        "without the tile": [rgb.Edit(1, head, positions=words, without="tile")],
        "over the picture": [rgb.Edit(1, head, component="pattern", positions=words, over="image")],
    }


def said(model, trials):
    """What is said under an edit of each kind."""
    variants = [None, *(edits for name, edits in every_kind(model, "end").items() if name != "mean")]
    return pd.concat(
        [
            rgb.generate(model, trial, "erased", edits or (), 3).tokens
            for trial in trials[:2]
            for edits in variants
        ]
    )


# What runs the model, as a user would call it.
CALLS = {
    "play": rgb.play,
    "patch_heads": rgb.patch_heads,
    **{
        f"patch_heads, {component}, {at}": lambda model, trials, component=component, at=at: rgb.patch_heads(
            model, trials[:2], component=component, positions=at
        )
        for component in ("z", "pattern", "value")
        for at in ("all", "tile", "text")
    },
    "patch_heads, mean": lambda model, trials: rgb.patch_heads(model, trials, source="mean"),
    "patch_edits": lambda model, trials: rgb.patch_edits(model, trials[:4], edits(model), target="erased"),
    **{
        f"patch_edits, every kind, {words}": lambda model, trials, words=words: rgb.patch_edits(
            model, trials[:2], every_kind(model, words), target="erased"
        )
        for words in ("end", "tile")
    },
    "knockout": lambda model, trials: rgb.knockout(
        model, trials[:2], queries=["end", "question"], keys=["tile", "rest"], window=2
    ),
    "generate": said,
    "patch_layers": lambda model, trials: rgb.patch_layers(model, trials[:2]),
    "patch_paths": lambda model, trials: rgb.patch_paths(
        model,
        trials[:4],
        [*heads(model)[:3], ("mlp", 0), "embedding"],
        heads(model)[-3:],
        into=("query", "key", "value"),
    ),
    "patch_heads, rounding": lambda model, trials: rgb.patch_heads(model, trials[:2], source="rounding"),
    "noise_floor": lambda model, trials: pd.DataFrame(
        {"floor": [rgb.noise_floor(model, trials[:2], target="erased")]}
    ),
    # A question that is new to the model.
    "answer_pieces": lambda model, trials: rgb.answer_pieces(
        model, [replace(trial, prompt=prompt(BACKGROUND_QUESTION)) for trial in trials]
    ),
    "attribute": rgb.attribute,
    "attribute, positions": lambda model, trials: rgb.attribute(
        model, trials[:3], positions=["all", "tile", [0, -1]], method="atp-ig"
    ),
    "attribute, zero": lambda model, trials: rgb.attribute(
        model, trials[:2], source="zero", positions="each", heads=[(1, 0)]
    ),
    "direct_effects": rgb.direct_effects,
    **{
        f"lens, {component}": lambda model, trials, component=component: rgb.lens(
            model, trials[:2], ("clean", "erased"), component=component, positions="tile"
        )
        for component in ("resid_pre", "resid_post", "z", "attn_out", "mlp_out")
    },
    "lens": rgb.lens,
    "attention_statistics.attention_statistics": attention_statistics.attention_statistics,
    "color_extractor.evidence": color_extractor.evidence,
    "poi_localization.evidence": poi_localization.evidence,
    "background_writer.evidence": background_writer.evidence,
    "roles.evidence": roles.evidence,
    "roles.roles": roles.roles,
    "riddle.riddle": riddle.riddle,
    "redirect.redirect": lambda model, trials: redirect.redirect(model, trials[:3], heads(model)[-1:]),
    "composition.evidence": composition.evidence,
    "composition.composition": lambda model, trials: composition.composition(
        model, trials, heads(model)[:3], heads(model)[-2:]
    ),
    "composition.paths": lambda model, trials: composition.paths(
        model, trials, heads(model)[:3], heads(model)[-2:]
    ),
    "composition.mediation": lambda model, trials: composition.mediation(
        model, trials, heads(model)[:3], heads(model)[-2:]
    ),
    "circuit.circuit": lambda model, trials: circuit.circuit(model, trials, heads(model)),
    "circuit.ranked": circuit.ranked,
    "circuit.curve": lambda model, trials: circuit.curve(
        model, trials, heads(model) + [h for h in model.heads() if h not in heads(model)]
    ),
    "task_reading.patch_questions": task_reading.patch_questions,
    "task_reading.evidence": task_reading.evidence,
    "task_reading.reading": task_reading.reading,
}


def test_no_public_function_is_forgotten():
    modules = [
        rgb,
        attention_statistics,
        background_writer,
        circuit,
        color_extractor,
        composition,
        poi_localization,
        redirect,
        riddle,
        roles,
    ]
    for module in [*modules, task_reading]:
        short = module.__name__.removeprefix("analyses.") + "." if module is not rgb else ""
        names = (
            module.__all__ if module is rgb else [name for name in vars(module) if not name.startswith("_")]
        )
        for name in names:
            function = getattr(module, name)
            # Steps and needs say what is to be measured, and run nothing.
            if (
                inspect.isfunction(function)
                and function.__module__.startswith(module.__name__)
                and name.split("_")[-1] not in ("steps", "needs")
            ):
                if list(inspect.signature(function).parameters)[:2] == ["model", "trials"]:
                    assert short + name in CALLS


@pytest.mark.filterwarnings("ignore:.*wrongly on at least one picture")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("pair", MODELS, indirect=True)
def test_a_server_gives_the_same_frame(pair, call):
    here, there = pair
    if here.name not in MODELS and call in (
        "task_reading.patch_questions",
        "task_reading.evidence",
        "circuit.circuit",
        "circuit.curve",
    ):
        pytest.skip(
            "random weights know no second question, and leave next to no logit difference to restore a "
            "fraction of"
        )
    trials = rgb.rgb_trials(here, 10)
    try:
        local = CALLS[call](here, trials)
    except rgb.InputError as error:
        # Such as an analysis of extractors where none is found.
        with pytest.raises(rgb.InputError) as remote:
            CALLS[call](there, trials)
        assert str(remote.value) == str(error)
        return
    remote = CALLS[call](there, trials)
    assert list(remote) == list(local) and (remote.dtypes == local.dtypes).all()
    for column in local:
        if column == "share" or (column in ("restored_fraction", "score") and here.name not in MODELS):
            # A quotient of two effects that may both be rounding, as the gap of random weights is; effects
            # are columns of their own.
            continue
        if local[column].dtype.kind == "f" and column not in ("p_value", "q_value"):
            np.testing.assert_allclose(remote[column], local[column], rtol=1e-4, atol=1e-4, err_msg=column)
        elif column not in ("p_value", "q_value"):
            assert remote[column].astype(str).tolist() == local[column].astype(str).tolist(), column
    assert there.server.requests > 1


def test_the_client_holds_no_weights(ndif_server, monkeypatch):
    ndif_server.connect(monkeypatch)

    def refuse(*_, **__):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", refuse)
    model = rgb.load("toy", remote=True)
    assert len(rgb.patch_heads(model, rgb.rgb_trials(model, 1)))
    assert all(parameter.is_meta for parameter in model.nnsight._module.parameters())
    assert model.dtype is torch.float32


def test_one_request_a_trial_and_only_numbers_come_back(far, monkeypatch):
    trials = rgb.rgb_trials(far, 3)
    before = far.server.requests, far.server.received
    frame = rgb.patch_heads(far, trials)
    assert far.server.requests - before[0] == 1
    # Two logits a row at most, and what torch.save and zstd put around them.
    assert far.server.received - before[1] < 8 * len(frame) + 4096

    monkeypatch.setitem(memory.MOST_TOKENS, "server", 200)
    before = far.server.requests
    in_parts = rgb.patch_heads(far, trials)
    assert far.server.requests - before == len(trials)
    np.testing.assert_allclose(in_parts["effect"], frame["effect"], atol=1e-4)


def test_programs_run_in_the_sandbox_of_ordinary_users(ndif_server, monkeypatch):
    ndif_server.connect(monkeypatch, key=ndif_server.key)
    here, there = rgb.load("toy"), rgb.load("toy", remote=True)
    trials = rgb.rgb_trials(here, 2)
    for component in ("z", "pattern"):
        local, remote = (rgb.patch_heads(model, trials, component=component) for model in (here, there))
        np.testing.assert_allclose(remote["effect"], local["effect"], atol=1e-4)
    edits = [rgb.Edit(1, 0, "erased"), rgb.AttentionEdit(2, keys="tile"), rgb.Edit(3, 0, "own", scale=0)]
    local, remote = (rgb.generate(model, trials[0], edits=edits, max_new_tokens=3) for model in (here, there))
    assert repr(remote) == repr(local)
    np.testing.assert_allclose(remote.tokens["logit"], local.tokens["logit"], atol=1e-4)


def test_gradients_do_not_come_back_from_the_sandbox_and_that_is_said(ndif_server, monkeypatch):
    ndif_server.connect(monkeypatch, key=ndif_server.key)
    there = rgb.load("toy", remote=True)
    with pytest.raises(rgb.ServerError, match="where no gradients come back; use patch_heads"):
        rgb.attribute(there, rgb.rgb_trials(there, 1))


PROGRAMS = {
    name: function
    for file in Path(programs.__path__[0]).glob("[!_]*.py")
    for name, function in vars(import_module(f"rgb_circuit.programs.{file.stem}")).items()
    if inspect.isfunction(function) and function.__module__ == f"rgb_circuit.programs.{file.stem}"
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_travels_as_source_that_any_python_can_read(program, ndif_server, monkeypatch):
    ndif_server.connect(monkeypatch)
    rgb.load("toy", remote=True)
    names = {text for _, text, _ in pickletools.genops(io.BytesIO(dumps(program))) if isinstance(text, str)}
    # Bytecode is of one Python version; a class or function that goes by name is not there.
    assert not {"CodeType", "_make_function", "_make_skeleton_class"} & names
    assert not {name for name in names if name.split(".")[0] in ("rgb_circuit", "analyses", "pandas", "tqdm")}


def test_what_is_executed_stands_where_programs_stand():
    executed = set()
    for package in (rgb, analyses):
        for file in Path(package.__path__[0]).glob("*.py"):
            executed |= set(re.findall(r"\bexecute\(\s*model,\s*(\w+)", file.read_text()))
    assert {"measured", "summed", "shares"} <= executed <= set(PROGRAMS)


def test_what_is_said_is_one_request(far):
    trial = rgb.rgb_trials(far, 1)[0]
    edits = [rgb.Edit(1, 0, "erased"), rgb.Edit(2, 1, "moved", "pattern"), rgb.AttentionEdit(2, keys="tile")]
    before = far.server.requests
    rgb.generate(far, trial, edits=edits, max_new_tokens=3)
    assert far.server.requests - before == 1


def _failing(wrapped):
    """Program: fails on the server."""
    with wrapped.trace(input_ids=torch.ones(1, 3, dtype=torch.long)):
        [].pop()
        logits = wrapped.output.logits.save()
    return logits


def test_a_job_that_fails_says_why(far):
    with pytest.raises(
        rgb.ServerError,
        match="the job failed on the NDIF server at .*: IndexError: pop from empty list; if it fails again",
    ):
        execute(far, _failing)


def test_a_key_that_is_refused_is_not_shown(ndif_server, monkeypatch):
    for key in ("a-secret", "11111111-2222-3333-4444-555555555555"):
        ndif_server.connect(monkeypatch, key=key)
        with pytest.raises(rgb.ServerError, match="refused the key; set NDIF_API_KEY") as raised:
            rgb.load("toy", remote=True)
        assert key not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("key", ["a-secret\n", " a-secret", "a-\nsecret", "a-sécret"])
def test_a_key_that_cannot_be_sent_is_not_shown(ndif_server, monkeypatch, key):
    ndif_server.connect(monkeypatch, key=key)
    with pytest.raises(rgb.InputError, match="set NDIF_API_KEY to the key alone") as raised:
        rgb.load("toy", remote=True)
    assert "cret" not in "".join(traceback.format_exception(raised.value))


def test_a_model_that_is_not_served(ndif_server, monkeypatch, random_folder):
    ndif_server.connect(monkeypatch)
    folder = str(random_folder["one-kv"])
    for revision, named in ((None, folder), ("main", f"{folder} at revision main")):
        with pytest.raises(rgb.ServerError, match=rf"does not serve {named} \(.*; nnsight.status"):
            rgb.load(folder, remote=True, revision=revision)


def test_a_server_that_is_not_there(monkeypatch):
    monkeypatch.setattr(server, "FIRST_WAIT", 0.01)
    with pytest.raises(
        rgb.ServerError,
        match="cannot reach the NDIF server at http://127.0.0.1:9 .*, after 5 tries; check NDIF_HOST",
    ):
        rgb.load("toy", remote="http://127.0.0.1:9")
    with pytest.raises(rgb.InputError, match="give a URL"):
        rgb.load("toy", remote="ndif.us")
    with pytest.raises(rgb.InputError, match="the server's choice"):
        rgb.load("toy", remote=True, dtype="float16")


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory):
    """(server of the toy alone, proxy before it, through which results come too)."""
    if sentence := missing():
        pytest.skip(sentence)
    home = tmp_path_factory.mktemp("spoiled")
    (home / "rgb_circuit").mkdir()
    (home / "rgb_circuit" / "toy").symlink_to(Path(rgb.__file__).parent / "models" / "toy")
    environment = {}
    running = Server({"toy": "rgb_circuit/toy"}, home, environment)
    with proxy(running.port) as spoiler:
        environment["NDIF_OBJECT_STORE_PUBLIC_URL"] = spoiler.url
        running.start()
        yield running, spoiler
        if running.pid:
            running.stop()


def test_a_connection_that_breaks_costs_nothing(spoiled, monkeypatch):
    running, spoiler = spoiled
    running.connect(monkeypatch, url=spoiler.url)
    monkeypatch.setattr(server, "FIRST_WAIT", 0.05)
    here, there = rgb.load("toy"), rgb.load("toy", remote=True)
    trials = rgb.rgb_trials(here, 2)
    local = rgb.patch_heads(here, trials)
    # While the job is handed in, while it is asked after, and in the middle of its result.
    for after in (0, 10, 150, 500, 2000):
        spoiler.cut(after, times=2)
        before = there.server.requests
        np.testing.assert_allclose(rgb.patch_heads(there, trials)["effect"], local["effect"], atol=1e-4)
        assert there.server.requests - before <= 3
    spoiler.cut(2000)
    before = there.server.requests
    rgb.patch_heads(there, trials)
    assert there.server.requests - before == 1, "a result that was cut is fetched again, not computed again"


def test_a_server_that_dies_and_comes_back(spoiled, monkeypatch):
    running, spoiler = spoiled
    running.connect(monkeypatch, url=spoiler.url)
    monkeypatch.setattr(server, "LOST", 3.0)
    monkeypatch.setattr(server, "TRIES", 8)
    here, there = rgb.load("toy"), rgb.load("toy", remote=True)
    trials = rgb.rgb_trials(here, 4)

    def crash():
        time.sleep(0.1)
        running.kill()
        running.start()

    crashing = threading.Thread(target=crash)
    crashing.start()
    remote = [rgb.patch_heads(there, [trial], positions="all") for trial in trials]
    crashing.join()
    for trial, frame in zip(trials, remote):
        np.testing.assert_allclose(
            frame["effect"], rgb.patch_heads(here, [trial], positions="all")["effect"], atol=1e-4
        )


def test_versions_that_the_server_refuses(spoiled, monkeypatch):
    running, _ = spoiled
    newer = Server(running.names, running.cwd, {"NDIF_MIN_NNSIGHT_VERSION": "99"})
    newer.start()
    try:
        newer.connect(monkeypatch)
        with pytest.raises(
            rgb.ServerError, match="does not work with the versions here .* install what it asks for"
        ):
            rgb.load("toy", remote=True)
    finally:
        newer.stop()


def test_a_result_that_holds_more_than_tensors_is_not_unpickled(far):
    backend = server._Backend(far.server)
    backend.compress = False
    blob = io.BytesIO()
    torch.save({"found": Path("anything")}, blob)
    with pytest.raises(Exception, match="[Ww]eights.only"):
        backend.finalize(blob.getvalue())


def test_the_host_is_the_one_that_nnsight_is_configured_for(monkeypatch):
    monkeypatch.setattr(CONFIG.API, "HOST", "http://127.0.0.1:9/")
    monkeypatch.setattr(server, "FIRST_WAIT", 0.01)
    with pytest.raises(rgb.ServerError, match="http://127.0.0.1:9 "):
        rgb.load("toy", remote=True)


def same_frames(one, other):
    """Whether two runs' folders hold the same frames, up to rounding."""
    names = sorted(path.name for path in one.glob("*.parquet"))
    assert names == sorted(path.name for path in other.glob("*.parquet")) and "roles.parquet" in names
    for name in names:
        here, there = pd.read_parquet(one / name), pd.read_parquet(other / name)
        for column in here:
            if here[column].dtype.kind == "f":
                if column not in ("p_value", "q_value", "share"):
                    np.testing.assert_allclose(
                        there[column], here[column], rtol=1e-3, atol=1e-4, err_msg=f"{name}, {column}"
                    )
            elif len(here) and isinstance(here[column].iloc[0], np.ndarray):
                for one_row, other_row in zip(here[column], there[column], strict=True):
                    if one_row.dtype.kind == "f":
                        # Attention, kept in half precision.
                        np.testing.assert_allclose(other_row, one_row, rtol=2e-3, atol=1e-4)
                    else:
                        np.testing.assert_array_equal(other_row, one_row)
            else:
                assert there[column].tolist() == here[column].tolist(), (name, column)


@pytest.fixture(scope="module")
def run_here(tmp_path_factory):
    """The folder of a run of planted on this machine, and the options that make it."""
    options = ["--model", "planted", "--trials", "12"]
    folder = tmp_path_factory.mktemp("runs") / "here"
    assert main(["run", *options, "--out", str(folder)]) == 0
    return folder, options


@pytest.fixture(scope="module")
def run_there(run_here, _ndif_server, tmp_path_factory):
    """The folder of the same run on a server that is waited for; and of every time that something was
    measured, (trials, requests)."""
    run, rounds = measure._run, []

    def counted(model, works, *given):
        before = model.server.requests
        waiting = run(model, works, *given)
        trials = {trial.name for work in works for trial in work.missing}
        rounds.append((len(trials), model.server.requests - before))
        return waiting

    folder = tmp_path_factory.mktemp("runs") / "there"
    _ndif_server.start()
    with pytest.MonkeyPatch.context() as monkeypatch:
        _ndif_server.connect(monkeypatch)
        monkeypatch.setattr(measure, "_run", counted)
        assert main(["run", *run_here[1], "--remote", _ndif_server.url, "--out", str(folder)]) == 0
    return folder, [one for one in rounds if one[0]]


def test_a_run_on_a_server_leaves_what_a_run_here_leaves(run_here, run_there, ndif_server):
    (here, options), (there, _) = run_here, run_there
    same_frames(here, there)
    assert f"--remote {ndif_server.url}" in (there / "report.html").read_text()
    # On this machine it would be another run.
    assert main(["run", *options, "--out", str(there)]) == 2


def test_a_run_asks_at_most_three_times_a_trial_and_round(run_there):
    # Each trial by itself: the first four, the rest of the first half, the second half. Beside it direct
    # effects of eight trials and where every head looks on three, for the page; and the noise of four trials.
    # Then stand-ins, and frozen
    # heads. Of the closer look, for half the trials what is averaged and what is patched; and where the heads
    # found look for three.
    each = [(4, 4 + 4 + 3 + 4), (2, 2 + 2), (6, 6 + 2)]
    through, look = [(12, 12), (12, 12)], [(6, 2 * 6), (3, 3)]
    assert run_there[1] == [*each, *through, *look]


def same_bits(one, other):
    """Whether two runs' folders hold the same frames and parts, bit for bit."""
    names = sorted(path.relative_to(one) for path in one.rglob("*.parquet"))
    assert names == sorted(path.relative_to(other) for path in other.rglob("*.parquet"))
    assert [name for name in names if name.parent.name] and Path("roles.parquet") in names
    for name in names:
        pd.testing.assert_frame_equal(
            pd.read_parquet(one / name), pd.read_parquet(other / name), check_exact=True, obj=str(name)
        )


def leave_out_figures(monkeypatch):
    """They take longer than everything else, and are the same from the same frames."""
    monkeypatch.setattr(study, "panel_heatmaps", lambda *given: Figure(figsize=(1, 1)))
    monkeypatch.setattr(
        study, "effect_forest", lambda *given, **options: Figure(figsize=(1, 1)).add_subplot()
    )
    monkeypatch.setattr(report, "write", lambda folder: results.write_bytes(folder / "report.html", b""))


@pytest.fixture
def no_figures(monkeypatch):
    leave_out_figures(monkeypatch)


@pytest.fixture(scope="module")
def toy_run_here(tmp_path_factory):
    """The folder of a run of the toy on this machine, without figures, and the options that make it."""
    folder, options = tmp_path_factory.mktemp("toy") / "here", ["--trials", "10"]
    with pytest.MonkeyPatch.context() as monkeypatch:
        leave_out_figures(monkeypatch)
        assert main(["run", *options, "--out", str(folder)]) == 0
    return folder, options


def test_a_detached_run_is_handed_in_and_collected(
    run_here, run_there, no_figures, ndif_server, monkeypatch, tmp_path, capsys
):
    ndif_server.connect(monkeypatch)
    options = run_here[1]
    handed_in = []
    post = server._Backend._post

    def counted(*given):
        handed_in.append(1)
        return post(*given)

    monkeypatch.setattr(server._Backend, "_post", counted)
    status = main(["run", *options, "--remote", "--detach", "--out", str(tmp_path)])
    assert status == 4 and "rgb-circuit collect" in capsys.readouterr().out
    # The probe of the model, the question that is new to it, and everything that needs no result over all
    # trials, at once; for the page, where heads look on three trials and direct effects of eight; and the
    # noise of four.
    assert len(handed_in) == 1 + 1 + 12 + 3 + 8 + 4
    rounds = 0
    while status == 4 and rounds < 100:
        status = main(["collect", str(tmp_path)])
        rounds += 1
    assert status == 0 and 1 < rounds
    same_bits(run_there[0], tmp_path)
    assert not list(tmp_path.rglob("*.jobs"))
    before = len(handed_in)
    assert main(["collect", str(tmp_path)]) == 0
    # The probe of the model, and not one part again.
    assert len(handed_in) == before + 1


def test_jobs_that_are_lost_are_handed_in_again(toy_run_here, no_figures, spoiled, monkeypatch, tmp_path):
    running, _ = spoiled
    running.start()
    running.connect(monkeypatch)
    monkeypatch.setattr(server, "FIRST_WAIT", 0.01)
    here, options = toy_run_here
    there = tmp_path / "there"
    assert main(["run", *options, "--remote", "--detach", "--out", str(there)]) == 4
    # Its jobs were in the memory of the server.
    running.kill()
    assert main(["collect", str(there)]) == 3
    running.start()
    monkeypatch.setattr(server, "LOST", 0.5)
    time.sleep(0.6)
    assert main(["collect", str(there)]) == 4
    monkeypatch.setattr(server, "LOST", 30.0)
    while (status := main(["collect", str(there)])) == 4:
        time.sleep(0.2)
    assert status == 0
    same_frames(here, there)


def test_a_run_that_loses_its_server_goes_on_where_it_was(
    toy_run_here, no_figures, spoiled, monkeypatch, tmp_path, capsys
):
    running, _ = spoiled
    here, options = toy_run_here
    running.start()
    running.connect(monkeypatch)
    monkeypatch.setattr(server, "FIRST_WAIT", 0.01)
    written = []
    kept = store.write_bytes

    def until_the_tenth(path, data):
        written.append(path)
        if len(written) == 10:
            running.kill()
        return kept(path, data)

    monkeypatch.setattr(store, "write_bytes", until_the_tenth)
    command = ["run", *options, "--remote", "--out", str(tmp_path / "there")]
    assert main(command) == 3
    assert "what was finished is kept, and the same command goes on from there" in capsys.readouterr().err
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "there").rglob("parts/*/*.parquet")}
    assert parts
    running.start()
    assert main(command) == 0
    assert all(path.stat().st_mtime_ns == when for path, when in parts.items())
    same_frames(here, tmp_path / "there")


def test_a_result_that_expired_is_computed_again(far, monkeypatch):
    download, gone = RemoteBackend.download_result, []

    def expired_once(self, url):
        if not gone:
            gone.append(url)
            request = httpx.Request("GET", url)
            raise httpx.HTTPStatusError(
                "gone", request=request, response=httpx.Response(403, request=request)
            )
        return download(self, url)

    monkeypatch.setattr(RemoteBackend, "download_result", expired_once)
    monkeypatch.setattr(server, "FIRST_WAIT", 0.01)
    before = far.server.requests
    assert len(rgb.play(far, rgb.rgb_trials(far, 1)))
    assert gone and far.server.requests - before == 2


def test_what_cannot_be_detached_is_refused(toy_run_here, tmp_path, capsys):
    assert main(["run", "--detach", "--out", str(tmp_path / "a")]) == 2
    assert "give --remote with it" in capsys.readouterr().err
    assert main(["collect", str(toy_run_here[0])]) == 2
    assert "holds no run on a server" in capsys.readouterr().err


def collected(model, measurements, folder):
    """The frames of some measurements, from a server that is not waited for."""
    about = manifest.manifest(model, measurements[0].trials, {})
    for _ in range(50):
        try:
            return measure.measure(model, measurements, store.open_store(folder, about, detached=True))
        except jobs.Pending:
            time.sleep(0.1)


@pytest.fixture
def handed_out_once(monkeypatch):
    """Results are gone when they are asked for again, as if an hour passed between two rounds."""
    download, handed_in, handed_out = RemoteBackend.download_result, jobs.Jobs.handed_in, set()

    def an_hour_ago(self, number):
        known = handed_in(self, number)
        return known and (known[0], known[1] - 3600)

    def once(self, url):
        if self.job_id in handed_out:
            request = httpx.Request("GET", url)
            httpx.Response(410, request=request).raise_for_status()
        handed_out.add(self.job_id)
        return download(self, url)

    monkeypatch.setattr(jobs.Jobs, "handed_in", an_hour_ago)
    monkeypatch.setattr(RemoteBackend, "download_result", once)


def test_a_detached_mean_in_several_requests_is_the_mean(ndif_server, monkeypatch, handed_out_once, tmp_path):
    ndif_server.connect(monkeypatch)
    here, there = rgb.load("toy"), rgb.load("toy", remote=True)
    # A question that is new to the model, which is asked first.
    trials = [replace(trial, prompt=prompt(BACKGROUND_QUESTION)) for trial in rgb.rgb_trials(here, 6)]
    asked = [patching.PatchedHeads.of(here, trials, "mean", "erased"), Played.of(trials)]
    expected, before = measure.measure(here, asked), there.server.requests
    effects, answers = collected(there, asked, tmp_path)
    np.testing.assert_allclose(effects["effect"], expected[0]["effect"], atol=1e-4)
    np.testing.assert_allclose(answers["logit_odd"], expected[1]["logit_odd"], atol=1e-4)
    # The question, and of each trial what is averaged, the answers meanwhile, and the effects: each once.
    assert there.server.requests - before == 1 + 3 * 6
    assert not list(tmp_path.rglob("*.jobs"))


def test_what_a_model_cannot_do_is_handed_in_no_more_than_twice(far, monkeypatch, tmp_path):
    def misbehaves(model, drift, length):
        raise rgb.InputError("it ends elsewhere")

    monkeypatch.setattr(measure, "check_unedited", misbehaves)
    trials, before = rgb.rgb_trials(far, 3), far.server.requests
    asked = [patching.PatchedHeads.of(far, trials, "clean", "erased"), Played.of(trials)]
    for _ in range(4):
        with pytest.raises(rgb.InputError, match="it ends elsewhere"):
            collected(far, asked, tmp_path)
    # With what could be kept, and alone.
    assert far.server.requests - before == 2 * len(trials)


def test_detached_trials_of_one_name_get_their_own_results(far, loaded, tmp_path):
    here = loaded.get(("toy", False)) or rgb.load("toy")
    one, other = rgb.rgb_trials(here, 2)
    trials = one, replace(other, name=one.name)
    asked = [Decomposed((trial,), ("clean",)) for trial in trials]
    for found, expected in zip(collected(far, asked, tmp_path), measure.measure(here, asked)):
        np.testing.assert_allclose(found["direct_effect"], expected["direct_effect"], atol=1e-4)


def test_what_is_no_server_gives_a_sentence(monkeypatch):
    monkeypatch.setattr(server, "FIRST_WAIT", 0.01)
    for url in ("", "http://", "http://127.0.0.1:1:2", "ftp://ndif.us"):
        with pytest.raises(rgb.InputError, match="give a URL"):
            rgb.load("toy", remote=url)
    for url in ("http://me:secret@127.0.0.1", "me:secret@127.0.0.1", "http://me:secret@127.0.0.1:1:2"):
        with pytest.raises(rgb.InputError, match="remote holds a user or a password") as raised:
            rgb.load("toy", remote=url)
        assert "secret" not in str(raised.value)


class Something(http.server.BaseHTTPRequestHandler):
    """No NDIF: answers with a page, and the status that the address begins with."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(int(self.path.split("/")[1]))
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<html>\n<h1>hello</h1>\n</html>\n")

    def log_message(self, *_):
        pass


def test_what_is_another_server_gives_a_sentence(monkeypatch):
    monkeypatch.setattr(server, "FIRST_WAIT", 0.01)
    with http.server.HTTPServer(("127.0.0.1", 0), Something) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        for status, sentence in (
            (200, "cannot reach .* \\(what it answers is not what an NDIF server says\\), after 5 tries"),
            (502, "cannot reach .* \\(HTTP 502 Bad Gateway\\), after 5 tries"),
            (301, "does not take jobs \\(HTTP 301 Moved Permanently\\); check the URL"),
            (404, "does not take jobs \\(HTTP 404 Not Found\\); check the URL"),
        ):
            with pytest.raises(rgb.ServerError, match=sentence):
                rgb.load("toy", remote=f"http://127.0.0.1:{other.server_port}/{status}")
        other.shutdown()


def test_the_link_of_a_result_is_not_shown(far, monkeypatch):
    def broken(self, url):
        request = httpx.Request("GET", "https://store/result?signature=secret")
        httpx.Response(500, request=request).raise_for_status()

    monkeypatch.setattr(RemoteBackend, "download_result", broken)
    monkeypatch.setattr(server, "FIRST_WAIT", 0.01)
    with pytest.raises(rgb.ServerError, match="HTTP 500 Internal Server Error"):
        rgb.play(far, rgb.rgb_trials(far, 1))


def test_a_job_that_the_server_gave_up_is_handed_in_again(far, monkeypatch):
    poll, ended = RemoteBackend.poll, []

    def evicted_once(self, tracer=None):
        if not ended:
            ended.append(self.job_id)
            raise RemoteError("Replica was evicted while processing your request. Please try again later.")
        assert self.job_id not in (None, ended[0])
        return poll(self, tracer)

    monkeypatch.setattr(RemoteBackend, "poll", evicted_once)
    monkeypatch.setattr(server, "FIRST_WAIT", 0.01)
    before = far.server.requests
    assert len(rgb.play(far, rgb.rgb_trials(far, 1)))
    assert far.server.requests - before == 2
