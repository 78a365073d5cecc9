"""What stands on the page's first screen is what the frames and the states of evidence say."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from browser import browser, opened

from analyses.report import head, parts
from analyses.report import run as a_run
from analyses.report.drawing import drawing

SPACE = "\N{NO-BREAK SPACE}"


@pytest.fixture(scope="module")
def planted(planted_run):
    return a_run.read(planted_run, [head.NEEDS])


def changed(run, **frames):
    return replace(run, frames={**run.frames, **frames})


def texts(drawing, kind):
    return re.findall(rf'<text class="{kind}"[^>]*>(.*?)</text>', drawing)


def test_the_numbers_of_the_drawing_are_the_frames(planted):
    drawing, frames = head.values(planted)["circuit"], planted.frames
    roles = frames["roles"]
    own = roles[roles["role"] != "none"]
    drawn = re.findall(
        r'href="#head=(\d+)\.(\d+)"><text[^>]*><tspan[^>]*>([\d.]+)</tspan> ([^<]+)<', drawing
    )
    assert {(int(layer), int(number), does) for layer, number, _, does in drawn} == {
        (row.layer, row.head, f"+{100 * row.score:.0f}{SPACE}%") for row in own.itertuples()
    }
    found, arrows = parts.parts_of(planted)
    assert {part.name for part in found if part.heads} == set(own["role"])
    direct = frames["direct_effects"].set_index(["layer", "head"])
    for part in found:
        heads = [tuple(map(int, name.split("."))) for name, _ in part.heads]
        written = direct.loc[direct.index.isin(heads)]
        most = written.loc[written["direct_effect"].abs() == written["direct_effect"].abs().max()]
        said = [line for line in part.says if line.startswith("direct effect")]
        assert part.writes == bool(said) == (most["direct_effect"].abs().max() > 0.01)
        if said:
            assert f"“{most['role'].iloc[0]}”" in said[0]
            assert float(said[0].split()[-2]) == pytest.approx(
                most["direct_effect"].iloc[0], abs=0.05
            )
    (arrow,) = arrows
    together = frames["mediation"].query(
        "sender_layer == 2 and sender_head == 1 and role == 'background'"
    )
    assert (arrow.start, arrow.end) == ("POI localization", "color extractor")
    share = f"{100 * together['share'].item():.0f}{SPACE}%"
    assert arrow.says.startswith(f"{share} of its effect on “background”, through their query")


def test_the_answers_beside_the_pictures_are_those_that_were_played(planted):
    shown = head.values(planted)["pictures"]
    play = planted.frames["play"].assign(trial=lambda frame: frame["trial"].astype(str))
    play = play[play["trial"] == shown[0]["trial"]].set_index("condition")
    assert [one["condition"] for one in shown] == ["clean", planted.task.corrupted]
    for one in shown:
        assert (one["answer"], one["correct"]) == tuple(
            play.loc[one["condition"], ["answer", "correct"]]
        )
    wrong = planted.frames["play"].assign(correct=False, answer="mauve")
    assert [
        (one["answer"], one["correct"])
        for one in head.values(changed(planted, play=wrong))["pictures"]
    ] == [("mauve", False)] * 2


@pytest.mark.parametrize(
    "state, sentence, box",
    [
        ("refuted", "is incomplete in planted: there is no POI head", "refuted for every head"),
        (
            "undecided",
            "is not shown to be complete in planted: no POI head is shown",
            "not shown: 1 head is open",
        ),
    ],
)
def test_what_is_said_follows_from_the_states(planted, state, sentence, box):
    evidence = planted.frames["evidence"].copy()
    asked = (evidence["prediction"] == "P4") & (evidence["layer"] == 2) & (evidence["head"] == 1)
    evidence.loc[asked, ["holds", "state"]] = [False, state]
    run = changed(planted, evidence=evidence)
    values = head.values(run)
    assert sentence in values["verdict"]
    drawing = values["circuit"]
    assert f'<g class="{state}">' in drawing and box in " ".join(texts(drawing, "plain"))
    # Nothing is claimed to run from a head that has no role.
    assert 'tspan class="name">2.1' in drawing if state == "undecided" else "2.1" not in drawing
    assert "of its effect on" not in drawing
    assert "dashed" in values["legend"] and "dashed" not in head.values(planted)["legend"]


def test_too_few_trials_for_any_head_are_called_so(planted):
    shown = planted.frames["evidence"]
    evidence = shown.assign(holds=False, state="undecided")
    few = head.values(changed(planted, evidence=evidence.assign(n=9)))["more"]
    assert "too few to confirm one head alone, at a false discovery rate" in few
    # Ten are enough among 24 heads.
    assert "too few" not in head.values(changed(planted, evidence=evidence.assign(n=10)))["more"]
    # Several heads together may be shown by fewer than one alone takes.
    assert "too few" not in head.values(changed(planted, evidence=shown.assign(n=9)))["more"]


def test_without_roles_the_strongest_heads_are_drawn_and_nothing_between_them(planted):
    frames = {
        name: frame for name, frame in planted.frames.items() if name not in ("roles", "evidence")
    }
    (part,), arrows = parts.parts_of(replace(planted, frames=frames))
    panels = planted.frames["panels"]
    size = (panels["effect"] / panels["gap"]).abs().groupby([panels["layer"], panels["head"]]).max()
    assert [name for name, _ in part.heads][:2] == [
        f"{layer}.{number}" for layer, number in size.nlargest(2).index
    ]
    assert part.heads[0][1] == f"+{100 * size.max():.0f}{SPACE}%"
    assert not arrows and not part.writes
    nothing = changed(planted, panels=panels.assign(effect=0.0, told=False))
    frames = {
        name: frame for name, frame in nothing.frames.items() if name not in ("roles", "evidence")
    }
    (part,), _ = parts.parts_of(replace(nothing, frames=frames))
    assert not part.heads and "none has an effect" in part.says[0]


def test_an_arrow_to_the_answer_passes_beside_the_boxes_below(planted):
    (first, *_), _ = parts.parts_of(planted)
    for count in (1, 2, 4, 5, 6):
        writers = [
            replace(first, name=f"role {number}", writes=True, sends=False)
            for number in range(count)
        ]
        drawn = drawing(writers, [], "the answer")
        sides = [rf'{side}="([\d.]+)"' for side in ("x", "y", "width", "height")]
        found = re.findall(f'<rect {" ".join(sides)} rx="7" style', drawn)
        boxes = [tuple(map(float, box)) for box in found]
        falls = re.findall(r'd="M[\d.]+ ([\d.]+)C.*? ([\d.]+) [\d.]+(?:V[\d.]+)?" marker', drawn)
        assert len(boxes) == len(falls) == count
        for start, x in ((float(y), float(x)) for y, x in falls):
            below = [box for box in boxes if box[1] >= start]
            assert not [box for box in below if box[0] < x < box[0] + box[2]]


def test_links_unfold_their_sections_and_paper_unfolds_all(planted_run):
    with browser() as chromium:
        page = opened(chromium, planted_run / "report.html")
        folded = "[...document.querySelectorAll('main details:not([open])')].length"
        is_open = "id => document.querySelector(`#${id} > details`).open"
        before = page.evaluate(folded)
        assert before > 5 and not page.evaluate(is_open, "pictures")
        page.click("nav a[href='#pictures']")
        page.wait_for_function(f"({is_open})('pictures')")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate(folded) == 0
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.evaluate(folded) == before - 1
        # The first screen is one.
        bottom = "document.querySelector('header').getBoundingClientRect().bottom + scrollY"
        page.set_viewport_size({"width": 1400, "height": 900})
        assert page.evaluate(bottom) <= 900
        assert not page.errors


@pytest.mark.parametrize("told", [False, True])
def test_the_largest_effect_is_named_only_where_it_is_shown(told):
    rows = [(0, 0, 0.001), (0, 1, -0.03)]
    table = pd.DataFrame(rows, columns=["layer", "head", "effect"]).assign(
        target="other", role="right", gap=np.nan, ci_low=-0.06, ci_high=-0.01, told=told
    )
    said = head._strongest(SimpleNamespace(manifest=dict(layers=1, heads=2)), table)
    if told:
        assert "head 0.1 moves the logit of the answer “right” by −0.03" in said
    else:
        assert said.replace(SPACE, " ") == (
            "Restored alone, no head is shown to move the logit of any answer by 5 % of the gap or "
            "0.025 logits or more."
        )
