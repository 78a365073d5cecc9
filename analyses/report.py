"""report.html: what a run found, in one file to send to somebody.

Everything in it comes from the files of the run's folder: the manifest, the frames, and the pictures in one
of them. No model is loaded. A frame that is not there leaves a sentence that says why.
"""

import io
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2
import matplotlib
import numpy as np
import pandas as pd
from PIL import Image
from scipy.stats import binomtest

from rgb_circuit.errors import InputError
from rgb_circuit.manifest import read_manifest
from rgb_circuit.panels import mean_floor
from rgb_circuit.plots import (
    composition_diagram,
    effect_forest,
    faithfulness_curve,
    head_heatmap,
    precision_recall_panels,
    veiled,
)
from rgb_circuit.plots.canvas import new_axes
from rgb_circuit.results import read_frame, write_bytes

from . import calibrate, circuit, compare, digits, riddle, roles
from .embedded import SETTINGS, data_uri, svg
from .evidence import STATES
from .findings import cannot_play

# Frame → columns that it must have; those of `OPTIONAL` may be missing as a whole.
REQUIRED = {
    "play": ["trial", "condition", "expected", "answer", "correct"],
    "patch_heads": ["trial", "source", "target", "component", "positions", "layer", "head", "role", "effect"],
    "panels": ["panel", "target", "role", "layer", "head", "effect", "ci_low", "ci_high", "n"],
    "stimuli": ["trial", "condition", "prompt", "expected", "png"],
    "left_out": ["frame", "reason"],
}
_INTERVAL = ["ci_low", "ci_high", "n"]
_MEDIATED = ["source", "target", "role", "total_effect", "mediated_effect", "share", *_INTERVAL]
_FAITHFUL = ["size", "faithfulness", "random_mean", "random_low", "random_high", "layer", "head", *_INTERVAL]
OPTIONAL = {
    "answers": ["answer", "piece", "whole"],
    "evidence": [
        "layer",
        "head",
        "prediction",
        "expected",
        "effect",
        "restored_fraction",
        "q_value",
        "holds",
        "state",
        "trials_to_decide",
        "void",
        "words",
        "frozen",
        "weakest",
        *_INTERVAL,
    ],
    "roles": ["layer", "head", "role", "score", "colors"],
    "attention": ["trial", "condition", "layer", "head", "row", "column", "attention"],
    "composition": ["sender_layer", "sender_head", "receiver_layer", "receiver_head", *_MEDIATED],
    "mediation": ["sender_layer", "sender_head", "receivers", *_MEDIATED],
    "circuit": ["test", *_FAITHFUL],
    "curve": ["share", "source", "target", *_FAITHFUL],
    "task_reading": [
        "layer",
        "head",
        "prediction",
        "effect",
        "restored_fraction",
        "q_value",
        "holds",
        *_INTERVAL,
    ],
    "question_attention": ["layer", "head", "to_word", "attention"],
    "calibration_summary": [
        "reading",
        "role",
        "noise",
        "models",
        "true",
        "given",
        "right",
        "precision",
        "precision_low",
        "precision_high",
        "recall",
        "recall_low",
        "recall_high",
    ],
    "calibration_false": ["kind", "reading", "heads", "heads_with_a_role"],
}
# Frames that say nothing without each other.
TOGETHER = (("evidence", "roles"), ("composition", "mediation"), ("calibration_summary", "calibration_false"))
ROLE_NAMES = {
    "color extractor": "color extractors",
    "POI localization": "POI heads",
    "place relay": "place relays",
    "background writer": "background writers",
    "canvas suppressor": "canvas suppressors",
    "oddness": "oddness heads",
}
# What a circuit restores that is called enough.
ENOUGH = 0.9
# Rows of a table, and the share of an effect or of attention from which something is listed.
STRONGEST, LEAST_SHARE = 8, 0.05


@dataclass(frozen=True)
class Run:
    """What a run's folder holds.

    Attributes:
        folder: where it is.
        manifest: as `rgb_circuit.manifest.manifest` has it.
        frames: name → frame, of those that are there.
        reasons: frame → why it is not there.
    """

    folder: Path
    manifest: Mapping
    frames: Mapping[str, pd.DataFrame]
    reasons: Mapping[str, str]

    @property
    def own(self) -> bool:
        """Whether the pictures are the user's own, not the game's."""
        return self.manifest["options"].get("trials_file") is not None

    @property
    def model(self) -> str:
        """The model's name."""
        return self.manifest["model"]

    @property
    def trials(self) -> int:
        """How many trials everything but the game is measured on."""
        return self.frames["patch_heads"]["trial"].nunique()

    @property
    def floor(self) -> float:
        """Below what a mean effect may be rounding alone, in logits."""
        return mean_floor(self.frames["patch_heads"].attrs.get("noise_floor", 0.0), self.trials)

    def why_not(self, name: str) -> str:
        """Why a frame is missing."""
        return self.reasons.get(
            name, f"this folder holds no {name}.parquet; run rgb-circuit run again with this --out"
        )


def write(folder: str | Path) -> Path:
    """Write report.html into a run's folder, from the files there.

    Returns:
        The path of the report.

    Raises:
        InputError: a folder without a run's manifest and frames, or one that cannot be read or written.
    """
    run = _read(Path(folder))
    # What figures need is set while they are made, and nowhere else.
    with matplotlib.rc_context(SETTINGS):
        sections = dict(
            head=_head(run),
            stimuli=_stimuli(run),
            play=_play(run),
            panels=_panels(run),
            roles=_roles(run),
            attention=_attention(run),
            riddle=_riddle(run),
            composition=_composition(run),
            circuit=_circuit(run),
            questions=_questions(run),
            calibration=_calibration(run),
            published=_published(run),
            reproduce=_reproduce(run),
        )
    # A section that does not apply says why instead.
    sections = {name: dict(why_not=None) | section for name, section in sections.items()}
    page = _environment().get_template("report.html.jinja").render(run=run, **sections)
    return write_bytes(run.folder / "report.html", page.encode())


def _read(folder):
    manifest = read_manifest(folder)
    if missing := [
        name for name in ("options", "trials", "versions", "layers", "heads") if name not in manifest
    ]:
        raise InputError(
            f"the manifest in {folder} lacks {', '.join(missing)}; run rgb-circuit run again with this --out"
        )
    frames = {name: read_frame(folder, name, columns) for name, columns in REQUIRED.items()}
    there = {name: columns for name, columns in OPTIONAL.items() if (folder / f"{name}.parquet").is_file()}
    halves = {name for names in TOGETHER if not set(names) <= set(there) for name in names}
    there = {name: columns for name, columns in there.items() if name not in halves}
    frames |= {name: read_frame(folder, name, columns) for name, columns in there.items()}
    run = Run(folder, manifest, frames, dict(frames.pop("left_out").itertuples(index=False, name=None)))
    # What rounding alone may be is shown as no effect.
    effect = frames["panels"]["effect"]
    frames["panels"] = frames["panels"].assign(
        effect=effect.mask(effect.abs() <= run.floor, 0.0), rounding=effect.abs() <= run.floor
    )
    return run


def _environment():
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("analyses", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.undefined = jinja2.StrictUndefined
    environment.filters |= dict(
        signed=_signed, percent=_percent, small=_small, area=_area, sentence=_sentence
    )
    return environment


# Sections, in the report's order; each returns what the template shows.


def _head(run):
    played = run.frames["play"].dropna(subset="correct")
    if run.own:
        question = f"Which attention heads of {run.model} carry the answer to these questions about pictures?"
    else:
        question = f"Which attention heads of {run.model} find the odd tile, read its colour, and bring it to the answer?"
    heads = run.manifest["layers"] * run.manifest["heads"]
    facts = [("trials", run.trials), ("pictures", len(run.frames["play"])), ("heads", f"{heads:,}")]
    if len(played):
        facts.insert(2, ("answered right", _percent(played["correct"].mean())))
    if "roles" in run.frames:
        facts.append(("trials that test roles", run.frames["evidence"]["n"].iloc[0]))
    # Trials that are left out say nothing about what was measured on the others.
    measured = played["trial"].isin(run.frames["patch_heads"]["trial"].unique())
    verdict, more = _verdict(run, played.loc[measured, "correct"])
    return dict(question=question, verdict=verdict, more=more, facts=facts)


def _verdict(run, played):
    """The verdict in a sentence, and what it rests on in another."""
    panels = run.frames["panels"]
    top = panels.loc[panels["effect"].abs().idxmax()]
    places = digits.decimals(top[["effect", "ci_low", "ci_high"]])
    logit = f"the logit of the answer “{top['role']}” by {_signed(top['effect'], places)} logits{_interval(top, places)}"
    strongest = (
        f"Restored in the “{top['target']}” picture, head {_name(top)} moves {logit}, the most of any."
    )
    if not top["effect"]:
        strongest = "Restored alone, no head moves the logit of any answer."
    if cannot := cannot_play(run.model, played, run.own):
        return (
            f"{cannot}, so nothing below says what a head does when the model "
            f"{'answers' if run.own else 'plays'}.",
            strongest,
        )
    if "roles" not in run.frames:
        if not top["effect"]:
            return f"No head of {run.model} does anything alone; roles were not tested.", strongest
        return f"Head {_name(top)} of {run.model} does most; what role it has was not tested.", strongest
    lacking = roles.no_gap(run.frames["evidence"])
    heads = {
        role: [_label(*head) for head in roles.heads(run.frames["roles"], role)] for role in roles.HYPOTHESES
    }
    found = [
        f"{len(names)} {_plural(role, len(names))} ({', '.join(names)})"
        for role, names in heads.items()
        if names
    ]
    if not found:
        nearest = roles.closest(run.frames["evidence"])
        if nearest.empty:
            return f"No head of {run.model} can be given a role.", _sentence(lacking)
        close = [
            f"{_list([_name(head) for _, head in rows.iterrows()])} {'to' if number else 'come closest to'} "
            f"a {_plural(role, 1)}"
            for number, (role, rows) in enumerate(nearest.groupby("role", sort=False))
        ]
        return (
            f"The hypothesised circuit is not found in {run.model}: no head meets every prediction of a "
            "role.",
            f"Heads {', '.join(close)}." + (f" {_sentence(lacking)}" if lacking else ""),
        )
    rest = f"{_list(found)} meet every prediction of their role." + (
        f" {_sentence(lacking)}" if lacking else ""
    )
    absent = [role for role in ("color extractor", "POI localization") if not heads[role]]
    if absent:
        named = " and no ".join(_plural(role, 1) for role in absent)
        return f"The hypothesised circuit is not complete in {run.model}: there is no {named}.", rest
    return (
        f"The hypothesised circuit is there in {run.model}: a head that finds the tile, and one that reads "
        "its colour.",
        rest,
    )


def _stimuli(run):
    shown = run.frames["stimuli"]
    trials = [
        dict(name=name, pictures=rows.to_dict("records")) for name, rows in shown.groupby("trial", sort=False)
    ]
    for picture in (picture for trial in trials for picture in trial["pictures"]):
        image = Image.open(io.BytesIO(picture.pop("png")))
        picture |= dict(
            uri=data_uri(image), crisp=image.getcolors(256) is not None, expected=_word(picture["expected"])
        )
    unseen = shown["unseen"].dropna().unique() if "unseen" in shown else []
    return dict(prompts=list(shown["prompt"].unique()), trials=trials, of=run.trials, unseen=list(unseen))


def _play(run):
    rows = []
    for condition, played in run.frames["play"].groupby("condition", observed=True, sort=False):
        scored = played["correct"].dropna()
        # Where answers are scored, only the wrong ones are news.
        told = played.loc[scored.index[~scored.astype(bool)]] if len(scored) else played
        row = dict(
            condition=condition, right=int(scored.sum()), n=len(scored), often=_most_often(told["answer"])
        )
        if len(scored):
            interval = binomtest(row["right"], row["n"]).proportion_ci(method="wilson")
            row |= dict(share=row["right"] / row["n"], low=interval.low, high=interval.high)
        rows.append(row)
    wrong = run.frames["play"][~run.frames["play"]["correct"].fillna(True).astype(bool)]
    every = len(run.manifest["trials"])
    pieces = run.frames.get("answers")
    split = (
        []
        if pieces is None
        else pieces[~pieces["whole"]]
        .drop_duplicates(["answer", "piece"])[["answer", "piece"]]
        .to_dict("records")
    )
    return dict(
        split=split,
        rows=rows,
        wrong=wrong.head(3).to_dict("records"),
        n_wrong=len(wrong),
        every=every,
        left_out=every - run.trials,
    )


def _panels(run):
    frame = run.frames["panels"]
    effects = run.frames["patch_heads"]
    table = frame.pivot(index=["layer", "head"], columns="panel", values="effect").reset_index()
    figures = []
    for panel, rows in frame.groupby("panel", sort=False):
        ax = head_heatmap(table, panel, label=5, ax=new_axes(3.9, 3.5))
        first = rows.iloc[0]
        ax.set_title(f"{first['role']} logit, {first['target']} picture", fontsize=10)
        figures.append(
            svg(
                ax.figure,
                f"Effect of restoring each head on the {first['role']} logit in the {first['target']} "
                "picture",
            )
        )
    size = frame["effect"].abs().groupby([frame["layer"], frame["head"]]).max()
    heads = size.sort_values(ascending=False, kind="stable").index[:STRONGEST]
    by_head = frame.set_index(["layer", "head", "panel"])
    names = list(frame["panel"].unique())
    ends = frame[frame.set_index(["layer", "head"]).index.isin(heads)]
    places = digits.decimals(ends[["effect", "ci_low", "ci_high"]].to_numpy().ravel())
    strongest = [
        dict(head=_label(*head), cells=[by_head.loc[(*head, panel)].to_dict() for panel in names])
        for head in heads
    ]
    return dict(
        floor=run.floor, dtype=run.manifest["dtype"], figures=figures, names=names, strongest=strongest, places=places, n=frame["n"].iloc[0], every=len(size),
        source=effects["source"].iloc[0], positions=effects["positions"].iloc[0],
    )  # fmt: skip


def _roles(run):
    if "roles" not in run.frames:
        return dict(why_not=run.why_not("roles"))
    evidence, table = run.frames["evidence"], run.frames["roles"]
    named = table[table["role"] != "none"]
    found = len(named) > 0
    if not found:
        named = roles.closest(evidence)
    if named.empty:
        return dict(
            why_not=f"{roles.no_gap(evidence)}. What restoring each head does all the same is in "
            "evidence.parquet"
        )
    named = named.loc[named["score"].abs().sort_values(ascending=False, kind="stable").index]
    heads, drawn = [], []
    for _, head in named.iterrows():
        wanted = [name for role in head["role"].split(" + ") for name in _predictions(role)]
        rows = evidence[(evidence["layer"] == head["layer"]) & (evidence["head"] == head["head"])]
        rows = rows.set_index("prediction").loc[list(dict.fromkeys(wanted))].reset_index()
        drawn.append(rows.assign(role=head["role"] if found else f"closest to {head['role']}"))
        lines = [row | dict(restored=_restored(row["prediction"])) for row in rows.to_dict("records")]
        held = f"{rows['holds'].sum()} of {len(rows)}"
        colors = _carried(table, head)
        heads.append(dict(name=_name(head), role=head["role"], colors=colors, rows=lines, held=held))
    drawn = pd.concat(drawn)
    ax = effect_forest(drawn, run.model, group="role", most=STRONGEST)
    forest = svg(ax.figure, "Effect and interval of each prediction for the heads in the table")
    places = digits.decimals(drawn[["effect", "ci_low", "ci_high"]].to_numpy().ravel())
    first = evidence.iloc[0]
    counts = table["role"].replace("none", "no role").value_counts().to_dict()
    return dict(
        found=found, heads=heads, forest=forest, places=places, n=first["n"], wrong=first.get("wrong", 0), counts=counts,
        every=len(table), no_gap=roles.no_gap(evidence), refused=roles.refused(evidence), states=_states(heads),
        power={variation: roles.power(evidence, variation) for variation in (0.25, 1.0)},
    )  # fmt: skip


def _carried(table, head):
    """The colours that a head of the role table carries, where not all."""
    return table.set_index(["layer", "head"])["colors"][int(head["layer"]), int(head["head"])]


def _states(heads):
    """How many predictions of the shown heads are in each state."""
    states = [row["state"] for head in heads for row in head["rows"]]
    return {state: states.count(state) for state in STATES}


def _attention(run):
    if "attention" not in run.frames:
        return dict(why_not=run.why_not("attention"))
    stimuli = run.frames["stimuli"].set_index(["trial", "condition"])
    tiles = {trial["name"]: trial["tile"] for trial in run.manifest["trials"]}
    role_of = {}
    if "roles" in run.frames:
        role_of = {(row["layer"], row["head"]): row["role"] for _, row in run.frames["roles"].iterrows()}
    heads = {}
    for (layer, head, trial, condition), cells in run.frames["attention"].groupby(
        ["layer", "head", "trial", "condition"], sort=False
    ):
        pattern = cells.pivot(index="row", columns="column", values="attention").to_numpy()
        image = Image.open(io.BytesIO(stimuli.loc[(trial, condition), "png"]))
        picture = dict(
            condition=condition,
            uri=data_uri(veiled(pattern, image)),
            on_picture=float(pattern.sum()),
            at_tile=None,
        )
        if tiles.get(trial) and not run.own:
            picture["at_tile"] = float(pattern[tuple(tiles[trial])])
        heads.setdefault((layer, head), {}).setdefault(trial, []).append(picture)
    shown = [
        dict(name=_label(*head), role=role_of.get(head), trials=trials) for head, trials in heads.items()
    ]
    crisp = all(Image.open(io.BytesIO(png)).getcolors(256) for png in stimuli["png"])
    return dict(heads=shown, crisp=crisp)


def _riddle(run):
    if "roles" not in run.frames:
        return dict(why_not="roles were not tested, so no head is known to pass P3")
    frame = riddle.table(run.frames["evidence"])
    if frame.empty:
        lacking = roles.no_gap(run.frames["evidence"])
        return dict(
            why_not="no head passes P3a and P3b here, so there is no such head to "
            f"explain{lacking and f' ({lacking})'}"
        )
    heads = [
        head | dict(name=_name(head)) for head in frame.drop_duplicates(["layer", "head"]).to_dict("records")
    ]
    ax = effect_forest(frame, run.model, group="verdict", most=len(heads))
    figure = svg(ax.figure, "What the heads that pass P3 write, and by which route")
    return dict(heads=heads, figure=figure)


def _composition(run):
    if "composition" not in run.frames:
        return dict(why_not=run.why_not("composition"))
    pairs, together = run.frames["composition"], run.frames["mediation"]
    figure = svg(
        composition_diagram(pairs, together, run.model).figure,
        "Which share of each head's effect runs through which extractor",
    )
    rows = []
    for sender, alone in together[together["role"] == "background"].groupby(["sender_layer", "sender_head"]):
        own = pairs[
            (pairs["role"] == "background")
            & (pairs["sender_layer"] == sender[0])
            & (pairs["sender_head"] == sender[1])
        ]
        own = own[own["share"].abs() >= LEAST_SHARE]
        lines = [
            row | dict(receiver=_label(row["receiver_layer"], row["receiver_head"]))
            for row in own.to_dict("records")
        ]
        lines += [row | dict(receiver="all together") for row in alone.to_dict("records")]
        rows.append(dict(sender=_label(*sender), total=alone["total_effect"].iloc[0], lines=lines))
    shown = together.loc[
        together["role"] == "background", ["total_effect", "mediated_effect", "ci_low", "ci_high"]
    ]
    places = digits.decimals(shown.to_numpy().ravel())
    return dict(figure=figure, rows=rows, places=places, n=together["n"].iloc[0], least=LEAST_SHARE)


def _circuit(run):
    shown = dict(tests=[], why_no_tests=None, why_no_curve=None)
    if "circuit" in run.frames:
        frame = run.frames["circuit"]
        whole = frame["layer"].isna()
        names = frame["test"].where(
            whole, "without " + frame["layer"].astype(str) + "." + frame["head"].astype(str)
        )
        shown["tests"] = frame.assign(name=names).to_dict("records")
    else:
        shown["why_no_tests"] = run.why_not("circuit")
    if "curve" in run.frames:
        frame = run.frames["curve"]
        reaching = frame[frame["faithfulness"] >= ENOUGH]
        enough = reaching.iloc[0] if len(reaching) else None
        within = frame[(frame["size"] > 0) & (frame["size"] <= (0 if enough is None else enough["size"]))]
        names = [_label(*head) for head in within[["layer", "head"]].itertuples(index=False)]
        shown |= dict(
            curve=svg(faithfulness_curve(frame, run.model).figure, "Faithfulness over the number of heads "
                                                                   "in the circuit"),
            areas=circuit.areas(frame).iloc[0], enough=enough, names=names, whole=frame.iloc[-1], every=int(frame["size"].max()),
            source=frame["source"].iloc[0], target=frame["target"].iloc[0],
        )  # fmt: skip
    else:
        shown["why_no_curve"] = run.why_not("curve")
    return shown


def _questions(run):
    if "task_reading" not in run.frames:
        return dict(why_not=run.why_not("task_reading"))
    frame = run.frames["task_reading"]
    held = frame[frame["holds"]].sort_values("effect", ascending=False, kind="stable")
    heads = held.drop_duplicates(["layer", "head"])
    rows = [
        row
        | dict(name=_name(row), where=row["prediction"].removeprefix("restored ").removesuffix(", switches"))
        | dict(looks=_most_looked_at(run, row["layer"], row["head"]))
        for row in held.head(STRONGEST).to_dict("records")
    ]
    places = digits.decimals(held.head(STRONGEST)[["effect", "ci_low", "ci_high"]].to_numpy().ravel())
    every = len(frame.drop_duplicates(["layer", "head"]))
    return dict(rows=rows, places=places, found=len(heads), every=every, n=frame["n"].iloc[0])


def _most_looked_at(run, layer, head):
    """The two words after the picture that a head attends to most from [end], as far as it does; None where
    that is not known."""
    if "question_attention" not in run.frames:
        return None
    frame = run.frames["question_attention"]
    words = frame[(frame["layer"] == layer) & (frame["head"] == head)].nlargest(2, "attention")
    seen = words[words["attention"] >= LEAST_SHARE]
    return ", ".join(f"“{row.to_word}” {_percent(row.attention)}" for row in seen.itertuples()) or "none"


def _calibration(run):
    if "calibration_summary" not in run.frames:
        return dict(why_not="this folder holds no calibration")
    table, false = run.frames["calibration_summary"], run.frames["calibration_false"]
    figure = svg(
        precision_recall_panels(table), "Precision and recall of each reading and role against noise"
    )
    # The reading that this report uses; the others stand beside it in the figures.
    rows = table[table["reading"] == calibrate.reading_of(run.manifest["options"].get("only_correct", False))]
    return dict(
        figure=figure,
        rows=rows.to_dict("records"),
        false=false.to_dict("records"),
        models=int(table["models"].max()),
    )


def _published(run):
    try:
        table = compare.compare(run.frames["patch_heads"])
    except InputError as error:
        return dict(why_not=str(error))
    frame = run.frames["patch_heads"]
    figures = []
    for panel in table["panel"]:
        ax = compare.scatter(frame, panel, ax=new_axes(4.2, 4))
        figures.append(svg(ax.figure, f"This run's effects against the published ones, {panel}"))
    misread = compare.misreadings(frame)
    places = digits.decimals(misread["run"])
    settings = compare.differences(frame, run.manifest).to_dict("records")
    return dict(
        rows=table.to_dict("records"),
        figures=figures,
        misread=misread.to_dict("records"),
        places=places,
        settings=settings,
    )


def _reproduce(run):
    options = run.manifest["options"] | dict(
        revision=run.manifest.get("revision"), remote=run.manifest.get("server")
    )
    given = {"--model": run.model} | {
        f"--{name.replace('_', '-')}": value
        for name, value in options.items()
        if value not in (None, "auto", "end") and value is not False
    }
    # argparse takes a value that begins with a dash for an option; a flag has none.
    parts = ((name, "" if value is True else shlex.quote(str(value))) for name, value in given.items())
    command = " ".join(
        f"{name}={value}" if value.startswith("-") else f"{name} {value}".strip() for name, value in parts
    )
    facts = {
        name: value for name, value in run.manifest.items() if name not in ("options", "trials", "versions")
    }
    between = {"grid": " × "}
    facts = {
        name: between.get(name, ", ").join(map(str, value)) if isinstance(value, list) else value
        for name, value in facts.items()
    }
    trials = len(run.manifest["trials"])
    return dict(
        command=f"rgb-circuit run {command}",
        facts=facts | dict(trials=trials),
        versions=run.manifest["versions"],
    )


# Words and numbers.


def _signed(value, places=2):
    """A number with its sign, nothing where it rounds to zero; a dash where there is none."""
    text = digits.written(value, places)
    positive = text[0].isdigit() and float(text) > 0
    return f"+{text}" if positive else text.replace("-", "−")


def _percent(value):
    if value is None or not np.isfinite(value):
        return digits.MISSING
    number = f"{round(100 * float(value))}".replace("-", "−")
    return f"{number}\N{NO-BREAK SPACE}%"


def _small(value):
    """A probability, to two digits."""
    return digits.MISSING if pd.isna(value) else f"{value:.2g}"


def _area(value):
    """An area under a curve of fractions."""
    return digits.written(value, 2)


def _sentence(text):
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _interval(row, places):
    return (
        ""
        if pd.isna(row["ci_low"])
        else f" [{_signed(row['ci_low'], places)}, {_signed(row['ci_high'], places)}]"
    )


def _label(layer, head):
    return f"{layer}.{head}"


def _name(row):
    return _label(row["layer"], row["head"])


def _word(value):
    return None if value is None or pd.isna(value) else value


def _most_often(answers):
    if answers.empty:
        return None
    word, times = next(iter(answers.value_counts().items()))
    return dict(word=word, times=int(times), of=len(answers))


def _plural(role, count):
    return ROLE_NAMES[role] if count > 1 else ROLE_NAMES[role].removesuffix("s")


def _list(parts):
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _predictions(role):
    return [prediction.name for prediction in roles.HYPOTHESES[role][0]]


def _restored(name):
    """What a prediction restores, from where into which picture."""
    for predictions, _ in roles.HYPOTHESES.values():
        for prediction in predictions:
            if prediction.name == name:
                sweep = prediction.claims[0].sweep
                return f"{sweep.component}, {sweep.source} → {sweep.target}"
    return ""
