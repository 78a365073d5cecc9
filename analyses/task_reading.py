"""Which heads read the question? The picture stays, the question changes.

The published note expects heads that attend to 'color' and 'odd' to understand the task. If a head carries
what is asked, its z taken from a run with another question about the same picture switches the answer: odd
colour → background.

1. Show the clean picture with the trial's own question (target run) and with the other one (source run).
2. Restore one head's z from the source run into the target run, where the two prompts line up:

   - ``"end"``: the last token.
   - ``"after"``: every token after the words that differ, [end] among them, lined up from the end.
   - ``"words"``: the words that differ, lined up from their end. Of questions of different length (not
     ``aligned``) as many as the shorter one has: of the game's two, ``out`` is given what ``background`` has.
3. Effects are read on the logit difference (other question's answer − own question's answer).

What is restored at [end] may be the picture read in another way, so a colour extractor that is asked to look
elsewhere shows up here too. A head that reads the *question* attends to its words as well (`reading`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from rgb_circuit import Edit, InputError, Trial, Vlm
from rgb_circuit.checks import check_attention, check_finite, check_unedited
from rgb_circuit.execute import execute
from rgb_circuit.keeping import by_trial
from rgb_circuit.memory import chunks, pictures_at_once, rows_at_once
from rgb_circuit.programs.across import across
from rgb_circuit.programs.patterns import summed_patterns
from rgb_circuit.programs.sweep import plain
from rgb_circuit.prompts import (
    answer_table,
    answer_tokens,
    check_trials,
    encode,
    locate,
    prompt_ids,
    rerun_from,
)
from rgb_circuit.rgb_game import BACKGROUND_QUESTION, ODD_QUESTION
from rgb_circuit.statistics import (
    benjamini_hochberg,
    bootstrap_interval,
    fewest_trials,
    shown_to_fall,
    sign_flip_p,
)

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
    question: str = BACKGROUND_QUESTION,
    positions: Sequence[str] = PLACES,
    progress: bool = True,
) -> pd.DataFrame:
    """The effect of restoring each head alone from a run with another question about the clean picture.

    Args:
        question: asked instead of "Which color is the odd color out? Respond in one word" in each trial's
            prompt.
        positions: which of ``"end"``, ``"after"`` and ``"words"`` to restore. All heads at ``"end"`` go
            through one forward a trial; the other two take about a tenth of a forward for every head.
        progress: show a bar when it takes longer than two seconds.

    Returns:
        A row per trial × place × head × role: ``trial, question, aligned`` (do the questions have equally
        many tokens?), ``positions`` (``"end"``, ``"after"``, ``"words"``), ``layer, head, role, answer,
        source_logit`` (other question), ``target_logit`` (own question), ``patched_logit, effect`` (patched −
        target logit). Logits are read at [end].

    Raises:
        InputError: a trial that does not ask the odd question, the same question again, or places that do not
            exist, before any forward.
    """
    trials, positions = list(trials), [positions] if isinstance(positions, str) else list(positions)
    if not positions or not set(positions) <= set(PLACES):
        raise InputError(f"positions is {positions!r}; name one or more of {', '.join(map(repr, PLACES))}")
    arguments = {"question": question, "positions": positions}
    prepare = partial(_prepared, model, trials, question, positions)
    parts = by_trial(
        model,
        "patch_questions",
        arguments,
        trials,
        prepare,
        progress=progress,
        what="patching across questions",
    )
    frame = pd.concat([parts[trial.name] for trial in trials], ignore_index=True)
    frame = frame.astype(dict.fromkeys(["trial", "question", "positions", "role", "answer"], "category"))
    return frame[
        "trial question aligned positions layer head role answer source_logit target_logit patched_logit "
        "effect".split()
    ]


def evidence(
    model: Vlm,
    trials: Sequence[Trial],
    *,
    question: str = BACKGROUND_QUESTION,
    positions: Sequence[str] = PLACES,
    role: str = "background",
    level: float = 0.05,
    least: float = 0.05,
    progress: bool = True,
) -> pd.DataFrame:
    """Is each head's part in the question enough to move the answer towards the other question's?

    Args:
        question, positions, progress: as in `patch_questions`.
        role: the right answer to the other question.
        level: false discovery rate, over all rows (Benjamini–Hochberg).
        least: fraction of the gap between the two questions that an effect must exceed to count.

    Returns:
        A row per place × head: ``layer, head, prediction`` (one of ``PREDICTIONS``), ``expected`` (``"up"``),
        ``effect`` (on the logit difference, ``role`` − own answer, mean over trials), ``ci_low, ci_high`` (95
        % bootstrap interval), ``p_value`` (sign flips), ``q_value, n, holds, restored_fraction`` (effect /
        gap).

    Raises:
        InputError: too few trials, no such role, or as `patch_questions`, before any forward; after it, a
            model that is not shown to change its answer with the question.
    """
    trials = list(trials)
    needed = fewest_trials(level)
    if len(trials) < needed:
        raise InputError(
            f"there are {len(trials)} trials; a test at {level} needs {needed} or more; use "
            "rgb_trials(model, n=32)"
        )
    if not 0 <= least < 1:
        raise InputError(f"least is {least}; use a fraction of the gap from 0 to 1, such as 0.05")
    for trial in trials:
        if role not in trial.answers or trial.expected.get("clean", role) == role:
            raise InputError(
                f"trial {trial.name!r} needs two answers, {role!r} to the other question and another one, "
                "expected['clean'], "
                "to its own; set both"
            )
    frame = patch_questions(model, trials, question=question, positions=positions, progress=progress)
    effects, asked_other, asked_own = _switch(frame, trials, role)
    gap = (asked_other - asked_own).mean()
    if not shown_to_fall(asked_other, asked_own, level):
        raise InputError(
            f"{model.name} does not answer differently to {question!r}, as far as {len(trials)} trials show "
            "(the logit difference "
            f"moves by {gap:.3g}), so no head of it can be shown to read the question; ask another one"
        )
    low, high = bootstrap_interval(effects)
    place, layer, head = effects.columns.to_frame().to_numpy().T
    result = pd.DataFrame(
        {
            "layer": layer.astype(int),
            "head": head.astype(int),
            "prediction": [PREDICTIONS[one] for one in place],
            "expected": "up",
            "effect": effects.mean().to_numpy(),
            "ci_low": low,
            "ci_high": high,
            "p_value": sign_flip_p(effects - least * gap),
        }
    )
    result["q_value"] = benjamini_hochberg(result["p_value"])
    result["n"] = len(trials)
    result["holds"] = result["q_value"] <= level
    result["restored_fraction"] = result["effect"] / gap
    return result


def heads(evidence: pd.DataFrame) -> list[tuple[int, int]]:
    """The (layer, head) pairs that switch the answer somewhere: a head may read the question at one place
    only."""
    found = (
        evidence.loc[evidence["holds"], ["layer", "head"]].drop_duplicates().sort_values(["layer", "head"])
    )
    return list(found.itertuples(index=False, name=None))


def reading(model: Vlm, trials: Sequence[Trial], *, progress: bool = True) -> pd.DataFrame:
    """From where every head attends to the words after the picture, on the clean picture.

    Args:
        trials: all with the same prompt.

    Returns:
        A row per head × pair of tokens after the picture, ``to`` not after ``from``: ``layer, head,
        from_position, from_word, to_position, to_word`` (positions from 0 in the prompt), ``attention``
        (probability, mean over trials), ``n``.

    Raises:
        InputError: trials with different prompts, or a prompt without words after the picture, before any
            forward.
    """
    trials = list(trials)
    check_trials(model, trials, ["clean"])
    every = {tuple(ids.tolist()): ids for ids in prompt_ids(model, trials).values()}
    if len(every) > 1:
        raise InputError(
            f"the trials have {len(every)} different prompts, whose words do not line up; give those of one "
            "at a time"
        )
    (tokens,) = every.values()
    start = locate(model, trials[0], "image", tokens)[-1] + 1
    if start == len(tokens):
        raise InputError(
            "the prompt ends with the picture, so no word can be read after it; put the question after "
            "'<image>'"
        )

    total = 0
    with tqdm(total=len(trials), desc="reading", unit="trial", delay=2, disable=not progress) as bar:
        for group in chunks(trials, pictures_at_once(model, len(tokens), start)):
            inputs = encode(model, [(trial, "clean") for trial in group])
            read = execute(model, summed_patterns, (model.n_heads, model.d_head), inputs, start)
            check_finite(model, read["finite"])
            check_attention(model, read["gaps"])
            total = total + read["patterns"]
            bar.update(len(group))
    attention = (total / len(trials)).numpy()

    words = np.array(
        [
            token.lstrip("▁")
            for token in model.processor.tokenizer.convert_ids_to_tokens(tokens[start:].tolist())
        ]
    )
    reader, read = np.tril_indices(len(words))
    attention = attention[..., reader, read]
    layer, head, pair = np.indices(attention.shape).reshape(3, -1)
    reader, read = reader[pair], read[pair]
    return pd.DataFrame(
        {
            "layer": layer,
            "head": head,
            "from_position": start + reader,
            "from_word": pd.Categorical(words[reader]),
            "to_position": start + read,
            "to_word": pd.Categorical(words[read]),
            "attention": attention.ravel(),
            "n": len(trials),
        }
    )


def _prepared(model, trials, question, positions):
    """What `patch_questions` computes its parts with, once the trials are checked."""
    others = _asked(model, trials, question)
    own, other = prompt_ids(model, trials), prompt_ids(model, list(others.values()))
    line_ups = {
        trial.name: _line_up(model, own[trial.name], other[trial.name], positions) for trial in trials
    }

    def parts(trials):
        by_prompt = {}
        for trial in trials:
            by_prompt.setdefault(tuple(own[trial.name].tolist()), []).append(trial)
        for alike in by_prompt.values():
            line_up = line_ups[alike[0].name]
            fitting = pictures_at_once(model, max(line_up.lengths), min(line_up.starts)) // 2
            for group in chunks(alike, fitting):
                blocks = _patched(model, group, [others[trial.name] for trial in group], line_up)
                yield {trial.name: block.assign(question=question) for trial, block in zip(group, blocks)}

    return parts


@dataclass(frozen=True)
class _LineUp:
    """How two prompts line up: own (target) first, other (source) second.

    Attributes:
        lengths: tokens of the two prompts.
        starts: first position that any place needs, in each: in the own prompt the first that changes.
        places: place → token positions in the own prompt.
        restarts: place → the first position that changes there.
    """

    lengths: tuple[int, int]
    starts: tuple[int, int]
    places: dict[str, tuple[int, ...]]
    restarts: dict[str, int]


def _line_up(model: Vlm, own_ids: torch.Tensor, other_ids: torch.Tensor, wanted: Sequence[str]) -> _LineUp:
    own, other = own_ids.tolist(), other_ids.tolist()
    shortest = min(len(own), len(other))
    before = next((index for index in range(shortest) if own[index] != other[index]), shortest)
    after = next(
        (index for index in range(shortest - before) if own[-1 - index] != other[-1 - index]),
        shortest - before,
    )
    places = {"end": (len(own) - 1,), "after": tuple(range(len(own) - after, len(own)))}
    differing = shortest - before - after
    places["words"] = tuple(range(len(own) - after - differing, len(own) - after))
    places = {place: positions for place, positions in places.items() if positions and place in wanted}
    if not places:
        raise InputError(
            f"the two questions have nothing to line up at {', '.join(wanted)}; ask one that differs in a "
            "word, or restore at 'end'"
        )
    restarts = {place: rerun_from(model, min(positions), own_ids) for place, positions in places.items()}
    first = min(restarts.values())
    return _LineUp((len(own), len(other)), (first, max(0, first + len(other) - len(own))), places, restarts)


def _asked(model, trials, question):
    """Trial name → the trial with the other question."""
    for trial in trials:
        if ODD_QUESTION not in trial.prompt:
            raise InputError(
                f"the prompt of trial {trial.name!r} does not hold {ODD_QUESTION!r}, which is what is "
                "replaced; ask that question"
            )
    if question == ODD_QUESTION:
        raise InputError("the other question is the trials' own; give another one")
    others = {
        trial.name: replace(trial, prompt=trial.prompt.replace(ODD_QUESTION, question)) for trial in trials
    }
    check_trials(model, trials, ["clean"])
    check_trials(model, list(others.values()), ["clean"])
    unknown = model.processor.tokenizer.unk_token_id
    if unknown is not None and unknown in model.processor.tokenizer(question)["input_ids"]:
        raise InputError(
            f"{question!r} holds a word that is not in the vocabulary of {model.name}; use other words"
        )
    return others


def _patched(model, trials, others, line_up):
    """Each trial's part of the frame, for trials of one prompt."""
    tokens = [answer_tokens(model, trial) for trial in trials]
    answers = answer_table(tokens)
    own_start, other_start = line_up.starts
    places = {}
    for place, positions in line_up.places.items():
        each = [[Edit(layer, head, "question", positions=positions)] for layer, head in model.heads()]
        places[place] = (
            plain(each),
            positions,
            rows_at_once(model, line_up.lengths[0], line_up.restarts[place]),
        )
    inputs, others_inputs = (
        encode(model, [(trial, "clean") for trial in asked]) for asked in (trials, others)
    )
    done = execute(
        model,
        across,
        (model.n_heads, model.d_head),
        inputs,
        others_inputs,
        own_start,
        other_start,
        places,
        answers,
        model.softcap,
    )
    check_finite(model, done["finite"])
    check_unedited(model, done["drift"], line_up.lengths[0])

    blocks = {trial.name: [] for trial in trials}
    for place in line_up.places:
        for index, trial in enumerate(trials):
            roles = len(trial.answers)
            unpatched = [done[asked][index, :roles].numpy() for asked in ("source", "target")]
            blocks[trial.name].append(
                _block(model, trial, place, done[place][index, :, :roles].numpy(), *unpatched)
            )
    aligned = line_up.lengths[0] == line_up.lengths[1]
    return [pd.concat(blocks[trial.name]).assign(aligned=aligned) for trial in trials]


def _block(model, trial, place, effects, source_logit, target_logit):
    """Rows of one trial and place, from effects (heads, roles) and logits (roles,) and (roles,)."""
    layer, head = np.array(model.heads()).T
    n_heads, n_roles = effects.shape
    return pd.DataFrame(
        {
            "trial": trial.name,
            "positions": place,
            "layer": layer.repeat(n_roles),
            "head": head.repeat(n_roles),
            "role": [*trial.answers] * n_heads,
            "answer": [*trial.answers.values()] * n_heads,
            "source_logit": np.tile(source_logit, n_heads),
            "target_logit": np.tile(target_logit, n_heads),
            "patched_logit": np.tile(target_logit, n_heads) + effects.ravel(),
            "effect": effects.ravel(),
        }
    )


def _switch(frame, trials, role):
    """Effects on the logit difference, a row per trial and a column per (place, layer, head); and the
    difference itself with the other and with the own question, (trials,) each."""
    own = {trial.name: trial.expected["clean"] for trial in trials}
    name, answer = frame["trial"].astype(str), frame["role"].astype(str)

    def of(rows, column):
        rows = rows.astype({"positions": str})
        return rows.pivot(index="trial", columns=["positions", "layer", "head"], values=column).astype(float)

    towards, away = frame[answer == role], frame[answer == name.map(own)]
    asked = [
        (of(towards, column) - of(away, column)).iloc[:, 0].to_numpy()
        for column in ("source_logit", "target_logit")
    ]
    return of(towards, "effect") - of(away, "effect"), *asked
