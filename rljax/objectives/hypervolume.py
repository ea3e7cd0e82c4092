"""How much a step has enlarged what several rewards reach together (arXiv:2509.11452).

The hypervolume of some points is the volume that lies between a reference point and any of them. A
step that reaches a point which no earlier one dominates enlarges it, and the rewards of the step
after it count more.
"""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.means import mean_of
from rljax.objectives.parts import check_field

# A volume that grows by less has not grown: sums of products are rounded.
TOLERANCE = 1e-6

# What the meta reward multiplies.
META_APPLIED_TO = ("rewards", "advantages")


def hypervolume(points: Array, reference: Array) -> Array:
    """The volume that is dominated by some points, all of which are maximised.

    Recursive slices (Fonseca et al. 2006): along the first coordinate, each step's width times the
    volume, in the other coordinates, of the points that reach as far. Coordinates below the
    reference count as the reference: such a point adds nothing. The cost is M^K.

    Args:
        points: [M, K] f32; rows with NaN are not there.
        reference: [K] f32.

    Returns:
        [] f32, >= 0.
    """
    there = ~jnp.isnan(points).any(axis=1)
    above = jnp.where(there[:, None], jnp.maximum(points - reference, 0.0), 0.0)
    return _volume(above)


def _volume(above: Array) -> Array:
    """The volume that points [M, K] cover, as far as they are above 0."""
    if above.shape[1] == 1:
        return above.max(initial=0.0)
    ends = jnp.sort(above[:, 0])
    widths = jnp.diff(ends, prepend=0.0)

    def slice_of(end: Array) -> Array:
        reaching = (above[:, 0] >= end)[:, None]
        return _volume(jnp.where(reaching, above[:, 1:], 0.0))

    return (widths * jax.vmap(slice_of)(ends)).sum()


def contribution(front: Array, point: Array, reference: Array) -> Array:
    """By how much a point enlarges the hypervolume of a front, [] f32; 0 within rounding.

    Args:
        front: [M, K] f32; rows with NaN are not there.
        point: [K] f32.
        reference: [K] f32.
    """
    before = hypervolume(front, reference)
    grown = hypervolume(jnp.concatenate([front, point[None]]), reference) - before
    return jnp.where(grown > TOLERANCE * jnp.maximum(before, TOLERANCE), grown, 0.0)


def meta_of(grown: Array) -> Array:
    """0.5 + 1.5 tanh(growth), in [0.5, 2]: the factor of all rewards of the next step."""
    return 0.5 + 1.5 * jnp.tanh(grown)


def next_front(front: Array, point: Array, grown: Array) -> Array:
    """The front with a point that enlarges it, in the place of the oldest one; [M, K] f32.

    Args:
        front: [M, K] f32, the newest first; rows with NaN are not there.
        point: [K] f32.
        grown: [] f32, of `contribution`.
    """
    return jnp.where(grown > 0, jnp.concatenate([point[None], front[:-1]]), front)


def hypervolume_scaled(
    scores: Array, meta_reward: Array, *, meta_applied_to: str = "rewards"
) -> Array:
    """Scores times the meta reward of the step before; 1 in the first step.

    An advantage that divides by the deviation of the scores undoes the factor of rewards, as the
    paper has it, and is refused: with `advantages` these have it instead, and scores stay as they
    are.

    Args:
        scores: [N] f32.
        meta_reward: [] f32, see `meta_of`.
        meta_applied_to: what the meta reward multiplies: rewards, or advantages.

    Returns:
        [N] f32.

    Raises:
        ValueError: for another `meta_applied_to`.
    """
    places = "one of " + ", ".join(META_APPLIED_TO)
    check_field("meta_applied_to", meta_applied_to, META_APPLIED_TO.__contains__, places)
    factor = meta_reward if meta_applied_to == "rewards" else 1.0
    return jax.lax.stop_gradient(scores * factor)


def update_front(
    components: Array,
    component_weights: Array,
    mask: Array,
    front: Array,
    *,
    component_count: int = 2,
    front_points: int = 32,
) -> tuple[Array, Array]:
    """The front after a step, and the meta reward of the next one.

    The point of a step is the mean of each reward over the samples that a filter keeps; a step
    without any changes nothing. A reward whose weight is
    negative is minimised. The first step's point is the reference point, the performance before
    training. The paper takes points from validation; here they are of the step's own samples, which
    the policy has not learned yet.

    Args:
        components: [N, C] f32, the value of each reward, before weights.
        component_weights: [C] f32.
        mask: [N, T] bool.
        front: [1 + F, C] f32, the reference point and F points, the newest first; NaN: none.
        component_count: C, the rewards of config.scoring that are no constraints, from 2 to 4.
        front_points: F, of the newest points that enlarged the front.

    Returns:
        [1 + F, C] f32 and [] f32.

    Raises:
        ValueError: for other numbers of rewards or points.
    """
    check_field("component_count", component_count, lambda x: 2 <= x <= 4, "2, 3 or 4")
    check_field("front_points", front_points, lambda x: 1 <= x <= 64, "from 1 to 64")
    signs = jnp.where(component_weights < 0, -1.0, 1.0)
    written = jnp.broadcast_to(mask.any(axis=1)[:, None], components.shape)
    point = signs * mean_of(components, written, axis=0)
    seen = mask.any()  # else there is no point, as where a filter kept no group
    reference, points = front[0], front[1:]
    first = jnp.isnan(reference).any()
    grown = jnp.where(first, 0.0, contribution(points, point, reference))
    following = jnp.where(first, point, reference)[None], next_front(points, point, grown)
    meta = jnp.where(first | ~seen, 1.0, meta_of(grown))
    return jnp.where(seen, jnp.concatenate(following), front), meta


def empty_front(component_count: int, front_points: int) -> Array:
    """The front before the first step."""
    return jnp.full((1 + front_points, component_count), jnp.nan)
