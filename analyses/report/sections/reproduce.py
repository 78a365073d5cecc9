"""The command that reproduces the run, and its versions and settings."""

import re
import shlex
from collections.abc import Mapping

from ..digits import MISSING
from ..playing import shown_not_to_play
from ..run import Needs, Run
from ..section import Section, beside

# Entries of the manifest that the page shows elsewhere.
TOLD = ("options", "trials", "versions", "task", "registered")
# Entries that identify a run at a glance; the others are folded.
FIRST = ("model", "revision", "commit", "server", "dtype", "device", "started", "finished")
BETWEEN = {"grid": " × "}
# The most letters of a command on a single line.
LONG = 60
# This many digits identify a hash of contents; a commit is shown whole, since users need all of it.
HASH, DIGEST = re.compile(r"[0-9a-f]{64}"), 12


def _values(run: Run):
    facts = {name: value for name, value in run.manifest.items() if name not in TOLD}
    facts = {name.replace("_", " "): _written(name, value) for name, value in facts.items()}
    first = dict(task=run.task.says or run.task.name, trials=f"{len(run.manifest['trials']):,}")
    first |= {name: facts.pop(name) for name in FIRST if facts.get(name, MISSING) != MISSING}
    return dict(
        command=f"rgb-circuit run {_arguments(run)}",
        first=first | run.manifest["versions"],
        rest={name: value for name, value in facts.items() if value != MISSING},
    )


def _written(name, value):
    """A value of the manifest as a person would write it."""
    if value is None or value in ("", [], {}):
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        parts = {part: _written(part, own) for part, own in value.items()}
        return "; ".join(f"{part.replace('_', ' ')}: {own}" for part, own in parts.items())
    if isinstance(value, list):
        return BETWEEN.get(name, ", ").join(_written("", own) for own in value)
    if isinstance(value, str):
        return f"{value[:DIGEST]}…" if HASH.fullmatch(value) else value
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _arguments(run):
    options = run.manifest["options"] | dict(
        revision=run.manifest.get("revision"), remote=run.manifest.get("server")
    )
    arguments = {"--model": run.model} | {
        f"--{name.replace('_', '-')}": value
        for name, value in options.items()
        if value not in (None, "auto", "end") and value is not False
    }
    judged = run.task.hypotheses and "--trials-file" not in arguments
    if judged and shown_not_to_play(run.frames["play"], run.task):
        arguments["--anyway"] = True
    fixed, columns = arguments.pop("--fix", {}), arguments.pop("--columns", None)
    if columns is not None:
        arguments["--columns"] = columns["file"]
    # Join with "=" where argparse would take a value with a leading dash for an option; a flag has
    # no value.
    parts = (
        (name, "" if value is True else shlex.quote(str(value)))
        for name, value in arguments.items()
    )
    written = [
        f"{name}={value}" if value.startswith("-") else f"{name} {value}".strip()
        for name, value in parts
    ]
    written += [f"--fix {shlex.quote(f'{role}={word}')}" for role, word in fixed.items()]
    # A long command gets a line per option, in shell syntax.
    line = " ".join(written)
    return line if len(line) < LONG else " \\\n    ".join(written)


SECTION = Section(
    order=120,
    link="Reproduce",
    title="How to reproduce this run",
    needs=Needs({"play": "expected answer correct"}),
    values=_values,
    fragment=beside(__file__),
    half=True,
)
