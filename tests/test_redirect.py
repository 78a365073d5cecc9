"""Heads that are made to look elsewhere, where it is known what they do."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pandas as pd
import pytest

import rgb_circuit as rgb
from analyses.rgb import redirect
from rgb_circuit.models.planted import Placement
from rgb_circuit.plots import redirect_panels

EXTRACTORS = [Placement.extractor, *Placement.redundant_pair]


@pytest.fixture(scope="module")
def planted():
    model = rgb.load("planted")
    return model, rgb.rgb_trials(model, 16, seed=1)


@pytest.fixture(scope="module")
def by_heads(planted):
    return {
        "extractors": redirect.redirect(*planted, EXTRACTORS, progress=False),
        "localizer": redirect.redirect(*planted, [Placement.poi], progress=False),
        "background writer": redirect.redirect(
            *planted, [Placement.late_background_writer], progress=False
        ),
        "idle": redirect.redirect(*planted, [Placement.idle_watcher], progress=False),
    }


def shares(frame, heads, bias, picture):
    chosen = (
        (frame["heads"].str.startswith(heads))
        & (frame["bias"] == bias)
        & (frame["picture"] == picture)
    )
    return frame[chosen]["named"].mean()


@pytest.mark.parametrize("heads", ["extractors", "localizer"])
@pytest.mark.parametrize("picture", redirect.PICTURES)
def test_readers_that_look_at_another_tile_make_the_model_name_it_and_random_heads_do_not(
    by_heads, heads, picture
):
    frame = by_heads[heads]
    assert shares(frame, "found", inf, picture) == 1
    assert shares(frame, "random", inf, picture) < 0.25
    assert shares(frame, "none", 0, picture) < 0.25
    table = redirect.summary(frame).set_index(["picture", "bias"]).loc[picture, inf]
    assert table["found_low"] > table["random_high"] and table["difference_low"] > 0.3
    # No random set does as well; but of four heads a layer there are too few sets for that to be
    # shown.
    assert table["random_sets"] == 3 and table["p_value"] == 1 / 4 and not table["decidable"]


@pytest.mark.parametrize("heads", ["background writer", "idle"])
def test_where_other_heads_look_decides_nothing(by_heads, heads):
    # Not of the control: what is drawn for the idle head may be the extractor beside it.
    table = redirect.summary(by_heads[heads])
    assert (table["found"] == table["unedited"]).all() and (table["p_value"] > 0.5).all()


def test_a_reader_turns_once_the_bias_outweighs_its_scores(by_heads):
    # The planted scores differ by 15 between what is looked for and all else.
    found = {
        bias: shares(by_heads["extractors"], "found", bias, "clean") for bias in redirect.BIASES
    }
    assert found == {1: 0, 2: 0, 4: 0, 8: 0, inf: 1}
    # Two odd tiles are as good as one another to the localizer, so that little decides between
    # them.
    assert shares(by_heads["localizer"], "found", 1, "two tiles") > 0.9
    assert shares(by_heads["localizer"], "found", 1, "clean") == 0


@pytest.mark.parametrize("name", ["planted", "toy"])
def test_its_answers_are_what_the_model_says(name):
    model = rgb.load(name)
    trials = rgb.rgb_trials(model, 2, seed=4)
    heads = EXTRACTORS if name == "planted" else [(3, 1), (3, 2), (3, 3)]
    frame = redirect.redirect(model, trials, heads, biases=[2, inf], draws=1, progress=False)
    rows = frame[frame["heads"].isin(["none", "found"])]
    assert len(rows) == 2 * 2 * 3
    for row in rows.itertuples():
        trial = next(trial for trial in trials if trial.name == row.trial)
        shown = as_shown(model, trial, (row.row, row.column), row.picture)
        edits = redirect.looking_at(heads, row.bias) if row.bias else []
        tokens = rgb.generate(model, shown, edits=edits, max_new_tokens=1).tokens
        assert tokens["token"].iloc[-1] == row.answer
        assert row.named == (row.answer == row.expected)


def as_shown(model, trial, place, picture):
    """The picture drawn anew, with the other place as its tile."""
    side, image = model.tile_px, trial.images["clean"].copy()
    if picture == "two tiles":
        row, column = trial.tile
        color = trial.images["recolored"].getpixel((column * side + 1, row * side + 1))
        row, column = place
        image.paste(color, (column * side, row * side, (column + 1) * side, (row + 1) * side))
    return rgb.Trial(trial.name, trial.prompt, {"clean": image}, trial.answers, place, trial.grid)


def test_the_other_place_is_far_from_the_odd_tile_and_the_same_for_all_heads(planted, by_heads):
    tile = {trial.name: trial.tile for trial in planted[1]}
    frame = by_heads["localizer"]
    for row in frame.itertuples():
        assert max(abs(np.subtract((row.row, row.column), tile[row.trial]))) >= 2
        assert (row.row, row.column) != (0, 0)
    other = by_heads["extractors"]
    for one in (frame, other):
        assert len(one.drop_duplicates(["trial", "row", "column"])) == 16
    places = [one.drop_duplicates("trial")[["trial", "row", "column"]] for one in (frame, other)]
    pd.testing.assert_frame_equal(*places)


def test_random_heads_are_of_the_same_layers_and_none_of_those_named(planted):
    model, _ = planted
    heads = [(2, 0), (3, 1)]
    drawn = redirect.others(model, heads, 5, np.random.default_rng(0))
    assert len(drawn) == len(set(map(tuple, drawn))) == 5
    for some in drawn:
        assert sorted(layer for layer, _ in some) == [2, 3] and not set(some) & set(heads)
    # Three other heads are three draws.
    assert len(redirect.others(model, [(2, 0)], 5, np.random.default_rng(0))) == 3
    # Of a layer with too few others, the rest are of any.
    whole = [(2, head) for head in range(4)]
    for some in redirect.others(model, whole, 5, np.random.default_rng(0)):
        assert len(some) == 4 and not set(some) & set(whole)


def test_the_same_seed_gives_the_same_frame(planted, by_heads):
    again = redirect.redirect(*planted, [Placement.poi], progress=False)
    pd.testing.assert_frame_equal(again, by_heads["localizer"])


def test_an_interval_of_a_share_is_wilsons():
    from scipy.stats import binomtest

    for k, n in ((0, 16), (5, 32), (16, 16)):
        wanted = binomtest(k, n).proportion_ci(method="wilson")
        np.testing.assert_allclose(
            redirect._wilson(k / n, n), (wanted.low, wanted.high), atol=1e-12
        )


def test_an_interval_of_paired_shares_is_newcombes():
    # One share is 1, so that the two cannot go together: Wilson's two widths, square and add.
    one, other = np.ones(24), np.repeat([1.0, 0.0], 12)
    low, high = redirect.paired_interval(one, other)
    mine, theirs = redirect._wilson(1.0, 24), redirect._wilson(0.5, 24)
    assert low == pytest.approx(0.5 - np.hypot(1 - mine[0], theirs[1] - 0.5))
    assert high == pytest.approx(0.5 + np.hypot(0, 0.5 - theirs[0]))
    # Where all trials agree it still has a width, unlike a bootstrap.
    low, high = redirect.paired_interval(np.ones(16), np.zeros(16))
    assert 0.6 < low < 0.8 and high == pytest.approx(1)


def simulated(found, drawn):
    """A frame of `redirect.redirect`: whether trials name what is there, (trials,) and (trials,
    sets)."""
    names = ["none", "found", *(f"random {k}" for k in range(1, drawn.shape[1] + 1))]
    columns = np.column_stack([np.zeros(len(found)), found, drawn])
    rows = [
        dict(
            trial=f"{trial}",
            picture="clean",
            heads=name,
            bias=0.0 if name == "none" else 1.0,
            named=said,
        )
        for trial, row in enumerate(columns.astype(bool))
        for name, said in zip(names, row)
    ]
    return pd.DataFrame(rows)


def test_p_is_the_rank_among_sets_whatever_the_number_of_trials():
    rng = np.random.default_rng(1)
    best = redirect.summary(simulated(np.ones(8), np.zeros((8, 19)))).iloc[0]
    assert best["p_value"] == 0.05 and best["decidable"]
    found, drawn = rng.random(64) < 0.6, rng.random((64, 4)) < [0.7, 0.5, 0.2, 0.1]
    row = redirect.summary(simulated(found, drawn)).iloc[0]
    reached = (drawn.mean(0) >= found.mean()).sum()
    assert row["p_value"] == (1 + reached) / 5 and row["random_sets"] == 4 and not row["decidable"]
    assert row["difference"] == pytest.approx(found.mean() - drawn.mean())


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"heads": []}, "heads is empty"),
        ({"heads": [(9, 0)]}, "head 9.0 does not exist"),
        ({"heads": [(layer, head) for layer in range(6) for head in range(4)][1:]}, "name fewer"),
        ({"biases": [0]}, "give numbers above 0"),
        ({"biases": []}, "give numbers above 0"),
        ({"draws": 0}, "draws is 0"),
    ],
)
def test_what_cannot_be_asked_is_refused(planted, asked, sentence):
    with pytest.raises(rgb.InputError, match=sentence):
        redirect.redirect(*planted, **{"heads": [(2, 1)], **asked})


def test_trials_without_another_colour_are_refused(planted):
    model, (trial, *_) = planted
    bare = rgb.Trial(
        "bare", trial.prompt, {"clean": trial.images["clean"]}, {"odd": trial.answers["odd"]}
    )
    with pytest.raises(rgb.InputError, match="trial 'bare' has no tile"):
        redirect.redirect(model, [bare], [(2, 1)])


def test_the_figure_has_a_panel_per_picture_and_names_model_and_n(by_heads):
    figure = redirect_panels(redirect.summary(by_heads["localizer"]), "planted")
    assert (
        len(figure.axes) == 2 and "planted · n = 16 trials · 3 random sets" in figure.get_suptitle()
    )
    for ax, picture in zip(figure.axes, redirect.PICTURES):
        lines = {line.get_label(): line for line in ax.get_lines()}
        table = redirect.summary(by_heads["localizer"])
        shown = table[table["picture"] == picture]
        for container, which in zip(ax.containers, ("random", "found"), strict=True):
            assert list(container.lines[0].get_ydata()) == shown[which].tolist()
        assert set(lines["unedited"].get_ydata()) == {shown["unedited"].iloc[0]}


def test_trials_of_one_source_are_one_in_the_shares(planted, by_heads):
    model, trials = planted
    frame = by_heads["localizer"]
    shared = [replace(trial, cluster="one") if n < 4 else trial for n, trial in enumerate(trials)]
    table = redirect.summary(frame, shared)
    assert set(table["n"]) == {13} and "n = 16 trials in 13 clusters" in (
        redirect_panels(table, "planted").get_suptitle()
    )
    row = table.iloc[-1]
    named = frame[(frame["heads"] == "found") & (frame["picture"] == row["picture"])]
    named = named[named["bias"] == row["bias"]].set_index("trial")["named"].astype(float)
    own = named.loc[[trial.name for trial in trials]].to_numpy()
    assert row["found"] == pytest.approx(np.mean([own[:4].mean(), *own[4:]]))
