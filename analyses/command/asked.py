"""The task and the files that options name, which are checked without a model."""

from argparse import Namespace
from pathlib import Path

from rgb_circuit.errors import InputError
from rgb_circuit.stimuli.tasks import DEFAULT, find, named, read_hypotheses
from rgb_circuit.task import Task


def check(options: Namespace) -> None:
    """Check ``--task``, ``--trials``, ``--seed``, ``--hypotheses`` and the files of tables. This
    runs before anything imports torch, so that a typing error is reported at once.

    Raises:
        InputError: a task or a file does not exist, or is not what it should be; the number of
            trials is not positive, or the seed is negative.
    """
    for text in getattr(options, "tasks", ()):
        named_task(Namespace(**{**vars(options), "task": text}))
    trials = getattr(options, "trials", "published")
    if isinstance(trials, str) and not (trials == "published" or _positive(trials)):
        raise InputError(f"--trials is {trials!r}; give a number such as 32, or 'published'")
    if (seed := getattr(options, "seed", 0)) < 0:
        raise InputError(f"--seed is {seed}; use a whole number from 0 on")
    if (hypotheses := getattr(options, "hypotheses", None)) is not None:
        read_hypotheses(hypotheses)
    for name in ("columns", "trials_file"):
        file = getattr(options, name, None)
        if file is not None and not Path(file).exists():
            raise InputError(f"there is no file {file}; correct --{name.replace('_', '-')}")


def _positive(text):
    return text.isdecimal() and int(text) > 0


def named_task(options: Namespace) -> Task | None:
    """The task that ``--task`` names, or None. The options take over the task's trials file, unless
    they name one, and its template.

    Raises:
        InputError: the task does not exist, or does not fit the other options.
    """
    if options.task is None:
        return None
    options.task, behind, template = options.task.partition(":template=")
    task = named(options.task)
    if behind:
        # Before a model is loaded, refuse a template of a task without templates.
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
