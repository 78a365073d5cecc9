"""Pictures of any kind become what a person sees, or are refused in a sentence."""

import struct
import warnings

import numpy as np
import pytest
from PIL import Image, ImageDraw

import rgb_circuit as rgb
from analyses.command import main
from rgb_circuit.pictures.picture import as_rgb

QUESTION = "Which color is the odd color out? Respond in one word"
SIZE = (24, 24)


def plain(mode, color):
    return Image.new(mode, SIZE, color)


def numbers(value, kind):
    return Image.fromarray(np.full(SIZE, value, kind))


def palette(color, **info):
    image = plain("P", 0)
    image.putpalette([*color, *[0] * 765])
    image.info |= info
    return image


def keyed(color):
    """RGB, with one colour that is transparent."""
    image = plain("RGB", color)
    image.info["transparency"] = color
    return image


def mine(**images):
    return rgb.Trial("mine", f"USER: <image>\n{QUESTION}\nASSISTANT:", images, {"right": "red"})


def written(folder, image, extension, **options):
    """A CSV whose clean picture is ``image``, saved as it is."""
    image.save(folder / f"clean.{extension}", **options)
    plain("RGB", (1, 2, 3)).save(folder / "other.png")
    path = folder / "trials.csv"
    cells = f"mine,{QUESTION},clean.{extension},other.png,red"
    path.write_text(f"name,question,clean,image:other,answer:right\n{cells}\n")
    return path


RED, GREY = (255, 0, 0), (64, 64, 64)

# Picture, the file format that holds it, and the colour that a viewer shows, within 2 of 255 (JPEG
# and Lab round).
SHOWN = {
    "8-bit grey": (plain("L", 64), "png", GREY),
    "black and white": (plain("1", 1), "png", (255, 255, 255)),
    "16-bit grey": (numbers(64 * 257, np.uint16), "png", GREY),
    "16-bit grey, almost white": (numbers(65535 - 128, np.uint16), "png", (255, 255, 255)),
    "16-bit grey TIFF": (numbers(64 * 257, np.uint16), "tiff", GREY),
    "16-bit grey TIFF, big-endian": (numbers(64 * 257, ">u2"), "tiff", GREY),
    "16-bit grey of Netpbm": (numbers(64 * 257, np.uint16), "pgm", GREY),
    "decimal": (numbers(0.25, np.float32), "tiff", GREY),
    "decimal white": (numbers(1.0, np.float32), "tiff", (255, 255, 255)),
    "transparent": (plain("RGBA", (0, 0, 0, 0)), "png", (255, 255, 255)),
    "transparent colour": (keyed(RED), "png", (255, 255, 255)),
    "half red": (plain("RGBA", (255, 0, 0, 128)), "png", (255, 127, 127)),
    "half black": (plain("LA", (0, 128)), "png", (127, 127, 127)),
    "palette": (palette(RED), "png", RED),
    "transparent palette": (palette(RED, transparency=0), "png", (255, 255, 255)),
    "half transparent palette": (palette(RED, transparency=bytes([128])), "png", (255, 127, 127)),
    "transparent GIF": (palette(RED, transparency=0), "gif", (255, 255, 255)),
    "CMYK": (plain("CMYK", (0, 255, 255, 0)), "tiff", RED),
    "CMYK JPEG": (plain("CMYK", (0, 255, 255, 0)), "jpg", RED),
    "Lab": (plain("RGB", (200, 30, 60)).convert("LAB"), "tiff", (200, 30, 60)),
}
# No file format keeps these.
IN_MEMORY = {
    "YCbCr": (plain("RGB", RED).convert("YCbCr"), RED),
    "HSV": (plain("RGB", RED).convert("HSV"), RED),
    "premultiplied": (plain("RGBA", (255, 0, 0, 128)).convert("RGBa"), (255, 127, 127)),
    "premultiplied grey": (plain("LA", (0, 128)).convert("La"), (127, 127, 127)),
    "palette with transparency": (plain("PA", (0, 0)), (255, 255, 255)),
}


@pytest.mark.parametrize("kind", SHOWN)
def test_a_file_is_shown_as_viewers_show_it(kind, tmp_path):
    image, extension, color = SHOWN[kind]
    shown = rgb.read_trials(written(tmp_path, image, extension))[0].images["clean"]
    assert shown.mode == "RGB" and shown.size == SIZE
    np.testing.assert_allclose(
        np.asarray(shown, dtype=int), np.broadcast_to(color, (*SIZE, 3)), atol=2
    )


@pytest.mark.parametrize("kind", [*SHOWN, *IN_MEMORY])
def test_so_is_a_picture_of_a_trial_made_by_hand(kind):
    image, *_, color = (SHOWN | IN_MEMORY)[kind]
    shown = mine(clean=image, other=plain("RGB", (1, 2, 3))).images["clean"]
    assert shown.mode == "RGB"
    np.testing.assert_allclose(
        np.asarray(shown, dtype=int), np.broadcast_to(color, (*SIZE, 3)), atol=2
    )


def test_every_level_of_16_bits_becomes_the_nearest_of_8():
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    shown = np.asarray(as_rgb(Image.fromarray(levels)), dtype=float)
    assert np.abs(shown - levels[..., None] / 257).max() <= 0.5


def test_the_transparent_grey_of_a_16_bit_file_is_white(tmp_path):
    levels = np.zeros(SIZE, dtype=np.uint16)
    levels[:, 12:] = 300
    Image.fromarray(levels).save(tmp_path / "grey.png", transparency=300)
    shown = np.asarray(as_rgb(Image.open(tmp_path / "grey.png")))
    assert (shown[:, :12] == 0).all() and (shown[:, 12:] == 255).all()


def test_plain_rgb_stays_the_same_object():
    image, other = plain("RGB", RED), plain("RGB", GREY)
    trial = mine(clean=image, other=other)
    assert trial.images["clean"] is image and trial.images["other"] is other
    assert as_rgb(image) is image


def test_a_picture_is_upright_in_a_trial_made_by_hand_too(tmp_path):
    image = Image.new("RGB", (48, 24), "blue")
    image.paste("red", (0, 0, 8, 24))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    shown = mine(clean=Image.open(tmp_path / "turned.png")).images["clean"]
    # The left edge comes out on top.
    assert (
        shown.size == (24, 48)
        and shown.getpixel((12, 4)) == RED
        and shown.getpixel((12, 40)) == (0, 0, 255)
    )
    assert as_rgb(shown) is shown


def ink_profile(lab):
    """An ICC profile for CMYK; ``lab`` gives, for each of the 16 full or missing inks, the colour
    as three bytes of Lab."""
    identity = struct.pack(">9i", *(65536 * value for value in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    corners = bytes(
        byte for inks in range(16) for byte in lab(*(inks >> shift & 1 for shift in (3, 2, 1, 0)))
    )
    linear = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + 4 * linear + corners + 3 * linear
    table += bytes(-len(table) % 4)
    start = 128 + 4 + 12
    header = struct.pack(
        ">I4sI4s4s4s", start + len(table), b"none", 0x02400000, b"prtr", b"CMYK", b"Lab "
    )
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061) + bytes(48)
    return header + struct.pack(">I4sII", 1, b"A2B0", start, len(table)) + table


def test_inks_look_as_their_profile_says(tmp_path):
    """Here cyan is invisible, and magenta is black."""
    profile = ink_profile(lambda cyan, magenta, yellow, black: (0 if magenta else 255, 128, 128))
    for inks, color in (((255, 0, 0, 0), 255), ((0, 255, 0, 0), 0)):
        image = plain("CMYK", inks)
        image.info["icc_profile"] = profile
        for shown in (
            as_rgb(image),
            rgb.read_trials(written(tmp_path, image, "jpg", icc_profile=profile))[0].images[
                "clean"
            ],
        ):
            assert np.abs(np.asarray(shown, dtype=int) - color).max() <= 2


def broken(path):
    plain("RGB", RED).save(path)
    path.write_bytes(path.read_bytes()[:60])
    return Image.open(path)


def frames(path, **options):
    plain("RGB", RED).save(path, save_all=True, append_images=[plain("RGB", GREY)], **options)
    return Image.open(path)


def closed(path):
    plain("RGB", RED).save(path)
    with Image.open(path) as image:
        return image


def with_profile(path):
    image = plain("CMYK", (1, 2, 3, 4))
    image.info["icc_profile"] = b"none"
    return image


REFUSED = {
    "array": (
        lambda path: np.zeros((24, 24, 3), np.uint8),
        ["a picture is a ndarray", "PIL.Image.fromarray"],
    ),
    "path": (lambda path: "red.png", ["a picture is a str", "PIL.Image.open"]),
    "32-bit": (
        lambda path: numbers(70000, np.int32),
        ["32-bit whole numbers, here from 70000 to 70000", "8 or 16 bits"],
    ),
    "32-bit of a small range": (
        lambda path: numbers(200, np.int32),
        ["32-bit whole numbers, here from 200 to 200"],
    ),
    "decimal up to 255": (
        lambda path: numbers(200.0, np.float32),
        ["decimal numbers from 200 to 200", "0 (black) to 1 (white)"],
    ),
    "decimal below zero": (
        lambda path: numbers(-0.1, np.float32),
        ["decimal numbers from -0.1 to -0.1"],
    ),
    "not a number": (lambda path: numbers(np.nan, np.float32), ["from nan to nan"]),
    "GIF": (lambda path: frames(path / "a.gif"), ["2 frames or pages", "save the one"]),
    "APNG": (lambda path: frames(path / "a.png"), ["2 frames or pages"]),
    "TIFF": (lambda path: frames(path / "a.tiff"), ["2 frames or pages"]),
    "cut short": (
        lambda path: broken(path / "a.png"),
        ["cannot read this picture", "save it as PNG or JPEG"],
    ),
    "closed": (lambda path: closed(path / "a.png"), ["cannot read this picture"]),
    "profile": (with_profile, ["colour profile of this CMYK picture", "save it as an RGB picture"]),
    "nothing": (lambda path: Image.new("RGB", (0, 4)), ["0 × 4 px"]),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_shown_is_refused_in_a_sentence(kind, tmp_path):
    make, parts = REFUSED[kind]
    with pytest.raises(rgb.InputError) as error:
        mine(other=plain("RGB", RED), clean=make(tmp_path))
    assert all(part in str(error.value) for part in ["trial 'mine', picture 'clean'", *parts]), str(
        error.value
    )


@pytest.mark.parametrize(
    "extension, image", [("tiff", numbers(70000, np.int32)), ("tiff", numbers(300.0, np.float32))]
)
def test_a_file_that_cannot_be_shown_is_named_by_row_and_column(extension, image, tmp_path, capsys):
    path = written(tmp_path, image, extension)
    with pytest.raises(
        rgb.InputError,
        match=r"trials.csv, row 2, column 'clean', .*clean.tiff: this picture holds .* save it "
        r"with",
    ):
        rgb.read_trials(path)
    assert main(["play", "--trials-file", str(path)]) == 2
    assert "row 2, column 'clean'" in capsys.readouterr().err


def test_the_previews_behind_a_cameras_picture_do_not_make_it_an_animation(tmp_path):
    shown = frames(tmp_path / "a.mpo")
    assert shown.format == "MPO" and shown.n_frames == 2
    assert np.abs(np.asarray(as_rgb(shown), dtype=int) - RED).max() <= 2


def test_two_conditions_with_the_same_pixels_are_told(tmp_path):
    one, twin = plain("RGB", RED), plain("RGBA", (*RED, 255))
    with pytest.warns(
        UserWarning, match="trial 'mine' has the same picture in 'clean' and 'changed'"
    ):
        mine(clean=one, moved=plain("RGB", GREY), changed=twin)
    with warnings.catch_warnings(action="error"):
        mine(clean=one, moved=plain("RGB", GREY))


def scene(tmp_path, *pictures):
    """A CSV with a trial for each (clean, changed)."""
    lines = ["name,question,clean,image:changed,answer:right"]
    for index, (clean, changed) in enumerate(pictures):
        clean.save(tmp_path / f"{index}-clean.png"), changed.save(tmp_path / f"{index}-changed.png")
        lines.append(f"trial {index},{QUESTION},{index}-clean.png,{index}-changed.png,red")
    path = tmp_path / "scene.csv"
    path.write_text("\n".join(lines))
    return path


def bar(left, right, size=(48, 24)):
    image = Image.new("RGB", size, "blue")
    ImageDraw.Draw(image).rectangle((left, 0, right, size[1]), fill="red")
    return image


def test_the_command_says_between_which_pictures_there_is_no_difference(tmp_path, capsys):
    different, twins, beside = (
        (bar(18, 22), bar(26, 30)),
        (bar(18, 22), bar(18, 22)),
        (bar(0, 8), bar(40, 47)),
    )
    path = scene(tmp_path, different, twins, beside, twins)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert main(["play", "--trials-file", str(path)]) == 0
    assert not [str(one.message) for one in warned if "same picture" in str(one.message)]
    printed = capsys.readouterr().out
    pictures = "the pictures 'clean' and 'changed' of"
    assert (
        f"No difference between {pictures} 2 of 4 trials, e.g. of 'trial 1': they are the same "
        f"picture\n" in printed
    )
    # Both bars lie outside the square that the toy is shown.
    assert (
        f"toy sees no difference between {pictures} 1 of 4 trials, e.g. of 'trial 2': the "
        "difference is cut off" in printed
    )
    assert printed.count("o difference between") == 2


def test_what_is_too_fine_for_the_model_is_told(tmp_path, capsys):
    """A single pixel of a picture that is shown at a fortieth of its size."""
    coarse, fine = plain("RGB", "blue").resize((960, 960)), plain("RGB", "blue").resize((960, 960))
    fine.putpixel((481, 481), (0, 0, 250))
    assert main(["play", "--trials-file", str(scene(tmp_path, (coarse, fine)))]) == 0
    assert (
        "toy sees no difference between the pictures 'clean' and 'changed' of 1 of 1 trials"
        in capsys.readouterr().out
    )


def test_an_overlay_shows_a_transparent_picture_on_white():
    from rgb_circuit.plots import veiled

    shown = veiled(np.full((6, 6), 1 / 36), plain("RGBA", (0, 0, 0, 0)))
    # A quarter lifted: 0.85 · ¾ of the grey veil over white.
    np.testing.assert_allclose(
        np.asarray(shown, dtype=int), round(255 - 0.6375 * (255 - 89)), atol=2
    )
