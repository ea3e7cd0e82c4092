"""Gradients of parameters under bfloat16 activations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.models.products import embed, matmul
from rljax.parallel.mesh import make_mesh
from rljax.parallel.rules import named_sharding
from tests.tolerance import assert_same_sums

BF16 = jnp.bfloat16


def test_float32_products_and_lookups_are_the_plain_ones():
    x, w = jax.random.normal(jax.random.key(0), (2, 3, 4)), jnp.ones((4, 5))
    tokens, table = jnp.array([[1, 1, 0]]), jax.random.normal(jax.random.key(1), (7, 4))
    ours = jax.grad(lambda x, w: jnp.sin(matmul(x, w)).sum(), (0, 1))(x, w)
    plain = jax.grad(lambda x, w: jnp.sin(x @ w).sum(), (0, 1))(x, w)
    for one, other in zip(ours, plain, strict=True):
        assert_same_sums(one, other, terms=4 + 6)
    ours = jax.grad(lambda t: jnp.sin(embed(t, tokens, jnp.float32)).sum())(table)
    plain = jax.grad(lambda t: jnp.sin(t[tokens]).sum())(table)
    np.testing.assert_array_equal(ours, plain)


def test_a_frequent_token_keeps_its_small_contributions():
    # In bfloat16 the sum of 20,000 hundredths stops growing at 4.
    tokens = jnp.zeros((1, 20_000), jnp.int32)
    gradient = jax.grad(lambda t: 0.01 * embed(t, tokens, BF16).astype(jnp.float32).sum())
    np.testing.assert_allclose(gradient(jnp.ones((2, 1)))[:, 0], [200.0, 0.0], rtol=5e-3)


def test_gradients_of_weights_are_not_rounded_to_bfloat16():
    x = jnp.ones((257, 1), BF16)  # the sum 257 is no bfloat16 number
    gradient = jax.grad(lambda w: matmul(x, w).astype(jnp.float32).sum())(jnp.ones((1, 1)))
    assert gradient.dtype == jnp.float32 and gradient[0, 0] == 257


@pytest.mark.parametrize("of", ["matmul", "embed"])
def test_devices_add_up_in_float32(of):
    # Each of two devices has 2^8 + 1/2, which bfloat16 would round before the sum.
    mesh = make_mesh({"data": 2}, devices=jax.devices()[:2])
    rows = named_sharding(mesh, ("batch",))
    share = jnp.full((2, 513, 1), 0.5, BF16)

    def product(w):
        return (matmul(jax.device_put(share, rows), w).astype(jnp.float32)).sum()

    def lookup(table):
        tokens = jax.device_put(jnp.zeros((2, 513), jnp.int32), rows)
        return (embed(table, tokens, BF16).astype(jnp.float32) * share).sum()

    with jax.set_mesh(mesh):
        found = jax.jit(jax.grad({"matmul": product, "embed": lookup}[of]))(jnp.ones((1, 1)))
    assert found[0, 0] == 513.0


@pytest.mark.parametrize("split", [("fsdp",), ("data", "fsdp", "tensor"), ("fsdp", "context")])
def test_gradients_of_embeddings_are_the_same_on_every_mesh(split):
    sizes = dict.fromkeys(split, 2)
    mesh = make_mesh(sizes, devices=jax.devices()[: 2 ** len(sizes)])
    tokens = np.random.default_rng(0).integers(0, 8, (8, 4))
    dy = np.random.default_rng(1).integers(-9, 9, (8, 4, 6)).astype(np.float32)

    def gradient(table, tokens, dy):
        return jax.grad(lambda table: (embed(table, tokens, BF16) * dy).sum())(table)

    expected = np.zeros((8, 6), np.float32)
    np.add.at(expected, tokens, dy)
    rows = named_sharding(mesh, ("batch", "sequence"))
    placed = jax.device_put((tokens, dy), rows)
    table = jax.device_put(jnp.zeros((8, 6)), named_sharding(mesh, ("vocab", "embed")))
    with jax.set_mesh(mesh):
        found = jax.jit(gradient)(table, *placed)
    np.testing.assert_array_equal(found, expected)


def test_the_trunk_under_bfloat16_has_nearly_the_gradient_of_float32(tiny_network, one_device):
    network = tiny_network(width=64, mlp_width=128)
    half = tiny_network(width=64, mlp_width=128, dtype="bfloat16")
    params = network.init(jax.random.key(0), one_device)
    tokens = np.random.default_rng(0).integers(0, 16, (8, 128))
    tokens[:, ::2] = 3  # a frequent one
    positions = np.broadcast_to(np.arange(128), tokens.shape)
    weights = np.random.default_rng(1).normal(size=(8, 128, 64)).astype(np.float32)

    def gradient(network):
        def loss(params):
            hidden = network.bind(params)(tokens, positions, np.ones_like(tokens)).hidden
            return (hidden.astype(jnp.float32) * weights).sum()

        return jax.jit(jax.grad(loss))(params)

    exact, found = gradient(network), gradient(half)
    for (path, one), other in zip(
        jax.tree_util.tree_leaves_with_path(exact), jax.tree.leaves(found), strict=True
    ):
        assert other.dtype == jnp.float32
        error = jnp.linalg.norm(one - other) / jnp.linalg.norm(one)
        assert error < 0.03, (path, error)
