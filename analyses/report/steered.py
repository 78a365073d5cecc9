"""The page's data on heads that look elsewhere (`analyses.steering`), packed picture by picture up
to `BUDGET`.

Logits are stored as whole steps, 32,767 of which are the picture's largest logit, so that the error
is below a hundred-thousandth of it.
"""

import io
import json

import numpy as np
import pandas as pd
from PIL import Image

from rgb_circuit.heads import Head
from rgb_circuit.pictures.thumbnail import data_uri

from . import explorer
from .embedded import is_crisp
from .explorer import packed
from .run import Run

# Characters of packed logits in a page; attention gets the rest of `explorer.BUDGET`.
BUDGET = 900_000
STEPS = 32767
# Scalings of heads' outputs, in the order of the page.
EDITS = ("off", "double")


def steered(run: Run) -> tuple[dict, list[str]]:
    """The page's data on steering.

    Returns:
        For JSON: ``why_not`` alone (a sentence) if there is nothing, else ``trials``, each with
        ``trial, uri, crisp`` (of its picture), ``rows, columns``, ``words, roles, unedited``,
        ``biases`` (None for infinite), ``turned`` and ``scaled`` (name and members of the sets of
        heads that look at each place, and that are off or doubled) and ``largest`` (a logit). Also
        the packed steps of each trial: (turned, biases, places, words) and then (scaled, off and
        double, words), 16 bits each, little-endian. Trials beyond the budget are left out.
    """
    if "steering" not in run.frames:
        return dict(why_not=f"Not measured: {run.why_not('steering')}."), []
    trials: list[dict] = []
    blobs: list[str] = []
    shown = run.frames["stimuli"].set_index(["trial", "condition"])["png"]
    for key, rows in run.frames["steering"].groupby(
        ["trial", "condition"], observed=True, sort=False
    ):
        if key not in shown.index:
            continue
        trial, steps = _of_picture(rows)
        blob = packed(steps.astype("<i2").tobytes())
        if sum(map(len, blobs)) + len(blob) > BUDGET:
            break
        image = Image.open(io.BytesIO(shown[key]))
        trials.append(dict(trial=str(key[0]), uri=data_uri(image), crisp=is_crisp(image)) | trial)
        blobs.append(blob)
    if not trials:
        return dict(why_not="It does not fit on this page; see steering.parquet."), []
    return dict(trials=trials), blobs


def _of_picture(rows: pd.DataFrame) -> tuple[dict, np.ndarray]:
    """One picture's data for JSON, and its logits as steps."""
    first = rows.drop_duplicates("word")
    words, n = list(first["word"]), len(first)
    look, scaled = rows[rows["edit"] == "look"], rows[rows["edit"] != "look"]
    biases = list(dict.fromkeys(look["bias"]))
    shape = int(look["row"].max()) + 1, int(look["column"].max()) + 1
    sets = [_sets(rows_of_kind) for rows_of_kind in (look, scaled)]
    # Rows are in the order of `analyses.steering`: set, bias, place, word; then set, edit, word.
    assert len(look) == len(sets[0]) * len(biases) * shape[0] * shape[1] * n
    assert len(scaled) == len(sets[1]) * len(EDITS) * n
    assert list(dict.fromkeys(scaled["edit"])) == list(EDITS)
    logits = np.concatenate([look["logit"], scaled["logit"]]).astype(float)
    largest = float(np.abs(logits).max()) or 1.0
    content = dict(
        rows=shape[0],
        columns=shape[1],
        words=words,
        roles=list(first["role"]),
        unedited=[float(f"{value:.6g}") for value in first["unedited"]],
        biases=[float(bias) if np.isfinite(bias) else None for bias in biases],
        turned=sets[0],
        scaled=sets[1],
        largest=largest,
    )
    return content, np.rint(logits / largest * STEPS)


def _sets(rows):
    """Name and members of every set of heads, in order."""
    first = rows.drop_duplicates("heads")
    return [
        dict(name=name, members=[str(Head.parse(member)) for member in members.split()])
        for name, members in zip(first["heads"], first["members"])
    ]


def payload(run: Run) -> dict:
    """All data of a page: ``data`` (the packed JSON of `explorer.data`, with ``pictures`` and
    ``steering``), ``looks`` and ``steers`` (the packed bytes of each picture), and ``lacking``,
    what is missing, in words."""
    steering, steers = steered(run)
    pictures, looks, lacking = explorer.looks(run, explorer.BUDGET - sum(map(len, steers)))
    content = explorer.data(run) | dict(pictures=pictures, steering=steering)
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return dict(data=packed(text.encode()), looks=looks, steers=steers, lacking=lacking)
