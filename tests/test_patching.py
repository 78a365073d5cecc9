"""Patching means what it says, and the fast paths equal a forward per head."""

import functools

import numpy as np
import pytest
import torch
from brute_force import BruteForce

import rgb_circuit as rgb
from rgb_circuit.calls import reference
from rgb_circuit.prompts import answer_tokens, encode, locate

COMPONENTS = ("z", "pattern", "value")
CLOSE = dict(rtol=0, atol=1e-5)
# Folder → its bare model, which no test changes.
bare_of = functools.cache(BruteForce)


@pytest.fixture(scope="module")
def trials(model):
    return rgb.rgb_trials(model, 2, seed=3)


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("positions", ["end", "tile", "all"])
def test_patch_heads_agrees_with_plain_hooks(model, trials, component, positions):
    bare = bare_of(model.name)
    frame = rgb.patch_heads(model, trials, component=component, positions=positions, progress=False)
    for trial in trials:
        ids = encode(model, [(trial, "clean")])["input_ids"][0]
        places = locate(model, trial, positions, ids)
        tokens = answer_tokens(model, trial)
        for target in ("recolored", "erased"):
            # A row each of one batch.
            logits = bare.patched(
                trial,
                target,
                [
                    bare.write(trial, "clean", target, *head, component, places)
                    for head in model.heads()
                ],
            )
            rows = frame.query("trial == @trial.name and target == @target")
            assert list(zip(rows["layer"], rows["head"]))[:: len(tokens)] == model.heads()
            assert rows["role"].tolist() == list(tokens) * len(model.heads())
            np.testing.assert_allclose(
                rows["patched_logit"], logits[:, list(tokens.values())].flatten(), **CLOSE
            )
    assert frame["effect"].abs().max() > 1e-3


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("positions", ["end", "all", "image", "text", "tile", (0, 5, -1), (-2,)])
def test_every_position_kind_agrees_with_the_loop(grouped, component, positions):
    [trial], target = rgb.rgb_trials(grouped, 1, seed=3), "erased"
    frame = rgb.patch_heads(
        grouped, [trial], target=target, component=component, positions=positions, progress=False
    )
    # Of each pair of heads that share keys and values one, the first or the second.
    for layer, head in [(0, 0), (0, 3), (1, 1), (1, 2), (2, 0), (2, 3)]:
        logits = reference.patched_logits(
            grouped, trial, target, [rgb.Edit(layer, head, "clean", component, positions)]
        )
        rows = frame.query("layer == @layer and head == @head")
        wanted = [float(logits[token]) for token in answer_tokens(grouped, trial).values()]
        np.testing.assert_allclose(rows["patched_logit"], wanted, **CLOSE)


@pytest.mark.parametrize("positions", ["end", "all", "text"])
def test_joint_patches_agree_with_the_loop(model, trials, positions):
    last = model.n_layers - 1
    variants = {
        "two layers": [
            rgb.Edit(0, 1, positions=positions),
            rgb.Edit(last, 0, "moved", positions=positions),
        ],
        "frozen": [
            rgb.Edit(0, 0, positions=positions),
            rgb.Edit(last, 1, "erased", positions=positions),
        ],
        "zero": [rgb.Edit(0, 2, "zero", positions=positions)],
        "mean": [
            rgb.Edit(last, 2, "mean", positions=positions),
            rgb.Edit(0, 2, "mean", positions=positions),
        ],
        "kinds": [
            rgb.Edit(1, 0, "clean", "pattern", positions),
            rgb.Edit(1, 1, "moved", "value", positions),
            rgb.Edit(1, 2, "zero"),
        ],
    }
    frame = rgb.patch_edits(model, trials, variants, target="erased", progress=False)
    # The mean is of both trials.
    trial = trials[1]
    for name, edits in variants.items():
        logits = reference.patched_logits(model, trial, "erased", edits, trials)
        rows = frame.query("trial == @trial.name and variant == @name")
        wanted = [float(logits[token]) for token in answer_tokens(model, trial).values()]
        np.testing.assert_allclose(rows["patched_logit"], wanted, **CLOSE)


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("positions", ["end", "all"])
def test_own_component_changes_nothing(model, trials, component, positions):
    frame = rgb.patch_heads(
        model,
        trials,
        source="erased",
        target="erased",
        component=component,
        positions=positions,
        progress=False,
    )
    np.testing.assert_allclose(frame["effect"], 0, atol=1e-5)


def test_patching_every_head_and_the_embedding_gives_the_clean_run(model, trials):
    # Pictures enter at image tokens only, so with every z restored everywhere what is left of the
    # target is its own embedding.
    everything = [rgb.Edit(layer, head, positions="all") for layer, head in model.heads()]
    at_end = [rgb.Edit(layer, head) for layer, head in model.heads()]
    frame = rgb.patch_edits(
        model, trials, {"all": everything, "end": at_end}, target="erased", progress=False
    )
    # The last token is text: its embedding is the same in both runs, so its z alone decide the
    # answer.
    np.testing.assert_allclose(frame["patched_logit"], frame["source_logit"], **CLOSE)
    assert (frame["source_logit"] - frame["target_logit"]).abs().max() > 1e-2


def test_an_end_patch_leaves_earlier_positions_alone(model, trials):
    bare = bare_of(model.name)
    trial = trials[0]
    _, z, _, _, before = bare.run(trial, "erased")
    last = len(z[0]) - 1
    donor = bare.run(trial, "clean")[1]
    _, _, _, _, after = bare.run(trial, "erased", [(0, 0, last, donor[0][last, 0])])
    for one, other in zip(before, after):
        assert torch.equal(one[0, :last], other[0, :last])
    assert not torch.equal(before[-1][0, last], after[-1][0, last])


@pytest.mark.parametrize("positions", ["end", "text", "all"])
def test_batch_size_changes_nothing(grouped, positions):
    trials = rgb.rgb_trials(grouped, 2, seed=1)
    whole = rgb.patch_heads(grouped, trials, positions=positions, progress=False)
    for batch_size in (1, 5):
        parts = rgb.patch_heads(
            grouped, trials, positions=positions, batch_size=batch_size, progress=False
        )
        np.testing.assert_allclose(
            parts["patched_logit"], whole["patched_logit"], rtol=0, atol=1e-5
        )


def test_prompts_of_different_length_keep_their_order_and_values(grouped):
    short, long, again = rgb.rgb_trials(grouped, 3, seed=2)
    words = (
        "USER: <image>\nRespond in one word Which color is the odd color out? Respond in one "
        "word\nASSISTANT:"
    )
    long = rgb.Trial("long", words, long.images, long.answers, long.tile, long.grid)
    together = rgb.patch_heads(grouped, [short, long, again], progress=False)
    assert list(together["trial"].unique()) == [short.name, "long", again.name]
    for trial in (short, long, again):
        alone = rgb.patch_heads(grouped, [trial], progress=False)
        np.testing.assert_allclose(
            together.query("trial == @trial.name")["effect"], alone["effect"], rtol=0, atol=1e-5
        )


def test_the_mean_is_over_all_trials_whatever_their_length(grouped):
    short, other = rgb.rgb_trials(grouped, 2, seed=2)
    long = rgb.Trial(
        "long",
        other.prompt.replace("one word", "one one word"),
        other.images,
        other.answers,
        other.tile,
        other.grid,
    )
    frame = rgb.patch_heads(grouped, [short, long], source="mean", target="erased", progress=False)
    for trial in (short, long):
        for layer, head in grouped.heads():
            logits = reference.patched_logits(
                grouped, trial, "erased", [rgb.Edit(layer, head, "mean")], [short, long]
            )
            rows = frame.query("trial == @trial.name and layer == @layer and head == @head")
            np.testing.assert_allclose(
                rows["patched_logit"],
                [float(logits[t]) for t in answer_tokens(grouped, trial).values()],
                **CLOSE,
            )


def test_a_head_may_be_edited_from_two_sources_at_different_positions(grouped):
    trials = rgb.rgb_trials(grouped, 2, seed=6)
    edits = [
        rgb.Edit(1, 2, positions="end"),
        rgb.Edit(1, 2, "zero", positions="tile"),
        rgb.Edit(0, 1, "moved", positions="image"),
    ]
    frame = rgb.patch_edits(grouped, trials, {"both": edits}, target="erased", progress=False)
    for trial in trials:
        logits = reference.patched_logits(grouped, trial, "erased", edits)
        rows = frame.query("trial == @trial.name")
        np.testing.assert_allclose(
            rows["patched_logit"],
            [float(logits[t]) for t in answer_tokens(grouped, trial).values()],
            **CLOSE,
        )


def test_trials_may_have_different_answers(grouped):
    first, second = rgb.rgb_trials(grouped, 2, seed=4)
    second = rgb.Trial("two answers", second.prompt, second.images, {"yes": "red", "no": "one"})
    frame = rgb.patch_heads(grouped, [first, second], progress=False)
    assert frame.groupby("trial", observed=True)["role"].nunique().to_dict() == {
        first.name: 5,
        "two answers": 2,
    }
    assert frame["patched_logit"].notna().all()


def test_the_frame_has_the_contract_columns_and_a_row_per_trial_target_head_role(grouped):
    trials = rgb.rgb_trials(grouped, 2)
    frame = rgb.patch_heads(grouped, trials, progress=False)
    columns = (
        "trial source target component positions layer head role answer source_logit target_logit "
        "patched_logit effect"
    )
    assert list(frame.columns) == columns.split()
    assert len(frame) == 2 * 2 * grouped.n_layers * grouped.n_heads * 5
    joint = rgb.patch_edits(
        grouped, trials, {"a": [rgb.Edit(0, 0)]}, target="erased", progress=False
    )
    assert list(joint.columns) == columns.replace("layer head", "variant").split()
    np.testing.assert_allclose(
        frame["effect"], frame["patched_logit"] - frame["target_logit"], rtol=0, atol=1e-6
    )
    few = rgb.patch_heads(grouped, trials, heads=[(2, 1), (0, 3)], progress=False)
    assert few[["layer", "head"]].drop_duplicates().values.tolist() == [[2, 1], [0, 3]]


def test_source_and_target_logits_are_those_of_play(grouped):
    trials = rgb.rgb_trials(grouped, 2)
    frame = rgb.patch_heads(grouped, trials, heads=[(0, 0)], progress=False)
    played = rgb.play(grouped, trials, progress=False).set_index(["trial", "condition"])
    for row in frame.itertuples():
        assert row.source_logit == pytest.approx(
            played.loc[(row.trial, "clean"), f"logit_{row.role}"], abs=1e-5
        )
        assert row.target_logit == pytest.approx(
            played.loc[(row.trial, row.target), f"logit_{row.role}"], abs=1e-5
        )
