"""Slots split over the mesh axis "context": the same numbers as one device, by all-to-all."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.models.attention import GroupLayout
from rljax.parallel.mesh import make_mesh
from rljax.parallel.rules import batch_sharding, check_context, check_row_length
from rljax.sampling.config import SamplingConfig
from rljax.sampling.engine import Engine
from rljax.sampling.request import Requests

N, S = 4, 20  # 20 is no other size of the network, so that HLO shapes tell
TOLERANCE = dict(rtol=0, atol=1e-4)


def make_rows():
    rng = np.random.default_rng(0)
    segments = np.repeat([[0, 1, 2, 0]], N, 0).repeat([3, 8, 7, 2], axis=1)
    positions = np.tile(np.r_[np.zeros(3), np.arange(8), np.arange(7), 0, 0], (N, 1))
    tokens = rng.integers(0, 13, (N, S))
    return tuple(np.asarray(x, np.int32) for x in (tokens, positions, segments))


def loss_and_gradient(network, mesh, group=None):
    """((loss, hidden), gradient) on this mesh, and the compiled program's text."""
    weights = np.random.default_rng(1).normal(size=(N, S, 16)) / 10

    def loss(params, *rows):
        hidden = network.bind(params)(*rows, group=group).hidden
        hidden = jnp.where(rows[2][..., None] > 0, hidden, 0.0)
        return jnp.sum(jnp.sin(hidden) * weights), hidden

    params = network.init(jax.random.key(0), mesh)
    rows = [jax.device_put(x, batch_sharding(mesh)) for x in make_rows()]
    with jax.set_mesh(mesh):
        program = jax.jit(
            jax.value_and_grad(loss, has_aux=True), out_shardings=(None, network.shardings(mesh))
        )
        program = program.lower(params, *rows).compile()
        return jax.device_get(program(params, *rows)), program.as_text()


WINDOWS = dict(heads=8, sliding_window=4, global_every=2, query_key_norm="head")


@pytest.mark.parametrize(
    "sizes",
    [
        {"context": 2, "fsdp": 2},
        {"context": 2, "tensor": 2, "fsdp": 2},
        {"context": 4, "tensor": 2},  # 2 key-value heads for 8 shards of heads
    ],
)
def test_values_and_gradients_equal_one_device(tiny_network, one_device, sizes):
    network = tiny_network(**WINDOWS)
    expected, _ = loss_and_gradient(network, one_device)
    count = int(np.prod(list(sizes.values())))
    found, program = loss_and_gradient(network, make_mesh(sizes, jax.devices()[:count]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TOLERANCE), found, expected)
    gathered = re.findall(r"= (\S+?)\{\S* all-gather\(", program)
    assert gathered or "fsdp" not in sizes  # parameters are, over fsdp
    assert not [shape for shape in gathered if re.search(rf"\b{S}\b", shape)], gathered
    # Of query, key, value and result, in the loop over layers and in its backward pass.
    assert len(re.findall(r" all-to-all\(", program)) >= 8


def test_group_rows_equal_one_device(tiny_network, one_device):
    network, group = tiny_network(heads=8), GroupLayout(8, 3)
    expected, _ = loss_and_gradient(network, one_device, group)
    found, _ = loss_and_gradient(network, make_mesh({"context": 4}, jax.devices()[:4]), group)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TOLERANCE), found, expected)


def test_sampling_is_the_same_on_every_device_of_the_axis(tiny_network, one_device):
    network = tiny_network(heads=8)
    tokens, _, _ = (x[:, 3:6] for x in make_rows())
    config = SamplingConfig(samples_per_prompt=2, max_new_tokens=5, stop_tokens=(0,), pad_token=0)

    def run(mesh):
        engine = Engine(network, config, mesh)
        with jax.set_mesh(mesh):
            weights = engine.load(network.init(jax.random.key(0), mesh))
        requests = Requests(np.asarray(tokens), np.ones(tokens.shape, bool), np.arange(len(tokens)))
        return engine.sample(weights, requests, key=jax.random.key(1), step=0)

    expected, found = run(one_device), run(make_mesh({"context": 2, "fsdp": 2}, jax.devices()[:4]))
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_allclose(found.logprobs, expected.logprobs, rtol=0, atol=1e-5)


def test_what_does_not_divide_is_named(tiny_network):
    check_row_length({"context": 4}, 20, "anything")
    check_row_length({}, 7, "anything")
    with pytest.raises(
        ValueError, match=r"20 slots .*context=8 \(config.data.row_tokens, config.m"
    ):
        check_row_length({"context": 8}, 20, "config.data.row_tokens")
    check_context({"tensor": 3}, 4)  # without context, config.check_mesh tells
    check_context({"tensor": 2, "context": 2}, 4)
    with pytest.raises(ValueError, match=r"heads=4 .*config.mesh.context"):
        check_context({"tensor": 2, "context": 4}, 4)
    with pytest.raises(ValueError, match="20 slots .*config.mesh.context"):
        loss_and_gradient(tiny_network(heads=8), make_mesh({"context": 8}))
