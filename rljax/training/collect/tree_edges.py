"""Edges of sampled trees as an annotation: what is trained on, and its advantage (SPO-tree).

arXiv:2505.23564, section 4.3. A prompt's samples are the leaves of a tree (tree_samples.py); what
is compared are its edges. Each edge is trained on once, in the first leaf below it, with all that
comes before it as context. Edges without an advantage are left out. The paper trains on at most 32
edges of a question in an iteration and keeps the others for up to 8 more; here all edges of a step
are trained on in the step, and none is kept for later.
"""

import functools
from typing import NamedTuple

import jax
import numpy as np
from jax import Array

from rljax.objectives.credit.tree import edge_advantages, node_values
from rljax.parallel.host import to_host
from rljax.training.collect.experience import Annotations
from rljax.training.collect.rollouts import require_rewards
from rljax.training.collect.sampled import Drawn
from rljax.training.collect.tree_samples import TreeShape


class TreeEdges:
    """Annotates leaves with values of segments, counted from the node that an edge leaves."""

    def __init__(
        self,
        shape: TreeShape,
        *,
        edge_style: str,
        edge_epsilon: float,
        unfinished_score: float | None,
    ) -> None:
        """Takes the trees, and the fields of their advantages (objectives/credit/tree.py)."""
        self.shape, self.unfinished_score = shape, unfinished_score
        self.edge_style, self.edge_epsilon = edge_style, edge_epsilon

    def __call__(self, drawn: Drawn) -> Annotations:
        """`mask`, `start_values` and `end_values`, [N, T] each, and metrics of the trees."""
        require_rewards(drawn.scores, "A tree of samples")
        samples, mask = drawn.samples, drawn.samples.rollouts.mask
        leaf_scores = drawn.scores.total
        if self.unfinished_score is not None:
            leaf_scores = np.where(samples.flat("finished"), leaf_scores, self.unfinished_score)
        leaf_scores = leaf_scores.reshape(mask.shape[:2])
        found = tree_edges(
            self.shape,
            mask,
            leaf_scores,
            edge_style=self.edge_style,
            edge_epsilon=self.edge_epsilon,
        )
        leaves = mask.any(axis=-1)
        highest = np.where(leaves, leaf_scores, -np.inf).max(axis=1)
        lowest = np.where(leaves, leaf_scores, np.inf).min(axis=1)
        metrics = {
            "tree_leaves": float(leaves.sum(axis=1).mean()),
            "tree_edges": float(found.edges) / len(mask),
            "trained_edge_share": found.trained / found.edges,
            "groups_without_signal": float((highest == lowest).mean()),
        }
        arrays = {
            "mask": found.mask,
            "start_values": np.zeros_like(found.advantages),
            "end_values": found.advantages,
        }
        return Annotations(arrays, metrics, {})


class Edges(NamedTuple):
    """What is trained on in the rows of B trees. NumPy."""

    mask: np.ndarray  # [N, T] bool, every edge that has an advantage once
    advantages: np.ndarray  # [N, T] f32, of the edge that the token belongs to
    edges: int  # in all trees
    trained: int  # of them


def tree_edges(
    shape: TreeShape,
    mask: np.ndarray,
    leaf_scores: np.ndarray,
    *,
    edge_style: str = "rloo",
    edge_epsilon: float = 1e-8,
) -> Edges:
    """The edges of sampled trees, and how much better than its siblings each one led on.

    Args:
        shape: of the trees.
        mask: [B, G, T] bool, of a `TreeSampler`.
        leaf_scores: [B, G] f32; those of empty rows are not read.
        edge_style, edge_epsilon: see `edge_advantages`.
    """
    prompts, levels = len(mask), shape.levels
    root = np.zeros((prompts, 1), np.float32), np.ones((prompts, 1), bool)
    first_rows = [slice(None, None, level.rows) for level in levels]
    rewards = [root[0], *(leaf_scores[:, first] for first in first_rows)]
    present = [
        root[1],
        *(mask[:, first, at.start] for first, at in zip(first_rows, levels, strict=True)),
    ]
    advantages, trained = to_host(
        _advantages(
            np.concatenate(rewards, axis=1).reshape(-1).astype(np.float32),
            shape.parents(prompts),
            np.concatenate(present, axis=1).reshape(-1),
            edge_style=edge_style,
            edge_epsilon=edge_epsilon,
        )
    )
    bounds = np.cumsum([1, *(level.nodes for level in levels)])[:-1]
    by_level = [np.split(x.reshape(prompts, -1), bounds, axis=1)[1:] for x in (advantages, trained)]
    own, of_token = np.zeros(mask.shape, bool), np.zeros(mask.shape, np.float32)
    for level, first, advantage, kept in zip(levels, first_rows, *by_level, strict=True):
        slots = slice(level.start, level.start + level.room)
        own[:, first, slots] = mask[:, first, slots] & kept[..., None]
        of_token[:, first, slots] = advantage[..., None]
    edges = sum(int(nodes.sum()) for nodes in present[1:])
    return Edges(
        own.reshape(-1, shape.slots),
        np.where(own, of_token, 0.0).reshape(-1, shape.slots),
        edges,
        int(trained.sum()),
    )


@functools.partial(jax.jit, static_argnames=("edge_style", "edge_epsilon"))
def _advantages(
    rewards: Array, parents: Array, present: Array, *, edge_style: str, edge_epsilon: float
) -> tuple[Array, Array]:
    nodes = node_values(rewards, parents, present)
    return edge_advantages(
        nodes, parents, present, edge_style=edge_style, edge_epsilon=edge_epsilon
    )
