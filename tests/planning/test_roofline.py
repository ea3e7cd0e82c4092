"""Times of collectives and programs, counted by hand."""

import itertools

import pytest

from rljax.planning.chips import read_topology
from rljax.planning.costs import Collective
from rljax.planning.groups import axes_of, extents
from rljax.planning.roofline import exchanges, group_bandwidth, share_sent, times_of

V5P = read_topology("v5p:4x4x8")
V5E = read_topology("v5e:4x4")
PLACES = list(itertools.product(range(4), range(4)))
MESH = {"data": 4, "tensor": 4}
ALONG_TENSOR = tuple(tuple(range(4 * row, 4 * row + 4)) for row in range(4))
ALONG_DATA = tuple(tuple(range(column, 16, 4)) for column in range(4))


def test_groups_lie_along_axes_of_the_mesh_and_directions_of_the_slice():
    assert axes_of(ALONG_TENSOR, MESH) == ("tensor",)
    assert axes_of(ALONG_DATA, MESH) == ("data",)
    assert axes_of((tuple(range(16)),), MESH) == ("data", "tensor")
    assert axes_of(((3,),), MESH) == ()
    assert extents(ALONG_TENSOR, PLACES) == (1, 4)
    assert extents((tuple(range(16)),), PLACES) == (4, 4)


def test_a_ring_is_passed_both_ways_and_a_line_one_way():
    assert group_bandwidth(V5P, (4, 1, 1)) == 2e11
    assert group_bandwidth(V5P, (2, 1, 1)) == 1e11
    assert group_bandwidth(V5P, (4, 4, 8)) == 6e11
    assert group_bandwidth(V5E, (4, 1)) == 5e10  # no ring below 16


def test_what_a_collective_sends():
    assert share_sent("all-gather", 4) == share_sent("reduce-scatter", 4) == 0.75
    assert share_sent("all-reduce", 4) == 1.5
    assert share_sent("collective-permute", 2) == 1


def test_what_spans_slices_goes_over_the_network():
    two, mesh = read_topology("2xv5e:2x2"), {"data": 2, "fsdp": 4}
    places, slices = 2 * list(itertools.product(range(2), range(2))), [0] * 4 + [1] * 4
    pairs = tuple((chip, chip + 4) for chip in range(4))
    within = tuple(tuple(range(first, first + 4)) for first in (0, 4))
    summed = Collective("all-reduce", pairs, 3.125e9, 1)
    exchanged = Collective("all-to-all", pairs, 3.125e9, 1)
    gathered = Collective("all-gather", within, 2e11, 1)
    rows = exchanges([summed, exchanged, gathered], two, places, mesh, slices)
    # In a slice three quarters come over two lines; over the network both halves, twice for a sum.
    assert [(row.kind, row.axes, row.link) for row in rows] == [
        ("all-gather", ("fsdp",), "ICI"),
        ("all-reduce", ("data",), "DCN"),
        ("all-to-all", ("data",), "DCN"),
    ]
    assert [row.seconds for row in rows] == pytest.approx([1.5, 1.0, 0.5])
    times = times_of(two, flops=0.0, hbm_bytes=0.0, exchanged=rows)
    assert (times.links, times.network, times.dominating) == (1.5, 1.5, "links")


def test_the_longest_term_is_the_time():
    gathered = Collective("all-gather", ALONG_TENSOR, 4e9, 2)
    itself = Collective("all-reduce", ((0,), (1,)), 1e12, 1)
    (row,) = exchanges([gathered, itself], V5E, PLACES, MESH)
    assert (row.kind, row.axes, row.link, row.count) == ("all-gather", ("tensor",), "ICI", 2)
    assert row.seconds == pytest.approx(4e9 * 0.75 / 5e10)
    times = times_of(V5E, flops=197e12, hbm_bytes=8.1e11 / 2, exchanged=[row])
    assert (times.compute, times.memory, times.links) == (1.0, 0.5, row.seconds)
    assert times.seconds == 1.0 and times.dominating == "compute"
