"""Which heads read the question? The picture stays, the question changes.

The published note expects heads that attend to 'color' and 'odd' to understand the task. If a head
carries the request, then its z from a run with another question about the same picture switches the
answer: odd colour → background.

1. Show the clean picture with the trial's own question (target run) and with the other question
   (source run).
2. Restore one head's z from the source run into the target run, where the two prompts line up:

   - ``"end"``: the last token.
   - ``"after"``: every token after the words that differ, including [end], lined up from the end.
   - ``"words"``: the words that differ, lined up from their end. If the questions differ in length
     (not ``aligned``), as many as the shorter one has: of the game's two, ``out`` gets the z of
     ``background``.
3. Effects are read on the logit difference (other question's answer − own question's answer).

Restoring [end] may bring another reading of the picture, so a color extractor that was told to look
elsewhere shows up here too. A head that reads the *question* attends to its words as well
(`reading`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import ClassVar

import numpy as np
import pandas as pd

from rgb_circuit import Edit, InputError, Trial, Vlm
from rgb_circuit.calls.patching import in_order
from rgb_circuit.errors import NotApplicable
from rgb_circuit.heads import Head
from rgb_circuit.measuring.measure import measure, stepwise
from rgb_circuit.measuring.measurement import OfPictures, Request, Steps
from rgb_circuit.pictures import picture_hash
from rgb_circuit.prompts import answer_ids, check_trials, prompt_ids, rerun_from
from rgb_circuit.remote.jobs import Jobs
from rgb_circuit.statistics import benjamini_hochberg, fewest_trials, shown_to_fall, t_interval, t_p
from rgb_circuit.stimuli.replicates import (
    FEWEST,
    Replicates,
    check_enough,
    observed,
    said,
    with_trials,
)
from rgb_circuit.stimuli.tasks import task_of
from rgb_circuit.trial import as_trials

from .question_words import Reading as Reading
from .question_words import reading as reading

# The condition with the clean picture under the other question.
OTHER = "other question"
# Place → prediction of `evidence`.
PREDICTIONS = {
    "end": "restored at [end], switches",
    "after": "restored after the words that differ, switches",
    "words": "restored at the words that differ, switches",
}
PLACES = tuple(PREDICTIONS)


def patch_questions(
    model: Vlm,
    trials: Sequence[Trial],
    *,
    question: str | None = None,
    positions: Sequence[str] = PLACES,
    progress: bool = True,
) -> pd.DataFrame:
    """The effect of restoring each head alone from a run with another question about the clean
    picture.

    Args:
        question: asked instead of the task's own in each trial's prompt; or a condition of the
            trials, whose question about the clean picture may differ from trial to trial; by
            default the task's second question, in the game "Which color is the background? Respond
            in one word".
        positions: which of ``"end"``, ``"after"`` and ``"words"`` to restore. All heads at
            ``"end"`` take one forward per trial; the other two take about a tenth of a forward per
            head.
        progress: show a bar when it takes longer than two seconds.

    Returns:
        A row per trial × place × head × role: ``trial, question, aligned`` (whether the questions
        have equal numbers of tokens), ``positions`` (``"end"``, ``"after"``, ``"words"``), ``layer,
        head, role, answer, source_logit`` (other question), ``target_logit`` (own question),
        ``patched_logit, effect`` (patched − target logit). Logits are read at [end].

    Raises:
        InputError: a trial that does not ask its task's question, the same question again, or
            unknown places, before any forward.
    """
    trials = as_trials(trials)
    measurements = questions(trials, question, positions)
    return _together(
        measure(model, measurements, progress=progress, stage="patching across questions"), trials
    )


def questions(
    trials: Sequence[Trial], question: str | None = None, positions: Sequence[str] = PLACES
) -> list[Questioned]:
    """The measurements of `patch_questions`, place by place."""
    positions = [positions] if isinstance(positions, str) else list(positions)
    if not positions or not set(positions) <= set(PLACES):
        raise InputError(
            f"positions is {positions!r}; name one or more of {', '.join(map(repr, PLACES))}"
        )
    question = question or _second(trials)[0]
    return [Questioned(tuple(trials), question, place, tuple(positions)) for place in positions]


def _second(trials):
    """The second question of the trials' task, and the role of its right answer."""
    task = task_of(trials)
    if task.second_question is None:
        raise NotApplicable("these trials' task has no second question; give one: question=")
    return task.second_question


@dataclass(frozen=True)
class Questioned(OfPictures):
    """Every head restored from a run with another question, at one place where the two line up.

    Attributes:
        question: the other question.
        place: one of ``PLACES``.
        places: all measured places; at least one of them must be there.
    """

    question: str
    place: str
    places: tuple[str, ...]

    function: ClassVar[str] = "patch_questions"
    unlike_others: ClassVar[tuple[str, ...]] = ("places",)

    def prepare(self, model: Vlm, jobs: Jobs | None) -> Callable[[Trial], Request]:
        asking = {trial.name: trial for trial in _asking(model, self.trials, self.question)}
        check_trials(model, list(asking.values()), ["clean", OTHER])
        own_ids, other_ids = (
            prompt_ids(model, list(asking.values()), name) for name in ("clean", OTHER)
        )
        lined_up = {
            name: _line_up(own_ids[name].tolist(), other_ids[name].tolist(), self.places)
            for name in own_ids
        }

        @cache
        def edits(positions):
            return tuple(
                (Edit(layer, head, OTHER, positions=positions),) for layer, head in model.heads()
            )

        def request(trial: Trial) -> Request:
            trial, tokens = asking[trial.name], own_ids[trial.name]
            positions = lined_up[trial.name].get(self.place, ())
            lengths = {OTHER: len(other_ids[trial.name]), "clean": len(tokens)}
            return Request(
                trial=trial,
                lengths=lengths,
                ids=tuple(answer_ids(model, trial).values()),
                part=partial(_part, model, trial, self, lengths[OTHER] == len(tokens)),
                target="clean" if positions else None,
                edits=edits(positions) if positions else (),
                kept=len(tokens) - rerun_from(model, min(positions), tokens) if positions else 1,
                spots={positions: list(positions)},
            )

        return request


@stepwise(stage="patching across questions")
def evidence(
    model: Vlm,
    trials: Sequence[Trial],
    *,
    question: str | None = None,
    positions: Sequence[str] = PLACES,
    role: str | None = None,
    level: float = 0.05,
    least: float = 0.05,
    progress: bool = True,
) -> Steps[pd.DataFrame]:
    """Is each head's part in the question enough to move the answer towards the other question's?

    Args:
        question, positions, progress: as in `patch_questions`.
        role: the right answer to the other question; by default to the task's second question.
        level: false discovery rate, over all rows (Benjamini–Hochberg).
        least: fraction of the gap between the two questions that an effect must exceed to count.

    Returns:
        A row per place × head: ``layer, head, prediction`` (one of ``PREDICTIONS``), ``expected``
        (``"up"``), ``effect`` (on the logit difference, ``role`` − own answer, mean over trials),
        ``ci_low, ci_high`` (95 % t interval within the words of ``role``), ``p_value`` (of the same
        t; if no task drew the trials, the largest of two to four answers), ``q_value, n, holds,
        restored_fraction`` (effect / gap).

    Raises:
        InputError: too few trials, no such role, or as `patch_questions`, before any forward; after
            it, a model that is not shown to change its answer with the question.

    Examples:
        >>> from analyses import task_reading
        >>> frame = task_reading.evidence(model, rgb.rgb_trials(model, 16))
        >>> strong = frame[frame["holds"] & (frame["restored_fraction"] > 0.5)]
        >>> sorted(set(zip(strong["layer"], strong["head"])))
        [(0, 2), (3, 0)]
    """
    trials = as_trials(trials)
    question, role = question or _second(trials)[0], role or _second(trials)[1]
    needed = fewest_trials(level)
    if len(trials) < needed:
        raise NotApplicable(
            f"there are {len(trials)} trials; a test at {level} needs {needed} or more; use "
            "rgb_trials(model, n=32)"
        )
    if not 0 <= least < 1:
        raise InputError(f"least is {least}; use a fraction of the gap from 0 to 1, such as 0.05")
    for trial in trials:
        if role not in trial.answers or trial.expected.get("clean", role) == role:
            raise InputError(
                f"trial {trial.name!r} needs two answers, {role!r} to the other question and "
                "another one, expected['clean'], "
                "to its own; set both"
            )
    check_enough(trials)
    words = {trial.name: trial.answers[role] for trial in trials}
    replicates = Replicates.of(trials)
    if replicates.too_few(np.array([*words.values()]), replicates.all):
        raise NotApplicable(
            f"each of two to four answers must show what a head does, and one is right in fewer "
            f"than {FEWEST} of {said(len(trials), replicates.n())}; add trials of it"
        )
    frames = yield questions(trials, question, positions)
    frame = _together(frames, trials)
    effects, asked_other, asked_own = _switch(frame, trials, role)
    runs = pd.DataFrame({"other": asked_other, "own": asked_own}, effects.index)
    runs, _ = observed(runs, trials, words)
    asked_other, asked_own = runs["other"].to_numpy(), runs["own"].to_numpy()
    each = _in_each_answer(effects, trials, words)
    effects, strata = observed(effects, trials, words)
    gap = (asked_other - asked_own).mean()
    if not shown_to_fall(asked_other, asked_own, level):
        raise NotApplicable(
            f"{model.name} does not answer differently to {question!r}, as far as "
            f"{said(len(trials), len(effects))} show (the logit difference "
            f"moves by {gap:.3g}), so no head of it can be shown to read the question; ask another "
            "one"
        )
    low, high = t_interval(effects, strata)
    place, layer, head = effects.columns.to_frame().to_numpy().T
    result = pd.DataFrame(
        {
            "layer": layer.astype(int),
            "head": head.astype(int),
            "prediction": [PREDICTIONS[name] for name in place],
            "expected": "up",
            "effect": effects.mean().to_numpy(),
            "ci_low": low,
            "ci_high": high,
            "p_value": np.max(
                [t_p(some - least * gap, "greater", labels) for some, labels in each], axis=0
            ),
        }
    )
    result["q_value"] = benjamini_hochberg(result["p_value"])
    result["n"] = len(effects)
    result["holds"] = result["q_value"] <= level
    result["restored_fraction"] = result["effect"] / gap
    return with_trials(result, len(trials))


def _in_each_answer(effects, trials, words):
    """Effects by cluster and their strata, for all trials, or for each answer separately."""
    named = {trial.name: trial for trial in trials}
    replicates = Replicates.of([named[str(name)] for name in effects.index])
    read = np.array([words[str(name)] for name in effects.index])
    parts = replicates.by_answer(read, replicates.all)
    return [replicates.means(effects.to_numpy(), read, own, alike=True) for own in parts]


def heads(evidence: pd.DataFrame) -> list[Head]:
    """The (layer, head) pairs that switch the answer at any place: a head may read the question at
    only one."""
    found = (
        evidence.loc[evidence["holds"], ["layer", "head"]]
        .drop_duplicates()
        .sort_values(["layer", "head"])
    )
    return list(found.itertuples(index=False, name=None))


def _line_up(own: list[int], other: list[int], wanted: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Place → the token positions in the own prompt that line up with the other prompt, from the
    end."""
    shortest = min(len(own), len(other))
    before = next((index for index in range(shortest) if own[index] != other[index]), shortest)
    after = next(
        (index for index in range(shortest - before) if own[-1 - index] != other[-1 - index]),
        shortest - before,
    )
    places = {"end": (len(own) - 1,), "after": tuple(range(len(own) - after, len(own)))}
    differing = shortest - before - after
    places["words"] = tuple(range(len(own) - after - differing, len(own) - after))
    places = {
        place: positions for place, positions in places.items() if positions and place in wanted
    }
    if not places:
        raise InputError(
            f"the two questions have nothing to line up at {', '.join(wanted)}; ask one that "
            "differs in a word, or restore at 'end'"
        )
    return places


def _asking(model, trials, question):
    """The trials, each with the clean picture under the other question as a further condition."""
    if all(question in trial.images for trial in trials):
        return [_asking_as_in(trial, question) for trial in trials]
    replaced = task_of(trials).question
    for trial in trials:
        if not replaced or replaced not in trial.prompt:
            raise InputError(
                f"the prompt of trial {trial.name!r} does not hold {replaced!r}, which is what is "
                "replaced; ask that question"
            )
    if question == replaced:
        raise InputError("the other question is the trials' own; give another one")
    unknown = model.processor.tokenizer.unk_token_id
    if unknown is not None and unknown in model.processor.tokenizer(question)["input_ids"]:
        raise InputError(
            f"{question!r} holds a word that is not in the vocabulary of {model.name}; use other "
            "words"
        )
    return [
        replace(
            trial,
            images={**trial.sources, OTHER: trial.sources["clean"]},
            prompts={**trial.prompts, OTHER: trial.asked("clean").replace(replaced, question)},
        )
        for trial in trials
    ]


def _asking_as_in(trial, condition):
    """The trial with the question that one of its conditions asks, about the clean picture."""
    if picture_hash(trial.sources[condition]) != picture_hash(trial.sources["clean"]):
        raise InputError(
            f"trial {trial.name!r} shows another picture in {condition!r}, so that not the "
            "question alone changes; name a condition with the clean picture"
        )
    if trial.asked(condition) == trial.asked("clean"):
        raise InputError(
            f"trial {trial.name!r} asks the same in {condition!r}; give it another question"
        )
    return replace(
        trial,
        images={**trial.sources, OTHER: trial.sources["clean"]},
        prompts={**trial.prompts, OTHER: trial.asked(condition)},
    )


def _part(model, trial, questioned, aligned, seen):
    """One trial's rows; none if nothing lines up at the place."""
    n_variants, n_roles = seen.effects.shape
    layer, head = np.array(model.heads()[:n_variants], dtype=int).reshape(-1, 2).T
    effects, target_logits = seen.effects.ravel(), np.tile(seen.logits["clean"], n_variants)
    return pd.DataFrame(
        {
            "trial": trial.name,
            "question": questioned.question,
            "aligned": aligned,
            "positions": questioned.place,
            "layer": layer.repeat(n_roles),
            "head": head.repeat(n_roles),
            "role": [*trial.answers] * n_variants,
            "answer": [*trial.answers.values()] * n_variants,
            "source_logit": np.tile(seen.logits[OTHER], n_variants),
            "target_logit": target_logits,
            "patched_logit": target_logits + effects,
            "effect": effects,
        }
    )


def _together(frames, trials):
    """The frames of all places as one frame, trial by trial."""
    labels = ("trial", "question", "positions", "role", "answer")
    return in_order([frame for frame in frames if len(frame)], trials, labels)


def _switch(frame, trials, role):
    """Effects on the logit difference, a row per trial and a column per (place, layer, head); and
    the difference itself with the other and with the own question, (trials,) each."""
    own_role = {trial.name: trial.expected["clean"] for trial in trials}
    name, answer = frame["trial"].astype(str), frame["role"].astype(str)

    def of(rows, column):
        rows = rows.astype({"positions": str})
        return rows.pivot(
            index="trial", columns=["positions", "layer", "head"], values=column
        ).astype(float)

    towards, away = frame[answer == role], frame[answer == name.map(own_role)]
    differences = [
        (of(towards, column) - of(away, column)).iloc[:, 0].to_numpy()
        for column in ("source_logit", "target_logit")
    ]
    return of(towards, "effect") - of(away, "effect"), *differences
