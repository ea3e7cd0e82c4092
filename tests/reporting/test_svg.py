"""Charts: ticks, ranges, smoothing, thinning, and that the curves are the data."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from rljax.reporting import svg


def points(drawing: str, kind: str) -> list[list[float]]:
    d = re.search(rf'class="{kind} [^"]*" d="([^"]*)"', drawing).group(1)
    return [[float(x) for x in pair.split()] for pair in re.split("[ML]", d)[1:]]


@pytest.mark.parametrize(
    "low, high, marks",
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (1, 200, [50, 100, 150, 200]),
        (-0.3, 0.3, [-0.2, 0, 0.2]),
        (1.2e-6, 5e-6, [2e-6, 3e-6, 4e-6, 5e-6]),
    ],
)
def test_ticks_are_round_and_inside(low, high, marks):
    np.testing.assert_allclose(svg.ticks(low, high), marks, rtol=1e-12)


@pytest.mark.parametrize(
    "value, step, text",
    [
        (0.0, 0.2, "0"),
        (0.2, 0.2, "0.2"),
        (-0.05, 0.05, "−0.05"),
        (15000, 5000, "15k"),
        (200, 50, "200"),
    ]
    + [(3e-6, 1e-6, "3e-6"), (1.25, 0.25, "1.25"), (2e7, 1e7, "2e7")]
    + [(0.99995, 5e-5, "0.99995"), (0.999998, 1e-6, "0.999998"), (12.50001, 1e-5, "12.50001")],
)
def test_tick_labels(value, step, text):
    assert svg.tick_label(value, step) == text


def test_the_curve_goes_through_the_data():
    steps, values = np.array([1, 2, 3, 5]), np.array([0.0, 1.0, 0.25, 0.5])
    drawing, hover, note = svg.line_chart([svg.Series("reward", steps, values, 0)], "reward")
    ElementTree.fromstring(drawing)
    xs, ys = np.array(points(drawing, "line")).T
    share_x = (xs - svg.LEFT) / (svg.RIGHT - svg.LEFT)
    share_y = (svg.BOTTOM - ys) / (svg.BOTTOM - svg.TOP)  # the axis is [0, 1]
    np.testing.assert_allclose(share_x, [0, 0.25, 0.5, 1], atol=1e-3)
    np.testing.assert_allclose(share_y, values, atol=1e-3)
    assert hover["lines"][0]["values"] == values.tolist() and note == ""


def test_values_that_are_not_finite_break_the_curve_and_are_counted():
    values = np.array([0.0, np.nan, 1.0, np.inf, 0.5])
    drawing, hover, note = svg.line_chart([svg.Series("a", np.arange(5), values, 0)], "a")
    assert re.search(r'class="line [^"]*" d="([^"]*)"', drawing).group(1).count("M") == 3
    assert "nan" not in drawing and note == "2 values not finite"
    assert hover["lines"][0]["values"] == [0.0, None, 1.0, None, 0.5]


@pytest.mark.parametrize(
    "values", [[0.0], [3.0] * 9, [-2.0] * 3, [np.nan] * 3, [1e-310, 0], [1e38, -1e38]]
)
def test_degenerate_curves_are_drawn(values):
    series = svg.Series("a", np.arange(1, len(values) + 1), np.array(values), 9)
    drawing, hover, _ = svg.line_chart([series], "<b>")
    ElementTree.fromstring(drawing)
    low, high = svg.value_range(np.array(values))
    finite = [value for value in values if np.isfinite(value)]
    assert low < high and all(low <= value <= high for value in finite)
    assert hover["first"] < hover["last"]


@pytest.mark.parametrize(
    "values, low, high",
    [
        ([1.0] * 4, 0, 1),
        ([0.0] * 4, 0, 1),
        ([0.906], 0, 1),
        ([1 + 1e-7] * 3, 0, 1 + 1e-7),
        ([0.9, 0.95, 1.0], 0.894, 1),
        ([0.0, 0.02], 0, 0.0212),
        ([0.1, 0.9], 0, 1),
        ([0.0] + [0.9] * 49 + [1.0] * 49, 0.8569, 1),
    ],
)
def test_shares_have_no_axis_beyond_0_and_1(values, low, high):
    values = np.array(values)
    np.testing.assert_allclose(svg.value_range(values, share=True), (low, high), atol=1e-9)
    series = [svg.Series("accuracy", np.arange(len(values)), values, 0)]
    drawing, _, _ = svg.line_chart(series, "accuracy", share=True)
    marks = [float(x) for x in re.findall(r'text-anchor="end">([\d.−]+)</text>', drawing)]
    assert marks and all(0 <= mark <= 1 for mark in marks if mark not in range(len(values)))


def test_percentages_under_the_name_of_a_share_are_drawn_whole():
    low, high = svg.value_range(np.array([30.0, 80.0]), share=True)
    assert low <= 30 and high >= 80


def test_a_single_outlier_does_not_flatten_the_rest():
    values = np.append(np.linspace(1, 2, 99), 500.0)
    low, high = svg.value_range(values)
    assert high < 3
    *_, note = svg.line_chart([svg.Series("a", np.arange(100), values, 0)], "a")
    assert note == "peak 500 beyond the axis"


def test_thinning_keeps_the_ends_and_every_spike():
    values = np.sin(np.arange(50_000) / 1000)
    values[[123, 40_001]] = [9.0, -9.0]
    kept = svg.extreme_indices(values)
    assert len(kept) <= svg.MAX_POINTS
    assert {0, 123, 40_001, 49_999} <= set(kept.tolist())
    spread = svg.spread_indices(50_000)
    assert len(spread) == svg.MAX_POINTS and (spread[0], spread[-1]) == (0, 49_999)


def test_smoothing_keeps_constants_lines_and_gaps_and_does_not_lag():
    np.testing.assert_allclose(svg.smooth(np.full(200, 3.0)), 3.0)
    ramp = np.arange(200.0)
    np.testing.assert_allclose(svg.smooth(ramp)[20:-20], ramp[20:-20])
    short = np.array([1.0, 5.0, 2.0])
    np.testing.assert_array_equal(svg.smooth(short), short)
    gap = np.full(200, 2.0)
    gap[50] = np.nan
    smoothed = svg.smooth(gap)
    assert np.isnan(smoothed[50]) and np.nanmax(abs(smoothed - 2.0)) < 1e-12


def test_stacked_areas_end_where_the_next_one_begins():
    steps = np.array([1, 2, 3])
    layers = [("a", np.array([1.0, 2, 1]), 0), ("b", np.array([2.0, 1, 1]), 2)]
    drawing, hover, _ = svg.stacked_chart(steps, layers, "time")
    ElementTree.fromstring(drawing)
    areas = re.findall(r'class="area c\d" d="([^"]*)Z"', drawing)
    first, second = ([p.split() for p in re.split("[ML]", area)[1:]] for area in areas)
    assert first[:3] == second[:2:-1]  # the upper edge of a is the lower edge of b, reversed
    assert [line["values"] for line in hover["lines"]] == [[1, 2, 1], [2, 1, 1]]


def test_differences_that_float32_hardly_has_are_a_flat_line():
    low, high = svg.value_range(np.array([1 - 1.5e-8, 1.0]))
    assert high - low > 0.9
    low, high = svg.value_range(np.array([0.9999, 1.0]))
    assert high - low < 0.001
