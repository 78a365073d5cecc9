"""Every head, to click and to look up: a map, details of the chosen head, and a table of all."""

import numpy as np
import pandas as pd

from rgb_circuit.calls.panels import LEAST_SAID, shown
from rgb_circuit.heads import Head

from .. import digits, scripts, steered
from ..run import Needs, Run
from ..section import Section, beside
from ..writing import percent, signed


def _values(run: Run):
    if "sweeps" not in run.frames:
        return dict(why_not=run.why_not("sweeps"))
    columns, rows = _table(run)
    roles = (
        run.frames["roles"]["role"].str.split(" + ", regex=False) if "roles" in run.frames else None
    )
    return dict(
        **steered.payload(run),
        script=scripts.script(),
        columns=columns,
        rows=rows,
        roles=[] if roles is None else sorted(set(roles.explode())),
        every=len(rows),
        n=int(run.frames["sweeps"]["n"].iloc[0]),
        least=LEAST_SAID,
    )


def _table(run):
    """Names of columns, and a row per head: ``head, role`` and ``cells``, each with ``text, kind``
    and, for numbers, ``sort`` (the value to sort by, empty if missing)."""
    index = pd.MultiIndex.from_product(
        [range(run.manifest["layers"]), range(run.manifest["heads"])], names=["layer", "head"]
    )
    columns = {
        **_panels(run, index),
        **_holding(run, index),
        **_looking(run, index),
        **_writing(run, index),
    }
    role_of = {}
    if "roles" in run.frames:
        role_of = run.frames["roles"].set_index(["layer", "head"])["role"].to_dict()
    rows = [
        dict(
            head=str(Head(*head)),
            role=role_of.get(head, ""),
            cells=[values[number] for values in columns.values()],
        )
        for number, head in enumerate(index)
    ]
    return list(columns), rows


def _panels(run, index):
    """Panel → cells: fractions of the gap, or logits without a gap."""
    effects = run.frames["patch_heads"][["component", "source", "positions"]].iloc[0].astype(str)
    sweeps = run.frames["sweeps"]
    in_panel = np.logical_and.reduce(
        [sweeps[name].astype(str) == value for name, value in effects.items()]
    )
    columns = {}
    for target, role in (
        run.frames["panels"][["target", "role"]].drop_duplicates().itertuples(index=False)
    ):
        rows = sweeps[in_panel & (sweeps["target"] == target) & (sweeps["role"] == role)]
        gap = rows["gap"].max()
        rows = rows.set_index(["layer", "head"]).reindex(index)
        large = shown(rows.assign(gap=gap))
        unit = "logits" if pd.isna(gap) else "of the gap"
        values = rows["effect"] if pd.isna(gap) else rows["restored_fraction"]
        columns[f"{role}, when {target} ({unit})"] = [
            _cell(value, pd.notna(gap), "n" if plain else "n quiet")
            for value, plain in zip(values, large)
        ]
    return columns


def _holding(run, index):
    if "evidence" not in run.frames:
        return {}
    frame = run.frames["evidence"]
    held = frame[frame["state"] == "holds"].groupby(["layer", "head"])["prediction"].agg(" ".join)
    return {"predictions that hold": [dict(text=held.get(head, ""), kind="wrap") for head in index]}


def _looking(run, index):
    """Mean attention on the marked tile of the clean pictures."""
    if "looks" not in run.frames or not run.task.place:
        return {}
    frame = run.frames["looks"]
    clean = frame[frame["condition"] == "clean"]
    attention = []
    for trial, rows in clean.groupby("trial", observed=True, sort=False):
        tile = run.tiles.get(trial)
        if not tile or not len(rows["picture"].iloc[0]):
            return {}
        place = tile[0] * run.manifest["grid"][1] + tile[1]
        attention.append(
            rows.set_index(["layer", "head"])["picture"].map(lambda cells: float(cells[place]))
        )
    mean = pd.concat(attention).groupby(level=[0, 1]).mean().reindex(index)
    return {f"attention to {run.task.place}": [_cell(value, True, "n") for value in mean]}


def _writing(run, index):
    if "direct_effects" not in run.frames:
        return {}
    frame = run.frames["direct_effects"]
    role = frame["role"].iloc[0]
    own = frame[frame["role"] == role].set_index(["layer", "head"])["direct_effect"].reindex(index)
    return {f"direct effect on {role} (logits)": [_cell(value, False, "n") for value in own]}


def _cell(value, share, kind):
    """A number, or a fraction as per cent, with two digits of its own."""
    if pd.isna(value):
        return dict(text=digits.MISSING, sort="", kind=kind)
    # A hundredth of a per cent and a thousandth of a logit are negligible; the digits are in the
    # frame.
    text = (
        "≈ 0"
        if abs(value) < (1e-4 if share else 1e-3)
        else percent(value)
        if share
        else signed(value, digits.decimals([value]))
    )
    return dict(text=text, sort=f"{value:.4g}", kind=kind)


SECTION = Section(
    order=5,
    link="Every head",
    title="Every head: interactive map",
    needs=Needs(
        {
            "patch_heads": "trial component source positions",
            "panels": "target role",
            "stimuli": "trial condition expected png",
        },
        optional=[
            {
                "sweeps": "component source target positions role layer head effect ci_low ci_high "
                "told gap restored_fraction n"
            },
            {"looks": "trial condition layer head picture text tokens"},
            {"direct_effects": "role layer head direct_effect ci_low ci_high n"},
            {
                "steering": "trial condition heads members edit bias row column word role unedited "
                "logit"
            },
            {
                "evidence": "layer head prediction expected effect ci_low ci_high "
                "restored_fraction n state trials_to_decide void answer",
                "roles": "layer head role score",
            },
            {
                "composition": "sender_layer sender_head receiver_layer receiver_head role "
                "total_effect mediated_effect share ci_low ci_high",
                "mediation": "sender_layer sender_head role total_effect mediated_effect share "
                "ci_low ci_high",
            },
        ],
    ),
    values=_values,
    fragment=beside(__file__),
    open=True,
)
