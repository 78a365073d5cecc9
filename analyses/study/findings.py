"""The findings of a run: from trials to frames, step by step.

1. Every trial by itself: the game, every head, the sweeps of the hypotheses, the other question.
   Each picture goes through the model once. This step can be split into shards. Otherwise the first
   half of the trials comes first, since it ranks the heads, and the circuits of the ranked heads
   share the second half's pictures.
2. What depends on all trials: heads that stand in for the color extractors, and the sweeps with
   these frozen.
3. A closer look at the heads that were found (`closer_look`).

This module prints and writes nothing, except the parts in the store.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import pandas as pd

from rgb_circuit.calls.answer_pieces import Pieces
from rgb_circuit.calls.noise import floor_of, rounded_otherwise, spread
from rgb_circuit.calls.panels import panels_for
from rgb_circuit.calls.patching import PatchedHeads, in_order
from rgb_circuit.calls.play import Played, answered_right
from rgb_circuit.errors import InputError, ModelError, NotApplicable
from rgb_circuit.heads import Head
from rgb_circuit.hypothesis import about_words
from rgb_circuit.keeping.store import Store
from rgb_circuit.measuring.measure import follow, follow_all, measure
from rgb_circuit.measuring.measurement import Measurement
from rgb_circuit.task import Task
from rgb_circuit.trial import Trial
from rgb_circuit.vlm import Vlm

from .. import roles
from ..evidence import missing
from ..report.accuracy import accuracy, by_trial, flipped
from ..report.playing import cannot_play, shown_not_to_play
from ..rgb import riddle
from . import closer_look

# The trials that the noise floor of the number format is measured on.
NOISE_TRIALS = 4
# How many trials show whether the model plays.
GLANCE = 4
# Frames of the closer look that need no roles.
OF_SOME_HEADS = ("stimuli", "attention", "items", "item_looks")
STAGES = ("every picture, every head", "mediation through the heads found", "a closer look")


@dataclass(frozen=True)
class Study:
    """A run's settings.

    Attributes:
        positions: where heads are restored, in the panels and for roles, as in
            `rgb_circuit.patch_heads`.
        only_correct: leave out trials with a wrong answer, from all but the game.
        flips_only: leave out trials that do not flip (`analyses.report.accuracy.by_trial`), from
            all but the game.
        task: of the trials. A task without hypotheses gives no roles, and a model always counts as
            playing it.
        anyway: go on with a model that does not play.
        heads: (layer, head) pairs that are restored; None for all.
        component: of each head, as in `rgb_circuit.patch_heads`.
        called: the run's name in progress bars, if it is one of several.
        steer: also make heads look elsewhere one by one, at any cost (`analyses.steering`).
    """

    positions: str | list[int] = "end"
    only_correct: bool = False
    flips_only: bool = False
    task: Task = roles.GAME
    anyway: bool = False
    heads: tuple[tuple[int, int], ...] | None = None
    component: str = "z"
    called: str = ""
    steer: bool = False

    @property
    def must_play(self) -> bool:
        """Whether the run stops if the model does not play."""
        return bool(self.task.hypotheses) and not self.anyway

    @property
    def playing(self) -> str:
        """The progress bar's label while answers are read."""
        return f"{self.called}, playing" if self.called else "playing"

    @property
    def chooses(self) -> bool:
        """Whether trials are left out because of their answers."""
        return self.only_correct or self.flips_only

    @property
    def tests_roles(self) -> bool:
        """Whether heads are tested for roles by their effects."""
        words = any(about_words(one.tested) for one in self.task.hypotheses)
        return words and not self.narrowed

    @property
    def narrowed(self) -> str:
        """Why this run has no roles, which need every head's z, in words; empty if it has."""
        if self.heads is not None:
            names = [str(Head(*head)) for head in self.heads]
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            return f"heads other than {', '.join(names[:5])}{more} were not restored"
        return "" if self.component == "z" else f"{self.component} was restored instead of z"


@dataclass(frozen=True)
class Findings:
    """The findings of a run.

    Attributes:
        played, pieces: the frames of `rgb_circuit.play` and `rgb_circuit.answer_pieces`.
        accuracy, by_trial: those of `analyses.report.accuracy`.
        trials: the trials of all other frames.
        which: panel → (target condition, role whose logit is read).
        effects: the frame of `rgb_circuit.patch_heads`; ``attrs["noise_floor"]`` is the run's.
        evidence, table, riddle: of `analyses.roles` and `analyses.rgb.riddle`; None if roles cannot
            be determined.
        looks: name → frame, see `analyses.study.closer_look.steps`.
        left_out: name of a frame, or ``roles`` → why it is missing.
    """

    played: pd.DataFrame
    pieces: pd.DataFrame
    accuracy: pd.DataFrame
    by_trial: pd.DataFrame
    trials: list[Trial]
    which: Mapping[str, tuple[str, str]]
    effects: pd.DataFrame
    evidence: pd.DataFrame | None
    table: pd.DataFrame | None
    riddle: pd.DataFrame | None
    looks: Mapping[str, pd.DataFrame]
    left_out: Mapping[str, str]


def find(model: Vlm, trials: Sequence[Trial], study: Study, store: Store) -> Findings:
    """Everything that a run finds.

    Raises:
        InputError: trials that cannot be used, before any forward; or a model that does not play.
        Pending: a detached store has unfinished jobs.
    """
    trials = list(trials)
    measure_each(model, trials, trials, study, store)
    played, pieces = measure(model, [Played.of(trials), Pieces(tuple(trials))], store)
    if study.must_play and shown_not_to_play(played, study.task):
        raise _plays_not(model, played, study.task)
    which, all_trials = panels_for(trials), trials
    if study.only_correct:
        trials = answered_right(trials, played)
        if not trials:
            raise NotApplicable(
                "every trial has a picture that is answered wrongly, so nothing is left; run "
                "without --only-correct"
            )
    if study.flips_only:
        trials = flipped(trials, played)
        if not trials:
            raise NotApplicable(
                "no trial flips: of none are the clean picture and those with another right answer "
                "all answered rightly, so nothing is left; run without --flips-only"
            )
    # The floor is measured on the trials as given, even if some are left out later.
    floor = _floor(model, all_trials[:NOISE_TRIALS], study, store)
    effects = in_order(measure(model, _effects(model, trials, study), store), trials)
    effects.attrs["noise_floor"] = floor

    left_out, evidence = {}, None
    try:
        if study.narrowed:
            raise NotApplicable(
                f"{study.narrowed}, and roles need z of every head; run without that option"
            )
        _check_predictions(study.task, trials)
        steps = roles.steps(model, trials, task=study.task, positions=study.positions)
        evidence = follow(model, steps, store, stage=_stage(2, study))
    except (NotApplicable, ModelError) as reason:
        left_out["roles"] = str(reason)
    table = None if evidence is None else roles.table(evidence, study.task)
    verdicts = None if evidence is None or not riddle.asked(evidence) else riddle.table(evidence)
    analyses = closer_look.steps(
        model, trials, study.task, effects, which, evidence, study.positions, study.steer
    )
    if study.narrowed:
        left_out |= {name: left_out["roles"] for name in analyses if name not in OF_SOME_HEADS}
        analyses = {name: steps for name, steps in analyses.items() if name in OF_SOME_HEADS}
    frames = follow_all(model, analyses, store, stage=_stage(3, study))
    left_out |= {
        name: str(frame) for name, frame in frames.items() if isinstance(frame, InputError)
    }
    looks = {name: frame for name, frame in frames.items() if name not in left_out}
    right = accuracy(played, all_trials, study.task), by_trial(played, all_trials)
    return Findings(
        played, pieces, *right, trials, which, effects, evidence, table, verdicts, looks, left_out
    )


def measure_each(
    model: Vlm, trials: Sequence[Trial], every: Sequence[Trial], study: Study, store: Store
) -> None:
    """Measure everything that needs only one trial at a time.

    Args:
        trials: a subset of ``every``, the run's trials.

    Raises:
        InputError: as `find`; a model that does not play is refused after its first trials, before
            any head is measured.
    """
    given = list(trials)
    if study.must_play and not store.detached:
        [played] = measure(model, [Played.of(given[:GLANCE])], store, stage=study.playing)
        if shown_not_to_play(played, study.task):
            raise _plays_not(model, played, study.task)
    # Halves need no order here: a shard or a run of some heads ranks no heads, trials to leave out
    # are not known yet, and a detached run submits everything at once.
    if len(given) < len(every) or study.chooses or study.narrowed or store.detached:
        _measure_first(model, [given], every, study, store)
    else:
        halves = [half for half in closer_look.halves(given) if half]
        _measure_first(
            model,
            halves,
            every,
            study,
            store,
            {"curve": closer_look.curve(model, given, study.task)},
        )


def _measure_first(model, several, every, study, store, beside=None):
    """Run `asked_first` for one set of trials after another, together with the steps ``beside``
    it."""
    wanted = [asked_first(model, trials, every, study) for trials in several]
    analyses = {
        name: _one_by_one([measurements[name] for measurements in wanted]) for name in wanted[0]
    }
    results = follow_all(model, {**analyses, **(beside or {})}, store, stage=_stage(1, study))
    # The finished run reports other failures.
    if isinstance(error := results["run"], InputError):
        raise error


def _one_by_one(several):
    for wanted in several:
        if wanted:
            yield wanted


def asked_first(
    model: Vlm, trials: Sequence[Trial], every: Sequence[Trial], study: Study
) -> dict[str, list[Measurement]]:
    """The measurements that need only one trial at a time: the ``run``'s own, and the first step of
    each of its analyses.

    Args:
        trials: a subset of ``every``, the run's trials.

    Returns:
        ``run`` or the name of an analysis → its measurements, on those of the ``trials`` that it
        uses.
    """
    every = list(every)
    wanted = {"run": [Played.of(every), Pieces(tuple(every)), *_effects(model, every, study)]}
    wanted["run"] += _noise(model, every[:NOISE_TRIALS], study)
    analyses = closer_look.of_trials(model, every, study.task)
    if study.narrowed:
        analyses = {name: steps for name, steps in analyses.items() if name in OF_SOME_HEADS}
    else:
        with suppress(NotApplicable):
            wanted["roles"] = roles.needs(model, every, study.positions, study.task)
    for name, steps in analyses.items():
        # The finished run reports the analyses that are impossible.
        with suppress(InputError):
            wanted[name] = list(next(steps))
    return {
        name: [
            part
            for part in (measurement.only(trials) for measurement in measurements)
            if part.trials
        ]
        for name, measurements in wanted.items()
    }


def _plays_not(model, played, task):
    reason = cannot_play(model.name, played, task)
    return NotApplicable(
        f"{reason}, so nothing measured on it would say what a head does in that; look at its "
        "answers with rgb-circuit play, or go on all the same with --anyway"
    )


def _effects(model, trials, study):
    return [
        PatchedHeads.of(
            model, trials, "clean", target, study.component, study.positions, study.heads
        )
        for target in _targets(trials)
    ]


def _noise(model, trials, study):
    few_heads = replace(study, heads=spread(study.heads or model.heads()))
    return [
        rounded_otherwise(measurement, trials) for measurement in _effects(model, trials, few_heads)
    ]


def _floor(model, trials, study, store):
    effects, noise = _effects(model, trials, study), _noise(model, trials, study)
    frames = measure(model, [*effects, *noise], store)
    return floor_of(frames[: len(effects)], frames[len(effects) :])


def _targets(trials):
    return dict.fromkeys(target for target, _ in panels_for(trials).values())


def _check_predictions(task, trials):
    """Raise NotApplicable with the predictions that cannot be tested, given trials that all have
    the same conditions and roles."""
    if not task.hypotheses:
        raise NotApplicable(
            "these pictures come without a hypothesis about heads, so no role can be tested; a "
            "task in a file brings one: --task FILE.toml"
        )
    # Dictionaries as ordered sets.
    untestable, pictures, answers = {}, {}, {}
    for prediction in task.predictions:
        unshown, unnamed = missing(task, trials[0], prediction)
        if unshown or unnamed:
            untestable[prediction.name] = None
            pictures |= dict.fromkeys(unshown)
            answers |= dict.fromkeys(unnamed)
    if untestable:
        needed = [
            f"{kind} {', '.join(names)}"
            for kind, names in (("the pictures", pictures), ("the answers", answers))
            if names
        ]
        raise NotApplicable(
            f"{', '.join(untestable)} cannot be tested, since they need {' and '.join(needed)}, "
            "which these trials lack"
        )


def _stage(number, study):
    step = f"step {number} of {len(STAGES)}: {STAGES[number - 1]}"
    return f"{study.called}, {step}" if study.called else step
