"""What a trial of photographs says beside its pictures and words: cluster, strata, boxes."""

from dataclasses import replace

import numpy as np
import pytest

import rgb_circuit as rgb
from rgb_circuit.trial import described


@pytest.fixture(scope="module")
def trial(grouped):
    return rgb.rgb_trials(grouped, 1)[0]


def test_fields_are_part_of_the_content_where_there_are_any(trial):
    said = dict(
        cluster="kitchen", strata={"template": "short"}, boxes={"clean": {"cup": (0, 0, 8, 8)}}
    )
    assert not set(said) & set(described(trial))
    for field, value in said.items():
        assert replace(trial, **{field: value}).content != trial.content
    kept = described(replace(trial, **said))
    assert kept["boxes"] == {"clean": {"cup": [0.0, 0.0, 8.0, 8.0]}}
    assert (kept["cluster"], kept["strata"]) == ("kitchen", {"template": "short"})


@pytest.mark.parametrize(
    "changes, said",
    [
        (dict(cluster=1.5), "the cluster of trial .* is 1.5"),
        (dict(strata=["short"]), "the strata of trial .* are a list"),
        (dict(strata={"template": None}), "the template of trial .* is None"),
        (dict(boxes={"blurred": {}}), "boxes for 'blurred'"),
        (dict(boxes={"clean": (0, 0, 1, 1)}), "the boxes of trial .* are a tuple"),
        (dict(boxes={"clean": {"end": (0, 0, 1, 1)}}), "cannot be called that"),
        (dict(boxes={"clean": {" ": (0, 0, 1, 1)}}), "cannot be called that"),
        (dict(boxes={"clean": {"cup": (0, 0, 1)}}), "give .left, top, right, bottom. in pixels"),
        (dict(boxes={"clean": {"cup": "0011"}}), "give .left, top, right, bottom. in pixels"),
        (dict(boxes={"clean": {"cup": (3, 0, 3, 9)}}), "no place in a picture of"),
        (dict(boxes={"clean": {"cup": (0, 0, 1, 9999)}}), "no place in a picture of"),
        (dict(boxes={"clean": {"cup": (0, 0, 1, float("nan"))}}), "no place in a picture of"),
    ],
)
def test_what_cannot_be_a_field(trial, changes, said):
    with pytest.raises(rgb.InputError, match=said):
        replace(trial, **changes)


@pytest.mark.parametrize("given, kept", [(0, "0"), (np.int64(0), "0"), ("0", "0"), (None, "")])
def test_a_cluster_may_be_called_zero(trial, given, kept):
    assert replace(trial, cluster=given).cluster == kept


def test_pictures_may_differ_in_size_but_for_a_tile(trial):
    images = {"clean": trial.images["clean"], "changed": trial.images["erased"].resize((8, 9))}
    options = dict(images=images, expected={})
    with pytest.raises(
        rgb.InputError, match="has a tile, and picture 'changed' is 8 × 9 px but 'clean' is"
    ):
        replace(trial, **options)
    free = replace(trial, **options, tile=None, grid=None)
    assert free.sizes["changed"] == (8, 9) and free.size == free.sizes["clean"]
    assert "changed of 8 × 9 px" in repr(free)
