import gc
import inspect
import os
from functools import cache
from pathlib import Path

import pytest
import remote_server
import runs
import torch
from proxy import proxy

import rgb_circuit as rgb
from rgb_circuit.models.planted import planted as make_planted
from rgb_circuit.models.random import random_llava
from rgb_circuit.models.small import save

# Threads slow down models this small; the variable is for processes that tests start.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Modules and tests are half a million permanent objects; searching them for garbage took a third of
# the time to collect tests, and a sixth of the time to run them.
gc.disable()
gc.set_threshold(10_000, 10, 10)
# The package syncs files to survive a power cut; no test needs that.
os.fsync = lambda file: None
# nnsight looks for the end of each function that travels to a server, twice in each request: a
# fifth of the time of the remote tests.
source_lines = inspect.getsourcelines
source_lines_of_code = cache(source_lines)


def _known_source_lines(item):
    plain = inspect.isfunction(item) and not hasattr(item, "__wrapped__")
    return source_lines_of_code(item.__code__) if plain else source_lines(item)


inspect.getsourcelines = _known_source_lines


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


# Prefixes of files whose tests use an NDIF server.
NDIF = ("test_check.", "test_ndif", "test_remote")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """One worker runs all tests with an NDIF server, or each worker would start its own."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "NDIF" if Path(file).name.startswith(NDIF) else file

    return Scheduling(config, log)


# Multi-head, grouped-query, one KV head with heads wider than width / heads.
GEOMETRIES = {
    "multi-head": dict(layers=3, heads=4, kv_heads=4),
    "grouped": dict(layers=3, heads=4, kv_heads=2),
    "one-kv": dict(layers=2, heads=4, kv_heads=1, d_head=12),
}


@pytest.fixture(scope="session")
def random_folder(tmp_path_factory):
    """Name of a geometry → folder of a random LLaVA with it."""
    folders = {}
    for seed, (name, geometry) in enumerate(GEOMETRIES.items()):
        model, processor = random_llava(seed, **geometry)
        folders[name] = save(model, processor, tmp_path_factory.mktemp(name))
    return folders


@pytest.fixture(scope="session", params=GEOMETRIES)
def model(request, random_folder):
    """A random LLaVA of each geometry."""
    return rgb.load(str(random_folder[request.param]))


@pytest.fixture(scope="session")
def grouped(random_folder):
    """A random LLaVA with grouped-query attention."""
    return rgb.load(str(random_folder["grouped"]))


@pytest.fixture(scope="session")
def toy():
    """The shipped toy, which plays but has no circuit."""
    return rgb.load("toy")


@pytest.fixture(scope="session")
def planted():
    """The shipped planted model, whose heads have known roles."""
    return rgb.load("planted")


@pytest.fixture(scope="session")
def runs_folder(tmp_path_factory):
    """The folder of runs that all workers share."""
    # Each worker's folder is inside the session's.
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "runs"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def planted_run(runs_folder):
    """The folder of ``rgb-circuit run`` with `runs.PLANTED`; read only, copy it to change it."""
    return runs.finished(runs.PLANTED, runs_folder / "planted")


@pytest.fixture(scope="session")
def toy_run(runs_folder):
    """The folder of ``rgb-circuit run`` with `runs.TOY`; read only, copy it to change it."""
    return runs.finished(runs.TOY, runs_folder / "toy")


@pytest.fixture(scope="session")
def two_trials_run(runs_folder):
    """The folder of ``rgb-circuit run`` with `runs.TWO_TRIALS`; read only, copy it to change
    it."""
    return runs.finished(runs.TWO_TRIALS, runs_folder / "two-trials")


@pytest.fixture(scope="session")
def small_folder(runs_folder):
    """The folder of `runs.small`."""
    return str(runs.small(runs_folder / "small-model"))


@pytest.fixture(scope="session")
def small_run(runs_folder, small_folder):
    """The folder of ``rgb-circuit run`` with `runs.SMALL` on the small model, without figures and
    page; read only, copy it to change it."""
    options = ("--model", small_folder, *runs.SMALL)
    return runs.finished(options, runs_folder / "small", drawn=False)


@pytest.fixture
def no_forward(monkeypatch):
    """Any forward of a language model fails the test."""

    def forward(*arguments, **options):
        raise AssertionError("a forward ran before the input was checked")

    # Once wrapped, a module calls the forward that its class had then. Of a LLaVA's parts the norms
    # of the language model alone take this root.
    monkeypatch.setattr(torch, "rsqrt", forward)


@pytest.fixture(scope="session")
def _ndif_server(random_folder, small_folder, tmp_path_factory):
    if sentence := remote_server.missing():
        pytest.skip(sentence)
    # Imported here because it loads much of transformers.
    import families

    home = tmp_path_factory.mktemp("served")
    (home / "rgb_circuit").mkdir()
    (home / "rgb_circuit" / "toy").symlink_to(Path(rgb.__file__).parent / "models" / "toy")
    save(*make_planted()[:2], home / "rgb_circuit" / "planted")
    names = {
        "toy": "rgb_circuit/toy",
        "planted": "rgb_circuit/planted",
        "grouped": str(random_folder["grouped"]),
        "small": small_folder,
        **{name: str(families.saved(name, home / name)) for name in remote_server.FAMILIES},
    }
    with remote_server.served(names, home) as server:
        yield server


@pytest.fixture
def ndif_server(_ndif_server):
    """A running NDIF server (`remote_server.Server`) with rgb_circuit/toy, rgb_circuit/planted,
    the grouped random LLaVA, the small planted one and some other families.

    One for the whole session; a test may stop it and leave it stopped.
    """
    _ndif_server.start()
    return _ndif_server


@pytest.fixture(scope="session")
def loaded():
    """(name, remote) → a model that is already loaded."""
    return {}


@pytest.fixture
def far(ndif_server, monkeypatch, loaded):
    """The toy on the server."""
    ndif_server.connect(monkeypatch)
    if ("toy", True) not in loaded:
        loaded["toy", True] = rgb.load("toy", remote=True)
    return loaded["toy", True]


@pytest.fixture(scope="session")
def _spoiled(tmp_path_factory):
    if sentence := remote_server.missing():
        pytest.skip(sentence)
    home = tmp_path_factory.mktemp("spoiled")
    (home / "rgb_circuit").mkdir()
    (home / "rgb_circuit" / "toy").symlink_to(Path(rgb.__file__).parent / "models" / "toy")
    environment = {}
    running = remote_server.Server({"toy": "rgb_circuit/toy"}, home, environment)
    with proxy(running.port) as spoiler:
        environment["NDIF_OBJECT_STORE_PUBLIC_URL"] = spoiler.url
        yield running, spoiler
        if running.pid:
            running.stop()


@pytest.fixture
def spoiled(_spoiled):
    """(running server with only the toy, proxy before it that also carries results)."""
    _spoiled[0].start()
    return _spoiled
