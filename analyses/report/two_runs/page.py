"""The page over two runs, written from their folders; no model is loaded."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from rgb_circuit.arguments import as_path
from rgb_circuit.calls.compare_runs import common_panels
from rgb_circuit.errors import CannotWrite, NotDrawn, attempt
from rgb_circuit.files.results import write_bytes
from rgb_circuit.heads import Head
from rgb_circuit.keeping.inline import inline
from rgb_circuit.keeping.shared_trials import Shared, shared_trials
from rgb_circuit.plots.canvas import percent

from .. import digits, explorer, head, scripts
from ..page import environment_of, known_sections
from ..run import Needs, Run, read
from ..writing import interval, listed, places, signed
from .heads import SHARE, Compared, compared
from .roles import OtherRole, other_roles, role_by_role
from .scatter import Point, scatter
from .settings import settings

NEEDS = Needs(added={"accuracy": "by level right n share ci_low ci_high chance"})
# The most rows in a table of heads, and the most heads that a sentence names.
MOST, NAMED = 40, 6


@dataclass(frozen=True)
class Two:
    """Two finished runs.

    Attributes:
        a, b: the runs.
        names: of the runs; of their folders if the runs have the same name.
        shared: what their trials have in common.
        compared: the comparison of heads; None if the heads are not the same.
        other_heads: why they are not the same, in a sentence, else empty.
        page: the path of the page, if it was written; a notebook shows it.
    """

    a: Run
    b: Run
    names: tuple[str, str]
    shared: Shared
    compared: Compared | None
    other_heads: str
    page: Path | None = None

    def _repr_html_(self) -> str | None:
        return inline(self.page, " and ".join(self.names)) if self.page else None

    @property
    def runs(self) -> tuple[Run, Run]:
        """Both runs."""
        return self.a, self.b

    @cached_property
    def other_roles(self) -> list[OtherRole]:
        """Heads with a role in only one run."""
        return other_roles(self.a, self.b)


def two_runs(a: str | Path, b: str | Path) -> Two:
    """Read and compare two folders.

    Raises:
        InputError: a folder has no finished run, or the runs have no panel in common.
    """
    wanted = [head.NEEDS, NEEDS, *(section.needs for section in known_sections().values())]
    a_run, b_run = (read(as_path(folder, "a run's folder"), wanted) for folder in (a, b))
    common_panels((a_run, b_run))
    names = [run.name for run in (a_run, b_run)]
    if names[0] == names[1]:
        names = [f"{run.name} ({run.folder.resolve().name})" for run in (a_run, b_run)]
    why = _other_heads(a_run, b_run)
    return Two(
        a_run,
        b_run,
        (f"A: {names[0]}", f"B: {names[1]}"),
        shared_trials(a_run, b_run),
        None if why else compared(a_run, b_run),
        why,
    )


def _other_heads(a, b):
    """Why heads cannot be matched one by one, in a sentence; empty if they can."""
    shapes = [(run.manifest["layers"], run.manifest["heads"]) for run in (a, b)]
    if shapes[0] != shapes[1]:
        sizes = " and ".join(f"{layers} layers × {heads} heads" for layers, heads in shapes)
        return (
            f"The models have different shapes ({sizes}), so heads cannot be matched: only "
            "verdicts, answers and roles are compared."
        )
    heads = [set(map(tuple, run.frames["panels"][["layer", "head"]].to_numpy())) for run in (a, b)]
    if heads[0] != heads[1]:
        return (
            f"The runs restored different heads ({len(heads[0])} and {len(heads[1])}), so they "
            "are not compared head by head; run both with the same --heads, or with all heads."
        )
    return ""


def write(a: str | Path, b: str | Path, page: str | Path) -> Two:
    """Write the page over two runs, in one file to send to somebody.

    Args:
        a, b: folders of finished runs.
        page: the file.

    Returns:
        The page's content; as the last value of a notebook's cell it shows the page.

    Raises:
        InputError: as `two_runs`.
        CannotWrite: the file cannot be written.
        NotDrawn: the page could not be drawn, by a fault of ours.
    """
    check_page(page)
    return drawn(two_runs(a, b), page)


def check_page(page: str | Path) -> None:
    """Raise CannotWrite for a file in a folder that does not exist."""
    folder = Path(page).parent
    if not folder.is_dir():
        raise CannotWrite(f"cannot write {page}: there is no folder {folder}; make it first")


def drawn(found: Two, page: str | Path) -> Two:
    """`write`, for runs that were already read and compared."""
    path, failed = Path(page), dict[str, Exception]()
    with attempt(path.name, failed):
        return replace(found, page=write_bytes(path, _text(found).encode()))
    folders = [str(run.folder) for run in found.runs]
    again = shlex.join(["rgb-circuit", "compare", *folders, "--page", str(path)])
    raise NotDrawn(failed, *folders, again=again)


def _text(found):
    matched = found.compared is not None
    differing = 0 if found.compared is None else int(found.compared.heads["differs"].sum())
    return (
        environment_of("analyses.report")
        .get_template("two_runs/two_runs.jinja")
        .render(
            found=found,
            verdict=verdict(found),
            more=_more(found),
            leaves_open=bool(found.compared and _open(found.compared.heads)),
            settings=settings(found.a, found.b),
            heads=[
                head.values(run, linked=matched, prefix=f"{side}-")
                for side, run in zip("ab", found.runs)
            ],
            accuracy=_accuracy(found),
            panels=_panels(found),
            claims=_claims(found) if matched else [],
            rows=_rows(found),
            differing=differing,
            most=MOST,
            others=_others(found) if matched else [],
            roles=role_by_role(found.a, found.b),
            payload=_payload(found),
            script=scripts.script_of_two(),
        )
    )


def verdict(found: Two) -> str:
    """The differences, in a sentence."""
    if found.compared is None:
        return f"The heads of {found.a.name} and {found.b.name} cannot be matched one by one."
    table = found.compared.heads
    n_heads = len(table[["layer", "head"]].drop_duplicates())
    if found.shared.same and not table["difference"].any():
        return f"Every effect of {n_heads:,} heads is the same in both runs."
    if table["p_value"].isna().all():
        return f"Whether any of {n_heads:,} heads acts differently cannot be tested."
    names = _differing(table)
    if not names:
        return f"None of {n_heads:,} heads is shown to act differently in B than in A."
    verb = "is" if len(names) == 1 else "are"
    acting = f"{len(names)} of {n_heads:,} heads {verb} shown to act differently in B than in A"
    return f"{acting}: {_few(names)}."


def _differing(table) -> list[str]:
    """The heads that are shown to differ, largest differences first."""
    rows = table[table["differs"]].assign(size=lambda rows: rows["difference"].abs())
    rows = rows.sort_values("size", ascending=False, kind="stable")
    return list(dict.fromkeys(str(Head(row.layer, row.head)) for row in rows.itertuples()))


def _few(names: Sequence[str]) -> str:
    more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
    return listed([*names[:NAMED], *more])


def _more(found):
    """What the verdict leaves open, in sentences."""
    if found.compared is None:
        return found.other_heads
    sentences = [found.shared.says, _open(found.compared.heads)]
    if others := found.other_roles:
        names = [*dict.fromkeys(str(other.head) for other in others)]
        against = [*dict.fromkeys(str(other.head) for other in others if other.refuted)]
        verb = "has" if len(names) == 1 else "have"
        ends = (
            f"refuted in the other run for {_few(against)}"
            if against
            else "not refuted in the other run, which may lack trials"
        )
        sentences.append(f"{_few(names)} {verb} a role in one run only; that role is {ends}.")
    return " ".join(text for text in sentences if text)


def _open(table):
    """How large a difference these trials leave open for heads that are not shown to differ."""
    left = table[~table["differs"] & table["p_value"].notna()]
    if left.empty or not table["difference"].any():
        return ""
    reach = np.maximum(left["ci_low"].abs(), left["ci_high"].abs())
    largest = []
    for unit, reaches in reach.groupby(left["unit"], sort=False):
        row = table.loc[reaches.idxmax()]
        size = percent(reaches.max()) if unit == SHARE else f"{reaches.max():.2g} logits"
        unit_text = " of the gap" if unit == SHARE else ""
        largest.append(f"{size}{unit_text} ({Head(row['layer'], row['head'])}, “{row['panel']}”)")
    return (
        "Not shown to differ does not mean equal: the intervals of the other heads reach up to "
        f"{' and '.join(largest)}."
    )


def _accuracy(found):
    """Rows of accuracy: what was counted, and a cell per run."""
    tables = [run.frames.get("accuracy") for run in found.runs]
    if any(table is None for table in tables):
        return []
    sides = []
    for table in tables:
        table = table[table["by"].isin(["all", "picture", "flips"])]
        sides.append({(row["by"], row["level"]): row for row in table.to_dict("records")})
    named = {"all": "all pictures", "flips": "trials with every answer right"}
    return [
        (named.get(by, level), [side.get((by, level)) for side in sides])
        for by, level in dict.fromkeys([*sides[0], *sides[1]])
    ]


def _panels(found):
    """A scatter of each panel, with the agreement of its effects over heads."""
    if found.compared is None:
        return []
    drawn = []
    for row in found.compared.panels.to_dict("records"):
        rows = found.compared.heads.query("panel == @row['panel']")
        share = row["unit"] == SHARE
        points = [
            Point(
                str(Head(one["layer"], one["head"])),
                (one["effect_a"], one["effect_a_low"], one["effect_a_high"]),
                (one["effect_b"], one["effect_b_low"], one["effect_b_high"]),
                one["differs"],
                f"{Head(one['layer'], one['head'])}: A {_measured(one, 'effect_a', share)}, "
                f"B {_measured(one, 'effect_b', share)}",
            )
            for one in rows.to_dict("records")
        ]
        drawing = scatter(
            points, share=share, names=found.names, says=f"Effects of heads, {row['panel']}"
        )
        drawn.append(row | dict(drawing=drawing, agreement=_agreement(row)))
    return drawn


def _agreement(row):
    """How far the effects of a panel agree over heads, in words."""
    if not np.isfinite(row["correlation"]):
        return "no correlation, since all effects of one run are equal"
    text = f"r {_between(row, 'correlation', 'ci_low', 'ci_high')}"
    if not np.isfinite(row["ceiling"]):
        return text
    text += f", below a ceiling of {row['ceiling']:.2f} set by noise"
    if not np.isfinite(row["corrected"]):
        return f"{text}; in one run the effects are not shown to exceed noise"
    without = _between(row, "corrected", "corrected_low", "corrected_high")
    return f"{text}; without noise {without}"


def _between(row, value, low, high):
    written = [digits.written(row[name], 2) for name in (value, low, high)]
    ends = f" [{written[1]}, {written[2]}]" if written[1] != digits.MISSING else ""
    return written[0] + ends


def _claims(found):
    """A scatter of effects for each claim that both runs tested."""
    if not all("evidence" in run.frames for run in found.runs):
        return []
    columns = ["effect", "ci_low", "ci_high"]
    sides = [
        {
            name: rows.set_index(["layer", "head"])
            for name, rows in run.frames["evidence"].groupby("prediction", sort=False)
        }
        for run in found.runs
    ]
    drawn = []
    for name in sides[0]:
        if name not in sides[1]:
            continue
        a_rows, b_rows = sides[0][name], sides[1][name].reindex(sides[0][name].index)
        points = [
            Point(
                str(Head(*at)),
                tuple(x),
                tuple(y),
                {a_state, b_state} == {"holds", "refuted"},
                f"{Head(*at)}: A {a_state}, B {b_state}",
            )
            for at, x, y, a_state, b_state in zip(
                a_rows.index,
                a_rows[columns].to_numpy(dtype=float),
                b_rows[columns].to_numpy(dtype=float),
                a_rows["state"],
                b_rows["state"],
            )
        ]
        both = pd.DataFrame({"a": a_rows["effect"], "b": b_rows["effect"]}).dropna()
        if both.empty:
            continue
        varied = (both.nunique() > 1).all()
        drawn.append(
            dict(
                name=name,
                says=found.a.task.says_of_predictions.get(name, ""),
                correlation=float(both.corr().iloc[0, 1]) if varied else np.nan,
                drawing=scatter(
                    points, share=False, names=found.names, says=f"Effects of heads, claim {name}"
                ),
            )
        )
    return drawn


def _rows(found):
    """Rows of the table of heads that differ, largest differences first."""
    if found.compared is None:
        return []
    table = found.compared.heads
    shown = table.assign(size=table["difference"].abs())[table["differs"]]
    order = shown.sort_values("size", ascending=False, kind="stable").head(MOST)
    return [
        dict(
            head=str(Head(row["layer"], row["head"])),
            panel=row["panel"],
            a=_measured(row, "effect_a", row["unit"] == SHARE),
            b=_measured(row, "effect_b", row["unit"] == SHARE),
            difference=_measured(
                row, "difference", row["unit"] == SHARE, low="ci_low", high="ci_high"
            ),
            q=f"{row['q_value']:.2g}",
        )
        for row in order.to_dict("records")
    ]


def _measured(row, value, share, low="", high=""):
    """A mean with its interval: per cent of the gap, or logits."""
    names = value, low or f"{value}_low", high or f"{value}_high"
    scale = 100 if share else 1
    numbers = dict(zip(("effect", "ci_low", "ci_high"), (scale * row[name] for name in names)))
    if abs(numbers["effect"]) < 1e-12:
        numbers["effect"] = 0.0
    many = places(numbers)
    text = f"{signed(numbers['effect'], many)} {interval(numbers, many)}".strip()
    return text.replace(f" {digits.MISSING}", "") + ("\N{NO-BREAK SPACE}%" if share else " logits")


def _others(found):
    """Rows of the table of heads whose role differs."""
    table = found.compared.heads
    rows = []
    for differing in found.other_roles:
        rows_of_head = table[
            (table["layer"] == differing.head[0]) & (table["head"] == differing.head[1])
        ]
        effects = [
            dict(
                panel=row["panel"],
                a=_measured(row, "effect_a", row["unit"] == SHARE),
                b=_measured(row, "effect_b", row["unit"] == SHARE),
                differs=row["differs"],
            )
            for row in rows_of_head.to_dict("records")
        ]
        rows.append(dict(head=str(differing.head), verdicts=differing.verdicts, effects=effects))
    return rows


def _payload(found):
    """The packed data of the cards: ``data``, and ``looks``, the packed attention of each run's
    pictures; without cards both are empty and ``why_not`` says why."""
    why = found.other_heads or next(
        (run.why_not("sweeps") for run in found.runs if "sweeps" not in run.frames), ""
    )
    if why:
        return dict(why_not=why, data="", looks=[])
    runs, blobs = [], []
    for side, name, run in zip("ab", found.names, found.runs):
        pictures, looks, _ = explorer.looks(run, explorer.BUDGET // 2)
        data = {key: value for key, value in explorer.data(run).items() if key != "charts"}
        runs.append(dict(name=name, data=data | dict(pictures=pictures, looks=f"two-{side}")))
        blobs.append((f"two-{side}", looks))
    first = found.compared.panels.iloc[0]
    content = dict(
        runs=runs,
        target=first["target"],
        role=first["role"],
        differences=[_difference(row) for row in found.compared.heads.to_dict("records")],
    )
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return dict(why_not="", data=explorer.packed(text.encode()), looks=blobs)


def _difference(row):
    numbers = {"difference": "difference", "low": "ci_low", "high": "ci_high", "q": "q_value"}
    return dict(
        head=str(Head(row["layer"], row["head"])),
        panel=row["panel"],
        role=row["role"],
        share=row["unit"] == SHARE,
        differs=bool(row["differs"]),
        void=row["void"],
    ) | {
        name: float(f"{row[column]:.{explorer.DIGITS}g}") if np.isfinite(row[column]) else None
        for name, column in numbers.items()
    }
