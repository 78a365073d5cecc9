"""``rgb-circuit export``."""

import json
from argparse import Namespace
from pathlib import Path

import shtab

from rgb_circuit.files.results import write_bytes

from .arguments import Commands, add_folder

FORMATS = ("json", "lists")


def add_to(commands: Commands) -> None:
    """Add the subcommand, with its arguments."""
    parser = commands.add_parser(
        "export",
        help="a run's heads as data for other tools, or the material for a paper",
        description=_export.__doc__,
    )
    add_folder(parser, "folder of a run")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--format",
        choices=FORMATS,
        default="json",
        help="json: heads by role with all their tests; lists: role → {layer: [heads]} "
        "(default: %(default)s)",
    )
    kind.add_argument(
        "--for",
        dest="reader",
        choices=("paper",),
        help="paper: heatmaps as PDF and SVG, the heads as a LaTeX table, a paragraph of methods, "
        "and CITATION.cff, in a folder",
    )
    parser.add_argument(
        "--out", metavar="PATH", help="file, or folder for a paper (default: print; FOLDER/paper)"
    ).complete = shtab.FILE  # type: ignore[attr-defined]
    parser.set_defaults(run=_export, quiet=False)


def _export(options: Namespace) -> None:
    """Print the heads of a finished run as JSON, or write what a paper needs of it. What is
    exported can be audited on other trials."""
    from rgb_circuit.keeping.exported import as_lists
    from rgb_circuit.keeping.saved_run import read_run

    from ..study import for_paper

    run = read_run(options.folder)
    if options.reader:
        folder = Path(options.out or Path(options.folder) / "paper")
        written = for_paper.write(run, folder)
        print(f"Wrote {', '.join(path.name for path in written)} to {folder}/")
        return
    content = json.loads(run.to_json())
    text = json.dumps(as_lists(content) if options.format == "lists" else content, indent=2)
    if options.out:
        print(f"Wrote {write_bytes(Path(options.out), (text + chr(10)).encode())}")
    else:
        print(text)
