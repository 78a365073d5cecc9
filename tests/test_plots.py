"""Every figure shows what its frame holds, on the axes it is given, and leaves matplotlib as it was."""

from itertools import combinations

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch
from PIL import Image

import rgb_circuit as rgb
from rgb_circuit import plots
from rgb_circuit.plots.canvas import BLUE, VERMILION


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
        common = dict(layer=row.layer, head=row.head, n=16, verdict=f"verdict on {row.layer}.{row.head}")
        size = dict(
            effect=row.effect,
            ci_low=row.effect - 0.5,
            ci_high=row.effect + 0.25,
            restored_fraction=row.effect / 4,
        )
        void = dict.fromkeys(size, np.nan)
        rows.append(common | size | dict(prediction="P1a", expected="odd up", holds=True))
        rows.append(
            common | size | dict(prediction="P2a", expected="odd not up, other not down", holds=False)
        )
        rows.append(common | void | dict(prediction="P5", expected="background up", holds=False))
    return pd.DataFrame(rows)


def pairs(roles=("background",)):
    """Head 0.0 acts half through 1.0 and half through 1.1; head 0.1 through neither."""
    share = {((0, 0), (1, 0)): 0.5, ((0, 0), (1, 1)): 0.5, ((0, 1), (1, 0)): 0.0, ((0, 1), (1, 1)): 0.0}
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
                sender_layer=0, sender_head=head, receivers="1.0 1.1", role="background", **shares(1.0 - head)
            )
            for head in (0, 1)
        ]
    )


def shares(value):
    ends = dict(ci_low=4 * value - 0.4 * (value > 0), ci_high=4 * value + 0.4 * (value > 0))
    numbers = dict(total_effect=4.0, mediated_effect=4 * value, share=value, **ends)
    return dict(source="clean", target="erased", n=16) | numbers


def curve(sizes=range(17)):
    sizes = list(sizes)
    kept = np.array(sizes) / max(sizes)
    return pd.DataFrame(
        dict(
            size=sizes, share=kept, layer=pd.array([None, *[2] * (len(sizes) - 1)], dtype="Int64"),
            head=pd.array([None, *range(len(sizes) - 1)], dtype="Int64"), source="clean", target="erased",
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
                        precision=1.0,
                        recall=0.75 - noise / 4,
                    )
                    | ends
                )
    return pd.DataFrame(rows)


def sweep(layers=4, per_layer=4):
    """As from `patch_heads`, with the seed's panels."""
    blocks = [
        effects(layers, per_layer).assign(
            trial=trial, source="clean", positions="end", target=target, role=role
        )
        for trial in ("one", "two")
        for target in ("recolored", "erased")
        for role in ("odd", "background")
    ]
    return pd.concat(blocks, ignore_index=True)


PATTERN, PICTURE = np.eye(6) / 6, Image.new("RGB", (24, 24), "blue")
FIGURES = {
    "head_heatmap": lambda ax: plots.head_heatmap(effects(), "effect", ax=ax),
    "attention_over_picture": lambda ax: plots.attention_over_picture(PATTERN, PICTURE, ax=ax),
    "effect_forest": lambda ax: plots.effect_forest(evidence(), "toy", ax=ax),
    "composition_map": lambda ax: plots.composition_map(pairs(), "toy", ax=ax),
    "path_parts": lambda ax: plots.path_parts(parts(), "toy", ax=ax),
    "composition_diagram": lambda ax: plots.composition_diagram(pairs(), together(), "toy", ax=ax),
    "faithfulness_curve": lambda ax: plots.faithfulness_curve(curve(), "toy", ax=ax),
    "precision_recall": lambda ax: plots.precision_recall(summary(), "color extractor", "recall", ax=ax),
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
    assert len(plots.panel_heatmaps(sweep(), "toy").axes) == 2 * 3
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
    np.testing.assert_allclose(np.asarray(cells).reshape(shape), table["effect"].to_numpy().reshape(shape))
    low, high = ax.collections[0].get_clim()
    assert low == -high == pytest.approx(-2)
    last = shape[0] - 1
    assert {text.get_text() for text in ax.texts} == {f"{last}.{shape[1] - 1 - back}" for back in range(3)}


def test_cells_that_hold_next_to_nothing_are_not_named():
    table = effects().assign(effect=[5.0] + [0.01] * 15)
    assert [text.get_text() for text in plots.head_heatmap(table, "effect").texts] == ["0.0"]


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
    assert [len(one.get_facecolor()) > 0 for one in markers] == [True, False] * 2
    assert [text.get_text() for text in ax.texts] == ["could not be tested"] * 2
    assert "toy" in ax.get_title() and "n = 16" in ax.get_title()


def test_a_forest_of_a_large_model_shows_its_strongest_heads_and_says_so():
    ax = plots.effect_forest(evidence(32, 32), "large", most=2)
    names = [label.get_text() for label in ax.get_yticklabels() if "P" not in label.get_text()]
    assert names == ["31.30", "31.31"] and "2 of 1,024 heads" in ax.get_title()


def test_a_forest_of_nothing_says_so():
    ax = plots.effect_forest(evidence().iloc[:0], "toy")
    assert "no head" in [text.get_text() for text in ax.texts]


def test_the_map_of_pairs_is_centred_on_zero_and_marks_what_is_clear():
    ax = plots.composition_map(pairs(), "toy")
    low, high = ax.collections[0].get_clim()
    assert low == -high == pytest.approx(-2)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["0.0", "0.1"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1.0", "1.1"]
    assert [line.get_ydata()[0] for line in ax.lines] == [0.5, 0.5]
    assert "n = 16" in ax.get_title() and "toy" in ax.get_title()


def test_the_diagram_draws_shares_through_heads_and_past_them():
    ax = plots.composition_diagram(pairs(), together(), "toy")
    arrows = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    colors = [to_hex(arrow.get_edgecolor()).upper() for arrow in arrows]
    assert colors.count(BLUE) == 2 and colors.count(VERMILION) == 1
    texts = [text.get_text() for text in ax.texts]
    assert texts.count("50% [40%, 60%]") == 2 and texts.count("100% [100%, 100%]") == 1
    assert {"0.0", "0.1", "1.0", "1.1", "background\nlogit"} <= set(texts)
    assert "toy" in ax.get_title() and "n = 16" in ax.get_title()


def test_a_line_of_parts_shows_what_of_the_receiver_is_told_with_its_interval():
    ax = plots.path_parts(parts(), "toy")
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["0.0 → 1.0", "0.1 → 1.0"]
    markers = [points for points in ax.collections if not isinstance(points, LineCollection)]
    assert [points.get_label() for points in markers] == ["query", "key", "value"]
    assert [points.get_offsets()[:, 0].tolist() for points in markers] == [[2, 2], [0, 0], [-1, -1]]
    lines = [lines for lines in ax.collections if isinstance(lines, LineCollection)]
    # The first line is at zero.
    assert [one.get_segments()[0][:, 0].tolist() for one in lines] == [[1.5, 2.5], [-0.5, 0.5], [-1.5, -0.5]]
    assert "toy" in ax.get_title() and "n = 16" in ax.get_title() and "pairs" not in ax.get_title()


def test_of_many_pairs_the_strongest_are_drawn_and_the_title_says_so():
    strong = parts().assign(effect=lambda frame: frame["effect"] * (1 + frame["sender_head"]))
    ax = plots.path_parts(strong, "toy", most=1)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["0.1 → 1.0"]
    assert "1 of 2 pairs" in ax.get_title()


def test_shares_of_a_negative_effect_keep_their_interval_in_order():
    def negative(frame):
        turned = frame.assign(ci_low=-frame["ci_high"], ci_high=-frame["ci_low"])
        return turned.assign(total_effect=-turned["total_effect"], mediated_effect=-turned["mediated_effect"])

    texts = [
        text.get_text()
        for text in plots.composition_diagram(negative(pairs()), negative(together()), "toy").texts
    ]
    assert texts.count("50% [40%, 60%]") == 2


def test_a_role_that_a_frame_lacks_is_refused():
    for draw in (lambda: plots.composition_map(pairs(), "toy", "colour"),
                 lambda: plots.path_parts(parts(), "toy", "colour"),
                 lambda: plots.composition_diagram(pairs(), together(), "toy", "colour")):  # fmt: skip
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
    ax.figure.canvas.draw()
    boxes = [name.get_window_extent() for name in ax.texts]
    assert len(boxes) == 4 and not any(one.overlaps(other) for one, other in combinations(boxes, 2))


@pytest.mark.parametrize("corner", [0, 31, 992, 1023])
def test_names_on_a_large_map_stay_on_it(corner):
    table = effects(32, 32).assign(effect=0.0)
    table.loc[corner, "effect"] = 1.0
    ax = plots.head_heatmap(table, "effect")
    ax.figure.canvas.draw()
    (name,) = ax.texts
    frame, box = ax.get_window_extent(), name.get_window_extent()
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


def test_attention_says_how_much_is_on_the_picture_and_where():
    ax = plots.attention_over_picture(np.diag([0.1, 0.3, 0, 0, 0, 0]), PICTURE)
    assert ax.get_xlabel() == "40% on the picture,\nmost at 1,1 (30%)"


def test_recall_over_trials_has_a_line_per_kind_that_has_the_role():
    ends = dict(precision_low=0.5, precision_high=1.0, recall_low=0.25, recall_high=0.9, models=3)
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
    assert [ax.get_title() for ax in figure.axes] == ["color extractor", "oddness"]
    assert [ax.get_legend_handles_labels()[1] for ax in figure.axes] == [["even", "odd"], ["even"]]
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["16", "64"]
