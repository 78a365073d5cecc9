"""The riddle of head 26.16: why does a head after the extractor shift the answer to the background?

The seed's test of a POI localization head (P3) cannot tell a head that finds the odd tile's place
from one that carries the background's colour, nor from several others: on its pictures all make the
answer "blue". For every head that passes P3, the riddle's table has the questions that decide:

1. what the head *writes*: on a canvas of another colour (P4, P4w), the colour there, or the one
   that it saw;
2. by which *route*: through the color extractors (P5) or past them (P5w);
3. whether it carries a *place*: taken from a picture with the tile elsewhere, does it move the
   reading there (P6)?
4. whether it *looks* at the place itself, or hands on what another head found (P7, P7r);
5. whether it is at *rest* on the plain canvas, or holds the canvas's colour down there (P8, P8s);
6. whether the clean answer *needs* it (P10), and whether it lowers the word for "nothing is odd"
   instead (P9a, P9b).

An explanation is a role (`analyses.roles`). It is the head's if all its predictions hold; it is out
if one is refuted; otherwise it is left, with what would decide it.

Source: the last paragraph of the seed note of the RGB game.
"""

from collections.abc import Sequence

import pandas as pd

import rgb_circuit as rgb
from rgb_circuit.heads import rows_of
from rgb_circuit.task import Task

from .. import color_extractor
from .. import evidence as _evidence
from .. import roles as _roles
from ..roles import standing

ASKS = {
    "P4": "the other canvas's colour",
    "P4w": "the colour it saw",
    "P5": "background, through the extractors",
    "P5w": "background, past the extractors",
    "P6": "background, tile moved",
    "P7": "background, by looking there",
    "P7r": "background, by looking there",
    "P8": "background, zeroed",
    "P8s": "background, zeroed",
    "P9a": "the word for nothing",
    "P10": "the clean answer, without it",
}
# Role → its explanation of a head.
EXPLANATIONS = {
    "POI localization": "localizes",
    "row or column localization": "localizes the row or the column",
    "place relay": "relays the place",
    "background writer": "writes the background",
    "canvas suppressor": "holds the canvas's colour down",
    "oddness": "says that a tile is odd",
}


def riddle(model: rgb.Vlm, trials: Sequence[rgb.Trial], **options) -> pd.DataFrame:
    """The role of each head that passes P3: it localizes, hands on a place, writes the background,
    or holds it down; and by which route.

    Args:
        options: those of `analyses.roles.evidence`.

    Returns:
        See `table`.

    Raises:
        InputError: too few trials, or a picture or word that a prediction needs and a trial lacks.
    """
    return table(_roles.evidence(model, trials, **options))


def asked(evidence: pd.DataFrame) -> bool:
    """Whether evidence has the predictions that the riddle reads."""
    return set(ASKS) <= set(evidence["prediction"])


def explains(task: Task) -> bool:
    """Whether a task has the predictions that the riddle reads."""
    return set(ASKS) <= set(task.says_of_predictions)


def table(evidence: pd.DataFrame) -> pd.DataFrame:
    """The riddle's rows from the frame of `analyses.roles.evidence`.

    Returns:
        A row per head × prediction (`ASKS`), for heads for which P3a holds and P3b is not refuted,
        or that have one of these roles: ``layer, head, verdict, left, decide, route, late,
        prediction, expected, raises`` (in words), ``effect, ci_low, ci_high, restored_fraction, n,
        holds, state``. ``verdict``: one of `EXPLANATIONS`, or "undecided".
        ``left``: the explanations that are not refuted, such as "localizes or relays the place";
        "none of these" if all are out.
        ``decide``: the undecided predictions of these that would decide, with how many trials, or
        what they lack; empty with a verdict.
        ``route``: "through the extractors" (P5), "past the extractors" (P5w), or "undecided".
        ``late``: no color extractor is in a later layer, so nothing can go through one; missing if
        no head is shown to be one.
    """
    layers = [layer for layer, _ in color_extractor.heads(evidence)]
    holds, state = (
        _evidence.by_prediction(evidence, "holds"),
        _evidence.by_prediction(evidence, "state"),
    )
    met = {role: _evidence.heads(evidence, _roles.GAME.hypothesis(role)) for role in EXPLANATIONS}
    left = {
        role: standing.open_heads(evidence, _roles.GAME.hypothesis(role)) for role in EXPLANATIONS
    }
    passing = [
        head
        for head in holds.index
        if holds.loc[head, "P3a"] and state.loc[head, "P3b"] != "refuted"
    ]
    passing += [
        head
        for head in holds.index
        if head not in passing and any(head in own for own in met.values())
    ]
    columns = (
        "layer head verdict left decide route late prediction expected raises effect ci_low "
        "ci_high restored_fraction n holds state"
    )
    blocks = []
    for head in sorted(passing):
        rows = rows_of(evidence, head).set_index("prediction", drop=False)
        own = [words for role, words in EXPLANATIONS.items() if head in met[role]]
        open_ = {role: words for role, words in EXPLANATIONS.items() if head in left[role]}
        route = (
            "through the extractors"
            if holds.loc[head, "P5"]
            else "past the extractors"
            if holds.loc[head, "P5w"]
            else "undecided"
        )
        late = all(layer <= head[0] for layer in layers) if layers else pd.NA
        shown = rows.loc[list(ASKS)].assign(
            verdict=" and ".join(own) or "undecided",
            left=" or ".join(own or open_.values()) or "none of these",
            decide="" if own else _deciding(evidence, head, open_),
            route=route,
            late=late,
            raises=list(ASKS.values()),
        )
        blocks.append(shown[columns.split()])
    if not blocks:
        return pd.DataFrame(columns=columns.split())
    return pd.concat(blocks, ignore_index=True).astype({"late": "boolean"})


def _deciding(evidence, head, roles):
    """The undecided predictions of some roles, and what would decide them, in words."""
    said, task = [], _roles.GAME
    wanted = [task.hypothesis(role) for role in roles]
    for row in standing.lacking(evidence, head, wanted).to_dict("records"):
        name, trials = row["prediction"], row["trials_to_decide"]
        if row["void"]:
            said.append(
                f"{name} needs {standing.to_test(row['void'], task.prediction(name), task)}"
            )
        else:
            said.append(
                f"{name} lies on its threshold"
                if trials == float("inf")
                else f"{name}: {trials:,.0f} trials"
            )
    return ", ".join(said)
