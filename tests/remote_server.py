"""A real NDIF server for the tests, in a process of its own: what `ndif/prepare.sh` prepared and
`ndif/serve.py` runs."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from nnsight import CONFIG

HERE = Path(__file__).parent / "ndif"
ENVIRONMENT = HERE.parents[1] / ".venv-ndif"
# Other families that it serves: not those whose server would need torchvision for a video part.
FAMILIES = ("gemma3", "llava_next", "idefics3")


def missing() -> str | None:
    """Why no server can be started here, or None."""
    if (ENVIRONMENT / "prepared.txt").exists() and shutil.which("redis-server"):
        return None
    return "no NDIF server is installed here; run: bash tests/ndif/prepare.sh"


class Server:
    """An NDIF server on 127.0.0.1.

    Attributes:
        names: of the models, short ones → what the server and its clients call them: a path, from
            ``cwd`` if it is relative.
        url: where it listens, the same after a restart.
        trusted_key: jobs of this API key run in the process that holds the model: some 0.1 s each.
        key: jobs of this one run in a sandbox, as those of ordinary users of the public NDIF do:
            some 5 s each.
        log: the file with what it wrote since its last start.
        pid: its process; None while there is none.
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
        """Start it and wait until it is ready. Nothing happens if it runs."""
        if self.pid:
            return
        # Nothing of an NDIF that this shell is set up for. The keys stay off the command line,
        # which any local user can read.
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
        """End it as an operator does."""
        self._process.terminate()
        self._process.wait(30)

    def kill(self) -> None:
        """End it as a crash does, with whatever it is doing."""
        self._process.kill()
        self._process.wait(30)

    def connect(self, monkeypatch, url: str | None = None, key: str | None = None) -> None:
        """Point nnsight to this server, with the trusted key, for the rest of a test; or to a
        proxy, or with another key."""
        monkeypatch.setattr(CONFIG.API, "HOST", url or self.url)
        monkeypatch.setattr(CONFIG.API, "APIKEY", key or self.trusted_key)
        monkeypatch.setattr(CONFIG.APP, "REMOTE_LOGGING", False)


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


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
