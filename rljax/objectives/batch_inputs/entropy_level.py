"""How uncertain a token is next to the others of its batch (HAPO, arXiv:2509.16591)."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.batch_inputs.ranking import nearest_quantile
from rljax.objectives.parts import check_field

# Under the root of the spread, as in the authors' code.
SMALLEST_VARIANCE = 1e-8


class EntropyStatistics(NamedTuple):
    """Statistics of a batch's log-entropies, all [] f32. If all are zero, every level is 0."""

    pivot: Array  # a quantile
    spread: Array  # root of the mean squared distance from the pivot
    highest: Array  # largest (log-entropy - pivot) / spread
    lowest: Array  # smallest


def entropy_statistics(
    entropy: Array, mask: Array, *, entropy_pivot: float = 0.8, entropy_floor: float = 1e-8
) -> EntropyStatistics:
    """Pivot and scale of log(entropy) over the tokens of the batch.

    Args:
        entropy: [N, T] f32, nats.
        mask: [N, T] bool.
        entropy_pivot: quantile whose level is 0, in [0, 1].
        entropy_floor: smallest entropy before the logarithm, > 0; tokens at the floor dominate the
            spread.

    Returns:
        `EntropyStatistics`, constant; zeros for an all-False mask.
    """
    check_field("entropy_pivot", entropy_pivot, lambda x: 0 <= x <= 1, "in [0, 1]")
    check_field("entropy_floor", entropy_floor, lambda x: x > 0, "> 0")
    chex.assert_equal_shape([entropy, mask])
    log_entropy = _log(entropy, mask, entropy_floor)
    pivot = nearest_quantile(log_entropy, mask, entropy_pivot)
    distance = jnp.where(mask, log_entropy - pivot, 0.0)
    variance = (distance**2).sum() / jnp.maximum(mask.sum(), 1)
    spread = jnp.sqrt(jnp.maximum(variance, SMALLEST_VARIANCE))
    # The pivot is one of the tokens: its distance of 0 makes no difference to either end.
    found = EntropyStatistics(pivot, spread, distance.max() / spread, distance.min() / spread)
    return jax.tree.map(lambda x: jnp.where(mask.any(), x, 0.0), found)


def entropy_level(
    current_entropy: Array,
    mask: Array,
    *,
    entropy_pivot: float = 0.8,
    entropy_floor: float = 1e-8,
    authors_unsigned_h: bool = False,
) -> Array:
    """Normalised log-entropy of each token: 1 at the highest, 0 at the pivot, -1 at the lowest.

        z = (log entropy - pivot) / spread
        h = z / highest where z > 0, z / |lowest| where z <= 0

    Args:
        current_entropy: [N, T] f32, nats, before the update.
        mask: [N, T] bool.
        entropy_pivot: quantile of the entropies whose level is 0.
        entropy_floor: smallest entropy before the logarithm.
        authors_unsigned_h: divide by `lowest` with its sign, as the released code does: levels are
            then >= 0 on both sides of the pivot.

    Returns:
        [N, T] f32, constant, 0 outside the mask.

    Raises:
        ValueError: for a quantile outside of [0, 1] or a floor that is not positive.
    """
    pivot, spread, highest, lowest = entropy_statistics(
        current_entropy, mask, entropy_pivot=entropy_pivot, entropy_floor=entropy_floor
    )
    distance = jnp.where(mask, _log(current_entropy, mask, entropy_floor) - pivot, 0.0)
    z = jnp.where(spread > 0, distance / jnp.where(spread > 0, spread, 1.0), 0.0)
    low = lowest if authors_unsigned_h else -lowest
    up = jnp.where(highest > 0, z / jnp.where(highest > 0, highest, 1.0), 0.0)
    down = jnp.where(lowest < 0, z / jnp.where(lowest < 0, low, 1.0), 0.0)
    return jnp.where(z > 0, up, down)


def _log(entropy: Array, mask: Array, floor: float) -> Array:
    return jnp.log(jnp.maximum(jnp.where(mask, jax.lax.stop_gradient(entropy), 1.0), floor))
