"""The head of the page: what was asked and of which pictures, what was found, and on how much it
rests."""

from datetime import datetime

import pandas as pd

from rgb_circuit.calls import panels
from rgb_circuit.conversation import TEMPLATE, question_of
from rgb_circuit.heads import Head

from .. import roles
from ..evidence import power
from ..roles import standing
from . import digits, parts
from .drawing import drawing
from .embedded import shown_pictures
from .playing import cannot_play
from .run import Needs, Run
from .writing import listed, name, percent, sentence, signed

NEEDS = Needs(
    {
        "play": "trial condition expected answer correct",
        "patch_heads": "trial",
        **parts.NEEDS.frames,
    },
    optional=[*parts.NEEDS.optional, {"stimuli": "trial condition prompt expected png"}],
)
# For a picture that was not played.
NOT_PLAYED = {"answer": None, "correct": None}


def values(run: Run, *, linked: bool = True, prefix: str = "") -> dict[str, object]:
    """``question``, ``verdict`` (a sentence), ``more`` (its basis, in another), ``lacks`` (what the
    nearest heads lack, a sentence for each role), ``facts`` (pairs of a name and a number),
    ``made`` (the model's size, when the run was made and how long it took), ``pictures`` (the clean
    and the changed one of the first trial, from `shown_pictures`, with ``trial, asked, answer,
    correct, says``), ``circuit`` (a drawing), ``legend`` (the meaning of its numbers and lines).

    Args:
        linked: whether a head of the drawing links to its details.
        prefix: of the drawing's ids, if the page has several drawings.
    """
    played = run.frames["play"].dropna(subset="correct")
    asks = run.task.asks or "produce the answers to these questions about pictures"
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
        tested = int(run.frames["evidence"]["n"].iloc[0])
        # If all trials test roles, one number is enough.
        if (tested, run.observations) != (run.trials, "trials"):
            facts.append((f"{run.observations} that test roles", tested))
    # The verdict is about the measured trials, without those left out.
    measured = played["trial"].isin(run.frames["patch_heads"]["trial"].unique())
    verdict, more, *lacks = _verdict(run, played[measured])
    made = _made(run.manifest)
    pictures = _pictures(run)
    word = next((one["answer"] for one in pictures if one["condition"] == "clean"), None)
    answer = f"the answer, here “{word}”" if word else "the answer"
    found, arrows = parts.parts_of(run)
    return dict(
        question=question,
        verdict=verdict,
        more=more,
        lacks=lacks,
        facts=facts,
        made=made,
        pictures=pictures,
        circuit=drawing(found, arrows, answer, linked=linked, prefix=prefix),
        legend=_legend(found, arrows),
    )


def _pictures(run):
    """The clean and the changed picture of the first trial whose pictures were kept, with the
    model's answers."""
    if "stimuli" not in run.frames:
        return []
    shown = run.frames["stimuli"]
    shown = shown[shown["trial"] == shown["trial"].iloc[0]].set_index("condition", drop=False)
    changed = [name for name in shown.index if name != "clean"]
    if run.task.corrupted in changed:
        changed = [run.task.corrupted]
    played = run.frames["play"]
    played = played[played["trial"] == shown["trial"].iloc[0]].set_index("condition")
    shown, pictures = shown.loc[["clean", *changed[:1]]], []
    for picture, (condition, row) in zip(shown_pictures(shown, run), shown.iterrows()):
        answered = played.loc[condition] if condition in played.index else NOT_PLAYED
        correct = None if pd.isna(answered["correct"]) else bool(answered["correct"])
        pictures.append(
            picture
            | dict(
                trial=row["trial"],
                asked=question_of(row["prompt"], run.manifest.get("template") or TEMPLATE)
                or row["prompt"],
                answer=answered["answer"],
                correct=correct,
                says=run.task.conditions[condition].says,
                means=_means(run.task, condition) if correct else "",
            )
        )
    return pictures


def _means(task, condition):
    """What the right answer stands for, where its word is the same in all trials."""
    role = task.roles.get(task.conditions[condition].right)
    return role.says if role and role.word else ""


def _legend(found, arrows):
    """The meaning of the numbers and lines that the drawing has."""
    meanings = []
    if any(part.heads for part in found):
        meanings.append(
            "Next to a head: the share of the gap that is restored when this head alone gets, in "
            "the changed picture, the output that it has in the clean one (the gap: how far the "
            "right answer’s logit falls from the clean to the changed picture)"
        )
    if any(part.writes for part in found) or arrows:
        meanings.append("arrows: measured effects")
    if any(part.state != "shown" for part in found):
        meanings.append("dashed: no head is shown to have the role")
    return sentence("; ".join(meanings)) if meanings else ""


def _made(manifest):
    """The model's size, when the run was made and how long it took, as far as the manifest says."""
    parts = []
    if size := manifest.get("parameters"):
        parts.append(f"{_large(size)} parameters")
    if "started" in manifest and "finished" in manifest:
        start, end = (datetime.fromisoformat(manifest[name]) for name in ("started", "finished"))
        parts.append(f"{end.day} {end:%B %Y}, in {_time((end - start).total_seconds())}")
    return parts


def _large(number):
    """A count with at least two digits: 170 thousand, 7.1 billion."""
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
    """The verdict in a sentence, its basis in another, and what the nearest heads lack."""
    table = run.frames["panels"]
    top = table.loc[table["effect"].abs().idxmax()]
    among, strongest = _among(run, table), _strongest(run, table)
    if cannot := cannot_play(run.name, played, run.task):
        doing = "plays" if run.task.is_game else "answers"
        return (
            f"{cannot}, so nothing below shows what a head does when the model {doing}.",
            strongest,
        )
    if "roles" not in run.frames:
        if not panels.shown(table).any():
            none = f"None{among}" if among else f"No head of {run.name}"
            does = "is shown to have an effect" if top["effect"] else "has an effect"
            return f"{none} {does} alone; roles were not tested.", strongest
        return (
            f"Head {name(top)} of {run.name} has the largest effect{among}; its role was not "
            "tested.",
            strongest,
        )
    return _of_roles(run)


def _among(run, table):
    """The heads compared, in words; empty if all were restored."""
    restored = len(table[["layer", "head"]].drop_duplicates())
    if restored == run.manifest["layers"] * run.manifest["heads"]:
        return ""
    return f" of the {restored} head{' that was' if restored == 1 else 's that were'} restored"


def _strongest(run, table):
    """A sentence on the head with the largest effect, or that no head is shown to have one."""
    top, among = table.loc[table["effect"].abs().idxmax()], _among(run, table)
    who = f"none{among}" if among else "no head"
    if not top["effect"]:
        return f"Restored alone, {who} moves the logit of any answer."
    if not panels.shown(table).any():
        return (
            f"Restored alone, {who} is shown to move the logit of any answer by "
            f"{panels.LEAST_SAID} or more."
        )
    places = digits.three(top[["effect", "ci_low", "ci_high"]])
    return (
        f"Restored in the “{top['target']}” picture, head {name(top)} moves the logit of the "
        f"answer “{top['role']}” by {signed(top['effect'], places)} "
        f"logits{_interval(top, places)}, the most{among or ' of all heads'}."
    )


def _of_roles(run):
    """A sentence from the role table, on the hypothesised circuit and on other heads with a
    role."""
    evidence = run.frames["evidence"]
    standings = standing.standings(evidence, run.task)
    in_words = [
        f"{len(shown.heads)} {standing.a(shown.hypothesis, len(shown.heads))} "
        f"({', '.join(str(Head(*head)) for head in shown.heads)})"
        for shown in standings.values()
        if shown.heads
    ]
    wanted = [stands for stands in standings.values() if stands.hypothesis.in_circuit]
    # Refuted roles first.
    absent = sorted(
        (role for role in wanted if not role.heads), key=lambda role: role.state != "refuted"
    )
    many = len(in_words) > 1 or any(len(stands.heads) > 1 for stands in standings.values())
    meet = "meet every prediction of their role" if many else "meets every prediction of its role"
    sentences = [f"{listed(in_words)} {meet}"] if in_words else []
    sentences += [_undecided(standings.values()), roles.no_gap(evidence, run.task)]
    sentences.append(_how_sure(run, standings.values()))
    more = " ".join(sentence(part) for part in sentences if part)
    lacks = [
        sentence(f"closest to {standing.one_of([role.hypothesis])}: {near}")
        for role in absent
        if (near := standing.nearly(role))
    ]
    return _of_circuit(run, wanted, absent, in_words), more, *lacks


def _how_sure(run, standings):
    """What is between a verdict and chance; empty where nothing could be tested."""
    states = {stands.state for stands in standings}
    if states == {"untested"}:
        return ""
    heads = run.manifest["layers"] * run.manifest["heads"]
    open_ = "; a head is open if no prediction is refuted but not all are shown"
    # At best, if all trials were answered correctly. Power is of a head alone: heads that are
    # shown, several together, were enough.
    few = "shown" not in states and not (
        roles.power(run.frames["evidence"], power.EVEN, stray=0) <= 1
    )
    too_few = "too few to confirm one head alone, " * few
    return (
        f"tested on {run.n}, {too_few}at a false discovery rate of 5{chr(160)}% over "
        f"{heads:,} heads" + open_ * ("undecided" in states)
    )


def _undecided(standings):
    """The roles outside the circuit that are neither shown nor refuted."""
    left = [
        f"{standing.one_of([stands.hypothesis])} ({len(stands.open)} open)"
        for stands in standings
        if stands.state == "undecided" and not stands.hypothesis.in_circuit
    ]
    return f"undecided: whether there is {' or '.join(left)}" if left else ""


def _of_circuit(run, wanted, absent, found):
    """The verdict on the hypothesised circuit, or on all roles if no role belongs to one."""
    if not wanted:
        return _of_all_roles(run, found)
    if not absent:
        whole = listed([standing.one_of([role.hypothesis]) for role in wanted])
        return f"The hypothesised circuit is present in {run.name}: {whole}."
    missing = ", and ".join(standing.none_is(role) for role in absent)
    if len(wanted) == 1:
        return f"In {run.name} {missing}."
    if all(role.state == "untested" for role in absent):
        return f"No head of {run.name} can be given a role."
    if any(role.state == "refuted" for role in absent):
        return f"The hypothesised circuit is incomplete in {run.name}: {missing}."
    return f"The hypothesised circuit is not shown to be complete in {run.name}: {missing}."


def _of_all_roles(run, found):
    """The verdict if no role belongs to a circuit."""
    if found:
        return f"Heads of {run.name} have roles: {listed(found)}."
    return f"No head of {run.name} is shown to have a role."


def _interval(row, places):
    if pd.isna(row["ci_low"]):
        return ""
    return f" [{signed(row['ci_low'], places)}, {signed(row['ci_high'], places)}]"
