"""The head of the page: what was asked, what was found, and on how much it rests."""

from datetime import datetime

import pandas as pd

from rgb_circuit.heads import Head

from .. import roles
from ..roles import standing
from . import digits
from .playing import cannot_play
from .run import Needs, Run
from .writing import listed, name, percent, sentence, signed

NEEDS = Needs(
    {
        "play": "trial correct",
        "patch_heads": "trial",
        "panels": "target role layer head effect ci_low ci_high",
    },
    optional=[
        {
            "evidence": "layer head prediction restored_fraction holds state trials_to_decide void "
            "n outside stray",
            "roles": "layer head role",
        },
    ],
)


def values(run: Run) -> dict[str, object]:
    """``question``, ``verdict`` (a sentence), ``more`` (what it rests on, in another), ``facts``
    (pairs of a name and a number), ``made`` (how large the model is, when the run was made and in
    what time)."""
    played = run.frames["play"].dropna(subset="correct")
    asks = run.task.asks or "carry the answer to these questions about pictures"
    question = f"Which attention heads of {run.name} {asks}?"
    layers, heads = run.manifest["layers"], run.manifest["heads"]
    facts: list[tuple[str, object]] = [
        ("trials", run.trials),
        ("pictures", len(run.frames["play"])),
    ]
    facts.append((f"heads ({layers} layers × {heads})", f"{layers * heads:,}"))
    if len(played):
        facts.insert(2, ("answered right", percent(played["correct"].mean())))
    if "roles" in run.frames:
        facts.append(("trials that test roles", run.frames["evidence"]["n"].iloc[0]))
    # Trials that are left out say nothing about what was measured on the others.
    measured = played["trial"].isin(run.frames["patch_heads"]["trial"].unique())
    verdict, more = _verdict(run, played.loc[measured, "correct"])
    made = _made(run.manifest)
    return dict(question=question, verdict=verdict, more=more, facts=facts, made=made)


def _made(manifest):
    """Size of the model, and when the run was made and in what time, as far as the manifest says
    it."""
    parts = []
    if size := manifest.get("parameters"):
        parts.append(f"{_large(size)} parameters")
    if "started" in manifest and "finished" in manifest:
        start, end = (datetime.fromisoformat(manifest[name]) for name in ("started", "finished"))
        parts.append(f"{end.day} {end:%B %Y}, in {_time((end - start).total_seconds())}")
    return parts


def _large(number):
    """A count to two digits or more: 170 thousand, 7.1 billion."""
    for size, word in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if number >= size:
            return (
                f"{number / size:.2g} {word}"
                if number < 99.5 * size
                else f"{number / size:.0f} {word}"
            )
    return f"{number:.0f}"


def _time(seconds):
    hours, minutes = int(seconds // 3600), int(seconds % 3600 // 60)
    return (
        f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"
    )


def _verdict(run, played):
    """The verdict in a sentence, and what it rests on in another."""
    top = run.frames["panels"].loc[run.frames["panels"]["effect"].abs().idxmax()]
    if cannot := cannot_play(run.name, played, run.task):
        doing = "plays" if run.task.is_game else "answers"
        return (
            f"{cannot}, so nothing below says what a head does when the model {doing}.",
            _strongest(top),
        )
    if "roles" not in run.frames:
        if not top["effect"]:
            return f"No head of {run.name} does anything alone; roles were not tested.", _strongest(
                top
            )
        return (
            f"Head {name(top)} of {run.name} does most; what role it has was not tested.",
            _strongest(top),
        )
    return _of_roles(run)


def _strongest(top):
    """What the head with the largest effect does."""
    if not top["effect"]:
        return "Restored alone, no head moves the logit of any answer."
    places = digits.decimals(top[["effect", "ci_low", "ci_high"]])
    return (
        f"Restored in the “{top['target']}” picture, head {name(top)} moves the logit of the "
        f"answer “{top['role']}” by {signed(top['effect'], places)} "
        f"logits{_interval(top, places)}, the most of any."
    )


def _of_roles(run):
    """What the role table says of the hypothesised circuit, and of whatever else has a role."""
    evidence = run.frames["evidence"]
    standings = standing.standings(evidence, run.task)
    found = [
        f"{len(shown.heads)} {standing.a(shown.hypothesis, len(shown.heads))} "
        f"({', '.join(str(Head(*head)) for head in shown.heads)})"
        for shown in standings.values()
        if shown.heads
    ]
    wanted = [stands for stands in standings.values() if stands.hypothesis.in_circuit]
    # What is refuted first.
    absent = sorted(
        (role for role in wanted if not role.heads), key=lambda role: role.state != "refuted"
    )
    parts = [f"{listed(found)} meet every prediction of their role"] if found else []
    for role in absent:
        if near := standing.nearly(role):
            parts.append(f"nearest to {standing.one_of([role.hypothesis])}: {near}")
    parts.append(roles.no_gap(evidence, run.task))
    more = " ".join(sentence(part) for part in parts if part)
    if not wanted:
        return _of_all_roles(run, found), more
    if not absent:
        whole = listed([standing.one_of([role.hypothesis]) for role in wanted])
        return f"The hypothesised circuit is there in {run.name}: {whole}.", more
    said = ", and ".join(standing.none_is(role) for role in absent)
    if all(role.state == "untested" for role in absent):
        return f"No head of {run.name} can be given a role.", more
    if any(role.state == "refuted" for role in absent):
        return f"The hypothesised circuit is not whole in {run.name}: {said}.", more
    return f"The hypothesised circuit is not shown whole in {run.name}: {said}.", more


def _of_all_roles(run, found):
    """The verdict where no role makes up a circuit."""
    if found:
        return f"Heads of {run.name} have roles: {listed(found)}."
    return f"No head of {run.name} is shown to have a role."


def _interval(row, places):
    if pd.isna(row["ci_low"]):
        return ""
    return f" [{signed(row['ci_low'], places)}, {signed(row['ci_high'], places)}]"
