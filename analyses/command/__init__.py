"""The command ``rgb-circuit``: one file per subcommand, with its arguments and its code.

Shared code is here (streams, errors, exit status), in `arguments`, in `asked` (the task) and in
`loading` (model and trials).

To add a subcommand, write a file with ``add_to`` and add its name to `SUBCOMMANDS`.

Modules that load torch, transformers, pandas or matplotlib take seconds. So the files of
subcommands import them inside functions: ``--help``, completion in a shell and what argparse
refuses need none of them. `loading` and `notices` always need them, and are imported inside
functions themselves.
"""

import argparse
import os
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from importlib.metadata import version

import shtab

from rgb_circuit.bars import line
from rgb_circuit.errors import InputError, NotDrawn, ServerError
from rgb_circuit.remote.jobs import Pending

from . import (
    attention,
    audit,
    calibrate,
    check,
    collect,
    compare,
    export,
    flows,
    hypotheses,
    play,
    report,
    run,
    say,
    tasks,
)
from .arguments import option_of
from .as_options import as_options

SUBCOMMANDS = (
    run, collect, report, audit, export, compare, calibrate, check, play, attention, say, flows,
    tasks, hypotheses,
)  # fmt: skip

COMPLETION = """\
completion of commands, options and folders in a shell: put one of these into its start-up file
  bash:  eval "$(rgb-circuit --print-completion bash)"
  zsh:   eval "$(rgb-circuit --print-completion zsh)"
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand.

    Returns:
        The exit status: 1 for a check that found a difference or a figure that could not be drawn,
        2 for input that cannot be used, 3 for a server that could not do it, 4 for jobs that are
        not done yet, 130 for a command that was stopped with Ctrl-C, 141 for one whose reader went
        away.
    """
    try:
        status = _main(arguments)
        # Flush here: a closed pipe is caught below, but not when Python exits.
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        # Ctrl-C before the subcommand started.
        line.clear()
        print("rgb-circuit: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # As in `rgb-circuit play | head`. Python flushes both streams once more at exit.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        # A shell's status for a program killed by SIGPIPE.
        return 141


def _main(arguments):
    options = command_parser().parse_args(arguments)
    # Figures go to files. A command in a notebook's cell inherits the notebook's backend, which may
    # be missing from its environment; importing matplotlib would then fail.
    os.environ["MPLBACKEND"] = "agg"
    if not options.quiet:
        line.say("starting")
    # Import only now that there is work to do.
    from rgb_circuit.running.memory import return_freed_memory

    from . import asked

    return_freed_memory()
    # Subcommands that load a model show a line of their own; the others start to print.
    if getattr(options, "model", None) is None:
        line.clear()
    kept = (
        "; what was finished is kept, and the same command continues from there"
        if options.keeps
        else ""
    )
    try:
        with warnings.catch_warnings():
            # Drop the file and line that Python prints.
            warnings.showwarning = partial(_warned, sys.stderr, options)
            # `notices` reports this for all trials at once.
            warnings.filterwarnings("ignore", message="trial .* has the same picture in")
            with _quiet(options):
                try:
                    asked.check(options)
                    return options.run(options) or 0
                finally:
                    line.clear()
    except InputError as error:
        print(f"rgb-circuit: {_in_options(error, options)}", file=sys.stderr)
        return 2
    except NotDrawn as error:
        print(f"rgb-circuit: {error}", file=sys.stderr)
        return 1
    except ServerError as error:
        print(f"rgb-circuit: {error}{kept}", file=sys.stderr)
        return 3
    except Pending as pending:
        print(
            f"{pending.waiting} parts wait for jobs on the server. Later: rgb-circuit collect "
            f"{shlex.quote(getattr(options, 'out', None) or options.folder)}"
        )
        return 4
    except KeyboardInterrupt:
        print(f"rgb-circuit: stopped{kept}", file=sys.stderr)
        return 130


def _warned(file, options, message, category, *where):
    line.clear()
    print(f"rgb-circuit: {_in_options(message, options)}", file=file)


def _in_options(message, options):
    fixed = {role: option_of(role) for role in getattr(options, "fix", {})}
    return as_options(str(message), vars(options), fixed)


@contextmanager
def _quiet(options: argparse.Namespace) -> Iterator[None]:
    """With --quiet, show no bars and print nothing that is also written to a folder. Warnings still
    appear: `_warned` holds the original stream."""
    if not options.quiet:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        if options.writes and not getattr(options, "dry_run", False):
            with redirect_stdout(nowhere):
                yield
        else:
            yield


def command_parser() -> argparse.ArgumentParser:
    """The parser of the command, with all its subcommands."""
    parser = argparse.ArgumentParser(
        prog="rgb-circuit",
        description="Find out which attention heads of a vision-language model do what.",
        epilog=COMPLETION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    shtab.add_argument_to(
        parser, "--print-completion", help="print a script that makes a shell complete this command"
    )
    parser.add_argument(
        "--version", action="version", version=f"rgb-circuit {version('rgb_circuit')}"
    )
    parser.set_defaults(keeps=False, writes=True)
    commands = parser.add_subparsers(required=True, metavar="command")
    for subcommand in SUBCOMMANDS:
        subcommand.add_to(commands)
    return parser
