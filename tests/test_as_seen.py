"""What image tokens cover: cropped, padded and stretched pictures, and towers whose pictures have a
margin."""

import io
import json
import re
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import families
import numpy as np
import pandas as pd
import pytest
import runs
import torch
from PIL import Image
from transformers import (
    CLIPImageProcessorPil,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessorPil,
    LlavaProcessor,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
)

import rgb_circuit as rgb
from analyses.command import main
from analyses.command.notices import about_pictures
from analyses.study import closer_look
from rgb_circuit.calls.attention import attention_from_end, over_picture
from rgb_circuit.keeping.manifest import described, manifest
from rgb_circuit.keeping.saved_run import recorded_trials
from rgb_circuit.measuring.measure import measure
from rgb_circuit.models.planted import Placement, planted
from rgb_circuit.models.random import random_llava
from rgb_circuit.models.small import save
from rgb_circuit.pictures.as_seen import as_seen, fit
from rgb_circuit.prompts import encode, locate

GRID, PATCH, SIDE = 6, 6, 40


@pytest.fixture(scope="module")
def siglip():
    """A random LLaVA with a SigLIP tower: pictures of 40 px hold 6 × 6 patches of 6 px, and 4 px
    that belong to none."""
    like, tools = random_llava(3, layers=3)
    vision = SiglipVisionConfig(
        image_size=SIDE,
        patch_size=PATCH,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    configuration = LlavaConfig(
        vision_config=vision,
        text_config=like.config.text_config,
        image_token_index=like.config.image_token_id,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    model = LlavaForConditionalGeneration(configuration).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.copy_(
                    torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5
                )
    processor = LlavaProcessor(
        image_processor=SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}),
        tokenizer=tools.tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        image_token="<image>",
    )
    return rgb.wrap(model, processor, name="siglip")


@pytest.fixture(scope="module")
def margined_folder(tmp_path_factory):
    """The planted model with pictures of 26 px: 6 × 6 tiles of 4 px, and 2 px that belong to
    none."""
    model, processor, _ = planted()
    configuration = deepcopy(model.config)
    configuration.vision_config.image_size = 26
    margined = LlavaForConditionalGeneration(configuration).eval()
    margined.load_state_dict(model.state_dict())
    processor.image_processor = clip(26)
    return save(margined, processor, tmp_path_factory.mktemp("margined"))


@pytest.fixture(scope="module")
def margined(margined_folder):
    return rgb.load(str(margined_folder))


def clip(side, **options):
    return CLIPImageProcessorPil(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}, **options
    )


def squeezing(side):
    return SiglipImageProcessorPil(size={"height": side, "width": side})


def padding(side, color=0.5):
    square = {"height": side, "width": side}
    return LlavaImageProcessorPil(
        do_pad=True,
        size={"shortest_edge": side},
        crop_size=square,
        image_mean=[color] * 3,
        image_std=[0.5] * 3,
    )


# Towers whose pictures have a margin.


def test_the_game_is_drawn_for_the_tower_with_its_margin_in_the_background(siglip):
    for trial in rgb.rgb_trials(siglip, 8):
        row, column = trial.tile
        for condition, image in trial.images.items():
            assert image.size == (SIDE, SIDE)
            pixels = np.asarray(image)
            background = "other_background" if condition == "swapped" else "background"
            color = rgb.PALETTE[trial.answers[background]]
            assert (pixels[GRID * PATCH :] == color).all() and (
                pixels[:, GRID * PATCH :] == color
            ).all()
        tile = np.asarray(trial.images["clean"])[
            row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH
        ]
        assert (tile == rgb.PALETTE[trial.answers["odd"]]).all()


@torch.no_grad()
@pytest.mark.parametrize("tile", [(0, 1), (1, 0), (2, 4), (5, 5)])
def test_the_tiles_token_is_the_one_whose_feature_the_tile_changes_most(siglip, tile):
    trial = rgb.rgb_trial(tile=tile, grid=GRID, tile_px=PATCH, margin=SIDE - GRID * PATCH)
    shown = encode(siglip, [(trial, "clean"), (trial, "erased")])
    module = siglip.nnsight._module
    features = module.get_image_features(pixel_values=shown["pixel_values"]).pooler_output
    changes = (features[0] - features[1]).norm(dim=-1)
    ids = shown["input_ids"][0]
    first = (ids == siglip.config.image_token_id).nonzero()[0].item()
    assert locate(siglip, trial, "tile", ids) == [first + changes.argmax().item()]
    assert changes.argmax() == tile[0] * GRID + tile[1]


def test_a_margin_changes_nothing_that_the_model_does(margined, planted):
    """The planted model with a margin and without: the same trials, answers and effects at the
    tile."""
    plain = planted
    trials, with_margin = rgb.rgb_trials(plain, 3), rgb.rgb_trials(margined, 3)
    assert [trial.name for trial in trials] == [trial.name for trial in with_margin]
    assert with_margin[0].images["clean"].size == (26, 26)
    options = dict(target=["erased"], positions="tile", progress=False)
    for one, other in (
        (rgb.play(plain, trials, progress=False), rgb.play(margined, with_margin, progress=False)),
        (
            rgb.patch_heads(plain, trials, **options),
            rgb.patch_heads(margined, with_margin, **options),
        ),
    ):
        pd.testing.assert_frame_equal(one, other, atol=1e-4)
        assert other.get("correct", pd.Series([True])).all()


def test_attention_lies_on_the_tile_of_what_is_seen(margined):
    layer, head = Placement().poi
    for trial, condition, pattern in attention_from_end(
        margined, rgb.rgb_trials(margined, 4), progress=False
    ):
        seen = np.asarray(as_seen(margined, trial.images[condition]))
        assert seen.shape == (24, 24, 3)
        row, column = np.unravel_index(
            over_picture(margined, trial, pattern[layer, head]).argmax(), (6, 6)
        )
        assert (
            seen[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4]
            == rgb.PALETTE[trial.answers["odd"]]
        ).all()


def test_what_is_seen_ends_where_the_last_token_ends(siglip):
    image = Image.new("RGB", (SIDE, SIDE), "blue")
    image.paste("red", (GRID * PATCH, 0, SIDE, SIDE))
    seen = np.asarray(as_seen(siglip, image))
    assert seen.shape == (GRID * PATCH, GRID * PATCH, 3) and (seen == (0, 0, 255)).all()
    [frame] = measure(siglip, [closer_look.Shown(tuple(rgb.rgb_trials(siglip, 1)))])
    assert {Image.open(io.BytesIO(png)).size for png in frame["png"]} == {(36, 36)}


@pytest.mark.parametrize(
    "sizes, parts",
    [
        (
            dict(grid=6, tile_px=6),
            [
                "36 × 36 px",
                "6 px of a 40 × 40 px picture",
                "last 4 px",
                "grid=6, tile_px=6, margin=4",
            ],
        ),
        (dict(grid=5, tile_px=8), ["5 × 5 tiles", "6 × 6 image tokens", "margin=4"]),
        (dict(grid=6, tile_px=6, margin=5), ["41 × 41 px", "margin=4"]),
    ],
)
def test_a_trial_of_another_size_is_refused_with_the_right_one(siglip, sizes, parts):
    with pytest.raises(rgb.InputError) as error:
        rgb.play(siglip, [rgb.rgb_trial(tile=(1, 1), **sizes)])
    assert all(part in str(error.value) for part in parts), str(error.value)


@pytest.mark.parametrize("margin", [-1, 1.5, None])
def test_a_margin_that_is_none_is_refused(margin):
    with pytest.raises(rgb.InputError, match=f"margin is {margin}; give a whole number"):
        rgb.rgb_trial(margin=margin)


def test_a_runs_trials_are_drawn_again_with_their_margin(siglip):
    trials = rgb.rgb_trials(siglip, 5, seed=3)
    recorded = json.loads(json.dumps(manifest(siglip, trials, {"trials": "5", "seed": 3})))
    assert [described(trial) for trial in recorded_trials(recorded)] == [
        described(trial) for trial in trials
    ]


def test_a_run_with_a_margin_is_finished_again_without_its_model(
    margined_folder, tmp_path, monkeypatch, capsys
):
    runs.sections(monkeypatch, "heads", "pictures", "attention")
    out = tmp_path / "out"
    assert main(["run", "--model", str(margined_folder), "--trials", "4", "--out", str(out)]) == 0
    frame = pd.read_parquet(out / "patch_heads.parquet")
    report = (out / "report.html").read_bytes()
    monkeypatch.setattr("analyses.study.load", None)
    for path in [*out.glob("*.parquet"), out / "report.html"]:
        path.unlink()
    assert main(["report", str(out)]) == 0
    pd.testing.assert_frame_equal(pd.read_parquet(out / "patch_heads.parquet"), frame)
    assert (out / "report.html").read_bytes() == report


# What processors do to pictures of other shapes.


@pytest.fixture
def toy_with():
    """Image processor → the toy with it."""
    toy = rgb.load("toy")
    return lambda reads: replace(toy, processor=SimpleNamespace(image_processor=reads))


def test_as_seen_is_what_the_processor_keeps(toy_with):
    toy = toy_with(clip(24))
    game = rgb.rgb_trials(rgb.load("toy"), 1)[0].images["clean"]
    assert np.array_equal(as_seen(toy, game), game)
    wide = Image.new("RGB", (72, 24), (255, 0, 0))
    wide.paste((0, 0, 255), (24, 0, 48, 24))
    assert np.array_equal(as_seen(toy, wide), Image.new("RGB", (24, 24), (0, 0, 255)))


def test_a_padded_picture_is_seen_with_its_bars(toy_with):
    wide = Image.new("RGB", (48, 24), "blue")
    wide.paste("red", (0, 0, 8, 24))
    seen = np.asarray(as_seen(toy_with(padding(24)), wide), dtype=int)
    # Twelve of the 24 rows show the picture at half its size; the red bar keeps its place at the
    # left.
    assert (np.abs(seen[:5] - 127) <= 2).all() and (np.abs(seen[-5:] - 127) <= 2).all()
    assert (
        np.abs(seen[8:16, :3] - (255, 0, 0)).max() <= 30
        and np.abs(seen[8:16, 6:] - (0, 0, 255)).max() <= 30
    )


def test_as_seen_undoes_no_normalization(toy_with):
    """Of SigLIP, whose mean and deviation are others than CLIP's, and of pictures that are not
    RGB."""
    reads = squeezing(24)
    assert reads.image_mean != clip(24).image_mean
    image = Image.new("RGBA", (24, 24), (10, 200, 30, 255))
    assert (np.asarray(as_seen(toy_with(reads), image)) == (10, 200, 30)).all()


LOST, PADDED, STRETCHED = "lost", "padding", "proportion"


@pytest.mark.parametrize(
    "reads, size, wanted",
    [
        (clip(24), (24, 24), {}),
        (clip(24), (500, 500), {}),
        (clip(24), (48, 24), {LOST: {"left": 0.25, "right": 0.25}}),
        (clip(24), (480, 640), {LOST: {"top": 0.125, "bottom": 0.125}}),
        (
            clip(24, do_resize=False),
            (48, 36),
            {LOST: {"left": 0.25, "right": 0.25, "top": 1 / 6, "bottom": 1 / 6}},
        ),
        (clip(24, do_resize=False), (12, 24), {PADDED: 0.5}),
        (
            CLIPImageProcessorPil(size={"height": 24, "width": 24}, do_center_crop=False),
            (48, 24),
            {STRETCHED: 0.5},
        ),
        (squeezing(24), (24, 24), {}),
        (squeezing(24), (300, 400), {STRETCHED: 4 / 3}),
        (squeezing(24), (1000, 999), {}),
        (padding(24), (24, 24), {}),
        (padding(24), (48, 24), {PADDED: 0.5}),
        (padding(24, color=1.0), (96, 128), {PADDED: 0.25}),
        (padding(24, color=0.0), (48, 24), {PADDED: 0.5}),
    ],
)
def test_fit_tells_what_the_processor_does_to_a_size(toy_with, reads, size, wanted):
    found = fit(toy_with(reads), size)
    lost = wanted.get(LOST, {})
    assert dict(found.lost) == pytest.approx(lost, abs=0.02)
    assert found.padding == pytest.approx(wanted.get(PADDED, 0), abs=0.001)
    assert found.proportion == pytest.approx(wanted.get(STRETCHED, 1), rel=0.01)
    if STRETCHED not in wanted:
        assert found.proportion == 1


def test_fit_counts_the_margin_that_no_token_shows(siglip):
    found = fit(siglip, (SIDE, SIDE))
    assert dict(found.lost) == pytest.approx({"right": 0.1, "bottom": 0.1}, abs=0.01)
    assert found.padding == 0 and found.proportion == 1


@pytest.mark.parametrize("side", [8, 30, 24, 31, 337, 2000])
@pytest.mark.parametrize("reads", [clip(24), clip(24, resample=0), squeezing(24), padding(24)])
def test_square_pictures_of_any_size_fit(toy_with, reads, side):
    found = fit(toy_with(reads), (side, side))
    assert (dict(found.lost), found.padding, found.proportion) == ({}, 0, 1)


SAYS = {
    "crops": (clip(24), "cuts margins off", "25 % at the left, 25 % at the right"),
    "pads": (padding(24), "pads", "50 % of what it sees is padding"),
    "stretches": (squeezing(24), "stretches", "a square becomes 0.5 times as wide as high"),
}


@pytest.mark.parametrize("kind", SAYS)
def test_the_command_says_what_happens_to_pictures_and_nothing_else(kind, tmp_path, capsys):
    reads, does, how = SAYS[kind]
    model, processor = random_llava(0, layers=2)
    processor.image_processor = reads
    folder = save(model, processor, tmp_path / "model")
    lines = ["name,question,clean,image:changed,answer:right"]
    for name, size in (("square", (96, 96)), ("wide", (48, 24))):
        Image.new("RGB", size, "red").save(tmp_path / f"{name}.png")
        Image.new("RGB", size, "blue").save(tmp_path / f"{name}-changed.png")
        lines.append(f"{name},Which color is the odd color out?,{name}.png,{name}-changed.png,red")
    (tmp_path / "trials.csv").write_text("\n".join(lines))
    assert (
        main(["play", "--model", str(folder), "--trials-file", str(tmp_path / "trials.csv")]) == 0
    )
    printed = capsys.readouterr().out
    said = f"{folder} {does} the pictures of 1 of 2 trials, e.g. of 'wide' (48 × 24 px: {how})\n"
    assert said in printed and sum(other in printed for _, other, _ in SAYS.values()) == 1


@pytest.mark.parametrize(
    "family, says",
    [
        # 97 × 63 px are made 96 × 64: nobody sees that.
        ("qwen2_vl", ""),
        ("llava_next", r"stretches .* 0\.\d+ times as wide as high, in the first of 2 views\)"),
    ],
)
def test_stretching_is_told_where_it_is_seen_and_of_which_view(family, says, capsys):
    kind = families.FAMILIES[family]
    model = rgb.wrap(*families.built(family), name=family, tiles=kind.tiles)
    images = {name: Image.new("RGB", (97, 63), name) for name in ("red", "blue")}
    images["clean"] = images.pop("red")
    prompt = model.prompt("Which color is the background?")
    about_pictures(model, [rgb.Trial("one", prompt, images, {"right": "red"})])
    printed = capsys.readouterr().out
    assert re.search(says, printed) if says else "stretches" not in printed
