"""The page's section on items: numbers under the marks are the frame's, pictures and attention are
those of the trial, and a click shows the pair that it says."""

import base64
import io
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from browser import browser, opened
from PIL import Image
from tables import PHOTOGRAPHS

import rgb_circuit as rgb
from analyses import report
from analyses.command import main
from analyses.report import items, page
from analyses.report.explorer import unpacked
from analyses.report.run import read
from rgb_circuit.calls.attention import attention_from_end, over_picture
from rgb_circuit.models.photo_reader import QUESTION, photo_reader, photographs
from rgb_circuit.models.small import save
from rgb_circuit.pictures.as_seen import as_seen


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A folder with a planted reader of photographs, and it loaded."""
    model, processor, _ = photo_reader()
    folder = save(model, processor, tmp_path_factory.mktemp("reader"))
    return folder, rgb.load(str(folder))


@pytest.fixture(scope="module")
def folder(reader, tmp_path_factory):
    """The run of two heads on five pairs, of which the last is the first one swapped."""
    path, model = reader
    pairs = photographs(model.prompt(QUESTION), 4)
    home = tmp_path_factory.mktemp("pairs")
    rows = [(trial.name, trial.images["clean"], trial.images["changed"], *trial.answers.values())
            for trial in pairs]  # fmt: skip
    rows.append(("swapped", rows[0][2], rows[0][1], rows[0][4], rows[0][3]))
    table = pd.DataFrame(rows, columns=["name", "clean", "changed", "right", "other"])
    for name in ("clean", "changed"):
        table[name] = [_png(image) for image in table[name]]
    table.to_parquet(home / "pairs.parquet")
    (home / "pairs.toml").write_text(PHOTOGRAPHS)
    files = ["--trials-file", str(home / "pairs.parquet"), "--columns", str(home / "pairs.toml")]
    out = home / "run"
    asked = ["--model", str(path), *files, "--heads", "2.1,1.3", "--out", str(out), "--quiet"]
    assert main(["run", *asked]) == 0
    return out


def _png(image):
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


@pytest.fixture(scope="module")
def html(folder):
    return (folder / "report.html").read_text()


def held(html, name):
    """What the page holds for its script."""
    text = html.split(f'id="items-{name}">', 1)[1].split("</script>", 1)[0]
    return json.loads(unpacked(text) if name == "data" else text)


def test_numbers_under_the_marks_are_the_frames(folder, html):
    data = held(html, "data")
    text = html.split('id="items-effects">', 1)[1].split("</script>", 1)[0]
    found = items.unpacked_effects(data["steps"], text, len(data["items"]))
    assert found.shape == (1, 2, 5)
    frame = pd.read_parquet(folder / "patch_heads.parquet").astype({"trial": str, "role": str})
    for number, head in enumerate(data["heads"]):
        layer, own = map(int, head.split("."))
        for place, item in enumerate(data["items"]):
            rows = frame[frame["trial"] == item["name"]]
            rows = rows[(rows["layer"] == layer) & (rows["head"] == own)].set_index("role")
            source, target, patched = (
                rows.loc["right", f"{run}_logit"] - rows.loc["other", f"{run}_logit"]
                for run in ("source", "target", "patched")
            )
            assert abs(found[0, number, place] - (patched - target)) <= data["steps"][0][number]
            assert item["gaps"][0] == pytest.approx(source - target, rel=1e-3)
    # The carrier restores what there is, the looker nothing.
    assert data["heads"] == ["2.1", "1.3"] and np.nanmin(found[0, 0]) > 5 > 0.1 > found[0, 1].max()
    assert "none of the 2 heads that were restored is shown to move the logit" in html
    # Of drawn or of own pictures, a cluster is marked as such: two rows are one pair.
    kin = [item["name"] for item in data["items"] if item["cluster"] is not None]
    assert kin == [data["items"][0]["name"], "swapped"]


def test_a_head_has_one_mean_on_the_whole_page_that_of_its_panel(folder):
    run = read(folder, [page.known_sections()["items"].needs])
    # As answers that are far from even make it: another order than that of means over trials.
    panel = run.frames["panels"].sort_values(["layer", "head"]).assign(effect=[-3.0, 2.0])
    (found,) = items.panels(replace(run, frames={**run.frames, "panels": panel}))
    assert found.ranked == ["1.3", "2.1"] and found.means.to_dict() == {"1.3": -3.0, "2.1": 2.0}


def test_a_word_is_read_against_the_controls_where_there_are_any():
    logits = {"right": 5.0, "other": 4.0, "third": 1.0, "fourth": 2.0}
    rows = [("a", role, layer, 10 * layer + logits[role]) for layer in (0, 1) for role in logits]
    frame = pd.DataFrame(rows, columns=["trial", "role", "layer", "patched_logit"]).assign(head=0)

    def against(*controls):
        task = SimpleNamespace(is_game=False, controls=lambda target: controls)
        return items.against(SimpleNamespace(task=task), frame, "patched_logit", "x", "right")

    np.testing.assert_allclose(against("third", "fourth"), [[3.5, 3.5]])
    np.testing.assert_allclose(against(), [[1, 1]])


def test_pictures_and_attention_are_those_of_the_trial(folder, html, reader):
    _, model = reader
    data, uris, looks = (held(html, name) for name in ("data", "uris", "looks"))
    trials = {trial.name: trial for trial in rgb.read_run(folder).trials}
    every = {
        (name, condition): np.asarray(as_seen(model, image), float)
        for name, trial in trials.items()
        for condition, image in trial.images.items()
    }
    # The swapped pair shows the pictures of the first, which the page holds once.
    assert len(uris) == 8
    for item in data["items"]:
        trial = trials[item["name"]]
        assert [one["condition"] for one in item["pictures"]] == ["clean", "changed"]
        for one in item["pictures"]:
            shown = Image.open(io.BytesIO(base64.b64decode(uris[one["uri"]].split(",")[1])))
            assert shown.size == (one["width"], one["height"]) == (64, 64)
            shown = np.asarray(shown.convert("RGB"), float)
            far = {key: np.abs(shown - seen).mean() for key, seen in every.items()}
            # Of all pictures it is this one, as well as WebP has noise of 25 grey levels.
            assert far[item["name"], one["condition"]] == min(far.values()) < 10
            word = trial.answers[trial.expected[one["condition"]]]
            assert one["expected"] == one["answer"] == word
            look = {"blob": looks[one["look"]], "most": one["most"]}
            [(_, _, pattern)] = attention_from_end(
                model, [trial], [one["condition"]], progress=False
            )
            for values, head in zip(items.attention_of(look), data["seen"]):
                layer, number = map(int, head.split("."))
                wanted = over_picture(model, trial, pattern, one["condition"])[layer, number]
                np.testing.assert_allclose(values, wanted.ravel(), atol=0.005 * wanted.max() + 1e-6)
            assert wanted.shape[1] == one["columns"]


def test_many_photographs_are_made_as_small_as_fits_and_the_rest_is_left_out():
    rng = np.random.default_rng(0)
    photos = [Image.fromarray(rng.integers(0, 255, (252, 336, 3), np.uint8)) for _ in range(4)]
    files = [items.small_file(photo, 336) for photo in photos]
    assert items.fitted(files) == ([items._uri(file) for file in files], None)
    whole = sum(map(len, items.fitted(files)[0]))
    uris, side = items.fitted(files, whole // 3)
    assert len(uris) == 4 and sum(map(len, uris)) <= whole // 3 and 128 <= side < 336
    uris, side = items.fitted(files, 4_000)
    assert len(uris) < 4 and sum(map(len, uris)) <= 4_000 and side == 128


def test_without_pictures_the_strip_stays(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "run")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["options"]["no_pictures"] = True
    (copy / "manifest.json").write_text(json.dumps(manifest))
    section = page.known_sections()["items"]
    with page.matplotlib.rc_context(page.SETTINGS):
        body = page.filled(section, read(copy, [section.needs]))["body"]
    assert held(body, "uris") == [] and "data:image/webp" not in body
    assert body.count('data-item="') == 5 and len(held(body, "looks")) == 10


def test_a_click_shows_the_pair_and_without_scripts_the_first_stands_there(folder, html):
    data, uris = held(html, "data"), held(html, "uris")
    path = report.write(folder)
    with browser() as chromium:
        page = opened(chromium, path)
        page.wait_for_selector("#items-view[data-shows]")

        def shown():
            return page.eval_on_selector_all(
                "#items-pictures img:not(.veil)", "all => all.map((one) => one.src)"
            )

        def pair(item):
            return [uris[one["uri"]] for one in item["pictures"]]

        for number in (2, 4):
            row = page.locator(f"#items-strip [data-item='{number}']")
            row.click()
            page.wait_for_selector(f"#items-view[data-shows='2.1 0 {number}']")
            assert page.inner_text("#items-name") == data["items"][number]["name"]
            assert shown() == pair(data["items"][number])
            assert page.locator("#items-pictures img.veil").count() == 2
        # The other item of the cluster is ringed.
        assert page.locator("#items-strip .kin").get_attribute("data-item") == "0"
        page.focus("#items-strip")
        page.keyboard.press("Home")
        top = page.locator("#items-strip .chosen")
        tops = page.eval_on_selector_all(
            "#items-strip [data-item]", "all => all.map((one) => parseFloat(one.style.top))"
        )
        assert int(top.get_attribute("data-item")) == int(np.argmin(tops))
        page.evaluate("location.hash = '#head=1.3'")
        page.wait_for_selector("#items-view[data-shows^='1.3 ']")
        assert page.input_value("#items-head") == "1.3" and page.errors == []
        plain = opened(chromium, path, java_script_enabled=False)
        assert plain.inner_text("#items-name") == data["items"][0]["name"]
        sources = plain.locator("#items-pictures img:not(.veil)")
        assert [one.get_attribute("src") for one in sources.all()] == pair(data["items"][0])
        assert plain.locator("#items-pictures img.veil").count() == 2
