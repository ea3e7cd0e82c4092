"""Values of the nodes of sampling trees, and advantages of their edges (SPO-tree).

Trees are flat arrays of M nodes: `parents` [M] i32 holds the index of each node's parent, -1 for a
root. Several trees lie in the same arrays, in any order. `present` [M] bool leaves room for trees
of different sizes, so shapes stay static: a node that ends early has no children below it.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.means import between
from rljax.objectives.parts import check_field

EDGE_STYLES = ("rloo", "grpo")


class NodeValues(NamedTuple):
    """What is known of each node, all [M]; 0 and False on nodes that are not present."""

    values: Array  # f32
    child_deviations: Array  # f32, biased standard deviation of the children's values
    leaves: Array  # bool


def _edges(parents: Array, present: Array) -> Array:
    """[M] bool, nodes with an edge from a parent that is present."""
    inside = (parents >= 0) & (parents < parents.shape[0])
    return present & inside & present[jnp.where(inside, parents, 0)]


def node_values(leaf_rewards: Array, parents: Array, present: Array) -> NodeValues:
    """V(leaf) = its reward, V(node) = mean over its children (arXiv:2505.23564, section 4.3).

    Args:
        leaf_rewards: [M] f32; read on nodes without children.
        parents: [M] i32, -1 for a root.
        present: [M] bool.

    Returns:
        `NodeValues`, constant. Nodes of a cycle have no value: NaN.
    """
    chex.assert_rank(leaf_rewards, 1)
    chex.assert_equal_shape([leaf_rewards, parents, present])
    nodes = parents.shape[0]
    edges = _edges(parents, present)
    upward = jnp.where(edges, parents, nodes)  # out of range: dropped by the sums

    def up(x: Array) -> Array:
        """Sums over the children of each node."""
        return jax.ops.segment_sum(jnp.where(edges, x, 0), upward, nodes)

    def bounds(x: Array) -> tuple[Array, Array]:
        """The least and the largest number among the children of each node."""
        lowest, highest = jnp.where(edges, x, jnp.inf), jnp.where(edges, x, -jnp.inf)
        return (
            jax.ops.segment_min(lowest, upward, nodes),
            jax.ops.segment_max(highest, upward, nodes),
        )

    children = up(jnp.ones(nodes, jnp.int32))
    leaves = present & (children == 0)
    counts = jnp.maximum(children, 1)

    def level(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        values, known, _ = state
        ready = present & ~known & (children > 0) & (up(known.astype(jnp.int32)) == children)
        means = (up(jnp.where(known, values, 0.0)) / counts).astype(values.dtype)
        means = between(means, *bounds(values))
        return jnp.where(ready, means, values), known | ready, ready.any()

    rewards = jax.lax.stop_gradient(leaf_rewards).astype(jnp.result_type(leaf_rewards, float))
    start = (jnp.where(leaves, rewards, 0.0), leaves, jnp.array(True))
    values, known, _ = jax.lax.while_loop(lambda state: state[2], level, start)
    values = jnp.where(present & ~known, jnp.nan, values)
    spread = up((values - values[jnp.where(edges, parents, 0)]) ** 2) / counts
    return NodeValues(values, jnp.where(children > 0, jnp.sqrt(spread), 0.0), leaves)


def edge_advantages(
    nodes: NodeValues,
    parents: Array,
    present: Array,
    *,
    edge_style: str = "rloo",
    edge_epsilon: float = 1e-8,
) -> tuple[Array, Array]:
    """Advantage of the tokens between a node's parent and the node (arXiv:2505.23564, eq. 5).

        rloo: A = V(node) - V(parent)
        grpo: A = (V(node) - V(parent)) / (deviation of the siblings + epsilon)

    V(parent) is the mean of all its children, the node itself included.

    Args:
        nodes: from `node_values`.
        parents: [M] i32, -1 for a root.
        present: [M] bool.
        edge_style: `rloo` or `grpo`.
        edge_epsilon: added to the deviation.

    Returns:
        [M] f32 advantages of the edge into each node, constant, 0 for roots; and [M] bool, the
        edges that are trained on, whose advantage is not 0. Siblings of equal value have exactly 0.

    Raises:
        ValueError: for another `edge_style` or a negative `edge_epsilon`.
    """
    check_field("edge_style", edge_style, EDGE_STYLES.__contains__, f"one of {EDGE_STYLES}")
    check_field("edge_epsilon", edge_epsilon, lambda x: x >= 0, ">= 0")
    chex.assert_equal_shape([nodes.values, parents, present])
    size = parents.shape[0]
    edges = _edges(parents, present)
    above = jnp.where(edges, parents, 0)
    upward = jnp.where(edges, parents, size)
    highest = jax.ops.segment_max(nodes.values, upward, size)[above]
    lowest = jax.ops.segment_min(nodes.values, upward, size)[above]
    # Compared exactly: the mean of equal values can be off by a rounding error.
    differs = edges & (highest > lowest)
    advantages = jnp.where(differs, nodes.values - nodes.values[above], 0.0)
    if edge_style == "grpo":
        deviation = jnp.where(differs, nodes.child_deviations[above], 1.0)
        advantages = advantages / (deviation + edge_epsilon)
    return advantages, advantages != 0
