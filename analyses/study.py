"""What a run leaves in its folder, and how it gets there.

1. *Measure*: play the game, patch every head, run the sweeps that the hypotheses need. Each trial by itself,
   so this can be shared out in shards; what is done is kept in ``parts/`` (`rgb_circuit.keeping`).
2. *Finish*, from what was measured on all trials: tests, roles, frames, figures, report. What needs all
   trials first, such as freezing the color extractors that were found, is measured here, and kept too.

A run does both, and is finished again from its parts alone, without a forward.
"""

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import pandas as pd
from transformers.utils import logging

from rgb_circuit.answer_pieces import answer_pieces
from rgb_circuit.errors import CannotWrite, InputError
from rgb_circuit.jobs import gathering
from rgb_circuit.keeping import clean, keeping, take_over
from rgb_circuit.loading import SHIPPED, load
from rgb_circuit.locking import locked, shards_of
from rgb_circuit.manifest import check_same, described, differences, manifest
from rgb_circuit.noise import noise_floor
from rgb_circuit.panels import mean_floor, panels, panels_for, strongest
from rgb_circuit.patching import patch_heads
from rgb_circuit.play import answered_right, play
from rgb_circuit.plots import effect_forest, panel_heatmaps
from rgb_circuit.prompts import POSITIONS, check_trials, locate, prompt_ids
from rgb_circuit.results import open_folder, write_figure, write_frame
from rgb_circuit.saved_run import ModelNeeded, read_run, recorded_model, recorded_trials
from rgb_circuit.trial import Trial
from rgb_circuit.vlm import Vlm

from . import closer_look, digits, riddle, roles
from . import report as _report
from .evidence import by_prediction, missing

# How the role table shows a state.
MARKS = {"holds": "yes", "refuted": "no", "undecided": "?", "void": "-"}

# How many trials the noise of the number format is measured on.
NOISE_TRIALS = 4


def run(
    folder: Path,
    model: Vlm,
    trials: Sequence[Trial],
    options: Mapping[str, object],
    shard: tuple[int, int] | None = None,
    detached: bool = False,
) -> None:
    """Measure and finish, or measure one shard of the trials.

    Args:
        folder: held by the caller (`rgb_circuit.locking.locked`).
        options: those of ``rgb-circuit run``: ``trials`` and ``seed``, or ``trials_file``; ``positions,
            only_correct, device, dtype, tiles``.
        shard: (i, n): every n-th trial from the i-th on.
        detached: do not wait for the model's server: hand in what is missing and take what is done.

    Raises:
        Pending: of a detached run, where the server is not done yet.
        InputError: before anything is written, trials or positions that cannot be used, or a folder that
            holds another run; after it, a disk that is full. What was finished is kept.
    """
    positions = parse_positions(options["positions"])
    targets = ["clean", *(target for target, _ in panels_for(trials).values())]
    check_trials(model, trials, targets)
    ids = prompt_ids(model, trials)
    for trial in trials:
        locate(model, trial, positions, ids[trial.name])
    if shard is not None and shard[1] > len(trials):
        raise InputError(
            f"{shard[1]} shards are more than the {len(trials)} trials; use as many shards as trials or fewer"
        )

    with keeping(folder, manifest(model, trials, options), detached):
        if shard is None:
            clean(folder)
            if detached:
                # All at once, where `_finish` would hand in one call after the other.
                _measure(model, trials, options, trials)
            _finish(folder, model, trials, options)
        else:
            which, of = shard
            own = trials[which - 1 :: of]
            _measure(model, own, options, trials)
            print(
                f"Shard {which}/{of} is done: {len(own)} of {len(trials)} trials are kept in {folder}/parts/"
            )
            print(
                f"When all {of} are: rgb-circuit report {folder} (and their folders, if shards have others)"
            )


def collect(folder: Path) -> None:
    """Take what a server has done for a detached run, hand in what is missing, and finish where nothing is.

    Args:
        folder: held by the caller (`rgb_circuit.locking.locked`).

    Raises:
        Pending: the server is not done yet.
        InputError: a folder of another kind of run, or as `run`.
    """
    recorded = read_run(folder)
    if not recorded["server"]:
        raise InputError(
            f"{folder} holds no run on a server; start one with rgb-circuit run --remote --detach --out "
            f"{folder}"
        )
    trials = _trials_again(folder, recorded)
    run(folder, _reloaded(recorded), trials, recorded["options"], detached=True)


def report(folders: Sequence[str | Path], out: str | Path | None = None) -> None:
    """Finish a run from its parts; parts that are missing are computed, with the model that the manifest
    names.

    Args:
        folders: of the same run, one or more: shards may have written to folders of their own.
        out: where all parts come together; by default the first folder.

    Raises:
        InputError: folders of different runs, a trials file that is gone or changed, or as `run`.
    """
    recorded = read_run(folders[0])
    for other in folders[1:]:
        check_same(other, read_run(other), recorded)
    trials, options = _trials_again(folders[0], recorded), recorded["options"]

    folder = open_folder(out or folders[0])
    with locked(folder):
        with keeping(folder, recorded):
            clean(folder)
            for other in folders:
                take_over(Path(other), folder)
            missing = _unmeasured(recorded_model(recorded), trials, options)
            try:
                # What is printed on the way is kept back, for it may end where the model is needed.
                with redirect_stdout(io.StringIO()) as printed:
                    _finish(folder, recorded_model(recorded), trials, options)
            except ModelNeeded:
                printed = None
        if printed is not None:
            print(printed.getvalue(), end="")
            return

        _print_missing(recorded["model"], trials, missing, shards_of(folders))
        model = _reloaded(recorded)
        with keeping(folder, manifest(model, trials, options)):
            _finish(folder, model, trials, options)


def loaded(name: str, **options) -> Vlm:
    """`rgb_circuit.load`, without the bars that flash by for a model of a megabyte."""
    if name in SHIPPED:
        logging.disable_progress_bar()
    return load(name, **options)


def parse_positions(text: str) -> str | list[int]:
    """``positions`` of `patch_heads` from a command line."""
    if text in POSITIONS:
        return text
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"--positions is {text!r}; use {', '.join(POSITIONS)}, or token positions like 5,-1"
        ) from None


def print_played(model: Vlm, played: pd.DataFrame, trials_file: str | None) -> None:
    """Print how often the model answered right, from the frame of `play`."""
    task = "plays the RGB game" if trials_file is None else f"answers {trials_file}"
    cannot = _report.cannot_play(model.name, played["correct"], trials_file is not None)
    print(
        f"{cannot} (by picture):" if cannot else f"{model.name} {task} (right answers of trials, by picture):"
    )
    width = max(10, *map(len, played["condition"].cat.categories))
    for condition, rows in played.groupby("condition", observed=True, sort=False):
        if rows["correct"].count():
            print(f"  {condition:<{width}} {rows['correct'].sum()} of {rows['correct'].count()}")
        else:
            answers = rows["answer"].value_counts().head(3)
            print(
                f"  {condition:<{width}} not scored; most often "
                f"{', '.join(f'{word!r} ({n})' for word, n in answers.items())}"
            )
    wrong = played[~played["correct"].fillna(True).astype(bool)]
    if len(wrong):
        first = wrong.iloc[0]
        print(
            f"  e.g. {first['trial']!r} {first['condition']}: expected {first['expected']!r}, answered "
            f"{first['answer']!r}"
        )


def _measure(model, trials, options, every):
    """Everything that each trial gives by itself; some of them, of ``every`` trial of the run."""
    sampled = {trial.name for trial in every[:NOISE_TRIALS]}
    with gathering() as each:
        with each():
            play(model, trials)
        with each():
            answer_pieces(model, trials)
        if noisy := [trial for trial in trials if trial.name in sampled]:
            with each():
                _noise(model, noisy, options)
        with each():
            _patched(model, trials, options)
        try:
            with each():
                roles.measure(model, trials)
        except CannotWrite:
            raise
        except InputError:
            # Trials that no role can be told from; the finished run says so.
            pass


def _trials_again(folder, recorded):
    """The trials of a run, if they are still what they were."""
    trials = recorded_trials(recorded)
    if changed := differences(recorded, {**recorded, "trials": [described(trial) for trial in trials]}):
        raise InputError(
            f"the trials of {folder} are no longer what they were, first in {changed[0]}; put the pictures "
            "back as they were"
        )
    return trials


def _reloaded(recorded):
    """The model of a run, from its manifest."""
    options = recorded["options"]
    placement = {} if recorded["server"] else {"device_map": options["device"], "dtype": options["dtype"]}
    where = {"remote": recorded["server"] or False, "revision": recorded["revision"], **placement}
    return loaded(recorded["model"], tiles=options.get("tiles"), **where)


def _unmeasured(model, trials, options):
    """Which trials, from 0, lack a part that each trial gives by itself; for a model that is only
    recorded."""
    missing = []
    for index, trial in enumerate(trials):
        try:
            _measure(model, [trial], options, trials)
        except ModelNeeded:
            missing.append(index)
    return missing


def _patched(model, trials, options):
    return patch_heads(
        model, trials, target=_targets(trials), positions=parse_positions(options["positions"])
    )


def _noise(model, trials, options):
    return noise_floor(
        model, trials, target=_targets(trials), positions=parse_positions(options["positions"])
    )


def _targets(trials):
    return list(dict.fromkeys(target for target, _ in panels_for(trials).values()))


def _finish(folder, model, trials, options):
    """Measure what is not measured yet, and write frames, figures and the report."""
    trials_file, which, every = options.get("trials_file"), panels_for(trials), trials
    played = play(model, trials)
    print_played(model, played, trials_file)
    written = [
        write_frame(played, folder, "play"),
        write_frame(answer_pieces(model, trials), folder, "answers"),
    ]
    if options["only_correct"]:
        trials = _only_correct(trials, played)
    elif _report.cannot_play(model.name, played["correct"], trials_file is not None):
        print(
            "So nothing below says what a head does when the model "
            f"{'plays' if trials_file is None else 'answers'}."
        )

    # Of the trials as given, whichever are left out.
    floor = _noise(model, every[:NOISE_TRIALS], options)
    frame = _patched(model, trials, options)
    frame.attrs["noise_floor"] = floor
    written.append(write_frame(frame, folder, "patch_heads"))
    written.append(write_figure(panel_heatmaps(frame, model.name, which), folder, "panels"))
    where = f"at positions '{options['positions']}', mean of {len(trials)} trial{'s' * (len(trials) > 1)}"
    table = strongest(panels(frame, which))
    if (table == 0).all(axis=None):
        print(f"\nRestored alone {where}, no head moves the logit of any answer.")
    else:
        print(f"\nStrongest heads, effect in logits of restoring one head {where}:")
        print(digits.table(table).to_string())
    rounding = f"{mean_floor(floor, len(trials)):.2g}"
    print(
        f"Of such a mean, up to {rounding} may be rounding in {str(model.dtype).removeprefix('torch.')} "
        "alone; what is below counts as 0."
    )

    try:
        if trials_file is not None:
            _check_predictions(roles.HYPOTHESES, trials)
        evidence = roles.evidence(model, trials)
    except CannotWrite:
        raise
    except InputError as error:
        evidence = error
        print(f"\nNo role table: {error}")
    else:
        table = roles.table(evidence)
        written.append(write_frame(evidence, folder, "evidence"))
        written.append(write_frame(table, folder, "roles"))
        _print_roles(table, evidence)
        verdicts = riddle.table(evidence)
        if len(verdicts):
            written.append(
                write_figure(effect_forest(verdicts, model.name, group="verdict").figure, folder, "riddle")
            )
    written += closer_look.write(model, trials, frame, which, evidence, folder)
    written.append(_report.write(folder))
    print(f"\nWrote {', '.join(path.name for path in written)} to {folder}/")
    print(f"Read {folder / 'report.html'}")


def _only_correct(trials, played):
    """The trials that are answered right; prints how many are left out."""
    right = answered_right(trials, played)
    if not right:
        raise InputError(
            "every trial has a picture that is answered wrongly, so nothing is left; run without "
            "--only-correct"
        )
    if left_out := len(trials) - len(right):
        print(
            f"Of {len(trials)} trials, {left_out} with a wrong answer {'are' if left_out > 1 else 'is'} "
            "left out of what follows."
        )
    return right


def _check_predictions(hypotheses, trials):
    """Raise InputError that says which predictions cannot be tested on trials that all have the same
    conditions and roles."""
    # Dictionaries for sets that keep their order.
    untestable, pictures, answers = {}, {}, {}
    for predictions, _ in hypotheses.values():
        for prediction in predictions:
            unshown, unnamed = missing(trials[0], prediction)
            if unshown or unnamed:
                untestable[prediction.name] = None
                pictures |= dict.fromkeys(unshown)
                answers |= dict.fromkeys(unnamed)
    if untestable:
        needs = [
            f"{kind} {', '.join(names)}"
            for kind, names in (("the pictures", pictures), ("the answers", answers))
            if names
        ]
        raise InputError(
            f"{', '.join(untestable)} cannot be tested, since they need {' and '.join(needs)}, which these "
            "trials lack"
        )


def _print_roles(table, evidence):
    """The heads with a role, or the closest to one; and what could not be tested."""
    found = table[table["role"] != "none"]
    predictions = [name for name in table if name[:1] == "P"]
    scored = table.loc[table["score"].abs().dropna().nlargest(5).index]
    if lacking := roles.no_gap(evidence):
        print(f"\nN{lacking[1:]}. Effects are in evidence.parquet.")
    if len(found):
        tested = f"each prediction tested on {evidence['n'].iloc[0]} trials"
        print(f"\nRoles from effects at [end], {tested} (all heads in roles.parquet):")
    elif len(scored):
        print("\nNo head is shown to meet every prediction of a role. The strongest:")
        found = scored
    else:
        return
    shown = found.sort_values("score", key=abs, ascending=False)
    states = by_prediction(evidence, "state").where(by_prediction(evidence, "void") == "", "void")
    marks = (
        states.loc[list(zip(shown["layer"], shown["head"])), predictions].replace(MARKS).set_axis(shown.index)
    )
    label = shown["layer"].astype(str) + "." + shown["head"].astype(str)
    score = digits.table(shown[["score"]])
    role = shown["role"] + shown["colors"].map(lambda colors: f" ({colors})" if colors else "")
    print(pd.concat([label.rename("head"), role.rename("role"), score, marks], axis=1).to_string(index=False))
    print(
        "yes: shown; no: the opposite is shown; ?: these trials show neither (evidence.parquet: how many "
        "would); -: cannot be tested."
    )
    if refused := roles.refused(evidence):
        print(f"{refused[:1].upper()}{refused[1:]}.")
    if not lacking:
        print(_power(evidence))
    frozen = evidence[evidence["frozen"]].drop_duplicates(["layer", "head"])
    unnamed = [
        head
        for head in zip(frozen["layer"], frozen["head"])
        if head not in roles.heads(table, "color extractor")
    ]
    if unnamed:
        names = ", ".join(f"{layer}.{head}" for layer, head in unnamed)
        print(
            "Frozen with the color extractors, as heads that read the odd colour too or when these are "
            f"silent: {names}."
        )


def _power(evidence):
    """The smallest effect that these trials can confirm, in words."""
    n, even, uneven = evidence["n"].iloc[0], roles.power(evidence, 0.25), roles.power(evidence, 1.0)
    steady = f"{100 * even:.0f} % of the gap if it does so evenly" if even < 10 else "none"
    varying = (
        f"{100 * uneven:.0f} % if its effect varies as much as it is large"
        if uneven < 10
        else "none that varies as much as it is large"
    )
    return f"{n} trials confirm a head that restores {steady}, {varying} (4 times of 5, among all heads)."


def _print_missing(name, trials, missing, shards):
    """Say what of a run is not there, by shard where all shards were cut alike."""
    if not missing:
        print(
            f"Every trial is measured; what needs all of them is not, or cannot be read. Loading {name} for "
            "that."
        )
        return
    said = f"{len(missing)} of {len(trials)} trials are not measured"
    if len(shards) == 1:
        (of,) = shards
        said += f", of shard {', '.join(f'{which}/{of}' for which in sorted({index % of + 1 for index in missing}))}"
    else:
        said += (
            f" ({', '.join(repr(trials[index].name) for index in missing[:3])}{', …' * (len(missing) > 3)})"
        )
    print(f"{said}. Loading {name} for them.")
