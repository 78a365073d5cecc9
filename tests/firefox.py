"""A headless Firefox for tests of pages, driven by Marionette, which every Firefox has: playwright
drives only its own download. Tests are skipped without Firefox.

A message is its length, a colon and JSON: ``[0, number, command, parameters]`` to Firefox, and
``[1, number, error, result]`` back.
"""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("firefox", "firefox-esr")
# Seconds to wait for the start, and for a condition.
STARTS, WAITS = 120, 60
# Firefox chooses a free port and writes it into its profile.
SETTINGS = 'user_pref("marionette.port", 0);\n'


class Firefox:
    """A session with the Firefox on a port."""

    def __init__(self, port: int):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAITS)
        self.answers = self.socket.makefile("rb")
        self.sent = 0
        self._read()
        self.send("WebDriver:NewSession")

    def send(self, command: str, **parameters: Any) -> Any:
        """The result of a command; RuntimeError with Firefox's message on an error."""
        self.sent += 1
        text = json.dumps([0, self.sent, command, parameters]).encode()
        self.socket.sendall(b"%d:%s" % (len(text), text))
        _, _, error, result = self._read()
        if error:
            raise RuntimeError(f"{command}: {error['message']}")
        return result.get("value")

    def _read(self):
        size = b""
        while (sign := self.answers.read(1)) != b":":
            if not sign:
                raise ConnectionError("Firefox has gone")
            size += sign
        return json.loads(self.answers.read(int(size)))

    def open(self, path: Path, address: str = "") -> None:
        """Open a file."""
        self.send("WebDriver:Navigate", url=path.as_uri() + address)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        return self.send("WebDriver:ExecuteScript", script=f"return {script}", args=[])

    def until(self, script: str) -> None:
        """Wait until an expression is true."""
        _wait(lambda: self.run(script), WAITS, script)

    @staticmethod
    def find(element: str) -> str:
        """The expression for an element."""
        return f"document.querySelector({json.dumps(element)})"

    def move(self, element: str, x: float = 0.5, y: float = 0.5, click: bool = False) -> None:
        """Scroll an element into view, move the mouse to a place in it, in shares of its width and
        height, and click there if asked to."""
        self.run(f"{self.find(element)}.scrollIntoView({{block: 'nearest'}})")
        left, top, width, height = self.run(
            f"(({{x, y, width, height}}) => [x, y, width, height])({self.find(element)}"
            ".getBoundingClientRect())"
        )
        at = dict(x=round(left + x * width), y=round(top + y * height), duration=0)
        steps: list[dict] = [dict(type="pointerMove", **at)]
        if click:
            steps += [dict(type=kind, button=0) for kind in ("pointerDown", "pointerUp")]
        self._act(dict(type="pointer", id="mouse", actions=steps))

    def press(self, key: str) -> None:
        """Press a key, as WebDriver writes it."""
        steps = [dict(type=kind, value=key) for kind in ("keyDown", "keyUp")]
        self._act(dict(type="key", id="keys", actions=steps))

    def _act(self, source):
        self.send("WebDriver:PerformActions", actions=[source])


@contextmanager
def firefox(folder: Path) -> Iterator[Firefox]:
    """The system's Firefox, with its profile and home in an empty folder."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(NAMES)} is on the path; install firefox-esr")
    (folder / "user.js").write_text(SETTINGS)
    process = subprocess.Popen(
        [found, "--headless", "--no-remote", "--marionette", "--profile", str(folder)],
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        port = folder / "MarionetteActivePort"
        _wait(lambda: port.is_file() and port.read_text(), STARTS, "Firefox has not started")
        yield Firefox(int(port.read_text()))
    finally:
        process.terminate()
        process.wait(STARTS)


def _wait(true: Callable[[], Any], seconds: float, said: str) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(said)
        time.sleep(0.02)
