"""The first pictures, and what the model is asked about them."""

import io

import pandas as pd
from PIL import Image

from rgb_circuit.thumbnail import SMALL_FROM, data_uri, enlarged, outlined
from rgb_circuit.trial import odd_tile

from ..run import Needs, Run
from ..section import Section, beside


def _values(run: Run):
    shown = run.frames["stimuli"]
    grid = None if run.own else run.manifest["grid"]
    trials = [
        dict(name=trial, pictures=[_picture(row, grid) for row in rows.to_dict("records")])
        for trial, rows in shown.groupby("trial", sort=False)
    ]
    unseen = list(shown["unseen"].dropna().unique())
    return dict(prompts=list(shown["prompt"].unique()), trials=trials, of=run.trials, unseen=unseen)


def _picture(row, grid):
    """What is shown of a picture: of the game's, the odd tile is outlined, and enlarged where it is small."""
    image, close = Image.open(io.BytesIO(row["png"])).convert("RGB"), None
    crisp = image.getcolors(256) is not None
    if grid and (tile := odd_tile(image, grid[0])):
        image = outlined(image, tile, grid)
        close = data_uri(enlarged(image, tile, grid)) if grid[0] > SMALL_FROM else None
    return dict(
        condition=row["condition"],
        expected=None if pd.isna(row["expected"]) else row["expected"],
        uri=data_uri(image),
        close=close,
        crisp=crisp,
    )


SECTION = Section(
    order=10,
    link="Pictures",
    title="What the model is shown",
    needs=Needs({"stimuli": "trial condition prompt expected png unseen", "patch_heads": "trial"}),
    values=_values,
    fragment=beside(__file__),
)
