"""Mixture of experts against a float64 loop over tokens and experts, alone and on meshes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rljax.models.config import ModelConfig
from rljax.models.moe import MixtureOfExperts
from rljax.models.network import Network
from rljax.parallel.mesh import make_mesh
from rljax.parallel.rules import partition_spec
from rljax.sampling.config import SamplingConfig
from rljax.sampling.distribution import TokenFilter
from rljax.sampling.keys import Purpose, purpose_key
from rljax.sampling.request import Requests
from rljax.sampling.sampler import make_sampler
from rljax.training.update.logprobs import completion_statistics
from rljax.training.update.rows import completion_rows
from tests.tolerance import assert_same_sums

MOE = dict(experts=8, experts_per_token=3, expert_width=12)
SHAPE = dict(vocab_size=13, layers=2, width=16, heads=4, kv_heads=2, head_dim=8, mlp_width=24)
# Products in an output: of the router, of an expert's two layers, of the experts.
TERMS = SHAPE["width"] * 2 + MOE["expert_width"] + MOE["experts_per_token"]
VARIANTS = {
    "softmax": dict(),
    "raw_gates": dict(normalise_router=False),
    "sigmoid": dict(router_score="sigmoid", router_bias=True),
    "biased": dict(router_bias=True),
    "gelu": dict(activation="gelu_tanh"),
    "one_expert_each": dict(experts_per_token=1, normalise_router=False),
    "all_experts": dict(experts_per_token=8),
}


def config_of(**changes) -> ModelConfig:
    return ModelConfig(**{**SHAPE, **MOE, **changes})


@functools.cache
def layer_of(config):
    """(run, params): run(params, x, present) is one layer on its own, jitted."""
    module = MixtureOfExperts(config, layers=1, rngs=nnx.Rngs(params=0))
    graph, state = nnx.split(module)
    params = {name: leaf[0] for name, leaf in nnx.to_pure_dict(state).items()}
    # Larger than at initialisation, so that scores, gates and outputs differ between experts.
    params = {name: leaf * (3 if name == "router" else 2) for name, leaf in params.items()}
    if config.router_bias:
        bias = np.random.default_rng(5).normal(size=config.experts) * 0.2
        params["router_bias"] = jnp.asarray(bias, jnp.float32)
    return jax.jit(lambda params, x, present: nnx.merge(graph, params)(x, present)), params


def tokens_of(config, rows=5, slots=4, seed=0):
    rng = np.random.default_rng(seed)
    x = jnp.asarray(rng.standard_normal((rows, slots, config.width)), jnp.float32)
    present = np.ones((rows, slots), bool)
    present[rows // 2, : slots // 2] = False
    return x, jnp.asarray(present)


def reference(config, params, x, present):
    """Output, counts and probabilities in float64, one token and one expert at a time."""
    params = {name: np.asarray(leaf, np.float64) for name, leaf in params.items()}
    x = np.asarray(x, np.float64)
    out, counts = np.zeros_like(x), np.zeros(config.experts)
    probabilities = np.zeros(config.experts)

    def silu(v):
        return v / (1 + np.exp(-v))

    def gelu(v):
        return 0.5 * v * (1 + np.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3)))

    activation = silu if config.activation == "silu" else gelu
    for place in zip(*np.nonzero(np.asarray(present)), strict=True):
        token = x[place]
        logits = token @ params["router"]
        if config.router_score == "softmax":
            scores = np.exp(logits - logits.max())
            scores /= scores.sum()
        else:
            scores = 1 / (1 + np.exp(-logits))
        probabilities += scores / scores.sum()
        ranked = scores + params.get("router_bias", 0.0)
        chosen = sorted(range(config.experts), key=lambda e: -ranked[e])[: config.experts_per_token]
        total = sum(scores[e] for e in chosen) if config.normalise_router else 1.0
        for expert in chosen:
            counts[expert] += 1
            hidden = activation(token @ params["gate"][expert]) * (token @ params["up"][expert])
            out[place] += scores[expert] / total * (hidden @ params["down"][expert])
    return out, counts, probabilities


# --- values and gradients ------------------------------------------------------------------------


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_output_and_routing_match_a_loop_over_tokens_and_experts(changes):
    config = config_of(**changes)
    run, params = layer_of(config)
    x, present = tokens_of(config)
    y, routing = run(params, x, present)
    out, counts, probabilities = reference(config, params, x, present)
    np.testing.assert_allclose(y, out, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(routing.counts, counts)
    np.testing.assert_allclose(routing.probabilities, probabilities, rtol=0, atol=1e-5)
    assert routing.tokens == present.sum() == 18
    assert np.abs(out).max() > 0.1


@pytest.mark.parametrize("name", ["softmax", "raw_gates", "sigmoid"])
def test_gradients_match_finite_differences_of_the_loop(name):
    config = config_of(**VARIANTS[name])
    run, params = layer_of(config)
    x, present = tokens_of(config, rows=3)
    rng = np.random.default_rng(1)
    cotangent = rng.standard_normal(x.shape)
    slope = rng.standard_normal(config.experts)  # of the loss in the mean probabilities

    def loss(params, x):
        y, routing = run(params, x, present)
        return (y * cotangent).sum() + (routing.probabilities * slope).sum()

    names = [name for name in params if name != "router_bias"]
    gradients, dx = jax.jit(jax.grad(loss, argnums=(0, 1)))(params, x)
    numbers = {name: np.asarray(leaf, np.float64) for name, leaf in {**params, "x": x}.items()}

    def exact(name, change):
        moved = {**numbers, name: numbers[name] + change}
        out, _, probabilities = reference(config, moved, moved["x"], present)
        return (out * cotangent).sum() + (probabilities * slope).sum()

    for name, gradient in {**{name: gradients[name] for name in names}, "x": dx}.items():
        direction = rng.standard_normal(gradient.shape)
        expected = (exact(name, 1e-6 * direction) - exact(name, -1e-6 * direction)) / 2e-6
        found = np.sum(np.asarray(gradient, np.float64) * direction)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4, err_msg=name)


# --- padding, other tokens -----------------------------------------------------------------------


def test_padding_becomes_zero_and_has_no_gradient():
    config = config_of()
    run, params = layer_of(config)
    x, present = tokens_of(config)
    y, _ = run(params, x, present)
    np.testing.assert_array_equal(y[~present], 0.0)
    dx = jax.grad(lambda x: (run(params, x, present)[0] ** 2).sum())(x)
    np.testing.assert_array_equal(dx[~present], 0.0)
    assert np.abs(dx[present]).min(axis=-1).max() > 0
    nothing, routing = run(params, x, jnp.zeros_like(present))
    np.testing.assert_array_equal(nothing, 0.0)
    np.testing.assert_array_equal(routing.counts, 0.0)
    assert routing.tokens == 0 and not np.any(routing.probabilities)


def test_a_token_does_not_depend_on_the_others():
    config = config_of()
    run, params = layer_of(config)
    x, present = tokens_of(config, rows=7)
    y, _ = run(params, x, present)
    for row, slot in ((0, 0), (3, 3), (6, 1)):
        alone, _ = run(params, x[row : row + 1, slot : slot + 1], jnp.ones((1, 1), bool))
        assert_same_sums(alone[0, 0], y[row, slot], TERMS)
    crowd = jnp.concatenate([x, jnp.tile(x[:1, :1], (40, 4, 1))])  # many tokens for three experts
    among, _ = run(params, crowd, jnp.ones(crowd.shape[:2], bool).at[:7].set(present))
    assert_same_sums(among[:7], y, TERMS)


# --- the balancing bias --------------------------------------------------------------------------


def with_bias(params, bias):
    return {**params, "router_bias": jnp.asarray(bias, jnp.float32)}


def test_a_constant_added_to_the_bias_changes_nothing():
    config = config_of(router_bias=True)
    run, params = layer_of(config)
    x, present = tokens_of(config)
    base, shifted = (
        run(with_bias(params, params["router_bias"] + shift), x, present) for shift in (0.0, 1.0)
    )
    jax.tree.map(np.testing.assert_array_equal, base, shifted)


def test_the_bias_chooses_experts_and_does_nothing_else():
    config = config_of(router_bias=True)
    run, params = layer_of(config)
    x, present = tokens_of(config)

    def outcome(bias):
        def loss(params):
            y, routing = run(params, x, present)
            return (y**2).sum(), (y, routing)

        gradient, found = jax.grad(loss, has_aux=True)(with_bias(params, bias))
        return gradient, *found

    # Whatever their sizes, biases that lift the same three experts above all others, in the same
    # order, agree to the last bit.
    few = np.isin(np.arange(8), (1, 4, 6))
    gradient, y, routing = outcome(few * np.arange(2.0, 10.0))
    np.testing.assert_array_equal(routing.counts, np.where(few, 18.0, 0.0))
    other = outcome(few * np.linspace(20.0, 50.0, 8))
    jax.tree.map(np.testing.assert_array_equal, (gradient, y), other[:2])
    np.testing.assert_array_equal(gradient["router_bias"], 0.0)
    assert np.abs(gradient["router"]).max() > 0
    # And they do change what is chosen.
    assert np.abs(outcome(np.zeros(8))[1] - y).max() > 0.1


@pytest.mark.parametrize("param_dtype", ["float32", "bfloat16"])
def test_the_bias_starts_at_zero_in_float32_whatever_the_other_parameters_are(
    param_dtype, one_device
):
    network = Network.create(config_of(router_bias=True, param_dtype=param_dtype))
    mlp = network.init(jax.random.key(0), one_device)["blocks"]["mlp"]
    assert mlp["router_bias"].dtype == jnp.float32 and mlp["router_bias"].shape == (2, 8)
    assert not np.any(mlp["router_bias"])
    assert {mlp[name].dtype for name in ("router", "gate", "up", "down")} == {
        jnp.dtype(param_dtype)
    }
    assert "router_bias" not in Network.create(config_of()).shapes["blocks"]["mlp"]


def test_half_precision_stays_close_to_the_loop_and_routes_in_float32():
    config = config_of(dtype="bfloat16")
    run, params = layer_of(config)
    x, present = tokens_of(config)
    x = x.astype(jnp.bfloat16)
    y, routing = run(params, x, present)
    out, counts, probabilities = reference(config, params, x.astype(jnp.float32), present)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), out, rtol=0, atol=0.02 * np.abs(out).max())
    np.testing.assert_array_equal(routing.counts, counts)
    np.testing.assert_allclose(routing.probabilities, probabilities, rtol=0, atol=1e-5)


# --- meshes --------------------------------------------------------------------------------------

MESHES = {
    "all_four": (dict(expert=2, fsdp=2, tensor=2), (8, 4)),
    "slots_are_split": (dict(expert=2, context=2), (4, 4)),
    "few_rows_of_one_slot": (dict(expert=4, fsdp=2), (3, 1)),
}
AXES = {
    "router": ("embed", "experts"),
    "router_bias": ("experts",),
    "gate": ("experts", "embed", "mlp"),
    "up": ("experts", "embed", "mlp"),
    "down": ("experts", "mlp", "embed"),
}


def value_and_gradients(config, params, x, present):
    """The layer's output, routing and gradients, by what mesh is set."""
    graph, _ = nnx.split(MixtureOfExperts(config, layers=1, rngs=nnx.Rngs(params=0)))
    rng = np.random.default_rng(2)
    cotangent = rng.standard_normal(x.shape).astype(np.float32)
    slope = rng.standard_normal(config.experts).astype(np.float32)

    def loss(params, x):
        y, routing = nnx.merge(graph, params)(x, present)
        return (y * cotangent).sum() + (routing.probabilities * slope).sum(), (y, routing)

    (value, aux), gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(
        params, x
    )
    return jax.device_get((value, aux, gradients))


@functools.cache
def one_device_outcome(config, shape):
    return value_and_gradients(config, layer_of(config)[1], *tokens_of(config, *shape))


@pytest.mark.parametrize("sizes, shape", MESHES.values(), ids=MESHES)
def test_every_mesh_gives_what_one_device_gives(sizes, shape):
    config = config_of(router_bias=True)
    _, params = layer_of(config)
    x, present = tokens_of(config, *shape)
    expected = one_device_outcome(config, shape)
    count = int(np.prod(list(sizes.values())))
    mesh = make_mesh(sizes, devices=jax.devices()[:count])
    with jax.set_mesh(mesh):
        placed = {
            name: jax.device_put(leaf, jax.NamedSharding(mesh, partition_spec(AXES[name])))
            for name, leaf in params.items()
        }
        found = value_and_gradients(config, placed, x, present)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), expected, found
    )


def test_no_device_keeps_a_whole_copy_of_the_experts():
    """What the forward pass leaves for the backward pass holds weights as they are split."""
    config = config_of()
    graph, _ = nnx.split(MixtureOfExperts(config, layers=1, rngs=nnx.Rngs(params=0)))
    _, params = layer_of(config)
    x, present = tokens_of(config, rows=8)
    mesh = make_mesh(dict(expert=2, fsdp=2), devices=jax.devices()[:4])
    with jax.set_mesh(mesh):
        placed = {
            name: jax.device_put(leaf, jax.NamedSharding(mesh, partition_spec(AXES[name])))
            for name, leaf in params.items()
        }

        def run(params, x):
            return nnx.merge(graph, params)(x, present)[0]

        pull = jax.jit(lambda params, x: jax.vjp(run, params, x)[1])(placed, x)
        kept = [leaf for leaf in jax.tree.leaves(pull) if getattr(leaf, "ndim", 0) == 3]
    matrices = [leaf for leaf in kept if leaf.size == params["gate"].size]
    assert len(matrices) == 3
    for leaf in matrices:
        assert leaf.sharding.shard_shape(leaf.shape)[0] == config.experts // 2
        assert np.prod(leaf.sharding.shard_shape(leaf.shape)) == leaf.size // 4


# --- a whole network -----------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [dict(data=1), dict(expert=2, tensor=2)], ids=["one", "four"])
def test_sampler_and_trainer_give_the_same_logprobs(sizes):
    network = Network.create(config_of(layers=2, router_bias=True, remat="full"))
    mesh = make_mesh(sizes, devices=jax.devices()[: int(np.prod(list(sizes.values())))])
    params = network.init(jax.random.key(0), mesh)
    rng = np.random.default_rng(0)
    params["embedding"] *= 3
    params["blocks"]["mlp"]["router_bias"] += rng.normal(size=(2, 8)) * 0.05
    settings = SamplingConfig(
        samples_per_prompt=2,
        max_new_tokens=6,
        stop_tokens=(2,),
        pad_token=0,
        token_filter=TokenFilter(temperature=0.8, top_p=0.95),
    )
    lengths = np.array([1, 5, 3, 4])
    mask = np.arange(5) >= 5 - lengths[:, None]
    prompts = rng.integers(3, 13, (4, 5)).astype(np.int32)
    with jax.set_mesh(mesh):
        rollouts = jax.device_get(
            jax.jit(make_sampler(network, settings))(
                params,
                Requests(prompts, mask, np.arange(4, dtype=np.int32)),
                purpose_key(0, Purpose.ROLLOUTS),
                np.int32(0),
            )
        )

        def flat(array):
            return array.reshape(8, -1)

        rows = completion_rows(
            np.repeat(prompts, 2, axis=0),
            np.repeat(mask, 2, axis=0),
            flat(rollouts.tokens),
            flat(rollouts.mask),
        )
        statistics = jax.jit(
            lambda params, rows: completion_statistics(network, params, rows, settings.token_filter)
        )(params, rows)
    gap = np.where(rows["mask"], statistics.logprobs - flat(rollouts.logprobs), 0.0)
    assert np.abs(gap).max() < 1e-5 and rows["mask"].sum() > 15
    assert statistics.routing.counts.shape == (2, 8)
    np.testing.assert_array_equal(
        statistics.routing.counts.sum(axis=-1), 3 * (rows["segment_ids"] > 0).sum()
    )
