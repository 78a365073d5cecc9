"""``rgb-circuit tasks``."""

from argparse import Namespace

from .arguments import Commands, add_loading, quiet_parent

# How many trials tell whether a model plays a task.
GLANCE = 8


def add_to(commands: Commands) -> None:
    """Add the subcommand, with its arguments."""
    parser = commands.add_parser(
        "tasks",
        parents=[quiet_parent()],
        help="what can be asked: tasks, their pictures, roles of heads, and whether the model "
        "plays",
        description=_tasks.__doc__,
    )
    parser.add_argument(
        "--model",
        help="toy, planted, talker, a folder, or a hub id (default: talker, which knows the words "
        "of all)",
    )
    add_loading(parser)
    parser.set_defaults(run=_tasks, writes=False)


def _tasks(options: Namespace) -> None:
    """Print every task that ships: what it asks, its pictures and the roles of heads that it knows,
    and how often the model answers right on a few of its trials."""
    from rgb_circuit.calls.play import play
    from rgb_circuit.errors import InputError
    from rgb_circuit.loading.shipped import WordsNeeded
    from rgb_circuit.stimuli.drawing import trials
    from rgb_circuit.stimuli.tasks import tasks

    from .loading import loaded

    model = loaded(options, map(WordsNeeded.of_task, tasks().values()))
    for name, task in tasks().items():
        try:
            correct = play(model, trials(model, task, GLANCE))["correct"].dropna()
            plays = f"answers {correct.sum()} of {len(correct)} pictures correctly"
        except InputError as error:
            plays = f"cannot: {error}"
        print(f"{name}: {task.says}")
        print(f"  asks      {task.question}")
        if task.templates:
            ways = (f"--task '{name}:template={way}'" for way in task.templates)
            print(f"  or as     {', '.join(ways)}")
        print(f"  pictures  {', '.join(task.conditions)}")
        print(f"  answers   {', '.join(task.roles)}")
        print(f"  roles     {', '.join(hypothesis.name for hypothesis in task.hypotheses)}")
        print(f"  {model.name:9} {plays}")
