"""Merging of the largest changes, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.models.config import ModelConfig
from rljax.models.lora import flatten, unflatten
from rljax.models.merge import kept_share, merge
from rljax.models.network import Network

VOCABULARY = 13  # three rows of padding


@pytest.fixture(scope="module")
def models():
    """network, base and trained, in which padding has changed most of all."""
    sizes = dict(layers=2, width=8, heads=2, kv_heads=1, head_dim=4, mlp_width=12)
    network = Network.create(ModelConfig(vocab_size=VOCABULARY, **sizes))
    rng = np.random.default_rng(0)

    def draw(leaf):
        return jnp.asarray(rng.normal(size=leaf.shape), jnp.float32)

    base, change = (jax.tree.map(draw, network.shapes) for _ in range(2))
    trained = jax.tree.map(lambda a, b: a + 0.1 * b, base, change)
    trained["embedding"] = trained["embedding"].at[VOCABULARY:].add(100.0)
    return network, base, trained


def pick(tree, path):
    return np.asarray(flatten(tree)[path])


PATHS = [("blocks", "mlp", "gate", "kernel"), ("blocks", "mlp_norm", "scale"), ("embedding",)]


def test_all_of_it_is_the_trained_model_and_none_of_it_the_base(models):
    network, base, trained = models

    def same(a, b):
        return jax.tree.map(np.testing.assert_array_equal, a, b)

    whole = merge(network, base, trained, keep=1.0, scale=1.0)
    expected = dict(trained)
    padding = base["embedding"][VOCABULARY:]
    expected["embedding"] = trained["embedding"].at[VOCABULARY:].set(padding)
    same(whole, expected)
    same(merge(network, base, trained, keep=1.0, scale=0.0), base)
    same(merge(network, base, trained, keep=0.0, scale=1.0), base)
    same(merge(network, base, base, keep=0.3), base)  # not even rounded


def expected_leaf(base, trained, kept, scale):
    """The k largest changes of one tensor."""
    change = (trained - base).astype(np.float64)
    smallest = np.sort(np.abs(trained - base), axis=None)[::-1][kept - 1]
    return base + scale * np.where(np.abs(trained - base) >= smallest, change, 0.0)


@pytest.mark.parametrize("keep, scale", [(0.25, 0.7), (0.5, 1.0), (0.1, 1.5)])
def test_the_largest_changes_of_every_tensor_are_kept(models, keep, scale):
    """Layers of a stacked leaf are tensors of their own; padding is not counted."""
    network, base, trained = models
    merged = merge(network, base, trained, keep=keep, scale=scale)
    for path in PATHS:
        first, second, found = (pick(tree, path) for tree in (base, trained, merged))
        if path == ("embedding",):
            np.testing.assert_array_equal(found[VOCABULARY:], first[VOCABULARY:])
            first, second, found = (x[None, :VOCABULARY] for x in (first, second, found))
        for a, b, c in zip(first, second, found, strict=True):
            kept = round(keep * a.size)
            np.testing.assert_allclose(c, expected_leaf(a, b, kept, scale), rtol=1e-5, atol=1e-6)
            assert (a != c).sum() == kept


def test_the_largest_changes_of_the_whole_model_are_kept(models):
    network, base, trained = models
    large = flatten(trained)
    path = PATHS[0]
    large[path] = large[path] + 10 * (large[path] - flatten(base)[path])
    large = unflatten(large)
    merged = merge(network, base, large, keep=0.2, scope="model", scale=1.0)

    def real(tree):
        leaves = {**flatten(tree), ("embedding",): tree["embedding"][:VOCABULARY]}
        return np.concatenate([np.ravel(leaf) for _, leaf in sorted(leaves.items())])

    first, second, found = real(base), real(large), real(merged)
    kept = round(0.2 * first.size)
    np.testing.assert_allclose(found, expected_leaf(first, second, kept, 1.0), rtol=1e-5, atol=1e-6)
    assert (found != first).sum() == kept
    assert kept_share(network, base, merged) == pytest.approx(0.2, abs=1e-3)
    share = np.mean(pick(merged, path) != pick(base, path))
    assert share > 0.5 > np.mean(pick(merged, PATHS[1]) != pick(base, PATHS[1]))


def test_equal_changes_are_kept_together(models):
    network, base, _ = models
    trained = jax.tree.map(lambda leaf: jnp.zeros_like(leaf).at[..., 0].set(1.0), base)
    zeros = jax.tree.map(jnp.zeros_like, base)
    merged = merge(network, zeros, trained, keep=0.01, scale=0.5)
    leaf = pick(merged, PATHS[0])
    assert (leaf[..., 0] == 0.5).all() and (leaf[..., 1:] == 0).all()


def test_experts_are_tensors_of_their_own(tiny_network):
    network = tiny_network(experts=2, experts_per_token=1, expert_width=4)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape), network.shapes)
    path = ("blocks", "mlp", "down")
    leaves = flatten(zeros)
    rng = np.random.default_rng(0)
    scales = np.array([1.0, 1000.0]).reshape(1, 2, 1, 1)
    leaves[path] = jnp.asarray(rng.normal(size=leaves[path].shape) * scales)
    merged = merge(network, zeros, unflatten(leaves), keep=0.25)
    shares = (pick(merged, path) != 0).mean(axis=(2, 3))
    np.testing.assert_allclose(shares, 0.25)


def test_shards_change_nothing_and_types_are_those_of_the_base(tiny_network, mesh_2x2x2):
    network = tiny_network()
    with jax.set_mesh(mesh_2x2x2):
        base, trained = (network.init(jax.random.key(seed), mesh_2x2x2) for seed in (0, 1))
        base = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), base)
        found = jax.device_get(merge(network, base, trained, scope="model"))
    whole = merge(network, *jax.device_get((base, trained)), scope="model")
    jax.tree.map(np.testing.assert_array_equal, found, whole)
    assert found["embedding"].dtype == jnp.bfloat16


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(keep=1.5), r"keep must be a share in \[0, 1\], got 1.5"),
        (dict(scope="layer"), "Unknown scope 'layer'; known: tensor, model"),
    ],
)
def test_wrong_settings_are_named(models, fields, message):
    with pytest.raises(ValueError, match=message):
        merge(*models, **fields)


def test_models_of_different_shapes_are_refused(models, tiny_network):
    network, base, _ = models
    with pytest.raises(ValueError, match="differ in shape, at blocks.attention"):
        merge(network, base, jax.tree.map(lambda s: jnp.zeros(s.shape), tiny_network().shapes))
