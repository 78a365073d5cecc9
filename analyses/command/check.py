"""``rgb-circuit check``."""

from argparse import Namespace

from .arguments import Commands, add_loading, quiet_parent


def add_to(commands: Commands) -> None:
    """Add the subcommand, with its arguments."""
    parser = commands.add_parser(
        "check",
        parents=[quiet_parent()],
        help="are a model's numbers right here? patched logits against plain hooks, time, memory",
        description=_check.__doc__,
    )
    parser.add_argument(
        "model",
        nargs="?",
        default="toy",
        help="toy, planted, talker, a folder, or a hub id (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="seed of trials, layers and heads (default: %(default)s)",
    )
    add_loading(parser)
    parser.set_defaults(run=_check, writes=False)


def _check(options: Namespace) -> int:
    """Hold ten patched logits, of every component, against plain PyTorch hooks on the model's own
    weights, and print what else shapes its numbers: tokens, kernel, number format, noise floor,
    time and memory."""
    from ..study import printed
    from ..study.check import check
    from .loading import loaded

    model = loaded(options, ())
    result = check(model, seed=options.seed)
    printed.check(model, result)
    return 0 if result.agrees else 1
