"""Patching equals plain PyTorch hooks on the bare model, whatever the family; and what is broken is
noticed."""

from __future__ import annotations

import copy
import dataclasses
import functools
import warnings
from types import SimpleNamespace

import families
import numpy as np
import pytest
import torch
from brute_force import BruteForce
from families import FAMILIES, FEW, KINDS, NAMES

import rgb_circuit as rgb
from analyses import task_reading
from rgb_circuit.calls.attention import attention_from_end, over_picture
from rgb_circuit.module.layout import Layout
from rgb_circuit.programs import sweep
from rgb_circuit.prompts import answer_tokens, encode
from rgb_circuit.stimuli.tasks.rgb import BACKGROUND_QUESTION, ODD_QUESTION

# transformers has no other attention for Gemma 2.
KERNELS = {name: ("eager",) if name == "paligemma2" else ("sdpa", "eager") for name in NAMES}


def kernels_of(name):
    """Those by which a kind of edit is checked: all that there are where these could make a
    difference."""
    return KERNELS[name][: None if name in FEW else 1]


# What is restored where.
PATCHES = [
    ("z", "end"), ("pattern", "end"), ("value", "end"),
    ("z", "all"), ("value", "all"), ("z", "tile"), ("pattern", "tile"),
]  # fmt: skip

# As a fraction of the largest logit; a tenth of what rounding may do to an effect that is as large
# as a logit.
CLOSE = 4e-6


class Subject:
    """A family's small model: bare, with hooks, and wrapped."""

    def __init__(self, name, dtype=torch.float32):
        self.name, self.family = name, FAMILIES[name]
        self.module, self.processor = families.built(name)
        # Weights that the number format holds; what the hooks say of them is not rounded.
        self.module.to(dtype)
        self.bare = BruteForce(
            copy.deepcopy(self.module).float(), self.processor, self.family.options
        )

    @functools.cache
    def model(self, kernel):
        module = copy.deepcopy(self.module)
        module.set_attn_implementation(kernel)
        return self.wrapped(module)

    def wrapped(self, module=None):
        return rgb.wrap(
            module or copy.deepcopy(self.module),
            self.processor,
            name=self.name,
            tiles=self.family.tiles,
        )

    @functools.cached_property
    def trials(self):
        """Of which the first is patched."""
        return rgb.rgb_trials(self.model(KERNELS[self.name][0]), 2, seed=2)

    @functools.cached_property
    def spots(self):
        """Positions as in an edit → token positions of the first trial, counted from what the
        family is known to be."""
        ids, image = self.bare.inputs(self.trials[0], "clean")["input_ids"][0], self.image
        n, (row, column) = self.family.grid, self.trials[0].tile
        places = {1: [row * n + column], 2: [row * n + column, n * n + row * (n + 1) + column]}[
            self.family.views
        ]
        before = self.family.tokens - n * n if self.family.views == 1 else 0
        every = list(range(len(ids)))
        return {
            "end": every[-1:],
            "all": every,
            "tile": [image[before + place] for place in places],
        }

    @functools.cached_property
    def image(self):
        """The positions of all image tokens."""
        ids = self.bare.inputs(self.trials[0], "clean")["input_ids"][0]
        return (ids == self.module.config.image_token_id).nonzero().flatten().tolist()

    @functools.cached_property
    def target(self):
        """Logits at [end] of the run that is patched, (vocabulary,)."""
        return self.bare.unpatched(self.trials[0], "erased")[0]

    @property
    def close(self):
        return CLOSE * float(self.target.abs().max())

    @functools.cached_property
    def tokens(self):
        return list(answer_tokens(self.model(KERNELS[self.name][0]), self.trials[0]).values())

    def hooked(self, variants):
        """Effects on the answers of what is written into the erased picture's run, (variants,
        roles)."""
        logits = self.bare.patched(self.trials[0], "erased", variants)
        return (logits - self.target)[:, self.tokens].numpy()

    @functools.cache
    def wanted(self, component, positions):
        """Effects of each head by itself, (heads, roles)."""
        heads = [
            (layer, head) for layer in range(families.LAYERS) for head in range(families.HEADS)
        ]
        places = self.spots[positions]
        return self.hooked(
            [
                self.bare.write(self.trials[0], "clean", "erased", *head, component, places)
                for head in heads
            ]
        )

    def swept(self, component, positions, kernel=None, source="clean"):
        """The same by `patch_heads`."""
        frame = rgb.patch_heads(
            self.model(kernel or KERNELS[self.name][0]),
            self.trials[:1],
            source=source,
            target="erased",
            component=component,
            positions=positions,
            progress=False,
        )
        return frame["effect"].to_numpy().reshape(-1, len(self.tokens))


subject_of = functools.cache(Subject)


@pytest.fixture(scope="module", params=NAMES)
def subject(request):
    return subject_of(request.param)


of_each_kind = pytest.mark.parametrize("subject", KINDS, indirect=True)
of_few = pytest.mark.parametrize("subject", FEW, indirect=True)


def test_the_package_shows_what_the_bare_model_is_shown(subject):
    trial = subject.trials[0]
    shown = encode(subject.model(KERNELS[subject.name][0]), [(trial, "clean")])
    bare = subject.bare.inputs(trial, "clean")
    assert set(subject.family.takes) <= set(shown)
    for name, value in shown.items():
        assert torch.equal(value, bare[name]), name


def assert_exact(subject, component, positions, kernel):
    wanted, found = (
        subject.wanted(component, positions),
        subject.swept(component, positions, kernel),
    )
    # None of it could pass for rounding.
    assert np.abs(wanted).max() > 10 * subject.close, (component, positions)
    assert np.abs(found - wanted).max() < subject.close, (kernel, component, positions)


def test_every_head_agrees_with_plain_hooks_at_the_end(subject):
    for kernel in kernels_of(subject.name):
        assert_exact(subject, "z", "end", kernel)


@of_each_kind
def test_every_component_agrees_with_plain_hooks_wherever_it_is_restored(subject):
    for kernel in kernels_of(subject.name):
        for component, positions in PATCHES:
            assert_exact(subject, component, positions, kernel)


@of_few
def test_own_output_changes_nothing(subject):
    for component, positions in PATCHES:
        effects = subject.swept(component, positions, source="erased")
        assert np.abs(effects).max() < subject.close, (component, positions)


@of_each_kind
@pytest.mark.parametrize("positions", ["end", "all"])
def test_joint_edits_agree_with_plain_hooks(subject, positions):
    bare, (trial, other), last = subject.bare, subject.trials, families.LAYERS - 1
    places, own = subject.spots[positions], bare.unpatched(trial, "erased")[1]
    others = bare.unpatched(other, "erased")[1]
    later = [(layer, head) for layer in range(1, families.LAYERS) for head in range(families.HEADS)]

    def restored(layer, head, component="z", source="clean"):
        return bare.write(trial, source, "erased", layer, head, component, places)

    def edit(layer, head, source="clean", component="z"):
        return rgb.Edit(layer, head, source, component, positions)

    both = {
        "two heads": (
            [edit(0, 1), edit(last, 2, "moved")],
            restored(0, 1) + restored(last, 2, source="moved"),
        ),
        "frozen": (
            [edit(0, 1), *(edit(*head, "erased") for head in later)],
            restored(0, 1)
            + [(layer, head, p, own[layer][p, head]) for layer, head in later for p in places],
        ),
        "kinds": (
            [edit(0, 0, component="pattern"), edit(2, 1, component="value")],
            restored(0, 0, "pattern") + restored(2, 1, "value"),
        ),
        "zero": ([edit(1, 0, "zero")], [(1, 0, p, torch.zeros(families.D_HEAD)) for p in places]),
        "mean": (
            [edit(1, 2, "mean"), edit(0, 3)],
            [(1, 2, p, (own[1][p, 2] + others[1][p, 2]) / 2) for p in places] + restored(0, 3),
        ),
    }
    wanted = subject.hooked([writes for _, writes in both.values()])
    for kernel in kernels_of(subject.name):
        frame = rgb.patch_edits(
            subject.model(kernel),
            subject.trials,
            {name: edits for name, (edits, _) in both.items()},
            target="erased",
            progress=False,
        )
        found = frame[frame["trial"] == trial.name]["effect"].to_numpy().reshape(wanted.shape)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=subject.close)
    frozen, alone = wanted[1], subject.wanted("z", positions)[1]
    assert np.abs(frozen - alone).max() > 3 * subject.close


@of_each_kind
@pytest.mark.parametrize(
    "question",
    [BACKGROUND_QUESTION, "Which color is out the odd one in the background? Respond in one word"],
    ids=["shorter", "longer"],
)
def test_patching_across_questions_agrees_with_plain_hooks(subject, question):
    bare, trial = subject.bare, subject.trials[0]
    other = dataclasses.replace(
        trial, prompt=trial.prompt.replace(ODD_QUESTION, question), name=question
    )
    own_ids, other_ids = (
        bare.inputs(each, "clean")["input_ids"][0].tolist() for each in (trial, other)
    )
    frame = task_reading.patch_questions(
        subject.model(KERNELS[subject.name][0]), [trial], question=question, progress=False
    )
    after = next(
        index for index, (one, two) in enumerate(zip(own_ids[::-1], other_ids[::-1])) if one != two
    )
    before = next(index for index, (one, two) in enumerate(zip(own_ids, other_ids)) if one != two)
    differing = min(len(own_ids), len(other_ids)) - before - after
    places = {"end": [-1], "after": range(-after, 0), "words": range(-after - differing, -after)}
    z, length = bare.unpatched(other, "clean")[1], len(own_ids)
    target = bare.unpatched(trial, "clean")[0]
    for place in frame["positions"].unique():
        heads = [
            (layer, head) for layer in range(families.LAYERS) for head in range(families.HEADS)
        ]
        writes = [
            [(layer, head, length + p, z[layer][p, head]) for p in places[place]]
            for layer, head in heads
        ]
        wanted = (bare.patched(trial, "clean", writes) - target)[:, subject.tokens].numpy()
        found = frame[frame["positions"] == place]["effect"].to_numpy().reshape(wanted.shape)
        assert np.abs(wanted).max() > 10 * subject.close
        np.testing.assert_allclose(found, wanted, rtol=0, atol=subject.close)
    assert "after" in set(frame["positions"])


def test_attention_over_the_picture_is_the_bare_models(subject):
    (trial, *_), model = subject.trials, subject.model(KERNELS[subject.name][0])
    ((_, _, found),) = attention_from_end(model, [trial], progress=False)
    wanted = np.stack([layer[:, -1].numpy() for layer in subject.bare.unpatched(trial, "clean")[2]])
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    over = over_picture(model, trial, found)
    assert over.shape[-2:] == (subject.family.grid, subject.family.grid)
    assert np.array_equal(
        over[..., trial.tile[0], trial.tile[1]], found[..., subject.spots["tile"][0]]
    )


# Their layers norm or scale what heads and MLP give, or their final norm takes the mean off.
NO_SUM = (
    "gemma3",
    "paligemma2",
    "glm4v",
    "glm46v",
    "exaone4_5",
    "aya_vision",
    "cohere2_vision",
    "granite4_vision",
)


@torch.no_grad()
def test_direct_effects_are_each_heads_own_or_refused(subject):
    trial, model = subject.trials[0], subject.model(KERNELS[subject.name][0])
    if subject.name in NO_SUM:
        with pytest.raises(
            rgb.InputError, match="add up to .* direct effects mean nothing there; use patch_heads"
        ):
            rgb.direct_effects(model, [trial], progress=False)
        return
    frame, bare, seen = rgb.direct_effects(model, [trial], progress=False), subject.bare.model, {}
    inner = bare.model
    text = inner.text_model if hasattr(inner, "text_model") else inner.language_model
    hook = text.norm.register_forward_hook(
        lambda module, given, made: seen.update(gain=made[0, -1] / given[0][0, -1])
    )
    logits, z, *_ = subject.bare.run(trial, "clean")
    hook.remove()
    unembedded = bare.lm_head.weight[subject.tokens] * seen["gain"]
    wanted = [
        unembedded
        @ layer.self_attn.o_proj.weight[:, head * families.D_HEAD : (head + 1) * families.D_HEAD]
        @ z[index][-1, head]
        for index, layer in enumerate(subject.bare.layers)
        for head in range(families.HEADS)
    ]
    by_role = frame.groupby("role", observed=True, sort=False)["direct_effect"]
    np.testing.assert_allclose(by_role.sum(), logits[subject.tokens], rtol=0, atol=subject.close)
    found = frame[frame["component"] == "head"].pivot_table(
        "direct_effect", ["layer", "head"], "role", observed=True, sort=False
    )
    np.testing.assert_allclose(
        found[list(trial.answers)], torch.stack(wanted), rtol=0, atol=subject.close
    )


def kernels_apart(half, component, positions):
    """How far the effects of all heads by the hooks are apart between two attention kernels in half
    precision."""
    found = []
    for kernel in ("sdpa", "eager"):
        bare = BruteForce(half.module, half.processor, half.family.options, attention=kernel)
        variants = [
            half.bare.write(
                half.trials[0], "clean", "erased", layer, head, component, half.spots[positions]
            )
            for layer in range(families.LAYERS)
            for head in range(families.HEADS)
        ]
        plain, *patched = bare.patched(half.trials[0], "erased", [[], *variants])[
            :, half.tokens
        ].numpy()
        found.append(np.stack(patched) - plain)
    return float(np.abs(found[0] - found[1]).max())


@pytest.mark.parametrize(
    "name, dtype",
    [
        *((name, torch.float16) for name in ("qwen3_vl", "gemma3", "aya_vision")),
        ("gemma3", torch.bfloat16),
    ],
    ids=str,
)
def test_half_precision_errs_no_more_than_a_change_of_attention_kernel(name, dtype):
    half = Subject(name, dtype)
    for positions in ("end", "all"):
        wanted, allowed = half.wanted("z", positions), 3 * kernels_apart(half, "z", positions)
        assert np.abs(half.swept("z", positions) - wanted).max() < allowed
        if dtype == torch.float16:
            # In bfloat16 the two kernels are as far apart as effects are large.
            assert allowed < np.abs(wanted).max()


def handed(inputs, **changed):
    inputs["captured"] = SimpleNamespace(**{**vars(inputs["captured"]), **changed})


def without_additions(inputs, text):
    """As if nothing were added between layers."""
    handed(inputs, added=[None] * len(inputs["captured"].added))


def angles_of_text(inputs, text):
    """As if a picture's tokens stood one behind the other."""
    captured = inputs["captured"]
    places = torch.arange(captured.start, captured.length).expand(3, 1, -1)
    handed(inputs, angles=[text.rotary_emb(captured.resid_pre[0], places)] * len(captured.angles))


def angles_of_the_next_layer(inputs, text):
    angles = inputs["captured"].angles
    handed(inputs, angles=[*angles[1:], angles[0]])


def no_window(inputs, text):
    """As if [end] saw all that stands before it."""
    prefix = inputs["captured"].start
    inputs["masks"] = {
        layer: torch.cat([torch.zeros_like(mask[..., :prefix]), mask[..., prefix:]], -1)
        for layer, mask in inputs["masks"].items()
    }


def causal_alone(inputs, text):
    """As if there were no window and nobody saw later positions."""
    captured = inputs["captured"]
    seen = torch.arange(captured.length)
    later = (seen > seen[captured.start :, None]) * torch.finfo(torch.float32).min
    inputs["masks"] = dict.fromkeys(inputs["masks"], later.expand(len(inputs["picked"]), 1, -1, -1))


def masks_of_the_next_layer(inputs, text):
    masks = list(inputs["masks"].values())
    inputs["masks"] = dict(zip(inputs["masks"], [*masks[1:], masks[0]]))


MUTATIONS = [
    *(("qwen3_vl", without_additions, positions) for positions in ("tile", "all")),
    *(
        (name, angles_of_text, where)
        for name in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
        for where in ("end", "tile")
    ),
    *((name, no_window, "end") for name in ("llava_mistral", "gemma3", "aya_vision")),
    *(
        (name, causal_alone, "all")
        for name in ("llava_mistral", "gemma3", "paligemma", "paligemma2", "aya_vision")
    ),
    *((name, causal_alone, "tile") for name in ("gemma3", "paligemma")),
    *(
        ("gemma3", mutate, where)
        for mutate in (masks_of_the_next_layer, angles_of_the_next_layer)
        for where in ("end", "tile")
    ),
]


@pytest.mark.parametrize(
    "name, mutate, positions",
    MUTATIONS,
    ids=[f"{name}-{mutate.__name__}-{where}" for name, mutate, where in MUTATIONS],
)
def test_what_a_layer_is_handed_wrongly_is_refused_by_the_copy_that_edits_nothing(
    name, mutate, positions, monkeypatch
):
    subject, forward = subject_of(name), sweep._forward
    text = subject.bare.model.model.language_model

    def broken(*given, **inputs):
        mutate(inputs, text)
        return forward(*given, **inputs)

    wanted = subject.wanted("z", positions)
    assert np.abs(subject.swept("z", positions) - wanted).max() < subject.close
    monkeypatch.setattr(sweep, "_forward", broken)
    with pytest.raises(rgb.InputError, match="edits nothing moves its logits"):
        subject.swept("z", positions)


@pytest.mark.parametrize(
    "name", ["llava_llama", "llava_next", "qwen2_5_vl", "gemma3", "mistral3", "aya_vision"]
)
def test_transposed_places_are_told_of_at_load_and_give_other_numbers(name, monkeypatch):
    subject, places = subject_of(name), Layout.places
    wanted = subject.wanted("z", "tile")
    trial = subject.trials[0]
    assert trial.tile[0] != trial.tile[1]

    def transposed(layout, image):
        rows, columns = layout.grid
        return [
            [view[column * columns + row] for row in range(rows) for column in range(columns)]
            for view in places(layout, image)
        ]

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        subject.wrapped()
    monkeypatch.setattr(Layout, "places", transposed)
    assert np.abs(subject.swept("z", "tile") - wanted).max() > 10 * subject.close
    with pytest.warns(
        UserWarning, match="changed tiles change another image token of .* more than their own"
    ):
        subject.wrapped()
