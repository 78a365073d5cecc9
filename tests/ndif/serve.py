"""NDIF on this machine, on CPU: its own API, queue and model actors, and redis, in one process tree
on 127.0.0.1.

Runs in the environment that `prepare.sh` makes, which knows neither rgb_circuit nor pandas:

    .venv-ndif/bin/python -I tests/ndif/serve.py --port 8001 FOLDER [FOLDER …]

A request passes through NDIF's code from the first byte to the last: upload, key, queue,
deserialization, execution, result. What is replaced is what needs a cluster: Ray's actors live in
this process and are called directly, models are loaded on the CPU, the users' database is the two
keys given here, and the object store for large results is this process's memory.

With a key a request needs one, as on the public NDIF. The job of an ordinary key runs in a process
of its own that has no weights, which NDIF calls the sandbox; that of a trusted key runs beside the
model. With neither key everybody is trusted.
"""

import argparse
import asyncio
import contextlib
import inspect
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("NDIF_LOG_LEVEL", "WARNING")
# An actor asks Ray where it runs, and to answer Ray would start a cluster.
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"

# Before nnsight, which gives every object a .save that anyio takes for an attribute of its own and
# stumbles over.
import anyio._backends._asyncio  # noqa: F401
import ray
import torch
import uvicorn
from fastapi import HTTPException, Response
from ndif.common.providers.objectstore import ObjectStoreProvider
from ndif.common.providers.postgres import PostgresProvider
from ndif.common.providers.ray import RayProvider
from ndif.common.providers.redis import RedisProvider
from ndif.common.schema.controller import (
    DeployResponse,
    ModelDeployResult,
    ReplicaState,
    ReplicaStates,
)
from ndif.services.api.app import app
from ndif.services.api.queue.dispatcher import Dispatcher
from ndif.services.ray.sandbox.model import SandboxModelDeployment
from nnsight.modeling.huggingface import HuggingFaceModel
from nnsight.ndif import get_local_env

TASK = "image-text-to-text"
REPLICA = "0"
ONE_JOB = asyncio.Lock()


class CpuActor(SandboxModelDeployment):
    """NDIF's model actor, except that the model is on the CPU."""

    def load_from_disk(self) -> HuggingFaceModel:
        model = HuggingFaceModel.from_model_key(
            self.model_key, dispatch=True, dtype=self.dtype_name, device="cpu"
        )
        model._module.requires_grad_(False)
        return model

    def open_pool(self, *args, **kwargs) -> None:
        # A sandbox takes half a gigabyte: started when a job needs it, not kept warm.
        super().open_pool(0)
        self.pool.acquire = self.pool._spawn

    async def run(self, request) -> None:
        # NDIF has a process for each model. Here models share standard output and nnsight's caches,
        # which a job takes over.
        async with ONE_JOB:
            await super().run(request)


class Controller:
    """What NDIF's queue asks its controller, answered for a fixed list of models (key → folder)."""

    def __init__(self, models: dict[str, str]) -> None:
        self.models = models

    def get_deployment(self, key: str) -> ReplicaStates:
        state = dict(
            deployment_level="hot", gpus={}, size_bytes=0, pinned=True, deployed=time.time()
        )
        served = (
            [ReplicaState(model_key=key, replica_id=REPLICA, **state)] if key in self.models else []
        )
        return ReplicaStates(replicas=served)

    def scale(self, key: str, *_) -> DeployResponse:
        error = f"This server serves only {', '.join(self.models.values())}."
        return DeployResponse(results={key: ModelDeployResult(error=error)})

    def env(self) -> dict:
        return get_local_env()

    def status(self) -> dict:
        state = dict(application_state="RUNNING", deployment_level="HOT", task=TASK, revision=None)
        return {
            "deployments": {
                key: dict(model_key=key, repo_id=folder, **state)
                for key, folder in self.models.items()
            }
        }


class Handle:
    """An actor as Ray hands it out: its methods are called with ``.remote(…)`` and awaited."""

    def __init__(self, actor) -> None:
        self.actor = actor

    def __getattr__(self, name: str) -> SimpleNamespace:
        async def remote(*args):
            # Ray answers this one itself, as soon as the actor is there.
            if name == "__ray_ready__":
                return None
            answer = getattr(self.actor, name)(*args)
            return await answer if inspect.isawaitable(answer) else answer

        return SimpleNamespace(remote=remote)


def instead_of_ray(folders: list[str]) -> None:
    """Make the controller and an actor per folder, and let the queue find them under the names that
    Ray would know."""
    models = {model_key(folder): folder for folder in folders}
    actors = {
        f"{REPLICA}:ModelActor:{key}": Handle(CpuActor(key, dtype="float32")) for key in models
    }
    actors["Controller"] = Handle(Controller(models))
    ray.get_actor = lambda name, namespace=None: actors[name]
    RayProvider.connected = lambda: True


def model_key(folder: str) -> str:
    """How a client's ``TransformersModel(folder, task="image-text-to-text")`` names itself."""
    about = json.dumps(dict(repo_id=folder, revision=None, task=TASK))
    return f"nnsight.modeling.transformers.TransformersModel:{about}"


def instead_of_postgres(ordinary: uuid.UUID | None, trusted: uuid.UUID | None) -> None:
    """Let NDIF look keys up here: each belongs to one user, who is trusted or not."""
    tags = {key: tag for key, tag in ((ordinary, None), (trusted, "trusted")) if key}

    async def fetch(query: str, key: uuid.UUID) -> list[dict]:
        return (
            [dict(user_id="0", email="user@localhost", user_tag=tags[key])] if key in tags else []
        )

    PostgresProvider.enabled = lambda: bool(tags)
    PostgresProvider.fetch = fetch


def instead_of_s3(url: str) -> None:
    """Keep in memory what NDIF puts into a bucket: results above 8 MiB, and the state of jobs that
    nobody waits for."""
    objects = {}

    def put(key: str, data: bytes, content_type: str = "") -> None:
        objects[key] = data

    @app.get("/objects/{key:path}")
    def download(key: str) -> Response:
        if key not in objects:
            raise HTTPException(404)
        return Response(objects[key])

    ObjectStoreProvider.put = put
    ObjectStoreProvider.get = objects.get
    ObjectStoreProvider.presigned_get = lambda key: (
        f"{ObjectStoreProvider.public_url or url}/objects/{key}"
    )


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """Start redis on a socket file, so that it has no port; yields its URL. It ends with this
    process, even a killed one."""
    if not shutil.which("redis-server"):
        sys.exit("redis-server is missing: bash tests/ndif/prepare.sh")
    folder = tempfile.mkdtemp(prefix="ndif-")
    path = f"{folder}/redis.sock"
    settings = (
        f"--port 0 --unixsocket {path} --unixsocketperm 700 --dir {folder} --save '' "
        f"--logfile {folder}/log"
    )
    # `cat` reads until nobody holds the other end of the pipe.
    script = f"redis-server {settings} & cat; kill $!; wait; rm -r {folder}"
    keeper = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, start_new_session=True)
    try:
        while not Path(path).exists():
            time.sleep(0.05)
        yield f"unix://{path}"
    finally:
        keeper.stdin.close()
        keeper.wait()


async def serve(port: int, parent: int) -> None:
    """Run API and queue until SIGTERM, SIGINT, or the end of the process ``parent``."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    # uvicorn would raise the signal again when it is done, before redis is stopped.
    server.capture_signals = contextlib.nullcontext

    def stop() -> None:
        server.should_exit = True

    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop)

    async def watch() -> None:
        while not server.started:
            await asyncio.sleep(0.02)
        print(f"NDIF is ready at http://127.0.0.1:{port}", flush=True)
        while os.getppid() == parent:
            await asyncio.sleep(0.5)
        stop()

    # Kept, or the event loop may drop them.
    tasks = [asyncio.create_task(watch()), asyncio.create_task(Dispatcher().dispatch_worker())]
    await server.serve()
    for task in tasks:
        task.cancel()


def main() -> None:
    parent = os.getppid()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "folders",
        nargs="+",
        metavar="FOLDER",
        help="written by save_pretrained; clients name it just so",
    )
    parser.add_argument("--port", type=int, required=True)
    for name in ("key", "trusted-key"):
        variable = f"NDIF_TEST_{name.replace('-', '_').upper()}"
        parser.add_argument(
            f"--{name}",
            type=uuid.UUID,
            default=os.environ.get(variable),
            help=f"a UUID; or ${variable}",
        )
    options = parser.parse_args()

    logging.basicConfig(level=logging.WARNING)
    # The actor waits for its GPU here and there.
    torch.cuda.synchronize = lambda: None
    with redis() as RedisProvider.url:
        RedisProvider.connect()
        instead_of_postgres(options.key, options.trusted_key)
        instead_of_s3(f"http://127.0.0.1:{options.port}")
        instead_of_ray(options.folders)
        asyncio.new_event_loop().run_until_complete(serve(options.port, parent))
    # A job may still run in a thread, and nobody waits for its result.
    os._exit(0)


if __name__ == "__main__":
    main()
