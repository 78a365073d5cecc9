"""The NDIF server of the remote tests is a real one, in an environment that lacks ours; what spoils
its connections does so."""

import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import nnsight
import psutil
import pydantic
import pytest
import torch
import websocket
from nnsight.intervention.backends.remote import RemoteError
from nnsight.modeling import huggingface
from nnsight.modeling.transformers import TransformersModel
from packaging.requirements import Requirement
from proxy import proxy
from remote_server import ended, processes_of
from transformers import AutoProcessor

import rgb_circuit as rgb

# What nnsight raises where the server goes away: the last one if it says goodbye, which nnsight
# takes for an empty answer.
LOST = (websocket.WebSocketConnectionClosedException, ConnectionError, pydantic.ValidationError)


def load(server, name, **options):
    """One of the server's models as a client has it: lazily, without weights, unless ``options``
    say otherwise."""
    folder = str(server.cwd / server.names[name])
    # nnsight asks the Hub how a repository is spelled, and these are on no hub.
    huggingface._ID_CACHE[folder] = server.names[name]
    return TransformersModel(
        folder,
        task="image-text-to-text",
        processor=AutoProcessor.from_pretrained(folder),
        **options,
    )


def inputs(model, condition="clean"):
    """One picture of the game, as the model reads it."""
    vision = model._module.config.vision_config
    trial = rgb.rgb_trial(
        tile=(2, 3), grid=vision.image_size // vision.patch_size, tile_px=vision.patch_size
    )
    return dict(
        model.processor(text=[trial.prompt], images=[trial.images[condition]], return_tensors="pt")
    )


def logits(model, remote=True):
    """Of the clean picture, at [end]."""
    clean = inputs(model)
    with model.trace(**clean, remote=remote):
        found = model.lm_head.output[:, -1].detach().save()
    return found


def patched(model, remote=True):
    """Logits of the recolored picture, and of it with every head's z from the clean picture: one
    session, three traces."""
    clean, recolored = inputs(model), inputs(model, "recolored")
    with model.session(remote=remote):
        layers = model.model.language_model.layers
        with model.trace(**clean):
            z = [layer.self_attn.o_proj.input[:, -1].detach() for layer in layers]
        with model.trace(**recolored):
            before = model.lm_head.output[:, -1].detach().save()
        with model.trace(**recolored):
            for layer, restored in zip(layers, z):
                layer.self_attn.o_proj.input[:, -1] = restored
            after = model.lm_head.output[:, -1].detach().save()
    return before, after


def slow(model):
    """The logits, after a minute that no test waits for."""
    clean = inputs(model)
    with model.session(remote=True):
        import time

        time.sleep(60)
        with model.trace(**clean):
            found = model.lm_head.output[:, -1].detach().save()
    return found


def assert_same(there, here):
    torch.testing.assert_close(there, here, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["toy", "planted", "grouped"])
def test_a_model_without_weights_computes_there_what_the_one_with_weights_computes_here(
    ndif_server, monkeypatch, name
):
    ndif_server.connect(monkeypatch)
    here, there = load(ndif_server, name, device_map="cpu", dispatch=True), load(ndif_server, name)
    assert {parameter.device.type for parameter in there._module.parameters()} == {"meta"}
    clean = logits(here, remote=False)
    assert_same(logits(there), clean)
    before, after = patched(there)
    assert_same((before, after), patched(here, remote=False))
    assert_same(after, clean)
    assert (after - before).abs().max() > 1e-3


def test_an_ordinary_users_job_computes_the_same_in_its_sandbox(ndif_server, monkeypatch):
    ndif_server.connect(monkeypatch, key=ndif_server.key)
    here, there = (
        load(ndif_server, "grouped", device_map="cpu", dispatch=True),
        load(ndif_server, "grouped"),
    )
    assert_same(patched(there), patched(here, remote=False))


@pytest.mark.parametrize("key", ["trusted_key", "key"])
def test_jobs_find_neither_this_package_nor_pandas(ndif_server, monkeypatch, key):
    ndif_server.connect(monkeypatch, key=getattr(ndif_server, key))
    model = load(ndif_server, "toy")
    clean = inputs(model)
    with model.session(remote=True):
        import importlib

        lacking = []
        for name in ("rgb_circuit.vlm", "pandas", "torch"):
            try:
                importlib.import_module(name)
            except ModuleNotFoundError:
                lacking.append(name)
        nnsight.save(lacking)
        with model.trace(**clean):
            model.lm_head.output.save()
    assert lacking == ["rgb_circuit.vlm", "pandas"]


def test_its_versions_are_those_that_a_client_needs(ndif_server, monkeypatch):
    ndif_server.connect(monkeypatch)
    there = nnsight.ndif.get_remote_env(force_refresh=True)["packages"]
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    wanted = {
        requirement.name: requirement.specifier
        for requirement in map(Requirement, project["dependencies"])
    }
    assert all(wanted[name].contains(there[name]) for name in ("nnsight", "torch", "transformers"))
    assert "pandas" not in there and "rgb_circuit" not in there


def test_results_too_large_for_the_websocket_are_downloaded(ndif_server, monkeypatch):
    ndif_server.connect(monkeypatch)
    model = load(ndif_server, "toy")
    clean, noise = inputs(model), torch.randn(3_000_000)
    with model.trace(**clean, remote=True):
        found = (noise + 0 * model.lm_head.output[0, -1, 0]).detach().save()
    assert torch.equal(found, noise)


def test_a_job_that_fails_says_where(ndif_server, monkeypatch):
    ndif_server.connect(monkeypatch)
    model = load(ndif_server, "toy")
    clean = inputs(model)
    with pytest.raises(
        RemoteError, match=f"(?s){Path(__file__).name}.*IndexError: index 100000 is out of bounds"
    ):
        with model.trace(**clean, remote=True):
            model.lm_head.output[:, 100_000].save()


def test_only_its_two_keys_and_its_models_are_served(ndif_server, monkeypatch):
    model = load(ndif_server, "toy")
    for key, complaint in (
        ("00000000-0000-0000-0000-000000000000", "Invalid API key"),
        ("secret", "Invalid API key format"),
    ):
        ndif_server.connect(monkeypatch, key=key)
        with pytest.raises(RemoteError, match=complaint):
            logits(model)
    ndif_server.connect(monkeypatch)
    monkeypatch.setitem(
        huggingface._ID_CACHE, str(ndif_server.cwd / "rgb_circuit/toy"), "somebody/else"
    )
    with pytest.raises(RemoteError, match="This server serves only rgb_circuit/toy"):
        logits(model)


def test_it_listens_on_this_machine_only(ndif_server):
    process = psutil.Process(ndif_server.pid)
    sockets = [
        connection
        for one in (process, *process.children(recursive=True))
        for connection in one.net_connections("inet")
    ]
    assert {connection.laddr for connection in sockets if connection.status == "LISTEN"} == {
        ("127.0.0.1", ndif_server.port)
    }


def test_cut_connections_are_errors_and_the_next_try_works(ndif_server, monkeypatch):
    model = load(ndif_server, "toy")
    with proxy(ndif_server.port) as between:
        ndif_server.connect(monkeypatch, url=between.url)
        wanted = logits(model)
        total = between.down
        assert between.connections == 2 and between.up > 500
        for after in (0, 100, 600, total - 400):
            between.cut(after)
            with pytest.raises(websocket.WebSocketConnectionClosedException):
                logits(model)
            assert torch.equal(logits(model), wanted)
        between.refuse()
        with pytest.raises(ConnectionRefusedError):
            logits(model)
        between.accept()
        assert torch.equal(logits(model), wanted)


def test_a_stalled_connection_is_silent(ndif_server, monkeypatch):
    model = load(ndif_server, "toy")
    with proxy(ndif_server.port) as between:
        ndif_server.connect(monkeypatch, url=between.url)
        wanted = logits(model)
        between.stall()
        found = []
        thread = threading.Thread(target=lambda: found.append(logits(model)), daemon=True)
        thread.start()
        thread.join(1)
        assert thread.is_alive()
        between.flow()
        thread.join(20)
        assert torch.equal(found[0], wanted)


def test_stopped_in_a_job_it_takes_redis_along_and_starts_again_at_the_same_place(
    ndif_server, monkeypatch
):
    ndif_server.connect(monkeypatch)
    model = load(ndif_server, "toy")
    wanted, tree = logits(model), processes_of(ndif_server.pid)
    assert any("redis" in process.name() for process in tree)
    ending = threading.Timer(2, ndif_server.stop)
    ending.start()
    with pytest.raises(LOST):
        slow(model)
    # While another thread waits for the process, it passes for running.
    ending.join()
    assert ended(tree)
    with pytest.raises(ConnectionRefusedError):
        logits(model)
    ndif_server.start()
    assert torch.equal(logits(model), wanted)


def test_it_ends_with_its_parent_and_may_ask_for_newer_clients_which_is_said(
    ndif_server, monkeypatch
):
    script = (
        "import sys, remote_server; from pathlib import Path\n"
        "server = remote_server.Server({'toy': 'rgb_circuit/toy'}, Path(sys.argv[1]), "
        "{'NDIF_MIN_NNSIGHT_VERSION': '99'})\n"
        "server.start(); print(server.url, server.key, server.pid, flush=True); input()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, ndif_server.cwd],
        cwd=Path(__file__).parent,
        stdin=-1,
        stdout=-1,
        text=True,
    )
    url, key, pid = parent.stdout.readline().split()
    tree = processes_of(int(pid))
    ndif_server.connect(monkeypatch, url=url, key=key)
    with pytest.raises(RemoteError, match="nnsight version .* is below the minimum supported 99"):
        logits(load(ndif_server, "toy"))
    with pytest.raises(
        rgb.ServerError, match="does not work with the versions here .* install what it asks for"
    ):
        rgb.load("toy", remote=True)
    parent.kill()
    parent.wait()
    assert ended(tree)
