"""Jobs that were handed in to a server and that nobody waits for."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..files.results import write_bytes


class Pending(Exception):
    """Parts wait for jobs that a server has not finished."""

    def __init__(self, waiting: int) -> None:
        super().__init__(f"{waiting} parts wait for jobs on a server")
        self.waiting = waiting


@contextmanager
def gathering() -> Iterator[Callable]:
    """Let several calls hand in their jobs before any is waited for.

    Yields:
        ``each``, for ``with each():`` around a call and the code that needs its result; `Pending`
        ends that block only.

    Raises:
        Pending: one for all blocks, at the end.
    """
    waiting = 0

    @contextmanager
    def each():
        nonlocal waiting
        try:
            yield
        except Pending as pending:
            waiting += pending.waiting

    yield each
    if waiting:
        raise Pending(waiting)


@dataclass
class Jobs:
    """The requests to a server for one part, in order: a file of job ids and times of handing in
    (seconds since 1970), and a file next to it per result.

    Computing a part always starts at its first request, so a request is known by its number.
    Results are kept here because a server keeps them for about an hour, and the part's other
    requests may take longer.
    """

    path: Path
    asked: int = 0

    def number(self) -> int:
        """The number of the next request."""
        self.asked += 1
        return self.asked - 1

    def handed_in(self, number: int) -> tuple[str, float] | None:
        """Job id and time of a request; None if it must still be handed in."""
        job = self._read().get(str(number))
        return job and tuple(job)

    def note(self, number: int, job: tuple[str, float] | None) -> None:
        """Keep a request's job id and time, or with None forget them."""
        write_bytes(self.path, json.dumps({**self._read(), str(number): job}).encode())

    def result(self, number: int) -> bytes | None:
        """The result of a request; None if there is none yet."""
        path = self._result(number)
        return path.read_bytes() if path.exists() else None

    def keep(self, number: int, result: bytes) -> None:
        """Keep the result of a request."""
        write_bytes(self._result(number), result)

    def forget(self) -> None:
        """Remove all files of the part, once it is there."""
        for path in (self.path, *self.path.parent.glob(f"{self.path.stem}.*{self.path.suffix}")):
            path.unlink(missing_ok=True)

    def _result(self, number):
        return self.path.with_suffix(f".{number}{self.path.suffix}")

    def _read(self):
        try:
            return json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
