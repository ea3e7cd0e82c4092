"""Tree searches of several prompts side by side: one call of the sampler grows a node of each."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from rljax.training.collect.branches import Branch
from rljax.training.collect.search_tree import SearchRules, SearchTree, chosen_terminal
from rljax.training.run.context import Context, Record
from rljax.training.run.phases import phase

# (nodes, number of the first child of each) -> children of each node.
Expand = Callable[[Sequence[Branch], Sequence[int]], list[list[Branch]]]
Judge = Callable[[Sequence[Branch]], np.ndarray]  # which completions are right, [N] bool


class Trajectory(NamedTuple):
    """A completion that a search ended with."""

    branch: Branch
    rewards: list[float]  # of each piece
    lengths: list[int]  # tokens of each piece
    correct: bool


class Trees(NamedTuple):
    """What the searches of a step found."""

    found: dict[int, list[Trajectory]]  # by place of the prompt
    tokens: int
    expansions: int


class _Search:
    """The search of one prompt."""

    def __init__(self, prompt: int, rules: SearchRules) -> None:
        self.tree = SearchTree(rules)
        self.branches = [Branch(prompt)]
        self.correct: dict[int, bool] = {}  # of terminal nodes
        self.taken: list[int] = []  # terminal nodes that were backed up, in order
        self.node: int | None = 0  # that grows next


class TreeSearch:
    """Searches until a prompt has so many trajectories, or nothing is left to grow."""

    def __init__(
        self,
        rules: SearchRules,
        *,
        trajectories: int,
        incomplete_value: float,
        most_expansions: int,
    ) -> None:
        """Takes the settings.

        Args:
            rules: of the trees.
            trajectories: G, of a prompt.
            incomplete_value: terminal value of a completion that was cut off and is not right.
            most_expansions: of a prompt.
        """
        self.rules, self.trajectories = rules, trajectories
        self.incomplete_value, self.most_expansions = incomplete_value, most_expansions

    def __call__(self, prompts: Sequence[int], expand: Expand, judge: Judge) -> Trees:
        """Searches all prompts.

        Args:
            prompts: their places.
            expand: what samples children; an ended child is terminal.
            judge: what verifies terminal nodes.
        """
        searches = [_Search(int(prompt), self.rules) for prompt in prompts]
        tokens = expansions = 0
        for _ in range(self.most_expansions):
            active = [search for search in searches if search.node is not None]
            if not active:
                break
            nodes = [search.branches[search.node] for search in active]
            grown = expand(nodes, [len(search.branches) for search in active])
            ended = [child for own in grown for child in own if child.ended]
            verdicts = iter(judge(ended).tolist() if ended else [])
            expansions += len(active)
            for search, children in zip(active, grown, strict=True):
                tokens += sum(child.length for child in children)
                tokens -= len(children) * search.branches[search.node].length
                self._add(search, children, verdicts)
                search.node = self._next(search)
        return Trees({s.branches[0].prompt: self._found(s) for s in searches}, tokens, expansions)

    def _add(self, search: _Search, children: list[Branch], verdicts: Iterator[bool]) -> None:
        """Adds children; the best terminal one is backed up, those that can grow are visited."""
        tree, terminals = search.tree, []
        for child in children:
            entropy = -float(np.mean(child.pieces[-1]["logprobs"]))
            number = tree.add(search.node, terminal=child.ended, entropy=entropy)
            search.branches.append(child)
            if child.ended:
                search.correct[number] = bool(next(verdicts))
                terminals.append(number)
            else:
                tree.visit(number)
        if terminals:
            self._back_up(search, terminals)

    def _back_up(self, search: _Search, terminals: list[int]) -> None:
        branches = [search.branches[number] for number in terminals]
        chosen = chosen_terminal(
            terminals,
            [search.correct[number] for number in terminals],
            [branch.finished for branch in branches],
            [-float(np.mean(branch.joined("logprobs"))) for branch in branches],
        )
        if search.correct[chosen]:
            value = 1.0
        else:
            value = -1.0 if search.branches[chosen].finished else self.incomplete_value
        search.tree.backup(chosen, value)
        search.taken.append(chosen)

    def _next(self, search: _Search) -> int | None:
        """The node that grows next: the best child, or the best of the whole frontier where a
        completion has ended or no child can grow; None at the end of the search."""
        tree, node = search.tree, search.node
        if len(search.taken) >= self.trajectories:
            return None
        if any(tree.terminal[child] for child in tree.children[node]):
            return tree.best_of_frontier()
        child = tree.best_child(node)
        return tree.best_of_frontier() if child is None else child

    def _found(self, search: _Search) -> list[Trajectory]:
        """The trajectories with the values of the finished tree.

        Where the search ends early, further terminal nodes are backed up first.
        """
        while len(search.taken) < self.trajectories:
            left = [number for number in search.correct if number not in search.taken]
            if not left:
                break
            self._back_up(search, left)
        return [
            Trajectory(
                search.branches[leaf],
                search.tree.rewards(leaf),
                [len(piece["tokens"]) for piece in search.branches[leaf].pieces],
                search.correct[leaf],
            )
            for leaf in search.taken
        ]

    @staticmethod
    @phase("scoring")
    def judge(
        context: Context,
        records: Sequence[Record],
        texts: Sequence[str],
        branches: Sequence[Branch],
    ) -> np.ndarray:
        """Which completions the run's rewards call right, [N] bool.

        Args:
            context: of the run.
            records: B problems; texts: their prompts.
            branches: N completions of them.

        Raises:
            ValueError: for a completion that no reward judges.
        """
        references = context.references(records)
        scores = context.scorer.score(
            [texts[one.prompt] for one in branches],
            [context.text_format.text(one.tokens) for one in branches],
            [references[one.prompt] for one in branches],
            [one.length for one in branches],
        )
        if not scores.judged.all():
            raise ValueError(
                f"{int((~scores.judged).sum())} of {len(branches)} completions have no verdict, "
                "and a search needs one of each (config.scoring.rewards)."
            )
        return scores.correct
