"""``rgb-circuit collect``."""

from argparse import Namespace
from pathlib import Path

from rgb_circuit.files.locking import locked
from rgb_circuit.files.results import open_folder

from .arguments import Commands, add_folder, quiet_parent


def add_to(commands: Commands) -> None:
    """Add the subcommand, with its arguments."""
    parser = commands.add_parser(
        "collect",
        parents=[quiet_parent()],
        help="fetch what a server has done for a detached run, and continue the run",
        description=_collect.__doc__,
    )
    add_folder(parser, "folder of the run (default: %(default)s)", nargs="?", default="results")
    parser.set_defaults(run=_collect, keeps=True)


def _collect(options: Namespace) -> None:
    """Take what the server of a detached run has done, hand in what is missing, and write frames,
    figures and report when nothing is."""
    from rgb_circuit.keeping.manifest import read_manifest

    from .. import study

    folder = Path(options.folder)
    read_manifest(folder)
    with locked(open_folder(folder)):
        study.collect(folder)
