"""Small pictures: the tile is where it was, framed, and as large as it takes."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

import rgb_circuit as rgb
from rgb_circuit.boards import Canvas
from rgb_circuit.conversation import TEMPLATE
from rgb_circuit.pictures.thumbnail import data_uri, enlarged, outlined
from rgb_circuit.stimuli.tasks import find
from rgb_circuit.trial import as_trials, odd_tile

RED, BLUE = (255, 0, 0), (0, 0, 255)


def pixels(image):
    return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.parametrize(
    "grid, tile_px, tile", [(24, 14, (10, 9)), (6, 4, (0, 5)), (27, 14, (26, 26))]
)
def test_a_frame_stands_around_the_tile_and_nothing_else_changes(grid, tile_px, tile):
    picture = rgb.rgb_trial(grid=grid, tile_px=tile_px, tile=tile).images["clean"]
    framed = outlined(picture, tile, (grid, grid))
    times = framed.width // picture.width
    before = pixels(picture.resize(framed.size, Image.Resampling.NEAREST))
    changed = np.argwhere((pixels(framed) != before).any(axis=-1))
    side = tile_px * times
    inside = np.array(tile) * side
    distance = np.maximum(inside - changed, changed - (inside + side - 1)).max(axis=1)
    assert framed.width >= 320 and 1 <= distance.min() and distance.max() <= 6
    middle = inside + side // 2
    assert pixels(framed)[tuple(middle)].tolist() == list(RED)
    assert picture == rgb.rgb_trial(grid=grid, tile_px=tile_px, tile=tile).images["clean"]


def test_what_is_enlarged_are_the_tiles_around_as_far_as_there_are_any():
    picture = rgb.rgb_trial(grid=24, tile=(0, 9)).images["clean"]
    part = enlarged(picture, (0, 9), (24, 24))
    assert part.size == (5 * 14, 3 * 14)
    assert part.getpixel((2 * 14, 0)) == RED and part.getpixel((2 * 14, 14)) == BLUE


def test_the_odd_tile_is_found_where_there_is_one():
    trial = rgb.rgb_trial(grid=24, tile=(10, 9))
    found = {condition: odd_tile(image, 24) for condition, image in trial.images.items()}
    assert found == dict(
        clean=(10, 9), recolored=(10, 9), erased=None, swapped=None, moved=(22, 21)
    )


@pytest.mark.parametrize("px", [6, 14])
def test_a_tile_of_another_shape_is_found_though_its_middle_is_of_the_same_colour(px):
    task, board = find("shape"), Canvas(6, px, 0, TEMPLATE)
    for trial in task.draw(board, list(task.vocabulary), 48, 0, {}):
        found = {condition: odd_tile(image, 6) for condition, image in trial.images.items()}
        assert found["clean"] == found["recolored"] == trial.tile
        assert found["erased"] is found["swapped"] is None and found["moved"] not in (
            None,
            trial.tile,
        )


def unpacked(uri):
    kind, data = uri.removeprefix("data:image/").split(";base64,")
    return kind, Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_drawing_is_kept_exact_and_a_photograph_made_small():
    drawing = rgb.rgb_trial().images["clean"]
    kind, shown = unpacked(data_uri(drawing, 336))
    assert kind == "png" and (pixels(shown) == pixels(drawing)).all()
    noise = np.random.default_rng(0).integers(0, 256, (600, 900, 3)).astype(np.uint8)
    kind, shown = unpacked(data_uri(Image.fromarray(noise), 150))
    assert kind == "jpeg" and shown.size == (150, 100)


def test_a_notebook_shows_every_picture_of_a_trial_with_its_answer():
    trial = rgb.rgb_trial()
    html = trial._repr_html_()
    # Each whole, and around its tile.
    assert html.count("<img") == 2 * len(trial.images)
    for condition, role in trial.expected.items():
        assert f"<figcaption>{condition}: {trial.answers[role]}<" in html
    assert "odd color out" in html and len(html) < 50_000
    assert rgb.rgb_trial(grid=6, tile=(2, 3))._repr_html_().count("<img") == len(trial.images)


def test_names_in_a_notebook_are_text_and_not_html():
    evil = "<script>alert(1)</script>"
    picture = Image.new("RGB", (8, 8))
    trial = rgb.Trial(
        evil, f"<image>{evil}", {"clean": picture, evil: Image.new("RGB", (8, 8), "red")}, {"odd": evil},
        expected={evil: "odd"},
    )  # fmt: skip
    html = trial._repr_html_()
    assert "<script" not in html and html.count("&lt;script&gt;") == 4


def test_a_notebook_shows_a_trial_of_many_large_photographs_without_growing():
    rng = np.random.default_rng(0)
    photographs = {
        name: Image.fromarray(rng.integers(0, 256, (500, 700, 3)).astype(np.uint8))
        for name in ("clean", *(f"picture {number}" for number in range(20)))
    }
    html = rgb.Trial("photographs", "<image>?", photographs, {"odd": "yes"})._repr_html_()
    assert html.count("<img") == 8 and "and 13 more" in html and len(html) < 300_000


def test_a_trial_and_a_model_say_what_they_are_in_a_line():
    said = repr(rgb.rgb_trial())
    assert said == (
        "Trial('red/green on blue/yellow at 10,9': clean, recolored, erased, swapped, moved of 336 "
        "× 336 px, tile 10,9 of 24 × 24)"
    )
    assert repr(rgb.load("toy")) == "Vlm('toy': 4 layers × 4 heads, 6 × 6 image tokens, float32)"


def test_one_trial_is_a_list_of_one():
    trial = rgb.rgb_trial()
    assert (
        as_trials(trial) == [trial] and as_trials(iter([trial])) == [trial] and as_trials(()) == []
    )


@pytest.mark.parametrize(
    "given, kind", [(None, "a NoneType"), ("clean", "a str"), ({"a": 1}, "a dict"), (3, "an int")]
)
def test_what_is_no_trial_is_refused(given, kind):
    for trials in (given, [rgb.rgb_trial(), given]):
        with pytest.raises(rgb.InputError, match=f"is {kind}; give a Trial or a list of them"):
            as_trials(trials)
