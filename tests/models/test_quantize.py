"""A quantised base: codes and scales against plain formulas, size, gradients, placement."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from rljax.models.config import LoRAConfig
from rljax.models.frozen_base import parameter_shapes, parameter_shardings, quantise_base
from rljax.models.layers import linear
from rljax.models.lora import combine, drop_adapters, flatten, split_frozen, unflatten
from rljax.models.quantize import quantise
from rljax.parallel.mesh import make_mesh

# Quantiles of the normal distribution that nf4 chooses from (arXiv:2305.14314, appendix E).
NF4 = np.array(
    "-1.0 -0.6961928009986877 -0.5250730514526367 -0.39491748809814453 -0.28444138169288635 "
    "-0.18477343022823334 -0.09105003625154495 0.0 0.07958029955625534 0.16093020141124725 "
    "0.24611230194568634 0.33791524171829224 0.44070982933044434 0.5626170039176941 "
    "0.7229568362236023 1.0".split(),
    float,
)
SIZES = dict(vocab_size=13, layers=2, width=64, heads=4, kv_heads=2, head_dim=16, mlp_width=128)
SHAPE = (2, 3, 4, 8)  # of tokens by head
TOKENS = jnp.arange(24).reshape(4, 6) % 13


def made(tiny_network, base, mesh, **changes):
    """Network, state, quantised base, and the base as it was; the same values on every mesh."""
    lora = LoRAConfig(rank=4, alpha=8, base=base)
    network = tiny_network(**SIZES, lora=lora, **changes)
    drawn = network.init(jax.random.key(0), make_mesh({"data": 1}, devices=jax.devices()[:1]))
    state, frozen = split_frozen(jax.device_put(drawn, network.shardings(mesh)))
    whole = jax.tree.map(jnp.copy, frozen)
    return network, state, quantise_base(network, frozen, mesh), whole


def bytes_of(tree):
    """How many bytes all arrays, or shapes, of a tree take."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def dense(frozen):
    """The base with its matrices dequantised."""
    leaves = flatten(frozen).items()
    return unflatten({path: leaf.astype(jnp.float32) for path, leaf in leaves})


def logits(network, params):
    positions = jnp.broadcast_to(jnp.arange(6), TOKENS.shape)
    model = network.bind(params)
    return model.logits(model(TOKENS, positions, jnp.ones_like(TOKENS)).hidden)


def test_int8_is_the_nearest_of_255_steps_of_each_channel():
    matrix = np.random.default_rng(0).normal(size=(2, 12, 3, 4)).astype(np.float32)
    found = quantise(jnp.asarray(matrix), 2, "int8")  # [L, 12, 3] -> 4 outputs
    assert found.codes.dtype == jnp.int8 and found.scale.shape == (2, 1, 1, 4)
    step = np.abs(matrix).max(axis=(1, 2), keepdims=True) / 127.5
    np.testing.assert_allclose(found.scale, step, rtol=1e-6)
    np.testing.assert_allclose(found.astype(jnp.float32), matrix, atol=0.501 * step.max())
    error = np.abs(np.asarray(found.astype(jnp.float32)) - matrix)
    assert (error <= 0.501 * step).all()


def test_nf4_is_the_nearest_quantile_of_each_tile():
    matrix = np.random.default_rng(0).normal(size=(2, 128, 6)).astype(np.float32)
    found = quantise(jnp.asarray(matrix), 1, "nf4")
    assert found.codes.shape == (2, 128, 3) and found.codes.dtype == jnp.uint8
    assert found.shape == matrix.shape and found.scale.shape == (2, 2, 6)
    tiles = matrix.reshape(2, 2, 64, 6)
    largest = np.abs(tiles).max(axis=2, keepdims=True)
    nearest = NF4[np.abs(tiles[..., None] / largest[..., None] - NF4).argmin(axis=-1)]
    expected = (nearest * largest).reshape(matrix.shape)
    np.testing.assert_allclose(found.astype(jnp.float32), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["int8", "nf4"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_numbers_are_those_of_qwix_bit_for_bit(kind, dtype):
    """Tiles of zeros included."""
    qwix = pytest.importorskip("qwix")
    matrix = jax.random.normal(jax.random.key(0), (2, 4, 96, 6)).at[:, 1].set(0).astype(dtype)
    tiles = {"tiled_axes": {2: 32}, "channelwise_axes": (0, 1, 3)}
    how = tiles if kind == "nf4" else {"channelwise_axes": (0, 3)}
    expected = qwix.quantize(
        matrix.astype(jnp.float32), "nf4" if kind == "nf4" else jnp.int8, **how
    )
    found = quantise(matrix, 2, kind)
    np.testing.assert_array_equal(found.scale, expected.scale)
    np.testing.assert_array_equal(found.astype(jnp.float32), qwix.dequantize(expected))


def test_an_odd_last_axis_has_no_nf4():
    with pytest.raises(ValueError, match="odd .config.model.lora.base"):
        quantise(jnp.ones((1, 4, 3)), 1, "nf4")


def test_a_product_with_int8_is_scaled_and_not_the_matrix():
    """A scaled matrix would be written to memory for each token that a TPU decodes."""
    matrix, x = (jax.random.normal(jax.random.key(n), s) for n, s in enumerate(((4, 8, 16), SHAPE)))
    found = jax.tree.map(lambda part: part[0], quantise(matrix[None], 2, "int8"))
    axes = ("heads", "head_dim", "embed")

    def product(x, weights):
        return linear(x, weights, axes=axes)

    exact = jnp.einsum("nshd,hdw->nsw", x, found.astype(jnp.float32))
    np.testing.assert_allclose(product(x, found), exact, rtol=1e-5, atol=1e-5)
    traced = str(jax.make_jaxpr(product)(x, found))
    scaled = re.findall(r"f32\[([\d,]+)\] = mul", traced)
    assert scaled == ["2,3,16"], traced


@pytest.mark.parametrize("base, share, error", [("int8", 0.27, 0.02), ("nf4", 0.15, 0.25)])
def test_size_and_error_of_the_logits(base, share, error, tiny_network, one_device):
    """Bytes of the matrices beside float32, and the error over the deviation of the logits."""
    network, state, frozen, whole = made(tiny_network, base, one_device)

    def matrices(tree):
        return {path: leaf for path, leaf in flatten(tree).items() if path[-1] == "kernel"}

    assert bytes_of(matrices(frozen)) < share * bytes_of(matrices(whole))
    exact, found = (logits(network, combine(state, tree)) for tree in (whole, frozen))
    relative = jnp.sqrt(jnp.mean((exact - found) ** 2)) / jnp.std(exact)
    print(f"{base}: relative error of the logits {relative:.4f}")
    assert 0 < relative < error
    # The layer that is used is the one that is stored.
    np.testing.assert_allclose(logits(network, combine(state, dense(frozen))), found, atol=1e-5)


@pytest.mark.parametrize("base", ["int8", "nf4"])
def test_gradients_reach_adapters_through_the_dequantised_matrices(base, tiny_network, one_device):
    network, state, frozen, _ = made(tiny_network, base, one_device, remat="none")
    whole = dense(frozen)
    state = jax.tree.map(lambda leaf: leaf + 0.1, state)

    def loss(state, base):
        return jnp.sum(logits(network, combine(state, base)) ** 2)

    gradient = jax.jit(jax.grad(loss))
    found, expected = (gradient(state, tree) for tree in (frozen, whole))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), found, expected
    )


@pytest.mark.parametrize("remat", ["none", "dots"])
def test_the_backward_pass_keeps_no_dequantised_model(remat, tiny_network):
    """Temporary memory of the gradient, beside that with the matrices in full."""
    sizes = SIZES | dict(layers=8, width=256, head_dim=64, mlp_width=512, remat=remat)
    temporary = {}
    for base in ("full", "nf4"):
        network = tiny_network(**sizes, lora=LoRAConfig(rank=4, alpha=8, base=base))
        state, frozen = split_frozen(parameter_shapes(network))

        def loss(s, f, network=network):
            return jnp.sum(logits(network, combine(s, f)) ** 2)

        program = jax.jit(jax.grad(loss)).lower(state, frozen).compile()
        temporary[base] = program.memory_analysis().temp_size_in_bytes
    matrices = bytes_of(drop_adapters(network.shapes))
    assert temporary["nf4"] < temporary["full"] + 0.5 * matrices


@pytest.mark.parametrize("base", ["int8", "nf4"])
@pytest.mark.slow
def test_a_sharded_base_is_the_same(base, tiny_network, one_device, mesh_2x2x2):
    network, state, one, _ = made(tiny_network, base, one_device)
    _, sharded_state, many, _ = made(tiny_network, base, mesh_2x2x2)
    shardings = flatten(parameter_shardings(network, mesh_2x2x2))
    for path, leaf in flatten(many).items():
        for part, place in zip(*map(jax.tree.leaves, (leaf, shardings[path])), strict=True):
            assert part.sharding.is_equivalent_to(place, part.ndim), path
    jax.tree.map(np.testing.assert_array_equal, one, many)
    with jax.set_mesh(mesh_2x2x2):
        found = jax.jit(lambda s, f: logits(network, combine(s, f)))(sharded_state, many)
    np.testing.assert_allclose(found, logits(network, combine(state, one)), atol=1e-4)


# --- on a mesh -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mesh_4x2():
    return make_mesh({"fsdp": 4, "tensor": 2}, devices=jax.devices()[:8])


def gathers(program):
    """(dtype, numbers) of the result of every all-gather of a compiled program."""
    found = re.findall(r"= (.*) all-gather(?:-start)?\(", program.as_text())
    shapes = [shape for result in found for shape in re.findall(r"(\w+)\[([\d,]*)\]", result)]
    return [(dtype, math.prod(map(int, sizes.split(",")))) for dtype, sizes in shapes if sizes]


@pytest.mark.parametrize("axes", [("fsdp", "tensor"), ("tensor", "fsdp")])
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_quantising_stays_within_the_shards_and_a_layer(kind, axes, mesh_4x2):
    """8.4 MB over 8 devices, a layer of which is 131 kB on each."""
    layers, shape = 8, (512, 512)
    sharding = NamedSharding(mesh_4x2, PartitionSpec(None, *axes))
    matrix = jax.ShapeDtypeStruct((layers, *shape), jnp.float32, sharding=sharding)
    quantised = jax.jit(functools.partial(quantise, input_axes=1, kind=kind))
    program = quantised.lower(matrix).compile()
    assert program.memory_analysis().temp_size_in_bytes < 1.1 * 4 * math.prod(shape) / 8
    assert not gathers(program)


@pytest.mark.parametrize("base", ["int8", "nf4"])
def test_codes_are_gathered_and_not_what_they_stand_for(base, tiny_network, mesh_4x2):
    sizes = dict(width=256, heads=8, kv_heads=4, head_dim=64, mlp_width=512)
    network = tiny_network(**SIZES | sizes, lora=LoRAConfig(rank=4, alpha=8, base=base))

    def place(leaf, at):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=at)

    params = jax.tree.map(place, parameter_shapes(network), parameter_shardings(network, mesh_4x2))
    state, frozen = split_frozen(params)

    def loss(s, f):
        return jnp.sum(logits(network, combine(s, f)) ** 2)

    with jax.set_mesh(mesh_4x2):
        program = jax.jit(jax.grad(loss)).lower(state, frozen).compile()
    smallest = 256 * 4 * 64 // 2  # of a kernel, on a device that shares it over `tensor`
    codes = [size for dtype, size in gathers(program) if dtype in ("s8", "u8")]
    floats = [size for dtype, size in gathers(program) if dtype in ("f32", "bf16")]
    assert len(codes) >= 2 * 7 - 1 and max(codes) <= 512 * 256 // 2  # not over `tensor`
    assert max(floats) < smallest // 2
