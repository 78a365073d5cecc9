"""Activation patching as tidy frames: any edits made jointly (`patch_edits`), and the measurements
that other kinds of patching share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from math import inf
from typing import ClassVar, Self

import numpy as np
import pandas as pd

from ..arguments import whole_number
from ..edits import (
    ARTIFICIAL,
    AnyEdit,
    AttentionEdit,
    Edit,
    PathEdit,
    check_edits,
    component_of,
    label_of,
)
from ..errors import InputError, NotLinedUp
from ..heads import Head
from ..measuring.measure import measure
from ..measuring.measurement import OfPictures, Request, Seen
from ..programs.measured import summed
from ..prompts import answer_ids, check_trials, encode, locate, prompt_ids, rerun_from
from ..remote.jobs import Jobs, gathering
from ..running.execute import execute
from ..stimuli.tasks import task_of
from ..trial import Trial, as_conditions, asked_of
from ..vlm import Vlm

LABELS = ("trial", "source", "target", "component", "positions", "role", "answer")


def patch_edits(
    model: Vlm,
    trials: Sequence[Trial] | Trial,
    variants: Mapping[str, Sequence[AnyEdit]],
    *,
    target: str | Sequence[str],
    batch_size: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """The effect of several edits, of heads, layers and attention, made jointly.

    Args:
        variants: name → the edits that are made in one run, `Edit`, `AttentionEdit` or `PathEdit`.
        target, batch_size, progress: as in `rgb_circuit.patch_heads`.

    Returns:
        As `patch_heads`, with ``variant`` for ``layer, head``. If the edits of a variant differ in
        source, component or positions, that column says ``"mixed"``; ``source_logit`` is NaN unless
        they share one source picture.

    Raises:
        InputError: as `patch_heads`.

    Examples:
        >>> variants = {"one": [rgb.Edit(3, 1)], "three": [rgb.Edit(3, head) for head in (1, 2, 3)]}
        >>> frame = rgb.patch_edits(model, trials, variants, target="recolored")
        >>> odd = frame[frame["role"] == "odd"].groupby("variant", observed=True)["effect"].mean()
        >>> odd.round().to_dict()
        {'one': 4.0, 'three': 8.0}
    """
    trials = asked_of(model, trials)
    batch_size = as_batch_size(batch_size)
    check_edits(model, variants)
    measurements = [
        PatchedEdits.of(trials, variants, one, batch_size) for one in targets_of(target, trials)
    ]
    return in_order(measure(model, measurements, progress=progress, stage="patching"), trials)


@dataclass(frozen=True)
class Patched(OfPictures):
    """Runs of one target, each with some edits.

    Attributes:
        edits: per variant, the edits made together in one run; they exist in the model.
        target: the condition that is patched.
        names: the variants' names, all different.
        rows: the most variants in one forward, or None for as many as fit.
        nudge: make the model round differently, as in `programs.capture`.
    """

    edits: tuple[tuple[AnyEdit, ...], ...]
    target: str
    names: tuple[str, ...]
    rows: int | None = None
    nudge: bool = False

    function: ClassVar[str] = "patch"
    unlike_others: ClassVar[tuple[str, ...]] = ("names", "rows")

    @property
    def together(self) -> bool:
        """Whether an edit takes the mean over the trials."""
        return any(edit.source == "mean" for edits in self.edits for edit in edits)

    @property
    def conditions(self) -> list[str]:
        """The conditions that are run, sources before the target."""
        sources = dict.fromkeys(edit.source for edits in self.edits for edit in edits)
        return list(
            dict.fromkeys(
                [*(source for source in sources if source not in ARTIFICIAL), self.target]
            )
        )

    @cached_property
    def described(self) -> list[tuple[str, str, str]]:
        """Per variant its source, component and positions; "mixed" if its edits differ in one."""
        return [_described(edits) for edits in self.edits]

    def prepare(self, model: Vlm, jobs: Jobs | None) -> Callable[[Trial], Request]:
        check_trials(model, self.trials, self.conditions)
        _check_conditions(self.trials)
        ids = {
            condition: prompt_ids(model, self.trials, condition) for condition in self.conditions
        }
        own = ids[self.target]
        every = [edit for edits in self.edits for edit in edits]
        changed = {edit.positions for edit in every} or {"end"}
        named = {words: name for edit in every for name, words in edit.places.items()} or {
            "end": "positions"
        }
        spots = {
            trial.name: {
                words: locate(model, trial, words, own[trial.name], self.target, name)
                for words, name in named.items()
            }
            for trial in self.trials
        }
        for name, edits in zip(self.names, self.edits):
            _check_overlap(name, edits, self.trials, spots)
            _check_seeing(model, name, edits, self.trials, spots)
        front = {
            trial.name: _front(model, self, trial, ids, spots[trial.name]) for trial in self.trials
        }
        several = len({len(tokens) for tokens in own.values()}) > 1
        if self.together and several and (changed != {"end"} or model.ahead == "all"):
            raise InputError(
                "the mean over trials needs prompts of equal length unless positions is 'end'; "
                "patch one prompt at a time"
            )
        kept = {
            trial.name: len(own[trial.name])
            - min(rerun_from(model, spots[trial.name][one][0], own[trial.name]) for one in changed)
            for trial in self.trials
        }
        # A prompt that lines up from its first position is kept from there on.
        kept |= {trial.name: len(own[trial.name]) for trial in self.trials if front[trial.name]}
        if self.together:
            # A mean starts at the first position that any trial of this length needs.
            of_length = {}
            for name, tokens in own.items():
                of_length[len(tokens)] = max(of_length.get(len(tokens), 1), kept[name])
            kept = {name: of_length[len(tokens)] for name, tokens in own.items()}

        # Paths into keys and values need all positions.
        everywhere = any(isinstance(edit, PathEdit) and edit.into != "query" for edit in every)

        @cache
        def means():
            return _means(model, self, own, kept, jobs) if self.together else None

        def request(trial: Trial) -> Request:
            lengths = {condition: len(ids[condition][trial.name]) for condition in self.conditions}
            return Request(
                trial=trial,
                lengths=lengths,
                ids=tuple(answer_ids(model, trial, self.target).values()),
                part=partial(self.part, trial),
                target=self.target if self.edits else None,
                edits=self.edits,
                kept=kept[trial.name],
                looked_at=max(lengths.values()) if everywhere or front[trial.name] else 1,
                front=front[trial.name],
                spots=spots[trial.name],
                means=means(),
                rows=self.rows,
                nudge=self.nudge,
            )

        return request

    def part(self, trial: Trial, seen: Seen) -> pd.DataFrame:
        """One trial's rows."""
        return _part(self, trial, seen)

    def frame(self, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """See `patch_edits`."""
        frame = super().frame(parts)
        frame["variant"] = pd.Categorical.from_codes(frame["variant"], list(self.names))
        return frame


@dataclass(frozen=True)
class PatchedEdits(Patched):
    """Runs of one target, each with a named list of edits."""

    @classmethod
    def of(
        cls,
        trials: Sequence[Trial],
        variants: Mapping[str, Sequence[AnyEdit]],
        target: str,
        batch_size: int | None = None,
    ) -> PatchedEdits:
        """The measurement of `patch_edits` for one target."""
        edits = tuple(map(tuple, variants.values()))
        return cls(tuple(trials), edits, target, tuple(map(str, variants)), batch_size)


@dataclass(frozen=True)
class PatchedHeads(Patched):
    """Runs of one target, each with one head's edit."""

    @classmethod
    def of(
        cls,
        model: Vlm,
        trials: Sequence[Trial],
        source: str,
        target: str,
        component: str = "z",
        positions: str | Sequence[int] = "end",
        heads: Sequence[tuple[int, int]] | None = None,
        batch_size: int | None = None,
        over: str | Sequence[int] | None = None,
        without: str | Sequence[int] | None = None,
    ) -> Self:
        """The measurement of `patch_heads` for one target.

        Args:
            heads: (layer, head) pairs that exist; all by default.
        """
        heads = model.heads() if heads is None else heads
        edits = tuple((_edit(head, source, component, positions, over, without),) for head in heads)
        names = tuple(str(Head(*head)) for head in heads)
        return cls(tuple(trials), edits, target, names, batch_size)

    def frame(self, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """See `patch_heads`."""
        frame = super().frame(parts)
        layer, head = np.array([(edit.layer, edit.head) for (edit,) in self.edits]).reshape(-1, 2).T
        where, number = frame.columns.get_loc("variant"), frame.pop("variant").cat.codes.to_numpy()
        frame.insert(where, "layer", layer[number])
        frame.insert(where + 1, "head", head[number])
        return frame


def _edit(head, source, component, positions, over=None, without=None):
    layer, index = head
    return Edit(layer, index, source, component, positions, over=over, without=without)


def as_batch_size(batch_size: int | None) -> int | None:
    """A batch size as an int, or None; InputError unless it is a whole number from 1 on."""
    advice = "use a whole number from 1 on, or leave it out"
    return None if batch_size is None else whole_number("batch_size", batch_size, advice=advice)


def targets_of(target: str | Sequence[str] | None, trials: Sequence[Trial]) -> list[str]:
    """The conditions to patch, each once, by default those of the trials' task; InputError if there
    are none."""
    named = task_of(trials).targets if target is None else target
    targets = list(dict.fromkeys(as_conditions(named, "target")))
    if not targets:
        raise InputError("target is empty; name at least one condition to patch")
    return targets


def in_order(
    frames: Sequence[pd.DataFrame], trials: Sequence[Trial], labels: Sequence[str] = LABELS
) -> pd.DataFrame:
    """Frames of the same trials as one frame, trial by trial; the ``labels`` become categories."""
    frame = pd.concat(frames, ignore_index=True)
    number = {trial.name: place for place, trial in enumerate(trials)}
    frame = frame.iloc[frame["trial"].map(number).argsort(kind="stable")].reset_index(drop=True)
    return frame.astype(dict.fromkeys(labels, "category"))


def _check_conditions(trials):
    """Raise InputError for a condition with the name of an artificial source."""
    for trial in trials:
        if reserved := sorted(set(ARTIFICIAL) & set(trial.images)):
            raise InputError(
                f"trial {trial.name!r} has a condition named {reserved[0]!r}, which means no "
                "picture here; rename it"
            )


def _check_overlap(name, edits, trials, spots):
    """Raise InputError if two edits of a variant write to one place, since either might win."""
    # By head, since a variant may hold hundreds; a whole layer may meet any head of it.
    by_layer: dict[int, dict[int | None, list[AnyEdit]]] = {}
    for edit in edits:
        layer, head = edit.layer, edit.head
        of_head = by_layer.setdefault(layer, {})
        near = of_head if head is None else (None, head)
        for other in (other for one in near for other in of_head.get(one, ())):
            if not _meet(edit, other):
                continue
            for trial in trials:
                places = set(spots[trial.name][edit.positions]) & set(
                    spots[trial.name][other.positions]
                )
                if places:
                    what = f"layer {layer}" if head is None else f"head {Head(layer, head)}"
                    raise InputError(
                        f"variant {name!r} edits {what} twice at position {min(places)} of trial "
                        f"{trial.name!r} ({other.component} and {edit.component}); keep one edit"
                    )
        of_head.setdefault(head, []).append(edit)


def _meet(edit, other):
    """Whether two edits of a layer conflict if they have a position in common."""
    kinds = {edit.component, other.component}
    if kinds == {"attention"}:
        # Two attention edits add their biases, so they never conflict.
        return False
    if None not in (edit.head, other.head):
        return edit.head == other.head
    if "attn_out" in kinds:
        # A layer's attention output contains all of its heads.
        return not kinds & {"mlp_out", "resid_pre"}
    return edit.component == other.component


def _check_seeing(model, name, edits, trials, spots):
    """Raise InputError if an attention edit changes nothing, because its keys come later than its
    queries, or if it leaves a position nothing to attend to."""
    biased = [edit for edit in edits if isinstance(edit, AttentionEdit)]
    knocked = [edit for edit in biased if edit.bias == -inf]
    # An edit with ``without`` takes z from a run with that attention knocked out.
    knocked += [
        AttentionEdit(edit.layer, edit.head, edit.positions, edit.without)
        for edit in edits
        if isinstance(edit, Edit) and edit.without is not None
    ]
    # If some positions attend to later ones, the engine itself checks (`sweep`'s ``blind``).
    for trial in trials if model.ahead == "none" else ():
        where = spots[trial.name]
        for edit in biased:
            if min(where[edit.keys]) > max(where[edit.queries]):
                raise InputError(
                    f"variant {name!r}: {label_of(edit.queries)} of trial {trial.name!r} comes "
                    f"before {label_of(edit.keys)} and never looks there, so nothing would change; "
                    "swap queries and keys, or leave that pair out"
                )
        for layer, head, queries in {(edit.layer, edit.head, edit.queries) for edit in knocked}:
            unseen = [
                set(where[edit.keys])
                for edit in knocked
                if edit.layer == layer and edit.head in (None, head) and edit.queries == queries
            ]
            blind = [
                query for query in where[queries] if set(range(query + 1)) <= set().union(*unseen)
            ]
            if blind:
                raise InputError(
                    f"variant {name!r} leaves position {blind[0]} of trial {trial.name!r} nothing "
                    f"to look at in layer {layer}; knock out fewer keys, such as 'image' or 'text'"
                )


def _front(model, patched, trial, ids, spots):
    """How many of the target's positions line up, from the first, with a source's prompt of other
    length.

    Raises:
        NotLinedUp: an edit takes a value from neither the words that both prompts begin with nor
            those after both pictures, or needs all positions.
    """
    target_ids, front = ids[patched.target][trial.name], 0
    for condition in patched.conditions:
        source_ids = ids[condition][trial.name]
        if len(target_ids) == len(source_ids):
            continue
        prompts = [
            (tokens, locate(model, trial, "image", tokens)) for tokens in (target_ids, source_ids)
        ]
        behind = min(len(tokens) - 1 - image[-1] for tokens, image in prompts)
        begin = min(image[0] for _, image in prompts)
        before = int((target_ids[:begin] == source_ids[:begin]).long().cumprod(0).sum())
        lengths = f"{len(source_ids)} and {len(target_ids)} tokens"
        shown = " and ".join(
            f"{name!r} ({trial.sizes[name][0]} × {trial.sizes[name][1]} px)"
            for name in (condition, patched.target)
        )
        for edit in (edit for edits in patched.edits for edit in edits if edit.source == condition):
            if isinstance(edit, PathEdit) and edit.into != "query":
                raise NotLinedUp(
                    f"trial {trial.name!r} shows {shown} in prompts of {lengths}, so a path into "
                    f"{edit.into}s would mix up positions; use into='query', or make pictures and "
                    "questions of as many tokens"
                )
            places = [place for place in spots[edit.positions] if len(target_ids) - place > behind]
            if edit.remade or any(place >= before for place in places):
                raise NotLinedUp(
                    f"trial {trial.name!r} shows {shown} in prompts of {lengths}, which line up "
                    f"from either end to the picture only; restore "
                    f"{'z' if edit.remade else edit.component} there, such as at 'end', or make "
                    "pictures and questions of as many tokens"
                )
            front = max([front, *(place + 1 for place in places)])
    return front


def _means(model, patched, ids, kept, jobs):
    """Component → its mean over the trials' target runs: one tensor per layer, (1, kept, …)."""
    total: dict[str, list] = {
        edit.component: [0.0] * model.n_layers
        for edits in patched.edits
        for edit in edits
        if edit.source == "mean"
    }
    shape = (model.n_heads, model.d_head)
    with gathering() as each:
        # One trial at a time: the mean is the same to the last bit however much memory is free.
        for trial in patched.trials:
            start = len(ids[trial.name]) - kept[trial.name]
            inputs = encode(model, [(trial, patched.target)])
            with each():
                sums = execute(model, summed, shape, inputs, start, sorted(total), jobs=jobs)
                for component, parts in sums.items():
                    total[component] = [
                        whole + part for whole, part in zip(total[component], parts)
                    ]
    return {
        component: [layer / len(patched.trials) for layer in layers]
        for component, layers in total.items()
    }


def _part(patched: Patched, trial: Trial, seen: Seen) -> pd.DataFrame:
    """One trial's rows, one variant after the other; ``variant`` is the variant's number."""
    n_variants, n_roles = seen.effects.shape
    unknown = np.full(n_roles, np.nan, dtype=np.float32)
    source_logit = np.stack(
        [seen.logits.get(source, unknown) for source, _, _ in patched.described]
    )
    target_logit = np.tile(seen.logits[patched.target], n_variants)
    source, component, positions = (
        np.repeat(np.asarray(one), n_roles) for one in zip(*patched.described)
    )
    return pd.DataFrame(
        {
            "trial": trial.name,
            "source": source,
            "target": patched.target,
            "component": component,
            "positions": positions,
            "variant": np.repeat(np.arange(n_variants), n_roles),
            "role": np.tile(np.asarray(list(trial.answers)), n_variants),
            "answer": np.tile(np.asarray(list(trial.answers.values())), n_variants),
            "source_logit": source_logit.ravel(),
            "target_logit": target_logit,
            "patched_logit": target_logit + seen.effects.ravel(),
            "effect": seen.effects.ravel(),
        }
    )


def _described(edits):
    """Source, component and positions of a variant; "mixed" if its edits differ in one."""

    def common(values):
        values = set(values)
        return values.pop() if len(values) == 1 else "mixed"

    return (
        common(edit.source for edit in edits),
        common(component_of(edit) for edit in edits),
        common(label_of(edit.positions) for edit in edits),
    )
