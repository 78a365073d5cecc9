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
    panels = items.panels(run)
    if len(panels[0].effects) < 2:
        return None
    trials = list(panels[0].effects.index)
    ranked = panels[0].ranked
    kept = items.EFFECTS * 3 // 4 // (2 * len(panels) * len(trials))
    heads = ranked[: max(kept, 1)]
    sizes, effects = items.packed_effects(panels, heads)
    seen, looking = items.looks(run, ranked)
    shown, uris, says = _shown(run, looking)
    all_items, colors = _items(run, trials, shown)
    for number, gaps in enumerate(zip(*(panel.gaps for panel in panels))):
        all_items[number]["gaps"] = [None if pd.isna(gap) else float(f"{gap:.4g}") for gap in gaps]
    marks = _marks(panels[0], heads[0], all_items)
    content = dict(
        heads=heads,
        roles=_roles(run, heads),
        panels=[dict(name=one.name, role=one.role, target=one.target) for one in panels],
        drawn=run.drawn,
        steps=sizes,
        items=all_items,
        seen=seen,
        least=LEAST_GAP,
        reach=LEAST * LEAST_GAP,
        room=ROOM,
        row=_row_height(len(all_items)),
    )
    return dict(
        data=items.as_json(content),
        effects=effects,
        uris=uris,
        blobs=[look["blob"] for look in looking.values()],
        script=script(),
        items=all_items,
        marks=marks,
        axis=_axis(panels[0].effects[heads[0]]),
        height=round(_row_height(len(all_items)) * len(all_items)),
        named=len(all_items) <= NAMED,
        head=heads[0],
        role=content["roles"][0],
        panels=content["panels"],
        listed=_listed(run, panels[0], heads),
        legend=_legend(run, colors) if len(colors) <= COLORED else {},
        first=_first(all_items[0], panels[0], heads[0], uris, seen, looking),
        against=_against(run, panels),
        several=len({one["cluster"] for one in all_items if one["cluster"] is not None}),
        wrong=any(one["flips"] is False for one in all_items),
        left_out=says + _left_out(run, heads, ranked, looking, all_items),
        open=not run.task.is_game,
        gist=f"{run.n}, interactive",
    )


def _against(run, found):
    """What an effect is measured on, in words."""
    if run.task.is_game:
        return "the word’s logit"
    controls = any(run.task.controls(panel.target) for panel in found)
    against = "the controls" if controls else "the best other answer"
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
        picture = dict(uri=number.get(row["picture"]), width=row["width"], height=row["height"])
        picture["crisp"] = max(row["width"], row["height"]) < CRISP
        if key in looking:
            picture |= {name: looking[key][name] for name in ("columns", "most", "on")}
        shown.setdefault(key[0], {})[key[1]] = picture | dict(look=order.get(key))
    if side is not None:
        says.append(f"pictures are shrunk to at most {side} pixels wide and high")
    if len(uris) < len(files):
        says.append(f"the last {len(files) - len(uris)} of {len(files)} pictures are left out")
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
    rows = answers[answers["role"].astype(str) == (role or str(answers["role"].iloc[0]))]
    words = rows.set_index(rows["trial"].astype(str))["answer"].astype(str).to_dict()
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
    played_of = {
        name: rows.to_dict("records") for name, rows in played.groupby(played["trial"].astype(str))
    }
    members = Counter(run.clusters.get(str(trial), str(trial)) for trial in trials)
    names = [str(trial) for trial in trials]
    all_items = []
    for name, short in zip(names, _short(names)):
        pictures = [_picture(row, shown.get(name, {})) for row in played_of.get(name, [])]
        scored = [row["correct"] for row in pictures if row["correct"] is not None]
        cluster = run.clusters.get(name, name)
        item = dict(name=name, short=short, pictures=pictures)
        item["cluster"] = cluster if members[cluster] > 1 else None
        item["color"] = colors[words.get(name, "")] if len(colors) <= COLORED else 0
        all_items.append(item | dict(flips=all(scored) if scored else None))
    return all_items, colors


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
    role_of = dict(zip(names, frame["role"].replace("none", "")))
    return [role_of.get(head, "") for head in heads]


def _listed(run, panel, heads):
    """The heads of the list, each with its effect: the strongest, and those with a role."""
    roles, means = _roles(run, heads), panel.means
    listed = [
        (number, head) for number, head in enumerate(heads) if number < LISTED or roles[number]
    ]
    places = digits.decimals(means[[head for _, head in listed]].to_list())
    return [
        dict(number=number, head=head, role=roles[number], mean=signed(means[head], places))
        for number, head in listed
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
    for picture in item["pictures"]:
        key = item["name"], picture["condition"]
        uri = None if picture.get("uri") is None else uris[picture["uri"]]
        veil = items.veil(looking[key], seen.index(head)) if key in looking and head in seen else ""
        on = looking[key]["on"][seen.index(head)] if veil else None
        pictures.append(picture | dict(uri=uri, veil=veil, head_on=on))
    places = digits.decimals([effect, gap])
    return dict(
        name=item["name"],
        effect=signed(effect, places),
        gap=_of_gap(effect, gap),
        pictures=[picture for picture in pictures if picture["uri"] or picture["veil"]],
        answers=pictures,
    )


def _of_gap(effect, gap):
    """The effect as a share of the gap, in words."""
    if pd.isna(gap) or pd.isna(effect):
        return ""
    size = digits.written(gap, digits.decimals([gap]))
    if gap < LEAST_GAP:
        return f"; there is almost nothing to restore, with a gap of {size}".replace("-", "−")
    return f", {percent(effect / gap)} of a gap of {size}"


def _left_out(run, heads, ranked, looking, every):
    says = []
    if len(heads) < len(ranked):
        says.append(
            f"effects of heads other than the {len(heads)} strongest are in patch_heads.parquet"
        )
    with_look = sum(
        any((item["name"], picture["condition"]) in looking for picture in item["pictures"])
        for item in every
    )
    if not with_look:
        says.append(f"attention was not measured: {run.why_not('item_looks')}")
    elif with_look < len(every):
        says.append(f"this page has attention for {with_look} of {len(every)} items")
    without = sum(not any("width" in picture for picture in item["pictures"]) for item in every)
    if without and run.shows_pictures:
        says.append(f"this page has pictures for {len(every) - without} of {len(every)} items")
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
