"""Samples that branch as a tree, and the edges that are trained on."""

import itertools
import math

import numpy as np
import pytest

from rljax.config.load import apply_overrides, complete
from rljax.config.validate import validate
from rljax.sampling.engine import Engine
from rljax.sampling.request import StopReason
from rljax.training.collect.tree_edges import tree_edges
from rljax.training.collect.tree_samples import TreeSampler, TreeShape
from rljax.training.families.table import family_class
from tests.sampling.tiny import KEY, config_of, network_of, one_device, params_of, requests_of
from tests.training.steps import take_step

SHAPE = TreeShape((2, 3), 2, 5)
# All but two letters and the end, so that some samples end early and some never.
FORBIDDEN = tuple(token for token in range(261) if token not in (97, 98, 258))


def node_rows(shape, path):
    """The rows of a node, given as the numbers of the children on the way to it."""
    rows = [math.prod(shape.branching[depth + 1 :]) for depth in range(len(path))]
    first = sum(child * count for child, count in zip(path, rows, strict=True))
    return range(first, first + math.prod(shape.branching[len(path) :]))


def nodes_of(shape):
    """All nodes but the root."""
    depths = range(1, len(shape.branching) + 1)
    return [
        path for depth in depths for path in itertools.product(*map(range, shape.branching[:depth]))
    ]


def test_levels_rows_and_parents():
    shape = TreeShape((2, 2, 3), 4, 10)
    assert shape.leaves == 12
    assert [level.start for level in shape.levels] == [0, 4, 8]
    assert [level.room for level in shape.levels] == [4, 4, 2]
    assert [level.rows for level in shape.levels] == [6, 3, 1]
    nodes = [(), *nodes_of(shape)]
    expected = np.array([nodes.index(path[:-1]) if path else -1 for path in nodes])
    found = shape.parents(2).reshape(2, -1)
    np.testing.assert_array_equal(found[0], expected)
    np.testing.assert_array_equal(found[1], np.where(expected < 0, -1, expected + len(nodes)))


def engine_of(samples, room):
    config = config_of(samples_per_prompt=samples, max_new_tokens=room, temperature=2.0)
    return Engine(network_of(), config, one_device())


def test_children_go_on_where_their_parent_stopped():
    """A row is what a sample of its own would be where its nodes have the same numbers."""
    sampler = TreeSampler(SHAPE, [engine_of(at.branches, at.room) for at in SHAPE.levels])
    weights, requests = sampler.load(params_of(network_of())), requests_of(ids=(3, 1, 2, 9))
    tree = sampler.sample(weights, requests, key=KEY, step=1)
    assert tree.mask.shape == (4, 6, 5)
    whole = engine_of(1, 5).sample(weights, requests, key=KEY, step=1)
    for name in ("tokens", "mask", "logprobs", "entropy", "stop_reason"):
        found, expected = getattr(tree, name)[:, 0], getattr(whole, name)[:, 0]
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=name)
    lengths, early = tree.mask.sum(axis=-1), 0
    assert (tree.mask == (np.arange(5) < lengths[..., None])).all()
    for prompt, child in itertools.product(range(4), range(2)):
        rows = node_rows(SHAPE, (child,))
        own = lengths[prompt, rows]
        if own[0] <= 2 and tree.stop_reason[prompt, rows[0]] == StopReason.STOP_TOKEN:
            early += 1
            assert not own[1:].any()  # no copies of a node that ended
            continue
        assert (own > 2).all() and len({*map(tuple, tree.tokens[prompt, rows])}) > 1
        assert (tree.tokens[prompt, rows, :2] == tree.tokens[prompt, rows[0], :2]).all()
    assert early >= 1
    ended = tree.stop_reason == StopReason.STOP_TOKEN
    assert ((lengths == 5) | ended | (lengths == 0)).all()
    assert not tree.finished[lengths == 0].any()


def reference(shape, mask, scores, style):
    """Edges of one tree by recursion: {path: advantage}."""
    advantages = {}

    def value(path):
        depth, first = len(path), node_rows(shape, path)[0]
        below = [(*path, child) for child in range((*shape.branching, 0)[depth])]
        start = depth * shape.segment_tokens
        below = [child for child in below if mask[node_rows(shape, child)[0], start]]
        if not below:
            return scores[first]
        values = [value(child) for child in below]
        scale = np.std(values) + 1e-8 if style == "grpo" else 1.0
        advantages.update(zip(below, (values - np.mean(values)) / scale, strict=True))
        return np.mean(values)

    value(())
    return advantages


@pytest.mark.parametrize("style", ["rloo", "grpo"])
def test_edges_are_those_of_a_recursion_and_trained_once(style):
    shape, rng = TreeShape((2, 2, 2), 2, 7), np.random.default_rng(0)
    lengths = np.full((3, 8), 7) - rng.integers(0, 2, (3, 8))
    lengths[0, 4:] = 2, 0, 0, 0  # ends in the first level
    lengths[1, 2:4] = 3, 0  # ends in the second one
    mask = np.arange(7) < lengths[..., None]
    scores = rng.integers(0, 2, mask.shape[:2]).astype(np.float32)
    scores[2, :4] = 1.0  # no signal below this node
    found = tree_edges(shape, mask, np.where(lengths, scores, np.nan), edge_style=style)
    trained, of_token = (x.reshape(mask.shape) for x in (found.mask, found.advantages))
    count = edges = 0
    for b in range(3):
        expected = reference(shape, mask[b], scores[b], style)
        edges += len(expected)
        seen = np.zeros(mask[b].shape, bool)
        for path, advantage in expected.items():
            rows, start = node_rows(shape, path), 2 * (len(path) - 1)
            slots = slice(start, start + 2 if len(path) < 3 else 7)
            own = mask[b, rows[0], slots] & (abs(advantage) > 1e-6)
            count += own.any()
            np.testing.assert_array_equal(trained[b, rows[0], slots], own)
            np.testing.assert_allclose(of_token[b, rows[0], slots], advantage * own, atol=1e-6)
            seen[rows[0], slots] = True
        assert not trained[b][~seen].any()
    assert found.edges == edges and found.trained == count
    assert not trained[2, :4, 2:].any()


def test_a_tree_of_one_level_is_a_group():
    """Without a deviation, as in GRPO's group mean; equal scores leave nothing to train on."""
    mask = np.arange(6) < np.array([[6, 2, 3, 1], [1, 2, 3, 4]])[..., None]
    scores = np.array([[1, 0, 0, 0], [0.1, 0.1, 0.1, 0.1]], np.float32)
    found = tree_edges(TreeShape((4,), 2, 6), mask, scores)
    expected = (scores - scores.mean(axis=1, keepdims=True))[..., None] * mask
    np.testing.assert_allclose(found.advantages[:4], expected[0], rtol=1e-6)
    np.testing.assert_array_equal(found.mask, (mask & [[[True]], [[False]]]).reshape(8, 6))
    assert (found.edges, found.trained) == (8, 4) and not found.advantages[4:].any()


@pytest.fixture
def step(pieces):
    """step((2, 3), "segment_tokens=2") -> family, state, experience of a step of 8 trees."""

    def run(branching, *fields):
        leaves = math.prod(branching)
        words = [
            *("method=spo_tree", f"objective.branching={branching}"),
            *("objective.kl_placement=none", "objective.whiten_advantages=False"),
            *("objective.selection=none", "objective.probability_threshold=1.0"),
            *(f"batch.samples_per_prompt={leaves}", "sampling.max_new_tokens=6"),
            f"sampling.forbidden_tokens={FORBIDDEN}",
            *(f"objective.{field}" for field in fields),
        ]
        words = ["--config.sampler.shrink=()", *(f"--config.reinforce.{word}" for word in words)]
        made = pieces("reinforce", *words)
        family = family_class(made.stage)(made.context, made.stage, None, 0)
        return family, made.state, take_step(family, made.state, 1)[1]

    return run


def outcomes(experience):
    """Scores [B, G], 0 where a completion was cut off."""
    samples = experience.detail.samples
    scores = experience.detail.scores.total * samples.flat("finished")
    return scores.reshape(-1, samples.samples_per_prompt)


def test_a_step_on_trees(step):
    family, state, experience = step((2, 3), "segment_tokens=2")
    assert isinstance(family.source.rollouts.sampler, TreeSampler)
    rows, samples = experience.detail.rows, experience.detail.samples
    mask, scores = samples.rollouts.mask, outcomes(experience)
    shape = TreeShape((2, 3), 2, 6)
    trained, advantages = (rows[name].reshape(mask.shape) for name in ("mask", "advantages"))
    for b in range(8):
        for path, advantage in reference(shape, mask[b], scores[b], "rloo").items():
            first, start = node_rows(shape, path)[0], 2 * (len(path) - 1)
            slots = slice(start, start + 2 if len(path) < 2 else 6)
            own = mask[b, first, slots] & (abs(advantage) > 1e-6)
            np.testing.assert_array_equal(trained[b, first, slots], own)
            np.testing.assert_allclose(advantages[b, first, slots], advantage * own, atol=1e-6)
    assert rows["mask"].sum() == experience.tokens > 0
    # Rows without a leaf are in no figure and in no record, and the model sees no token of theirs.
    leaves = mask.any(axis=-1)
    metrics = experience.metrics
    assert metrics["tree_leaves"] == leaves.sum(axis=1).mean()
    assert metrics["reward"] == pytest.approx(
        experience.detail.scores.total[leaves.reshape(-1)].mean()
    )
    assert metrics["completion_tokens"] == pytest.approx(mask.sum() / leaves.sum())
    record = family.record(1, experience)
    for prompt, found in zip(record["prompts"], leaves, strict=False):
        assert len(prompt["samples"]) == found.sum()
    assert 16 < leaves.sum() < leaves.size
    # The step is done again from seed, step and prompts alone.
    other = take_step(family, state, 2)[1].detail.samples.rollouts.tokens
    assert (other != samples.rollouts.tokens).any()
    again = take_step(family, state, 1)[1]
    for name, array in rows.items():
        np.testing.assert_array_equal(array, again.detail.rows[name], err_msg=name)


@pytest.mark.parametrize(
    "words, message",
    [
        (("batch.samples_per_prompt=8",), r"samples_per_prompt=8 must be .* 2 x 3 = 6"),
        (("sampling.max_new_tokens=30",), r"max_new_tokens=30 leaves nothing .* must be > 30"),
        (("objective.advantage=group_mean",), r"rollouts='tree' gives values to segments"),
        (("objective.group_filter=with_signal",), r"group_filter='with_signal' does not go"),
        (("objective.branching=(2,1)",), r"branching must be .* >= 2: an only child"),
        (("objective.edge_style=mean",), r"edge_style must be one of 'rloo', 'grpo', got 'mean'"),
        (("objective.segment_tokens=0",), r"segment_tokens must be a whole number >= 1, got 0"),
        (("objective.value_samples=3",), r"value_samples=3 is never read with rollouts='tree'"),
        (("objective.demonstrations=in_group",), r"demonstrations='in_group' have no values"),
    ],
)
def test_bad_input_is_refused(words, message):
    stage = {
        "method": "spo_tree",
        "batch": {"samples_per_prompt": 6},
        "objective": {"branching": (2, 3)},
    }
    config = complete({"stages": ("s",), "s": stage, "data": {"tasks": ({"name": "chain_sum"},)}})
    with pytest.raises(ValueError, match=message):
        validate(apply_overrides(config, [f"--config.s.{word}" for word in words]))
