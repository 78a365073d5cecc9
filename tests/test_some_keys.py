"""A head's output without its attention to some positions, and its pattern over some alone, equal
plain hooks on the bare model; nothing else changes."""

from __future__ import annotations

import families
import numpy as np
import pytest
import torch
from families import FEW, KINDS, NAMES
from oracle import NOW
from test_exactness import KERNELS, kernels_of, subject_of
from test_interventions import oracle_of

import rgb_circuit as rgb
from rgb_circuit.edits import component_of

LAST = families.LAYERS - 1
HEADS = [(0, 0), (0, 3), (1, 1), (LAST, 2)]


@pytest.fixture(scope="module", params=KINDS)
def subject(request):
    return subject_of(request.param)


class Looking:
    """Patterns of every layer in one bare run, (head, position, position), kept by the oracle's own
    attention function."""

    def __init__(self, oracle, trial, condition):
        self.patterns = {}
        hooks = [
            layer.self_attn.register_forward_hook(self._keep(index))
            for index, layer in enumerate(oracle.layers)
        ]
        try:
            _, self.seen = oracle.run(trial, condition)
        finally:
            for hook in hooks:
                hook.remove()
        assert NOW.layers == ()

    def _keep(self, index):
        def hook(module, arguments, output):
            self.patterns[index] = output[1][0].detach()

        return hook


def without(run, layer, head, places, unseen):
    """Z of a head at some positions, the weights of the unseen ones left out; (position,
    d_head)."""
    z = run.seen["z"][layer].clone()
    for place in places:
        weights = run.patterns[layer][head, place].double()
        weights[unseen] = 0
        z[place, head] = (
            (weights / weights.sum()) @ run.seen["value"][layer][head].double()
        ).float()
    return z


def over(target, source, layer, head, places, some):
    """Z of a head at some positions that looks at some as in the source's run."""
    z = target.seen["z"][layer].clone()
    for place in places:
        theirs, own = (run.patterns[layer][head, place].double() for run in (source, target))
        weights = own.clone()
        weights[some] = 0
        rest = weights.sum()
        weights = weights * (1 - theirs[some].sum()) / rest if rest > 0 else weights
        weights[some] = theirs[some]
        z[place, head] = (weights @ target.seen["value"][layer][head].double()).float()
    return z


@pytest.mark.parametrize("words", ["end", "text", "tile"])
def test_attention_to_some_positions_agrees_with_plain_hooks(subject, words):
    oracle, trial = oracle_of(subject.name), subject.trials[0]
    clean, erased = (Looking(oracle, trial, condition) for condition in ("clean", "erased"))
    image = subject.image
    text = sorted(set(subject.spots["all"]) - set(image))
    places = {"text": text, **subject.spots}[words]
    # A tile may see nothing but the picture.
    unseen, word = (image, "image") if words == "end" else (subject.spots["tile"], "tile")
    if words == "tile":
        unseen, word = [image[0]], (image[0],)
    variants, changes = {}, []
    for layer, head in HEADS:
        variants[f"without {layer}.{head}"] = [rgb.Edit(layer, head, positions=words, without=word)]
        changes.append(("z", layer, head, places, without(clean, layer, head, places, unseen)))
        variants[f"over {layer}.{head}"] = [
            rgb.Edit(layer, head, component="pattern", positions=words, over=word)
        ]
        changes.append(("z", layer, head, places, over(erased, clean, layer, head, places, unseen)))
    unpatched = oracle.unchanged(trial, "erased")[0]
    wanted = torch.stack(
        [oracle.run(trial, "erased", [change])[0] - unpatched for change in changes]
    )
    wanted = wanted[:, subject.tokens].numpy()
    if words != "tile":
        assert (np.abs(wanted[:-2]).max(1) > 10 * subject.close).any()
    for kernel in kernels_of(subject.name):
        frame = rgb.patch_edits(
            subject.model(kernel), subject.trials[:1], variants, target="erased", progress=False
        )
        found = frame["effect"].to_numpy().reshape(wanted.shape)
        for name, one, other in zip(variants, found, wanted):
            assert np.abs(one - other).max() < subject.close, (kernel, words, name)


@pytest.mark.parametrize("subject", FEW, indirect=True)
def test_without_attention_in_the_target_itself_is_a_knockout(subject):
    model, trials = subject.model(KERNELS[subject.name][0]), subject.trials
    variants = {
        "without": [rgb.Edit(1, 1, "erased", without="image")],
        "knocked": [rgb.AttentionEdit(1, 1)],
        "both": [rgb.Edit(1, 1, "erased", without="image"), rgb.Edit(1, 2)],
        "knocked too": [rgb.AttentionEdit(1, 1), rgb.Edit(1, 2)],
    }
    effect = rgb.patch_edits(model, trials, variants, target="erased", progress=False)
    without, knocked, both, too = (
        effect[effect["variant"] == name]["effect"].to_numpy() for name in variants
    )
    np.testing.assert_allclose(without, knocked, atol=subject.close)
    np.testing.assert_allclose(both, too, atol=subject.close)


@pytest.mark.parametrize("subject", FEW, indirect=True)
def test_over_all_positions_is_the_whole_pattern_and_two_parts_are_told_apart(subject):
    model, trials = subject.model(KERNELS[subject.name][0]), subject.trials
    whole, every, image, text = (
        rgb.patch_heads(
            model, trials, target="erased", component="pattern", over=some, progress=False
        )
        for some in (None, "all", "image", "text")
    )
    np.testing.assert_allclose(every["effect"], whole["effect"], atol=subject.close)
    assert set(image["component"]) == {"pattern over image"} and set(whole["component"]) == {
        "pattern"
    }
    assert np.abs(image["effect"] - text["effect"]).max() > 10 * subject.close


def test_what_is_done_is_said_in_the_frame():
    assert component_of(rgb.Edit(0, 0, without=(1, 2))) == "z without [1, 2]"
    assert component_of(rgb.AttentionEdit(0, 0)) == "attention"


@pytest.mark.parametrize(
    "edit, message",
    [
        (
            rgb.Edit(0, 0, component="pattern", without="image"),
            "without is for component 'z', not 'pattern'",
        ),
        (rgb.Edit(0, 0, over="image"), "over is for component 'pattern', not 'z'"),
        (
            rgb.Edit(0, 0, "zero", without="image"),
            "source 'zero' has no attention, so without means nothing",
        ),
        (rgb.Edit(0, 0, without="picture"), "without is 'picture'; use 'end'"),
        (rgb.Edit(0, 0, without="all"), "leaves position .* nothing to look at"),
    ],
)
def test_attention_that_cannot_be_is_refused(edit, message):
    subject = subject_of(NAMES[0])
    model = subject.model(KERNELS[subject.name][0])
    with pytest.raises(rgb.InputError, match=message):
        rgb.patch_edits(model, subject.trials, {"it": [edit]}, target="erased", progress=False)


def test_a_window_that_leaves_nothing_to_look_at_is_noticed():
    # Of these only some layers see as far as the picture.
    name = next(name for name in NAMES if name.startswith("gemma3"))
    subject = subject_of(name)
    model = subject.model(KERNELS[name][0])
    first = subject.image[:1]
    with pytest.raises(rgb.InputError, match="nothing to look at"):
        rgb.patch_edits(
            model,
            subject.trials,
            {"it": [rgb.Edit(0, 0, positions=tuple(first), without="all")]},
            target="erased",
            progress=False,
        )


def test_what_is_said_with_a_head_that_does_not_see_the_picture_is_that_of_a_knockout():
    subject = subject_of(NAMES[0])
    model = subject.model(KERNELS[subject.name][0])
    trial = subject.trials[0]
    said = [
        rgb.generate(model, trial, "clean", edits, max_new_tokens=1).tokens
        for edits in ([rgb.Edit(1, 1, "clean", without="image")], [rgb.AttentionEdit(1, 1)])
    ]
    edited = [frame[frame["run"] == "edited"]["logit"].to_numpy() for frame in said]
    np.testing.assert_allclose(*edited, atol=subject.close)
