"""Network: structure, logical axes and initial values."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.models import layers
from rljax.parallel.rules import RULES


def paths(tree):
    """Flat {path: leaf}; tuples are leaves."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: isinstance(x, tuple))
    return {tuple(part.key for part in path): leaf for path, leaf in flat}


@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_has_one_known_logical_axis_per_dimension(tiny_network, tied):
    network = tiny_network(tied_embeddings=tied)
    shapes, axes = paths(network.shapes), paths(network.logical_axes)
    assert shapes.keys() == axes.keys()
    for path, names in axes.items():
        assert len(names) == shapes[path].ndim, path
        assert set(names) <= set(RULES), path
        if path[0] == "blocks":
            assert names[0] == "layers" and shapes[path].shape[0] == 2, path
        split = [RULES[name] for name in names if RULES[name] is not None]
        assert len(split) == len(set(split)), f"{path} uses a mesh axis twice"


@pytest.mark.parametrize("tied", [True, False])
def test_parameter_count_follows_the_formula(tiny_network, tied):
    network = tiny_network(tied_embeddings=tied)
    vocab, layers, width, heads, kv_heads, head_dim, hidden = 16, 2, 16, 4, 2, 8, 24
    attention = width * head_dim * (2 * heads + 2 * kv_heads)
    block = attention + 3 * width * hidden + 2 * width
    expected = layers * block + width + vocab * width * (1 if tied else 2)
    assert network.parameter_count == expected


def test_init_depends_on_the_key_and_not_on_the_mesh(tiny_network, one_device, mesh_2x2x2):
    network = tiny_network(tied_embeddings=False)
    key = jax.random.key(7)
    one, eight = (jax.device_get(network.init(key, mesh)) for mesh in (one_device, mesh_2x2x2))
    # The same draws; shards of another shape may be vectorised otherwise, to the last bits.
    same = functools.partial(np.testing.assert_allclose, rtol=4 * np.finfo(np.float32).eps, atol=0)
    jax.tree.map(same, one, eight)
    other = paths(jax.device_get(network.init(jax.random.key(8), one_device)))
    for path, leaf in paths(one).items():
        if path[-1] != "scale":
            assert not np.isclose(leaf, other[path]).any(), path


def test_initial_deviations_and_independent_layers(tiny_network, one_device):
    network = tiny_network(width=128, mlp_width=256, heads=4, head_dim=32, vocab_size=256, layers=4)
    params = network.init(jax.random.key(0), one_device)
    wide = 128**-0.5
    expected = {
        ("embedding",): wide,
        ("blocks", "attention", "query", "kernel"): wide,
        ("blocks", "attention", "key", "kernel"): wide,
        ("blocks", "attention", "value", "kernel"): wide,
        ("blocks", "attention", "out", "kernel"): (128 * 2 * 4) ** -0.5,  # 2L outputs add up
        ("blocks", "mlp", "gate", "kernel"): wide,
        ("blocks", "mlp", "up", "kernel"): wide,
        ("blocks", "mlp", "down", "kernel"): (256 * 2 * 4) ** -0.5,
    }
    found = paths(params)
    for path, deviation in expected.items():
        np.testing.assert_allclose(jnp.std(found[path]), deviation, rtol=0.02, err_msg=str(path))
        if path[0] == "blocks":
            first, second = np.asarray(found[path][:2]).reshape(2, -1)
            assert abs(np.corrcoef(first, second)[0, 1]) < 0.03, path
    for path, leaf in found.items():
        if path[-1] == "scale":
            np.testing.assert_array_equal(leaf, 1.0)


def test_large_parameters_hold_the_same_numbers_as_small_ones(tiny_network, monkeypatch):
    # Drawn flat or by axes: the size decides about compile time only, never about values.
    config = tiny_network().config

    def draw(key):
        return layers.make_param(
            key, (2, 16, 4, 8), ("layers", "embed", "heads", "head_dim"), layers.normal(0.1), config
        )[...]

    flat = draw(jax.random.key(3))
    monkeypatch.setattr(layers, "FLAT_DRAW_SIZE", 0)
    np.testing.assert_array_equal(flat, draw(jax.random.key(3)))
