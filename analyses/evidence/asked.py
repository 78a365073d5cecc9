"""The measurements that predictions need."""

from collections.abc import Sequence
from dataclasses import replace

import rgb_circuit as rgb
from rgb_circuit.calls.patching import PatchedHeads
from rgb_circuit.calls.play import Played
from rgb_circuit.errors import NotLinedUp
from rgb_circuit.hypothesis import Claim, Prediction, Sweep, about_words
from rgb_circuit.measuring.measurement import Measurement
from rgb_circuit.stimuli.drawing import words_for
from rgb_circuit.task import Task, pictures_of
from rgb_circuit.task import pictures as shown

from .looks import shares_asked


class Swept(PatchedHeads):
    """A sweep of every head, which measures nothing if its runs have no positions in common."""

    excused = (NotLinedUp,)

    @property
    def lines_up(self) -> bool:
        """Whether the runs have positions in common, however the model tokenizes pictures."""
        (edit,) = self.edits[0]
        return (edit.positions == "end" and not edit.remade) or not any(
            len({(trial.asked(name), trial.sizes[name]) for name in self.conditions}) > 1
            for trial in self.trials
        )


def with_controls(task: Task, model: rgb.Vlm, trials: Sequence[rgb.Trial]) -> list[rgb.Trial]:
    """`Task.with_controls`, with the words that the model can say."""
    prompts = map(model.prompt, task.questions)
    return task.with_controls(trials, words_for(model, task), prompts)


def asked(
    task: Task,
    model: rgb.Vlm,
    trials: Sequence[rgb.Trial],
    predictions: Sequence[Prediction],
    positions: str | Sequence[int],
) -> tuple[Played, dict[Sweep, Swept], list[Measurement], dict]:
    """The measurements that predictions need: the answers; sweep → every head restored; pictures
    that only gaps need; condition → where heads look."""
    sweeps = _sweeps(task, model, trials, predictions, positions)
    return (
        _played(trials, predictions),
        sweeps,
        _gaps(task, model, trials, predictions, sweeps),
        shares_asked(trials, predictions),
    )


def _sweeps(task, model, trials, predictions, positions) -> dict[Sweep, Swept]:
    """Every sweep that predictions need, with nothing frozen, as a measurement."""
    trials = with_controls(task, model, trials)
    wanted = dict.fromkeys(
        sweep for claim in about_words(predictions) for sweep in sweeps_of(claim)
    )
    return {
        sweep: Swept.of(
            model,
            trials,
            sweep.source,
            sweep.target,
            sweep.component,
            positions,
            over=sweep.over or None,
            without=sweep.without or None,
        )
        for sweep in wanted
    }


def sweeps_of(claim: Claim) -> list[Sweep]:
    """The sweeps to measure for a claim, with nothing frozen."""
    whole = claim.sweep.whole
    return [whole, replace(whole, without="")] if claim.expected == "below half" else [whole]


def _gaps(task, model, trials, predictions, asked) -> list[Measurement]:
    """Measurements of the pictures that gaps are between, unless a sweep that cannot be refused
    shows them; ``asked``: sweep → its measurement."""
    sweeps = [claim.sweep for claim in about_words(predictions)]
    measured = [sweep for sweep in sweeps if asked[sweep.whole].lines_up]
    swept = {condition for sweep in measured for condition in pictures_of(sweep)}
    between = dict.fromkeys(["clean", *map(task.changed, sweeps)] if sweeps else [])
    unseen = tuple(condition for condition in between if condition not in swept)
    return [Played(tuple(with_controls(task, model, trials)), unseen)] if unseen else []


def _played(trials, predictions):
    """The measurement of the model's answers to the pictures that the predictions use."""
    wanted = {"clean", *shown(predictions)}
    return Played(tuple(trials), tuple(name for name in trials[0].images if name in wanted))
