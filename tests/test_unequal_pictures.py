"""Pictures of unequal size: what lines up equals plain hooks, and what does not is refused."""

from __future__ import annotations

import functools
from dataclasses import replace
from math import inf

import families
import numpy as np
import pytest
import torch
from brute_force import BruteForce
from families import FAMILIES, LAYERS, NAMES, at_hand
from oracle import Oracle
from PIL import Image
from test_exactness import CLOSE

import rgb_circuit as rgb
from analyses.evidence import examine
from analyses.evidence.verdict import UNEQUAL
from rgb_circuit.hypothesis import Hypothesis, Prediction
from rgb_circuit.prompts import answer_tokens

# One size of all pictures; as many tokens as the picture is large; several views.
SIZED = at_hand("llava_llama3", "llava_pixtral", "qwen2_5_vl", "qwen3_vl", "llava_next")
of_unequal_length = pytest.mark.parametrize("subject", SIZED[1:], indirect=True)
BOTH_ENDS = (0, 1, -2, -1)
WORDS = {"right": "red", "other": "green"}


def noise(width, height, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SIZED])
def test_z_at_the_end_agrees_with_plain_hooks_in_every_other_family(name):
    """Those of `SIZED` are asked far more below."""
    module, processor = families.built(name)
    family = FAMILIES[name]
    model = rgb.wrap(module, processor, name=name, tiles=family.tiles)
    bare, side = BruteForce(module, processor, family.options), family.side
    trial = rgb.Trial(
        "photo",
        model.prompt("Which color is the background? Respond in one word"),
        {"clean": noise(side, side, 0), "changed": noise(2 * side, side, 1)},
        WORDS,
        expected={"clean": "right", "changed": "other"},
    )
    ids = list(answer_tokens(model, trial).values())
    heads = [(0, 0), (1, 2), (LAYERS - 1, 3)]
    plain, own, *_ = bare.unpatched(trial, "changed")
    given = bare.unpatched(trial, "clean")[1]
    lengths = {len(z[0]) for z in (given, own)}
    assert len(lengths) == 2 or not family.any_size
    writes = [[(*head, len(own[0]) - 1, given[head[0]][-1, head[1]])] for head in heads]
    wanted = torch.stack([bare.run(trial, "changed", write)[0] for write in writes]) - plain
    wanted, close = wanted[:, ids].numpy(), CLOSE * float(plain.abs().max())
    frame = rgb.patch_heads(model, trial, target="changed", heads=heads, progress=False)
    found = frame["effect"].to_numpy().reshape(wanted.shape)
    assert np.abs(wanted).max() > 10 * close
    np.testing.assert_allclose(found, wanted, atol=close)


class Subject:
    """A family's small model, two trials of photographs, and hooks on the bare model."""

    def __init__(self, name):
        module, processor = families.built(name)
        family = FAMILIES[name]
        self.bare = BruteForce(module, processor, family.options)
        self.model = rgb.wrap(module, processor, name=name, tiles=family.tiles)
        self.oracle = Oracle(module, self.bare.inputs)
        side = family.side
        sizes = [{"clean": (side, side), "changed": (2 * side, side)}]
        sizes += [{"clean": (side, 2 * side), "changed": (side, side)}]
        self.trials = [
            rgb.Trial(
                f"photo {number}",
                self.model.prompt("Which color is the background? Respond in one word"),
                {
                    condition: noise(*size, 2 * number + index)
                    for index, (condition, size) in enumerate(of.items())
                },
                WORDS,
                expected={"clean": "right", "changed": "other"},
            )
            for number, of in enumerate(sizes)
        ]
        self.tokens = list(answer_tokens(self.model, self.trials[0]).values())

    @functools.cached_property
    def target(self):
        return self.oracle.unchanged(self.trials[0], "changed")

    @property
    def close(self):
        return CLOSE * float(self.target[0].abs().max())

    def ids(self, condition):
        return self.bare.inputs(self.trials[0], condition)["input_ids"][0]

    def spots(self, condition="changed"):
        """Positions as in an edit → token positions."""
        ids = self.ids(condition)
        image = (ids == self.model.config.image_token_id).nonzero().flatten().tolist()
        every = list(range(len(ids)))
        words = self.model.processor.tokenizer(
            "Which color is the background ? Respond in one word"
        )
        question = [
            token
            for token in words["input_ids"]
            if token != self.model.config.text_config.bos_token_id
        ]
        behind = every[image[-1] + 1 :]
        begin = next(
            place for place in behind if ids[place : place + len(question)].tolist() == question
        )
        return {
            "end": every[-1:], "first": [0], "image": image, BOTH_ENDS: [0, 1, *every[-2:]],
            "question": every[begin : begin + len(question)],
        }  # fmt: skip

    def restored(self, kind, layer, head, words):
        """A change of the oracle's: what the clean run has as far from that end of its prompt."""
        given, like = (
            run[1][kind][layer]
            for run in (self.oracle.unchanged(self.trials[0], "clean"), self.target)
        )
        lined_up, before = torch.zeros_like(like), self.spots()["image"][0]
        behind = len(like) - 1 - self.spots()["image"][-1]
        lined_up[:before], lined_up[-behind:] = given[:before], given[-behind:]
        return kind, layer, head, self.spots()[words], lined_up


subject_of = functools.cache(Subject)


@pytest.fixture(scope="module", params=SIZED)
def subject(request):
    return subject_of(request.param)


def variants_of(subject):
    """Name → edits, and the oracle's changes."""
    end, image = subject.spots()["end"], subject.spots()["image"]
    both = {
        f"{kind} at {words}": (
            [rgb.Edit(layer, head, component=kind, positions=words)],
            [subject.restored(kind, layer, head, words)],
        )
        for kind, layer, head, words in [
            ("z", 0, 0, "end"), ("z", LAYERS - 1, 3, "end"), ("z", 1, 2, "question"),
            ("z", 0, 1, BOTH_ENDS),
            ("resid_pre", 1, None, "end"), ("attn_out", 2, None, "question"),
            ("mlp_out", 0, None, "end"),
        ]
    }  # fmt: skip
    return both | {
        "jointly": (
            [rgb.Edit(0, 1), rgb.Edit(1, 2), rgb.Edit(2, 0, "changed")],
            [subject.restored("z", 0, 1, "end"), subject.restored("z", 1, 2, "end"),
             ("z", 2, 0, end, subject.target[1]["z"][2])],
        ),
        "silenced": ([rgb.Edit(1, 1, "zero")], [("scale", 1, 1, end, 0.0, "z")]),
        "knocked out": ([rgb.AttentionEdit(2)], [("bias", 2, None, end, image, -inf)]),
        "blind to the first": (
            [rgb.AttentionEdit(1, queries="question", keys="first")],
            [("bias", 1, None, subject.spots()["question"], [0], -inf)],
        ),
        "first": (
            [rgb.Edit(0, 0, positions="first"), rgb.Edit(3, 1)],
            [subject.restored("z", 3, 1, "end")],
        ),
    }  # fmt: skip


def test_edits_across_pictures_of_unequal_size_agree_with_plain_hooks(subject):
    both, [trial, _] = variants_of(subject), subject.trials
    wanted = torch.stack(
        [subject.oracle.run(trial, "changed", changes)[0] for _, changes in both.values()]
    )
    wanted = (wanted - subject.target[0])[:, subject.tokens].numpy()
    variants = {name: edits for name, (edits, _) in both.items()}
    found = rgb.patch_edits(subject.model, trial, variants, target="changed", progress=False)[
        "effect"
    ]
    found = found.to_numpy().reshape(wanted.shape)
    for name, one, other in zip(both, found, wanted):
        assert np.abs(other).max() > 10 * subject.close, name
        assert np.abs(one - other).max() < subject.close, name


def test_the_mean_over_prompts_of_unequal_length_agrees_with_plain_hooks(subject):
    trial, other = subject.trials
    mean = (
        sum(subject.oracle.unchanged(one, "changed")[1]["z"][1][-1, 2] for one in (trial, other))
        / 2
    )
    given = torch.zeros_like(subject.target[1]["z"][1])
    given[-1, 2] = mean
    wanted = subject.oracle.run(trial, "changed", [("z", 1, 2, subject.spots()["end"], given)])[0]
    wanted = (wanted - subject.target[0])[subject.tokens].numpy()
    variants = {"mean": [rgb.Edit(1, 2, "mean")]}
    frame = rgb.patch_edits(
        subject.model, subject.trials, variants, target="changed", progress=False
    )
    found = frame.loc[frame["trial"] == trial.name, "effect"].to_numpy()
    assert (
        np.abs(wanted).max() > 10 * subject.close and np.abs(found - wanted).max() < subject.close
    )


def test_what_is_read_of_pictures_of_unequal_size_is_the_bare_models(subject):
    every = [(trial, condition) for trial in subject.trials for condition in trial.images]
    logits = [subject.oracle.unchanged(*one)[0][subject.tokens].numpy() for one in every]
    ids = [int(subject.oracle.unchanged(*one)[0].argmax()) for one in every]
    played = rgb.play(subject.model, subject.trials, progress=False)
    decode = subject.model.processor.tokenizer.decode
    assert played["answer"].tolist() == [decode([token]).strip() for token in ids]
    columns = [f"logit_{role}" for role in WORDS]
    np.testing.assert_allclose(played[columns], np.stack(logits), atol=subject.close)
    frame = rgb.lens(
        subject.model, subject.trials, ["clean", "changed"], layers=[LAYERS - 1], progress=False
    )
    np.testing.assert_allclose(frame["logit"], np.concatenate(logits), atol=subject.close)
    frame = rgb.direct_effects(subject.model, subject.trials, ["clean", "changed"], progress=False)
    keys = ["trial", "condition", "role"]
    sums = frame.groupby(keys, observed=True, sort=False)["direct_effect"].sum()
    np.testing.assert_allclose(sums, np.concatenate(logits), atol=10 * subject.close)


def test_gradients_across_pictures_of_unequal_size_agree_with_plain_hooks(subject):
    trial, own = (
        subject.trials[0],
        subject.bare.gradients(subject.trials[0], "changed", subject.tokens),
    )
    wanted = [
        (gradient[:, -1] * (subject.oracle.unchanged(trial, "clean")[1]["z"][layer][-1] - z[-1]))
        .sum(-1)
        .T
        for layer, (z, gradient) in own.items()
    ]
    frame = rgb.attribute(subject.model, trial, target="changed", progress=False)
    np.testing.assert_allclose(frame["effect"], torch.cat(wanted).flatten(), atol=3 * subject.close)


def test_a_text_about_a_picture_goes_on_from_another_of_unequal_size(subject):
    trial, edits = subject.trials[0], [rgb.Edit(3, 1), rgb.Edit(2, None, component="mlp_out")]
    changes = [subject.restored("z", 3, 1, "end"), subject.restored("mlp_out", 2, None, "end")]
    wanted = subject.oracle.run(trial, "changed", changes)[0]
    said = rgb.generate(subject.model, trial, "changed", edits, max_new_tokens=1).tokens
    [row] = said[said["run"] == "edited"].itertuples()
    assert row.id == int(wanted.argmax()) and abs(row.logit - float(wanted.max())) < subject.close


@of_unequal_length
@pytest.mark.parametrize(
    "options",
    [dict(component=component) for component in ("pattern", "value", "query", "key")]
    + [dict(positions=words) for words in ("image", "all")]
    + [dict(without="image")],
    ids=str,
)
def test_what_does_not_line_up_is_refused_before_any_forward(subject, no_forward, options):
    asked = (
        "shows 'clean' .* and 'changed' .* px. in prompts of .* line up from either end to "
        "the picture only"
    )
    with pytest.raises(rgb.InputError, match=f"trial 'photo 0' {asked}; restore .*'end'"):
        rgb.patch_heads(subject.model, subject.trials, target="changed", **options)


def test_a_path_into_a_query_agrees_with_plain_hooks(subject):
    """Senders 0.1 and the MLP of layer 1; all else below layer 2 is held."""
    oracle, trial = subject.oracle, subject.trials[0]
    given, own = oracle.unchanged(trial, "clean")[1], subject.target[1]
    every, changes = subject.spots()["end"], []
    for layer in (0, 1):
        z, mlp_out = own["z"][layer].clone(), own["mlp_out"][layer].clone()
        if layer == 0:
            z[-1, 1] = given["z"][0][-1, 1]
        else:
            mlp_out[-1] = given["mlp_out"][1][-1]
        changes += [("z", layer, head, every, z) for head in range(oracle.heads)]
        changes += [("mlp_out", layer, None, every, mlp_out)]
    query = oracle.run(trial, "changed", changes)[1]["query"][2][1]
    wanted = oracle.run(trial, "changed", [("query", 2, 1, every, query)])[0] - subject.target[0]
    paths = {"query": [rgb.PathEdit(2, 1, [(0, 1), ("mlp", 1)])]}
    frame = rgb.patch_edits(subject.model, trial, paths, target="changed", progress=False)
    assert wanted[subject.tokens].abs().max() > 10 * subject.close
    np.testing.assert_allclose(frame["effect"], wanted[subject.tokens], atol=subject.close)


@of_unequal_length
def test_a_path_into_keys_is_refused(subject, no_forward):
    paths = {"key": [rgb.PathEdit(2, 1, [(0, 1)], into="key")]}
    with pytest.raises(rgb.InputError, match="a path into keys would mix up positions"):
        rgb.patch_edits(subject.model, subject.trials, paths, target="changed", progress=False)


@pytest.mark.parametrize("component", ["pattern", "value"])
def test_equally_many_tokens_line_up_whatever_the_pixels(component):
    """LLaVA makes one size of every picture."""
    subject = subject_of(SIZED[0])
    trial, end = subject.trials[0], subject.spots()["end"]
    wanted = subject.bare.patch(trial, "clean", "changed", 1, 2, component, end)
    wanted = (wanted - subject.target[0])[subject.tokens]
    frame = rgb.patch_heads(
        subject.model, trial, component=component, heads=[(1, 2)], target="changed", progress=False
    )
    assert wanted.abs().max() > 10 * subject.close
    np.testing.assert_allclose(frame["effect"], wanted, atol=subject.close)


@pytest.mark.parametrize("subject", at_hand("qwen2_5_vl"), indirect=True)
def test_predictions_that_do_not_line_up_are_void_and_the_others_are_not(subject):
    first = subject.trials[0]
    images = [
        {name: noise(*size, 20 + 2 * k + i) for i, (name, size) in enumerate(first.sizes.items())}
        for k in range(8)
    ]
    trials = [
        replace(first, name=f"photo {number}", images=one) for number, one in enumerate(images)
    ]
    reader = Hypothesis(
        "reader",
        (
            Prediction.parse("Z", "right up: z clean -> changed"),
            Prediction.parse("P", "right up: pattern clean -> changed"),
            Prediction.parse("W", "right up: z clean without image -> changed"),
        ),
    )
    evidence = examine(subject.model, trials, [reader], progress=False)
    void = evidence.groupby("prediction")["void"].unique().map(list).to_dict()
    assert void["P"] == void["W"] == [UNEQUAL] and void["Z"] != [UNEQUAL]
    by_name = evidence.set_index("prediction")
    assert by_name.loc["P", "effect"].isna().all() and by_name.loc["Z", "effect"].notna().all()
    assert not by_name.loc[["P", "W"], "holds"].any()
    assert set(by_name.loc["P", "state"]) == {"undecided"}
