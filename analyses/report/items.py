"""What the page shows item by item: the effects of restoring a head in each trial, the trial's
pictures, and where some heads look on them.

1. `panels` takes effects from the frame of `rgb_circuit.patch_heads`, trial by trial: the number at
   a mark is the frame's.
2. `pictures` and `fitted` shrink all pictures alike to fit `PICTURES`; pictures that still do not
   fit are left out.
3. `looks` packs attention, picture by picture, up to `LOOKS`: each head's in 255 steps of its
   square root, so that small values get finer steps.

items.js unpacks the data; `unpacked_effects` and `attention_of` do the same in Python, for checks.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image

from rgb_circuit.heads import Head
from rgb_circuit.pictures.thumbnail import small_file

from .explorer import packed, unpacked
from .run import BLANK, Run

# Characters of a page that pictures, attention and effects may take; with all else below 20 MB.
PICTURES, LOOKS, EFFECTS = 10_400_000, 2_000_000, 2_000_000
# Pictures' longer side in pixels and quality of WebP, from the best down.
SIZES = ((336, 80), (336, 60), (288, 50), (240, 45), (192, 40), (160, 35), (128, 30))
# How many pictures are tried to find the size that fits, before all are made.
SAMPLE = 48
# Steps of an effect on either side of zero, scaled to the head's largest; and the missing value.
STEPS, NONE = 32_767, -32_768
# How many heads have attention if none was measured for this section.
HEADS = 8


@dataclass(frozen=True)
class Panel:
    """The effect of restoring each head in each trial.

    Attributes:
        name, target, role: of the panel.
        effects: logits, a row per trial and a column per ``layer.head``; missing if the trial has
            no such word.
        means: logits, per ``layer.head``: the panel's means as elsewhere on the page, with clusters
            counted once and answers weighted equally.
        gaps: logits, per trial: how much there was to restore.
    """

    name: str
    target: str
    role: str
    effects: pd.DataFrame
    means: pd.Series
    gaps: pd.Series

    @property
    def ranked(self) -> list[str]:
        """Heads by the size of their mean effect."""
        size = self.means.abs().sort_values(ascending=False, kind="stable")
        return list(size.index)


def panels(run: Run) -> list[Panel]:
    """Each panel of the run, trial by trial. For drawn pictures, the effect on the word's logit;
    for others, on its difference from the words it is read against
    (`rgb_circuit.calls.panels`)."""
    frame, result = run.frames["patch_heads"], []
    # Keep a row for a trial that lacks a panel's picture.
    trials = list(frame["trial"].unique())
    by = ["panel", "target", "role"]
    for (name, target, role), panel_rows in (
        run.frames["panels"].astype(dict.fromkeys(by, str)).groupby(by, sort=False)
    ):
        rows = frame[frame["target"] == target]
        logits = {
            column: against(run, rows, column, target, role).reindex(trials)
            for column in ("source_logit", "target_logit", "patched_logit")
        }
        effects = logits["patched_logit"] - logits["target_logit"]
        gaps = (logits["source_logit"] - logits["target_logit"]).iloc[:, 0]
        effects.columns = [str(Head(*head)) for head in effects.columns]
        heads = [str(Head(*head)) for head in panel_rows[["layer", "head"]].itertuples(index=False)]
        means = panel_rows["effect"].set_axis(heads).reindex(effects.columns)
        result.append(Panel(str(name), str(target), str(role), effects, means, gaps))
    return result


def against(run: Run, rows: pd.DataFrame, column: str, target: str, role: str) -> pd.DataFrame:
    """A word's logits, for pictures that were not drawn less the other words': a row per trial, a
    column per (layer, head).

    Args:
        rows: of the run's ``patch_heads``, with this target.
        column: of logits.
    """
    table = rows.pivot(index="trial", columns=["role", "layer", "head"], values=column)
    table = table.sort_index(axis=1)
    said = {str(name): table[name] for name in table.columns.unique("role")}
    own = said.pop(role)
    if run.task.is_game or not said:
        return own
    controls = [said[name].to_numpy() for name in run.task.controls(target) if name in said]
    if controls:
        return own - np.nanmean(controls, axis=0)
    return own - np.fmax.reduce([other.to_numpy() for other in said.values()])


def packed_effects(found: Sequence[Panel], heads: Sequence[str]) -> tuple[list[list[float]], str]:
    """Effects in `STEPS`, 16 bits each: panel by panel, head by head, trial by trial.

    Returns:
        The size of a step in logits, per panel and head; and the packed steps.
    """
    sizes, blocks = [], []
    for panel in found:
        values = panel.effects[list(heads)].to_numpy(dtype=float).T
        most = np.nan_to_num(
            np.nanmax(np.abs(values), axis=1, initial=0.0, where=~np.isnan(values))
        )
        step = np.where(most > 0, most, 1.0) / STEPS
        steps = np.where(np.isnan(values), NONE, np.rint(np.nan_to_num(values) / step[:, None]))
        sizes.append([float(f"{size:.7g}") for size in step])
        blocks.append(steps.astype("<i2").tobytes())
    return sizes, packed(b"".join(blocks))


def unpacked_effects(sizes: Sequence[Sequence[float]], text: str, trials: int) -> np.ndarray:
    """The effects of `packed_effects`, (panels, heads, trials), NaN where missing."""
    steps = np.frombuffer(unpacked(text), "<i2").reshape(len(sizes), -1, trials).astype(float)
    return np.where(steps == NONE, np.nan, steps) * np.array(sizes)[..., None]


def pictures(run: Run) -> pd.DataFrame:
    """The pictures in the run's folder: of all trials, or, for drawn trials, those that the page
    shows elsewhere.

    Returns:
        A row per trial × condition: ``trial, condition, width, height`` (pixels, as the model sees
        it), ``picture`` (bytes; grey if pictures may not be shared), ``unseen``.
    """
    if "items" in run.frames:
        frame = run.frames["items"]
    else:
        stray = [run.frames["strays"]] if "strays" in run.frames else []
        frame = pd.concat([run.frames["stimuli"], *stray], ignore_index=True)
        frame = frame.drop_duplicates(["trial", "condition"])
        images = [Image.open(io.BytesIO(png)) for png in frame["png"]]
        frame = frame.assign(
            width=[image.width for image in images],
            height=[image.height for image in images],
            picture=[small_file(image, SIZES[0][0]) for image in images],
        )
    kept = set(run.frames["patch_heads"]["trial"].unique())
    return frame[frame["trial"].isin(kept)].reset_index(drop=True)


def fitted(files: Sequence[bytes], budget: int = PICTURES) -> tuple[list[str], int | None]:
    """Pictures as data URIs, in the largest of `SIZES` that fits the budget of characters.

    Args:
        files: in the first of `SIZES`.

    Returns:
        The URIs, only of the first pictures if not even the smallest size fits; and the pixels of
        the longer side, None if the files are unchanged.
    """
    if sum(map(_length, files)) <= budget:
        return [_uri(file) for file in files], None
    sample = files[:: -(-len(files) // SAMPLE)]
    for size in SIZES[1:]:
        mean = np.mean([_length(_smaller(file, *size)) for file in sample])
        if mean * len(files) > budget and size != SIZES[-1]:
            continue
        made = [_smaller(file, *size) for file in files]
        if sum(map(_length, made)) <= budget or size == SIZES[-1]:
            break
    fits = np.cumsum([_length(file) for file in made]) <= budget
    return [_uri(file) for file, here in zip(made, fits) if here], size[0]


def _smaller(file, most, quality):
    return small_file(Image.open(io.BytesIO(file)), most, quality=quality)


def _length(file):
    return 24 + -(-len(file) // 3) * 4


def _uri(file):
    kind = "png" if file.startswith(b"\x89PNG") else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"


def looks(run: Run, ranked: Sequence[str]) -> tuple[list[str], dict[tuple[str, str], dict]]:
    """Where some heads look, picture by picture.

    Args:
        ranked: heads; the first `HEADS` are taken if the run measured none for this section.

    Returns:
        The heads, and (trial, condition) → ``columns``, ``blob``, and per head ``most`` (of a
        token) and ``on`` (of the picture); in order, as many as fit into `LOOKS`.
    """
    name = next((name for name in ("item_looks", "looks") if name in run.frames), None)
    if name is None:
        return [], {}
    frame = run.frames[name]
    labels = frame["layer"].astype(str) + "." + frame["head"].astype(str)
    frame = frame.assign(name=labels)
    heads = list(labels.unique()) if name == "item_looks" else list(ranked[:HEADS])
    frame = frame[labels.isin(heads)]
    packed_looks, size = {}, 0
    for key, rows in frame.groupby(["trial", "condition"], observed=True, sort=False):
        maps = rows.set_index("name")["picture"].reindex(heads)
        if maps.isna().any() or not len(maps.iloc[0]):
            continue
        values = np.stack([np.asarray(value, dtype=float) for value in maps])
        most = values.max(1)
        steps = np.rint(255 * np.sqrt(values / np.where(most > 0, most, 1)[:, None]))
        blob = packed(steps.astype(np.uint8).tobytes())
        if (size := size + len(blob)) > LOOKS:
            break
        # Folders of older versions do not record the number of columns.
        columns = int(rows["columns"].iloc[0]) if "columns" in rows else run.manifest["grid"][1]
        packed_looks[key] = dict(
            columns=columns,
            blob=blob,
            most=[float(f"{value:.4g}") for value in most],
            on=[float(f"{value:.4g}") for value in values.sum(1)],
        )
    return heads, packed_looks


def attention_of(look: Mapping) -> np.ndarray:
    """A picture's attention from what `looks` packed, (heads, tokens)."""
    steps = np.frombuffer(unpacked(look["blob"]), np.uint8).reshape(len(look["most"]), -1)
    return (steps / 255.0) ** 2 * np.array(look["most"])[:, None]


def veil(look: Mapping, head: int) -> str:
    """A data URI of the veil over a picture where a head does not look: a pixel per token."""
    values = attention_of(look)[head]
    cells = np.zeros((len(values) // look["columns"], look["columns"], 4), np.uint8)
    cells[..., :3] = BLANK
    lifted = max(values.max(), 4 / len(values))
    cells[..., 3] = np.rint(255 * 0.85 * (1 - values / lifted)).reshape(cells.shape[:2])
    file = io.BytesIO()
    Image.fromarray(cells, "RGBA").save(file, "png", optimize=True)
    return _uri(file.getvalue())


def as_json(content: Mapping) -> str:
    """The content as JSON, packed for items.js."""
    return packed(json.dumps(content, separators=(",", ":"), allow_nan=False).encode())
