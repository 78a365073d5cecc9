"""Where the found heads look, or those with the largest effects."""

import io

from PIL import Image

from rgb_circuit.heads import Head
from rgb_circuit.pictures.thumbnail import data_uri, outlined
from rgb_circuit.plots import veiled

from ..run import Needs, Run
from ..section import Section, beside
from ..writing import percent


def _values(run: Run):
    if "attention" not in run.frames:
        return dict(why_not=run.why_not("attention"))
    stimuli = run.frames["stimuli"].set_index(["trial", "condition"])
    role_of = {}
    if "roles" in run.frames:
        role_of = run.frames["roles"].set_index(["layer", "head"])["role"].to_dict()
    heads = {}
    for (layer, head, trial, condition), cells in run.frames["attention"].groupby(
        ["layer", "head", "trial", "condition"], sort=False
    ):
        pattern = cells.pivot(index="row", columns="column", values="attention").to_numpy()
        image = Image.open(io.BytesIO(stimuli.loc[(trial, condition), "png"]))
        seen = veiled(pattern, image)
        picture = dict(condition=condition, on_picture=float(pattern.sum()), at_tile=None)
        if (tile := run.tiles.get(trial)) and run.task.place:
            picture["at_tile"] = float(pattern[tuple(tile)])
            seen = outlined(seen, tile, pattern.shape)
        picture["uri"] = data_uri(seen)
        heads.setdefault((layer, head), {}).setdefault(trial, []).append(picture)
    shown = [
        dict(name=str(Head(*head)), role=role_of.get(head), trials=trials)
        for head, trials in heads.items()
    ]
    crisp = all(Image.open(io.BytesIO(png)).getcolors(256) for png in stimuli["png"])
    return dict(
        gist=f"{len(shown)} heads",
        heads=shown,
        crisp=crisp,
        trials=run.frames["stimuli"]["trial"].nunique(),
        even=_even(run),
    )


def _even(run):
    """The share of an even spread over all tokens on what the captions report: the marked tile or
    the picture; a range, since pictures differ in size. None if the number of tokens is unknown."""
    if "looks" not in run.frames:
        return None
    names = ["trial", "condition"]
    shown_pictures = run.frames["attention"][names].astype(str).drop_duplicates()
    looks = run.frames["looks"].astype(dict.fromkeys(names, str)).drop_duplicates(names)
    looks = shown_pictures.merge(looks, on=names)
    drawn = looks["picture"].map(len)
    shares = (1 if run.task.place else drawn) / (drawn + looks["text"].map(len))
    return " to ".join(dict.fromkeys(percent(share) for share in (shares.min(), shares.max())))


SECTION = Section(
    order=50,
    link="Attention",
    title="Where {{ 'the found heads' if run.found else 'these heads' }} look",
    needs=Needs(
        {"stimuli": "trial condition png"},
        optional=[
            {"attention": "trial condition layer head row column attention"},
            {"roles": "layer head role"},
            {"looks": "trial condition picture text"},
        ],
    ),
    values=_values,
    fragment=beside(__file__),
)
