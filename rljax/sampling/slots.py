"""Slots and the queue of work: who decodes where, who is next, and where results go.

Arrays here lead with [X, W]: X shards of rows, which keep to themselves, and W slots of each. A
shard has R requests (its prompts times G), addressed 0 .. R-1; slot arrays hold -1 where there is
nothing to do.
"""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.decoding import Tiles, pick

# Rows of a tile at most: with more, tiles of a prompt whose rows have ended are emptier.
TILE_ROWS = 8


def assign(request: Array, head: Array, requests: int) -> tuple[Array, Array, Array]:
    """Gives the next requests to the free slots, in order.

    Args:
        request: [X, W] i32, -1 where the slot is free.
        head: [X] i32, the next request of each shard.
        requests: R.

    Returns:
        request, which slots are new [X, W] bool, and head.
    """
    free = request < 0
    offered = head[:, None] + jnp.cumsum(free, axis=1) - 1
    new = free & (offered < requests)
    return jnp.where(new, offered, request), new, jnp.minimum(head + free.sum(axis=1), requests)


def make_tiles(prompt: Array, active: Array, width: int) -> Tiles:
    """Sorts the active rows of each shard into tiles of `width` rows of one prompt.

    With width 2, the rows of prompts 5 3 5 5 become the tiles 3: (1, -), 5: (0, 2), 5: (3, -).

    Args:
        prompt: [X, W] i32.
        active: [X, W] bool; what other rows read is of no account.
        width: g.
    """
    shards, slots = prompt.shape
    per_turn = -(-slots // width)
    total = per_turn * -(-slots // per_turn)  # W tiles of one row each must fit

    def of_shard(prompt: Array, active: Array) -> tuple[Array, ...]:
        label = jnp.where(active, prompt, jnp.iinfo(jnp.int32).max)
        order = jnp.argsort(label)
        label = label[order]
        index = jnp.arange(slots)
        is_first = jnp.concatenate([jnp.ones(1, bool), label[1:] != label[:-1]])
        first = jax.lax.cummax(jnp.where(is_first, index, 0))
        lane = (index - first) % width
        tile = jnp.cumsum(lane == 0) - 1
        rows = jnp.zeros((total, width), jnp.int32).at[tile, lane].set(order)
        of_tile = jnp.zeros(total, jnp.int32).at[tile].set(prompt[order])
        place = jnp.zeros(slots, jnp.int32).at[order].set(tile * width + lane)
        used = jnp.where(active.any(), tile[jnp.maximum(active.sum() - 1, 0)] + 1, 0)
        return of_tile, rows, place, used

    of_tile, rows, place, used = jax.vmap(of_shard)(prompt, active)
    return Tiles(of_tile, rows, place, used.max(), per_turn)


def tile_width(samples_per_prompt: int, slots: int) -> int:
    """g, for W slots."""
    return min(samples_per_prompt, TILE_ROWS, slots)


def ring_columns(start: Array, count: int, columns: int) -> Array:
    """[X, W] first columns -> [X, W, count], the columns that follow in the ring."""
    return (start[..., None] + jnp.arange(count)) % columns


def collect(results: Array, buffer: Array, request: Array, columns: Array, ended: Array) -> Array:
    """Writes what ended slots have in their ring to the place of their request.

    Args:
        results: [X, R + 1, T, ...]; the last row takes what is not wanted.
        buffer: [X, W, C, ...], the ring.
        request: [X, W] i32.
        columns: [X, W, T] i32, of the ring, in order.
        ended: [X, W] bool.
    """
    # Apart: XLA's TPU compiler aborts where it fuses this gather into the scatter.
    own = jax.lax.optimization_barrier(jax.vmap(pick)(buffer, columns))
    place = jnp.where(ended, request, results.shape[1] - 1)
    return jax.vmap(lambda results, place, own: results.at[place].set(own))(results, place, own)


def narrowed(active: Array, width: int) -> Array:
    """[X, W] bool -> [X, width] i32, the slots that are kept: the active ones first, in order."""
    return jnp.argsort(~active, axis=1, stable=True)[:, :width]


def slot_widths(slots: int, divisors: tuple[int, ...], smallest: int = 8) -> tuple[int, ...]:
    """W, and W over each of the divisors where that is whole and not less than `smallest`."""
    fits = [d for d in divisors if slots % d == 0 and slots // d >= smallest]
    return (slots, *(slots // d for d in fits))
