"""``rgb-circuit knockout`` and ``rgb-circuit layers``: where the information for the answer flows,
before any question about heads.

Each measures, prints the layer with the largest effect, and writes a frame and a figure. In the
folder of a run they use its model and trials, and its report gets a section.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from rgb_circuit.calls import patching
from rgb_circuit.calls.knockout import LABELS, Knocked
from rgb_circuit.calls.layers import PatchedLayers
from rgb_circuit.calls.noise import floor_of, least_mean, rounded_otherwise
from rgb_circuit.calls.panels import panels_for
from rgb_circuit.calls.patching import in_order
from rgb_circuit.edits import Groups, groups_of
from rgb_circuit.errors import InputError, NotDrawn, attempt
from rgb_circuit.files.locking import locked
from rgb_circuit.files.results import opened, write_figure, write_frame
from rgb_circuit.keeping.manifest import manifest
from rgb_circuit.keeping.saved_run import going_on, recorded_run
from rgb_circuit.keeping.store import open_store
from rgb_circuit.measuring.measure import measure
from rgb_circuit.plots import knockout_lines, layer_heatmaps
from rgb_circuit.statistics import mean_over_trials
from rgb_circuit.stimuli.replicates import averaged, named_clusters, said
from rgb_circuit.trial import Trial
from rgb_circuit.vlm import Vlm

from .. import report as _report
from ..report import digits

# The characters of a group of token positions.
_NUMBERS = set("0123456789+-. ")
# The trials that the noise floor of the number format is measured on.
NOISY = 2


def knockout(
    model: Vlm,
    trials: Sequence[Trial],
    folder: str | Path,
    options: dict,
    *,
    queries: Groups,
    keys: Groups | None,
    window: int,
    role: str | None = None,
) -> None:
    """Knock attention out in every window of layers, and write ``knockout.parquet`` and
    ``knockout.png``.

    Args:
        folder: of a run, or a new one.
        options: of the run, or for the manifest of a new folder.
        queries, keys, window: as in `rgb_circuit.knockout`; the keys by default those that the
            trials have.
        role: whose logit is printed and drawn; by default the clean picture's expected role.

    Raises:
        InputError: a measurement is impossible; raised before anything is written.
    """
    model, trials = going_on(folder, model, trials)
    seen = groups_of("keys", _usual(trials, end=False) if keys is None else keys)
    asked = [
        Knocked.of(model, trials, "clean", looking, seen, window)
        for looking in groups_of("queries", queries)
    ]
    role = _role(trials, role)
    frame = _measured(model, trials, folder, options, asked, "knocking out", LABELS)
    observed = averaged(frame, named_clusters(trials))
    about = mean_over_trials(observed[observed["role"] == role], ["queries", "keys", "layer"])
    n = said(len(trials), observed["trial"].nunique())
    print(f"{model.name}, n = {n}: attention knocked out, effect on the {role} logit")
    for (looking, at), rows in about.groupby(["queries", "keys"], sort=False):
        _print_largest(f"{looking} does not see {at}", rows, window, least_mean(frame, "logit"))
    _write(
        folder, "knockout", frame, lambda: knockout_lines(observed, model.name, role=role).figure
    )


def layers(
    model: Vlm,
    trials: Sequence[Trial],
    folder: str | Path,
    options: dict,
    *,
    component: str,
    positions: Groups | None,
    role: str | None = None,
) -> None:
    """Restore every layer at groups of positions, and write ``layers.parquet`` and ``layers.png``.

    Args:
        folder, options, role: as in `knockout`.
        component, positions: as in `rgb_circuit.patch_layers`; positions by default those that the
            trials have.

    Raises:
        InputError: as `knockout`.
    """
    model, trials = going_on(folder, model, trials)
    targets = list(dict.fromkeys(target for target, _ in panels_for(trials).values()))
    groups = groups_of("positions", _usual(trials, end=True) if positions is None else positions)
    asked = [
        PatchedLayers.of(model, trials, component, "clean", target, group)
        for target, group in product(targets, groups)
    ]
    role = _role(trials, role)
    frame = _measured(model, trials, folder, options, asked, "patching layers", patching.LABELS)
    observed = averaged(frame, named_clusters(trials))
    about = mean_over_trials(observed[observed["role"] == role], ["target", "positions", "layer"])
    n = said(len(trials), observed["trial"].nunique())
    print(f"{model.name}, n = {n}: {component} restored, effect on the {role} logit")
    for (target, group), rows in about.groupby(["target", "positions"], sort=False):
        _print_largest(f"{target} picture, at {group}", rows, 1, least_mean(frame, "target_logit"))
    _write(folder, "layers", frame, lambda: layer_heatmaps(observed, model.name, role=role))


def groups_from(text: str, option: str) -> Groups:
    """Groups of positions from a command line: ``tile,rest,40+41``; ``+`` joins token positions.

    Raises:
        InputError: anything else, with the option's name.
    """
    try:
        return [
            tuple(int(place) for place in part.split("+"))
            if set(part) <= _NUMBERS
            else part.strip()
            for part in text.split(",")
        ]
    except ValueError:
        raise InputError(
            f"{option} is {text!r}; write words such as tile,rest,question,end, and token "
            "positions as 40+41"
        ) from None


def _usual(trials, end):
    """The default groups of positions for these trials."""
    tiles = all(trial.tile is not None for trial in trials)
    return [*(["tile", "rest"] if tiles else ["image"]), "question", "end" if end else "first"]


def check_role(role: str | None, trials: Sequence[Trial]) -> None:
    """Raise InputError unless all trials have an answer of that role; None is any."""
    if role is not None and any(role not in trial.answers for trial in trials):
        raise InputError(f"role is {role!r}; the trials have {', '.join(trials[0].answers)}")


def _role(trials, role):
    check_role(role, trials)
    return role or trials[0].expected.get("clean") or next(iter(trials[0].answers))


def _measured(model, trials, folder, options, asked, stage, labels):
    """The frame, with its noise floor. A store in the folder keeps the parts if the command is
    killed."""
    for measurement in asked:
        measurement.prepare(model, None)
    is_run = (Path(folder) / "manifest.json").is_file()
    about = (
        recorded_run(folder)
        if is_run and "positions" in options
        else manifest(model, trials, options)
    )
    noise = [rounded_otherwise(measurement, trials[:NOISY]) for measurement in asked]
    with opened(folder) as made, locked(made):
        store = open_store(made, about)
        frames = measure(model, [*asked, *noise], store, stage=stage)
    frame = in_order(frames[: len(asked)], trials, labels)
    frame.attrs["noise_floor"] = floor_of(frames[: len(asked)], frames[len(asked) :])
    return frame


def _print_largest(what: str, rows: pd.DataFrame, window: int, least: float) -> None:
    row = rows.loc[rows["effect"].abs().idxmax()]
    if abs(row["effect"]) <= least:
        print(f"  {what + ':':40s} nothing beyond rounding in any layer")
        return
    places = digits.decimals(rows[["effect", "ci_low", "ci_high"]].to_numpy().ravel())
    at = (
        f"layer {row['layer']}"
        if window == 1
        else f"layers {row['layer']} to {row['layer'] + window - 1}"
    )
    numbers = " to ".join(f"{row[name]:+.{places}f}" for name in ("ci_low", "ci_high"))
    print(f"  {what + ':':40s} largest at {at}: {row['effect']:+.{places}f} [{numbers}]")


def _write(folder: str | Path, name: str, frame: pd.DataFrame, draw: Callable[[], Figure]) -> None:
    folder, failed = Path(folder), {}
    written = [write_frame(frame, folder, name)]
    with attempt(f"{name}.png", failed):
        written.append(write_figure(draw(), folder, name))
    if (folder / "patch_heads.parquet").is_file():
        with attempt("report.html", failed):
            written.append(_report.write(folder))
    if failed:
        raise NotDrawn(failed, folder)
    print(f"\nWrote {', '.join(path.name for path in written)} to {folder}/")
