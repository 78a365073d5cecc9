"""``rgb-circuit say``."""

from argparse import Namespace

from rgb_circuit.errors import InputError

from .arguments import Commands, trials_parent


def add_to(commands: Commands) -> None:
    """Add the subcommand, with its arguments."""
    parser = commands.add_parser(
        "say",
        parents=[trials_parent()],
        help="what the model says about a picture, with heads scaled or redirected and without",
        description=_say.__doc__,
    )
    parser.add_argument(
        "--scale",
        metavar="LAYER.HEAD=FACTOR",
        action="append",
        default=[],
        help="multiply the output of a head, such as 19.6=0; may be given several times",
    )
    parser.add_argument(
        "--look",
        metavar="LAYER.HEAD=ROW,COLUMN[:BIAS]",
        action="append",
        default=[],
        help="make a head look at a place of the picture: by a bias on its attention, or at "
        "nothing else; may be given several times",
    )
    parser.add_argument("--question", help="another question than the trial's")
    parser.add_argument("--condition", default="clean", help="which picture (default: %(default)s)")
    parser.add_argument(
        "--trial", type=int, default=0, help="which of the trials, from 0 (default: %(default)s)"
    )
    parser.add_argument(
        "--tokens", type=int, default=20, help="tokens to say at most (default: %(default)s)"
    )
    parser.set_defaults(run=_say, writes=False)


def _say(options: Namespace) -> None:
    """Print what the model says about one picture as it is, and with heads scaled or made to look
    elsewhere, at every token from which it says something."""
    from ..study import say
    from .loading import check_trial, model_and_trials

    if options.tokens < 1:
        raise InputError(f"--tokens is {options.tokens}; use a whole number from 1 on")
    scales, looks = (
        list(map(say.parse_scale, options.scale)),
        list(map(say.parse_look, options.look)),
    )
    heads = [(edit.layer, edit.head) for edit in scales if edit.head is not None]
    heads += [head for head, *_ in looks]
    model, trials = model_and_trials(options, heads)
    # Of a table, rows may be left out.
    check_trial(options.trial, len(trials))
    trial = trials[options.trial]
    say.say(model, trial, options.condition, scales, looks, options.question, options.tokens)
