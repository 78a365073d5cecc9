"""A run's manifest: what shapes its numbers, written beside them, so that other runs can be told
from it."""

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ..conversation import question_of
from ..errors import InputError
from ..files.results import existing, write_bytes
from ..stimuli.drawing import form_at, words_for
from ..stimuli.tasks import task_of
from ..trial import Trial, described
from .fingerprint import fingerprint

if TYPE_CHECKING:
    from ..vlm import Vlm

PACKAGES = ("rgb_circuit", "nnsight", "torch", "transformers", "numpy", "pandas", "pillow")

# Recorded, but no reason to refuse a folder: where pictures were read from (the pictures themselves
# are compared), what was asked for where the manifest has what it led to, packages that shape no
# part of a run, what a run is called, when it was made, what was known before
# (`rgb_circuit.measuring.registered`), which tasks have folders of their own inside, and what
# follows from the rest: the conversation from the chat template, but for what changes by itself,
# such as a date.
NOT_COMPARED = (
    "options.trials_file", "options.columns.file", "options.columns.folder", "options.task",
    "options.hypotheses", "task.trials",
    "options.device", "options.dtype",
    "versions.python", "versions.numpy", "versions.pandas", "versions.pillow",
    "options.name", "options.no_pictures", "started", "finished", "parameters", "template",
    "views", "image_token", "also_asked", "tasks",
    "registered.hash", "registered.file", "registered.after",
)  # fmt: skip


def manifest(model: "Vlm", trials: Sequence[Trial], options: Mapping[str, object]) -> dict:
    """What shapes a run's numbers: model, number format, answer form, versions, trials with their
    pictures' hashes, options.

    Returns:
        Only what JSON can hold. ``config, weights, tokenizer, processor, chat_template`` are as
        `rgb_circuit.keeping.fingerprint.fingerprint` has them. ``server`` is the server's URL, or
        None; ``task`` is what `rgb_circuit.task.Task.of_plain` reads, ``answer_form`` and ``words``
        how its words are written and which of them the model is asked for. ``views`` is how often
        a picture is shown, and ``image_token`` what each of its tokens says in frames.
    """
    task = task_of(trials)
    return {
        "model": model.name,
        "revision": model.revision,
        "commit": model.commit,
        "dtype": str(model.dtype).removeprefix("torch."),
        "server": model.server and model.server.url,
        "device": None if model.server else model.nnsight.device.type,
        "attention": model.config.text_config._attn_implementation,
        "vision_attention": model.config.vision_config._attn_implementation,
        "answer_form": form_at(model, model.prompt(task.questions[0]), task.vocabulary)
        if task.vocabulary
        else None,
        "layers": model.n_layers,
        "heads": model.n_heads,
        "kv_heads": model.n_kv_heads,
        "parameters": sum(one.numel() for one in model.nnsight._module.parameters()),
        "d_head": model.d_head,
        "grid": list(model.grid),
        "tile_px": model.tile_px,
        "picture_px": model.picture_px,
        "views": len(model.layout.views),
        "image_token": model.processor.tokenizer.decode([model.config.image_token_id]),
        "template": model.template,
        "ahead": model.ahead,
        "words": list(words_for(model, task)),
        "task": task.plain(),
        # Hashes come after what says more, since a refusal names the first differences.
        **fingerprint(model),
        "options": dict(options),
        "trials": [described(trial) for trial in trials],
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of Python and the packages that numbers come from."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def read_manifest(folder: str | Path) -> dict:
    """The manifest of a run's folder, as `manifest` makes it.

    Raises:
        InputError: no such folder or file, or a file that is no manifest.
    """
    path = existing(folder, "manifest.json")
    try:
        manifest = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read {path} ({error}); delete {folder} and run rgb-circuit run again"
        ) from error
    if not isinstance(manifest, dict) or not {"model", "dtype"} <= set(manifest):
        raise InputError(
            f"{path} names no model and dtype; give the folder of a run of rgb-circuit run"
        )
    return manifest


def write_manifest(folder: Path, manifest: Mapping[str, object]) -> None:
    """Write a manifest into its folder."""
    write_bytes(folder / "manifest.json", (json.dumps(manifest, indent=2) + "\n").encode())


def record_finish(folder: Path) -> None:
    """Write into a run's manifest that it is finished now, if it was not before."""
    there = read_manifest(folder)
    if "finished" not in there:
        write_manifest(folder, {**there, "finished": now()})


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def check_same(folder: str | Path, there: Mapping[str, object], here: Mapping[str, object]) -> None:
    """Raise InputError that shows where the manifest ``there``, of ``folder``, differs from the one
    ``here``."""
    found = differences(there, here)
    if found:
        more = f" and {len(found) - 4} more" if len(found) > 4 else ""
        raise InputError(
            f"{folder} holds a run that differs in {', '.join(found[:4])}{more}; repeat that one "
            "as it was, choose another folder "
            f"with --out, or delete {folder}"
        )


def differences(there: Mapping[str, object], here: Mapping[str, object]) -> list[str]:
    """Where two manifests differ in more than ``NOT_COMPARED``, in words."""
    trials = [
        {trial["name"]: trial for trial in _in_any_conversation(manifest)}
        for manifest in (there, here)
    ]
    found = [
        _difference(name, *both)
        for name, both in differing(there, here).items()
        if name not in NOT_COMPARED
    ]
    if list(trials[0]) != list(trials[1]):
        return [*found, f"trials ({len(trials[0])} there, {len(trials[1])} here, not the same)"]
    for name, (one, other) in zip(trials[0], zip(*(some.values() for some in trials))):
        one, other = _flat(one), _flat(other)
        found += [
            f"{part} of trial {name!r}"
            for part in {**one, **other}
            if one.get(part) != other.get(part)
        ]
    return found


def differing(there: Mapping[str, object], here: Mapping[str, object]) -> dict[str, tuple]:
    """Where two manifests differ, but for their trials: dotted name → what it is there, and
    here; None where it is not said."""
    one, other = (
        _flat(json.loads(json.dumps({**manifest, "trials": None}))) for manifest in (there, here)
    )
    return {
        name: (one.get(name), other.get(name))
        for name in {**one, **other}
        if one.get(name) != other.get(name)
    }


def _in_any_conversation(manifest):
    """The trials of a manifest, with the question alone of a prompt in its conversation."""
    template = manifest.get("template", "")

    def question(text):
        return question_of(text, template) or text

    for trial in json.loads(json.dumps(manifest.get("trials", []))):
        prompts = {
            condition: question(text) for condition, text in trial.get("prompts", {}).items()
        }
        yield {**trial, "prompt": question(trial["prompt"]), "prompts": prompts}


def _difference(name, there, here):
    """One difference in words; a hash says nothing to anybody."""
    if name in ("config", "weights", "chat_template") or name.startswith("tokenizer."):
        return name
    return f"{name} ({_short(there)} there, {_short(here)} here)"


def _flat(value, name=""):
    """Dotted name → value, for whatever JSON holds."""
    if not isinstance(value, dict):
        return {name: value}
    return {
        key: leaf
        for part, inside in value.items()
        for key, leaf in _flat(inside, f"{name}.{part}".strip(".")).items()
    }


def _short(value):
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
