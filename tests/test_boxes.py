"""A box of pixels is a position word: the image tokens that cover it, whatever is done to a
picture."""

from __future__ import annotations

import functools
from dataclasses import replace
from math import inf

import families
import numpy as np
import pytest
import torch
from brute_force import BruteForce
from families import FAMILIES, at_hand
from oracle import Oracle
from PIL import Image
from test_exactness import CLOSE
from test_unequal_pictures import WORDS, noise

import rgb_circuit as rgb
from analyses.attention_statistics import MASSES, attention_statistics
from rgb_circuit.calls.attention import attention_from_end
from rgb_circuit.pictures.views import tokens_of, views_of
from rgb_circuit.prompts import answer_tokens, encode, locate

# A cropped picture; one resized to a square; one at its own size; pooled and merged places; several
# views.
KINDS = at_hand(
    "llava_llama3", "llava_qwen2", "llava_full", "llava_pixtral", "qwen2_5_vl", "qwen3_vl", "glm4v",
    "gemma3",
    "llava_next", "llava_onevision", "mistral3", "internvl",
)  # fmt: skip


class Subject:
    """A family's small model whose vision tower lets no place see another one."""

    def __init__(self, name):
        self.module, processor = families.built(name)
        family = FAMILIES[name]
        with torch.no_grad():
            for part, parameter in self.module.named_parameters():
                seeing = "vision" in part or "visual" in part
                if seeing and any(
                    word in part for word in ("out_proj", "o_proj", "attn.proj", "projection_layer")
                ):
                    parameter.zero_()
        self.bare = BruteForce(self.module, processor, family.options)
        self.model = rgb.wrap(self.module, processor, name=name, tiles=family.tiles)
        self.side, self.place = family.side, family.side // family.grid
        self.oracle = Oracle(self.module, self.bare.inputs)

    def trial(self, size, box, seed=0):
        """Two pictures that differ inside a box alone."""
        clean = noise(*size, seed)
        changed = clean.copy()
        changed.paste(Image.eval(clean.crop(box), lambda value: (value + 128) % 256), box)
        prompt = self.model.prompt("Which color is the background? Respond in one word")
        boxes = dict.fromkeys(("clean", "changed"), {"cup": box})
        return rgb.Trial(
            f"{size} {box}", prompt, {"clean": clean, "changed": changed}, WORDS, boxes=boxes
        )

    @torch.no_grad()
    def differing(self, trial):
        """The positions at which the language model is given something else."""
        one, other = (
            self.oracle.unchanged(trial, condition)[1]["resid_pre"][0] for condition in trial.images
        )
        return (one - other).abs().amax(-1).gt(1e-6).nonzero().flatten().tolist()

    def found(self, trial, condition="clean", words="cup"):
        ids = encode(self.model, [(trial, condition)])["input_ids"][0]
        return locate(self.model, trial, words, ids, condition)


subject_of = functools.cache(Subject)


@pytest.fixture(scope="module", params=KINDS)
def subject(request):
    return subject_of(request.param)


def test_a_box_is_the_tokens_that_change_with_its_pixels(subject):
    """In a picture that the model is shown as it is."""
    side, place = subject.side, subject.place
    for box in ((place, 0, 3 * place, place), (place + 1, 2 * place - 1, 2 * place, 4 * place)):
        trial = subject.trial((side, side), box)
        assert subject.found(trial) == subject.differing(trial)


@pytest.mark.parametrize("shape", [(2, 1), (2, 3)], ids=str)
def test_a_box_lies_right_in_pictures_of_any_size(subject, shape):
    """Resampling blurs an edge into the next place, no further; nothing is missed but such
    edges."""
    size = tuple(subject.side * number for number in shape)
    box = (
        size[0] // 2 - size[0] // 6,
        size[1] // 2 - size[1] // 6,
        size[0] // 2 + 3,
        size[1] // 2 + 5,
    )
    trial = subject.trial(size, box)
    found, differing = subject.found(trial), subject.differing(trial)
    assert found and set(found) <= set(differing)
    image = subject.found(trial, words="image")
    near = set()
    for view in views_of(subject.model, trial.images["clean"]):
        padded = np.pad(view.tokens, 1, constant_values=-1)
        rows, columns = np.nonzero(np.isin(padded, [image.index(place) for place in found]))
        near |= {int(padded[row + down, column + right]) for row, column in zip(rows, columns)
                 for down in (-1, 0, 1) for right in (-1, 0, 1)}  # fmt: skip
    assert {image.index(place) for place in differing} <= near


def test_views_have_all_tokens_of_a_picture(subject):
    for size in ((subject.side, 2 * subject.side), (subject.side + 7, subject.side)):
        trial = subject.trial(size, (0, 0, 3, 3))
        views = views_of(subject.model, trial.images["clean"])
        assert tokens_of(views) == len(subject.found(trial, words="image"))
        every = np.concatenate([view.tokens.ravel() for view in views])
        assert len(set(every[every >= 0])) == (every >= 0).sum()


def test_a_box_is_a_word_wherever_positions_are(subject):
    """Restored at its tokens, looked at, and read."""
    trial = subject.trial(
        (2 * subject.side, subject.side), (subject.side - 4, 4, subject.side + 9, 20)
    )
    model, places, oracle = subject.model, subject.found(trial), subject.oracle
    end = [len(subject.bare.inputs(trial, "clean")["input_ids"][0]) - 1]
    given = oracle.unchanged(trial, "clean")[1]
    variants = {
        "restored": [rgb.Edit(0, None, component="resid_pre", positions="cup")],
        "unseen": [rgb.AttentionEdit(1, keys="cup")],
        "looking": [rgb.AttentionEdit(2, 1, queries="cup", keys="first")],
    }
    changes = [
        [("resid_pre", 0, None, places, given["resid_pre"][0])],
        [("bias", 1, None, end, places, -inf)],
        [("bias", 2, 1, places, [0], -inf)],
    ]
    target = oracle.unchanged(trial, "changed")[0]
    tokens = list(answer_tokens(model, trial).values())
    wanted = torch.stack([oracle.run(trial, "changed", one)[0] - target for one in changes])[
        :, tokens
    ]
    found = rgb.patch_edits(model, trial, variants, target="changed", progress=False)["effect"]
    np.testing.assert_allclose(
        found.to_numpy().reshape(wanted.shape), wanted, atol=CLOSE * float(target.abs().max())
    )
    assert wanted[:2].abs().amax(-1).min() > 1e-4


@pytest.fixture(scope="module")
def cropped():
    subject = subject_of("llava_llama3")
    # Wrapping it takes forwards, and so does asking which form of an answer it gives.
    whole = subject.trial((subject.side, subject.side), (0, 0, 4, 4))
    rgb.play(subject.model, whole, progress=False)
    return subject


def test_a_box_that_is_cropped_away_is_refused(cropped, no_forward):
    side = cropped.side
    trial = cropped.trial((3 * side, side), (0, 0, side - 2, side))
    with pytest.raises(
        rgb.InputError, match="box 'cup' of trial .* covers no pixel of what .* sees of"
    ):
        rgb.patch_heads(cropped.model, trial, target="changed", positions="cup")
    with pytest.raises(
        rgb.InputError, match="has a box 'cup' in 'clean' and none in 'changed', whose tokens"
    ):
        trial = replace(trial, boxes={"clean": trial.boxes["clean"]})
        rgb.patch_heads(cropped.model, trial, target="changed", positions="cup")
    with pytest.raises(
        rgb.InputError, match="keys is 'mug'; use 'end', .*'cup', or a list of ints; trial"
    ):
        rgb.knockout(cropped.model, trial, queries="end", keys="mug")


def test_attention_to_a_box_is_that_to_the_tokens_that_cover_it():
    subject = subject_of("llava_next")
    side = subject.side
    first = subject.trial((2 * side, side), (0, 0, side, side))
    both = {"cup": (0, 0, side, side), "mug": (side, 4, side + 9, 20)}
    trials = [
        replace(first, boxes={"clean": both}),
        replace(first, name="one", boxes={"clean": {"mug": both["mug"]}}),
    ]
    frame = attention_statistics(subject.model, trials, progress=False).set_index(["trial", "box"])
    assert sorted(set(frame.index)) == sorted(
        [(first.name, "cup"), (first.name, "mug"), ("one", "mug")]
    )
    for trial, _, pattern in attention_from_end(subject.model, trials, progress=False):
        for name in trial.boxes["clean"]:
            rows = frame.loc[(trial.name, name)]
            wanted = pattern[..., subject.found(trial, words=name)].sum(-1).ravel()
            np.testing.assert_allclose(rows["tile"], wanted, atol=1e-5)
            np.testing.assert_allclose(rows[list(MASSES)].sum(axis=1), 1, atol=1e-5)
            whole = pattern[..., subject.found(trial, words="image")].sum(-1).ravel()
            np.testing.assert_allclose(rows["tile"] + rows["picture"], whole, atol=1e-5)
    with pytest.raises(rgb.InputError, match="has no tile and no box in 'changed'"):
        attention_statistics(subject.model, trials, ["changed"])
