"""Run measurements: a trial's pictures go through the model once, whatever the requests.

1. Read the parts that the store has. Check every other measurement before any forward. The store
   keeps refusals too. It repeats all of them if the model is only recorded or on a server, and
   those that took forwards if the model is in this process. Logits that were not finite are
   measured again.
2. Measurements of what pictures do inside the model
   (`rgb_circuit.measuring.measurement.OfPictures`) share the pictures: all requests for a trial are
   one program (`rgb_circuit.programs.measured`) and one request to a server. Without a store, as
   many trials run together as fit.
3. With a store, each trial runs by itself, with one forward per picture and per sweep, so that a
   part is the same to the last bit whatever else was missing. A picture that several trials show
   runs once if the model is in this process (`rgb_circuit.keeping.recurring`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import wraps
from typing import ParamSpec, Protocol, TypeVar, cast

import pandas as pd
import torch

from ..bars import saying, tqdm
from ..errors import CannotWrite, InputError, NotFinite, PictureGone
from ..keeping.recurring import Recurring
from ..keeping.saved_run import is_recorded
from ..keeping.store import Store
from ..programs.measured import measured
from ..programs.pooled import pooled
from ..programs.sweep import plain
from ..prompts import answer_table, encode, pooled_table
from ..remote.jobs import Pending
from ..running.checks import (
    check_attention,
    check_finite,
    check_paths,
    check_seeing,
    check_unedited,
)
from ..running.execute import check_model, execute
from ..running.memory import chunks, held_at_once, pictures_at_once, rows_at_once
from ..trial import Trial
from ..vlm import Vlm
from .measurement import Measurement, OfPictures, Request, Seen, Steps, content_hash

P = ParamSpec("P")
T = TypeVar("T")
# Errors that are not about model or trials, and may be gone in the next run: never stored.
PASSING = (CannotWrite, PictureGone)
# tqdm's default, but with fractions of a trial: one trial of a large model takes minutes.
BAR = "{l_bar}{bar}| {n:.1f}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"


def measure(
    model: Vlm,
    measurements: Sequence[Measurement],
    store: Store | None = None,
    *,
    progress: bool = True,
    stage: str = "measuring",
) -> list[pd.DataFrame]:
    """Run some measurements; returns their frames, in order.

    Args:
        store: keeps every part, and supplies those that it has.
        progress: show a bar if the run takes longer than two seconds.
        stage: the bar's name for this work.

    Raises:
        InputError: a measurement is impossible (before any forward), or the model misbehaves.
        Pending: a detached store has unfinished jobs.
    """
    outcome = measure_all(model, {"": measurements}, store, progress=progress, stage=stage)[""]
    if isinstance(outcome, InputError):
        raise outcome
    return outcome


def measure_all(
    model: Vlm,
    asked: Mapping[str, Sequence[Measurement]],
    store: Store | None = None,
    *,
    progress: bool = True,
    stage: str = "measuring",
) -> dict[str, list[pd.DataFrame] | InputError]:
    """`measure` for several callers: name → the frames of its measurements, or the InputError that
    one of them raised."""
    if store and model.name != store.model:
        raise InputError(
            f"{store.folder} keeps what {store.model} does; use another folder for {model.name}"
        )
    keyed = store or sum(map(len, asked.values())) > 1
    works, works_of = {}, {}
    for name, measurements in asked.items():
        for measurement in measurements:
            key = measurement.key if keyed else ""
            identity = (key, *(trial.content for trial in measurement.trials)) if keyed else ""
            work = works.setdefault(identity, _Work(measurement, key))
            works_of.setdefault(name, []).append((measurement, work))
    for work in works.values():
        _prepare(model, work, store)
    needed = {
        id(work): work
        for own in works_of.values()
        if not _errors(own)
        for _, work in own
        if work.ready
    }
    if waiting := _run(model, list(needed.values()), store, progress, stage):
        raise Pending(waiting)
    frames = {}
    for name, pairs in works_of.items():
        errors = _errors(pairs)
        frames[name] = errors[0] if errors else [_frame(work) for _, work in pairs]
    return frames


def follow(
    model: Vlm,
    steps: Steps[T],
    store: Store | None = None,
    *,
    progress: bool = True,
    stage: str = "measuring",
) -> T:
    """Run an analysis, measuring step by step; returns its result.

    Args:
        steps: see `rgb_circuit.measuring.measurement.Steps`.
        store, progress, stage: as in `measure`.

    Raises:
        InputError, Pending: as `measure`, or what the analysis raises.
    """
    outcome = follow_all(model, {"": steps}, store, progress=progress, stage=stage)[""]
    if isinstance(outcome, InputError):
        raise outcome
    return outcome


class Analysis(Protocol[P, T]):
    """A function that measures and returns a result. Its ``steps``, with the same arguments, only
    yields the measurements of each step, so that several analyses can be measured together
    (`follow_all`)."""

    steps: Callable[P, Steps[T]]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T: ...


def stepwise(stage: str = "measuring") -> Callable[[Callable[P, Steps[T]]], Analysis[P, T]]:
    """Turn a generator of `rgb_circuit.measuring.measurement.Steps` into an analysis, which follows
    its own steps when called.

    Args:
        stage: as in `measure`.

    The generator takes ``model`` and ``progress`` among its arguments; only this decorator reads
    ``progress``.

    Examples:
        >>> from rgb_circuit.calls.play import Played
        >>> @stepwise(stage="playing")
        ... def right(model, trials, *, progress=True):
        ...     [played] = yield [Played.of(trials)]
        ...     return float(played["correct"].mean())
        >>> right(model, trials), follow(model, right.steps(model, trials))
        (1.0, 1.0)
    """

    def decorated(steps: Callable[P, Steps[T]]) -> Analysis[P, T]:
        signature = inspect.signature(steps)

        @wraps(steps)
        def followed(*args: P.args, **kwargs: P.kwargs) -> T:
            todo, bound = steps(*args, **kwargs), signature.bind(*args, **kwargs)
            bound.apply_defaults()
            model, progress = bound.arguments["model"], bound.arguments["progress"]
            return follow(model, todo, progress=progress, stage=stage)

        analysis = cast(Analysis[P, T], followed)
        analysis.steps = steps
        return analysis

    return decorated


def follow_all(
    model: Vlm,
    analyses: Mapping[str, Steps[T]],
    store: Store | None = None,
    *,
    progress: bool = True,
    stage: str = "measuring",
) -> dict[str, T | InputError]:
    """Run several analyses: name → its result or its InputError. Measurements of the same step run
    together."""
    results, measurements = {}, {}

    def advance(name, step):
        try:
            measurements[name] = step()
        except StopIteration as end:
            results[name] = end.value
        except InputError as error:
            results[name] = error

    for name, steps in analyses.items():
        advance(name, lambda steps=steps: next(steps))
    while measurements:
        current = measurements.copy()
        measurements.clear()
        for name, frames in measure_all(
            model, current, store, progress=progress, stage=stage
        ).items():
            steps = analyses[name]
            answer = steps.throw if isinstance(frames, InputError) else steps.send
            # The analysis may take as long over the frames as the measurements took.
            with saying(f"{stage}: {name}" if name else stage, progress):
                advance(name, lambda answer=answer, frames=frames: answer(frames))
    return {name: results[name] for name in analyses}


def units_of(model: Vlm, measurements: Sequence[Measurement]) -> list[Unit]:
    """The units that measuring would run if the store were empty.

    Raises:
        InputError: as `measure`.
    """
    works = [_Work(one, one.key) for one in measurements if isinstance(one, OfPictures)]
    for work in works:
        with suppress(*work.measurement.excused):
            work.ready = work.measurement.prepare(model, None)
            work.missing = list(work.measurement.trials)
    units, _ = _units(works, None)
    for work in works:
        if work.error:
            raise work.error
    return units


@dataclass
class _Work:
    """A measurement on its way to its parts, by trial name."""

    measurement: Measurement
    key: str = ""
    parts: dict[str, pd.DataFrame] = field(default_factory=dict)
    missing: list[Trial] = field(default_factory=list)
    ready: Callable | None = None
    error: InputError | None = None

    def keep(self, name: str, part: pd.DataFrame, store: Store | None) -> None:
        """Note the part of a trial, or of ``all``; a store writes it, and a later run reads it."""
        if store:
            part = store.write(self.key, self.unit(name), part)
        self.parts[name] = part

    def refuse(
        self, error: InputError, store: Store | None, *trials: Trial, late: bool = False
    ) -> None:
        """Note why these trials, or all by default, cannot be measured; a store keeps the reason
        for later runs. ``late`` as in `Store.refuse`."""
        self.error = self.error or error
        if store and not isinstance(error, PASSING):
            refused = trials or self.measurement.trials
            store.refuse(self.key, [trial.content for trial in refused], error, late)

    def unit(self, name: str) -> str:
        """A store's name for the part of a trial, or of ``all``."""
        return next(
            (trial.content for trial in self.measurement.trials if trial.name == name), name
        )

    def done(self) -> bool:
        """Whether no part is missing."""
        return len(self.parts) == (1 if self.measurement.whole else len(self.measurement.trials))


def _prepare(model, work, store):
    """Read the parts that the store has, and check the measurement if any are missing."""
    measurement = work.measurement
    units = {trial.name: trial for trial in measurement.trials}
    if store and measurement.whole:
        part = store.read(work.key, "all")
        work.parts |= {} if part is None else {"all": part}
    elif store:
        read = {name: store.read(work.key, trial.content) for name, trial in units.items()}
        work.parts |= {name: part for name, part in read.items() if part is not None}
    work.missing = [trial for trial in measurement.trials if trial.name not in work.parts]
    # The measurement itself refuses no trials at all, and two trials of one name.
    if (measurement.whole and work.parts) or (
        units and not work.missing and len(units) == len(measurement.trials)
    ):
        return
    work.error = _kept_refusal(model, work, store)
    if work.error:
        return
    try:
        # Preparing reads the model's configuration, so a changed model is refused here already.
        check_model(model)
    except InputError as error:
        work.error = error
        return
    try:
        work.ready = measurement.prepare(model, store and store.jobs(work.key))
    except InputError as error:
        work.refuse(error, store)


def _kept_refusal(model, work, store):
    """The reason of an earlier refusal, unless asking again costs nothing or may help."""
    if not store:
        return None
    absent = is_recorded(model)
    # A model in this process refuses again at once, except where the refusal took forwards.
    late = not (absent or model.server)
    kept = store.refusal(work.key, [trial.content for trial in work.measurement.trials], late)
    return None if isinstance(kept, NotFinite) and not absent else kept


def _run(model, works, store, progress, stage):
    """Measure the missing parts; returns how many wait for a server."""
    shared = [work for work in works if isinstance(work.measurement, OfPictures)]
    unshared = [work for work in works if work not in shared]
    units, waiting = _units(shared, store)
    options = dict(delay=2, bar_format=BAR, disable=not progress)
    with tqdm(total=len(units), desc=stage, unit="trial", **options) as bar:
        for group in [[unit] for unit in units] if store else _alike(model, units):
            before, size = bar.n, len(group)
            waiting += _captured(
                model,
                group,
                store,
                # Rounded shares may add up to slightly more than 1.
                lambda share, size=size, end=before + size: bar.update(
                    min(share * size, end - bar.n)
                ),
            )
            bar.update(before + size - bar.n)
    parts = sum(1 if work.measurement.whole else len(work.missing) for work in unshared)
    title, unit = (f"{stage}; the rest", "part") if units else (stage, "trial")
    with tqdm(total=parts, desc=title, unit=unit, **options) as bar:
        for work in unshared:
            for count, pending in _alone(work, store):
                waiting += pending
                bar.update(count)
    for work in works:
        # Jobs that all trials of the measurement share.
        if store and work.done():
            _forget(store.jobs(work.key))
    return waiting


@dataclass
class Unit:
    """Requests about the same pictures, each with its measurement."""

    requests: list[tuple[_Work, Request]] = field(default_factory=list)

    def shares(self, request: Request) -> bool:
        """Whether a request shows the same pictures with the same prompts."""
        return all(
            other.trial.name == request.trial.name
            and all(
                condition not in other.trial.images
                or (
                    other.trial.sources[condition] is request.trial.sources[condition]
                    and other.trial.asked(condition) == request.trial.asked(condition)
                )
                for condition in request.conditions
            )
            for _, other in self.requests
        )

    @property
    def nudge(self) -> bool:
        """Whether the model should round differently; the same for all requests of a unit."""
        return self.requests[0][1].nudge

    @property
    def conditions(self) -> list[str]:
        """Every condition that some request shows, once."""
        return list(
            dict.fromkeys(
                condition for _, request in self.requests for condition in request.conditions
            )
        )


def _units(works, store):
    """The units of all trials, and how many parts wait for a job that all trials of their
    measurement need."""
    by_name, waiting = {}, 0
    detached = store is not None and store.detached
    for work in works:
        requests = []
        try:
            for trial in work.missing:
                requests.append(work.ready(trial))
        except Pending:
            waiting += len(work.missing)
            continue
        except InputError as error:
            work.refuse(error, store, trial)
            continue
        for request in requests:
            # Measurements that wait for a job over all trials get units of their own, so that jobs
            # handed in meanwhile stay the same.
            units = by_name.setdefault(
                (request.trial.name, detached and work.measurement.together, request.nudge), []
            )
            unit = next((unit for unit in units if unit.shares(request)), None)
            if unit is None:
                units.append(unit := Unit())
            unit.requests.append((work, request))
    return [unit for units in by_name.values() for unit in units], waiting


def _alike(model, units):
    """Groups of units with the same requests and equally long prompts, as large as fit."""
    groups = {}
    for unit in units:
        key = tuple(
            (id(work), id(request.edits), request.front, *request.lengths.items())
            for work, request in unit.requests
        )
        groups.setdefault(key, []).append(unit)
    for alike in groups.values():
        kept = max(request.held for unit in alike for _, request in unit.requests)
        length = max(
            length for _, request in alike[0].requests for length in request.lengths.values()
        )
        fitting = pictures_at_once(model, length, length - min(kept, length))
        yield from chunks(alike, fitting // len(alike[0].conditions))


def _captured(model, units, store, advance):
    """Measure some units in one program; returns how many parts wait for a server.

    Args:
        advance: called with each share of the work that is done.
    """
    pairs = [(work, request) for unit in units for work, request in unit.requests]
    jobs = store and store.jobs(
        content_hash([(work.key, request.trial.content) for work, request in pairs])
    )
    tables = [
        list(
            dict.fromkeys(
                token for _, request in unit.requests for ids in request.ids for token in ids
            )
        )
        for unit in units
    ]
    recurring = store.recurring if store and model.server is None else Recurring()
    pictures, (sweeps, number_of) = (
        pictures_of(model, units, recurring),
        _sweeps(model, units, store),
    )
    try:
        results = execute(
            model,
            measured,
            (model.n_heads, model.d_head),
            pictures,
            sweeps,
            answer_table(tables),
            model.softcap,
            recurring.held,
            None if model.server else advance,
            jobs=jobs,
        )
    except Pending:
        return len(pairs)
    if recurring.held:
        length = max(picture["inputs"]["input_ids"].shape[1] for picture in pictures.values())
        recurring.keep(
            held_at_once(model, length, min(picture["start"] for picture in pictures.values()))
        )
    failed, passing = 0, False
    for row, unit in enumerate(units):
        for place, ((work, request), number) in enumerate(zip(unit.requests, number_of)):
            sweep = None if number is None else results["sweeps"][number]
            shares = {
                condition: results["pictures"][condition]["shares"][
                    _lookers(units, condition).index(place)
                ][row]
                for condition in request.masks
            }
            try:
                part = request.part(
                    _seen(model, request, row, results["pictures"], sweep, tables[row], shares)
                )
            except InputError as error:
                work.refuse(error, store, request.trial, late=True)
                failed += 1
                passing = passing or isinstance(error, NotFinite)
                continue
            work.keep(request.trial.name, part, store)
    # If every part failed, the result is kept: the same request would fail again.
    if failed < len(pairs) or passing:
        _forget(jobs)
    return 0


def pictures_of(model: Vlm, units: Sequence[Unit], recurring: Recurring) -> dict[str, dict]:
    """Condition → what `programs.measured` captures of its pictures."""
    pictures: dict[str, dict] = {}
    for condition in units[0].conditions:
        showing = [
            [request for _, request in unit.requests if condition in request.conditions]
            for unit in units
        ]
        shown = [requests[0].trial for requests in showing]
        inputs = encode(model, [(trial, condition) for trial in shown])
        kept = max(request.held for requests in showing for request in requests)
        # A nudged run gives different numbers, so its picture serves no other run.
        shared = not units[0].nudge
        pictures[condition] = {
            "inputs": inputs,
            "start": max(0, inputs["input_ids"].shape[1] - kept),
            "keep": sorted({word for request in showing[0] for word in request.keep(condition)}),
            "nudge": units[0].nudge,
            "masks": [
                torch.stack([unit.requests[number][1].masks[condition] for unit in units])
                for number in _lookers(units, condition)
            ],
            "recurs": recurring.name(model, shown[0], condition) if shared else None,
            "after": None,
        }
    # A picture may belong to another condition in the next trial, so all keep the same parts.
    as_any = {
        "keep": sorted({word for picture in pictures.values() for word in picture["keep"]}),
        "start": min(picture["start"] for picture in pictures.values()),
    }
    pictures = {
        name: {**picture, **as_any} if picture["recurs"] else picture
        for name, picture in pictures.items()
    }
    _go_on(model, pictures)
    return pictures


def _lookers(units, condition):
    """Indices of the requests that read where heads look on a condition's picture."""
    return [
        number
        for number, (_, request) in enumerate(units[0].requests)
        if condition in request.masks
    ]


def _go_on(model, pictures):
    """Let a picture that is shown again with another question continue from the first run
    (`programs.continued`)."""
    for name, picture in pictures.items():
        # A continued picture yields z and nothing else.
        plain = set(picture["keep"]) <= {"z"} and picture["recurs"] is None and not picture["nudge"]
        for first_name, earlier in pictures.items() if plain and model.ahead == "none" else ():
            common = _in_common(model, earlier["inputs"], picture["inputs"])
            if first_name != name and earlier["after"] is None and 0 < common <= picture["start"]:
                picture["after"] = first_name, common
                earlier["start"] = min(earlier["start"], common)
                earlier["keep"] = sorted({*earlier["keep"], "resume"})
                break


def _in_common(model, one, other):
    """How many first tokens two prompts about the same pictures share, all image tokens among them;
    0 if they share fewer, show different pictures, or the second is longer."""
    ids, other_ids = one["input_ids"], other["input_ids"]
    length = other_ids.shape[1]
    # Inputs with one value per token (such as ids and masks) differ with the words.
    same_inputs = all(
        torch.equal(value, other[name])
        for name, value in one.items()
        if not (value.ndim == 2 and value.shape == ids.shape)
    )
    if length > ids.shape[1] or not same_inputs:
        return 0
    common = int((ids[:, :length] == other_ids).all(0).long().cumprod(0).sum())
    image = (ids == model.config.image_token_id).nonzero()[:, 1]
    return common if common > image.max() else 0


def _sweeps(model, units, store):
    """The sweeps for `programs.measured`; and per request of a unit the index of its sweep, or
    None."""
    sweeps: list[dict] = []
    number_of: list[int | None] = []
    numbers: dict[tuple, int] = {}
    for number, (work, request) in enumerate(units[0].requests):
        if request.target is None:
            number_of.append(None)
            continue
        # Requests with one key share their edits; only the answers may differ.
        key = work.key or id(work), id(request.means), request.rows
        if key not in numbers:
            numbers[key] = len(sweeps)
            kept = max(unit.requests[number][1].kept for unit in units)
            length = request.lengths[request.target]
            rows = [
                request.rows or _agreed(model, store, length, positions)
                for positions in (kept, max(unit.requests[number][1].held for unit in units))
            ]
            sweeps.append(
                {
                    "target": request.target,
                    "kept": kept,
                    "front": request.front,
                    "variants": plain(request.edits),
                    "means": request.means,
                    "sources": [
                        condition for condition in request.conditions if condition != request.target
                    ],
                    "spots": [unit.requests[number][1].spots for unit in units],
                    "batch_size": rows[0],
                    "path_rows": rows[1],
                }
            )
        number_of.append(numbers[key])
    return sweeps, number_of


def _agreed(model, store, length, kept):
    """How many runs fit side by side if each keeps this many positions; in a store always the
    same number."""
    rows = rows_at_once(model, length, length - kept)
    return store.agreed(f"rows, {kept} of {length} positions", rows) if store else rows


def _seen(model, request, row, pictures, sweep, table, shares):
    """What one request saw of its trial; InputError if the model misbehaved.

    Args:
        table: token ids, in the order of the columns that `programs.measured` read.
        shares: condition → shares of attention, as in `Seen`.
    """
    shown = {condition: pictures[condition] for condition in request.conditions}
    check_finite(
        model,
        all(picture["finite"] for picture in shown.values()) and (sweep is None or sweep["finite"]),
    )
    for condition, picture in shown.items():
        if picture["drift"]:
            check_unedited(model, picture["drift"], request.lengths[condition])
    columns = [[table.index(token) for token in ids] for ids in request.ids]
    effects = torch.empty(0, len(columns))
    for condition, picture in shown.items():
        if "attention" in request.keep(condition):
            check_attention(model, picture["gaps"])
    if sweep is not None:
        check_seeing(model, sweep["blind"])
        check_unedited(model, sweep["drift"], request.lengths[request.target])
        check_paths(model, sweep["gap"])
        before = pictures[request.target]["logits"][row]
        effects = _effects(before, sweep["effects"][row], columns)
    return Seen(
        {
            condition: _pooled(picture["logits"][row], columns).numpy()
            for condition, picture in shown.items()
        },
        {condition: int(picture["likeliest"][row]) for condition, picture in shown.items()},
        effects.numpy(),
        {condition: share.numpy() for condition, share in shares.items()},
    )


def _pooled(logits, columns):
    """Logits of answers, (…, answers), each pooled over its words.

    Args:
        columns: per answer, its columns of ``logits``, (…, ids).
    """
    if all(len(own) == 1 for own in columns):
        return logits[..., [column for (column,) in columns]]
    return pooled(logits, pooled_table([columns])[0])


def _effects(before, effects, columns):
    """Effects on answers, (variants, answers), from effects on tokens.

    Args:
        before: logits of the target run, (ids,).
        effects: (variants, ids).
        columns: as in `_pooled`.
    """
    single = torch.tensor([len(own) == 1 for own in columns])
    # The effect on a single word is taken as it is: a difference of logits would round it.
    on_first = effects[:, [own[0] for own in columns]]
    if single.all():
        return on_first
    before = before.double()
    moved = _pooled(before + effects.double(), columns) - _pooled(before, columns)
    return torch.where(single, on_first, moved.to(effects.dtype))


def _alone(work, store) -> Iterator[tuple[int, int]]:
    """Measure what shares no pictures; yields how many parts are dealt with, and how many of them
    wait for a server."""
    if work.measurement.whole:
        yield 1, _kept(work, work.ready, store)
    elif store:
        for trial in work.missing:

            def part(jobs, trial=trial):
                (result,) = (part for parts in work.ready([trial], jobs) for part in parts.values())
                return result

            yield 1, _kept(work, part, store, trial)
    else:
        try:
            for parts in work.ready(work.missing, None):
                work.parts.update(parts)
                yield len(parts), 0
        except InputError as error:
            work.error = error


def _kept(work, compute, store, *trial):
    """Measure the part of a trial, or of all; returns 1 if it waits for a server, else 0."""
    name = trial[0].name if trial else "all"
    jobs = store and store.jobs(content_hash([work.key, work.unit(name)]))
    try:
        part = compute(jobs)
    except Pending:
        return 1
    except InputError as error:
        work.refuse(error, store, *trial, late=True)
        return 0
    work.keep(name, part, store)
    _forget(jobs)
    return 0


def _forget(jobs):
    if jobs:
        jobs.forget()


def _errors(own):
    """The errors that end an analysis, given its measurements, each with its work."""
    return [
        work.error for one, work in own if work.error and not isinstance(work.error, one.excused)
    ]


def _frame(work):
    if work.error:
        return pd.DataFrame()
    names = ["all"] if work.measurement.whole else [trial.name for trial in work.measurement.trials]
    return work.measurement.frame([work.parts[name] for name in names])
