"""``rgb-circuit run``."""

import sys
from argparse import Namespace
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

import shtab

from rgb_circuit.edits import OF_A_HEAD
from rgb_circuit.errors import InputError
from rgb_circuit.files.locking import locked
from rgb_circuit.files.results import opened

from .arguments import Commands, add_folder, trials_parent

# Options that several tasks cannot share, or that a comparison of tasks does not support → their
# defaults.
OF_ONE_TASK = {
    "trials_file": None, "columns": None, "hypotheses": None, "heads": None, "shard": None,
    "component": "z", "positions": "end", "detach": False, "json": False,
}  # fmt: skip


def add_to(commands: Commands) -> None:
    """Add the subcommand, with its arguments."""
    parser = commands.add_parser(
        "run",
        parents=[trials_parent()],
        help="play, patch every head, draw the three panels, give each head its role",
        description=_run.__doc__,
    )
    add_folder(
        parser,
        "for frames, figures and manifest (default: %(default)s)",
        "--out",
        default="results",
    )
    parser.add_argument("--name", help="what the report calls this run (default: the model's name)")
    parser.add_argument(
        "--hypotheses",
        metavar="FILE.toml",
        help="claims about heads that replace those of the task; rgb-circuit hypotheses "
        "FILE.toml says what such a file needs",
    ).complete = shtab.FILE  # type: ignore[attr-defined]
    parser.add_argument(
        "--positions",
        default="end",
        help="end, all, image, text, tile, rest, question, first, or token positions like 5,-1; "
        "write --positions=-1 if the first is negative (default: %(default)s)",
    )
    parser.add_argument(
        "--heads",
        metavar="L.H,L.H",
        help="restore only these heads, such as 3.0,3.1; roles are then not tested (default: all)",
    )
    parser.add_argument(
        "--component",
        default="z",
        choices=OF_A_HEAD,
        help="what is restored of each head: %(choices)s; roles are tested only with z "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--only-correct",
        action="store_true",
        help="leave out trials with a wrong answer to any picture, from all but the game",
    )
    parser.add_argument(
        "--flips-only",
        action="store_true",
        help="leave out trials unless the model answers the clean picture and those with another "
        "right answer correctly, from all but the game",
    )
    parser.add_argument(
        "--steer",
        action="store_true",
        help="redirect the attention of each of the strongest eight heads, by more biases; without "
        "this option, the heads found together, and single heads only where pictures are small",
    )
    _add_ways(parser)
    parser.set_defaults(run=_run, keeps=True)


def _add_ways(parser):
    """Add the arguments for how to run and what to print."""
    parser.add_argument(
        "--anyway",
        action="store_true",
        help="continue with a model that does not play the game",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="run nothing and read no weights: print the cost in forwards, time, memory and disk",
    )
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help="measure only the i-th of n shards of the trials, from 1; rgb-circuit report merges "
        "them",
    )
    parser.add_argument(
        "--detach",
        action="store_true",
        help="with --remote: submit the jobs and do not wait; rgb-circuit collect continues",
    )
    parser.add_argument(
        "--no-pictures",
        action="store_true",
        help="leave pictures out of report.html, if they may not be shared (they stay in "
        "stimuli.parquet)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the verdict as JSON for machines, and nothing else",
    )


def _run(options: Namespace) -> None:
    """Play the game, patch every head, test what each head is, and write frames, figures, report
    and a manifest. A run that was killed goes on where it stopped when the same command is given
    again."""
    from rgb_circuit.keeping.saved_run import read_run

    from .. import study
    from ..study import several
    from .loading import model_and_trials

    heads = () if options.heads is None else study.parse_heads(options.heads)
    shard = _shard(options.shard)
    if options.json and (shard or options.detach or options.dry_run):
        raise InputError(
            "--json prints a finished run's verdict; leave out --shard, --detach and --dry-run"
        )
    if options.detach and (options.remote is False or shard):
        raise InputError(
            "--detach hands all trials to a server; give --remote with it, and no --shard"
        )
    several.check_folder(options.out, len(options.tasks) > 1)
    if len(options.tasks) > 1:
        _run_several(options)
        return
    if options.dry_run:
        model, trials = model_and_trials(options, heads)
        study.estimate(model, trials, _chosen(options), shard)
        return
    with opened(options.out) as folder, locked(folder, shard):
        model, trials = model_and_trials(options, heads)
        # Keep text for people out of the JSON on standard output.
        with redirect_stdout(sys.stderr) if options.json else nullcontext():
            study.run(
                folder, model, trials, _chosen(options), shard, options.detach, options.anyway
            )
    if options.json:
        print(read_run(options.out).to_json())


def _run_several(options):
    """Run every task of ``--task`` in a folder of its own, and compare them."""
    from ..study import several
    from .loading import several_tasks

    given = [
        name
        for name, alone in OF_ONE_TASK.items()
        if getattr(options, name) != alone and getattr(options, name) is not None
    ]
    if options.trials == "published":
        given.append("trials published")
    if given:
        raise InputError(
            f"--{given[0].replace('_', '-')} goes with one task, and here are "
            f"{len(options.tasks)}; leave it out, or name one task"
        )
    if options.dry_run:
        model, tasks = several_tasks(options)
        several.estimate(model, _asked(tasks))
        return
    with opened(options.out) as folder, locked(folder):
        model, tasks = several_tasks(options)
        several.run(folder, model, _asked(tasks), options.anyway)


def _asked(tasks):
    """Name of a task → its trials and options, for `analyses.study.several`."""
    from ..study.several import Asked

    return {name: Asked(trials, _chosen(own)) for name, (own, trials) in tasks.items()}


def _chosen(options):
    """The options for the run's manifest, after `model_and_trials` has taken over the task's trials
    file and read the columns."""
    chosen = {
        name: getattr(options, name)
        for name in ("name", "positions", "only_correct", "device", "dtype", "tiles")
    }
    if options.flips_only:
        chosen["flips_only"] = True
    if options.steer:
        chosen["steer"] = True
    if options.no_pictures:
        chosen["no_pictures"] = True
    if options.heads is not None:
        chosen["heads"] = options.heads
    if options.component != "z":
        chosen["component"] = options.component
    if options.task is not None:
        chosen["task"] = options.task
    if options.hypotheses is not None:
        chosen["hypotheses"] = str(Path(options.hypotheses).resolve())
    if options.trials_file is not None:
        if options.columns is not None:
            chosen["columns"] = options.columns
        return chosen | {"trials_file": str(Path(options.trials_file).resolve())}
    if options.fix:
        chosen["fix"] = options.fix
    return chosen | {"trials": options.trials, "seed": options.seed}


def _shard(text):
    """``"1/4"`` as (1, 4), or None."""
    if text is None:
        return None
    which, slash, of = text.partition("/")
    if not (slash and which.isdecimal() and of.isdecimal() and 1 <= int(which) <= int(of)):
        raise InputError(f"--shard is {text!r}; write it as i/n, from 1/n to n/n, such as 1/4")
    return int(which), int(of)
