"""Slots, tiles, the ring and the queue: hand values, and invariants of random assignments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.sampling.slots import (
    assign,
    collect,
    make_tiles,
    narrowed,
    ring_columns,
    slot_widths,
    tile_width,
)
from rljax.sampling.state import Sizes
from tests.sampling.tiny import config_of

BUILD_TILES = jax.jit(make_tiles, static_argnums=2)


def array(*values):
    return jnp.asarray(values)


# --- the queue -----------------------------------------------------------------------------------


def test_free_slots_get_the_next_requests_in_order():
    request = array([-1, 4, -1, -1], [0, -1, 2, -1])
    found, new, head = assign(request, array(5, 3), requests=7)
    np.testing.assert_array_equal(found, [[5, 4, 6, -1], [0, 3, 2, 4]])
    np.testing.assert_array_equal(new, [[True, False, True, False], [False, True, False, True]])
    np.testing.assert_array_equal(head, [7, 5])


def test_an_empty_queue_gives_nothing():
    request = array([-1, 3, -1])
    found, new, head = assign(request, array(6), requests=6)
    np.testing.assert_array_equal(found, request)
    assert not new.any() and head == 6


def test_every_request_is_given_out_once():
    rng, requests, head = np.random.default_rng(0), 23, array(0)
    request, given = jnp.full((1, 5), -1), []
    run = jax.jit(lambda request, head: assign(request, head, requests))
    while len(given) < requests:
        request, new, head = run(request, head)
        given += np.asarray(request)[np.asarray(new)].tolist()
        request = jnp.where(rng.random((1, 5)) < 0.4, -1, request)
    assert given == list(range(requests)) and head == requests


# --- tiles ---------------------------------------------------------------------------------------


def test_tiles_by_hand():
    """The example of the docstring, and a row that has ended."""
    tiles = BUILD_TILES(array([5, 3, 5, 5]), array([True] * 4), 2)
    np.testing.assert_array_equal(tiles.prompt[0, :3], [3, 5, 5])
    np.testing.assert_array_equal(tiles.rows[0, 0, 0], 1)
    np.testing.assert_array_equal(tiles.rows[0, 1], [0, 2])
    np.testing.assert_array_equal(tiles.rows[0, 2, 0], 3)
    np.testing.assert_array_equal(tiles.place, [[2, 0, 3, 4]])
    assert tiles.count == 3 and tiles.per_turn == 2
    tiles = BUILD_TILES(array([5, 3, 5, 5]), array([True, False, False, True]), 2)
    assert tiles.count == 1 and tiles.prompt[0, 0] == 5
    np.testing.assert_array_equal(tiles.rows[0, 0], [0, 3])


@pytest.mark.parametrize("slots, width", [(1, 1), (7, 1), (7, 3), (8, 8), (12, 5), (9, 4)])
def test_every_active_row_is_in_a_tile_of_its_prompt(slots, width):
    rng = np.random.default_rng(slots)
    for _ in range(20):
        shards = 3
        prompt = rng.integers(0, rng.integers(1, 6), (shards, slots))
        active = rng.random((shards, slots)) < rng.choice([0, 0.3, 0.8, 1])
        tiles = BUILD_TILES(prompt, active, width)
        per_turn = -(-slots // width)
        assert tiles.per_turn == per_turn and tiles.rows.shape[1] % per_turn == 0
        fewest = []
        for shard in range(shards):
            for row in np.flatnonzero(active[shard]):
                tile, lane = divmod(int(tiles.place[shard, row]), width)
                assert tiles.rows[shard, tile, lane] == row
                assert tiles.prompt[shard, tile] == prompt[shard, row]
                assert tile < tiles.count
            counts = np.bincount(prompt[shard][active[shard]])
            fewest.append(int(np.sum(-(-counts // width))))
        assert tiles.count == max(fewest)
        places = np.asarray(tiles.place)
        assert all(len(set(of_shard)) == slots for of_shard in places)


def test_tiles_are_no_wider_than_a_prompt_has_rows():
    assert [tile_width(*sizes) for sizes in [(3, 20), (16, 20), (16, 4), (1, 9)]] == [3, 8, 4, 1]


# --- the ring ------------------------------------------------------------------------------------


def test_columns_wrap_around():
    np.testing.assert_array_equal(
        ring_columns(array([0, 3], [4, 2]), 3, columns=5),
        [[[0, 1, 2], [3, 4, 0]], [[4, 0, 1], [2, 3, 4]]],
    )


def test_ended_rows_go_to_the_place_of_their_request():
    results = jnp.full((2, 4, 2), -1)  # three requests of each shard, and a row for the rest
    buffer = jnp.arange(2 * 3 * 4).reshape(2, 3, 4)
    request = array([2, 0, -1], [1, 2, 0])
    columns = ring_columns(array([3, 1, 0], [0, 2, 3]), 2, columns=4)
    ended = array([True, False, False], [False, True, True])
    found = jax.jit(collect)(results, buffer, request, columns, ended)
    np.testing.assert_array_equal(found[0, :3], [[-1, -1], [-1, -1], [3, 0]])
    np.testing.assert_array_equal(found[1, :3], [[23, 20], [-1, -1], [18, 19]])


# --- widths --------------------------------------------------------------------------------------


def test_running_rows_are_kept_in_order():
    active = array([False, True, False, True, True, False], [False] * 6, [True] * 3 + [False] * 3)
    np.testing.assert_array_equal(narrowed(active, 3), [[1, 3, 4], [0, 1, 2], [0, 1, 2]])
    np.testing.assert_array_equal(narrowed(active, 4)[0], [1, 3, 4, 0])


def test_widths():
    assert slot_widths(64, (2, 8)) == (64, 32, 8)
    assert slot_widths(64, (2, 16)) == (64, 32)  # fewer than 8 are not worth it
    assert slot_widths(24, (2, 16), smallest=1) == (24, 12)  # 24 / 16 is not whole
    assert slot_widths(9, (2, 4)) == (9,)
    assert slot_widths(64, ()) == (64,)


def test_sizes():
    config = config_of(samples_per_prompt=4, max_new_tokens=10, refill_every=3)
    at_once = Sizes.of(config, prompts=6, shards=2)
    assert at_once == Sizes(2, 3, requests=12, width=12, columns=10) and not at_once.refills
    few = config_of(samples_per_prompt=4, max_new_tokens=10, refill_every=3, slots=7)
    queue = Sizes.of(few, prompts=6, shards=2)
    # An odd number is rounded up to the same for each shard; ended rows wait for three steps.
    assert queue == Sizes(2, 3, requests=12, width=4, columns=13) and queue.refills
    many = config_of(samples_per_prompt=4, max_new_tokens=10, slots=1000)
    assert Sizes.of(many, 6, 2) == at_once
    long = config_of(max_new_tokens=120, refill_every=10, slots=1)
    assert Sizes.of(long, 6, 1).columns == 192  # whole blocks
