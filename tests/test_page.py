"""The page to click shows what the frames say, whatever is clicked, in a real browser."""

import csv
import io
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote_plus

import families
import large
import numpy as np
import pandas as pd
import pytest
import runs
import tables
from browser import browser, opened
from PIL import Image

import rgb_circuit as rgb
from analyses import report
from analyses.command import main
from analyses.report import explorer
from analyses.report.run import Run
from analyses.report.sections.attention import _even
from analyses.study import every_head
from analyses.study.every_head import Attended
from rgb_circuit.calls import panels
from rgb_circuit.calls.attention import attention_from_end, over_picture
from rgb_circuit.keeping.manifest import manifest
from rgb_circuit.measuring.measure import measure
from rgb_circuit.prompts import prompt_ids

# Half a unit in the last of four digits.
DIGITS = dict(rel=5.1e-4, abs=1e-12)
NOTHING = "No head is shown to have an effect here."


@pytest.fixture(scope="module")
def toy(toy_run):
    return toy_run


@pytest.fixture(scope="module")
def planted(planted_run):
    return planted_run


@pytest.fixture(scope="module")
def big(planted, tmp_path_factory):
    """1,024 heads and 32 trials."""
    folder = large.grow(planted, tmp_path_factory.mktemp("large") / "run")
    report.write(folder)
    return folder


@pytest.fixture(scope="module")
def _chromium():
    with browser() as one:
        yield one


@pytest.fixture
def chromium(_chromium):
    """The browser; its pages are closed after each test, or all of them would go on drawing."""
    yield _chromium
    for context in _chromium.contexts:
        context.close()


class Frames:
    """The frames in a run's folder, each read when it is first asked for."""

    def __init__(self, folder):
        self.folder = folder

    def __getattr__(self, name):
        frame = pd.read_parquet(self.folder / f"{name}.parquet")
        setattr(self, name, frame)
        return frame


def same(shown, wanted):
    """Whether a page's numbers are a frame's, to its four digits; None stands for a missing one."""
    return np.allclose(
        np.array(shown, float), wanted.to_numpy(float), DIGITS["rel"], DIGITS["abs"], equal_nan=True
    )


def inside(folder):
    """What a page holds, unpacked: its data, and per picture the bytes of where heads look."""
    text = (folder / "report.html").read_text()
    held = dict(
        re.findall(r'<script type="text/plain" id="explore-([\w-]+)">([^<]*)</script>', text)
    )
    data = json.loads(explorer.unpacked(held.pop("data")))
    looks = [name for name in held if name.startswith("look-")]
    return data, [explorer.unpacked(held[f"look-{number}"]) for number in range(len(looks))]


def shown(page):
    """Wait until the page shows what it was asked for."""
    page.wait_for_function(
        "() => { const e = document.getElementById('explore'); return e && !e.hidden && "
        "e.dataset.shows; }"
    )
    return page


def after(page, change):
    """The page after a change, when all of it is drawn."""
    before = page.get_attribute("#explore", "data-shows")
    change()
    page.wait_for_function(
        f"document.getElementById('explore').dataset.shows !== {json.dumps(before)}"
    )
    return page


def click_cell(page, layer, head):
    """Click a cell of the map, found by what it says of itself (or the dot on it, if it has a
    role)."""
    one = page.locator(f"#explore-map path[aria-label^='head: {head}; layer: {layer}; ']").first
    one.click(force=True)


# The numbers


@pytest.mark.parametrize("name", ["toy", "big"])
def test_every_effect_in_the_page_is_the_frames(name, request):
    folder = request.getfixturevalue(name)
    data, _ = inside(folder)
    sweeps, checked = Frames(folder).sweeps, 0
    keys = ["component", "source", "target", "positions", "role"]
    for one in data["maps"]:
        own = sweeps[np.logical_and.reduce([sweeps[key] == one[key] for key in keys])]
        own = own.sort_values(["layer", "head"])
        assert len(own) == data["layers"] * data["heads"]
        for column in ("effect", "ci_low", "ci_high"):
            assert same(one[column], own[column]), (one, column)
        assert one["told"] == "".join("01"[told] for told in own["told"])
        if one["gap"] is None:
            assert own["gap"].isna().all()
        else:
            assert same([one["gap"]], own["gap"])
        checked += len(own)
    assert checked == len(sweeps) and len(data["maps"]) == len(sweeps[keys].drop_duplicates())


@pytest.mark.parametrize("name", ["toy", "big"])
def test_every_prediction_in_the_page_is_the_frames(name, request):
    folder = request.getfixturevalue(name)
    data, _ = inside(folder)
    found = Frames(folder)
    for one in data["predictions"]:
        own = found.evidence[found.evidence["prediction"] == one["name"]].sort_values(
            ["layer", "head"]
        )
        assert [
            dict(h="holds", r="refuted", u="undecided")[state] for state in one["states"]
        ] == list(own["state"])
        assert one["says"]
        for column in ("effect", "ci_low", "ci_high", "restored_fraction", "trials_to_decide"):
            wanted = own[column].where(np.isfinite(own[column]))
            assert same(one[column], wanted), (one["name"], column)
    assert len(data["predictions"]) == found.evidence["prediction"].nunique()
    roles = found.roles.sort_values(["layer", "head"])
    assert data["roles"] == list(roles["role"])
    for one in data["writes"]["words"]:
        own = found.direct_effects[found.direct_effects["role"] == one["role"]].sort_values(
            ["layer", "head"]
        )
        assert same(one["effect"], own["direct_effect"]) and same(one["ci_low"], own["ci_low"])


@pytest.mark.parametrize("name", ["toy", "big"])
def test_where_heads_look_is_the_frames_to_a_known_error(name, request):
    folder = request.getfixturevalue(name)
    data, blobs = inside(folder)
    looks = Frames(folder).looks
    assert data["pictures"] and len(data["pictures"]) == len(blobs)
    for picture, blob in zip(data["pictures"], blobs):
        own = looks[
            (looks["trial"] == picture["trial"]) & (looks["condition"] == picture["condition"])
        ]
        own = own.sort_values(["layer", "head"])
        tiles, text = (
            np.stack(own[column].tolist()).astype(float) for column in ("picture", "text")
        )
        packed = np.frombuffer(blob, np.uint8).reshape(len(own), -1)
        chance = 1 / packed.shape[1]
        assert picture["chance"] == chance and list(own["tokens"].iloc[0]) == picture["tokens"]
        seen = explorer.tiles_of(packed[:, : tiles.shape[1]], chance)
        known = tiles >= chance / 2
        assert (seen[~known] == 0).all() and known.any()
        assert np.abs(np.log2(seen[known] / tiles[known])).max() <= 1 / 6 + 1e-6
        assert np.abs(packed[:, tiles.shape[1] :] / 255 - text).max() <= 0.5 / 255 + 1e-9
        assert np.allclose(picture["on_picture"], tiles.sum(1), DIGITS["rel"], DIGITS["abs"])


def test_routes_in_the_page_are_the_frames(planted):
    data, _ = inside(planted)
    pairs = Frames(planted).composition
    for row in pairs[pairs["role"] == "background"].itertuples():
        sender, receiver = (
            f"{row.sender_layer}.{row.sender_head}",
            f"{row.receiver_layer}.{row.receiver_head}",
        )
        (one,) = [
            each
            for each in data["paths"]["rows"]
            if (each["sender"], each["receiver"]) == (sender, receiver)
        ]
        assert one["share"] == pytest.approx(row.share, **DIGITS)


def test_a_page_of_a_large_run_can_be_mailed(big):
    assert (big / "report.html").stat().st_size < 5_000_000
    data, blobs = inside(big)
    assert data["layers"] * data["heads"] == 1024 and len(blobs) >= 5
    # What finds no room is said.
    left = 15 - len(blobs)
    assert (
        left > 0
        and f"ttention on {left} more pictures is in looks.parquet"
        in (big / "report.html").read_text()
    )


# What a run measures of every head


def test_sweep_effects_are_means_and_fractions_of_the_gap():
    model = rgb.load("planted")
    trials = rgb.rgb_trials(model, 6)
    into = {
        target: rgb.patch_heads(model, trials, target=target, progress=False)
        for target in ("recolored", "erased")
    }
    back = rgb.patch_heads(model, trials, source="erased", target="clean", progress=False)
    frame = every_head.sweep_effects([*into.values(), back])
    for target, effects in into.items():
        gap = panels.gaps(effects)[target]
        own = frame[(frame["target"] == target) & (frame["role"] == "odd")].set_index(
            ["layer", "head"]
        )
        mean = effects[effects["role"] == "odd"].groupby(["layer", "head"])["effect"].mean()
        assert own["effect"].to_dict() == pytest.approx(mean.to_dict())
        assert own["restored_fraction"].to_dict() == pytest.approx((mean / gap).to_dict())
    # Taken out of the clean run, the gap is still the one between clean and that picture.
    assert (
        frame.loc[frame["source"] == "erased", "gap"].unique()
        == panels.gaps(into["erased"])["erased"]
    )
    wanted = panels.tested(back, {"odd": ("clean", "odd")})
    own = frame[(frame["source"] == "erased") & (frame["role"] == "odd")]
    assert own["told"].tolist() == wanted["told"].tolist()


def test_looks_are_attention_of_every_head(toy):
    model, trials = rgb.load("toy"), rgb.read_run(toy).trials
    looks = Frames(toy).looks
    assert list(looks["trial"].unique()) == [trial.name for trial in trials[:3]]
    assert set(looks["condition"]) == set(trials[0].images) and len(looks) == 3 * 5 * 16
    for trial, condition, pattern in attention_from_end(
        model, trials[:1], ["moved"], progress=False
    ):
        own = looks[(looks["trial"] == trial.name) & (looks["condition"] == condition)]
        for row in own.itertuples():
            wanted = pattern[row.layer, row.head]
            over = over_picture(model, trial, wanted).ravel()
            assert np.abs(row.picture.astype(float) - over).max() < 1e-3
            assert row.text.astype(float).sum() + row.picture.astype(float).sum() == pytest.approx(
                1, abs=2e-3
            )
            assert len(row.text) == len(row.tokens) and "odd" in [
                token.strip() for token in row.tokens
            ]


def test_direct_effects_are_the_mean_over_trials(toy):
    every = rgb.direct_effects(rgb.load("toy"), rgb.read_run(toy).trials[:8], progress=False)
    own = every[(every["component"] == "head") & (every["role"] == "odd")]
    mean = own.groupby(["layer", "head"], observed=True)["direct_effect"].mean()
    found = Frames(toy).direct_effects.query("role == 'odd'").set_index(["layer", "head"])
    assert found["direct_effect"].to_dict() == pytest.approx(mean.to_dict(), abs=1e-5)
    assert (found["ci_low"] <= found["direct_effect"]).all() and set(found["n"]) == {8}


# The browser


@pytest.mark.parametrize("name", ["toy", "big"])
def test_a_page_opens_without_a_network_and_without_an_error(name, request, chromium):
    folder = request.getfixturevalue(name)
    page = shown(opened(chromium, folder / "report.html"))
    assert not page.errors
    assert all(url.startswith(("file:", "data:", "blob:")) for url in page.asked)
    data, _ = inside(folder)
    cells = page.locator("#explore-map .layer_0_marks path")
    assert cells.count() == data["layers"] * data["heads"]


def test_a_click_on_the_map_shows_that_head(big, chromium):
    page = shown(opened(chromium, big / "report.html"))
    after(page, lambda: click_cell(page, 26, 16))
    assert page.inner_text("#explore-head") == "Head 26.16"
    assert page.inner_text("#explore-role") == "background writer"
    found = Frames(big)
    own = found.evidence.query("layer == 26 and head == 16").set_index("prediction")
    # Its own role's are open; others are folded, each prediction once.
    groups = page.locator("#explore-predictions details")
    assert [one.get_attribute("open") is not None for one in groups.all()].count(True) == 1
    groups.evaluate_all("all => all.forEach((one) => (one.open = true))")
    rows = page.locator("#explore-predictions tr").all_inner_texts()
    assert len(rows) == len(own)
    for row in rows:
        prediction, state = row.split()[0], row.split()[2]
        assert state == (own.loc[prediction, "void"] and "void" or own.loc[prediction, "state"]), (
            row
        )
    p3a = next(row for row in rows if row.startswith("P3a"))
    (told,) = re.findall(r"[+−][\d.]+(?= \[)", p3a)
    # Rounded twice: to four digits for the page, and to two decimals there.
    assert float(told.replace("−", "-")) == pytest.approx(own.loc["P3a", "effect"], abs=0.0056)
    # What the page says of where it looks is the frame's.
    looks = found.looks.query("layer == 26 and head == 16 and condition == 'clean'").iloc[0]
    said = page.inner_text("#explore-looks-says")
    assert said.startswith(f"{100 * looks['picture'].astype(float).sum():.0f} %")
    # A row of the table is chosen with it.
    assert page.get_attribute("#explore-all tr[aria-current]", "data-head") == "26.16"


def test_an_address_opens_the_same_view_again(big, chromium):
    page = shown(opened(chromium, big / "report.html"))
    after(page, lambda: click_cell(page, 14, 8))
    after(page, lambda: page.click("#explore-panels button:nth-child(3)"))
    after(page, lambda: page.click("#explore-conditions button:nth-child(3)"))
    after(page, lambda: page.uncheck("#explore-fade"))
    address = page.evaluate("location.hash")
    again = shown(opened(chromium, big / "report.html", address))
    assert (
        again.get_attribute("#explore", "data-shows")
        == page.get_attribute("#explore", "data-shows")
        == address
    )
    for part in ("#explore-head", "#explore-looks-says", "#explore-rank"):
        assert again.inner_text(part) == page.inner_text(part)
    assert not again.is_checked("#explore-fade")
    assert again.get_attribute("#explore-link", "href") == address
    pressed = again.locator("[aria-pressed=true]").all_inner_texts()
    assert "background, when erased" in pressed and any(one.startswith("erased") for one in pressed)


def test_an_address_that_this_run_does_not_have_opens_the_first_view(toy, chromium):
    page = shown(
        opened(chromium, toy / "report.html", "#head=99.1&map=z,x,y,odd&picture=no&least=7000")
    )
    assert not page.errors and page.inner_text("#explore-head").startswith("Head 3.")


def test_another_trial_is_another_picture(toy, chromium):
    page = shown(opened(chromium, toy / "report.html"))
    data, _ = inside(toy)
    image = page.locator("#explore-picture image")
    before = image.evaluate("one => one.href.baseVal")
    other = data["pictures"][5]["trial"]
    after(page, lambda: page.select_option("#explore-trial", other))
    assert image.evaluate("one => one.href.baseVal") == data["pictures"][5]["uri"] != before
    stimuli = Frames(toy).stimuli
    png = stimuli[(stimuli["trial"] == other) & (stimuli["condition"] == "clean")]["png"].iloc[0]
    uri = explorer.data_uri(Image.open(io.BytesIO(png)))
    assert uri == data["pictures"][5]["uri"]


ODD = ["left/right", "50%, or so", "a: b → c", "<b>ß</b> $x$" + " and a name that is long" * 4]


def test_names_of_ones_own_are_what_the_page_shows(tmp_path, chromium, monkeypatch):
    """Whatever could be taken for markup, a list, a format or a field of a chart."""
    runs.sections(monkeypatch, "heads", "pictures", "panels")
    runs.without_figures(monkeypatch)
    colors, words = (
        ["red", "green", "blue", "yellow"],
        ["_a.b[0]", '{c}, "d"', f"{ODD[3]}, as a word"],
    )
    for color in colors:
        Image.new("RGB", (84, 84), color).save(tmp_path / f"{color}.png")
    with open(tmp_path / "trials.csv", "w", newline="") as file:
        table = csv.writer(file)
        pictures, answers = [f"image:{name}" for name in ODD], [f"answer:{name}" for name in words]
        table.writerow(["name", "question", "clean", *pictures, *answers])
        for number in range(2):
            files = [f"{colors[place % 4]}.png" for place in range(5)]
            table.writerow(
                [f"{number}: <i>", "Which color is the background?", *files, *colors[:3]]
            )
    own, out = str(tmp_path / "trials.csv"), tmp_path / "run"
    assert main(["run", "-q", "--trials-file", own, "--out", str(out)]) == 0
    page = shown(opened(chromium, out / "report.html", viewport=dict(width=400, height=800)))
    assert not page.errors and page.locator("#explore-panels button").count() == 12
    for number, target in enumerate(ODD):
        sweep = f"clean → {target}"
        if number:
            after(page, lambda sweep=sweep: page.select_option("#explore-sweep", label=sweep))
        address = page.get_attribute("#explore", "data-shows")
        (asked,) = re.findall(r"map=([^&]*)", address)
        assert unquote_plus(asked) == f"z,clean,{target},{words[0]}"
        again = shown(opened(chromium, out / "report.html", address))
        assert again.locator("#explore-sweep option:checked").inner_text() == sweep
        again.context.close()
    # A phone shows a head's effects in its sheet alone.
    wide = shown(opened(chromium, out / "report.html"))
    names = wide.locator("#explore-effects .role-axis-label text").all_text_contents()
    assert {f"z: clean → {target}" for target in ODD[:3]} <= set(names)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.locator("#explore-head b, #explore-panels b, #pictures b").count() == 0
    # Where nothing was tested, there is no table of what was.
    assert not page.locator("#explore-predictions").is_visible()


def test_arrow_keys_go_from_head_to_head(toy, chromium):
    page = shown(opened(chromium, toy / "report.html", "#head=3.2"))
    page.focus("#explore-map")
    after(page, lambda: page.keyboard.press("ArrowUp"))
    assert page.inner_text("#explore-head") == "Head 2.2"
    after(page, lambda: page.keyboard.press("ArrowLeft"))
    assert page.inner_text("#explore-head") == "Head 2.1"


def slide(page, to):
    """Fade what is below so many hundredths of the scale."""
    change = (
        f"() => {{ const range = document.getElementById('explore-least'); range.value = {to};"
        " range.dispatchEvent(new Event('input')); }"
    )
    after(page, lambda: page.evaluate(change))


def opacities(page):
    marks = page.locator("#explore-map .layer_0_marks path")
    return marks.evaluate_all("all => all.map(one => Number(one.getAttribute('opacity') ?? 1))")


def test_cells_that_are_not_told_from_zero_are_faded(big, chromium):
    page = shown(opened(chromium, big / "report.html"))
    told = Frames(big).sweeps.query(
        "component == 'z' and source == 'clean' and target == 'recolored' and role == 'odd'"
    )
    strong = [opacity == 1 for opacity in opacities(page)]
    wanted = panels.shown(told.sort_values(["layer", "head"]))
    assert strong == wanted.tolist() and 0 < sum(strong) < 100
    after(page, lambda: page.uncheck("#explore-fade"))
    assert set(opacities(page)) == {1}
    # A threshold fades what is below it: half of the scale leaves two heads or fewer.
    slide(page, 40)
    value = told.sort_values(["layer", "head"])["restored_fraction"].abs()
    data, _ = inside(big)
    assert [opacity == 1 for opacity in opacities(page)] == (value >= 0.4 * data["limit"]).tolist()


def ranked(page):
    """The heads of the list of strongest ones, in its order, and what it says of each."""
    texts = page.locator("#explore-rank li button").all_inner_texts()
    return {text.split()[0]: text for text in texts}


def test_the_list_of_the_strongest_follows_the_fade_and_marks_what_is_not_shown(toy, chromium):
    page = shown(opened(chromium, toy / "report.html"))
    own = Frames(toy).sweeps.query(
        "component == 'z' and source == 'clean' and target == 'recolored' and role == 'odd'"
    )
    own = own.assign(size=own["effect"].abs(), shown=panels.shown(own)).sort_values(
        "size", ascending=False
    )
    own = own.set_index(own["layer"].astype(str) + "." + own["head"].astype(str))
    assert list(ranked(page)) == own.index[own["shown"]].tolist()[:12]
    assert page.inner_text("#explore-rank-says") == ("" if own["shown"].any() else NOTHING)
    after(page, lambda: page.uncheck("#explore-fade"))
    found = ranked(page)
    assert list(found) == own.index[own["size"] > 0].tolist()[:12]
    assert [text.endswith("?") for text in found.values()] == (
        ~own["shown"].loc[list(found)]
    ).tolist()
    assert page.inner_text("#explore-rank-says") == "?: not shown."
    # What the slider fades is not listed either.
    slide(page, 60)
    data, _ = inside(toy)
    large = own.index[own["restored_fraction"].abs() >= 0.6 * data["limit"]]
    assert list(ranked(page)) == large.tolist()


@pytest.mark.parametrize(
    "map_", ["", "#head=&map=pattern,clean,erased,background", "#map=z,clean,erased,odd"]
)
def test_the_head_shown_first_does_most_in_the_map_shown(planted, chromium, map_):
    page = shown(opened(chromium, planted / "report.html", map_))
    component, target, role = {
        "": ("z", "recolored", "odd"),
        "#head=&map=pattern,clean,erased,background": ("pattern", "erased", "background"),
        "#map=z,clean,erased,odd": ("z", "recolored", "odd"),
    }[map_]
    own = Frames(planted).sweeps.query(
        "component == @component and source == 'clean' and target == @target and role == @role"
    )
    most = own.loc[own["effect"].abs().idxmax()]
    assert page.inner_text("#explore-head") == f"Head {most['layer']}.{most['head']}"
    assert next(iter(ranked(page))) == f"{most['layer']}.{most['head']}"


def test_effects_of_rounding_are_not_shown(planted, chromium, tmp_path, monkeypatch):
    """Whatever their q is: a millionth of a logit in the same direction in all trials is
    nothing."""
    runs.sections(monkeypatch, "heads")
    folder = shutil.copytree(planted, tmp_path / "run")
    sweeps = pd.read_parquet(folder / "sweeps.parquet")
    numbers = ["effect", "ci_low", "ci_high", "restored_fraction"]
    sweeps[numbers] *= 1e-7
    sweeps.assign(told=True).to_parquet(folder / "sweeps.parquet")
    report.write(folder)
    page = shown(opened(chromium, folder / "report.html"))
    assert max(opacities(page)) < 1 and not ranked(page)
    assert page.inner_text("#explore-rank-says") == NOTHING
    # Nor do they fill the axis.
    ticks = page.locator("#explore-effects .role-axis-label text").all_text_contents()
    assert any(tick.strip("−") in ("5%", "4%") for tick in ticks), ticks
    assert "or 0.025 logits" in page.inner_text("#heads")


def widths(page):
    """Chart → its width in pixels, of those that are drawn."""
    return page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('#explore .vega-embed')]"
        ".filter((one) => one.offsetParent).map((one) => [one.id, "
        "Math.round(one.querySelector('svg').getBoundingClientRect().width)]))"
    )


def test_charts_keep_their_width_over_clicks_and_windows(big, chromium):
    page = shown(opened(chromium, big / "report.html"))
    before = widths(page)
    assert before["explore-map"] > 400 and len(before) >= 5
    for number in range(10):
        after(page, lambda number=number: click_cell(page, 31 - 3 * number, 3 * number))
        if number % 3 == 0:
            after(
                page,
                lambda number=number: page.click(
                    f"#explore-panels button:nth-child({2 + number // 6})"
                ),
            )
            after(page, lambda: page.click("#explore-panels button:nth-child(1)"))
    assert kept(widths(page), before)

    def resized(width):
        page.set_viewport_size(dict(width=width, height=900))
        # The page waits for the window to come to rest.
        page.wait_for_timeout(600)
        page.evaluate("() => new Promise(requestAnimationFrame)")
        return widths(page)

    narrow = resized(700)
    assert narrow["explore-map"] != before["explore-map"] and max(narrow.values()) <= 700
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
    assert kept(resized(1300), before)


def kept(now, before):
    """Whether the charts that are drawn in both are as wide; names of heads on axes differ by some
    pixels."""
    both = set(now) & set(before)
    return len(both) >= 5 and all(abs(now[name] - before[name]) <= 12 for name in both)


def test_all_maps_have_one_scale(planted, chromium):
    page = shown(opened(chromium, planted / "report.html"))
    legend = "#explore-map .role-legend text"
    first = page.locator(legend).all_text_contents()
    for number in (2, 3):
        after(page, lambda number=number: page.click(f"#explore-panels button:nth-child({number})"))
        assert page.locator(legend).all_text_contents() == first
    found = Frames(planted).panels
    largest = (found["effect"] / found["gap"]).abs().max()
    assert any(text.replace("−", "-") == f"{largest:.0%}" for text in first), first


@pytest.mark.parametrize("without", [["recolored", "erased"], ["swapped"]], ids=["game", "other"])
def test_a_sweep_without_a_gap_has_all_its_cells(planted, chromium, without, tmp_path, monkeypatch):
    runs.sections(monkeypatch, "heads")
    folder = shutil.copytree(planted, tmp_path / "run")
    sweeps = pd.read_parquet(folder / "sweeps.parquet")
    sweeps.loc[sweeps["target"].isin(without), ["gap", "restored_fraction"]] = np.nan
    sweeps.to_parquet(folder / "sweeps.parquet")
    report.write(folder)
    page = shown(opened(chromium, folder / "report.html"))
    heads = len(sweeps[["layer", "head"]].drop_duplicates())
    assert len(opacities(page)) == heads
    # Where the game itself has no gap, logits stand for it.
    unit = "logits" if "erased" in without else "fraction of the gap"
    assert page.locator("#explore-map .role-legend-title").all_text_contents() == [
        f"{unit} (the same in all maps)"
    ]
    after(page, lambda: page.select_option("#explore-sweep", label="clean → swapped"))
    assert len(opacities(page)) == heads
    text = page.inner_text("#explore-map-says")
    assert ("no gap here" if unit != "logits" else "colours show logits") in text


def test_the_component_is_switched(planted, chromium):
    page = shown(opened(chromium, planted / "report.html"))
    after(page, lambda: page.select_option("#explore-component", "pattern"))
    assert "map=pattern" in page.evaluate("location.hash")
    own = Frames(planted).sweeps.query(
        "component == 'pattern' and target == 'recolored' and role == 'odd'"
    )
    large = own[panels.shown(own)]
    assert set(ranked(page)) == {f"{row.layer}.{row.head}" for row in large.itertuples()}


def test_the_table_of_all_heads_is_filtered_and_sorted(big, chromium):
    page = shown(opened(chromium, big / "report.html"))
    page.evaluate("document.getElementById('all-heads').open = true")
    rows = page.locator("#explore-all tbody tr:visible")
    assert rows.count() == 1024
    page.select_option("#explore-filter-role", "color extractor")
    roles = Frames(big).roles
    names = {
        f"{row.layer}.{row.head}" for row in roles[roles["role"] == "color extractor"].itertuples()
    }
    assert {row.split()[0] for row in rows.all_inner_texts()} == names
    page.select_option("#explore-filter-role", "")
    page.fill("#explore-filter", "P1a P2c")
    evidence = Frames(big).evidence
    held = evidence[evidence["holds"] & evidence["prediction"].isin(["P1a", "P2c"])]
    both = held.groupby(["layer", "head"]).size()
    assert rows.count() == (both == 2).sum() > 0
    # A head's name finds that head, whatever other names and numbers hold it.
    page.fill("#explore-filter", "3.2")
    assert [row.split()[0] for row in rows.all_inner_texts()] == ["3.2"]
    page.fill("#explore-filter", "13.")
    assert rows.count() == 32 and all(row.startswith("13.") for row in rows.all_inner_texts())
    page.fill("#explore-filter", "")
    page.click("#explore-all thead th:nth-child(3) button")
    panel = (
        Frames(big)
        .panels.query("panel == 'odd, when recolored'")
        .set_index(["layer", "head"])["effect"]
    )

    def effects():
        """Of the heads of the table's first rows."""
        names = rows.evaluate_all("all => all.slice(0, 4).map((one) => one.dataset.head)")
        return [panel[tuple(map(int, name.split(".")))] for name in names]

    assert effects() == pytest.approx(panel.nlargest(4).tolist(), rel=1e-3)
    page.click("#explore-all thead th:nth-child(3) button")
    assert effects() == pytest.approx(panel.nsmallest(4).tolist(), rel=1e-3)
    after(page, lambda: rows.nth(2).click())
    assert page.inner_text("#explore-head") == f"Head {rows.nth(2).get_attribute('data-head')}"


def steered(folder, **about):
    """Word → logit, of rows of the frame."""
    frame = Frames(folder).steering
    own = frame[np.logical_and.reduce([frame[key] == value for key, value in about.items()])]
    return own.set_index("word")["logit"]


def bars(page):
    """Word → logit, as the page has them."""
    lines = page.locator("#steer-words .bar").evaluate_all(
        "all => all.map(one => [one.querySelector('.word').firstChild.data, "
        "one.lastChild.textContent])"
    )
    return {word: float(text.replace("−", "-")) for word, text in lines}


def test_the_gaze_follows_cursor_and_keys_and_shows_the_frames_numbers(planted, chromium):
    page = shown(opened(chromium, planted / "report.html", "#head=3.0"))
    trial = Frames(planted).steering["trial"].iloc[0]
    rows, columns = 6, 6

    def right(heads, row, column, edit="look", bias=np.inf):
        wanted = steered(
            planted, trial=trial, heads=heads, row=row, column=column, edit=edit, bias=bias
        )
        assert bars(page) == pytest.approx(wanted.to_dict(), abs=0.051), (heads, row, column)
        assert page.inner_text("#steer-answer strong") == wanted.idxmax()
        return wanted.idxmax()

    page.locator("#steer-picture").scroll_into_view_if_needed()
    box = page.locator("#steer-picture").bounding_box()
    answers = set()
    for row, column in ((0, 0), (5, 2), (2, 3), (4, 5)):
        x, y = (column + 0.5) / columns * box["width"], (row + 0.5) / rows * box["height"]
        page.mouse.move(box["x"] + x, box["y"] + y)
        answers.add(right("found", row, column))
    assert len(answers) == 2
    # A hover is answered at once, and leaves the address alone.
    slow = page.evaluate(
        "() => { const box = document.getElementById('steer-picture').getBoundingClientRect(), "
        "start = performance.now(); for (let at = 0; at < 50; at++) document.getElementById("
        "'steer-picture').dispatchEvent(new PointerEvent('pointermove', {clientX: box.left + at, "
        "clientY: box.top + at})); return (performance.now() - start) / 50; }"
    )
    assert slow < 50 and "gaze" not in page.evaluate("location.hash")
    page.mouse.move(0, 0)
    after(page, lambda: page.click("#steer-picture", position=dict(x=5, y=5)))
    page.focus("#steer-picture")
    after(page, lambda: page.keyboard.press("ArrowDown"))
    page.mouse.move(0, 0)
    right("found", 1, 0)
    after(page, lambda: page.click("#steer-who button >> text=random"))
    right("random", 1, 0)
    after(page, lambda: page.click("#steer-who button >> text=head 3.0"))
    right("3.0", 1, 0)
    after(page, lambda: page.click("#steer-edit button >> text=switched off"))
    right("3.0", -1, -1, "off", 0)
    # The address says it all.
    again = shown(opened(chromium, planted / "report.html", page.evaluate("location.hash")))
    assert bars(again) == bars(page) and not again.errors + page.errors
    assert again.inner_text("#steer-answer") == page.inner_text("#steer-answer")


def test_what_another_prediction_holds_in_place_of_is_no_red_cross(planted, chromium):
    page = shown(opened(chromium, planted / "report.html", "#head=2.1"))
    rows = page.locator("#explore-predictions details[open] tr").all_inner_texts()
    refuted = [row for row in rows if "refuted" in row]
    assert refuted and all("holds instead" in row for row in refuted)
    assert page.locator("#explore-predictions details[open] td.no").count() == 0
    # Where both hold, seven that hold are six of six.
    page = shown(opened(chromium, planted / "report.html", "#head=3.0"))
    said = page.inner_text("#explore-predictions details[open]")
    assert "6 of 6 hold" in said and said.count("✓ holds") == 7
    assert "this or P2b is enough" in said and "this or P2c is enough" in said


def test_every_control_of_the_panel_has_a_name(planted, chromium):
    page = shown(opened(chromium, planted / "report.html"))
    nameless = page.locator("#explore").evaluate(
        "one => [...one.querySelectorAll('button, select, input, [tabindex]')].filter((each) => "
        "!(each.getAttribute('aria-label') || each.textContent.trim() || each.labels?.length))"
        ".map((each) => each.outerHTML)"
    )
    assert nameless == []
    snapshot = page.locator("#explore-steer").aria_snapshot()
    for said in ("looks only there", "switched off", "How it was measured", "Which heads"):
        assert said in snapshot, snapshot


def beside(page, folder, *heads):
    """Two heads stand side by side, each with its role, its picture and the claims of both."""
    cards, found = page.locator("#explore-compare .card"), Frames(folder)
    evidence = found.evidence
    roles = {f"{row.layer}.{row.head}": row.role for row in found.roles.itertuples()}
    states = {
        (f"{row.layer}.{row.head}", row.prediction): row.state for row in evidence.itertuples()
    }
    assert cards.count() == 2
    claims = set()
    for card, head in zip(cards.all(), heads):
        assert card.locator("h4").inner_text() == f"Head {head} {roles[head]}"
        marks = [text.split() for text in card.locator(".chip").all_inner_texts()]
        signs = dict(holds="✓", refuted="✗", undecided="?")
        assert marks == [[name, signs[states[head, name]]] for name, _ in marks] and marks
        claims.add(tuple(name for name, _ in marks))
        assert card.locator("dt").count() == 3
        # The tile that it looks at is clear, all others are grey.
        shades = card.locator("canvas").evaluate(
            "one => [...one.getContext('2d').getImageData(0, 0, one.width, one.height).data]"
            ".filter((_, at) => at % 4 === 3)"
        )
        assert shades.count(0) == 1 and len(shades) == 36
    assert len(claims) == 1
    left, right = (card.bounding_box() for card in cards.all())
    assert left["y"] == right["y"] and left["x"] < right["x"]


def test_what_is_chosen_far_away_is_answered_in_sight(planted, chromium):
    page = shown(opened(chromium, planted / "report.html"))
    row = page.locator("#explore-all tr[data-head='4.1']")
    row.scroll_into_view_if_needed()
    after(page, lambda: row.click())
    box = page.locator("#explore-title").bounding_box()
    assert page.inner_text("#explore-head") == "Head 4.1" and 0 <= box["y"] < 900
    after(page, lambda: page.click("#explore-keep"))
    page.fill("#explore-go", "2.1")
    after(page, lambda: page.press("#explore-go", "Enter"))
    assert page.inner_text("#explore-head") == "Head 2.1"
    # The head that was kept stands beside it, with what the frames say of both; the address has it.
    beside(page, planted, "4.1", "2.1")
    assert page.evaluate("location.hash").endswith("&with=4.1")
    back = "location.hash = location.hash.replace('with=4.1', 'with=1.3')"
    after(page, lambda: page.evaluate(back))
    beside(page, planted, "1.3", "2.1")
    after(page, lambda: page.click("#explore-keep"))
    assert not page.is_visible("#explore-compare")
    page.fill("#explore-go", "77.1")
    page.press("#explore-go", "Enter")
    assert page.get_attribute("#explore-go", "aria-invalid") == "true"
    assert page.inner_text("#explore-go-says") == "There is no head 77.1: heads go from 0.0 to 5.3."
    with page.expect_download() as got:
        page.click("#explore-csv")
    table = pd.read_csv(got.value.path())
    sweeps = Frames(planted).sweeps.query("layer == 2 and head == 1")
    effects = table[table["what"].str.contains("→")]
    assert effects["effect"].to_numpy() == pytest.approx(sweeps["effect"].to_numpy(), **DIGITS)
    with page.expect_download() as got:
        page.click("#explore-svg")
    drawn = got.value.path().read_text()
    assert "Head 2.1" in drawn and drawn.count("<svg") == 5 and "NaN" not in drawn
    with page.expect_download() as got:
        page.click("#explore-png")
    assert min(Image.open(got.value.path()).size) > 500


def test_on_a_phone_a_tap_opens_a_sheet(planted, chromium):
    view = dict(viewport=dict(width=390, height=800), has_touch=True, is_mobile=True)
    page = shown(opened(chromium, planted / "report.html", **view))
    # In the page stand the picture and what it can be made to answer, in the sheet all else.
    effects = page.locator("#explore-effects")
    assert page.is_visible("#steer-picture") and not effects.is_visible()
    page.locator("#all-heads").scroll_into_view_if_needed()
    where = page.evaluate("scrollY")
    after(page, lambda: page.locator("#explore-all tr[data-head='4.1'] th").tap())
    assert page.evaluate("scrollY") == pytest.approx(where, abs=500)
    assert effects.locator("svg").bounding_box()["width"] > 200
    page.locator("#explore-close").tap()
    page.locator("#explore-rank").scroll_into_view_if_needed()
    after(page, lambda: page.locator("#explore-rank button >> nth=1").tap())
    box = page.locator("#explore-panel.sheet").bounding_box()
    assert box["y"] > 100 and box["y"] + box["height"] == pytest.approx(800, abs=2)
    assert page.locator("#explore-title").bounding_box()["y"] < 800
    page.locator("#steer-picture").scroll_into_view_if_needed()
    after(page, lambda: page.tap("#steer-picture", position=dict(x=10, y=10)))
    assert "row 0, column 0" in page.inner_text("#steer-answer")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("#explore-close").tap()
    assert page.locator("#explore-panel.sheet").count() == 0 and not page.errors


def test_charts_take_the_colours_of_a_dark_page(toy, chromium):
    page = shown(opened(chromium, toy / "report.html", color_scheme="dark"))
    ink = page.evaluate(
        "getComputedStyle(document.documentElement).getPropertyValue('--ink').trim()"
    )
    label = page.locator("#explore-map .role-axis-label text").first
    assert label.get_attribute("fill") == ink == "#e6e8ec"
    page.emulate_media(color_scheme="light")
    page.wait_for_function(
        "document.querySelector('#explore-map .role-axis-label text')?.getAttribute('fill') === "
        "'#191c20'"
    )


@pytest.mark.parametrize("name", ["toy", "big"])
def test_a_narrow_page_is_no_wider_than_the_screen(name, request, chromium):
    folder = request.getfixturevalue(name)
    page = shown(opened(chromium, folder / "report.html", viewport=dict(width=360, height=740)))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    after(page, lambda: page.click("#explore-panels button:nth-child(2)"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_print_has_the_figures_that_need_no_script(toy, chromium):
    page = shown(opened(chromium, toy / "report.html"))
    page.emulate_media(media="print")
    assert not page.is_visible("#explore") and not page.is_visible("#explore-filter")
    # Three maps, and their scale.
    assert page.locator("#panels svg").count() == 4 and page.is_visible("#panels svg >> nth=0")
    assert page.is_visible("#role-table")
    assert page.pdf(format="A4")[:5] == b"%PDF-"


def test_without_scripts_the_page_reads_as_before(toy, chromium):
    page = opened(chromium, toy / "report.html", java_script_enabled=False)
    assert not page.is_visible("#explore") and page.is_visible("#explore-none")
    # Sections fold without scripts, too.
    for name in ("panels", "pictures"):
        page.click(f"#{name} summary")
    assert page.is_visible("#panels table") and page.is_visible("#pictures img >> nth=0")
    page.click("#all-heads summary")
    rows = page.locator("#explore-all tbody tr:visible")
    assert rows.count() == 16
    found = (
        Frames(toy)
        .panels.query("panel == 'odd, when recolored' and layer == 3 and head == 2")
        .iloc[0]
    )
    text = page.locator("#explore-all tr[data-head='3.2'] td >> nth=1").inner_text()
    share = found["effect"] / found["gap"]
    assert text.removesuffix("\N{NO-BREAK SPACE}%") == f"{100 * share:.0f}"


def test_the_name_of_a_run_is_its_headline(toy, chromium):
    page = opened(chromium, toy / "report.html", java_script_enabled=False)
    assert page.title() == "A <i>small</i> one: which heads do what"
    assert page.inner_text(".eyebrow").startswith(
        "A <i>small</i> one · toy · 121 thousand parameters · "
    )
    manifest = json.loads((toy / "manifest.json").read_text())
    assert manifest["options"]["name"] == "A <i>small</i> one"
    assert manifest["started"] <= manifest["finished"]


@pytest.mark.parametrize(
    "name, views",
    [("llava_next", 2), ("llava_onevision", 2), ("llava_full", 1), ("gemma3", 1)],
)
def test_what_is_on_a_picture_counts_all_its_tokens_and_words_are_not_of_it(name, views):
    family = families.FAMILIES[name]
    model = rgb.wrap(*families.built(name), name=name)
    prompt = model.prompt("Which color is the background?")
    picture = Image.new("RGB", (family.side, family.side), "red")
    trial = rgb.Trial("one", prompt, {"clean": picture}, {"right": "red"})
    [frame] = measure(model, [Attended((trial,))], progress=False)
    stimuli = pd.DataFrame(
        [dict(trial="one", condition="clean", expected="right", png=tables.encoded("red"))]
    )
    run = Run(
        Path(), manifest(model, [trial], {"name": name}), {"looks": frame, "stimuli": stimuli}, {}
    )
    [[about], [blob], _] = explorer.looks(run)
    [[_, _, pattern]] = attention_from_end(model, [trial])
    ids = prompt_ids(model, [trial], "clean")["one"].numpy()
    of_picture = ids == model.config.image_token_id
    wanted = pattern[..., of_picture].sum(-1).ravel()
    assert about["on_picture"] == pytest.approx(wanted.tolist(), abs=2e-3)
    assert about["image"] == of_picture.sum() and about["tiles"] == family.grid**2
    words = [model.processor.tokenizer.decode([token]) for token in ids[~of_picture].tolist()]
    assert about["tokens"] == words
    assert len(explorer.unpacked(blob)) == pattern[..., 0].size * (about["tiles"] + len(words))
    assert (about["on_view"] is not None) == (views > 1)
    assert run.drawn == ("the first view of the picture" if views > 1 else "the picture")


def test_an_even_spread_is_that_of_each_picture_by_its_own_size():
    sizes = {"clean": (4, 4), "other": (12, 4), "third": (400, 4)}
    looks = pd.DataFrame(
        [dict(trial="a", condition=name, picture=np.zeros(one), text=np.zeros(other))
         for name, (one, other) in sizes.items()]
    )  # fmt: skip

    def said(shown, place=None):
        frames = dict(looks=looks, attention=looks[looks["condition"].isin(shown)])
        run = SimpleNamespace(task=SimpleNamespace(place=place), frames=frames)
        return _even(run).replace("\N{NO-BREAK SPACE}", " ")

    assert said(["clean", "other"]) == "50 % to 75 %"
    assert said(["clean"]) == "50 %"
    # Of one place that is marked, the largest picture has the least.
    assert said(["clean", "other"], "it") == "6.2 % to 12 %"
