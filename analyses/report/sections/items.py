"""Item by item: the effect of restoring a head in each trial, and the pictures of the chosen
trial."""

import os
import string
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from rgb_circuit.calls.panels import LEAST, LEAST_GAP
from rgb_circuit.calls.play import right_words

from .. import digits, items
from ..accuracy import named_words
from ..run import Needs, Run
from ..section import Section, beside
from ..writing import percent, signed

# Up to this many items each have a row with their name.
NAMED = 40
# Pixels of a row with a name, the most of one without, and the most of all rows together.
ROW, THIN, TALL = 17, 12, 460
# Answers with their own colour; heads in the list to choose from.
COLORED, LISTED = 4, 24
# Per cent of the axis that a number takes; the size in pixels below which a picture is not
# smoothed.
ROOM, CRISP = 16, 128
_INSIDE = string.ascii_letters + string.digits


def _values(run: Run):
    found = items.panels(run)
    if len(found[0].effects) < 2:
        return None
    trials = list(found[0].effects.index)
    ranked = found[0].ranked
    kept = items.EFFECTS * 3 // 4 // (2 * len(found) * len(trials))
    heads = ranked[: max(kept, 1)]
    sizes, effects = items.packed_effects(found, heads)
    seen, looking = items.looks(run, ranked)
    shown, uris, says = _shown(run, looking)
    every, colors = _items(run, trials, shown)
    for number, gaps in enumerate(zip(*(panel.gaps for panel in found))):
        every[number]["gaps"] = [None if pd.isna(gap) else float(f"{gap:.4g}") for gap in gaps]
    marks = _marks(found[0], heads[0], every)
    content = dict(
        heads=heads,
        roles=_roles(run, heads),
        panels=[dict(name=one.name, role=one.role, target=one.target) for one in found],
        drawn=run.drawn,
        steps=sizes,
        items=every,
        seen=seen,
        least=LEAST_GAP,
        reach=LEAST * LEAST_GAP,
        room=ROOM,
        row=_row_height(len(every)),
    )
    return dict(
        data=items.as_json(content),
        effects=effects,
        uris=uris,
        blobs=[look["blob"] for look in looking.values()],
        script=script(),
        items=every,
        marks=marks,
        axis=_axis(found[0].effects[heads[0]]),
        height=round(_row_height(len(every)) * len(every)),
        named=len(every) <= NAMED,
        head=heads[0],
        role=content["roles"][0],
        panels=content["panels"],
        listed=_listed(run, found[0], heads),
        legend=_legend(run, colors) if len(colors) <= COLORED else {},
        first=_first(every[0], found[0], heads[0], uris, seen, looking),
        against=_against(run, found),
        several=len({one["cluster"] for one in every if one["cluster"] is not None}),
        wrong=any(one["flips"] is False for one in every),
        left_out=says + _left_out(run, heads, ranked, looking, every),
        open=not run.task.is_game,
        gist=f"{run.n}, to click",
    )


def _against(run, found):
    """What an effect is measured on, in words."""
    if run.task.is_game:
        return "the word’s logit"
    controls = any(run.task.controls(panel.target) for panel in found)
    against = "the controls" if controls else "the best other one"
    return f"the right answer’s logit against {against}"


def script() -> str:
    """The section's script."""
    return Path(__file__).parents[1].joinpath("items.js").read_text(encoding="utf-8")


def _shown(run, looking):
    """(trial, condition) → picture; the distinct pictures; and how they were shrunk or left out, in
    words."""
    frame, says = items.pictures(run), []
    files = list(dict.fromkeys(frame["picture"])) if run.shows_pictures else []
    uris, side = items.fitted(files)
    number = {file: place for place, file in enumerate(files[: len(uris)])}
    order = {key: place for place, key in enumerate(looking)}
    shown: dict[str, dict[str, dict]] = {}
    for row in frame.to_dict("records"):
        key = row["trial"], row["condition"]
        about = dict(uri=number.get(row["picture"]), width=row["width"], height=row["height"])
        about["crisp"] = max(row["width"], row["height"]) < CRISP
        if key in looking:
            about |= {name: looking[key][name] for name in ("columns", "most", "on")}
        shown.setdefault(key[0], {})[key[1]] = about | dict(look=order.get(key))
    if side is not None:
        says.append(f"pictures are at most {side} pixels wide and high here")
    if len(uris) < len(files):
        says.append(f"the last {len(files) - len(uris)} of {len(files)} pictures")
    if not run.shows_pictures:
        says.append("pictures were left out (--no-pictures)")
    return shown, uris, says


def _short(names):
    """Names without their common beginning and end."""
    before = os.path.commonprefix(names)
    behind = os.path.commonprefix([name[::-1] for name in names])
    # Do not cut words or numbers in two.
    before, behind = before.rstrip(_INSIDE), behind.rstrip(_INSIDE)
    short = [name[len(before) : len(name) - len(behind)] for name in names]
    return short if all(short) else names


def _answers(run, trials):
    """Trial → the right word for its clean picture, else the first role's; and word → number of its
    colour."""
    role = run.task.conditions["clean"].right or next(iter(run.task.roles), None)
    answers = run.frames["patch_heads"].drop_duplicates(["trial", "role"])
    own = answers[answers["role"].astype(str) == (role or str(answers["role"].iloc[0]))]
    words = own.set_index(own["trial"].astype(str))["answer"].astype(str).to_dict()
    often = pd.Series([words.get(str(trial), "") for trial in trials]).value_counts(sort=False)
    return words, {word: number for number, word in enumerate(sorted(often.index))}


def _legend(run, colors):
    """All words accepted for a right answer, as text → number of its colour."""
    several = {word: said for word, said in named_words(run.frames["play"]).items() if said != word}
    return {several.get(word.casefold(), word): number for word, number in colors.items()}


def _items(run, trials, shown):
    """Each trial's data for JSON, and word → number of its colour."""
    words, colors = _answers(run, trials)
    played = run.frames["play"]
    played = played.assign(expected=right_words(played))
    of = {
        name: rows.to_dict("records") for name, rows in played.groupby(played["trial"].astype(str))
    }
    members = Counter(run.clusters.get(str(trial), str(trial)) for trial in trials)
    names = [str(trial) for trial in trials]
    every = []
    for name, short in zip(names, _short(names)):
        pictures = [_picture(row, shown.get(name, {})) for row in of.get(name, [])]
        scored = [one["correct"] for one in pictures if one["correct"] is not None]
        cluster = run.clusters.get(name, name)
        one = dict(name=name, short=short, pictures=pictures)
        one["cluster"] = cluster if members[cluster] > 1 else None
        one["color"] = colors[words.get(name, "")] if len(colors) <= COLORED else 0
        every.append(one | dict(flips=all(scored) if scored else None))
    return every, colors


def _picture(row, shown):
    """A row of `rgb_circuit.play`, with its picture as shown."""
    condition = str(row["condition"])
    expected = None if pd.isna(row["expected"]) else str(row["expected"])
    correct = None if pd.isna(row["correct"]) else bool(row["correct"])
    said = dict(condition=condition, expected=expected, answer=str(row["answer"]), correct=correct)
    return said | shown.get(condition, {})


def _roles(run, heads):
    if "roles" not in run.frames:
        return [""] * len(heads)
    frame = run.frames["roles"]
    names = frame["layer"].astype(str) + "." + frame["head"].astype(str)
    of = dict(zip(names, frame["role"].replace("none", "")))
    return [of.get(head, "") for head in heads]


def _listed(run, panel, heads):
    """The heads of the list, each with its effect: the strongest, and those with a role."""
    roles, means = _roles(run, heads), panel.means
    some = [(number, head) for number, head in enumerate(heads) if number < LISTED or roles[number]]
    places = digits.decimals(means[[head for _, head in some]].to_list())
    return [
        dict(number=number, head=head, role=roles[number], mean=signed(means[head], places))
        for number, head in some
    ]


def _row_height(count):
    return ROW if count <= NAMED else min(THIN, TALL / count)


def _ends(effects):
    """The ends of the axis: on both sides at least the largest negligible effect, so that rounding
    does not fill the axis."""
    least = LEAST * LEAST_GAP
    values = effects.dropna()
    return [min(-least, float(values.min())), max(least, float(values.max()))]


def _axis(effects):
    """The place of zero on the axis (per cent), and the numbers at its ends, if there is room."""
    low, high = _ends(effects)
    zero, places = 100 * -low / (high - low), digits.decimals([low, high])
    return dict(
        zero=zero,
        low=signed(low, places) if zero > ROOM else "",
        high=signed(high, places) if zero < 100 - ROOM else "",
    )


def _marks(panel, head, every):
    """The initial place of each item's mark: ``left`` (per cent) and ``top`` (pixels); None if it
    has no mark."""
    effects = panel.effects[head]
    low, high = _ends(effects)
    places = digits.decimals(effects.dropna().to_list())
    order = np.argsort(-effects.fillna(-np.inf).to_numpy(), kind="stable")
    rank = {int(item): place for place, item in enumerate(order)}
    marks = []
    for number, (value, item) in enumerate(zip(effects, every)):
        if pd.isna(value):
            marks.append(None)
            continue
        left = 100 * (value - low) / (high - low)
        top = (rank[number] + 0.5) * _row_height(len(every))
        marks.append(dict(left=f"{left:.2f}", top=f"{top:.1f}", says=signed(value, places)) | item)
    return marks


def _first(item, panel, head, uris, seen, looking):
    """The first item, as the page shows it without scripts."""
    effect, gap = panel.effects[head].iloc[0], panel.gaps.iloc[0]
    pictures = []
    for one in item["pictures"]:
        key = item["name"], one["condition"]
        uri = None if one.get("uri") is None else uris[one["uri"]]
        veil = items.veil(looking[key], seen.index(head)) if key in looking and head in seen else ""
        on = looking[key]["on"][seen.index(head)] if veil else None
        pictures.append(one | dict(uri=uri, veil=veil, head_on=on))
    places = digits.decimals([effect, gap])
    return dict(
        name=item["name"],
        effect=signed(effect, places),
        gap=_of_gap(effect, gap),
        pictures=[one for one in pictures if one["uri"] or one["veil"]],
        answers=pictures,
    )


def _of_gap(effect, gap):
    """The effect as a share of the gap, in words."""
    if pd.isna(gap) or pd.isna(effect):
        return ""
    size = digits.written(gap, digits.decimals([gap]))
    if gap < LEAST_GAP:
        return f"; there is next to nothing to restore, a gap of {size}".replace("-", "−")
    return f", {percent(effect / gap)} of a gap of {size}"


def _left_out(run, heads, ranked, looking, every):
    says = []
    if len(heads) < len(ranked):
        says.append(f"effects of other than the {len(heads)} strongest heads: patch_heads.parquet")
    with_look = sum(
        any((one["name"], picture["condition"]) in looking for picture in one["pictures"])
        for one in every
    )
    if not with_look:
        says.append(f"where heads look was not measured: {run.why_not('item_looks')}")
    elif with_look < len(every):
        says.append(f"where heads look is here for {with_look} of {len(every)} items")
    without = sum(not any("width" in picture for picture in one["pictures"]) for one in every)
    if without and run.shows_pictures:
        says.append(f"{len(every) - without} of {len(every)} items have their pictures here")
    return says


SECTION = Section(
    order=22,
    link="Items",
    title="Item by item",
    needs=Needs(
        {
            "patch_heads": "trial target layer head role answer source_logit target_logit "
            "patched_logit",
            "panels": "panel target role layer head effect",
            "play": "trial condition expected answer correct",
            "stimuli": "trial condition png unseen",
        },
        optional=[
            {"items": "trial condition width height picture unseen"},
            {"item_looks": "trial condition layer head columns picture"},
            {"looks": "trial condition layer head picture"},
            {"strays": "trial condition png unseen"},
            {"roles": "layer head role"},
        ],
    ),
    values=_values,
    fragment=beside(__file__),
)
