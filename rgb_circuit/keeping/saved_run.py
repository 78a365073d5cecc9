"""A run, read from its folder: its model, its trials, and its results."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch

from ..arguments import as_path
from ..conversation import prompt, question_of
from ..conversation.answers import FORMS
from ..errors import InputError
from ..files.results import read_frame
from ..heads import Head
from ..module.layout import Layout
from ..prompts.asking import token_of
from ..stimuli.drawing import WordsAsked
from ..stimuli.tasks import DEFAULT, named
from ..stimuli.tasks.rgb import published_trial
from ..tables.columns_file import sheet_of
from ..task import Task
from ..trial import Trial
from ..trials_file import read_trials
from ..vlm import Vlm
from .exported import exported
from .fingerprint import chat_template
from .head_card import HeadCard, head_card
from .inline import inline
from .manifest import read_manifest

# The entries of a manifest that going on with a run needs.
NEEDED = {
    "model", "revision", "server", "dtype", "answer_form", "layers", "heads", "kv_heads", "d_head",
    "grid",
    "tile_px", "picture_px", "template", "words", "task", "options", "trials",
}  # fmt: skip


class ModelNeeded(Exception):
    """A model that is only recorded was used as if it were loaded."""


class NoFrame(InputError, KeyError):
    """A frame that a run's folder lacks."""

    # A KeyError would quote its message.
    __str__ = ValueError.__str__


class Frames(Mapping[str, pd.DataFrame]):
    """The frames of a run's folder by name, each read when it is first used."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._read: dict[str, pd.DataFrame] = {}

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name not in self._read:
            if name not in self._names():
                raise NoFrame(self._why_not(name))
            self._read[name] = read_frame(self._folder, name, [])
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __repr__(self) -> str:
        return f"Frames({', '.join(self._names())})"

    def _names(self):
        return [path.stem for path in sorted(self._folder.glob("[!.]*.parquet"))]

    def _why_not(self, name):
        run = f"the run in {self._folder}"
        if not self._names():
            again = f"rgb-circuit report {shlex.quote(str(self._folder))}"
            return f"{run} is not finished; finish it with {again}"
        # Roles are told from evidence, so both are left out for one reason.
        asked = "roles" if name == "evidence" else name
        if "left_out" in self._names():
            for reason in self["left_out"].loc[self["left_out"]["frame"] == asked, "reason"]:
                return f"{run} has no {name}: {reason}"
        return f"{run} has no {name}; it has {', '.join(self._names())}"


@dataclass(frozen=True, repr=False)
class SavedRun:
    """The results of ``rgb-circuit run`` in a folder; `read_run` makes one.

    Attributes:
        folder: of the run.
        manifest: as `rgb_circuit.keeping.manifest.manifest` makes it.
        frames: name → frame, such as ``frames["patch_heads"]``, read on first use. For a frame that
            was left out, the error says why.
    """

    folder: Path
    manifest: Mapping
    frames: Frames = field(compare=False)

    def __repr__(self):
        n = len(self.manifest["trials"])
        what = f"{self.model}, {n} trial{'s' * (n != 1)}, {len(self.frames)} frames"
        return f"SavedRun({str(self.folder)!r}: {what})"

    def _repr_html_(self) -> str | None:
        page = self.folder / "report.html"
        return inline(page, f"The report of {self!r}") if page.is_file() else None

    @property
    def model(self) -> str:
        """The model's name."""
        return self.manifest["model"]

    @cached_property
    def task(self) -> Task:
        """The task of the run, from its manifest; it cannot draw trials."""
        return recorded_task(self.manifest)

    @cached_property
    def trials(self) -> list[Trial]:
        """The trials, drawn or read again from the manifest's options.

        Raises:
            InputError: a trials file that is gone or cannot be used.
        """
        return recorded_trials(self.manifest)

    @property
    def findings(self) -> pd.DataFrame:
        """A row per head that has a role, the strongest first: ``layer, head, role, score,
        colors``, as `analyses.roles.roles`; no rows if no head has a role.

        Raises:
            InputError: roles were not told, with the reason.
        """
        table = self.frames["roles"]
        found = table.loc[table["role"] != "none", ["layer", "head", "role", "score", "colors"]]
        order = found["score"].abs().sort_values(ascending=False, kind="stable").index
        return found.loc[order].reset_index(drop=True)

    def head(self, layer: int | str | tuple[int, int], head: int | None = None) -> HeadCard:
        """The results about one head: its verdict, three numbers and its claims, as an object that
        shows itself as text and in a notebook.

        Args:
            layer: of the head, from 0; or the head as text, "3.2", or as a pair, (3, 2).
            head: its number in the layer, from 0.

        Raises:
            InputError: a head that the run did not restore, or a run that is not finished.
        """
        return head_card(self.model, self.task, self.frames, *Head.of(layer, head))

    def to_json(self) -> str:
        """The run's heads in JSON, as in `rgb_circuit.keeping.exported.exported`.

        Raises:
            InputError: roles were not told, with the reason.
        """
        return json.dumps(exported(self.manifest, self.findings, self.frames["evidence"]), indent=2)


def read_run(folder: str | Path) -> SavedRun:
    """Read the results of ``rgb-circuit run`` in a folder: its model's name, trials, frames and
    findings; nothing is loaded or measured.

    Raises:
        InputError: no such folder, or not one of a run of this version.
    """
    folder = as_path(folder, "a run's folder")
    return SavedRun(folder, recorded_run(folder), Frames(folder))


def recorded_run(folder: str | Path) -> dict:
    """The manifest of ``rgb-circuit run``, as `rgb_circuit.keeping.manifest.manifest` makes it,
    with all entries that going on with the run needs.

    Raises:
        InputError: as `read_manifest`; or a manifest of something else, of several runs, or of
            another version.
    """
    manifest = read_manifest(folder)
    if tasks := manifest.get("tasks"):
        inside = ", ".join(str(Path(folder) / task["folder"]) for task in tasks)
        raise InputError(f"{folder} holds a run for each of several tasks; give one of {inside}")
    missing = sorted(NEEDED - set(manifest))
    trials = manifest.get("trials")
    whole = isinstance(trials, list) and all(
        isinstance(trial, dict) and "name" in trial for trial in trials
    )
    if (
        missing
        or not whole
        or not {"positions", "only_correct", "device", "dtype"} <= set(manifest["options"])
    ):
        what = (
            f"nothing about {', '.join(missing)}"
            if missing
            else "too little about its options or trials"
        )
        raise InputError(
            f"the manifest of {folder} says {what}; give the folder of a run of rgb-circuit run, "
            "of this version"
        )
    return manifest


def recorded_trials(manifest: Mapping) -> list[Trial]:
    """The trials of a run, drawn or read again from its manifest's options.

    Args:
        manifest: from `recorded_run`.

    Raises:
        InputError: a trials file that is gone or cannot be used.
    """
    options = manifest["options"]
    if "trials_file" in options:
        trials = _of_file(manifest)
        described = options.get("task") or options.get("hypotheses")
        task = recorded_task(manifest) if described else None
        return [replace(trial, task=task) for trial in trials]
    if options.get("trials") == "published":
        return [published_trial(recorded_model(manifest).canvas)]
    if not str(options.get("trials")).isdecimal() or not isinstance(options.get("seed"), int):
        raise InputError(
            "the manifest says nothing about how its trials were drawn; give the folder of a run "
            "of rgb-circuit run"
        )
    task = named(options.get("task") or DEFAULT)
    if task.draw is None:
        raise InputError(
            f"the task {task.name!r} draws no trials any more, and the run's were drawn"
        )
    canvas, n = recorded_model(manifest).canvas, int(options["trials"])
    trials = task.draw(canvas, manifest["words"], n, options["seed"], options.get("fix", {}))
    if options.get("hypotheses"):
        task = replace(recorded_task(manifest), draw=task.draw)
    return [replace(trial, task=task) for trial in trials]


def _of_file(manifest):
    options = manifest["options"]
    if options.get("columns") is None:
        return read_trials(options["trials_file"], template=manifest["template"])
    words = {
        trial["name"]: {
            role: (word, *trial.get("also", {}).get(role, ()))
            for role, word in trial["answers"].items()
        }
        for trial in manifest["trials"]
    }
    return sheet_of(options["trials_file"], options["columns"]).trials(
        recorded_model(manifest), words=words
    )


def recorded_task(manifest: Mapping) -> Task:
    """The task of a run, from its manifest: without the code that draws trials."""
    return Task.of_plain(manifest["task"], "the manifest's task")


def as_recorded(model: Vlm, recorded: Mapping) -> Vlm:
    """The model, with the conversation of the recorded run that it continues.

    A chat template may write things that change by themselves, such as today's date; the run
    continues with the recorded text. A model with another chat template is left as it is, and
    `rgb_circuit.keeping.manifest.check_same` refuses it.
    """
    same = recorded.get("chat_template") == chat_template(model.processor)
    if not same or recorded["template"] == model.template:
        return model
    question = recorded_task(recorded).questions[0]
    asked = prompt(question, recorded["template"])
    forms = model.forms.get(model.prompt(question), tuple(FORMS))
    # The recorded form first; the sort keeps the others in their order.
    as_then = tuple(sorted(forms, key=lambda form: form != recorded["answer_form"]))
    return replace(
        model,
        template=recorded["template"],
        forms=model.forms | {asked: as_then},
        drawable=model.drawable | _drawable(recorded),
    )


def in_conversation(trials: Sequence[Trial], before: str, after: str) -> list[Trial]:
    """The trials with their prompts moved from the conversation ``before`` to the conversation
    ``after``; both are templates, with ``{question}``."""
    if before == after:
        return list(trials)

    def moved(text):
        question = question_of(text, before)
        return text if question is None else prompt(question, after)

    return [
        replace(
            trial,
            prompt=moved(trial.prompt),
            prompts={condition: moved(text) for condition, text in trial.prompts.items()},
        )
        for trial in trials
    ]


def going_on(folder: str | Path, model: Vlm, trials: Sequence[Trial]) -> tuple[Vlm, list[Trial]]:
    """Model and trials in the conversation that the run in ``folder`` recorded, if there is one;
    see `as_recorded`."""
    try:
        recorded = read_manifest(folder)
    except InputError:
        return model, list(trials)
    if "template" not in recorded:
        return model, list(trials)
    gone_on = as_recorded(model, recorded)
    return gone_on, in_conversation(trials, model.template, gone_on.template)


def _drawable(manifest):
    """The entry of `Vlm.drawable` that the manifest records."""
    task = recorded_task(manifest)
    asked = WordsAsked.of(task, prompt(task.questions[0], manifest["template"]), task.vocabulary)
    return {asked: tuple(manifest["words"])}


def recorded_model(manifest: Mapping) -> Vlm:
    """The model of a run, from its manifest: name and geometry. Using anything else raises
    `ModelNeeded`."""
    return Vlm(
        name=manifest["model"],
        revision=manifest["revision"],
        nnsight=_Absent(),
        processor=_Absent(),
        n_layers=manifest["layers"],
        n_heads=manifest["heads"],
        n_kv_heads=manifest["kv_heads"],
        d_head=manifest["d_head"],
        layout=Layout(tuple(manifest["grid"]), manifest["tile_px"], manifest["picture_px"]),
        template=manifest["template"],
        token_of=token_of,
        dtype=getattr(torch, manifest["dtype"]),
        ahead=manifest.get("ahead", "none"),
        drawable=_drawable(manifest),
    )


def is_recorded(model: Vlm) -> bool:
    """Whether a model comes from `recorded_model`."""
    return isinstance(model.nnsight, _Absent)


class _Absent:
    def __getattr__(self, name):
        raise ModelNeeded(name)
