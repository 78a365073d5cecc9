"""The report says what the frames beside it say, for every kind of run, in one file that needs
nothing else."""

import io
import json
import re
import shlex
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pandas as pd
import pytest
import runs
from markupsafe import escape
from PIL import Image

import rgb_circuit as rgb
from analyses import color_extractor, report, roles, task_reading
from analyses.command import main
from analyses.report import embedded, head, sections
from analyses.report import run as a_run
from analyses.report.embedded import SETTINGS
from analyses.report.page import filled, known_sections
from analyses.report.sections import reproduce
from analyses.rgb import published as compare
from analyses.study import closer_look
from rgb_circuit.calls import panels
from rgb_circuit.calls.panels import PANELS
from rgb_circuit.measuring.measure import follow_all
from rgb_circuit.pictures.as_seen import as_seen
from rgb_circuit.plots.predictions import in_words
from rgb_circuit.stimuli import drawing
from rgb_circuit.trial import odd_tile

# Frames that a run of the game may lack.
OF_SOME_RUNS = ("answers", "strays", "hypotheses_calibration", "items", "item_looks")
ROLES = [hypothesis.name for hypothesis in roles.GAME.hypotheses]

# The sections of a run of the game without a calibration, on a model other than the published one.
GAME = [
    "heads", "pictures", "play", "items", "panels", "roles", "attention", "riddle", "composition",
    "paths", "circuit",
    "questions", "reproduce", "limits",
]  # fmt: skip
NOT_OF_OWN_PICTURES = {"riddle", "paths", "questions"}
VOID = {"meta", "img", "br", "link", "use", "path", "rect", "image", "hr", "input"}


class Page(HTMLParser):
    """What a page shows: the text of each section and the rows of each table, as lists of cells."""

    def __init__(self, text):
        super().__init__()
        self.open, self.sections, self.tables, self.links, self.names = [], {"": ""}, [], [], []
        self.section, self.drawing = "", 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.names.append(tag)
        self.links += [
            value for name, value in attributes.items() if name in ("src", "href", "xlink:href")
        ]
        if tag == "section":
            self.section = attributes["id"]
            self.sections[self.section] = ""
        self.drawing += tag == "svg"
        if tag == "table":
            self.tables.append((self.section, []))
        if tag == "tr":
            self.tables[-1][1].append([])
        if tag in ("td", "th"):
            self.tables[-1][1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        assert self.open.pop() == tag
        self.drawing -= tag == "svg"

    def handle_data(self, data):
        if self.drawing or {"style", "script"} & set(self.open):
            return
        self.sections[self.section] += data
        if "table" in self.open and {"td", "th"} & set(self.open):
            self.tables[-1][1][-1][-1] += data

    def rows(self, section, number=0):
        """The rows under the header of a section's table."""
        return [rows for name, rows in self.tables if name == section][number]


def unscripted(folder):
    """The page without its scripts and what they hold."""
    return re.sub(r"<script.*?</script>", "", (folder / "report.html").read_text(), flags=re.DOTALL)


def read(folder):
    return Page((folder / "report.html").read_text())


def run(folder, *arguments):
    assert main(["run", "--out", str(folder), *arguments]) == 0
    return folder


@pytest.fixture(scope="module")
def planted(planted_run, tmp_path_factory):
    """A copy that the whole file may write its page into again."""
    return shutil.copytree(planted_run, tmp_path_factory.mktemp("planted"), dirs_exist_ok=True)


@pytest.fixture(scope="module")
def toy(toy_run):
    return toy_run


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A run on pictures that are not the game's, in a trial whose name is not a harmless one."""
    folder = tmp_path_factory.mktemp("own")
    for name, color in (("plain", "red"), ("other", "green")):
        Image.new("RGB", (24, 24), color).save(folder / f"{name}.png")
    photograph = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(photograph).save(folder / "photograph.png")
    lines = [
        "name,question,clean,image:other,answer:right,answer:wrong,expected:clean,expected:other"
    ]
    for index, picture in enumerate(["plain", "photograph"] * 2):
        name = f"<script>alert({index})</script> $x_{index}"
        lines.append(f"{name},Which color,{picture}.png,other.png,red,green,right,wrong")
    (folder / "trials.csv").write_text("\n".join(lines))
    return run(folder / "run", "--trials-file", str(folder / "trials.csv"))


@pytest.fixture
def copy(planted, tmp_path):
    """The planted run, to change."""
    return shutil.copytree(planted, tmp_path / "copy")


def change(folder, name, edit):
    """Rewrite a frame and the report; the page."""
    frame = pd.read_parquet(folder / f"{name}.parquet")
    edit(frame)
    frame.to_parquet(folder / f"{name}.parquet", index=False)
    report.write(folder)
    return read(folder)


def number(text):
    return float(
        text.replace("−", "-").replace("≈", "").replace("\N{NO-BREAK SPACE}", "").strip("%")
    )


@pytest.mark.parametrize("name", ["planted", "toy", "own"])
def test_the_page_is_one_file(name, request):
    page = read(request.getfixturevalue(name))
    assert not page.open and "link" not in page.names
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert "svg" in page.names and "img" in page.names


@pytest.mark.parametrize("name", ["planted", "toy", "own"])
def test_ids_are_unique_and_links_inside_the_page_lead_somewhere(name, request):
    text = unscripted(request.getfixturevalue(name))
    names = re.findall(r'<section id="(\w+)"', text)
    assert len(names) == len(set(names)) > 6
    assert re.findall(r'<a href="#(\w+)"', text) == names
    # The same mark in two figures is the same drawing.
    drawn = {}
    for mark, body in re.findall(r'<path id="(\w+)"([^>]*)>', text):
        assert drawn.setdefault(mark, body) == body
    assert {mark for mark in re.findall(r'xlink:href="#(\w+)"', text)} <= set(drawn)


def test_figures_are_made_for_dark_pages_too(toy):
    """Colours are the page's own, and cells of a map end at whole pixels, or the page would shine
    through between them."""
    text = unscripted(toy)
    drawn = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert not any(
        color in figure.lower()
        for figure in drawn
        for color in ("#000000", "#fefefe", "#0072b2", "#d55e00")
    )
    assert all(f"{name}:" in text for name in set(re.findall(r"var\((--\w+)\)", text)))
    maps = [figure for figure in drawn if 'aria-label="Effect of restoring each head' in figure]
    assert len(maps) == 3
    cells = [
        re.findall(r'<g shape-rendering="crispEdges">(.*?)</g>', figure, re.DOTALL)
        for figure in maps
    ]
    assert all(
        max(group.count("<path") + group.count("<use") for group in groups) >= 16
        for groups in cells
    )


def test_writing_again_needs_no_model_and_gives_the_same_bytes(copy, monkeypatch):
    monkeypatch.setattr("rgb_circuit.loading.load", None)
    monkeypatch.setattr("rgb_circuit.programs.capture.capture", None)
    before = (copy / "report.html").read_bytes()
    (copy / "report.html").unlink()
    assert report.write(copy) == copy / "report.html"
    assert (copy / "report.html").read_bytes() == before


def test_the_verdict_names_the_planted_heads(planted):
    top = read(planted).sections[""]
    assert "The hypothesised circuit is present in planted" in top
    assert (
        "4 color extractors (3.0, 3.2, 4.1, 4.3), 1 POI head (2.1) and 2 background writers (1.3, "
        "5.2)" in top
    )


def test_the_verdict_on_the_toy_is_that_no_head_has_a_role(toy):
    page = read(toy)
    top = page.sections[""]
    assert (
        "The hypothesised circuit is incomplete in A <i>small</i> one: there is no POI head, and "
        "no color extractor is shown (3 heads are still open)" in top
    )
    assert re.search(
        r"Closest to a color extractor: 3\.\d restores \d+.% and lacks .*P2a \(undecided: ", top
    )
    assert "No head is shown to have a role." in page.sections["roles"]
    evidence = pd.read_parquet(toy / "evidence.parquet")
    nearest = roles.closest(evidence)
    shown = [row[0] for row in page.rows("roles", 1) if len(row) == 8][1:]
    assert [cell.split("nearest")[0] for cell in shown] == [
        f"{row.layer}.{row.head}" for row in nearest.itertuples()
    ]
    asked = evidence["prediction"].isin(
        [prediction.name for prediction in color_extractor.HYPOTHESIS.predictions]
    )
    states = set()
    for cell, row in zip(shown, nearest.itertuples()):
        states |= set(
            evidence[asked & (evidence["layer"] == row.layer) & (evidence["head"] == row.head)][
                "state"
            ]
        )
        own = evidence[(evidence["layer"] == row.layer) & (evidence["head"] == row.head)]
        holds = set(own.loc[own["holds"], "prediction"])
        wanted = color_extractor.HYPOTHESIS.slots
        held = sum(bool(holds & set(slot)) for slot in wanted)
        assert held < len(wanted) and f"{held} of {len(wanted)} hold" in cell
    assert (
        {"holds", "undecided"}
        <= states
        <= {re.sub(r"[^a-z].*", "", row[-6]) for row in page.rows("roles", 1)[1:] if len(row) >= 7}
    )


@pytest.mark.parametrize("name", ["planted", "toy"])
def test_every_number_of_the_role_table_is_in_the_frame(name, request):
    folder = request.getfixturevalue(name)
    frame = pd.read_parquet(folder / "evidence.parquet").set_index(["layer", "head", "prediction"])
    rows, head, seen = read(folder).rows("roles", 1)[1:], None, 0
    panels = pd.read_parquet(folder / "panels.parquet")
    # A ten-thousandth of the gap.
    least = 1e-4 * panels["gap"].max()
    for cells in rows:
        if re.match(r"\d+\.\d+", cells[0]):
            head = tuple(map(int, re.match(r"(\d+)\.(\d+)", cells.pop(0)).groups()))
        prediction, verdict, effect, *rest = cells
        wanted = frame.loc[(*head, prediction)]
        said = "void" if wanted["void"] else wanted["state"]
        assert verdict.startswith(said)
        if np.isfinite(wanted["trials_to_decide"]) and wanted["trials_to_decide"] < 10_000:
            assert verdict == f"{said}{wanted['trials_to_decide']:,.0f} trials"
        if np.isnan(wanted["effect"]):
            assert effect.startswith("not testable")
            continue
        interval, fraction, q, expected = rest
        told = wanted[["effect", "ci_low", "ci_high"]].tolist()
        if effect == "≈ 0":
            assert not interval and np.abs(told).max() <= least
        else:
            # Where the interval is as narrow as a digit it says nothing.
            ends = interval.strip("[]").split(", ") if interval else [effect, effect]
            said = [effect, *ends]
            decimals = len(effect.partition(".")[2])
            assert [number(one) for one in said] == pytest.approx(told, abs=0.51 * 10**-decimals)
            assert len(re.sub(r"\D", "", effect.lstrip("+−0."))) <= 3
        assert number(fraction) == pytest.approx(100 * wanted["restored_fraction"], abs=0.51)
        assert float(q) == pytest.approx(wanted["q_value"], rel=0.06)
        assert expected.startswith(in_words(wanted["expected"]))
        seen += 1
    # P1a to P1c, P2a to P2d; P3a, P3b, P4 to P7; P3a, P3b, P4w, P5w, P8. Of the toy's heads some
    # lack P2b or P2c.
    assert seen == 4 * 7 + 6 + 2 * 5 if name == "planted" else 3 * 6 <= seen <= 3 * 7


# Frame, the row in question (of several, the first), column, a value that stands out, and where and
# how it must show.
CHANGES = [
    ("play", "condition == 'moved'", "correct", False, "play", "92\N{NO-BREAK SPACE}%"),
    ("panels", "layer == 0 and head == 0", "effect", 77.3, "panels", "+77.3"),
    ("panels", "layer == 3 and head == 0", "ci_high", 88.3, "panels", "+88.3"),
    (
        "evidence",
        "layer == 4 and head == 1 and prediction == 'P1a'",
        "ci_low",
        -66.3,
        "roles",
        "−66.3",
    ),
    (
        "evidence",
        "layer == 4 and head == 1 and prediction == 'P1b'",
        "q_value",
        0.0678,
        "roles",
        "0.068",
    ),
    (
        "composition",
        "sender_layer == 2 and receiver_head == 0 and role == 'background'",
        "mediated_effect",
        55.3,
        "composition",
        "+55.3",
    ),
    (
        "mediation",
        "sender_layer == 2 and role == 'background'",
        "ci_low",
        44.3,
        "composition",
        "+44.3",
    ),
    (
        "paths",
        "into == 'key' and receiver_head == 0 and role == 'background'",
        "effect",
        33.3,
        "paths",
        "+33.3",
    ),
    ("circuit", "test == 'isolation'", "faithfulness", 0.333, "circuit", "33\N{NO-BREAK SPACE}%"),
    ("curve", "size == 5", "random_mean", 0.777, "circuit", "78\N{NO-BREAK SPACE}%"),
    ("stimuli", "condition == 'moved'", "expected", "mauve", "pictures", "mauve"),
]


def test_the_report_follows_its_frames(copy, monkeypatch):
    runs.sections(monkeypatch, *{section for *_, section, _ in CHANGES})
    before = read(copy).sections
    for name, where, column, value, *_ in CHANGES:
        frame = pd.read_parquet(copy / f"{name}.parquet")
        frame.loc[frame.query(where).index[0], column] = value
        frame.to_parquet(copy / f"{name}.parquet", index=False)
    report.write(copy)
    after = read(copy).sections
    for name, _, column, _, section, shown in CHANGES:
        assert shown not in before[section] and shown in after[section], (name, column)


def test_figures_and_attention_follow_their_frames(copy, monkeypatch):
    # What has its numbers from attention, the curve, and what is drawn beside them.
    of_interest = ("pictures", "attention", "composition", "circuit")
    runs.sections(monkeypatch, *of_interest)

    def figures():
        text = "".join(
            part
            for part in unscripted(copy).split("<section id=")
            if part.startswith(tuple(f'"{name}"' for name in of_interest))
        )
        # The drawing of the circuit says how much of their attention heads put on the place.
        return re.findall(r'<svg (?!class="circuit").*?</svg>', text, re.DOTALL), re.findall(
            r'src="(data:[^"]*)"', text
        )

    drawn, pictures = figures()

    attention = pd.read_parquet(copy / "attention.parquet").assign(attention=1 / 36)
    attention.to_parquet(copy / "attention.parquet", index=False)

    def half(table):
        table["faithfulness"] = 0.95 * table["size"] / table["size"].max()

    page = change(copy, "curve", half)
    assert "2.8\N{NO-BREAK SPACE}%" in page.sections["attention"]
    now, shown = figures()
    # The curve's own, and where heads look is in none.
    assert sum(one != other for one, other in zip(now, drawn, strict=True)) == 1
    assert shown != pictures


def test_the_words_that_a_head_looks_at_stand_beside_what_it_does(toy):
    looked = pd.read_parquet(toy / "question_attention.parquet")
    assert (looked["from_position"] == looked["to_position"].max()).all()
    for row in read(toy).rows("questions")[1:]:
        layer, head = map(int, row[0].split("."))
        words = looked[(looked["layer"] == layer) & (looked["head"] == head)].nlargest(
            2, "attention"
        )
        words = words[words["attention"] >= 0.05]
        shown = [
            f"“{one.to_word}” {round(100 * one.attention)}\N{NO-BREAK SPACE}%"
            for one in words.itertuples()
        ]
        assert row[-1] == (", ".join(shown) or "none")


def test_a_verdict_changes_with_the_roles(copy, monkeypatch):
    runs.sections(monkeypatch)
    table = pd.read_parquet(copy / "roles.parquet").replace({"role": {"POI localization": "none"}})
    table.to_parquet(copy / "roles.parquet", index=False)
    page = change(
        copy,
        "evidence",
        lambda frame: frame.loc.__setitem__(
            ((frame["prediction"] == "P3a") & (frame["layer"] == 2), ["holds", "state"]),
            [False, "refuted"],
        ),
    )
    assert "incomplete in planted: there is no POI head" in page.sections[""]


def test_a_model_that_answers_wrongly_is_not_judged(copy, monkeypatch):
    runs.sections(monkeypatch)
    page = change(
        copy, "play", lambda table: table.loc.__setitem__((slice(None), "correct"), False)
    )
    cannot = "planted does not play the game: it answers 0 of 60 pictures right"
    sentence = f"{cannot}, so nothing below shows what a head does"
    assert sentence in page.sections[""]


def test_a_model_is_judged_by_the_trials_that_are_not_left_out(copy, monkeypatch):
    runs.sections(monkeypatch)
    effects = pd.read_parquet(copy / "patch_heads.parquet")
    left = list(effects["trial"].unique()[:3])
    effects[effects["trial"].isin(left)].to_parquet(copy / "patch_heads.parquet", index=False)
    page = change(
        copy,
        "play",
        lambda table: table.loc.__setitem__((~table["trial"].isin(left), "correct"), False),
    )
    assert "does not play" not in page.sections[""] and "25\N{NO-BREAK SPACE}%" in page.sections[""]


def test_a_section_that_does_not_apply_is_neither_on_the_page_nor_in_its_navigation(
    own, planted, toy
):
    def sections_of(folder):
        page, text = read(folder), unscripted(folder)
        assert re.findall(r'<a href="#(\w+)"', text) == list(page.sections)[1:]
        return list(page.sections)[1:]

    assert sections_of(planted) == GAME
    # No extractor is known there, which the section on composition says.
    assert sections_of(toy) == [name for name in GAME if name != "paths"]
    left = [name for name in GAME if name not in NOT_OF_OWN_PICTURES]
    after = left.index("play") + 1
    assert sections_of(own) == [*left[:after], "accuracy", *left[after:]]


def test_own_pictures_get_a_report_that_says_that_roles_were_not_tested(own):
    page = read(own)
    assert (
        "produce the answers" in page.sections[""] and "find the odd tile" not in page.sections[""]
    )
    assert "Left out: Question" in page.sections[""]
    assert "Too few trials: there are 4" in page.sections["roles"]
    assert "pictures of one's own, and its task makes no claims" in page.sections[""]
    assert "“no role”" not in page.sections["limits"] and "calibrate" not in page.sections["limits"]
    assert (
        "--trials-file" in page.sections["reproduce"] and "--seed" not in page.sections["reproduce"]
    )
    assert len(page.rows("panels")) == 1 + 8


def test_a_section_that_applies_and_could_not_be_measured_says_why(planted):
    reasons = pd.read_parquet(planted / "left_out.parquet").set_index("frame")["reason"]
    assert f"\nNot measured: {reasons['task_reading']}.\n" in read(planted).sections["questions"]


def test_words_of_users_are_shown_and_not_run(own):
    text = unscripted(own)
    assert "<script" not in text and "&lt;script&gt;alert(0)&lt;/script&gt;" in text
    page = read(own)
    assert "<script>alert(0)</script> $x_0" in page.sections["pictures"]


def test_photographs_are_small_and_plain_pictures_exact(own, planted):
    kinds = [re.findall(r'src="data:image/(\w+);', unscripted(folder)) for folder in (own, planted)]
    assert "jpeg" in kinds[0] and set(kinds[1]) == {"png"}


@pytest.fixture(scope="module")
def renamed(planted, tmp_path_factory):
    """The planted run of a model whose name is not a harmless one, and of a task in other words."""
    folder = shutil.copytree(planted, tmp_path_factory.mktemp("renamed"), dirs_exist_ok=True)
    manifest = json.loads((folder / "manifest.json").read_text())
    task, manifest["model"] = manifest["task"], "<b>$mine$</b>"
    for about in task["conditions"].values():
        about["says"] = "what is mine"
    task |= dict(name="mine", says="my game", asks="see what is mine", place="my tile")
    task["hypotheses"]["color extractor"] |= dict(plural="readers", says="reads what is mine")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    report.write(folder)
    return folder


def test_the_name_of_a_model_is_shown_and_not_run(renamed):
    text = unscripted(renamed)
    assert "<b>" not in text and "&lt;b&gt;$mine$&lt;/b&gt;" in text
    assert "--model &#39;&lt;b&gt;$mine$&lt;/b&gt;&#39;" in text


def calibrate(folder):
    """Put a calibration into a run's folder."""
    ends = dict(precision_low=0.52, precision_high=1.0, recall_low=0.31, recall_high=0.94)
    counts = dict(models=5, true=7, given=6, right=5, precision=5 / 6, recall=5 / 7, testable=6)
    known = [
        dict(reading=reading, role=role, noise=noise) | counts | ends
        for reading in ("roles", "attention")
        for role in ROLES
        for noise in (0.0, 0.5)
    ]
    counts = dict(reading="roles", models=5, models_with_a_role=2, heads=80, heads_with_a_role=3)
    false = [
        dict(kind=kind, testable=testable, informative=testable >= 64) | counts
        for kind, testable in (("random", 80), ("exchanged", 32))
    ]
    pd.DataFrame(known).to_parquet(folder / "calibration_summary.parquet")
    pd.DataFrame(false).to_parquet(folder / "calibration_false.parquet")


def test_calibration_is_shown_where_it_is(copy, monkeypatch):
    runs.sections(monkeypatch, "calibration", "limits")
    assert (
        "How often such verdicts are right was not measured here" in read(copy).sections["limits"]
    )
    calibrate(copy)
    report.write(copy)
    page, space = read(copy), "\N{NO-BREAK SPACE}"
    rows = page.rows("calibration")[1:]
    assert [row[0] for row in rows] == [role for role in ROLES for _ in range(2)]
    assert rows[0][2:] == [
        "7",
        "6",
        "5",
        f"83{space}% [52{space}%, 100{space}%]",
        f"71{space}% [31{space}%, 94{space}%]",
    ]
    # Of the second kind too few heads could have been given a role for the rate to say anything.
    assert page.rows("calibration", 1)[1:] == [
        ["random weights, fitted readout", "roles", "80", "80", "3"],
        [
            "planted, changed pictures exchanged within trials",
            "roles",
            "80",
            "32",
            "not informative",
        ],
    ]
    assert f"Of {7 * 2 * len(ROLES)} heads with a role" in page.sections["calibration"]
    assert "not measured here" not in page.sections["limits"]


def publish(folder):
    """Give a run's folder the published effects."""
    table = compare.published()
    about = dict(
        source="clean", component="z", positions="end", source_logit=10.0, target_logit=0.0
    )
    effects = pd.concat(
        [
            table[["layer", "head"]].assign(
                trial=f"{trial}",
                target=target,
                role=role,
                answer=role,
                effect=table[panel],
                patched_logit=table[panel],
                **about,
            )
            for trial in range(2)
            for panel, (target, role) in PANELS.items()
        ]
    )
    effects.to_parquet(folder / "patch_heads.parquet", index=False)
    panels.tested(effects, PANELS).to_parquet(folder / "panels.parquet", index=False)


def test_a_run_of_the_published_geometry_is_compared(copy, monkeypatch):
    runs.sections(monkeypatch, "panels", "published")
    publish(copy)
    report.write(copy)
    page = read(copy)
    assert [row[1:4] for row in page.rows("published")[1:]] == [["+1.00", "+1.00", "10 of 10"]] * 3
    assert {"18.6", "19.6", "14.8", "15.8"} <= {row[1] for row in page.rows("published", 1)[1:]}
    assert "Each of 1,024 heads" in page.sections["panels"]


def test_the_command_is_one_that_gives_the_run_again(tmp_path, monkeypatch):
    runs.undrawn(monkeypatch)
    folder = run(
        tmp_path / "run",
        "--model",
        "planted",
        "--trials",
        "2",
        "--seed",
        "5",
        "--positions",
        "5,-1",
    )
    known = a_run.read(folder, [known_sections()["reproduce"].needs])
    (command,) = re.findall(
        r"<pre>rgb-circuit (run .*)</pre>", filled(known_sections()["reproduce"], known)["body"]
    )
    assert command == "run --model planted --positions 5,-1 --trials 2 --seed 5"


@pytest.mark.parametrize(
    "name", ["manifest.json", "play.parquet", "panels.parquet", "left_out.parquet"]
)
def test_a_folder_that_lacks_a_part_is_refused_in_a_sentence(copy, name):
    (copy / name).unlink()
    with pytest.raises(rgb.InputError, match=f"holds no {name}"):
        report.write(copy)


def test_half_of_a_pair_of_frames_is_left_out(copy, monkeypatch):
    runs.sections(monkeypatch, "roles", "composition")
    (copy / "evidence.parquet").unlink()
    (copy / "mediation.parquet").unlink()
    report.write(copy)
    page = read(copy)
    for section in ("roles", "composition"):
        assert "This folder holds no" in page.sections[section]
    assert "its role was not tested" in page.sections[""]


def test_a_frame_that_lacks_a_column_is_refused(copy):
    pd.read_parquet(copy / "curve.parquet").drop(columns="random_low").to_parquet(
        copy / "curve.parquet"
    )
    with pytest.raises(rgb.InputError, match="lacks the column random_low"):
        report.write(copy)


# Sections

NEW = """
from ..run import Needs
from ..section import Section

SECTION = Section(
    order=25,
    link="Words",
    title="What {{ run.model }} said",
    needs=Needs({"play": "answer", "words": "heard"}),
    values=lambda run: dict(words=sorted(set(run.frames["play"]["answer"]))),
    fragment="<p>Only {{ words | join(' & ') }}, {{ 0.5 | percent }}.</p>",
)
"""


def test_a_section_is_added_by_adding_its_file(copy, tmp_path, monkeypatch):
    before = read(copy).sections
    (tmp_path / "added").mkdir()
    (tmp_path / "added" / "words.py").write_text(NEW)
    monkeypatch.setattr(sections, "__path__", [*sections.__path__, str(tmp_path / "added")])
    others = ["pictures", "play", "items", "composition", "limits"]
    runs.sections(monkeypatch, "words", *others)
    with pytest.raises(rgb.InputError, match="holds no words.parquet"):
        report.write(copy)
    pd.DataFrame({"said": ["red"]}).to_parquet(copy / "words.parquet")
    with pytest.raises(rgb.InputError, match="words.parquet lacks the column heard"):
        report.write(copy)
    pd.DataFrame({"heard": ["red"]}).to_parquet(copy / "words.parquet")
    report.write(copy)
    monkeypatch.delitem(sys.modules, f"{sections.__name__}.words")
    after = read(copy).sections
    assert list(after)[1:] == [*others[:3], "words", *others[3:]]
    words = " & ".join(sorted(set(pd.read_parquet(copy / "play.parquet")["answer"])))
    said = f"What planted said\nOnly {words}, 50\N{NO-BREAK SPACE}%."
    assert after.pop("words").strip() == said
    assert '<a href="#words">Words</a>' in (copy / "report.html").read_text()
    # But for the navigation in the head of the page, the rest is as it was.
    assert all(after[name] == before[name] for name in others)


def test_a_section_is_on_the_page_where_the_task_has_what_it_needs(
    own, copy, tmp_path, monkeypatch
):
    (tmp_path / "added").mkdir()
    asking = NEW.replace('"words": "heard"}', '}, task=("second_question",)')
    (tmp_path / "added" / "asking.py").write_text(asking)
    monkeypatch.setattr(sections, "__path__", [*sections.__path__, str(tmp_path / "added")])
    without = shutil.copytree(own, tmp_path / "own")
    assert "Left out" not in read(copy).sections[""]
    runs.sections(monkeypatch, "asking", "questions")
    for folder in (copy, without):
        report.write(folder)
    assert "asking" in read(copy).sections and "Left out" not in read(copy).sections[""]
    page = read(without)
    assert "asking" not in page.sections
    assert "Left out: Words, Question" in page.sections[""]


def test_the_marked_tile_stands_out_or_is_the_trials_own_in_every_picture():
    def marked(trial):
        return embedded.marked_tiles(trial.images, trial.tile, (6, 6))

    game = rgb.rgb_trial(tile=(2, 3), grid=6)
    found = marked(game)
    assert found["clean"] == found["recolored"] == (2, 3)
    assert found["erased"] is None and found["moved"] not in (None, (2, 3))
    # One dot alone stands out, and is not the one that is added.
    dots = drawing.trials(rgb.load("talker"), "counting", 2, number="1")
    for trial in dots:
        assert set(marked(trial).values()) == {tuple(trial.tile)}
        assert odd_tile(trial.images["clean"], 6) not in (None, tuple(trial.tile))
    assert set(embedded.marked_tiles(game.images, None, (6, 6)).values()) == {None}


def test_settings_are_written_as_a_person_would(planted):
    digest = "0123456789ab" + 52 * "c"
    for value, said in [
        (None, "–"), (True, "yes"), (245_000, "245,000"), (0.48145466, "0.481"),
        (digest, "0123456789ab…"),
        ({"crop_size": {"height": 24}, "do_resize": False}, "crop size: height: 24; do resize: no"),
        (["red", "green"], "red, green"),
    ]:  # fmt: skip
        assert reproduce._written("what", value) == said
    page = read(planted).sections["reproduce"]
    assert "{'" not in page and "manifest.json has them in full" in page
    run = a_run.read(planted, [known_sections()["reproduce"].needs])
    options = run.manifest["options"] | dict(name="a long name " * 9)
    written = reproduce._arguments(replace(run, manifest=run.manifest | dict(options=options)))
    assert all(line.startswith("    --") for line in written.split("\n")[1:])
    assert shlex.split(written.replace("\\\n", ""))[:3] == ["--model", "planted", "--name"]


def test_a_page_is_written_again_in_the_words_of_the_manifests_task(renamed):
    """No model, no task that ships and no task file is asked."""
    page = read(renamed)
    # Of a name with a slash the last part is said.
    assert "Which attention heads of b> see what is mine?" in page.sections[""]
    assert "4 readers (" in page.sections[""] and "color extractor" not in page.sections[""]
    assert "A reader reads what is mine." in page.sections["roles"]
    assert "; my tile is outlined" in page.sections["pictures"]
    assert "attention to my tile" in page.sections["heads"]
    assert ["task", "my game"] in page.rows("reproduce")
    # Of what other heads do, that section has words that were left as they were.
    del page.sections["roles"]
    assert not any("odd tile" in text for text in page.sections.values())


@pytest.fixture(scope="module")
def whole(planted, tmp_path_factory):
    """The planted run with a calibration, knockout and layers, and as if somebody had written its
    claims down, so that all is there but the comparison with the published."""
    folder = shutil.copytree(planted, tmp_path_factory.mktemp("whole"), dirs_exist_ok=True)
    calibrate(folder)
    with pytest.MonkeyPatch.context() as patched:
        runs.sections(patched)
        for flow in ("knockout", "layers"):
            assert main([flow, str(folder)]) == 0
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["registered"] = {"hash": "0123456789abcdef", "file": "", "after": []}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="module")
def published(planted, tmp_path_factory):
    """The planted run with the published effects."""
    folder = shutil.copytree(planted, tmp_path_factory.mktemp("published"), dirs_exist_ok=True)
    publish(folder)
    return folder


def named(needs):
    """Frame → the columns of it that a part of the page names."""
    frames = {}
    for group in needs.groups:
        for name, columns in group.items():
            frames.setdefault(name, []).extend(columns.split())
    return frames


def only(run, needs):
    """The run with nothing but the frames and columns that a part of the page names."""
    left = {name: list(columns) for name, columns in named(needs).items() if name in run.frames}
    for name, columns in named(a_run.NEEDS).items():
        left.setdefault(name, []).extend([*columns, "rounding"] if name == "panels" else columns)
    left.pop("left_out", None)
    return replace(
        run,
        frames={
            name: run.frames[name][list(dict.fromkeys(columns))] for name, columns in left.items()
        },
    )


def written(section):
    """A section below its headline, as it stands in a page."""
    gist = f' <span class="gist">{escape(section["gist"])}</span>' if section["gist"] else ""
    return f"<h2>{section['title']}</h2>{gist}</summary>\n{section['body']}"


def test_a_section_is_made_of_the_frames_and_columns_that_it_names(
    planted, whole, toy, own, published
):
    known, measured = known_sections(), set()
    for folder in (whole, toy, own, published):
        run = a_run.read(folder, [head.NEEDS, *(section.needs for section in known.values())])
        assert head.values(only(run, head.NEEDS)) == head.values(run)
        page = ((planted if folder == whole else folder) / "report.html").read_text()
        with matplotlib.rc_context(SETTINGS):
            for name, section in known.items():
                # The rest is as in the planted run.
                if folder == published and name != "published":
                    continue
                less = filled(section, only(run, section.needs))
                # A page was made of the whole run.
                if not (less and less["body"] and written(less) in page):
                    assert less == filled(section, run), name
                if less and not less["why_not"]:
                    measured.add(name)
    assert measured == set(known)


def test_a_frame_that_lacks_columns_that_a_section_names_is_refused_in_a_sentence(
    whole, tmp_path, monkeypatch
):
    copy = shutil.copytree(whole, tmp_path / "copy")
    asking = {"the page": a_run.NEEDS, "its head": head.NEEDS}
    asking |= {name: section.needs for name, section in known_sections().items()}
    refused = 0
    for part, needs in asking.items():
        for name, columns in named(needs).items():
            if not (path := copy / f"{name}.parquet").is_file():
                assert name in (*OF_SOME_RUNS, "task_reading", "question_attention"), part
                continue
            frame = pd.read_parquet(path)
            frame.drop(columns=columns).assign(other=0).to_parquet(path)
            with pytest.raises(rgb.InputError, match=f"{name}.parquet lacks the column") as raised:
                report.write(copy)
            listed = re.search(r"lacks the columns? (.*);", str(raised.value)).group(1).split(", ")
            assert set(listed) == set(columns), (part, name)
            frame.to_parquet(path)
            refused += 1
    assert refused > 20
    # With all of them back nothing is refused; that is found out before anything is drawn.
    monkeypatch.setattr("analyses.report.page.filled", lambda section, run: None)
    report.write(copy)


def test_a_manifest_that_lacks_a_part_is_refused(copy):
    (copy / "manifest.json").write_text('{"model": "planted", "dtype": "float32", "options": {}}')
    with pytest.raises(rgb.InputError, match="lacks trials, versions, layers, heads"):
        report.write(copy)


# What a run writes for it


def test_what_a_closer_look_writes_is_what_the_calls_give(planted):
    model = rgb.load("planted")
    trials = rgb.rgb_trials(model, 12)
    stimuli = pd.read_parquet(planted / "stimuli.parquet")
    assert list(stimuli["trial"].unique()) == [trial.name for trial in trials[:3]]
    for row in stimuli.itertuples():
        trial = next(trial for trial in trials if trial.name == row.trial)
        shown = Image.open(io.BytesIO(row.png))
        assert shown.tobytes() == as_seen(model, trial.images[row.condition]).tobytes()
        assert row.prompt == trial.prompt and row.unseen is None
        assert row.expected == trial.answers[trial.expected[row.condition]]
    attention = pd.read_parquet(planted / "attention.parquet")
    assert set(zip(attention["layer"], attention["head"])) == {
        (3, 0),
        (3, 2),
        (4, 1),
        (4, 3),
        (2, 1),
        (1, 3),
        (5, 2),
    }
    on_tile = attention[(attention["layer"] == 2) & (attention["condition"] == "clean")]
    for trial in trials[:3]:
        rows = on_tile[on_tile["trial"] == trial.name]
        peak = rows.loc[rows["attention"].idxmax()]
        assert (peak["row"], peak["column"]) == trial.tile and peak["attention"] > 0.99
    mediation = pd.read_parquet(planted / "mediation.parquet").query("role == 'background'")
    shares = dict(
        zip(zip(mediation["sender_layer"], mediation["sender_head"]), mediation["share"].round(3))
    )
    assert shares == {(1, 3): 0, (2, 1): 1, (5, 2): 0} and set(mediation["n"]) == {6}
    paths = pd.read_parquet(planted / "paths.parquet").query("role == 'background'")
    told = paths[paths["effect"].abs() > 0.01]
    assert set(zip(told["into"], told["sender_layer"], told["sender_head"])) == {("query", 2, 1)}
    # The extractor, and the pair that does the same; not the one that finds the mark by itself.
    assert set(zip(told["receiver_layer"], told["receiver_head"])) == {(3, 0), (4, 1), (4, 3)}
    assert pd.read_parquet(planted / "left_out.parquet")["frame"].tolist() == [
        "strays",
        "task_reading",
        "question_attention",
    ]


def test_panel_effects_are_means_with_their_intervals(planted):
    effects = pd.read_parquet(planted / "patch_heads.parquet")
    frame = pd.read_parquet(planted / "panels.parquet")
    assert len(frame) == 3 * 24 and (frame["n"] == 12).all()
    row = frame[
        (frame["panel"] == "background, when erased") & (frame["layer"] == 2) & (frame["head"] == 1)
    ].iloc[0]
    assert row["ci_low"] <= row["effect"] <= row["ci_high"] and row["effect"] == pytest.approx(
        20, abs=0.01
    )
    mean = effects[(effects["target"] == "erased") & (effects["role"] == "background")]
    mean = mean.groupby(["layer", "head"])["effect"].mean()
    own = frame[frame["panel"] == "background, when erased"].set_index(["layer", "head"])["effect"]
    assert own.to_dict() == pytest.approx(mean.to_dict())


def looks(model, trials, effects):
    return follow_all(
        model, closer_look.steps(model, trials, roles.GAME, effects, PANELS, None), progress=False
    )


def test_what_cannot_be_measured_says_why(planted):
    model = rgb.load("planted")
    found = looks(model, rgb.rgb_trials(model, 2), pd.read_parquet(planted / "patch_heads.parquet"))
    reasons = {
        name: str(reason) for name, reason in found.items() if isinstance(reason, rgb.InputError)
    }
    assert set(found) - set(reasons) == {
        "stimuli",
        "attention",
        "sweeps",
        "looks",
        "direct_effects",
        "steering",
    }
    assert "there are 2 trials" in reasons["task_reading"]
    assert "needs 4 trials, and there are 2" in reasons["curve"]


def test_a_large_model_is_asked_about_its_question_at_the_end_only(monkeypatch):
    monkeypatch.setattr(closer_look, "QUESTION_HEADS", 15)
    model = rgb.load("toy")
    trials = rgb.rgb_trials(model, 8)
    found = looks(model, trials, rgb.patch_heads(model, trials, progress=False))
    assert set(found["task_reading"]["prediction"]) == {task_reading.PREDICTIONS["end"]}


def test_a_page_without_pictures_holds_none_and_says_so(two_trials_run, tmp_path, monkeypatch):
    folder = shutil.copytree(two_trials_run, tmp_path / "run")
    parts = (folder / "report.html").read_text().split('<section id="')[1:]
    runs.sections(monkeypatch, *(part.split('"')[0] for part in parts if "data:image" in part))
    runs.without_figures(monkeypatch)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert main(["run", *runs.TWO_TRIALS, "--no-pictures", "--out", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    assert "Pictures were left out of this page" in page
    # A plain canvas has no tile to be outlined.
    shown = pd.read_parquet(folder / "stimuli.parquet").set_index("condition")["png"]["erased"]
    first = embedded.data_uri(Image.open(io.BytesIO(shown.iloc[0])).convert("RGB"))
    assert first in (two_trials_run / "report.html").read_text() and first not in page
    assert main(["run", *runs.TWO_TRIALS, "--out", str(folder)]) == 0
    assert json.loads((folder / "manifest.json").read_text())["options"] == manifest["options"]
    assert first in (folder / "report.html").read_text()
