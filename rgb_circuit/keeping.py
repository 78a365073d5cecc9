"""Runs that survive: what a call computes is kept trial by trial, and a killed run goes on where it stopped.

Inside `keeping`:

1. A call is named by its function and the arguments that shape its result; a trial by its content, pictures
   included.
2. The part of a call's frame that belongs to one trial is computed from that trial alone, and written to
   ``parts/CALL/TRIAL.parquet``, whole or not at all.
3. A part that is there is read instead. One that cannot be read is computed again, with a warning.
4. How much goes into one forward follows from the memory that is free, and decides how numbers are rounded.
   It is written down when first used (``sizes.json``; delete it where there is less memory now), and used
   again.

So the frames of a run that was killed are, on the same kind of machine, bit for bit those of one that was
not. Outside `keeping` the same calls take many trials at once, write nothing, and give the same frames up to
rounding.
"""

import hashlib
import io
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, is_dataclass, replace
from functools import cache
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from .errors import InputError, first_line
from .jobs import Jobs, Pending, gathering
from .locking import moment
from .manifest import check_same, described, read_manifest
from .results import open_folder, write_bytes
from .trial import Trial

if TYPE_CHECKING:
    from .vlm import Vlm

PARTS, SIZES = "parts", "sizes.json"


@dataclass(frozen=True)
class _Here:
    """What `keeping` was entered with. While a part is computed ``parts`` is False, since its inner calls are
    no parts themselves, and ``jobs`` are what a server does for it."""

    folder: Path
    model: str
    detached: bool = False
    parts: bool = True
    jobs: Jobs | None = None
    names: dict[int, tuple[Trial, str]] = field(default_factory=dict)


_here: ContextVar[_Here | None] = ContextVar("keeping", default=None)


@contextmanager
def keeping(folder: str | Path, manifest: Mapping[str, object], detached: bool = False) -> Iterator[None]:
    """Keep what is computed inside, and compute nothing that ``folder`` has already.

    Kept are `play`, `patch_heads`, `patch_edits`, `direct_effects`, what is built on them, and the analyses
    that say so. Hold the folder (`rgb_circuit.locking.locked`) where other processes may use it too.

    Args:
        manifest: what shapes the numbers, as `rgb_circuit.manifest.manifest` has it; written to a new folder.
        detached: do not wait for a server: hand in what is missing, take what is done, and raise `Pending`
            for the rest.

    Raises:
        InputError: the folder's manifest differs in more than ``NOT_COMPARED``, with the differences; or
            CannotWrite.
    """
    folder = open_folder(folder)
    with moment(folder):
        if (folder / "manifest.json").exists() or (folder / PARTS).exists():
            check_same(folder, _manifest(folder), manifest)
        else:
            write_bytes(folder / "manifest.json", (json.dumps(manifest, indent=2) + "\n").encode())
    token = _here.set(_Here(folder, manifest["model"], detached))
    try:
        yield
    finally:
        _here.reset(token)


def by_trial(
    model: "Vlm",
    function: str,
    arguments: Mapping[str, object],
    trials: Sequence[Trial],
    prepare: Callable[[], Callable[[Sequence[Trial]], Iterable[Mapping[str, pd.DataFrame]]]],
    *,
    together: bool = False,
    progress: bool,
    what: str,
) -> dict[str, pd.DataFrame]:
    """Trial name → its part of a frame.

    Args:
        model: inside `keeping`, the one that its manifest names.
        function: what is computed, a name for files.
        arguments: all that shapes a trial's part but for rounding, besides model and trial.
        prepare: called once, and only if a part is missing: checks what was asked for, all trials included,
            and returns what computes parts, from some trials, a few at a time.
        together: a trial's part depends on all of ``trials``, not on its own alone.
        progress: show a bar when it takes longer than two seconds.
        what: what the bar says is being done.

    Raises:
        InputError: another model than the folder's.
    """
    here, parts = _here.get(), {}
    if here and here.parts and model.name != here.model:
        raise InputError(f"{here.folder} keeps what {here.model} does; use another folder for {model.name}")
    with tqdm(total=len(trials), desc=what, unit="trial", delay=2, disable=not progress) as bar:
        # No trials, or two of one name, are for `prepare` to refuse.
        if here is None or not here.parts or len({trial.name for trial in trials}) < max(1, len(trials)):
            for some in prepare()(trials):
                parts.update(some)
                bar.update(len(some))
            return parts
        if together:
            arguments = {**arguments, "among": [trial_name(trial) for trial in trials]}
        call = call_name(function, arguments)
        # What is asked of a server for all trials is known by other numbers than what is asked for one.
        shared = Jobs(here.folder / PARTS / call / "shared.jobs") if here.detached else None

        @cache
        def prepared():
            try:
                with _inside(shared):
                    return prepare(), None
            except Pending as pending:
                # Asked for once, however many trials wait for it.
                return None, pending

        with gathering() as each:
            for trial in trials:

                def alone(trial=trial):
                    compute, pending = prepared()
                    if pending:
                        raise pending
                    (part,) = (part for some in compute([trial]) for part in some.values())
                    return part

                with each():
                    parts[trial.name] = kept(call, trial_name(trial), alone)
                bar.update()
        if shared:
            shared.path.unlink(missing_ok=True)
    return parts


@contextmanager
def _inside(jobs):
    """Where a part is computed, or what is shared by several."""
    token = _here.set(replace(_here.get(), parts=False, jobs=jobs))
    try:
        yield
    finally:
        _here.reset(token)


def kept(call: str, unit: str, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The part ``unit`` of a call, named by `call_name`: read where it was kept, else computed and, inside
    `keeping`, kept."""
    here = _here.get()
    if here is None or not here.parts:
        return compute()
    path = here.folder / PARTS / call / f"{unit}.parquet"
    part = _read(path)
    if part is None:
        open_folder(path.parent)
        jobs = Jobs(path.with_suffix(".jobs")) if here.detached else None
        with _inside(jobs):
            data = _packed(compute())
        write_bytes(path, data)
        if jobs:
            jobs.path.unlink(missing_ok=True)
        # What a later run reads, to the last type of a column.
        part = _unpacked(data)
    return part


def current_jobs() -> Jobs | None:
    """The jobs of the part that is being computed, where a server is not waited for."""
    here = _here.get()
    return here and here.jobs


def agreed(name: str, number: int) -> int:
    """``number``, or inside `keeping` the number that was first used under this name."""
    here = _here.get()
    if here is None:
        return number
    path = here.folder / SIZES
    if (sizes := _sizes(path)).get(name) is None:
        # Shards on one folder must not each write their own.
        with moment(here.folder):
            sizes = {name: number, **_sizes(path)}
            write_bytes(path, json.dumps(sizes, indent=2).encode())
    return sizes[name]


def call_name(function: str, arguments: Mapping[str, object]) -> str:
    """A call's name among files: its function, and a hash of the arguments that shape its result."""
    return f"{function}-{_hash(arguments)}"


def trial_name(trial: Trial) -> str:
    """A trial's name among files: a hash of all that it holds."""
    here = _here.get()
    names = here.names if here else {}
    # Pictures are hashed once, though a run asks many times; the trial is held so that its id stays its own.
    if id(trial) not in names:
        names[id(trial)] = trial, _hash(described(trial))
    return names[id(trial)][1]


def take_over(folder: Path, into: Path) -> None:
    """Copy the parts of ``folder`` that ``into`` lacks, and the sizes that they were made with."""
    for path in [*folder.glob(SIZES), *sorted(folder.glob(f"{PARTS}/*/[!.]*.parquet"))]:
        place = into / path.relative_to(folder)
        if not place.exists():
            write_bytes(open_folder(place.parent) / place.name, path.read_bytes())


def clean(folder: Path) -> None:
    """Remove what killed processes left half written, and jobs that nobody waits for; for one who holds the
    whole folder."""
    here = _here.get()
    for pattern in (".*.part",) if here and here.detached else (".*.part", "*.jobs"):
        for file in folder.rglob(pattern):
            file.unlink(missing_ok=True)


def _manifest(folder):
    try:
        return read_manifest(folder)
    except InputError as error:
        raise InputError(
            f"{folder / 'manifest.json'} is gone or broken, so nobody can say whose parts lie beside it; "
            f"choose another folder with --out, or delete {folder}"
        ) from error


def _packed(frame):
    table = pa.Table.from_pandas(frame, preserve_index=False)
    packed = io.BytesIO()
    pq.write_table(table, packed, write_page_checksum=True)
    return packed.getvalue()


def _unpacked(data):
    return pq.read_table(pa.BufferReader(data), page_checksum_verification=True, use_threads=False).to_pandas(
        use_threads=False
    )


def _read(path):
    """The part, None where it is not there or not whole."""
    try:
        return _unpacked(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        reason = first_line(error)
        warnings.warn(f"{path} cannot be read ({reason}), so it is computed again", stacklevel=4)
        return None


def _sizes(path):
    try:
        sizes = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return sizes if isinstance(sizes, dict) else {}


def _hash(value):
    text = json.dumps(value, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value):
    if isinstance(value, Integral):
        return int(value)
    # What is none of these is refused when the call is checked.
    return vars(value) if is_dataclass(value) else repr(value)
