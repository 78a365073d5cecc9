"""A local hub with what loading a model needs; some of its answers are refusals.

The hub's client reads its settings only once, so `loaded` starts a process that runs the hub and
loads from it. A name may end in ``@REVISION``.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"

# Owner of a repository → the hub's answer to any request about it: HTTP status and error code.
REFUSALS = {"gated": (403, "GatedRepo"), "secret": (403, None), "unwell": (500, None)}


@contextmanager
def hub(folders: Mapping[str, Path]) -> Iterator[str]:
    """The address of a hub with repositories (hub id → folder), each at one commit called main."""

    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self._answer()

        def do_GET(self):
            self.wfile.write(self._answer())

        def _answer(self):
            path = urlsplit(self.path).path.removeprefix("/api/models").strip("/")
            owner, repository, *rest = path.split("/")
            folder = folders.get(f"{owner}/{repository}")
            if owner in REFUSALS:
                return self._refuse(*REFUSALS[owner])
            if folder is None:
                return self._refuse(401, "RepoNotFound")
            if rest[1:2] and rest[1] not in ("main", COMMIT):
                return self._refuse(404, "RevisionNotFound")
            return self._content(owner, repository, folder, rest)

        def _content(self, owner, repository, folder, rest):
            """The answer about a repository (no rest), its list of files (tree, revision), or a
            file (resolve, revision, …)."""
            if not rest:
                content = json.dumps({"id": f"{owner}/{repository}", "sha": COMMIT}).encode()
            elif rest[0] == "tree" and len(rest) == 2:
                files = [
                    {"type": "file", "path": file.name, "size": 1, "oid": file.name}
                    for file in sorted(folder.iterdir())
                ]
                content = json.dumps(files).encode()
            elif rest[0] == "resolve" and folder.joinpath(*rest[2:]).is_file():
                content = folder.joinpath(*rest[2:]).read_bytes()
            else:
                return self._refuse(404, "EntryNotFound")
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            return content

        def _refuse(self, status, code):
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return b""

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def loaded(
    repositories: Mapping[str, Path], cache: Path, names: Sequence[str], away: Sequence[str]
) -> dict[str | tuple[str, str], dict]:
    """The results of loading models in a separate process.

    Args:
        repositories: hub id → folder, of a hub.
        names: the models to load from it.
        away: the models to load again after the hub is gone; under (name, "away").

    Returns:
        Name → entries of the manifest, or ``refused``, and ``seconds``.
    """
    asked = [{name: str(folder) for name, folder in repositories.items()}, [*names], [*away]]
    done = subprocess.run(
        [sys.executable, __file__, json.dumps(asked)],
        env=os.environ | {"HF_HUB_CACHE": str(cache)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, found_away = json.loads(done.stdout.splitlines()[-1])
    return found | {(name, "away"): came for name, came in found_away.items()}


def _main(repositories, names, away):
    with hub({name: Path(folder) for name, folder in repositories.items()}) as address:
        # Set these before the hub's client is imported.
        os.environ |= {
            "HF_ENDPOINT": address,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        found = {name: _load(name) for name in names}
    print(json.dumps([found, {name: _load(name) for name in away}]))


def _load(name):
    import rgb_circuit as rgb
    from rgb_circuit.keeping.manifest import manifest

    # Import before the clock starts.
    load, started = rgb.load, time.monotonic()
    try:
        model = load(name.split("@")[0], revision=name.partition("@")[2] or None)
        about = manifest(model, [], {})
        found = {key: about[key] for key in ("revision", "commit", "weights", "layers")}
    except rgb.InputError as error:
        found = {"refused": str(error)}
    return found | {"seconds": time.monotonic() - started}


if __name__ == "__main__":
    _main(*json.loads(sys.argv[1]))
