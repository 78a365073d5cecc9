"""The content of the drawing of a circuit: groups of heads, what each is shown to do, and the paths
between groups."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from rgb_circuit.calls.panels import shown
from rgb_circuit.heads import Head
from rgb_circuit.hypothesis import Hypothesis

from .. import roles
from ..roles import standing
from . import digits
from .run import Needs, Run
from .writing import LEAST_SHARE, percent, signed

SENDER = ["sender_layer", "sender_head"]
# If no head has a role: the most roles drawn, and the nearest heads of each. The most untested
# heads drawn.
MOST_OPEN, MOST_UNTESTED = 3, 5
# Smaller scores, as shares of the gap, count as nothing.
LEAST_SCORE = 1e-4
# Input of a receiver that a sender changes → what that input is for.
INTO = {
    "query": "their query: what they look for",
    "key": "their keys: what they find",
    "value": "their values: what they carry",
}

NEEDS = Needs(
    {"panels": "target role layer head effect ci_low ci_high gap told"},
    optional=[
        {
            "evidence": "layer head prediction restored_fraction holds state trials_to_decide void "
            "n outside stray",
            "roles": "layer head role score",
        },
        {"mediation": f"{' '.join(SENDER)} role total_effect share"},
        {"paths": f"into {' '.join(SENDER)} role effect"},
        {"direct_effects": "role layer head direct_effect ci_low ci_high"},
        {"attention": "trial condition layer head row column attention"},
    ],
)


@dataclass(frozen=True)
class Part:
    """A group of heads with the same role.

    Attributes:
        name: of their role.
        state: "shown", "undecided", "refuted" or "untested".
        heads: (head, its score), both as text; the strongest first, or, if no head has the role,
            the nearest open ones.
        does: what the role claims that its heads do.
        says: the measurements of these heads, or what is open; a line each.
        sends: whether the role claims that they work through others.
        writes: whether one of them is shown to move a word by itself.
    """

    name: str
    state: str
    heads: tuple[tuple[str, str], ...] = ()
    does: str = ""
    says: tuple[str, ...] = ()
    sends: bool = False
    writes: bool = False


@dataclass(frozen=True)
class Arrow:
    """A path from one part to another.

    Attributes:
        start, end: names of the parts.
        says: its measurements, in words.
    """

    start: str
    end: str
    says: str


def parts_of(run: Run) -> tuple[list[Part], list[Arrow]]:
    """The parts of a run's circuit, and the measured arrows between them. Without roles, the
    strongest heads."""
    if "roles" not in run.frames:
        return [_strongest(run)], []
    stands = standing.standings(run.frames["evidence"], run.task)
    drawn = [stand for stand in stands.values() if stand.heads or stand.hypothesis.in_circuit]
    if not drawn:
        drawn = sorted(stands.values(), key=lambda stand: -len(stand.open))[:MOST_OPEN]
    return [_part(run, stand) for stand in drawn], _arrows(run, drawn)


def _part(run, stands):
    hypothesis, unit = stands.hypothesis, _unit(run, stands.hypothesis)
    sends = any(hypothesis.name == sender.name for sender in run.task.senders)
    if not stands.heads:
        return Part(
            hypothesis.name,
            stands.state,
            tuple(
                (str(Head(row["layer"], row["head"])), _score(row["score"], unit))
                for row in moving(stands.open).head(MOST_OPEN).to_dict("records")
            ),
            hypothesis.says,
            says=(_open(stands),),
            sends=sends,
        )
    # Scores for this role; the table of roles has only the score of a head's strongest role.
    scores = roles.scores_by_role(run.frames["evidence"], run.task)[hypothesis.name]
    heads = sorted(stands.heads, key=lambda head: -abs(scores[tuple(head)]))
    written = _written(run, heads)
    says = [_looks(run, heads), written]
    return Part(
        hypothesis.name,
        "shown",
        tuple((str(Head(*head)), _score(scores[tuple(head)], unit)) for head in heads),
        hypothesis.says,
        tuple(line for line in says if line),
        sends,
        bool(written),
    )


def moving(heads: pd.DataFrame) -> pd.DataFrame:
    """Rows of heads whose ``score`` is not about zero; if nothing could be tested all heads are
    open, and most do nothing."""
    return heads[heads["score"].abs() >= LEAST_SCORE]


def _unit(run, hypothesis: Hypothesis):
    """The unit of a role's scores: " of attention", or "" for fractions of the gap."""
    about = [run.task.prediction(name).about_attention for name in hypothesis.score]
    return " of attention" if about and all(about) else ""


def _score(score, unit):
    return ("+" if score > 0 and not unit else "") + percent(score) + unit


def _open(stands):
    """The state of a role that no head has, in words."""
    if stands.state == "refuted":
        return "refuted for every head"
    if stands.state == "untested":
        return "could not be tested"
    count = len(stands.open)
    return f"not shown: {count} head{'s are' if count > 1 else ' is'} open"


def _of(frame: pd.DataFrame, heads: Sequence[Head], columns=("layer", "head")):
    """The rows of some heads."""
    wanted = pd.MultiIndex.from_tuples([tuple(head) for head in heads])
    return frame[pd.MultiIndex.from_frame(frame[list(columns)]).isin(wanted)]


def _looks(run, heads):
    """The heads' attention on the marked place of clean pictures, or on the picture, in words."""
    if "attention" not in run.frames:
        return ""
    frame = _of(run.frames["attention"], heads)
    frame = frame[frame["condition"] == "clean"]
    tiles = run.tiles
    marked = bool(run.task.place) and all(tiles.get(name) for name in frame["trial"].unique())
    if marked:
        at = frame["trial"].astype(str).map(lambda name: tuple(tiles[name]))
        frame = frame[[pair == where for pair, where in zip(zip(frame.row, frame.column), at)]]
    if frame.empty:
        return ""
    seen = frame.groupby(["layer", "head", "trial"], observed=True)["attention"].sum()
    each = seen.groupby(level=[0, 1]).mean()
    where = run.task.place if marked else "the picture"
    return f"{_between(each.min(), each.max())} of attention on {where}"


def _between(low, high):
    """A range of fractions; a single one if both are written the same."""
    low, high = percent(low), percent(high)
    return high if low == high else f"{low.removesuffix(chr(160) + '%')} to {high}"


def _written(run, heads):
    """The word that heads move most by themselves, if that differs from zero and is not small
    compared with other heads."""
    if "direct_effects" not in run.frames:
        return ""
    frame = run.frames["direct_effects"]
    least = LEAST_SHARE * frame["direct_effect"].abs().max()
    rows = _of(frame, heads)
    rows = rows[
        ((rows["ci_low"] > 0) | (rows["ci_high"] < 0))
        & (rows["direct_effect"].abs() >= max(least, run.floor))
    ]
    if rows.empty:
        return ""
    top = rows.loc[rows["direct_effect"].abs().idxmax()]
    effect = signed(top["direct_effect"], digits.three([top["direct_effect"]]))
    upto = "up to " if len(heads) > 1 else ""
    return f"direct effect on “{top['role']}”: {upto}{effect} logits"


def _arrows(run, drawn):
    """Arrows from heads that work through others to these others."""
    if "mediation" not in run.frames:
        return []
    receivers = [stand.hypothesis.name for stand in drawn if _receives(run, stand) and stand.heads]
    arrows = []
    for stand in drawn:
        if stand.heads and not _receives(run, stand) and (says := _through(run, stand.heads)):
            arrows += [Arrow(stand.hypothesis.name, receiver, says) for receiver in receivers]
    return arrows


def _receives(run, stands):
    return any(stands.hypothesis.name == receiver.name for receiver in run.task.receivers)


def _through(run, heads):
    """The share of some heads' largest effect that runs through others, and through which input;
    empty if it is small."""
    rows = _of(run.frames["mediation"], heads, SENDER)
    rows = rows[rows["total_effect"].abs() > run.floor]
    if rows.empty:
        return ""
    top = rows.loc[rows["total_effect"].abs().idxmax()]
    if not top["share"] >= LEAST_SHARE:
        return ""
    says = f"{percent(top['share'])} of its effect on “{top['role']}”"
    if "paths" in run.frames:
        routes = _of(run.frames["paths"], heads, SENDER)
        routes = routes[(routes["role"] == top["role"]) & (routes["effect"].abs() > run.floor)]
        if len(routes):
            says += f", through {INTO[routes.loc[routes['effect'].abs().idxmax(), 'into']]}"
    return says


def _strongest(run):
    """The heads with the largest effects alone, among those shown to have one, if any."""
    panels = run.frames["panels"]
    table, state = panels[shown(panels)], "untested"
    says = ["their roles were not tested"]
    if table.empty:
        table, state = panels[panels["effect"] != 0], "undecided"
        says.insert(0, "their effects are not shown to differ from zero in these trials")
    if table.empty:
        return Part("no head", "undecided", says=("restored alone, none has an effect",))
    size = (table["effect"] / table["gap"]).abs().fillna(table["effect"].abs())
    top = table.loc[size.sort_values(ascending=False, kind="stable").index]
    top = top.drop_duplicates(["layer", "head"]).head(MOST_UNTESTED)
    heads = tuple(
        (
            str(Head(int(row["layer"]), int(row["head"]))),
            _score(row["effect"] / row["gap"], "")
            if pd.notna(row["gap"])
            else f"{signed(row['effect'], digits.three([row['effect']]))} logits",
        )
        for row in top.to_dict("records")
    )
    return Part("strongest heads", state, heads, says=tuple(says))
