"""Jobs that a server was given and that nobody waits for."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..files.results import write_bytes


class Pending(Exception):
    """Parts wait for jobs that a server has not done yet."""

    def __init__(self, waiting: int) -> None:
        super().__init__(f"{waiting} parts wait for jobs on a server")
        self.waiting = waiting


@contextmanager
def gathering() -> Iterator[Callable]:
    """Lets several calls hand in their jobs before the first is waited for.

    Yields:
        ``each``, for ``with each():`` around a call and what needs its result; the block ends where
        `Pending` is raised.

    Raises:
        Pending: one for all of them, at the end.
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
    """What a server was asked for one part, in the order of asking: a file of job ids and when they
    were handed in (seconds since 1970), and beside it what came back.

    A part is computed again from its first request on whenever it is asked for, so requests are
    known by their number. A server keeps a result for about an hour, and others of the part may
    take longer.
    """

    path: Path
    asked: int = 0

    def number(self) -> int:
        """The number of the next request."""
        self.asked += 1
        return self.asked - 1

    def handed_in(self, number: int) -> tuple[str, float] | None:
        """Job id and time of a request; None if it is to be handed in."""
        job = self._read().get(str(number))
        return job and tuple(job)

    def note(self, number: int, job: tuple[str, float] | None) -> None:
        """Keep, or with None forget, what `handed_in` gives."""
        write_bytes(self.path, json.dumps({**self._read(), str(number): job}).encode())

    def result(self, number: int) -> bytes | None:
        """What came back for a request; None if nothing did."""
        path = self._result(number)
        return path.read_bytes() if path.exists() else None

    def keep(self, number: int, result: bytes) -> None:
        """Keep what came back for a request."""
        write_bytes(self._result(number), result)

    def forget(self) -> None:
        """Remove all of it: the part is there."""
        for path in (self.path, *self.path.parent.glob(f"{self.path.stem}.*{self.path.suffix}")):
            path.unlink(missing_ok=True)

    def _result(self, number):
        return self.path.with_suffix(f".{number}{self.path.suffix}")

    def _read(self):
        try:
            return json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
