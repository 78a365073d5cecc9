"""The page over runs of several tasks: what the same heads do in all of them, and links to the page
of each.

It is made from the frames of the folder (`analyses.transfer.Transfer`) and of each task's run; no
model is loaded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import matplotlib
import numpy as np
import pandas as pd

from rgb_circuit.errors import NotDrawn, attempt
from rgb_circuit.files.results import read_frame, write_bytes
from rgb_circuit.heads import Head
from rgb_circuit.keeping.manifest import read_manifest
from rgb_circuit.keeping.saved_run import recorded_task
from rgb_circuit.plots import transfer_maps
from rgb_circuit.plots.canvas import model_title, percent_between
from rgb_circuit.task import Task

from . import digits
from .embedded import SETTINGS, svg
from .on_dark import on_dark
from .page import environment_of
from .writing import listed, percent

PREFIX = "transfer_"
FRAMES = {
    "transfer_heads": "sample layer head role effect ci_low ci_high shown n void",
    "transfer_pairs": "one other correlation ci_low ci_high ceiling corrected corrected_low "
    "corrected_high void",
    "transfer_sets": "found_on tested_on test set size faithfulness ci_low ci_high random_mean "
    "random_sets p_value q_value decidable n void",
}
LEFT_OUT = "transfer_left_out"
# Heads in the table, and heads that a line names (the figure has four times as many as a line).
MOST, NAMED = 40, 6


@dataclass(frozen=True)
class Several:
    """The contents of a folder with runs of several tasks.

    Attributes:
        folder: its path.
        manifest: of the folder.
        heads, pairs, sets: of `analyses.transfer.Transfer`; None if no two tasks can be compared.
        left_out: name of a task → why it is not compared with others.
    """

    folder: Path
    manifest: Mapping
    heads: pd.DataFrame | None
    pairs: pd.DataFrame | None
    sets: pd.DataFrame | None
    left_out: Mapping[str, str]

    @property
    def model(self) -> str:
        """The model's name without its parent folders."""
        return model_title(self.manifest["model"])

    @property
    def tasks(self) -> dict[str, Path]:
        """Name of a task → the folder of its run."""
        return {task["name"]: self.folder / task["folder"] for task in self.manifest["tasks"]}

    @cached_property
    def asked(self) -> dict[str, Task]:
        """Name of a task → the task as its run asked it."""
        return {name: recorded_task(read_manifest(at)) for name, at in self.tasks.items()}

    @property
    def called(self) -> str:
        """What is compared, in words: tasks, ways of asking, or both."""
        tasks = {task.name for task in self.asked.values()}
        if len(tasks) == len(self.asked):
            return "tasks"
        return "ways of asking" if len(tasks) == 1 else "tasks and ways of asking"

    @cached_property
    def shared(self) -> dict[Head, list[str]]:
        """Head → the tasks in which it is shown to act, for heads that act in more than one; sorted
        by the number of tasks, then by the largest effect."""
        if self.heads is None:
            return {}
        shown = self.heads[self.heads["shown"].astype(bool)]
        by_head = {Head(*at): rows for at, rows in shown.groupby(["layer", "head"])}
        order = sorted(by_head, key=lambda at: (-len(by_head[at]), -by_head[at]["effect"].max()))
        return {at: [*by_head[at]["sample"]] for at in order if len(by_head[at]) > 1}

    @property
    def compared(self) -> list[str]:
        """The compared tasks that have something to restore."""
        if self.heads is None:
            return []
        return [*self.heads.loc[self.heads["void"] == "", "sample"].unique()]


def read(folder: Path) -> Several:
    """Read a folder of runs of several tasks.

    Raises:
        InputError: the folder lacks its manifest or frames.
    """
    manifest = read_manifest(folder)
    reasons = read_frame(folder, LEFT_OUT, ["task", "reason"])
    finished = (folder / "transfer_heads.parquet").is_file()
    heads, pairs, sets = (
        read_frame(folder, name, columns.split()) if finished else None
        for name, columns in FRAMES.items()
    )
    left_out = dict(zip(reasons["task"], reasons["reason"]))
    return Several(folder, manifest, heads, pairs, sets, left_out)


def lines(folder: Path) -> list[str]:
    """The findings over the tasks, in lines for the command."""
    several = read(folder)
    texts = [verdict(several)]
    texts += [f"  {at}: {', '.join(tasks)}" for at, tasks in [*several.shared.items()][:NAMED]]
    if len(several.shared) > NAMED:
        texts.append(f"  and {len(several.shared) - NAMED} more")
    if several.pairs is not None:
        texts.append("Correlation of effects over heads, corrected for the noise of single trials:")
        texts += [f"  {row.one} and {row.other}: {agreement(row)}" for row in _rows(several.pairs)]
    texts += [f"{name} is left out: {reason}" for name, reason in several.left_out.items()]
    return texts


def verdict(found: Several) -> str:
    """The findings, in a sentence."""
    if found.heads is None:
        return f"No two of these {found.called} can be compared for {found.model}."
    names = found.compared
    if len(names) < 2:
        where = f"in {names[0]} alone" if names else "in none"
        return (
            f"{found.model} has something to restore {where} of these {found.called}, so shared "
            "heads were not looked for."
        )
    many = f"{len(names)} {found.called}"
    n_heads = len(found.heads[["layer", "head"]].drop_duplicates())
    in_all = [at for at, tasks in found.shared.items() if len(tasks) == len(names)]
    if not found.shared:
        return f"No head of {found.model} is shown to act in more than one of {many}."
    acting = f"{len(found.shared)} of {n_heads:,} heads of {found.model}"
    verb = "are" if len(found.shared) > 1 else "is"
    sentence = f"{acting} {verb} shown to act in more than one of {many}"
    if len(names) == 2:
        return f"{sentence}: {_few(found.shared)}."
    return f"{sentence}, and {_few(in_all) if in_all else 'none'} in all of them."


def agreement(row) -> str:
    """How far the effects of two tasks agree over heads, in words."""
    if row.void:
        return row.void
    measured = f"r {digits.written(row.correlation, 2)} below a ceiling of {row.ceiling:.2f}"
    if not np.isfinite(row.corrected):
        return f"not shown to exceed noise ({measured})"
    ends = ", ".join(digits.written(end, 2) for end in (row.corrected_low, row.corrected_high))
    return f"{digits.written(row.corrected, 2)} [{ends}] ({measured})"


def write(folder: Path) -> Path:
    """Write report.html into the folder, from its files and those of the tasks.

    Raises:
        InputError: as `read`, or the run of a task is not finished.
        NotDrawn: the figure could not be drawn; the page is written without it.
    """
    found = read(folder)
    failed: dict[str, Exception] = {}
    figure = None
    with matplotlib.rc_context(SETTINGS), attempt("the figure of the page", failed):
        if found.heads is not None:
            drawn = transfer_maps(found.heads, found.pairs, found.sets, found.model, most=NAMED * 4)
            says = "Effects of heads, correlations and sets of heads over tasks"
            figure = on_dark(svg(drawn, says))
    text = (
        environment_of("analyses.report")
        .get_template("several.html.jinja")
        .render(
            found=found,
            name=found.manifest["options"].get("name") or found.model.rpartition("/")[2],
            verdict=verdict(found),
            named=[(str(at), tasks) for at, tasks in [*found.shared.items()][:NAMED]],
            figure=figure,
            tasks=[_task(found, name, at) for name, at in found.tasks.items()],
            heads=_heads(found),
            most=MOST,
            pairs=[(row.one, row.other, _pair(row)) for row in _rows(found.pairs)],
            sets=_sets(found),
        )
    )
    path = write_bytes(folder / "report.html", text.encode())
    if failed:
        raise NotDrawn(failed, folder)
    return path


def _task(found, name, folder):
    """A row of the table of tasks."""
    task = found.asked[name]
    correct = read_frame(folder, "play", ["correct"])["correct"].dropna()
    roles = []
    if (folder / "roles.parquet").is_file():
        table = read_frame(folder, "roles", ["layer", "head", "role"])
        roles = [f"{Head(row.layer, row.head)} {row.role}" for row in _rows(table, "role")]
    heads = pd.DataFrame({"sample": []}) if found.heads is None else found.heads
    rows = heads[heads["sample"] == name]
    measured = len(rows) > 0
    return dict(
        name=name,
        link=f"{quote(folder.name)}/report.html",
        says=task.says,
        question=task.question,
        n=int(rows["n"].iloc[0]) if measured else None,
        right=float(correct.mean()) if len(correct) else None,
        roles=roles,
        acting=int(rows["shown"].sum()) if measured else None,
        void=rows["void"].iloc[0] if measured else found.left_out.get(name, ""),
    )


def _rows(frame, role=None):
    """Rows as tuples; with ``role``, the column of roles, only rows with a role."""
    if frame is None:
        return []
    return frame[frame[role] != "none"].itertuples() if role else frame.itertuples()


def _heads(found):
    """Rows of the table head × task, for heads that are shown or have a role in any task."""
    if found.heads is None:
        return []
    telling = found.heads["shown"].astype(bool) | (found.heads["role"] != "none")
    named = found.heads[telling].assign(size=lambda rows: rows["effect"].abs())
    largest = named.groupby(["layer", "head"])["size"].max().nlargest(MOST).index
    by_head = dict(iter(found.heads.groupby(["layer", "head"])))
    return [
        (str(Head(*at)), [_cell(row) for row in by_head[at].itertuples()]) for at in sorted(largest)
    ]


def _cell(row):
    """A head's effect in a task, whether it is shown, and the head's role."""
    effect = row.void
    if not row.void:
        interval = percent_between(row.effect, row.ci_low, row.ci_high)
        effect = interval if row.shown else percent(row.effect)
    return dict(effect=effect, shown=bool(row.shown), role="" if row.role == "none" else row.role)


def _pair(row):
    """Cells of a row of pairs."""
    numbers = (row.correlation, row.ci_low, row.ci_high, row.ceiling)
    corrected = (row.corrected, row.corrected_low, row.corrected_high)
    return dict(
        void=row.void,
        measured=_between(*numbers[:3]),
        ceiling=digits.written(row.ceiling, 2),
        corrected=_between(*corrected)
        if np.isfinite(row.corrected)
        else "not shown to exceed noise",
    )


def _between(value, low, high):
    ends = ", ".join(digits.written(end, 2) for end in (low, high))
    return f"{digits.written(value, 2)} [{ends}]".replace("-", "−")


def _sets(found):
    """Rows of the table of sets: found on × tested on, with both tests."""
    if found.sets is None:
        return []
    rows = []
    order = {name: number for number, name in enumerate(found.sets["tested_on"].unique())}
    by_pair = dict(iter(found.sets.groupby(["found_on", "tested_on"])))
    for found_on, tested_on in sorted(by_pair, key=lambda pair: [order[name] for name in pair]):
        pair = by_pair[found_on, tested_on]
        by_test = {row.test: row for row in pair.itertuples()}
        first = by_test["sufficiency"]
        cells = [] if first.void else [_tested(row) for row in by_test.values()]
        rows.append(
            dict(found_on=found_on, tested_on=tested_on, heads=first.set, size=first.size,
                 void=first.void, tests=cells)
        )  # fmt: skip
    return rows


def _tested(row):
    """The cells of a set's test: restored, restored by random sets, and rank."""
    decided = np.isfinite(row.p_value) and row.decidable
    rank = f"{row.p_value:.2g}" if decided else digits.MISSING
    restored = percent_between(row.faithfulness, row.ci_low, row.ci_high)
    return dict(restored=restored.lstrip("+"), random=percent(row.random_mean), rank=rank)


def _few(heads: Sequence[Head] | Mapping[Head, object]) -> str:
    names = [str(at) for at in heads]
    more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
    return listed([*names[:NAMED], *more])
