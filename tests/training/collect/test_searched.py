"""Monte-Carlo tree search as a source of experience."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from rljax.config.load import apply_overrides, complete
from rljax.config.validate import validate
from rljax.objectives.credit.search_values import search_mean
from rljax.sampling.request import StopReason
from rljax.training.collect.branches import Branch
from rljax.training.collect.search_tree import SearchRules, SearchTree, chosen_terminal
from rljax.training.collect.searched import overlong_penalty
from rljax.training.collect.solutions import Solutions
from rljax.training.collect.tree_search import TreeSearch
from rljax.training.families.table import family_class
from tests.training.collect.test_tree_rollouts import FORBIDDEN
from tests.training.steps import follow_step

RULES = SearchRules(width=3, depth_limit=4)


def grown(seed, nodes=30):
    """A random tree, and its terminal nodes."""
    tree, rng = SearchTree(RULES), np.random.default_rng(seed)
    while len(tree.parent) < nodes:
        open_nodes = tree.frontier()
        parent = int(rng.choice(open_nodes))
        deepest = tree.depth[parent] + 1 == RULES.depth_limit
        terminal = deepest or rng.random() < 0.2
        tree.add(parent, terminal=bool(terminal), entropy=float(rng.random()))
        if not tree.frontier():
            break
    return tree, [node for node, ends in enumerate(tree.terminal) if ends]


def test_backups_of_three_levels_by_hand():
    tree = SearchTree(RULES)
    first = tree.add(0, terminal=False)
    second, leaf = tree.add(first, terminal=False), None
    leaf, other = tree.add(second, terminal=True), tree.add(first, terminal=True)
    tree.backup(leaf, -1.0)
    assert tree.value == pytest.approx([-1 / 4, -2 / 4, -3 / 4, -1, 0])
    tree.backup(other, 1.0)  # overwrites what was negative
    assert tree.value == pytest.approx([1 / 3, 2 / 3, -3 / 4, -1, 1])
    tree.backup(leaf, -1.0)  # leaves what is positive
    assert tree.value == pytest.approx([1 / 3, 2 / 3, -6 / 4, -2, 1])
    assert tree.visits == [3, 3, 2, 2, 1]
    assert tree.rewards(other) == pytest.approx([math.tanh(2 / 3), 1])
    assert tree.rewards(leaf) == pytest.approx([math.tanh(2 / 3), math.tanh(-6 / 4), -2])


@pytest.mark.parametrize("seed", range(5))
def test_properties_of_random_trees(seed):
    tree, leaves = grown(seed)
    rng, positive = np.random.default_rng(seed), set()
    for leaf in rng.permutation(leaves).tolist():
        before = list(tree.value)
        value = float(rng.choice([-1.0, 1.0]))
        tree.backup(leaf, value)
        moved = {n: tree.value[n] - before[n] for n in tree.path(leaf) if before[n] * value > 0}
        assert all(0.1 <= abs(step) <= 1 for step in moved.values())
        positive |= {node for node, own in enumerate(tree.value) if own > 0}
        assert all(tree.value[node] > 0 for node in positive)
        if value > 0:
            assert all(tree.value[node] > 0 for node in tree.path(leaf))
    frontier = tree.frontier()
    assert not any(tree.terminal[n] or len(tree.children[n]) >= 3 for n in frontier)
    best = tree.best_of_frontier()
    assert best != 0 and (best is None or best in frontier)


def test_with_the_entropy_alone_the_most_surprising_node_grows():
    rules = SearchRules(
        width=3, depth_limit=4, parent_weight=0.0, depth_weight=0.0, entropy_weight=0.4
    )
    tree = SearchTree(rules)
    nodes = [tree.add(0, terminal=False, entropy=entropy) for entropy in (0.3, 2.0, 1.0)]
    tree.add(nodes[0], terminal=True, entropy=9.0)
    assert tree.best_of_frontier() == nodes[1]


@pytest.mark.parametrize(
    "bonus, expected", [("constant", 1), ("log", math.log(1.5)), ("sqrt", 0.5**0.5)]
)
def test_forms_of_the_bonus_for_depth(bonus, expected):
    tree = SearchTree(SearchRules(width=2, depth_limit=2, depth_bonus=bonus))
    assert tree.frontier_score(tree.add(0, terminal=False)) == pytest.approx(0.01 * expected)


def test_right_ones_are_backed_up_before_wrong_ones_and_these_before_cut_ones():
    nodes, entropy = [5, 6, 7, 8], [4.0, 3.0, 2.0, 1.0]
    no, yes = [False] * 4, [False, False, True, True]
    assert chosen_terminal(nodes, [True, True, False, False], yes, entropy) == 6
    assert chosen_terminal(nodes, no, [True, True, False, False], entropy) == 6
    assert chosen_terminal(nodes, no, no, entropy) == 8
    assert chosen_terminal(nodes, no, no, [1.0] * 4) == 5


class Letters:
    """A policy of four equally likely letters, and one right word of four of them."""

    def __init__(self, seed, length=4):
        self.rng, self.length = np.random.default_rng(seed), length
        self.word = self.rng.integers(0, 4, length)

    def expand(self, nodes, first, width=4):
        return [[self.child(node) for _ in range(width)] for node in nodes]

    def child(self, node):
        letter = self.rng.integers(0, 4, 1).astype(np.int32)
        piece = {"tokens": letter, "logprobs": np.log(np.full(1, 0.25, np.float32))}
        ends = node.length + 1 == self.length
        reason = StopReason.STOP_TOKEN if ends else StopReason.PAUSED
        return Branch(node.prompt, (*node.pieces, piece), reason)

    def judge(self, branches):
        return np.array([bool((one.tokens == self.word).all()) for one in branches])


def search_of(**changes):
    rules = SearchRules(width=4, depth_limit=4)
    fields = dict(trajectories=8, incomplete_value=-1.0, most_expansions=64) | changes
    return TreeSearch(rules, **fields)


def test_a_tree_of_one_level_is_a_group():
    """All children end: each is taken, and the advantage is the reward minus the group's mean."""
    letters = Letters(4, length=1)
    trees = search_of(trajectories=4)([3], letters.expand, letters.judge)
    found = trees.found[3]
    assert (trees.tokens, trees.expansions, len(found)) == (4, 1, 4)
    rewards = np.array([one.rewards for one in found])
    right = letters.judge([one.branch for one in found])
    np.testing.assert_array_equal(rewards[:, 0], np.where(right, 1.0, -1.0))
    assert 0 < right.sum() < 4
    ids = jnp.zeros(4, int)
    advantages = search_mean(jnp.asarray(rewards), jnp.ones((4, 1), bool), ids)
    np.testing.assert_allclose(advantages, rewards - rewards.mean(), rtol=1e-6)


def test_a_search_ends_at_its_limits():
    letters = Letters(1)
    trees = search_of(most_expansions=3)([0, 1], letters.expand, letters.judge)
    assert trees.expansions == 6 and trees.tokens == 24
    assert trees.found == {0: [], 1: []}  # no path is four letters long yet
    trees = search_of(trajectories=2)([0], letters.expand, letters.judge)
    assert len(trees.found[0]) == 2
    for one in trees.found[0]:
        assert len(one.rewards) == len(one.lengths) == 4 and sum(one.lengths) == 4
        assert all(abs(reward) < 1 for reward in one.rewards[:-1])  # soft clip


def test_rewards_are_those_of_the_finished_tree():
    """A prefix that several trajectories share has one reward, whichever was backed up first."""
    letters = Letters(2)
    (found,) = search_of()([0], letters.expand, letters.judge).found.values()
    of_prefix = {}
    for one in found:
        for depth in range(1, 4):
            pieces = tuple(map(id, one.branch.pieces[:depth]))
            assert of_prefix.setdefault(pieces, one.rewards[depth - 1]) == one.rewards[depth - 1]
    assert len(of_prefix) < 3 * len(found)


def test_a_single_trajectory_keeps_its_rewards_and_deviations_divide():
    values = jnp.array([[0.5, 1.0, 0.0], [0.2, 0.4, 0.6], [-0.2, -1.0, 0.0], [0.3, 0.0, 0.0]])
    mask = jnp.array([[1, 1, 0], [1, 1, 1], [1, 1, 0], [0, 0, 0]], bool)
    ids = jnp.array([4, 7, 7, 7])
    found = search_mean(values, mask, ids)
    np.testing.assert_allclose(found[0], [0.5, 1.0, 0.0])
    mean = (0.6 - 1.0) / 2  # of the last tokens; the empty row is in no group
    np.testing.assert_allclose(found[1:3], np.where(mask[1:3], values[1:3] - mean, 0), atol=1e-6)
    scaled = search_mean(values, mask, ids, search_deviation=True)
    np.testing.assert_allclose(scaled[1:], found[1:] / (0.8 + 1e-6), rtol=1e-5)


def test_kept_solutions_are_few_different_and_the_newest():
    store = Solutions(3, 4, most=2)
    state = store.first_state()
    one, two = np.array([1, 2], np.int32), np.array([3], np.int32)
    state = store.add(state, 5, [one, one, two, np.array([4], np.int32)])
    assert [own.tolist() for own in store.of(state, 5)] == [[1, 2], [3]]
    assert store.add(state, 5, [one]) is state
    after = store.add(store.add(state, 6, [two]), 7, [one])
    assert [len(store.of(after, problem)) for problem in (5, 6, 7)] == [1, 1, 1]
    assert len(store.of(state, 5)) == 2  # states are values


def test_the_penalty_of_long_completions():
    found = [overlong_penalty(length, 16, 4) for length in (1, 12, 13, 16)]
    assert found == [0.0, 0.0, -0.25, -1.0] and overlong_penalty(16, 16, 0) == 0.0


WORDS = (
    *("method=deepsearch", "objective.segment_tokens=2", "objective.search_width=3"),
    *("objective.hard_share=1.0", "objective.screen_samples=2", "objective.round_steps=2"),
    *("objective.kept_solutions=8", "batch.samples_per_prompt=4", "sampling.max_new_tokens=6"),
    f"sampling.forbidden_tokens={FORBIDDEN}",
)


def family_of(pieces, *more):
    words = [f"--config.reinforce.{word}" for word in (*WORDS, *more)]
    made = pieces("reinforce", "--config.sampler.shrink=()", *words)
    return made, family_class(made.stage)(made.context, made.stage, None, 0)


def test_steps_of_a_round(pieces):
    made, family = family_of(pieces)
    first = family.source.first_state()
    _, batches, after = follow_step(family, made.state, 1, first)
    assert after["hard"].all() and (after["solved"] >= 0).all()
    samples, rows = batches.detail.samples, batches.detail.rows
    lengths = samples.flat("mask").sum(axis=1)
    written = lengths > 0
    metrics = batches.metrics
    assert written.any() and metrics["sampled_tokens"] > lengths.sum()
    # A problem that was right sometimes is sampled plainly, behind what was right; no sampler has
    # reported what its tokens are worth now.
    ids = [record["id"] for record in samples.records]
    mask, reported = samples.rollouts.mask, samples.rollouts.logprobs
    shown = np.isnan(reported).any(axis=(1, 2))
    assert 0 < shown.mean() == 1 - metrics["search_share"] < 1
    for place in np.flatnonzero(shown):
        kept = {own.tobytes() for own in family.source.solutions.of(after, ids[place])}
        tokens = samples.rollouts.tokens[place, 0][mask[place, 0]]
        assert tokens.tobytes() in kept and np.isnan(reported[place, 0][mask[place, 0]]).all()
        assert np.isfinite(reported[place, 1:][mask[place, 1:]]).all()
        scores = batches.detail.scores.correct.reshape(mask.shape[:2])[place]
        assert scores[0] and mask[place].any(axis=1).all()
    assert np.isfinite(rows["advantages"]).all() and (rows["advantages"] != 0).any()
    record = family.record(1, batches)
    logprobs = [s["logprobs"] for p in record["prompts"] for s in p["samples"]]
    assert np.isfinite(np.concatenate(logprobs)).all() or "old_logprobs" not in rows
    # A step follows from the state of its source, and the second one screens nothing.
    _, again, _ = follow_step(family, made.state, 1, first)
    np.testing.assert_array_equal(again.detail.rows["advantages"], rows["advantages"])
    _, second, later = follow_step(family, made.state, 2, after)
    assert later["taken"] == 2 * after["taken"]
    np.testing.assert_array_equal(later["solved"], after["solved"])
    assert [record["id"] for record in second.detail.samples.records] != ids


def test_a_round_without_hard_problems_says_what_was_seen(pieces):
    # All letters are right: the reward says so of every text.
    made, family = family_of(pieces, "objective.hard_share=0.0")
    family.source.search.judge = lambda context, records, texts, flat: np.ones(len(flat), bool)
    with pytest.raises(ValueError, match=r"No problem is hard: 2 samples .* from 1.00 to 1.00"):
        follow_step(family, made.state, 1, family.source.first_state())


@pytest.mark.parametrize(
    "words, message",
    [
        (("objective.advantage=group_mean",), r"'search' gives values to pieces"),
        (("objective.rollouts=whole",), r"'search' gives values to pieces"),
        (("objective.group_filter=mixed",), r"group_filter='mixed' does not go with rollouts="),
        (("objective.correction=truncated",), r"correction='truncated' does not go"),
        (("objective.depth_bonus=cubic",), r"depth_bonus must be one of 'constant', 'log', 'sqrt'"),
        (("objective.hard_share=2.0",), r"hard_share must"),
        (("objective.search_width=0",), r"search_width must be a whole number >= 1"),
        (
            ("objective.penalty_tokens=99", "sampling.max_new_tokens=9"),
            r"penalty_tokens=99 is more",
        ),
        (("sampling.entropy_theta=0.5",), r"entropy_theta=0.5 gives tokens a temperature"),
    ],
)
def test_bad_input_is_refused(words, message):
    stage = {"method": "deepsearch"}
    config = complete({"stages": ("s",), "s": stage, "data": {"tasks": ({"name": "chain_sum"},)}})
    with pytest.raises(ValueError, match=message):
        validate(apply_overrides(config, [f"--config.s.{word}" for word in words]))
