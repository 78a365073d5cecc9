"""A run's folder as a store: results are kept part by part, and a killed run goes on where it
stopped.

1. A measurement is named by its function and the arguments that change its result
   (`rgb_circuit.measuring.measurement.Measurement.key`); a trial by its content, pictures included.
2. A trial's part is written to ``parts/KEY/TRIAL.parquet``, whole or not at all.
3. A part that exists is read instead of measured. One that cannot be read is measured again, with a
   warning.
4. The reason for a refused measurement is kept next to its parts (``parts/KEY/….refused``), for
   runs that have no model to ask again, or would need forwards to learn it again.
5. The size of a forward follows from the memory that is free, and changes how numbers are rounded.
   It is recorded when first used (``sizes.json``; delete the file if there is less memory now), and
   used again.

So on the same kind of machine, the frames of a run that was killed and continued equal those of an
uninterrupted run bit for bit.
"""

from __future__ import annotations

import hashlib
import io
import json
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
from ..warning import warn
from .manifest import check_same, now, read_manifest, write_manifest
from .recurring import Recurring

PARTS, SIZES = "parts", "sizes.json"
# Errors that are read back as their own class; all others become InputError.
KINDS = {kind.__name__: kind for kind in (NotApplicable, NotLinedUp, ModelError, NotFinite)}


@dataclass(frozen=True)
class Store:
    """The parts of a run; made by `open_store`.

    Attributes:
        folder: of the run.
        model: the name of the one model whose parts it keeps.
        detached: do not wait for a server: hand in jobs for missing parts, and collect finished
            ones.
        recurring: pictures that several of the run's trials show.
    """

    folder: Path
    model: str
    detached: bool = False
    recurring: Recurring = field(default_factory=Recurring, compare=False)

    def has(self, key: str, unit: str) -> bool:
        """Whether a part exists, possibly damaged."""
        return self._path(key, unit).exists()

    def read(self, key: str, unit: str) -> pd.DataFrame | None:
        """The part ``unit`` of a measurement; None if it is missing or damaged."""
        path = self._path(key, unit)
        try:
            return _unpacked(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            warn(f"{path} cannot be read ({first_line(error)}), so it is computed again")
            return None

    def write(self, key: str, unit: str, part: pd.DataFrame) -> pd.DataFrame:
        """Keep a part.

        Returns:
            The part as a later run reads it, with the same column types.
        """
        path, data = self._path(key, unit), _packed(part)
        open_folder(path.parent)
        write_bytes(path, data)
        return _unpacked(data)

    def kept(self, key: str, unit: str, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """A part: read if it was kept, else computed and kept."""
        part = self.read(key, unit)
        return self.write(key, unit, compute()) if part is None else part

    def refuse(self, key: str, units: Sequence[str], error: InputError, late: bool = False) -> None:
        """Keep the reason why a measurement of these units, one or all together, was refused.

        Args:
            late: the refusal took forwards.
        """
        name = hashlib.sha256(" ".join(units).encode()).hexdigest()[:16]
        folder = open_folder(self.folder / PARTS / key)
        about = {"units": list(units), "kind": type(error).__name__, "late": late}
        said = {**about, "says": str(error)}
        write_bytes(folder / f"{name}.refused", json.dumps(said).encode())

    def refusal(self, key: str, units: Sequence[str], late: bool = False) -> InputError | None:
        """The reason why a measurement of these units, or of some of them, was refused, unless
        these have parts by now; with several reasons, that of the first unit.

        Args:
            late: only refusals that took forwards.
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
        """The jobs handed in under ``name``; None if the store waits for the server."""
        return Jobs(open_folder(self.folder / PARTS) / f"{name}.jobs") if self.detached else None

    def agreed(self, name: str, number: int) -> int:
        """The number first used under this name: ``number`` itself if the name is new."""
        path = self.folder / SIZES
        if (sizes := _sizes(path)).get(name) is None:
            # Shards of one folder must agree on one number.
            with moment(self.folder):
                sizes = {name: number, **_sizes(path)}
                write_bytes(path, json.dumps(sizes, indent=2).encode())
        return sizes[name]

    def take_over(self, folder: Path, renamed: Mapping[str, str] = MappingProxyType({})) -> None:
        """Copy the parts and refusals of ``folder`` that are missing here, and its sizes.

        Args:
            renamed: key or unit there → its name here, if that differs.
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
        """Remove files that killed processes left half written, and jobs that nobody waits for;
        call this only while holding the whole folder.

        Args:
            finished: every part is there.
        """
        for pattern in (".*.part",) if self.detached and not finished else (".*.part", "*.jobs"):
            for file in self.folder.rglob(pattern):
                file.unlink(missing_ok=True)

    def _path(self, key, unit):
        return self.folder / PARTS / key / f"{unit}.parquet"


def open_store(folder: str | Path, manifest: Mapping[str, Any], detached: bool = False) -> Store:
    """The store in a folder, which may be new. Lock the folder
    (`rgb_circuit.files.locking.locked`) if other processes may use it too.

    Args:
        manifest: from `rgb_circuit.keeping.manifest.manifest`; written to a new folder.
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
    # `pq.read_table` opens a data set first, which takes longer than reading a part.
    with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
        return file.read(use_threads=False).to_pandas(use_threads=False)


def _said(path):
    """A file of `Store.refuse`; empty if it cannot be read."""
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
