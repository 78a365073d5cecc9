"""A run as far as its folder says it: which model, which trials."""

from collections.abc import Mapping
from pathlib import Path

import torch

from .errors import InputError
from .layout import Layout
from .manifest import read_manifest
from .rgb_game import published_trial, sample_trials
from .trial import Trial
from .trials_file import read_trials
from .vlm import Vlm

# What it takes to go on with a run.
NEEDED = {
    "model", "revision", "server", "dtype", "answer_form", "layers", "heads", "kv_heads", "d_head", "grid",
    "tile_px", "picture_px", "template", "words", "options", "trials",
}  # fmt: skip


class ModelNeeded(Exception):
    """Something was asked of a model that is only recorded."""


def read_run(folder: str | Path) -> dict:
    """The manifest of ``rgb-circuit run``, as `rgb_circuit.manifest.manifest` has it, with all that it takes
    to go on.

    Raises:
        InputError: as `read_manifest`; or a manifest of something else, or of another version.
    """
    manifest = read_manifest(folder)
    missing = sorted(NEEDED - set(manifest))
    trials = manifest.get("trials")
    whole = isinstance(trials, list) and all(isinstance(trial, dict) and "name" in trial for trial in trials)
    if (
        missing
        or not whole
        or not {"positions", "only_correct", "device", "dtype"} <= set(manifest["options"])
    ):
        what = f"nothing about {', '.join(missing)}" if missing else "too little about its options or trials"
        raise InputError(
            f"the manifest of {folder} says {what}; give the folder of a run of rgb-circuit run, of this "
            "version"
        )
    return manifest


def recorded_trials(manifest: Mapping) -> list[Trial]:
    """The trials of a run, drawn or read again from what its manifest says.

    Args:
        manifest: from `read_run`.

    Raises:
        InputError: a trials file that is gone or cannot be used.
    """
    options = manifest["options"]
    if "trials_file" in options:
        return read_trials(options["trials_file"], template=manifest["template"])
    if options.get("trials") == "published":
        return [published_trial(**_drawn_for(manifest))]
    if not str(options.get("trials")).isdecimal() or not isinstance(options.get("seed"), int):
        raise InputError(
            "the manifest says nothing about how its trials were drawn; give the folder of a run of "
            "rgb-circuit run"
        )
    drawn = int(options["trials"]), options["seed"], manifest["grid"][0]
    return sample_trials(manifest["words"], *drawn, {}, **_drawn_for(manifest))


def _drawn_for(manifest):
    layout = _layout(manifest)
    return {"tile_px": layout.tile_px, "margin": layout.margin, "template": manifest["template"]}


def _layout(manifest):
    """As far as the manifest says it."""
    return Layout(tuple(manifest["grid"]), manifest["tile_px"], manifest["picture_px"])


def recorded_model(manifest: Mapping) -> Vlm:
    """The model of a run as far as its manifest says it: name and geometry. Whoever asks for more meets
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
        layout=_layout(manifest),
        template=manifest["template"],
        dtype=getattr(torch, manifest["dtype"]),
        answer_form=manifest["answer_form"],
        words=tuple(manifest["words"]),
    )


class _Absent:
    def __getattr__(self, name):
        raise ModelNeeded(name)
