"""The command ``rgb-circuit``."""

import argparse
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from importlib.metadata import version
from pathlib import Path

import shtab
from tqdm.auto import tqdm

from rgb_circuit.edits import OF_A_HEAD, OF_A_LAYER
from rgb_circuit.errors import InputError, NotDrawn, ServerError
from rgb_circuit.jobs import Pending

from ..as_options import as_options

COMPLETION = """\
completion of commands, options and folders in a shell: put one of these into its start-up file
  bash:  eval "$(rgb-circuit --print-completion bash)"
  zsh:   eval "$(rgb-circuit --print-completion zsh)"
"""
# What draws trials, so that a run's folder says it.
ABOUT_TRIALS = (
    "model", "trials", "trials_file", "seed", "dtype", "revision", "tiles", "remote",
    "odd", "other", "background", "other_background",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand.

    Returns:
        The exit status: 1 for a check that found a difference or a figure that could not be drawn, 2 for
        input that cannot be used, 3 for a server that could not do it, 4 for jobs that are not done yet, 130
        for a command that was stopped with Ctrl-C, 141 for one whose reader went away.
    """
    try:
        status = _main(arguments)
        # What is left in the buffer would meet a closed pipe when Python ends.
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # As in `rgb-circuit play | head`. Python flushes both streams once more when it ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        # The status that a shell gives a program that a closed pipe ends.
        return 141


def _main(arguments):
    options = _parser().parse_args(arguments)
    # Figures go to files. A notebook's backend is inherited by a command in a cell, whose environment may
    # lack it; matplotlib refuses to be imported then.
    os.environ["MPLBACKEND"] = "agg"
    # Imported once it is known that there is something to do: this takes seconds.
    from rgb_circuit.memory import return_freed_memory

    return_freed_memory()
    kept = "; what was finished is kept, and the same command goes on from there" if options.keeps else ""
    try:
        with warnings.catch_warnings():
            # Without the file and line of Python's own.
            warnings.showwarning = partial(_warned, sys.stderr, options)
            # Said by `_print_alike`, of all trials at once.
            warnings.filterwarnings("ignore", message="trial .* has the same picture in")
            with _quiet(options):
                return options.run(options) or 0
    except InputError as error:
        print(f"rgb-circuit: {as_options(str(error), vars(options))}", file=sys.stderr)
        return 2
    except NotDrawn as error:
        print(f"rgb-circuit: {error}", file=sys.stderr)
        return 1
    except ServerError as error:
        print(f"rgb-circuit: {error}{kept}", file=sys.stderr)
        return 3
    except Pending as pending:
        print(
            f"{pending.waiting} parts wait for jobs on the server. Later: rgb-circuit collect "
            f"{getattr(options, 'out', None) or options.folder}"
        )
        return 4
    except KeyboardInterrupt:
        print(f"rgb-circuit: stopped{kept}", file=sys.stderr)
        return 130


def _warned(file, options, message, category, *where):
    print(f"rgb-circuit: {as_options(str(message), vars(options))}", file=file)


@contextmanager
def _quiet(options: argparse.Namespace) -> Iterator[None]:
    """Where it is asked for, no bars, and nothing of what is also written to a folder. Warnings are shown
    all the same: they are handed the file that is left here."""
    if not options.quiet:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        if options.writes and not getattr(options, "dry_run", False):
            with redirect_stdout(nowhere):
                yield
        else:
            yield


def _parser():
    parser = argparse.ArgumentParser(
        prog="rgb-circuit",
        description="Find out which attention heads of a vision-language model do what in the RGB game.",
        epilog=COMPLETION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    shtab.add_argument_to(parser, "--print-completion", help="print what makes a shell complete this command")
    parser.add_argument("--version", action="version", version=f"rgb-circuit {version('rgb_circuit')}")
    parser.set_defaults(keeps=False, writes=True)
    commands = parser.add_subparsers(required=True, metavar="command")

    quiet = argparse.ArgumentParser(add_help=False)
    quiet.add_argument(
        "-q", "--quiet", action="store_true", help="show no bars, and print nothing that is also written"
    )
    common = argparse.ArgumentParser(add_help=False, parents=[quiet])
    common.add_argument(
        "--model", default="toy", help="toy, planted, a folder, or a hub id (default: %(default)s)"
    )
    shown = common.add_mutually_exclusive_group()
    shown.add_argument(
        "--trials",
        default="32",
        help="how many trials to draw, or 'published' for the published stimulus (default: %(default)s)",
    )
    shown.add_argument(
        "--trials-file",
        metavar="CSV",
        help="your own pictures, question and answers: a file, or a folder with one; columns: see "
        "rgb_circuit/trials_file.py",
    ).complete = shtab.FILE  # type: ignore[attr-defined]
    common.add_argument("--seed", type=int, default=0, help="of the trials (default: %(default)s)")
    for option, what in (
        ("--odd", "the odd tile's colour in every trial, such as red"),
        ("--other", "the colour that the tile is recolored in"),
        ("--background", "the background's colour"),
        ("--other-background", "the other canvas's colour"),
    ):
        common.add_argument(option, metavar="COLOR", help=f"{what} (default: drawn, so that all are used)")
    _add_loading(common)
    common.set_defaults(drawn={name: common.get_default(name) for name in ABOUT_TRIALS})

    run = commands.add_parser(
        "run",
        parents=[common],
        help="play, patch every head, draw the three panels, give each head its role",
        description=_run.__doc__,
    )
    _add_folder(run, "for frames, figures and manifest (default: %(default)s)", "--out", default="results")
    run.add_argument("--name", help="what the report calls this run (default: the model's name)")
    run.add_argument(
        "--positions",
        default="end",
        help="end, all, image, text, tile, rest, question, first, or token positions like 5,-1; write "
        "--positions=-1 where the first is negative (default: %(default)s)",
    )
    run.add_argument(
        "--heads",
        metavar="L.H,L.H",
        help="restore only these heads, such as 3.0,3.1; then no roles are told (default: all)",
    )
    run.add_argument(
        "--component",
        default="z",
        choices=OF_A_HEAD,
        help="of each head, what is restored: %(choices)s; with another than z no roles are told (default: "
        "%(default)s)",
    )
    run.add_argument(
        "--only-correct",
        action="store_true",
        help="leave out trials of which the model answers a picture wrongly, from all but the game",
    )
    run.add_argument(
        "--anyway",
        action="store_true",
        help="go on with a model that does not play the game",
    )
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="run nothing: print what would be run, and what it takes in forwards, time, memory and disk",
    )
    run.add_argument(
        "--shard",
        metavar="I/N",
        help="measure only the i-th of n shards of the trials, from 1; rgb-circuit report brings them "
        "together",
    )
    run.add_argument(
        "--detach",
        action="store_true",
        help="with --remote: hand in the jobs and do not wait; rgb-circuit collect goes on",
    )
    run.set_defaults(run=_run, keeps=True)

    collect = commands.add_parser(
        "collect",
        parents=[quiet],
        help="take what a server has done for a detached run, and go on with it",
        description=_collect.__doc__,
    )
    _add_folder(collect, "of the run (default: %(default)s)", nargs="?", default="results")
    collect.set_defaults(run=_collect, keeps=True)

    report = commands.add_parser(
        "report",
        parents=[quiet],
        help="finish a run from its parts, such as shards of it; write frames, figures and report",
        description=_report.__doc__,
    )
    _add_folder(
        report, "of one run, or of its shards (default: results)", "folders", nargs="*", metavar="folder"
    )
    _add_folder(report, "for all parts and what is made of them (default: the first folder)", "--out")
    report.set_defaults(run=_report, keeps=True)

    calibrate = commands.add_parser(
        "calibrate",
        parents=[quiet],
        help="can the verdicts be believed? try them on models whose heads are known",
        description=_calibrate.__doc__,
    )
    calibrate.add_argument(
        "--models",
        type=int,
        default=1,
        help="planted models per level of noise, and of each kind per number of trials (default: "
        "%(default)s)",
    )
    calibrate.add_argument(
        "--random",
        type=int,
        default=5,
        help="models of each of the three kinds on which every role is false (default: %(default)s)",
    )
    calibrate.add_argument(
        "--trials",
        type=int,
        help="per model (default: 32 over levels of noise; 16, 32 and 64 over kinds of models)",
    )
    calibrate.add_argument("--seed", type=int, default=0, help="of the models (default: %(default)s)")
    _add_folder(calibrate, "for frames and figures (default: %(default)s)", "--out", default="results")
    calibrate.set_defaults(run=_calibrate, keeps=True)

    compare = commands.add_parser(
        "compare",
        parents=[quiet],
        help="does a run agree with the published heatmaps of LLaVA-1.5-7B?",
        description=_compare.__doc__,
    )
    _add_folder(compare, "of a run (default: %(default)s)", nargs="?", default="results")
    compare.add_argument(
        "--top",
        type=int,
        default=10,
        help="how many of the strongest heads to look for in both (default: %(default)s)",
    )
    _add_folder(compare, "for the table and the figure (default: the run's)", "--out")
    compare.set_defaults(run=_compare)

    check = commands.add_parser(
        "check",
        parents=[quiet],
        help="can its numbers be believed here? patched logits against plain hooks, time, memory",
        description=_check.__doc__,
    )
    check.add_argument(
        "model", nargs="?", default="toy", help="toy, planted, a folder, or a hub id (default: %(default)s)"
    )
    check.add_argument(
        "--seed", type=int, default=0, help="of trials, layers and heads (default: %(default)s)"
    )
    _add_loading(check)
    check.set_defaults(run=_check, writes=False)

    play = commands.add_parser(
        "play", parents=[common], help="does the model play the game at all?", description=_play.__doc__
    )
    play.set_defaults(run=_play, writes=False)

    attention = commands.add_parser(
        "attention",
        parents=[common],
        help="where a head looks from [end], on the first four trials",
        description=_attention.__doc__,
    )
    _add_folder(
        attention,
        "of a run, whose model and trials these are (default: those that the options say)",
        nargs="?",
    )
    attention.add_argument("--head", required=True, help="layer.head, both from 0, such as 3.2")
    _add_folder(attention, "for the figure (default: the run's, or results)", "--out")
    attention.set_defaults(run=_attention)

    say = commands.add_parser(
        "say",
        parents=[common],
        help="what the model says about a picture with heads scaled or made to look elsewhere, and without",
        description=_say.__doc__,
    )
    say.add_argument(
        "--scale",
        metavar="LAYER.HEAD=FACTOR",
        action="append",
        default=[],
        help="multiply what a head puts out, such as 19.6=0; may be given several times",
    )
    say.add_argument(
        "--look",
        metavar="LAYER.HEAD=ROW,COLUMN[:BIAS]",
        action="append",
        default=[],
        help="make a head look at a place of the picture: by a bias on its attention, or at nothing else; "
        "may be given several times",
    )
    say.add_argument("--question", help="another one than the trial's")
    say.add_argument("--condition", default="clean", help="which picture (default: %(default)s)")
    say.add_argument(
        "--trial", type=int, default=0, help="which of the trials, from 0 (default: %(default)s)"
    )
    say.add_argument("--tokens", type=int, default=20, help="to say at most (default: %(default)s)")
    say.set_defaults(run=_say, writes=False)

    knockout = commands.add_parser(
        "knockout",
        parents=[common],
        help="which positions must look at which others, and in which layers",
        description=_knockout.__doc__,
    )
    knockout.add_argument(
        "--queries", default="end", help="who looks: groups such as end,question (default: %(default)s)"
    )
    knockout.add_argument(
        "--keys",
        help="who is not seen: groups such as tile,rest,first or positions as 40+41 (default: those that the "
        "trials have)",
    )
    knockout.add_argument("--window", type=int, default=1, help="layers in a row (default: %(default)s)")
    knockout.set_defaults(run=_knockout)

    layers = commands.add_parser(
        "layers",
        parents=[common],
        help="at which layer and where in the prompt lies what the answer needs",
        description=_layers.__doc__,
    )
    layers.add_argument(
        "--component",
        default="resid_pre",
        choices=OF_A_LAYER,
        help="what is restored: %(choices)s (default: %(default)s)",
    )
    layers.add_argument(
        "--positions",
        help="groups such as tile,rest,question,end or positions as 40+41 (default: those that the trials "
        "have)",
    )
    layers.set_defaults(run=_layers)
    for flow in (knockout, layers):
        _add_folder(flow, "of a run, whose model and trials are taken and whose report gets more", nargs="?")
        flow.add_argument("--role", help="of the answer that is drawn (default: the right one)")
        _add_folder(flow, "for frame and figure, where no run is given (default: results/COMMAND)", "--out")
        flow.set_defaults(keeps=True)
    return parser


def _add_loading(parser):
    """The arguments that say how a model is loaded."""
    parser.add_argument(
        "--device",
        default="auto",
        help="cpu, cuda, cuda:1, or auto to use the GPUs there are (default: %(default)s)",
    )
    parser.add_argument(
        "--dtype",
        default="auto",
        help="float32, float16, bfloat16, or the checkpoint's own (default: %(default)s)",
    )
    parser.add_argument("--revision", help="of a hub repository")
    parser.add_argument(
        "--tiles",
        type=int,
        help="per side of the game's pictures, for a model that takes pictures of any size (default: 24)",
    )
    parser.add_argument(
        "--remote",
        metavar="URL",
        nargs="?",
        const=True,
        default=False,
        help="run on an NDIF server: this one, or without a URL the one of NDIF_HOST; the key is read from "
        "NDIF_API_KEY",
    )


def _add_folder(parser, what, name="folder", **options):
    """An argument that is a folder, which a shell completes."""
    parser.add_argument(
        name, help=f"folder {what}" if name == "--out" else what, **options
    ).complete = shtab.DIRECTORY


def _run(options):
    """Play the game, patch every head, test what each head is, and write frames, figures, report and a
    manifest. A run that was killed goes on where it stopped when the same command is given again."""
    from analyses import study
    from rgb_circuit.locking import locked
    from rgb_circuit.results import opened

    study.parse_positions(options.positions)
    if options.heads is not None:
        study.parse_heads(options.heads)
    shard = _shard(options.shard)
    if options.detach and (options.remote is False or shard):
        raise InputError("--detach hands all trials to a server; give --remote with it, and no --shard")
    chosen = {
        name: getattr(options, name)
        for name in ("name", "positions", "only_correct", "device", "dtype", "tiles")
    }
    if options.heads is not None:
        chosen["heads"] = options.heads
    if options.component != "z":
        chosen["component"] = options.component
    if options.trials_file is None:
        chosen |= {"trials": options.trials, "seed": options.seed} | _fixed(options)
    else:
        chosen["trials_file"] = str(Path(options.trials_file).resolve())
    if options.dry_run:
        model, trials = _model_and_trials(options)
        study.estimate(model, trials, chosen, shard)
        return
    with opened(options.out) as folder, locked(folder, shard):
        model, trials = _model_and_trials(options)
        study.run(folder, model, trials, chosen, shard, options.detach, options.anyway)


def _collect(options):
    """Take what the server of a detached run has done, hand in what is missing, and write frames, figures and
    report when nothing is."""
    from analyses import study
    from rgb_circuit.locking import locked
    from rgb_circuit.manifest import read_manifest
    from rgb_circuit.results import open_folder

    folder = Path(options.folder)
    read_manifest(folder)
    with locked(open_folder(folder)):
        study.collect(folder)


def _report(options):
    """Bring the parts of a run together and write frames, figures and report; what is missing is computed
    first."""
    from analyses import study

    study.report(options.folders or ["results"], options.out)


def _check(options):
    """Hold ten patched logits, of every component, against plain PyTorch hooks on the model's own weights,
    and print what else shapes its numbers: tokens, kernel, number format, noise floor, time and memory."""
    from analyses import printed
    from analyses.check import check

    model = _loaded(options)
    found = check(model, seed=options.seed)
    printed.check(model, found)
    return 0 if found.agrees else 1


def _play(options):
    """Show the model every picture and print how often it answers right."""
    from analyses import printed
    from rgb_circuit.play import play

    model, trials = _model_and_trials(options)
    printed.game(model, play(model, trials), options.trials_file)


def _attention(options):
    """Draw where a head looks from [end] on the pictures of the first four trials: those of a run, or those
    that the options say."""
    from rgb_circuit.as_seen import as_seen
    from rgb_circuit.attention import attention_from_end, over_picture
    from rgb_circuit.edits import check_head
    from rgb_circuit.plots import attention_over_picture
    from rgb_circuit.plots.canvas import brief, model_title, new_figure, without_formulas
    from rgb_circuit.results import opened, write_figure

    ((layer, head),) = _one_head(options.head)
    _check_folder(options)
    with opened(options.out or options.folder or "results") as folder:
        model, trials = _model_and_trials(options)
        check_head(model, layer, head)
        trials = trials[:4]
        conditions = [name for name in trials[0].images if all(name in trial.images for trial in trials)]
        if {"clean", "recolored", "erased"} <= set(conditions):
            conditions = ["clean", "recolored", "erased"]
        # No more than can be told apart side by side.
        conditions = conditions[:5]
        figure = new_figure(3.4 * len(conditions), 3.6 * len(trials) + 0.4)
        axes = figure.subplots(len(trials), len(conditions), squeeze=False)
        row = {trial.name: axis for trial, axis in zip(trials, axes)}
        seen = {
            (trial.name, name): as_seen(model, trial.images[name]) for trial in trials for name in conditions
        }
        for trial, condition, pattern in attention_from_end(model, trials, conditions, heads=[(layer, head)]):
            attention_over_picture(
                over_picture(model, trial, pattern[layer, head]),
                seen[trial.name, condition],
                tile=trial.tile,
                ax=(ax := row[trial.name][conditions.index(condition)]),
            )
            role = trial.expected.get(condition)
            shown = [condition] if role is None else [condition, trial.answers[role]]
            ax.set_title(": ".join(map(brief, shown)), fontsize=10)
        figure.suptitle(
            f"Head {layer}.{head} of {model_title(model.name)} from [end]: grey where it does not look, n = "
            f"{len(trials)} trials"
        )
        path = write_figure(without_formulas(figure), folder, f"attention_{layer}.{head}")
        print(f"Wrote {path}")


def _say(options):
    """Print what the model says about one picture as it is, and with heads scaled or made to look elsewhere,
    at every token from which it says something."""
    from analyses import say

    scales, looks = list(map(say.parse_scale, options.scale)), list(map(say.parse_look, options.look))
    model, trials = _model_and_trials(options)
    if not 0 <= options.trial < len(trials):
        raise InputError(f"--trial is {options.trial}; there are {len(trials)} trials, from 0 on")
    trial = trials[options.trial]
    say.say(model, trial, options.condition, scales, looks, options.question, options.tokens)


def _knockout(options):
    """Keep some positions from looking at others in every window of layers, and draw what the answer
    loses."""
    from analyses import flows

    queries = flows.groups_from(options.queries)
    keys = options.keys and flows.groups_from(options.keys)
    model, trials, folder, about = _of_a_run(options, "knockout")
    flows.knockout(
        model, trials, folder, about, queries=queries, keys=keys, window=options.window, role=options.role
    )


def _layers(options):
    """Restore every layer at groups of positions, and draw what of the answer comes back."""
    from analyses import flows

    positions = options.positions and flows.groups_from(options.positions)
    model, trials, folder, about = _of_a_run(options, "layers")
    flows.layers(
        model, trials, folder, about, component=options.component, positions=positions, role=options.role
    )


def _of_a_run(options, name):
    """Model, trials, folder and options: of the run that is named, or of the command itself."""
    from rgb_circuit.saved_run import recorded_run

    _check_folder(options)
    model, trials = _model_and_trials(options)
    if options.folder is not None:
        return model, trials, options.folder, recorded_run(options.folder)["options"]
    chosen = {
        name: getattr(options, name) for name in ("trials", "seed", "trials_file", "device", "dtype")
    } | _fixed(options)
    return model, trials, options.out or f"results/{name}", {"command": name, **chosen}


def _calibrate(options):
    """Judge planted circuits and random models, and print how often the verdicts were right, beside two naive
    readings. One that was killed goes on where it stopped when the same command is given again, and one for
    more models takes up those that were judged."""
    import pandas as pd
    from transformers.utils import logging

    from analyses import calibrate, printed
    from rgb_circuit.locking import locked
    from rgb_circuit.manifest import versions
    from rgb_circuit.plots import precision_recall_panels, recall_over_trials
    from rgb_circuit.results import opened, write_figure, write_frame
    from rgb_circuit.store import open_store

    logging.disable_progress_bar()
    subjects = calibrate.family(options.seed, options.models, options.random, trials=options.trials)
    # Here numpy draws the models, and scipy tests them.
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
            # That a noisy or random model answers wrongly is the point, and stands in the column "solved".
            warnings.filterwarnings("ignore", message=".*wrongly on at least one picture")
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
        "\nBy noise, and by kind of model and number of trials: calibration.png, calibration_trials.png, and "
        f"their frames calibration_summary, calibration_trials and calibration_false, in {folder}/"
    )


def _compare(options):
    """Hold a run against the published heatmaps of LLaVA-1.5-7B, head by head; its folder gets a table and a
    figure."""
    from analyses import compare, digits
    from rgb_circuit.manifest import read_manifest
    from rgb_circuit.results import opened, read_frame, write_figure, write_frame

    columns = ["trial", "source", "component", "positions", "target", "layer", "head", "role", "effect"]
    frame, manifest = read_frame(options.folder, "patch_heads", columns), read_manifest(options.folder)
    table = compare.compare(frame, k=options.top)
    misread, differing = compare.misreadings(frame), compare.differences(frame, manifest)

    print(
        f"{manifest['model']} and the published heatmaps of LLaVA-1.5-7B, over {table['heads'].iloc[0]} "
        "heads:"
    )
    agreement = digits.table(table[["pearson", "spearman"]])
    print(
        table[["panel"]].join(agreement).join(table[["shared", "k", "shared_heads"]]).to_string(index=False)
    )
    print(
        "Published values come in steps, so that exact agreement would give a rank correlation (spearman) "
        "of about 0.9."
    )
    print("\nThe published text misreads its figures twice; effects in logits:")
    effects = {name: digits.table(misread[[name]]) for name in ("published", "run")}
    print(misread.assign(**effects).to_string(index=False))
    if len(differing):
        print(
            "\nThis run was not made in the published setting, and is not expected to give the same numbers:"
        )
        print(differing.to_string(index=False))
    with opened(options.out or options.folder) as folder:
        write_frame(table, folder, "compare")
        write_figure(compare.scatters(frame, manifest["model"], k=options.top), folder, "compare")
    print(f"\nWrote compare.parquet and compare.png to {folder}/")


def _check_folder(options):
    """Raise InputError for a folder that is no run's, or options that say again what it says."""
    from rgb_circuit.saved_run import recorded_run

    if options.folder is None:
        return
    given = [name for name, default in options.drawn.items() if getattr(options, name) != default]
    if given:
        raise InputError(
            f"--{given[0].replace('_', '-')} and the folder {options.folder} both say which model and "
            "trials; leave out one of them"
        )
    recorded_run(options.folder)


def _model_and_trials(options):
    """Those of the run whose folder is given, else those that the options say."""
    from analyses.study import reloaded, trials_again
    from rgb_circuit.prompts import rgb_trials
    from rgb_circuit.rgb_game import TEMPLATE
    from rgb_circuit.saved_run import recorded_run
    from rgb_circuit.trials_file import TrialsFile

    if getattr(options, "folder", None) is not None:
        recorded = recorded_run(options.folder)
        trials = trials_again(options.folder, recorded)
        return reloaded(recorded), trials
    fixed = _fixed(options)
    if fixed and (options.trials_file is not None or options.trials == "published"):
        raise InputError(
            f"--{next(iter(fixed)).replace('_', '-')} holds a colour of drawn trials, and these are given; "
            "leave it out, or draw trials with --trials 32"
        )
    file = None if options.trials_file is None else TrialsFile.read(options.trials_file)
    if file is not None:
        # What is wrong with the file is said before a model is loaded.
        file.trials(TEMPLATE)
    if options.trials != "published" and not options.trials.isdecimal():
        raise InputError(f"--trials is {options.trials!r}; give a number such as 32, or 'published'")
    model = _loaded(options)
    if file is not None:
        own = file.trials(model.template)
        drawable = _print_undrawable(model, own)
        _print_fit(model, drawable)
        _print_alike(model, drawable)
        return model, own
    if options.trials == "published":
        return model, _published(model)
    return model, rgb_trials(model, int(options.trials), options.seed, **fixed)


def _loaded(options):
    """The model that the options say."""
    from analyses.study import loaded

    return loaded(
        options.model,
        remote=options.remote,
        device_map=options.device,
        dtype=options.dtype,
        revision=options.revision,
        tiles=options.tiles,
    )


def _fixed(options):
    """Role → colour, of those that every trial is to have."""
    fixed = {role: getattr(options, role) for role in ("odd", "other", "background", "other_background")}
    return {role: color for role, color in fixed.items() if color is not None}


def _published(model):
    from rgb_circuit.prompts import drawn_for
    from rgb_circuit.rgb_game import PUBLISHED_GRID, PUBLISHED_TILE, published_trial

    if model.grid != (PUBLISHED_GRID, PUBLISHED_GRID):
        rows, columns = model.grid
        raise InputError(
            f"the published stimulus has {PUBLISHED_GRID} × {PUBLISHED_GRID} tiles, and {model.name} sees "
            f"{rows} × {columns} image "
            f"tokens, where its tile (row {PUBLISHED_TILE[0]}, column {PUBLISHED_TILE[1]}) does not exist; "
            "draw trials for this model "
            "with --trials 32"
        )
    return [published_trial(**drawn_for(model))]


def _print_undrawable(model, trials):
    """Say of which pictures nobody knows where the model's tokens lie, and return the other trials."""
    from rgb_circuit.as_seen import as_seen

    undrawable, reason = set(), None
    # The processor goes by the size.
    for size, trial in {trial.size: trial for trial in trials}.items():
        try:
            as_seen(model, trial.images["clean"])
        except InputError as error:
            undrawable.add(size)
            reason = error
    drawable = [trial for trial in trials if trial.size not in undrawable]
    if reason is not None:
        print(
            f"Of {len(trials) - len(drawable)} of {len(trials)} trials nothing is drawn over pictures: "
            f"{reason}"
        )
    return drawable


def _print_fit(model, trials):
    """Say which pictures the model sees less than all of, between bars, or out of proportion."""
    from rgb_circuit.as_seen import fit

    fits = {size: fit(model, size) for size in dict.fromkeys(trial.size for trial in trials)}
    for does, how in (("cuts margins off", _lost), ("pads", _padding), ("stretches", _proportion)):
        changed = {trial.name: size for trial in trials if how(fits[size := trial.size])}
        if changed:
            name, (width, height) = next(iter(changed.items()))
            print(
                f"{model.name} {does} the pictures of {len(changed)} of {len(trials)} trials, e.g. of "
                f"{name!r} "
                f"({width} × {height} px: {how(fits[width, height])})"
            )


def _lost(fit):
    return ", ".join(f"{100 * share:.2g} % at the {side}" for side, share in fit.lost.items())


def _padding(fit):
    return f"{100 * fit.padding:.2g} % of what it sees is padding" if fit.padding else ""


def _proportion(fit):
    return (
        f"a square in them becomes {fit.proportion:.2g} times as wide as high" if fit.proportion != 1 else ""
    )


def _print_alike(model, trials):
    """Say between which pictures there is no difference, or none that the model could see."""
    from rgb_circuit.as_seen import as_seen
    from rgb_circuit.pictures import identical, picture_hash

    # (pair of conditions, whether the pictures themselves are the same) → trials.
    alike = {}
    # Of a picture's pixels: those of what the model sees of it.
    seen = {}
    for trial in tqdm(trials, desc="comparing pictures", unit="trial", delay=2):
        own = {condition: picture_hash(source) for condition, source in trial.sources.items()}
        for condition, pixels in own.items():
            if pixels not in seen:
                seen[pixels] = picture_hash(as_seen(model, trial.images[condition]))
        same = identical(own)
        for pair in identical({condition: seen[pixels] for condition, pixels in own.items()}):
            alike.setdefault((pair, pair in same), []).append(trial.name)
    for ((one, other), same), names in alike.items():
        some = f"{len(names)} of {len(trials)} trials, e.g. of {names[0]!r}"
        pictures = f"the pictures {one!r} and {other!r} of {some}"
        if same:
            print(f"No difference between {pictures}: they are the same picture")
        else:
            print(
                f"{model.name} sees no difference between {pictures}: it is cut off, or too fine for what "
                "the model is shown"
            )


def _shard(text):
    if text is None:
        return None
    which, slash, of = text.partition("/")
    if not (slash and which.isdecimal() and of.isdecimal() and 1 <= int(which) <= int(of)):
        raise InputError(f"--shard is {text!r}; write it as i/n, from 1/n to n/n, such as 1/4")
    return int(which), int(of)


def _one_head(text):
    from analyses.study import parse_heads

    heads = parse_heads(text, "--head")
    if len(heads) > 1:
        raise InputError(f"--head is {text!r}; name one head, such as {text.split(',')[0]}")
    return heads
