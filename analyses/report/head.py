"""The head of the page: what was asked, what was found, and on how much it rests."""

from datetime import datetime

import pandas as pd

from rgb_circuit.plots.canvas import head_name

from .. import digits, roles
from ..playing import cannot_play
from .run import Needs, Run
from .writing import listed, name, percent, sentence, signed

NEEDS = Needs(
    {
        "play": "trial correct",
        "patch_heads": "trial",
        "panels": "target role layer head effect ci_low ci_high",
    },
    optional=[
        {"evidence": "layer head prediction restored_fraction void n", "roles": "layer head role"},
    ],
)
# Role → what its heads are called.
ROLE_NAMES = {
    "color extractor": "color extractors",
    "POI localization": "POI heads",
    "row or column localization": "row or column localizers",
    "place relay": "place relays",
    "background writer": "background writers",
    "canvas suppressor": "canvas suppressors",
    "oddness": "oddness heads",
}


def values(run: Run) -> dict[str, object]:
    """``question``, ``verdict`` (a sentence), ``more`` (what it rests on, in another), ``facts`` (pairs of a
    name and a number), ``made`` (how large the model is, when the run was made and in what time)."""
    played = run.frames["play"].dropna(subset="correct")
    if run.own:
        question = f"Which attention heads of {run.name} carry the answer to these questions about pictures?"
    else:
        question = (
            f"Which attention heads of {run.name} find the odd tile, read its colour, and bring it to the "
            "answer?"
        )
    layers, heads = run.manifest["layers"], run.manifest["heads"]
    facts: list[tuple[str, object]] = [("trials", run.trials), ("pictures", len(run.frames["play"]))]
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
    """Size of the model, and when the run was made and in what time, as far as the manifest says it."""
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
            return f"{number / size:.2g} {word}" if number < 99.5 * size else f"{number / size:.0f} {word}"
    return f"{number:.0f}"


def _time(seconds):
    hours, minutes = int(seconds // 3600), int(seconds % 3600 // 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def _verdict(run, played):
    """The verdict in a sentence, and what it rests on in another."""
    top = run.frames["panels"].loc[run.frames["panels"]["effect"].abs().idxmax()]
    if cannot := cannot_play(run.name, played, run.own):
        doing = "answers" if run.own else "plays"
        return (
            f"{cannot}, so nothing below says what a head does when the model {doing}.",
            _strongest(top),
        )
    if "roles" not in run.frames:
        if not top["effect"]:
            return f"No head of {run.name} does anything alone; roles were not tested.", _strongest(top)
        return f"Head {name(top)} of {run.name} does most; what role it has was not tested.", _strongest(top)
    return _of_roles(run)


def _strongest(top):
    """What the head with the largest effect does."""
    if not top["effect"]:
        return "Restored alone, no head moves the logit of any answer."
    places = digits.decimals(top[["effect", "ci_low", "ci_high"]])
    return (
        f"Restored in the “{top['target']}” picture, head {name(top)} moves the logit of the answer "
        f"“{top['role']}” by {signed(top['effect'], places)} logits{_interval(top, places)}, the most of any."
    )


def _of_roles(run):
    """What the role table says of the hypothesised circuit."""
    evidence = run.frames["evidence"]
    lacking = roles.no_gap(evidence)
    heads = {role: roles.heads(run.frames["roles"], role) for role in roles.HYPOTHESES}
    found = [
        f"{len(those)} {_plural(role, len(those))} ({', '.join(head_name(*head) for head in those)})"
        for role, those in heads.items()
        if those
    ]
    if not found:
        nearest = roles.closest(evidence)
        if nearest.empty:
            return f"No head of {run.name} can be given a role.", sentence(lacking)
        close = [
            f"{listed([name(head) for _, head in rows.iterrows()])} {'to' if number else 'come closest to'} "
            f"a {_plural(role, 1)}"
            for number, (role, rows) in enumerate(nearest.groupby("role", sort=False))
        ]
        return (
            f"The hypothesised circuit is not found in {run.name}: no head meets every prediction of a role.",
            f"Heads {', '.join(close)}." + (f" {sentence(lacking)}" if lacking else ""),
        )
    rest = f"{listed(found)} meet every prediction of their role." + (
        f" {sentence(lacking)}" if lacking else ""
    )
    absent = [role for role in ("color extractor", "POI localization") if not heads[role]]
    if absent:
        named = " and no ".join(_plural(role, 1) for role in absent)
        return f"The hypothesised circuit is not complete in {run.name}: there is no {named}.", rest
    return (
        f"The hypothesised circuit is there in {run.name}: a head that finds the tile, and one that reads "
        "its colour.",
        rest,
    )


def _interval(row, places):
    if pd.isna(row["ci_low"]):
        return ""
    return f" [{signed(row['ci_low'], places)}, {signed(row['ci_high'], places)}]"


def _plural(role, count):
    return ROLE_NAMES[role] if count > 1 else ROLE_NAMES[role].removesuffix("s")
