"""Slices by name."""

import pytest

from rljax.planning.chips import CHIPS, read_topology, topologies_of


def test_a_name_gives_a_slice():
    slice_ = read_topology("v5p:4x4x8")
    assert (slice_.kind, slice_.sizes, slice_.count) == ("v5p", (4, 4, 8), 128)
    assert str(slice_) == "v5p:4x4x8"


def test_several_slices_are_counted_before_the_name_of_one():
    several = read_topology("2xv5p:4x4x8")
    assert (several.sizes, several.slices, several.count) == ((4, 4, 8), 2, 256)
    assert str(several) == "2xv5p:4x4x8" and several.one_slice == "v5p:4x4x8"
    assert read_topology("1xv5p:4x4x8") == read_topology("v5p:4x4x8")
    refused = {"0xv5e:4x4": "0 slices", "2xv4:2x2x2": "v5e, v5p, v6e", "2xv5e:3x3": "'v5e:3x3'"}
    for name, said in refused.items():
        with pytest.raises(ValueError, match=said):
            read_topology(name)


@pytest.mark.parametrize("kind", CHIPS)
def test_every_known_slice_can_be_read(kind):
    names = topologies_of(kind)
    assert names and [str(read_topology(name)) for name in names] == names


def test_an_unknown_slice_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"'v5e:4x5'.*v5e:4x4.*\(--topology\)"):
        read_topology("v5e:4x5")
    with pytest.raises(ValueError, match=r"Unknown chip 'v5d'.*v5e, v5p|Unknown chip 'v5d'"):
        read_topology("v5d:4x4")
    with pytest.raises(ValueError, match=r"\(TOPOLOGY of a\.py\)"):
        read_topology("v6e:", "TOPOLOGY of a.py")


def test_rings_are_closed_where_the_slice_is_wide_enough():
    assert CHIPS["v5e"].closed(16) and not CHIPS["v5e"].closed(8)
    assert CHIPS["v5p"].closed(8) and not CHIPS["v5p"].closed(2)
