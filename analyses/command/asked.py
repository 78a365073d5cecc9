"""The task and the files that options name, which are checked without a model."""

from argparse import Namespace
from pathlib import Path

from rgb_circuit.errors import InputError
from rgb_circuit.stimuli.tasks import DEFAULT, find, named
from rgb_circuit.task import Task


def check(options: Namespace) -> None:
    """Refuse tasks and files that do not exist, and numbers of trials that are none. This runs
    before anything imports torch, so that a typing error is answered at once.

    Raises:
        InputError: one of these.
    """
    for text in getattr(options, "tasks", ()):
        named_task(Namespace(**{**vars(options), "task": text}))
    trials = getattr(options, "trials", "published")
    if isinstance(trials, str) and not (trials == "published" or _positive(trials)):
        raise InputError(f"--trials is {trials!r}; give a number such as 32, or 'published'")
    for name in ("columns", "trials_file"):
        file = getattr(options, name, None)
        if file is not None and not Path(file).exists():
            raise InputError(f"there is no file {file}; correct --{name.replace('_', '-')}")


def _positive(text):
    return text.isdecimal() and int(text) > 0


def named_task(options: Namespace) -> Task | None:
    """The task that ``--task`` names, or None. Its trials file and its template become the
    options', unless they name another file.

    Raises:
        InputError: a task that does not exist, or that does not go with the other options.
    """
    if options.task is None:
        return None
    options.task, behind, template = options.task.partition(":template=")
    task = named(options.task)
    if behind:
        # Refuses a template of a task without templates before a model is loaded.
        task.asked_by(template)
        options.fix = {**options.fix, "template": template}
    if options.trials == "published" and task.name != DEFAULT:
        raise InputError(
            f"--trials published is the stimulus of {find(DEFAULT).says}, and --task says "
            f"{options.task!r}; leave one of them out"
        )
    if options.task.endswith(".toml"):
        options.task = str(Path(options.task).resolve())
    if task.draw is None and options.trials_file is None:
        if not task.trials:
            raise InputError(
                f"the task {task.name!r} draws no pictures and names no file of them; give "
                "--trials-file, or "
                'write trials = "pairs.csv" into it'
            )
        options.trials_file = task.trials
    return task
