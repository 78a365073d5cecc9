"""Attribution patching is the gradient times the change of z, and is called an estimate because it
is one."""

import copy
import warnings
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import families
import numpy as np
import pandas as pd
import pytest
import torch
from brute_force import BruteForce
from families import FAMILIES, FEW, KINDS

import rgb_circuit as rgb
from rgb_circuit import plots
from rgb_circuit.calls.attribute import STEPS
from rgb_circuit.models.planted import Placement
from rgb_circuit.models.random import random_llava
from rgb_circuit.programs import attributed as program
from rgb_circuit.prompts import answer_tokens, encode, locate
from rgb_circuit.running import memory

# The module, not the function of its name.
head_patching = import_module("rgb_circuit.calls.head_patching")
TARGETS = ("recolored", "erased")
CLOSE = dict(rtol=0, atol=2e-5)


@pytest.fixture(scope="module")
def trials(model):
    return rgb.rgb_trials(model, 2, seed=3)


def by_hooks(bare, model, trial, target, method="atp"):
    """What every head's z at every position adds to its estimate, with ``backward`` on the bare
    model, (positions, layers, heads, roles)."""
    tokens = list(answer_tokens(model, trial).values())
    source, own = bare.gradients(trial, "clean", tokens), bare.gradients(trial, target, tokens)
    runs = [own]
    if method == "atp-ig":
        steps = [(step + 0.5) / STEPS for step in range(STEPS)]
        runs = [bare.gradients(trial, target, tokens, "clean", fraction) for fraction in steps]
    layers = []
    for layer, (z, _) in own.items():
        gradient = sum(run[layer][1] for run in runs) / len(runs)
        layers.append((gradient * (source[layer][0] - z)).sum(-1))
    # From (layers, roles, positions, heads).
    return torch.stack(layers).permute(2, 0, 3, 1)


def assert_estimated(rows, wanted):
    """Equal up to rounding, as a fraction of the largest."""
    wanted = wanted.flatten().numpy()
    np.testing.assert_allclose(rows["effect"], wanted, rtol=0, atol=2e-4 * np.abs(wanted).max())
    assert np.abs(wanted).max() > 1e-4


@pytest.mark.parametrize("method", ["atp", "atp-ig"])
def test_an_estimate_is_the_gradient_times_the_change_of_z(model, trials, method):
    bare, asked = BruteForce(model.name), ["end", "all", "tile", (0, 5, -1)]
    frames = [
        rgb.attribute(model, trials, positions=positions, method=method, progress=False)
        for positions in asked
    ]
    for trial in trials:
        ids = encode(model, [(trial, "clean")])["input_ids"][0]
        for target in TARGETS:
            wanted = by_hooks(bare, model, trial, target, method)
            for positions, frame in zip(asked, frames, strict=True):
                rows = frame.query("trial == @trial.name and target == @target")
                assert_estimated(rows, wanted[locate(model, trial, positions, ids)].sum(0))


@pytest.mark.parametrize("name", KINDS)
def test_every_family_agrees_with_plain_hooks(name):
    module, processor = families.built(name)
    bare = BruteForce(copy.deepcopy(module), processor, FAMILIES[name].options)
    model = rgb.wrap(module, processor, name=name, tiles=FAMILIES[name].tiles)
    [trial] = rgb.rgb_trials(model, 1, seed=2)
    groups = ["end", "tile", "all"]
    ids = encode(model, [(trial, "clean")])["input_ids"][0]
    # On the way between two pictures the streams are mixed, whatever the layers are.
    for method in ("atp", "atp-ig") if name in FEW else ("atp",):
        frame = rgb.attribute(
            model, [trial], target="erased", positions=groups, method=method, progress=False
        )
        wanted = by_hooks(bare, model, trial, "erased", method)
        for positions in groups:
            places = locate(model, trial, positions, ids)
            assert_estimated(frame.query("positions == @positions"), wanted[places].sum(0))


def test_an_estimate_is_the_slope_of_the_exact_effect(grouped):
    """The patch made a thousandth of the way, in double precision."""
    [trial] = rgb.rgb_trials(grouped, 1, seed=5)
    bare, small = BruteForce(grouped.name), 1e-3
    bare.model.double()
    tokens = list(answer_tokens(grouped, trial).values())
    places = range(encode(grouped, [(trial, "clean")])["input_ids"].shape[1])
    logits, z, *_ = bare.run(trial, "erased")
    _, source, *_ = bare.run(trial, "clean")
    frame = rgb.attribute(grouped, [trial], target="erased", positions="all", progress=False)
    for layer, head in [(0, 1), (1, 3), (2, 0)]:
        writes = [
            (layer, head, place, z[layer][place, head].lerp(source[layer][place, head], small))
            for place in places
        ]
        moved = bare.run(trial, "erased", writes)[0]
        slope = (moved - logits)[tokens] / small
        rows = frame.query("layer == @layer and head == @head")
        np.testing.assert_allclose(rows["effect"], slope, rtol=2e-2, atol=1e-3)


def test_the_frame_is_that_of_patch_heads_with_the_method(grouped):
    trials = rgb.rgb_trials(grouped, 3)
    exact = rgb.patch_heads(grouped, trials, positions="tile", progress=False)
    frame = rgb.attribute(grouped, trials, positions="tile", progress=False)
    assert frame.columns.drop("method").tolist() == exact.columns.tolist()
    assert frame.columns.get_loc("method") == frame.columns.get_loc("component") + 1
    measured = exact.columns.drop(["patched_logit", "effect"])
    for column in measured:
        if exact[column].dtype.kind == "f":
            np.testing.assert_allclose(frame[column], exact[column], atol=1e-5)
        else:
            assert frame[column].tolist() == exact[column].tolist()
    np.testing.assert_allclose(
        frame["patched_logit"], frame["target_logit"] + frame["effect"], atol=1e-6
    )


def test_estimates_of_positions_add_up(grouped):
    trials = rgb.rgb_trials(grouped, 2)
    together = ["all", "text", "image", [0, 1, 2]]
    frame = rgb.attribute(grouped, trials, positions=together, progress=False)
    frame = frame.assign(positions=frame["positions"].astype(str))
    of = {name: rows["effect"].to_numpy() for name, rows in frame.groupby("positions", sort=False)}
    assert list(of) == ["all", "text", "image", "[0, 1, 2]"]
    np.testing.assert_allclose(of["text"] + of["image"], of["all"], **CLOSE)

    each = rgb.attribute(grouped, trials, positions="each", progress=False)
    each = each.assign(positions=each["positions"].astype(str))
    keys = ["trial", "target", "layer", "head", "role"]
    summed = each.groupby(keys, observed=True, sort=False)["effect"].sum()
    np.testing.assert_allclose(summed, of["all"], rtol=0, atol=1e-4)
    few = each[each["positions"].isin(["[0]", "[1]", "[2]"])]
    few = few.groupby(keys, observed=True, sort=False)["effect"].sum()
    np.testing.assert_allclose(few, of["[0, 1, 2]"], **CLOSE)
    # A row of each can be laid beside a patch of that position.
    exact = rgb.patch_heads(grouped, trials[:1], target="erased", positions=[5], progress=False)
    assert set(exact["positions"]) == {"[5]"} <= set(each["positions"])


@pytest.mark.parametrize("method", ["atp", "atp-ig"])
@pytest.mark.parametrize("positions", ["end", "all"])
def test_layers_some_at_a_time_give_the_same(grouped, monkeypatch, method, positions):
    trials = rgb.rgb_trials(grouped, 2)
    whole = rgb.attribute(grouped, trials, positions=positions, method=method, progress=False)
    runs = []
    monkeypatch.setattr(
        program,
        "backwards",
        lambda *given, real=program.backwards: runs.append(given[6:8]) or real(*given),
    )
    monkeypatch.setitem(memory.GRADIENT_BYTES, "cpu", 1)
    frame = rgb.attribute(grouped, trials, positions=positions, method=method, progress=False)
    assert set(runs) == {(0, 1), (1, 2), (2, 3)}
    np.testing.assert_allclose(frame["effect"], whole["effect"], **CLOSE)


@pytest.mark.parametrize("wants", [True, False])
def test_a_model_is_left_as_it_was(grouped, wants):
    module = copy.deepcopy(grouped.nnsight._module).requires_grad_(wants)
    model = rgb.wrap(module, grouped.processor, name="mine")
    before = {name: parameter.clone() for name, parameter in module.named_parameters()}
    frame = rgb.attribute(model, rgb.rgb_trials(model, 1), progress=False)
    assert frame["effect"].abs().max() > 1e-3
    for name, parameter in module.named_parameters():
        assert parameter.requires_grad is wants and parameter.grad is None
        assert torch.equal(parameter, before[name])


def test_the_targets_own_z_is_estimated_to_change_nothing(grouped):
    frame = rgb.attribute(
        grouped,
        rgb.rgb_trials(grouped, 2),
        source="erased",
        target="erased",
        positions="all",
        progress=False,
    )
    assert (frame["effect"] == 0).all()


def test_zeros_are_restored_as_well(grouped):
    [trial] = rgb.rgb_trials(grouped, 1, seed=5)
    bare, tokens = BruteForce(grouped.name), list(answer_tokens(grouped, trial).values())
    frame = rgb.attribute(
        grouped, [trial], source="zero", target="erased", positions="all", progress=False
    )
    found = bare.gradients(trial, "erased", tokens)
    wanted = torch.cat([-(gradient * z).sum((1, 3)).T for z, gradient in found.values()])
    np.testing.assert_allclose(frame["effect"], wanted.flatten(), **CLOSE)
    assert frame["source_logit"].isna().all()


def test_prompts_of_other_length_line_up_from_the_end(grouped):
    [trial] = rgb.rgb_trials(grouped, 1)
    longer = trial.prompt.replace("\nASSISTANT", " Respond in one word\nASSISTANT")
    trial = replace(trial, prompts={"erased": longer})
    frame = rgb.attribute(
        grouped, [trial], target="erased", positions=["end", [-2]], progress=False
    )
    bare = BruteForce(grouped.name)
    tokens = list(answer_tokens(grouped, trial).values())
    source = bare.gradients(trial, "clean", tokens)
    own = bare.gradients(replace(trial, prompt=longer, prompts={}), "erased", tokens)
    for name, place in (("end", -1), ("[-2]", -2)):
        layers = [
            (gradient[:, place] * (source[layer][0][place] - z[place])).sum(-1).T
            for layer, (z, gradient) in own.items()
        ]
        np.testing.assert_allclose(
            frame.query("positions == @name")["effect"], torch.cat(layers).flatten(), **CLOSE
        )
    with pytest.raises(rgb.InputError, match="line up from either end to the picture only"):
        rgb.attribute(grouped, [trial], target="erased", positions="all", progress=False)
    with pytest.raises(rgb.InputError, match="between which no run lies; use method='atp'"):
        rgb.attribute(grouped, [trial], target="erased", method="atp-ig", progress=False)


def test_trials_whose_positions_begin_elsewhere_are_estimated_as_alone(grouped):
    trials = [
        replace(one, name=str(tile))
        for tile in ((5, 5), (0, 0))
        for one in rgb.rgb_trials(grouped, 1, tile=tile)
    ]
    options = dict(target="erased", positions="tile", progress=False)
    together = rgb.attribute(grouped, trials, **options)
    alone = pd.concat([rgb.attribute(grouped, one, **options) for one in trials])
    assert alone["effect"].abs().groupby(alone["trial"]).max().min() > 1e-4
    np.testing.assert_allclose(together["effect"], alone["effect"], atol=1e-5)


def test_half_precision_stays_within_its_rounding(random_folder):
    exact, half = (
        rgb.load(str(random_folder["grouped"]), dtype=dtype) for dtype in ("float32", "bfloat16")
    )
    trials = rgb.rgb_trials(exact, 2)
    frames = [
        rgb.attribute(model, trials, positions="all", progress=False) for model in (exact, half)
    ]
    size = frames[0]["effect"].abs().max()
    np.testing.assert_allclose(frames[1]["effect"], frames[0]["effect"], rtol=0, atol=0.05 * size)


def test_planted_extractors_are_found_and_what_saturated_attention_hides_is_missed(planted):
    """The localizer moves the extractors' attention, which is all or nothing: it has no slope."""
    model, place = planted, Placement()
    trials = rgb.rgb_trials(model, 4)
    ask = dict(target="erased", positions="end", progress=False)
    exact, estimate = rgb.patch_heads(model, trials, **ask), rgb.attribute(model, trials, **ask)
    sizes = [
        frame.query("role in ('odd', 'background')")
        .assign(effect=lambda rows: rows["effect"].abs())
        .groupby(["layer", "head"])["effect"]
        .max()
        for frame in (exact, estimate)
    ]
    np.testing.assert_allclose(sizes[1][place.extractor], sizes[0][place.extractor], rtol=1e-2)
    assert sizes[0][place.poi] > 1 and sizes[1][place.poi] < 1e-3


@pytest.mark.parametrize(
    "options, complaint",
    [
        (dict(method="eap"), "method is 'eap'; use 'atp' or 'atp-ig'"),
        (dict(target=()), "target is empty"),
        (dict(target="recoloured"), "no condition 'recoloured'"),
        (dict(source="mean"), "source 'mean' is not estimated"),
        (dict(source="zero", method="atp-ig"), "no run lies between source 'zero'"),
        (dict(positions="edn"), "positions is 'edn'"),
        (dict(positions=["end", 3]), "positions is 3"),
        (dict(positions=["end", "each"]), "positions is 'each'"),
        (dict(positions=[]), "name at least one group of positions"),
        (dict(positions=[[999]]), "not all in the prompt"),
        (dict(positions=7), "positions is 7; use 'end'"),
        (dict(heads=[(9, 9)]), "head 9.9 does not exist"),
        (dict(heads=[]), "heads is empty"),
    ],
)
def test_what_cannot_be_estimated_is_refused(grouped, options, complaint):
    with pytest.raises(rgb.InputError, match=complaint):
        rgb.attribute(grouped, rgb.rgb_trials(grouped, 1), **options)


def test_weights_made_in_inference_mode_are_refused_before_any_forward():
    module, processor = random_llava(layers=2)
    norm = module.model.language_model.norm
    with torch.inference_mode():
        norm._parameters["weight"] = torch.nn.Parameter(norm.weight.clone(), requires_grad=False)
    model = rgb.wrap(module, processor, name="mine")
    with pytest.raises(rgb.InputError, match=r"inference_mode\(\) \(.*language_model.norm.weight"):
        rgb.attribute(model, rgb.rgb_trials(model, 1), progress=False)


def test_inference_mode_is_refused_in_a_sentence(grouped):
    trials = rgb.rgb_trials(grouped, 1)
    with (
        torch.inference_mode(),
        pytest.raises(rgb.InputError, match="outside torch.inference_mode"),
    ):
        rgb.attribute(grouped, trials, progress=False)


def test_some_heads_are_rows_of_the_whole(grouped):
    trials = rgb.rgb_trials(grouped, 2)
    every = rgb.attribute(grouped, trials, progress=False)
    some = rgb.attribute(grouped, trials, heads=[(2, 1), (0, 3)], progress=False)
    assert list(dict.fromkeys(zip(some["layer"], some["head"]))) == [(2, 1), (0, 3)]
    merged = some.merge(every, on=["trial", "target", "layer", "head", "role"])
    assert len(merged) == len(some) and (merged["effect_x"] == merged["effect_y"]).all()


@pytest.mark.parametrize("method", ["atp", "atp-ig"])
def test_among_patches_what_is_estimated_highest_and_says_what_it_skipped(
    grouped, monkeypatch, method
):
    monkeypatch.setattr(head_patching, "LEAST", 5)
    trials = rgb.rgb_trials(grouped, 3)
    ask = dict(positions="all", progress=False)
    estimate = rgb.attribute(grouped, trials, method=method, **ask)
    mean = (
        estimate.groupby(["target", "role", "layer", "head"], observed=True)["effect"].mean().abs()
    )
    ranked = mean.groupby(["layer", "head"]).max().sort_values(ascending=False)
    exact = rgb.patch_heads(grouped, trials, **ask)
    with pytest.warns(UserWarning, match="7 of 12 heads were not patched") as caught:
        frame = rgb.patch_heads(grouped, trials, among=method, **ask)
    layer, head = ranked.index[5]
    assert f"at most {ranked.iloc[5]:.3g} logits ({layer}.{head})" in str(caught[0].message)
    assert len(caught) == 1 and Path(caught[0].filename) == Path(__file__)
    patched = list(dict.fromkeys(zip(frame["layer"], frame["head"])))
    assert patched == sorted(ranked.index[:5])
    assert frame.attrs["skipped"] == sorted(ranked.index[5:])
    both = frame.merge(exact, on=["trial", "target", "layer", "head", "role"])
    assert len(both) == len(frame)
    np.testing.assert_allclose(both["effect_x"], both["effect_y"], **CLOSE)


def test_a_tenth_of_many_heads_is_patched_and_a_few_are_all(grouped, monkeypatch):
    trials = rgb.rgb_trials(grouped, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame = rgb.patch_heads(grouped, trials, among="atp", progress=False)
    assert (
        frame.attrs["skipped"] == [] and frame[["layer", "head"]].drop_duplicates().shape[0] == 12
    )
    monkeypatch.setattr(head_patching, "LEAST", 1)
    monkeypatch.setattr(head_patching, "PART", 0.25)
    with pytest.warns(UserWarning, match="9 of 12 heads"):
        rgb.patch_heads(grouped, trials, among="atp", progress=False)
    with pytest.warns(UserWarning, match="3 of 4 heads"):
        rgb.patch_heads(
            grouped, trials, among="atp", heads=[(0, 0), (0, 1), (1, 2), (2, 3)], progress=False
        )


@pytest.mark.parametrize(
    "options, complaint",
    [
        (dict(among="eap"), "among is 'eap'; use 'atp' or 'atp-ig'"),
        (dict(among="atp", component="pattern"), "among estimates component 'z', not 'pattern'"),
        (dict(among="atp", source="mean"), "source 'mean' is not estimated"),
    ],
)
def test_what_cannot_be_chosen_by_an_estimate_is_refused(grouped, options, complaint):
    with pytest.raises(rgb.InputError, match=complaint):
        rgb.patch_heads(grouped, rgb.rgb_trials(grouped, 1), progress=False, **options)


def test_a_figure_of_estimates_calls_them_so_and_names_what_is_furthest_off(grouped):
    trials = rgb.rgb_trials(grouped, 3)
    exact = rgb.patch_heads(grouped, trials, progress=False)
    estimate = rgb.attribute(grouped, trials, progress=False)
    estimate.loc[(estimate["layer"] == 1) & (estimate["head"] == 2), "effect"] += 2
    ax = plots.estimates_against_exact(estimate, exact, "small", label=1)
    (points,) = ax.collections
    keys = ["target", "layer", "head", "role"]
    wanted = [frame.groupby(keys, observed=True)["effect"].mean() for frame in (exact, estimate)]
    np.testing.assert_allclose(points.get_offsets(), np.stack(wanted, 1))
    assert [text.get_text() for text in ax.texts] == ["1.2"]
    assert ax.get_ylabel() == "estimate, atp (logits)" and "n = 3" in ax.get_title()
    title = plots.panel_heatmaps(estimate, "small").get_suptitle()
    assert "positions: end (estimated, atp)" in title
    assert "estimated" not in plots.panel_heatmaps(exact, "small").get_suptitle()
    with pytest.raises(rgb.InputError, match="differ in their column positions; estimate what"):
        plots.estimates_against_exact(estimate.assign(positions="all"), exact, "small")
    with pytest.raises(rgb.InputError, match="other heads"):
        plots.estimates_against_exact(estimate[estimate["layer"] > 0], exact, "small")


def test_one_trial_is_a_list_of_one(grouped):
    [trial] = rgb.rgb_trials(grouped, 1)
    assert rgb.attribute(grouped, trial, progress=False).equals(
        rgb.attribute(grouped, [trial], progress=False)
    )
