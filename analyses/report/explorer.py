"""The content of the interactive page: numbers of every head, packed, and the charts that show
them.

1. `data` takes the numbers from the frames. Numbers per head are lists, layer by layer: the head
   ``layer.head`` has index layer · heads + head. Numbers are rounded to `DIGITS` significant
   digits.
2. `looks` packs where each head looks, picture by picture, up to `BUDGET`: attention on a picture's
   tiles in steps of a third of a doubling (at most 12 % off), attention on the prompt's words in
   steps of 1/255.
3. `packed` compresses both to text in the page.

The page's script (`scripts`) unpacks them; `unpacked` and `tiles_of` do the same in Python, for
checks.
"""

import base64
import gzip
import io

import numpy as np
import pandas as pd
from PIL import Image

from rgb_circuit.calls.panels import LEAST, LEAST_GAP
from rgb_circuit.pictures.thumbnail import data_uri
from rgb_circuit.plots.heatmap import LEAST_LIMIT
from rgb_circuit.plots.predictions import in_words

from . import charts
from .embedded import is_crisp, marked_tiles, opened
from .run import Run
from .writing import COMPONENTS, listed

DIGITS = 4
# Characters of packed attention in a page; with all else, a page of 1,024 heads stays below 5 MB.
BUDGET = 1_850_000
# Steps of attention per doubling, and the step of an even spread; step 0 means less than half of an
# even spread.
STEPS, EVEN = 3, 4


def packed(content: bytes) -> str:
    """The content, compressed, as text."""
    # Without a time stamp, the same content gives the same text.
    return base64.b64encode(gzip.compress(content, 6, mtime=0)).decode()


def unpacked(text: str) -> bytes:
    """The content of `packed`."""
    return gzip.decompress(base64.b64decode(text))


def data(run: Run) -> dict:
    """All numbers except where heads look, for JSON.

    Returns:
        ``layers, heads``; ``n, observations`` (what n counts); ``floor`` (effects up to this, in
        logits, may be rounding); ``maps``, ``panels`` (indices of maps), ``limit, fraction``;
        ``least, least_gap`` (as in `rgb_circuit.calls.panels`); ``roles, scores``; ``predictions``;
        ``asked`` (role → its predictions, each with those that may replace it); ``writes``;
        ``paths``; ``words`` (role → what its word is), ``components``; ``place`` (name of the
        marked tile), ``senders, receivers`` (of paths, in words); ``charts``.
    """
    layers, heads = run.manifest["layers"], run.manifest["heads"]
    places = pd.MultiIndex.from_product([range(layers), range(heads)], names=["layer", "head"])
    maps = _maps(run, places)
    panels = _panels(run, maps)
    fraction = all(maps[number]["gap"] is not None for number in panels)
    limit = _limit([maps[number] for number in panels], fraction)
    drawn = dict(
        map=charts.head_map(limit, fraction),
        effects=charts.effects(fraction),
        picture=charts.picture(),
        words=charts.words(),
        writes=charts.writes(),
        paths=charts.paths(),
    )
    return dict(
        layers=layers,
        heads=heads,
        maps=maps,
        panels=panels,
        limit=limit,
        fraction=fraction,
        least=LEAST,
        least_gap=LEAST_GAP,
        n=int(run.frames["sweeps"]["n"].iloc[0]),
        observations=run.observations,
        floor=_number(run.floor),
        words={name: role.says for name, role in run.task.roles.items() if role.says},
        components=COMPONENTS,
        place=run.task.place,
        senders=listed([one.plural for one in run.task.senders]),
        receivers=listed([one.plural for one in run.task.receivers]),
        writes=_writes(run, places),
        paths=_paths(run),
        charts=drawn,
        **_roles(run, places),
        **_predictions(run, places),
    )


def _maps(run, places):
    """A map for every sweep and word."""
    maps = []
    keys = ["component", "source", "target", "positions", "role"]
    for key, rows in run.frames["sweeps"].groupby(keys, observed=True, sort=False):
        gap = _number(rows["gap"].iloc[0])
        rows = rows.set_index(["layer", "head"]).reindex(places)
        entry = dict(zip(keys, map(str, key)), gap=gap)
        entry |= {name: _list(rows[name]) for name in ("effect", "ci_low", "ci_high")}
        entry |= dict(told="".join("01"[told is True] for told in rows["told"].astype(object)))
        maps.append(entry)
    return maps


def _panels(run, maps):
    """The indices of the maps that the panels show."""
    frame, effects = run.frames["panels"], run.frames["patch_heads"]
    wanted = frame[["target", "role"]].drop_duplicates().itertuples(index=False, name=None)
    about = effects[["component", "source", "positions"]].iloc[0].astype(str).to_dict()
    number = {
        (one["target"], one["role"]): number
        for number, one in reversed(list(enumerate(maps)))
        if about.items() <= one.items()
    }
    return [number[key] for key in wanted]


def _limit(maps, fraction):
    """The largest value of some maps, as in the figures."""
    values = [
        abs(effect) / (entry["gap"] if fraction else 1)
        for entry in maps
        for effect in entry["effect"]
        if effect is not None
    ]
    return max(float(f"{max(values, default=0):.2g}"), LEAST_LIMIT if fraction else 0) or 1.0


def _roles(run, places):
    if "roles" not in run.frames:
        return dict(roles=None, scores=None, nearest=None)
    table = run.frames["roles"].set_index(["layer", "head"]).reindex(places)
    return dict(roles=[str(role) for role in table["role"]], scores=_list(table["score"]))


def _predictions(run, places):
    """Each prediction with its numbers, in the order of the evidence."""
    if "evidence" not in run.frames:
        return dict(predictions=[], asked={})
    columns = ["effect", "ci_low", "ci_high", "restored_fraction", "trials_to_decide"]
    predictions = []
    for name, rows in run.frames["evidence"].groupby("prediction", sort=False):
        rows = rows.set_index(["layer", "head"]).reindex(places)
        entry = dict(
            name=name,
            says=run.task.says_of_predictions.get(name, ""),
            expected=in_words(rows["expected"].iloc[0]),
        )
        entry |= dict(
            void=rows["void"].iloc[0], n=int(rows["n"].iloc[0]), answer=rows["answer"].iloc[0]
        )
        entry |= dict(states="".join(state[0] for state in rows["state"]))
        predictions.append(entry | {column: _list(rows[column]) for column in columns})
    # Each prediction with those that may replace it.
    slots = {hypothesis.name: hypothesis.slots for hypothesis in run.task.hypotheses}
    return dict(predictions=predictions, asked=slots)


def _writes(run, places):
    if "direct_effects" not in run.frames:
        return dict(why_not=run.why_not("direct_effects"))
    frame = run.frames["direct_effects"]
    words = []
    for role, rows in frame.groupby("role", observed=True, sort=False):
        rows = rows.set_index(["layer", "head"]).reindex(places)
        numbers = {name: _list(rows[name]) for name in ("direct_effect", "ci_low", "ci_high")}
        words.append(dict(role=str(role), effect=numbers.pop("direct_effect"), **numbers))
    return dict(words=words, n=int(frame["n"].iloc[0]))


def _paths(run):
    """Sender, receiver and share of the effect on the task's first mediated role."""
    if "composition" not in run.frames:
        return dict(why_not=run.why_not("composition"))
    columns = ["share", "mediated_effect", "ci_low", "ci_high", "total_effect"]
    rows = []
    for name in ("composition", "mediation"):
        frame = run.frames[name]
        for row in frame[frame["role"].isin(run.task.mediated[:1])].to_dict("records"):
            path = dict(sender=f"{row['sender_layer']}.{row['sender_head']}", receiver=None)
            if name == "composition":
                path["receiver"] = f"{row['receiver_layer']}.{row['receiver_head']}"
            rows.append(path | {column: _number(row[column]) for column in columns})
    return dict(rows=rows)


def looks(run: Run, room: int = BUDGET) -> tuple[list[dict], list[str], str]:
    """Where every head looks, picture by picture.

    Args:
        room: characters for packed attention.

    Returns:
        For each picture, for JSON: ``trial, condition, uri, crisp, expected, tile`` (the marked
        one, row and column, or None), ``tokens`` (without the picture's), ``chance`` (an even
        spread), ``tiles, columns``, ``image`` (number of the picture's tokens in all views); per
        head ``on_picture``, ``on_view`` (the first; None if there is only one) and ``on_tile``
        (attention). Also the packed attention of each picture: (heads, tiles + tokens) bytes. Also
        what is missing, in words, or "".
    """
    if "looks" not in run.frames:
        return [], [], run.why_not("looks")
    frame, shown = run.frames["looks"], run.frames["stimuli"].set_index(["trial", "condition"])
    heads = run.manifest["layers"] * run.manifest["heads"]
    marked = _marked(run)
    pictures, blobs, left_out, size = [], [], [], 0
    for (trial, condition), rows in frame.groupby(
        ["trial", "condition"], observed=True, sort=False
    ):
        if (
            len(rows) != heads
            or (trial, condition) not in shown.index
            or not len(rows["picture"].iloc[0])
        ):
            continue
        tiles, text = (np.stack(rows[name].tolist()).astype(float) for name in ("picture", "text"))
        chance = 1 / (tiles.shape[1] + text.shape[1])
        # The picture's tokens without a place: a class token, and all tokens of further views.
        says = np.array(rows["tokens"].iloc[0], dtype=object)
        unplaced = says == run.manifest.get("image_token")
        on_picture = tiles.sum(1) + text[:, unplaced].sum(1)
        text = text[:, ~unplaced]
        blob = packed(
            np.hstack([_steps(tiles, chance), np.rint(255 * text).astype(np.uint8)]).tobytes()
        )
        if left_out or size + len(blob) > room:
            left_out.append(f"{condition} of {trial}")
            continue
        size += len(blob)
        png = Image.open(io.BytesIO(shown.loc[(trial, condition), "png"]))
        expected, tile = shown.loc[(trial, condition), "expected"], marked.get((trial, condition))
        picture = dict(
            trial=trial, condition=condition, uri=data_uri(png), tile=tile, chance=chance
        )
        picture |= dict(crisp=is_crisp(png), tokens=says[~unplaced].tolist())
        picture |= dict(expected=None if pd.isna(expected) else expected)
        place = tile or (run.tiles[trial] if run.task.place else None)
        columns = int(rows["columns"].iloc[0]) if "columns" in rows else run.manifest["grid"][1]
        on_tile = None if place is None else _list(tiles[:, place[0] * columns + place[1]])
        picture |= dict(tiles=tiles.shape[1], columns=columns, place=place)
        picture |= dict(image=tiles.shape[1] + int(unplaced.sum()), on_picture=_list(on_picture))
        on_view = _list(tiles.sum(1)) if run.views > 1 else None
        pictures.append(picture | dict(on_view=on_view, on_tile=on_tile))
        blobs.append(blob)
    if left_out:
        which = listed(left_out) if len(left_out) < 4 else f"{len(left_out)} more pictures"
        return pictures, blobs, f"attention on {which} is in looks.parquet"
    return pictures, blobs, ""


def _marked(run):
    """(trial, condition) → the marked tile of that picture, or None."""
    marked: dict[tuple, tuple[int, int] | None] = {}
    if not run.task.place:
        return marked
    for trial, rows in run.frames["stimuli"].groupby("trial", observed=True, sort=False):
        images = {row.condition: opened(row.png) for row in rows.itertuples()}
        tiles = marked_tiles(images, run.tiles.get(trial), run.manifest["grid"])
        marked |= {(trial, condition): tile for condition, tile in tiles.items()}
    return marked


def _steps(attention, chance):
    """Attention as steps, (…) bytes; see `tiles_of`."""
    with np.errstate(divide="ignore"):
        steps = np.rint(STEPS * np.log2(attention / chance)) + EVEN
    return np.where(attention < chance / 2, 0, np.clip(steps, 1, 255)).astype(np.uint8)


def tiles_of(steps: np.ndarray, chance: float) -> np.ndarray:
    """Attention from its steps: 0 for less than half of an even spread."""
    return np.where(steps == 0, 0.0, chance * 2 ** ((steps.astype(float) - EVEN) / STEPS))


def _list(values):
    return [_number(value) for value in np.asarray(values, dtype=float)]


def _number(value):
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None
