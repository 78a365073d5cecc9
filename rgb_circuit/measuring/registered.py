"""Whether claims were written down before anyone looked at the trials that test them.

The best of many claims that are tried on the same trials is shown by chance far more often than a
single claim. So a run's claims go into its manifest before anything is measured, with a hash of
hypotheses, task and trials. If a finished run of the same model, in a folder next to it, has some
of the same trials under other hypotheses, the run is *exploratory*. On trials that no such run
looked at, it is *confirmatory*.

Source: rule 9 of this project's rules of evidence. Of twenty claims tried on the same trials the
best is shown in 0.63 of simulations, on fresh trials in 0.05.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..keeping.manifest import read_manifest
from ..stimuli.tasks import shipped_hypotheses
from ..task import Task
from .measurement import content_hash

# The keys of a manifest that identify the model.
MODEL = ("model", "commit", "config", "weights", "dtype")


@dataclass(frozen=True)
class Registered:
    """The entry ``registered`` of a run's manifest, about its claims.

    Attributes:
        hash: of hypotheses, task and trials.
        file: the text of the hypotheses' file; empty if they are a task's.
        after: the names of the folders whose runs had looked at some of the trials under other
            hypotheses.
    """

    hash: str
    file: str
    after: tuple[str, ...]

    @property
    def exploratory(self) -> bool:
        """Whether earlier runs had looked at the trials."""
        return bool(self.after)

    @property
    def says(self) -> str:
        """The same in a sentence."""
        if not self.after:
            return (
                "Confirmatory, as far as the neighbouring folders show: these claims were "
                "written down before any run of this model had looked at any of these trials."
            )
        runs = f"the run{'s' * (len(self.after) > 1)} in {', '.join(self.after)}"
        return (
            f"Exploratory: {runs} had looked at these trials under other hypotheses, so these "
            "claims may have been fitted to them; test the claims on new trials, such as with "
            "another --seed."
        )


def claims_of_ones_own(task: Task) -> bool:
    """Whether a task has hypotheses that it does not ship with."""
    ships = shipped_hypotheses(task)
    return any(hypothesis not in ships for hypothesis in task.hypotheses)


def claims_hash(task: Task) -> str:
    """A hash of a task's claims about heads."""
    return content_hash(_claims({"task": task.plain()}))


def registered(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A run's manifest, with the entry ``registered`` if the task has claims that it does not ship
    with.

    Args:
        folder: of the run; other runs are looked for in the folders next to it.
        manifest: as `rgb_circuit.keeping.manifest.manifest` makes it.
    """
    if not claims_of_ones_own(Task.of_plain(manifest["task"], "the manifest's task")):
        return dict(manifest)
    path = manifest["options"].get("hypotheses")
    about = {
        "hash": content_hash([_claims(manifest), manifest["task"], manifest["trials"]]),
        "file": Path(path).read_text(encoding="utf-8") if path and Path(path).is_file() else "",
        "after": [other.name for other in _beside(folder) if _looked(other, manifest)],
    }
    return {**manifest, "registered": about}


def registered_of(manifest: Mapping[str, Any]) -> Registered | None:
    """A manifest's entry about its claims; None if they are those that the task ships with."""
    about = manifest.get("registered")
    return (
        None if about is None else Registered(about["hash"], about["file"], tuple(about["after"]))
    )


def _beside(folder):
    """The other folders next to this one that have a manifest."""
    folder = folder.resolve()
    return [
        path.parent
        for path in sorted(folder.parent.glob("*/manifest.json"))
        if path.parent != folder
    ]


def _looked(other, manifest):
    """Whether a finished run in another folder had the same model, some of the trials, and other
    claims."""
    try:
        recorded = read_manifest(other)
    except InputError:
        return False
    return (
        "finished" in recorded
        and "task" in recorded
        and all(recorded.get(name) == manifest.get(name) for name in MODEL)
        and _claims(recorded) != _claims(manifest)
        and not _sources(recorded["trials"]).isdisjoint(_sources(manifest["trials"]))
    )


def _claims(manifest):
    return [manifest["task"].get("predictions"), manifest["task"].get("hypotheses")]


def _sources(trials: Sequence[Mapping[str, Any]]) -> set[str]:
    """The source of each trial: its cluster, or else its pictures."""
    return {trial.get("cluster") or content_hash(trial["pictures"]) for trial in trials}
