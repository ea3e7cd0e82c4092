"""Norms, projections with adapters, attention's projections and the MLP against float64 ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rljax.models.config import LoRAConfig, ModelConfig
from rljax.models.layers import Attention, GatedMLP, Projection, RMSNorm, linear
from rljax.models.rotary import rotary

SIZES = dict(vocab_size=8, layers=2, width=6, heads=4, kv_heads=2, head_dim=4, mlp_width=10)


def config_of(**changes) -> ModelConfig:
    return ModelConfig(**{**SIZES, **changes})


def streams() -> nnx.Rngs:
    return nnx.Rngs(params=0, adapters=1)


def one_layer(module, *, seed=0):
    """(module of the first layer with random parameters, those as nested float64 numbers)."""
    graph, state = nnx.split(module)
    rng = np.random.default_rng(seed)
    params = jax.tree.map(
        lambda leaf: rng.standard_normal(leaf.shape[1:]).astype(np.float32),
        nnx.to_pure_dict(state),
    )
    module = nnx.merge(graph, jax.tree.map(jnp.asarray, params))
    return module, jax.tree.map(np.float64, params)


def random(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# --- RMSNorm -------------------------------------------------------------------------------------


def norm(x, scale, axes=(-1,), epsilon=1e-6):
    x = np.asarray(x, np.float64)
    return x / np.sqrt((x**2).mean(axis=axes, keepdims=True) + epsilon) * scale


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("epsilon", [1e-6, 0.5])
def test_norm_matches_float64(offset, epsilon):
    config = config_of(norm_offset=offset, norm_epsilon=epsilon)
    module, params = one_layer(RMSNorm(config, layers=1))
    x = random(2, 3, 6)
    expected = norm(x, params["scale"] + offset, epsilon=epsilon)
    np.testing.assert_allclose(module(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_a_fresh_norm_scales_by_one_with_and_without_an_offset(offset):
    module = RMSNorm(config_of(norm_offset=offset))
    x = random(2, 3, 6)
    np.testing.assert_allclose(module(x), norm(x, 1.0), rtol=1e-5)
    np.testing.assert_array_equal(module.scale[...], 1.0 - offset)


def test_norm_over_heads_and_their_dimensions_takes_one_mean():
    module, params = one_layer(
        RMSNorm(config_of(), layers=1, shape=(4, 3), axes=("heads", "head_dim"))
    )
    x = random(2, 5, 4, 3)
    expected = norm(x, params["scale"], axes=(-2, -1))
    np.testing.assert_allclose(module(x), expected, rtol=1e-5, atol=1e-5)
    assert np.abs(expected - norm(x, params["scale"])).max() > 0.1  # one mean a head differs


def test_norm_is_computed_in_float32_and_keeps_the_dtype():
    module = RMSNorm(config_of(width=64, param_dtype="bfloat16"))
    x = jnp.asarray(random(3, 64), jnp.bfloat16)
    found = module(x)
    assert found.dtype == jnp.bfloat16 and module.scale.dtype == jnp.bfloat16
    in_float32 = module(x.astype(jnp.float32))
    np.testing.assert_array_equal(found, in_float32.astype(jnp.bfloat16))
    np.testing.assert_allclose(in_float32, norm(x.astype(jnp.float32), 1.0), rtol=1e-5)


# --- linear maps ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "inputs, outputs", [((6,), (10,)), ((6,), (4, 3)), ((4, 3), (6,)), ((4, 3), (2, 5))]
)
def test_linear_contracts_trailing_with_leading_axes(inputs, outputs):
    x, weights = random(2, 3, *inputs), random(*inputs, *outputs, seed=2)
    run = functools.partial(linear, out_axes=len(outputs))
    y, pull = jax.vjp(run, jnp.asarray(x), jnp.asarray(weights))
    x, weights, dy = (np.float64(a) for a in (x, weights, random(2, 3, *outputs, seed=3)))
    n = len(inputs)
    np.testing.assert_allclose(y, np.tensordot(x, weights, n), rtol=1e-5, atol=1e-5)
    dx, dw = pull(jnp.asarray(dy, jnp.float32))
    back = np.tensordot(dy, weights, (range(2, dy.ndim), range(n, weights.ndim)))
    np.testing.assert_allclose(dx, back, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dw, np.tensordot(x, dy, ((0, 1), (0, 1))), rtol=1e-5, atol=1e-5)


def test_linear_casts_the_weights_to_the_activations():
    x, weights = jnp.asarray(random(1, 2, 6), jnp.bfloat16), jnp.asarray(random(6, 4))
    found = linear(x, weights)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found, linear(x, weights.astype(jnp.bfloat16)))


ADAPTERS = {
    "none": None,
    "lora": LoRAConfig(rank=2, alpha=6.0),
    "rank_stabilised": LoRAConfig(rank=4, alpha=6.0, rank_stabilised=True),
    "lora_sb": LoRAConfig(rank=2, alpha=6.0, kind="lora_sb"),
    "elsewhere": LoRAConfig(rank=2, alpha=6.0, modules=("key",)),
}
SCALES = {"lora": 3.0, "rank_stabilised": 3.0, "lora_sb": 3.0}


def projection(adapter, *, bias, layers=1):
    return Projection(
        "query",
        config_of(lora=ADAPTERS[adapter]),
        layers=layers,
        inputs={"embed": 6},
        outputs={"heads": 4, "head_dim": 3},
        std=0.5,
        rngs=streams(),
        bias=bias,
    )


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_projection_adds_bias_and_adapter(adapter, bias):
    module, params = one_layer(projection(adapter, bias=bias))
    x = random(2, 3, 6)
    expected = np.tensordot(np.float64(x), params["kernel"], 1)
    if bias:
        expected += params["bias"]
    if adapter in SCALES:
        low = np.float64(x) @ params["lora_a"]
        low = low @ params["lora_r"] if adapter == "lora_sb" else low
        expected += SCALES[adapter] * np.tensordot(low, params["lora_b"], 1)
    names = {"kernel"} | ({"bias"} if bias else set())
    names |= {"lora_a", "lora_b"} if adapter in SCALES else set()
    names |= {"lora_r"} if adapter == "lora_sb" else set()
    assert params.keys() == names
    np.testing.assert_allclose(module(jnp.asarray(x)), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("adapter", SCALES)
def test_fresh_adapters_and_biases_change_nothing_but_can_learn(adapter):
    fresh, plain = (projection(name, bias=True, layers=3) for name in (adapter, "none"))
    np.testing.assert_array_equal(fresh.kernel[...], plain.kernel[...])  # their own random stream
    np.testing.assert_array_equal(fresh.bias[...], 0.0)
    np.testing.assert_array_equal(fresh.lora_b[...], 0.0)
    drawn = np.asarray(fresh.lora_a[...])
    assert np.abs(drawn).max() <= 6**-0.5 and drawn.std() == pytest.approx((6 * 3) ** -0.5, rel=0.3)
    assert len({tuple(layer.ravel()) for layer in drawn}) == 3


# --- attention and MLP ---------------------------------------------------------------------------


def mean_of_values(q, k, v):
    """An `attend` that depends on all three: values weighted by the norms of q and k."""
    group = q.shape[2] // k.shape[2]
    weight = (k**2).sum(axis=(1, 3), keepdims=True) * v
    return weight.repeat(group, axis=2) * (q**3).sum(axis=3, keepdims=True)


@pytest.mark.parametrize("normed", ["none", "head", "projection"])
def test_attention_projects_norms_and_rotates_queries_and_keys(normed):
    config = config_of(query_key_norm=normed, attention_bias=True)
    module, params = one_layer(Attention(config, layers=1, rngs=streams()))
    x, positions = random(2, 3, 6), np.array([[0, 1, 2], [5, 9, 7]])
    found = module(jnp.asarray(x), rotary(config, positions).global_layers, mean_of_values)

    def turn(heads):
        angle = positions[:, :, None, None] * 10_000.0 ** (-np.arange(2) / 2)
        turned = (heads[..., :2] + 1j * heads[..., 2:]) * np.exp(1j * angle)
        return np.concatenate([turned.real, turned.imag], axis=-1)

    def project(name):
        heads = np.tensordot(np.float64(x), params[name]["kernel"], 1) + params[name]["bias"]
        if normed == "none" or name == "value":
            return heads
        axes = (-1,) if normed == "head" else (-2, -1)
        return norm(heads, params[f"{name}_norm"]["scale"], axes)

    q, k, v = turn(project("query")), turn(project("key")), project("value")
    expected = np.tensordot(mean_of_values(q, k, v), params["out"]["kernel"], 2)
    error = np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()
    assert error < 1e-5


def silu(x):
    return x / (1 + np.exp(-x))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


@pytest.mark.parametrize("activation", [silu, gelu_tanh], ids=["silu", "gelu_tanh"])
def test_gated_mlp_matches_float64(activation):
    config = config_of(activation=activation.__name__)
    module, params = one_layer(GatedMLP(config, layers=1, rngs=streams()))
    x = random(2, 3, 6)
    matrices = (params[name]["kernel"] for name in ("gate", "up", "down"))
    gate, up, down = matrices
    expected = (activation(np.float64(x) @ gate) * (np.float64(x) @ up)) @ down
    np.testing.assert_allclose(module(jnp.asarray(x)), expected, rtol=1e-5, atol=1e-4)
