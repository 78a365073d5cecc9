"""Attention knockout and layer patching: equal to plain hooks, and on planted the answer is
known."""

from __future__ import annotations

from math import inf

import families
import numpy as np
import pytest
import torch
from test_exactness import KERNELS, subject_of
from test_interventions import oracle_of

import rgb_circuit as rgb
from rgb_circuit.calls.reference import patched_forward
from rgb_circuit.programs.capture import capture
from rgb_circuit.prompts import encode, locate, prompt_ids
from rgb_circuit.stimuli.tasks.rgb import ODD_QUESTION

LAYERS = range(families.LAYERS)
SOME = ["llava_llama", "qwen2_5_vl", "gemma3", "paligemma2"]


def wanted(subject, changes, condition="clean"):
    """Effects of the oracle's changes on the answers, (runs, roles)."""
    oracle, trial = oracle_of(subject.name), subject.trials[0]
    own = oracle.unchanged(trial, condition)[0]
    runs = [oracle.run(trial, condition, some)[0] - own for some in changes]
    return torch.stack(runs)[:, subject.tokens].numpy()


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("window", [1, 2])
def test_every_window_agrees_with_plain_hooks(name, window):
    subject = subject_of(name)
    tile, end, image = subject.spots["tile"], subject.spots["end"], subject.image
    groups = {
        "tile": tile,
        str([-3, -2]): [end[0] - 2, end[0] - 1],
        "rest": sorted(set(image) - set(tile)),
    }
    for queries, looking in (
        ("end", end),
        ("text", sorted(set(subject.spots["all"]) - set(image))),
    ):
        # PaliGemma's first token is the picture's, and who sees everything is never left blind by
        # these.
        keys = {
            words: places for words, places in groups.items() if words != "rest" or queries == "end"
        }
        changes = [
            [("bias", layer, None, looking, places, -inf) for layer in range(first, first + window)]
            for first in LAYERS[: len(LAYERS) - window + 1]
            for places in keys.values()
        ]
        effects = wanted(subject, changes)
        assert np.abs(effects).max() > 10 * subject.close
        for kernel in KERNELS[name]:
            frame = rgb.knockout(
                subject.model(kernel),
                subject.trials[:1],
                queries=queries,
                keys=[[-3, -2] if words.startswith("[") else words for words in keys],
                window=window,
                progress=False,
            )
            assert frame["keys"].unique().tolist() == list(keys)
            assert frame["layer"].unique().tolist() == list(LAYERS[: len(LAYERS) - window + 1])
            assert (frame["window"] == window).all() and (frame["queries"] == queries).all()
            np.testing.assert_allclose(
                frame["effect"].to_numpy().reshape(effects.shape),
                effects,
                rtol=0,
                atol=subject.close,
            )
            np.testing.assert_allclose(
                frame["knocked_logit"] - frame["logit"], frame["effect"], rtol=0, atol=subject.close
            )


@pytest.mark.parametrize("name", SOME)
def test_single_heads_agree_with_plain_hooks(name):
    subject = subject_of(name)
    heads = [(0, 1), (0, 2), (families.LAYERS - 1, 0)]
    changes = [
        [("bias", layer, head, subject.spots["end"], subject.image, -inf) for layer, head in some]
        for some in (heads[:2], heads[2:])
    ]
    frame = rgb.knockout(
        subject.model(KERNELS[name][0]),
        subject.trials[:1],
        queries="end",
        keys="image",
        heads=heads,
        progress=False,
    )
    assert frame["layer"].unique().tolist() == [0, families.LAYERS - 1]
    effects = wanted(subject, changes)
    np.testing.assert_allclose(
        frame["effect"].to_numpy().reshape(effects.shape), effects, rtol=0, atol=subject.close
    )


def test_a_bias_of_nothing_changes_nothing(model):
    trials = rgb.rgb_trials(model, 2)
    edits = {
        f"{queries} {layer} {head}": [
            rgb.AttentionEdit(layer, head, queries=queries, keys="all", bias=0.0)
        ]
        for queries in ("end", "image")
        for layer in range(model.n_layers)
        for head in (None, 0)
    }
    frame = rgb.patch_edits(model, trials, edits, target="clean", progress=False)
    assert frame["effect"].abs().max() < 1e-5


def test_a_bias_on_its_own_key_is_the_opposite_on_all_others(grouped):
    trial = rgb.rgb_trials(grouped, 1)[0]
    end = len(prompt_ids(grouped, [trial])[trial.name]) - 1
    # Several variants, so that each copy has a key of its own.
    edits = {
        f"{layer} {keys} {bias}": [rgb.AttentionEdit(layer, keys=keys, bias=bias)]
        for layer in range(grouped.n_layers)
        for keys, bias in (("end", 3.0), (tuple(range(end)), -3.0))
    }
    frame = rgb.patch_edits(grouped, trial, edits, target="clean", progress=False)
    own, others = frame["effect"].to_numpy().reshape(grouped.n_layers, 2, -1).swapaxes(0, 1)
    assert np.abs(own).max() > 1e-3
    np.testing.assert_allclose(own, others, rtol=0, atol=1e-5)


def test_what_all_heads_and_one_lose_together_must_leave_that_one_something(grouped, no_forward):
    trial = rgb.rgb_trials(grouped, 1)[0]
    end = len(prompt_ids(grouped, [trial])[trial.name]) - 1
    first, rest = tuple(range(3)), tuple(range(3, end + 1))
    lost = [rgb.AttentionEdit(1, keys=first), rgb.AttentionEdit(1, 2, keys=rest)]
    with pytest.raises(rgb.InputError, match="'both' leaves position"):
        rgb.patch_edits(grouped, trial, {"both": lost}, target="clean")


def test_knocking_out_all_but_itself_leaves_its_own_value(grouped):
    trial = rgb.rgb_trials(grouped, 1)[0]
    end = len(prompt_ids(grouped, [trial])[trial.name]) - 1
    layer, heads = 1, range(grouped.n_heads)
    knocked = rgb.patch_edits(
        grouped,
        [trial],
        {"alone": [rgb.AttentionEdit(layer, keys=tuple(range(end)))]},
        target="clean",
        progress=False,
    )
    with torch.no_grad():
        inputs = encode(grouped, [(trial, "clean")])
        seen = capture(
            grouped.nnsight, (grouped.n_heads, grouped.d_head), inputs, end, ("resume", "attention")
        )
    own = seen.values[layer][0, :, end]
    groups = grouped.n_heads // grouped.n_kv_heads
    writes = {(layer, "z"): [(head, [end], own[head // groups][None]) for head in heads]}
    tokens = [grouped.token(word, trial.prompt) for word in trial.answers.values()]
    logits = patched_forward(grouped, inputs, writes)[tokens]
    np.testing.assert_allclose(knocked["patched_logit"], logits, rtol=0, atol=1e-5)


def test_end_by_its_number_is_end(grouped):
    trials = rgb.rgb_trials(grouped, 2)
    frames = [
        rgb.knockout(grouped, trials, queries=queries, keys=["tile", "first"], progress=False)
        for queries in ("end", [-1])
    ]
    np.testing.assert_allclose(frames[0]["effect"], frames[1]["effect"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "options, parts",
    [
        (dict(queries="end", keys="all"), ["nothing to look at", "knock out fewer"]),
        (dict(queries="image", keys="question"), ["never looks there", "swap"]),
        (dict(queries="end", keys=[]), ["keys is []", "group"]),
        (dict(queries="ends", keys="image"), ["queries is 'ends'", "'end'"]),
        (dict(queries="end", keys="image", window=0), ["window is 0", "whole number"]),
        (dict(queries="end", keys="image", window=9), ["window is 9", "3 layers"]),
        (dict(queries="end", keys="image", heads=[]), ["nothing to patch"]),
        (dict(queries="end", keys="image", heads=[(9, 0)]), ["9.0", "does not exist"]),
        (dict(queries="end", keys="image", condition="blurred"), ["'blurred'", "clean"]),
        (dict(queries="end", keys="image", batch_size=0), ["batch_size is 0"]),
    ],
)
def test_what_cannot_be_knocked_out_is_refused_before_any_forward(
    grouped, no_forward, options, parts
):
    trials = rgb.rgb_trials(grouped, 2)
    with pytest.raises(rgb.InputError) as error:
        rgb.knockout(grouped, trials, **options)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize("name", SOME)
def test_every_layer_agrees_with_plain_hooks(name):
    subject = subject_of(name)
    oracle, trial = oracle_of(name), subject.trials[0]
    source = oracle.unchanged(trial, "clean")[1]
    tile = subject.spots["tile"]
    spots = {
        "tile": tile,
        "rest": sorted(set(subject.image) - set(tile)),
        "end": subject.spots["end"],
        "first": [0],
    }
    for component in ("resid_pre", "attn_out", "mlp_out"):
        changes = [
            [(component, layer, None, places, source[component][layer])]
            for places in spots.values()
            for layer in LAYERS
        ]
        effects = wanted(subject, changes, "erased")
        frame = rgb.patch_layers(
            subject.model(KERNELS[name][0]),
            subject.trials[:1],
            component=component,
            target="erased",
            positions=list(spots),
            progress=False,
        )
        assert list(frame.columns[:9]) == [
            "trial", "source", "target", "component", "positions", "layer", "role", "answer",
            "source_logit",
        ]  # fmt: skip
        np.testing.assert_allclose(
            frame["effect"].to_numpy().reshape(effects.shape), effects, rtol=0, atol=subject.close
        )


def test_restoring_the_whole_stream_gives_the_source_run(grouped):
    trials = rgb.rgb_trials(grouped, 2)
    frame = rgb.patch_layers(grouped, trials, target="erased", positions="all", progress=False)
    np.testing.assert_allclose(frame["patched_logit"], frame["source_logit"], rtol=0, atol=1e-4)


def test_planted_reads_the_tile_at_end_where_its_heads_do(planted):
    trials = rgb.rgb_trials(planted, 4)
    frame = rgb.knockout(
        planted, trials, queries=["end", "question"], keys=["tile", "rest"], progress=False
    )
    odd = (
        frame[frame["role"] == "odd"]
        .groupby(["queries", "keys", "layer"], observed=True)["effect"]
        .mean()
    )
    # Its POI head looks at the tile in layer 2, and its extractors there in layers 3 and 4.
    assert (odd["end", "tile"][[2, 3, 4]] < -5).all()
    assert odd["end", "tile"][[0, 1, 5]].abs().max() < 0.1
    # Of the question's words nothing is read, and the marks of the odd tile are there by then.
    assert odd["question"].abs().max() < 0.1


def test_words_for_positions_are_what_they_say():
    for name in SOME + ["llava_qwen2", "idefics3", "internvl", "mistral3"]:
        subject = subject_of(name)
        model, trial = subject.model(KERNELS[name][0]), subject.trials[0]
        ids = prompt_ids(model, [trial])[trial.name]
        question = model.processor.tokenizer.decode(ids[locate(model, trial, "question", ids)])
        assert "".join(question.split()) == "".join(ODD_QUESTION.split()), name
        tile, rest, image = (
            locate(model, trial, words, ids) for words in ("tile", "rest", "image")
        )
        assert sorted(tile + rest) == image and not set(tile) & set(rest)
        assert locate(model, trial, "first", ids) == [0]
