"""Heads that are made to look at every place: the same numbers as one place after the other, and on
planted what is read there."""

from dataclasses import replace

import numpy as np
import pytest

import rgb_circuit as rgb
from analyses import steering
from analyses.study import closer_look, items
from rgb_circuit.calls.panels import panels_for
from rgb_circuit.heads import Head
from rgb_circuit.measuring.estimate import cost
from rgb_circuit.measuring.measure import follow
from rgb_circuit.models.planted import Placement
from rgb_circuit.pictures.views import laid_out
from rgb_circuit.prompts import encode, locate, prompt_ids
from rgb_circuit.stimuli.tasks import find

HEADS = [(1, 0), (2, 3)]


@pytest.fixture(scope="module")
def random(grouped):
    """Grouped-query attention, and of one trial every row."""
    trials = list(rgb.rgb_trials(grouped, 2))
    # Boxes, of pictures that are not shown too, change nothing.
    boxes = {name: {"thing": (0, 0, 2, 2)} for name in ("clean", "erased")}
    boxed = [replace(trials[0], boxes=boxes), trials[1]]
    frame = steering.steering(grouped, boxed, HEADS, [(2, 1), (0, 0)], progress=False)
    return grouped, trials, frame


def alone(model, trial, row):
    """The logits of one row, patched by itself, by word."""
    members = [Head.parse(name) for name in row.members.split()]
    ids = prompt_ids(model, [trial], "clean")[trial.name]
    if row.edit == "look":
        there = int(laid_out(model, trial.images["clean"], ids)[row.row, row.column])
        rest = tuple(place for place in locate(model, trial, "image", ids) if place != there)
        edits = steering.looking_at(members, row.bias, (there,), rest)
    else:
        edits = [rgb.Edit(*head, "own", scale=steering.FACTORS[row.edit]) for head in members]
    frame = rgb.patch_edits(
        model, trial, {"one": edits}, target="clean", batch_size=1, progress=False
    )
    return frame.set_index("answer")["patched_logit"].to_dict()


def test_every_row_is_that_edit_made_alone(random):
    model, trials, frame = random
    assert model.n_kv_heads < model.n_heads
    rows = frame.drop_duplicates(["trial", "heads", "edit", "bias", "row", "column"])
    picked = rows.groupby(["heads", "edit", "bias"]).sample(2, random_state=0, replace=True)
    assert set(picked["heads"]) == {"found", "random", "2.1", "0.0"} and len(picked) == 32
    moved = 0.0
    for row in picked.drop_duplicates().itertuples():
        trial = next(one for one in trials if one.name == row.trial)
        own = frame[
            (
                frame[["trial", "heads", "edit", "bias", "row", "column"]]
                == np.array(
                    [row.trial, row.heads, row.edit, row.bias, row.row, row.column], dtype=object
                )
            ).all(axis=1)
        ].set_index("word")
        wanted = alone(model, trial, row)
        found = own["logit"].loc[list(wanted)].to_dict()
        assert found == pytest.approx(wanted, abs=2e-4), row
        moved = max(moved, float((own["logit"] - own["unedited"]).abs().max()))
    assert moved > 0.05


def test_rows_are_every_place_of_the_picture_and_random_heads_are_of_the_same_layers(random):
    model, trials, frame = random
    look = frame[frame["edit"] == "look"]
    places = look.groupby(["trial", "heads", "bias"])[["row", "column"]].apply(
        lambda some: len(some.drop_duplicates())
    )
    assert set(places) == {np.prod(model.grid)} and len(places) == 2 * 4 * 2
    drawn = frame.loc[frame["heads"] == "random", "members"].iloc[0].split()
    assert [name.split(".")[0] for name in drawn] == ["1", "2"]
    assert not set(drawn) & {"1.0", "2.3"}


def test_readers_of_planted_name_whatever_they_are_turned_to_and_random_heads_do_not():
    model = rgb.load("planted")
    trials = rgb.rgb_trials(model, 2)
    readers = [Placement.extractor, *Placement.redundant_pair]
    frame = steering.steering(model, trials, readers, progress=False)
    best = frame.loc[
        frame.groupby(["trial", "heads", "edit", "bias", "row", "column"])["logit"].idxmax()
    ]
    for trial in trials:
        own = best[(best["trial"] == trial.name) & (best["edit"] == "look")]
        own = own[own["bias"] == np.inf].set_index(["heads", "row", "column"])["word"]
        for (row, column), word in own["found"].items():
            odd = (row, column) == tuple(trial.tile)
            assert word == trial.answers["odd" if odd else "background"], (row, column)
        assert (own["random"] == trial.answers["odd"]).all()


def test_how_much_is_asked_without_being_told_is_bounded():
    one = steering.Steered((), (("found", ((1, 0),)),), (), steering.BIASES, 0)
    singles = tuple((f"{n}.0", ((n, 0),)) for n in range(40))
    many = steering.Steered((), one.several, singles, steering.BIASES, 0)
    assert steering.ROWS - 100 < sum(about["edit"] == "look" for about, _ in many.rows(6, 6))
    assert sum(about["edit"] == "look" for about, _ in many.rows(6, 6)) <= steering.ROWS
    # The found ones alone are asked of every place, however many there are.
    assert {about["heads"] for about, _ in many.rows(40, 40) if about["edit"] == "look"} == {
        "found"
    }


def test_no_head_is_refused(grouped):
    with pytest.raises(rgb.InputError, match="found is empty"):
        steering.steering(grouped, rgb.rgb_trials(grouped, 1), [])


def test_boxes_on_other_pictures_are_no_hindrance(grouped):
    [trial] = rgb.rgb_trials(grouped, 1)
    boxed = replace(trial, boxes={name: {"spot": (0, 0, 8, 8)} for name in trial.images})
    plain, found = (
        steering.steering(grouped, [one], HEADS[:1], progress=False) for one in (trial, boxed)
    )
    assert (found["logit"] == plain["logit"]).all()


def plain_forwards(model, trial, run):
    """The positions times layers that ``run`` takes, of those of a plain forward."""
    counted, layers = [], model.nnsight._module.model.language_model.layers
    hooks = [
        layer.self_attn.o_proj.register_forward_pre_hook(
            lambda _, given: counted.append(given[0].shape[:-1].numel())
        )
        for layer in layers
    ]
    run()
    for hook in hooks:
        hook.remove()
    return sum(counted) / encode(model, [(trial, "clean")])["input_ids"].shape[1] / len(layers)


@pytest.mark.parametrize("whole", [False, True])
def test_a_dry_run_counts_what_steering_takes_at_most(grouped, whole):
    trials, every = rgb.rgb_trials(grouped, 2), grouped.heads()
    counted = cost(grouped, closer_look.at_most_steered(grouped, trials, whole)).forwards

    def taken(found):
        return plain_forwards(
            grouped,
            trials[0],
            lambda: steering.steering(grouped, trials, found, every, whole=whole, progress=False),
        )

    assert taken(every[:1]) == pytest.approx(counted)
    assert 2 < taken(every[-1:]) < counted


def test_a_dry_run_counts_where_heads_look_on_every_item(grouped):
    own = replace(find("rgb"), vocabulary=())
    trials = [replace(trial, task=own) for trial in rgb.rgb_trials(grouped, 3)]
    which = panels_for(trials)
    effects = rgb.patch_heads(grouped, trials, progress=False)
    steps = items.steps(trials, own, effects, which, [])["item_looks"]
    taken = plain_forwards(grouped, trials[0], lambda: follow(grouped, steps, progress=False))
    assert taken == pytest.approx(items.forwards(trials, own, which)) and taken > 3
