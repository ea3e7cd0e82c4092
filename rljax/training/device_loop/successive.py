"""Rounds of samples for prompts that have not said enough, on the device (collect/successive.py).

Every round samples all B prompts, since shapes are fixed; what a prompt that has left says is
thrown away, and counts as not drawn. The rounds end as soon as all have left.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.config.stage import BatchSizes
from rljax.objectives.advantages.pooled import pool_statistics
from rljax.objectives.allocation import Allocation, kept_places, kept_right, leaves
from rljax.training.learner.group import Group


class Pool(NamedTuple):
    """All draws so far: R rounds of S samples of B prompts, D = R * S."""

    draws: Group  # [R, B, S, ...]
    drawn: Array  # [R, B] bool, False where a prompt had left before the round
    right: Array  # [B] i32
    wrong: Array  # [B] i32
    left: Array  # [B] bool
    number: Array  # [] i32, rounds


def sample_pools(
    draw: Callable[[Array], Group], allocation: Allocation, batch: BatchSizes
) -> tuple[Group, dict[str, Array], dict[str, Array]]:
    """All rounds of a step, and the group that is kept of each prompt.

    Args:
        draw: number of the round, [] i32, to samples of the B prompts, [B, S].
        allocation: of the stage.
        batch: of the stage.

    Returns:
        The groups [B, n]; `pool_means` and `pool_deviations`, [N] each; and what it took: the
        metrics of the host's `Successive`, with the reward and accuracy of all draws.
    """
    group, rounds = batch.samples_per_prompt, allocation.rounds
    pool = jax.lax.while_loop(
        lambda pool: (pool.number < rounds) & ~pool.left.all(),
        lambda pool: _next(pool, draw(pool.number), group, allocation.exit),
        _empty(draw, batch.prompts_per_step, rounds),
    )
    draws = jax.tree.map(_by_prompt, pool.draws)
    samples = draws.scores.shape[1] // rounds
    drawn = jnp.repeat(pool.drawn.T, samples, axis=1)  # [B, D]
    keep = kept_right(pool.right, pool.wrong, group)
    places = kept_places(draws.correct, drawn, keep, group)
    kept = jax.tree.map(lambda x: jax.vmap(lambda row, place: row[place])(x, places), draws)
    means, deviations = pool_statistics(jnp.where(drawn, draws.scores, 0.0), drawn)
    arrays = {"pool_means": jnp.repeat(means, group)}
    arrays["pool_deviations"] = jnp.repeat(deviations, group)
    total = drawn.sum()
    counts = {
        "sampled_tokens": (draws.mask & drawn[..., None]).sum(),
        "samples_per_prompt_mean": total / len(drawn),
        "allocation_left_share": pool.left.mean(),
        "allocation_rounds": pool.number,
        "sampled_reward": jnp.where(drawn, draws.scores, 0.0).sum() / total,
        "sampled_accuracy": (draws.correct & drawn).sum() / total,
    }
    return kept, arrays, counts


def _empty(draw: Callable[[Array], Group], prompts: int, rounds: int) -> Pool:
    zero = jnp.int32(0)
    shapes = jax.eval_shape(draw, zero)
    draws = jax.tree.map(lambda x: jnp.zeros((rounds, *x.shape), x.dtype), shapes)
    none, nobody = jnp.zeros(prompts, jnp.int32), jnp.zeros(prompts, bool)
    return Pool(draws, jnp.zeros((rounds, prompts), bool), none, none, nobody, zero)


def _next(pool: Pool, latest: Group, group: int, exit: str) -> Pool:
    """The pool after one more round."""
    active = ~pool.left
    right = pool.right + jnp.where(active, latest.correct.sum(axis=1), 0)
    wrong = pool.wrong + jnp.where(active, (~latest.correct).sum(axis=1), 0)
    return Pool(
        draws=jax.tree.map(lambda all_, new: all_.at[pool.number].set(new), pool.draws, latest),
        drawn=pool.drawn.at[pool.number].set(active),
        right=right.astype(jnp.int32),
        wrong=wrong.astype(jnp.int32),
        left=pool.left | leaves(right, wrong, group, exit),
        number=pool.number + 1,
    )


def _by_prompt(x: Array) -> Array:
    """[R, B, S, ...] -> [B, R * S, ...], round by round."""
    return jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, *x.shape[3:])
