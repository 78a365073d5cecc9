"""A closer look at the heads that a run found: the report's content beyond the sweep and the role
table.

1. The first pictures, as the model sees them, and where the found heads look on them.
2. Composition: what the heads that localize or write the background do through the color
   extractors, and whether through the extractors' query, key or value (`composition`).
3. The circuit of the extractors and localizers, and faithfulness over circuit size (`circuit`).
4. Which heads carry the question, and which of its words they look at (`task_reading`).
5. What the model would answer if the found heads looked elsewhere (`steering`).

Roles use all trials. For the curve, heads are ranked on the first half; 2 and 3 are measured on
the second half.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import pandas as pd

import rgb_circuit as rgb
from rgb_circuit.calls.attention import attention_from_end, over_picture
from rgb_circuit.calls.panels import panels, strongest
from rgb_circuit.errors import NotApplicable
from rgb_circuit.heads import Head
from rgb_circuit.measuring.measurement import Measurement, Parts, Steps
from rgb_circuit.pictures.views import laid_out
from rgb_circuit.prompts import prompt_ids
from rgb_circuit.remote.jobs import Jobs
from rgb_circuit.stimuli.replicates import Replicates
from rgb_circuit.task import Task

from .. import circuit, composition, roles, steering, task_reading
from ..evidence import with_controls
from ..roles import standing
from . import every_head, items

# The trials shown, the pictures of each with attention, and the heads.
TRIALS, PICTURES, HEADS = 3, 3, 8
# How many trials are shown in which a head strays from its role.
STRAYS = 4
# How many trials paths are measured on: paths into keys and values need all positions of a few
# layers. With 8 senders and 2 extractors that is about one plain forward per trial, on pictures
# that composition has captured.
PATH_TRIALS = 8
# With more heads, `task_reading` at all words costs more than everything else: 108 forwards per
# trial with 1,024 heads, against 4 for a sweep.
QUESTION_HEADS = 256


def of_trials(
    model: rgb.Vlm, trials: Sequence[rgb.Trial], task: Task
) -> dict[str, Steps[pd.DataFrame]]:
    """Those of `steps` that need only trials, so that their first measurements can run before any
    head is found."""
    return {
        "stimuli": _stimuli(trials),
        **items.of_trials(trials, task),
        "curve": curve(model, trials, task),
        "task_reading": _questions(model, trials, task),
        **every_head.of_trials(trials),
    }


def steps(
    model: rgb.Vlm,
    trials: Sequence[rgb.Trial],
    task: Task,
    effects: pd.DataFrame,
    which: Mapping[str, tuple[str, str]],
    evidence: pd.DataFrame | None,
    positions: str | Sequence[int] = "end",
    whole: bool = False,
) -> dict[str, Steps[pd.DataFrame]]:
    """Name of a frame → steps to it; steps that cannot be measured raise InputError with the
    reason.

    Args:
        task: of the trials.
        effects: the run's `rgb_circuit.patch_heads`.
        which: panel → (target condition, role whose logit is read).
        evidence: from `analyses.roles.evidence`, if any.
        positions: where the run restores heads.
        whole: steer heads one by one too, whatever that costs (`analyses.steering`).

    Returns:
        ``stimuli`` and ``strays`` (`Shown`), ``attention`` (`Looked`), ``items`` and ``item_looks``
        (`analyses.study.items.steps`), ``composition``,
        ``mediation`` and ``paths`` (as `analyses.composition`), ``circuit`` and ``curve`` (as
        `analyses.circuit`), ``task_reading`` (as `analyses.task_reading`), ``question_attention``
        (as its ``reading``, from [end], of the heads that carry the question), ``steering`` (as
        `analyses.steering`), and the frames of every head (`analyses.study.every_head.steps`).
    """
    trials = list(trials)
    by_role: dict[str, list[tuple[int, int]]] = {}
    shown: list[Head] = []
    chosen = pd.DataFrame()
    if evidence is not None:
        table = roles.table(evidence, task)
        named = table[table["role"] != "none"]
        chosen = (
            roles.closest(evidence, task=task)
            if named.empty
            else named.loc[named["score"].abs().nlargest(HEADS).index]
        )
        shown = [
            Head(int(layer), int(head)) for layer, head in zip(chosen["layer"], chosen["head"])
        ]
        by_role = {
            hypothesis.name: roles.heads(table, hypothesis.name) for hypothesis in task.hypotheses
        }
    if not shown:
        strong = strongest(panels(effects, which, trials=trials), 3).index
        shown = [Head.parse(name) for name in strong]
    _, testing = halves(trials)
    target = _corrupted(task, trials[0])
    senders, receivers = (
        sorted({head for hypothesis in hypotheses for head in by_role.get(hypothesis.name, [])})
        for hypotheses in (task.senders, task.receivers)
    )
    in_circuit = [hypothesis for hypothesis in task.hypotheses if hypothesis.in_circuit]
    members = [head for hypothesis in in_circuit for head in by_role.get(hypothesis.name, [])]
    return {
        "stimuli": _stimuli(trials),
        "strays": _strays(trials, task, evidence, chosen),
        "attention": _looks(trials, shown),
        **items.steps(trials, task, effects, which, shown),
        "composition": _through(
            composition.composition.steps, model, testing, task, senders, receivers
        ),
        "mediation": _through(
            composition.mediation.steps, model, testing, task, senders, receivers
        ),
        "paths": _through(
            composition.paths.steps, model, testing[:PATH_TRIALS], task, senders, receivers
        ),
        "circuit": _whole(model, testing, in_circuit, members, target),
        "curve": curve(model, trials, task),
        "task_reading": _questions(model, trials, task),
        "question_attention": _question_attention(model, trials, task),
        "steering": steering.steering.steps(
            model, trials[:TRIALS], members or shown, _by_strength(effects, shown), whole=whole
        ),
        **every_head.steps(model, trials, effects, positions, None if evidence is None else task),
    }


def forwards(trials: Sequence[rgb.Trial]) -> int:
    """The number of plain forwards for ``attention`` of `steps`, one per picture."""
    return sum(len(list(trial.images)[:PICTURES]) for trial in trials[:TRIALS])


def at_most_steered(
    model: rgb.Vlm, trials: Sequence[rgb.Trial], whole: bool
) -> Sequence[Measurement]:
    """The measurements of ``steering`` if every found head is in the first layers, the costliest
    case; ``whole`` as in `steps`.

    Raises:
        InputError: there would be none.
    """
    heads = model.heads()
    return next(steering.steering.steps(model, trials[:TRIALS], heads[:1], heads, whole=whole))


def _by_strength(effects, first):
    """Heads: those shown ``first``, then the others by the effect of restoring them."""
    sizes = effects.groupby(["layer", "head"])["effect"].apply(lambda some: some.abs().mean())
    by_size = [
        Head(int(layer), int(head)) for layer, head in sizes.sort_values(ascending=False).index
    ]
    return [*first, *(head for head in by_size if head not in first)]


def _stimuli(trials):
    [frame] = yield [Shown(tuple(trials[:TRIALS]))]
    return frame


def _strays(trials, task, evidence, chosen):
    """The pictures of trials in which a shown head contradicts its role."""
    if evidence is None:
        raise NotApplicable("roles were not tested")
    names = [
        name
        for row in chosen.to_dict("records")
        for role in row["role"].split(" + ")
        for name in standing.strays(evidence, (row["layer"], row["head"]), task.hypothesis(role))[
            "stray"
        ]
    ]
    stray = [trial for trial in trials if trial.name in list(dict.fromkeys(names))[:STRAYS]]
    if not stray:
        raise NotApplicable("no trial strays")
    [frame] = yield [Shown(tuple(stray))]
    return frame


def _looks(trials, heads):
    [frame] = yield [Looked(tuple(trials[:TRIALS]), tuple(heads))]
    return frame


def _through(analysis, model, trials, task, senders, receivers):
    alone = task.carriers and len(senders) < 2
    if alone or not (senders and receivers):
        if not task.receivers:
            raise NotApplicable("the task claims nothing of what goes through other heads")
        if task.carriers:
            plural = " and ".join(hypothesis.plural for hypothesis in task.carriers)
            raise NotApplicable(f"composition needs two {plural} or more, and no two are known")
        raise NotApplicable(
            f"composition needs {standing.one_of(task.receivers)} and "
            f"{standing.one_of(task.senders)}, and no such pair is known"
        )
    return (
        yield from analysis(model, trials, senders, receivers, target=_corrupted(task, trials[0]))
    )


def _whole(model, trials, hypotheses, heads, target):
    if not hypotheses:
        raise NotApplicable("the task names no role that makes up a circuit")
    if not heads:
        raise NotApplicable(
            f"no head is shown to be {standing.one_of(hypotheses)}, so these roles name no set of "
            "heads"
        )
    return (yield from circuit.circuit.steps(model, trials, heads, target=target))


def halves(trials: Sequence[rgb.Trial]) -> tuple[Sequence[rgb.Trial], Sequence[rgb.Trial]]:
    """The trials that rank heads, and those that circuits are measured on; no cluster is in
    both."""
    finding, testing = Replicates.of(trials).halves()
    return [trials[number] for number in finding], [trials[number] for number in testing]


def curve(model: rgb.Vlm, trials: Sequence[rgb.Trial], task: Task) -> Steps[pd.DataFrame]:
    """Faithfulness over circuit size: measures the first half of the trials, then the second."""
    (finding, testing), target = halves(trials), _corrupted(task, trials[0])
    if len(finding) < 2:
        raise NotApplicable(
            "ranking heads on one half of the trials and measuring on the other needs 4 trials, "
            f"and there are {len(finding) + len(testing)}"
        )
    # Add the roles' control words, so that the roles' sweep is reused.
    ranking = yield from circuit.ranked.steps(
        model, with_controls(task, model, finding), target=target
    )
    ranking = ranking[["layer", "head"]].to_numpy()
    return (yield from circuit.curve.steps(model, testing, ranking, target=target))


def _questions(model, trials, task):
    if task.second_question is None:
        raise NotApplicable("the task has no second question, which is what would change")
    question, role = task.second_question
    second_condition = question in trials[0].images
    if not (second_condition or task.question in trials[0].prompt) or role not in trials[0].answers:
        raise NotApplicable(
            "these trials do not ask the task's question, which is what would change"
        )
    return (yield from task_reading.evidence.steps(model, trials, positions=_places(model)))


def _question_attention(model, trials, task):
    try:
        reading = yield from _questions(model, trials, task)
    except rgb.InputError:
        reading = pd.DataFrame({"holds": []})
    if not reading["holds"].any():
        raise NotApplicable("no head is known to carry the question")
    strongest_first = reading[reading["holds"]].sort_values(
        "effect", ascending=False, kind="stable"
    )
    carriers = list(
        strongest_first[["layer", "head"]]
        .drop_duplicates()
        .head(HEADS)
        .itertuples(index=False, name=None)
    )
    [read] = yield [task_reading.Reading(tuple(trials))]
    last = read[read["from_position"] == read["from_position"].max()].set_index(
        ["layer", "head"], drop=False
    )
    return last.loc[carriers].reset_index(drop=True)


def _places(model):
    return task_reading.PLACES if len(model.heads()) <= QUESTION_HEADS else ("end",)


@dataclass(frozen=True)
class Shown(Measurement):
    """The pictures of some trials, as the model sees them.

    A row per trial × condition: ``trial, condition, prompt, expected`` (word, missing where none is
    right), ``png`` (bytes), and ``unseen``: why the picture is shown as it was given (it is unknown
    what the model sees of it); else missing.
    """

    function: ClassVar[str] = "stimuli"

    def prepare(self, model: rgb.Vlm, jobs: Jobs | None) -> Parts:
        return lambda trials, jobs: ({trial.name: _pictures(model, trial)} for trial in trials)


def _pictures(model, trial):
    rows = []
    for condition, image in trial.images.items():
        role, file = trial.expected.get(condition), io.BytesIO()
        image, unseen = items.seen_or_given(model, image)
        image.save(file, "png")
        shown = dict(
            trial=trial.name, condition=condition, prompt=trial.asked(condition), unseen=unseen
        )
        rows.append(
            shown | dict(expected=trial.accepted[role] if role else None, png=file.getvalue())
        )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Looked(Measurement):
    """Where some heads look from [end] on the first three pictures of each trial.

    A row per trial × condition × head × image token: ``trial, condition, layer, head, row, column,
    attention`` (probability).
    """

    heads: tuple[Head, ...]

    function: ClassVar[str] = "attention"

    def prepare(self, model: rgb.Vlm, jobs: Jobs | None) -> Parts:
        # Refuse before any forward if the places of the image tokens are unknown.
        for trial in self.trials:
            for condition in list(trial.images)[:PICTURES]:
                ids = prompt_ids(model, [trial], condition)[trial.name]
                laid_out(model, trial.images[condition], ids)
        return partial(_looked, model, self.heads)


def _looked(model, heads, trials, jobs):
    for trial in trials:
        conditions = list(trial.images)[:PICTURES]
        blocks = []
        for _, condition, pattern in attention_from_end(
            model, [trial], conditions, heads=heads, jobs=jobs, progress=False
        ):
            for layer, head in heads:
                cells = pd.DataFrame(
                    over_picture(model, trial, pattern[layer, head], condition)
                ).stack()
                cells = cells.rename_axis(["row", "column"]).rename("attention").reset_index()
                labels = dict(trial=trial.name, condition=condition, layer=layer, head=head)
                blocks.append(pd.concat([pd.DataFrame(labels, index=cells.index), cells], axis=1))
        yield {trial.name: pd.concat(blocks, ignore_index=True)}


def _corrupted(task, trial):
    """The condition that clean is compared with: the task's if the trial has it, else the first
    other."""
    others = [condition for condition in trial.images if condition != "clean"]
    return task.corrupted if task.corrupted in others else others[0]
