"""The command ``rgb-circuit``."""

import argparse
import sys

import matplotlib
import pandas as pd

from rgb_circuit.errors import InputError


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; returns the exit status, 2 for input that cannot be used."""
    options = _parser().parse_args(arguments)
    # Figures go to files: no screen is needed.
    matplotlib.use("Agg")
    try:
        options.run(options)
    except InputError as error:
        print(f"rgb-circuit: {error}", file=sys.stderr)
        return 2
    return 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="rgb-circuit", description="Find out which attention heads of a LLaVA do what in the RGB game."
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--model", default="toy", help="toy, planted, a folder, or a hub id (default: %(default)s)")
    shown = common.add_mutually_exclusive_group()
    shown.add_argument(
        "--trials", default="32", help="how many trials to draw, or 'published' for the published stimulus (default: %(default)s)"
    )
    shown.add_argument(
        "--trials-file", metavar="CSV", help="your own pictures, question and answers; columns: see rgb_circuit/trials_file.py"
    )
    common.add_argument("--seed", type=int, default=0, help="of the trials (default: %(default)s)")
    common.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1, or auto to use the GPUs there are (default: %(default)s)"
    )
    common.add_argument(
        "--dtype", default="auto", help="float32, float16, bfloat16, or the checkpoint's own (default: %(default)s)"
    )
    common.add_argument("--revision", help="of a hub repository")

    run = commands.add_parser(
        "run",
        parents=[common],
        help="play, patch every head, draw the three panels, give each head its role",
        description=_run.__doc__,
    )
    run.add_argument("--out", default="results", help="folder for frames, figures and manifest (default: %(default)s)")
    run.add_argument(
        "--positions", default="end", help="end, all, image, text, tile, or token positions like 5,-1 (default: %(default)s)"
    )
    run.set_defaults(run=_run)

    calibrate = commands.add_parser(
        "calibrate", help="can the verdicts be believed? try them on models whose heads are known", description=_calibrate.__doc__
    )
    calibrate.add_argument("--models", type=int, default=5, help="planted models per level of noise (default: %(default)s)")
    calibrate.add_argument(
        "--random",
        type=int,
        default=20,
        help="models with random weights, and as many with shuffled pictures (default: %(default)s)",
    )
    calibrate.add_argument("--trials", type=int, default=16, help="per model (default: %(default)s)")
    calibrate.add_argument("--seed", type=int, default=0, help="of the models (default: %(default)s)")
    calibrate.add_argument("--out", default="results", help="folder for frames and figure (default: %(default)s)")
    calibrate.set_defaults(run=_calibrate)

    compare = commands.add_parser(
        "compare", help="does a run agree with the published heatmaps of LLaVA-1.5-7B?", description=_compare.__doc__
    )
    compare.add_argument("folder", nargs="?", default="results", help="of a run (default: %(default)s)")
    compare.add_argument(
        "--top", type=int, default=10, help="how many of the strongest heads to look for in both (default: %(default)s)"
    )
    compare.add_argument("--out", help="folder for the table and the figure (default: the run's)")
    compare.set_defaults(run=_compare)

    play = commands.add_parser("play", parents=[common], help="does the model play the game at all?", description=_play.__doc__)
    play.set_defaults(run=_play)

    attention = commands.add_parser(
        "attention",
        parents=[common],
        help="where a head looks from [end], on the first four trials",
        description=_attention.__doc__,
    )
    attention.add_argument("--head", required=True, help="layer.head, both from 0, such as 3.2")
    attention.add_argument("--out", default="results", help="folder for the figure (default: %(default)s)")
    attention.set_defaults(run=_attention)
    return parser


def _run(options):
    """Play the game, patch every head, test what each head is, and write frames, the three panels and a manifest."""
    from analyses import closer_look, report, riddle, roles
    from rgb_circuit.panels import panels, panels_for, strongest
    from rgb_circuit.patching import patch_heads
    from rgb_circuit.play import play
    from rgb_circuit.plots import effect_forest, panel_heatmaps
    from rgb_circuit.prompts import check_trials, locate, prompt_ids
    from rgb_circuit.results import clear, open_folder, write_figure, write_frame, write_manifest

    positions = _positions(options.positions)
    folder = open_folder(options.out)
    model, trials = _model_and_trials(options)
    which = panels_for(trials)
    check_trials(model, trials, ["clean", *(target for target, _ in which.values())])
    ids = prompt_ids(model, trials)
    for trial in trials:
        locate(model, trial, positions, ids[trial.prompt])

    names = [
        "play.parquet",
        "patch_heads.parquet",
        "panels.png",
        "evidence.parquet",
        "roles.parquet",
        "riddle.png",
        *(f"{name}.parquet" for name in closer_look.FRAMES),
        "manifest.json",
        "report.html",
    ]
    clear(folder, names)
    drawn = ("trials", "seed") if options.trials_file is None else ("trials_file",)
    write_manifest(folder, model, trials, {name: getattr(options, name) for name in (*drawn, "positions", "device", "dtype")})

    played = play(model, trials)
    write_frame(played, folder, "play")
    _print_played(model, played, options.trials_file)

    targets = list(dict.fromkeys(target for target, _ in which.values()))
    frame = patch_heads(model, trials, target=targets, positions=positions)
    write_frame(frame, folder, "patch_heads")
    write_figure(panel_heatmaps(frame, model.name, which), folder, "panels")
    print(
        f"\nStrongest heads, effect in logits of restoring one head at positions '{options.positions}', mean of {len(trials)} trials:"
    )
    print(strongest(panels(frame, which)).round(2).to_string())

    try:
        if options.trials_file is not None:
            _check_predictions(roles.HYPOTHESES, trials)
        evidence = roles.evidence(model, trials)
    except InputError as error:
        evidence = error
        print(f"\nNo role table: {error}")
    else:
        table = roles.table(evidence)
        write_frame(evidence, folder, "evidence")
        write_frame(table, folder, "roles")
        _print_roles(table, evidence["n"].iloc[0])
        verdicts = riddle.table(evidence)
        if len(verdicts):
            write_figure(effect_forest(verdicts, model.name, group="verdict").figure, folder, "riddle")
    closer_look.write(model, trials, frame, which, evidence, folder)
    report.write(folder)
    print(f"\nWrote {', '.join(name for name in names if (folder / name).exists())} to {folder}/")
    print(f"Read {folder / 'report.html'}")


def _play(options):
    """Show the model every picture and print how often it answers right."""
    from rgb_circuit.play import play

    model, trials = _model_and_trials(options)
    _print_played(model, play(model, trials), options.trials_file)


def _attention(options):
    """Draw where a head looks from [end] on the pictures of the first four trials."""
    import matplotlib.pyplot as plt

    from rgb_circuit.as_seen import as_seen
    from rgb_circuit.attention import attention_from_end, over_picture
    from rgb_circuit.edits import check_head
    from rgb_circuit.plots import attention_over_picture
    from rgb_circuit.results import open_folder, write_figure

    layer, head = _head(options.head)
    folder = open_folder(options.out)
    model, trials = _model_and_trials(options)
    check_head(model, layer, head)
    trials = trials[:4]
    # Of your own pictures, no more than can be told apart side by side.
    conditions = ("clean", "recolored", "erased") if options.trials_file is None else tuple(trials[0].images)[:5]
    figure, axes = plt.subplots(
        len(trials), len(conditions), figsize=(3 * len(conditions), 3.4 * len(trials)), layout="constrained", squeeze=False
    )
    row = {trial.name: axis for trial, axis in zip(trials, axes)}
    for trial, condition, pattern in attention_from_end(model, trials, conditions):
        seen = as_seen(model, trial.images[condition])
        ax = attention_over_picture(
            over_picture(model, trial, pattern[layer, head]), seen, ax=row[trial.name][conditions.index(condition)]
        )
        role = trial.expected.get(condition)
        ax.set_title(condition if role is None else f"{condition}: {trial.answers[role]}", fontsize=10)
    figure.suptitle(f"Head {layer}.{head} of {model.name} from [end]: grey where it does not look, n = {len(trials)} trials")
    path = write_figure(figure, folder, f"attention_{layer}.{head}")
    print(f"Wrote {path}")


def _calibrate(options):
    """Judge planted circuits and random models, and print how often the verdicts were right, beside two naive readings."""
    import warnings

    from transformers.utils import logging

    from analyses import calibrate
    from rgb_circuit.plots import precision_recall_panels
    from rgb_circuit.results import open_folder, write_figure, write_frame

    logging.disable_progress_bar()
    folder = open_folder(options.out)
    subjects = calibrate.family(options.seed, options.models, options.random)
    with warnings.catch_warnings():
        # That a noisy or random model answers wrongly is the point, and stands in the column "solved".
        warnings.filterwarnings("ignore", message=".*wrongly on at least one picture")
        frame = pd.concat(list(calibrate.verdicts(subjects, trials=options.trials)), ignore_index=True)
    write_frame(frame, folder, "calibration")
    table, false = calibrate.summary(frame), calibrate.false_discoveries(frame)
    write_frame(table, folder, "calibration_summary")
    write_frame(false, folder, "calibration_false")
    write_figure(precision_recall_panels(table), folder, "calibration")

    shown = table[["reading", "role", "noise", "true", "given", "right"]].copy()
    for measure in ("precision", "recall"):
        interval = zip(table[measure], table[f"{measure}_low"], table[f"{measure}_high"])
        shown[measure] = ["-" if value != value else f"{value:.2f} [{low:.2f}, {high:.2f}]" for value, low, high in interval]
    print(shown.to_string(index=False))
    print("\nWhere every role is false: random weights, and pictures shuffled among the conditions of a trial:")
    print(false.to_string(index=False))
    print(f"\nWrote calibration.parquet (every verdict), calibration_summary, calibration_false and calibration.png to {folder}/")


def _compare(options):
    """Hold a run against the published heatmaps of LLaVA-1.5-7B, head by head; its folder gets a table and a figure."""
    from analyses import compare
    from rgb_circuit.results import open_folder, write_figure, write_frame
    from rgb_circuit.saved_run import read_frame, read_manifest

    columns = ["trial", "source", "component", "positions", "target", "layer", "head", "role", "effect"]
    frame, manifest = read_frame(options.folder, "patch_heads", columns), read_manifest(options.folder)
    table = compare.compare(frame, k=options.top)
    misread, differing = compare.misreadings(frame), compare.differences(frame, manifest)
    folder = open_folder(options.out or options.folder)

    print(f"{manifest['model']} and the published heatmaps of LLaVA-1.5-7B, over {table['heads'].iloc[0]} heads:")
    print(table[["panel", "pearson", "spearman", "shared", "k", "shared_heads"]].round(2).to_string(index=False))
    print("Published values come in steps, so that exact agreement would give a rank correlation (spearman) of about 0.9.")
    print("\nThe published text misreads its figures twice; effects in logits:")
    print(misread.to_string(index=False, float_format="{:+.2f}".format))
    if len(differing):
        print("\nThis run was not made in the published setting, and is not expected to give the same numbers:")
        print(differing.to_string(index=False))
    write_frame(table, folder, "compare")
    write_figure(compare.scatters(frame, manifest["model"], k=options.top), folder, "compare")
    print(f"\nWrote compare.parquet and compare.png to {folder}/")


def _model_and_trials(options):
    from transformers.utils import logging

    from rgb_circuit.llava import SHIPPED, load
    from rgb_circuit.prompts import rgb_trials
    from rgb_circuit.rgb_game import published_trial
    from rgb_circuit.trials_file import read_trials

    own = None if options.trials_file is None else read_trials(options.trials_file)
    if options.trials != "published" and not options.trials.isdecimal():
        raise InputError(f"--trials is {options.trials!r}; give a number such as 32, or 'published'")
    if options.model in SHIPPED:
        # Bars that flash by for a model of a megabyte.
        logging.disable_progress_bar()
    model = load(options.model, device_map=options.device, dtype=options.dtype, revision=options.revision)
    if own is not None:
        _print_unknown_words(model, own)
        return model, own
    trials = [published_trial()] if options.trials == "published" else rgb_trials(model, int(options.trials), options.seed)
    return model, trials


def _print_unknown_words(model, trials):
    """Say whether questions hold words that the model cannot read; a large tokenizer spells out what it does not know."""
    tokenizer = model.processor.tokenizer
    prompts = dict.fromkeys(trial.prompt for trial in trials)
    unread = [text for text in prompts if tokenizer.unk_token_id in tokenizer(text)["input_ids"]]
    if unread:
        some = f"some words of {len(unread)} of {len(prompts)} questions"
        print(f"{model.name} has no tokens for {some} and reads them as {tokenizer.unk_token}, e.g. in {unread[0]!r}")


def _check_predictions(hypotheses, trials):
    """Raise InputError that says which predictions cannot be tested on trials that all have the same conditions and roles."""
    from analyses.evidence import CONTROL

    first = trials[0]
    # Dictionaries for sets that keep their order.
    untestable, pictures, answers = {}, {}, {}
    for predictions, _ in hypotheses.values():
        for prediction in predictions:
            for claim in prediction.claims:
                shown = (claim.sweep.source, claim.sweep.target)
                unshown = dict.fromkeys(name for name in shown if name not in first.images)
                words = ("odd", claim.role, CONTROL[claim.sweep.target])
                unnamed = dict.fromkeys(name for name in words if name not in first.answers)
                if unshown or unnamed:
                    untestable[prediction.name] = None
                    pictures |= unshown
                    answers |= unnamed
    if untestable:
        needs = [f"{kind} {', '.join(names)}" for kind, names in (("the pictures", pictures), ("the answers", answers)) if names]
        raise InputError(
            f"{', '.join(untestable)} cannot be tested, since they need {' and '.join(needs)}, which these trials lack"
        )


def _print_played(model, played, trials_file):
    task = "plays the RGB game" if trials_file is None else f"answers {trials_file}"
    print(f"{model.name} {task} (right answers of trials, by picture):")
    width = max(10, *map(len, played["condition"].cat.categories))
    for condition, rows in played.groupby("condition", observed=True, sort=False):
        if rows["correct"].count():
            print(f"  {condition:<{width}} {rows['correct'].sum()} of {rows['correct'].count()}")
        else:
            answers = rows["answer"].value_counts().head(3)
            print(f"  {condition:<{width}} not scored; most often {', '.join(f'{word!r} ({n})' for word, n in answers.items())}")
    wrong = played[~played["correct"].fillna(True).astype(bool)]
    if len(wrong):
        first = wrong.iloc[0]
        print(f"  e.g. {first['trial']!r} {first['condition']}: expected {first['expected']!r}, answered {first['answer']!r}")


def _print_roles(table, n):
    """The heads with a role, or the closest to one."""
    found = table[table["role"] != "none"]
    predictions = [name for name in table if name[:1] == "P"]
    if len(found):
        print(
            f"\nRoles from effects at [end], each prediction tested on {n} trials that did not find it (all heads in roles.parquet):"
        )
    else:
        print("\nNo head meets every prediction of a role. The strongest, and which predictions hold:")
        found = table.loc[table["score"].abs().nlargest(5).index]
    shown = found.sort_values("score", key=abs, ascending=False)
    marks = shown[predictions].map(lambda holds: "yes" if holds else "-")
    label = shown["layer"].astype(str) + "." + shown["head"].astype(str)
    print(pd.concat([label.rename("head"), shown[["role", "score"]].round(2), marks], axis=1).to_string(index=False))


def _positions(text):
    from rgb_circuit.prompts import POSITIONS

    if text in POSITIONS:
        return text
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--positions is {text!r}; use {', '.join(POSITIONS)}, or token positions like 5,-1") from None


def _head(text):
    try:
        layer, head = map(int, text.split("."))
    except ValueError:
        raise InputError(f"--head is {text!r}; write it as layer.head, both from 0, such as 3.2") from None
    return layer, head
