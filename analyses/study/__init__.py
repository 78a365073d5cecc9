"""A run, from the command to its folder: its settings (`findings.Study`), its findings
(`findings.find`), the printed text (`printed`) and the files.

The folder is the run's store (`rgb_circuit.keeping.store`). A killed run, or one split into shards,
is finished from its parts; if no part is missing, without a forward.
"""

import io
import shlex
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers.utils import logging

from rgb_circuit.bars import saying, tqdm
from rgb_circuit.calls.panels import tested
from rgb_circuit.calls.play import Played
from rgb_circuit.edits import Edit, check_edits, check_heads
from rgb_circuit.errors import InputError, NotDrawn, attempt
from rgb_circuit.files.locking import locked, shards_of
from rgb_circuit.files.results import opened, write_figure, write_frame
from rgb_circuit.heads import Head
from rgb_circuit.keeping.manifest import (
    check_same,
    differences,
    manifest,
    read_manifest,
    record_finish,
    write_manifest,
)
from rgb_circuit.keeping.saved_run import (
    ModelNeeded,
    as_recorded,
    going_on,
    in_conversation,
    recorded_model,
    recorded_run,
    recorded_trials,
)
from rgb_circuit.keeping.store import open_store
from rgb_circuit.loading import SHIPPED, load
from rgb_circuit.loading.sketch import forward_seconds
from rgb_circuit.measuring.estimate import cost
from rgb_circuit.measuring.measure import measure
from rgb_circuit.measuring.registered import registered, registered_of
from rgb_circuit.plots import effect_forest, panel_heatmaps
from rgb_circuit.stimuli.tasks import task_of
from rgb_circuit.tables.trials_from import TrialsFrom
from rgb_circuit.trial import Trial, described
from rgb_circuit.vlm import Vlm

from .. import report as _report
from ..evidence import power
from ..report.playing import cannot_play, shown_not_to_play
from . import printed
from .estimated import forwards_of_page, print_estimate
from .findings import GLANCE, Findings, Study, asked_first, find, measure_each

# Outside the game, this many trials are played before all of them.
FIRST = 8


def run(
    folder: Path,
    model: Vlm,
    trials: Sequence[Trial],
    options: Mapping[str, Any],
    shard: tuple[int, int] | None = None,
    detached: bool = False,
    anyway: bool = False,
    called: str = "",
) -> None:
    """Measure and finish, or measure one shard of the trials.

    Args:
        folder: locked by the caller (`rgb_circuit.files.locking.locked`).
        options: those of ``rgb-circuit run``: ``trials`` and ``seed``, or ``trials_file``;
            ``positions, only_correct, device, dtype, tiles, name``; optionally ``task, heads`` (as
            text), ``component``, and ``fix`` (role → the word that is held fixed).
        shard: (i, n): every n-th trial from the i-th on.
        detached: do not wait for the model's server: submit missing jobs and fetch finished ones.
        anyway: go on with a model that does not play.
        called: the run's name in progress bars, if it is one of several.

    Raises:
        Pending: in a detached run, the server is not done yet.
        InputError: before anything is written, trials or positions that cannot be used, or a folder
            that holds another run; afterwards, a model that does not play, or a full disk.
            Finished parts are kept.
    """
    given = trials
    model, trials = going_on(folder, model, trials)
    check(model, trials, options, shard)
    store = open_store(folder, registered(folder, manifest(model, trials, options)), detached)
    if isinstance(given, TrialsFrom):
        write_frame(given.rows, store.folder, "rows_used")
    _record_pictures(store.folder, options)
    # Another shard may have started the folder by now.
    model, trials = going_on(folder, model, trials)
    study = replace(study_of(options, trials, anyway), called=called)
    printed.too_few(model, trials, study)
    if shard is None:
        store.clean()
        _finish(store, model, trials, options, study)
        store.clean(finished=True)
        return
    which, of = shard
    own = trials[which - 1 :: of]
    _play_first(store, model, own, study)
    measure_each(model, own, trials, study, store)
    print(
        f"Shard {which}/{of} is done: {len(own)} of {len(trials)} trials are kept in "
        f"{folder}/parts/"
    )
    print(
        f"Once all {of} are done: rgb-circuit report {shlex.quote(str(folder))} (with the other "
        "folders, if shards used several)"
    )


def check(
    model: Vlm,
    trials: Sequence[Trial],
    options: Mapping[str, Any],
    shard: tuple[int, int] | None = None,
) -> None:
    """Raise InputError for trials, positions or a shard that `run` cannot use."""
    study = study_of(options, trials, anyway=True)
    heads = model.heads() if study.heads is None else check_heads(model, study.heads)
    places = study.positions if isinstance(study.positions, str) else tuple(study.positions)
    check_edits(model, {head: [Edit(*head, "clean", study.component, places)] for head in heads})
    # Check all trials here: a run measures some before it checks the others.
    for measurement in asked_first(model, trials, trials, study)["run"]:
        measurement.prepare(model, None)
    if shard is not None and shard[1] > len(trials):
        raise InputError(
            f"{shard[1]} shards are more than the {len(trials)} trials; use as many shards as "
            "trials or fewer"
        )


def estimate(
    model: Vlm,
    trials: Sequence[Trial],
    options: Mapping[str, Any],
    shard: tuple[int, int] | None = None,
) -> None:
    """Print what `run` would do and cost.

    Args:
        model: from `rgb_circuit.loading.sketch.sketch`, or one on a server.

    Raises:
        InputError: as `run`, before anything is written.
    """
    check(model, trials, options, shard)
    own = trials if shard is None else trials[shard[0] - 1 :: shard[1]]
    study = study_of(options, trials, anyway=True)
    wanted = [one for some in asked_first(model, own, trials, study).values() for one in some]
    # Forwards on a server cannot be timed from here.
    seconds = None if model.server else forward_seconds(model)
    # Trials that `_play_first` plays are played again with the others.
    first = sum(len(trial.images) for trial in _glanced(own, study))
    pages = forwards_of_page(model, trials if shard is None else [], wanted, study)
    print_estimate(model, cost(model, wanted), first, pages, seconds, study.task)
    if study.tests_roles:
        sentence, too_few = power.beforehand(trials, study.task, len(model.heads()))
        print(too_few or sentence)


def collect(folder: Path) -> None:
    """Fetch a detached run's results from its server, submit missing jobs, and finish the run if no
    part is missing.

    Args:
        folder: locked by the caller (`rgb_circuit.files.locking.locked`).

    Raises:
        Pending: the server is not done yet.
        InputError: the folder of another kind of run, or as `run`.
    """
    recorded = recorded_run(folder)
    if not recorded["server"]:
        raise InputError(
            f"{folder} holds no run on a server; start one with rgb-circuit run --remote --detach "
            f"--out {shlex.quote(str(folder))}"
        )
    trials = trials_again(folder, recorded)
    run(folder, reloaded(recorded), trials, recorded["options"], detached=True, anyway=True)


def report(folders: Sequence[str | Path], out: str | Path | None = None) -> None:
    """Finish a run from its parts; missing parts are computed with the model that the manifest
    names.

    Args:
        folders: one or more of the same run: each shard may have its own.
        out: the folder that gets all parts; by default the first.

    Raises:
        InputError: folders of different runs, a missing or changed trials file, or as `run`.
    """
    recorded = recorded_run(folders[0])
    for other in folders[1:]:
        check_same(other, recorded_run(other), recorded)
    trials, options = trials_again(folders[0], recorded), recorded["options"]
    study = study_of(options, trials, anyway=True)

    with opened(out or folders[0]) as folder, locked(folder):
        store = open_store(folder, recorded)
        store.clean()
        for other in folders:
            store.take_over(Path(other), _renamed(other, recorded, trials))
        _record_conversations(folder, folders)
        absent = recorded_model(recorded)
        missing = _unmeasured(store, absent, trials, study)
        try:
            # Print nothing until this succeeds: it may fail midway for want of the model.
            with redirect_stdout(io.StringIO()) as said:
                _finish(store, absent, trials, options, study)
        except ModelNeeded:
            _print_missing(recorded["model"], trials, missing, shards_of(folders))
            model = reloaded(recorded)
            store = open_store(folder, manifest(model, trials, options))
            _finish(store, model, trials, options, study)
        else:
            print(said.getvalue(), end="")


def loaded(name: str, **options) -> Vlm:
    """`rgb_circuit.load`, without progress bars for shipped models, which are about a megabyte."""
    if name in SHIPPED:
        logging.disable_progress_bar()
        # Threads slow down models this small, most of all on a busy machine.
        torch.set_num_threads(1)
    with saying(f"loading {name}"):
        return load(name, **options)


def parse_positions(text: str) -> str | list[int]:
    """``positions`` of `patch_heads` from a command line."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        # A position word or the name of a box, which depends on the trials.
        return text


def parse_heads(text: str, option: str = "--heads") -> tuple[Head, ...]:
    """Heads from a command line, each once."""
    try:
        return tuple(dict.fromkeys(map(Head.parse, text.split(","))))
    except InputError:
        raise InputError(
            f"{option} is {text!r}; write layer.head, both from 0, such as 3.2"
            + (", and commas between several" if option == "--heads" else "")
        ) from None


def study_of(options: Mapping[str, Any], trials: Sequence[Trial], anyway: bool) -> Study:
    """A run's settings, from its options."""
    heads = options.get("heads")
    return Study(
        positions=parse_positions(options["positions"]),
        only_correct=options["only_correct"],
        flips_only=options.get("flips_only", False),
        task=task_of(trials),
        # On their own pictures, users may study a model that cannot answer.
        anyway=anyway or options.get("trials_file") is not None,
        heads=None if heads is None else parse_heads(heads),
        component=options.get("component") or "z",
        steer=options.get("steer", False),
    )


def write(found: Findings, model: Vlm, folder: Path) -> list[Path]:
    """Write frames, figures and report; returns their paths.

    Raises:
        NotDrawn: figures that could not be drawn; all else is written first.
    """
    frames = {"play": found.played, "answers": found.pieces, "patch_heads": found.effects}
    frames |= {"evidence": found.evidence, "roles": found.table, **found.looks}
    frames |= {"accuracy": found.accuracy, "accuracy_by_trial": found.by_trial}
    frames["panels"] = tested(found.effects, found.which, trials=found.trials)
    frames["left_out"] = pd.DataFrame(
        found.left_out.items(), columns=["frame", "reason"], dtype=str
    )
    present = {name: frame for name, frame in frames.items() if frame is not None}
    written = [
        write_frame(frame, folder, name)
        for name, frame in tqdm(present.items(), desc="writing tables", unit="table", delay=2)
    ]
    failed: dict[str, Exception] = {}
    with attempt("panels.png", failed):
        figure = panel_heatmaps(found.effects, model.name, found.which, trials=found.trials)
        written.append(write_figure(figure, folder, "panels"))
    if found.riddle is not None and len(found.riddle):
        with attempt("riddle.png", failed):
            forest = effect_forest(found.riddle, model.name, group="verdict")
            written.append(write_figure(forest.figure, folder, "riddle"))
    record_finish(folder)
    with attempt("report.html", failed):
        written.append(_report.write(folder))
    if failed:
        raise NotDrawn(failed, folder)
    return written


def _finish(store, model, trials, options, study):
    """Measure what is missing, then print and write the findings."""
    all_printed = _play_first(store, model, trials, study)
    findings = find(model, trials, study, store)
    if not all_printed:
        printed.game(model, findings.played, study.task, trials)
    printed.findings(model, findings, options, study.task)
    if (claims := registered_of(read_manifest(store.folder))) is not None:
        print(claims.says)
    written = write(findings, model, store.folder)
    print(f"\nWrote {', '.join(path.name for path in written)} to {store.folder}/")
    print(f"Open {store.folder / 'report.html'}")


def _play_first(store, model, trials, study):
    """Print how often the model is right before any head is measured: on the first few trials in
    the game, else on all, after a warning if the first few show that the model does not answer.
    Returns whether accuracy on all trials was printed."""
    if store.detached:
        return False
    if study.task.is_game:
        [played] = measure(model, [Played.of(_glanced(trials, study))], store, stage=study.playing)
        printed.first_played(played)
        return False
    first = trials[:FIRST]
    if len(first) < len(trials):
        [played] = measure(model, [Played.of(first)], store, stage=study.playing)
        if shown_not_to_play(played, study.task):
            print(f"After {len(first)} trials: {cannot_play(model.name, played, study.task)}.")
    [played] = measure(model, [Played.of(trials)], store, stage=study.playing)
    printed.game(model, played, study.task, trials)
    return True


def _glanced(trials, study):
    """The trials that are played before any head is measured."""
    return trials[:GLANCE] if study.task.is_game else trials


def trials_again(folder: str | Path, recorded: Mapping[str, Any]) -> list[Trial]:
    """The trials of a run, from its manifest; InputError if they have changed."""
    trials = recorded_trials(recorded)
    if changed := differences(
        recorded, {**recorded, "trials": [described(trial) for trial in trials]}
    ):
        raise InputError(
            f"the trials of {folder} are no longer what they were, first in {changed[0]}; put the "
            "pictures back as they were"
        )
    return trials


def reloaded(recorded: Mapping[str, Any]) -> Vlm:
    """The model of a run, from its manifest."""
    options = recorded["options"]
    placement = (
        {} if recorded["server"] else {"device_map": options["device"], "dtype": options["dtype"]}
    )
    where = {"remote": recorded["server"] or False, "revision": recorded["revision"], **placement}
    return as_recorded(loaded(recorded["model"], tiles=options.get("tiles"), **where), recorded)


def _renamed(other, recorded, trials):
    """Names of parts in the folder ``other`` → their names in a run with the manifest ``recorded``.
    Names of parts depend on the prompts, and two shards' prompts may differ by a date."""
    template = recorded_run(other)["template"]
    if template == recorded["template"]:
        return {}
    there = in_conversation(trials, recorded["template"], template)
    absent, study = recorded_model(recorded), study_of(recorded["options"], trials, anyway=True)
    keys = [
        [one.key for several in asked_first(absent, some, some, study).values() for one in several]
        for some in (there, trials)
    ]
    contents = [[trial.content for trial in some] for some in (there, trials)]
    return dict(zip(*keys)) | dict(zip(*contents))


def _record_pictures(folder, options):
    """Update the manifest of a resumed run: show pictures on its page or not, as the options now
    say."""
    recorded, key = read_manifest(folder), "no_pictures"
    if bool(recorded["options"].get(key)) != bool(options.get(key)):
        chosen = {name: value for name, value in recorded["options"].items() if name != key}
        chosen |= {key: True} if options.get(key) else {}
        write_manifest(folder, {**recorded, "options": chosen})


def _record_conversations(folder, folders):
    """Record and print the chat templates, other than the manifest's, in which some trials were
    asked."""
    here = read_manifest(folder)
    others = dict.fromkeys(recorded_run(other)["template"] for other in folders)
    also = [template for template in others if template != here["template"]]
    if also and also != here.get("also_asked"):
        write_manifest(folder, {**here, "also_asked": also})
        print(
            f"The output of the chat template is not constant: trials were asked in "
            f"{here['template']!r} and in {', '.join(map(repr, also))}"
        )


def _unmeasured(store, model, trials, study):
    """Indices of trials that lack a part of their own which was not refused."""
    lacking = {
        trial.name
        for several in asked_first(model, trials, trials, study).values()
        for measurement in several
        if store.refusal(measurement.key, [trial.content for trial in measurement.trials]) is None
        for trial in measurement.trials
        if not store.has(measurement.key, trial.content)
    }
    return [index for index, trial in enumerate(trials) if trial.name in lacking]


def _print_missing(name, trials, missing, shards):
    """Print which trials are missing, by shard if all shards were split alike."""
    if not missing:
        print(
            "Every trial is measured; analyses of all trials are missing or cannot be read. "
            f"Loading {name} for these."
        )
        return
    text = f"{len(missing)} of {len(trials)} trials are not measured"
    if len(shards) == 1:
        (n_shards,) = shards
        which = sorted({index % n_shards + 1 for index in missing})
        text += f", of shard {', '.join(f'{shard}/{n_shards}' for shard in which)}"
    else:
        named = ", ".join(repr(trials[index].name) for index in missing[:3])
        text += f" ({named}{', …' * (len(missing) > 3)})"
    print(f"{text}. Loading {name} for them.")
