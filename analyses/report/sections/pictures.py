"""The first pictures, and what the model is asked about them."""

import io

import pandas as pd
from PIL import Image

from ..embedded import data_uri
from ..run import Needs, Run
from ..section import Section, beside


def _values(run: Run):
    shown = run.frames["stimuli"]
    trials = [
        dict(name=trial, pictures=[_picture(row) for row in rows.to_dict("records")])
        for trial, rows in shown.groupby("trial", sort=False)
    ]
    unseen = list(shown["unseen"].dropna().unique())
    return dict(prompts=list(shown["prompt"].unique()), trials=trials, of=run.trials, unseen=unseen)


def _picture(row):
    image = Image.open(io.BytesIO(row["png"]))
    return dict(
        condition=row["condition"],
        expected=None if pd.isna(row["expected"]) else row["expected"],
        uri=data_uri(image),
        crisp=image.getcolors(256) is not None,
    )


SECTION = Section(
    order=10,
    link="Pictures",
    title="What the model is shown",
    needs=Needs({"stimuli": "trial condition prompt expected png unseen", "patch_heads": "trial"}),
    values=_values,
    fragment=beside(__file__),
)
