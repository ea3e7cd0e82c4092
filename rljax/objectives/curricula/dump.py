"""DUMP (arXiv:2504.09710): a bandit over sources, whose gain is the mean size of an advantage."""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.curricula.curriculum import (
    Curriculum,
    Outcomes,
    Problems,
    State,
    Turn,
    draw_of_sources,
)
from rljax.objectives.parts import check_field


def dump(
    *,
    window_samples: int = 300,
    exploration_weight: float = 1.0,
    choice_temperature: float = 0.1,
) -> Curriculum:
    """A source by the softmax of its upper confidence bound, then any problem of it.

        mu_j  = mean |advantage| of the last `window_samples` samples of source j (0 if never seen)
        UCB_j = mu_j + exploration_weight sqrt(2 ln(N + 1) / (n_j + 1))
        P_j   = softmax(UCB_j / choice_temperature)

    n_j counts the samples ever seen of a source, N all of them. Where a sample has several
    advantages, the size is that of their mean over its tokens.

    Args:
        window_samples: samples of a source that its mean is taken over.
        exploration_weight: factor of the bonus of sources that were seen little.
        choice_temperature: of the softmax, in units of the advantages.
    """
    check_field("window_samples", window_samples, lambda x: x >= 1, ">= 1")
    check_field("exploration_weight", exploration_weight, lambda x: x >= 0, ">= 0")
    check_field("choice_temperature", choice_temperature, lambda x: x > 0, "> 0")

    def first(problems: Problems, stream: Array) -> State:
        count = len(problems.source_names)
        return {
            "window": jnp.zeros((count, window_samples)),
            "seen": jnp.zeros(count, jnp.int32),
        }

    def probabilities(state: State) -> Array:
        bound = upper_bounds(state, exploration_weight=exploration_weight)
        return jax.nn.softmax(bound / choice_temperature)

    def take(state: State, problems: Problems, turn: Turn) -> tuple[Array, State]:
        return draw_of_sources(turn.key, probabilities(state), problems, turn.count), state

    def observe(state: State, problems: Problems, outcomes: Outcomes) -> State:
        source = jnp.asarray(problems.sources)[outcomes.index]
        source = jnp.broadcast_to(source[:, None], outcomes.advantages.shape).reshape(-1)
        sizes = jnp.abs(outcomes.advantages).reshape(-1)
        return remember(state, source, sizes, outcomes.present.reshape(-1))

    def metrics(state: State, problems: Problems) -> dict[str, Array]:
        shares = probabilities(state)
        return {f"probability/{name}": shares[j] for j, name in enumerate(problems.source_names)}

    reads = frozenset({"sources", "advantages"})
    return Curriculum(first, take, observe, metrics, reads=reads)


def upper_bounds(state: State, *, exploration_weight: float) -> Array:
    """UCB_j of each source, [S] f32."""
    seen = state["seen"].astype(float)
    total = jnp.maximum(seen.sum(), 1.0)
    return mean_sizes(state) + exploration_weight * jnp.sqrt(2 * jnp.log(total + 1) / (seen + 1))


def mean_sizes(state: State) -> Array:
    """mu_j of each source, [S] f32; 0 of one that was never seen."""
    size = state["window"].shape[1]
    held = jnp.minimum(state["seen"], size)
    there = jnp.arange(size) < held[:, None]
    return jnp.where(there, state["window"], 0.0).sum(axis=1) / jnp.maximum(held, 1)


def remember(state: State, source: Array, sizes: Array, present: Array) -> State:
    """The windows after some more samples, in their order.

    Args:
        state: `window` [S, W] f32, a ring of each source; `seen` [S] i32.
        source: [N] i32.
        sizes: [N] f32.
        present: [N] bool; others are not there.
    """
    sources, window = state["window"].shape
    mine = (source[:, None] == jnp.arange(sources)) & present[:, None]
    counts = mine.sum(axis=0)
    rank = jnp.take_along_axis(jnp.cumsum(mine, axis=0) - 1, source[:, None], axis=1)[:, 0]
    # Of more samples than a window holds the last ones stay.
    stays = present & (rank >= counts[source] - window)
    place = jnp.where(stays, (state["seen"][source] + rank) % window, window)
    return {
        "window": state["window"].at[source, place].set(sizes, mode="drop"),
        "seen": state["seen"] + counts.astype(jnp.int32),
    }
