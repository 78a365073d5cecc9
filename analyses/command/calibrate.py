"""``rgb-circuit calibrate``."""

import shlex
import warnings
from argparse import Namespace
from importlib.metadata import version

import shtab

from rgb_circuit.files.locking import locked
from rgb_circuit.files.results import opened, write_figure, write_frame

from .arguments import Commands, add_folder, add_loading, quiet_parent


def add_to(commands: Commands) -> None:
    """Add the subcommand, with its arguments."""
    parser = commands.add_parser(
        "calibrate",
        parents=[quiet_parent()],
        help="how often are verdicts right? measure it on models whose heads are known",
        description=_calibrate.__doc__,
    )
    parser.add_argument(
        "--models",
        type=int,
        default=1,
        help="planted models per level of noise, and of each kind per number of trials (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--random",
        type=int,
        default=5,
        help="models of each of the three kinds in which no head has a role (default: %(default)s)",
    )
    parser.add_argument(
        "--trials",
        type=int,
        help="trials per model (default: 32 over levels of noise; 16, 32 and 64 over kinds of "
        "models)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="seed of the models, or of the trials (default: %(default)s)",
    )
    parser.add_argument(
        "--hypotheses",
        metavar="FILE.toml",
        help="calibrate verdicts on these hypotheses instead (a file as for rgb-circuit run), on "
        "--model and its trials",
    ).complete = shtab.FILE  # type: ignore[attr-defined]
    parser.add_argument(
        "--model",
        help="with --hypotheses: as for rgb-circuit run (default: toy if it knows the task's "
        "words, else talker)",
    )
    parser.add_argument(
        "--task",
        metavar="NAME | FILE.toml | MODULE:NAME",
        help="with --hypotheses: as for rgb-circuit run (default: the RGB game)",
    )
    for option in ("--trials-file", "--columns"):
        parser.add_argument(
            option, metavar="FILE", help="with --hypotheses: as for rgb-circuit run"
        ).complete = shtab.FILE  # type: ignore[attr-defined]
    add_loading(parser)
    add_folder(parser, "for frames and figures (default: %(default)s)", "--out", default="results")
    parser.set_defaults(run=_calibrate, keeps=True)


def _calibrate(options: Namespace) -> None:
    """Judge planted circuits and random models, and print how often the verdicts were right, beside
    two naive readings. One that was killed goes on where it stopped when the same command is given
    again, and one for more models takes up those that were judged. With --hypotheses, try the
    verdicts on these instead: where they are false, and where a head is made to carry the
    answer."""
    if options.hypotheses is not None:
        _of_ones_own(options)
        return
    import pandas as pd
    from transformers.utils import logging

    from rgb_circuit.keeping.manifest import versions
    from rgb_circuit.keeping.store import open_store
    from rgb_circuit.plots import precision_recall_panels, recall_over_trials

    from .. import calibrate
    from ..study import printed

    logging.disable_progress_bar()
    subjects = calibrate.family(options.seed, options.models, options.random, trials=options.trials)
    # numpy draws these models, and scipy tests them.
    drawn_with = {name: version(name) for name in ("numpy", "scipy")}
    about = {
        "model": "those of rgb-circuit calibrate",
        "dtype": "float32",
        "versions": versions(),
        "drawn_with": drawn_with,
    }
    with opened(options.out) as folder, opened(folder / "calibration") as parts:
        with locked(parts), warnings.catch_warnings():
            store = open_store(parts, about)
            store.clean()
            # Noisy and random models answer wrongly on purpose; the column "solved" says so.
            warnings.filterwarnings("ignore", message=".*wrongly on at least one picture")
            warnings.filterwarnings("ignore", message="the pictures of these .* kinds")
            frame = pd.concat(list(calibrate.verdicts(subjects, store)), ignore_index=True)
        write_frame(frame, folder, "calibration")
        table, false = calibrate.summary(frame), calibrate.false_discoveries(frame)
        write_frame(table, folder, "calibration_summary")
        write_frame(false, folder, "calibration_false")
        kinds = calibrate.by_trials(frame)
        write_frame(kinds, folder, "calibration_trials")
        write_figure(precision_recall_panels(table), folder, "calibration")
        write_figure(recall_over_trials(calibrate.by_evenness(frame)), folder, "calibration_trials")
    printed.calibration(table, false)
    print(
        "\nWrote calibration.png (by noise), calibration_trials.png (by kind of model and number "
        "of trials), and their frames calibration_summary, calibration_trials and "
        f"calibration_false to {folder}/"
    )


def _of_ones_own(options):
    """Calibrate the verdicts for a file of hypotheses, on the chosen model and trials."""
    from rgb_circuit.stimuli.tasks import task_of

    from .. import calibrate
    from .loading import model_and_trials

    options.trials, options.fix = str(options.trials or 32), {}
    with opened(options.out) as folder:
        model, trials = model_and_trials(options)
        with warnings.catch_warnings():
            # Copies with random weights answer wrongly on purpose.
            warnings.filterwarnings("ignore", message=".*wrongly on at least one picture")
            warnings.filterwarnings("ignore", message="the pictures of these .* kinds")
            frame = calibrate.own(
                model, trials, task_of(trials), random=options.random, seed=options.seed,
                progress=not options.quiet,
            )  # fmt: skip
        write_frame(frame, folder, "hypotheses_calibration")
    print(f"Heads of {model.name} that are given a role, on {len(trials)} trials:")
    print(*calibrate.says(frame), sep="\n")
    print(
        f"If {folder}/ holds a run, rgb-circuit report {shlex.quote(str(folder))} adds this to "
        "its page."
    )
