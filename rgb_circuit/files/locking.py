"""One process at a time on a run's folder, or several that each hold a shard of its trials.

Locks belong to processes, so that a killed one leaves none behind.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import CannotWrite, InputError

WHOLE = ".lock"
SHARD = ".shard-{0}-of-{1}.lock"
MOMENT = ".moment.lock"

# Seconds for which a lock is waited for that another process may only be looking at.
GLANCE = 0.5


@contextmanager
def locked(folder: Path, shard: tuple[int, int] | None = None) -> Iterator[None]:
    """Hold the whole folder, or ``shard`` = (i, n) of it beside processes that hold other shards.

    Raises:
        InputError: another process holds it; CannotWrite where no lock can be made.
    """
    own = FileLock(folder / (WHOLE if shard is None else SHARD.format(*shard)))
    what = f"{folder}" if shard is None else f"shard {shard[0]}/{shard[1]} of {folder}"
    _take(
        own,
        f"another process works on {what}; wait until it is done, or choose another folder with "
        "--out",
    )
    try:
        # Each side takes its own lock first and looks at the other's then, so that of two at once
        # at least one sees the other.
        others = [folder / WHOLE] if shard else sorted(folder.glob(SHARD.format("*", "*")))
        for path in others:
            other = FileLock(path)
            _take(
                other,
                f"another process works on {folder} ({path.name}); wait until it is done, or "
                "choose another folder",
            )
            other.release()
        yield
    finally:
        own.release()


@contextmanager
def moment(folder: Path) -> Iterator[None]:
    """Hold the folder's own files for a moment, beside other shards that may do so too.

    Raises:
        CannotWrite: no lock can be made.
    """
    lock = FileLock(folder / MOMENT)
    _take(
        lock,
        f"{folder / MOMENT} has been held for too long; end the process that hangs",
        timeout=60,
    )
    try:
        yield
    finally:
        lock.release()


def shards_of(folders: Sequence[str | Path]) -> set[int]:
    """Into how many shards processes cut the runs in these folders."""
    return {
        int(path.stem.rsplit("-", 1)[1])
        for folder in folders
        for path in Path(folder).glob(SHARD.format("*", "*"))
    }


def nobody_holds(paths: Sequence[Path]) -> bool:
    """Whether these files are all locks, and no process holds one of them."""
    if not all(path.name.startswith(".") and path.name.endswith(".lock") for path in paths):
        return False
    for path in paths:
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        lock.release()
    return True


def _take(lock, refusal, timeout=GLANCE):
    try:
        lock.acquire(timeout=timeout, poll_interval=0.05)
    except Timeout:
        raise InputError(refusal) from None
    except OSError as error:
        raise CannotWrite(
            f"cannot lock {lock.lock_file} ({error.strerror}); choose another folder with --out"
        ) from error
