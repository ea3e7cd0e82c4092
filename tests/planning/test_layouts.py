"""Layouts that divide a slice, and the overrides that name them."""

from rljax.planning.analytic import Layout
from rljax.planning.chips import read_topology
from rljax.planning.layouts import judged, layout_of, meshes_of, micro_batches, words_of
from rljax.planning.parts import cut_links, described_as, hosts, splits_of
from tests.planning.test_analytic import WORK

V5E = read_topology("v5e:2x4")
# 16 of everything divides; two key-value heads stop `tensor` at 2.
EVEN = WORK | {"width": 16, "heads": 4, "kv_heads": 2, "hidden": 32, "vocabulary": 128}


def test_meshes_divide_the_model():
    found = {tuple(mesh.values()) for mesh in meshes_of(EVEN, 4)}
    assert found == {(4, 1, 1), (2, 2, 1), (1, 4, 1), (2, 1, 2), (1, 2, 2)}
    odd = meshes_of(EVEN | {"width": 3}, 4)
    assert {mesh["fsdp"] for mesh in odd} == {1}


def test_micro_batches_divide_over_the_shards_of_rows():
    assert micro_batches(EVEN, 4) == [16, 8, 4]
    # Groups of four in a row: so many rows of them.
    assert micro_batches(EVEN | {"together": 4}, 2) == [16, 8]
    assert micro_batches(EVEN | {"sequences_per_update": 12}, 2) == [12, 6]


def test_a_layout_that_cannot_fit_comes_after_all_that_do():
    layouts = judged(EVEN | {"parameters": 8_000_000_000}, V5E)
    over = [each.estimate.bytes > V5E.chip.hbm_bytes for each in layouts]
    assert layouts and over == sorted(over) and any(over)
    # Eight chips hold 8 B parameters of 16 bytes only when all split them.
    assert layouts[0].layout.size("fsdp", "tensor") == 8


def test_splits_are_searched_only_where_samples_may_be_old():
    assert {each.layout.sampler_devices for each in judged(EVEN, V5E)} == {0}
    stale = {each.layout.sampler_devices for each in judged(EVEN | {"stale": True}, V5E)}
    assert stale == {0, 4}


def test_the_config_as_it_is_needs_no_override():
    own = layout_of(EVEN, V5E)
    assert own == Layout(
        {"data": 1, "fsdp": 8, "expert": 1, "context": 1, "tensor": 1}, "full", 8, 0, 1
    )
    assert words_of(own, EVEN, V5E) == []


def test_overrides_name_what_differs():
    mesh = {"data": 2, "fsdp": 2, "expert": 1, "context": 1, "tensor": 1}
    assert words_of(Layout(mesh, "dots", 16, 4, 2), EVEN, V5E) == [
        "--config.mesh.data=2",
        "--config.mesh.fsdp=2",
        "--config.mesh.tensor=1",
        "--config.model.remat=dots",
        "--config.grpo.batch.sequences_per_micro_batch=16",
        "--config.asynchronous.sampler_devices=4",
        "--config.sampler.mesh.data=-1",
        "--config.sampler.mesh.tensor=2",
    ]


def test_a_sampler_mesh_of_the_config_stays_where_it_is_what_is_wanted():
    asked = EVEN | {"sampler": EVEN["sampler"] | {"mesh": {"data": 4, "tensor": 2}}}
    own = layout_of(asked, V5E)
    assert own.sampler_tensor == 2 and words_of(own, asked, V5E) == []
    fewer = Layout(own.mesh, own.remat, own.micro, 0, 1)
    assert words_of(fewer, asked, V5E) == [
        "--config.sampler.mesh.data=-1",
        "--config.sampler.mesh.tensor=1",
    ]


def test_parts_of_a_slice():
    # A half of one host's chips is a part of the slice; six chips are neither a part nor a slice.
    assert splits_of(V5E) == [4] and described_as(V5E, 4) is V5E
    assert described_as(V5E, 6) is None
    # With several hosts each gives equally many, and every part is a slice of its own.
    assert hosts(read_topology("v5e:4x4")) == 4 and splits_of(read_topology("v5e:4x4")) == [8]
    assert str(described_as(read_topology("v5e:8x8"), 32)) == "v5e:4x8"
    large = read_topology("v5p:4x4x16")
    assert str(described_as(large, 192)) == "v5p:4x4x12"
    assert splits_of(large) == [64, 128, 192]


def test_links_between_two_parts():
    grid = [(x, y, 0) for y in range(4) for x in range(2)]
    assert cut_links(V5E, grid[:4], grid[4:]) == 2
    # The last two of each of four hosts of 2x2: every second row of four chips.
    whole = [(x, y, 0) for x in range(4) for y in range(4)]
    rows = [[place for place in whole if place[1] % 2 == odd] for odd in (0, 1)]
    assert cut_links(read_topology("v5e:4x4"), *rows) == 3 * 4
    # v5p:2x2x4 is a ring along its third direction: both ends of each part touch the other.
    cube = [(x, y, z) for z in range(4) for y in range(2) for x in range(2)]
    assert cut_links(read_topology("v5p:2x2x4"), cube[:8], cube[8:]) == 2 * 4
