"""``rgb-circuit attention``."""

from argparse import Namespace

from rgb_circuit.errors import InputError
from rgb_circuit.files.results import opened, write_figure

from .arguments import Commands, add_folder, trials_parent


def add_to(commands: Commands) -> None:
    """Add the subcommand, with its arguments."""
    parser = commands.add_parser(
        "attention",
        parents=[trials_parent()],
        help="where a head looks from [end], on the first four trials",
        description=_attention.__doc__,
    )
    add_folder(
        parser,
        "folder of a run, whose model and trials are used (default: those given by the options)",
        nargs="?",
    )
    parser.add_argument("--head", required=True, help="layer.head, both from 0, such as 3.2")
    add_folder(parser, "for the figure (default: the run's, or results)", "--out")
    parser.set_defaults(run=_attention)


def _attention(options: Namespace) -> None:
    """Draw where a head looks from [end] on the pictures of the first four trials: those of a run,
    or those that the options say."""
    from rgb_circuit.plots.canvas import without_formulas

    from .loading import check_folder, model_and_trials

    layer, head = _one_head(options.head)
    check_folder(options)
    with opened(options.out or options.folder or "results") as folder:
        model, trials = model_and_trials(options, [(layer, head)])
        figure = _drawn(model, trials[:4], layer, head)
        print(
            f"Wrote {write_figure(without_formulas(figure), folder, f'attention_{layer}.{head}')}"
        )


def _one_head(text):
    from ..study import parse_heads

    heads = parse_heads(text, "--head")
    if len(heads) > 1:
        raise InputError(f"--head is {text!r}; name one head, such as {text.split(',')[0]}")
    return heads[0]


def _drawn(model, trials, layer, head):
    """A figure with a row per trial and a column per condition."""
    from rgb_circuit.calls.attention import attention_from_end, over_picture
    from rgb_circuit.pictures.as_seen import as_seen
    from rgb_circuit.plots import attention_over_picture
    from rgb_circuit.plots.canvas import brief, model_title, new_figure

    conditions = _conditions(trials)
    figure = new_figure(3.4 * len(conditions), 3.6 * len(trials) + 0.4)
    axes = figure.subplots(len(trials), len(conditions), squeeze=False)
    row = {trial.name: axis for trial, axis in zip(trials, axes)}
    seen = {
        (trial.name, name): as_seen(model, trial.images[name])
        for trial in trials
        for name in conditions
    }
    for trial, condition, pattern in attention_from_end(
        model, trials, conditions, heads=[(layer, head)]
    ):
        attention_over_picture(
            over_picture(model, trial, pattern[layer, head], condition),
            seen[trial.name, condition],
            tile=trial.tile,
            ax=(ax := row[trial.name][conditions.index(condition)]),
        )
        role = trial.expected.get(condition)
        shown = [condition] if role is None else [condition, trial.accepted[role]]
        ax.set_title(": ".join(map(brief, shown)), fontsize=10)
    figure.suptitle(
        f"Head {layer}.{head} of {model_title(model.name)} from [end]: grey where it does not "
        f"look, n = {len(trials)} trials"
    )
    return figure


def _conditions(trials):
    """The conditions that the task restores heads in, else those that all trials have; at most
    five, so that they fit side by side."""
    from rgb_circuit.stimuli.tasks import task_of

    conditions = [
        name for name in trials[0].images if all(name in trial.images for trial in trials)
    ]
    wanted = ["clean", *task_of(trials).targets]
    return (wanted if set(wanted) <= set(conditions) else conditions)[:5]
