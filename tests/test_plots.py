"""Every figure shows what its frame holds, on the axes it is given, and leaves matplotlib as it
was."""

import inspect
import io
from itertools import combinations

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.text import Text
from PIL import Image

import rgb_circuit as rgb
from analyses.evidence import steps
from analyses.evidence.verdict import LEAST_GAP
from rgb_circuit import plots
from rgb_circuit.calls import panels
from rgb_circuit.plots.canvas import BLUE, PAPER, VERMILION, percent, percent_between
from rgb_circuit.plots.predictions import in_words
from rgb_circuit.stimuli.tasks import find

SAYS = find("rgb").says_of_predictions


def heads(layers, per_layer):
    return [(layer, head) for layer in range(layers) for head in range(per_layer)]


def effects(layers=4, per_layer=4):
    """A number per head, that of the last one largest."""
    places = heads(layers, per_layer)
    table = pd.DataFrame(places, columns=["layer", "head"])
    return table.assign(effect=np.linspace(-0.5, 2, len(places)))


def evidence(layers=4, per_layer=4):
    """Three predictions per head: one that holds, one that fails, one that could not be tested."""
    table = effects(layers, per_layer)
    rows = []
    for row in table.itertuples():
        common = dict(
            layer=row.layer, head=row.head, n=16, verdict=f"verdict on {row.layer}.{row.head}"
        )
        size = dict(
            effect=row.effect,
            ci_low=row.effect - 0.5,
            ci_high=row.effect + 0.25,
            restored_fraction=row.effect / 4,
        )
        void = dict.fromkeys(size, np.nan)
        rows.append(common | size | dict(prediction="P1a", expected="odd up", holds=True))
        rows.append(
            common
            | size
            | dict(prediction="P2a", expected="odd not up, other not down", holds=False)
        )
        rows.append(common | void | dict(prediction="P5", expected="background up", holds=False))
    return pd.DataFrame(rows)


def pairs(roles=("background",)):
    """Head 0.0 acts half through 1.0 and half through 1.1; head 0.1 through neither."""
    share = {
        ((0, 0), (1, 0)): 0.5,
        ((0, 0), (1, 1)): 0.5,
        ((0, 1), (1, 0)): 0.0,
        ((0, 1), (1, 1)): 0.0,
    }
    return pd.DataFrame(
        [
            dict(
                sender_layer=s[0],
                sender_head=s[1],
                receiver_layer=r[0],
                receiver_head=r[1],
                role=role,
                **shares(value),
            )
            for role in roles
            for (s, r), value in share.items()
        ]
    )


def parts():
    """Paths of two heads into one, which is told two logits in its query."""
    sizes = {"query": 2.0, "key": 0.0, "value": -1.0}
    return pd.DataFrame(
        [
            dict(
                into=part, sender_layer=0, sender_head=head, receiver_layer=1, receiver_head=0,
                source="clean", target="erased", role="background", effect=size, ci_low=size - 0.5,
                ci_high=size + 0.5, n=16,
            )
            for part, size in sizes.items()
            for head in (0, 1)
        ]
    )  # fmt: skip


def together():
    return pd.DataFrame(
        [
            dict(
                sender_layer=0,
                sender_head=head,
                receivers="1.0 1.1",
                role="background",
                **shares(1.0 - head),
            )
            for head in (0, 1)
        ]
    )


def shares(value):
    ends = dict(ci_low=4 * value - 0.4 * (value > 0), ci_high=4 * value + 0.4 * (value > 0))
    ends |= dict(share_low=ends["ci_low"] / 4, share_high=ends["ci_high"] / 4)
    numbers = dict(total_effect=4.0, mediated_effect=4 * value, share=value, **ends)
    return dict(source="clean", target="erased", n=16) | numbers


def curve(sizes=range(17)):
    sizes = list(sizes)
    kept = np.array(sizes) / max(sizes)
    return pd.DataFrame(
        dict(
            size=sizes, share=kept, layer=pd.array([None, *[2] * (len(sizes) - 1)], dtype="Int64"),
            head=pd.array([None, *range(len(sizes) - 1)], dtype="Int64"), source="clean",
            target="erased",
            faithfulness=np.sqrt(kept), ci_low=np.sqrt(kept) - 0.1, ci_high=np.sqrt(kept) + 0.1,
            random_mean=kept, random_low=kept - 0.1, random_high=kept + 0.1, n=16,
        )
    )  # fmt: skip


def summary():
    rows = []
    for reading in ("roles", "attention"):
        for role in ("color extractor", "POI localization"):
            for noise in (0.0, 0.5):
                ends = dict(precision_low=0.5, precision_high=1.0, recall_low=0.25, recall_high=0.9)
                rows.append(
                    dict(
                        reading=reading,
                        role=role,
                        noise=noise,
                        models=5,
                        true=4,
                        testable=3,
                        precision=1.0,
                        recall=0.75 - noise / 4,
                    )
                    | ends
                )
    return pd.DataFrame(rows)


def sweep(layers=4, per_layer=4, trials=8, gap=4.0, size=1.0, wander=0.1):
    """As from `patch_heads`, with the seed's panels: effects are those of `effects` times ``size``,
    and wander over trials; the odd word falls by ``gap`` logits from clean to each target."""
    rng = np.random.default_rng(0)
    blocks = []
    for number in range(trials):
        for target in ("recolored", "erased"):
            for role in ("odd", "background"):
                table = effects(layers, per_layer)
                table["effect"] = size * (table["effect"] + rng.normal(0, wander, len(table)))
                about = dict(
                    trial=f"trial {number}", source="clean", component="z", positions="end"
                )
                logits = dict(source_logit=9.0, target_logit=9.0 - gap * (role == "odd"))
                blocks.append(table.assign(**about, target=target, role=role, **logits))
    return pd.concat(blocks, ignore_index=True)


def one_setting(frame):
    return frame[(frame["target"] == "erased") & (frame["role"] == "odd")]


def written(ax):
    """Where names stand, without the lines that join them to their places."""
    return [Text.get_window_extent(name) for name in ax.texts]


def drawn_names(ax):
    """Name → what it is written for, of the heads that are named."""
    return {text.get_text(): text for text in ax.texts}


PATTERN, PICTURE = np.eye(6) / 6, Image.new("RGB", (24, 24), "blue")
FIGURES = {
    "head_heatmap": lambda ax: plots.head_heatmap(effects(), "effect", ax=ax),
    "attention_over_picture": lambda ax: plots.attention_over_picture(PATTERN, PICTURE, ax=ax),
    "effect_forest": lambda ax: plots.effect_forest(evidence(), "toy", ax=ax),
    "composition_map": lambda ax: plots.composition_map(pairs(), "toy", "background", ax=ax),
    "path_parts": lambda ax: plots.path_parts(parts(), "toy", "background", ax=ax),
    "composition_diagram": lambda ax: plots.composition_diagram(
        pairs(), together(), "toy", "background", ax=ax
    ),
    "faithfulness_curve": lambda ax: plots.faithfulness_curve(curve(), "toy", ax=ax),
    "precision_recall": lambda ax: plots.precision_recall(
        summary(), "color extractor", "recall", ax=ax
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_drawn_on_the_axes_it_is_given(name):
    own = plt.figure().add_subplot()
    assert FIGURES[name](own) is own
    assert own.has_data() or own.texts
    plt.close("all")


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_of_its_own_is_unknown_to_pyplot_and_no_setting_changes(name):
    before, open_figures = dict(matplotlib.rcParams), plt.get_fignums()
    FIGURES[name](None).figure.canvas.draw()
    assert plt.get_fignums() == open_figures and dict(matplotlib.rcParams) == before


def test_figures_of_panels_are_unknown_to_pyplot():
    open_figures = plt.get_fignums()
    # Three maps, and one scale for all.
    assert len(plots.panel_heatmaps(sweep(), "toy").axes) == 3 + 1
    assert [ax.get_title() for ax in plots.precision_recall_panels(summary()).axes[:2]] == [
        "color extractor",
        "POI localization",
    ]
    assert plt.get_fignums() == open_figures


@pytest.mark.parametrize("shape", [(4, 4), (32, 32)])
def test_a_heatmap_holds_every_head_and_names_the_largest(shape):
    table = effects(*shape)
    ax = plots.head_heatmap(table, "effect")
    cells = ax.collections[0].get_array()
    np.testing.assert_allclose(
        np.asarray(cells).reshape(shape), table["effect"].to_numpy().reshape(shape)
    )
    low, high = ax.collections[0].get_clim()
    assert low == -high == pytest.approx(-2)
    last = shape[0] - 1
    assert {text.get_text() for text in ax.texts} == {
        f"{last}.{shape[1] - 1 - back}" for back in range(3)
    }


def test_cells_that_hold_next_to_nothing_are_not_named():
    table = effects().assign(effect=[5.0] + [0.01] * 15)
    assert [text.get_text() for text in plots.head_heatmap(table, "effect").texts] == ["0.0"]


def test_of_a_sweep_the_mean_over_trials_is_drawn_as_a_fraction_of_the_gap():
    frame = one_setting(sweep())
    ax = plots.head_heatmap(frame, model="toy")
    mean = frame.groupby(["layer", "head"])["effect"].mean().to_numpy() / 4
    np.testing.assert_allclose(np.asarray(ax.collections[0].get_array()).ravel(), mean)
    assert ax.get_title() == "odd logit, z of clean into erased\ntoy · n = 8 trials"


def test_a_sweep_of_several_settings_is_refused_with_a_way_out():
    with pytest.raises(rgb.InputError) as refused:
        plots.head_heatmap(sweep())
    sentence = str(refused.value)
    assert "2 of target (recolored, erased), 2 of role (odd, background)" in sentence
    plots.head_heatmap(eval(sentence.split("such as ")[1], {"frame": sweep()}))


@pytest.mark.parametrize(
    "table, part",
    [
        (effects().drop(columns="effect"), "no effect"),
        (effects().iloc[:0], "no rows"),
        (pd.concat([effects(), effects()]), "one row per head"),
    ],
)
def test_a_table_that_is_no_map_is_refused(table, part):
    with pytest.raises(rgb.InputError, match=part):
        plots.head_heatmap(table)


def faded(ax):
    """(layer, head) of the cells that are faded; the veil lies over the map."""
    _, veil = ax.collections
    return {
        (int(layer), int(head))
        for layer, head in np.argwhere(~np.ma.getmaskarray(veil.get_array()))
    }


def test_what_is_not_told_from_zero_is_faded_however_large():
    frame = one_setting(sweep(trials=16))
    loud = (frame["layer"] == 3) & (frame["head"] == 0)
    steady = (frame["layer"] == 2) & (frame["head"] == 1)
    rng = np.random.default_rng(0)
    frame = frame.assign(effect=rng.normal(0, 0.01, len(frame)))
    frame.loc[loud, "effect"] = [20, -15, 30, -4, 12, -18, 9, 2] * 2
    frame.loc[steady, "effect"] = 0.5 + rng.normal(0, 0.05, 16)
    ax = plots.head_heatmap(frame)
    assert (3, 0) in faded(ax) and (2, 1) not in faded(ax)
    assert "3.0" not in drawn_names(ax)


@pytest.mark.parametrize("gap, least", [(4.0, 0.2), (0.2, 0.025), (0.0, 0.025)])
def test_what_is_told_from_zero_and_next_to_nothing_is_faded(gap, least):
    """Below 5 % of the gap, and of half a logit where there is none or a smaller one."""
    frame = one_setting(sweep(trials=16, gap=gap, size=0.0))
    at = frame["layer"] == 3
    frame.loc[at, "effect"] = least * frame.loc[at, "head"].map([0.9, 1.1, -0.9, -1.1].__getitem__)
    frame["effect"] *= 1 + np.random.default_rng(0).normal(0, 0.01, len(frame))
    assert panels.tested(frame, {"": ("erased", "odd")})["told"].sum() == 4
    shown = set(heads(4, 4)) - faded(plots.head_heatmap(frame))
    assert shown == {(3, 1), (3, 3)}


def test_the_least_size_of_an_effect_is_that_of_roles():
    assert inspect.signature(steps).parameters["least"].default == panels.LEAST
    assert LEAST_GAP == panels.LEAST_GAP


def test_too_few_trials_to_tell_a_head_are_said_to_be_so():
    title = plots.panel_heatmaps(sweep(32, 32, trials=8), "toy").get_suptitle()
    assert "8 trials have little power among 1,024 heads" in title
    assert "hardly" not in plots.panel_heatmaps(sweep(4, 4, trials=16), "toy").get_suptitle()


def test_of_one_trial_nothing_is_tested_and_what_is_small_or_rounding_is_faded():
    frame = one_setting(sweep(trials=1))
    least = frame[frame["effect"].abs() < 0.05 * 4]
    assert faded(plots.head_heatmap(frame)) == set(zip(least["layer"], least["head"]))
    frame.attrs["noise_floor"] = 1.0
    small = frame[frame["effect"].abs() <= 1]
    assert faded(plots.head_heatmap(frame)) == set(zip(small["layer"], small["head"]))
    assert (
        "one trial, so nothing is tested"
        in plots.panel_heatmaps(sweep(trials=1), "toy").get_suptitle()
    )


def test_all_panels_have_one_scale():
    frame = sweep()
    larger = frame["effect"].where(frame["target"] == "recolored", 10 * frame["effect"])
    figure = plots.panel_heatmaps(frame.assign(effect=larger), "toy")
    scales = {ax.collections[0].get_clim() for ax in figure.axes[:3]}
    ((low, high),) = scales
    assert low == -high == pytest.approx(-10 * 2.0 / 4, rel=0.1)


def test_effects_that_are_next_to_nothing_do_not_glow():
    figure = plots.panel_heatmaps(sweep(size=0.001), "toy")
    assert {ax.collections[0].get_clim() for ax in figure.axes[:3]} == {(-0.1, 0.1)}
    assert all(not ax.texts for ax in figure.axes)
    assert figure.axes[0].get_xlabel().strip().endswith("no large effect is shown")


def test_without_a_gap_panels_are_in_logits_and_say_so():
    figure = plots.panel_heatmaps(sweep(gap=0.0), "toy")
    assert "logits" in figure.axes[-1].get_ylabel()
    assert figure.axes[0].collections[0].get_clim()[1] == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("shape", [(4, 4), (32, 32)])
def test_below_each_panel_stand_its_largest_effects_within_the_figure(shape):
    figure = plots.panel_heatmaps(sweep(*shape), "toy")
    figure.draw_without_rendering()
    last = shape[0] - 1
    for ax in figure.axes[:3]:
        lines = ax.get_xlabel().strip().splitlines()[2:]
        assert len(lines) == 5 and all(line.startswith(f"{last}.") for line in lines[:1])
        box = ax.xaxis.label.get_window_extent()
        assert box.y0 >= 0 and box.x0 >= 0
        names = written(ax)
        assert not any(one.overlaps(other) for one, other in combinations(names, 2))


def test_a_forest_shows_each_effect_with_its_interval_and_whether_it_holds():
    frame = evidence(1, 2)
    ax = plots.effect_forest(frame, "toy", group="verdict")
    labels = [label.get_text() for label in ax.get_yticklabels()]
    one = ["P1a  odd up", "P2a  odd not up", "P5  background up"]
    assert labels == ["0.0  verdict on 0.0", *one, "0.1  verdict on 0.1", *one]
    # Fractions of the gap, which is 4 logits.
    intervals = [lines for lines in ax.collections if isinstance(lines, LineCollection)]
    markers = [points for points in ax.collections if points not in intervals]
    points = [one.get_offsets()[0].tolist() for one in markers]
    drawn = frame[frame["effect"].notna()]
    assert [x for x, _ in points] == pytest.approx(drawn["restored_fraction"].tolist())
    assert [y for _, y in points] == [1, 2, 5, 6]
    ends = [lines.get_segments()[0][:, 0].tolist() for lines in intervals]
    assert ends == [
        pytest.approx([low / 4, high / 4]) for low, high in zip(drawn["ci_low"], drawn["ci_high"])
    ]
    assert [to_hex(one.get_facecolor()[0]) == PAPER for one in markers] == [False, True] * 2
    texts = [text.get_text() for text in ax.texts]
    assert texts[:2] == ["could not be tested"] * 2
    assert texts[2].splitlines() == [f"{name}: {SAYS[name]}" for name in ("P1a", "P2a", "P5")]
    assert "toy" in ax.get_title() and "n = 16" in ax.get_title()


def test_a_forest_of_a_large_model_shows_its_strongest_heads_and_says_so():
    ax = plots.effect_forest(evidence(32, 32), "large", most=2)
    names = [label.get_text() for label in ax.get_yticklabels() if "P" not in label.get_text()]
    assert names == ["31.30", "31.31"] and "2 of 1,024 heads" in ax.get_title()


def test_a_forest_by_role_has_heads_with_a_role_role_by_role():
    table = pd.DataFrame(
        dict(layer=[0, 0, 1], head=[0, 1, 0], role=["POI localization", "none", "color extractor"])
    )
    frame = evidence(2, 2)
    ax = plots.effect_forest(frame, "toy", roles=table)
    names = [label.get_text() for label in ax.get_yticklabels() if "P1a" not in label.get_text()]
    assert [name for name in names if name[:1].isdigit()] == [
        "0.0  POI localization",
        "1.0  color extractor",
    ]
    nothing = plots.effect_forest(frame, "toy", roles=table.assign(role="none"))
    names = [label.get_text() for label in nothing.get_yticklabels()]
    assert [name for name in names if name[:1].isdigit()] == ["0.0", "0.1", "1.0"]


@pytest.mark.parametrize(
    "options, part",
    [
        (dict(group="role"), "no column 'role'; give roles="),
        (dict(group="verdikt"), "no column 'verdikt'; add it"),
        (dict(roles=pd.DataFrame({"layer": [0]})), "the roles have no head, role"),
    ],
)
def test_a_forest_without_what_it_is_asked_for_is_refused(options, part):
    with pytest.raises(rgb.InputError, match=part):
        plots.effect_forest(evidence(), "toy", **options)
    with pytest.raises(rgb.InputError, match="the evidence has no expected"):
        plots.effect_forest(evidence().drop(columns="expected"), "toy")


def test_a_forest_tells_states_apart_by_colour_shape_and_filling():
    frame = evidence(1, 1).assign(
        state=["holds", "undecided", "refuted"], restored_fraction=0.1, effect=0.4
    )
    ax = plots.effect_forest(frame, "toy")
    handles = ax.get_legend().legend_handles
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "holds",
        "refuted",
        "undecided",
    ]
    assert len({(handle.get_color(), handle.get_marker()) for handle in handles}) == 3
    assert [handle.get_markerfacecolor() != PAPER for handle in handles] == [True, False, False]


@pytest.mark.parametrize(
    "claims, words",
    [
        ("none none", "no effect on “none”"),
        ("odd none, other none, background none", "no effect on odd, other or background"),
        ("none down, odd not up", "“none” down, odd not up"),
        (
            "odd up, background none past the extractors",
            "odd up, no effect on background past the extractors",
        ),
        ("background mostly through the extractors", "background mostly through the extractors"),
        ("carries the question", "carries the question"),
    ],
)
def test_what_is_expected_reads_as_english(claims, words):
    assert in_words(claims) == words


def test_every_prediction_has_plain_words():
    assert all(SAYS.values())


def test_what_a_forest_writes_lies_within_its_figure():
    frame = pd.concat(
        evidence(1, 1).iloc[[0]].assign(prediction=name) for name in SAYS
    )  # fmt: skip
    figure = plots.effect_forest(frame, "toy").figure
    figure.draw_without_rendering()
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1


def test_a_forest_of_nothing_says_so():
    ax = plots.effect_forest(evidence().iloc[:0], "toy")
    assert "no head" in [text.get_text() for text in ax.texts]


def test_the_map_of_pairs_is_centred_on_zero_and_marks_what_is_clear():
    ax = plots.composition_map(pairs(), "toy", "background")
    low, high = ax.collections[0].get_clim()
    assert low == -high == pytest.approx(-2)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["0.0", "0.1"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1.0", "1.1"]
    assert [line.get_ydata()[0] for line in ax.lines] == [0.5, 0.5]
    assert "n = 16" in ax.get_title() and "toy" in ax.get_title()


def test_the_diagram_draws_shares_through_heads_and_past_them():
    ax = plots.composition_diagram(pairs(), together(), "toy", "background")
    arrows = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    colors = [to_hex(arrow.get_edgecolor()).upper() for arrow in arrows]
    assert colors.count(BLUE) == 2 and colors.count(VERMILION) == 1
    texts = [text.get_text() for text in ax.texts]
    assert texts.count("50% [40%, 60%]") == 2 and texts.count("100%") == 1
    assert {"0.0", "0.1", "1.0", "1.1", "background\nlogit"} <= set(texts)
    assert "toy" in ax.get_title() and "n = 16" in ax.get_title()
    # As Okabe and Ito call them.
    assert "blue through a head, orange past all of them" in ax.get_title()


def test_a_line_of_parts_shows_what_of_the_receiver_is_told_with_its_interval():
    ax = plots.path_parts(parts(), "toy", "background")
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["0.0 → 1.0", "0.1 → 1.0"]
    markers = [points for points in ax.collections if not isinstance(points, LineCollection)]
    assert [points.get_label() for points in markers] == ["query", "key", "value"]
    assert [points.get_offsets()[:, 0].tolist() for points in markers] == [[2, 2], [0, 0], [-1, -1]]
    lines = [lines for lines in ax.collections if isinstance(lines, LineCollection)]
    # The first line is at zero.
    assert [one.get_segments()[0][:, 0].tolist() for one in lines] == [
        [1.5, 2.5],
        [-0.5, 0.5],
        [-1.5, -0.5],
    ]
    assert "toy" in ax.get_title() and "n = 16" in ax.get_title() and "pairs" not in ax.get_title()


def test_of_many_pairs_the_strongest_are_drawn_and_the_title_says_so():
    strong = parts().assign(effect=lambda frame: frame["effect"] * (1 + frame["sender_head"]))
    ax = plots.path_parts(strong, "toy", "background", most=1)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["0.1 → 1.0"]
    assert "1 of 2 pairs" in ax.get_title()


def test_a_role_that_a_frame_lacks_is_refused():
    for draw in (lambda: plots.composition_map(pairs(), "toy", "colour"),
                 lambda: plots.path_parts(parts(), "toy", "colour"),
                 lambda: plots.composition_diagram(pairs(), together(), "toy",
                 "colour")):  # fmt: skip
        with pytest.raises(rgb.InputError, match="no role 'colour'; use one of background"):
            draw()


def test_a_curve_shows_the_circuit_and_the_random_sets():
    frame = curve()
    ax = plots.faithfulness_curve(frame, "toy")
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_allclose(lines["heads by importance, 95 % interval"], frame["faithfulness"])
    np.testing.assert_allclose(lines["random heads, mean and central 95 %"], frame["random_mean"])
    assert [text.get_text() for text in ax.texts] == [f"2.{head}" for head in range(6)]
    assert ax.get_xscale() == "linear" and "n = 16" in ax.get_title() and "toy" in ax.get_title()


def test_a_curve_of_a_large_model_does_not_squeeze_its_first_heads():
    ax = plots.faithfulness_curve(curve([*range(17), 51, 102, 512, 1024]), "large")
    assert ax.get_xscale() == "symlog"
    assert "1,024" in [label.get_text() for label in ax.get_xticklabels()]


@pytest.mark.parametrize("sizes", [range(25), [*range(17), 51, 102, 512, 1024]])
def test_names_on_a_curve_do_not_run_into_each_other(sizes):
    """Where three heads are enough, all that follow stand at the same height."""
    frame = curve(sizes).assign(faithfulness=np.minimum(1, np.array(sizes) / 3))
    ax = plots.faithfulness_curve(frame, "toy")
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) >= 3
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_names_on_a_large_map_do_not_run_into_each_other():
    ax = plots.head_heatmap(effects(32, 32), "effect", label=4)
    ax.figure.draw_without_rendering()
    boxes = written(ax)
    assert len(boxes) == 4 and not any(one.overlaps(other) for one, other in combinations(boxes, 2))


@pytest.mark.parametrize("ordered", [1, -1])
def test_a_name_on_a_large_map_is_joined_to_its_own_outlined_cell(ordered):
    rng = np.random.default_rng(1)
    table = effects(32, 32).assign(effect=rng.permutation(1024) / 1024 * ordered)
    table.loc[[0, 1, 33, 613, 614], "effect"] = [2, 3, 2.5, 4, 3.5]
    ax = plots.head_heatmap(table, "effect", label=5)
    cells = {cell.get_xy() for cell in ax.patches if isinstance(cell, Rectangle)}
    assert set(drawn_names(ax)) == {"0.0", "0.1", "1.1", "19.5", "19.6"}
    for name, text in drawn_names(ax).items():
        layer, head = map(int, name.split("."))
        assert text.xy == (head + 0.5, layer + 0.5) and (head, layer) in cells
        assert text.arrow_patch is not None


@pytest.mark.parametrize("corner", [0, 31, 992, 1023])
def test_names_on_a_large_map_stay_on_it(corner):
    table = effects(32, 32).assign(effect=0.0)
    table.loc[corner, "effect"] = 1.0
    ax = plots.head_heatmap(table, "effect")
    ax.figure.draw_without_rendering()
    frame, (box,) = ax.get_window_extent(), written(ax)
    assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1


def test_precision_and_recall_come_with_their_intervals_a_line_per_reading():
    ax = plots.precision_recall(summary(), "color extractor", "recall")
    lines = [container.lines[0].get_ydata().tolist() for container in ax.containers]
    assert lines == [pytest.approx([0.75, 0.625])] * 2
    bars = ax.containers[0].lines[2][0].get_segments()
    assert [bar[:, 1].tolist() for bar in bars] == [pytest.approx([0.25, 0.9])] * 2
    assert ax.get_legend_handles_labels()[1] == ["roles", "attention"]


def test_the_veil_is_lifted_where_the_head_looks():
    one = np.zeros((6, 6))
    one[2, 3] = 1
    pixels = np.asarray(plots.veiled(one, PICTURE)).astype(int)
    assert pixels[2 * 4 + 1, 3 * 4 + 1].tolist() == [0, 0, 255]
    # Elsewhere 85 % grey.
    np.testing.assert_allclose(pixels[0, 0], [0.85 * 89, 0.85 * 89, 0.85 * 89 + 0.15 * 255], atol=2)
    even = np.asarray(plots.veiled(np.full((6, 6), 1 / 36), PICTURE)).astype(int)
    assert (even[0, 0] == even[-1, -1]).all() and even[0, 0, 2] < 255


def test_attention_says_how_much_is_on_the_picture_and_where_and_by_chance():
    pattern = np.diag([0.1, 0.3, 0, 0, 0, 0])
    written = plots.attention_over_picture(pattern, PICTURE).get_xlabel()
    assert written.replace("\N{NO-BREAK SPACE}", " ") == (
        "40 % on the picture (evenly 1.1 % per tile)\nmost at 1,1: 30 %"
    )
    written = plots.attention_over_picture(pattern, PICTURE, tile=(0, 0)).get_xlabel()
    assert "outlined 0,0: 10\N{NO-BREAK SPACE}%; most at 1,1" in written


@pytest.mark.parametrize("grid, corners", [(6, 0), (24, 1)])
def test_a_small_tile_is_shown_enlarged(grid, corners):
    picture = rgb.rgb_trial(grid=grid, tile=(2, 3), tile_px=14).images["clean"]
    even = np.full((grid, grid), 1 / grid**2)
    ax = plots.attention_over_picture(even, picture, tile=(2, 3))
    assert len(ax.child_axes) == corners
    for corner in ax.child_axes:
        pixels = np.asarray(corner.images[0].get_array())
        # Five tiles of 14 pixels, that with the odd colour in the middle.
        assert pixels.shape[:2] == (70, 70) and pixels[35, 35, 0] > pixels[35, 35, 2]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_of_its_own_shows_where_a_notebooks_cell_ends(name):
    ax = FIGURES[name](None)
    for shown in (ax, ax.figure):
        png, size = shown._repr_png_()
        width, height = Image.open(io.BytesIO(png)).size
        assert abs(width - 2 * size["width"]) <= 1 and abs(height - 2 * size["height"]) <= 1


def test_figures_of_several_axes_show_where_a_notebooks_cell_ends():
    for figure in (plots.panel_heatmaps(sweep(), "toy"), plots.precision_recall_panels(summary())):
        assert figure._repr_png_()[0].startswith(b"\x89PNG")


def test_axes_that_were_given_are_shown_by_whom_they_belong_to():
    own = plt.figure().add_subplot()
    assert not hasattr(plots.head_heatmap(effects(), ax=own), "_repr_png_")
    plt.close("all")


@pytest.mark.parametrize(
    "share, low, high, written",
    [
        (0.412, 0.381, 0.443, "+41 % [38, 44]"),
        (0.00031, 0.0001, 0.0005, "+0.03 % [0.01, 0.05]"),
        (-0.00002, -0.00004, -0.00001, "−0.002 % [−0.004, −0.001]"),
        (0.9, 0.9, 0.9, "+90.0 % [90.0, 90.0]"),
        (0.5, np.nan, np.nan, "+50 %"),
        (0.0, -0.01, 0.01, "0 % [−1, 1]"),
    ],
)
def test_numbers_have_the_digits_that_their_interval_leaves(share, low, high, written):
    assert percent_between(share, low, high).replace("\N{NO-BREAK SPACE}", " ") == written


@pytest.mark.parametrize(
    "share, written",
    [
        (0.4, "40 %"),
        (0.028, "2.8 %"),
        (0.00031, "0.031 %"),
        (0, "0 %"),
        (1.0, "100 %"),
        (np.nan, "–"),
    ],
)
def test_a_share_has_two_digits(share, written):
    assert percent(share).replace("\N{NO-BREAK SPACE}", " ") == written


def test_recall_over_trials_has_a_line_per_kind_that_has_the_role():
    ends = dict(precision_low=0.5, precision_high=1.0, recall_low=0.25, recall_high=0.9, models=3)
    ends |= dict(true=2, testable=1)
    rows = [
        dict(
            like=like,
            trials=trials,
            role=role,
            precision=1.0,
            recall=np.nan if like == "odd" and role == "oddness" else 0.5,
        )
        | ends
        for like in ("even", "odd", "all")
        for trials in (16, 64)
        for role in ("color extractor", "oddness")
    ]
    figure = plots.recall_over_trials(pd.DataFrame(rows))
    assert "of 16, 8 testable" in figure.get_suptitle()
    assert "of 16, 12 testable" in plots.precision_recall_panels(summary()).get_suptitle()
    assert [ax.get_title() for ax in figure.axes] == ["color extractor", "oddness"]
    assert [ax.get_legend_handles_labels()[1] for ax in figure.axes] == [["even", "odd"], ["even"]]
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["16", "64"]
