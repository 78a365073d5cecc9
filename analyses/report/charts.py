"""The charts of the interactive page, as Vega-Lite without data.

Each chart names its data and the parameters for the user's choices; the page's script fills them.
Colours are named after the page's: ``@ink`` stands for the value of ``--ink`` in the page's style,
light or dark.
"""

from collections.abc import Mapping
from typing import Any

import altair as alt

# Opacity of cells and intervals that are not shown to be an effect.
FADED = 0.16
# Colours of words: the page's own, then others that show on light and on dark.
COLORS = [
    "@vermilion", "@green", "@blue", "@purple", "@quiet", "#a6761d", "#17a2b8", "#e7298a",
    "#7570b3",
]  # fmt: skip
# Pixels for the names of sweeps.
NAMES = 165
# The ends of an axis; the page's script sets them.
ENDS = [alt.param(name="from", value=-1), alt.param(name="to", value=1)]


def head_map(limit: float, fraction: bool) -> Mapping:
    """A layer × head map.

    Data ``heads``: ``layer, head, name, value, shown, role, has_role`` and texts of tooltips.
    Parameters: ``chosen, kept`` (names of heads), ``fade`` (whether), ``least`` (the least value
    that is not faded), ``roomy`` (whether names fit into cells).

    Args:
        limit: the value with the strongest colour, the same for every map; larger values get the
            same colour.
        fraction: whether values are fractions of the gap; logits otherwise.
    """
    chosen, kept, fade, least, roomy = (
        alt.param(name="chosen", value=""),
        alt.param(name="kept", value=""),
        alt.param(name="fade", value=True),
        alt.param(name="least", value=0),
        alt.param(name="roomy", value=False),
    )
    axis: dict[str, Any] = dict(
        labelOverlap="greedy", labelAngle=0, ticks=False, domain=False, labelPadding=4
    )
    base = alt.Chart(alt.NamedData("heads")).encode(
        x=alt.X("head:O", axis=alt.Axis(title="head", orient="top", **axis)),
        y=alt.Y("layer:O", axis=alt.Axis(title="layer", **axis)),
        tooltip=[
            alt.Tooltip("name:N", title="head"),
            alt.Tooltip("role:N"),
            alt.Tooltip("says:N", title="of the gap"),
            alt.Tooltip("logits:N", title="logits"),
        ],
    )
    strong = "(!fade || datum.shown) && abs(datum.value) >= least"
    # Keep cells without a value, in white, or the map would shrink.
    cells = base.mark_rect(stroke="@line", strokeWidth=0.5, cursor="pointer", invalid=None).encode(
        color=_shade(limit, fraction), opacity=alt.condition(strong, alt.value(1), alt.value(FADED))
    )
    dark, pale = (f"{strong} && abs(datum.value) > {share * limit}" for share in (0.55, 0.2))
    names = (
        base.transform_filter("roomy")
        .mark_text(fontSize=10, cursor="pointer")
        .encode(
            text="name:N",
            color=alt.when(dark)
            .then(alt.value("@onstrong"))
            .when(pale)
            .then(alt.value("@ink"))
            .otherwise(alt.value("@quiet")),
        )  # fmt: skip
    )
    # In the cell's corner, to leave room for the name.
    roles = (
        base.transform_filter("datum.has_role").mark_point(
            filled=True,
            size=22,
            cursor="pointer",
            opacity=1,
            color="@ink",
            stroke="@page",
            strokeWidth=1,
            yOffset=alt.ExprRef("roomy ? -11 : 0"),
        )  # fmt: skip
    )
    mark = (
        base.transform_filter("datum.name == chosen")
        .mark_rect(fillOpacity=0, strokeWidth=2.5, strokeJoin="round")
        .encode(stroke=alt.value("@ink"))
    )
    beside = (
        base.transform_filter("datum.name == kept && kept != chosen")
        .mark_rect(fillOpacity=0, strokeWidth=2.5, strokeDash=[4, 3])
        .encode(stroke=alt.value("@ink"))
    )
    chart = alt.layer(cells, names, roles, mark, beside)
    return _finished(chart, [chosen, kept, fade, least, roomy])


def _shade(limit, fraction):
    """The colour of a cell, and its legend."""
    return alt.Color(
        "value:Q",
        scale=alt.Scale(
            domain=[-limit, 0, limit],
            range=["@down", "@page", "@up"],
            interpolate="rgb",
            clamp=True,
        ),
        legend=alt.Legend(
            title=f"{'fraction of the gap' if fraction else 'logits'} (the same in all maps)",
            format=".0%" if fraction else ".2~g",
            orient="bottom",
            direction="horizontal",
            gradientLength=220,
            gradientThickness=9,
            titleLimit=320,
            values=[-limit, -limit / 2, 0, limit / 2, limit],
        ),
    )


def effects(fraction: bool) -> Mapping:
    """The effects of restoring one head: an interval for each sweep and word.

    Data ``effects``: ``sweep, role, value, low, high, shown`` and texts of tooltips. Parameters:
    ``columns`` of the legend, ``room`` for each of its names, ``above`` (its height; both in
    pixels), ``from, to`` (the ends of the axis).
    """
    columns, room = alt.param(name="columns", value=5), alt.param(name="room", value=160)
    above = alt.param(name="above", value=20)
    # The legend also spans the names of the sweeps.
    legend = alt.Legend(
        title=None,
        orient="none",
        legendX=-NAMES,
        legendY=alt.ExprRef("-above"),
        direction="horizontal",
        columns=alt.ExprRef("columns"),
        labelLimit=alt.ExprRef("room"),
    )
    base = alt.Chart(alt.NamedData("effects")).encode(
        y=alt.Y(
            "sweep:N",
            sort=None,
            axis=_names(NAMES, grid=True),
        ),
        yOffset=alt.YOffset("role:N", sort=None),
        color=alt.Color(
            "role:N",
            sort=None,
            scale=alt.Scale(range=COLORS),
            legend=legend,
        ),
        opacity=alt.condition("datum.shown", alt.value(1), alt.value(0.35)),
        tooltip=[
            alt.Tooltip("sweep:N", title="restored"),
            alt.Tooltip("role:N", title="word"),
            alt.Tooltip("says:N", title="of the gap"),
            alt.Tooltip("logits:N", title="logits"),
        ],
    )
    title = "fraction of the gap" if fraction else "logits"
    axis = alt.Axis(title=title, format=".0%" if fraction else ".2~g", tickCount=5)
    ends = base.mark_rule(strokeWidth=1.5).encode(
        x=alt.X("low:Q", axis=axis, scale=_around_zero()), x2="high:Q"
    )
    points = base.mark_point(filled=True, size=34).encode(x="value:Q")
    zero = alt.Chart(alt.NamedData("effects")).mark_rule(color="@quiet").encode(x=alt.datum(0))
    return _finished(alt.layer(zero, ends, points), [columns, room, above, *ENDS])


def picture() -> Mapping:
    """A picture veiled in grey where a head does not look, with the odd tile outlined.

    Data: ``shown`` (one row with ``uri``), ``tiles``: ``row, column, veil, attention, chance``,
    ``boxes``: ``row, column``. Parameters: ``rows, columns``, ``left, top, right, bottom`` (the
    part that is drawn, in tiles), and ``smooth`` (whether to smooth pixels, as of a photograph).
    """
    smooth = alt.param(name="smooth", value=False)
    part = [
        alt.param(name=name, value=0)
        for name in ("left", "top", "right", "bottom", "rows", "columns")
    ]

    def along(field, low, high, reverse):
        scale = alt.Scale(
            domainMin=alt.ExprRef(low),
            domainMax=alt.ExprRef(high),
            nice=False,
            zero=False,
            reverse=reverse,
        )
        return dict(shorthand=field, type="quantitative", scale=scale, axis=None)

    def across(data):
        x, y = along("column", "left", "right", False), along("row", "top", "bottom", True)
        return data.transform_calculate(x2="datum.column + 1", y2="datum.row + 1").encode(
            x=alt.X(**x), y=alt.Y(**y), x2="x2:Q", y2="y2:Q"
        )

    image = (
        alt.Chart(alt.NamedData("shown"))
        .transform_calculate(column="0", row="0", x2="columns", y2="rows")
        .mark_image(aspect=False, smooth=alt.ExprRef("smooth"), clip=True)
        .encode(
            x=alt.X(**along("column", "left", "right", False)),
            y=alt.Y(**along("row", "top", "bottom", True)),
            x2="x2:Q",
            y2="y2:Q",
            url="uri:N",
        )
    )
    tiles = across(alt.Chart(alt.NamedData("tiles")))
    veil = tiles.mark_rect(fill="#595959", strokeWidth=0, clip=True).encode(
        fillOpacity=alt.FillOpacity("veil:Q", scale=None, legend=None),
        tooltip=[
            alt.Tooltip("place:N", title="row, column"),
            alt.Tooltip("attention:N"),
            alt.Tooltip("chance:N", title="of uniform attention"),
        ],
    )
    boxes = across(alt.Chart(alt.NamedData("boxes")))
    # A white outline inside a black one shows on every colour.
    outer = boxes.mark_rect(fillOpacity=0, stroke="#000", strokeWidth=3.5, clip=True)
    inner = boxes.mark_rect(fillOpacity=0, stroke="#fff", strokeWidth=1.5, clip=True)
    return _finished(alt.layer(image, veil, outer, inner), [smooth, *part])


def words() -> Mapping:
    """Attention on each token of the prompt outside the picture.

    Data ``words``: ``at`` (its number), ``token, attention``. Parameters: ``tokens`` (their
    texts), ``chance`` (an even spread), ``most`` (the end of the axis).
    """
    tokens, chance, most = (
        alt.param(name="tokens", value=[]),
        alt.param(name="chance", value=0),
        alt.param(name="most", value=1),
    )
    base = alt.Chart(alt.NamedData("words"))
    bars = base.mark_bar(color="@blue", height=alt.RelativeBandSize(0.7)).encode(
        y=alt.Y(
            "at:O",
            axis=_names(76, labelExpr="tokens[datum.value]"),
        ),
        x=alt.X(
            "attention:Q",
            axis=alt.Axis(title="attention", format=".2~%", tickCount=4),
            scale=alt.Scale(domainMin=0, domainMax=alt.ExprRef("most"), nice=False),
        ),
        tooltip=[alt.Tooltip("token:N"), alt.Tooltip("attention:Q", format=".1%")],
    )
    even = (
        base.transform_calculate(even="chance")
        .mark_rule(color="@ink", strokeDash=[3, 3])
        .encode(x="mean(even):Q")
    )
    return _finished(alt.layer(bars, even), [tokens, chance, most])


def writes() -> Mapping:
    """What one head by itself adds to the logit of each answer.

    Data ``writes``: ``role, value, low, high, says``. Parameters: ``from, to`` (the ends of the
    axis).
    """
    base = alt.Chart(alt.NamedData("writes")).encode(
        y=alt.Y(
            "role:N",
            sort=None,
            axis=_names(110),
        ),
        tooltip=[alt.Tooltip("role:N", title="word"), alt.Tooltip("says:N", title="logits")],
    )
    bars = base.mark_bar(height=alt.RelativeBandSize(0.6)).encode(
        x=alt.X("value:Q", axis=alt.Axis(title="logits", tickCount=5), scale=_around_zero()),
        color=alt.condition("datum.value < 0", alt.value("@down"), alt.value("@up")),
    )
    ends = base.mark_rule(strokeWidth=1.5, color="@ink").encode(x="low:Q", x2="high:Q")
    return _finished(alt.layer(bars, ends), ENDS)


def paths() -> Mapping:
    """The share of a head's effect that goes through another head.

    Data ``paths``: ``other, share, says``.
    """
    base = alt.Chart(alt.NamedData("paths")).encode(
        y=alt.Y(
            "other:N",
            sort=None,
            axis=_names(110),
        ),
        tooltip=[alt.Tooltip("other:N", title="route"), alt.Tooltip("says:N", title="share")],
    )
    bars = base.mark_bar(color="@blue", height=alt.RelativeBandSize(0.6)).encode(
        x=alt.X("share:Q", axis=alt.Axis(title="share of its effect", format=".0%", tickCount=5))
    )
    return _finished(bars)


def _finished(chart, parameters=()):
    return (chart.add_params(*parameters) if parameters else chart).to_dict()


def _around_zero():
    """A scale whose ends the page's script sets: negligible values must not fill it."""
    return alt.Scale(domainMin=alt.ExprRef("from"), domainMax=alt.ExprRef("to"), nice=False)


def _names(room, **options):
    """An axis of names with exactly ``room`` pixels for them."""
    return alt.Axis(
        title=None,
        labelLimit=room - 5,
        minExtent=room,
        maxExtent=room,
        ticks=False,
        domain=False,
        **options,
    )
