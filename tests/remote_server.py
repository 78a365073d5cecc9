"""A real NDIF server for the tests, in a separate process: installed by `ndif/prepare.sh` and run
by `ndif/serve.py`."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
from nnsight import CONFIG

HERE = Path(__file__).parent / "ndif"
ENVIRONMENT = HERE.parents[1] / ".venv-ndif"
# Other families that the server has: none that would need torchvision there for videos.
FAMILIES = ("gemma3", "llava_next", "idefics3")


def missing() -> str | None:
    """Why a server cannot be started here, or None."""
    if (ENVIRONMENT / "prepared.txt").exists() and shutil.which("redis-server"):
        return None
    return "no NDIF server is installed here; run: bash tests/ndif/prepare.sh"


class Server:
    """An NDIF server on 127.0.0.1.

    Attributes:
        names: short names of the models → their names for the server and its clients: a path,
            relative to ``cwd`` or absolute.
        url: its address, the same after a restart.
        trusted_key: jobs with this API key run in the process that holds the model: some 0.1 s
            each.
        key: jobs with this API key run in a sandbox, like those of ordinary users of the public
            NDIF: some 5 s each.
        log: the file with its output since the last start.
        pid: its process; None while stopped.
    """

    def __init__(
        self, names: Mapping[str, str], cwd: Path, environment: dict[str, str] | None = None
    ) -> None:
        self.names = names
        self.cwd = cwd
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.key, self.trusted_key = str(uuid.uuid4()), str(uuid.uuid4())
        self.log = cwd / f"server-{self.port}.log"
        self._environment = environment or {}
        self._process: subprocess.Popen | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self, timeout: float = 120) -> None:
        """Start the server and wait until it is ready; does nothing if it is running."""
        if self.pid:
            return
        # Drop this shell's settings for another NDIF. The keys stay off the command line, which any
        # local user can read.
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("NDIF_")
        }
        environment |= {
            "NDIF_TEST_KEY": self.key,
            "NDIF_TEST_TRUSTED_KEY": self.trusted_key,
            "OMP_NUM_THREADS": "1",
        }
        command = [
            ENVIRONMENT / "bin" / "python",
            "-I",
            HERE / "serve.py",
            "--port",
            str(self.port),
            *self.names.values(),
        ]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=self.cwd, env=environment | self._environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + timeout
        while f"ready at {self.url}\n" not in self.log.read_text():
            if not self.pid or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(
                    f"the NDIF server does not start; it wrote:\n{self.log.read_text()[-2000:]}"
                )
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the server as an operator does."""
        self._process.terminate()
        self._process.wait(30)

    def kill(self) -> None:
        """End the server as a crash does, in the middle of its work."""
        self._process.kill()
        self._process.wait(30)

    def connect(self, monkeypatch, url: str | None = None, key: str | None = None) -> None:
        """Point nnsight to this server or to the ``url`` of a proxy, with the trusted or another
        key, for the rest of a test."""
        monkeypatch.setattr(CONFIG.API, "HOST", url or self.url)
        monkeypatch.setattr(CONFIG.API, "APIKEY", key or self.trusted_key)
        monkeypatch.setattr(CONFIG.APP, "REMOTE_LOGGING", False)
        # nnsight has a new client for each request, and each reads all authorities' certificates,
        # though this server speaks plain HTTP: 25 ms, a quarter of the remote tests' time. There
        # are none in this folder.
        monkeypatch.setenv("SSL_CERT_DIR", str(HERE))
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)


@contextlib.contextmanager
def served(
    names: Mapping[str, str], cwd: Path, environment: dict[str, str] | None = None
) -> Iterator[Server]:
    """A started `Server`, stopped at the end."""
    server = Server(names, cwd, environment)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def processes_of(pid):
    """The process and all below it."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def ended(processes):
    """Whether they are all gone within some seconds, or would be if their new parent asked about
    them."""
    left = psutil.wait_procs(processes, timeout=10)[1]
    return all(process.status() == psutil.STATUS_ZOMBIE for process in left)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
