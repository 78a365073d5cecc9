"""A direct path brings what its sender gives to one receiver's query, keys or values, and to
nothing else."""

from __future__ import annotations

import functools
from dataclasses import replace
from types import SimpleNamespace

import families
import numpy as np
import pandas as pd
import pytest
import torch
from families import KINDS
from test_exactness import KERNELS, kernels_of, subject_of
from test_interventions import oracle_of
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

import rgb_circuit as rgb
from rgb_circuit.calls.paths import PatchedPaths
from rgb_circuit.measuring.measure import measure
from rgb_circuit.models.planted import PARTS, Placement
from rgb_circuit.programs import measured as program
from rgb_circuit.programs.paths import paths
from rgb_circuit.running import memory

LAST = families.LAYERS - 1
INTO = ("query", "key", "value")
# One of every kind, from the first layer and from one between; and receivers next to it and behind
# it.
SENDERS = [(0, 1), (1, 2), ("mlp", 0), ("mlp", 1), "embedding"]
RECEIVERS = [(1, 3), (2, 0), (LAST, 2)]
PLACE = Placement()


@pytest.fixture(scope="module", params=KINDS)
def subject(request):
    return subject_of(request.param)


@pytest.fixture(scope="module")
def trials(grouped):
    return rgb.rgb_trials(grouped, 3)


def lies_below(sender, layer):
    return sender == "embedding" or (sender[1] if sender[0] == "mlp" else sender[0]) < layer


def everything_below(layer, heads):
    """All that adds to the stream that enters a layer."""
    below = [(one, head) for one in range(layer) for head in range(heads)]
    return ["embedding", *below, *(("mlp", one) for one in range(layer))]


def table(frame, role):
    """Effects of one role, (sender, receiver) × what a path ends in, as words."""
    rows = frame[frame["role"] == role]
    ends = [f"{end}_{part}" for end in ("sender", "receiver") for part in ("layer", "head")]
    named = rows[["sender", *ends, "into", "effect"]].astype({"sender": str, "into": str})
    named[ends] = named[ends].astype("Int64").astype(str).fillna("")
    return named.groupby(["sender", *ends, "into"])["effect"].mean().unstack()


def test_every_path_agrees_with_plain_hooks_that_hold_all_that_lies_between(subject):
    oracle, (trial, *_) = oracle_of(subject.name), subject.trials
    target, wanted = oracle.unchanged(trial, "erased")[0], []
    for into in INTO:
        for sender in SENDERS:
            for receiver in RECEIVERS:
                logits = target
                if lies_below(sender, receiver[0]):
                    logits = oracle.path(trial, "erased", "clean", [sender], receiver, into)
                wanted.append((logits - target)[subject.tokens])
    wanted = torch.stack(wanted).numpy()
    assert (np.abs(wanted).max(1) > 10 * subject.close).sum() > 20
    for kernel in kernels_of(subject.name):
        frame = rgb.patch_paths(
            subject.model(kernel), subject.trials[:1], SENDERS, RECEIVERS, into=INTO, progress=False
        )
        found = frame["effect"].to_numpy().reshape(wanted.shape)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=subject.close, err_msg=kernel)


def test_the_paths_of_all_that_lies_below_together_replace_the_query_the_keys_or_the_values(
    subject,
):
    for layer, head in RECEIVERS:
        below = everything_below(layer, families.HEADS)
        variants = {
            f"{how} {into}": [edit]
            for into in INTO
            for how, edit in (
                ("paths", rgb.PathEdit(layer, head, below, into)),
                (
                    "replaced",
                    # Keys and values are those of all positions, and z is patched at [end].
                    rgb.Edit(layer, head, component=into),
                ),
            )
        }
        frame = rgb.patch_edits(
            subject.model(KERNELS[subject.name][0]),
            subject.trials[:1],
            variants,
            target="erased",
            progress=False,
        )
        effects = frame.pivot(index="role", columns="variant", values="effect")
        for into in INTO:
            one, other = effects[f"paths {into}"], effects[f"replaced {into}"]
            assert other.abs().max() > 10 * subject.close or into != "value"
            np.testing.assert_allclose(
                one, other, rtol=0, atol=subject.close, err_msg=f"{layer} {into}"
            )


def test_what_comes_after_the_receiver_has_no_path_to_it(grouped, trials):
    every = [*grouped.heads(), *(("mlp", layer) for layer in range(grouped.n_layers))]
    frame = rgb.patch_paths(grouped, trials[:1], every, grouped.heads(), into=INTO, progress=False)
    late = frame["sender_layer"] >= frame["receiver_layer"]
    assert (frame.loc[late, "effect"] == 0).all()
    assert (frame.loc[late, "patched_logit"] == frame.loc[late, "target_logit"]).all()
    assert (frame.loc[~late, "effect"] != 0).mean() > 0.9
    nothing = rgb.patch_paths(grouped, trials[:1], [(1, 0)], [(1, 1), (0, 0)], progress=False)
    assert len(nothing) == 2 * len(trials[0].answers) and (nothing["effect"] == 0).all()


def test_a_path_from_the_targets_own_run_changes_nothing(grouped, trials):
    frame = rgb.patch_paths(
        grouped, trials, SENDERS, RECEIVERS[:1], into=INTO, source="erased", progress=False
    )
    assert frame["effect"].abs().max() < 1e-5


def test_paths_from_another_question_end_in_the_query_and_are_refused_elsewhere(grouped, trials):
    asked = [
        replace(
            trial,
            images={"clean": trial.images["clean"], "other": trial.images["clean"]},
            prompts={
                "other": grouped.prompt(
                    "Which color is the background here, if any? Respond in one word"
                )
            },
            expected={},
        )
        for trial in trials[:1]
    ]
    options = dict(source="other", target="clean", progress=False)
    frame = rgb.patch_paths(grouped, asked, [(0, 1), "embedding"], [(2, 0)], **options)
    assert (
        frame.groupby("sender", observed=True)["effect"].apply(lambda one: one.abs().max())["head"]
        > 1e-4
    )
    with pytest.raises(rgb.InputError, match="tokens, so a path into keys would mix up positions"):
        rgb.patch_paths(grouped, asked, [(0, 1)], [(2, 0)], into="key", **options)


def test_all_pairs_are_two_forwards_beside_the_captures(grouped, trials):
    counted = []
    hook = grouped.nnsight._module.register_forward_pre_hook(lambda *_: counted.append(1))
    rgb.patch_paths(grouped, trials[:1], grouped.heads(), grouped.heads(), progress=False)
    hook.remove()
    assert len(counted) == 2 + 2


@pytest.mark.parametrize("most", [1, 100])
def test_how_many_paths_go_together_does_not_matter(grouped, trials, monkeypatch, most):
    call = functools.partial(
        rgb.patch_paths, grouped, trials, SENDERS, RECEIVERS[:2], into=INTO, progress=False
    )
    wanted = call()
    monkeypatch.setattr(memory, "_fit", lambda *_, **__: most)
    np.testing.assert_allclose(call()["effect"], wanted["effect"], rtol=0, atol=1e-5)


def test_the_planted_extractor_is_told_where_by_the_localizer_in_its_query_and_nowhere_else(
    planted,
):
    trials = rgb.rgb_trials(planted, 4)
    senders = [PLACE.poi, PLACE.mean, PLACE.early_background_writer, PLACE.idle_watcher, ("mlp", 2)]
    frame = rgb.patch_paths(
        planted, trials, [*planted.heads(), *senders], [PLACE.extractor], into=INTO
    )
    found = table(frame, "background")
    poi = found.loc["head", str(PLACE.poi[0]), str(PLACE.poi[1])].iloc[0]
    assert poi["query"] == pytest.approx(PARTS["extractor"].gain, abs=0.01)
    assert abs(poi["key"]) < 0.01 and abs(poi["value"]) < 0.01
    others = found.drop(("head", str(PLACE.poi[0]), str(PLACE.poi[1])))
    assert others.abs().to_numpy().max() < 0.01


def test_what_the_planted_content_extractor_is_told_comes_in_its_keys(planted):
    # It looks for the mark, which the MLP of the mean head's layer puts on the odd tile.
    senders = [PLACE.poi, PLACE.mean, ("mlp", PLACE.mean[0]), "embedding"]
    frame = rgb.patch_paths(
        planted, rgb.rgb_trials(planted, 4), senders, [PLACE.content_extractor], into=INTO
    )
    found = table(frame, "background")
    mark = found.loc["mlp", str(PLACE.mean[0])].iloc[0]
    assert mark["key"] == pytest.approx(PARTS["content_extractor"].gain, abs=0.01)
    assert abs(mark["query"]) < 0.01 and abs(mark["value"]) < 0.01
    assert found.drop(("mlp", str(PLACE.mean[0]))).abs().to_numpy().max() < 0.01


def test_what_an_extractor_carries_comes_in_its_values_from_the_picture(planted):
    # Where it looks is known there: it reads the clean picture's tile in the recolored one.
    frame = rgb.patch_paths(
        planted, rgb.rgb_trials(planted, 4), ["embedding", PLACE.poi], [PLACE.extractor], into=INTO,
        target="recolored",
    )  # fmt: skip
    found = table(frame, "odd")
    assert found.loc["embedding"].iloc[0]["value"] == pytest.approx(
        PARTS["extractor"].gain, abs=0.01
    )
    assert found.loc["embedding"].iloc[0][["query", "key"]].abs().max() < 0.01
    assert found.loc["head"].abs().to_numpy().max() < 0.01


@pytest.mark.parametrize("part", ["resid_pre", "queries", "keys", "values"])
def test_a_layer_that_makes_something_else_than_in_its_own_run_is_refused(
    grouped, trials, monkeypatch, part
):
    def other(wrapped, head_shape, captured, target, *others):
        own = captured[target]
        last = getattr(own, part)[-1]
        changed = SimpleNamespace(
            **{**vars(own), part: [*getattr(own, part)[:-1], last + last.flip(-1)]}
        )
        return paths(wrapped, head_shape, {**captured, target: changed}, target, *others)

    monkeypatch.setattr(program, "paths", other)
    with pytest.raises(rgb.InputError, match="direct paths mean nothing there; use patch_edits"):
        rgb.patch_paths(grouped, trials, [(0, 0)], [(grouped.n_layers - 1, 1)], progress=False)


def test_a_layer_that_scales_its_stream_is_refused(random_folder, trials, monkeypatch):
    forward = LlamaDecoderLayer.forward

    def scaled(layer, *given, **options):
        made = forward(layer, *given, **options)
        return 1.5 * made if layer.self_attn.layer_idx == 1 else made

    monkeypatch.setattr(LlamaDecoderLayer, "forward", scaled)
    model = rgb.load(str(random_folder["grouped"]))
    with pytest.raises(rgb.InputError, match="does not pass a layer unchanged"):
        rgb.patch_paths(model, trials, [(0, 0)], [(2, 1)], progress=False)


@pytest.mark.parametrize(
    "changed, message",
    [
        (dict(senders=[]), "senders is empty"),
        (dict(receivers=[]), "receivers is empty"),
        (dict(into=[]), "into is empty"),
        (dict(target=()), "target is empty"),
        (dict(senders=[(0, 9)]), "head 0.9 does not exist"),
        (dict(senders=[("mlp", 7)]), "layer 7 does not exist"),
        (dict(senders=["mlp"]), "mlp is no sender"),
        (dict(senders=[("attn_out", 0)]), "no sender; use a .layer, head. pair, .'mlp', layer. or"),
        (dict(senders="embedding"), "give a list such as"),
        (dict(senders=[(0, 1, 2)]), "no sender"),
        (dict(receivers=["embedding"]), "receivers is"),
        (dict(receivers=[(5, 0)]), "head 5.0 does not exist"),
        (dict(into="z"), "into is 'z'; use 'query', 'key', 'value'"),
        (dict(source="zero"), "source is 'zero', and paths bring what a picture gives"),
        (dict(source="nowhere"), "no condition 'nowhere'"),
        (dict(target="nowhere"), "no condition 'nowhere'"),
    ],
)  # fmt: skip
def test_what_does_not_exist_is_refused_before_any_forward(grouped, trials, changed, message):
    given = dict(senders=[(0, 1)], receivers=[(2, 0)]) | changed
    hook = grouped.nnsight._module.lm_head.register_forward_pre_hook(
        lambda *_: pytest.fail("a forward ran")
    )
    try:
        with pytest.raises(rgb.InputError, match=message):
            rgb.patch_paths(grouped, trials, progress=False, **given)
    finally:
        hook.remove()


def test_a_joint_path_from_beside_its_receiver_is_refused(grouped, trials):
    with pytest.raises(rgb.InputError, match="nothing of sender .1, 2. is in what layer 1 reads"):
        rgb.patch_edits(
            grouped,
            trials,
            {"one": [rgb.PathEdit(1, 0, [(0, 1), (1, 2)])]},
            target="erased",
            progress=False,
        )


def test_a_row_for_every_trial_end_sender_receiver_and_role_in_that_order(grouped, trials):
    frame = rgb.patch_paths(
        grouped, trials[:2], SENDERS[:3], RECEIVERS[:2], into=("value", "query"),
        target=("erased", "recolored"), progress=False,
    )  # fmt: skip
    assert list(frame) == [
        "trial", "source", "target", "into", "sender", "sender_layer", "sender_head", "receiver_layer",
        "receiver_head", "role", "answer", "source_logit", "target_logit", "patched_logit", "effect",
    ]  # fmt: skip
    keys = ["trial", "target", "into", "sender", "sender_layer", "sender_head", "receiver_layer"]
    assert len(frame) == 2 * 2 * 2 * 3 * 2 * len(trials[0].answers)
    first = frame.drop_duplicates(keys).iloc[:6]
    assert first["sender_head"].isna().tolist() == [False] * 4 + [True] * 2
    assert first["sender"].tolist() == ["head"] * 4 + ["mlp"] * 2
    np.testing.assert_allclose(
        frame["patched_logit"] - frame["target_logit"], frame["effect"], atol=1e-6
    )


def test_measured_beside_others_paths_cost_no_capture(grouped, trials):
    seen = []
    tower = grouped.nnsight._module.model.vision_tower
    hook = tower.register_forward_pre_hook(
        lambda _, given, named: seen.extend(named.get("pixel_values", *given)), with_kwargs=True
    )
    asked = [
        PatchedPaths.of(trials, [(0, 1)], [(2, 0)], INTO, "clean", "erased"),
        PatchedPaths.of(trials, [(0, 2)], [(1, 0)], ["query"], "clean", "erased"),
    ]
    frames = measure(grouped, asked, progress=False)
    hook.remove()
    assert len(seen) == 2 * len(trials)
    alone = [measure(grouped, [one], progress=False)[0] for one in asked]
    for one, other in zip(frames, alone):
        pd.testing.assert_frame_equal(one, other, rtol=0, atol=1e-5)
