"""A run's folder as a store: what was measured is kept part by part, and a killed run goes on where
it stopped.

1. A measurement is named by its function and the arguments that shape its result
   (`rgb_circuit.measuring.measurement.Measurement.key`); a trial by its content, pictures included.
2. A trial's part is written to ``parts/KEY/TRIAL.parquet``, whole or not at all.
3. A part that is there is read instead of being measured. One that cannot be read is measured
   again, with a warning.
4. Why a measurement was refused lies beside its parts (``parts/KEY/….refused``), for those who have
   no model to ask once more, or would need forwards to be told again.
5. How much goes into one forward follows from the memory that is free, and decides how numbers are
   rounded. It is written down when first used (``sizes.json``; delete it where there is less memory
   now), and used again.

So the frames of a run that was killed are, on the same kind of machine, bit for bit those of one
that was not.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import InputError, ModelError, NotApplicable, NotFinite, NotLinedUp, first_line
from ..files.locking import moment
from ..files.results import open_folder, write_bytes
from ..remote.jobs import Jobs
from .manifest import check_same, now, read_manifest, write_manifest
from .recurring import Recurring

PARTS, SIZES = "parts", "sizes.json"
# What is read again as what it was; all else is an InputError.
KINDS = {kind.__name__: kind for kind in (NotApplicable, NotLinedUp, ModelError, NotFinite)}


@dataclass(frozen=True)
class Store:
    """Where parts are kept; made by `open_store`.

    Attributes:
        folder: the run's.
        model: the name of the one model whose parts it keeps.
        detached: a server is not waited for: what is missing is handed in, and what is done is
            taken.
        recurring: pictures that several of the run's trials show.
    """

    folder: Path
    model: str
    detached: bool = False
    recurring: Recurring = field(default_factory=Recurring, compare=False)

    def has(self, key: str, unit: str) -> bool:
        """Whether a part is there, if perhaps not whole."""
        return self._path(key, unit).exists()

    def read(self, key: str, unit: str) -> pd.DataFrame | None:
        """The part ``unit`` of a measurement; None where it is not there or not whole."""
        path = self._path(key, unit)
        try:
            return _unpacked(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            warnings.warn(
                f"{path} cannot be read ({first_line(error)}), so it is computed again",
                stacklevel=4,
            )
            return None

    def write(self, key: str, unit: str, part: pd.DataFrame) -> pd.DataFrame:
        """Keep a part.

        Returns:
            What a later run reads, to the last type of a column.
        """
        path, data = self._path(key, unit), _packed(part)
        open_folder(path.parent)
        write_bytes(path, data)
        return _unpacked(data)

    def kept(self, key: str, unit: str, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """A part: read where it was kept, else computed and kept."""
        part = self.read(key, unit)
        return self.write(key, unit, compute()) if part is None else part

    def refuse(self, key: str, units: Sequence[str], error: InputError, late: bool = False) -> None:
        """Keep why a measurement of these units was refused, one of them or all together.

        Args:
            late: it took forwards to see.
        """
        name = hashlib.sha256(" ".join(units).encode()).hexdigest()[:16]
        folder = open_folder(self.folder / PARTS / key)
        about = {"units": list(units), "kind": type(error).__name__, "late": late}
        said = {**about, "says": str(error)}
        write_bytes(folder / f"{name}.refused", json.dumps(said).encode())

    def refusal(self, key: str, units: Sequence[str], late: bool = False) -> InputError | None:
        """Why a measurement of these units was refused, or of some of them, which have no parts
        since then; of several reasons that of the first unit.

        Args:
            late: only what took forwards to see.
        """
        number = {unit: place for place, unit in enumerate(units)}
        found = [
            said
            for path in sorted((self.folder / PARTS / key).glob("*.refused"))
            if (said := _said(path)) and number.keys() >= set(said["units"])
            if said["late"] or not late
            if not all(self.has(key, unit) for unit in said["units"])
        ]
        first = min(found, key=lambda said: min(number[unit] for unit in said["units"]), default={})
        return _error(first) if first else None

    def jobs(self, name: str) -> Jobs | None:
        """What a server was asked under ``name``; None where it is waited for."""
        return Jobs(open_folder(self.folder / PARTS) / f"{name}.jobs") if self.detached else None

    def agreed(self, name: str, number: int) -> int:
        """The number that was first used under this name, which ``number`` is if it is new."""
        path = self.folder / SIZES
        if (sizes := _sizes(path)).get(name) is None:
            # Shards on one folder must not each write their own.
            with moment(self.folder):
                sizes = {name: number, **_sizes(path)}
                write_bytes(path, json.dumps(sizes, indent=2).encode())
        return sizes[name]

    def take_over(self, folder: Path, renamed: Mapping[str, str] = MappingProxyType({})) -> None:
        """Copy the parts of ``folder`` that are missing here, and the sizes that they were made
        with.

        Args:
            renamed: key or unit there → what it is called here, where that differs.
        """
        for path in [*folder.glob(SIZES), *sorted(folder.glob(f"{PARTS}/*/[!.]*.parquet"))]:
            *inside, name = path.relative_to(folder).with_suffix("").parts
            named = [renamed.get(part, part) for part in (*inside, name)]
            place = self.folder.joinpath(*named).with_suffix(path.suffix)
            if not place.exists():
                write_bytes(open_folder(place.parent) / place.name, path.read_bytes())
        for path in sorted(folder.glob(f"{PARTS}/*/*.refused")):
            if said := _said(path):
                key, *units = (renamed.get(one, one) for one in (path.parent.name, *said["units"]))
                if self.refusal(key, units) is None:
                    self.refuse(key, units, _error(said), said["late"])

    def clean(self, finished: bool = False) -> None:
        """Remove what killed processes left half written, and jobs that nobody waits for; for one
        who holds the whole folder.

        Args:
            finished: all that is wanted is there.
        """
        for pattern in (".*.part",) if self.detached and not finished else (".*.part", "*.jobs"):
            for file in self.folder.rglob(pattern):
                file.unlink(missing_ok=True)

    def _path(self, key, unit):
        return self.folder / PARTS / key / f"{unit}.parquet"


def open_store(folder: str | Path, manifest: Mapping[str, Any], detached: bool = False) -> Store:
    """The store in a folder, which may be new. Hold it (`rgb_circuit.files.locking.locked`) where
    other processes may use it too.

    Args:
        manifest: what shapes the numbers, as `rgb_circuit.keeping.manifest.manifest` has it;
            written to a new folder.
        detached: see `Store`.

    Raises:
        InputError: the folder's manifest differs in more than ``NOT_COMPARED``, with the
            differences; or CannotWrite.
    """
    folder = open_folder(folder)
    with moment(folder):
        if (folder / "manifest.json").exists() or (folder / PARTS).exists():
            check_same(folder, _manifest(folder), manifest)
        else:
            write_manifest(folder, {**manifest, "started": now()})
    return Store(folder, str(manifest["model"]), detached, Recurring.of(manifest.get("trials", [])))


def _manifest(folder):
    try:
        return read_manifest(folder)
    except InputError as error:
        raise InputError(
            f"{folder / 'manifest.json'} is gone or broken, so nobody can say whose parts lie "
            f"beside it; choose another folder with --out, or delete {folder}"
        ) from error


def _packed(frame):
    table = pa.Table.from_pandas(frame, preserve_index=False)
    packed = io.BytesIO()
    pq.write_table(table, packed, write_page_checksum=True)
    return packed.getvalue()


def _unpacked(data):
    # `pq.read_table` opens a data set first, which takes longer than to read a part.
    with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
        return file.read(use_threads=False).to_pandas(use_threads=False)


def _said(path):
    """What `Store.refuse` wrote; nothing where it cannot be read."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        texts = [*said["units"], said["kind"], said["says"]]
        return said if set(map(type, texts)) == {str} and type(said["late"]) is bool else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _error(said):
    return KINDS.get(said["kind"], InputError)(said["says"])


def _sizes(path):
    try:
        sizes = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return sizes if isinstance(sizes, dict) else {}
