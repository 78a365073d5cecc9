"""A run's manifest: everything that its numbers depend on, written next to them, so that runs can
be told apart."""

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

# Recorded, but no reason to refuse a folder: the files that pictures were read from (the pictures
# themselves are compared); options whose outcome the manifest records; packages that change no part
# of a run; a run's name and times; what was known before (`rgb_circuit.measuring.registered`); the
# tasks with folders of their own inside; and entries that follow from the rest, such as the
# conversation, which follows from the chat template except for things like today's date.
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
    """Everything that a run's numbers depend on: model, number format, answer form, versions,
    trials with their pictures' hashes, options.

    Returns:
        Values that JSON can hold. ``config, weights, tokenizer, processor, chat_template`` are as
        in `rgb_circuit.keeping.fingerprint.fingerprint`. ``server`` is the server's URL, or None.
        ``task`` is what `rgb_circuit.task.Task.of_plain` reads; ``answer_form`` is the form of its
        words, and ``words`` those that the model is asked for. ``views`` is how often a picture is
        shown, and ``image_token`` the text of its tokens in frames.
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
        # Hashes come late, since a refusal names the first differences, and others say more.
        **fingerprint(model),
        "options": dict(options),
        "trials": [described(trial) for trial in trials],
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that numbers depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def read_manifest(folder: str | Path) -> dict:
    """The manifest of a run's folder, as `manifest` makes it.

    Raises:
        InputError: no such folder or file, or a file that is not a manifest.
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
    """Record in a run's manifest that it is finished now, unless it was finished before."""
    there = read_manifest(folder)
    if "finished" not in there:
        write_manifest(folder, {**there, "finished": now()})


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def check_same(folder: str | Path, there: Mapping[str, object], here: Mapping[str, object]) -> None:
    """Raise InputError if the manifest ``there``, of ``folder``, differs from the one ``here``; the
    message names the differences."""
    found = differences(there, here)
    if found:
        more = f" and {len(found) - 4} more" if len(found) > 4 else ""
        raise InputError(
            f"{folder} holds a run that differs in {', '.join(found[:4])}{more}; repeat that one "
            "as it was, choose another folder "
            f"with --out, or delete {folder}"
        )


def differences(there: Mapping[str, object], here: Mapping[str, object]) -> list[str]:
    """The differences of two manifests outside ``NOT_COMPARED``, in words."""
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
    """The differences of two manifests, except their trials: dotted name → (value there, value
    here), None if there is no entry."""
    one, other = (
        _flat(json.loads(json.dumps({**manifest, "trials": None}))) for manifest in (there, here)
    )
    return {
        name: (one.get(name), other.get(name))
        for name in {**one, **other}
        if one.get(name) != other.get(name)
    }


def _in_any_conversation(manifest):
    """The trials of a manifest, each prompt reduced to its question if it is in the manifest's
    conversation."""
    template = manifest.get("template", "")

    def question(text):
        return question_of(text, template) or text

    for trial in json.loads(json.dumps(manifest.get("trials", []))):
        prompts = {
            condition: question(text) for condition, text in trial.get("prompts", {}).items()
        }
        yield {**trial, "prompt": question(trial["prompt"]), "prompts": prompts}


def _difference(name, there, here):
    """One difference in words, without values that are hashes."""
    if name in ("config", "weights", "chat_template") or name.startswith("tokenizer."):
        return name
    return f"{name} ({_short(there)} there, {_short(here)} here)"


def _flat(value, name=""):
    """Dotted name → value, for any value that JSON can hold."""
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
