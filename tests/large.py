"""A run with 1,024 heads and 32 trials, made from a run of the planted model: as large as
LLaVA-1.5-7B's, in seconds.

Some heads copy a planted one; all others are noise. Every frame has the form of a real run's.
"""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

import rgb_circuit as rgb
from rgb_circuit.trial import described

# A head of the large run → the planted head that it copies.
PLANTED = {
    (10, 3): (1, 3), (14, 8): (2, 1), (19, 6): (3, 0), (20, 10): (4, 1), (23, 12): (4, 2), (24,
    5): (3, 2),
    (26, 16): (5, 2), (28, 2): (4, 3),
}  # fmt: skip
IDLE = (0, 0)
SIDE, GRID, TRIALS, TEXT = 32, 24, 32, 24


def grow(planted: Path, folder: Path, seed: int = 0) -> Path:
    """Write the large run's frames and manifest, from the folder of a run of the planted model."""
    rng = np.random.default_rng(seed)
    shutil.copytree(
        planted, folder, ignore=shutil.ignore_patterns("parts", "*.png", "report.html", ".*")
    )
    trials = [
        rgb.rgb_trial(*colors, tile=(int(row), int(column)), grid=GRID)
        for colors, row, column in zip(
            [("red", "green", "blue", "yellow"), ("yellow", "cyan", "black", "purple")]
            * (TRIALS // 2),
            rng.integers(1, GRID - 1, TRIALS),
            rng.integers(1, GRID - 1, TRIALS),
        )
    ]
    names = [f"{number:03} {trial.name}" for number, trial in enumerate(trials)]
    manifest = json.loads((planted / "manifest.json").read_text())
    manifest |= dict(model="a model of 1,024 heads", layers=SIDE, heads=SIDE, grid=[GRID, GRID])
    manifest |= dict(parameters=7_063_427_072, tile_px=14, picture_px=GRID * 14)
    manifest["trials"] = [described(trial) | dict(name=name) for name, trial in zip(names, trials)]
    (folder / "manifest.json").write_text(json.dumps(manifest))

    heads = [(layer, head) for layer in range(SIDE) for head in range(SIDE)]
    which = pd.DataFrame(
        [(*own, *PLANTED.get(own, IDLE)) for own in heads],
        columns=["layer", "head", "old_layer", "old_head"],
    )
    for name in ("sweeps", "evidence", "roles", "direct_effects", "patch_heads"):
        frame = pd.read_parquet(planted / f"{name}.parquet")
        floor = frame.attrs
        frame = frame.rename(columns=dict(layer="old_layer", head="old_head"))
        if name == "patch_heads":
            first = [f"{part}" for part in frame["trial"].unique()[:2]]
            frame = pd.concat(
                [
                    frame[frame["trial"] == first[number % 2]].assign(trial=own)
                    for number, own in enumerate(names)
                ]
            )
        grown = which.merge(frame, on=["old_layer", "old_head"]).drop(
            columns=["old_layer", "old_head"]
        )
        _blur(grown, rng)
        grown.attrs = floor
        grown.to_parquet(folder / f"{name}.parquet", index=False)
    _panels(planted, folder)
    _renamed(planted, folder)
    _pictures(folder, rng, names[:3], trials[:3], heads)
    return folder


def _blur(frame, rng):
    """Add the same noise to effects and their intervals, and widen these, so that almost nothing is
    shown."""
    effect = next((name for name in ("effect", "direct_effect") if name in frame), None)
    if effect is None:
        return
    noise = 0.02 * rng.standard_normal(len(frame))
    frame[effect] = frame[effect] + noise
    for end, side in (("ci_low", -1), ("ci_high", 1)):
        if end in frame:
            frame[end] = frame[end] + noise + side * 0.03
    if "restored_fraction" in frame:
        frame["restored_fraction"] = frame["restored_fraction"] + noise / 24


def _panels(planted, folder):
    """The rows of ``sweeps`` that belong to panels."""
    old, sweeps = (
        pd.read_parquet(planted / "panels.parquet"),
        pd.read_parquet(folder / "sweeps.parquet"),
    )
    own = sweeps[(sweeps["component"] == "z") & (sweeps["source"] == "clean")]
    which = old[["panel", "target", "role"]].drop_duplicates()
    which.merge(own.astype({"target": str, "role": str}), on=["target", "role"])[
        list(old)
    ].to_parquet(folder / "panels.parquet", index=False)


def _renamed(planted, folder):
    """The frames of single heads, with the heads' names in the large run."""
    new = {old: own for own, old in PLANTED.items()}
    for name, sides in (("composition", ("sender", "receiver")), ("mediation", ("sender",))):
        frame = pd.read_parquet(planted / f"{name}.parquet")
        for side in sides:
            pair = [f"{side}_layer", f"{side}_head"]
            frame[pair] = [new[tuple(own)] for own in frame[pair].to_numpy().tolist()]
        frame.to_parquet(folder / f"{name}.parquet", index=False)


def _pictures(folder, rng, names, trials, heads):
    """``stimuli``, ``looks`` of every head, and ``attention`` of the planted ones."""
    stimuli, looks, attention = [], [], []
    layer, head = np.array(heads).T
    tokens = [
        "<s>",
        "US",
        "ER",
        ":",
        *"Which color is the odd color out ? Respond in one word \n ASS IST ANT :".split(" "),
    ]
    tokens += [""] * (TEXT - len(tokens))
    for name, trial in zip(names, trials):
        for condition, image in trial.images.items():
            file = io.BytesIO()
            image.save(file, "png")
            role = trial.expected.get(condition)
            stimuli.append(
                dict(
                    trial=name,
                    condition=condition,
                    prompt=trial.prompt,
                    unseen=None,
                    png=file.getvalue(),
                )
                | dict(expected=trial.answers[role] if role else None)
            )
            scores = rng.standard_normal((len(heads), GRID * GRID + TEXT)) * rng.uniform(
                0.5, 2.5, (len(heads), 1)
            )
            scores[:, GRID * GRID] += 6
            for number, own in enumerate(heads):
                if own in PLANTED and own != (23, 12):
                    scores[number, trial.tile[0] * GRID + trial.tile[1]] += 11
            seen = np.exp(scores)
            seen = (seen / seen.sum(1, keepdims=True)).astype(np.float16)
            rows = dict(trial=name, condition=condition, layer=layer, head=head)
            rows |= dict(picture=list(seen[:, : GRID * GRID]), text=list(seen[:, GRID * GRID :]))
            looks.append(pd.DataFrame(rows | dict(tokens=[tokens] * len(heads))))
            if condition in ("clean", "recolored", "erased"):
                for own in list(PLANTED)[:2]:
                    cells = (
                        seen[heads.index(own), : GRID * GRID].astype(np.float32).reshape(GRID, GRID)
                    )
                    row, column = np.indices(cells.shape).reshape(2, -1)
                    about = dict(trial=name, condition=condition, layer=own[0], head=own[1])
                    cells = dict(row=row, column=column, attention=cells.ravel())
                    attention.append(pd.DataFrame(about | cells))
    pd.DataFrame(stimuli).to_parquet(folder / "stimuli.parquet", index=False)
    pd.concat(looks).to_parquet(folder / "looks.parquet", index=False)
    pd.concat(attention).to_parquet(folder / "attention.parquet", index=False)
