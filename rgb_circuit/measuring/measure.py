"""Running measurements: a trial's pictures go through the model once, whatever is asked of them.

1. What a store has is read. Of the rest, every measurement is checked before any forward. What
   refuses is kept too, and said again where the model is only recorded or on a server; where it is
   here, what took forwards to see. Logits that are not finite are asked for again.
2. Measurements of what pictures did inside the model
   (`rgb_circuit.measuring.measurement.OfPictures`) share them: all that is asked of a trial is one
   program (`rgb_circuit.programs.measured`) and one request to a server. Without a store as many
   trials go through together as fit.
3. With a store each trial goes through by itself, each of its pictures in a forward of its own, and
   each sweep too, so that a part comes out the same to the last bit, whatever else was missing
   beside it. A picture that several trials show goes through once, where the model is here
   (`rgb_circuit.keeping.recurring`).
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
from ..edits import OF_ATTENTION
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
# What says nothing of model and trials, and may be over when they are next asked.
PASSING = (CannotWrite, PictureGone)
# tqdm's own, with shares of a trial: one of a large model takes minutes.
BAR = "{l_bar}{bar}| {n:.1f}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"


def measure(
    model: Vlm,
    measurements: Sequence[Measurement],
    store: Store | None = None,
    *,
    progress: bool = True,
    stage: str = "measuring",
) -> list[pd.DataFrame]:
    """The frames of some measurements.

    Args:
        store: keeps every part, and gives those that it has.
        progress: show a bar when it takes longer than two seconds.
        stage: what the bar says is being done.

    Raises:
        InputError: what is asked cannot be, before any forward; or a model that misbehaves.
        Pending: in a detached store, jobs that are not done.
    """
    found = measure_all(model, {"": measurements}, store, progress=progress, stage=stage)[""]
    if isinstance(found, InputError):
        raise found
    return found


def measure_all(
    model: Vlm,
    asked: Mapping[str, Sequence[Measurement]],
    store: Store | None = None,
    *,
    progress: bool = True,
    stage: str = "measuring",
) -> dict[str, list[pd.DataFrame] | InputError]:
    """`measure` for several who ask: name → the frames of what was asked for, or the InputError
    that one of them met."""
    if store and model.name != store.model:
        raise InputError(
            f"{store.folder} keeps what {store.model} does; use another folder for {model.name}"
        )
    several = store or sum(map(len, asked.values())) > 1
    works, of = {}, {}
    for who, measurements in asked.items():
        for one in measurements:
            key = one.key if several else ""
            same = (key, *(trial.content for trial in one.trials)) if several else ""
            work = works.setdefault(same, _Work(one, key))
            of.setdefault(who, []).append((one, work))
    for work in works.values():
        _prepare(model, work, store)
    needed = {
        id(work): work for own in of.values() if not _errors(own) for _, work in own if work.ready
    }
    if waiting := _run(model, list(needed.values()), store, progress, stage):
        raise Pending(waiting)
    frames = {}
    for who, own in of.items():
        errors = _errors(own)
        frames[who] = errors[0] if errors else [_frame(work) for _, work in own]
    return frames


def follow(
    model: Vlm,
    steps: Steps[T],
    store: Store | None = None,
    *,
    progress: bool = True,
    stage: str = "measuring",
) -> T:
    """What an analysis finds, its measurements run one step after the other.

    Args:
        steps: see `rgb_circuit.measuring.measurement.Steps`.
        store, progress, stage: as in `measure`.

    Raises:
        InputError, Pending: as `measure`, or what the analysis raises.
    """
    found = follow_all(model, {"": steps}, store, progress=progress, stage=stage)[""]
    if isinstance(found, InputError):
        raise found
    return found


class Analysis(Protocol[P, T]):
    """A function that measures and returns what it found; ``steps``, with the same arguments, only
    says step by step what is to be measured, for those who measure several analyses together
    (`follow_all`)."""

    steps: Callable[P, Steps[T]]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T: ...


def stepwise(stage: str = "measuring") -> Callable[[Callable[P, Steps[T]]], Analysis[P, T]]:
    """Make an analysis of a generator of `rgb_circuit.measuring.measurement.Steps`: called, it
    follows its own steps.

    Args:
        stage: as in `measure`.

    The generator has ``model`` and ``progress`` among its arguments; ``progress`` is read here
    alone.

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
            todo, given = steps(*args, **kwargs), signature.bind(*args, **kwargs)
            given.apply_defaults()
            model, progress = given.arguments["model"], given.arguments["progress"]
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
    """What some analyses find, or why they cannot. What they ask at the same step is measured
    together."""
    found, wanted = {}, {}

    def advance(name, step):
        try:
            wanted[name] = step()
        except StopIteration as end:
            found[name] = end.value
        except InputError as error:
            found[name] = error

    for name, steps in analyses.items():
        advance(name, lambda steps=steps: next(steps))
    while wanted:
        asked = wanted.copy()
        wanted.clear()
        for name, frames in measure_all(
            model, asked, store, progress=progress, stage=stage
        ).items():
            steps = analyses[name]
            answer = steps.throw if isinstance(frames, InputError) else steps.send
            # What is made of the frames may take as long as measuring them.
            with saying(f"{stage}: {name}" if name else stage, progress):
                advance(name, lambda answer=answer, frames=frames: answer(frames))
    return {name: found[name] for name in analyses}


def units_of(model: Vlm, measurements: Sequence[Measurement]) -> list[Unit]:
    """What would be asked of every trial's pictures, were nothing kept.

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
        """Note the part of a trial, or of ``all``, and with a store what a later run will read."""
        if store:
            part = store.write(self.key, self.unit(name), part)
        self.parts[name] = part

    def refuse(
        self, error: InputError, store: Store | None, *trials: Trial, late: bool = False
    ) -> None:
        """Note why these trials, or all together, cannot be measured, and with a store what a later
        run says that has no model to ask; ``late`` as in `Store.refuse`."""
        self.error = self.error or error
        if store and not isinstance(error, PASSING):
            refused = trials or self.measurement.trials
            store.refuse(self.key, [trial.content for trial in refused], error, late)

    def unit(self, name: str) -> str:
        """What a store calls the part of a trial, or of ``all``."""
        return next(
            (trial.content for trial in self.measurement.trials if trial.name == name), name
        )

    def done(self) -> bool:
        """Whether every part is there."""
        return len(self.parts) == (1 if self.measurement.whole else len(self.measurement.trials))


def _prepare(model, work, store):
    """Read what is there, and check the rest."""
    one = work.measurement
    units = {trial.name: trial for trial in one.trials}
    if store and one.whole:
        part = store.read(work.key, "all")
        work.parts |= {} if part is None else {"all": part}
    elif store:
        read = {name: store.read(work.key, trial.content) for name, trial in units.items()}
        work.parts |= {name: part for name, part in read.items() if part is not None}
    work.missing = [trial for trial in one.trials if trial.name not in work.parts]
    # The measurement itself refuses no trials at all, and two trials of one name.
    if (one.whole and work.parts) or (units and not work.missing and len(units) == len(one.trials)):
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
        work.ready = one.prepare(model, store and store.jobs(work.key))
    except InputError as error:
        work.refuse(error, store)


def _kept_refusal(model, work, store):
    """Why a measurement was refused before, unless asking again costs nothing or may help."""
    if not store:
        return None
    absent = is_recorded(model)
    # A model that is here refuses at once what it can refuse before any forward.
    late = not (absent or model.server)
    kept = store.refusal(work.key, [trial.content for trial in work.measurement.trials], late)
    return None if isinstance(kept, NotFinite) and not absent else kept


def _run(model, works, store, progress, stage):
    """Measure what is missing; how many parts wait for a server."""
    shared = [work for work in works if isinstance(work.measurement, OfPictures)]
    others = [work for work in works if work not in shared]
    units, waiting = _units(shared, store)
    about = dict(delay=2, bar_format=BAR, disable=not progress)
    with tqdm(total=len(units), desc=stage, unit="trial", **about) as bar:
        for group in [[unit] for unit in units] if store else _alike(model, units):
            before, size = bar.n, len(group)
            waiting += _captured(
                model,
                group,
                store,
                # Shares may add up to a little more than all.
                lambda share, size=size, end=before + size: bar.update(
                    min(share * size, end - bar.n)
                ),
            )
            bar.update(before + size - bar.n)
    parts = sum(1 if work.measurement.whole else len(work.missing) for work in others)
    said, unit = (f"{stage}; the rest", "part") if units else (stage, "trial")
    with tqdm(total=parts, desc=said, unit=unit, **about) as bar:
        for work in others:
            for count, pending in _alone(work, store):
                waiting += pending
                bar.update(count)
    for work in works:
        # The jobs that all trials of the measurement shared.
        if store and work.done():
            _forget(store.jobs(work.key))
    return waiting


@dataclass
class Unit:
    """What is asked of the same pictures: measurements, and what each asks of the trial."""

    requests: list[tuple[_Work, Request]] = field(default_factory=list)

    def shares(self, request: Request) -> bool:
        """Whether it is the same trial as far as its pictures and prompts go."""
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
        """Whether the model is to round otherwise, which all of a unit ask or none."""
        return self.requests[0][1].nudge

    @property
    def conditions(self) -> list[str]:
        """All that are shown."""
        return list(
            dict.fromkeys(
                condition for _, request in self.requests for condition in request.conditions
            )
        )


def _units(works, store):
    """What is asked of every trial, and how many parts wait for what all of a measurement's trials
    need."""
    by_name, waiting = {}, 0
    detached = store is not None and store.detached
    for work in works:
        every = []
        try:
            for trial in work.missing:
                every.append(work.ready(trial))
        except Pending:
            waiting += len(work.missing)
            continue
        except InputError as error:
            work.refuse(error, store, trial)
            continue
        for request in every:
            # A job that was handed in while others waited for all trials is still the same job
            # thereafter.
            units = by_name.setdefault(
                (request.trial.name, detached and work.measurement.together, request.nudge), []
            )
            unit = next((unit for unit in units if unit.shares(request)), None)
            if unit is None:
                units.append(unit := Unit())
            unit.requests.append((work, request))
    return [unit for units in by_name.values() for unit in units], waiting


def _alike(model, units):
    """Units in groups of which the same is asked, on equally long prompts; as many as fit."""
    groups = {}
    for unit in units:
        same = tuple(
            (id(work), id(request.edits), request.front, *request.lengths.items())
            for work, request in unit.requests
        )
        groups.setdefault(same, []).append(unit)
    for alike in groups.values():
        kept = max(request.held for unit in alike for _, request in unit.requests)
        length = max(
            length for _, request in alike[0].requests for length in request.lengths.values()
        )
        fitting = pictures_at_once(model, length, length - min(kept, length))
        yield from chunks(alike, fitting // len(alike[0].conditions))


def _captured(model, units, store, advance):
    """Measure all that is asked of some units, in one program; how many parts wait for a server.

    Args:
        advance: is told each share of it that is done.
    """
    every = [(work, request) for unit in units for work, request in unit.requests]
    jobs = store and store.jobs(
        content_hash([(work.key, request.trial.content) for work, request in every])
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
        done = execute(
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
        return len(every)
    if recurring.held:
        length = max(picture["inputs"]["input_ids"].shape[1] for picture in pictures.values())
        recurring.keep(
            held_at_once(model, length, min(picture["start"] for picture in pictures.values()))
        )
    failed, passing = 0, False
    for row, unit in enumerate(units):
        for place, ((work, request), number) in enumerate(zip(unit.requests, number_of)):
            sweep = None if number is None else done["sweeps"][number]
            shares = {
                condition: done["pictures"][condition]["shares"][
                    _lookers(units, condition).index(place)
                ][row]
                for condition in request.masks
            }
            try:
                part = request.part(
                    _seen(model, request, row, done["pictures"], sweep, tables[row], shares)
                )
            except InputError as error:
                work.refuse(error, store, request.trial, late=True)
                failed += 1
                passing = passing or isinstance(error, NotFinite)
                continue
            work.keep(request.trial.name, part, store)
    # If every part failed, the result is kept: the same request would fail again.
    if failed < len(every) or passing:
        _forget(jobs)
    return 0


def pictures_of(model: Vlm, units: Sequence[Unit], recurring: Recurring) -> dict[str, dict]:
    """Condition → what `programs.measured` is to capture of it."""
    pictures: dict[str, dict] = {}
    for condition in units[0].conditions:
        showing = [
            [request for _, request in unit.requests if condition in request.conditions]
            for unit in units
        ]
        shown = [requests[0].trial for requests in showing]
        inputs = encode(model, [(trial, condition) for trial in shown])
        kept = max(request.held for requests in showing for request in requests)
        # A nudged run gives other numbers, so its picture serves nobody else.
        shared = not units[0].nudge
        pictures[condition] = {
            "inputs": inputs,
            "start": max(0, inputs["input_ids"].shape[1] - kept),
            "keep": sorted(
                {word for request in showing[0] for word in _kept_of(request, condition)}
            ),
            "nudge": units[0].nudge,
            "masks": [
                torch.stack([unit.requests[number][1].masks[condition] for unit in units])
                for number in _lookers(units, condition)
            ],
            "recurs": recurring.name(model, shown[0], condition) if shared else None,
            "after": None,
        }
    # What is one condition's picture here may be another's in the next trial.
    as_any = {
        "keep": sorted({word for one in pictures.values() for word in one["keep"]}),
        "start": min(one["start"] for one in pictures.values()),
    }
    pictures = {name: {**one, **as_any} if one["recurs"] else one for name, one in pictures.items()}
    _go_on(model, pictures)
    return pictures


def _lookers(units, condition):
    """The numbers of the requests that ask where heads look on a condition's picture."""
    return [
        number
        for number, (_, request) in enumerate(units[0].requests)
        if condition in request.masks
    ]


def _go_on(model, pictures):
    """Let those that are another's picture under another question go on from it
    (`programs.continued`)."""
    for name, one in pictures.items():
        # No more than this is known of a picture that goes on.
        plain = set(one["keep"]) <= {"z"} and one["recurs"] is None and not one["nudge"]
        for first, other in pictures.items() if plain and model.ahead == "none" else ():
            common = _in_common(model, other["inputs"], one["inputs"])
            if first != name and other["after"] is None and 0 < common <= one["start"]:
                one["after"] = first, common
                other["start"] = min(other["start"], common)
                other["keep"] = sorted({*other["keep"], "resume"})
                break


def _in_common(model, one, other):
    """How many tokens two prompts about the same pictures begin with, these among them; 0 where
    they do not, or the second is longer."""
    ids, others = one["input_ids"], other["input_ids"]
    length = others.shape[1]
    # What says something of every token differs with the words.
    same = all(
        torch.equal(value, other[name])
        for name, value in one.items()
        if not (value.ndim == 2 and value.shape == ids.shape)
    )
    if length > ids.shape[1] or not same:
        return 0
    common = int((ids[:, :length] == others).all(0).long().cumprod(0).sum())
    image = (ids == model.config.image_token_id).nonzero()[:, 1]
    return common if common > image.max() else 0


def _sweeps(model, units, store):
    """What `programs.measured` is to sweep, and of each measurement of a unit the number of its
    sweep, or None."""
    sweeps: list[dict] = []
    number_of: list[int | None] = []
    numbers: dict[tuple, int] = {}
    for number, (work, request) in enumerate(units[0].requests):
        if request.target is None:
            number_of.append(None)
            continue
        # Requests with one key share their edits; only the answers may differ.
        same = work.key or id(work), id(request.means), request.rows
        if same not in numbers:
            numbers[same] = len(sweeps)
            kept = max(unit.requests[number][1].kept for unit in units)
            length = request.lengths[request.target]
            rows = [
                request.rows or _agreed(model, store, length, some)
                for some in (kept, max(unit.requests[number][1].held for unit in units))
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
        number_of.append(numbers[same])
    return sweeps, number_of


def _agreed(model, store, length, kept):
    """How many runs go side by side of which some positions are kept; in a store always the
    same."""
    rows = rows_at_once(model, length, length - kept)
    return store.agreed(f"rows, {kept} of {length} positions", rows) if store else rows


def _kept_of(request, condition):
    """What must be kept of a picture, as words of `programs.capture`."""
    if condition in request.masks:
        yield "attention"
    if request.target is None:
        return
    if condition == request.target:
        yield "resume"
    for edit in (edit for edits in request.edits for edit in edits):
        if edit.component == "path":
            yield from _kept_of_path(edit, condition, request.target)
        elif edit.component in OF_ATTENTION and condition in (edit.source, request.target):
            yield "attention"
        elif edit.component not in OF_ATTENTION and edit.source == condition:
            # An `AttentionEdit` has no source that is shown.
            yield "attention" if edit.remade else edit.component


def _kept_of_path(edit, condition, target):
    if condition == target:
        yield "attention"
    if condition in (edit.source, target):
        yield "z"
        if any(sender[0] == "mlp" for sender in edit.senders):
            yield "mlp_out"
        if "embedding" in edit.senders:
            yield "resume"


def _seen(model, request, row, pictures, sweep, table, shares):
    """What one measurement asked of one trial; InputError where the model misbehaved.

    Args:
        table: the token ids in the columns of what `programs.measured` read.
        shares: condition → of attention, as `Seen` has them.
    """
    shown = {condition: pictures[condition] for condition in request.conditions}
    check_finite(
        model, all(one["finite"] for one in shown.values()) and (sweep is None or sweep["finite"])
    )
    for condition, one in shown.items():
        if one["drift"]:
            check_unedited(model, one["drift"], request.lengths[condition])
    columns = [[table.index(token) for token in ids] for ids in request.ids]
    effects = torch.empty(0, len(columns))
    for condition, one in shown.items():
        if "attention" in _kept_of(request, condition):
            check_attention(model, one["gaps"])
    if sweep is not None:
        check_seeing(model, sweep["blind"])
        check_unedited(model, sweep["drift"], request.lengths[request.target])
        check_paths(model, sweep["gap"])
        before = pictures[request.target]["logits"][row]
        effects = _effects(before, sweep["effects"][row], columns)
    return Seen(
        {
            condition: _pooled(one["logits"][row], columns).numpy()
            for condition, one in shown.items()
        },
        {condition: int(one["likeliest"][row]) for condition, one in shown.items()},
        effects.numpy(),
        {condition: share.numpy() for condition, share in shares.items()},
    )


def _pooled(logits, columns):
    """Logits of answers, (…, answers), each pooled over its words.

    Args:
        columns: of ``logits``, (…, ids), of each answer.
    """
    if all(len(own) == 1 for own in columns):
        return logits[..., [column for (column,) in columns]]
    return pooled(logits, pooled_table([columns])[0])


def _effects(before, effects, columns):
    """Effects on answers, (variants, answers), from those on tokens.

    Args:
        before: logits of the target run, (ids,).
        effects: (variants, ids).
        columns: as in `_pooled`.
    """
    single = torch.tensor([len(own) == 1 for own in columns])
    # An effect on one word is no difference of logits, which would round it.
    on_first = effects[:, [own[0] for own in columns]]
    if single.all():
        return on_first
    before = before.double()
    moved = _pooled(before + effects.double(), columns) - _pooled(before, columns)
    return torch.where(single, on_first, moved.to(effects.dtype))


def _alone(work, store) -> Iterator[tuple[int, int]]:
    """Measure what shares nothing; yields how many parts are done with, and how many wait for a
    server."""
    if work.measurement.whole:
        yield 1, _kept(work, work.ready, store)
    elif store:
        for trial in work.missing:

            def part(jobs, trial=trial):
                (found,) = (part for some in work.ready([trial], jobs) for part in some.values())
                return found

            yield 1, _kept(work, part, store, trial)
    else:
        try:
            for some in work.ready(work.missing, None):
                work.parts.update(some)
                yield len(some), 0
        except InputError as error:
            work.error = error


def _kept(work, compute, store, *trial):
    """Measure the part of a trial, or of all; 1 if it waits for a server."""
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
    """What ends the analysis that asks for some measurements, each with its work."""
    return [
        work.error for one, work in own if work.error and not isinstance(work.error, one.excused)
    ]


def _frame(work):
    if work.error:
        return pd.DataFrame()
    names = ["all"] if work.measurement.whole else [trial.name for trial in work.measurement.trials]
    return work.measurement.frame([work.parts[name] for name in names])
