"""Activation patching as tidy frames: one head at a time (`patch_heads`) or jointly (`patch_edits`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from .checks import check_attention, check_finite, check_unedited
from .edits import ARTIFICIAL, Edit, check_edits, check_heads
from .errors import InputError
from .execute import execute
from .jobs import gathering
from .keeping import by_trial
from .memory import chunks, pictures_at_once, rows_at_once
from .programs.patched import patched_logits, summed_z
from .programs.sweep import plain
from .prompts import (
    answer_table,
    answer_tokens,
    by_length,
    check_trials,
    encode,
    locate,
    prompt_ids,
    rerun_from,
)
from .trial import Trial
from .vlm import Vlm


def patch_heads(
    model: Vlm,
    trials: Sequence[Trial],
    *,
    source: str = "clean",
    target: str | Sequence[str] = ("recolored", "erased"),
    component: str = "z",
    positions: str | Sequence[int] = "end",
    heads: Sequence[tuple[int, int]] | None = None,
    batch_size: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """The effect of restoring each head alone from ``source`` in the ``target`` run.

    Args:
        source: condition that is restored from, or ``"zero"`` / ``"mean"`` / ``"rounding"`` (see `Edit`).
        target: condition or conditions that are patched.
        component: ``"z"``; ``"pattern"``, the source run's attention over the target run's values;
            ``"value"``, the other way round.
        positions: ``"end"``, ``"all"``, ``"image"``, ``"text"``, ``"tile"``, or ints.
        heads: (layer, head) pairs; all by default.
        batch_size: the most patched runs in one forward; by default what fits into a quarter of the free
            memory.
        progress: show a bar when it takes longer than two seconds.

    Returns:
        A row per trial × target × head × role: ``trial, source, target, component, positions, layer, head,
        role, answer, source_logit, target_logit, patched_logit, effect``. Logits are read at [end], each
        word's at its first token; effect = patched − target logit, kept to the number format's precision of a
        difference, not of a logit.

    Raises:
        InputError: anything that does not exist, before any forward runs; or logits that are not finite.
    """
    heads = model.heads() if heads is None else check_heads(model, heads)
    variants = {(layer, head): [Edit(layer, head, source, component, positions)] for layer, head in heads}
    frame = _patch(model, trials, variants, target, batch_size, progress)
    layer, head = np.array(heads).T
    where = frame.columns.get_loc("variant")
    frame.insert(where, "layer", layer[frame["variant"]])
    frame.insert(where + 1, "head", head[frame["variant"]])
    return frame.drop(columns="variant")


def patch_edits(
    model: Vlm,
    trials: Sequence[Trial],
    variants: Mapping[str, Sequence[Edit]],
    *,
    target: str | Sequence[str],
    batch_size: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """The effect of patching several heads jointly.

    Args:
        variants: name → the edits that are made in one run.
        target, batch_size, progress: as in `patch_heads`.

    Returns:
        As `patch_heads`, with ``variant`` for ``layer, head``. Where the edits of a variant differ in source,
        component or positions, the column says ``"mixed"``; ``source_logit`` is NaN without a single source
        picture.

    Raises:
        InputError: as `patch_heads`.
    """
    frame = _patch(model, trials, variants, target, batch_size, progress)
    frame["variant"] = pd.Categorical.from_codes(frame["variant"], [str(name) for name in variants])
    return frame


@dataclass(frozen=True)
class _Study:
    """What `_patch` was asked for, checked; the same for every trial.

    Attributes:
        model: what is patched.
        conditions: the pictures that are run, sources before targets.
        targets: the conditions that are patched.
        variants: the edits made together, per variant.
        kinds: the (source, component) pairs among the edits.
        ids: trial name → token ids, (positions,).
        spots: (trial name, positions as in an edit) → token positions.
    """

    model: Vlm
    conditions: list[str]
    targets: list[str]
    variants: list[list[Edit]]
    kinds: list[tuple[str, str]]
    ids: dict[str, torch.Tensor]
    spots: dict[tuple[str, str | tuple[int, ...]], list[int]]

    def start(self, trials: Sequence[Trial]) -> int:
        """The first position that changes in any of the trials, whatever edit is made."""
        specifications = {edit.positions for edits in self.variants for edit in edits}
        return min(
            rerun_from(self.model, self.spots[trial.name, positions][0], self.ids[trial.name])
            for trial in trials
            for positions in specifications
        )


def _patch(model, trials, variants, target, batch_size, progress):
    """The frame of `patch_edits`, with variants numbered in the order given."""
    trials = list(trials)
    check_edits(model, variants)
    targets = [target] if isinstance(target, str) else list(dict.fromkeys(target or ()))
    if not targets:
        raise InputError("target is empty; name at least one condition to patch")
    if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
        raise InputError(f"batch_size is {batch_size!r}; use a whole number from 1 on, or leave it out")
    edits = [list(group) for group in variants.values()]

    def prepare():
        study = _study(model, trials, variants, targets)
        means = _means(model, study, trials, progress) if ("mean", "z") in study.kinds else None
        return partial(_patched, model, study, trials, means, batch_size)

    arguments = {"edits": edits, "targets": targets}
    averaged = any(edit.source == "mean" for group in edits for edit in group)
    parts = by_trial(
        model, "patch", arguments, trials, prepare, together=averaged, progress=progress, what="patching"
    )
    frame = pd.concat([parts[trial.name] for trial in trials], ignore_index=True)
    labels = ["trial", "source", "target", "component", "positions", "role", "answer"]
    return frame.astype(dict.fromkeys(labels, "category"))


def _patched(model, study, every_trial, means, batch_size, trials):
    """Trial name → its part of the frame, for as many trials at a time as fit."""
    # Means were taken from the first position on that any trial needs.
    starts = {
        len(study.ids[alike[0].name]): study.start(alike) for alike in by_length(every_trial, study.ids)
    }
    for alike in by_length(trials, study.ids):
        start = study.start(alike) if means is None else starts[len(study.ids[alike[0].name])]
        fitting = pictures_at_once(model, len(study.ids[alike[0].name]), start)
        for group in chunks(alike, fitting // len(study.conditions)):
            yield _patch_group(model, study, group, start, means, batch_size)


def _study(model, trials, variants, targets):
    """Check what depends on the trials, before any forward."""
    edits = [list(group) for group in variants.values()]
    kinds = list(dict.fromkeys((edit.source, edit.component) for group in edits for edit in group))
    pictures = [source for source, _ in kinds if source not in ARTIFICIAL]
    conditions = list(dict.fromkeys([*pictures, *targets]))
    check_trials(model, trials, conditions)
    for trial in trials:
        if reserved := sorted(set(ARTIFICIAL) & set(trial.images)):
            raise InputError(
                f"trial {trial.name!r} has a condition named {reserved[0]!r}, which means no picture here; "
                "rename it"
            )

    ids = prompt_ids(model, trials)
    specifications = {edit.positions for group in edits for edit in group}
    spots = {
        (trial.name, positions): locate(model, trial, positions, ids[trial.name])
        for trial in trials
        for positions in specifications
    }
    for name, group in variants.items():
        _check_overlap(name, group, trials, spots)
    if (
        ("mean", "z") in kinds
        and specifications != {"end"}
        and len({len(tokens) for tokens in ids.values()}) > 1
    ):
        raise InputError(
            "the mean over trials needs prompts of equal length unless positions is 'end'; patch one prompt "
            "at a time"
        )
    return _Study(model, conditions, targets, edits, kinds, ids, spots)


def _check_overlap(name, edits, trials, spots):
    """Raise InputError if two edits of a variant write the same z vector: which one counts would be left to
    chance."""
    by_head = {}
    for edit in edits:
        by_head.setdefault((edit.layer, edit.head), []).append(edit.positions)
    for (layer, head), several in by_head.items():
        for trial in trials if len(several) > 1 else ():
            places = [place for positions in several for place in spots[trial.name, positions]]
            if len(set(places)) < len(places):
                twice = next(place for place in places if places.count(place) > 1)
                raise InputError(
                    f"variant {name!r} edits head {layer}.{head} twice at position {twice} of trial "
                    f"{trial.name!r}; keep one edit"
                )


def _means(model, study, trials, progress):
    """Mean z over the trials' target runs: one tensor per layer, (targets, kept, head, d_head)."""
    total = [0.0] * model.n_layers
    with (
        tqdm(total=len(trials), desc="averaging", unit="trial", delay=2, disable=not progress) as bar,
        gathering() as each,
    ):
        for alike in by_length(trials, study.ids):
            start = study.start(alike)
            fitting = pictures_at_once(model, len(study.ids[alike[0].name]), start)
            for group in chunks(alike, fitting // len(study.targets)):
                inputs = encode(model, [(trial, target) for trial in group for target in study.targets])
                with each():
                    sums = execute(
                        model, summed_z, (model.n_heads, model.d_head), inputs, start, len(study.targets)
                    )
                    total = [whole + part for whole, part in zip(total, sums)]
                bar.update(len(group))
    return [layer / len(trials) for layer in total]


def _patch_group(model, study, trials, start, means, batch_size):
    """Trial name → its part of the frame, for trials whose captures fit into memory together."""
    shown = [(trial, condition) for trial in trials for condition in study.conditions]
    row = {(trial.name, condition): index for index, (trial, condition) in enumerate(shown)}
    inputs = encode(model, shown)
    run_of = [(trial, target) for trial in trials for target in study.targets]
    positions = {edit.positions for edits in study.variants for edit in edits}
    spots = [{words: study.spots[trial.name, words] for words in positions} for trial, _ in run_of]
    sources = {
        source: [row[trial.name, source] for trial, _ in run_of]
        for source, _ in study.kinds
        if source not in ARTIFICIAL
    }
    tokens = [answer_tokens(model, trial) for trial in trials]
    ids = answer_table(tokens)
    done = execute(
        model,
        patched_logits,
        (model.n_heads, model.d_head),
        inputs,
        start,
        plain(study.variants),
        [row[trial.name, target] for trial, target in run_of],
        sources,
        means,
        spots,
        ids.repeat_interleave(len(study.conditions), dim=0),
        ids.repeat_interleave(len(study.targets), dim=0),
        batch_size or rows_at_once(model, inputs["input_ids"].shape[1], start),
        model.softcap,
    )
    check_attention(model, done["gaps"])
    check_finite(model, done["finite"])
    check_unedited(model, done["drift"], inputs["input_ids"].shape[1])
    effects = done["effects"].unflatten(0, (len(trials), -1)).numpy()
    unpatched = done["unpatched"].unflatten(0, (len(trials), -1)).numpy()
    return {
        trial.name: _block(
            study, trial, unpatched[index][:, : len(tokens[index])], effects[index][..., : len(tokens[index])]
        )
        for index, trial in enumerate(trials)
    }


def _block(study, trial, unpatched, effects):
    """One trial's part of the frame, from logits (conditions, roles) and effects (targets, variants,
    roles)."""
    n_targets, n_variants, n_roles = effects.shape
    roles = list(trial.answers)
    described = [_described(edits) for edits in study.variants]
    by_condition = dict(zip(study.conditions, unpatched))
    unknown = np.full(n_roles, np.nan, dtype=np.float32)
    source_logit = np.stack([by_condition.get(source, unknown) for source, _, _ in described])
    target_logit = np.stack([by_condition[target] for target in study.targets])[:, None].repeat(
        n_variants, axis=1
    )

    def per_variant(values):
        return np.tile(np.repeat(np.asarray(values), n_roles), n_targets)

    source, component, positions = zip(*described)
    return pd.DataFrame(
        {
            "trial": trial.name,
            "source": per_variant(source),
            "target": np.repeat(np.asarray(study.targets), n_variants * n_roles),
            "component": per_variant(component),
            "positions": per_variant(positions),
            "variant": per_variant(range(n_variants)),
            "role": np.tile(np.asarray(roles), n_targets * n_variants),
            "answer": np.tile(np.asarray([trial.answers[role] for role in roles]), n_targets * n_variants),
            "source_logit": np.tile(source_logit.ravel(), n_targets),
            "target_logit": target_logit.ravel(),
            "patched_logit": target_logit.ravel() + effects.ravel(),
            "effect": effects.ravel(),
        }
    )


def _described(edits):
    """Source, component and positions of a variant, each "mixed" where its edits differ."""

    def common(values):
        values = set(values)
        return values.pop() if len(values) == 1 else "mixed"

    positions = (
        edit.positions if isinstance(edit.positions, str) else str(list(edit.positions)) for edit in edits
    )
    return common(edit.source for edit in edits), common(edit.component for edit in edits), common(positions)
