"""Sampling trees: values of nodes, advantages of edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.credit.tree import edge_advantages, node_values

# 0 -> (1, 2, 3), 1 -> (4, 5), 2 ended early, 3 -> (6, 7); 8 and 9 are not there.
PARENTS = jnp.array([-1, 0, 0, 0, 1, 1, 3, 3, 0, 8])
PRESENT = jnp.arange(10) < 8
REWARDS = jnp.array([np.nan, np.nan, 0.5, np.nan, 1.0, 0.0, 1.0, 1.0, 7.0, 7.0])


def test_values_are_means_over_children():
    nodes = node_values(REWARDS, PARENTS, PRESENT)
    np.testing.assert_allclose(
        nodes.values, [2 / 3, 0.5, 0.5, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0], rtol=1e-6
    )
    np.testing.assert_array_equal(np.flatnonzero(nodes.leaves), [2, 4, 5, 6, 7])
    deviation = np.std([0.5, 0.5, 1.0])
    np.testing.assert_allclose(nodes.child_deviations[:4], [deviation, 0.5, 0.0, 0.0], rtol=1e-6)


@pytest.mark.parametrize("style", ["rloo", "grpo"])
def test_advantages_of_edges_and_which_are_trained_on(style):
    nodes = node_values(REWARDS, PARENTS, PRESENT)
    advantages, kept = edge_advantages(nodes, PARENTS, PRESENT, edge_style=style)
    expected = np.array([0, -1 / 6, -1 / 6, 1 / 3, 0.5, -0.5, 0, 0, 0, 0])
    if style == "grpo":
        expected[1:4] /= np.std([0.5, 0.5, 1.0])
        expected[4:6] /= 0.5
    np.testing.assert_allclose(advantages, expected, rtol=1e-5)
    np.testing.assert_array_equal(np.flatnonzero(kept), [1, 2, 3, 4, 5])


def test_children_of_a_node_add_up_to_nothing():
    nodes = node_values(REWARDS, PARENTS, PRESENT)
    advantages, _ = edge_advantages(nodes, PARENTS, PRESENT)
    for parent in (0, 1, 3):
        children = (PARENTS == parent) & PRESENT
        np.testing.assert_allclose(advantages[children].sum(), 0.0, atol=1e-6)


def test_depth_one_is_the_score_less_the_group_mean():
    scores = jnp.array([1.0, 0.0, 0.0, 1.0, 1.0])
    parents = jnp.array([-1, 0, 0, 0, 0, 0])
    present = jnp.ones(6, bool)
    nodes = node_values(jnp.append(0.0, scores), parents, present)
    advantages, _ = edge_advantages(nodes, parents, present)
    np.testing.assert_allclose(advantages[1:], scores - scores.mean(), rtol=1e-6)


def test_equal_siblings_have_exactly_nothing():
    third = jnp.full(4, 1.0 / 3.0).at[0].set(0.0)
    parents, present = jnp.array([-1, 0, 0, 0]), jnp.ones(4, bool)
    for style in ("rloo", "grpo"):
        nodes = node_values(third, parents, present)
        advantages, kept = edge_advantages(nodes, parents, present, edge_style=style)
        np.testing.assert_array_equal(advantages, 0.0)
        assert not kept.any()


def test_nodes_lie_in_any_order_and_trees_side_by_side():
    order = jnp.array([7, 3, 0, 9, 5, 1, 2, 8, 6, 4])
    place = jnp.argsort(order)
    parents = jnp.where(PARENTS[order] < 0, -1, place[PARENTS[order]])
    mixed = node_values(REWARDS[order], parents, PRESENT[order])
    plain = node_values(REWARDS, PARENTS, PRESENT)
    np.testing.assert_allclose(mixed.values, plain.values[order], rtol=1e-6)
    two = node_values(
        jnp.concatenate([REWARDS, REWARDS]),
        jnp.concatenate([PARENTS, jnp.where(PARENTS < 0, -1, PARENTS + 10)]),
        jnp.concatenate([PRESENT, PRESENT]),
    )
    np.testing.assert_allclose(two.values, jnp.concatenate([plain.values] * 2), rtol=1e-6)


def test_shapes_are_static_and_trees_can_be_mapped_over():
    batch = jax.jit(jax.vmap(lambda r: node_values(r, PARENTS, PRESENT).values))
    got = batch(jnp.stack([REWARDS, 2 * REWARDS]))
    np.testing.assert_allclose(got[1], 2 * got[0], rtol=1e-6)


def test_a_cycle_has_no_value_and_an_unknown_style_is_an_error():
    nodes = node_values(jnp.ones(3), jnp.array([1, 0, -1]), jnp.ones(3, bool))
    np.testing.assert_array_equal(nodes.values, [np.nan, np.nan, 1.0])
    with pytest.raises(ValueError, match="edge_style is 'loo'"):
        edge_advantages(nodes, PARENTS[:3], PRESENT[:3], edge_style="loo")
