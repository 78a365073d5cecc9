"""``rgb-circuit hypotheses``."""

from argparse import Namespace

import shtab

from .arguments import Commands, quiet_parent


def add_to(commands: Commands) -> None:
    """Add the subcommand, with its arguments."""
    parser = commands.add_parser(
        "hypotheses",
        parents=[quiet_parent()],
        help="what hypotheses in a file claim, need and cost, and whether they can fail; loads no "
        "model",
        description=_hypotheses.__doc__,
    )
    parser.add_argument(
        "file",
        metavar="FILE.toml",
        help="a file of hypotheses, as for rgb-circuit run --hypotheses",
    ).complete = shtab.FILE  # type: ignore[attr-defined]
    parser.add_argument(
        "--task",
        metavar="NAME | FILE.toml | MODULE:NAME",
        default="rgb",
        help="the task whose pictures and answers they are about (default: %(default)s)",
    )
    parser.add_argument(
        "--trials", type=int, default=32, help="planned number of trials (default: %(default)s)"
    )
    parser.add_argument(
        "--heads",
        type=int,
        default=1024,
        help="number of heads of the model (default: %(default)s)",
    )
    parser.set_defaults(run=_hypotheses, writes=False)


def _hypotheses(options: Namespace) -> None:
    """Print of a file of hypotheses what each predicts in words, whether it can fail, and which
    pictures and answers it needs; which of them no claim tells apart, and which no head can meet
    together; how many sweeps they cost, and the smallest effect that so many trials would show.
    Nothing is measured."""
    from rgb_circuit.stimuli.tasks import named, read_hypotheses

    # Before torch is imported, so that a typing error is reported at once.
    hypotheses, task = read_hypotheses(options.file), named(options.task)
    from ..evidence import lint

    print(*lint.lines(hypotheses, task, options.trials, options.heads), sep="\n")
