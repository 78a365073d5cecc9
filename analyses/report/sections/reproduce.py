"""The command that gives the run again, and what it was made with."""

import shlex

from ..playing import shown_not_to_play
from ..run import Needs, Run
from ..section import Section, beside


def _values(run: Run):
    facts = {
        name: value
        for name, value in run.manifest.items()
        if name not in ("options", "trials", "versions", "task", "registered")
    }
    between = {"grid": " × "}
    facts = {
        name: between.get(name, ", ").join(map(str, value)) if isinstance(value, list) else value
        for name, value in facts.items()
    }
    return dict(
        command=f"rgb-circuit run {_arguments(run)}",
        facts=facts | dict(task=run.task.says or run.task.name, trials=len(run.manifest["trials"])),
        versions=run.manifest["versions"],
    )


def _arguments(run):
    options = run.manifest["options"] | dict(
        revision=run.manifest.get("revision"), remote=run.manifest.get("server")
    )
    given = {"--model": run.model} | {
        f"--{name.replace('_', '-')}": value
        for name, value in options.items()
        if value not in (None, "auto", "end") and value is not False
    }
    judged = run.task.hypotheses and "--trials-file" not in given
    if judged and shown_not_to_play(run.frames["play"], run.task):
        given["--anyway"] = True
    fixed, columns = given.pop("--fix", {}), given.pop("--columns", None)
    if columns is not None:
        given["--columns"] = columns["file"]
    # argparse takes a value that begins with a dash for an option; a flag has none.
    parts = (
        (name, "" if value is True else shlex.quote(str(value))) for name, value in given.items()
    )
    written = [
        f"{name}={value}" if value.startswith("-") else f"{name} {value}".strip()
        for name, value in parts
    ]
    return " ".join(
        written + [f"--fix {shlex.quote(f'{role}={word}')}" for role, word in fixed.items()]
    )


SECTION = Section(
    order=120,
    link="Reproduce",
    title="How to get it again",
    needs=Needs({"play": "expected answer correct"}),
    values=_values,
    fragment=beside(__file__),
    half=True,
)
