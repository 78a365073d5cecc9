"""What a model says is what Hugging Face lets it say, and with edits what plain hooks make of it, one whole
forward per token."""

from __future__ import annotations

import copy
import functools
from math import inf

import families
import numpy as np
import pytest
import torch
from oracle import Oracle
from test_exactness import KERNELS, NAMES, subject_of

import rgb_circuit as rgb
from rgb_circuit import generate
from rgb_circuit.models.planted import Placement
from rgb_circuit.prompts import encode

LAST = families.LAYERS - 1
TOKENS = 5


@pytest.fixture(scope="module", params=NAMES)
def subject(request):
    return subject_of(request.param)


class Talker:
    """A family's bare model with hooks; what it said stands behind its prompt."""

    def __init__(self, name):
        self.subject = subject_of(name)
        self.said = []
        self.oracle = Oracle(self.subject.bare.model, self.inputs)
        self.length = len(self.subject.spots["all"])

    def inputs(self, trial, condition):
        made = self.subject.bare.inputs(trial, condition)
        for key, value in made.items():
            if value.shape == made["input_ids"].shape and self.said and key != "input_ids":
                tail = torch.full((1, len(self.said)), key == "attention_mask", dtype=value.dtype)
                made[key] = torch.cat([value, tail], 1)
        made["input_ids"] = torch.cat([made["input_ids"], torch.tensor([self.said], dtype=torch.long)], 1)
        return made

    def seen(self, condition, kind, layer):
        """What an unchanged run over the prompt has there."""
        self.said = []
        return self.oracle.unchanged(self.subject.trials[0], condition)[1][kind][layer]

    def says(self, condition, changes):
        """Ids, and logits of each token and of the likeliest other; ``changes``: a function of the number of
        tokens said, and of what goes on with them."""
        self.said, logits = [], []
        for step in range(TOKENS):
            total = self.length + step
            # Some families' prompts attend to later tokens, but never to what is said.
            unseen = [
                ("bias", layer, None, [place], list(range(max(self.length, place + 1), total)), -inf)
                for layer in range(families.LAYERS)
                for place in range(total - 1)
            ]
            unseen = unseen if self.subject.family.attends == "all" else []
            there = [self.length + one for one in range(step)]
            now = self.oracle.run(self.subject.trials[0], condition, [*changes(there), *unseen])[0]
            best = now.topk(2)
            logits.append(best.values)
            self.said.append(int(best.indices[0]))
        return self.said, torch.stack(logits).numpy()


talker_of = functools.cache(Talker)


def variants_of(talker, words):
    """Name → edits, and the oracle's changes, given the places of what was said."""
    spots, image = talker.subject.spots, talker.subject.image
    prompt = spots[words]

    def on(there):
        return [*prompt, *there] if words in ("end", "all") else prompt

    def seen(*what):
        return talker.seen(*what)

    z, out, query = seen("clean", "z", 1), seen("moved", "attn_out", 0), seen("clean", "query", LAST)
    return {
        "scaled": (
            [
                rgb.Edit(1, 1, "own", positions=words, scale=-2.0),
                rgb.Edit(0, None, "own", "mlp_out", words, 1.5),
                rgb.Edit(2, None, "own", "resid_pre", words, 0.8),
            ],
            lambda there: [
                ("scale", 1, 1, on(there), -2.0, "z"),
                ("scale", 0, None, on(there), 1.5, "mlp_out"),
                ("scale", 2, None, on(there), 0.8, "resid_pre"),
            ],
        ),
        "zeroed": (
            [rgb.Edit(LAST, 0, "zero", positions=words), rgb.Edit(1, None, "zero", "attn_out", words)],
            lambda there: [
                ("scale", LAST, 0, on(there), 0.0, "z"),
                ("scale", 1, None, on(there), 0.0, "attn_out"),
            ],
        ),
        "from another picture": (
            [
                rgb.Edit(1, 2, "clean", positions=words, scale=2.0),
                rgb.Edit(0, None, "moved", "attn_out", words),
            ],
            lambda there: [("z", 1, 2, prompt, 2 * z), ("attn_out", 0, None, prompt, out)],
        ),
        "looking as at another picture": (
            [rgb.Edit(LAST, 3, component="query", positions=words)],
            lambda there: [("query", LAST, 3, prompt, query[3])],
        ),
        "looking elsewhere": (
            [
                rgb.AttentionEdit(0, 2, queries=words, keys=tuple(image[1:9]), bias=2.5),
                rgb.AttentionEdit(1, queries=words, keys=tuple(image[-3:])),
                rgb.AttentionEdit(LAST, queries=words, keys="text", bias=-1.5),
            ],
            lambda there: [
                ("bias", 0, 2, on(there), image[1:9], 2.5),
                ("bias", 1, None, on(there), image[-3:], -inf),
                *(
                    ("bias", LAST, None, on(there), [place], -1.5)
                    for place in [*sorted(set(spots["all"]) - set(image)), *there]
                ),
            ],
        ),
    }


def test_without_edits_it_says_what_hugging_face_lets_it_say(subject):
    for kernel in KERNELS[subject.name]:
        model, trial = subject.model(kernel), subject.trials[0]
        for condition in ("clean", "swapped"):
            said = rgb.generate(model, trial, condition, max_new_tokens=TOKENS)
            inputs = encode(model, [(trial, condition)])
            wanted = model.nnsight._module.generate(**inputs, do_sample=False, max_new_tokens=TOKENS)
            ids = wanted[0, inputs["input_ids"].shape[1] :].tolist()
            assert said.tokens["id"].tolist() == ids
            assert said.text == model.processor.tokenizer.decode(ids, skip_special_tokens=True).strip()
            assert said.edited_text is None and set(said.tokens["run"]) == {"unedited"}


@pytest.mark.parametrize("words", ["end", "all", "tile"])
def test_every_kind_of_edit_says_what_a_whole_forward_per_token_says(subject, words):
    talker, trial = talker_of(subject.name), subject.trials[0]
    both = variants_of(talker, words)
    plain = talker.says("erased", lambda there: [])
    for name, (edits, changes) in both.items():
        wanted = talker.says("erased", changes)
        moved = np.abs(wanted[1] - plain[1]).max()
        assert moved > 1e-2 or words == "tile", name
        for kernel in KERNELS[subject.name]:
            tokens = rgb.generate(subject.model(kernel), trial, "erased", edits, TOKENS).tokens
            for run, (ids, logits) in (("unedited", plain), ("edited", wanted)):
                found = tokens[tokens["run"] == run]
                assert found["id"].tolist() == ids, (kernel, name, run)
                other = found["logit"] - found["margin"]
                assert np.abs(found["logit"] - logits[:, 0]).max() < 1e-4, (kernel, name, run)
                assert np.abs(other - logits[:, 1]).max() < 1e-4, (kernel, name, run)
