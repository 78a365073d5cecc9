"""``rgb-circuit report``."""

from argparse import Namespace

from .arguments import Commands, add_folder, quiet_parent


def add_to(commands: Commands) -> None:
    """Add the subcommand, with its arguments."""
    parser = commands.add_parser(
        "report",
        parents=[quiet_parent()],
        help="finish a run from its parts, such as shards of it; write frames, figures and report",
        description=_report.__doc__,
    )
    add_folder(
        parser,
        "of one run, or of its shards (default: results)",
        "folders",
        nargs="*",
        metavar="folder",
    )
    add_folder(
        parser, "for all parts and what is made of them (default: the first folder)", "--out"
    )
    parser.set_defaults(run=_report, keeps=True)


def _report(options: Namespace) -> None:
    """Bring the parts of a run together and write frames, figures and report; what is missing is
    computed first."""
    from .. import study

    study.report(options.folders or ["results"], options.out)
