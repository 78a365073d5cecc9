"""``rgb-circuit report``."""

from argparse import Namespace
from pathlib import Path

from rgb_circuit.errors import InputError

from .arguments import Commands, add_folder, quiet_parent


def add_to(commands: Commands) -> None:
    """Add the subcommand, with its arguments."""
    parser = commands.add_parser(
        "report",
        parents=[quiet_parent()],
        help="finish a run from its parts, such as shards; write frames, figures and report",
        description=_report.__doc__,
    )
    add_folder(
        parser,
        "folder of a run, or the folders of its shards (default: results)",
        "folders",
        nargs="*",
        metavar="folder",
    )
    add_folder(parser, "for all parts and the results (default: the first folder)", "--out")
    parser.set_defaults(run=_report, keeps=True)


def _report(options: Namespace) -> None:
    """Bring the parts of a run together and write frames, figures and report; what is missing is
    computed first."""
    from .. import study
    from ..study import several

    folders = options.folders or ["results"]
    if several.holds_several(folders[0]):
        if len(folders) > 1 or options.out is not None:
            raise InputError(
                f"{folders[0]} holds a run for each of several tasks, and its pages are written "
                "where they are; give this folder alone, without --out"
            )
        several.report(Path(folders[0]))
        return
    study.report(folders, options.out)
