"""NDIF on this machine, on CPU: its own API, queue and model actors, and redis, in one process tree on 127.0.0.1.

Runs in the environment that `prepare.sh` makes, which knows neither rgb_circuit nor pandas:

    .venv-ndif/bin/python tests/ndif/serve.py --port 8001 FOLDER [FOLDER …]

Requests pass through NDIF's code from the first byte to the last: upload, key, queue, deserialization, execution, result.
What is replaced is what needs a cluster: Ray's actors live in this process instead, and models are loaded on the CPU; the
users' database is the keys given here, and the object store for large results is this process's memory.

With ``--key`` or ``--trusted-key`` a request needs one of these keys, as on the public NDIF; jobs of an untrusted key run in a
process of their own, without the weights. With neither, everybody is trusted.
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
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# An actor asks Ray where it runs, and Ray would start a cluster to answer.
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"

import anyio._backends._asyncio  # noqa: F401
import ray
import torch
import uvicorn
from fastapi import HTTPException, Response
from ndif.common.providers.objectstore import ObjectStoreProvider
from ndif.common.providers.postgres import PostgresProvider
from ndif.common.providers.ray import RayProvider
from ndif.common.providers.redis import RedisProvider
from ndif.common.schema.controller import DeployResponse, ModelDeployResult, ReplicaState, ReplicaStates
from ndif.services.api.app import app
from ndif.services.api.queue.dispatcher import Dispatcher
from ndif.services.ray.sandbox.model import SandboxModelDeployment
from nnsight.modeling.huggingface import HuggingFaceModel
from nnsight.ndif import get_local_env

TASK = "image-text-to-text"
ONE_JOB = asyncio.Lock()


class CpuActor(SandboxModelDeployment):
    """NDIF's model actor, except that the model is on the CPU."""

    def load_from_disk(self) -> HuggingFaceModel:
        model = HuggingFaceModel.from_model_key(self.model_key, dispatch=True, dtype=self.dtype_name, device="cpu")
        model._module.requires_grad_(False)
        return model

    def open_pool(self, *args, **kwargs) -> None:
        super().open_pool(0)
        # A runner takes half a gigabyte: started when a job needs it, not kept warm.
        self.pool.acquire = self.pool._spawn

    async def run(self, request) -> None:
        # NDIF has a process for each model. Here they share nnsight's caches of sources, which a job takes for its own.
        async with ONE_JOB:
            await super().run(request)


class Controller:
    """What NDIF's queue asks its controller, answered for a fixed list of models."""

    def __init__(self, folders: dict[str, str]) -> None:
        self.folders = folders

    def get_deployment(self, key: str) -> ReplicaStates:
        state = dict(deployment_level="hot", gpus={}, size_bytes=0, pinned=True, deployed=time.time())
        return ReplicaStates(replicas=[ReplicaState(model_key=key, replica_id="0", **state)] if key in self.folders else [])

    def scale(self, key: str, *_) -> DeployResponse:
        served = ", ".join(self.folders.values())
        return DeployResponse(results={key: ModelDeployResult(error=f"This server serves only {served}.")})

    def env(self) -> dict:
        return get_local_env()

    def status(self) -> dict:
        common = dict(application_state="RUNNING", deployment_level="HOT", task=TASK, revision=None)
        return {
            "deployments": {
                key: dict(model_key=key, repo_id=folder, **common) for key, folder in self.folders.items()
            },
            "cluster": {"nodes": {}},
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
    """Make the controller and one actor per folder, and let the queue find them under the names that Ray would know."""
    keys = {model_key(folder): folder for folder in folders}
    actors = {f"0:ModelActor:{key}": Handle(CpuActor(key, dtype="float32")) for key in keys}
    actors["Controller"] = Handle(Controller(keys))
    ray.get_actor = lambda name, namespace=None: actors[name]
    RayProvider.connected = lambda: True


def model_key(folder: str) -> str:
    """How a client's ``TransformersModel(folder, task="image-text-to-text")`` names itself."""
    return f"nnsight.modeling.transformers.TransformersModel:{json.dumps(dict(repo_id=folder, revision=None, task=TASK))}"


def instead_of_postgres(tags: dict[uuid.UUID, str | None]) -> None:
    """Let NDIF look keys up in ``tags``: key → tag of its owner."""

    async def fetch(query: str, key: uuid.UUID) -> list[dict]:
        return [dict(user_id="0", email="user@localhost", user_tag=tags[key])] if key in tags else []

    PostgresProvider.enabled = lambda: bool(tags)
    PostgresProvider.fetch = fetch


def instead_of_s3(url: str) -> None:
    """Keep in memory what NDIF would put into a bucket: results above 8 MiB, and the states of jobs nobody waits for."""
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
    ObjectStoreProvider.presigned_get = lambda key: f"{ObjectStoreProvider.public_url or url}/objects/{key}"


@contextlib.contextmanager
def redis():
    """Start redis on a socket file; yields its URL. It ends with this process, also where that is killed."""
    folder = tempfile.mkdtemp(prefix="ndif-")
    path = f"{folder}/redis.sock"
    settings = f"--port 0 --unixsocket {path} --unixsocketperm 700 --dir {folder} --save '' --logfile {folder}/log"
    # The shell reads until nobody holds the other end of the pipe.
    script = f"redis-server {settings} & cat; kill $!; wait; rm -r {folder}"
    keeper = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, start_new_session=True)
    try:
        while not Path(path).exists():
            if keeper.poll() is not None:
                sys.exit("redis does not start")
            time.sleep(0.05)
        yield f"unix://{path}"
    finally:
        keeper.stdin.close()
        keeper.wait()


async def serve(port: int, parent: int) -> None:
    """Run API and queue until SIGTERM, SIGINT, or the end of the process ``parent``."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=1)
    )
    # uvicorn would raise the signal again when it is done, before redis is stopped.
    server.capture_signals = contextlib.nullcontext

    def stop() -> None:
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop)

    async def watch() -> None:
        while not server.started:
            await asyncio.sleep(0.02)
        print(f"NDIF is ready at http://127.0.0.1:{port}", flush=True)
        while os.getppid() == parent:
            await asyncio.sleep(0.5)
        stop()

    tasks = [asyncio.create_task(watch()), asyncio.create_task(Dispatcher().dispatch_worker())]
    await server.serve()
    for task in tasks:
        task.cancel()


def main() -> None:
    parent = os.getppid()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="written by save_pretrained; named as the client names it")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key", type=uuid.UUID, action="append", default=[], help="a UUID that may send jobs")
    parser.add_argument("--trusted-key", type=uuid.UUID, action="append", default=[], help="the same, not sandboxed")
    options = parser.parse_args()

    logging.basicConfig(level=logging.WARNING)
    # The actor waits for the GPU here and there, and none is there.
    torch.cuda.synchronize = lambda: None
    with redis() as RedisProvider.url:
        RedisProvider.connect()
        instead_of_postgres({key: None for key in options.key} | {key: "trusted" for key in options.trusted_key})
        instead_of_s3(f"http://127.0.0.1:{options.port}")
        instead_of_ray(options.folders)
        asyncio.run(serve(options.port, parent))


if __name__ == "__main__":
    main()
