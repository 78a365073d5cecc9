"""Every kind of edit equals plain hooks on the bare model, whatever the family."""

from __future__ import annotations

import functools
from math import inf

import families
import numpy as np
import pytest
import torch
from families import KINDS
from oracle import Oracle
from test_exactness import kernels_of, subject_of

import rgb_circuit as rgb

LAST = families.LAYERS - 1


@functools.cache
def oracle_of(name):
    subject = subject_of(name)
    return Oracle(subject.bare.model, subject.bare.inputs)


@pytest.fixture(scope="module", params=KINDS)
def subject(request):
    return subject_of(request.param)


def restored(subject, kind, layer, head, places, source="clean"):
    """A change of the oracle's that restores something of the source's run."""
    seen = oracle_of(subject.name).unchanged(subject.trials[0], source)[1][kind][layer]
    return kind, layer, head, places, seen[head] if kind in ("query", "key") else seen


def variants_of(subject, words):
    """Name → edits, and the oracle's changes; ``words`` are positions."""
    places = subject.spots[words]
    image = subject.image
    both = {}
    for kind in ("query", "key"):
        for layer, head in ((0, 0), (1, 3), (LAST, 2)):
            both[f"{kind} of {layer}.{head}"] = (
                [rgb.Edit(layer, head, component=kind, positions=words)],
                [restored(subject, kind, layer, head, places)],
            )
    for kind in ("attn_out", "mlp_out", "resid_pre"):
        for layer in (0, 1, LAST):
            both[f"{kind} of {layer}"] = (
                [rgb.Edit(layer, None, component=kind, positions=words)],
                [restored(subject, kind, layer, None, places)],
            )
    both |= {
        "half of z": (
            [rgb.Edit(1, 1, "own", positions=words, scale=0.5)],
            [("scale", 1, 1, places, 0.5, "z")],
        ),
        "three times the MLP": (
            [rgb.Edit(0, None, "own", "mlp_out", words, 3)],
            [("scale", 0, None, places, 3.0, "mlp_out")],
        ),
        "no attention block": (
            [rgb.Edit(1, None, "zero", "attn_out", words)],
            [("scale", 1, None, places, 0.0, "attn_out")],
        ),
        "knocked out": (
            [rgb.AttentionEdit(1, queries=words, keys=tuple(image[1:4]))],
            [("bias", 1, None, places, image[1:4], -inf)],
        ),
        "one head knocked out": (
            [rgb.AttentionEdit(0, 2, queries=words, keys="tile")],
            [("bias", 0, 2, places, subject.spots["tile"], -inf)],
        ),
        "looking more": (
            [rgb.AttentionEdit(LAST, 1, queries=words, keys="image", bias=1.5)],
            [("bias", LAST, 1, places, image, 1.5)],
        ),
        "all kinds": (
            [
                rgb.AttentionEdit(0, queries=words, keys="tile", bias=2.0),
                rgb.Edit(0, None, "moved", "mlp_out", words),
                rgb.AttentionEdit(1, 1, queries="end", keys="image"),
                rgb.Edit(1, 2, positions=words),
                rgb.Edit(LAST, None, "own", "resid_pre", words, 0.9),
                rgb.Edit(LAST, 0, component="z", positions=words, scale=-1),
            ],
            [
                ("bias", 0, None, places, subject.spots["tile"], 2.0),
                restored(subject, "mlp_out", 0, None, places, "moved"),
                ("bias", 1, 1, subject.spots["end"], image, -inf),
                restored(subject, "z", 1, 2, places),
                ("scale", LAST, None, places, 0.9, "resid_pre"),
                ("z", LAST, 0, places, -restored(subject, "z", LAST, 0, places)[4]),
            ],
        ),
    }
    return both


@pytest.mark.parametrize("words", ["end", "all", "tile"])
def test_every_kind_of_edit_agrees_with_plain_hooks(subject, words):
    oracle, trial = oracle_of(subject.name), subject.trials[0]
    both = variants_of(subject, words)
    target = oracle.unchanged(trial, "erased")[0]
    wanted = torch.stack(
        [oracle.run(trial, "erased", changes)[0] - target for _, changes in both.values()]
    )
    wanted = wanted[:, subject.tokens].numpy()
    reach = np.abs(wanted).max(1) > 10 * subject.close
    # What the last layer makes of the tile alone never reaches [end], and how a head looks may move
    # little.
    assert reach[-1] and reach.sum() >= (8 if words == "tile" else 18)
    for kernel in kernels_of(subject.name):
        frame = rgb.patch_edits(
            subject.model(kernel),
            subject.trials[:1],
            {name: edits for name, (edits, _) in both.items()},
            target="erased",
            progress=False,
        )
        found = frame["effect"].to_numpy().reshape(wanted.shape)
        for name, one, other in zip(both, found, wanted):
            assert np.abs(one - other).max() < subject.close, (kernel, words, name)
