"""The cost of a run, as ``--dry-run`` prints it."""

from collections.abc import Mapping, Sequence

from rgb_circuit.calls.panels import panels_for
from rgb_circuit.errors import InputError
from rgb_circuit.loading import weights_size
from rgb_circuit.measuring.estimate import Cost, cost
from rgb_circuit.measuring.measurement import Measurement
from rgb_circuit.task import Task
from rgb_circuit.trial import Trial
from rgb_circuit.vlm import Vlm

from ..roles import standing
from . import closer_look, every_head, items
from .findings import STAGES, Study

# Plain forwards of the checks at loading, counted on a model of LLaVA-1.5-7B's shape.
LOADING = 12
# Seconds that a run needs in addition to its forwards: to start, per picture and sweep of a trial,
# for the page, and for each head on the page. Measured on one core with 24 heads; the last, on two
# cores with 1,024.
START_SECONDS, SECONDS_OF_A_PART, PAGE_SECONDS, SECONDS_OF_A_HEAD = 5, 0.02, 6, 0.06


def forwards_of_page(
    model: Vlm, trials: Sequence[Trial], wanted: Sequence[Measurement], study: Study
) -> dict[str, float]:
    """Plain forwards for the page, as far as they are known before any head is found.

    Args:
        trials: of the run; none for a shard, which has no page.
        wanted: the first measurements of each trial.

    Returns:
        Part of the page, in words → plain forwards; "" for the parts that take few.
    """
    shown = {"": float(every_head.forwards(wanted))}
    if not trials:
        return shown
    shown[""] += closer_look.forwards(trials)
    if for_items := items.forwards(trials, study.task, panels_for(trials)):
        shown["attention on every item"] = for_items
    try:
        if not study.narrowed:
            steered = cost(model, closer_look.at_most_steered(model, trials, study.steer))
            shown["redirected heads, at most"] = steered.forwards
    except InputError:
        # The finished run says why.
        pass
    return shown


def print_estimate(
    model: Vlm,
    cost: Cost,
    first: int,
    for_page: Mapping[str, float],
    seconds: float | None,
    task: Task,
) -> None:
    """Print the cost of a run.

    Args:
        cost: of the first step.
        first: plain forwards to play before it.
        for_page: from `forwards_of_page`.
        seconds: per plain forward; None if it cannot be timed.
        task: of the run.
    """
    without = f"; nothing without {standing.one_of(task.receivers)}" if task.receivers else ""
    each = cost.forwards / cost.trials
    print(
        f"{model.name}: {cost.trials} trials, {len(model.heads()):,} heads. Nothing is run, and no "
        "weights are read. Each trial would take\n"
        f"  step 1: {STAGES[0]}: {cost.captures / cost.trials:.3g} pictures through the model, "
        f"{cost.sweeps / cost.trials:.3g} sweeps of heads: about {each:.3g} plain forwards\n"
        f"  step 2: {STAGES[1]}: depends on what is found{without}\n"
        f"  step 3: {STAGES[2]}: depends on what is found; on half of the trials"
    )
    if model.server:
        print(
            f"Step 1 is {cost.forwards:,.0f} plain forwards in all, on a server one request per "
            "trial."
        )
    else:
        _whole_run(model, cost, LOADING + first, for_page, seconds)
    print(
        f"It takes up to {size(cost.memory)} of memory besides the weights, and writes about "
        f"{size(cost.disk)} to disk."
    )


def _whole_run(model, cost, before, for_page, seconds):
    """Print the cost of a run on this machine, from start to page, as far as it is known."""
    writing = PAGE_SECONDS + SECONDS_OF_A_HEAD * len(model.heads())
    pages = sum(for_page.values())
    named = [f"{forwards:,.0f} for {shown}" for shown, forwards in for_page.items() if shown]
    of_them = f" ({'; '.join(named)})" if named else ""
    weights = size(weights_size(model.nnsight._module, model.dtype))
    if seconds is None:
        print(
            f"Plain forwards: {before} to check the model when its weights ({weights}) are loaded "
            f"and to play, {cost.forwards:,.0f} for step 1, {pages:,.0f} for the page{of_them}. "
            "How long a forward takes here cannot be estimated without the weights."
        )
        return
    keeping = SECONDS_OF_A_PART * (cost.captures + cost.sweeps)
    parts = [
        START_SECONDS + before * seconds,
        keeping + cost.forwards * seconds,
        writing + pages * seconds,
    ]
    start, step, page = map(duration, parts)
    print(
        f"A plain forward takes {duration(seconds)} here (timed on this model's shape, filled "
        "with one number). So a run takes about\n"
        f"  start-up: {start}, with {before} plain forwards to check the model and to play; and to "
        f"read its weights, {weights}, or to download them if they are not here\n"
        f"  step 1: {step}, with {cost.forwards:,.0f} plain forwards\n"
        f"  the page: {page}, with {pages:,.0f} plain forwards{of_them}\n"
        f"{duration(sum(parts))} in all, and more by what is found."
    )


def duration(seconds: float) -> str:
    """A duration in a suitable unit."""
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def size(count: float) -> str:
    """A number of bytes in a suitable unit."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count / 2**10:.0f} KiB"
