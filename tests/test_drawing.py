"""Any run ends in its report: every figure is drawn, whatever the number of panels, the shape of
the model, the numbers and the names."""

import csv
import io
import re

import matplotlib
import numpy as np
import pandas as pd
import pytest
import runs
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from analyses import report
from analyses.command import main
from analyses.report.embedded import SETTINGS, svg
from rgb_circuit import plots
from rgb_circuit.errors import NotDrawn
from rgb_circuit.models.random import random_llava
from rgb_circuit.models.small import save
from rgb_circuit.plots.canvas import brief, model_title

# Names that something else could take for its own: a folder, a format, a formula, a label to leave
# out, markup, a list.
LONG = "what somebody wrote without any thought for where it would have to fit, as people do"
CONDITIONS = ["left/right", "50%", "ß $x$", LONG + " in pictures"]
ROLES = ["_a", "<b>\"q'&amp;", r"a.b[0]{c}, $\frac$"]
PANELS = [(target, role) for role in ROLES for target in CONDITIONS]


def sweep(layers=2, heads=2, trials=3, panels=PANELS, size=1.0, gap=4.0):
    """As from `patch_heads`: effects wander around ``size``, and the first word falls by
    ``gap``."""
    rng, blocks = np.random.default_rng(0), []
    places = pd.DataFrame(np.ndindex(layers, heads), columns=["layer", "head"])
    for number in range(trials):
        for target, role in panels:
            about = dict(trial=str(number), source="clean", component="z", positions="end")
            logits = dict(source_logit=9.0, target_logit=9.0 - gap * (role == ROLES[0]))
            effect = size * (1 + rng.normal(size=len(places)))
            blocks.append(places.assign(target=target, role=role, effect=effect, **about, **logits))
    return pd.concat(blocks, ignore_index=True)


def which(panels):
    return {f"{role}, when {target}": (target, role) for target, role in panels}


def drawn(shown: Axes | Figure):
    """Draw it as a part of a page."""
    assert svg(shown.figure, "a figure").startswith("<svg")
    return shown.figure


@pytest.mark.parametrize("count", range(1, 13))
def test_any_number_of_panels_is_drawn_each_under_its_own_name(count):
    frame = sweep(1, 2, panels=PANELS[:count])
    figure = plots.panel_heatmaps(frame, "toy", which(PANELS[:count]))
    figure.draw_without_rendering()
    # One scale beside them.
    assert len(figure.axes) == count + 1
    titles = [ax.get_title().replace("\n", " ") for ax in figure.axes[:count]]
    assert titles == [
        f"{brief(role)} logit, {brief(target)} picture" for target, role in PANELS[:count]
    ]


def layers_frame(frame):
    # Groups of positions are never many.
    rows = frame[frame["head"] < 12].rename(columns={"head": "positions"})
    rows = rows.assign(component="resid_pre")
    return rows.loc[:, ~rows.columns.duplicated()].astype({"positions": str})


def lens_frame(frame):
    rows = frame.rename(columns={"target": "condition", "effect": "logit"}).drop(
        columns=["positions"]
    )
    rows = rows[rows["condition"] == CONDITIONS[0]]
    return rows.assign(component="z", position=0, answer="red", row=0, column=rows["head"])


def knocked(frame):
    rows = frame[frame["target"] == CONDITIONS[0]].rename(columns={"target": "condition"})
    return rows.assign(queries="end", keys=rows["head"].astype(str), window=1, logit=1.0)


def evidence(frame):
    rows = frame[frame["trial"] == "0"].drop_duplicates(["layer", "head"])
    ends = dict(
        ci_low=rows["effect"] - 1, ci_high=rows["effect"] + 1, restored_fraction=rows["effect"] / 4
    )
    about = dict(prediction="P9b", expected="none none", n=3, holds=False)
    return rows.assign(**ends, **about)


def through(frame):
    """Pairs of heads, as from `analyses.composition`."""
    rows = frame[frame["trial"] == "0"].drop_duplicates(["role", "layer", "head"])
    ends = dict(
        total_effect=1.0,
        mediated_effect=rows["effect"],
        share=rows["effect"],
        ci_low=0.1,
        ci_high=0.9,
        share_low=0.1,
        share_high=0.9,
    )
    heads = dict(
        sender_layer=rows["layer"], sender_head=rows["head"], receiver_layer=1, receiver_head=0
    )
    return rows.assign(**ends, **heads, n=3)


def curve(frame):
    rows = frame[frame["trial"] == "0"].drop_duplicates(["layer", "head"]).reset_index(drop=True)
    ends = {name: rows["effect"] for name in ("faithfulness", "ci_low", "ci_high")}
    ends |= {f"random_{name}": rows["effect"] for name in ("mean", "low", "high")}
    return rows.assign(size=rows.index, n=3, **ends)


def parts(frame):
    pairs = through(frame)
    return pd.concat(
        [pairs.assign(into=part) for part in ("query", "key", "value")], ignore_index=True
    )


def one(frame):
    return frame[(frame["target"] == CONDITIONS[0]) & (frame["role"] == ROLES[2])]


FIGURES = {
    "panel_heatmaps": lambda frame, model: plots.panel_heatmaps(frame, model, which(PANELS[:2])),
    "head_heatmap": lambda frame, model: plots.head_heatmap(one(frame), "effect", model),
    "layer_heatmaps": lambda frame, model: plots.layer_heatmaps(
        layers_frame(frame), model, role=ROLES[2]
    ),
    "knockout_lines": lambda frame, model: plots.knockout_lines(
        knocked(frame), model, role=ROLES[2]
    ),
    "lens_over_layers": lambda frame, model: plots.lens_over_layers(lens_frame(frame), model),
    "composition_map": lambda frame, model: plots.composition_map(through(frame), model, ROLES[2]),
    "composition_diagram": lambda frame, model: plots.composition_diagram(
        through(frame), through(frame), model, ROLES[2]
    ),
    "path_parts": lambda frame, model: plots.path_parts(parts(frame), model, ROLES[2]),
    "effect_forest": lambda frame, model: plots.effect_forest(evidence(frame), model, group="role"),
    "faithfulness_curve": lambda frame, model: plots.faithfulness_curve(curve(frame), model),
    "estimates_against_exact": lambda frame, model: plots.estimates_against_exact(
        frame.assign(method="atp"), frame, model
    ),
}
SHAPES = {
    "one layer, no gap": dict(layers=1, heads=3, gap=0.0),
    "one head in each layer, zeros": dict(layers=3, heads=1, size=0.0),
    "a single head": dict(layers=1, heads=1),
    "64 heads, one trial": dict(layers=1, heads=64, trials=1),
    "missing": dict(size=np.nan, trials=1),
}


@pytest.mark.parametrize("name", FIGURES)
# A correlation of one head, or of heads that all do the same, is not known.
@pytest.mark.filterwarnings("ignore:.*constant.*", "ignore:.*identical low and high.*")
def test_a_figure_is_drawn_whatever_its_shape_its_numbers_and_its_names(name):
    for shape, options in SHAPES.items():
        frame = sweep(**options)
        figure = drawn(FIGURES[name](frame, "/home/somebody/$models$/mine"))
        # A dollar is a dollar, and where a model lies on somebody's disk is nobody's business.
        written = figure.findobj(Text)
        assert not any(text.get_parse_math() for text in written if "$" in text.get_text()), shape
        said = " ".join(text.get_text() for text in written)
        assert "mine" in said and "somebody/" not in said, shape


def test_a_name_that_begins_with_an_underscore_is_in_the_legend():
    ax = plots.lens_over_layers(lens_frame(sweep()), "toy")
    labels = [text.get_text().strip() for text in ax.get_legend().get_texts()]
    assert labels == [brief(role) for role in ROLES]


def test_axes_that_were_given_keep_a_dollar_too():
    ax = Figure().add_subplot()
    plots.head_heatmap(one(sweep()), ax=ax)
    ax.figure.savefig(io.BytesIO(), format="png")
    assert "$" in ax.get_title()


@pytest.mark.parametrize(
    "name, title",
    [
        ("toy", "toy"),
        ("llava-hf/llava-1.5-7b-hf", "llava-hf/llava-1.5-7b-hf"),
        ("/home/somebody/models/mine/", "mine"),
        ("./mine", "mine"),
        ("../models/mine", "mine"),
        (r"C:\Users\somebody\mine", "mine"),
        ("", ""),
        (".", "."),
    ],
)
def test_of_a_models_folder_a_title_has_the_last_part(name, title):
    assert model_title(name) == title


def test_a_long_name_keeps_its_beginning_and_its_end():
    short = brief(LONG)
    assert (
        len(short) <= 28
        and LONG.startswith(short.split("…")[0])
        and LONG.endswith(short.split("…")[1])
    )
    assert brief("red") == "red" and brief(" two\nlines ") == "two lines"


# Whole runs


def trials_file(folder, pictures, words, trials, same=False):
    """Pairs of one's own: plain pictures, and the colours as words."""
    colors = ["red", "blue", "green", "yellow"]
    for color in colors:
        Image.new("RGB", (24, 24), color).save(folder / f"{color}.png")
    with open(folder / "trials.csv", "w", newline="") as file:
        table = csv.writer(file)
        named = [
            *(f"image:{name}" for name in CONDITIONS[:pictures]),
            *(f"answer:{name}" for name in words),
        ]
        table.writerow(["name", "question", "clean", *named])
        for number in range(trials):
            other = ["red"] * 3 if same else colors[1:]
            files = [f"{color}.png" for color in ("red", *other[:pictures])]
            table.writerow([f"../{number} 100%", "Which color", *files, *colors[: len(words)]])
    return str(folder / "trials.csv")


RUNS = {
    "four panels": (dict(layers=2, heads=2, kv_heads=2), 2, ["word 0", "word 1"], 2),
    "nine panels with odd names": (dict(layers=2, heads=2, kv_heads=2), 3, ROLES, 3),
    "one layer, one trial": (dict(layers=1, heads=4, kv_heads=4), 1, ROLES[:2], 1),
    "one head": (dict(layers=2, heads=1, kv_heads=1), 1, ["a"], 2),
    "64 heads": (
        dict(layers=1, heads=64, kv_heads=64, d_head=2, width=64),
        1,
        ["a", "b", "c", "d"],
        2,
    ),
    "nothing to restore": (dict(layers=2, heads=2, kv_heads=2), 2, ["a", "b"], 2),
}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.filterwarnings("ignore:trial .* has the same picture in")
def test_a_run_of_ones_own_pictures_ends_in_its_report(name, tmp_path, monkeypatch):
    shape, pictures, words, trials = RUNS[name]
    if "odd names" not in name:
        # Shapes and numbers are those of its figures; names stand everywhere.
        runs.sections(monkeypatch, "panels", "circuit", "reproduce")
    model = str(save(*random_llava(**shape), tmp_path / "model"))
    own = trials_file(tmp_path, pictures, words, trials, same=name == "nothing to restore")
    out = tmp_path / "run"
    assert main(["run", "-q", "--model", model, "--trials-file", own, "--out", str(out)]) == 0
    assert (out / "panels.png").stat().st_size > 1000
    page = re.sub("<script.*?</script>", "", (out / "report.html").read_text(), flags=re.DOTALL)
    panels = page.split('<section id="panels">')[1].split("</section>")[0]
    # Each map, and the bar that tells what their colours mean.
    assert panels.count("<svg role") == pictures * len(words) + 1
    # The pictures' folder stands where the command is, and nowhere else.
    assert str(tmp_path) not in page.split('<section id="reproduce"')[0]


def test_what_cannot_be_drawn_is_said_and_all_else_is_there(tmp_path, monkeypatch, capsys):
    runs.sections(monkeypatch, "heads", "panels")
    model = str(save(*random_llava(layers=1, heads=2, kv_heads=2), tmp_path / "model"))
    own, out = trials_file(tmp_path, 1, ["a", "b"], 2), tmp_path / "run"

    def broken(*arguments, **options):
        raise ZeroDivisionError("of all things")

    capsys.readouterr()
    with monkeypatch.context() as patched:
        patched.setattr("analyses.study.panel_heatmaps", broken)
        patched.setattr("analyses.report.sections.panels.head_heatmap", broken)
        assert main(["run", "-q", "--model", model, "--trials-file", own, "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and "Traceback" not in said
    assert "panels.png could not be drawn (ZeroDivisionError in test_drawing.py" in said
    assert (
        "of all things" in said
        and "1 more could not" in said
        and f"rgb-circuit report {out}" in said
    )
    # All else is there, and what was measured is not measured again.
    page = (out / "report.html").read_text()
    assert '<section id="heads">' in page and '<section id="panels">' not in page
    assert not (out / "panels.png").exists() and (out / "patch_heads.parquet").is_file()
    monkeypatch.setattr("rgb_circuit.loading.load", None)
    assert main(["report", "-q", str(out)]) == 0
    assert (out / "panels.png").is_file() and '<section id="panels">' in (
        out / "report.html"
    ).read_text()
    # A caller in Python meets an exception, after the page was written.
    monkeypatch.setattr("analyses.report.sections.panels.head_heatmap", broken)
    with pytest.raises(NotDrawn, match="the section “Effects” of the report could not be drawn"):
        report.write(out)


def test_settings_of_matplotlib_stay_as_they_were():
    before = dict(matplotlib.rcParams)
    assert "text.parse_math" in SETTINGS and before["text.parse_math"]
    plots.head_heatmap(one(sweep()))
    assert dict(matplotlib.rcParams) == before
