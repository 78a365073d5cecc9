"""``rgb-circuit knockout`` and ``rgb-circuit layers``."""

from argparse import Namespace
from contextlib import contextmanager

from rgb_circuit.edits import OF_A_LAYER
from rgb_circuit.files.results import opened

from .arguments import Commands, add_folder, trials_parent


def add_to(commands: Commands) -> None:
    """Add both subcommands, with their arguments."""
    for flow in (_knockout_parser(commands), _layers_parser(commands)):
        add_folder(
            flow,
            "folder of a run, whose model and trials are used and whose report is extended",
            nargs="?",
        )
        flow.add_argument("--role", help="role of the answer to draw (default: the right one)")
        add_folder(
            flow,
            "for the frame and the figure if no run is given (default: results/COMMAND)",
            "--out",
        )
        flow.set_defaults(keeps=True)


def _knockout_parser(commands):
    parser = commands.add_parser(
        "knockout",
        parents=[trials_parent()],
        help="which positions must attend to which others, and in which layers",
        description=_knockout.__doc__,
    )
    parser.add_argument(
        "--queries",
        default="end",
        help="positions that attend: groups such as end,question (default: %(default)s)",
    )
    parser.add_argument(
        "--keys",
        help="positions cut off: groups such as tile,rest,first or positions as 40+41 (default: "
        "those that the trials have)",
    )
    parser.add_argument(
        "--window", type=int, default=1, help="number of consecutive layers (default: %(default)s)"
    )
    parser.set_defaults(run=_knockout)
    return parser


def _layers_parser(commands):
    parser = commands.add_parser(
        "layers",
        parents=[trials_parent()],
        help="at which layers and positions of the prompt the answer can be restored",
        description=_layers.__doc__,
    )
    parser.add_argument(
        "--component",
        default="resid_pre",
        choices=OF_A_LAYER,
        help="what is restored: %(choices)s (default: %(default)s)",
    )
    parser.add_argument(
        "--positions",
        help="groups such as tile,rest,question,end or positions as 40+41 (default: those that the "
        "trials have)",
    )
    parser.set_defaults(run=_layers)
    return parser


def _knockout(options: Namespace) -> None:
    """Keep some positions from looking at others in every window of layers, and draw what the
    answer loses."""
    from ..study import flows

    queries = flows.groups_from(options.queries, "--queries")
    keys = options.keys and flows.groups_from(options.keys, "--keys")
    with _of_a_run(options, "knockout") as asked:
        flows.knockout(*asked, queries=queries, keys=keys, window=options.window, role=options.role)


def _layers(options: Namespace) -> None:
    """Restore every layer at groups of positions, and draw what of the answer comes back."""
    from ..study import flows

    positions = options.positions and flows.groups_from(options.positions, "--positions")
    with _of_a_run(options, "layers") as asked:
        flows.layers(*asked, component=options.component, positions=positions, role=options.role)


@contextmanager
def _of_a_run(options, name):
    """Model, trials, folder and options: of the named run, else of the command itself; its new
    folder is removed again if nothing is written."""
    from rgb_circuit.keeping.saved_run import recorded_run

    from .loading import check_folder, model_and_trials

    check_folder(options)
    if options.folder is not None:
        model, trials = model_and_trials(options)
        yield model, trials, options.folder, recorded_run(options.folder)["options"]
        return
    with opened(options.out or f"results/{name}") as folder:
        model, trials = model_and_trials(options)
        chosen = {
            name: getattr(options, name)
            for name in (
                "task", "fix", "trials", "seed", "trials_file", "columns", "device", "dtype",
            )
        }  # fmt: skip
        yield model, trials, folder, {"command": name, **chosen}
