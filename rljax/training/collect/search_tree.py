"""The tree of a Monte-Carlo tree search over pieces of completions (DeepSearch, arXiv:2509.25454).

A tree is of one prompt, on the host. Node 0 is the prompt; nodes are numbered as they are made. The
value of a node is a sum that a success makes positive for good, not a mean; the search divides it
by visits, the rewards that are trained on do not.
"""

import dataclasses
import math
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchRules:
    """How a tree is searched.

    Attributes:
        width: children of a node.
        depth_limit: pieces of a whole completion, at most.
        exploration: factor of the exploration term of UCT.
        parent_weight, entropy_weight, depth_weight: of the three terms of the frontier score.
        depth_bonus: how the third one grows with the depth, of `DEPTH_BONUSES`
            (objectives/credit/search_values.py).
        backup_floor: least share of a terminal value that a node far above it gets.
    """

    width: int
    depth_limit: int
    exploration: float = 2.0
    parent_weight: float = 0.4
    entropy_weight: float = 0.0
    depth_weight: float = 0.01
    depth_bonus: str = "sqrt"
    backup_floor: float = 0.1


class SearchTree:
    """Values and visits of the nodes of one prompt."""

    def __init__(self, rules: SearchRules) -> None:
        self.rules = rules
        self.parent, self.depth = [-1], [0]
        self.terminal, self.entropy = [False], [0.0]
        self.value, self.visits = [0.0], [0]
        self.children: list[list[int]] = [[]]

    def add(self, parent: int, *, terminal: bool, entropy: float = 0.0) -> int:
        """The number of a new child.

        Args:
            parent: its number.
            terminal: whether nothing follows.
            entropy: mean of -log p over its own tokens.
        """
        number = len(self.parent)
        self.parent.append(parent)
        self.depth.append(self.depth[parent] + 1)
        self.terminal.append(terminal)
        self.entropy.append(entropy)
        self.value.append(0.0)
        self.visits.append(0)
        self.children.append([])
        self.children[parent].append(number)
        return number

    def path(self, node: int) -> list[int]:
        """The nodes from the prompt to this one, both included."""
        found = [node]
        while self.parent[found[-1]] >= 0:
            found.append(self.parent[found[-1]])
        return found[::-1]

    def visit(self, node: int) -> None:
        """Counts a visit of an intermediate node, with value 0."""
        self.visits[node] += 1

    def backup(self, leaf: int, value: float) -> None:
        """Brings the value of a terminal node to all nodes on the way to it.

            w = max((depth + 1) / (depth of the leaf + 1), floor)

        Values of one sign add up; a success overwrites a negative sum; a failure leaves a positive
        sum as it is.
        """
        length = self.depth[leaf] + 1
        for node in self.path(leaf):
            weight = max((self.depth[node] + 1) / length, self.rules.backup_floor)
            self.visits[node] += 1
            if self.value[node] * value >= 0:
                self.value[node] += weight * value
            elif value > 0:
                self.value[node] = weight * value

    def mean(self, node: int) -> float:
        """q = value / visits, 0 without a visit."""
        return self.value[node] / self.visits[node] if self.visits[node] else 0.0

    def uct(self, node: int) -> float:
        """q + exploration * sqrt(ln N(parent) / N); without the second term where a count is 0.

        The prompt has no siblings: 0.
        """
        above = self.parent[node]
        if above < 0:
            return 0.0
        if not self.visits[node] or not self.visits[above]:
            return self.mean(node)
        explored = math.sqrt(math.log(self.visits[above]) / self.visits[node])
        return self.mean(node) + self.rules.exploration * explored

    def best_child(self, node: int) -> int | None:
        """The child with the highest UCT that can grow, the first of equals; None without any."""
        growing = [child for child in self.children[node] if not self.terminal[child]]
        return max(growing, key=self.uct, default=None)

    def frontier(self) -> list[int]:
        """Nodes that can grow and have room for children, the prompt too, in pre-order."""
        found, left = [], [0]
        while left:
            node = left.pop()
            if not self.terminal[node] and len(self.children[node]) < self.rules.width:
                found.append(node)
            left.extend(reversed(self.children[node]))
        return found

    def frontier_score(self, node: int) -> float | None:
        """What makes a node of the frontier worth growing; None for the prompt.

        F = parent_weight tanh(q(parent)) + entropy_weight H + depth_weight bonus(depth / limit)
        """
        if self.parent[node] < 0:
            return None
        rules = self.rules
        return (
            rules.parent_weight * math.tanh(self.mean(self.parent[node]))
            + rules.entropy_weight * self.entropy[node]
            + rules.depth_weight * self._bonus(node)
        )

    def _bonus(self, node: int) -> float:
        share = self.depth[node] / self.rules.depth_limit
        if self.rules.depth_bonus == "constant":
            return 1.0
        return math.log1p(share) if self.rules.depth_bonus == "log" else math.sqrt(share)

    def best_of_frontier(self) -> int | None:
        """The node of the highest score, the first of equals; None where there is none to grow."""
        growing = [node for node in self.frontier() if self.parent[node] >= 0]
        return max(growing, key=self.frontier_score, default=None)

    def rewards(self, leaf: int) -> list[float]:
        """The reward of each node from the first piece to the leaf: tanh(value), of the leaf value.

        They are final once the search is.
        """
        *inner, last = self.path(leaf)[1:]
        return [*(math.tanh(self.value[node]) for node in inner), self.value[last]]


def chosen_terminal(
    terminals: Sequence[int],
    correct: Sequence[bool],
    complete: Sequence[bool],
    entropy: Sequence[float],
) -> int:
    """Which of several terminal nodes is backed up: the right ones come first, then wrong complete
    ones, then those that were cut off; among them the most confident.

    Args:
        terminals: their numbers, at least one.
        correct, complete: of each: right; ended by itself.
        entropy: of each, mean of -log p over all tokens of the way to it.

    Returns:
        A number; the first of equals.
    """
    places = range(len(terminals))
    kept = [i for i in places if correct[i]] or [i for i in places if complete[i]] or list(places)
    return terminals[min(kept, key=lambda i: entropy[i])]
