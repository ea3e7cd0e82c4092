"""Length-invariant representations: completions of different lengths have states of one law.

"Beyond Reward Hacking: Causal Rewards" (arXiv:2501.09620), after Veitch et al., 2021: what a reward
model sees of a completion should be distributed alike whatever a spurious attribute is. Here that
is the length. The kernel and the bins were not published; those here are named below.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked

# Bandwidths of the Gaussian kernels, as multiples of the median distance.
BANDWIDTHS = (0.5, 1.0, 2.0, 4.0)
SMALLEST_DISTANCE = 1e-6


def length_discrepancy(
    end_states: Array,
    lengths: Array,
    usable: Array,
    *,
    invariance_weight: float = 1.0,
    invariance_bins: int = 4,
    conditional: bool = True,
) -> Array:
    """The weighted sum of squared discrepancies between bins of lengths.

        weight * sum over labels, bins m < m' of MMD^2(states in m, states in m')

    Bins are quantiles of the lengths of the batch. MMD^2 is the unbiased estimate with a sum of
    Gaussian kernels; its bandwidths are multiples of the median distance, constants. Bins with
    fewer than two members are left out.

    Args:
        end_states: [B, 2, D] f32, last states of chosen and rejected completions, differentiated.
        lengths: [B, 2] i32, tokens.
        usable: [B] bool; other pairs count nowhere.
        invariance_weight: of the term.
        invariance_bins: bins of lengths, at least 2.
        conditional: chosen completions are compared with chosen ones, and rejected ones with
            rejected ones: where people do prefer longer answers, say. Otherwise all together.

    Returns:
        [] f32.
    """
    chex.assert_rank([end_states, lengths], [3, 2])
    sides = lengths.shape[1]
    states = end_states.reshape(-1, end_states.shape[-1])
    there, sizes = jnp.repeat(usable, sides), lengths.reshape(-1)
    members = jax.nn.one_hot(length_bins(sizes, there, invariance_bins), invariance_bins)
    members *= there[:, None]
    kernel = off_diagonal_kernel(states, there)
    if not conditional:
        return invariance_weight * discrepancies(kernel, members)
    side = jnp.tile(jnp.arange(sides), len(usable))
    each = [discrepancies(kernel, members * (side == s)[:, None]) for s in range(sides)]
    return invariance_weight * sum(each)


def length_bins(lengths: Array, there: Array, bins: int) -> Array:
    """Which quantile of the lengths each one is in, from 0; equal lengths are in one.

    Args:
        lengths: [N] i32.
        there: [N] bool; others have no say in the quantiles.
        bins: how many.

    Returns:
        [N] i32.
    """
    known = jnp.where(there, lengths.astype(jnp.float32), jnp.nan)
    edges = jnp.nanquantile(known, jnp.arange(1, bins) / bins)
    return jnp.sum(lengths[:, None] > edges, axis=1)


def off_diagonal_kernel(states: Array, there: Array) -> Array:
    """Sum of Gaussian kernels of all pairs of states, 0 of a state with itself: [N, N] f32.

    Args:
        states: [N, D] f32, differentiated.
        there: [N] bool; the median distance is of these.
    """
    norms = jnp.sum(states**2, axis=-1)
    # Of products, so that no array of all differences is needed.
    products = jnp.matmul(states, states.T, precision=jax.lax.Precision.HIGHEST)
    squares = jnp.maximum(norms[:, None] + norms - 2 * products, 0.0)
    apart = ~jnp.eye(len(states), dtype=bool)
    known = jnp.where(apart & there[:, None] & there, jnp.sqrt(squares), jnp.nan)
    median = jnp.nan_to_num(jnp.nanmedian(jax.lax.stop_gradient(known)))
    width = jax.lax.stop_gradient(jnp.maximum(median, SMALLEST_DISTANCE))
    kernel = sum(jnp.exp(-squares / (2 * (factor * width) ** 2)) for factor in BANDWIDTHS)
    return jnp.where(apart, kernel, 0.0)


def discrepancies(kernel: Array, members: Array) -> Array:
    """The sum over pairs of groups of the unbiased MMD^2, which may be below 0.

        mean over i != j of k(a_i, a_j) + the same of b - 2 mean over i, j of k(a_i, b_j)

    Args:
        kernel: [N, N] f32, 0 on the diagonal.
        members: [N, M] f32, 1 where a state is in a group; it is in one at most.
    """
    count = members.sum(axis=0)
    between = members.T @ kernel @ members
    inside = jnp.diag(between) / jnp.maximum(count * (count - 1), 1)
    across = between / jnp.maximum(count[:, None] * count, 1)
    each = inside[:, None] + inside - 2 * across
    enough = (count >= 2)[:, None] & (count >= 2)
    return jnp.sum(jnp.triu(jnp.where(enough, each, 0.0), k=1))


def length_invariance(
    end_states: Array, invariance_slopes: Array, invariance: Array
) -> tuple[Array, dict[str, SumCount]]:
    """`length_discrepancy` of the whole batch, as a loss of its pairs.

    It is no sum over pairs. It is expanded around the states of the policy as it is, which are
    constants: the sum over the batch then has exactly its value and its gradient, however the
    batch is split.

    Args:
        end_states: [B, 2, D] f32, differentiated.
        invariance_slopes: [B, 2, D] f32, gradient of the term, divided by the pair's weight.
        invariance: [B] f32, the term, the same for all.

    Returns:
        [B] loss; metrics: `length_discrepancy`.
    """
    moved = end_states - jax.lax.stop_gradient(end_states)
    loss = invariance + jnp.sum(invariance_slopes * moved, axis=(1, 2))
    everything = jnp.ones(invariance.shape, bool)
    return loss, {"length_discrepancy": masked(invariance, everything)}
