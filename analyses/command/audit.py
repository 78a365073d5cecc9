"""``rgb-circuit audit``."""

from argparse import Namespace
from pathlib import Path

import shtab

from rgb_circuit.errors import InputError
from rgb_circuit.files.locking import locked
from rgb_circuit.files.results import opened, write_frame

from .arguments import Commands, add_folder, trials_parent


def add_to(commands: Commands) -> None:
    """Add the subcommand, with its arguments."""
    parser = commands.add_parser(
        "audit",
        parents=[trials_parent()],
        help="does a published list of heads do what its paper says?",
        description=_audit.__doc__,
    )
    parser.add_argument(
        "lists",
        nargs="+",
        metavar="FILE",
        help="lists of heads, as JSON or CSV: {layer: [heads]}, [[layer, head], …], scores, or "
        "what rgb-circuit export wrote",
    ).complete = shtab.FILE  # type: ignore[attr-defined]
    add_folder(
        parser,
        "folder of a run, whose model and trials are used (default: those given by the options)",
        "--of",
        dest="folder",
    )
    parser.add_argument(
        "--top", type=int, help="how many heads with the largest scores, for a file of scores"
    )
    parser.add_argument(
        "--positions",
        default="end",
        help="where heads are restored and silenced: end, all, image, … (default: end)",
    )
    parser.add_argument(
        "--random-lists",
        type=int,
        default=200,
        help="random lists of the same layers to compare each list with (default: %(default)s)",
    )
    parser.add_argument(
        "--also",
        metavar="TASK",
        help="another task, on whose drawn trials the lists are also restored",
    )
    add_folder(
        parser, "for frames and page (default: %(default)s)", "--out", default="results/audit"
    )
    parser.set_defaults(run=_audit, keeps=True)


def _audit(options: Namespace) -> None:
    """Restore and silence lists of heads, and each of their heads, beside random lists of the same
    layers: a sentence per list, frames and a page. A command that was killed goes on where it
    stopped."""
    from rgb_circuit.keeping.manifest import manifest
    from rgb_circuit.keeping.saved_run import going_on
    from rgb_circuit.keeping.store import open_store
    from rgb_circuit.measuring.measure import follow
    from rgb_circuit.stimuli.drawing import trials as draw_trials
    from rgb_circuit.stimuli.tasks import task_of

    from .. import audit, study
    from ..audit.page import write_page
    from ..audit.sentences import sentences
    from .loading import check_folder, model_and_trials

    lists = _lists(options)
    check_folder(options)
    heads = [head for heads in lists.values() for head in heads]
    about = {
        name: getattr(options, name)
        for name in ("trials", "trials_file", "task", "seed", "random_lists")
    }
    with opened(options.out) as folder, locked(folder):
        model, trials = model_and_trials(options, heads)
        model, trials = going_on(options.out, model, trials)
        also = (
            {options.also: draw_trials(model, options.also, len(trials), options.seed)}
            if options.also
            else {}
        )
        steps = audit.audit.steps(
            model,
            trials,
            lists,
            positions=study.parse_positions(options.positions),
            random_lists=options.random_lists,
            also=also,
            seed=options.seed,
        )
        store = open_store(folder, manifest(model, trials, {"command": "audit", **about}))
        store.clean()
        frame = follow(model, steps, store, stage="auditing")
        write_frame(frame, folder, "audit")
        write_frame(audit.heads(frame), folder, "audit_heads")
        task = task_of(trials)
        said = {"model": model.name, "asks": task.asks or task.says or task.name}
        write_page(folder, frame, said, [Path(file).name for file in options.lists])
        store.clean(finished=True)
    print(f"{model.name}, n = {len(trials)} trials:")
    for name, sentence in sentences(frame).items():
        print(f"  {name}: {sentence}")
    print(f"\nWrote audit.html, audit.parquet and audit_heads.parquet to {options.out}/")


def _lists(options):
    """Name → list, from all files; read before a model is loaded."""
    from .. import audit

    lists = {}
    if options.top is not None and not any(map(_scored, options.lists)):
        raise InputError(
            f"--top takes the best of heads with scores, and {', '.join(options.lists)} has none; "
            "leave it out"
        )
    for file in options.lists:
        for name, heads in audit.read_lists(file, options.top).items():
            if name in lists:
                raise InputError(f"two lists are called {name!r}; rename one, or its file")
            lists[name] = heads
    return lists


def _scored(file):
    """Whether a file holds scores; also true if it cannot be read."""
    from .. import audit

    try:
        audit.read_lists(file)
    except InputError:
        return True
    return False
