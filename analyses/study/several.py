"""Runs of several tasks with one model, each in its own folder, and a comparison of what the same
heads do in all of them.

1. `check` refuses every task that cannot be run, as far as possible before anything is measured.
2. `run` runs each task in FOLDER/TASK, as a single one.
3. The runs' measurements of every head are compared (`analyses.transfer.compared`). Only the sets
   of heads are measured anew, and kept in FOLDER/parts. Frames, figure and page are in FOLDER.

A killed command resumes where it stopped. A folder may be given further tasks later.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd

from rgb_circuit.calls.patching import PatchedEdits
from rgb_circuit.calls.play import play
from rgb_circuit.edits import Edit
from rgb_circuit.errors import InputError, NotApplicable, NotDrawn, attempt
from rgb_circuit.files.locking import locked
from rgb_circuit.files.results import opened, read_frame, write_figure, write_frame
from rgb_circuit.keeping.manifest import (
    check_same,
    manifest,
    read_manifest,
    record_finish,
    write_manifest,
)
from rgb_circuit.keeping.saved_run import going_on
from rgb_circuit.keeping.store import Store, open_store
from rgb_circuit.measuring.estimate import cost
from rgb_circuit.measuring.measure import follow
from rgb_circuit.plots import transfer_maps
from rgb_circuit.stimuli.tasks import task_of
from rgb_circuit.trial import Trial
from rgb_circuit.vlm import Vlm

from .. import transfer
from ..circuit.one_set import restored_alone
from ..report import several as page
from ..report.embedded import SETTINGS
from ..report.playing import shown_not_to_play
from . import check as check_one
from . import estimate as estimate_one
from . import report as report_one
from . import run as run_one
from . import study_of
from .findings import GLANCE

# Entries of a manifest that belong to a single task.
OF_A_TASK = ("task", "words", "answer_form", "options", "registered")
# The number of random sets that a set of heads is compared with.
RANDOM_SETS = 20


@dataclass(frozen=True)
class Asked:
    """The trials and options of one of several tasks.

    Attributes:
        trials: of the task.
        options: of its run, as in `analyses.study.run`.
    """

    trials: list[Trial]
    options: Mapping[str, Any]


def run(folder: Path, model: Vlm, several: Mapping[str, Asked], anyway: bool = False) -> None:
    """Run every task and compare them.

    Args:
        folder: locked by the caller (`rgb_circuit.files.locking.locked`).
        several: name of a task → its trials and options.
        anyway: go on with a model that does not play one of them.

    Raises:
        InputError: as `analyses.study.run`, for any task; if possible before anything is measured.
        NotDrawn: figures or sections that could not be drawn; all else is written first.
    """
    folders = {name: folder / part for name, part in folders_of(several).items()}
    check(folders, model, several, anyway)
    above = _manifest(model, several)
    store = open_store(folder, above)
    write_manifest(folder, {**read_manifest(folder), "tasks": above["tasks"]})
    failed: dict[str, Exception] = {}
    for number, (name, asked) in enumerate(several.items(), 1):
        print(f"\n{name} ({number} of {len(several)} tasks)\n")
        with opened(folders[name]) as own_folder, locked(own_folder), _of(name):
            try:
                run_one(own_folder, model, asked.trials, asked.options, anyway=anyway, called=name)
            except NotDrawn as error:
                failed |= {f"{name}: {what}": fault for what, fault in error.failed.items()}
    comparison, left_out = _compared(store, model, several, folders)
    _write(folder, model, comparison, left_out, failed)
    if failed:
        raise NotDrawn(failed, folder)


def holds_several(folder: str | Path) -> bool:
    """Whether a folder holds a run for each of several tasks."""
    return (Path(folder) / "manifest.json").is_file() and "tasks" in read_manifest(folder)


def check_folder(folder: str | Path, several: bool) -> None:
    """Refuse a folder with the run of one task for ``several``, and a folder of several for one."""
    if not (Path(folder) / "manifest.json").is_file() or holds_several(folder) == several:
        return
    holds = "a run of one task" if several else "a run for each of several tasks"
    raise InputError(f"{folder} holds {holds}; choose another folder with --out")


def report(folder: Path) -> None:
    """Finish the run of each task in a folder of several, and write all pages again.

    Raises:
        InputError: the folder's tasks have not been compared yet, or as `analyses.study.report`.
    """
    for task in read_manifest(folder)["tasks"]:
        report_one([folder / task["folder"]])
    path = page.write(folder)
    print(f"Open {path}, which links to the page of each task")


def check(
    folders: Mapping[str, Path], model: Vlm, several: Mapping[str, Asked], anyway: bool
) -> None:
    """Raise InputError for a task that `run` could not finish, as far as a few answers can show.

    Args:
        folders: name of a task → the folder of its run, which may not exist yet.
    """
    for name, asked in several.items():
        with _of(name):
            check_one(model, asked.trials, asked.options)
            if (folders[name] / "manifest.json").exists():
                recorded = read_manifest(folders[name])
                gone_on, trials = going_on(folders[name], model, asked.trials)
                check_same(folders[name], recorded, manifest(gone_on, trials, asked.options))
                continue
            if study_of(asked.options, asked.trials, anyway).must_play:
                _check_plays(model, asked.trials)


def estimate(model: Vlm, several: Mapping[str, Asked]) -> None:
    """Print what `run` would do for each task, and the cost of comparing them."""
    for number, (name, asked) in enumerate(several.items(), 1):
        print(f"\n{name} ({number} of {len(several)} tasks)\n")
        with _of(name):
            estimate_one(model, asked.trials, asked.options)
    forwards = sum(_cost_of_sets(model, asked.trials, len(several)) for asked in several.values())
    print(
        f"\nComparing {len(several)} tasks takes up to {forwards:,.0f} more plain forwards: sets "
        "of heads that are found on one task are tested on every other task."
    )


def _cost_of_sets(model, trials, tasks):
    """The number of plain forwards, at most, for the sets of heads on the trials of a task."""
    target, second = task_of(trials).corrupted, trials[len(trials) // 2 :]
    names = [str(index) for index in range((RANDOM_SETS + 1) * tasks)]
    # Layer 0 costs most: no set begins below it.
    alone = {name: restored_alone(model, [(0, 0)], transfer.SOURCE, target) for name in names}
    # Zero stands for the mean, which takes a forward per trial (counted below).
    silent = {name: [Edit(0, 0, "zero")] for name in names}
    wanted = [
        PatchedEdits.of(second, alone, target),
        PatchedEdits.of(second, silent, transfer.SOURCE),
    ]
    return cost(model, wanted).forwards + len(second)


def folders_of(names: Mapping[str, object]) -> dict[str, str]:
    """Name of a task → the folder of its run, inside the common folder.

    Raises:
        InputError: two names that would share a folder.
    """
    folders = {name: re.sub(r"[^\w.-]+", "_", name).strip(".") or "_" for name in names}
    taken: dict[str, str] = {}
    for name, folder in folders.items():
        # Some file systems ignore case.
        other = taken.setdefault(folder.casefold(), name)
        if other != name:
            raise InputError(
                f"the tasks {other!r} and {name!r} would write to the same folder {folder!r}; "
                "rename one of them"
            )
    return folders


@contextmanager
def _of(name: str) -> Iterator[None]:
    """Name the task in an error's message."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{name}: {error}") from error


def _check_plays(model, trials):
    """Refuse a task if its first trials show that the model does not play it."""
    first = trials[:GLANCE]
    played = play(model, first, progress=False)
    if shown_not_to_play(played, task_of(trials)):
        right = played["correct"].dropna()
        raise NotApplicable(
            f"{model.name} answers {right.sum():.0f} of {len(right)} pictures of the first "
            f"{len(first)} trials right, so nothing measured on it would say what a head does in "
            "that; leave this task out, or go on all the same with --anyway"
        )


def _manifest(model, several):
    """The manifest of the common folder: what shapes the numbers of every task, and the names of
    the tasks. What shapes a single task's numbers is in its own folder."""
    asked = next(iter(several.values()))
    whole = manifest(model, asked.trials, {})
    shared = {name: value for name, value in whole.items() if name not in OF_A_TASK}
    options = {"name": asked.options.get("name")}
    tasks = [{"name": name, "folder": part} for name, part in folders_of(several).items()]
    return {**shared, "trials": [], "options": options, "tasks": tasks}


def _compared(store: Store, model, several, folders):
    """What the heads do in all tasks (None if nothing can be compared), and name of a task → why it
    is left out."""
    measured, left_out = {}, {}
    for name, asked in several.items():
        sample = _measured(folders[name], model, asked.trials)
        try:
            transfer.check_sample(name, sample.trials)
            measured[name] = sample
        except InputError as error:
            left_out[name] = str(error)
    if len(measured) < 2:
        return None, left_out
    steps = transfer.compared(model, measured, random_sets=RANDOM_SETS)
    return follow(model, steps, store, stage="comparing all tasks"), left_out


def _measured(folder, model, trials) -> transfer.Measured:
    """A run's measurements of every head, from its folder."""
    _, trials = going_on(folder, model, trials)
    effects = read_frame(folder, "patch_heads", ["trial", "target", "patched_logit"])
    # A run may have left trials out.
    measured_trials = set(effects["trial"].astype(str))
    parts = {}
    if (folder / "roles.parquet").exists():
        table = read_frame(folder, "roles", ["layer", "head", "role"])
        parts = dict(zip(zip(table["layer"], table["head"]), table["role"]))
    return transfer.Measured(
        [trial for trial in trials if trial.name in measured_trials], effects, parts
    )


def _write(folder, model, found, left_out, failed):
    """Write frames, figure and page, and print the findings."""
    reasons = pd.DataFrame(left_out.items(), columns=["task", "reason"], dtype=str)
    write_frame(reasons, folder, page.LEFT_OUT)
    for name in page.FRAMES:
        if found is None:
            (folder / f"{name}.parquet").unlink(missing_ok=True)
        else:
            frame = getattr(found, name.removeprefix(page.PREFIX))
            write_frame(frame, folder, name)
    if found is not None:
        with attempt("transfer.png", failed), matplotlib.rc_context(SETTINGS):
            figure = transfer_maps(found.heads, found.pairs, found.sets, model.name)
            write_figure(figure, folder, "transfer")
    record_finish(folder)
    with attempt("report.html", failed):
        page.write(folder)
    print("\nAll tasks compared\n")
    print(*page.lines(folder), sep="\n")
    print(f"\nOpen {folder / 'report.html'}, which links to the page of each task")
