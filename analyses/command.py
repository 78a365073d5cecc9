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
    parser = argparse.ArgumentParser(prog="rgb-circuit", description="Find out which attention heads of a LLaVA do what in the RGB game.")
    commands = parser.add_subparsers(required=True, metavar="command")

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--model", default="toy", help="toy, planted, a folder, or a hub id (default: %(default)s)")
    common.add_argument("--trials", default="32", help="how many trials to draw, or 'published' for the published stimulus (default: %(default)s)")
    common.add_argument("--seed", type=int, default=0, help="of the trials (default: %(default)s)")
    common.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, or auto to use the GPUs there are (default: %(default)s)")
    common.add_argument("--dtype", default="auto", help="float32, float16, bfloat16, or the checkpoint's own (default: %(default)s)")
    common.add_argument("--revision", help="of a hub repository")

    run = commands.add_parser("run", parents=[common], help="play, patch every head, draw the three panels, give each head its role", description=_run.__doc__)
    run.add_argument("--out", default="results", help="folder for frames, figures and manifest (default: %(default)s)")
    run.add_argument("--positions", default="end", help="end, all, image, text, tile, or token positions like 5,-1 (default: %(default)s)")
    run.set_defaults(run=_run)

    calibrate = commands.add_parser("calibrate", help="can the verdicts be believed? try them on models whose heads are known", description=_calibrate.__doc__)
    calibrate.add_argument("--models", type=int, default=5, help="planted models per level of noise (default: %(default)s)")
    calibrate.add_argument("--random", type=int, default=20, help="models with random weights (default: %(default)s)")
    calibrate.add_argument("--trials", type=int, default=16, help="per model (default: %(default)s)")
    calibrate.add_argument("--seed", type=int, default=0, help="of the models (default: %(default)s)")
    calibrate.add_argument("--out", default="results", help="folder for frames and figure (default: %(default)s)")
    calibrate.set_defaults(run=_calibrate)

    play = commands.add_parser("play", parents=[common], help="does the model play the game at all?", description=_play.__doc__)
    play.set_defaults(run=_play)

    attention = commands.add_parser("attention", parents=[common], help="where a head looks from [end]", description=_attention.__doc__)
    attention.add_argument("--head", required=True, help="layer.head, both from 0, such as 3.2")
    attention.add_argument("--out", default="results", help="folder for the figure (default: %(default)s)")
    attention.set_defaults(run=_attention)
    return parser


def _run(options):
    """Play the game, patch every head, test what each head is, and write frames, the three panels and a manifest."""
    from analyses import roles
    from rgb_circuit.panels import panels, strongest
    from rgb_circuit.patching import patch_heads
    from rgb_circuit.play import play
    from rgb_circuit.plots import three_panels
    from rgb_circuit.results import open_folder, write_figure, write_frame, write_manifest

    positions = _positions(options.positions)
    folder = open_folder(options.out)
    model, trials = _model_and_trials(options)
    given = {name: getattr(options, name) for name in ("trials", "seed", "positions", "device", "dtype")}
    write_manifest(folder, model, trials, given)

    played = play(model, trials)
    write_frame(played, folder, "play")
    _print_played(model, played)

    frame = patch_heads(model, trials, positions=positions)
    write_frame(frame, folder, "patch_heads")
    write_figure(three_panels(frame, model.name), folder, "panels")
    print(f"\nStrongest heads, effect in logits of restoring one head at positions '{options.positions}', mean of {len(trials)} trials:")
    print(strongest(panels(frame)).round(2).to_string())

    written = ["play.parquet", "patch_heads.parquet", "panels.png"]
    try:
        evidence = roles.evidence(model, trials)
    except InputError as error:
        print(f"\nNo role table: {error}")
    else:
        table = roles.table(evidence)
        write_frame(evidence, folder, "evidence")
        write_frame(table, folder, "roles")
        written += ["evidence.parquet", "roles.parquet"]
        _print_roles(table, len(trials))
    print(f"\nWrote {', '.join(written)} and manifest.json to {folder}/")


def _play(options):
    """Show the model every picture and print how often it answers right."""
    from rgb_circuit.play import play

    model, trials = _model_and_trials(options)
    _print_played(model, play(model, trials))


def _attention(options):
    """Draw where a head looks from [end] on the pictures of a few trials."""
    import matplotlib.pyplot as plt

    from rgb_circuit.attention import attention_from_end, over_picture
    from rgb_circuit.edits import check_head
    from rgb_circuit.plots import attention_over_picture
    from rgb_circuit.results import open_folder, write_figure

    layer, head = _head(options.head)
    folder = open_folder(options.out)
    model, trials = _model_and_trials(options)
    check_head(model, layer, head)
    trials, conditions = trials[:4], ("clean", "recolored", "erased")
    figure, axes = plt.subplots(len(trials), len(conditions), figsize=(3 * len(conditions), 3.4 * len(trials)), layout="constrained", squeeze=False)
    row = {trial.name: axis for trial, axis in zip(trials, axes)}
    for trial, condition, pattern in attention_from_end(model, trials, conditions):
        ax = attention_over_picture(over_picture(model, trial, pattern[layer, head]), trial.images[condition], ax=row[trial.name][conditions.index(condition)])
        ax.set_title(f"{condition}: {trial.answers[trial.expected[condition]]}", fontsize=10)
    figure.suptitle(f"Head {layer}.{head} of {model.name} from [end]: grey where it does not look, n = {len(trials)} trials")
    path = write_figure(figure, folder, f"attention_{layer}.{head}")
    print(f"Wrote {path}")


def _calibrate(options):
    """Judge planted circuits and random models, and print how often the verdicts were right, beside two naive readings."""
    import warnings

    from transformers.utils import logging

    from analyses import calibrate
    from rgb_circuit.results import open_folder, write_figure, write_frame

    logging.disable_progress_bar()
    folder = open_folder(options.out)
    subjects = calibrate.family(options.seed, options.models, options.random)
    with warnings.catch_warnings():
        # That a noisy or random model answers wrongly is the point, and stands in the column "solved".
        warnings.filterwarnings("ignore", message=".*wrongly on at least one picture")
        frame = pd.concat(list(calibrate.verdicts(subjects, trials=options.trials)), ignore_index=True)
    write_frame(frame, folder, "calibration")
    table = calibrate.summary(frame)
    print(table.drop(columns=[column for column in table if column.endswith(("_low", "_high"))]).round(2).to_string(index=False))
    print("\nOn models with random weights, where every role is false:")
    print(calibrate.false_discoveries(frame).to_string(index=False))
    write_figure(calibrate.precision_recall(table), folder, "calibration")
    print(f"\nWrote calibration.parquet (every verdict) and calibration.png to {folder}/")


def _model_and_trials(options):
    from transformers.utils import logging

    from rgb_circuit.llava import SHIPPED, load
    from rgb_circuit.prompts import rgb_trials
    from rgb_circuit.rgb_game import published_trial

    if options.trials != "published" and not options.trials.isdigit():
        raise InputError(f"--trials is {options.trials!r}; give a number such as 32, or 'published'")
    if options.model in SHIPPED:
        # Bars that flash by for a model of a megabyte.
        logging.disable_progress_bar()
    model = load(options.model, device_map=options.device, dtype=options.dtype, revision=options.revision)
    trials = [published_trial()] if options.trials == "published" else rgb_trials(model, int(options.trials), options.seed)
    return model, trials


def _print_played(model, played):
    table = played.groupby("condition", observed=True, sort=False)["correct"].agg(["sum", "count"])
    print(f"{model.name} plays the RGB game (right answers of trials, by picture):")
    for condition, row in table.iterrows():
        print(f"  {condition:<10} {row['sum']} of {row['count']}")
    wrong = played[~played["correct"].fillna(True).astype(bool)]
    if len(wrong):
        first = wrong.iloc[0]
        print(f"  e.g. {first['trial']!r} {first['condition']}: expected {first['expected']!r}, answered {first['answer']!r}")


def _print_roles(table, n):
    """The heads with a role, or the closest to one."""
    found = table[table["role"] != "none"]
    predictions = [name for name in table if name[:1] == "P"]
    if len(found):
        print(f"\nRoles, each prediction tested on {n // 2} trials that did not find it (all heads in roles.parquet):")
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
