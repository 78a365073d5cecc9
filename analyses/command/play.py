"""``rgb-circuit play``."""

from argparse import Namespace

from .arguments import Commands, trials_parent


def add_to(commands: Commands) -> None:
    """Add the subcommand, with its arguments."""
    parser = commands.add_parser(
        "play",
        parents=[trials_parent()],
        help="does the model play the game at all?",
        description=_play.__doc__,
    )
    parser.set_defaults(run=_play, writes=False)


def _play(options: Namespace) -> None:
    """Show the model every picture and print how often it answers right."""
    from rgb_circuit.calls.play import Played
    from rgb_circuit.measuring.measure import measure
    from rgb_circuit.stimuli.tasks import task_of

    from ..study import printed
    from .loading import model_and_trials

    model, trials = model_and_trials(options)
    # Not by `play`, whose warning would say what is printed.
    [played] = measure(model, [Played.of(trials)], stage="playing")
    printed.game(model, played, task_of(trials), trials)
