"""Samples that branch as a tree: level by level, each node goes on where its parent stopped.

With branching (2, 2), M tokens to a node and T slots, a prompt has the rows

    row 0   node 0 | node 00        levels:  slots 0 .. M-1 | M .. T-1
    row 1   node 0 | node 01
    row 2   node 1 | node 10
    row 3   node 1 | node 11

A row is a leaf with the whole way to it. A node that ends early is a leaf in the first of its
rows; its others stay empty. So the mask says which nodes there are, and the first row of a node is
where its own tokens, the edge into it, are trained on.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax import Array

from rljax.models.network import Params
from rljax.sampling.engine import Engine
from rljax.sampling.request import Requests, Rollouts, StopReason
from rljax.training.collect.continuations import Prefixes, sample_continuations, with_prefixes


class Level(NamedTuple):
    """Nodes at one distance from the prompt, in a tree where none ends early."""

    branches: int  # children of each node above
    nodes: int  # of a prompt
    rows: int  # of each node
    start: int  # slot of its first token
    room: int  # slots of a node


@dataclasses.dataclass(frozen=True)
class TreeShape:
    """The trees of a stage.

    Attributes:
        branching: children of each node, level by level.
        segment_tokens: M, tokens of a node above the last level.
        slots: T, of a whole completion; more than those of the levels above the last one.
    """

    branching: tuple[int, ...]
    segment_tokens: int
    slots: int

    @property
    def leaves(self) -> int:
        """G."""
        return math.prod(self.branching)

    @property
    def levels(self) -> list[Level]:
        """From the children of the prompt on."""
        last, tokens, found = len(self.branching) - 1, self.segment_tokens, []
        for depth, branches in enumerate(self.branching):
            nodes, start = math.prod(self.branching[: depth + 1]), depth * tokens
            room = self.slots - start if depth == last else tokens
            found.append(Level(branches, nodes, self.leaves // nodes, start, room))
        return found

    def parents(self, prompts: int) -> np.ndarray:
        """[B * nodes of a tree] i32, as in objectives/credit/tree.py: a prompt, then its levels."""
        parents, above = [np.array([-1])], 0  # the first node of the level above
        for level in self.levels:
            parents.append(above + np.arange(level.nodes) // level.branches)
            above += level.nodes // level.branches
        tree = np.concatenate(parents)
        offsets = np.arange(prompts)[:, None] * len(tree)
        return np.where(tree < 0, -1, tree + offsets).reshape(-1).astype(np.int32)


class TreeSampler:
    """What samples trees, called as an `Engine` is: a prompt's G samples are its leaves.

    Node i of a level has i as the address of its noise, which differs by slot besides. With one
    level the samples are those of an engine.
    """

    def __init__(self, shape: TreeShape, engines: Sequence[Engine]) -> None:
        """Takes an engine for each level, with its branches as samples and its room for tokens."""
        self.shape, self.engines = shape, engines

    def load(self, params: Params) -> Params:
        """See `Engine.load`."""
        return self.engines[0].load(params)

    def sample(self, weights: Params, requests: Requests, *, key: Array, step: int) -> Rollouts:
        """Samples the trees of B prompts, a call of an engine for each level.

        Args:
            weights: from `load`.
            requests: prompts, masks and ids.
            key: of a random stream (sampling/keys.py).
            step: counted over the run.

        Returns:
            NumPy arrays [B, G, T]; empty rows are masked.
        """
        prompts, pad = len(requests.prompts), self.engines[0].config.pad_token
        rollouts = _empty((prompts, self.shape.leaves, self.shape.slots), pad)
        parents = np.argwhere(np.ones((prompts, 1), bool))
        for level, engine in zip(self.shape.levels, self.engines, strict=True):
            if not len(parents):  # all of them have ended
                break
            asked = _child_requests(requests, rollouts, level, parents)
            # As many as there can be, so that one program serves every step.
            rows = prompts * level.nodes // level.branches
            calls = sample_continuations(engine, weights, asked, rows=rows, key=key, step=step)
            for index, found in calls:
                _write(rollouts, level, parents[index], found)
            node_ends = rollouts.stop_reason[:, :: level.rows]
            parents = np.argwhere(node_ends == StopReason.PAUSED)
        return _without_copies(self.shape, rollouts, pad)


def _child_requests(
    requests: Requests, rollouts: Rollouts, level: Level, parents: np.ndarray
) -> Requests:
    """Asks for the children of nodes; parents [S, 2] are (prompt, node of the level above)."""
    prompt, node = parents.astype(np.int32).T
    _, leaves, slots = rollouts.mask.shape
    length = np.full(len(parents), level.start, np.int32)
    tokens, mask = with_prefixes(
        requests.prompts,
        requests.prompt_mask,
        rollouts.tokens.reshape(-1, slots),
        Prefixes(prompt, prompt * leaves + node * level.rows * level.branches, length),
    )
    return Requests(
        tokens,
        mask,
        prompt_ids=requests.prompt_ids[prompt],
        sample_ids=node[:, None] * level.branches + np.arange(level.branches, dtype=np.int32),
        continued=length,
        max_new_tokens=np.full((len(parents), level.branches), slots, np.int32),
    )


def _write(rollouts: Rollouts, level: Level, parents: np.ndarray, found: Rollouts) -> None:
    """Puts the children [S, branches, room] of nodes into all of their rows."""
    prompt, node = parents.T
    rows = level.rows * level.branches  # of a parent
    own = node[:, None] * rows + np.arange(rows)
    at = prompt[:, None], own
    for name in Rollouts._fields:
        new, array = getattr(found, name), getattr(rollouts, name)
        if name == "slot_steps":
            array += int(new.max())
        elif name == "stop_reason":
            array[at] = np.repeat(new, level.rows, axis=1)
        elif new is not None:
            slots = slice(level.start, level.start + level.room)
            array[*at, slots] = np.repeat(new, level.rows, axis=1)


def _empty(shape: tuple[int, int, int], pad_token: int) -> Rollouts:
    """Nothing sampled yet, [B, G, T]; nodes that do not end wait for their children."""
    numbers = ("logprobs", "model_logprobs", "tempered_logprobs", "entropy", "temperature")
    return Rollouts(
        tokens=np.full(shape, pad_token, np.int32),
        mask=np.zeros(shape, bool),
        **{name: np.zeros(shape, np.float32) for name in numbers},
        stop_reason=np.full(shape[:2], StopReason.PAUSED, np.int32),
        slot_steps=np.zeros(shape[0], np.int32),
    )


def _without_copies(shape: TreeShape, rollouts: Rollouts, pad_token: int) -> Rollouts:
    """Leaves a node that ended early in the first of its rows only."""
    levels = shape.levels
    depth = sum(rollouts.mask[:, :, level.start].astype(int) for level in levels) - 1
    rows = np.array([level.rows for level in levels])[depth]  # of the node that each row ends with
    copies = np.arange(shape.leaves) % rows != 0
    for name, array in rollouts._asdict().items():
        if name != "slot_steps" and array is not None:
            array[copies] = {"tokens": pad_token, "stop_reason": StopReason.LENGTH}.get(name, 0)
    return rollouts
