"""Where the True slots of a mask are: ranks, ends, neighbours."""

import jax
import jax.numpy as jnp
from jax import Array


def ranks(mask: Array) -> Array:
    """Number of a slot among the True slots of its row, from 0.

    Args:
        mask: [N, T] bool.

    Returns:
        [N, T] i32; False slots take the rank of the True slot before them, or -1 if there is none.
        Mask 0 1 1 0 1 gives -1 0 1 1 2.
    """
    return jnp.cumsum(mask.astype(jnp.int32), axis=-1) - 1


def to_front(values: Array, mask: Array) -> Array:
    """The values of a row's True slots in its first slots, in order; behind them what is left.

    Args:
        values: [N, T].
        mask: [N, T] bool. Mask 0 1 0 1 with values 5 6 7 8 gives 6 8 5 7.
    """
    return jnp.take_along_axis(values, jnp.argsort(~mask, axis=-1, stable=True), axis=-1)


def from_front(values: Array, mask: Array) -> Array:
    """Undoes `to_front` on the True slots; False slots hold the value of the True one before."""
    return jnp.take_along_axis(values, jnp.maximum(ranks(mask), 0), axis=-1)


def last_slot(mask: Array) -> Array:
    """[N, T] bool, True on the last True slot of each row; nowhere in a row without any."""
    return mask & (ranks(mask) == mask.sum(axis=-1, keepdims=True) - 1)


def at_last_slot(values: Array, mask: Array) -> Array:
    """[N] f32, the value on the last True slot; 0 for a row without any."""
    return jnp.where(last_slot(mask), values, 0.0).sum(axis=-1)


def next_true(values: Array, mask: Array, end: float) -> Array:
    """The value on the next True slot.

    Args:
        values: [N, T].
        mask: [N, T] bool.
        end: taken where no True slot follows.

    Returns:
        [N, T]; mask 1 0 1 with values 5 6 7 gives 7 7 end.
    """
    slots = mask.shape[-1]
    own = jnp.where(mask, jnp.arange(slots), slots)
    here_or_later = jax.lax.cummin(own, axis=1, reverse=True)
    later = jnp.pad(here_or_later[:, 1:], ((0, 0), (0, 1)), constant_values=slots)
    taken = jnp.take_along_axis(values, jnp.minimum(later, slots - 1), axis=-1)
    return jnp.where(later < slots, taken, end)


def segments_from_starts(starts: Array, mask: Array) -> Array:
    """Numbers segments, each of which begins at a marked slot and ends before the next one.

    The first True slot of a row begins segment 0 whether it is marked or not.

    Args:
        starts: [N, T] bool, True on the first token of a segment; False slots of the mask may hold
            anything. This is how boundaries from outside (the parse of a sentence, say) come in.
        mask: [N, T] bool.

    Returns:
        [N, T] i32. False slots hold the number of the segment before them, at least 0.
    """
    begins = mask & (starts | (ranks(mask) == 0))
    return jnp.maximum(jnp.cumsum(begins.astype(jnp.int32), axis=-1) - 1, 0)
