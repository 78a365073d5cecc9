"""The model and the trials of a subcommand: from a run's folder, or from its options."""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

from rgb_circuit.bars import saying
from rgb_circuit.conversation import TEMPLATE
from rgb_circuit.edits import POSITIONS, check_heads
from rgb_circuit.errors import InputError, OneSize
from rgb_circuit.keeping.saved_run import recorded_model, recorded_run
from rgb_circuit.loading import shape_of
from rgb_circuit.loading.shipped import WordsNeeded, shipped_for
from rgb_circuit.loading.sketch import sketch
from rgb_circuit.stimuli.drawing import trials as draw_trials
from rgb_circuit.stimuli.tasks import DEFAULT, find, read_hypotheses, task_of, tasks
from rgb_circuit.stimuli.tasks.rgb import (
    PUBLISHED_CANVAS,
    PUBLISHED_GRID,
    PUBLISHED_TILE,
    published_trial,
)
from rgb_circuit.tables.columns_file import read_columns, sheet_of
from rgb_circuit.tables.trials_from import Sheet, TrialsFrom
from rgb_circuit.task import PLAIN, Task
from rgb_circuit.trial import Trial
from rgb_circuit.trials_file import TrialsFile
from rgb_circuit.vlm import Vlm

from .. import study
from ..study.flows import check_role, groups_from
from . import notices
from .arguments import option_of
from .asked import named_task

# Makes the trials for a model.
Making: TypeAlias = Callable[[Vlm], list[Trial]]


def check_folder(options: Namespace) -> None:
    """Check a run's folder.

    Raises:
        InputError: the folder holds no run, or options also choose model or trials.
    """
    if options.folder is None:
        return
    chosen = [name for name, default in options.drawn.items() if getattr(options, name) != default]
    if chosen:
        raise InputError(
            f"--{chosen[0].replace('_', '-')} and the folder {options.folder} both say which model "
            "and trials; leave one of them out"
        )
    recorded_run(options.folder)


@dataclass(frozen=True)
class PlannedTrials:
    """Trials as far as they are known without a model.

    Attributes:
        needed: the words that a model must know.
        make: makes the trials for a model.
        n: the number of trials; an upper bound if a table may leave rows out.
        conditions: that the trials may have.
        bare: the trials, or a few like them, made without a model; empty if only a model's can be.
        grid: tiles per side of given pictures; None for drawn pictures and pictures without tiles.
    """

    needed: list[WordsNeeded]
    make: Making
    n: int
    conditions: tuple[str, ...]
    bare: Sequence[Trial] = ()
    grid: int | None = None


def model_and_trials(
    options: Namespace, heads: Iterable[tuple[int, int]] = ()
) -> tuple[Vlm, list[Trial]]:
    """Model and trials of the given run's folder, else those that the options choose.

    Args:
        heads: that the model must have.

    Raises:
        InputError: impossible options; if no model is needed to see that, before one is loaded.
    """
    if getattr(options, "folder", None) is not None:
        recorded = recorded_run(options.folder)
        check_heads(recorded_model(recorded), [*heads])
        trials = study.trials_again(options.folder, recorded)
        _check_names(options, trials)
        return study.reloaded(recorded), trials
    planned = _as_options_say(options, take_task(options))
    _check_names(options, planned.bare)
    if hasattr(options, "trial"):
        check_trial(options.trial, planned.n)
        _check_condition(options.condition, planned.conditions)
    also = getattr(options, "also", None)
    needed = [*planned.needed, *([WordsNeeded.of_task(find(also))] if also else [])]
    model = loaded(options, needed, heads, planned.grid)
    return model, planned.make(model)


def check_trial(number: int, n: int) -> None:
    """Raise InputError unless ``--trial`` is one of n trials."""
    if not 0 <= number < n:
        raise InputError(f"--trial is {number}; there are {n} trials, from 0 on")


def _check_condition(name, known):
    if name not in known:
        raise InputError(f"--condition is {name!r}; use one of {', '.join(known)}")


def _check_names(options, bare):
    """Check a role and positions that options name, as far as the trials are known."""
    if not bare:
        return
    check_role(getattr(options, "role", None), bare)
    boxes = {box for trial in bare for named in trial.boxes.values() for box in named}
    for option in ("positions", "queries", "keys"):
        # `run` and `audit` name one group, `layers` and `knockout` several.
        text = getattr(options, option, None) or "end"
        grouped = hasattr(options, "role")
        groups = groups_from(text, f"--{option}") if grouped else [study.parse_positions(text)]
        for words in groups:
            if isinstance(words, str) and words not in {*POSITIONS, *boxes}:
                also = f" or a box of the trials ({', '.join(sorted(boxes))})" if boxes else ""
                raise InputError(
                    f"--{option} names {words!r}; use {', '.join(POSITIONS)}{also}, or token "
                    "positions such as 5"
                )


def several_tasks(options: Namespace) -> tuple[Vlm, dict[str, tuple[Namespace, list[Trial]]]]:
    """The model, and name → options and trials of each task that ``--task`` names. The name is the
    task's, or ``task:template`` if its template differs from that of ``--fix``.

    Raises:
        InputError: as `model_and_trials`, or two tasks with the same name and template.
    """
    by_name: dict[str, tuple[Namespace, Task]] = {}
    usual = options.fix.get("template", PLAIN)
    for text in options.tasks:
        task_options = Namespace(**{**vars(options), "task": text})
        task = take_task(task_options)
        assert task is not None, "one is named"
        template = task_options.fix.get("template", PLAIN)
        name = task.name if template == usual else f"{task.name}:{template}"
        if name in by_name:
            raise InputError(
                f"--task names {name!r} twice; name each task once, ask it in another way with "
                f"--task {task.name}:template=NAME, or give one of the two another name"
            )
        by_name[name] = task_options, task
    prepared = {
        name: _of_task(name, partial(_as_options_say, task_options, task))
        for name, (task_options, task) in by_name.items()
    }
    model = loaded(options, [words for one in prepared.values() for words in one.needed])
    return model, {
        name: (by_name[name][0], _of_task(name, partial(one.make, model)))
        for name, one in prepared.items()
    }


def _of_task(name, do):
    """Call ``do``, with the task's name in its errors."""
    try:
        return do()
    except InputError as error:
        raise InputError(f"--task {name}: {error}") from error


def _as_options_say(options: Namespace, task: Task | None) -> PlannedTrials:
    _check_fixed(options)
    _take_columns(options)
    made = _drawn if options.trials_file is None else _given
    return made(options, task)


def take_task(options: Namespace) -> Task | None:
    """The task that ``--task`` names, with the hypotheses of ``--hypotheses``; None without both
    options. The options take over the task's trials file, unless they name one, and its template.

    Raises:
        InputError: the task or the hypotheses cannot be read, or do not fit together.
    """
    task = named_task(options)
    file = getattr(options, "hypotheses", None)
    if file is None:
        return task
    if options.trials == "published" and options.trials_file is None:
        raise InputError(
            "--hypotheses are tested over trials, and the published stimulus is one; draw some "
            "with --trials 32"
        )
    hypotheses = read_hypotheses(file)
    if task is None and options.trials_file is not None:
        _take_columns(options)
        task = task_of(_before_a_model(_read(options)))
    try:
        return (task or find(DEFAULT)).with_hypotheses(hypotheses)
    except InputError as error:
        raise InputError(f"{Path(file).name}: {error}") from error


def loaded(
    options: Namespace,
    needed: Iterable[WordsNeeded],
    heads: Iterable[tuple[int, int]] = (),
    grid: int | None = None,
) -> Vlm:
    """The model that the options name, else the shipped one that knows the ``needed`` words; for
    ``--dry-run`` without weights. A model that takes pictures of any size is shown ``grid`` tiles
    per side, unless ``--tiles`` is given.

    Raises:
        InputError: no shipped model knows the words, the model cannot be loaded, or it lacks one of
            ``heads`` (only its configuration is read for that).
    """
    if options.model is None:
        options.model, says = shipped_for(needed)
        if says:
            print(says, file=sys.stderr, flush=True)
    if heads := [*heads]:
        check_heads(shape_of(options.model, options.revision), heads)
    if grid is None or options.tiles is not None:
        return _loaded(options)
    with_grid = Namespace(**{**vars(options), "tiles": grid})
    try:
        model = _loaded(with_grid)
    except OneSize:
        return _loaded(options)
    options.tiles = grid
    return model


def _loaded(options):
    how = dict(
        device_map=options.device,
        dtype=options.dtype,
        revision=options.revision,
        tiles=options.tiles,
    )
    if getattr(options, "dry_run", False) and options.remote is False:
        with saying(f"reading what {options.model} is like"):
            return sketch(options.model, **how)
    return study.loaded(options.model, remote=options.remote, **how)


def _take_columns(options):
    """Replace ``--columns`` by the contents of its file."""
    if options.columns is None or not isinstance(options.columns, str):
        return
    if options.trials_file is None:
        raise InputError("--columns says how a table is read; name the table with --trials-file")
    options.columns = read_columns(options.columns)


def _read(options):
    """The table of ``--trials-file``."""
    if options.columns is None:
        return TrialsFile.read(options.trials_file)
    return sheet_of(options.trials_file, options.columns)


def _before_a_model(file):
    """The trials of a table as far as they can be made without a model."""
    return file.bare() if isinstance(file, Sheet) else file.trials(TEMPLATE)


def _check_fixed(options):
    """Refuse fixed words unless trials are drawn."""
    if options.fix and (options.trials_file is not None or options.trials == "published"):
        raise InputError(
            f"{option_of(next(iter(options.fix))).strip(' =')} holds a word of drawn trials, and "
            "these are given; leave it out, or draw trials with --trials 32"
        )


def _given(options, task):
    """The trials of a file; making them prints notices about their pictures."""
    file = _read(options)
    # Report faults of the file before a model is loaded.
    bare = _before_a_model(file)
    # Pictures without a task go to the toy by default, whatever the question.
    named = options.task is not None
    needed = [WordsNeeded.of_trials(bare, task.name)] if named else []

    def make(model):
        made = file.trials(model) if isinstance(file, Sheet) else file.trials(model.template)
        trials = [replace(trial, task=task) for trial in made]
        notices.about_pictures(model, trials)
        if isinstance(made, TrialsFrom):
            notices.about_rows(made)
            return TrialsFrom(trials, made.rows)
        return trials

    conditions = dict.fromkeys(name for trial in bare for name in trial.images)
    grids = {trial.grid for trial in bare}
    grid = grids.pop() if len(grids) == 1 else None
    return PlannedTrials(needed, make, len(bare), tuple(conditions), bare, grid)


def _drawn(options, task):
    """Drawn trials, or the published one."""
    task = task or find(DEFAULT)
    template = options.fix.get("template", PLAIN) if task.templates else PLAIN
    needed = [WordsNeeded.of_task(task, template)]
    bare = _drawn_without_a_model(task, options)
    if options.trials == "published":
        return PlannedTrials(needed, _published, 1, tuple(task.conditions), bare)
    n = int(options.trials)

    def make(model):
        return draw_trials(model, task, n, options.seed, **options.fix)

    return PlannedTrials(needed, make, n, tuple(task.conditions), bare)


def _drawn_without_a_model(task, options):
    """A trial of a task that ships, on LLaVA-1.5's board and with all words of the task; drawing it
    also reports words that cannot be fixed. Somebody else's task is drawn for models alone."""
    if not any(task.draw is known.draw for known in tasks().values()):
        return []
    return task.draw(PUBLISHED_CANVAS, tuple(task.vocabulary), 1, options.seed, options.fix)


def _published(model):
    if model.grid != (PUBLISHED_GRID, PUBLISHED_GRID):
        rows, columns = model.grid
        raise InputError(
            f"the published stimulus has {PUBLISHED_GRID} × {PUBLISHED_GRID} tiles, and "
            f"{model.name} sees {rows} × {columns} image "
            f"tokens, where its tile (row {PUBLISHED_TILE[0]}, column {PUBLISHED_TILE[1]}) does "
            "not exist; draw trials for this model "
            "with --trials 32"
        )
    return [published_trial(model.canvas)]
