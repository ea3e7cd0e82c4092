"""The pictures: the curves are the data, names do not overlap, colours can be told apart."""

from __future__ import annotations

import itertools
import re
import sys
import types
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from rljax.comparison import palette, picture, results
from rljax.comparison.curves import BandCurve, colours, logged_curve, shared_axes
from rljax.comparison.forest import forest
from rljax.comparison.statistics import Band
from rljax.reporting import svg


def rows_of(make_runs, count: int, seeds: int = 6):
    final = np.linspace(0.3, 0.6, seeds)
    runs = [make_runs(f"m{i:02d}", final + 0.02 * i) for i in range(count)]
    return results.find_rows(runs, "m00", 0.5)


def points(d: str) -> np.ndarray:
    return np.array([[float(x) for x in p.split()] for p in re.split("[ML]", d.rstrip("Z"))[1:]])


def test_the_band_lies_between_its_edges_and_breaks_at_gaps():
    nan = np.nan
    band = Band(
        np.array([0.2, 0.4, nan, 0.6]),
        np.array([0.1, 0.3, nan, 0.5]),
        np.array([0.3, 0.5, nan, 0.9]),
    )
    curve = BandCurve("a", np.array([0, 10, 20, 30]), band, 3)
    axes = svg.Axes((0, 30), (0.0, 1.0))
    first, second, rest = picture.band_path(axes, curve).split("Z")
    assert rest == ""
    xy = points(first)
    np.testing.assert_allclose(xy[:, 0], axes.x(np.array([0, 10, 10, 0])), atol=0.06)
    np.testing.assert_allclose(xy[:, 1], axes.y(np.array([0.3, 0.5, 0.3, 0.1])), atol=0.06)
    np.testing.assert_allclose(points(second)[:, 1], axes.y(np.array([0.9, 0.5])), atol=0.06)
    drawing, hover, note = picture.chart([curve], axes, "a <chart>", across="tokens")
    ElementTree.fromstring(drawing)
    assert note == "1 values not finite" and hover["across"] == "tokens"
    assert hover["lines"][0]["values"] == [
        "0.2 [0.1, 0.3]",
        "0.4 [0.3, 0.5]",
        None,
        "0.6 [0.5, 0.9]",
    ]
    assert hover["lines"][0]["ys"][2] is None


def test_few_methods_share_charts_in_which_each_is_named(make_runs):
    rows = rows_of(make_runs, 8)
    drawing = picture.picture(rows)
    ElementTree.fromstring(drawing)
    assert len(re.findall(r'<path class="line c', drawing)) == 16  # by step and by tokens
    assert len(re.findall(r'<path class="band c', drawing)) == 16
    names = re.findall(r'<text class="label c(\d)"[^>]*>(m\d\d)</text>', drawing)
    assert len(names) == 16 and len(set(names)) == 8
    assert dict((name, colour) for colour, name in names)["m00"] == str(palette.INK)
    assert re.findall(r'class="line (c\d) dashed"', drawing) == [f"c{palette.INK}"] * 2
    assert "prefers-color-scheme: dark" in drawing and "var(" not in drawing
    places = [float(y) for y in re.findall(r'class="label c\d" x="\d+" y="([\d.]+)"', drawing)][:8]
    gaps = np.diff(sorted(places))
    assert gaps.min() >= picture.LABEL_PITCH - 0.11


def test_many_methods_get_a_panel_each(make_runs):
    rows = rows_of(make_runs, 16)
    drawing = picture.picture(rows)
    ElementTree.fromstring(drawing)
    panels = drawing.split('<text class="heading"')[1:]
    assert len(panels) == 16
    for row, one in zip(rows, panels, strict=True):
        assert row.runs.label in one.split("</text>")[0]
        assert one.count('class="context"') == 16
        assert one.count('class="line') == (1 if row.baseline else 2)
    # No two panels lie on each other.
    assert len(set(re.findall(r"translate\(([^)]*)\)", drawing))) == 16


@pytest.mark.parametrize(
    "wanted, places",
    [
        ([50, 100], [50, 100]),
        ([50, 50], [45, 55]),  # apart by the pitch, around where they would be
        ([52, 48, 50], [60, 40, 50]),
        ([0, 1], [0, 10]),  # not above the top
        ([100, 99, 98], [100, 90, 80]),  # nor below the bottom
    ],
)
def test_labels_spread_as_little_as_they_must(wanted, places):
    np.testing.assert_allclose(picture.spread_labels(wanted, 0, 100, 10), places, atol=1e-9)


def test_a_method_keeps_its_colour(make_runs):
    rows = rows_of(make_runs, 5)
    assert (
        colours(rows) == colours(rows[::-1]) == {"m00": 8, "m01": 0, "m02": 1, "m03": 2, "m04": 3}
    )


def test_logged_curves_are_smoothed_per_seed_and_stay_short(make_runs):
    steps = np.arange(1, 2001)
    noise = np.random.default_rng(0).normal(size=(6, 2000))
    runs = make_runs(final=np.full(6, 0.5), metric_steps=steps, reward=3 + noise, metrics={})
    curve = logged_curve(runs, "reward", 0)
    assert len(curve.across) == len(curve.band.middle) <= 100
    assert abs(curve.band.middle - 3).max() < 0.2 and curve.across[[0, -1]].tolist() == [1, 2000]
    assert (curve.band.low <= curve.band.middle).all() and (
        curve.band.middle <= curve.band.high
    ).all()


def test_single_seeds_and_single_points_are_drawn(make_runs):
    single = dict(steps=[5], accuracy=[[0.3]], tokens=[[1.0]], updates=[1], final=[0.3])
    rows = results.find_rows([make_runs("a", **single), make_runs("b", **single)], "a", 0.5)
    drawing = picture.picture(rows)
    ElementTree.fromstring(drawing)
    assert "nan" not in drawing and drawing.count("<circle") == 4


def test_accuracies_share_an_axis_within_0_and_1(make_runs):
    curves = [logged_curve(make_runs(final=[1.0, 1.0]), "reward", 0)]
    axes = shared_axes(curves, share=True)
    assert axes.low >= 0 and axes.high <= 1


def test_the_forest_shows_all_differences_but_the_baseline(make_runs):
    rows = rows_of(make_runs, 4)
    drawing = forest(rows, colours(rows))
    ElementTree.fromstring(drawing)
    assert drawing.count("<circle") == 3 and drawing.count('class="whisker"') == 3
    zero = float(re.search(r'class="zero" d="M([\d.]+) ', drawing).group(1))
    at = [float(x) for x in re.findall(r'cx="([\d.]+)"', drawing)]
    assert at == sorted(at, reverse=True) and min(at) > zero  # best first, all above the baseline
    gaps = np.array(at) - zero
    np.testing.assert_allclose(gaps / gaps[-1], [3, 2, 1], rtol=0.01)
    assert forest([row for row in rows if row.baseline], colours(rows)) == ""


def test_png_needs_its_package(make_runs, monkeypatch):
    rows = rows_of(make_runs, 2)
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    assert picture.png(rows) is None
    seen = {}
    fake = types.ModuleType("resvg_py")
    fake.svg_to_bytes = lambda **options: seen.update(options) or list(b"png")
    monkeypatch.setitem(sys.modules, "resvg_py", fake)
    assert picture.png(rows) == b"png" and "@media" not in seen["svg_string"]


# Machado, Oliveira and Fernandes 2009: what is left of linear RGB without one kind of cone.
SIGHTS = {
    "normal": np.eye(3),
    "protanopia": [
        *([0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216]),
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        *([0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413]),
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        *([1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602]),
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(colour: str) -> np.ndarray:
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(a: str, b: str) -> float:
    low, high = sorted(np.array([0.2126, 0.7152, 0.0722]) @ linear(colour) for colour in (a, b))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("look", [palette.LIGHT, palette.DARK], ids=["light", "dark"])
def test_any_two_methods_can_be_told_apart(look, sight):
    names = [*(f"c{i}" for i in range(palette.OTHERS)), f"c{palette.INK}"]
    seen = [lab(np.array(SIGHTS[sight]) @ linear(look[name])) for name in names]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) >= 18
    assert min(contrast(look[name], look["paper"]) for name in names) >= 3
